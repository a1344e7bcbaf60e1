//! What the hub does inside one call: decide about a finding, ask, propose, follow an order.

use cordon_model::action::{Action, ActionKind};
use cordon_model::limits;
use cordon_model::wire::CONDITIONS;

use super::asking::Question;
use super::*;
use crate::plan;

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
        let situation =
            Situation { contained: self.intended(id), budget: Ok(()), is_last_of_kind: false };
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
        if machine.loses_the_hub {
            // People are asked for the rest once the part is signed: `ask_for_the_rest`.
            let contained = situation.contained;
            decision = decision.of_a_machine_out_of_reach(&self.policy, tier, contained);
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
        // What spreads stands still before its machine is cut off; what takes longer comes after that.
        let is_first = |action: &Action| action.kind() == ActionKind::Freeze;
        let (first, after): (Vec<Action>, Vec<Action>) = by_itself.into_iter().partition(is_first);
        let of_policy = |action: Action| Proposal {
            id: policys_order(id, finding, action.kind()),
            machine: id,
            instruction: Instruction::begin(action, lease),
            basis: Basis::Policy { finding: finding.id, level },
            incident,
            reason: format!("{} ({level})", finding.rule.title),
        };
        let question = |instruction, also, needs, why: AskReason| Question {
            machine: id,
            instruction,
            also,
            needs,
            why: format!("{why}: {} ({level})", finding.rule.title),
            incident,
            of: Some((finding.id, level)),
            refused: None,
            asked_by: None,
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
                let order = policys_order(id, finding, ActionKind::Isolate);
                let proposal =
                    Proposal { id: order, machine: id, instruction, basis, incident, reason };
                outputs.extend(self.propose_this(proposal));
            }
            Decision::Ask { isolation, lease, needs, why } => {
                if placed.is_news || !self.was_declined(id, incident) {
                    let (also, needs) = match to_ask.take() {
                        Some((also, of_also, _)) => (also, needs.max(of_also)),
                        None => (Vec::new(), needs),
                    };
                    let isolate = Instruction::isolate(isolation, lease);
                    let question = question(isolate, also, needs, why);
                    outputs.extend(self.ask(question, now, randomness));
                }
            }
        }
        for action in after {
            outputs.extend(self.propose_this(of_policy(action)));
        }
        // The isolation is in force, or is done without asking: what else there is, is asked by itself.
        if let Some((mut instructions, needs, why)) = to_ask
            && (placed.is_news || !self.was_declined(id, incident))
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
        let question = Question {
            machine: of.machine,
            instruction: Instruction::isolate(isolation, lease),
            also: Vec::new(),
            needs,
            why: format!("{why}: {}", of.reason),
            incident: of.incident,
            of: Some((finding, level)),
            refused: None,
            asked_by: None,
        };
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

    /// What a machine said is not taken: counted, and in the ledger.
    pub(super) fn refuse(&mut self, id: MachineId, what: &str, now: &Moment) -> Output {
        self.refused = self.refused.saturating_add(1);
        self.record(Actor::Agent(id), Deed::Gap, Some(id), None, what.to_owned(), now)
    }

    pub(super) fn propose_this(&mut self, proposal: Proposal) -> Vec<Output> {
        let mut outputs = vec![Output::Keep(Change::Proposed(proposal.clone()))];
        let queue = self.queues.entry(proposal.machine).or_default();
        if !queue.contains(&proposal.id) {
            queue.push_back(proposal.id);
        }
        self.proposals.insert(proposal.id, proposal.clone());
        if queue.front() == Some(&proposal.id) {
            outputs.push(Output::Signer(ForSigner::Propose(proposal)));
        }
        outputs
    }

    /// The proposal of each machine that the signer is to answer now.
    pub(super) fn next_proposals(&self) -> impl Iterator<Item = Proposal> {
        let fronts = self.queues.values().filter_map(VecDeque::front);
        fronts.filter_map(|front| self.proposals.get(front)).cloned()
    }

    /// One was answered: the machine's next one goes to the signer.
    pub(super) fn next_of(&mut self, answered: &Proposal) -> Option<Output> {
        let queue = self.queues.get_mut(&answered.machine)?;
        queue.retain(|waiting| *waiting != answered.id);
        let Some(front) = queue.front() else {
            self.queues.remove(&answered.machine);
            return None;
        };
        let next = self.proposals.get(front)?;
        Some(Output::Signer(ForSigner::Propose(next.clone())))
    }

    /// A signed order: earlier ones that were never sent give way, and it is delivered.
    pub(super) fn ordered(
        &mut self,
        order: &Verified<Order>,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        if self.orders.get(order.id).is_some() {
            return Vec::new();
        }
        let machine = order.machine;
        let life = OrderLife::new((**order).clone(), order.envelope().clone());
        let mut outputs = Vec::new();
        let earlier: Vec<OrderId> = self
            .orders
            .of(machine)
            .filter(|o| o.order.sequence < order.sequence)
            .filter(|o| life.replaces(&o.order))
            .map(|o| o.order.id)
            .collect();
        for id in earlier {
            if self.orders.get_mut(id).is_some_and(OrderLife::superseded) {
                outputs.extend(self.order_died(id));
            }
        }
        outputs.push(Output::Keep(Change::Order(life.clone())));
        if let (Instruction::Renew { measure, .. }, Authority::People { .. }) =
            (&order.instruction, &order.authority)
            && let Some(renewed) = self.measures.get_mut(*measure)
            && std::mem::take(&mut renewed.is_by_itself)
        {
            // Somebody has decided that it goes on: it is people's from now on.
            outputs.push(Output::Keep(Change::Measure(renewed.clone())));
        }
        if let Some(measure) = MeasureLife::requested(order) {
            self.measures.put(measure.clone());
            outputs.push(Output::Keep(Change::Measure(measure)));
        }
        self.orders.put(life);
        // What begins something answers a question when it is shown: an order may die on its way.
        if order.instruction == Instruction::Release {
            outputs.extend(self.answered_by(order, now, randomness));
        }
        self.forget_closed(machine);
        let detail = format!("{}: {}", order.instruction, order.reason);
        let (deed, incident) = (Deed::Ordered(order.id), order.incident);
        outputs.push(self.record(Actor::Signer, deed, Some(machine), incident, detail, now));
        if self.struck_off.contains(&machine) {
            // It was signed while its machine was struck off.
            if self.orders.get_mut(order.id).is_some_and(OrderLife::struck_off) {
                outputs.extend(self.order_died(order.id));
            }
            return outputs;
        }
        outputs.extend(self.deliver(machine, now));
        outputs
    }

    /// Sends the oldest order that the machine has not confirmed. One at a time, so that what the
    /// machine has taken is never in doubt.
    pub(super) fn deliver(&mut self, id: MachineId, now: &Moment) -> Vec<Output> {
        let mut outputs = Vec::new();
        let known = self.machines.get(&id);
        let link = known.and_then(|machine| machine.link);
        let reads_conditions = known.is_some_and(|machine| machine.row.version >= CONDITIONS);
        let loses_the_hub = known.is_some_and(|machine| machine.loses_the_hub);
        loop {
            let open = self.orders.of(id).filter(|life| life.is_open());
            let next = open.min_by_key(|life| life.order.sequence).map(|life| life.order.id);
            let Some(life) = next.and_then(|next| self.orders.get_mut(next)) else {
                return outputs;
            };
            if life.expire(now.utc) {
                let dead = life.order.id;
                outputs.extend(self.order_died(dead));
                outputs.extend(self.tell_never_begun(dead));
                continue;
            }
            // A machine that came back older can't read it, and would be asked for ever, and what comes after it
            // would never be sent: a release could be that.
            if link.is_some() && !reads_conditions && life.never_read() {
                let dead = life.order.id;
                outputs.extend(self.order_died(dead));
                outputs.extend(self.tell_never_begun(dead));
                continue;
            }
            if link.is_some() && loses_the_hub && life.out_of_reach() {
                let order = life.order.clone();
                outputs.extend(self.order_died(order.id));
                outputs.extend(self.propose_less(&order));
                continue;
            }
            if let Some(link) = link
                && life.is_due(now.at)
            {
                life.last_sent = Some(now.at);
                if life.delivery == Delivery::Waiting {
                    life.delivery = Delivery::Sent;
                    outputs.push(Output::Keep(Change::Order(life.clone())));
                }
                outputs.push(Output::Send(id, link, FromHub::Order(life.envelope.clone())));
            }
            return outputs;
        }
    }

    /// The policy's order to isolate a machine in full was dropped, for the machine says now that it would lose
    /// its hub: it is segmented instead, and people are asked for the rest once that is signed.
    fn propose_less(&mut self, order: &Order) -> Vec<Output> {
        let Authority::Policy { finding, .. } = order.authority else { return Vec::new() };
        let story = order.incident.and_then(|incident| self.grouping.story(incident));
        let level = story.map_or(SERIOUS, |story| story.incident.level);
        // The same whenever it is decided again, as the first one's is.
        let (of, on) = (format!("{} instead", order.id), order.machine.to_string());
        let hash = cordon_model::ids::FindingId::of(&of, &on, &[0; 32]);
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&hash.as_bytes()[..10]);
        let id = OrderId::new(order.id.made_at(), bytes);
        self.propose_this(Proposal {
            id,
            machine: order.machine,
            instruction: Instruction::isolate(Isolation::Segment, self.policy.lease),
            basis: Basis::Policy { finding, level },
            incident: order.incident,
            reason: order.reason.clone(),
        })
    }

    /// Lets go of what has long been closed. Ids are in order of time, so the first are the oldest.
    pub(super) fn forget_closed(&mut self, id: MachineId) {
        let orders = self.orders.of(id).filter(|o| !o.is_open());
        let orders: Vec<OrderId> = orders.map(|o| o.order.id).collect();
        for old in orders.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.orders.remove(*old);
        }
        self.forget_closed_measures(id);
        let closed = self.approvals.of(id).filter(|a| a.state != ApprovalState::Open);
        let closed: Vec<ApprovalId> = closed.map(|a| a.id).collect();
        for old in closed.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.approvals.remove(*old);
        }
    }

    fn forget_closed_measures(&mut self, id: MachineId) {
        let closed = self.measures.of(id).filter(|life| life.state.is_over());
        let closed: Vec<MeasureId> = closed.map(|life| life.measure).collect();
        for old in closed.iter().rev().skip(CLOSED_PER_MACHINE) {
            self.measures.remove(*old);
            self.told_open.remove(old);
        }
    }

    pub(super) fn order_refused(
        &mut self,
        id: MachineId,
        order: OrderId,
        why: &str,
        now: &Moment,
    ) -> Vec<Output> {
        let Some(life) = self.orders.get_mut(order) else { return Vec::new() };
        if life.order.machine != id {
            return vec![self.refuse(id, "it refuses another machine's order; not taken", now)];
        }
        if !life.refused(why) {
            return Vec::new();
        }
        let incident = life.order.incident;
        let mut outputs = self.order_died(order);
        outputs.extend(self.tell_never_begun(order));
        let detail = format!("refused by the machine: {why}");
        let deed = Deed::MeasureChanged(order.into());
        outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        outputs.extend(self.deliver(id, now));
        outputs
    }

    /// People are told of an isolation that they may rely on and that will not come: later findings were
    /// left to it. One that a newer order replaced is no news.
    fn tell_never_begun(&self, order: OrderId) -> Option<Output> {
        let life = self.orders.get(order)?;
        let Delivery::Dead { why } = &life.delivery else { return None };
        matches!(life.order.instruction, Instruction::Begin { .. }).then(|| {
            let (machine, measure, why) = (life.order.machine, order.into(), why.clone());
            Output::Tell(Notice::NotInForce { machine, measure, why })
        })
    }

    pub(super) fn order_died(&mut self, order: OrderId) -> Vec<Output> {
        let Some(life) = self.orders.get(order) else { return Vec::new() };
        let Delivery::Dead { why } = &life.delivery else { return Vec::new() };
        let mut outputs = vec![Output::Keep(Change::Order(life.clone()))];
        if let Some(measure) = self.measures.get_mut(order.into())
            && measure.never_begun(why)
        {
            outputs.push(Output::Keep(Change::Measure(measure.clone())));
        }
        outputs.push(Output::Signer(ForSigner::NeverBegun(life.order.machine, order)));
        outputs
    }

    pub(super) fn receipt(
        &mut self,
        id: MachineId,
        number: u64,
        receipt: Receipt,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        if receipt.machine != id {
            let what = "it sent a receipt in another machine's name; refused";
            return vec![self.refuse(id, what, now)];
        }
        if self.is_of_a_release(&receipt) {
            // No measure of its own: the word by which the signer takes the machine for free.
            let detail = "release: carried out, and nothing is in force".to_owned();
            let (deed, incident) =
                (Deed::MeasureChanged(receipt.measure), self.incident_of(id, receipt.origin));
            let said = self.record(Actor::Agent(id), deed, Some(id), incident, detail, now);
            return vec![said, Output::Signer(ForSigner::Learn(receipt))];
        }
        let has_room = receipt.state.is_over() || self.has_room_for_a_measure(id);
        let is_news = match self.measures.get_mut(receipt.measure) {
            Some(life) if life.machine != id => {
                let what = "it sent a receipt of another machine's measure; refused";
                return vec![self.refuse(id, what, now)];
            }
            Some(life) => life.take(number, &receipt),
            None if !has_room => {
                let what = "it reports more measures than a machine may hold; refused";
                return vec![self.refuse(id, what, now)];
            }
            // By an order that this hub never had: either a lie, or an order of before a loss of data.
            // Shown all the same: a machine that says it is cut off must not look open.
            None => {
                let follows_itself = match receipt.origin {
                    Origin::LeaseEnd(of) => {
                        self.measures.get(of).is_some_and(|before| before.is_by_itself)
                    }
                    _ => false,
                };
                let life = MeasureLife::reported(number, receipt.clone(), follows_itself);
                self.measures.put(life);
                true
            }
        };
        if !is_news {
            return Vec::new();
        }
        // What was said before it no longer counts.
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.said.remove(&receipt.measure);
        }
        let mut outputs = Vec::new();
        let shown = self.measures.get(receipt.measure).map(|life| life.state.clone());
        if let Some(life) = self.measures.get(receipt.measure) {
            outputs.push(Output::Keep(Change::Measure(life.clone())));
        }
        let shown = shown.unwrap_or_else(|| receipt.state.clone());
        let incident = self.incident_of(id, receipt.origin);
        if matches!(shown, MeasureState::Verified | MeasureState::Done)
            && let Origin::Order(order) = receipt.origin
            && let Some(order) = self.orders.get(order).map(|life| life.order.clone())
        {
            outputs.extend(self.answered_by(&order, now, randomness));
        }
        if let Origin::BreakGlass { revision, code } = receipt.origin
            && receipt.state == MeasureState::Verified
            && self.told_open.insert(receipt.measure)
        {
            let deed = Deed::OpenedByCode { revision, code };
            let detail = format!("by code number {code}, typed at the machine");
            outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
            outputs.push(Output::Tell(Notice::OpenedByCode { machine: id, code, at: receipt.at }));
        }
        let detail = state_in_words(&receipt.action, &shown);
        let deed = Deed::MeasureChanged(receipt.measure);
        outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        if let MeasureState::Failed { why } | MeasureState::Unproven { why } = shown {
            let measure = receipt.measure;
            outputs.push(Output::Tell(Notice::NotInForce { machine: id, measure, why }));
        }
        outputs.extend(self.ask_about_spared(&receipt, now, randomness));
        let is_over = receipt.state.is_over();
        outputs.push(Output::Signer(ForSigner::Learn(receipt)));
        if is_over {
            self.forget_closed_measures(id);
        }
        outputs
    }

    fn is_of_a_release(&self, receipt: &Receipt) -> bool {
        let Origin::Order(order) = receipt.origin else { return false };
        let known = self.orders.get(order).filter(|life| life.order.machine == receipt.machine);
        receipt.measure == order.into()
            && receipt.state == MeasureState::Released
            && known.is_some_and(|life| life.order.instruction == Instruction::Release)
    }

    fn has_room_for_a_measure(&self, id: MachineId) -> bool {
        let standing = self.measures.of(id).filter(|life| !life.state.is_over());
        standing.count() < limits::STANDING_PER_MACHINE
    }

    /// How far a machine is isolated or meant to be, as far as the hub knows.
    pub(super) fn intended(&self, id: MachineId) -> Option<Isolation> {
        self.intended_by(id, |_| true)
    }

    /// The same, of the proposals that the signer has not answered only those that count.
    pub(super) fn intended_by(
        &self,
        id: MachineId,
        counts: impl Fn(&Instruction) -> bool,
    ) -> Option<Isolation> {
        let waiting = self.queues.get(&id).into_iter().flatten();
        let proposed = waiting
            .filter_map(|proposal| self.proposals.get(proposal))
            .filter(|proposal| counts(&proposal.instruction))
            .filter_map(|proposal| proposal.instruction.isolation())
            .max();
        if proposed.is_some() {
            return proposed;
        }
        // After a release was signed nothing counts until a new isolation is: what is in force still is
        // about to end, and a finding that comes meanwhile must not be taken for answered.
        let last_order = self
            .orders
            .of(id)
            .filter(|life| life.is_of_isolation() && !life.is_dead())
            .max_by_key(|life| life.order.sequence);
        if last_order.is_some_and(|life| life.order.instruction == Instruction::Release) {
            return None;
        }
        let is_undone = |measure: MeasureId| {
            let mut orders = self.orders.of(id).filter(|life| !life.is_dead());
            orders.any(|life| life.order.instruction == Instruction::Undo { measure })
        };
        let shown = self
            .measures
            .of(id)
            .filter(|life| life.may_be_counted_on())
            .filter(|life| !is_undone(life.measure))
            .filter_map(|life| life.action.isolation())
            .max();
        // What it says now may be ahead of its receipts, which wait their turn.
        let status = self.machines.get(&id).and_then(|machine| machine.status.as_ref());
        let held = status.into_iter().flat_map(|status| status.holds.known());
        let held = held.filter(|holding| !is_undone(holding.measure));
        shown.max(held.filter_map(|holding| holding.isolation).max())
    }

    /// Whether a break-glass code opened it and the time is not over in which only people isolate it.
    fn is_held_open(&self, id: MachineId) -> bool {
        self.measures
            .of(id)
            .any(|life| matches!(life.origin, Origin::BreakGlass { .. }) && !life.state.is_over())
    }

    fn was_declined(&self, id: MachineId, incident: Option<IncidentId>) -> bool {
        self.approvals.of(id).any(|approval| {
            approval.incident == incident && approval.state == ApprovalState::Declined
        })
    }

    pub(super) fn add_machine(&mut self, row: MachineRow) {
        let id = row.assignment.machine;
        let machine = Machine {
            row,
            link: None,
            status: None,
            boot: None,
            loses_the_hub: false,
            said: BTreeMap::new(),
            signer_told: None,
            is_warned: false,
            told: VecDeque::new(),
            codes_sent: None,
            guidance_sent: None,
        };
        self.machines.insert(id, machine);
    }

    /// The story that a measure belongs to, if that is known.
    pub(super) fn incident_of(&self, id: MachineId, origin: Origin) -> Option<IncidentId> {
        match origin {
            Origin::Order(order) => self.orders.get(order).and_then(|life| life.order.incident),
            Origin::BreakGlass { .. } => self.grouping.of_machine(id),
            Origin::Permit { .. } | Origin::LeaseEnd(_) => None,
        }
    }

    pub(super) fn keep_machine(&self, id: MachineId) -> Vec<Output> {
        let row = self.machines.get(&id).map(|machine| machine.row.clone());
        row.map(|row| Output::Keep(Change::Machine(row))).into_iter().collect()
    }

    pub(super) fn send(&self, id: MachineId, message: FromHub) -> Option<Output> {
        let link = self.machines.get(&id)?.link?;
        Some(Output::Send(id, link, message))
    }

    pub(super) fn is_present(&self, id: MachineId, link: u64) -> bool {
        self.machines.get(&id).is_some_and(|machine| machine.link == Some(link))
    }

    pub(super) fn record(
        &self,
        actor: Actor,
        deed: Deed,
        machine: Option<MachineId>,
        incident: Option<IncidentId>,
        detail: String,
        now: &Moment,
    ) -> Output {
        Output::Record(Record {
            at: now.utc,
            organisation: self.organisation.clone(),
            actor,
            deed,
            machine,
            incident,
            detail,
        })
    }
}

