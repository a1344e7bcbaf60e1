//! Findings that belong together become one incident, which grows in risk.
//!
//! The one idea: few rules that a person can predict. A finding joins, in this order: the open incident of
//! its machine; that of a machine which the caller says its event touched (a connection); that of the same
//! serious rule with the same program elsewhere. Otherwise it opens one. Time is the hub's receiving time:
//! a machine's own clock can't tear a story apart. A closed incident takes nothing more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use cordon_model::finding::{Level, ReceivedFinding};
use cordon_model::ids::{FindingId, IncidentId, MachineId, OdsCode};
use cordon_model::incident::{Incident, IncidentState};
use serde::{Deserialize, Serialize};

use crate::clock::{Randomness, id_bytes};
use crate::decision::SERIOUS;

mod seat;
use seat::NewThere;
pub use seat::{SEEN_PER_MACHINE, Seat};

/// A story goes on while findings come within this time of the last: 1 hour. Intruders rest for days;
/// such pieces are joined by people, not by guessing.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// Findings whose ids one incident keeps: 1,000 × 16 bytes; more are counted, and found by search.
pub const FINDINGS_PER_INCIDENT: usize = 1_000;

/// Machines of one incident: 10,000 × 16 bytes, a whole trust. More open a second incident.
pub const MACHINES_PER_INCIDENT: usize = 10_000;

/// Open incidents: 10,000, at most about 30 MB with their findings' ids at a usual 100 each. At the limit
/// the one that was quiet for longest is left to itself: it stays open for people, who work on it as it was
/// kept, and takes nothing more.
pub const OPEN_INCIDENTS: usize = 10_000;

/// Incidents of which it is remembered that they were closed last: 1,000 × 16 bytes, what people close in
/// hours, while one that was kept is read in milliseconds.
const CLOSED_LAST: usize = 1_000;

/// Stands for the place of a machine that is not known; above [`MACHINES_PER_INCIDENT`].
const UNKNOWN_PLACE: u16 = u16::MAX;

/// Distinct rules, and as many tactics, that an incident knows by name: 100 of each, so 20 KB at most. A machine that
/// makes up rules can fill them; what is new on a machine, within [its share](SEEN_PER_MACHINE), counts then.
pub const KINDS_PER_INCIDENT: usize = 100;

/// Risk is held here, so that it can't overflow and reads as "of a thousand".
pub const HIGHEST_RISK: u32 = 1_000;

/// What a finding of a new rule adds to the risk, by level; a repeated rule adds nothing.
#[must_use]
pub fn risk_of(level: Level) -> u32 {
    match level {
        Level::Informational => 0,
        Level::Low => 1,
        Level::Medium => 5,
        Level::High => 25,
        Level::Critical => 60,
    }
}

/// What a new tactic adds (`attack.execution`, then `attack.lateral-movement`: it moves through the book).
pub const RISK_OF_TACTIC: u32 = 10;

/// What a further machine adds.
pub const RISK_OF_MACHINE: u32 = 15;

/// An open incident with what grouping needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// The incident.
    pub incident: Incident,
    rules: BTreeSet<String>,
    tactics: BTreeSet<String>,
    /// On which of the incident's machines each of its findings is, by their places in the two lists.
    #[serde(default)]
    found_on: Vec<u16>,
    /// As versions before [`Seat`]s kept it: how often findings on each of its machines brought something new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    news_on: Vec<u32>,
    /// As versions before [`Seat`]s kept it: which rules and tactics were seen on which of its machines.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    seen_on: BTreeSet<u64>,
    /// When it last took a finding, by the hub's clock.
    touched: cordon_model::time::UtcNanos,
}

/// Where a finding went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its incident.
    pub incident: IncidentId,
    /// How it came there.
    pub how: How,
    /// It brought something new: a rule, a tactic, a machine or a higher level.
    pub is_news: bool,
    /// It was news on its machine, perhaps only there: the machine's [`Seat`] is another now.
    pub is_news_there: bool,
}

/// How a finding came to its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It opened it.
    Opened,
    /// It joined it.
    Joined,
    /// It was there already.
    Double,
}

/// The open incidents of one organisation.
#[derive(Debug, Clone)]
pub struct Grouping {
    organisation: OdsCode,
    stories: BTreeMap<IncidentId, Story>,
    /// Those that made room for others: nothing joins them any more, and they are open all the same. The
    /// newest [`OPEN_INCIDENTS`], 160 KB.
    given_up: BTreeSet<IncidentId>,
    /// Those that were closed last, the newest last: what somebody read of one before is not put back.
    closed_last: VecDeque<IncidentId>,
    /// A finding's id is a hash that its machine computes: without the machine, one could take another's, and
    /// that one's finding would pass for a double.
    findings: BTreeMap<(MachineId, FindingId), IncidentId>,
    by_machine: BTreeMap<MachineId, IncidentId>,
    /// What each machine brought to each open story.
    seats: BTreeMap<(IncidentId, MachineId), Seat>,
    /// Serious rule and program.
    by_indicator: BTreeMap<(String, String), IncidentId>,
}

