//! What this machine can do besides isolating itself: one door to all the mechanisms.
//!
//! The one idea: the helper's mind says *apply*, *look again*, *take back*, each as often as it likes; here
//! each is passed to the mechanism of that action, and what came of it is put into the mind's words. Each
//! mechanism keeps its own journal, so that a half-done measure is known after a crash, whoever asks. Setting
//! a file aside and denying a program take seconds, so they are done [`beside`](super::beside), each kind by a
//! thread of its own, and what came of them is heard later.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cordon_evidence::archive::Statement;
use cordon_model::action::{Action, ActionKind, BlockedPeer, Collection, ProcessTarget};
use cordon_model::asset::{Assignment, Protected};
use cordon_model::ids::MeasureId;
use cordon_model::look::Would;
use cordon_model::measure::Proof;
use cordon_model::signed::Envelope;
use cordon_model::time::BootId;
use cordon_respond::helper_core::{Acted, TakenBack};

use super::action::account::{Accounts, Applied};
use super::action::block::{Blocks, Shown};
use super::action::collect::{Agreement, Collector, Program, Progress, Request};
use super::action::deny::Deny;
use super::action::hold::{Held, Holder, Spared};
use super::action::kill::{Killed, Victim};
use super::action::put_back::{PutBackMeasure, Step};
use super::action::quarantine::Quarantined;
use super::action::quarantine::vault::{Limits, Vault};
use super::action::spared::SparedFiles;
use super::action::would;
use super::action::{ActError, Freeze, Journal, Kill, PutBack, Quarantine, Undone};
use super::beside::{Bell, Beside, Came as CameBeside, Job, Verb};
use super::enforce::{Mark, Standing};
use super::moment::boot_time;
use super::netlink::NetlinkError;
use super::preview::Previews;
use crate::sensor::ProcessId;

/// How soon a seal that failed is asked for again: 5 s. Looks come each second, and a disk that is full is not
/// to be filled with what is said of it.
const BETWEEN_SEALS: Duration = Duration::from_secs(5);

/// The mechanisms of one machine.
#[derive(Debug)]
pub struct Means {
    boot: BootId,
    journal: Journal,
    freeze: Freeze,
    kill: Kill,
    /// Files that are set aside, and places that are put back.
    files: Beside,
    put_back: Arc<PutBack>,
    previews: Previews,
    deny: Beside,
    bell: Bell,
    blocks: Blocks,
    accounts: Arc<Accounts>,
    collector: Collector,
    /// The helper's own folder.
    state: PathBuf,
    agent_user: u32,
    gathered: Option<Statement>,
    /// Why archives are not sealed that should be, and when that was tried. No more than archives.
    unsealable: BTreeMap<MeasureId, (String, Instant)>,
}

/// Where the mechanisms find their things.
#[derive(Debug, Clone)]
pub struct Places {
    /// The helper's own folder.
    pub state: PathBuf,
    /// The warden's socket.
    pub warden: PathBuf,
}

/// Under what a measure is carried out.
#[derive(Debug, Clone)]
pub struct Under<'a> {
    /// What the organisation says of this machine.
    pub assignment: &'a Assignment,
    /// Who was asked, by name.
    pub people: Vec<String>,
}

impl Under<'_> {
    /// What is declared as needed for care: nobody's order touches it.
    fn protected(&self) -> Protected {
        self.assignment.protected.clone()
    }

    fn job(&self, verb: Verb, measure: MeasureId, action: &Action) -> Job {
        Job { verb, measure, action: action.clone(), assignment: self.assignment.clone() }
    }
}

/// Does with a file what is to be done.
fn quarantined(quarantine: &Quarantine, job: &Job) -> CameBeside {
    let measure = job.measure;
    let Action::Quarantine(target) = &job.action else { return not_this(job) };
    match job.verb {
        Verb::Apply | Verb::Look => {
            let applied = quarantine.apply(measure, target, &job.assignment.protected);
            CameBeside::Acted(acted(applied.and_then(|quarantined| {
                let proof = quarantine.prove(&quarantined)?;
                Ok(Came::shown(proof, set_aside(&quarantined)))
            })))
        }
        Verb::TakeBack => {
            let undone = quarantine.begun(measure).and_then(|begun| {
                let undone = begun.map(|begun| quarantine.undo(&begun)).transpose()?;
                Ok((undone, quarantine.begun(measure)?.is_none()))
            });
            CameBeside::TakenBack(taken_back(undone))
        }
    }
}

