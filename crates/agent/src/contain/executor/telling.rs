//! Keeping the notice to the person in front of the machine in step with what is really so.

use cordon_model::guidance::Guidance;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::signed::{Envelope, Verified};
use cordon_model::time::UtcNanos;
use cordon_respond::helper_core::HelperCore;
use cordon_respond::notice;

use super::super::bulletin::{Bulletin, Now, Places, Told};
use super::super::disk::Found;
use super::{Executor, Refused};

/// What is remembered of what was told.
const TOLD: &str = "told";

impl Executor {
    pub(super) fn take_guidance(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        let guidance: Verified<Guidance> = self.open(envelope)?;
        self.obey(|core, now| {
            core.saw(&guidance, now);
            core.take_guidance(&guidance).map(|()| Vec::new())
        })
    }

    /// From now on people are told at these places; at once, as it is now.
    pub fn tell_people_at(&mut self, places: Places) {
        let told = match self.disk.read::<Told>(TOLD) {
            Ok(Found::Whole(told) | Found::Previous(told)) => told,
            // Then they are told as if for the first time.
            Ok(Found::Nothing | Found::Torn) | Err(_) => Told::default(),
        };
        self.bulletin = Some(Bulletin::new(places, told));
        self.tell_people();
    }

    /// Tells people how the machine is, if that is another than what they were told. Cheap where nothing
    /// has changed; call it after whatever may have.
    pub fn tell_people(&mut self) {
        let now = self.as_people_see_it();
        let Some(mut bulletin) = self.bulletin.take() else { return };
        let before = bulletin.told().clone();
        let situation = bulletin.situation(now, UtcNanos::now());
        let core = self.enrolled.as_ref().map(|enrolled| &enrolled.kept.core);
        let text = situation.map(|situation| {
            notice::compose(
                &situation,
                core.and_then(|core| core.assignment.as_ref()),
                core.and_then(|core| core.guidance()),
                core.and_then(|core| core.glass().unused()).is_some_and(|unused| unused > 0),
                core.is_some_and(HelperCore::holds_something_back),
            )
        });
        bulletin.tell(now, text.as_deref());
        if *bulletin.told() != before
            && let Err(error) = self.disk.write_if_room(TOLD, bulletin.told())
        {
            tracing::warn!(%error, "what people were told is not remembered over a restart");
        }
        self.bulletin = Some(bulletin);
    }

    fn as_people_see_it(&self) -> Now {
        let core = self.enrolled.as_ref().map(|enrolled| &enrolled.kept.core);
        let held = core.and_then(|core| core.current.as_ref());
        let cut = held.and_then(|held| {
            let isolation = Some(held.isolation).filter(|cut| *cut >= Isolation::Segment)?;
            Some((isolation, held.state == MeasureState::Verified))
        });
        match cut {
            Some((isolation, is_shown)) => Now::CutOff(isolation, is_shown),
            // Cordon's table is in the kernel, and nobody knows how much it cuts: more is said rather than less.
            None if self.is_unaccounted_for => Now::CutOff(Isolation::Full, false),
            // One that is still being put there cuts nothing that was shown.
            None => Now::Open(core.is_some_and(|core| core.is_held_open())),
        }
    }
}