impl Grouping {
    /// Nothing open.
    #[must_use]
    pub fn new(organisation: OdsCode) -> Self {
        Self {
            organisation,
            stories: BTreeMap::new(),
            given_up: BTreeSet::new(),
            closed_last: VecDeque::new(),
            findings: BTreeMap::new(),
            by_machine: BTreeMap::new(),
            seats: BTreeMap::new(),
            by_indicator: BTreeMap::new(),
        }
    }

    /// Takes up stories from disk, and what their machines brought. Serious programs seen before a restart join by
    /// machine only. With it: the stories that an earlier version kept in another form, to be kept again.
    #[must_use]
    pub fn restore(
        organisation: OdsCode,
        stories: impl IntoIterator<Item = Story>,
        seats: impl IntoIterator<Item = Seat>,
    ) -> (Self, Vec<IncidentId>) {
        let mut grouping = Self::new(organisation);
        let mut older = Vec::new();
        let mut stories: Vec<Story> = stories.into_iter().collect();
        stories.sort_by_key(|story| story.touched);
        for mut story in stories {
            if story.incident.state == IncidentState::Closed {
                continue;
            }
            let id = story.incident.id;
            grouping.findings.extend(story.findings_by_machine().map(|finding| (finding, id)));
            grouping.by_machine.extend(story.incident.machines.iter().map(|m| (*m, id)));
            if !story.news_on.is_empty() {
                older.push(id);
                let seats = story.older_seats().map(|seat| ((id, seat.machine), seat));
                grouping.seats.extend(seats);
                (story.news_on, story.seen_on) = (Vec::new(), BTreeSet::new());
            }
            grouping.stories.insert(id, story);
        }
        for seat in seats {
            if grouping.stories.contains_key(&seat.incident) {
                grouping.seats.insert((seat.incident, seat.machine), seat);
            }
        }
        (grouping, older)
    }

    /// What a machine has brought to an open story.
    #[must_use]
    pub fn seat(&self, incident: IncidentId, machine: MachineId) -> Option<&Seat> {
        self.seats.get(&(incident, machine))
    }

    /// What all machines of an open story have brought.
    pub fn seats_of(&self, incident: IncidentId) -> impl Iterator<Item = &Seat> {
        let machines = self.story(incident).into_iter().flat_map(|story| &story.incident.machines);
        machines.filter_map(move |machine| self.seat(incident, *machine))
    }

    /// How often findings on a machine brought something new to a story: a rule or a tactic there, a higher level,
    /// or the machine itself.
    #[must_use]
    pub fn news_of(&self, incident: IncidentId, machine: MachineId) -> u32 {
        self.seat(incident, machine).map_or(0, |seat| seat.news)
    }

    /// An open incident.
    #[must_use]
    pub fn story(&self, incident: IncidentId) -> Option<&Story> {
        self.stories.get(&incident)
    }

    /// Whether nobody has closed it, as far as is known: also of one that made room for others.
    #[must_use]
    pub fn is_open(&self, incident: IncidentId) -> bool {
        self.stories.contains_key(&incident) || self.given_up.contains(&incident)
    }

    /// The open incident that findings of this machine join.
    #[must_use]
    pub fn of_machine(&self, machine: MachineId) -> Option<IncidentId> {
        self.by_machine.get(&machine).copied()
    }

