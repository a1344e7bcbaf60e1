//! What production's helper does around its mind, on a simulated disk and kernel.

use std::time::Duration;

use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::laws::Violation;
use cordon_model::measure::{Origin, Proof, Receipt};
use cordon_model::order::{Authority, Instruction, Order, Permit};
use cordon_model::signed::{Verified, seal};
use cordon_model::time::UtcNanos;
use cordon_respond::clock::Moment;
use cordon_respond::helper_core::{Effect, HelperCore, NotObeyed, Outcome, Revisions};
use cordon_respond::hub_core::Arrived;

use crate::besides;
use crate::machine::InKernel;
use crate::observer::Newest;
use crate::scenario::Sabotage;
use crate::world::{Event, World};

impl World<'_> {
    /// The time as the helper of a machine reads it.
    pub(crate) fn moment(&self, machine: usize) -> Moment {
        self.machines[machine].clock.read(self.now)
    }

    /// Writes the helper's state down, with certainty, and beside it what must outlive it.
    pub(crate) fn keep_helper(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.helper_disk.clone_from(&machine.helper);
        if let Some(floor) = machine.helper.as_ref().map(HelperCore::floor)
            && !machine.floor.holds_back_the_same_as(&floor)
        {
            machine.floor = floor;
        }
    }

    /// Takes note of what was shown to the helper, which counts the time by it. Without the control it knows
    /// no time below which no clock is believed, or believes the highest that its clock ever said.
    pub(crate) fn shows_time(&mut self, index: usize, issued_at: UtcNanos) {
        let (wall, now) = (self.moment(index).utc, self.now);
        self.observer.saw(index, issued_at, wall, now);
        if self.sabotaged(Sabotage::NoTimeFloor) {
            self.forget(index, |state| {
                state["time_floor"] = i64::MIN.into();
                state["lacks_time_off"] = false.into();
            });
        }
        if self.sabotaged(Sabotage::BelievesItsClock) {
            self.forget(index, |state| {
                let floor = state["time_floor"].as_i64().unwrap_or(0);
                state["time_floor"] = floor.max(wall.unix_nanos()).into();
            });
        }
    }

    /// Carries out what the helper said, once its state is on disk.
    pub(crate) fn carry_out(
        &mut self,
        index: usize,
        effects: Vec<Effect>,
    ) -> Result<(), Violation> {
        self.keep_helper(index);
        self.judge_the_ends(index, &effects)?;
        // To look again is to do nothing.
        let is_doing = |effect: &Effect| !matches!(effect, Effect::LookAgain { .. });
        if effects.iter().any(is_doing) && self.mishap(40) {
            self.tally.count("helper crashes before acting");
            self.helper_dies(index);
            return Ok(());
        }
        for effect in effects {
            self.carry_out_one(index, &effect)?;
            if self.machines[index].helper.is_none() {
                return Ok(());
            }
        }
        self.pass_receipts_on(index);
        if let Some(helper) = &self.machines[index].helper {
            let wake = helper.next_wake(&self.moment(index));
            self.plan_wake(index, wake);
        }
        Ok(())
    }

    /// The helper wakes up by then, if not sooner.
    pub(crate) fn plan_wake(&mut self, index: usize, within: Duration) {
        let (now, when) = (self.now, self.now + within);
        let machine = &mut self.machines[index];
        if machine.wakes_at <= now || when < machine.wakes_at {
            machine.wakes_at = when;
            let life = machine.helper_life;
            self.at(when, Event::HelperWake { machine: index, life });
        }
    }

    fn carry_out_one(&mut self, index: usize, effect: &Effect) -> Result<(), Violation> {
        let measure = match effect {
            Effect::Enforce { measure, .. } | Effect::Restore { measure } => *measure,
            Effect::Apply { .. } | Effect::LookAgain { .. } | Effect::TakeBack { .. } => {
                return self.act_besides(index, effect);
            }
            Effect::Warn { measure, ends } => {
                let helper = self.machines[index].helper.as_ref();
                let is_besides = helper.is_some_and(|it| it.acting.contains_key(measure));
                if self.sabotaged(Sabotage::NeverWarns)
                    || is_besides && self.sabotaged(Sabotage::NeverWarnsBesides)
                {
                    return Ok(());
                }
                let left = ends.since(self.moment(index).at);
                self.observer.warned(index, *measure, left);
                self.tally.count("warnings before a lease ends");
                return Ok(());
            }
        };
        self.trace(|| format!("m{index}: {effect:?}"));
        let outcome = if self.mishap(30) {
            self.tally.count("refusals by a kernel");
            self.observer.allow(index, Duration::from_secs(2));
            Outcome::Failed { why: "the kernel said no".into() }
        } else {
            self.change_the_kernel(index, effect)?;
            Outcome::Done { proof: Some(self.look(index, effect)), sockets_cut: 0 }
        };
        if self.mishap(40) {
            self.tally.count("helper crashes after acting");
            self.helper_dies(index);
            return Ok(());
        }
        let now = self.moment(index);
        let machine = &mut self.machines[index];
        let Some(helper) = &mut machine.helper else { return Ok(()) };
        let known = helper.unreported.len();
        helper.enforced(measure, outcome, &now);
        let claims: Vec<Receipt> = helper.unreported.iter().skip(known).cloned().collect();
        for receipt in &claims {
            self.observer.claimed(&self.machines[index], receipt)?;
        }
        self.keep_helper(index);
        Ok(())
    }

    /// Law 2, of the leases that ended just now: people were told before.
    fn judge_the_ends(&mut self, index: usize, effects: &[Effect]) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Enforce { measure, .. } => {
                    let helper = self.machines[index].helper.as_ref();
                    let origin = helper.map(|helper| origin_of(helper, *measure));
                    if let Some(Origin::LeaseEnd(of)) = origin {
                        self.observer.steps_down(index, of, self.now)?;
                    }
                }
                Effect::TakeBack { measure } => {
                    self.observer.is_taken_back(index, *measure, self.now)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn change_the_kernel(&mut self, index: usize, effect: &Effect) -> Result<(), Violation> {
        let drops_lifelines = self.sabotaged(Sabotage::CutsLifelines);
        let does_nothing = self.sabotaged(Sabotage::FalseProof);
        let machine = &mut self.machines[index];
        let Some(helper) = &machine.helper else { return Ok(()) };
        if does_nothing {
            return Ok(());
        }
        match effect {
            Effect::Enforce { measure, isolation } => {
                let lifelines = helper.assignment.iter().flat_map(|a| &a.lifelines);
                let kept = lifelines.filter(|_| !drops_lifelines).map(|flow| flow.name.clone());
                let kept = kept.collect();
                machine.kernel = Some(InKernel { measure: *measure, isolation: *isolation, kept });
                let origin = origin_of(helper, *measure);
                self.tally.count("isolations put in force");
                self.observer.cut(index, &self.machines, origin, self.now)
            }
            Effect::Restore { .. } => {
                machine.kernel = None;
                self.tally.count("releases");
                self.notes.released(self.now);
                self.observer.opened(index, &self.machines[index])
            }
            _ => Ok(()),
        }
    }

    /// Reads back what the kernel has.
    fn look(&self, index: usize, effect: &Effect) -> Proof {
        let kernel = self.machines[index].kernel.as_ref();
        let is_read_back = match effect {
            Effect::Enforce { measure, isolation } => kernel.is_some_and(|in_kernel| {
                in_kernel.measure == *measure && in_kernel.isolation == *isolation
            }),
            Effect::Restore { .. } => kernel.is_none(),
            _ => true,
        };
        Proof {
            table_handle: kernel.map(|_| 1),
            is_read_back: is_read_back || self.sabotaged(Sabotage::FalseProof),
            probes: Vec::new(),
            unproven: Vec::new(),
            at: self.moment(index).at,
        }
    }

    /// Gives the helper's receipts to the agent, which has them on its disk before they are let go.
    pub(crate) fn pass_receipts_on(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let (Some(helper), Some(agent)) = (&mut machine.helper, &mut machine.agent) else { return };
        agent.isolated(helper.isolation());
        let receipts: Vec<Receipt> = helper.unreported.iter().cloned().collect();
        if receipts.is_empty() {
            return;
        }
        for receipt in &receipts {
            machine.sealed.push(receipt.clone());
            machine.spool.push(Arrived::Receipt(receipt.clone()));
        }
        machine.spool_synced = machine.spool.next_number();
        helper.reported(receipts.len());
        machine.helper_disk = Some(helper.clone());
        self.send_reports(index);
    }

    pub(crate) fn helper_wakes(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        let machine = &self.machines[index];
        let is_overtaken = machine.helper_life != life || machine.wakes_at != self.now;
        if is_overtaken || machine.helper.is_none() {
            return Ok(());
        }
        let now = self.moment(index);
        let mut effects = Vec::new();
        if self.sabotaged(Sabotage::NoLeaseBesides) {
            self.begin_leases_anew(index, &now);
        }
        if !self.sabotaged(Sabotage::NoLeaseTimer) {
            let dice = &mut self.random;
            if let Some(helper) = &mut self.machines[index].helper {
                let known = helper.unreported.len();
                effects = helper.tick(&now, &mut || dice.bytes());
                self.judge_claims_besides(index, known)?;
            }
        }
        self.carry_out(index, effects)?;
        self.settle(index)
    }

    /// Judges what is in force, once nothing is under way.
    pub(crate) fn settle(&mut self, index: usize) -> Result<(), Violation> {
        let machine = &self.machines[index];
        let Some(helper) = &machine.helper else { return Ok(()) };
        if machine.is_on {
            self.observer.settled_besides(index, machine, self.now)?;
        }
        let is_unsettled = helper.next.is_some()
            || helper.current.as_ref().is_some_and(|held| held.state.is_unproven());
        if is_unsettled || !machine.is_on {
            return Ok(());
        }
        self.observer.settled(index, machine, self.now)
    }

    pub(crate) fn helper_dies(&mut self, index: usize) {
        if self.machines[index].helper.take().is_none() {
            return;
        }
        self.tally.count("helper crashes");
        self.observer.helper_at_work(index, false, self.now);
        self.trace(|| format!("m{index}: the helper dies"));
        let back = self.random.millis(50, 3_000);
        self.observer.allow(index, back);
        let life = self.machines[index].life;
        self.after(back, Event::HelperStart { machine: index, life });
    }

    pub(crate) fn helper_starts(&mut self, index: usize, life: u64) -> Result<(), Violation> {
        if self.machines[index].life != life || self.machines[index].helper.is_some() {
            return Ok(());
        }
        let now = self.moment(index);
        let forgets = self.sabotaged(Sabotage::ForgetsMeasures);
        let forgets_others = self.sabotaged(Sabotage::ForgetsActs);
        let machine = &mut self.machines[index];
        machine.helper_life += 1;
        machine.wakes_at = Duration::ZERO;
        let Some(mut helper) = machine.helper_disk.clone() else { return Ok(()) };
        helper.meet(&machine.floor);
        if forgets {
            helper.current = None;
            helper.next = None;
        }
        if forgets_others {
            helper.acting.clear();
        }
        let effects = helper.restart(&now);
        machine.helper = Some(helper);
        self.observer.helper_at_work(index, true, self.now);
        // Its agent tells it of a newer assignment, should it have died before that was on disk.
        let assignment = self.machines[index].documents.assignment.clone();
        self.trace(|| format!("m{index}: the helper is back"));
        self.carry_out(index, effects)?;
        if let Some(assignment) = assignment {
            self.helper_assigned(index, &assignment)?;
        }
        self.give_codes(index)?;
        self.settle(index)?;
        self.plan_wake(index, Duration::from_millis(20));
        Ok(())
    }

    /// The kernel told the helper that its table was touched.
    fn helper_looks(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.moment(index);
        let kernel = self.machines[index].kernel.clone();
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let Some(current) = helper.current.clone() else { return Ok(()) };
        let is_there = kernel.is_some_and(|in_kernel| in_kernel.measure == current.measure);
        if is_there {
            return Ok(());
        }
        let proof = Proof {
            table_handle: None,
            is_read_back: false,
            probes: Vec::new(),
            unproven: Vec::new(),
            at: now.at,
        };
        helper.looked(current.measure, proof, &now);
        let effects = helper.restart(&now);
        self.carry_out(index, effects)
    }

    pub(crate) fn wipe_the_kernel(&mut self, index: usize) -> Result<(), Violation> {
        let machine = &mut self.machines[index];
        if !machine.is_on || machine.kernel.take().is_none() {
            return Ok(());
        }
        self.tally.count("rulesets wiped by somebody");
        // As the kernel's notification would: at once, before anything else is judged.
        self.helper_looks(index)
    }

    /// An administrator, or a disk that rots, takes the table and all that the helper knows, but for what is
    /// written beside it: whom it obeys, and above which sequence.
    pub(crate) fn lose_memory_and_table(&mut self, index: usize) {
        if !self.machines[index].is_on {
            return;
        }
        self.tally.count("helper memories and tables lost at once");
        self.trace(|| format!("m{index}: the helper's memory and its table are lost"));
        self.helper_dies(index);
        let now = self.moment(index);
        let organisation = self.hub.policy.organisation.clone();
        let forgotten = self.options.sabotage;
        let machine = &mut self.machines[index];
        machine.kernel = None;
        machine.acts.clear();
        machine.helper_disk = Some(HelperCore::new(organisation, machine.id, &now));
        match forgotten {
            Some(Sabotage::LosesTheFloor) => machine.floor.sequence = 0,
            Some(Sabotage::ForgetsUsedPermits) => machine.floor.marks.used_permits.clear(),
            Some(Sabotage::ForgetsUsedCodes) => machine.floor.marks.used_codes.clear(),
            Some(Sabotage::ForgetsRevisions) => {
                machine.floor.marks.revisions = Revisions::default();
            }
            _ => {}
        }
        let time = machine.floor.marks.time;
        self.observer.lost(index, time, self.now);
    }

    pub(crate) fn helper_assigned(
        &mut self,
        index: usize,
        assignment: &Verified<Assignment>,
    ) -> Result<(), Violation> {
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let Ok(effects) = helper.assign(assignment) else { return Ok(()) };
        let (id, revision) = (self.machines[index].id, assignment.revision);
        self.observer.took_document(index, id, Newest::Assignment, revision)?;
        let names = assignment.lifelines.iter().map(|flow| flow.name.clone()).collect();
        let needed = assignment.protected.executables.clone();
        self.observer.assigned(index, names, needed, self.now);
        self.carry_out(index, effects)
    }

    /// The agent hands an order to the helper. `None`: the helper is away, so nobody has it.
    pub(crate) fn helper_ordered(
        &mut self,
        index: usize,
        order: &Verified<Order>,
    ) -> Result<Option<Result<(), NotObeyed>>, Violation> {
        if self.sabotaged(Sabotage::NoSequence) {
            self.forget_sequence(index);
        }
        if self.sabotaged(Sabotage::RefusesAgain) {
            self.forget(index, |state| state["taken"] = serde_json::json!([]));
        }
        if self.sabotaged(Sabotage::NoOwnBrake) {
            self.forget_spending(index);
        }
        self.forget_hold_off(index);
        let now = self.moment(index);
        let forgets_tier = if besides::begins(&order.instruction) {
            self.sabotaged(Sabotage::StopsOnClinical)
        } else {
            self.sabotaged(Sabotage::IsolatesClinical)
                && matches!(order.authority, Authority::Policy { .. })
        };
        let stripped = self.without_condition(order);
        if self.machines[index].helper.is_none() {
            return Ok(None);
        }
        self.shows_time(index, order.issued_at);
        let Some(helper) = &mut self.machines[index].helper else { return Ok(None) };
        let sequence = helper.last_sequence;
        let before = helper.isolation();
        let told = helper.assignment.clone().filter(|_| forgets_tier);
        if let Some(assignment) = helper.assignment.as_mut().filter(|_| forgets_tier) {
            assignment.tier = Some(ClinicalTier::None);
        }
        let obeyed = helper.order(stripped.as_ref().unwrap_or(order), &now);
        helper.assignment = told.or(helper.assignment.take());
        let effects = match obeyed {
            Ok(effects) => effects,
            Err(error) => {
                if matches!(error, NotObeyed::NeedsPeople(_)) {
                    self.tally.count("orders of the policy refused on a clinical machine");
                }
                self.keep_helper(index);
                self.observer.refused(index, self.machines[index].id, order)?;
                return Ok(Some(Err(error)));
            }
        };
        let is_news = !effects.is_empty() || helper.last_sequence != sequence;
        if is_news {
            self.tally.count("orders taken");
            self.trace(|| format!("m{index} takes order {} ({})", order.sequence, order.id));
            let at = self.observer.time(index, now.utc, self.now);
            let machine = &self.machines[index];
            self.observer.took_order(index, machine, order, before, at, self.now)?;
        }
        self.carry_out(index, effects)?;
        Ok(Some(Ok(())))
    }

    /// The order as a helper without the control reads it.
    fn without_condition(&self, order: &Verified<Order>) -> Option<Verified<Order>> {
        let Instruction::Begin { action, lease, if_isolated: Some(_) } = &order.instruction else {
            return None;
        };
        let instruction = Instruction::begin(action.clone(), *lease);
        let stripped = Order { instruction, ..(**order).clone() };
        let sealed = self.sabotaged(Sabotage::NoCondition).then(|| seal(&stripped, &self.key).ok());
        sealed.flatten()?.open(&self.pinned).ok()
    }

    fn forget_sequence(&mut self, index: usize) {
        self.forget(index, |state| {
            state["last_sequence"] = 0.into();
            state["taken"] = serde_json::json!([]);
        });
    }

    fn forget_spending(&mut self, index: usize) {
        self.forget(index, |state| state["acts_spending"]["spent"] = serde_json::json!([]));
    }

    /// Changes what the helper remembers, as no code of it ever does.
    fn forget(&mut self, index: usize, change: impl FnOnce(&mut serde_json::Value)) {
        let Some(helper) = &mut self.machines[index].helper else { return };
        let Ok(mut state) = serde_json::to_value(&*helper) else { return };
        change(&mut state);
        if let Ok(forgetful) = serde_json::from_value::<HelperCore>(state) {
            *helper = forgetful;
        }
    }

    /// The agent shows its helper a permit that it keeps.
    pub(crate) fn helper_sees_permit(&mut self, index: usize, permit: &Verified<Permit>) {
        if self.machines[index].helper.is_none() {
            return;
        }
        self.shows_time(index, permit.issued_at);
        let now = self.moment(index);
        if let Some(helper) = &mut self.machines[index].helper {
            helper.saw(permit, &now);
        }
        self.keep_helper(index);
    }

    pub(crate) fn use_permit(
        &mut self,
        index: usize,
        permit: &Verified<Permit>,
        finding: FindingId,
        level: Level,
    ) -> Result<bool, Violation> {
        let now = self.moment(index);
        self.forget_hold_off(index);
        if self.machines[index].helper.is_none() {
            return Ok(false);
        }
        self.shows_time(index, permit.issued_at);
        let Some(helper) = &mut self.machines[index].helper else { return Ok(false) };
        let Ok(effects) = helper.use_permit(permit, finding, level, &now) else {
            return Ok(false);
        };
        self.tally.count("permits used with no hub in reach");
        self.trace(|| format!("m{index} uses its permit"));
        let at = self.observer.time(index, now.utc, self.now);
        self.observer.took_permit(index, &self.machines[index], permit, level, at, self.now)?;
        self.carry_out(index, effects)?;
        Ok(true)
    }
}

fn origin_of(helper: &HelperCore, measure: cordon_model::ids::MeasureId) -> Origin {
    use cordon_respond::helper_core::Next;
    let next = match &helper.next {
        Some(Next::Hold(next)) => Some(next),
        Some(Next::Free) | None => None,
    };
    let held = next.into_iter().chain(helper.current.as_ref()).find(|held| held.measure == measure);
    held.map_or(Origin::LeaseEnd(measure), |held| held.origin)
}