/// Does with a place what is to be done.
fn put_back(mechanism: &PutBack, job: &Job) -> CameBeside {
    let measure = job.measure;
    let Action::PutBack(target) = &job.action else { return not_this(job) };
    match job.verb {
        Verb::Apply | Verb::Look => {
            let applied = mechanism.apply(measure, target, &job.assignment.protected);
            CameBeside::Acted(acted(applied.and_then(|put_back| {
                let proof = mechanism.prove(&put_back)?;
                Ok(Came::shown(proof, put_back_in_words(&put_back)))
            })))
        }
        Verb::TakeBack => {
            let undone = mechanism.begun(measure).and_then(|begun| {
                let undone = begun.map(|begun| mechanism.undo(&begun)).transpose()?;
                Ok((undone, mechanism.begun(measure)?.is_none()))
            });
            CameBeside::TakenBack(taken_back(undone))
        }
    }
}

/// Does with a program what is to be done.
fn denied(deny: &mut Deny, job: &Job) -> CameBeside {
    let (measure, protected) = (job.measure, &job.assignment.protected);
    let Action::Deny(denied) = &job.action else { return not_this(job) };
    deny.watch(&job.assignment.watched);
    match job.verb {
        // A warden that was started again is told anew what is denied.
        Verb::Look if let Err(error) = deny.tell_again(protected) => {
            CameBeside::Acted(acted(Err(error)))
        }
        Verb::Apply | Verb::Look => {
            let applied = deny.apply(measure, denied, &[], protected);
            CameBeside::Acted(acted(applied.and_then(|program| {
                Ok(Came::shown(deny.prove(&program)?, program.not_covered.clone()))
            })))
        }
        // Also where nothing is known to have begun: the warden may still hold it.
        Verb::TakeBack => {
            let undone = deny
                .undo(measure, protected)
                .and_then(|undone| Ok((Some(undone), deny.begun(measure)?.is_none())));
            CameBeside::TakenBack(taken_back(undone))
        }
    }
}

/// Nobody asks this of whom it is not for.
fn not_this(job: &Job) -> CameBeside {
    let why = format!("{} is done by another", job.action.kind());
    match job.verb {
        Verb::Apply | Verb::Look => CameBeside::Acted(Acted::Failed { why }),
        Verb::TakeBack => CameBeside::TakenBack(TakenBack::Failed { why }),
    }
}

impl Means {
    /// Opens them, in this thread's network namespace.
    ///
    /// # Errors
    /// When the journal or the vault can't be made, or the system gives no thread.
    pub fn open(places: &Places, boot: BootId, agent_user: u32) -> io::Result<Self> {
        let journal_folder = places.state.join("measures");
        let journal = Journal::open(&journal_folder)?;
        // Before anybody else writes there.
        journal.take_back_reserve()?;
        let program = Program {
            path: "/proc/self/exe".into(),
            arguments: vec!["role".into(), "collect".into()],
        };
        let root = Path::new("/");
        let evidence = places.state.join("evidence");
        let vault = Vault::open(&places.state.join("vault"), Limits::default())?;
        let quarantine = Quarantine::new(journal.clone(), vault, places.state.clone());
        let put_back_by = || -> io::Result<PutBack> {
            let vault = Vault::open(&places.state.join("vault"), Limits::default())?;
            let (lookout, state) = (places.state.join("lookout"), places.state.clone());
            Ok(PutBack::new(journal.clone(), vault, lookout, state, root.to_owned()))
        };
        let mechanism = put_back_by()?;
        let mut deny =
            Deny::new(journal.clone(), places.warden.clone(), Vec::new(), places.state.clone());
        let bell = Bell::new()?;
        let holder = || Holder::new(journal.clone(), boot.clone(), true).beside_agent(agent_user);
        Ok(Self {
            freeze: Freeze::new(holder()),
            kill: Kill::new(holder()),
            files: Beside::start("quarantine", bell.clone(), move |job| match &job.action {
                Action::PutBack(_) => put_back(&mechanism, job),
                _ => quarantined(&quarantine, job),
            })?,
            put_back: Arc::new(put_back_by()?),
            previews: Previews::new(bell.clone()),
            deny: Beside::start("deny", bell.clone(), move |job| denied(&mut deny, job))?,
            bell,
            blocks: Blocks::open(journal.clone(), root).map_err(io::Error::other)?,
            accounts: Arc::new(Accounts::new(journal.clone(), root, agent_user)),
            collector: Collector::open(&journal_folder, &evidence, root, program)?,
            state: places.state.clone(),
            agent_user,
            gathered: None,
            unsealable: BTreeMap::new(),
            journal,
            boot,
        })
    }

