//! How one measure takes the place of another, and how it is taken back.
//!
//! The one idea: what is on its way (`next`) may or may not be in the kernel already, because a crash may
//! have come between acting and writing it down. So it is never forgotten: it is put in place again,
//! superseded, or taken back.

use cordon_model::action::Action;
use cordon_model::ids::{MeasureId, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::Lease;

use super::room::bounded_state;
use super::{Effect, Held, HelperCore, MOST_UNREPORTED, Next, NotObeyed, Outcome};
use crate::clock::{Moment, Randomness, id_bytes};
use crate::lease::{self, LeaseClock};

impl HelperCore {
    pub(super) fn hold(
        &mut self,
        measure: MeasureId,
        origin: Origin,
        is_by_people: bool,
        isolation: Isolation,
        terms: Lease,
        now: &Moment,
    ) -> Vec<Effect> {
        let next = Held {
            measure,
            origin,
            is_by_people,
            isolation,
            lease: LeaseClock::begin(terms, now),
            state: MeasureState::Delivered,
            proof: None,
        };
        self.releasing = None;
        // One that was still on its way into the kernel gives way; it may have got there.
        if let Some(Next::Hold(mut before)) = self.next.take() {
            before.state = MeasureState::Superseded;
            self.report(&before, 0, now);
        }
        self.start(next)
    }

    pub(super) fn start(&mut self, next: Held) -> Vec<Effect> {
        let effect = Effect::Enforce { measure: next.measure, isolation: next.isolation };
        self.next = Some(Next::Hold(next));
        vec![effect]
    }

    /// Takes everything back by people's order, also where nothing is known to be in force: the kernel may
    /// hold what a lost memory knew. Once that is shown, a receipt says so under the order's own id: by that
    /// word, which the agent seals, and by no other the signer takes the machine for free.
    pub(super) fn release(&mut self, order: OrderId, now: &Moment) -> Vec<Effect> {
        let effects = self.free(now);
        self.releasing = Some(order);
        if effects.is_empty() { self.effects_again() } else { effects }
    }

    pub(super) fn end_of_release(&mut self, outcome: &Outcome, now: &Moment) {
        let Some(order) = self.releasing else { return };
        // Tried again at every tick otherwise.
        if let Ok(proof) = shown_gone(outcome) {
            self.releasing = None;
            self.report_release(order, Some(proof), now);
        }
    }

    fn report_release(&mut self, order: OrderId, proof: Option<Proof>, now: &Moment) {
        self.push_receipt(Receipt {
            machine: self.machine,
            measure: order.into(),
            origin: Origin::Order(order),
            action: Action::Isolate(Isolation::Watch),
            state: MeasureState::Released,
            proof,
            lease_ends: None,
            boot: now.boot.clone(),
            at_boot: now.at,
            at: now.best_utc(self.time_floor),
            sockets_cut: 0,
            done: Vec::new(),
            spared: Vec::new(),
        });
    }

    pub(super) fn free(&mut self, now: &Moment) -> Vec<Effect> {
        let next = match self.next.take() {
            Some(Next::Hold(next)) => Some(next),
            Some(Next::Free) | None => None,
        };
        self.free_from(next, now)
    }

    /// Takes everything back, with one measure that was on its way and may be in the kernel: a crash
    /// between acting and writing it down leaves that open.
    pub(super) fn free_from(&mut self, next: Option<Held>, now: &Moment) -> Vec<Effect> {
        match (next, &self.current) {
            (Some(mut next), Some(_)) => {
                next.state = MeasureState::Failed { why: "released before it was in force".into() };
                self.report(&next, 0, now);
            }
            (Some(next), None) => self.current = Some(next),
            (None, _) => {}
        }
        let Some(current) = &self.current else { return Vec::new() };
        self.next = Some(Next::Free);
        vec![Effect::Restore { measure: current.measure }]
    }

    pub(super) fn renew(
        &mut self,
        measure: MeasureId,
        terms: Lease,
        is_by_people: bool,
        now: &Moment,
    ) -> Result<(), NotObeyed> {
        let held = match (&mut self.next, &mut self.current) {
            (Some(Next::Hold(next)), _) if next.measure == measure => next,
            (None, Some(current)) if current.measure == measure => current,
            _ => return Err(NotObeyed::UnknownMeasure),
        };
        held.lease.renew(terms, now);
        held.is_by_people |= is_by_people;
        let renewed = held.clone();
        self.report(&renewed, 0, now);
        Ok(())
    }

    pub(super) fn end_of_enforcing(&mut self, mut next: Held, outcome: Outcome, now: &Moment) {
        match outcome {
            Outcome::Done { proof, sockets_cut } => {
                next.state = state_shown(proof.as_ref());
                next.proof = proof;
                // First what is in force now, then what it replaced: whoever reads in order never
                // believes the machine open in between.
                self.report(&next, sockets_cut, now);
                if let Some(mut before) = self.current.take() {
                    before.state = match next.origin {
                        Origin::LeaseEnd(of) if of == before.measure => MeasureState::SteppedDown,
                        // The rules are gone, and that was read back.
                        Origin::BreakGlass { .. } if next.state == MeasureState::Verified => {
                            before.proof = next.proof.clone();
                            MeasureState::Released
                        }
                        Origin::LeaseEnd(_)
                        | Origin::Order(_)
                        | Origin::Permit { .. }
                        | Origin::BreakGlass { .. } => MeasureState::Superseded,
                    };
                    self.report(&before, 0, now);
                }
                self.current = Some(next);
            }
            // Still meant, and tried again at every tick. It is not given up: a crash may have left it in
            // the kernel, and then nobody would count its lease.
            Outcome::Failed { why } => {
                let state = MeasureState::Unproven { why };
                let is_news = next.state != state;
                next.state = state;
                if is_news {
                    self.report(&next, 0, now);
                }
                self.next = Some(Next::Hold(next));
            }
        }
    }

    pub(super) fn end_of_restoring(&mut self, outcome: Outcome, now: &Moment) {
        let Some(mut current) = self.current.take() else { return };
        match shown_gone(&outcome) {
            Ok(proof) => {
                if let Some(order) = self.releasing.take() {
                    self.report_release(order, Some(proof.clone()), now);
                }
                current.state = MeasureState::Released;
                current.proof = Some(proof);
                self.report(&current, 0, now);
            }
            Err(why) => {
                let state = MeasureState::Unproven { why: format!("the release failed: {why}") };
                let is_news = current.state != state;
                current.state = state;
                if is_news {
                    self.report(&current, 0, now);
                }
                self.current = Some(current);
                // Still meant: tried again at every tick.
                self.next = Some(Next::Free);
            }
        }
    }

    pub(super) fn shown(&mut self, measure: MeasureId, outcome: &Outcome, now: &Moment) {
        let Some(mut current) = self.current.take_if(|held| held.measure == measure) else {
            return;
        };
        let (state, proof, sockets_cut) = match outcome {
            Outcome::Done { proof, sockets_cut } => {
                (state_shown(proof.as_ref()), proof.clone(), *sockets_cut)
            }
            Outcome::Failed { why } => (MeasureState::Unproven { why: why.clone() }, None, 0),
        };
        let is_news = current.state != state;
        current.state = state;
        current.proof = proof;
        if is_news {
            self.report(&current, sockets_cut, now);
        }
        self.current = Some(current);
    }

    /// What has to be in the kernel, from the start.
    pub(super) fn effects_again(&self) -> Vec<Effect> {
        let enforce =
            |held: &Held| Effect::Enforce { measure: held.measure, isolation: held.isolation };
        match (&self.next, &self.current) {
            // The old one first: if the new one can't be put in place, the machine is not open.
            (Some(Next::Hold(next)), Some(current)) => vec![enforce(current), enforce(next)],
            (Some(Next::Hold(next)), None) => vec![enforce(next)],
            (Some(Next::Free), Some(current)) => vec![Effect::Restore { measure: current.measure }],
            (None, Some(current)) => vec![enforce(current)],
            (Some(Next::Free) | None, None) => {
                let unshown = self.releasing.map(MeasureId::from);
                unshown.map(|measure| Effect::Restore { measure }).into_iter().collect()
            }
        }
    }

    pub(super) fn report(&mut self, held: &Held, sockets_cut: u32, now: &Moment) {
        self.push_receipt(Receipt {
            machine: self.machine,
            measure: held.measure,
            origin: held.origin,
            action: Action::Isolate(held.isolation),
            state: held.state.clone(),
            proof: held.proof.clone(),
            lease_ends: (!held.state.is_over()).then(|| held.lease.ends_at(now)),
            boot: now.boot.clone(),
            at_boot: now.at,
            at: now.best_utc(self.time_floor),
            sockets_cut,
            done: Vec::new(),
            spared: Vec::new(),
        });
    }

    pub(super) fn push_receipt(&mut self, receipt: Receipt) {
        if self.unreported.len() >= MOST_UNREPORTED {
            self.unreported.pop_front();
            self.receipts_lost = self.receipts_lost.saturating_add(1);
        }
        self.unreported.push_back(Receipt { state: bounded_state(receipt.state), ..receipt });
    }
}

/// The proof that the rules are gone, or why there is none (law 4): that the kernel took the deletion shows
/// nothing, as somebody may have put a table of that name there since.
fn shown_gone(outcome: &Outcome) -> Result<Proof, String> {
    match outcome {
        Outcome::Done { proof: Some(proof), .. } if proof.is_read_back => Ok(proof.clone()),
        Outcome::Done { .. } => Err("a table of Cordon's name is still there".into()),
        Outcome::Failed { why } => Err(why.clone()),
    }
}

/// What follows a measure whose lease has ended: never silently open (law 2).
pub(super) fn next_at_end_of(
    held: &Held,
    now: &Moment,
    randomness: Randomness<'_>,
) -> Option<Held> {
    let isolation = lease::step_down(held.isolation)?;
    Some(Held {
        measure: MeasureId::new(now.utc, id_bytes(randomness)),
        origin: Origin::LeaseEnd(held.measure),
        is_by_people: held.is_by_people,
        isolation,
        lease: held.lease.begin_step_down(now),
        state: MeasureState::Delivered,
        proof: None,
    })
}

/// The weakest truth that a proof allows (law 4).
pub(super) fn state_shown(proof: Option<&Proof>) -> MeasureState {
    match proof {
        None => MeasureState::Applied,
        Some(proof) if proof.holds() => MeasureState::Verified,
        Some(proof) if !proof.is_read_back => MeasureState::Unproven {
            why: "the kernel's ruleset is not the one that was meant".into(),
        },
        Some(proof) => {
            let wrong = proof
                .probes
                .iter()
                .find(|probe| probe.did_pass.is_some_and(|did| did != probe.should_pass));
            let why = wrong.map_or_else(String::new, |probe| {
                let passed = if probe.should_pass { "did not get through" } else { "got through" };
                format!("{} {passed}", probe.tried)
            });
            MeasureState::Unproven { why }
        }
    }
}
