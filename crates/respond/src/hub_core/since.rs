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

/// What was found beside what people are asked about.
pub(super) struct FoundAsWell {
    /// The most serious first, of [`NAMED_SINCE`] at most; the others are counted.
    pub words: String,
    /// The most serious of it.
    pub of: (FindingId, Level),
}

impl HubCore {
    /// How often a story has brought something new about a machine.
    pub(super) fn news_of(&self, machine: MachineId, incident: Option<IncidentId>) -> u32 {
        incident.map_or(0, |incident| self.grouping.news_of(incident, machine))
    }

    /// What was found in a story on a machine, in no answered question's words, beside what a question says already: what
    /// the policy has proposed for and the signer has not answered, and what came while people were asked. All of it is
    /// in the words of whatever is asked next in that story: who says no to that says no to it, and a question for each
    /// would be one after another about the same machine.
    pub(super) fn found_as_well(
        &self,
        machine: MachineId,
        incident: Option<IncidentId>,
        says: &str,
    ) -> Option<FoundAsWell> {
        incident?;
        let proposed = self.waiting_for(machine).filter(|of| of.incident == incident);
        let proposed = proposed.filter_map(|of| match of.basis {
            Basis::Policy { finding, level } => Some((level, finding, of.reason.as_str())),
            _ => None,
        });
        let is_unanswered = |of: &&Approval| {
            of.state == ApprovalState::Open || is_left(of) || self.is_on_its_way(of)
        };
        let asked = self.approvals.of(machine).filter(is_unanswered).flat_map(|of| &of.since);
        let came: Vec<&Since> = asked.filter(|came| came.incident == incident).collect();
        let said = came
            .iter()
            .flat_map(|came| came.whys.iter().map(|why| (came.level, came.finding, why.as_str())));
        let mut all: Vec<(Level, FindingId, &str)> = proposed.chain(said).collect();
        all.sort_by_key(|(level, ..)| std::cmp::Reverse(*level));
        let (mut named, mut most) = (Vec::<&str>::new(), None);
        for (level, finding, why) in all {
            if says.contains(why) || named.iter().any(|named| named.contains(why)) {
                continue;
            }
            most.get_or_insert((finding, level));
            named.push(why);
        }
        let beyond = named.drain(named.len().min(NAMED_SINCE)..).count();
        let beyond = u32::try_from(beyond).unwrap_or(u32::MAX);
        let more = came.iter().fold(beyond, |more, came| more.saturating_add(came.more));
        let more = (more > 0).then(|| format!("and {more} more"));
        let words: Vec<&str> = named.into_iter().chain(more.as_deref()).collect();
        most.map(|of| FoundAsWell { words: words.join("; "), of })
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
            if known.news >= news && !known.lacks(&new.why, level, NAMED_SINCE) {
                return None;
            }
            known.news = known.news.max(news);
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
        let mut outputs = Vec::new();
        while let Some((came, over)) = self.next_that_came(of) {
            outputs.push(Output::Keep(Change::Approval(over.clone())));
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
                // In the words of what is put, but not done with by that: see `found_as_well`.
                since: Vec::new(),
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

    /// Takes from a question the next thing that came while it was open and can be asked about now. What is proposed and
    /// not signed would do as much, and the signer may refuse it: then that is asked again, in its own story. So what
    /// asks for no more waits for its answer.
    fn next_that_came(&mut self, of: ApprovalId) -> Option<(Since, Approval)> {
        let machine = self.approvals.get(of)?.machine;
        let proposed = self.proposed(machine);
        let known = self.approvals.get_mut(of)?;
        let waits = |wanted: Option<Isolation>| wanted.is_some() && wanted <= proposed;
        let ready = known.since.iter().map(|came| came.instruction.isolation()).enumerate();
        // The milder first: a question for more would pass for it, and a no to that would not cover it.
        let (at, _) = ready.filter(|(_, wanted)| !waits(*wanted)).min_by_key(|(_, it)| *it)?;
        let came = known.since.remove(at);
        Some((came, known.clone()))
    }
}

/// Whether nobody has to answer a question any more, nothing is done of it, and there is what came while it was open.
#[must_use]
pub fn is_left(question: &Approval) -> bool {
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
