//! A wrong rule on a whole hospital: what it spent, whom it bothered, what stayed alive, what undid it.
//!
//! The one idea: the same minds and the same laws as in every run, and a look at the moment that is the
//! worst, just before a person takes all of it back by one command. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cordon_model::action::ActionKind;
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::laws::{Law, Violation};
use cordon_model::measure::{Isolation, Origin};
use cordon_model::order::Approver;
use cordon_respond::approval::Identity;
use cordon_respond::budget::group_allowance;
use cordon_respond::hub_core::Wish;
use serde::Serialize;

use crate::machine::Machine;
use crate::scenario::{self, SITE_AWAY_EVERY, WARD};
use crate::world::{Event, World};

/// The rule matches from then on; enrolment is over, and permits are given out.
const RULE_FROM: Duration = Duration::from_secs(10);

/// How often it matches on each machine.
const MATCHES: u32 = 3;

/// …and how long after the last time.
const AGAIN: Duration = Duration::from_secs(8);

/// When the whole of it is undone: the wards that were away are back, and all that they did is known.
const UNDONE_AT: Duration = Duration::from_secs(90);

/// What came of a wrong rule.
#[derive(Debug, Clone, Serialize)]
pub struct WrongRule {
    /// The seed that this is of; the laws held in all of them.
    pub seed: u64,
    /// How many machines there were.
    pub machines: usize,
    /// How many of them could not reach the hub while the rule matched.
    pub machines_away: usize,
    /// How often the rule matched.
    pub findings: u64,
    /// Incidents that came of it.
    pub incidents: usize,
    /// What was spent of each budget.
    pub spent: Spent,
    /// Who was asked.
    pub asked: Asked,
    /// What stayed alive at the worst moment: one row for each tier, the last for machines that nobody has
    /// described.
    pub alive: Vec<Alive>,
    /// What undid it.
    pub undone: Undone,
}

/// What was spent, of how much.
#[derive(Debug, Clone, Serialize)]
pub struct Spent {
    /// What the policy does besides isolating; nothing in half of the seeds.
    pub also: Vec<ActionKind>,
    /// Isolations and other measures that the signer signed with nobody asked.
    pub automatic: u64,
    /// …of so many…
    pub automatic_allowed: u32,
    /// …in so many seconds.
    pub window_seconds: u32,
    /// Milliseconds from the first match to the first isolation that the brake refused.
    pub brake_after_ms: Option<u128>,
    /// Machines isolated by orders in the group that lost most so…
    pub worst_group: usize,
    /// …of so many that may be by themselves…
    pub worst_group_allowed: u32,
    /// …of so many in it.
    pub worst_group_of: usize,
    /// Permits that were used by machines that could not reach the hub.
    pub permits: u64,
    /// …of so many that were given out at the most.
    pub permits_allowed: u32,
}

/// Who was asked, and how often.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Questions in the list: at most one for each machine, but where the policy would also do something besides
    /// isolating: then one more for each further program on a clinical machine, and for each further measure on one
    /// that is cut off already.
    pub questions: usize,
    /// Machines that were neither isolated nor asked about: forgotten ones.
    pub forgotten: usize,
    /// The most questions about one machine.
    pub most_of_one_machine: usize,
    /// Why, and how many of each.
    pub reasons: BTreeMap<&'static str, usize>,
    /// How often people were told of questions.
    pub told_of_questions: u64,
    /// How often of one incident, at the most.
    pub most_told_of_one_incident: u64,
}

/// What of one tier stayed alive.
#[derive(Debug, Clone, Serialize)]
pub struct Alive {
    /// The tier's number; `None`: nobody has said.
    pub tier: Option<u8>,
    /// How many machines it has.
    pub machines: usize,
    /// How many were never cut off.
    pub open: usize,
    /// Declared lifelines of those that were cut off…
    pub lifelines: usize,
    /// …and how many of them lived.
    pub lifelines_kept: usize,
}

/// How it was taken back.
#[derive(Debug, Clone, Serialize)]
pub struct Undone {
    /// The one command.
    pub command: String,
    /// Machines that Cordon had isolated by itself.
    pub machines: usize,
    /// How many of them were proven to be open again.
    pub released: usize,
    /// Other measures that were in force on them just before the command.
    pub acts: usize,
    /// How many of all other measures are in force at the end.
    pub acts_left: usize,
    /// Milliseconds from the command to the last proof.
    pub took_ms: u128,
    /// Machines that are open at the end, of all.
    pub open: usize,
}

