//! Evidence from this machine, gathered into one archive that everybody can check.
//!
//! The one idea: the helper never waits for evidence. It writes down what is to be gathered, starts a
//! **process of its own** for it, the last in every queue, and looks now and then whether it is done.
//! That process ends with the helper; one that was killed leaves a file that is no archive, and the next
//! `apply` begins anew. An archive appears under its name in one step, when it is whole and has been read
//! back.
//!
//! What leaves the machine's secrets alone stands in `pieces`: no passwords' hashes, no host keys, no
//! environments and no memory unless **two people agreed** ([`Agreement`]) to those of a named process. What is
//! hostile (links, pipes, devices, names, files that grow, servers that are gone) stands in `gather`
//! and [`super::plain`]; how much at most, in [`limits`].
//!
//! The archive is sealed by the agent, which holds the machine's receipt key and not the evidence: it is
//! given a [`Statement`], signs it, and [`Collector::seal`] appends it. The statement is on disk from before the
//! archive has its name, so that it can be asked for until it is signed. `cordon verify FILE` checks it anywhere.

mod gather;
pub mod limits;
mod pieces;
mod run;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cordon_evidence::archive::{Statement, append_seal};
use cordon_model::action::{ActionKind, Collection};
use cordon_model::ids::{MachineId, MeasureId, OdsCode};
use cordon_model::measure::Proof;
use cordon_model::signed::{Document as _, Envelope};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::{ActError, Undone, failed, proof};
use crate::contain::disk::{Disk, Found};

pub use run::collect;

/// What is to be gathered. It is read back from this machine's own journal, where an entry of before may have a
/// list more than these (`environment_of`, always empty): so what is not known is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose machine.
    pub organisation: OdsCode,
    /// Which machine.
    pub machine: MachineId,
    /// The pieces, and the most bytes of them all.
    pub collection: Collection,
    /// The two people who agreed that what is inside a process is read. Whoever calls has checked that they did.
    pub agreed: Option<Agreement>,
}

/// Two people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// One.
    pub first: String,
    /// Another.
    pub second: String,
}

impl Agreement {
    fn is_of_two(&self) -> bool {
        let [first, second] = [&self.first, &self.second].map(|name| name.trim().to_lowercase());
        !first.is_empty() && !second.is_empty() && first != second
    }
}

/// A collection that was begun: what the journal holds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The measure.
    pub measure: MeasureId,
    /// What is gathered.
    pub request: Request,
    /// Where the machine's file system begins; `/`, but for a try.
    root: OsString,
    /// The folder that archives are in.
    folder: OsString,
}

impl Applied {
    /// Where the archive is, once it is whole.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.file("tar.gz")
    }

    fn file(&self, ending: &str) -> PathBuf {
        Path::new(&self.folder).join(format!("evidence-{}.{ending}", self.measure))
    }

    /// Under which its statement is kept.
    fn statement(&self) -> String {
        format!("statement-{}", self.measure)
    }

    /// Under which it is kept that it was sealed.
    fn seal(&self) -> String {
        format!("sealed-{}", self.measure)
    }

    /// Under which it is kept why it failed.
    fn failure(&self) -> String {
        format!("failure-{}", self.measure)
    }
}

/// How far a collection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its process is at work.
    Running,
    /// The archive is whole; this is what is to be signed.
    Done(Statement),
    /// It ended without an archive.
    Failed(String),
}

