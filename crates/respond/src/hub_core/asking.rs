//! Questions to people: asked, told of again, answered, and what follows when nobody answers.

use cordon_model::action::Action;
use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::limits;
use cordon_model::wire::CONDITIONS;

use super::*;

/// A question before it is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub machine: MachineId,
    pub instruction: Instruction,
    pub also: Vec<Instruction>,
    pub needs: Needs,
    pub why: String,
    pub incident: Option<IncidentId>,
    /// What gave rise to it.
    pub of: Option<(FindingId, Level)>,
    /// The measure that its machine refused, if that is why.
    pub refused: Option<MeasureId>,
    /// Who asks; `None`: the policy.
    pub asked_by: Option<String>,
}

/// What people are told of once: an incident, or a question that belongs to none.
pub(super) type Story = Result<IncidentId, ApprovalId>;

/// What became of a person's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wished {
    /// It is with the signer.
    Proposed(OrderId),
    /// Others have to agree first: they are asked.
    Asked(ApprovalId),
}

impl HubCore {
    /// A person wants something done. Where one person is not enough for it, or not this one at this hour, it
    /// becomes a question, with this person's yes if that counts.
    ///
    /// # Errors
    /// [`AnswerRefused`] if the same question is open and this person's yes is not taken there.
    pub fn people_propose(
        &mut self,
        wish: Wish,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<(Wished, Vec<Output>), AnswerRefused> {
        let Wish { machine, instruction, person, identity, incident, reason } = wish;
        let instruction = self.meant(machine, instruction);
        let needs = self.needed_for(machine, &instruction);
        let night = self.night_for(machine, &instruction, now);
        let may = night.is_none_or(|night| night.people.contains(&person.name));
        let counts = may && (needs == Needs::OnePerson || identity >= Identity::Session);

        // What needs strong identities is refused by the signer, with its reason: no question helps.
        let is_alone = counts && approval::is_enough(needs, std::slice::from_ref(&person));
        if is_alone || needs == Needs::TwoPeopleOneClinical {
            let id = OrderId::new(now.utc, id_bytes(randomness));
            let basis = Basis::People { approval: None, people: vec![person] };
            let proposal = Proposal { id, machine, instruction, basis, incident, reason };
            return Ok((Wished::Proposed(id), self.propose_this(proposal)));
        }
        let (mut outputs, open) = match self.the_same(machine, &instruction) {
            Some(open) => (Vec::new(), open),
            None => {
                let its = |open: &&Approval| {
                    open.state == ApprovalState::Open
                        && open.asked_by.as_deref() == Some(person.name.as_str())
                };
                if self.approvals.all().filter(its).count() >= limits::QUESTIONS_PER_PERSON {
                    return Err(AnswerRefused::TooMany);
                }
                let question = Question {
                    machine,
                    instruction,
                    also: Vec::new(),
                    needs,
                    why: format!("{} wants it: {reason}", person.name),
                    incident,
                    of: None,
                    refused: None,
                    asked_by: Some(person.name.clone()),
                };
                self.put_question(question, now, randomness)
            }
        };
        if counts {
            outputs.extend(self.answer(open, &person, identity, true, &reason, now, randomness)?);
        }

        let proposed = outputs.iter().find_map(|output| match output {
            Output::Keep(Change::Proposed(proposal)) => Some(Wished::Proposed(proposal.id)),
            _ => None,
        });
        Ok((proposed.unwrap_or(Wished::Asked(open)), outputs))
    }

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
        let question = self.approvals.get_mut(approval).ok_or(unknown)?;
        question.needs = needs.unwrap_or(question.needs);
        let state = question.answer(person, identity, is_approved, night.as_ref(), now.utc)?;

        let question = question.clone();
        let mut outputs = vec![Output::Keep(Change::Approval(question.clone()))];
        let deed = Deed::Answered { approval, is_approved };
        let actor = Actor::Person(person.name.clone());
        let detail = format!("{reason} (asked: {})", question.why);
        let incident = question.incident;
        let machine = Some(question.machine);
        outputs.push(self.record(actor, deed, machine, incident, detail, now));
        if state == ApprovalState::Approved {
            outputs.extend(self.propose_what_is_agreed(question, now, randomness));
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

    /// Asks people, unless an open question about the machine asks for as much.
    pub(super) fn ask(
        &mut self,
        question: Question,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Question { machine, instruction, also, why, incident, .. } = &question;
        if self.struck_off.contains(machine) || self.is_asked(*machine, instruction, also) {
            return Vec::new();
        }
        let is_open =
            |open: &&Approval| open.state == ApprovalState::Open && open.asked_by.is_none();
        let count = self.approvals.of(*machine).filter(is_open).count();
        // Whether to cut it off is always asked, once.
        let is_first =
            instruction.isolation().is_some() && !self.is_asked(*machine, instruction, &[]);
        if count >= limits::QUESTIONS_PER_MACHINE && !is_first {
            let why = format!("too many questions about the machine are open to ask: {why}");
            let (machine, incident) = (*machine, *incident);
            let incident = incident.filter(|incident| self.tell_of(*incident, machine));
            let told = incident.map(|incident| Notice::NotBlocked { incident, machine, why });
            return told.map(Output::Tell).into_iter().collect();
        }
        self.put_question(question, now, randomness).0
    }

    fn put_question(
        &mut self,
        question: Question,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> (Vec<Output>, ApprovalId) {
        let Question {
            machine,
            instruction,
            also,
            needs,
            mut why,
            incident,
            of,
            refused,
            asked_by,
        } = question;
        // Whatever it is asked for: nobody agrees to it without knowing.
        let out_of_reach = AskReason::OutOfReach.to_string();
        if self.machines.get(&machine).is_some_and(|machine| machine.loses_the_hub)
            && instruction.isolation() == Some(Isolation::Full)
            && !why.contains(&out_of_reach)
        {
            why = format!("{why}; {out_of_reach}");
        }
        let open_for = Duration::from_secs(self.policy.approval.open_for_seconds.into());
        let actor = asked_by.clone().map_or(Actor::Hub, Actor::Person);
        let approval = Approval {
            id: ApprovalId::new(now.utc, id_bytes(randomness)),
            machine,
            instruction,
            also,
            needs,
            why: why.clone(),
            incident,
            finding: of.map(|(finding, _)| finding),
            level: of.map(|(_, level)| level),
            refused,
            asked_by,
            asked_at: now.utc,
            expires_at: now.utc.plus(open_for),
            answers: Vec::new(),
            state: ApprovalState::Open,
            withdrawn: None,
        };
        let is_told = self.is_told_of(&approval);
        self.approvals.put(approval.clone());
        let deed = Deed::Asked(approval.id);
        let mut outputs = vec![
            Output::Keep(Change::Approval(approval.clone())),
            self.record(actor, deed, Some(machine), incident, why, now),
        ];
        outputs.extend(self.for_the_signer(&approval).map(Output::Signer));
        outputs.extend(is_told.then_some(Output::Tell(Notice::Asked(approval.id))));
        (outputs, approval.id)
    }

    /// What is to be told again, and what follows from questions whose time is over. Called every second.
    pub(super) fn mind_questions(
        &mut self,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut over = Vec::new();
        for approval in self.approvals.all_mut() {
            if approval.expire(now.utc) {
                outputs.push(Output::Keep(Change::Approval(approval.clone())));
                over.push(approval.clone());
            }
        }
        let first = one_of_each_story(&over);
        outputs.extend(first.into_iter().map(|of| Output::Tell(Notice::Unanswered(of))));
        for question in over {
            let machine = question.machine;
            outputs.extend(self.after_no_answer(question, now, randomness));
            self.forget_closed(machine);
        }
        outputs.extend(self.remind(now));
        outputs
    }

    /// People are told of what is still open, of each story once; what does not matter any more is closed.
    fn remind(&mut self, now: &Moment) -> Vec<Output> {
        let every = Duration::from_secs(self.policy.approval.remind_seconds.into());
        let story = |open: &Approval| open.incident.ok_or(open.id);
        let is_open = |approval: &&Approval| approval.state == ApprovalState::Open;
        let stories: BTreeSet<Story> = self.approvals.all().filter(is_open).map(story).collect();
        self.told_last.retain(|of, _| stories.contains(of));
        let mut due = BTreeSet::new();
        for of in stories {
            let told = self.told_last.entry(of).or_insert(now.at);
            if now.at.since(*told) >= every {
                *told = now.at;
                due.insert(of);
            }
        }
        let is_due = |open: &&Approval| due.contains(&story(open));
        let due: Vec<Approval> =
            self.approvals.all().filter(is_open).filter(is_due).cloned().collect();
        let (mut outputs, mut standing) = (Vec::new(), Vec::new());
        for question in due {
            // What a person asked stays that person's until its time is over.
            match self.still_matters(question.clone()) {
                Err(why) if question.asked_by.is_none() => {
                    outputs.extend(self.withdraw(question.id, why));
                }
                _ => standing.push(question),
            }
        }
        let first = one_of_each_story(&standing);
        outputs.extend(first.into_iter().map(|of| Output::Tell(Notice::Asked(of))));
        outputs
    }

    /// Nobody has to answer it any more.
    fn withdraw(&mut self, question: ApprovalId, why: &str) -> Option<Output> {
        let question = self.approvals.get_mut(question)?;
        question.withdraw(why);
        Some(Output::Keep(Change::Approval(question.clone())))
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
        let is_peoples = matches!(order.authority, Authority::People { .. });
        let is_policys =
            |open: &&Approval| open.state == ApprovalState::Open && open.asked_by.is_none();
        let open: Vec<Approval> =
            self.approvals.of(order.machine).filter(is_policys).cloned().collect();
        let mut outputs = Vec::new();
        for mut question in open {
            if is_release {
                if is_peoples && question.asked_at < order.id.made_at() {
                    let why = "its machine was released by people since";
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

    /// A person closes a story: what the policy asked in it is withdrawn. What a person asked stays that
    /// person's, and can still be answered.
    pub(super) fn withdraw_of(&mut self, incident: IncidentId, why: &str) -> Vec<Output> {
        let is_its = |open: &&Approval| {
            open.state == ApprovalState::Open
                && open.incident == Some(incident)
                && open.asked_by.is_none()
        };
        let its: Vec<ApprovalId> =
            self.approvals.all().filter(is_its).map(|open| open.id).collect();
        its.into_iter().filter_map(|open| self.withdraw(open, why)).collect()
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

    /// A machine is struck off: nothing about it is asked or proposed any more, its link counts no more, and what
    /// was never sent to it never is. What is with the signer by now is signed, and dies then. To be said again
    /// after a restart.
    pub fn struck_off(&mut self, machine: MachineId) -> Vec<Output> {
        self.struck_off.insert(machine);
        if let Some(known) = self.machines.get_mut(&machine) {
            known.link = None;
        }
        let is_open = |open: &&Approval| open.state == ApprovalState::Open;
        let open: Vec<ApprovalId> =
            self.approvals.of(machine).filter(is_open).map(|open| open.id).collect();
        let why = "its machine was struck off";
        let mut outputs: Vec<Output> =
            open.into_iter().filter_map(|open| self.withdraw(open, why)).collect();
        let queue = self.queues.get_mut(&machine);
        let behind: Vec<OrderId> =
            queue.into_iter().flat_map(|queue| queue.drain(1.min(queue.len())..)).collect();
        for proposal in behind {
            self.proposals.remove(&proposal);
            outputs.push(Output::Keep(Change::Answered(proposal)));
        }
        let orders: Vec<OrderId> = self.orders.ids_of(machine).collect();
        for order in orders {
            if self.orders.get_mut(order).is_some_and(OrderLife::struck_off) {
                outputs.extend(self.order_died(order));
            }
        }
        outputs
    }

    /// What is proposed for a machine and not signed yet: it may be ordered in a moment.
    pub fn proposed_for(&self, machine: MachineId) -> impl Iterator<Item = &Instruction> {
        let queue = self.queues.get(&machine).into_iter().flatten();
        let proposals = queue.filter_map(|proposal| self.proposals.get(proposal));
        proposals.map(|proposal| &proposal.instruction)
    }

    /// Nobody answered: what the policy has done then, or the same question again, as long as it matters.
    fn after_no_answer(
        &mut self,
        question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Ok(question) = self.still_matters(question) else { return Vec::new() };
        let tier = self.machines.get(&question.machine).and_then(|m| m.row.assignment.tier);
        let is_for_segment = self.policy.approval.unanswered == Unanswered::Segment
            && question.instruction.isolation().is_some()
            && self.intended(question.machine) < Some(Isolation::Segment)
            && tier.is_some_and(|tier| !tier.is_clinical());
        let (true, Some(finding), Some(level)) = (is_for_segment, question.finding, question.level)
        else {
            return self.ask_again(question, now, randomness);
        };
        let proposal = Proposal {
            id: OrderId::new(now.utc, id_bytes(randomness)),
            machine: question.machine,
            instruction: Instruction::isolate(Isolation::Segment, self.policy.lease),
            basis: Basis::Unanswered { approval: question.id, finding, level },
            incident: question.incident,
            reason: format!("nobody answered: {}", question.why),
        };
        let mut outputs = self.propose_this(proposal);
        // What else was asked is not the policy's to answer.
        let mut also = question.also.clone().into_iter();
        if let Some(instruction) = also.next() {
            let rest = Approval { instruction, also: also.collect(), ..question };
            outputs.extend(self.ask_again(rest, now, randomness));
        }
        outputs
    }

    /// The signer does not sign what people agreed to, or does not let the policy answer for them: then they
    /// are asked again.
    pub(super) fn asked_in_vain(
        &mut self,
        approval: ApprovalId,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let question = self.approvals.get(approval).cloned();
        match question.and_then(|question| self.still_matters(question).ok()) {
            Some(question) => self.ask_again(question, now, randomness),
            None => Vec::new(),
        }
    }

    fn ask_again(
        &mut self,
        question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Approval { machine, instruction, also, why, incident, refused, .. } = question;
        let wishes = std::iter::once(&instruction).chain(&also);
        let needs = wishes.map(|wish| self.needed_for(machine, wish)).max();
        let needs = needs.unwrap_or(question.needs);
        let of = question.finding.zip(question.level);
        let again = Question {
            machine,
            instruction,
            also,
            needs,
            why,
            incident,
            of,
            refused,
            asked_by: None,
        };
        self.ask(again, now, randomness)
    }

    /// What of a question that nobody answered is worth asking again: the policy's, about a story that is
    /// open, and that is not done by now. What a person wished is that person's to wish again.
    ///
    /// # Errors
    /// Why it does not, in words.
    fn still_matters(&self, question: Approval) -> Result<Approval, &'static str> {
        if question.asked_by.is_some() {
            return Err("what a person asked is theirs to ask again");
        }
        if !question.incident.is_some_and(|of| self.grouping.is_open(of)) {
            return Err("its incident is closed");
        }
        let wanted = question.instruction.isolation();
        let is_done = wanted.is_some() && self.intended(question.machine) >= wanted;
        if !is_done {
            return Ok(question);
        }
        let mut rest = question.also.into_iter();
        let instruction = rest.next().ok_or("its machine is isolated as far by now")?;
        Ok(Approval { instruction, also: rest.collect(), ..question })
    }

    fn is_asked(
        &self,
        machine: MachineId,
        instruction: &Instruction,
        also: &[Instruction],
    ) -> bool {
        self.asking_for(machine, instruction, also).is_some()
    }

    /// The policy's open question about a machine that asks for all of this. What a person wished is another
    /// question: it ends otherwise, and would hide the policy's.
    pub(super) fn asking_for(
        &self,
        machine: MachineId,
        instruction: &Instruction,
        also: &[Instruction],
    ) -> Option<ApprovalId> {
        let wanted = instruction.isolation();
        // Whoever may have to say no to all, for the machine would lose its hub, is asked for less as well.
        let is_part = wanted < Some(Isolation::Full)
            && self.machines.get(&machine).is_some_and(|machine| machine.loses_the_hub);
        let too_far = is_part.then_some(Isolation::Full);
        let mut asking = self.approvals.of(machine).filter(|open| {
            let asks_for =
                |wish: &Instruction| open.instruction == *wish || open.also.contains(wish);
            open.state == ApprovalState::Open
                && open.asked_by.is_none()
                && also.iter().all(asks_for)
                && match wanted {
                    Some(_) => {
                        let asked = open.instruction.isolation();
                        asked >= wanted && (too_far.is_none() || asked < too_far)
                    }
                    None => asks_for(instruction),
                }
        });
        asking.next().map(|open| open.id)
    }

    /// The open question that asks for exactly this: nobody's yes goes to more than was meant.
    fn the_same(&self, machine: MachineId, instruction: &Instruction) -> Option<ApprovalId> {
        let mut open = self.approvals.of(machine).filter(|open| {
            open.state == ApprovalState::Open
                && open.instruction == *instruction
                && open.also.is_empty()
        });
        open.next().map(|open| open.id)
    }

    /// Whether people are told of a new question, besides its place in the list. Of one story they are told
    /// at the first, the second, the fourth… open question, and whenever one needs more people than any
    /// before: else a wrong rule would call them a thousand times, and the one call that matters is lost.
    fn is_told_of(&self, new: &Approval) -> bool {
        let is_beside =
            |open: &&Approval| open.incident == new.incident && open.state == ApprovalState::Open;
        let (mut beside, mut most) = (0_usize, None);
        for open in self.approvals.all().filter(is_beside) {
            beside += 1;
            most = most.max(Some(open.needs));
        }
        new.incident.is_none() || (beside + 1).is_power_of_two() || most < Some(new.needs)
    }

    /// What the signer has to know of a question: where the policy acts on one that nobody answers, the time
    /// for answering counts by the signer's own clock.
    pub(super) fn for_the_signer(&self, open: &Approval) -> Option<ForSigner> {
        let is_for_segment = self.policy.approval.unanswered == Unanswered::Segment
            && open.instruction.isolation().is_some()
            && open.finding.is_some();
        is_for_segment.then_some(ForSigner::Asked(open.machine, open.id))
    }

    /// Who has to agree to an instruction.
    pub(super) fn needed_for(&self, machine: MachineId, instruction: &Instruction) -> Needs {
        let tier = self.machines.get(&machine).map(|m| m.row.assignment.effective_tier());
        let tier = tier.unwrap_or(ClinicalTier::Clinical);
        match instruction {
            Instruction::Begin { action, .. } => decision::needs_to_do(&self.policy, action, tier),
            Instruction::Renew { .. } => self.policy.approval.needs(Needs::to_contain(tier), tier),
            Instruction::Undo { .. } | Instruction::Release => Needs::OnePerson,
        }
    }

    /// What a person wishes for, as it is ordered: an isolation that only opens what a stricter one cuts is for
    /// a machine that is isolated still when the order reaches it, by a code it may be open by then.
    fn meant(&self, machine: MachineId, instruction: Instruction) -> Instruction {
        match instruction {
            Instruction::Begin { action: Action::Isolate(isolation), lease, if_isolated: None }
                if self.would_only_open(machine, isolation) =>
            {
                Instruction::ease(isolation, lease)
            }
            other => other,
        }
    }

    /// Whether an isolation would only open what a stricter one cuts: that is shown to be in force, or was sent
    /// to the machine and may be; nobody has ordered it to end, and the machine knows of orders with a condition.
    #[must_use]
    pub fn would_only_open(&self, machine: MachineId, isolation: Isolation) -> bool {
        let knows = |known: &Machine| known.row.version >= CONDITIONS;
        // Its receipt may be lost or late, and the machine opened by a code since.
        let is_sent = |life: &MeasureLife| {
            let order = match life.origin {
                Origin::Order(order) => self.orders.get(order),
                _ => None,
            };
            order.is_some_and(|of| matches!(of.delivery, Delivery::Sent | Delivery::Taken))
        };
        let shown = self
            .measures
            .of(machine)
            .filter(|life| life.state.is_acting() || is_sent(life))
            .filter(|life| life.may_be_counted_on() && !life.is_let_go());
        self.machines.get(&machine).is_some_and(knows)
            && shown.filter_map(|life| life.action.isolation()).max() > Some(isolation)
            // What was ordered since, and is on its way, is not closed by halves; but what only opens closes
            // nothing.
            && self.intended_by(machine, Instruction::closes) > Some(isolation)
    }

    /// The night, if an instruction falls in it: one that closes something.
    fn night_for(
        &self,
        machine: MachineId,
        instruction: &Instruction,
        now: &Moment,
    ) -> Option<&Night> {
        let tier = self.machines.get(&machine)?.row.assignment.effective_tier();
        self.policy.approval.night_of(tier, now.utc).filter(|_| instruction.closes())
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

/// The oldest of these questions of each story, and all that are of none: people are told of a story once.
pub(super) fn one_of_each_story<'a>(
    questions: impl IntoIterator<Item = &'a Approval>,
) -> Vec<ApprovalId> {
    let mut stories = BTreeSet::new();
    let is_first =
        |question: &&Approval| question.incident.is_none_or(|incident| stories.insert(incident));
    questions.into_iter().filter(is_first).map(|question| question.id).collect()
}
