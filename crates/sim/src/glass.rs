//! People with a sheet of codes at a simulated machine: right ones, used ones, another machine's.

use cordon_model::break_glass::BreakGlass;
use cordon_model::laws::Violation;
use cordon_model::measure::Origin;
use cordon_model::signed::Verified;
use cordon_respond::helper_core::{Effect, HelperCore, NotOpened};

use crate::observer::Newest;
use crate::scenario::{self, Sabotage};
use crate::world::World;

/// The system's user at the machine's keyboard.
const USER: u32 = 1_000;

/// Changes what the helper remembers of its codes, as no code of it ever does.
fn change_glass(helper: &mut HelperCore, change: impl FnOnce(&mut serde_json::Value)) {
    let Ok(mut state) = serde_json::to_value(&*helper) else { return };
    change(&mut state["glass"]);
    if let Ok(changed) = serde_json::from_value::<HelperCore>(state) {
        *helper = changed;
    }
}

impl World<'_> {
    /// The agent gives its helper the codes that it has.
    pub(crate) fn give_codes(&mut self, index: usize) -> Result<(), Violation> {
        let codes = self.machines[index].documents.codes.clone();
        codes.map_or(Ok(()), |codes| self.give_these_codes(index, &codes))
    }

    pub(crate) fn give_these_codes(
        &mut self,
        index: usize,
        codes: &Verified<BreakGlass>,
    ) -> Result<(), Violation> {
        if self.machines[index].helper.is_none() {
            return Ok(());
        }
        self.shows_time(index, codes.issued_at);
        let now = self.moment(index);
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        helper.saw(codes, &now);
        if helper.take_codes(codes).is_err() {
            return Ok(());
        }
        self.keep_helper(index);
        let (id, revision) = (self.machines[index].id, codes.revision);
        self.observer.took_document(index, id, Newest::Codes, revision)
    }

    /// A helper without the control forgets that people opened the machine.
    pub(crate) fn forget_hold_off(&mut self, index: usize) {
        if self.sabotaged(Sabotage::NoHoldOff)
            && let Some(helper) = &mut self.machines[index].helper
            && let Some(held) = &mut helper.current
            && matches!(held.origin, Origin::BreakGlass { .. })
        {
            held.origin = Origin::LeaseEnd(held.measure);
        }
    }

    /// Somebody at the machine reads a code off a sheet that the signer printed.
    pub(crate) fn person_types_code(&mut self, index: usize) -> Result<(), Violation> {
        if self.random.once_in(12) {
            // The sheet was seen by somebody who should not have seen it.
            self.make_codes(index, true)?;
        }
        if self.random.once_in(5) {
            // Somebody with the sheet of another machine, or who guesses, tries and tries.
            let of = (index + 1) % self.machines.len();
            for _ in 0..=self.random.below(4) {
                self.type_code(index, of)?;
            }
            return Ok(());
        }
        self.type_code(index, index)
    }

    fn type_code(&mut self, index: usize, of: usize) -> Result<(), Violation> {
        let (now, owner) = (self.moment(index), self.machines[of].id);
        let number = u8::try_from(1 + self.random.below(4)).unwrap_or(1);
        let printed = self.signer.core.as_ref().and_then(|signer| signer.codes(owner));
        let Some(printed) = printed.cloned() else { return Ok(()) };
        let hash = scenario::code_hash(owner, printed.revision, number);
        let (is_twice, is_foreign) =
            (self.sabotaged(Sabotage::CodesTwice), self.sabotaged(Sabotage::ForeignCodes));
        let machine = &mut self.machines[index];
        let Some(helper) = machine.helper.as_mut().filter(|_| machine.is_on) else { return Ok(()) };
        if is_twice {
            change_glass(helper, |glass| glass["used"] = serde_json::json!([]));
        }
        if is_foreign && of != index {
            let printed = serde_json::to_value(printed).unwrap_or_default();
            change_glass(helper, |glass| glass["document"] = printed);
        }
        let begun = helper.begin_code(USER, false, &now);
        machine.helper_disk.clone_from(&machine.helper);
        if let Err(why) = begun {
            if matches!(why, NotOpened::Wait { .. }) {
                self.tally.count("guesses held up");
            }
            return Ok(());
        }
        if of != index {
            self.tally.count("codes of other machines typed");
        }
        if self.mishap(20) {
            self.tally.count("helper crashes while a code is hashed");
            self.helper_dies(index);
            return Ok(());
        }
        let dice = &mut self.random;
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let (code, effects) = match helper.open_by(&hash, USER, &now, &mut || dice.bytes()) {
            Ok(opened) => opened,
            Err(why) => {
                if matches!(why, NotOpened::Used { .. }) {
                    self.tally.count("codes that were used before");
                }
                let machine = &mut self.machines[index];
                machine.helper_disk.clone_from(&machine.helper);
                return Ok(());
            }
        };
        self.tally.count("machines opened by a code");
        self.trace(|| format!("m{index} is opened by its code {code}"));
        for effect in &effects {
            if let Effect::Enforce { measure, .. } = effect {
                // They end only if floor and clock say so.
                let at = self.now;
                let utc = self.observer.time(index, now.utc, at).min(now.utc);
                let machine = &self.machines[index];
                self.observer.opened_by_code(index, machine, &hash, *measure, utc, at)?;
            }
        }
        self.carry_out(index, effects)?;
        self.settle(index)
    }
}
