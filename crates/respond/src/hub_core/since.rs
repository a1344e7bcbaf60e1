//! What is found while people are asked: noted on their question, and asked about at once after their no.
//!
//! The one idea: a no covers what the question said when it was put, and nothing that came later. While the
//! question is open that need not be asked by itself, for a yes would do as much; after a no it would lie
//! unread until the next finding.

use super::asking::Question;
use super::spared::shortened;
use super::waiting::{is_less, wishes};
use super::*;
use cordon_model::finding::Level;
use cordon_model::ids::FindingId;
use cordon_model::limits::MEASURES_PER_MACHINE;

use crate::approval::{NAMED_SINCE, SINCE_PER_QUESTION, Since};

/// How what came is told of where no answer to the question brought it up.
pub(super) const BESIDE: &str = "found while another question about the machine was open";

impl HubCore {
    /// How often a story has brought something new about a machine.
    pub(super) fn news_of(&self, machine: MachineId, incident: Option<IncidentId>) -> u32 {
        incident.map_or(0, |incident| self.grouping.news_of(incident, machine))
    }

    /// The same of what people are asked about now: what the policy has proposed for and the signer has not answered is
    /// in nobody's words yet, nor is what came beside an earlier question and waits for such an answer. Both are asked
    /// by themselves.
    pub(super) fn asked_with(&self, machine: MachineId, incident: Option<IncidentId>) -> u32 {
        let proposed = self.count_proposed(machine, incident);
        let in_words = self.news_of(machine, incident).saturating_sub(proposed);
        let waits = |of: &&Approval| is_left(of) || self.is_on_its_way(of);
        let waiting = self.approvals.of(machine).filter(waits).flat_map(|of| &of.since);
        let waiting = waiting.filter(|came| came.incident == incident);
        let first = waiting.map(|came| came.news.saturating_sub(1)).min();
        first.map_or(in_words, |first| in_words.min(first))
    }

    /// The place of what is asked or answered next about a machine. Those that are held suffice: what is
    /// compared is among them.
    pub(super) fn next_turn(&self, machine: MachineId) -> u64 {
        let last = self.approvals.of(machine).map(|question| question.turn).max();
        last.unwrap_or(0).saturating_add(1)
    }

    /// As much as `new` asks for is asked already, by `open`. What a no to that would not cover is noted there.
    pub(super) fn found_since(&mut self, open: ApprovalId, new: Question) -> Option<Output> {
        let news = self.news_of(new.machine, new.incident);
        let asked_with = self.asked_with(new.machine, new.incident);
        let (finding, level) = new.of?;
        let open = self.approvals.get_mut(open)?;
        let is_covered = open.incident == new.incident
            && open.news >= news
            && wishes(open).any(|asked| is_less(&new.instruction, asked));
        if is_covered {
            return None;
        }
        let is_it =
            |of: &&mut Since| of.incident == new.incident && of.instruction == new.instruction;
        if let Some(known) = open.since.iter_mut().find(is_it) {
            if known.news >= news {
                return None;
            }
            known.news = asked_with;
            for also in new.also {
                if !known.also.contains(&also) {
                    known.also.push(also);
                }
            }
            known.names(new.why, (finding, level), NAMED_SINCE);
        } else if open.since.len() < SINCE_PER_QUESTION {
            open.since.push(Since {
                incident: new.incident,
                instruction: new.instruction,
                also: new.also,
                finding,
                level,
                whys: vec![new.why],
                more: 0,
                news: asked_with,
            });
        } else {
            note_beyond(&mut open.since, new, (finding, level, asked_with));
        }
        Some(Output::Keep(Change::Approval(open.clone())))
    }

    /// Somebody said no to a question: what came while it was open, and still matters, is asked about now.
    pub(super) fn ask_what_came_since(
        &mut self,
        declined: ApprovalId,
        person: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let how = format!("NEW since the question that {person} said no to");
        self.ask_since(declined, &how, now, randomness)
    }

    /// Of questions that nobody has to answer any more: what came while they were open, about which nobody is asked
    /// otherwise. Called every second.
    pub(super) fn ask_what_came_beside(
        &mut self,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let is_over = |of: &&Approval| is_left(of) && self.proposed(of.machine).is_none();
        let over: Vec<ApprovalId> = self.approvals.all().filter(is_over).map(|of| of.id).collect();
        over.into_iter().flat_map(|of| self.ask_since(of, BESIDE, now, randomness)).collect()
    }

