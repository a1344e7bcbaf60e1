//! Answers: what people say to a question, and what of it something else has answered.

use super::*;

impl HubCore {
    /// A person answers a question, for a reason that goes into the ledger.
    ///
    /// # Errors
    /// See [`AnswerRefused`]; an unknown question reads as expired.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one answer")]
    pub fn answer(
        &mut self,
        approval: ApprovalId,
        person: &Approver,
        identity: Identity,
        is_approved: bool,
        reason: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<Vec<Output>, AnswerRefused> {
        let unknown = AnswerRefused::Closed(ApprovalState::Expired);
        let question = self.approvals.get(approval).ok_or(unknown.clone())?;
        let wishes: Vec<Instruction> =
            std::iter::once(&question.instruction).chain(&question.also).cloned().collect();
        let machine = question.machine;
        let mut nights = wishes.iter().filter_map(|wish| self.night_for(machine, wish, now));
        let night = nights.next().cloned();
        // By the policy and the tier of now, as the signer will judge it.
        let needs = wishes.iter().map(|wish| self.needed_for(machine, wish)).max();
        let turn = self.next_turn(machine);
        let holds_for = Duration::from_secs(self.policy.approval.no_holds_for_seconds.into());
        let question = self.approvals.get_mut(approval).ok_or(unknown)?;
        question.needs = needs.unwrap_or(question.needs);
        let state = question.answer(person, identity, is_approved, night.as_ref(), now.utc)?;
        question.turn = turn;
        if state == ApprovalState::Declined {
            question.no_until = Some(now.utc.plus(holds_for));
            self.no_since.insert(approval, now.at);
        }

        let question = question.clone();
        let mut outputs = vec![Output::Keep(Change::Approval(question.clone()))];
        let deed = Deed::Answered { approval, is_approved };
        let actor = Actor::Person(person.name.clone());
        let mut detail = format!("{reason} (asked: {})", question.why);
        if let Some(until) = question.no_until {
            detail = format!("{detail}; the no holds until {until}");
        }
        let incident = question.incident;
        let machine = Some(question.machine);
        outputs.push(self.record(actor, deed, machine, incident, detail, now));
        match state {
            ApprovalState::Approved => {
                outputs.extend(self.propose_what_is_agreed(question, now, randomness));
            }
            ApprovalState::Declined => {
                outputs.extend(self.ask_what_came_since(approval, &person.name, now, randomness));
            }
            ApprovalState::Open | ApprovalState::Expired => {}
        }
        Ok(outputs)
    }

    /// Enough people said yes: what they agreed to goes to the signer.
    fn propose_what_is_agreed(
        &mut self,
        question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let basis = Basis::People { approval: Some(question.id), people: question.approvers() };
        let (machine, incident, why) = (question.machine, question.incident, question.why);
        let mut outputs = Vec::new();
        for instruction in std::iter::once(question.instruction).chain(question.also) {
            let id = OrderId::new(now.utc, id_bytes(randomness));
            let (basis, reason) = (basis.clone(), why.clone());
            let proposal = Proposal { id, machine, instruction, basis, incident, reason };
            outputs.extend(self.propose_this(proposal));
        }
        outputs
    }

    /// What an order begins is in force, or people's release is signed: what the policy asked of the same is
    /// withdrawn, or somebody's yes would do it once more when it is over; what of a question it does not
    /// cover stays asked, and is done if the yes that was given is enough for that. People's release answers
    /// all that was asked before they wished for it: what was found later is asked about. What a person asked
    /// stays that person's.
    pub(super) fn answered_by(
        &mut self,
        order: &Order,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let is_release = order.instruction == Instruction::Release;
        let is_policys =
            |open: &&Approval| open.state == ApprovalState::Open && open.asked_by.is_none();
        let open: Vec<Approval> =
            self.approvals.of(order.machine).filter(is_policys).cloned().collect();
        let mut outputs = Vec::new();
        for mut question in open {
            if is_release {
                if question.released_by == Some(order.id) {
                    let why = "its machine was released by people since";
                    if let Some(question) = self.approvals.get_mut(question.id) {
                        question.since.clear();
                    }
                    outputs.extend(self.withdraw(question.id, why));
                }
                continue;
            }
            let wishes: Vec<Instruction> =
                std::iter::once(&question.instruction).chain(&question.also).cloned().collect();
            let is_left = |wish: &&Instruction| !covers(&order.instruction, wish);
            let mut left: Vec<Instruction> = wishes.iter().filter(is_left).cloned().collect();
            if left.is_empty() {
                let why = "what it asks for is in force since";
                outputs.extend(self.withdraw(question.id, why));
            } else if left.len() < wishes.len() {
                question.instruction = left.remove(0);
                question.also = left;
                outputs.extend(self.asked_less(question, now, randomness));
            }
        }
        outputs
    }

    /// Less is asked than before: fewer people may do, and their yes may be there already.
    fn asked_less(
        &mut self,
        mut question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let machine = question.machine;
        let wishes = || std::iter::once(&question.instruction).chain(&question.also);
        let needs = wishes().map(|wish| self.needed_for(machine, wish)).max();
        let night = wishes().find_map(|wish| self.night_for(machine, wish, now)).cloned();
        question.needs = needs.unwrap_or(question.needs);
        let is_agreed = question.judge_again(night.as_ref(), now.utc);
        self.approvals.put(question.clone());
        let mut outputs = vec![Output::Keep(Change::Approval(question.clone()))];
        if is_agreed {
            let yes = question.approvers();
            let yes: Vec<&str> = yes.iter().map(|person| person.name.as_str()).collect();
            let detail = format!(
                "of what was asked a part is in force by now, and for the rest the yes of {} is enough",
                yes.join(", ")
            );
            let (deed, incident) = (Deed::Asked(question.id), question.incident);
            outputs.push(self.record(Actor::Hub, deed, Some(machine), incident, detail, now));
            outputs.extend(self.propose_what_is_agreed(question, now, randomness));
        }
        outputs
    }

    /// Somebody may answer no more: their yes to what still waits does not count, and another's is needed.
    pub fn answers_no_more(&mut self, person: &str, now: &Moment) -> Vec<Output> {
        let mut without = Vec::new();
        for question in self.approvals.all_mut() {
            if question.state == ApprovalState::Open && question.take_back_yes(person) {
                without.push(question.clone());
            }
        }
        let mut outputs = Vec::new();
        for question in without {
            let (deed, machine) = (Deed::Asked(question.id), Some(question.machine));
            let detail =
                format!("{person} may answer no more, and the yes of before does not count");
            let incident = question.incident;
            outputs.push(Output::Keep(Change::Approval(question)));
            outputs.push(self.record(Actor::Hub, deed, machine, incident, detail, now));
        }
        outputs
    }
}

/// Whether an order does all that was wished for.
fn covers(order: &Instruction, wish: &Instruction) -> bool {
    match (order, wish) {
        (Instruction::Begin { action, .. }, Instruction::Begin { action: wished, .. }) => {
            // Whose lease it is makes no other measure of it.
            action == wished
                || wished.isolation().is_some() && action.isolation() >= wished.isolation()
        }
        _ => false,
    }
}
