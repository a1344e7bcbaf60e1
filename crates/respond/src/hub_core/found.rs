//! A finding: where it belongs, what the policy says to it, and so what is proposed to the signer and what people
//! are asked.

use cordon_model::action::{Action, ActionKind};
use cordon_model::limits;
use cordon_model::time::UtcNanos;

use super::asking::Question;
use super::waiting::{is_less, wishes};
use super::*;
use crate::plan;
use crate::signer_core::ID_AHEAD_WITHIN;

const HOUR_NANOS: i64 = 3_600 * 1_000_000_000;

impl HubCore {
    /// A new finding: place it, decide, and propose or ask.
    pub(super) fn found(
        &mut self,
        id: MachineId,
        finding: Finding,
        touched: &[MachineId],
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let received = ReceivedFinding { machine: id, received: now.utc, finding };
        let called = self.machines.get(&id).map_or_else(
            || received.finding.host.clone(),
            |machine| machine.row.assignment.name.clone(),
        );
        let placed = self.grouping.place(&received, &called, touched, randomness);
        if placed.how == How::Double {
            return Vec::new();
        }
        let incident = Some(placed.incident);
        let finding = &received.finding;
        let mut outputs = Vec::new();
        if let Some(story) = self.grouping.story(placed.incident) {
            outputs.push(Output::Keep(Change::Story(story.clone())));
        }
        if placed.is_news_there
            && let Some(seat) = self.grouping.seat(placed.incident, id)
        {
            outputs.push(Output::Keep(Change::Seat(seat.clone())));
        }
        outputs.push(Output::Keep(Change::Finding(received.clone(), placed.incident)));
        let title = finding.rule.title.clone();
        if placed.how == How::Opened {
            let deed = Deed::IncidentOpened;
            outputs.push(self.record(Actor::Hub, deed, Some(id), incident, title.clone(), now));
        }
        let deed = Deed::Found(finding.id);
        outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, title, now));

        let Some(machine) = self.machines.get(&id) else { return outputs };
        if self.struck_off.contains(&id) {
            // Nothing that is decided reaches it.
            return outputs;
        }
        // Budget and stand-ins are the signer's to judge; here they would only be a guess.
        // What is new there is left to nothing that the signer may refuse: a question about that would not name it.
        let contained = if placed.is_news_there { self.secured(id) } else { self.intended(id) };
        let situation = Situation { contained, budget: Ok(()), is_last_of_kind: false };
        let level = finding.rule.level;
        if finding.rule.id == OPENED_BY_CODE {
            // People opened it, and the receipt that came before this tells of it: that they did is no
            // reason to cut it off again.
            return outputs;
        }
        let assignment = &machine.row.assignment;
        let (lease, tier) = (self.policy.lease, assignment.effective_tier());
        let mut decision = decision::decide(&self.policy, assignment, level, &situation);
        let mut also = decision::decide_also(&self.policy, assignment, level, &situation);
        if self.is_held_open(id) {
            decision = decision.of_a_machine_held_open(&self.policy, tier);
            if let Some(also) = &mut also {
                also.why_ask.get_or_insert(AskReason::HeldOpen);
            }
        }
        let mut less = None;
        if machine.loses_the_hub() {
            // People are asked for the rest once the part is signed: `ask_for_the_rest`.
            let (full, contained) = (decision.clone(), situation.contained);
            decision = decision.of_a_machine_out_of_reach(&self.policy, tier, contained);
            less = (decision != full).then_some(match decision {
                Decision::Do { .. } => way::SEGMENTED,
                Decision::Ask { .. } | Decision::Watch { .. } => way::ASKED,
            });
        }
        let boot = machine.boot.clone();
        let (mut by_itself, mut to_ask) = (Vec::new(), None);
        if let Some(also) = also {
            let action = |kind: &ActionKind| plan::action_for(*kind, finding, boot.as_ref());
            let actions: Vec<Action> = also.kinds.iter().filter_map(action).collect();
            match also.why_ask {
                None => by_itself = actions,
                Some(why) if !actions.is_empty() => {
                    let needs = |action| decision::needs_to_do(&self.policy, action, tier);
                    let needs = actions.iter().map(needs).max();
                    let begin = |action| Instruction::begin(action, lease);
                    let instructions: Vec<Instruction> = actions.into_iter().map(begin).collect();
                    to_ask = Some((instructions, needs.unwrap_or(Needs::OnePerson), why));
                }
                Some(_) => {}
            }
        }
        if let Some(less) = less {
            let of = format!("{} ({level})", finding.rule.title);
            outputs.extend(self.lowered(id, less, &of, incident, now));
        }
        // What spreads stands still before its machine is cut off; what takes longer comes after that.
        let is_first = |action: &Action| action.kind() == ActionKind::Freeze;
        let (first, after): (Vec<Action>, Vec<Action>) = by_itself.into_iter().partition(is_first);
        let of_policy = |action: Action| Proposal {
            id: policys_order(id, finding, action.kind(), now.utc),
            machine: id,
            instruction: Instruction::begin(action, lease),
            basis: Basis::Policy { finding: finding.id, level },
            incident,
            reason: format!("{} ({level})", finding.rule.title),
        };
        let question = |instruction, also, needs, why: AskReason| {
            let why = format!("{why}: {} ({level})", finding.rule.title);
            let of = (finding.id, level);
            let question = Question::of_the_policy(id, instruction, needs, why, incident, of);
            Question { also, ..question }
        };
        for action in first {
            outputs.extend(self.propose_this(of_policy(action)));
        }
        match decision {
            Decision::Watch { why, escalates } => {
                // Told once for each machine of a story, and again when the story grows.
                if escalates && (self.tell_of(placed.incident, id) || placed.is_news) {
                    outputs.push(Output::Tell(Notice::NotBlocked {
                        incident: placed.incident,
                        machine: id,
                        why: why.to_string(),
                    }));
                }
            }
            Decision::Do { isolation, lease } => {
                let instruction = Instruction::isolate(isolation, lease);
                let basis = Basis::Policy { finding: finding.id, level };
                let reason = format!("{} ({level})", finding.rule.title);
                let order = policys_order(id, finding, ActionKind::Isolate, now.utc);
                let proposal =
                    Proposal { id: order, machine: id, instruction, basis, incident, reason };
                outputs.extend(self.propose_this(proposal));
            }
            Decision::Ask { isolation, lease, needs, why } => {
                let isolate = Instruction::isolate(isolation, lease);
                if !self.was_declined(id, incident, &isolate, now) {
                    let (also, needs) = match to_ask.take() {
                        Some((also, of_also, _)) => (also, needs.max(of_also)),
                        None => (Vec::new(), needs),
                    };
                    let mut question = question(isolate, also, needs, why);
                    if let Some(over) = self.no_that_is_over(id, incident, &question.instruction) {
                        question.why = format!("{}; asked again: {over}", question.why);
                    }
                    outputs.extend(self.ask(question, now, randomness));
                }
            }
        }
        for action in after {
            outputs.extend(self.propose_this(of_policy(action)));
        }
        // The isolation is in force, or is done without asking: what else there is, is asked by itself.
        if let Some((mut instructions, needs, why)) = to_ask
            && !self.was_declined(id, incident, &instructions[0], now)
        {
            let question = question(instructions.remove(0), instructions, needs, why);
            outputs.extend(self.ask(question, now, randomness));
        }
        outputs
    }

    /// The policy's order to segment a machine is signed. Where the policy would isolate it in full, and only
    /// its way to the hub kept the hub from it, people are asked for the rest: not before, or they would be
    /// asked for that alone where the signer refuses the part.
    pub(super) fn ask_for_the_rest(
        &mut self,
        of: &Proposal,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Basis::Policy { finding, level } = of.basis else { return Vec::new() };
        let Some(machine) = self.machines.get(&of.machine) else { return Vec::new() };
        if of.instruction.isolation() != Some(Isolation::Segment) {
            return Vec::new();
        }
        let assignment = &machine.row.assignment;
        let calm = Situation { contained: None, budget: Ok(()), is_last_of_kind: false };
        let full = decision::decide(&self.policy, assignment, level, &calm);
        let (tier, segment) = (assignment.effective_tier(), Some(Isolation::Segment));
        let rest = full.of_a_machine_out_of_reach(&self.policy, tier, segment);
        let Decision::Ask { isolation, lease, needs, why: why @ AskReason::OutOfReach } = rest
        else {
            return Vec::new();
        };
        let (isolate, why) =
            (Instruction::isolate(isolation, lease), format!("{why}: {}", of.reason));
        if self.was_declined(of.machine, of.incident, &isolate, now) {
            return Vec::new();
        }
        let about = (finding, level);
        let question = Question::of_the_policy(of.machine, isolate, needs, why, of.incident, about);
        self.ask(question, now, randomness)
    }

    /// The signer does not sign what the policy would do about a serious finding, and asks for nobody: then
    /// people are told, or it would lie unread (law 10).
    pub(super) fn not_blocked(&mut self, proposal: &Proposal, why: &Refusal) -> Option<Output> {
        let (Basis::Policy { level, .. }, Some(incident)) = (&proposal.basis, proposal.incident)
        else {
            return None;
        };
        let machine = proposal.machine;
        let is_contained = *why == Refusal::NothingToDo(WatchReason::AlreadyContained);
        if is_contained && self.intended(machine) >= proposal.instruction.isolation() {
            // A person's wish was signed just before it.
            return None;
        }
        let is_news = *level >= SERIOUS && self.tell_of(incident, machine);
        let why = format!("the signer did not sign it: {why}");
        is_news.then_some(Output::Tell(Notice::NotBlocked { incident, machine, why }))
    }

    /// People are to be told that nothing was blocked on a machine of this incident. Whether that is news.
    pub(super) fn tell_of(&mut self, incident: IncidentId, id: MachineId) -> bool {
        let Some(machine) = self.machines.get_mut(&id) else { return true };
        if machine.told.contains(&incident) {
            return false;
        }
        if machine.told.len() >= limits::TOLD_PER_MACHINE {
            machine.told.pop_front();
        }
        machine.told.push_back(incident);
        true
    }

    /// Whether people said no about a machine in a story, their no holds still, and nothing new was found there since:
    /// no rule, no tactic, no higher level. Then the policy asks them about it no more. Whoever said no to something
    /// else only has said nothing about cutting the machine off; and who said no to what a person wished, about that
    /// wish alone.
    pub(super) fn was_declined(
        &self,
        id: MachineId,
        incident: Option<IncidentId>,
        wish: &Instruction,
        now: &Moment,
    ) -> bool {
        self.nos_to(id, incident, wish).any(|no| self.holds_still(no, now))
    }

    /// The no's that cover a wish about a machine in a story, those that are over too.
    pub(super) fn nos_to(
        &self,
        id: MachineId,
        incident: Option<IncidentId>,
        wish: &Instruction,
    ) -> impl Iterator<Item = &Approval> {
        self.nos_since(id, incident, wish, self.news_of(id, incident))
    }

    /// The same of what was said when so much had been found.
    pub(super) fn nos_since(
        &self,
        id: MachineId,
        incident: Option<IncidentId>,
        wish: &Instruction,
        news: u32,
    ) -> impl Iterator<Item = &Approval> {
        self.approvals.of(id).filter(move |approval| {
            approval.incident == incident
                && approval.state == ApprovalState::Declined
                && approval.news >= news
                && (wish.isolation().is_none() && approval.asked_by.is_none()
                    || wishes(approval).any(|declined| is_less(wish, declined)))
        })
    }

    /// In words, that people said no to a wish, and that it does not hold any more: for where it was found not to.
    fn no_that_is_over(
        &self,
        id: MachineId,
        incident: Option<IncidentId>,
        wish: &Instruction,
    ) -> Option<String> {
        let last = self.nos_to(id, incident, wish).max_by_key(|no| no.turn)?.no()?;
        Some(format!("the no of {} is over ({})", last.person.name, last.at))
    }

    /// Whether a no is younger than what the policy lets it hold. By the hub's clock, and by the time that has gone by
    /// since it was said or, if that is later, the hub was started: so a clock that was set back keeps no no for
    /// long.
    pub(super) fn holds_still(&self, no: &Approval, now: &Moment) -> bool {
        let policys = Duration::from_secs(self.policy.approval.no_holds_for_seconds.into());
        let said_at = no.no().map_or(no.asked_at, |answer| answer.at);
        let holds_for = no.no_until.map_or(policys, |until| until.since(said_at));
        let here_for =
            self.no_since.get(&no.id).map_or(Duration::ZERO, |since| now.at.since(*since));
        now.utc.since(said_at) < holds_for && here_for < holds_for
    }

    /// Whether a break-glass code opened it and the time is not over in which only people isolate it.
    fn is_held_open(&self, id: MachineId) -> bool {
        self.measures
            .of(id)
            .any(|life| matches!(life.origin, Origin::BreakGlass { .. }) && !life.state.is_over())
    }
}

/// The order that the policy gives for a finding on a machine: the same whenever it is decided again. So
/// the shell may ask the signer while the finding is still on its way to the disk: a hub that is killed in
/// between hears the finding again, and the signer gives it the same order again.
fn policys_order(
    machine: MachineId,
    finding: &Finding,
    kind: ActionKind,
    now: UtcNanos,
) -> OrderId {
    // A hash with the machine in it: whatever a machine claims, it can't take another's order's name.
    let of = match kind {
        ActionKind::Isolate => finding.id.to_string(),
        kind => format!("{} {kind}", finding.id),
    };
    let on = machine.to_string();
    let hash = cordon_model::ids::FindingId::of(&of, &on, &finding.raw_sha256);
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&hash.as_bytes()[..10]);
    // A machine whose clock is far ahead (or that lies) uses up the ids that the signer takes ahead of time. To the hour,
    // so that nearly always it is the same when it is decided again.
    let is_ahead = finding.time > now.plus(ID_AHEAD_WITHIN);
    let this_hour = || now.unix_nanos() - now.unix_nanos().rem_euclid(HOUR_NANOS);
    let at = if is_ahead { UtcNanos::from_unix_nanos(this_hour()) } else { finding.time };
    OrderId::new(at, bytes)
}
