//! Measures besides the machine's isolation: many at once, each under its own lease, each with its own end.
//!
//! The one idea: what is meant is on disk before it is done, and is done again until the machine shows it.
//! Each measure is in one of three phases, and a crash in any of them loses nothing:
//!
//! ```text
//! begin ─► Applying ──acted──► InForce ──undo / lease end──► TakingBack ──taken_back──► over
//!             │                   └─ acted (a later look) ─┘
//!             └─ done at once (kill, collect), impossible, or undone before it began: over
//! ```

use std::time::Duration;

use cordon_model::action::{Action, AtEnd, Denied};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::MeasureId;
use cordon_model::limits;
use cordon_model::measure::{MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Approver, Lease};
use serde::{Deserialize, Serialize};

use super::keeping::state_shown;
use super::room::bounded;
use super::{Effect, HelperCore, NotObeyed, TRY_AGAIN};
use crate::clock::Moment;
use crate::lease::{LeaseClock, LeaseEvent};

/// How often it is looked whether a content that is denied runs by now. Where no filesystem is watched, only a
/// file that was seen to have it is asked about, and no event tells of one: a shorter pause finds it earlier, at
/// the cost of a walk through all that runs.
pub const LOOK_FOR_CONTENT: Duration = Duration::from_secs(4);

/// Where a measure is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Meant; done, or about to be.
    Applying,
    /// Done, and looked at again from time to time.
    InForce,
    /// About to be taken back.
    TakingBack,
}

/// A measure besides the isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acting {
    /// Its id.
    pub measure: MeasureId,
    /// What began it.
    pub origin: Origin,
    /// Whether people allowed it.
    pub is_by_people: bool,
    /// Who they were, by name.
    pub people: Vec<String>,
    /// What it does.
    pub action: Action,
    /// Its lease.
    pub lease: LeaseClock,
    /// The weakest truth.
    pub state: MeasureState,
    /// The last proof.
    pub proof: Option<Proof>,
    /// What was found and done, in words.
    pub done: Vec<String>,
    /// What it left alone because no order may touch it, in words.
    #[serde(default)]
    pub spared: Vec<String>,
    /// Where it is on its way.
    pub phase: Phase,
    /// It was tried before, and may be done, or half done, though nobody has seen that: a crash came between.
    #[serde(default)]
    pub was_tried: bool,
}

/// How carrying out an [`Effect::Apply`] or [`Effect::LookAgain`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// It is done, and this shows it; without a proof it is under way.
    Done {
        /// What shows it.
        proof: Option<Proof>,
        /// What was found and done, in words.
        done: Vec<String>,
        /// What was left alone because no order may touch it, in words.
        spared: Vec<String>,
    },
    /// There is nothing to do it to, now or later: the process has ended, the file is another one.
    Gone {
        /// What is gone.
        why: String,
    },
    /// No order may do it. Where it is in force already, it is taken back: what is needed changed since.
    Refused {
        /// Why.
        why: String,
    },
    /// It was not possible this time, and is tried again.
    Failed {
        /// Why.
        why: String,
    },
}

/// How carrying out an [`Effect::TakeBack`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBack {
    /// The machine is as it was, and this shows it.
    Done {
        /// What shows it.
        proof: Option<Proof>,
        /// What was found and done, in words.
        done: Vec<String>,
    },
    /// Not yet: tried again.
    Failed {
        /// Why.
        why: String,
    },
}

impl HelperCore {
    /// Begins a measure that was allowed, and has its place.
    pub(super) fn begin(
        &mut self,
        measure: MeasureId,
        origin: Origin,
        people: &[Approver],
        action: &Action,
        terms: Lease,
        now: &Moment,
    ) -> Result<Vec<Effect>, NotObeyed> {
        if self.acting.len() >= limits::MEASURES_PER_MACHINE {
            return Err(NotObeyed::TooManyMeasures);
        }
        let acting = Acting {
            measure,
            origin,
            is_by_people: !people.is_empty(),
            people: people.iter().map(|person| person.name.clone()).collect(),
            action: action.clone(),
            lease: LeaseClock::begin(terms, now),
            state: MeasureState::Delivered,
            proof: None,
            done: Vec::new(),
            spared: Vec::new(),
            phase: Phase::Applying,
            was_tried: false,
        };
        let effect = acting.apply();
        self.acting.insert(measure, acting);
        Ok(vec![effect])
    }

    /// Takes one measure back. The isolation has its own way: [`Instruction::Release`](cordon_model::order::Instruction::Release).
    pub(super) fn undo(
        &mut self,
        measure: MeasureId,
        now: &Moment,
    ) -> Result<Vec<Effect>, NotObeyed> {
        if self.holds_isolation(measure) {
            return Ok(self.free(now));
        }
        let acting = self.acting.get_mut(&measure).ok_or(NotObeyed::UnknownMeasure)?;
        if acting.action.kind().is_done_at_once() {
            return Err(NotObeyed::NoWayBack(acting.action.kind()));
        }
        // Also while it is being applied: a crash may have left it done.
        acting.phase = Phase::TakingBack;
        Ok(vec![Effect::TakeBack { measure }])
    }

