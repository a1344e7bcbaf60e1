//! What people must see, read off what is the case now.
//!
//! The one idea: nothing is remembered that state says. A question that waits, a serious incident that
//! nobody has, a machine that a code opened, a measure that is not shown: each is on the list while it is
//! so, before a restart and after it. Two things no state says, and they are kept in memory beside what they
//! belong to: why nothing was blocked (after a restart the incident that nobody has stands there without
//! it), and that an order never began.

use std::collections::BTreeMap;

use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId};
use cordon_model::incident::{Incident, IncidentState};
use cordon_model::measure::MeasureState;
use cordon_model::order::Instruction;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::decision::SERIOUS;
use cordon_respond::hub_core::{Change, Notice};
use cordon_respond::order::Delivery;

use crate::board::{Board, Card};
use crate::view::Attention;

/// Incidents that nobody has, of which this knows: twice what the mind holds open, 20,000 of about 150 bytes.
/// The oldest give way; they stay open in the list of incidents.
const MOST_UNOWNED: usize = 2 * cordon_respond::grouping::OPEN_INCIDENTS;

/// What stands and waits for people.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    questions: BTreeMap<ApprovalId, Asked>,
    unowned: BTreeMap<IncidentId, Unowned>,
    /// The last order of each machine that never began, or failed.
    failed: BTreeMap<MachineId, Failed>,
    /// When names of a machine's lifelines were last told of.
    moved: BTreeMap<MachineId, UtcNanos>,
}

#[derive(Debug)]
struct Asked {
    machine: MachineId,
    incident: Option<IncidentId>,
    at: UtcNanos,
}

#[derive(Debug)]
struct Unowned {
    level: Level,
    first: Option<MachineId>,
    machines: usize,
    /// On which of its machines nothing was blocked, why, and since when.
    not_blocked: Option<(MachineId, String, UtcNanos)>,
}

#[derive(Debug)]
struct Failed {
    measure: MeasureId,
    why: String,
    at: UtcNanos,
}

impl Standing {
    /// Something is this now.
    pub fn take(&mut self, change: &Change) {
        match change {
            Change::Story(story) => self.take_incident(&story.incident),
            Change::Approval(question) => self.take_question(question),
            // Somebody has isolated or released it since: whether that comes is its own line.
            Change::Order(life)
                if !matches!(life.delivery, Delivery::Dead { .. })
                    && (life.order.instruction.isolation().is_some()
                        || life.order.instruction == Instruction::Release) =>
            {
                let order = life.order.id.into();
                if self.failed.get(&life.order.machine).is_some_and(|last| last.measure != order) {
                    self.failed.remove(&life.order.machine);
                }
            }
            Change::Order(_)
            | Change::Seat(_)
            | Change::Finding(..)
            | Change::Machine(_)
            | Change::Proposed(_)
            | Change::Answered(_)
            | Change::Measure(_)
            | Change::Policy(..) => {}
        }
    }

    fn take_incident(&mut self, incident: &Incident) {
        if incident.state != IncidentState::New {
            self.unowned.remove(&incident.id);
            return;
        }
        let known = self.unowned.entry(incident.id).or_insert(Unowned {
            level: incident.level,
            first: None,
            machines: 0,
            not_blocked: None,
        });
        known.level = incident.level;
        known.first = incident.machines.first().copied();
        known.machines = incident.machines.len();
        if self.unowned.len() > MOST_UNOWNED {
            self.unowned.pop_first();
        }
    }

    fn take_question(&mut self, question: &Approval) {
        if question.state != ApprovalState::Open {
            self.questions.remove(&question.id);
            return;
        }
        let Approval { machine, incident, asked_at: at, .. } = *question;
        self.questions.insert(question.id, Asked { machine, incident, at });
    }