    /// Sees to it that the mechanisms' journals can be written when the filesystem is full.
    ///
    /// # Errors
    /// When there is no room for that now.
    pub fn keep_reserve(&self) -> io::Result<()> {
        self.journal.keep_reserve()
    }

    /// Does it, or sees that it is done. `None`: that goes on beside, and [`Means::finished`] says what came of it.
    pub fn apply(
        &mut self,
        measure: MeasureId,
        action: &Action,
        under: Under<'_>,
    ) -> Option<Acted> {
        if let Some(beside) = self.beside(action) {
            beside.ask(under.job(Verb::Apply, measure, action));
            return None;
        }
        Some(self.apply_now(measure, action, under))
    }

    fn apply_now(&mut self, measure: MeasureId, action: &Action, under: Under<'_>) -> Acted {
        let protected = under.protected();
        let came = match action {
            Action::Isolate(_) => Err(ActError::Refused("an isolation has its own way".into())),
            Action::Freeze(target) => self.of_this_boot(target).and_then(|root| {
                let held = self.freeze.apply(measure, &[root], &protected)?;
                let proof = self.freeze.prove(&held, &protected)?;
                Ok(Came::shown(proof, frozen(&held)).sparing(&held.spared))
            }),
            Action::Kill(target) => self.of_this_boot(target).and_then(|root| {
                let killed = self.kill.apply(measure, &[root], &protected)?;
                let came = Came::shown(self.kill.prove(&killed)?, killed_in_words(&killed));
                Ok(came.sparing(&killed.held.spared))
            }),
            Action::Quarantine(_) | Action::Deny(_) | Action::PutBack(_) => {
                Err(ActError::Unfit("it is done beside".into()))
            }
            Action::Block(peer) => self
                .blocks
                .apply(measure, peer, under.assignment)
                .map(|shown| Came::shown(shown.proof.clone(), blocked(&shown))),
            Action::DisableAccount(target) => {
                self.accounts.apply(measure, target, &protected).and_then(|applied| {
                    let came = Came::shown(self.accounts.prove(&applied)?, disabled(&applied));
                    let ended = applied.ended.as_ref();
                    Ok(came.sparing(ended.map_or(&[], |ended| &ended.spared)))
                })
            }
            Action::Collect(collection) => self.collect(measure, collection, &under),
        };
        acted(came)
    }

    /// Begins to look what it would do now, for people who are about to order it. Changes nothing. The number of the look,
    /// of which [`Means::previewed`] says what came.
    ///
    /// # Errors
    /// In words, if too many are looked at.
    pub fn would(&mut self, action: &Action, under: &Under<'_>) -> Result<u64, String> {
        let (protected, agent_user) = (under.protected(), self.agent_user);
        let state = self.state.clone();
        let files = move |protected: &Protected| SparedFiles::now(protected, Some(&state));
        match action.clone() {
            Action::Isolate(_) => {
                self.previews.begin(|| Would::refused("an isolation has a preview of its own"))
            }
            Action::Freeze(target) | Action::Kill(target) => match self.of_this_boot(&target) {
                Ok(root) => self
                    .previews
                    .begin(move || would::to_a_tree(root, &protected, agent_user).bounded()),
                Err(error) => self.previews.begin(move || Would::refused(error.to_string())),
            },
            Action::Quarantine(target) => {
                self.previews.begin(move || would::to_a_file(&target, &files(&protected)).bounded())
            }
            Action::Deny(denied) => self
                .previews
                .begin(move || would::to_a_program(&denied, &files(&protected)).bounded()),
            // By the kernel's word on connections only, and by the sockets of this thread's network.
            Action::Block(peer) => {
                let would = self.blocks.would(&peer, under.assignment).bounded();
                self.previews.begin(move || would)
            }
            Action::DisableAccount(target) => {
                let accounts = Arc::clone(&self.accounts);
                self.previews.begin(move || accounts.would(&target, &protected).bounded())
            }
            Action::PutBack(target) => {
                let put_back = Arc::clone(&self.put_back);
                self.previews.begin(move || put_back.would(&target, &protected).bounded())
            }
            Action::Collect(_) => self.previews.begin(Would::default),
        }
    }

