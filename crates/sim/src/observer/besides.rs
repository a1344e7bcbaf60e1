//! The observer's account of what is done besides isolating machines.
//!
//! The one idea: of each such measure it keeps what was ordered, by whom and until when, and holds against it
//! what the machine's hand really did: that it began by that order, on which tier, that it goes when it is to
//! go and not before, and that what is said of it is so.

use std::time::Duration;

use cordon_model::action::{Action, AtEnd};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::MeasureId;
use cordon_model::laws::{self, Begun, Grounds, Violation};
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::order::{Approver, Authority, Lease, Order};
use cordon_model::policy::Budget;
use cordon_model::time::UtcNanos;

use super::{Observer, Watched, believed, warned};
use crate::besides::program_of;
use crate::machine::Machine;

/// How often a machine lets itself be told by the policy alone to stop something besides the isolation. Said
/// here once more: what judges the brake does not ask the brake.
const OWN: Budget = Budget { count: 20, window_seconds: 600, group_percent: 100 };

/// A measure besides the isolation, as the observer saw it taken.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) measure: MeasureId,
    pub(super) action: Action,
    people: Vec<Approver>,
    granted: Duration,
    /// How long what follows at its end may be in force.
    pub(super) step_down: Duration,
    /// How long before its end people are told.
    pub(super) warn: Duration,
    /// How long the machine had been awake when the lease began.
    pub(super) since_awake: Duration,
    /// In which boot that was.
    boots: u32,
    /// Since when it is to be gone.
    pub(super) to_go: Option<Duration>,
    /// Since when care needs what it stops.
    needed: Option<Duration>,
    /// Whether care ever needed that: then it may be taken back.
    pub(super) was_needed: bool,
}

impl Watched {
    pub(super) fn tier(&self) -> ClinicalTier {
        self.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN)
    }

    /// These are to be gone from now on. What is done at once has no way back.
    pub(super) fn let_go_where(&mut self, awake: Duration, which: impl Fn(&Act) -> bool) {
        let of_them = self.acts.values_mut().filter(|act| which(act));
        for act in of_them.filter(|act| !act.action.kind().is_done_at_once()) {
            act.to_go.get_or_insert(awake);
        }
    }

    pub(super) fn renewed(
        &mut self,
        measure: MeasureId,
        lease: Lease,
        people: &[Approver],
        awake: Duration,
    ) {
        if let Some(act) = self.acts.get_mut(&measure) {
            act.granted = Duration::from_secs(lease.seconds.into());
            act.step_down = Duration::from_secs(lease.step_down_seconds.into());
            act.warn = Duration::from_secs(lease.warn_seconds.into());
            self.telling.begins_anew(measure);
            act.since_awake = awake;
            act.people.extend_from_slice(people);
        }
    }

    pub(super) fn look_what_care_needs(&mut self, awake: Duration) {
        let needed = &self.needed;
        for act in self.acts.values_mut() {
            // A file that was set aside stays aside: somebody looks at it first.
            let is_held = !matches!(act.action, Action::Quarantine(_));
            let program = program_of(&act.action).filter(|_| is_held);
            let is_needed = program.is_some_and(|it| needed.iter().any(|of| of.as_bytes() == it));
            act.was_needed |= is_needed;
            act.needed = if is_needed { act.needed.or(Some(awake)) } else { None };
        }
    }
}

impl Observer {
    /// A helper took an order to do this, genuine and new.
    pub(super) fn took_act(
        &mut self,
        index: usize,
        machine: &Machine,
        order: &Order,
        action: &Action,
        lease: &Lease,
        now: Duration,
    ) -> Result<(), Violation> {
        let (awake, is_stolen) = (self.awake(index, now), self.stolen.is_some());
        let watched = &mut self.machines[index];
        let people = order.authority.people();
        let is_by_itself = matches!(order.authority, Authority::Policy { .. });
        let tier = watched.tier();
        laws::stopped(machine.id, tier, action, believed(is_stolen, tier, people), &[])?;
        if is_by_itself && action.kind().stops_something() {
            watched.stopped.push(now);
            // Its window counts time off as a hub tells it: a stolen one lies, and the signer's budget is left.
            if !is_stolen {
                laws::budget(&OWN, &watched.stopped)?;
            }
        }
        let act = Act {
            measure: order.id.into(),
            action: action.clone(),
            people: people.to_vec(),
            granted: Duration::from_secs(lease.seconds.into()),
            step_down: Duration::from_secs(lease.step_down_seconds.into()),
            warn: Duration::from_secs(lease.warn_seconds.into()),
            since_awake: awake,
            boots: machine.clock.boots,
            to_go: None,
            needed: None,
            was_needed: false,
        };
        watched.acts.insert(act.measure, act);
        watched.look_what_care_needs(awake);
        Ok(())
    }

