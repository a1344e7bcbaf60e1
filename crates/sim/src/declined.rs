//! What people said no to, as whoever watches the hub's database sees it.
//!
//! It keeps its own account of what was new in each story, and never asks the mind that it judges.

use std::collections::{BTreeMap, BTreeSet};

use cordon_model::finding::{Level, ReceivedFinding};
use cordon_model::ids::{ApprovalId, IncidentId, MachineId};
use cordon_model::laws::{self, Violation};
use cordon_model::order::Instruction;
use cordon_respond::approval::{Approval, ApprovalState};

/// What was found in one story.
#[derive(Debug, Default)]
struct Found {
    rules: BTreeSet<String>,
    tags: BTreeSet<String>,
    level: Option<Level>,
    /// On each machine, how many findings had something that no finding before had.
    news: BTreeMap<MachineId, u32>,
}

/// A no.
#[derive(Debug)]
struct No {
    machine: MachineId,
    incident: IncidentId,
    /// All that was asked for.
    to: Vec<Instruction>,
    /// What was new on the machine until then.
    news: u32,
    /// Its place in all that people said, or left unsaid.
    at: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Declined {
    stories: BTreeMap<IncidentId, Found>,
    asked: BTreeSet<ApprovalId>,
    no: BTreeMap<ApprovalId, No>,
    /// Questions that people said yes to, or did not answer: what was asked, and its place in all of it.
    in_vain: BTreeMap<ApprovalId, (MachineId, IncidentId, usize)>,
}

impl Declined {
    pub(crate) fn found(&mut self, received: &ReceivedFinding, incident: IncidentId) {
        let (story, rule) = (self.stories.entry(incident).or_default(), &received.finding.rule);
        let mut is_news = story.rules.insert(rule.id.clone());
        for tag in &rule.tags {
            is_news |= story.tags.insert(tag.clone());
        }
        is_news |= story.level.max(Some(rule.level)) > story.level;
        story.level = story.level.max(Some(rule.level));
        is_news |= !story.news.contains_key(&received.machine);
        *story.news.entry(received.machine).or_default() += u32::from(is_news);
    }

    /// The hub keeps a question.
    pub(crate) fn kept(&mut self, question: &Approval) -> Result<(), Violation> {
        let Some(incident) = question.incident else { return Ok(()) };
        let machine = question.machine;
        // What was asked beside it, and nobody has answered, may be asked again.
        let to: Vec<Instruction> =
            std::iter::once(&question.instruction).chain(&question.also).cloned().collect();
        let news = self.stories.get(&incident).and_then(|story| story.news.get(&machine));
        let news = news.copied().unwrap_or_default();
        let at = self.no.len() + self.in_vain.len();
        if question.state == ApprovalState::Declined && !self.no.contains_key(&question.id) {
            let no = No { machine, incident, to: to.clone(), news, at };
            self.no.insert(question.id, no);
        }
        // What the signer does not sign of a yes, and what nobody answered, is asked again, whatever people said
        // before to something else. What they say no to after it, they say no to.
        let is_in_vain = match question.state {
            ApprovalState::Approved => true,
            ApprovalState::Expired => question.withdrawn.is_none(),
            ApprovalState::Open | ApprovalState::Declined => false,
        };
        if is_in_vain {
            self.in_vain.entry(question.id).or_insert((machine, incident, at));
        }
        // What a person wishes is theirs to wish again, and that a machine refuses something is new.
        let is_policys = question.asked_by.is_none() && question.refused.is_none();
        if !self.asked.insert(question.id) || !is_policys {
            return Ok(());
        }
        let here = self.in_vain.values().filter(|of| (of.0, of.1) == (machine, incident));
        let last_in_vain = here.map(|(_, _, at)| *at).max();
        let is_it = |no: &No| {
            no.machine == machine
                && no.incident == incident
                && no.to == to
                && no.news >= news
                && Some(no.at) > last_in_vain
        };
        laws::asked_again(machine, self.no.values().any(is_it))
    }
}