    /// The oldest question of each story, with how many more it has, and all that are of none.
    fn asked(&self) -> Vec<(ApprovalId, &Asked, usize)> {
        let mut stories: BTreeMap<IncidentId, usize> = BTreeMap::new();
        let mut first: Vec<(ApprovalId, &Asked, usize)> = Vec::new();
        for (id, question) in &self.questions {
            let place = question.incident.and_then(|incident| {
                let of_it = stories.get(&incident).copied();
                stories.entry(incident).or_insert(first.len());
                of_it
            });
            match place.and_then(|place| first.get_mut(place)) {
                Some((_, _, more)) => *more += 1,
                None => first.push((*id, question, 0)),
            }
        }
        first
    }
}

impl Board {
    /// People are told of something. What state does not say of it is kept.
    pub fn told(&self, notice: Notice, at: UtcNanos) {
        match notice {
            Notice::NotBlocked { incident, machine, why } => {
                if let Some(known) = self.standing().unowned.get_mut(&incident) {
                    known.not_blocked = Some((machine, why, at));
                }
            }
            Notice::NotInForce { machine, measure, why } => {
                let is_known = |card: &Card| card.measures.contains_key(&measure);
                if !self.machines().get(&machine).is_some_and(is_known) {
                    self.standing().failed.insert(machine, Failed { measure, why, at });
                }
            }
            Notice::NameMoved { machine, .. } => {
                self.standing().moved.insert(machine, at);
            }
            // What follows on silence is a question again, a measure, or an incident that nobody has.
            Notice::Unanswered(_)
            | Notice::Asked(_)
            | Notice::NobodyHasIt(_)
            | Notice::OpenedByCode { .. }
            | Notice::LeaseEnds { .. } => {}
        }
    }

    /// What people must see at `now`: of each kind the newest, the most pressing kind first; then the next of
    /// each kind. So nothing that comes in crowds hides what came once.
    pub fn attention(&self, now: UtcNanos) -> Vec<Attention> {
        let warn = std::time::Duration::from_secs(self.policy().lease.warn_seconds.into());
        let mut kinds: Vec<Vec<Attention>> = (0..7).map(|_| Vec::new()).collect();
        let [opened, not_in_force, not_blocked, asked, nobodys, ending, moved] = &mut kinds[..]
        else {
            return Vec::new();
        };
        let machines = self.machines();
        let standing = self.standing();
        let line = |at, notice, machine: Option<MachineId>, and_more| {
            let name = |id: MachineId| {
                machines.get(&id).map_or_else(|| id.to_string(), |card| card.name().to_owned())
            };
            Attention { at, notice, machine: machine.map(|id| (id, name(id))), and_more }
        };
        for (id, card) in machines.iter().filter(|(_, card)| !card.is_struck_off) {
            let (id, of_it) = (*id, Some(*id));
            if let Some((code, at)) = card.opened_by() {
                opened.push(line(at, Notice::OpenedByCode { machine: id, code, at }, of_it, 0));
            }
            let unproven = card.measures.iter().filter_map(|(measure, known)| match &known.state {
                MeasureState::Unproven { why } => Some((*measure, why.clone(), known.since)),
                _ => None,
            });
            let failed = standing.failed.get(&id);
            let failed = failed.map(|failed| (failed.measure, failed.why.clone(), failed.at));
            let all: Vec<_> = unproven.chain(failed).collect();
            if let Some((measure, why, at)) = all.iter().max_by_key(|(_, _, at)| *at).cloned() {
                let notice = Notice::NotInForce { machine: id, measure, why };
                not_in_force.push(line(at, notice, of_it, all.len() - 1));
            }
            if let Some((at, within)) = lease_ends(card, now).filter(|(_, within)| *within <= warn)
            {
                let notice = Notice::LeaseEnds { machine: id, within };
                ending.push(line(at, notice, of_it, 0));
            }
            if card.names.iter().any(|name| !name.to_confirm.is_empty()) {
                let row = card.row(id, now);
                let names = row.to_confirm.iter().map(|waits| waits.host.to_string()).collect();
                let commands = row.to_confirm.iter().map(|waits| waits.command(&row)).collect();
                let at = standing.moved.get(&id).copied().unwrap_or(now);
                moved.push(line(at, Notice::NameMoved { machine: id, names, commands }, of_it, 0));
            }
        }
        for (id, question, more) in standing.asked() {
            asked.push(line(question.at, Notice::Asked(id), Some(question.machine), more));
        }
        for (id, known) in &standing.unowned {
            match &known.not_blocked {
                Some((machine, why, at)) => {
                    let (incident, machine, why) = (*id, *machine, why.clone());
                    let notice = Notice::NotBlocked { incident, machine, why };
                    let more = known.machines.saturating_sub(1);
                    not_blocked.push(line(*at, notice, Some(machine), more));
                }
                None if known.level >= SERIOUS => {
                    let more = known.machines.saturating_sub(1);
                    nobodys.push(line(id.made_at(), Notice::NobodyHasIt(*id), known.first, more));
                }
                None => {}
            }
        }
        for kind in &mut kinds {
            kind.sort_by_key(|item| std::cmp::Reverse(item.at));
        }
        in_turn(kinds)
    }
}