    /// A machine does this now by a measure, and did not before.
    pub(crate) fn acted(
        &self,
        index: usize,
        machine: &Machine,
        measure: MeasureId,
        action: &Action,
    ) -> Result<(), Violation> {
        let watched = &self.machines[index];
        let taken = watched.acts.get(&measure).filter(|act| act.action == *action);
        let Some(act) = taken else {
            return laws::authority(&Begun {
                machine: machine.id,
                organisation: &self.organisation,
                action,
                grounds: Grounds::Nothing,
                at: UtcNanos::from_unix_nanos(0),
            });
        };
        let tier = watched.tier();
        let people = believed(self.stolen.is_some(), tier, &act.people);
        laws::stopped(machine.id, tier, action, people, &watched.needed)
    }

    /// A helper took it back.
    pub(crate) fn ended(
        &self,
        index: usize,
        machine: &Machine,
        measure: MeasureId,
        action: &Action,
        now: Duration,
    ) -> Result<(), Violation> {
        let watched = &self.machines[index];
        let is_due = watched.acts.get(&measure).is_some_and(|act| {
            let ran = self.awake(index, now).saturating_sub(act.since_awake);
            // Time off counts once it is known, so that a lease may end sooner than the machine was awake.
            let is_over = ran >= act.granted || machine.clock.boots != act.boots;
            let is_by_lease = is_over && action.kind().at_end(watched.tier()) == AtEnd::TakeBack;
            act.to_go.is_some() || act.was_needed || is_by_lease
        });
        laws::never_silently_undone(machine.id, action, is_due)
    }

    /// A helper has done what it had to do: what was to go is gone, and what is there has a lease that runs.
    pub(crate) fn settled_besides(
        &self,
        index: usize,
        machine: &Machine,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let watched = &self.machines[index];
        let slack = Duration::from_secs(2) + watched.slack;
        for act in machine.acts.keys().filter_map(|measure| watched.acts.get(measure)) {
            if let Some(to_go) = act.to_go {
                laws::undone(machine.id, act.measure, awake.saturating_sub(to_go), slack)?;
            } else if let Some(needed) = act.needed {
                let ran = awake.saturating_sub(needed);
                laws::undone(machine.id, act.measure, ran, slack)?;
            }
            let ran = awake.saturating_sub(act.since_awake);
            laws::lease(act.measure, act.granted, ran, slack)?;
        }
        Ok(())
    }

    /// A receipt leaves the helper. That what was ended by its lease goes on is news: from then on the next
    /// lease counts, of which nobody has to be told more than was ordered.
    pub(crate) fn claimed_besides(
        &mut self,
        index: usize,
        machine: &Machine,
        receipt: &Receipt,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        let tier = watched.tier();
        if let Some(act) = watched.acts.get_mut(&receipt.measure) {
            let left = receipt.lease_ends.map(|ends| ends.since(receipt.at_boot));
            let ran = awake.saturating_sub(act.since_awake);
            // As above: since a restart its lease may have ended sooner.
            let is_over = ran >= act.granted || machine.clock.boots != act.boots;
            let goes_on = is_over && receipt.action.kind().at_end(tier) == AtEnd::StepDown;
            if let Some(left) = left.filter(|left| goes_on && !left.is_zero()) {
                // Where no power cut has moved its end, and the next lease has just begun, it has ended just now.
                let is_just_now = ran >= act.granted
                    && machine.clock.boots == act.boots
                    && warned::is_of_a_moment_ago(left, act.step_down);
                if is_just_now {
                    watched.telling.judge(act.measure, act.warn, act.since_awake, awake)?;
                }
                watched.telling.begins_anew(act.measure);
                act.granted = left.min(act.step_down.max(act.granted.saturating_sub(ran)));
                act.since_awake = awake;
            }
        }
        // What is said once more, as at a lease's end, was shown when it was looked at last.
        let is_of_before = receipt.proof.as_ref().is_some_and(|proof| proof.at != receipt.at_boot);
        if receipt.state == MeasureState::Verified && is_of_before {
            return Ok(());
        }
        let (is_there, was_done) =
            (machine.acts.contains_key(&receipt.measure), machine.did.contains(&receipt.measure));
        laws::truth_besides(machine.id, &receipt.action, &receipt.state, is_there, was_done)
    }
}
