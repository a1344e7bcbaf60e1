//! The signer's mind: which proposals become orders.
//!
//! The one idea (laws 1, 3, 5): the hub proposes, and this small machine, in a process of its own with
//! the command key, checks everything again from its **own** durable registry (assignments, policy,
//! sequences, budget, what it has let be contained) before anything is signed. It never believes a
//! proposal about the machine that it is for.
//!
//! A shell drives it: call, **write the state to disk**, then seal and hand out. A crash in between
//! costs a sequence number and some budget, and never a rule. Every answer is idempotent by the order's
//! id, so a hub that did not hear it asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, Protected};
use cordon_model::finding::Level;
use cordon_model::guidance::check_contacts;
use cordon_model::ids::{MachineId, MeasureId, OrderId, PermitId};
use cordon_model::measure::{Isolation, Origin, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Lease, Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use crate::approval;
use crate::budget::{GroupShare, Spending};
use crate::clock::{Moment, Randomness, RunningClock, id_bytes};
use crate::decision::{self, AskReason, Decision, Situation, WatchReason};
use crate::lease::{self};
use crate::permits;

mod codes;
mod guidance;
mod known;
mod pinning;
mod proposal;
mod questions;
pub use codes::{CodeFate, CodesRow, CodesToMake, RENEW_BEFORE};
use known::Known;
pub use known::{
    ID_AHEAD_WITHIN, REMEMBERED_IDS, REMEMBERED_IDS_AHEAD, REMEMBERED_ORDERS, WORKS_FOR,
};
pub use proposal::{Basis, Proposal, Refusal};
pub use questions::{REMEMBERED_QUESTIONS, TOLD_WITHIN};

/// Machines of one organisation: 100,000, some three times the largest trust. A registry entry is about
/// 1 KB (without lifelines), so 100 MB at the very most.
pub const MOST_MACHINES: usize = 100_000;

/// Of these, machines that nobody described: half of them. A stolen hub can make them up, and nothing forgets one; those
/// that root speaks of have room all the same.
pub const MOST_UNDESCRIBED: usize = MOST_MACHINES / 2;

/// People named in one proposal: two are needed at most, 16 leaves room for a committee.
pub const MOST_PEOPLE: usize = 16;

/// A permit that may be, or may have been, used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outstanding {
    machine: MachineId,
    issued: Duration,
    good_for: Duration,
    /// Its machine has said that it began something by it.
    #[serde(default)]
    is_used: bool,
}

/// The signer's durable state and its rules. Serialise it whole, or part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerCore {
    policy: Policy,
    machines: BTreeMap<MachineId, Known>,
    spending: Spending,
    permits: BTreeMap<PermitId, Outstanding>,
    clock: RunningClock,
    #[serde(skip)]
    with_a_tier: Counted,
}

/// How many machines there are of a sort, once they were counted. No part of what a signer is: two that differ in
/// this alone are the same.
#[derive(Debug, Clone, Default)]
struct Counted(Option<usize>);

impl PartialEq for Counted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Counted {}

