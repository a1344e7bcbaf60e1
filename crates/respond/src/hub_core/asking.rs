//! Asking people: what is asked of whom, when it is not asked again, and when people are told of it.

use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::limits;

use super::spared::shortened;
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

impl Question {
    /// What the policy asks about a finding on a machine.
    pub fn of_the_policy(
        machine: MachineId,
        instruction: Instruction,
        needs: Needs,
        why: String,
        incident: Option<IncidentId>,
        of: (FindingId, Level),
    ) -> Self {
        Self {
            machine,
            instruction,
            also: Vec::new(),
            needs,
            why,
            incident,
            of: Some(of),
            refused: None,
            asked_by: None,
        }
    }
}

/// What people are told of once: an incident, or a question that belongs to none.
pub(super) type Story = Result<IncidentId, ApprovalId>;

impl HubCore {
    /// Asks people, unless an open question about the machine asks for as much.
    pub(super) fn ask(
        &mut self,
        question: Question,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Question { machine, instruction, also, .. } = &question;
        if self.struck_off.contains(machine) {
            return Vec::new();
        }
        if let Some(open) = self.asking_for(*machine, instruction, also) {
            return self.found_since(open, question).into_iter().collect();
        }
        self.ask_apart(question, now, randomness)
    }

    /// Asks people by a question of its own, though an open one may ask for as much.
    pub(super) fn ask_apart(
        &mut self,
        question: Question,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Question { machine, instruction, why, incident, .. } = &question;
        if self.struck_off.contains(machine) {
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

    pub(super) fn put_question(
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
            mut of,
            refused,
            asked_by,
        } = question;
        // A no covers all that was found by now: so all of it is in the words.
        if let Some(found) = self.found_as_well(machine, incident, &why) {
            why = shortened(&format!("FOUND AS WELL: {}; {why}", found.words));
            of = of.map(|of| if found.of.1 > of.1 { found.of } else { of });
        }
        // Whatever it is asked for: nobody agrees to it without knowing.
        let out_of_reach = AskReason::OutOfReach.to_string();
        if self.loses_the_hub(machine)
            && instruction.isolation() == Some(Isolation::Full)
            && !why.contains(&out_of_reach)
        {
            why = format!("{why}; {out_of_reach}");
        }
        // What is found while it is open is not what people were asked about: their no does not cover it.
        let news = self.news_of(machine, incident);
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
            news,
            turn: self.next_turn(machine),
            since: Vec::new(),
            no_until: None,
            state: ApprovalState::Open,
            withdrawn: None,
            is_in_vain: false,
            released_by: None,
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

    fn is_asked(
        &self,
        machine: MachineId,
        instruction: &Instruction,
        also: &[Instruction],
    ) -> bool {
        self.asking_for(machine, instruction, also).is_some()
    }

    /// Whether people are asked, or will be, to cut off the machine of what would be done besides: a budget that is
    /// spent leaves three measures of each finding to them, and a question for each would bury the one that
    /// matters. What was found stands in the incident, and they order what else there is to do.
    pub(super) fn is_asked_further(&self, proposal: &Proposal) -> bool {
        if proposal.instruction.isolation().is_some() {
            return false;
        }
        let is_open = |open: &Approval| {
            open.state == ApprovalState::Open
                && open.asked_by.is_none()
                && open.incident == proposal.incident
                && open.instruction.isolation().is_some()
        };
        self.approvals.of(proposal.machine).any(is_open)
            || self.is_proposed_in(proposal.machine, proposal.incident)
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
        let is_part = wanted < Some(Isolation::Full) && self.loses_the_hub(machine);
        let too_far = is_part.then_some(Isolation::Full);
        let mut asking = self.approvals.of(machine).filter(|open| {
            let asks_for =
                |wish: &Instruction| open.instruction == *wish || open.also.contains(wish);
            // Once people's release is signed, it is asked no more.
            let is_to_be_withdrawn =
                open.released_by.is_some_and(|release| self.proposals.contains_key(&release));
            open.state == ApprovalState::Open
                && open.asked_by.is_none()
                && !is_to_be_withdrawn
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

    /// The night, if an instruction falls in it: one that closes something.
    pub(super) fn night_for(
        &self,
        machine: MachineId,
        instruction: &Instruction,
        now: &Moment,
    ) -> Option<&Night> {
        let tier = self.machines.get(&machine)?.row.assignment.effective_tier();
        self.policy.approval.night_of(tier, now.utc).filter(|_| instruction.closes())
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
