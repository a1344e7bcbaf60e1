//! The helper without its socket: documents in, kernel changed, receipts out.
//!
//! The one idea: [`HelperCore`] decides (it is pure, and the simulator drives the same code); this file
//! checks signatures before it, writes its state to disk before anything is done, does it, and tells it
//! what came of it. A crash at any point leaves on disk what is meant, and the next start does it again.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use cordon_model::action::{Action, ActionKind};
use cordon_model::asset::Assignment;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MeasureId};
use cordon_model::measure::Isolation;
use cordon_model::order::{Order, Permit};
use cordon_model::signed::{Document, Envelope, Verified};
use cordon_respond::helper_core::{Acted, Effect, HelperCore, NotObeyed, Outcome, TakenBack};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::bulletin::Bulletin;
use super::disk::{Disk, Found, Reserve};
use super::enforce::Enforcer;
use super::floor::FloorFile;
use super::intent::{HUB_ADDRESSES, Intent};
use super::means::{Means, Places, Under};
use super::moment::{Clocks, boot_time};
use super::protocol::{
    Answer, Ask, Event, InForce, Pin, Receipts, Refusal, Status, Unwatched, WrongCodes,
};
use super::ruleset::ruleset;
use super::survey::Surveyor;
use batch::batch;
use unwatched::Stood;

mod batch;
mod beside;
mod codes;
mod sealing;
mod surveying;
mod telling;
mod unwatched;
mod watching;

/// Events that wait for a listener. An agent that restarts is back within seconds; a storm of wipes
/// (at most 100 a second are put right) fills this in under one, and then they are only counted.
const WAITING_EVENTS: usize = 64;

const PIN: &str = "pin";
const STATE: &str = "state";

/// What is on disk besides the pin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    core: HelperCore,
    /// Receipts that the agent took, ever.
    reported: u64,
    /// Cordon's table was in the kernel when this memory began, and nobody knew why: until an order says
    /// more, no start takes it for what a release left behind.
    #[serde(default)]
    is_unaccounted_for: bool,
    /// How Cordon's tables stood when this was written; `None` while they are being changed from here.
    #[serde(default)]
    stood: Option<Stood>,
    /// Changes by others while no helper ran.
    #[serde(default)]
    unwatched: Unwatched,
}

impl Kept {
    fn receipts(&self) -> Receipts {
        batch(self.first_unreported(), &self.core.unreported)
    }

    /// The number of the oldest receipt that waits.
    fn first_unreported(&self) -> u64 {
        self.reported.saturating_add(self.core.receipts_lost)
    }
}

/// Whom the machine obeys, with what it holds.
#[derive(Debug)]
struct Enrolled {
    pin: Pin,
    key: VerifyingKey,
    kept: Kept,
    floor: FloorFile,
}

/// Keeps what is meant in force.
#[derive(Debug)]
pub struct Executor {
    disk: Disk,
    clocks: Clocks,
    enforcer: Enforcer,
    means: Means,
    enrolled: Option<Enrolled>,
    /// Cordon's table is in the kernel, and the disk does not say why.
    is_unaccounted_for: bool,
    events: VecDeque<Event>,
    events_lost: u64,
    wiped: u64,
    bulletin: Option<Bulletin>,
    surveyor: Option<Surveyor>,
    /// By whom is told what the lookout saw.
    changes: Option<Surveyor>,
    /// Whether there is room on the disk for what is to be done when it is full.
    is_reserved: bool,
    /// Kills that are over, whose journals wait until that is on the disk.
    killed: Vec<MeasureId>,
}

impl Enrolled {
    fn assignment(&self) -> Option<&Assignment> {
        self.kept.core.assignment.as_ref()
    }
}

/// Why something was refused: its kind, and in words.
#[derive(Debug)]
struct Refused(Refusal, String);

impl From<NotObeyed> for Refused {
    fn from(why: NotObeyed) -> Self {
        let kind = if why == NotObeyed::Used { Refusal::Used } else { Refusal::NotObeyed };
        Self(kind, why.to_string())
    }
}

fn unable(error: &io::Error) -> Refused {
    Refused(Refusal::Unable, format!("the state can't be written to disk: {error}"))
}