/// The first of each kind, then the second of each, and so on.
fn in_turn(kinds: Vec<Vec<Attention>>) -> Vec<Attention> {
    let of = kinds.iter().map(Vec::len).sum();
    let mut kinds: Vec<_> = kinds.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::with_capacity(of);
    while all.len() < of {
        all.extend(kinds.iter_mut().filter_map(Iterator::next));
    }
    all
}

/// When the machine last said when its first lease ends, and how long that is from `now`; `None`: it holds
/// none, or that time is over.
fn lease_ends(card: &Card, now: UtcNanos) -> Option<(UtcNanos, std::time::Duration)> {
    let seen = card.seen.as_ref()?;
    let status = seen.status.as_ref()?;
    let ends = status.holds.lease_ends()?;
    let left = ends.since(status.at_boot).checked_sub(now.since(seen.at))?;
    (!left.is_zero()).then_some((seen.at, left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{by_order, card, measure};
    use cordon_model::measure::{Isolation, Origin};
    use cordon_model::policy::Policy;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    fn board() -> Board {
        let policy = Policy::default_for("RJ1".parse().unwrap());
        Board::new(policy, (1..=40).map(|number| (machine(number), card())).collect())
    }

    fn notices(board: &Board) -> Vec<Notice> {
        board.attention(UtcNanos::from_unix_nanos(9)).into_iter().map(|one| one.notice).collect()
    }

    #[test]
    fn what_comes_in_crowds_hides_nothing_that_came_once() {
        let board = board();
        let open = Origin::BreakGlass { revision: 1, code: 3 };
        board.measure(&measure(1, Isolation::Watch, open, MeasureState::Verified));
        for number in 2..=40 {
            let state = MeasureState::Unproven { why: "again".into() };
            let mut unproven = measure(number, Isolation::Segment, by_order(), state);
            unproven.machine = machine(number);
            board.measure(&unproven);
        }
        let left = board.attention(UtcNanos::from_unix_nanos(9));
        assert_eq!(left.len(), 40);
        let first = left.iter().take(2).map(|one| &one.notice).collect::<Vec<_>>();
        assert!(
            matches!(first[..], [Notice::OpenedByCode { code: 3, .. }, Notice::NotInForce { .. }]),
            "{first:?}"
        );
        // Each says whose it is.
        assert!(
            left.iter().all(|one| one.machine.as_ref().is_some_and(|(_, n)| n == "DESKTOP-4F2K"))
        );
    }

    #[test]
    fn what_is_shown_again_or_over_is_not_on_the_list() {
        let board = board();
        let state = MeasureState::Unproven { why: "445 answers".into() };
        board.measure(&measure(1, Isolation::Segment, by_order(), state));
        assert!(matches!(&notices(&board)[..], [Notice::NotInForce { .. }]));
        board.measure(&measure(1, Isolation::Segment, by_order(), MeasureState::Verified));
        assert!(notices(&board).is_empty());
        // What never began is no measure: it is kept until something else is ordered.
        let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [7; 10]);
        let why = "refused by the machine".to_owned();
        let notice = Notice::NotInForce { machine: machine(1), measure, why };
        board.told(notice.clone(), UtcNanos::from_unix_nanos(0));
        assert_eq!(notices(&board), [notice]);
    }
}