    /// Takes note of how [`Effect::Apply`] or [`Effect::LookAgain`] went.
    pub fn acted(&mut self, measure: MeasureId, outcome: Acted, now: &Moment) {
        let Some(mut acting) = self.acting.remove(&measure) else { return };
        if acting.phase == Phase::TakingBack {
            // It came too late: what is meant by now is the way back.
            self.acting.insert(measure, acting);
            return;
        }
        let before = acting.state.clone();
        let spared_nothing = acting.spared.is_empty();
        match outcome.bounded() {
            Acted::Done { proof, done, spared } => {
                acting.state = state_shown(proof.as_ref());
                acting.proof = proof;
                acting.done = done;
                acting.spared = spared;
                acting.phase = Phase::InForce;
                if acting.action.kind().is_done_at_once() && acting.state == MeasureState::Verified
                {
                    acting.state = MeasureState::Done;
                }
            }
            Acted::Gone { why } if acting.phase == Phase::InForce => {
                // What it held is gone by itself: nothing is left to take back.
                acting.done.push(why);
                acting.done = bounded(std::mem::take(&mut acting.done));
                acting.state = MeasureState::Done;
            }
            Acted::Refused { why } if acting.may_be_done() => {
                // It is, or may be, in force, and over only when that is undone.
                acting.phase = Phase::TakingBack;
                acting.spared = bounded(vec![why.clone()]);
                let why = format!("it may not go on and is being taken back: {why}");
                acting.state = MeasureState::Unproven { why };
            }
            Acted::Refused { why } => {
                acting.spared = bounded(vec![why.clone()]);
                acting.state = MeasureState::Failed { why };
            }
            Acted::Gone { why } => acting.state = MeasureState::Failed { why },
            Acted::Failed { why } => {
                acting.was_tried = true;
                acting.state = MeasureState::Unproven { why };
            }
        }
        // That something is spared is said once: a tree that goes on starting it would else tell of each.
        if acting.state != before || spared_nothing && !acting.spared.is_empty() {
            self.report_acting(&acting, now);
        }
        if !acting.state.is_over() {
            self.acting.insert(measure, acting);
        }
    }

    /// Takes note of how [`Effect::TakeBack`] went.
    pub fn taken_back(&mut self, measure: MeasureId, outcome: TakenBack, now: &Moment) {
        let Some(mut acting) = self.acting.remove(&measure) else { return };
        let outcome = match outcome {
            TakenBack::Done { proof: Some(proof), .. } if !proof.is_read_back => {
                TakenBack::Failed {
                    why: "it was undone, and a look shows that it is still there".into(),
                }
            }
            other => other,
        };
        match outcome.bounded() {
            TakenBack::Done { proof, done } => {
                acting.state = MeasureState::Released;
                acting.proof = proof;
                acting.done = done;
                self.report_acting(&acting, now);
            }
            TakenBack::Failed { why } => {
                let state =
                    MeasureState::Unproven { why: format!("it can't be taken back: {why}") };
                if acting.state != state {
                    acting.state = state;
                    self.report_acting(&acting, now);
                }
                self.acting.insert(measure, acting);
            }
        }
    }

    /// Counts the leases, and says what is to be done again, looked at or taken back.
    pub(super) fn tick_acting(&mut self, now: &Moment) -> Vec<Effect> {
        let tier = self.tier();
        let mut effects = Vec::new();
        let mut reports = Vec::new();
        for acting in self.acting.values_mut() {
            let event = acting.lease.step(now);
            match (acting.phase, event) {
                (Phase::TakingBack, _) => {
                    effects.push(Effect::TakeBack { measure: acting.measure })
                }
                (_, Some(LeaseEvent::Ended)) => match acting.action.kind().at_end(tier) {
                    // What is done at once is tried for as long as its lease, and no longer.
                    AtEnd::Over => {
                        acting.state = MeasureState::Failed {
                            why: "it could not be done and shown in its time".into(),
                        };
                        reports.push(acting.clone());
                    }
                    AtEnd::TakeBack => {
                        acting.phase = Phase::TakingBack;
                        effects.push(Effect::TakeBack { measure: acting.measure });
                    }
                    AtEnd::StepDown => {
                        acting.lease = acting.lease.begin_step_down(now);
                        let words = "its lease ended; it goes on until somebody ends it".to_owned();
                        if !acting.done.contains(&words) {
                            acting.done.push(words);
                            acting.done = bounded(std::mem::take(&mut acting.done));
                        }
                        reports.push(acting.clone());
                    }
                },
                (phase, event) => {
                    if event == Some(LeaseEvent::Warned) && !acting.action.kind().is_done_at_once()
                    {
                        let ends = acting.lease.ends_at(now);
                        effects.push(Effect::Warn { measure: acting.measure, ends });
                    }
                    // What was found missing is put in place again.
                    let is_missing = acting.state.is_unproven()
                        && !acting.proof.as_ref().is_some_and(|proof| proof.is_read_back);
                    effects.push(match phase {
                        Phase::Applying => acting.apply(),
                        Phase::InForce if is_missing => acting.apply(),
                        Phase::InForce | Phase::TakingBack => {
                            Effect::LookAgain { measure: acting.measure }
                        }
                    });
                }
            }
        }
        for acting in reports {
            self.report_acting(&acting, now);
            if acting.state.is_over() {
                self.acting.remove(&acting.measure);
            }
        }
        effects
    }

