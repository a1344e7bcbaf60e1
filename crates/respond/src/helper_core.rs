//! The privileged helper's mind: which documents it obeys, what it holds in force, and until when.
//!
//! The one idea (laws 1, 2): the helper trusts nobody but the pinned command key, not even the agent that
//! passes the documents on. It takes [`Verified`] orders and permits only, keeps **what is meant** on
//! disk before the kernel is touched, and does it again after a crash until the kernel has it.
//!
//! ```text
//!            order / permit / lease end
//!                      │  state written to disk
//!   current ◄── next ──┴──► Effect::Enforce ──► shell ──► enforced(Done | Failed)
//! ```
//!
//! A shell drives it: call, **write the state to disk**, carry out the [`Effect`]s, report back. At start
//! it calls [`HelperCore::restart`]; it sleeps at most [`HelperCore::next_wake`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::approval::Needs;
use cordon_model::asset::Assignment;
use cordon_model::finding::Level;
use cordon_model::guidance::Guidance;
use cordon_model::ids::{FindingId, MachineId, MeasureId, OdsCode, OrderId, PermitId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Authority, Instruction, Lease, Order, Permit};
use cordon_model::policy::Budget;
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use crate::approval;
use crate::budget::Spending;
use crate::clock::{Moment, Randomness, RunningClock};
use crate::lease::{self, LeaseEvent};

mod acting;
mod floor;
mod glass;
mod holdings;
mod keeping;
mod room;
mod time;
mod words;
pub use acting::{Acted, Acting, Phase, TakenBack};
use floor::check_revision;
pub use floor::{Floor, Marks, Revisions};
pub use glass::{Glass, NotOpened};
use keeping::next_at_end_of;
pub use time::AGREES_WITHIN;
pub use words::{Effect, Held, Next, NotObeyed, Outcome};

/// Orders whose ids are remembered, so that one delivered twice is answered and not refused. The hub
/// delivers one at a time; 8 covers what a slow network may still hold.
pub const REMEMBERED_ORDERS: usize = 8;

/// Receipts that wait for the agent to take them. A measure has at most six states, and there are at
/// most two at once; 256 is far above what a day brings. The oldest goes first, and is counted.
pub const MOST_UNREPORTED: usize = 256;

/// Permits remembered as used, until each has expired by the [floor](HelperCore::time_floor). One machine is
/// given one in half of a permit's time, so of those that have not expired there are two or three.
pub const MOST_USED_PERMITS: usize = 256;

/// The helper's own brake on what is done without people (law 5): 5 in 10 minutes on this one machine,
/// whatever the signer, a policy or a permit says. Only flapping reaches it.
pub const OWN_BUDGET: Budget = Budget { count: 5, window_seconds: 600, group_percent: 100 };

/// The same brake on measures besides the isolation: 20 in 10 minutes, what a plan against four intrusions
/// takes.
pub const OWN_ACTS: Budget = Budget { count: 20, window_seconds: 600, group_percent: 100 };

/// How soon what the kernel did not take is tried again.
pub const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The shortest sleep between two ticks, so that a kernel that refuses costs no whole processor.
pub const LEAST_SLEEP: Duration = Duration::from_millis(20);

/// The helper's durable state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperCore {
    /// Whose machine; pinned at enrolment.
    pub organisation: OdsCode,
    /// Which machine; pinned at enrolment.
    pub machine: MachineId,
    /// What the machine is and which flows must live.
    pub assignment: Option<Assignment>,
    /// The highest order sequence that was taken or refused: the replay floor.
    pub last_sequence: u64,
    /// The measure in the kernel, as far as known.
    pub current: Option<Held>,
    /// The one that is being put there.
    pub next: Option<Next>,
    /// Receipts that the agent has not taken yet, oldest first.
    pub unreported: VecDeque<Receipt>,
    /// Receipts that had to go unreported.
    pub receipts_lost: u64,
    taken: VecDeque<OrderId>,
    used_permits: BTreeMap<PermitId, UtcNanos>,
    /// Measures besides the isolation.
    pub acting: BTreeMap<MeasureId, Acting>,
    spending: Spending,
    acts_spending: Spending,
    clock: RunningClock,
    /// It is later than this: what was signed, carried on by running time.
    time_floor: UtcNanos,
    /// The machine was off since the floor began, so that it lacks that time.
    #[serde(default)]
    lacks_time_off: bool,
    /// The one-time codes.
    #[serde(default)]
    glass: Glass,
    /// What to tell the person in front of the machine.
    #[serde(default)]
    guidance: Option<Guidance>,
    /// The newest revisions that were taken before the memory was lost.
    #[serde(default)]
    revisions: Revisions,
    /// The order to release that is not shown to be carried out yet.
    #[serde(default)]
    releasing: Option<OrderId>,
}

