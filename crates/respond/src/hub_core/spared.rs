//! What a machine left alone although the policy had it stopped, because care needs it: there people are asked
//! at once.
//!
//! The one idea: nothing is frozen, ended, set aside or denied by itself in what the organisation has named
//! as needed for care, and a person's yes does not lift that either: it is lifted by taking it off the
//! machine's list. So what is asked is what can be done beside it, and that is to isolate the machine further.

use cordon_model::ids::FindingId;
use cordon_model::limits;

use super::asking::Question;
use super::*;

/// Things that were left alone, of which a question tells one by one: what a person reads before deciding.
const TOLD: usize = 3;

impl HubCore {
    /// Asks people about what a receipt says was left alone of a measure that the policy ordered by itself:
    /// once for each finding, and not again in a story in which they are asked about it or have decided. A machine says
    /// it as often as it likes: so each story has one question that says it.
    pub(super) fn ask_about_spared(
        &mut self,
        receipt: &Receipt,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let Some(question) = self.question_about_spared(receipt, now) else { return Vec::new() };
        let open = self.asking_for(question.machine, &question.instruction, &[]);
        let open = open.and_then(|open| self.approvals.get_mut(open));
        // Of another story it would end with that one; and whoever said yes already said it to other words.
        let is_its =
            |open: &&mut Approval| open.incident == question.incident && open.answers.is_empty();
        let Some(question_open) = open.filter(is_its) else {
            return self.ask_apart(question, now, randomness);
        };
        // As much is asked already, for another reason: whoever answers has to know this one too.
        question_open.why = shortened(&format!("{} ALSO: {}", question.why, question_open.why));
        question_open.refused = question.refused;
        let asked = question_open.clone();
        let (id, machine) = (asked.id, Some(asked.machine));
        vec![
            Output::Keep(Change::Approval(asked)),
            self.record(Actor::Hub, Deed::Asked(id), machine, question.incident, question.why, now),
            Output::Tell(Notice::Asked(id)),
        ]
    }

    fn question_about_spared(&self, receipt: &Receipt, now: &Moment) -> Option<Question> {
        let Origin::Order(order) = receipt.origin else { return None };
        let order = &self.orders.get(order)?.order;
        let Authority::Policy { finding, .. } = order.authority else { return None };
        if receipt.spared.is_empty() {
            return None;
        }
        let (machine, incident) = (order.machine, order.incident?);
        if !self.grouping.is_open(incident) || self.is_settled(machine, incident, finding, now) {
            return None;
        }
        // A story that made room for others was serious when the policy acted.
        let level = self.grouping.story(incident).map_or(SERIOUS, |story| story.incident.level);
        let lease = self.policy.lease;
        let further = match self.intended(machine) {
            None | Some(Isolation::Watch) => Some(Isolation::Segment),
            Some(Isolation::Segment) => Some(Isolation::Full),
            Some(Isolation::Full) => None,
        };
        let instruction = match further {
            Some(further) => Instruction::isolate(further, lease),
            None => Instruction::begin(receipt.action.clone(), lease),
        };
        let needs = self.needed_for(machine, &instruction);
        let (why, of) = (in_words(receipt, &order.reason, further), (finding, level));
        let question =
            Question::of_the_policy(machine, instruction, needs, why, Some(incident), of);
        Some(Question { refused: Some(receipt.measure), ..question })
    }

    /// Whether people were asked about what was left alone for this finding, or are asked, or have decided, in
    /// this story on this machine. What they agreed to counts as long as it stands.
    fn is_settled(
        &self,
        machine: MachineId,
        incident: IncidentId,
        finding: FindingId,
        now: &Moment,
    ) -> bool {
        let intended = self.intended(machine);
        let mut known = self.approvals.of(machine).filter(|known| known.refused.is_some());
        known.any(|known| {
            let stands = match known.state {
                ApprovalState::Open => true,
                ApprovalState::Declined => self.holds_still(known, now),
                ApprovalState::Approved => known.instruction.isolation() <= intended,
                ApprovalState::Expired => false,
            };
            known.finding == Some(finding) || known.incident == Some(incident) && stands
        })
    }
}

/// What was refused and why, what was found, and what can be done.
fn in_words(receipt: &Receipt, found: &str, further: Option<Isolation>) -> String {
    let Receipt { action, spared, .. } = receipt;
    let kind = action.kind();
    let mut left: Vec<String> = spared.iter().take(TOLD).map(|line| cut(line)).collect();
    if spared.len() > TOLD {
        left.push(format!("and {} more", spared.len() - TOLD));
    }
    let left = left.join("; ");
    let did = match receipt.state {
        MeasureState::Failed { .. } => "the machine did NOT",
        _ => "the machine did not wholly",
    };
    let can = match further {
        Some(Isolation::Segment) => "A yes segments the machine instead.",
        Some(_) => "A yes cuts the machine off in full instead.",
        None => {
            "The machine is cut off in full already: a yes orders the same once more, which is refused again \
             until then."
        }
    };
    let action = cut(&action.to_string());
    shortened(&format!(
        "{did} {action}, as the policy ordered by itself: {left}. Found: {}. To {kind} it all the same, \
         somebody takes it off what is protected there (cordon assign) and then orders it (cordon measure). \
         {can}",
        cut(found)
    ))
}

/// A machine chooses neither how long a line is nor how long all of it is.
fn cut(line: &str) -> String {
    line.chars().take(limits::DONE_LINE_BYTES).collect()
}

pub(super) fn shortened(words: &str) -> String {
    words.chars().take(2 * limits::WHY_BYTES).collect()
}
