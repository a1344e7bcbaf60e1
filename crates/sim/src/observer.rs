//! Whoever watches from outside: sees kernels, disks and wires, and judges them by the laws.
//!
//! It keeps its own account of what was signed and taken, and never asks the minds that it judges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cordon_model::action::{Action, FilePath};
use cordon_model::asset::ClinicalTier;
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::laws::{self, Begun, Grounds, OpenedByCode, Violation};
use cordon_model::measure::{Isolation, Origin, Receipt};
use cordon_model::order::{Approver, Authority, Instruction, Order, Permit};
use cordon_model::policy::{Budget, Mode, Policy};
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use cordon_respond::helper_core::REMEMBERED_ORDERS;
use cordon_respond::lease::CHECKPOINT;
use cordon_respond::order::MeasureLife;
use cordon_respond::permits;
use cordon_respond::signer_core::{Basis, TOLD_WITHIN};

use crate::machine::Machine;

mod besides;
mod time;
mod warned;
use besides::Act;
use time::Known;
use warned::Telling;

/// What is signed for people, either way, where there are fewer than 1,200 machines. Said here once more: what
/// judges the brake does not ask the brake.
const PEOPLE: Budget = Budget { count: 60, window_seconds: 600, group_percent: 100 };

/// Names are the hub's word; once it is stolen nobody stands behind them, and the signer takes them for no two
/// people. For one person it does, within the brake, until people have keys of their own.
fn believed(is_stolen: bool, tier: ClinicalTier, people: &[Approver]) -> &[Approver] {
    if is_stolen && tier == ClinicalTier::LifeSustaining { &[] } else { people }
}

/// Whether it can do nothing but open: where the condition of an isolation is further than itself, it does.
fn only_opens(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Release | Instruction::Undo { .. } => true,
        Instruction::Begin { action: Action::Isolate(isolation), if_isolated, .. } => {
            if_isolated.is_some_and(|least| least > *isolation)
        }
        Instruction::Begin { .. } | Instruction::Renew { .. } => false,
    }
}

/// What a measure may rest on, as the observer saw it taken.
#[derive(Debug, Clone)]
struct Taken {
    people: Vec<Approver>,
    is_by_policy_order: bool,
    is_by_permit: bool,
    granted: Duration,
    /// How long what follows at its end may be in force.
    step_down: Duration,
    /// How long before its end people are told.
    warn: Duration,
    /// How long the machine had been awake when the lease began.
    since_awake: Duration,
}

/// Documents of which a newer one takes the older one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Newest {
    Assignment,
    Codes,
}

#[derive(Debug, Default)]
struct Watched {
    tier: Option<ClinicalTier>,
    kind: Option<String>,
    group: String,
    sequence: u64,
    taken: BTreeMap<MeasureId, Taken>,
    /// The orders that it took last, of those that it must remember.
    lately: VecDeque<OrderId>,
    is_to_be_cut: bool,
    is_release_ordered: bool,
    /// The newest revision of each document that it ever took.
    newest: BTreeMap<Newest, u64>,
    /// Measures that codes began: as long as one of them is in force only people isolate the machine.
    by_code: BTreeSet<MeasureId>,
    /// Names of the flows that its newest assignment declares.
    declared: Vec<String>,
    /// Programs that it declares as needed for care.
    needed: Vec<FilePath>,
    /// Measures besides the isolation, as they were taken.
    acts: BTreeMap<MeasureId, Act>,
    /// When it took, by the policy, what stops something besides the isolation.
    stopped: Vec<Duration>,
    /// What its helper must know of the time.
    known: Known,
    awake: Duration,
    awake_since: Option<Duration>,
    /// Who was told of which lease's end, and when anybody could have been.
    telling: Telling,
    /// What crashes and refusals allow a lease to overrun.
    slack: Duration,
}