/// What is noted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    first_match: Option<Duration>,
    braked: Option<Duration>,
    told: BTreeMap<IncidentId, u64>,
    alive: Vec<Alive>,
    worst_group: (usize, usize),
    forgotten: usize,
    acts: usize,
    undone: BTreeSet<MachineId>,
    incident: Option<IncidentId>,
    last_release: Option<Duration>,
}

impl Notes {
    /// The brake refused an isolation.
    pub(crate) fn braked(&mut self, now: Duration) {
        self.braked.get_or_insert(now);
    }

    /// People were told of a question of this incident.
    pub(crate) fn told(&mut self, incident: Option<IncidentId>) {
        incident.into_iter().for_each(|incident| *self.told.entry(incident).or_default() += 1);
    }

    /// A machine's kernel was opened.
    pub(crate) fn released(&mut self, now: Duration) {
        self.last_release = Some(now);
    }
}

fn is_cut(machine: &Machine) -> bool {
    machine.kernel.as_ref().is_some_and(|cut| cut.isolation >= Isolation::Segment)
}

fn is_by_order(machine: &Machine) -> bool {
    let held = machine.helper.as_ref().and_then(|helper| helper.current.as_ref());
    held.is_some_and(|held| matches!(held.origin, Origin::Order(_)))
}

fn reason_of(why: &str) -> &'static str {
    let reasons = [
        ("the budget is spent", "the budget is spent"),
        ("the machine is clinical (tier 2", "the machine is clinical (tier 2)"),
        ("the machine is clinical (tier 3", "the machine is life-sustaining (tier 3)"),
        ("nobody has said", "nobody has said how care depends on it"),
        ("no other machine of its kind", "it may be the last of its kind that works"),
    ];
    let known = reasons.iter().find(|(begins, _)| why.starts_with(begins));
    known.map_or("another reason", |(_, reason)| *reason)
}

