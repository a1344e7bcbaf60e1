//! What people said no to, as whoever watches the hub's database sees it.
//!
//! It keeps its own account of what was new in each story, and never asks the mind that it judges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::finding::{Level, ReceivedFinding};
use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MachineId, OrderId};
use cordon_model::laws::{self, Violation};
use cordon_model::order::Instruction;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::decision::SERIOUS;
use cordon_respond::signer_core::{Basis, Proposal};

/// Kinds of findings that a hub remembers of one machine in one story. Said here once more: what judges it does not
/// ask it.
const REMEMBERED: usize = 128;

/// What was found in one story.
#[derive(Debug, Default)]
struct Found {
    /// On which machine which rule matched.
    rules: BTreeSet<(MachineId, String)>,
    tags: BTreeSet<(MachineId, String)>,
    level: Option<Level>,
    /// On each machine, how many findings had something that no finding there had before.
    news: BTreeMap<MachineId, u32>,
    /// Which of them were serious and left to no isolation, by their places.
    serious: BTreeMap<(MachineId, u32), FindingId>,
    /// What each finding is called in a question's words.
    called: BTreeMap<FindingId, String>,
}

/// A no.
#[derive(Debug)]
struct No {
    machine: MachineId,
    incident: IncidentId,
    /// All that was asked for.
    to: Vec<Instruction>,
    /// What was new on the machine when it was asked.
    news: u32,
    /// Its place in all that people said, or left unsaid.
    at: usize,
    said: Said,
}

/// What the policy has proposed.
#[derive(Debug, Clone, Copy)]
struct Proposed {
    machine: MachineId,
    incident: IncidentId,
    finding: FindingId,
    /// What was new there by then.
    news: u32,
}

/// When something was said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// In true time.
    pub(crate) at: Duration,
    /// By the hub's clock.
    pub(crate) utc: UtcNanos,
}

impl Said {
    /// Whether it is younger than that by every clock; `now` is that of the hub.
    fn is_surely_within(self, holds: Duration, now: Said) -> bool {
        now.at.saturating_sub(self.at) < holds && now.utc.since(self.utc) < holds
    }
}

#[derive(Debug, Default)]
pub(crate) struct Declined {
    stories: BTreeMap<IncidentId, Found>,
    /// Questions, and what was new on their machine when they were asked.
    asked: BTreeMap<ApprovalId, u32>,
    /// What the policy has proposed and the signer has not answered.
    proposed: BTreeMap<OrderId, Proposed>,
    /// The one of them that it has just answered.
    answered: Option<Proposed>,
    no: BTreeMap<ApprovalId, No>,
    /// Questions that people said yes to, or did not answer: what was asked, and its place in all of it.
    in_vain: BTreeMap<ApprovalId, (MachineId, IncidentId, usize)>,
}

impl Declined {
    /// A finding is on the hub's disk. Where its machine was isolated as far as the policy wants it may have been left to
    /// that: people are told when that ends, and nobody is asked in whose words it would be.
    pub(crate) fn found(
        &mut self,
        received: &ReceivedFinding,
        incident: IncidentId,
        is_isolated: bool,
    ) {
        let (story, rule) = (self.stories.entry(incident).or_default(), &received.finding.rule);
        let mut is_news = story.rules.insert((received.machine, rule.id.clone()));
        for tag in &rule.tags {
            is_news |= story.tags.insert((received.machine, tag.clone()));
        }
        is_news |= story.level.max(Some(rule.level)) > story.level;
        story.level = story.level.max(Some(rule.level));
        is_news |= !story.news.contains_key(&received.machine);
        let news = story.news.entry(received.machine).or_default();
        *news += u32::from(is_news);
        if is_news && rule.level >= SERIOUS && !is_isolated {
            story.serious.insert((received.machine, *news), received.finding.id);
        }
        // With what follows it there, for one name may begin another.
        story.called.insert(received.finding.id, format!("{} (", rule.title));
    }

    /// How often something new was found on a machine in a story.
    pub(crate) fn news(&self, machine: MachineId, incident: IncidentId) -> u32 {
        let story = self.stories.get(&incident);
        story.and_then(|story| story.news.get(&machine)).copied().unwrap_or_default()
    }

    /// The policy proposes something for a finding.
    pub(crate) fn proposed(&mut self, proposal: &Proposal) {
        if let (Basis::Policy { finding, .. }, Some(incident)) =
            (&proposal.basis, proposal.incident)
        {
            let (machine, finding) = (proposal.machine, *finding);
            let news = self.news(machine, incident);
            let proposed = Proposed { machine, incident, finding, news };
            self.proposed.entry(proposal.id).or_insert(proposed);
        }
    }

