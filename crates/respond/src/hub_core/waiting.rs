//! Questions that wait: told of again, withdrawn, and what follows when nobody answers.

use super::asking::{Question, Story, one_of_each_story};
use super::since;
use super::*;

impl HubCore {
    /// What is to be told again, and what follows from questions whose time is over. Called every second.
    pub(super) fn mind_questions(
        &mut self,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut over = Vec::new();
        let proposals = &self.proposals;
        // People answered it by their release: that is about to be signed, or refused, and then its time is over.
        let waits = |of: &Approval| of.released_by.is_some_and(|by| proposals.contains_key(&by));
        for approval in self.approvals.all_mut() {
            if approval.state == ApprovalState::Declined {
                self.no_since.entry(approval.id).or_insert(now.at);
            }
            if !waits(approval) && approval.expire(now.utc) {
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
        outputs.extend(self.ask_what_came_beside(now, randomness));
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

    /// Nobody answered: what the policy has done then, or the same question again, as long as it matters.
    fn after_no_answer(
        &mut self,
        question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Ok(question) = self.still_matters(question) else { return Vec::new() };
        if self.was_declined_since(&question, now) {
            // Somebody did answer, where as much and more was asked.
            return Vec::new();
        }
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
        let Some(question) = self.approvals.get_mut(approval) else { return Vec::new() };
        question.is_in_vain = true;
        let question = question.clone();
        let mut outputs = vec![Output::Keep(Change::Approval(question.clone()))];
        match self.still_matters(question) {
            // Of one yes the signer may refuse several things, one after another: what people were asked again at
            // the first, and said no to, they are not asked at the next.
            Ok(question) if !self.was_declined_since(&question, now) => {
                outputs.extend(self.ask_again(question, now, randomness));
            }
            _ => {}
        }
        // Of another story, perhaps, which is open still.
        outputs.extend(self.ask_since(approval, since::BESIDE, now, randomness));
        outputs
    }

    /// Whether people said no to all of a question later than they said anything to it, and nothing new was found
    /// on its machine in its story since that no.
    fn was_declined_since(&self, question: &Approval, now: &Moment) -> bool {
        let news = self.news_of(question.machine, question.incident);
        // Of before turns were counted only the times are known.
        let last =
            |of: &Approval| (of.turn, of.answers.last().map_or(of.asked_at, |answer| answer.at));
        self.approvals.of(question.machine).any(|no| {
            no.state == ApprovalState::Declined
                && self.holds_still(no, now)
                && no.incident == question.incident
                && no.news >= news
                && last(no) >= last(question)
                && wishes(question).all(|wish| wishes(no).any(|declined| is_less(wish, declined)))
        })
    }

    pub(super) fn ask_again(
        &mut self,
        question: Approval,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let kept = self.in_words_now(&question);
        let Approval { machine, instruction, also, incident, refused, .. } = question;
        let why = since::with_what_came(question.why, incident, &question.since);
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
        let mut outputs: Vec<Output> = kept.into_iter().collect();
        outputs.extend(self.ask(again, now, randomness));
        outputs
    }

    /// What came while a question was open and asks for no more is in its words when it is asked again, and a yes does it:
    /// it is not asked about by itself.
    fn in_words_now(&mut self, question: &Approval) -> Option<Output> {
        let is_in_words = |came: &mut approval::Since| {
            let isolation = came.instruction.isolation();
            let is_as_far = isolation.is_some() && isolation == question.instruction.isolation();
            let is_asked = |wish: &Instruction| wishes(question).any(|asked| asked == wish);
            question.since.contains(came)
                && came.incident == question.incident
                && (is_as_far || is_asked(&came.instruction))
                && came.also.iter().all(is_asked)
        };
        let known = self.approvals.get_mut(question.id)?;
        let count = known.since.extract_if(.., is_in_words).count();
        (count > 0).then(|| Output::Keep(Change::Approval(known.clone())))
    }

    /// What of a question that nobody answered is worth asking again: the policy's, about a story that is
    /// open, and that is not done by now. What a person wished is that person's to wish again.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(super) fn still_matters(&self, question: Approval) -> Result<Approval, &'static str> {
        if question.asked_by.is_some() {
            return Err("what a person asked is theirs to ask again");
        }
        if !question.incident.is_some_and(|of| self.grouping.is_open(of)) {
            return Err("its incident is closed");
        }
        let wanted = question.instruction.isolation();
        // What is only proposed may be refused, and then it is asked about in its own story alone.
        let is_done = wanted.is_some() && self.secured(question.machine) >= wanted;
        if !is_done {
            return Ok(question);
        }
        let mut rest = question.also.into_iter();
        let instruction = rest.next().ok_or("its machine is isolated as far by now")?;
        Ok(Approval { instruction, also: rest.collect(), ..question })
    }

    /// Nobody has to answer it any more.
    pub(super) fn withdraw(&mut self, question: ApprovalId, why: &str) -> Option<Output> {
        let question = self.approvals.get_mut(question)?;
        question.withdraw(why);
        Some(Output::Keep(Change::Approval(question.clone())))
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
}

/// All that a question asks for.
pub(super) fn wishes(question: &Approval) -> impl Iterator<Item = &Instruction> {
    std::iter::once(&question.instruction).chain(&question.also)
}

/// Whether whoever said no to `declined` said no to `wish` as well. Of isolations, who does not want the milder
/// one does not want the stricter; the other way round nothing is said.
pub(super) fn is_less(wish: &Instruction, declined: &Instruction) -> bool {
    let isolations = wish.isolation().zip(declined.isolation());
    wish == declined || isolations.is_some_and(|(wish, declined)| wish >= declined)
}
