//! A process and all that came from it end. First they are made to stand still, so that none escapes by
//! forking; then they are killed together.

use std::time::{Duration, Instant};

use cordon_model::action::ActionKind;
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Probe, Proof};
use serde::{Deserialize, Serialize};

use super::hold::{Held, Holder};
use super::lineage::Seen;
use super::spared::Protected;
use super::{ActError, Undone, proof};
use crate::sensor::ProcessId;

/// Victims that are named one by one, at 200 bytes each: 200 KiB of the journal. All are counted.
const NAMED: usize = 1_000;
/// How long to wait for what was killed to be gone. It ends when it next leaves the kernel; only what
/// waits for a disk takes longer, and is told by the proof.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Killed {
    /// How the tree was held.
    pub held: Held,
    /// The killing has begun: what was held is beyond being let go.
    pub has_begun: bool,
    /// How many processes were killed.
    pub count: u32,
    /// Who they were, as far as there is room.
    pub victims: Vec<Victim>,
}

/// A process that was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Victim {
    /// Which.
    pub process: ProcessId,
    /// What it ran, cut at 120 characters.
    pub program: String,
}

impl Killed {
    fn of(held: Held) -> Self {
        Self { held, has_begun: false, count: 0, victims: Vec::new() }
    }
}

/// The means to kill.
#[derive(Debug)]
pub struct Kill {
    holder: Holder,
}

impl Kill {
    /// By `holder`.
    #[must_use]
    pub fn new(holder: Holder) -> Self {
        Self { holder }
    }

    /// Kills what descends from `roots`, and them.
    ///
    /// # Errors
    /// When a root may not be touched or none is there, or the system fails. Unless the words speak of
    /// killing, nothing was killed.
    pub fn apply(
        &self,
        measure: MeasureId,
        roots: &[ProcessId],
        protected: &Protected,
    ) -> Result<Killed, ActError> {
        let begun = self.begun(measure)?;
        let held = begun.as_ref().map(|killed| killed.held.clone());
        let held = self.holder.begin(measure, roots, held)?;
        let mut killed = match begun {
            Some(killed) if killed.held.boot == held.boot => killed,
            _ => Killed::of(held),
        };
        if !killed.has_begun {
            self.hold(&mut killed, protected)?;
        } else if killed.held.is_restless() {
            self.hold_the_rest(&mut killed, protected)?;
        }
        self.holder.kill(&killed.held)?;
        self.wait(&killed.held)?;
        // The pens are empty unless something waits for a disk; then they hold it until it ends.
        if self.holder.held_now(&killed.held)?.is_empty() {
            self.holder.release(&killed.held)?;
        }
        Ok(killed)
    }

    fn hold(&self, killed: &mut Killed, protected: &Protected) -> Result<(), ActError> {
        let measure = killed.held.measure;
        let journal = self.holder.journal();
        let mut held = killed.held.clone();
        let mut save =
            |held: &Held| journal.write(ActionKind::Kill, measure, &Killed::of(held.clone()));
        if let Err(error) = self.holder.hold(&mut held, protected, &mut save) {
            if let Err(also) = self.undo(&Killed::of(held)) {
                tracing::error!(%also, %measure, "what was to be killed could not be let go");
            }
            return Err(error);
        }
        let victims = self.holder.held_now(&held)?;
        let program = |process: ProcessId| {
            let image = crate::sensor::proc_files::image(process.pid);
            image.map_or(String::new(), |(path, _)| path.chars().take(120).collect())
        };
        *killed = Killed {
            has_begun: true,
            count: u32::try_from(victims.len()).unwrap_or(u32::MAX),
            victims: victims
                .into_iter()
                .take(NAMED)
                .map(|process| Victim { process, program: program(process) })
                .collect(),
            held,
        };
        journal.write(ActionKind::Kill, measure, killed)
    }

    /// Of a tree that went on changing while it was held: what is left of it now.
    fn hold_the_rest(&self, killed: &mut Killed, protected: &Protected) -> Result<(), ActError> {
        let measure = killed.held.measure;
        let mut held = killed.held.clone();
        let journal = self.holder.journal();
        let (count, victims) = (killed.count, killed.victims.clone());
        let as_killed = |held: &Held| Killed {
            held: held.clone(),
            has_begun: true,
            count: count.max(held.processes),
            victims: victims.clone(),
        };
        let mut save = |held: &Held| journal.write(ActionKind::Kill, measure, &as_killed(held));
        match self.holder.hold(&mut held, protected, &mut save) {
            Ok(()) => *killed = as_killed(&held),
            // Whoever left it meanwhile is not known: it stays unproven, for people to look.
            Err(ActError::NotThere(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wait(&self, held: &Held) -> Result<(), ActError> {
        let began = Instant::now();
        while !self.holder.held_now(held)?.is_empty() && began.elapsed() < GONE_WITHIN {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Killed>, ActError> {
        self.holder.journal().read(ActionKind::Kill, measure)
    }

    /// Shows whether they are gone.
    ///
    /// # Errors
    /// When the system can't be asked.
    pub fn prove(&self, killed: &Killed) -> Result<Proof, ActError> {
        let mut alive: Vec<ProcessId> = self.holder.held_now(&killed.held)?;
        let is_of_this_boot = self.holder.is_of_this_boot(&killed.held);
        for Victim { process, .. } in &killed.victims {
            let is_there = is_of_this_boot
                && Seen::now(process.pid)
                    .is_some_and(|seen| seen.id.is(*process) && !seen.is_over());
            if is_there && !alive.iter().any(|known| known.is(*process)) {
                alive.push(*process);
            }
        }
        let probes = vec![Probe {
            tried: format!("whether any of {} processes goes on", killed.count),
            should_pass: false,
            did_pass: Some(!alive.is_empty()),
        }];
        let mut unproven = killed.held.doubts.clone();
        unproven.extend(
            alive.iter().map(|process| format!("process {} has not ended yet", process.pid)),
        );
        Ok(proof(alive.is_empty() && !killed.held.is_restless(), probes, unproven))
    }

    /// Ends the measure. Killed is killed: that is said. Had the killing not begun (the helper died
    /// before it), the tree goes on as if nothing had been.
    ///
    /// # Errors
    /// When the system fails; do it again.
    pub fn undo(&self, killed: &Killed) -> Result<Undone, ActError> {
        let measure = killed.held.measure;
        let begun = self.begun(measure)?;
        let known = begun.as_ref().unwrap_or(killed);
        if known.has_begun {
            // Half killed would be neither one thing nor the other.
            self.holder.kill(&known.held)?;
            self.wait(&known.held)?;
        }
        let mut undone = self.holder.release(&known.held)?;
        self.holder.journal().forget(ActionKind::Kill, measure)?;
        if known.has_begun {
            undone.differs = vec![format!(
                "{} processes were killed, and are not brought back: start their service again",
                known.count
            )];
        }
        Ok(undone)
    }
}