impl SignerCore {
    /// A signer that knows no machines yet.
    #[must_use]
    pub fn new(policy: Policy, now: &Moment) -> Self {
        Self {
            policy,
            machines: BTreeMap::new(),
            spending: Spending::start(now),
            permits: BTreeMap::new(),
            clock: RunningClock::start(now),
            with_a_tier: Counted::default(),
        }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The assignment of a machine.
    #[must_use]
    pub fn assignment(&self, machine: MachineId) -> Option<&Assignment> {
        self.machines.get(&machine).map(|known| &known.assignment)
    }

    /// Of how many machines the tier is said, which takes the keeper. Of others a stolen hub could make up as many as
    /// it likes. Counted when that changes, and not at each order of a hundred thousand machines.
    #[must_use]
    pub fn with_a_tier_count(&mut self) -> usize {
        let has_a_tier = |known: &&Known| known.assignment.tier.is_some();
        let count = || self.machines.values().filter(has_a_tier).count();
        *self.with_a_tier.0.get_or_insert_with(count)
    }

    /// Whether somebody said something of a machine that takes the keeper: no hub made it up.
    #[must_use]
    pub fn is_described(&self, machine: MachineId) -> bool {
        self.assignment(machine).is_some_and(is_described)
    }

    /// Whether this very order was signed already, so that a proposal for it is a repetition.
    #[must_use]
    pub fn remembers(&self, machine: MachineId, order: OrderId) -> bool {
        self.machines
            .get(&machine)
            .is_some_and(|known| known.recent.iter().any(|recent| recent.id == order))
    }

    /// Whether an order takes back only what began on the machine without any person: by the policy, or by its own
    /// permit, for all that this registry knows.
    #[must_use]
    pub fn takes_back_only_its_own(&self, machine: MachineId, instruction: &Instruction) -> bool {
        let known = self.machines.get(&machine);
        known.is_some_and(|known| known.takes_back_only_its_own(instruction))
    }

    /// The policy to sign for `draft`: the same with the next revision.
    ///
    /// # Errors
    /// [`Refusal::WrongOrganisation`], [`Refusal::Terms`].
    pub fn set_policy(&mut self, draft: Policy) -> Result<Policy, Refusal> {
        if draft.organisation != self.policy.organisation {
            return Err(Refusal::WrongOrganisation);
        }
        lease::check_terms(&draft.lease)?;
        draft.break_glass.check().map_err(|error| Refusal::Terms(error.to_string()))?;
        check_contacts(&draft.ring).map_err(|error| Refusal::Terms(error.to_string()))?;
        draft.approval.check().map_err(|error| Refusal::Terms(error.to_string()))?;
        draft.return_terms.check().map_err(|error| Refusal::Terms(error.to_string()))?;
        self.policy = Policy { revision: self.policy.revision.saturating_add(1), ..draft };
        Ok(self.policy.clone())
    }

    /// The assignment to sign for `draft`: the same with the machine's next revision.
    ///
    /// # Errors
    /// [`Refusal::WrongOrganisation`], [`Refusal::Assignment`], [`Refusal::TooManyMachines`].
    pub fn assign(&mut self, draft: Assignment) -> Result<Assignment, Refusal> {
        if draft.organisation != self.policy.organisation {
            return Err(Refusal::WrongOrganisation);
        }
        draft.check()?;
        if let Some(known) = self.machines.get_mut(&draft.machine) {
            if known.assignment.tier.is_some() != draft.tier.is_some() {
                self.with_a_tier = Counted::default();
            }
            let revision = known.assignment.revision.saturating_add(1);
            known.assignment = Assignment { revision, ..draft };
            return Ok(known.assignment.clone());
        }
        if !self.has_room_for(&draft) {
            return Err(Refusal::TooManyMachines);
        }
        let assignment = Assignment { revision: 1, ..draft };
        let known = Known::new(assignment.clone());
        if assignment.tier.is_some() {
            self.with_a_tier = Counted::default();
        }
        self.machines.insert(assignment.machine, known);
        Ok(assignment)
    }

    fn has_room_for(&self, new: &Assignment) -> bool {
        let others = || self.machines.values().filter(|known| !is_described(&known.assignment));
        self.machines.len() < MOST_MACHINES
            && (is_described(new)
                || self.machines.len() < MOST_UNDESCRIBED
                || others().count() < MOST_UNDESCRIBED)
    }

    /// Whether there is place to remember the id of a new order, however far ahead of `now` it is. Whoever signs asks
    /// this first; [`SignerCore::sign`] does not: what it is given again from a disk was sealed, and an earlier version
    /// may have had more place.
    #[must_use]
    pub fn has_place_for(&self, machine: MachineId, order: OrderId, now: UtcNanos) -> bool {
        let known = self.machines.get(&machine);
        known.is_none_or(|known| known.has_place_for(order, now))
    }

    /// Counts an order that was sealed by an earlier version, which this one would refuse: the machine has it, and
    /// takes none with a lower number any more.
    pub fn count_sealed(&mut self, machine: MachineId) {
        if let Some(known) = self.machines.get_mut(&machine) {
            known.sequence = known.sequence.saturating_add(1);
        }
    }

    /// The order to sign for `proposal`, or why there is none. Write the state down before sealing.
    ///
    /// # Errors
    /// See [`Refusal`]; the state is then as it was.
    pub fn sign(
        &mut self,
        proposal: &Proposal,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<Order, Refusal> {
        let known = self.machines.get(&proposal.machine).ok_or(Refusal::UnknownMachine)?;
        if let Some(order) = known.recent.iter().find(|order| order.id == proposal.id) {
            return Ok(order.clone());
        }
        // What begins nothing is signed whatever clock made the ids before it, and then frees nothing here.
        let begins_nothing =
            matches!(proposal.instruction, Instruction::Release | Instruction::Undo { .. });
        let may_be_taken = known.may_be_taken(proposal.id) && !begins_nothing;
        if may_be_taken || known.is_taken(proposal.id) {
            return Err(Refusal::UsedId);
        }
        let authority = match &proposal.basis {
            Basis::Policy { finding, level } => {
                self.check_policy(known, *level, &proposal.instruction, now, decision::decide)?;
                Authority::Policy { revision: self.policy.revision, finding: *finding }
            }
            Basis::Unanswered { approval, finding, level } => {
                self.check_unanswered(known, *approval, now)?;
                let decide = decision::decide_unanswered;
                self.check_policy(known, *level, &proposal.instruction, now, decide)?;
                Authority::Policy { revision: self.policy.revision, finding: *finding }
            }
            Basis::People { approval, people } => {
                check_people(&self.policy, known, &proposal.instruction, people, now.utc)?;
                Authority::People { approval: *approval, people: people.clone() }
            }
        };
        if matches!(authority, Authority::Policy { .. }) {
            self.spending.spend(&self.policy.budget, proposal.machine, now);
        }
        // What can only open a machine comes in time whenever it comes, and whatever clock the machine has.
        let deliver_until = self
            .policy
            .deliver_within_seconds
            .filter(|_| proposal.instruction.closes())
            .map(|seconds| now.utc.plus(Duration::from_secs(seconds.into())));
        let known = self.machines.get_mut(&proposal.machine).ok_or(Refusal::UnknownMachine)?;
        known.sequence = known.sequence.saturating_add(1);
        if let Basis::Unanswered { approval, .. } = &proposal.basis {
            // One question, one order.
            known.asked.retain(|(asked, _)| asked != approval);
        }
        let order = Order {
            id: proposal.id,
            organisation: self.policy.organisation.clone(),
            machine: proposal.machine,
            sequence: known.sequence,
            nonce: randomness(),
            issued_at: now.utc,
            deliver_until,
            instruction: proposal.instruction.clone(),
            authority,
            incident: proposal.incident,
            reason: proposal.reason.chars().take(cordon_model::limits::NAME_BYTES / 4).collect(),
        };
        known.note(&order);
        Ok(order)
    }

    /// Permits to sign now: for machines that should hold one and hold none that is good for more than
    /// half its time. Never so many that all holders together exceed the policy's number, and never so
    /// that fewer than two machines of a kind are neither isolated nor able to isolate themselves.
    pub fn renew_permits(&mut self, now: &Moment, randomness: Randomness<'_>) -> Vec<Permit> {
        let running = self.clock.advance(now);
        let good_for = Duration::from_secs(self.policy.permit_seconds.into());
        let is_fresh =
            |held: &&Outstanding| held.issued.saturating_add(held.good_for / 2) > running;
        let have_a_fresh_one: BTreeSet<MachineId> =
            self.permits.values().filter(is_fresh).map(|held| held.machine).collect();
        let mut permits = Vec::new();
        for machine in self.machines_to_hold_permits(running) {
            let Some(known) = self.machines.get(&machine) else { continue };
            let Some(level) = permits::permit_level(&self.policy, &known.assignment) else {
                continue;
            };
            if have_a_fresh_one.contains(&machine) {
                continue;
            }
            let permit = Permit {
                id: PermitId::new(now.utc, id_bytes(randomness)),
                organisation: self.policy.organisation.clone(),
                machine,
                level_at_least: level,
                lease: self.policy.lease,
                issued_at: now.utc,
                expires_at: now.utc.plus(good_for),
            };
            self.permits.insert(
                permit.id,
                Outstanding { machine, issued: running, good_for, is_used: false },
            );
            self.forget_old_permits(machine);
            permits.push(permit);
        }
        permits
    }

    fn forget_old_permits(&mut self, machine: MachineId) {
        let of_it = self.permits.iter().filter(|(_, held)| held.machine == machine);
        let mut of_it: Vec<(Duration, PermitId)> =
            of_it.map(|(permit, held)| (held.issued, *permit)).collect();
        of_it.sort_unstable_by_key(|(issued, _)| std::cmp::Reverse(*issued));
        for (_, old) in of_it.into_iter().skip(cordon_model::limits::PERMITS_PER_MACHINE) {
            self.permits.remove(&old);
        }
    }

    /// Takes note of what a machine says of a measure. The shell passes receipts that it has opened
    /// with that machine's own key; repeating one is harmless.
    pub fn learn(&mut self, receipt: &Receipt) {
        self.learn_of_codes(receipt);
        let is_by_permit = self.is_first_by_its_permit(receipt);
        if let Some(known) = self.machines.get_mut(&receipt.machine) {
            known.learn(receipt, is_by_permit);
        }
    }

    /// Whether the machine began something by a permit that it has, and for the first time that is said of that
    /// permit: a machine that lies, or a hub that says what was sealed over again, gets no more than one of each.
    fn is_first_by_its_permit(&mut self, receipt: &Receipt) -> bool {
        let Origin::Permit { permit, .. } = receipt.origin else { return false };
        let its = |held: &&mut Outstanding| held.machine == receipt.machine && !held.is_used;
        let Some(held) = self.permits.get_mut(&permit).filter(its) else { return false };
        held.is_used = receipt.state.is_acting();
        held.is_used
    }

    /// Takes note that an order will never begin anything, as the hub says: refused by its machine, or
    /// superseded or expired before the machine had it. The hub may be stolen, and say so of an isolation
    /// that is in force: so no finding is left to that any more, and its place stays taken until people
    /// release the machine and it shows that. Whether that is news: the hub says it again at each of its starts.
    pub fn never_begun(&mut self, machine: MachineId, order: OrderId) -> bool {
        let Some(known) = self.machines.get_mut(&machine) else { return false };
        let measure = MeasureId::from(order);
        if known.measures.contains(&measure) {
            return known.denied.insert(measure);
        }
        let was_meant = known.acts.remove(&measure);
        let is_recent = known.recent.iter().any(|recent| recent.id == order);
        let is_dead_now = is_recent && known.dead.insert(order);
        was_meant || is_dead_now
    }

    /// Takes note that a machine says that a measure is not in force which it said, or was ordered, to
    /// hold. No finding is left to it any more; but the machine's place in its group, its kind and among
    /// the permits stays taken until people release it: by such words no machine frees anything (law 11).
    pub fn not_in_force(&mut self, machine: MachineId, measure: MeasureId) {
        if let Some(known) = self.machines.get_mut(&machine)
            && known.measures.contains(&measure)
        {
            known.denied.insert(measure);
        }
    }

    /// Takes note that the machine is in contact and says how far it is isolated, in the hub's words. Its
    /// permits that ended [some time](permits::SETTLE) ago count no longer, unless it is isolated: whoever
    /// segmented itself holds its place until it is released, so that the total stays bounded over time too.
    pub fn heard(&mut self, machine: MachineId, isolation: Option<Isolation>, now: &Moment) {
        let running = self.clock.advance(now);
        let Some(known) = self.machines.get_mut(&machine) else { return };
        known.heard = Some(running);
        if isolation.is_some() {
            return;
        }
        if known.measures.is_empty() {
            self.permits.retain(|_, held| {
                let settled = held.issued.saturating_add(held.good_for) + permits::SETTLE;
                held.machine != machine || settled > running
            });
        }
    }

    /// What [`decision::decide`] needs to know of a machine, from this registry.
    #[must_use]
    pub fn situation(&self, machine: MachineId, now: &Moment) -> Situation {
        let Some(known) = self.machines.get(&machine) else {
            return Situation { contained: None, budget: Ok(()), is_last_of_kind: true };
        };
        let budget = self.spending.check(&self.policy.budget, now);
        let budget = budget.and_then(|()| self.group_of(known).check(&self.policy.budget));
        let kind = known.assignment.kind.as_deref();
        let standing = kind.map_or(0, |kind| self.stand_ins(kind, machine, now));
        Situation {
            contained: known.contained(),
            budget,
            is_last_of_kind: decision::is_last_of_kind(kind, standing),
        }
    }

    /// How many automatic isolations fall in the budget's window, of how many.
    #[must_use]
    pub fn spent(&self, now: &Moment) -> (u32, u32) {
        (self.spending.spent(&self.policy.budget, now), self.policy.budget.count)
    }

    fn check_policy(
        &self,
        known: &Known,
        level: Level,
        instruction: &Instruction,
        now: &Moment,
        decide: fn(&Policy, &Assignment, Level, &Situation) -> Decision,
    ) -> Result<(), Refusal> {
        let Instruction::Begin { action, lease, if_isolated: None } = instruction else {
            return Err(Refusal::NeedsPeople);
        };
        let situation = self.situation(known.assignment.machine, now);
        let Action::Isolate(isolation) = action else {
            // A group's share is of machines that are cut off, and this cuts none off.
            let budget = self.spending.check(&self.policy.budget, now);
            let situation = Situation { budget, ..situation };
            return self.check_policy_also(known, level, action, lease, &situation);
        };
        let mut decision = decide(&self.policy, &known.assignment, level, &situation);
        if known.held_open.is_some() {
            let tier = known.assignment.effective_tier();
            decision = decision.of_a_machine_held_open(&self.policy, tier);
        }
        match decision {
            Decision::Do { isolation: would, lease: terms } => {
                // Milder than the policy says is the hub's to choose, as to propose nothing would be: where
                // a machine would be out of its reach.
                let is_milder = (would, *isolation) == (Isolation::Full, Isolation::Segment);
                if (*isolation == would || is_milder) && *lease == terms {
                    Ok(())
                } else {
                    Err(Refusal::NotThePolicys { would })
                }
            }
            Decision::Ask { needs, why, .. } => Err(Refusal::Ask { needs, why }),
            Decision::Watch { why, .. } => Err(Refusal::NothingToDo(why)),
        }
    }

    /// The same for what is done besides the isolation.
    fn check_policy_also(
        &self,
        known: &Known,
        level: Level,
        action: &Action,
        lease: &Lease,
        situation: &Situation,
    ) -> Result<(), Refusal> {
        action.check()?;
        let also = decision::decide_also(&self.policy, &known.assignment, level, situation);
        let also = also.filter(|also| also.kinds.contains(&action.kind()));
        let also = also.ok_or(Refusal::NothingToDo(WatchReason::NoResponse))?;
        if *lease != self.policy.lease {
            return Err(Refusal::NothingToDo(WatchReason::NoResponse));
        }
        let tier = known.assignment.effective_tier();
        let needs = decision::needs_to_do(&self.policy, action, tier);
        match also.why_ask.or(known.held_open.map(|_| AskReason::HeldOpen)) {
            Some(why) => Err(Refusal::Ask { needs, why }),
            None => Ok(()),
        }
    }

    /// How much of a machine's group is contained besides itself: its own place is not taken twice when it
    /// is isolated further, or anew. Of those in it that nobody has described none makes it larger.
    fn group_of(&self, known: &Known) -> GroupShare {
        let group = known.assignment.group.as_deref();
        let members = self.machines.values().filter(|m| m.assignment.group.as_deref() == group);
        let (mut size, mut contained) = (0, 0);
        for member in members {
            size += u32::from(member.assignment.tier.is_some());
            let is_itself = member.assignment.machine == known.assignment.machine;
            contained += u32::from(member.may_be_contained() && !is_itself);
        }
        GroupShare { group: group.unwrap_or_default().to_owned(), size, contained }
    }

    fn permit_holders(&self) -> BTreeSet<MachineId> {
        self.permits.values().map(|held| held.machine).collect()
    }

    /// How many other machines of a kind surely work: in contact of late, not isolated, and not able to
    /// isolate themselves. One that is switched off stands in for nobody.
    fn stand_ins(&self, kind: &str, except: MachineId, now: &Moment) -> usize {
        let (holders, running) = (self.permit_holders(), self.clock.reading(now));
        let others = self.machines.iter().filter(|(machine, other)| {
            **machine != except
                && other.assignment.kind.as_deref() == Some(kind)
                && other.surely_works(running)
                && !holders.contains(machine)
        });
        others.count()
    }

    /// The same of every kind at once.
    fn standing(&self, holders: &BTreeSet<MachineId>, running: Duration) -> BTreeMap<&str, usize> {
        let mut standing = BTreeMap::new();
        for (machine, known) in &self.machines {
            if let Some(kind) = known.assignment.kind.as_deref()
                && known.surely_works(running)
                && !holders.contains(machine)
            {
                *standing.entry(kind).or_default() += 1;
            }
        }
        standing
    }

    /// Present holders first (they are renewed), then others while there is room.
    fn machines_to_hold_permits(&self, running: Duration) -> Vec<MachineId> {
        let mut holders = self.permit_holders();
        let mut standing = self.standing(&holders, running);
        let mut chosen: Vec<MachineId> = Vec::new();
        let mut groups: BTreeMap<Option<&str>, Vec<MachineId>> = BTreeMap::new();
        for (machine, known) in &self.machines {
            let is_eligible = permits::permit_level(&self.policy, &known.assignment).is_some()
                && (!known.may_be_contained() || holders.contains(machine));
            if is_eligible {
                groups.entry(known.assignment.group.as_deref()).or_default().push(*machine);
            }
        }
        let eligible: Vec<u32> =
            groups.values().map(|group| u32::try_from(group.len()).unwrap_or(u32::MAX)).collect();
        let shares = permits::allot(self.policy.permits, &eligible);
        for (members, share) in groups.values_mut().zip(shares) {
            members.sort_by_key(|machine| (!holders.contains(machine), *machine));
            let mut left = share;
            for machine in members.iter() {
                if left == 0 {
                    break;
                }
                let is_holder = holders.contains(machine);
                let has_room = is_holder || holders.len() < self.policy.permits as usize;
                let known = &self.machines[machine];
                let mut of_kind =
                    known.assignment.kind.as_deref().map(|kind| standing.entry(kind).or_default());
                let is_one_of_them = !is_holder && known.surely_works(running);
                // Two others stay without one: then one of them surely works while the other is
                // contained by policy. With one, that one could never be contained without asking.
                let leaves_stand_ins = of_kind
                    .as_ref()
                    .is_none_or(|standing| **standing - usize::from(is_one_of_them) > 1);
                if has_room && leaves_stand_ins {
                    if let Some(standing) = &mut of_kind {
                        **standing -= usize::from(is_one_of_them);
                    }
                    holders.insert(*machine);
                    chosen.push(*machine);
                    left -= 1;
                }
            }
        }
        chosen
    }
}

/// Whether it says more than that a machine is there, what it is called and where it hears its hub: more than a hub
/// has signed alone. Counted over all machines, so it compares fields and makes nothing.
fn is_described(assignment: &Assignment) -> bool {
    let Assignment {
        organisation: _,
        machine: _,
        revision: _,
        name: _,
        hub: _,
        tier,
        kind,
        group,
        lifelines,
        names,
        protected,
        watched,
    } = assignment;
    tier.is_some()
        || kind.is_some()
        || group.is_some()
        || !lifelines.is_empty()
        || !names.is_empty()
        || *protected != Protected::default()
        || !watched.is_empty()
}

fn check_people(
    policy: &Policy,
    known: &Known,
    instruction: &Instruction,
    people: &[Approver],
    now: UtcNanos,
) -> Result<(), Refusal> {
    let tier = known.assignment.effective_tier();
    let needs = match instruction {
        Instruction::Begin { action, lease, .. } => {
            lease::check_terms(lease)?;
            action.check()?;
            decision::needs_to_do(policy, action, tier)
        }
        Instruction::Renew { measure, lease } => {
            lease::check_terms(lease)?;
            if !known.measures.contains(measure) && !known.acts.contains(measure) {
                return Err(Refusal::UnknownMeasure);
            }
            policy.approval.needs(Needs::to_contain(tier), tier)
        }
        // Opening is for anybody who may order, at any hour.
        Instruction::Undo { .. } | Instruction::Release => Needs::OnePerson,
    };
    if people.len() > MOST_PEOPLE || !approval::is_enough(needs, people) {
        return Err(Refusal::NotEnoughPeople { needs });
    }
    // Who the two are is the hub's word alone, and the hub is what a thief would have stolen (law 11).
    if needs == Needs::TwoKeysOneClinical {
        return Err(Refusal::NeedsStrongIdentity { needs });
    }
    if instruction.closes()
        && let Some(night) = policy.approval.night_of(tier, now)
    {
        let is_named = |person: &&Approver| night.people.contains(&person.name);
        let named: Vec<Approver> = people.iter().filter(is_named).cloned().collect();
        if !approval::is_enough(needs, &named) {
            return Err(Refusal::Night { people: night.people.clone(), needs });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