impl World<'_> {
    /// Every fifth ward loses the hub; then the rule matches everywhere, again and again, and at last a
    /// person takes all of it back.
    pub(crate) fn let_the_wrong_rule_loose(&mut self) {
        let trouble = self.options.scenario.trouble();
        for machine in 0..self.machines.len() {
            if (machine / WARD).is_multiple_of(SITE_AWAY_EVERY) {
                self.at(
                    RULE_FROM - Duration::from_secs(2),
                    Event::CutOff { machine, until: trouble },
                );
            }
            for number in 0..MATCHES {
                // The first time the same program everywhere, then whatever is started on it.
                let program = if number == 0 { 1 } else { 2 + self.random.below(40) };
                let when = RULE_FROM + AGAIN * number + self.random.millis(0, 4_000);
                let level = Level::High;
                self.at(when, Event::Finding { machine, level, rule: 1, program });
            }
        }
        self.at(UNDONE_AT, Event::UndoAll);
    }

    pub(crate) fn cut_off(&mut self, machine: usize, until: Duration) {
        let machine_there = &mut self.machines[machine];
        machine_there.cut_off_until = until;
        if let Some(link) = machine_there.link {
            let noticed = self.random.millis(100, 1_000);
            self.after(noticed, Event::LinkLostAtAgent { machine, link });
            self.after(noticed * 2, Event::LinkLostAtHub { machine, link });
        }
    }

    /// As `cordon undo INCIDENT` does: everything that was done by itself to any machine of the incident.
    pub(crate) fn undo_all(&mut self) -> Result<(), Violation> {
        self.look_at_the_worst();
        let Some(core) = &self.hub.core else { return Ok(()) };
        let Some(incident) = core.incidents().max_by_key(|incident| incident.machines.len()) else {
            return Ok(());
        };
        let (id, machines) = (incident.id, incident.machines.clone());
        self.notes.incident = Some(id);
        for machine in machines {
            let Some(core) = &self.hub.core else { return Ok(()) };
            for (instruction, _) in core.undoing(machine) {
                self.notes.undone.insert(machine);
                self.hub_step(|core, now, dice| {
                    let person = Approver { name: "ann".into(), is_clinical: false };
                    let reason = "the rule is wrong".into();
                    let wish = Wish {
                        machine,
                        instruction,
                        person,
                        identity: Identity::Session,
                        incident: Some(id),
                        reason,
                    };
                    core.people_propose(wish, now, dice)
                        .map(|(_, outputs)| outputs)
                        .unwrap_or_default()
                })?;
            }
        }
        Ok(())
    }

    fn look_at_the_worst(&mut self) {
        let rows = [Some(0), Some(1), Some(2), Some(3), None];
        let mut alive: Vec<Alive> = rows
            .into_iter()
            .map(|tier| Alive { tier, machines: 0, open: 0, lifelines: 0, lifelines_kept: 0 })
            .collect();
        let mut cut_of_ward: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (index, machine) in self.machines.iter().enumerate() {
            let tier = scenario::tier(self.options.scenario, index).map(ClinicalTier::number);
            let Some(row) = alive.iter_mut().find(|row| row.tier == tier) else { continue };
            row.machines += 1;
            let of_ward = cut_of_ward.entry(index / WARD).or_default();
            of_ward.1 += 1;
            if !is_cut(machine) {
                row.open += 1;
                continue;
            }
            of_ward.0 += usize::from(is_by_order(machine));
            let declared = machine.documents.assignment.iter().flat_map(|a| &a.lifelines);
            let kept = machine.kernel.as_ref().map(|cut| &cut.kept);
            for lifeline in declared {
                row.lifelines += 1;
                row.lifelines_kept +=
                    usize::from(kept.is_some_and(|kept| kept.contains(&lifeline.name)));
            }
        }
        let asked: BTreeSet<MachineId> =
            self.hub.core.iter().flat_map(|core| core.approvals()).map(|of| of.machine).collect();
        let is_forgotten = |machine: &&Machine| !is_cut(machine) && !asked.contains(&machine.id);
        self.notes.forgotten = self.machines.iter().filter(is_forgotten).count();
        self.notes.worst_group = cut_of_ward.into_values().max().unwrap_or_default();
        self.notes.acts = self.acts_in_force();
        self.notes.alive = alive;
    }

    /// Measures besides isolations that hands hold.
    fn acts_in_force(&self) -> usize {
        self.machines.iter().map(|machine| machine.acts.len()).sum()
    }

    /// The rule matched for the first time.
    pub(crate) fn note_match(&mut self) {
        self.notes.first_match.get_or_insert(self.now);
    }

    /// At the end nothing that was done by itself is left, and nothing else was touched.
    pub(crate) fn judge_the_undoing(&self) -> Result<(), Violation> {
        let still_cut = self.machines.iter().filter(|machine| is_cut(machine)).count();
        let acts = self.acts_in_force();
        if still_cut + acts == 0 {
            return Ok(());
        }
        let how = format!(
            "{still_cut} machines are cut off still, and {acts} other measures are in force, after all was undone"
        );
        Err(Violation { law: Law::Lease, how })
    }

    pub(crate) fn wrong_rule(&self, seed: u64) -> WrongRule {
        let (policy, notes) = (&self.hub.policy, &self.notes);
        let (worst, of) = notes.worst_group;
        let core = self.hub.core.as_ref();
        let mut questions: BTreeMap<MachineId, usize> = BTreeMap::new();
        let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
        for question in core.iter().flat_map(|core| core.approvals()) {
            *questions.entry(question.machine).or_default() += 1;
            *reasons.entry(reason_of(&question.why)).or_default() += 1;
        }
        let released = |id: &&MachineId| {
            self.index.get(*id).is_some_and(|index| self.machines[*index].kernel.is_none())
        };
        let incident = notes.incident.map_or_else(|| "INCIDENT".to_owned(), |id| id.to_string());
        let away = |index: &usize| (index / WARD).is_multiple_of(SITE_AWAY_EVERY);
        WrongRule {
            seed,
            machines: self.machines.len(),
            machines_away: (0..self.machines.len()).filter(away).count(),
            findings: self.tally.of("findings"),
            incidents: core.map_or(0, |core| core.incidents().count()),
            spent: Spent {
                also: policy.responses.first().map_or_else(Vec::new, |of| of.also.clone()),
                automatic: self.tally.of("orders signed by policy"),
                automatic_allowed: policy.budget.count,
                window_seconds: policy.budget.window_seconds,
                brake_after_ms: notes
                    .braked
                    .zip(notes.first_match)
                    .map(|(braked, first)| braked.saturating_sub(first).as_millis()),
                worst_group: worst,
                worst_group_allowed: group_allowance(
                    &policy.budget,
                    u32::try_from(of).unwrap_or(u32::MAX),
                ),
                worst_group_of: of,
                permits: self.tally.of("permits used with no hub in reach"),
                permits_allowed: policy.permits,
            },
            asked: Asked {
                questions: questions.values().sum(),
                forgotten: notes.forgotten,
                most_of_one_machine: questions.values().copied().max().unwrap_or(0),
                reasons,
                told_of_questions: notes.told.values().sum(),
                most_told_of_one_incident: notes.told.values().copied().max().unwrap_or(0),
            },
            alive: notes.alive.clone(),
            undone: Undone {
                command: format!("cordon undo {incident} --reason \"the rule is wrong\""),
                machines: notes.undone.len(),
                released: notes.undone.iter().filter(released).count(),
                acts: notes.acts,
                acts_left: self.acts_in_force(),
                took_ms: notes
                    .last_release
                    .map_or(0, |last| last.saturating_sub(UNDONE_AT).as_millis()),
                open: self.machines.iter().filter(|machine| !is_cut(machine)).count(),
            },
        }
    }
}