impl HelperCore {
    /// A helper that holds nothing.
    #[must_use]
    pub fn new(organisation: OdsCode, machine: MachineId, now: &Moment) -> Self {
        Self {
            organisation,
            machine,
            assignment: None,
            last_sequence: 0,
            current: None,
            next: None,
            unreported: VecDeque::new(),
            receipts_lost: 0,
            taken: VecDeque::new(),
            used_permits: BTreeMap::new(),
            acting: BTreeMap::new(),
            spending: Spending::start(now),
            acts_spending: Spending::start(now),
            clock: RunningClock::start(now),
            time_floor: time::surely_over(machine.made_at()),
            lacks_time_off: false,
            glass: Glass::default(),
            guidance: None,
            revisions: Revisions::default(),
            releasing: None,
        }
    }

    /// How far the machine is, or is about to be, isolated.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        match &self.next {
            Some(Next::Hold(next)) => Some(next.isolation),
            Some(Next::Free) => None,
            None => self.current.as_ref().map(|held| held.isolation),
        }
    }

    /// Whether people's order to release is not shown to be carried out yet.
    #[must_use]
    pub fn is_releasing(&self) -> bool {
        self.releasing.is_some()
    }

    /// Whether this permit was used already.
    #[must_use]
    pub fn has_used(&self, permit: PermitId) -> bool {
        self.used_permits.contains_key(&permit)
    }

    /// Whether tier and brake would let this machine act without people now.
    #[must_use]
    pub fn would_act_by_itself(&self, now: &Moment) -> bool {
        self.check_automatic(now).is_ok()
    }

    /// Takes what the organisation says of this machine. If it is isolated, that is put in place again, with
    /// the new lifelines; all else that is in force is looked at again, as care may need it by now. What is held already changes nothing and is no error.
    ///
    /// # Errors
    /// [`NotObeyed::WrongTarget`], [`NotObeyed::OldRevision`].
    pub fn assign(&mut self, assignment: &Verified<Assignment>) -> Result<Vec<Effect>, NotObeyed> {
        self.check_target(&assignment.organisation, assignment.machine)?;
        if self.assignment.as_ref() == Some(&**assignment) {
            return Ok(Vec::new());
        }
        let held = self.assignment.as_ref().map(|held| held.revision);
        check_revision(assignment.revision, held, self.revisions.assignment)?;
        self.assignment = Some((**assignment).clone());
        let mut effects = self.effects_again();
        effects.extend(self.look_again());
        Ok(effects)
    }

    /// Takes what to tell the person in front of this machine. What is held already changes nothing and
    /// is no error.
    ///
    /// # Errors
    /// [`NotObeyed::WrongTarget`], [`NotObeyed::OldRevision`], [`NotObeyed::Guidance`].
    pub fn take_guidance(&mut self, guidance: &Verified<Guidance>) -> Result<(), NotObeyed> {
        self.check_target(&guidance.organisation, guidance.machine)?;
        if !guidance.is_bearable() {
            return Err(NotObeyed::Guidance);
        }
        if self.guidance.as_ref() == Some(&**guidance) {
            return Ok(());
        }
        let held = self.guidance.as_ref().map(|held| held.revision);
        check_revision(guidance.revision, held, self.revisions.guidance)?;
        self.guidance = Some((**guidance).clone());
        Ok(())
    }

    /// What to tell the person in front of this machine.
    #[must_use]
    pub fn guidance(&self) -> Option<&Guidance> {
        self.guidance.as_ref()
    }

    /// Obeys an order, or says why not. An order that was taken already changes nothing and is no error.
    /// One that is refused has had its turn all the same: its hub gave it up, and whoever recorded it can't
    /// have it obeyed later, when the reason is gone.
    ///
    /// # Errors
    /// See [`NotObeyed`]; nothing has changed then, but perhaps [`HelperCore::last_sequence`].
    pub fn order(
        &mut self,
        order: &Verified<Order>,
        now: &Moment,
    ) -> Result<Vec<Effect>, NotObeyed> {
        self.saw(order, now);
        self.check_target(&order.organisation, order.machine)?;
        if self.taken.contains(&order.id) {
            return Ok(Vec::new());
        }
        if order.sequence <= self.last_sequence {
            return Err(NotObeyed::Stale { sequence: order.sequence, last: self.last_sequence });
        }
        self.last_sequence = order.sequence;
        let effects = self.obey(order, now)?;
        if self.taken.len() >= REMEMBERED_ORDERS {
            self.taken.pop_front();
        }
        self.taken.push_back(order.id);
        Ok(effects)
    }

    fn obey(&mut self, order: &Order, now: &Moment) -> Result<Vec<Effect>, NotObeyed> {
        if let Some(until) = order.deliver_until {
            self.check_time(until, now)?;
        }
        // Whatever opens is allowed by somebody who can be named; no policy releases.
        let opens = matches!(order.instruction, Instruction::Release | Instruction::Undo { .. });
        if opens && !approval::is_enough(Needs::OnePerson, order.authority.people()) {
            return Err(NotObeyed::NotEnoughPeople(Needs::OnePerson));
        }
        if let Instruction::Begin { if_isolated: Some(least), .. } = &order.instruction {
            self.check_still_isolated(*least)?;
        }
        Ok(match &order.instruction {
            Instruction::Begin { action: Action::Isolate(isolation), lease, .. } => {
                lease::check_terms(lease)?;
                let is_by_people = self.check_authority(&order.authority, now)?;
                // Milder is more open: only people open what was cut.
                if !is_by_people && self.isolation() > Some(*isolation) {
                    return Err(NotObeyed::AlreadyContained);
                }
                let origin = Origin::Order(order.id);
                if !is_by_people {
                    self.spending.spend(&OWN_BUDGET, self.machine, now);
                }
                self.hold(order.id.into(), origin, is_by_people, *isolation, *lease, now)
            }
            Instruction::Renew { measure, lease } => {
                lease::check_terms(lease)?;
                self.renew_either(*measure, *lease, &order.authority, now)?;
                Vec::new()
            }
            Instruction::Begin { action, lease, .. } => {
                lease::check_terms(lease)?;
                action.check().map_err(|error| NotObeyed::Action(error.to_string()))?;
                let is_by_people = self.check_authority_for(action, &order.authority, now)?;
                let measure = order.id.into();
                let origin = Origin::Order(order.id);
                let effects =
                    self.begin(measure, origin, order.authority.people(), action, *lease, now)?;
                if !is_by_people && action.kind().stops_something() {
                    self.acts_spending.spend(&OWN_ACTS, self.machine, now);
                }
                effects
            }
            Instruction::Undo { measure } => self.undo(*measure, now)?,
            Instruction::Release => self.release(order.id, now),
        })
    }

    /// Uses a permit for a finding, with no hub in reach: segment, on tiers 0 and 1 only (law 6).
    ///
    /// # Errors
    /// See [`NotObeyed`]; nothing has changed then.
    pub fn use_permit(
        &mut self,
        permit: &Verified<Permit>,
        finding: FindingId,
        level: Level,
        now: &Moment,
    ) -> Result<Vec<Effect>, NotObeyed> {
        self.saw(permit, now);
        self.check_target(&permit.organisation, permit.machine)?;
        self.check_time(permit.expires_at, now)?;
        // Forgotten by the floor alone, which no clock raises and nothing lowers: never good again.
        self.used_permits.retain(|_, expires| *expires > self.time_floor);
        if self.used_permits.contains_key(&permit.id) {
            return Err(NotObeyed::Used);
        }
        if self.used_permits.len() >= MOST_USED_PERMITS {
            return Err(NotObeyed::RememberedPermits);
        }
        if level < permit.level_at_least {
            return Err(NotObeyed::TooMild { least: permit.level_at_least, level });
        }
        if self.isolation() >= Some(Isolation::Segment) {
            return Err(NotObeyed::AlreadyContained);
        }
        lease::check_terms(&permit.lease)?;
        self.check_automatic(now)?;
        self.spending.spend(&OWN_BUDGET, self.machine, now);
        self.used_permits.insert(permit.id, permit.expires_at);
        let origin = Origin::Permit { permit: permit.id, finding };
        Ok(self.hold(permit.id.into(), origin, false, Isolation::Segment, permit.lease, now))
    }

    /// Takes note of how carrying out went.
    pub fn enforced(&mut self, measure: MeasureId, outcome: Outcome, now: &Moment) {
        let outcome = outcome.bounded();
        if self.current.is_none() && self.releasing.is_some_and(|order| measure == order.into()) {
            self.end_of_release(&outcome, now);
            return;
        }
        match self.next.take() {
            Some(Next::Hold(next)) if next.measure == measure => {
                self.end_of_enforcing(next, outcome, now);
            }
            Some(Next::Free) if self.is_current(measure) => self.end_of_restoring(outcome, now),
            other => {
                // Enforced again after a restart, or a report that came too late for what is meant now.
                self.next = other;
                if self.is_current(measure) {
                    self.shown(measure, &outcome, now);
                }
            }
        }
    }

    /// Takes note of what a later look (read-back, probe, kernel notification) showed.
    pub fn looked(&mut self, measure: MeasureId, proof: Proof, now: &Moment) {
        if self.is_current(measure) {
            let outcome = Outcome::Done { proof: Some(proof), sockets_cut: 0 };
            self.shown(measure, &outcome.bounded(), now);
        }
    }

    /// Counts the leases, and steps down at their ends.
    pub fn tick(&mut self, now: &Moment, randomness: Randomness<'_>) -> Vec<Effect> {
        self.note_time(now);
        let mut effects = self.tick_isolation(now, randomness);
        effects.extend(self.tick_acting(now));
        effects
    }

    fn tick_isolation(&mut self, now: &Moment, randomness: Randomness<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        // A release that is on its way stays meant until it is shown.
        let is_on_its_way = matches!(self.next, Some(Next::Hold(_)));
        if is_on_its_way && let Some(Next::Hold(mut next)) = self.next.take() {
            let event = next.lease.step(now);
            effects.extend(warning(event, &next, now));
            if !next.state.is_unproven() {
                // On its way: its outcome is about to be reported.
                self.next = Some(Next::Hold(next));
                return effects;
            }
            if event != Some(LeaseEvent::Ended) {
                self.next = Some(Next::Hold(next));
                effects.extend(self.effects_again());
                return effects;
            }
            let step_down = next_at_end_of(&next, now, randomness);
            next.state = MeasureState::SteppedDown;
            self.report(&next, 0, now);
            return match step_down {
                Some(step_down) => self.start(step_down),
                None => self.free_from(Some(next), now),
            };
        }
        let Some(current) = &mut self.current else {
            // A release of what was not known here, which the kernel did not take.
            effects.extend(self.effects_again());
            return effects;
        };
        let event = current.lease.step(now);
        effects.extend(warning(event, current, now));
        if self.next.is_some() {
            effects.extend(self.effects_again());
            return effects;
        }
        // Put in place again what failed to go there, or was found missing.
        let is_missing = current.state.is_unproven()
            && !current.proof.as_ref().is_some_and(|proof| proof.is_read_back);
        match event {
            None | Some(LeaseEvent::Warned) if is_missing => effects.extend(self.effects_again()),
            None | Some(LeaseEvent::Warned) => {}
            Some(LeaseEvent::Ended) => match next_at_end_of(current, now, randomness) {
                Some(next) => effects.extend(self.start(next)),
                None => effects.extend(self.free(now)),
            },
        }
        effects
    }

    /// After a start of the helper or the machine: puts what is meant into the kernel again. Until the
    /// outcome is reported, nothing of it is called proven.
    pub fn restart(&mut self, now: &Moment) -> Vec<Effect> {
        self.note_time(now);
        if let Some(current) = &mut self.current {
            current.state = MeasureState::Unproven { why: "not read back since a restart".into() };
            current.proof = None;
            current.lease.warn_again();
        }
        if let Some(Next::Hold(next)) = &mut self.next {
            next.lease.warn_again();
        }
        let mut effects = self.effects_again();
        effects.extend(self.restart_acting());
        effects
    }

    /// How long the shell may sleep before the next [`HelperCore::tick`].
    #[must_use]
    pub fn next_wake(&self, now: &Moment) -> Duration {
        let wake =
            self.current.as_ref().map_or(lease::CHECKPOINT, |held| held.lease.next_wake(now));
        let is_unsettled = self.next.is_some()
            || self.releasing.is_some()
            || self.current.as_ref().is_some_and(|held| held.state.is_unproven());
        let wake = if is_unsettled { wake.min(TRY_AGAIN) } else { wake };
        let wake = self.acting_wake(now).map_or(wake, |of_others| of_others.min(wake));
        // At the end itself the wake-up is exact; a step down that fails is not tried in a hot loop.
        wake.max(LEAST_SLEEP)
    }

    /// The agent has these first `count` receipts on its disk.
    pub fn reported(&mut self, count: usize) {
        self.unreported.drain(..count.min(self.unreported.len()));
    }

    fn is_current(&self, measure: MeasureId) -> bool {
        self.current.as_ref().is_some_and(|held| held.measure == measure)
    }

    fn check_target(&self, organisation: &OdsCode, machine: MachineId) -> Result<(), NotObeyed> {
        if *organisation == self.organisation && machine == self.machine {
            Ok(())
        } else {
            Err(NotObeyed::WrongTarget)
        }
    }

    /// Whether people allow it. What the policy allows is checked against this machine's own
    /// assignment and brake again: a signer that errs can't freeze a theatre.
    fn check_authority(&self, authority: &Authority, now: &Moment) -> Result<bool, NotObeyed> {
        match authority {
            Authority::Policy { .. } => self.check_automatic(now).map(|()| false),
            Authority::People { people, .. } => {
                let assignment = self.assignment.as_ref().ok_or(NotObeyed::NoAssignment)?;
                let needs = Needs::to_contain(assignment.effective_tier());
                if approval::is_enough(needs, people) {
                    Ok(true)
                } else {
                    Err(NotObeyed::NotEnoughPeople(needs))
                }
            }
        }
    }

    /// The same for a measure besides the isolation.
    fn check_authority_for(
        &self,
        action: &Action,
        authority: &Authority,
        now: &Moment,
    ) -> Result<bool, NotObeyed> {
        let tier = self.assignment.as_ref().ok_or(NotObeyed::NoAssignment)?.effective_tier();
        let needs = Needs::to_do(action, tier);
        match authority {
            Authority::People { people, .. } if approval::is_enough(needs, people) => Ok(true),
            Authority::People { .. } => Err(NotObeyed::NotEnoughPeople(needs)),
            Authority::Policy { .. } if needs > Needs::OnePerson => {
                Err(NotObeyed::NotEnoughPeople(needs))
            }
            // What stops nothing is not braked; what stops something obeys the tier as an isolation does.
            Authority::Policy { .. } if !action.kind().stops_something() => Ok(false),
            Authority::Policy { .. } if tier.is_clinical() => Err(NotObeyed::NeedsPeople(tier)),
            Authority::Policy { .. } if self.is_held_open() => Err(NotObeyed::HeldOpen),
            Authority::Policy { .. } => {
                self.acts_spending.check(&OWN_ACTS, now).map_err(NotObeyed::Braked)?;
                Ok(false)
            }
        }
    }

    fn renew_either(
        &mut self,
        measure: MeasureId,
        terms: Lease,
        authority: &Authority,
        now: &Moment,
    ) -> Result<(), NotObeyed> {
        if let Some(acting) = self.acting.get(&measure) {
            let action = acting.action.clone();
            let is_by_people = self.check_authority_for(&action, authority, now)?;
            return self.renew_acting(measure, terms, is_by_people, now);
        }
        let is_by_people = self.check_authority(authority, now)?;
        self.renew(measure, terms, is_by_people, now)
    }

    /// Whether it is isolated so far: by what is meant, for what is about to end no longer counts.
    fn check_still_isolated(&self, least: Isolation) -> Result<(), NotObeyed> {
        let now = self.isolation();
        if now >= Some(least) { Ok(()) } else { Err(NotObeyed::OpenedMeanwhile { least, now }) }
    }

    fn holds_isolation(&self, measure: MeasureId) -> bool {
        let is_next = matches!(&self.next, Some(Next::Hold(next)) if next.measure == measure);
        is_next || self.is_current(measure)
    }

    fn check_automatic(&self, now: &Moment) -> Result<(), NotObeyed> {
        let assignment = self.assignment.as_ref().ok_or(NotObeyed::NoAssignment)?;
        if assignment.effective_tier().is_clinical() {
            return Err(NotObeyed::NeedsPeople(assignment.effective_tier()));
        }
        if self.is_held_open() {
            return Err(NotObeyed::HeldOpen);
        }
        self.spending.check(&OWN_BUDGET, now).map_err(NotObeyed::Braked)
    }
}

/// Law 2: people are told before a lease ends, whatever else there is to do at that moment.
fn warning(event: Option<LeaseEvent>, held: &Held, now: &Moment) -> Option<Effect> {
    let is_near = event == Some(LeaseEvent::Warned);
    is_near.then(|| Effect::Warn { measure: held.measure, ends: held.lease.ends_at(now) })
}

#[cfg(test)]
mod tests;
