//! An order's way: proposed to the signer, signed, sent to its machine, taken there or dead.

use cordon_model::wire::CONDITIONS;

use super::asking::Question;
use super::*;

impl HubCore {
    pub(super) fn propose_this(&mut self, proposal: Proposal) -> Vec<Output> {
        let mut outputs = vec![Output::Keep(Change::Proposed(proposal.clone()))];
        let queue = self.queues.entry(proposal.machine).or_default();
        if !queue.contains(&proposal.id) {
            queue.push_back(proposal.id);
        }
        self.proposals.insert(proposal.id, proposal.clone());
        if proposal.instruction == Instruction::Release {
            outputs.extend(self.mark_what_it_answers(&proposal));
        }
        let queue = self.queues.entry(proposal.machine).or_default();
        if queue.front() == Some(&proposal.id) {
            outputs.push(Output::Signer(ForSigner::Propose(proposal)));
        }
        outputs
    }

    /// People wish to release a machine: what is asked about it by now is answered once that is signed. Which that is
    /// is noted now, for no clock tells it afterwards.
    fn mark_what_it_answers(&mut self, release: &Proposal) -> Vec<Output> {
        let (proposals, mut outputs) = (&self.proposals, Vec::new());
        let asked: Vec<ApprovalId> = self.approvals.of(release.machine).map(|of| of.id).collect();
        for id in asked {
            let Some(question) = self.approvals.get_mut(id) else { continue };
            let waits = |release: OrderId| proposals.contains_key(&release);
            if question.state == ApprovalState::Open
                && question.asked_by.is_none()
                && !question.released_by.is_some_and(waits)
            {
                question.released_by = Some(release.id);
                outputs.push(Output::Keep(Change::Approval(question.clone())));
            }
        }
        outputs
    }

    /// The proposal of each machine that the signer is to answer now.
    pub(super) fn next_proposals(&self) -> impl Iterator<Item = Proposal> {
        let fronts = self.queues.values().filter_map(VecDeque::front);
        fronts.filter_map(|front| self.proposals.get(front)).cloned()
    }

    /// One was answered: the machine's next one goes to the signer.
    pub(super) fn next_of(&mut self, machine: MachineId) -> Option<Output> {
        let Some(front) = self.queues.get(&machine)?.front() else {
            self.queues.remove(&machine);
            return None;
        };
        let next = self.proposals.get(front)?;
        Some(Output::Signer(ForSigner::Propose(next.clone())))
    }

    /// What is proposed for a machine and not signed yet: it may be ordered in a moment.
    pub fn proposed_for(&self, machine: MachineId) -> impl Iterator<Item = &Instruction> {
        let queue = self.queues.get(&machine).into_iter().flatten();
        let proposals = queue.filter_map(|proposal| self.proposals.get(proposal));
        proposals.map(|proposal| &proposal.instruction)
    }

    /// The signer's answer to a proposal. Repeated answers change nothing.
    pub fn signer_answered(
        &mut self,
        proposal: OrderId,
        answer: Result<Verified<Order>, Refusal>,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Some(proposal) = self.proposals.remove(&proposal) else { return Vec::new() };
        let mut outputs = vec![Output::Keep(Change::Answered(proposal.id))];
        let queue = self.queues.entry(proposal.machine).or_default();
        queue.retain(|waiting| *waiting != proposal.id);
        let machine = proposal.machine;
        match answer {
            Ok(order) => {
                outputs.extend(self.ordered(&order, now, randomness));
                outputs.extend(self.ask_for_the_rest(&proposal, now, randomness));
                outputs.extend(self.skip_what_is_done(machine, now, randomness));
            }
            Err(refusal) => {
                let deed = Deed::OrderRefused;
                let (machine, incident) = (Some(proposal.machine), proposal.incident);
                let detail = refusal.to_string();
                outputs.push(self.record(Actor::Signer, deed, machine, incident, detail, now));
                if let (Refusal::Ask { needs, why }, Basis::Policy { finding, level }) =
                    (&refusal, &proposal.basis)
                {
                    let is_open = |incident| self.grouping.is_open(incident);
                    if proposal.incident.is_some_and(is_open)
                        && !self.was_declined(
                            proposal.machine,
                            proposal.incident,
                            &proposal.instruction,
                            now,
                        )
                        && !self.is_asked_further(&proposal)
                    {
                        let why = format!("{why}: {}", proposal.reason);
                        let question = Question::of_the_policy(
                            proposal.machine,
                            proposal.instruction,
                            *needs,
                            why,
                            proposal.incident,
                            (*finding, *level),
                        );
                        outputs.extend(self.ask(question, now, randomness));
                    }
                } else if let Basis::Unanswered { approval, .. }
                | Basis::People { approval: Some(approval), .. } = proposal.basis
                {
                    // Approved or not, nothing is done: it may not lie unread.
                    outputs.extend(self.asked_in_vain(approval, now, randomness));
                } else {
                    outputs.extend(self.not_blocked(&proposal, &refusal));
                }
            }
        }
        outputs.extend(self.next_of(machine));
        outputs
    }

