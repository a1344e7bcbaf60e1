//! What a person wishes for: proposed at once, or asked of others too.

use cordon_model::action::Action;
use cordon_model::limits;

use super::asking::Question;
use super::*;

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
    /// [`AnswerRefused`] if the machine was struck off, or the same question is open and this person's yes is
    /// not taken there.
    pub fn people_propose(
        &mut self,
        wish: Wish,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<(Wished, Vec<Output>), AnswerRefused> {
        let Wish { machine, instruction, person, identity, incident, reason } = wish;
        if self.struck_off.contains(&machine) {
            return Err(AnswerRefused::StruckOff);
        }
        let instruction = self.meant(machine, instruction);
        let needs = self.needed_for(machine, &instruction);
        let night = self.night_for(machine, &instruction, now);
        let may = night.is_none_or(|night| night.people.contains(&person.name));
        let counts = may && (needs == Needs::OnePerson || identity >= Identity::Session);

        // What needs strong identities is refused by the signer, with its reason: no question helps.
        let is_alone = counts && approval::is_enough(needs, std::slice::from_ref(&person));
        if is_alone || needs == Needs::TwoKeysOneClinical {
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

    /// The open question that asks for exactly this: nobody's yes goes to more than was meant.
    fn the_same(&self, machine: MachineId, instruction: &Instruction) -> Option<ApprovalId> {
        let mut open = self.approvals.of(machine).filter(|open| {
            open.state == ApprovalState::Open
                && open.instruction == *instruction
                && open.also.is_empty()
        });
        open.next().map(|open| open.id)
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
}
