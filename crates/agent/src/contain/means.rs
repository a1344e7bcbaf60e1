//! What this machine can do besides isolating itself: one door to all the mechanisms.
//!
//! The one idea: the helper's mind says *apply*, *look again*, *take back*, each as often as it likes; here
//! each is passed to the mechanism of that action, and what came of it is put into the mind's words.

use cordon_model::action::Action;
use cordon_model::ids::MeasureId;
use cordon_respond::helper_core::{Acted, TakenBack};

/// The mechanisms of one machine.
#[derive(Debug, Default)]
pub struct Means {}

impl Means {
    /// Does it, or sees that it is done.
    pub fn apply(&mut self, measure: MeasureId, action: &Action, spares: bool) -> Acted {
        let _ = (measure, spares);
        Acted::Impossible { why: format!("this machine has no means to {}", action.kind()) }
    }

    /// Looks whether it still holds.
    pub fn look(&mut self, measure: MeasureId, action: &Action) -> Acted {
        self.apply(measure, action, false)
    }

    /// Takes it back.
    pub fn take_back(&mut self, measure: MeasureId, action: &Action) -> TakenBack {
        let _ = measure;
        TakenBack::Failed { why: format!("this machine has no means to {}", action.kind()) }
    }
}