#[derive(Debug)]
pub(crate) struct Observer {
    organisation: OdsCode,
    policy: Policy,
    machines: Vec<Watched>,
    orders: BTreeMap<(MachineId, MeasureId), Verified<Order>>,
    permits: BTreeMap<MeasureId, Verified<Permit>>,
    /// Every set of break-glass codes, and which of them were used.
    codes: Vec<(Verified<BreakGlass>, BTreeSet<u8>)>,
    automatic: Vec<Duration>,
    /// Orders in people's names: what closes, and what only opens.
    by_people: [Vec<Duration>; 2],
    /// How much may have begun with nobody asked, by the policy's orders and by permits: to take that back is behind no
    /// brake, each once.
    by_itself: u32,
    decided: BTreeMap<(MachineId, OrderId), Duration>,
    /// Since when the hub is a thief's.
    stolen: Option<Duration>,
    /// When the signer first heard of each question about a machine that no order has come of yet.
    asked: BTreeMap<(MachineId, ApprovalId), Duration>,
}

impl Observer {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            organisation: policy.organisation.clone(),
            policy,
            machines: Vec::new(),
            orders: BTreeMap::new(),
            permits: BTreeMap::new(),
            codes: Vec::new(),
            automatic: Vec::new(),
            by_people: [Vec::new(), Vec::new()],
            by_itself: 0,
            decided: BTreeMap::new(),
            stolen: None,
            asked: BTreeMap::new(),
        }
    }

    /// The signer is told that people are asked.
    pub(crate) fn asked(&mut self, machine: MachineId, approval: ApprovalId, now: Duration) {
        self.asked.entry((machine, approval)).or_insert(now);
    }

    /// The signer made up its mind and wrote that down; it may die before it says so.
    pub(crate) fn decided(&mut self, machine: MachineId, order: OrderId, now: Duration) {
        self.decided.entry((machine, order)).or_insert(now);
    }

    pub(crate) fn add(&mut self, tier: Option<ClinicalTier>, kind: Option<String>, group: String) {
        self.machines.push(Watched {
            tier,
            kind,
            group,
            awake_since: Some(Duration::ZERO),
            ..Watched::default()
        });
    }

    /// The signer signed it, on this basis, for machine `index`.
    pub(crate) fn signed(
        &mut self,
        index: usize,
        basis: &Basis,
        order: &Verified<Order>,
        now: Duration,
    ) -> Result<(), Violation> {
        let key = (order.machine, order.id.into());
        if let Some(before) = self.orders.insert(key, order.clone()) {
            let is_the_same = before.envelope() == order.envelope();
            return laws::once(order.machine, "a proposal", is_the_same);
        }
        // The budget was spent when it was decided, however late the order is told.
        let decided = self.decided.remove(&(order.machine, order.id)).unwrap_or(now);
        if let Authority::Policy { .. } = order.authority {
            if let Instruction::Begin { action, .. } = &order.instruction
                && action.isolation().is_none()
            {
                let tier = self.machines[index].tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
                laws::stopped(order.machine, tier, action, &[], &[])?;
            }
            if self.policy.mode != Mode::Act {
                let question = match basis {
                    Basis::Unanswered { approval, .. } => {
                        self.asked.remove(&(order.machine, *approval))
                    }
                    Basis::Policy { .. } | Basis::People { .. } => None,
                };
                let known_for = question.map(|asked| decided.saturating_sub(asked));
                laws::unanswered(&self.policy, order, known_for, TOLD_WITHIN)?;
            }
            self.by_itself += 1;
            self.automatic.push(decided);
            self.automatic.sort_unstable();
            return laws::budget(&self.policy.budget, &self.automatic);
        }
        let only_opens = only_opens(&order.instruction);
        let of_kind = &mut self.by_people[usize::from(only_opens)];
        of_kind.push(decided);
        of_kind.sort_unstable();
        let besides = if only_opens { self.by_itself } else { 0 };
        laws::by_people(&Budget { count: PEOPLE.count + besides, ..PEOPLE }, of_kind)?;
        let tier = self.machines[index].tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        laws::agreed(&self.policy, tier, order)
    }

    pub(crate) fn permitted(&mut self, permit: &Verified<Permit>) {
        if self.permits.insert(permit.id.into(), permit.clone()).is_none() {
            self.by_itself += 1;
        }
    }

    pub(crate) fn coded(&mut self, document: &Verified<BreakGlass>) {
        if self.codes.iter().all(|(known, _)| known.envelope() != document.envelope()) {
            self.codes.push((document.clone(), BTreeSet::new()));
        }
    }

    /// Somebody typed the code with this hash, and the machine opens by it.
    pub(crate) fn opened_by_code(
        &mut self,
        index: usize,
        machine: &Machine,
        hash: &[u8; 32],
        measure: MeasureId,
        at: UtcNanos,
        now: Duration,
    ) -> Result<(), Violation> {
        let known = self.codes.iter_mut().find_map(|(document, used)| {
            let code = document.number_of(hash)?;
            Some((&*document, code, used))
        });
        let nothing = BTreeSet::new();
        let (document, code, used) = match &known {
            Some((document, code, used)) => (Some(*document), *code, &**used),
            None => (None, 0, &nothing),
        };
        let (machine, organisation) = (machine.id, &self.organisation);
        let opened = OpenedByCode { machine, organisation, document, code, used, at };
        laws::opened_by_code(&opened)?;
        let granted = document.map_or(0, |document| document.hold_off_seconds);
        if let Some((_, code, used)) = known {
            used.insert(code);
        }
        let since_awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        watched.is_release_ordered = true;
        watched.by_code.insert(measure);
        // Peers that can't be spoken to keep a machine from its work as much.
        watched.let_go_where(since_awake, |act| matches!(act.action, Action::Block(_)));
        let taken = Taken {
            people: Vec::new(),
            is_by_policy_order: false,
            is_by_permit: false,
            granted: Duration::from_secs(granted.into()),
            step_down: Duration::from_secs(self.policy.lease.step_down_seconds.into()),
            // Its end cuts nothing, and closes nothing.
            warn: Duration::ZERO,
            since_awake,
        };
        watched.taken.insert(measure, taken);
        Ok(())
    }

    /// From now on the hub is a thief's.
    pub(crate) fn stolen(&mut self, now: Duration) {
        self.stolen = Some(now);
    }

    /// How many machines may have segmented themselves by now. A stolen hub passes places on once a permit
    /// has ended, so that each such time may see as many more: a limit that the guide names.
    fn permits_by(&self, now: Duration) -> u32 {
        let stolen = self.stolen.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let generation = Duration::from_secs(self.policy.permit_seconds.into()) + permits::SETTLE;
        let passed_on = u32::try_from(stolen.as_secs() / generation.as_secs().max(1));
        self.policy.permits.saturating_mul(passed_on.unwrap_or(u32::MAX).saturating_add(1))
    }

    fn is_held_open(&self, index: usize, machine: &Machine, now: Duration) -> bool {
        let watched = &self.machines[index];
        let in_kernel = machine.kernel.as_ref().map(|in_kernel| in_kernel.measure);
        let held = in_kernel.filter(|measure| watched.by_code.contains(measure));
        held.and_then(|measure| watched.taken.get(&measure)).is_some_and(|taken| {
            // At its end it is taken back, which may need a second try.
            let ran = self.awake(index, now).saturating_sub(taken.since_awake);
            ran + Duration::from_secs(1) < taken.granted
        })
    }

    pub(crate) fn is_signed(&self, machine: MachineId, order: OrderId) -> bool {
        self.orders.contains_key(&(machine, order.into()))
    }

    pub(crate) fn assigned(
        &mut self,
        index: usize,
        names: Vec<String>,
        needed: Vec<FilePath>,
        now: Duration,
    ) {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        watched.declared = names;
        watched.needed = needed;
        watched.look_what_care_needs(awake);
    }

    /// A helper took a document, or had it already.
    pub(crate) fn took_document(
        &mut self,
        index: usize,
        machine: MachineId,
        what: Newest,
        revision: u64,
    ) -> Result<(), Violation> {
        let newest = self.machines[index].newest.entry(what).or_default();
        let before = *newest;
        *newest = before.max(revision);
        laws::newest(machine, revision, before)
    }

    pub(crate) fn allow(&mut self, index: usize, slack: Duration) {
        self.machines[index].slack += slack;
    }

    /// Somebody took the rules and all that the helper knew: from here on it is as if it had never been cut,
    /// and its hub has to find that out.
    pub(crate) fn lost(&mut self, index: usize, floor: Option<UtcNanos>, now: Duration) {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        watched.known.lost(floor, awake);
        watched.is_to_be_cut = false;
        watched.lately.clear();
        watched.acts.clear();
        watched.stopped.clear();
    }

    /// What a hub shows of a machine that it hears, when nothing is on its way.
    pub(crate) fn shown(&self, machine: &Machine, life: &MeasureLife) -> Result<(), Violation> {
        let in_kernel = match life.action.isolation() {
            Some(_) => machine.kernel.as_ref().map(|in_kernel| in_kernel.measure),
            None => machine.acts.contains_key(&life.measure).then_some(life.measure),
        };
        laws::shown(machine.id, life.measure, &life.state, in_kernel)
    }

    /// A helper took an order; `before`: how far its machine was meant to be isolated then.
    pub(crate) fn took_order(
        &mut self,
        index: usize,
        machine: &Machine,
        order: &Order,
        before: Option<Isolation>,
        at: UtcNanos,
        now: Duration,
    ) -> Result<(), Violation> {
        laws::still_isolated(order, before)?;
        let genuine = self.orders.get(&(machine.id, order.id.into())).cloned();
        let awake = self.awake(index, now);
        if let (Instruction::Begin { .. }, Authority::Policy { .. }) =
            (&order.instruction, &order.authority)
        {
            laws::held_open(machine.id, self.is_held_open(index, machine, now))?;
        }
        let watched = &mut self.machines[index];
        let sequence_before = watched.sequence;
        watched.sequence = watched.sequence.max(order.sequence);
        watched.lately.push_back(order.id);
        if watched.lately.len() > REMEMBERED_ORDERS {
            watched.lately.pop_front();
        }
        let people = match &order.authority {
            Authority::Policy { .. } => Vec::new(),
            Authority::People { people, .. } => people.clone(),
        };
        let ends_the_watch = match &order.instruction {
            Instruction::Begin { action, .. } => action.isolation().is_some(),
            Instruction::Undo { measure } => watched.by_code.contains(measure),
            Instruction::Release => true,
            Instruction::Renew { .. } => false,
        };
        if ends_the_watch && !people.is_empty() {
            watched.by_code.clear();
        }
        if let Instruction::Begin { action, .. } = &order.instruction {
            let grounds = genuine
                .as_ref()
                .map_or(Grounds::Nothing, |order| Grounds::Order(order, sequence_before));
            let organisation = &self.organisation;
            laws::authority(&Begun { machine: machine.id, organisation, action, grounds, at })?;
        }
        match &order.instruction {
            Instruction::Begin { action: Action::Isolate(_), lease, .. } => {
                watched.is_release_ordered = false;
                let taken = Taken {
                    is_by_policy_order: people.is_empty(),
                    is_by_permit: false,
                    people,
                    granted: Duration::from_secs(lease.seconds.into()),
                    step_down: Duration::from_secs(lease.step_down_seconds.into()),
                    warn: Duration::from_secs(lease.warn_seconds.into()),
                    since_awake: awake,
                };
                watched.taken.insert(order.id.into(), taken);
            }
            Instruction::Begin { action, lease, .. } => {
                return self.took_act(index, machine, order, action, lease, now);
            }
            Instruction::Renew { measure, lease } if watched.acts.contains_key(measure) => {
                watched.renewed(*measure, *lease, &people, awake);
            }
            Instruction::Undo { measure } if watched.acts.contains_key(measure) => {
                if genuine.is_some() && order.sequence > sequence_before {
                    watched.let_go_where(awake, |act| act.measure == *measure);
                }
            }
            Instruction::Renew { measure, lease } => {
                if let Some(taken) = watched.taken.get_mut(measure) {
                    taken.granted = Duration::from_secs(lease.seconds.into());
                    taken.step_down = Duration::from_secs(lease.step_down_seconds.into());
                    taken.warn = Duration::from_secs(lease.warn_seconds.into());
                    watched.telling.begins_anew(*measure);
                    taken.since_awake = awake;
                    taken.people.extend(people);
                }
            }
            // Of the isolation that is in force; one of another measure opens nothing.
            Instruction::Undo { measure } if !watched.taken.contains_key(measure) => {}
            Instruction::Release | Instruction::Undo { .. } => {
                watched.is_release_ordered = genuine.is_some() && order.sequence > sequence_before;
            }
        }
        Ok(())
    }

    /// A helper refused an order: not one that it has.
    pub(crate) fn refused(
        &self,
        index: usize,
        machine: MachineId,
        order: &Order,
    ) -> Result<(), Violation> {
        // A thief may have one signed for another machine under the same id.
        let is_its_own = order.machine == machine;
        let has_it = is_its_own && self.machines[index].lately.contains(&order.id);
        laws::once(machine, "an order", !has_it)
    }

    /// A helper took a permit.
    pub(crate) fn took_permit(
        &mut self,
        index: usize,
        machine: &Machine,
        permit: &Permit,
        level: Level,
        at: UtcNanos,
        now: Duration,
    ) -> Result<(), Violation> {
        laws::held_open(machine.id, self.is_held_open(index, machine, now))?;
        let genuine = self.permits.get(&permit.id.into());
        let was_used = self.machines[index].taken.contains_key(&permit.id.into());
        laws::authority(&Begun {
            machine: machine.id,
            organisation: &self.organisation,
            action: &Action::Isolate(Isolation::Segment),
            grounds: genuine.map_or(Grounds::Nothing, |permit| Grounds::Permit {
                permit,
                level,
                was_used,
            }),
            at,
        })?;
        let taken = Taken {
            people: Vec::new(),
            is_by_policy_order: false,
            is_by_permit: true,
            granted: Duration::from_secs(permit.lease.seconds.into()),
            step_down: Duration::from_secs(permit.lease.step_down_seconds.into()),
            warn: Duration::from_secs(permit.lease.warn_seconds.into()),
            since_awake: self.awake(index, now),
        };
        self.machines[index].is_release_ordered = false;
        self.machines[index].taken.insert(permit.id.into(), taken);
        Ok(())
    }

    /// A kernel cuts by a measure now; `origin` is what the helper says began it.
    pub(crate) fn cut(
        &mut self,
        index: usize,
        machines: &[Machine],
        origin: Origin,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let Some(in_kernel) = &machines[index].kernel else { return Ok(()) };
        let (id, isolation) = (machines[index].id, in_kernel.isolation);
        let watched = &mut self.machines[index];
        if !watched.taken.contains_key(&in_kernel.measure) {
            let before = match origin {
                Origin::LeaseEnd(of) => watched.taken.get(&of).cloned(),
                Origin::Order(_) | Origin::Permit { .. } | Origin::BreakGlass { .. } => None,
            };
            let grounds = before.as_ref().map_or(Grounds::Nothing, |_| Grounds::LeaseEnd);
            laws::authority(&Begun {
                machine: id,
                organisation: &self.organisation,
                action: &Action::Isolate(isolation),
                grounds,
                at: UtcNanos::from_unix_nanos(0),
            })?;
            if let Some(before) = before {
                let granted = before.step_down;
                let taken = Taken { granted, since_awake: awake, ..before };
                watched.taken.insert(in_kernel.measure, taken);
            }
        }
        watched.is_to_be_cut = isolation >= Isolation::Segment;
        if isolation < Isolation::Segment {
            return Ok(());
        }
        let tier = watched.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        let Some(taken) = watched.taken.get(&in_kernel.measure).cloned() else { return Ok(()) };
        let people = believed(self.stolen.is_some(), tier, &taken.people);
        laws::lifelines(id, tier, people, &watched.declared, &in_kernel.kept)?;
        if taken.is_by_permit {
            let permits = self.permits_by(now);
            let by_permits = self.cut_machines(machines).filter(|(_, taken)| taken.is_by_permit);
            let by_permits = by_permits.count();
            // What a permit began may go on in a step down with people's renewal; its reach does not grow.
            laws::autonomy(id, tier, isolation, by_permits, permits)?;
        }
        self.judge_kind(index, machines)?;
        self.judge_group(index, machines)
    }

    fn cut_machines<'a>(
        &'a self,
        machines: &'a [Machine],
    ) -> impl Iterator<Item = (&'a Watched, &'a Taken)> {
        self.machines.iter().zip(machines).filter_map(|(watched, machine)| {
            let in_kernel = machine.kernel.as_ref()?;
            let taken = watched.taken.get(&in_kernel.measure)?;
            (in_kernel.isolation >= Isolation::Segment).then_some((watched, taken))
        })
    }

    fn judge_kind(&self, index: usize, machines: &[Machine]) -> Result<(), Violation> {
        let Some(kind) = &self.machines[index].kind else { return Ok(()) };
        let of_kind =
            self.machines.iter().zip(machines).filter(|(w, _)| w.kind.as_ref() == Some(kind));
        let contained: Vec<Option<bool>> = of_kind
            .map(|(watched, machine)| {
                let in_kernel = machine.kernel.as_ref()?;
                let taken = watched.taken.get(&in_kernel.measure)?;
                (in_kernel.isolation >= Isolation::Segment).then_some(!taken.people.is_empty())
            })
            .collect();
        laws::last_of_kind(kind, &contained)
    }

    fn judge_group(&self, index: usize, machines: &[Machine]) -> Result<(), Violation> {
        let group = &self.machines[index].group;
        let size = self.machines.iter().filter(|watched| watched.group == *group).count();
        let automatic = self
            .cut_machines(machines)
            .filter(|(watched, taken)| watched.group == *group && taken.is_by_policy_order);
        laws::group_share(&self.policy.budget, group, size, automatic.count())
    }

    /// A kernel was opened by its helper.
    pub(crate) fn opened(&mut self, index: usize, machine: &Machine) -> Result<(), Violation> {
        let watched = &mut self.machines[index];
        let was_cut = watched.is_to_be_cut;
        laws::never_silently_open(machine.id, was_cut, false, watched.is_release_ordered)?;
        watched.is_to_be_cut = false;
        Ok(())
    }

    /// A helper has done all that it had to do.
    pub(crate) fn settled(
        &mut self,
        index: usize,
        machine: &Machine,
        now: Duration,
    ) -> Result<(), Violation> {
        let awake = self.awake(index, now);
        let watched = &self.machines[index];
        let is_cut = machine.kernel.as_ref().is_some_and(|cut| cut.isolation >= Isolation::Segment);
        let is_release_ordered = watched.is_release_ordered;
        laws::never_silently_open(machine.id, watched.is_to_be_cut, is_cut, is_release_ordered)?;
        let Some(in_kernel) = &machine.kernel else { return Ok(()) };
        let Some(taken) = watched.taken.get(&in_kernel.measure) else { return Ok(()) };
        let ran = awake.saturating_sub(taken.since_awake);
        let slack = Duration::from_secs(2) + watched.slack;
        laws::lease(in_kernel.measure, taken.granted, ran, slack)
    }

    /// A receipt leaves the helper, right after what it says happened.
    pub(crate) fn claimed(&self, machine: &Machine, receipt: &Receipt) -> Result<(), Violation> {
        // What only watches has nothing in a real kernel.
        let in_kernel = machine.kernel.as_ref().filter(|in_kernel| {
            in_kernel.isolation >= Isolation::Segment || in_kernel.measure == receipt.measure
        });
        laws::truth(
            machine.id,
            &receipt.state,
            receipt.action.isolation().unwrap_or(Isolation::Watch),
            in_kernel.map(|in_kernel| in_kernel.isolation),
        )
    }

    pub(crate) fn power(&mut self, index: usize, is_on: bool, now: Duration) {
        let awake = self.awake(index, now);
        let watched = &mut self.machines[index];
        watched.awake = awake;
        watched.awake_since = is_on.then_some(now);
        watched.known.restarted(CHECKPOINT);
        if !is_on {
            // What ran since the last writing is not counted.
            watched.slack += CHECKPOINT + Duration::from_secs(1);
        }
    }

    fn awake(&self, index: usize, now: Duration) -> Duration {
        let watched = &self.machines[index];
        let since = watched.awake_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        watched.awake + since
    }
}
