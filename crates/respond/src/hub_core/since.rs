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

impl HubCore {
    /// How often a story has brought something new about a machine.
    pub(super) fn news_of(&self, machine: MachineId, incident: Option<IncidentId>) -> u32 {
        incident.map_or(0, |incident| self.grouping.news_of(incident, machine))
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
            known.news = news;
            if level > known.level {
                (known.finding, known.level) = (finding, level);
            }
            for also in new.also {
                if !known.also.contains(&also) {
                    known.also.push(also);
                }
            }
            if known.whys.len() < NAMED_SINCE {
                known.whys.push(new.why);
            } else {
                known.more = known.more.saturating_add(1);
            }
        } else if open.since.len() < SINCE_PER_QUESTION {
            open.since.push(Since {
                incident: new.incident,
                instruction: new.instruction,
                also: new.also,
                finding,
                level,
                whys: vec![new.why],
                more: 0,
                news,
            });
        } else {
            note_beyond(&mut open.since, new, (finding, level, news));
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
        let is_over = |of: &&Approval| {
            matches!(of.state, ApprovalState::Expired | ApprovalState::Declined)
                && !of.since.is_empty()
                && self.proposed(of.machine).is_none()
        };
        let over: Vec<ApprovalId> = self.approvals.all().filter(is_over).map(|of| of.id).collect();
        let how = "found while another question about the machine was open";
        over.into_iter().flat_map(|of| self.ask_since(of, how, now, randomness)).collect()
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
            if !self.was_declined(over.machine, question.incident, &question.instruction, now) {
                outputs.extend(self.ask_again(question, now, randomness));
            }
        }
        outputs
    }
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
    if level > beyond.level {
        (beyond.finding, beyond.level) = (finding, level);
    }
    beyond.more = beyond.more.saturating_add(1);
}

/// The words of a question that is asked again, with what was found in its story while it was open before them:
/// whoever answers it now is asked about that, too.
pub(super) fn with_what_came(why: String, incident: Option<IncidentId>, since: &[Since]) -> String {
    let came = since.iter().filter(|since| since.incident == incident);
    let came: Vec<String> = came.map(Since::in_words).collect();
    if came.is_empty() {
        return why;
    }
    shortened(&format!("NEW: {}; asked before: {why}", came.join("; ")))
}