    /// What was seen by looks that were begun. Never waits.
    pub fn previewed(&mut self) -> Vec<(u64, Would)> {
        self.previews.finished()
    }

    /// Looks whether it still holds. `None`: as with [`Means::apply`].
    pub fn look(&mut self, measure: MeasureId, action: &Action, under: Under<'_>) -> Option<Acted> {
        if let Some(beside) = self.beside(action) {
            beside.ask(under.job(Verb::Look, measure, action));
            return None;
        }
        // Doing it again finds it done, and proves it.
        Some(self.apply_now(measure, action, under))
    }

    /// Takes it back. What was never begun leaves nothing to take back. `None`: as with [`Means::apply`].
    pub fn take_back(
        &mut self,
        measure: MeasureId,
        action: &Action,
        under: Under<'_>,
    ) -> Option<TakenBack> {
        if let Some(beside) = self.beside(action) {
            beside.ask(under.job(Verb::TakeBack, measure, action));
            return None;
        }
        let undone = match action {
            Action::Isolate(_)
            | Action::Kill(_)
            | Action::Collect(_)
            | Action::Quarantine(_)
            | Action::PutBack(_)
            | Action::Deny(_) => Ok(None),
            Action::Block(_) => self.blocks.begun(measure).and_then(|begun| {
                begun.map(|_| self.blocks.undo(measure, under.assignment)).transpose()
            }),
            Action::DisableAccount(_) => self
                .accounts
                .begun(measure)
                .and_then(|begun| begun.map(|applied| self.accounts.undo(&applied)).transpose()),
            Action::Freeze(_) => self
                .freeze
                .begun(measure)
                .and_then(|begun| begun.map(|held| self.freeze.undo(&held)).transpose()),
        };
        Some(taken_back(undone.and_then(|undone| Ok((undone, self.is_gone(measure, action)?)))))
    }

    /// Whether a look, after it was undone, shows nothing of it: no journal of it, which is the last that goes,
    /// and for peers, of whom the kernel's table is what holds, the table as it is meant without it.
    fn is_gone(&mut self, measure: MeasureId, action: &Action) -> Result<bool, ActError> {
        Ok(match action {
            // Nothing of these stays in force, or it is looked at where it is done.
            Action::Isolate(_)
            | Action::Kill(_)
            | Action::Collect(_)
            | Action::Quarantine(_)
            | Action::PutBack(_)
            | Action::Deny(_) => true,
            Action::Block(_) => {
                let standing =
                    self.blocks.standing().map_err(|error| ActError::Unfit(error.to_string()))?;
                self.blocks.begun(measure)?.is_none()
                    && !matches!(standing, Some(Standing::Changed | Standing::NeverAsMeant))
            }
            Action::DisableAccount(_) => self.accounts.begun(measure)?.is_none(),
            Action::Freeze(_) => self.freeze.begun(measure)?.is_none(),
        })
    }

    fn beside(&mut self, action: &Action) -> Option<&mut Beside> {
        match action {
            Action::Quarantine(_) | Action::PutBack(_) => Some(&mut self.files),
            Action::Deny(_) => Some(&mut self.deny),
            Action::Isolate(_)
            | Action::Freeze(_)
            | Action::Kill(_)
            | Action::Block(_)
            | Action::DisableAccount(_)
            | Action::Collect(_) => None,
        }
    }

    /// What was done beside and has come to an end since this was called last. Never waits.
    pub fn finished(&mut self) -> Vec<(MeasureId, CameBeside)> {
        self.bell.silence();
        let mut finished = self.deny.finished();
        finished.extend(self.files.finished());
        finished
    }