/// How the process is started that gathers: with these arguments, then the journal's folder and the
/// measure, it must call [`collect`].
#[derive(Debug, Clone)]
pub struct Program {
    /// The program: this very one, `/proc/self/exe`.
    pub path: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

/// The means to gather evidence.
#[derive(Debug)]
pub struct Collector {
    journal: Journal,
    journal_folder: PathBuf,
    /// Archives and their statements.
    disk: Disk,
    folder: PathBuf,
    root: PathBuf,
    program: Program,
    running: Option<Running>,
    /// Processes that are done and can't end yet, because something that they read hangs.
    lingering: Vec<Child>,
}

#[derive(Debug)]
struct Running {
    measure: MeasureId,
    child: Child,
    since: Instant,
}

impl Collector {
    /// Opens the means, with the journal and the archives in two folders that only root reads.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn open(
        journal_folder: &Path,
        folder: &Path,
        root: &Path,
        program: Program,
    ) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            journal: Journal::open(journal_folder)?,
            journal_folder: journal_folder.canonicalize()?,
            disk: Disk::open(folder)?,
            folder: folder.canonicalize()?,
            root: root.to_owned(),
            program,
            running: None,
            lingering: Vec::new(),
        })
    }

    /// Begins to gather, and returns at once. Applied again, it goes on, or begins anew what was cut
    /// short; what is done stays done.
    ///
    /// # Errors
    /// [`ActError::Refused`] for memory without two people; [`ActError::Unfit`] while another collection
    /// runs, or when the process can't be started.
    pub fn apply(&mut self, measure: MeasureId, request: &Request) -> Result<Applied, ActError> {
        refuse(request)?;
        if let Some(begun) = self.begun(measure)?
            && begun.request != *request
        {
            return Err(ActError::unfit("this measure has begun to gather something else"));
        }
        let applied = Applied {
            measure,
            request: request.clone(),
            root: self.root.clone().into(),
            folder: self.folder.clone().into(),
        };
        self.journal.write(ActionKind::Collect, measure, &applied)?;
        match self.look(&applied)? {
            Progress::Running | Progress::Done(_) => return Ok(applied),
            Progress::Failed(_) => {}
        }
        if let Some(running) = &self.running {
            let why = format!("the collection of measure {} is still at work", running.measure);
            return Err(ActError::unfit(why));
        }
        self.disk
            .remove(&applied.failure())
            .map_err(failed("forgetting the last failure of the collection"))?;
        let child = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .arg(&self.journal_folder)
            .arg(measure.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed("starting the process that gathers evidence"))?;
        self.running = Some(Running { measure, child, since: Instant::now() });
        Ok(applied)
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Applied>, ActError> {
        self.journal.read(ActionKind::Collect, measure)
    }

    /// How far it is. Never waits.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn look(&mut self, applied: &Applied) -> Result<Progress, ActError> {
        self.lingering.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        // First: a process that ends between the two looks has then been seen as ended.
        let ended = match &mut self.running {
            Some(running) if running.measure == applied.measure => {
                let is_late = running.since.elapsed() > limits::COLLECTION + limits::GRACE;
                if is_late {
                    let _ = running.child.kill();
                }
                is_late || !matches!(running.child.try_wait(), Ok(None))
            }
            _ => true,
        };
        if applied.archive().exists()
            && let Some(statement) = self.kept::<Statement>(&applied.statement())?
        {
            self.leave(applied.measure);
            return Ok(Progress::Done(statement));
        }
        if !ended {
            return Ok(Progress::Running);
        }
        self.leave(applied.measure);
        let why = self.kept::<String>(&applied.failure())?;
        let unknown = || "its process ended, or was ended, before it was done".into();
        Ok(Progress::Failed(why.unwrap_or_else(unknown)))
    }

    fn kept<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ActError> {
        match self.disk.read(name).map_err(failed("reading the folder of the archives"))? {
            Found::Whole(value) | Found::Previous(value) => Ok(Some(value)),
            Found::Torn | Found::Nothing => Ok(None),
        }
    }

    /// Its process is of no more interest.
    fn leave(&mut self, measure: MeasureId) {
        if let Some(running) = self.running.take_if(|running| running.measure == measure) {
            self.lingering.push(running.child);
        }
        self.lingering.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Shows that the archive is there. It was read back, every byte, before it got its name.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn prove(&mut self, applied: &Applied) -> Result<Proof, ActError> {
        let progress = self.look(applied)?;
        let mut unproven = vec![
            "that the machine showed its true state: whoever owns its kernel can hide from it"
                .into(),
        ];
        let is_there = match &progress {
            Progress::Done(statement) => {
                let length = std::fs::metadata(applied.archive()).map_or(0, |found| found.len());
                if !self.is_sealed(applied)? {
                    unproven.push("it is not sealed yet".into());
                }
                if statement.missing > 0 {
                    unproven.push(format!("{} things could not be gathered", statement.missing));
                }
                length >= statement.bytes
            }
            Progress::Running => {
                unproven.push("it is still being gathered".into());
                false
            }
            Progress::Failed(why) => {
                unproven.push(why.clone());
                false
            }
        };
        Ok(proof(is_there, Vec::new(), unproven))
    }

    /// Whether a seal was put to it, whole.
    ///
    /// # Errors
    /// When the disk can't be read.
    pub fn is_sealed(&self, applied: &Applied) -> Result<bool, ActError> {
        Ok(self.kept::<bool>(&applied.seal())?.unwrap_or_default())
    }

    /// Statements about whole archives that nobody has signed, the newest measure first, `most` of them. What can't
    /// be read is said and passed over.
    ///
    /// # Errors
    /// When the journal's folder can't be read.
    pub fn unsealed(&mut self, most: usize) -> Result<Vec<Statement>, ActError> {
        let measures = self.journal.measures(ActionKind::Collect)?;
        let unsealed = measures.into_iter().rev().filter_map(|measure| {
            self.waiting(measure).unwrap_or_else(|error| {
                tracing::warn!(%error, %measure, "whether an archive waits for its seal");
                None
            })
        });
        Ok(unsealed.take(most).collect())
    }

    /// What is to be signed about the archive of `measure`, if it is whole and not sealed.
    fn waiting(&self, measure: MeasureId) -> Result<Option<Statement>, ActError> {
        let Some(applied) = self.begun(measure)? else { return Ok(None) };
        if !applied.archive().exists() || self.is_sealed(&applied)? {
            return Ok(None);
        }
        self.kept(&applied.statement())
    }

    /// Appends the seal that the agent made of the [`Statement`]. Sealed again, it has the last one.
    ///
    /// # Errors
    /// [`ActError::Refused`] if the seal is about something else; or when the disk fails.
    pub fn seal(&mut self, applied: &Applied, seal: &Envelope) -> Result<(), ActError> {
        let Progress::Done(statement) = self.look(applied)? else {
            return Err(ActError::unfit("there is no whole archive to seal"));
        };
        // Whether the signature is true is checked by whoever reads: the helper does not know the key.
        let is_about_it = seal.payload_type == Statement::TYPE
            && ciborium::from_reader::<Statement, _>(&seal.payload[..])
                .is_ok_and(|sealed| sealed == statement);
        if !is_about_it {
            return Err(ActError::refused("the seal is not about this archive"));
        }
        let doing = format!("sealing {}", applied.archive().display());
        let mut file = OpenOptions::new()
            .write(true)
            .open(applied.archive())
            .map_err(failed(doing.clone()))?;
        append_seal(&mut file, statement.bytes, seal).map_err(failed(doing))?;
        // Last: a seal that was cut short is no seal, and is put there anew.
        self.disk
            .write(&applied.seal(), &true)
            .map_err(failed("writing down that the archive is sealed"))
    }

    /// Ends it if it is at work, and removes the archive. The machine itself was never changed.
    ///
    /// # Errors
    /// When the disk fails; do it again.
    pub fn undo(&mut self, applied: &Applied) -> Result<Undone, ActError> {
        if let Some(running) = &mut self.running
            && running.measure == applied.measure
        {
            let _ = running.child.kill();
        }
        self.leave(applied.measure);
        for path in [applied.archive(), applied.file("part")] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(format!("removing {}", path.display()))(error));
                }
                _ => {}
            }
        }
        for name in [applied.seal(), applied.statement(), applied.failure()] {
            self.disk.remove(&name).map_err(failed("removing the archive's statement"))?;
        }
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("removing the archive"))?;
        self.journal.forget(ActionKind::Collect, applied.measure)?;
        Ok(Undone::default())
    }
}

/// What no order may do.
fn refuse(request: &Request) -> Result<(), ActError> {
    let looks_inside = request.collection.looks_into_a_process();
    if looks_inside && !request.agreed.as_ref().is_some_and(Agreement::is_of_two) {
        return Err(ActError::refused(
            "a process's memory or environment may hold patients' data and passwords: it takes two people \
             who agreed",
        ));
    }
    Ok(())
}