impl Executor {
    /// Takes up what is on disk in `folder`, and puts it in force before it returns.
    ///
    /// # Errors
    /// When the disk can't be read, or the pin on it is torn, or nobody can tell an old order from a new one:
    /// then nobody is obeyed, and what is in the kernel stays as it is.
    pub fn start(
        folder: &Path,
        warden: &Path,
        clocks: Clocks,
        enforcer: Enforcer,
    ) -> io::Result<Self> {
        let disk = Disk::open(folder)?.with_reserve(Reserve::OF_MEMORY);
        // Before anybody else writes there.
        disk.take_back_reserve()?;
        let places = Places { state: folder.to_owned(), warden: warden.to_owned() };
        let means = Means::open(&places, clocks.now().boot, enforcer.agent_user())?;
        let mut executor = Self {
            disk,
            clocks,
            enforcer,
            means,
            enrolled: None,
            is_unaccounted_for: false,
            events: VecDeque::new(),
            events_lost: 0,
            wiped: 0,
            bulletin: None,
            surveyor: None,
            changes: None,
            is_reserved: true,
            killed: Vec::new(),
        };
        executor.keep_reserve();
        match executor.disk.read::<Pin>(PIN)? {
            Found::Whole(pin) | Found::Previous(pin) => executor.take_up(pin)?,
            Found::Torn => {
                return Err(io::Error::other(format!(
                    "the pin in {} is torn: enrol the machine again",
                    folder.display()
                )));
            }
            Found::Nothing => {
                executor.is_unaccounted_for = executor.enforcer.holds_any().unwrap_or(false);
            }
        }
        Ok(executor)
    }

    fn take_up(&mut self, pin: Pin) -> io::Result<()> {
        let key = VerifyingKey::from_bytes(&pin.command_key).map_err(io::Error::other)?;
        let now = self.clocks.now();
        let fresh = || Kept {
            core: HelperCore::new(pin.organisation.clone(), pin.machine, &now),
            reported: 0,
            is_unaccounted_for: false,
            stood: None,
            unwatched: Unwatched::default(),
        };
        let (mut kept, is_whole) = match self.disk.read::<Kept>(STATE)? {
            Found::Whole(kept) => (kept, true),
            // What the tables were after that is not known.
            Found::Previous(kept) => (Kept { stood: None, ..kept }, false),
            // Law 2: never silently open. What the kernel holds stays until an order says more.
            Found::Nothing | Found::Torn => (Kept { is_unaccounted_for: true, ..fresh() }, false),
        };
        self.is_unaccounted_for =
            kept.is_unaccounted_for && self.enforcer.holds_any().unwrap_or(true);
        kept.is_unaccounted_for = self.is_unaccounted_for;
        self.count_unwatched(&mut kept);
        let (floor, lowest) = FloorFile::find(&self.disk, pin.machine, is_whole)?;
        kept.core.meet(&lowest);
        self.enrolled = Some(Enrolled { pin, key, kept, floor });
        let effects = self.with_core(|core| core.restart(&now)).unwrap_or_default();
        let holds_nothing =
            self.enrolled.as_ref().is_some_and(|enrolled| enrolled.kept.core.current.is_none());
        if effects.is_empty() && holds_nothing && !self.is_unaccounted_for {
            // A release that was cut short: the disk says that nothing is meant.
            let _ = self.enforcer.restore();
        }
        self.keep_floor_or_say();
        self.carry_out(effects);
        let denials = self.means.denials();
        self.say_came(denials);
        self.save_or_say();
        Ok(())
    }

    /// Answers one request. Who listens by [`Ask::Listen`] is the socket's business, and for what comes of
    /// [`Ask::Would`] somebody has to wait: [`Executor::begin_preview`].
    pub fn answer(&mut self, ask: Ask) -> Answer {
        let done = match ask {
            Ask::Pin(pin) => self.pin(pin),
            Ask::Assignment(envelope) => self.assign(&envelope),
            Ask::Order(envelope) => self.order(&envelope),
            Ask::Permit(envelope) => self.see_permit(&envelope),
            Ask::UsePermit { permit, finding, level } => self.use_permit(&permit, finding, level),
            Ask::BreakGlass(envelope) => self.take_codes(&envelope),
            Ask::Guidance(envelope) => self.take_guidance(&envelope),
            Ask::Status => return Answer::Status(Box::new(self.status())),
            Ask::Survey { since } => return self.begin_survey(since),
            Ask::Surveyed { number } => return self.surveyed(number),
            Ask::Changes { since } => return self.begin_changes(since),
            Ask::ChangesTold { number } => return self.changes_told(number),
            Ask::Printers => return surveying::printers(),
            Ask::Would(_) => {
                Err(Refused(Refusal::Unable, "nobody waits here for what comes of it".into()))
            }
            Ask::Listen => {
                self.tell_unsealed();
                Ok(())
            }
            Ask::Reported { before } => self.reported(before),
            Ask::Seal { measure, seal } => self.seal(measure, &seal),
        };
        match done {
            Ok(()) => Answer::Obeyed(self.receipts()),
            Err(Refused(kind, why)) => {
                tracing::warn!(%why, "refused");
                Answer::Refused { kind, why }
            }
        }
    }