    /// What came of all denials that are being done, when they are: what is denied is denied again before
    /// anything else of a starting machine goes on.
    pub fn denials(&mut self) -> Vec<(MeasureId, CameBeside)> {
        self.deny.wait()
    }

    /// Readable when something that was done beside has come to an end.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.descriptor()
    }

    /// Removes the journal of a kill that is over.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget_kill(&self, measure: MeasureId) -> Result<(), ActError> {
        self.journal.forget(ActionKind::Kill, measure)
    }

    /// Puts the rules of blocked peers back if their table is gone, and says whether it was.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_blocks_back(&mut self) -> Result<bool, NetlinkError> {
        self.blocks.put_back()
    }

    /// Whether the rules of blocked peers are in the kernel as they were put there; `None` if nobody is
    /// blocked.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn blocks_standing(&mut self) -> Result<Option<Standing>, NetlinkError> {
        self.blocks.standing()
    }

    /// By what the table of blocked peers is known again that was put there last, as it was meant.
    #[must_use]
    pub fn blocks_mark(&self) -> Option<Mark> {
        self.blocks.mark()
    }

    /// The same of what is in the kernel now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn blocks_found(&mut self) -> Result<Option<Mark>, NetlinkError> {
        self.blocks.found()
    }

    /// The number by which the kernel's notifications tell what was done from here.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> Result<u32, NetlinkError> {
        self.blocks.port()
    }

    /// A statement that was found waiting for the agent's signature; with each look, until it is signed.
    pub fn take_gathered(&mut self) -> Option<Statement> {
        self.gathered.take()
    }

    /// All that wait for it, the newest `most`: also of measures whose time is over.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn unsealed(&mut self, most: usize) -> Result<Vec<Statement>, ActError> {
        self.collector.unsealed(most)
    }

    /// Puts the agent's signature to an archive.
    ///
    /// # Errors
    /// If it is about something else, or there is no such archive, or the disk fails: send it again.
    pub fn seal(&mut self, measure: MeasureId, seal: &Envelope) -> Result<(), ActError> {
        let begun = self.collector.begun(measure)?;
        let begun = begun.ok_or_else(|| ActError::NotThere("no such archive".into()))?;
        let sealed = self.collector.seal(&begun, seal);
        match &sealed {
            Ok(()) => drop(self.unsealable.remove(&measure)),
            Err(error) => {
                self.unsealable.insert(measure, (error.to_string(), Instant::now()));
            }
        }
        sealed
    }

    /// Gathers in a process of its own: asked again and again, until the archive is whole and sealed. Without a
    /// proof it is not.
    fn collect(
        &mut self,
        measure: MeasureId,
        collection: &Collection,
        under: &Under<'_>,
    ) -> Result<Came, ActError> {
        let agreed = match &under.people[..] {
            [first, second, ..] => Some(Agreement { first: first.clone(), second: second.clone() }),
            _ => None,
        };
        let request = Request {
            organisation: under.assignment.organisation.clone(),
            machine: under.assignment.machine,
            collection: collection.clone(),
            agreed,
        };
        let applied = self.collector.apply(measure, &request)?;
        match self.collector.look(&applied)? {
            Progress::Running => {
                let done = vec!["it is still being gathered".into()];
                Ok(Came { proof: None, done, spared: Vec::new() })
            }
            Progress::Failed(why) => Err(ActError::Unfit(why)),
            Progress::Done(statement) => {
                let words = vec![
                    format!("{} bytes in {}", statement.bytes, applied.archive().display()),
                    format!("{} things could not be gathered", statement.missing),
                ];
                if !self.collector.is_sealed(&applied)? {
                    return self.waits_for_its_seal(statement, words);
                }
                let proof = self.collector.prove(&applied)?;
                Ok(Came::shown(proof, words))
            }
        }
    }

    /// Nobody answers for it yet, so it is not shown to be done.
    fn waits_for_its_seal(
        &mut self,
        statement: Statement,
        mut done: Vec<String>,
    ) -> Result<Came, ActError> {
        let failed = self.unsealable.get(&statement.measure);
        if failed.is_none_or(|(_, tried)| tried.elapsed() >= BETWEEN_SEALS) {
            self.gathered = Some(statement);
        }
        if let Some((why, _)) = failed {
            return Err(ActError::Unfit(format!("it is gathered, and can't be sealed: {why}")));
        }
        done.push("it waits for the agent's signature".into());
        Ok(Came { proof: None, done, spared: Vec::new() })
    }

    /// The process that is meant. A process of another boot has ended, and its number is another's.
    fn of_this_boot(&self, target: &ProcessTarget) -> Result<ProcessId, ActError> {
        if target.boot != self.boot {
            return Err(ActError::NotThere(
                "the machine was restarted: the process has ended".into(),
            ));
        }
        Ok(ProcessId { pid: target.process.pid, started: target.process.started })
    }
}