/// The order that the policy gives for a finding on a machine: the same whenever it is decided again. So
/// the shell may ask the signer while the finding is still on its way to the disk: a hub that is killed in
/// between hears the finding again, and the signer gives it the same order again.
fn policys_order(machine: MachineId, finding: &Finding, kind: ActionKind) -> OrderId {
    // A hash with the machine in it: whatever a machine claims, it can't take another's order's name.
    let of = match kind {
        ActionKind::Isolate => finding.id.to_string(),
        kind => format!("{} {kind}", finding.id),
    };
    let on = machine.to_string();
    let hash = cordon_model::ids::FindingId::of(&of, &on, &finding.raw_sha256);
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&hash.as_bytes()[..10]);
    OrderId::new(finding.time, bytes)
}

fn state_in_words(action: &Action, state: &MeasureState) -> String {
    let state = match state {
        MeasureState::Requested => "requested".to_owned(),
        MeasureState::Delivered => "delivered".to_owned(),
        MeasureState::Applied => "applied, not yet proven".to_owned(),
        MeasureState::Verified => "in force: read back and probed".to_owned(),
        MeasureState::Unproven { why } => format!("unproven: {why}"),
        MeasureState::SteppedDown => "its lease ended; it stepped down".to_owned(),
        MeasureState::Superseded => "another took its place".to_owned(),
        MeasureState::Released => "released".to_owned(),
        MeasureState::Done => "done".to_owned(),
        MeasureState::Failed { why } => format!("failed: {why}"),
    };
    format!("{action}: {state}")
}