    /// Asks what came while a question was open, once.
    pub(super) fn ask_since(
        &mut self,
        of: ApprovalId,
        how: &str,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Vec<Output> {
        let machine = self.approvals.get(of).map(|of| of.machine);
        let proposed = machine.and_then(|machine| self.proposed(machine));
        let Some(known) = self.approvals.get_mut(of) else { return Vec::new() };
        // What is proposed and not signed would do as much, and the signer may refuse it: then that is asked again, in
        // its own story. So this waits for its answer.
        let waits = |came: &mut Since| {
            came.instruction.isolation().is_some() && came.instruction.isolation() <= proposed
        };
        let waiting: Vec<Since> = known.since.extract_if(.., waits).collect();
        let mut since = std::mem::replace(&mut known.since, waiting);
        if since.is_empty() {
            return Vec::new();
        }
        let over = known.clone();
        let mut outputs = vec![Output::Keep(Change::Approval(over.clone()))];
        // The milder first: a question for more would pass for it, and a no to that would not cover it.
        since.sort_by_key(|since| since.instruction.isolation());
        for came in since {
            let why = shortened(&format!("{how}: {}", came.in_words()));
            let question = Approval {
                instruction: came.instruction,
                also: came.also,
                why,
                incident: came.incident,
                finding: Some(came.finding),
                level: Some(came.level),
                refused: None,
                asked_by: None,
                ..over.clone()
            };
            let Ok(question) = self.still_matters(question) else { continue };
            // Of a story that made room for others it is not known any more how much was found: only from here.
            let news = came.news.max(self.news_of(over.machine, question.incident));
            let (of, wish) = (question.incident, &question.instruction);
            let mut nos = self.nos_since(over.machine, of, wish, news);
            let is_declined = nos.any(|no| self.holds_still(no, now));
            drop(nos);
            if !is_declined {
                outputs.extend(self.ask_again(question, now, randomness));
            }
        }
        outputs
    }
}

/// Whether nobody has to answer a question any more, nothing is done of it, and there is what came while it was open.
pub(super) fn is_left(question: &Approval) -> bool {
    let is_over = match question.state {
        ApprovalState::Expired | ApprovalState::Declined => true,
        ApprovalState::Approved => question.is_in_vain,
        ApprovalState::Open => false,
    };
    is_over && !question.since.is_empty()
}

/// Notes what there is no place of its own for: in one that says how many they are, asks for the most that one of them
/// asks for, and is of the last one's story. A no to it covers that one; the others are asked about at their next
/// finding.
fn note_beyond(kept: &mut Vec<Since>, new: Question, of: (FindingId, Level, u32)) {
    let (finding, level, news) = of;
    let Some(beyond) = kept.get_mut(SINCE_PER_QUESTION) else {
        kept.push(Since {
            incident: new.incident,
            instruction: new.instruction,
            also: new.also,
            finding,
            level,
            whys: vec![format!("in further stories: {}", new.why)],
            more: 0,
            news,
        });
        return;
    };
    if is_less(&beyond.instruction, &new.instruction) {
        beyond.instruction = new.instruction;
    }
    for also in new.also {
        if beyond.also.len() < MEASURES_PER_MACHINE && !beyond.also.contains(&also) {
            beyond.also.push(also);
        }
    }
    (beyond.incident, beyond.news) = (new.incident, news);
    beyond.names(format!("in further stories: {}", new.why), (finding, level), 1);
}

/// The words of a question that is asked again, with what was found in its story while it was open before them:
/// whoever answers it now is asked about that, too.
pub(super) fn with_what_came(why: String, incident: Option<IncidentId>, since: &[Since]) -> String {
    let mut came: Vec<&Since> = since.iter().filter(|since| since.incident == incident).collect();
    // The most serious first: what is too long is cut at its end.
    came.sort_by_key(|since| std::cmp::Reverse(since.level));
    let came: Vec<String> = came.into_iter().map(Since::in_words).collect();
    if came.is_empty() {
        return why;
    }
    shortened(&format!("NEW: {}; asked before: {why}", came.join("; ")))
}