/// What came of carrying out a measure, in words.
struct Came {
    proof: Option<Proof>,
    done: Vec<String>,
    spared: Vec<String>,
}

impl Came {
    fn shown(proof: Proof, done: Vec<String>) -> Self {
        Self { proof: Some(proof), done, spared: Vec::new() }
    }

    fn sparing(mut self, spared: &[Spared]) -> Self {
        let left =
            |one: &Spared| format!("process {} was left alone: {}", one.process.pid, one.why);
        self.spared = spared.iter().map(left).collect();
        self
    }
}

fn frozen(held: &Held) -> Vec<String> {
    let mut words = vec![format!("{} processes stand still", held.processes)];
    words.extend(held.doubts.iter().cloned());
    words
}

fn killed_in_words(killed: &Killed) -> Vec<String> {
    let mut words = vec![format!("{} processes were ended", killed.count)];
    let victim = |one: &Victim| format!("process {}: {}", one.process.pid, one.program);
    words.extend(killed.victims.iter().map(victim));
    words
}

fn disabled(applied: &Applied) -> Vec<String> {
    let Some(ended) = &applied.ended else {
        return vec![format!(
            "{} processes ran under it, and were not ended",
            applied.sessions.len()
        )];
    };
    vec![format!("{} processes of its sessions were ended", ended.count)]
}

fn set_aside(quarantined: &Quarantined) -> Vec<String> {
    let digest = quarantined.sha256.map(|digest| format!("what was set aside has sha256 {digest}"));
    digest.into_iter().collect()
}

fn put_back_in_words(put_back: &PutBackMeasure) -> Vec<String> {
    let named = |digest: Option<cordon_model::action::Sha256Digest>| {
        digest.map_or_else(|| "nothing".to_owned(), |digest| format!("sha256 {digest}"))
    };
    let (found, wanted) = (put_back.found.sha256(), put_back.wanted.sha256());
    let state = if put_back.step == Step::Done { "there is" } else { "there is to be" };
    vec![format!("{state} {}, and was {}", named(wanted), named(found))]
}

fn blocked(shown: &Shown) -> Vec<String> {
    let mut words = vec![format!("{} open connections were closed", shown.applied.closed)];
    if let BlockedPeer::Domain { name, addresses } = &shown.applied.blocked.peer {
        let count = addresses.len();
        words.push(format!("{name}: {count} addresses, as they were when it was ordered"));
    }
    words.extend(shown.overruled.iter().map(|kept| format!("kept all the same: {kept}")));
    words
}

fn acted(result: Result<Came, ActError>) -> Acted {
    match result {
        Ok(Came { proof, done, spared }) => Acted::Done { proof, done, spared },
        Err(error @ ActError::NotThere(_)) => Acted::Gone { why: error.to_string() },
        Err(error @ ActError::Refused(_)) => Acted::Refused { why: error.to_string() },
        Err(error) => Acted::Failed { why: error.to_string() },
    }
}

fn taken_back(result: Result<(Option<Undone>, bool), ActError>) -> TakenBack {
    match result {
        Ok((undone, is_gone)) => {
            let done = undone.unwrap_or_default().differs;
            let proof = Proof {
                table_handle: None,
                is_read_back: is_gone,
                probes: Vec::new(),
                unproven: Vec::new(),
                at: boot_time(),
            };
            TakenBack::Done { proof: Some(proof), done }
        }
        Err(error) => TakenBack::Failed { why: error.to_string() },
    }
}