    /// All open incidents.
    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.stories.values()
    }

    /// Puts a finding where it belongs. `called` is what people call its machine: the incident's title says
    /// that name, for no command takes the one that a machine gives itself. `touched` are machines that its
    /// event names as the other side.
    pub fn place(
        &mut self,
        received: &ReceivedFinding,
        called: &str,
        touched: &[MachineId],
        randomness: Randomness<'_>,
    ) -> Placed {
        let finding = &received.finding;
        if let Some(incident) = self.findings.get(&(received.machine, finding.id)) {
            let (incident, how) = (*incident, How::Double);
            return Placed { incident, how, is_news: false, is_news_there: false };
        }
        let indicator = indicator_of(received);
        let candidate = self
            .takes(self.by_machine.get(&received.machine), received)
            .or_else(|| touched.iter().find_map(|m| self.takes(self.by_machine.get(m), received)))
            .or_else(|| {
                self.takes(indicator.as_ref().and_then(|key| self.by_indicator.get(key)), received)
            });
        let (id, how) = match candidate {
            Some(id) => (id, How::Joined),
            None => (self.open(received, called, randomness), How::Opened),
        };
        let seat = self.seats.entry((id, received.machine));
        let seat = seat.or_insert_with(|| Seat::new(id, received.machine));
        let new = seat.takes(received);
        let story = self.stories.get_mut(&id);
        let is_news = story.is_some_and(|story| story.add(received, called, &new));
        let is_news_there = new.is_any || is_news;
        seat.news = seat.news.saturating_add(u32::from(is_news_there));
        // Only what the incident keeps is remembered, so both share one limit.
        if self.stories.get(&id).is_some_and(|s| s.incident.findings.last() == Some(&finding.id)) {
            self.findings.insert((received.machine, finding.id), id);
        }
        self.by_machine.insert(received.machine, id);
        if let Some(indicator) = indicator {
            self.by_indicator.insert(indicator, id);
        }
        Placed { incident: id, how, is_news: is_news || how == How::Opened, is_news_there }
    }

    /// Somebody takes an incident; how it is then, if it is one of those that findings join.
    pub fn own(&mut self, incident: IncidentId, person: &str) -> Option<&Story> {
        let story = self.stories.get_mut(&incident)?;
        story.own(person);
        Some(&*story)
    }

    /// Somebody takes one that made room for others, as it was kept. `None` if it was closed since.
    #[must_use]
    pub fn own_kept(&self, mut kept: Story, person: &str) -> Option<Story> {
        self.has_made_room(&kept).then(|| {
            kept.own(person);
            kept
        })
    }

    /// Closes an incident and gives it up; what comes after opens a new one.
    pub fn close(&mut self, incident: IncidentId) -> Option<Story> {
        let story = self.give_up(incident)?;
        Some(self.closed(story))
    }

    /// Closes one that made room for others, as it was kept. `None` if it was closed since.
    pub fn close_kept(&mut self, kept: Story) -> Option<Story> {
        self.has_made_room(&kept).then(|| self.closed(kept))
    }

    fn closed(&mut self, mut story: Story) -> Story {
        story.incident.state = IncidentState::Closed;
        self.given_up.remove(&story.incident.id);
        if self.closed_last.len() >= CLOSED_LAST {
            self.closed_last.pop_front();
        }
        self.closed_last.push_back(story.incident.id);
        story
    }

    /// Whether this is how an incident still is that made room for others: nothing changes one but people.
    fn has_made_room(&self, kept: &Story) -> bool {
        let Incident { id, state, .. } = &kept.incident;
        let is_known = self.stories.contains_key(id) || self.closed_last.contains(id);
        *state != IncidentState::Closed && !is_known
    }

    fn give_up(&mut self, incident: IncidentId) -> Option<Story> {
        self.findings.retain(|_, of| *of != incident);
        self.by_machine.retain(|_, of| *of != incident);
        self.by_indicator.retain(|_, of| *of != incident);
        let story = self.stories.remove(&incident)?;
        for machine in &story.incident.machines {
            self.seats.remove(&(incident, *machine));
        }
        Some(story)
    }

    /// The incident, if it takes this finding still.
    fn takes(&self, id: Option<&IncidentId>, received: &ReceivedFinding) -> Option<IncidentId> {
        let story = self.stories.get(id?)?;
        let machines = &story.incident.machines;
        let has_room =
            machines.len() < MACHINES_PER_INCIDENT || machines.contains(&received.machine);
        let is_recent = received.received.since(story.touched) <= WINDOW;
        (has_room && is_recent).then_some(story.incident.id)
    }

    fn open(
        &mut self,
        received: &ReceivedFinding,
        called: &str,
        randomness: Randomness<'_>,
    ) -> IncidentId {
        if self.stories.len() >= OPEN_INCIDENTS {
            let quietest = self.stories.values().min_by_key(|story| story.touched);
            if let Some(id) = quietest.map(|story| story.incident.id) {
                self.give_up(id);
                self.given_up.insert(id);
                if self.given_up.len() > OPEN_INCIDENTS {
                    self.given_up.pop_first();
                }
            }
        }
        let id = IncidentId::new(received.received, id_bytes(randomness));
        let incident = Incident {
            id,
            organisation: self.organisation.clone(),
            title: title_of(received, called),
            state: IncidentState::New,
            owner: None,
            level: received.finding.rule.level,
            risk: 0,
            first: received.finding.time,
            last: received.finding.time,
            machines: Vec::new(),
            findings: Vec::new(),
            finding_count: 0,
        };
        let story = Story {
            incident,
            rules: BTreeSet::new(),
            tactics: BTreeSet::new(),
            found_on: Vec::new(),
            news_on: Vec::new(),
            seen_on: BTreeSet::new(),
            touched: received.received,
        };
        self.stories.insert(id, story);
        id
    }
}