    /// What the policy has proposed for further findings is done by what was signed just before it: it need not be
    /// signed again. For the rest of it people are asked.
    fn skip_what_is_done(
        &mut self,
        machine: MachineId,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(next) = self.queues.get(&machine).and_then(VecDeque::front).copied() {
            let is_done = |next: &&Proposal| {
                Self::isolates_by_policy(next)
                    && next.instruction.isolation() <= self.secured(machine)
            };
            let Some(done) = self.proposals.get(&next).filter(is_done).cloned() else { break };
            self.proposals.remove(&next);
            self.queues.entry(machine).or_default().pop_front();
            outputs.push(Output::Keep(Change::Answered(next)));
            outputs.extend(self.ask_for_the_rest(&done, now, randomness));
        }
        outputs
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
        let loses_the_hub = known.is_some_and(Machine::loses_the_hub);
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
                outputs.extend(self.propose_less(&order, now));
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
    fn propose_less(&mut self, order: &Order, now: &Moment) -> Vec<Output> {
        let Authority::Policy { finding, .. } = order.authority else { return Vec::new() };
        let story = order.incident.and_then(|incident| self.grouping.story(incident));
        let level = story.map_or(SERIOUS, |story| story.incident.level);
        // The same whenever it is decided again, as the first one's is.
        let (of, on) = (format!("{} instead", order.id), order.machine.to_string());
        let hash = cordon_model::ids::FindingId::of(&of, &on, &[0; 32]);
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&hash.as_bytes()[..10]);
        let id = OrderId::new(order.id.made_at(), bytes);
        let (less, of) = (way::SEGMENTED, order.reason.as_str());
        let mut outputs = self.lowered(order.machine, less, of, order.incident, now);
        outputs.extend(self.propose_this(Proposal {
            id,
            machine: order.machine,
            instruction: Instruction::isolate(Isolation::Segment, self.policy.lease),
            basis: Basis::Policy { finding, level },
            incident: order.incident,
            reason: order.reason.clone(),
        }));
        outputs
    }

    /// A machine says that it has an order on its disk.
    pub fn order_taken(
        &mut self,
        id: MachineId,
        link: u64,
        order: OrderId,
        now: &Moment,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        if self.orders.get(order).is_some_and(|life| life.order.machine != id) {
            let what = "it says that it has another machine's order; refused";
            outputs.push(self.refuse(id, what, now));
        } else if let Some(life) = self.orders.get_mut(order)
            && life.taken()
        {
            let incident = life.order.incident;
            let detail = life.order.instruction.to_string();
            let taken = life.order.clone();
            outputs.push(Output::Keep(Change::Order(life.clone())));
            if let Some(measure) = self.measures.get_mut(order.into())
                && measure.delivered()
            {
                outputs.push(Output::Keep(Change::Measure(measure.clone())));
            }
            outputs.extend(self.let_go(&taken));
            let deed = Deed::Delivered(order);
            outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        }
        outputs.extend(self.deliver(id, now));
        outputs
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
}