    /// Receipts that the agent has not taken yet, oldest first, as many as one message takes.
    #[must_use]
    pub fn receipts(&self) -> Receipts {
        self.enrolled.as_ref().map(|enrolled| enrolled.kept.receipts()).unwrap_or_default()
    }

    /// Takes the events that wait.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = self.events.drain(..).collect();
        if self.events_lost > 0 {
            events.insert(0, Event::Lost { events: std::mem::take(&mut self.events_lost) });
        }
        events
    }

    /// How long nothing needs doing by itself.
    #[must_use]
    pub fn next_wake(&self) -> Duration {
        let now = self.clocks.now();
        self.enrolled
            .as_ref()
            .map_or(cordon_respond::lease::CHECKPOINT, |held| held.kept.core.next_wake(&now))
    }

    /// Counts leases on, and looks at the kernel.
    pub fn tick(&mut self) {
        let now = self.clocks.now();
        self.keep_reserve();
        let Some(effects) = self.with_core(|core| core.tick(&now, &mut fresh)) else { return };
        self.keep_floor_or_say();
        // Before they are looked at one by one, or a wipe that nobody notified would not be told.
        self.look_at_blocks(None, boot_time(), false);
        let has_work = !effects.is_empty();
        if has_work || self.held().is_some() {
            // The checkpoint of the lease, and whatever the tick decided, before it is done.
            let stood = (!has_work).then(|| self.as_it_stands());
            self.save_so_or_say(stood);
        }
        self.carry_out(effects);
        if has_work {
            // A release that failed at first may have taken away what nobody could account for.
            if self.is_unaccounted_for {
                let is_there = self.enforcer.holds_any().unwrap_or(true);
                self.leave_unaccounted_for(is_there);
            }
            self.save_or_say();
        }
        self.look(None, boot_time());
    }

    fn pin(&mut self, pin: Pin) -> Result<(), Refused> {
        if let Some(enrolled) = &self.enrolled {
            return if enrolled.pin == pin {
                Ok(())
            } else {
                let why = "this machine is enrolled already, and is not re-homed by a message";
                Err(Refused(Refusal::PinnedElsewhere, why.into()))
            };
        }
        if VerifyingKey::from_bytes(&pin.command_key).is_err() {
            return Err(Refused(Refusal::NotGenuine, "the command key is no Ed25519 key".into()));
        }
        FloorFile::lay(&self.disk, pin.machine).map_err(|error| unable(&error))?;
        self.disk.write(PIN, &pin).map_err(|error| unable(&error))?;
        self.take_up(pin).map_err(|error| unable(&error))
    }

    fn assign(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        let assignment: Verified<Assignment> = self.open(envelope)?;
        let unfit = |why: String| Refused(Refusal::NotObeyed, why);
        assignment.check().map_err(|error| unfit(error.to_string()))?;
        if assignment.hub.len() > HUB_ADDRESSES {
            return Err(unfit(format!(
                "{} hub addresses, and {HUB_ADDRESSES} are taken",
                assignment.hub.len()
            )));
        }
        // What can't be carried out is refused now, not in an incident.
        let intent = Intent::new(Isolation::Full, &assignment, 0);
        let any = MeasureId::new(self.clocks.now().utc, [0; 10]);
        ruleset(&intent, any).map_err(|error| unfit(error.to_string()))?;
        self.obey(|core, _| core.assign(&assignment))?;
        // What it declares wins over what is blocked already.
        self.apply_blocks_again();
        Ok(())
    }

    fn order(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        let order: Verified<Order> = self.open(envelope)?;
        let was_unaccounted_for = self.is_unaccounted_for;
        self.obey(|core, now| core.order(&order, now))?;
        let is_releasing = self.with_core(|core| core.is_releasing()).unwrap_or(false);
        if was_unaccounted_for && is_releasing {
            self.leave_unaccounted_for(true);
            self.save_or_say();
            let why = "the release failed, and is tried again";
            return Err(Refused(Refusal::Unable, why.into()));
        }
        Ok(())
    }

    fn see_permit(&mut self, envelope: &Envelope) -> Result<(), Refused> {
        let permit: Verified<Permit> = self.open(envelope)?;
        self.obey(|core, now| {
            core.saw(&permit, now);
            Ok(Vec::new())
        })
    }

    fn use_permit(
        &mut self,
        envelope: &Envelope,
        finding: FindingId,
        level: Level,
    ) -> Result<(), Refused> {
        let permit: Verified<Permit> = self.open(envelope)?;
        self.obey(|core, now| core.use_permit(&permit, finding, level, now))
    }

    fn reported(&mut self, before: u64) -> Result<(), Refused> {
        let Some(enrolled) = &mut self.enrolled else { return Err(not_pinned()) };
        let first = enrolled.kept.first_unreported();
        let waiting = enrolled.kept.core.unreported.len();
        let count = usize::try_from(before.saturating_sub(first)).unwrap_or(waiting).min(waiting);
        if count > 0 {
            enrolled.kept.core.reported(count);
            let count = u64::try_from(count).unwrap_or(0);
            enrolled.kept.reported = enrolled.kept.reported.saturating_add(count);
            // Not urgent: if it is lost, the agent takes the same receipts once more.
            self.save().map_err(|error| unable(&error))?;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let now = self.clocks.now();
        let core = self.enrolled.as_ref().map(|enrolled| &enrolled.kept.core);
        Status {
            pinned: self
                .enrolled
                .as_ref()
                .map(|enrolled| (enrolled.pin.organisation.clone(), enrolled.pin.machine)),
            last_order: core.map_or(0, |core| core.last_sequence),
            assignment: core
                .and_then(|core| core.assignment.as_ref())
                .map_or(0, |assignment| assignment.revision),
            in_force: core.and_then(|core| core.current.as_ref()).map(|held| InForce {
                measure: held.measure,
                isolation: held.isolation,
                state: held.state.clone(),
                lease_ends: held.lease.ends_at(&now),
            }),
            holds: core.map_or_else(Vec::new, |core| core.holdings(&now)),
            is_unaccounted_for: self.is_unaccounted_for,
            wiped: self.wiped,
            unwatched: self.enrolled.as_ref().map(|held| held.kept.unwatched).unwrap_or_default(),
            break_glass: core
                .and_then(|core| core.glass().document.as_ref())
                .map_or(0, |document| document.revision),
            guidance: core.and_then(HelperCore::guidance).map_or(0, |guidance| guidance.revision),
            wrong_codes: core.map_or_else(WrongCodes::default, |core| WrongCodes {
                total: core.glass().wrong,
                user: core.glass().wrong_by,
                pause_seconds: core.code_pause(&now).as_secs(),
            }),
        }
    }

    fn open<D: Document>(&self, envelope: &Envelope) -> Result<Verified<D>, Refused> {
        let enrolled = self.enrolled.as_ref().ok_or_else(not_pinned)?;
        envelope
            .open(&enrolled.key)
            .map_err(|error| Refused(Refusal::NotGenuine, error.to_string()))
    }

    /// Lets the core decide, writes its state, does what it says, writes what came of it.
    fn obey(
        &mut self,
        decide: impl FnOnce(
            &mut HelperCore,
            &cordon_respond::clock::Moment,
        ) -> Result<Vec<Effect>, NotObeyed>,
    ) -> Result<(), Refused> {
        let now = self.clocks.now();
        let enrolled = self.enrolled.as_mut().ok_or_else(not_pinned)?;
        let before = enrolled.kept.clone();
        let sequence = before.core.last_sequence;
        let effects = match decide(&mut enrolled.kept.core, &now) {
            Ok(effects) => effects,
            Err(why) => {
                // An order that is refused has had its turn.
                if enrolled.kept.core.last_sequence > sequence {
                    self.save_or_say();
                    self.keep_floor_or_say();
                }
                return Err(why.into());
            }
        };
        self.save_all_or_forget(before).map_err(|error| unable(&error))?;
        let did_something = !effects.is_empty();
        // Only what puts other rules in the table's place, or takes it away, accounts for it.
        let is_about_the_table = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Enforce { .. } | Effect::Restore { .. }));
        self.carry_out(effects);
        if did_something {
            if self.is_unaccounted_for && is_about_the_table {
                let is_on_its_way = self.with_core(|core| core.next.is_some()).unwrap_or(true);
                self.leave_unaccounted_for(is_on_its_way);
            }
            self.save_or_say();
        }
        Ok(())
    }

    /// Notes whether Cordon's table is in the kernel with nobody knowing why; written with the next save.
    fn leave_unaccounted_for(&mut self, is_so: bool) {
        self.is_unaccounted_for = is_so;
        if let Some(enrolled) = &mut self.enrolled {
            enrolled.kept.is_unaccounted_for = is_so;
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in self.without_detour(effects) {
            match effect {
                Effect::Enforce { measure, isolation } => {
                    let outcome = self.enforce(measure, isolation);
                    let now = self.clocks.now();
                    self.with_core(|core| core.enforced(measure, outcome, &now));
                }
                Effect::Restore { measure } => {
                    let outcome = match self.enforcer.restore() {
                        Ok(proof) => Outcome::Done { proof: Some(proof), sockets_cut: 0 },
                        Err(error) => Outcome::Failed { why: error.to_string() },
                    };
                    let now = self.clocks.now();
                    self.with_core(|core| core.enforced(measure, outcome, &now));
                }
                Effect::Apply { measure, action } => {
                    let Some(assignment) = self.assignment() else { continue };
                    let people = self.acting(measure).map_or_else(Vec::new, |(.., people)| people);
                    let under = Under { assignment: &assignment, people };
                    if let Some(outcome) = self.means.apply(measure, &action, under) {
                        self.say_acted(measure, outcome);
                    }
                }
                Effect::LookAgain { measure } => {
                    let Some((action, assignment, people)) = self.acting(measure) else {
                        continue;
                    };
                    let under = Under { assignment: &assignment, people };
                    if let Some(outcome) = self.means.look(measure, &action, under) {
                        self.say_acted(measure, outcome);
                    }
                }
                Effect::TakeBack { measure } => {
                    let Some((action, assignment, people)) = self.acting(measure) else {
                        continue;
                    };
                    let under = Under { assignment: &assignment, people };
                    if let Some(outcome) = self.means.take_back(measure, &action, under) {
                        self.say_taken_back(measure, outcome);
                    }
                }
                Effect::Warn { measure, ends } => self.tell(Event::LeaseEnds { measure, ends }),
            }
        }
    }

    fn acting(&self, measure: MeasureId) -> Option<(Action, Assignment, Vec<String>)> {
        let acting = self.enrolled.as_ref()?.kept.core.acting.get(&measure)?;
        Some((acting.action.clone(), self.assignment()?, acting.people.clone()))
    }

    fn assignment(&self) -> Option<Assignment> {
        self.enrolled.as_ref()?.kept.core.assignment.clone()
    }

    fn say_acted(&mut self, measure: MeasureId, outcome: Acted) {
        if let Some(statement) = self.means.take_gathered() {
            self.tell_gathered(statement);
        }
        let now = self.clocks.now();
        let is_kill = |core: &HelperCore| {
            core.acting.get(&measure).is_some_and(|it| it.action.kind() == ActionKind::Kill)
        };
        let is_over = self.with_core(|core| {
            let was_kill = is_kill(core);
            core.acted(measure, outcome, &now);
            was_kill && !is_kill(core)
        });
        if is_over == Some(true) {
            self.killed.push(measure);
        }
    }

    fn say_taken_back(&mut self, measure: MeasureId, outcome: TakenBack) {
        let now = self.clocks.now();
        self.with_core(|core| core.taken_back(measure, outcome, &now));
    }

    /// What was on its way when a helper died is begun with what it was to replace, so that the machine
    /// is not open if it can't be put there. If it is there already, that would be a step back.
    fn without_detour(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let mut enforced = effects.iter().enumerate().filter_map(|(at, effect)| match effect {
            Effect::Enforce { measure, isolation } => Some((at, *measure, *isolation)),
            _ => None,
        });
        if let (Some((before, ..)), Some((_, measure, isolation))) =
            (enforced.next(), enforced.next())
        {
            let assignment = self.enrolled.as_ref().and_then(Enrolled::assignment);
            let is_there = assignment
                .is_some_and(|of| self.enforcer.holds(measure, isolation, of).unwrap_or(false));
            if is_there {
                effects.remove(before);
            }
        }
        effects
    }

    fn enforce(&mut self, measure: MeasureId, isolation: Isolation) -> Outcome {
        let assignment = self.enrolled.as_ref().and_then(Enrolled::assignment);
        if assignment.is_none() && isolation == Isolation::Watch {
            // Watching cuts nothing, so no flow has to be known: a code opens a machine that lost its state.
            return match self.enforcer.restore() {
                Ok(proof) => Outcome::Done { proof: Some(proof), sockets_cut: 0 },
                Err(error) => Outcome::Failed { why: error.to_string() },
            };
        }
        let Some(assignment) = assignment else {
            return Outcome::Failed { why: NotObeyed::NoAssignment.to_string() };
        };
        match self.enforcer.enforce(measure, isolation, assignment) {
            Ok(enforced) => {
                Outcome::Done { proof: Some(enforced.proof), sockets_cut: enforced.sockets_cut }
            }
            Err(error) => {
                tracing::error!(%error, %measure, "can't be put in force");
                Outcome::Failed { why: error.to_string() }
            }
        }
    }

    fn held(&self) -> Option<(MeasureId, Isolation)> {
        let core = &self.enrolled.as_ref()?.kept.core;
        core.current.as_ref().map(|held| (held.measure, held.isolation))
    }

    fn with_core<T>(&mut self, what: impl FnOnce(&mut HelperCore) -> T) -> Option<T> {
        self.enrolled.as_mut().map(|enrolled| what(&mut enrolled.kept.core))
    }

    /// Before anything is done: the memory, then the floor. If either can't be written, the state is as it
    /// was `before`, in the memory and, as far as the disk allows, on it.
    fn save_all_or_forget(&mut self, before: Kept) -> io::Result<()> {
        let saved = self.write_state(None).and_then(|()| self.keep_floor());
        if saved.is_err() {
            if let Some(enrolled) = &mut self.enrolled {
                enrolled.kept = before;
            }
            self.save_or_say();
            self.keep_floor_or_say();
        }
        saved
    }

    fn keep_floor(&mut self) -> io::Result<()> {
        let Some(enrolled) = &mut self.enrolled else { return Ok(()) };
        enrolled.floor.keep(&self.disk, enrolled.kept.core.floor())
    }

    /// For what holds back no deed: the next tick tries again.
    fn keep_floor_or_say(&mut self) {
        if let Err(error) = self.keep_floor() {
            tracing::error!(%error, "the floor can't be written to disk; tried again");
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= WAITING_EVENTS {
            self.events.pop_front();
            self.events_lost = self.events_lost.saturating_add(1);
        }
        self.events.push_back(event);
    }

    /// Sets room aside again after it was needed; said once if there is none, and tried at every tick.
    fn keep_reserve(&mut self) {
        let kept = self.disk.keep_reserve().and_then(|()| self.means.keep_reserve());
        match &kept {
            Err(error) if self.is_reserved => {
                tracing::error!(%error, "too little room is set aside on the disk");
            }
            Ok(()) if !self.is_reserved => tracing::info!("room is set aside on the disk again"),
            _ => {}
        }
        self.is_reserved = kept.is_ok();
    }

    fn save(&mut self) -> io::Result<()> {
        let stood = self.as_it_stands();
        self.write_state(Some(stood))
    }

    /// For what was done already: the next tick tries again, and a crash before it does it again.
    fn save_or_say(&mut self) {
        let stood = self.as_it_stands();
        self.save_so_or_say(Some(stood));
    }

    fn save_so_or_say(&mut self, stood: Option<Stood>) {
        if let Err(error) = self.write_state(stood) {
            tracing::error!(%error, "the state can't be written to disk");
            return;
        }
        // Nobody takes a kill back, so nobody else would remove what was written of it.
        for measure in std::mem::take(&mut self.killed) {
            if let Err(error) = self.means.forget_kill(measure) {
                tracing::error!(%error, %measure, "the journal of a kill stays");
            }
        }
    }
}

/// Without randomness an id is only less random; it is no secret and no authority.
fn fresh() -> [u8; 16] {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

fn not_pinned() -> Refused {
    Refused(Refusal::NotPinned, "this machine is not enrolled".into())
}
