//! What the helper holds, as the hub is told.

use cordon_model::action::ActionKind;
use cordon_model::holds::Holding;

use super::{HelperCore, Next};
use crate::clock::Moment;

impl HelperCore {
    /// Everything that is in force, or on its way to be, or back. What is told here no hub takes for lost.
    #[must_use]
    pub fn holdings(&self, now: &Moment) -> Vec<Holding> {
        let on_its_way = match &self.next {
            Some(Next::Hold(next)) => Some(next),
            Some(Next::Free) | None => None,
        };
        let isolations = self.current.iter().chain(on_its_way).map(|held| Holding {
            measure: held.measure,
            kind: ActionKind::Isolate,
            isolation: Some(held.isolation),
            lease_ends: held.lease.ends_at(now),
        });
        let others = self.acting.values().map(|acting| Holding {
            measure: acting.measure,
            kind: acting.action.kind(),
            isolation: None,
            lease_ends: acting.lease.ends_at(now),
        });
        isolations.chain(others).collect()
    }
}