impl fmt::Display for WrongRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "A wrong rule on {} machines, {} of which could not reach the hub (seed {}).\n\
             It matched {} times, each time seriously; that made {} incident(s).\n",
            self.machines, self.machines_away, self.seed, self.findings, self.incidents
        )?;
        self.spent.fmt(f)?;
        self.asked.fmt(f)?;
        writeln!(
            f,
            "\n{:<42} {:>9} {:>9} {:>9} {:>15}",
            "what stayed alive, at the worst", "machines", "open", "cut off", "lifelines kept"
        )?;
        self.alive.iter().try_for_each(|row| row.fmt(f))?;
        let machines = self.alive.iter().map(|row| row.machines).sum::<usize>();
        let open = self.alive.iter().map(|row| row.open).sum::<usize>();
        writeln!(f, "{:<42} {machines:>9} {open:>9} {:>9}", "all", machines - open)?;
        self.undone.fmt(f)?;
        writeln!(f, "  {} of {} machines are open", self.undone.open, self.machines)
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<42} {:>9} {:>9}", "what was spent", "spent", "allowed")?;
        let what = if self.also.is_empty() { "isolations" } else { "measures" };
        let name = format!("{what} with nobody asked, in {} s", self.window_seconds);
        writeln!(f, "{name:<42} {:>9} {:>9}", self.automatic, self.automatic_allowed)?;
        let name = format!("…of the ward that lost most, of {}", self.worst_group_of);
        writeln!(f, "{name:<42} {:>9} {:>9}", self.worst_group, self.worst_group_allowed)?;
        let name = "permits, used with no hub in reach";
        writeln!(f, "{name:<42} {:>9} {:>9}", self.permits, self.permits_allowed)?;
        match self.brake_after_ms {
            Some(after) => writeln!(f, "the brake tripped {after} ms after the first match"),
            None => writeln!(f, "the brake never tripped"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nwho was asked")?;
        writeln!(f, "{:<42} {:>9}", "questions in the list", self.questions)?;
        for (reason, count) in &self.reasons {
            writeln!(f, "{:<42} {count:>9}", format!("  {reason}"))?;
        }
        writeln!(f, "{:<42} {:>9}", "neither isolated nor asked about", self.forgotten)?;
        writeln!(f, "{:<42} {:>9}", "most about one machine", self.most_of_one_machine)?;
        writeln!(f, "{:<42} {:>9}", "times that people were told of them", self.told_of_questions)?;
        writeln!(f, "{:<42} {:>9}", "  most of one incident", self.most_told_of_one_incident)
    }
}

impl fmt::Display for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = self.tier.and_then(ClinicalTier::from_number);
        let name = tier.map_or_else(|| "nobody has said (as tier 2)".to_owned(), |t| t.to_string());
        let cut = self.machines - self.open;
        let kept = format!("{} of {}", self.lifelines_kept, self.lifelines);
        writeln!(f, "{name:<42} {:>9} {:>9} {cut:>9} {kept:>15}", self.machines, self.open)
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nwhat a person does next\n\
             \x20 1. cordon policy mode ask     (nothing more is done by itself; then the rule is taken back)\n\
             \x20 2. {}\n\
             tried here: {} of {} machines were proven open within {} ms of the command, in simulated time",
            self.command, self.released, self.machines, self.took_ms
        )?;
        if self.acts > 0 {
            let (acts, left) = (self.acts, self.acts_left);
            writeln!(f, "  of {acts} other measures {left} are in force still")?;
        }
        Ok(())
    }
}