impl Story {
    /// What its machines brought, as an earlier version kept it here: hashes of what was seen on any of them, of rules
    /// and tactics that it knows by name.
    fn older_seats(&self) -> impl Iterator<Item = Seat> {
        let machines = self.incident.machines.iter().zip(&self.news_on);
        machines.map(|(machine, news)| {
            let rules = self.rules.iter().map(|rule| seat::hash_of_rule(rule, *machine));
            let tactics = self.tactics.iter().map(|of| seat::hash_of_tactic(of, *machine));
            let seen = rules.chain(tactics).filter(|hash| self.seen_on.contains(hash));
            let seen = seen.take(SEEN_PER_MACHINE).collect();
            Seat { seen, news: *news, ..Seat::new(self.incident.id, *machine) }
        })
    }

    fn own(&mut self, person: &str) {
        self.incident.state = IncidentState::Owned;
        self.incident.owner = Some(person.to_owned());
    }

    /// Its findings, each with the machine that it is on. In a story of many machines that was kept before
    /// the places were, the older ones are missing: one that is sent again is then told once more.
    fn findings_by_machine(&self) -> impl Iterator<Item = (MachineId, FindingId)> {
        let machines = &self.incident.machines;
        let only = (machines.len() == 1).then(|| machines.first().copied()).flatten();
        self.incident.findings.iter().enumerate().filter_map(move |(at, finding)| {
            let place = self.found_on.get(at).copied().map(usize::from);
            let machine = place.and_then(|place| machines.get(place)).copied().or(only)?;
            Some((machine, *finding))
        })
    }

    /// Takes a finding, of which `new` was not seen on its machine before; whether it brought something new.
    fn add(&mut self, received: &ReceivedFinding, called: &str, new: &NewThere) -> bool {
        let finding = &received.finding;
        let incident = &mut self.incident;
        let level = finding.rule.level;
        let mut added = 0;
        let mut is_news = false;
        // Where the names are full, what is new on its machine counts: else whoever fills them hides the rest.
        let is_full = self.rules.len() >= KINDS_PER_INCIDENT;
        let is_unknown = !self.rules.contains(&finding.rule.id);
        if is_unknown
            && (!is_full && self.rules.insert(finding.rule.id.clone()) || is_full && new.rule)
        {
            added += risk_of(level);
            is_news = true;
        }
        for tactic in finding.rule.tags.iter().filter_map(|tag| tactic_of(tag)) {
            if self.tactics.len() < KINDS_PER_INCIDENT && self.tactics.insert(tactic.to_owned()) {
                added += RISK_OF_TACTIC;
                is_news = true;
            }
        }
        if self.tactics.len() >= KINDS_PER_INCIDENT && new.tactics > 0 {
            is_news = true;
        }
        if !incident.machines.contains(&received.machine) {
            added += if incident.machines.is_empty() { 0 } else { RISK_OF_MACHINE };
            incident.machines.push(received.machine);
            is_news = true;
        }
        if level > incident.level {
            incident.level = level;
            incident.title = title_of(received, called);
            is_news = true;
        }
        incident.risk = incident.risk.saturating_add(added).min(HIGHEST_RISK);
        incident.first = incident.first.min(finding.time);
        incident.last = incident.last.max(finding.time);
        incident.finding_count = incident.finding_count.saturating_add(1);
        if incident.findings.len() < FINDINGS_PER_INCIDENT {
            let place = incident.machines.iter().position(|machine| *machine == received.machine);
            self.found_on.resize(incident.findings.len(), UNKNOWN_PLACE);
            self.found_on.push(place.and_then(|p| u16::try_from(p).ok()).unwrap_or(UNKNOWN_PLACE));
            incident.findings.push(finding.id);
        }
        self.touched = self.touched.max(received.received);
        is_news
    }
}

fn title_of(received: &ReceivedFinding, called: &str) -> String {
    format!("{} on {called}", received.finding.rule.title)
        .chars()
        .take(cordon_model::limits::NAME_BYTES / 4)
        .collect()
}

/// `attack.lateral-movement` → `lateral-movement`; techniques (`attack.t1021`), groups and software are
/// no tactics.
fn tactic_of(tag: &str) -> Option<&str> {
    let name = tag.strip_prefix("attack.")?;
    let is_numbered = name
        .strip_prefix(['t', 'g', 's', 'T', 'G', 'S'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (!is_numbered).then_some(name)
}

fn indicator_of(received: &ReceivedFinding) -> Option<(String, String)> {
    let finding = &received.finding;
    let process = finding.process.as_ref()?;
    (finding.rule.level >= SERIOUS).then(|| (finding.rule.id.clone(), process.image.clone()))
}

#[cfg(test)]
mod tests;