    /// What is in force is looked at again, now: what is needed for care has changed.
    pub(super) fn look_again(&self) -> impl Iterator<Item = Effect> {
        let held = self.acting.values().filter(|acting| acting.phase == Phase::InForce);
        held.map(|acting| Effect::LookAgain { measure: acting.measure })
    }

    /// After a start: everything that is meant is done again, and what was on its way back goes on.
    pub(super) fn restart_acting(&mut self) -> Vec<Effect> {
        let effects = self.acting.values_mut().map(|acting| match acting.phase {
            Phase::TakingBack => Effect::TakeBack { measure: acting.measure },
            Phase::Applying | Phase::InForce => {
                acting.lease.warn_again();
                acting.was_tried = true;
                if acting.state.is_acting() {
                    let why = "not looked at since a restart".into();
                    acting.state = MeasureState::Unproven { why };
                    acting.proof = None;
                }
                acting.apply()
            }
        });
        effects.collect()
    }

    /// How long the shell may sleep before one of them needs something.
    pub(super) fn acting_wake(&self, now: &Moment) -> Option<Duration> {
        let wake = |acting: &Acting| {
            let wake = acting.lease.next_wake(now);
            if acting.is_looked_for() {
                return wake.min(LOOK_FOR_CONTENT);
            }
            // What is done at once and still here is under way: somebody waits for it.
            let is_settled = acting.phase == Phase::InForce
                && !acting.state.is_unproven()
                && !acting.action.kind().is_done_at_once();
            if is_settled { wake } else { wake.min(TRY_AGAIN) }
        };
        self.acting.values().map(wake).min()
    }

    /// Whether anything but the network is stopped here. What is on its way there or back counts: people are
    /// told more rather than less.
    #[must_use]
    pub fn holds_something_back(&self) -> bool {
        self.acting.values().any(|acting| acting.action.kind().stops_something())
    }

    /// The tier that is acted by; one that nobody has said is clinical.
    pub(super) fn tier(&self) -> ClinicalTier {
        let assignment = self.assignment.as_ref();
        assignment.map_or(ClinicalTier::WHEN_UNKNOWN, |known| known.effective_tier())
    }

    pub(super) fn renew_acting(
        &mut self,
        measure: MeasureId,
        terms: Lease,
        is_by_people: bool,
        now: &Moment,
    ) -> Result<(), NotObeyed> {
        let acting = self.acting.get_mut(&measure).ok_or(NotObeyed::UnknownMeasure)?;
        if acting.phase == Phase::TakingBack {
            return Err(NotObeyed::UnknownMeasure);
        }
        acting.lease.renew(terms, now);
        acting.is_by_people |= is_by_people;
        let renewed = acting.clone();
        self.report_acting(&renewed, now);
        Ok(())
    }

    fn report_acting(&mut self, acting: &Acting, now: &Moment) {
        let is_over = acting.state.is_over();
        self.push_receipt(Receipt {
            machine: self.machine,
            measure: acting.measure,
            origin: acting.origin,
            action: acting.action.clone(),
            state: acting.state.clone(),
            proof: acting.proof.clone(),
            lease_ends: (!is_over).then(|| acting.lease.ends_at(now)),
            boot: now.boot.clone(),
            at_boot: now.at,
            at: now.best_utc(self.time_floor),
            sockets_cut: 0,
            done: acting.done.clone(),
            spared: acting.spared.clone(),
        });
    }
}

impl Acting {
    /// Whether the machine may hold it. What is done at once leaves nothing to take back.
    fn may_be_done(&self) -> bool {
        let may_be_half_done = self.was_tried && !self.action.kind().is_done_at_once();
        self.phase == Phase::InForce || may_be_half_done
    }

    /// Whether it denies a content, and the last look came to an end: whatever that showed, it is for the next
    /// one to find the content where it was not before.
    fn is_looked_for(&self) -> bool {
        matches!(self.action, Action::Deny(Denied::Sha256(_)))
            && self.phase == Phase::InForce
            && self.state == state_shown(self.proof.as_ref())
    }

    fn apply(&self) -> Effect {
        Effect::Apply { measure: self.measure, action: self.action.clone() }
    }
}

#[cfg(test)]
#[path = "acting_tests.rs"]
mod tests;