    /// The signer has answered that; what people are asked now is asked for it.
    pub(crate) fn answered(&mut self, order: OrderId) {
        self.answered = self.proposed.remove(&order);
    }

    /// Something else happens.
    pub(crate) fn goes_on(&mut self) {
        self.answered = None;
    }

    /// How much of what was found is in the words of a question that is put now. What the policy has proposed for and the
    /// signer has not signed is left to nothing, nor is what is serious and was found while that waited: it is named in
    /// the words, or counted there, or a no to them does not cover it.
    fn in_words(&self, question: &Approval, incident: IncidentId) -> u32 {
        let machine = question.machine;
        let news = self.news(machine, incident);
        let Some(story) = self.stories.get(&incident) else { return news };
        let is_here = |of: &&Proposed| (of.machine, of.incident) == (machine, incident);
        let waiting = self.proposed.values().filter(is_here).map(|of| (of.news, of.finding));
        let answered = self.answered.as_ref().filter(is_here);
        let later = answered.into_iter().flat_map(|of| {
            let places = story.serious.range((machine, of.news + 1)..=(machine, u32::MAX));
            places.map(|((_, place), finding)| (*place, *finding))
        });
        let is_unsaid = |of: &&str| !question.why.contains(of);
        let unsaid = waiting.chain(later).filter_map(|(place, finding)| {
            let called = story.called.get(&finding).map(String::as_str);
            called.filter(is_unsaid).map(|called| (called, place))
        });
        // Of one name the first.
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        for (called, place) in unsaid {
            let first = names.entry(called).or_insert(place);
            *first = place.min(*first);
        }
        if names.len() <= counted(&question.why) {
            return news;
        }
        names.into_values().min().map_or(news, |first| first.saturating_sub(1))
    }

    /// Whether so many kinds were found on a machine that the hub need not know each of them again: what is beyond it
    /// may take for new.
    fn is_beyond_memory(&self, machine: MachineId, incident: IncidentId) -> bool {
        let Some(story) = self.stories.get(&incident) else { return false };
        let kinds = story.rules.iter().chain(&story.tags);
        kinds.filter(|(on, _)| *on == machine).count() >= REMEMBERED
    }

    /// How often something new had been found when a question was put.
    pub(crate) fn asked_with(&self, question: ApprovalId) -> u32 {
        self.asked.get(&question).copied().unwrap_or_default()
    }

    /// Whether people said no to cutting a machine off when so much had been found there, and their no holds by the
    /// hub's clock.
    pub(crate) fn is_about(
        &self,
        machine: MachineId,
        incident: IncidentId,
        news: u32,
        holds: Duration,
        now: Said,
    ) -> bool {
        self.no.values().any(|no| {
            no.machine == machine
                && no.incident == incident
                && no.news >= news
                && no.to.iter().any(|wish| wish.isolation().is_some())
                && now.utc.since(no.said.utc) < holds
        })
    }

    /// The hub keeps a question. A no holds for so long.
    pub(crate) fn kept(
        &mut self,
        question: &Approval,
        holds: Duration,
        now: Said,
    ) -> Result<(), Violation> {
        let Some(incident) = question.incident else { return Ok(()) };
        let machine = question.machine;
        // What was asked beside it, and nobody has answered, may be asked again.
        let to: Vec<Instruction> =
            std::iter::once(&question.instruction).chain(&question.also).cloned().collect();
        let news = self.news(machine, incident);
        let at = self.no.len() + self.in_vain.len();
        if question.state == ApprovalState::Declined && !self.no.contains_key(&question.id) {
            // What was found while it was open they were not asked about.
            let news = self.asked.get(&question.id).copied().unwrap_or_default();
            let no = No { machine, incident, to: to.clone(), news, at, said: now };
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
        if self.asked.contains_key(&question.id) {
            return Ok(());
        }
        self.asked.insert(question.id, self.in_words(question, incident));
        if !is_policys || self.is_beyond_memory(machine, incident) {
            return Ok(());
        }
        let here = self.in_vain.values().filter(|of| (of.0, of.1) == (machine, incident));
        let last_in_vain = here.map(|(_, _, at)| *at).max();
        let is_it = |no: &No| {
            no.machine == machine
                && no.incident == incident
                && no.to == to
                && no.news >= news
                && no.said.is_surely_within(holds, now)
                && Some(no.at) > last_in_vain
        };
        laws::asked_again(machine, self.no.values().any(is_it))
    }
}

/// How much of what was found a question only counts in its words: "and 2 more".
fn counted(why: &str) -> usize {
    let words: Vec<&str> = why.split([' ', ';']).collect();
    let counts = words.windows(3).filter(|of| (of[0], of[2]) == ("and", "more"));
    counts.filter_map(|of| of[1].parse::<usize>().ok()).sum()
}
