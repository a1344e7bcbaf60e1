//! A local account that can't sign in any more, and can again.
//!
//! The one idea: one line of one file is changed, in the way that every tool of the system understands
//! ([`line`]), under the locks that every such tool takes (`shadow`), and given back only if it is still
//! ours: whoever changed it meanwhile has the last word, and that is said.
//!
//! What no order may do is refused here (`people`): to disable `root`, Cordon's own users, or the last
//! account by which a person could still administer the machine.
//!
//! Disabling an account stops nobody who is in already. What runs for it is listed
//! ([`Applied::sessions`]), so that the means that freeze and end processes can be pointed at it; the
//! proof counts what still runs. An order may end its sessions too ([`Ended`]): after the account is shut, so
//! that nobody comes back.

mod line;
mod people;
mod sessions;
mod shadow;

use std::path::{Path, PathBuf};

use cordon_model::action::{AccountTarget, ActionKind};
use cordon_model::finding::ProcessRef;
use cordon_model::ids::MeasureId;
use cordon_model::look::Would;
use cordon_model::measure::{Probe, Proof};
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use self::line::{Found, LineChange, lines_of, with_line};
pub(in crate::contain) use self::people::other_sources;
use self::people::{Account, People, has_key};
pub use self::sessions::Ended;
use super::journal::Journal;
use super::lineage::Seen;
use super::mounts::mounts;
use super::spared::{OWN_USERS, Protected, SparedProcesses};
use super::{ActError, Undone, proof};

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// A disabled account: what the journal holds of it, without a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The measure.
    pub measure: MeasureId,
    /// What was ordered.
    pub target: AccountTarget,
    /// The account's user number.
    pub uid: u32,
    /// How its line was changed.
    change: LineChange,
    /// What ran for it when it had just been disabled, at most `sessions::LISTED`.
    pub sessions: Vec<ProcessRef>,
    /// What became of its sessions, if they are to be ended and that has begun.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// The means to disable accounts.
#[derive(Debug)]
pub struct Accounts {
    journal: Journal,
    root: PathBuf,
    agent_user: u32,
}

impl Accounts {
    /// Of the machine whose file system begins at `root` (`/`, but for a try), and whose agent runs as
    /// `agent_user`.
    #[must_use]
    pub fn new(journal: Journal, root: &Path, agent_user: u32) -> Self {
        Self { journal, root: root.to_owned(), agent_user }
    }

    /// Disables the account, and ends its sessions if that is ordered, but for what is `protected`. Applied
    /// again, it goes on where it was.
    ///
    /// # Errors
    /// [`ActError::Refused`] for what no order may do; nothing is changed by an `apply` that fails.
    pub fn apply(
        &self,
        measure: MeasureId,
        target: &AccountTarget,
        protected: &Protected,
    ) -> Result<Applied, ActError> {
        let (people, account) = self.look_up(&target.name)?;
        self.refuse(&people, &account)?;
        if target.ends_sessions {
            refuse_to_end(&people, &account)?;
        }
        self.refuse_twice(measure, &target.name)?;
        let begun = self.begun(measure)?;
        let is_fresh = begun.is_none();
        let plan = |shadow: &[u8]| {
            let (number, line) = its_line(shadow, &target.name)?;
            let (change, disabled) = match &begun {
                Some(begun) => match begun.change.find(line) {
                    Found::After => return Ok((begun.clone(), None)),
                    Found::Before => (begun.change.clone(), disabled(line)?.1),
                    Found::Other => return Err(ActError::unfit(changed_by_others(&target.name))),
                },
                None => disabled(line)?,
            };
            let applied = Applied {
                measure,
                target: target.clone(),
                uid: account.uid,
                change,
                sessions: Vec::new(),
                ended: begun.as_ref().and_then(|begun| begun.ended.clone()),
            };
            self.journal.write(ActionKind::DisableAccount, measure, &applied)?;
            Ok((applied, Some(with_line(shadow, number, &disabled))))
        };
        let mut applied = match shadow::rewrite(&self.etc(), plan) {
            Ok(applied) => applied,
            Err(error) => {
                if is_fresh && let Err(also) = self.give_up(measure) {
                    tracing::error!(%also, %measure, "a half-disabled account is left");
                }
                return Err(error);
            }
        };
        // Only now: whoever signed in before this is listed, and nobody can after.
        applied.sessions = sessions::of(account.uid);
        if target.ends_sessions && !applied.ended.as_ref().is_some_and(|ended| ended.is_whole) {
            // Written before the first is ended: who takes the measure back says that some may be gone.
            let mut ended = applied.ended.take().unwrap_or_default();
            applied.ended = Some(ended.clone());
            self.journal.write(ActionKind::DisableAccount, measure, &applied)?;
            sessions::end(account.uid, self.agent_user, protected, &mut ended);
            applied.ended = Some(ended);
        }
        self.journal.write(ActionKind::DisableAccount, measure, &applied)?;
        Ok(applied)
    }

    /// After an `apply` that failed: nothing of it stays.
    fn give_up(&self, measure: MeasureId) -> Result<(), ActError> {
        match self.begun(measure)? {
            Some(begun) => self.undo(&begun).map(drop),
            None => Ok(()),
        }
    }

    /// What the journal has of `measure`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begun(&self, measure: MeasureId) -> Result<Option<Applied>, ActError> {
        self.journal.read(ActionKind::DisableAccount, measure)
    }

    /// Reads the line back, and says what else could still be done in the account's name.
    ///
    /// # Errors
    /// When the files can't be read.
    pub fn prove(&self, applied: &Applied) -> Result<Proof, ActError> {
        let name = &applied.target.name;
        let shadow = shadow::read(&self.etc(), "shadow")?;
        let is_read_back = its_line(&shadow, name)
            .is_ok_and(|(_, line)| applied.change.find(line) == Found::After);
        let mut unproven = vec![
            format!(
                "signing in as {name}: read back, not tried; it rests on services that ask PAM or the \
                 shadow file"
            ),
            "programs' own users, tokens already given, and programs that the service manager starts for \
             the account are not reached"
                .into(),
        ];
        if let Ok((people, account)) = self.look_up(name) {
            unproven.extend(people.namesakes(&account).map(|other| {
                format!("the account {other} has the same user number {} and is open", account.uid)
            }));
        }
        unproven.extend(self.sources().map(|source| {
            format!("an account {name} that {source} knows is not touched: disable it there too")
        }));
        match sessions::of(applied.uid).len() {
            _ if applied.uid == 0 => unproven.push(
                "what runs for it can't be told from the system itself: its user number is 0"
                    .into(),
            ),
            0 => {}
            count => unproven.push(format!(
                "{count}{} processes that run for it go on",
                if count < sessions::LISTED { "" } else { " or more" }
            )),
        }
        let ended = applied.ended.as_ref().filter(|_| applied.target.ends_sessions);
        let probes = ended.map(|ended| Probe {
            tried: format!("whether a session of {name} went on when it was to end"),
            should_pass: false,
            did_pass: Some(!ended.is_whole),
        });
        Ok(proof(is_read_back, probes.into_iter().collect(), unproven))
    }

    /// Gives the account's line back as it was, whatever happened to the other lines. A line that
    /// somebody else changed is left, and that is said.
    ///
    /// # Errors
    /// When the files can't be changed; do it again.
    pub fn undo(&self, applied: &Applied) -> Result<Undone, ActError> {
        let name = &applied.target.name;
        let begun = self.begun(applied.measure)?;
        let change = &begun.as_ref().unwrap_or(applied).change;
        let mut undone = shadow::rewrite(&self.etc(), |shadow| {
            let Ok((number, line)) = its_line(shadow, name) else {
                let gone =
                    format!("the account {name} has no line of its own in etc/shadow any more");
                return Ok((Undone { differs: vec![gone] }, None));
            };
            Ok(match (change.find(line), change.undone(line)) {
                (Found::After, Some(before)) => {
                    (Undone::default(), Some(with_line(shadow, number, &before)))
                }
                (Found::Before, _) => (Undone::default(), None),
                _ => (Undone { differs: vec![changed_by_others(name)] }, None),
            })
        })?;
        self.journal.forget(ActionKind::DisableAccount, applied.measure)?;
        let ended = begun.as_ref().unwrap_or(applied).ended.as_ref();
        undone.differs.extend(ended.filter(|ended| ended.count > 0 || !ended.is_whole).map(
            |ended| {
                let at_least = if ended.is_whole { "" } else { "at least " };
                format!(
                    "{at_least}{} processes of its sessions were ended, and are not brought back",
                    ended.count
                )
            },
        ));
        Ok(undone)
    }

    /// What disabling the account would do now.
    pub fn would(&self, target: &AccountTarget, protected: &Protected) -> Would {
        let looked_up = self.look_up(&target.name).and_then(|(people, account)| {
            self.refuse(&people, &account)?;
            if target.ends_sessions {
                refuse_to_end(&people, &account)?;
            }
            Ok((people, account))
        });
        let (people, account) = match looked_up {
            Ok(found) => found,
            Err(error) => return Would::refused(error.to_string()),
        };
        let mut would = Would::default();
        would.stops(format!("signing in as {} (user number {})", account.name, account.uid));
        let spared = SparedProcesses::now(protected, Some(self.agent_user));
        let line = |process: &ProcessRef| format!("process {}: {}", process.pid, process.image);
        let (mut theirs, mut left) = (sessions::of(account.uid), Vec::new());
        if target.ends_sessions {
            for process in &theirs {
                let why = Seen::now(process.pid).and_then(|seen| spared.why(&seen));
                left.extend(why.map(|why| format!("{}: {why}", line(process))));
            }
        }
        if left.is_empty() && target.ends_sessions {
            theirs.drain(..).for_each(|process| would.stops(line(&process)));
        } else if !left.is_empty() {
            would
                .notes
                .push("none of its sessions end while no order may touch a part of them".into());
        }
        left.into_iter().for_each(|line| would.spares(line));
        let goes_on = |process: &ProcessRef| format!("runs as it, and goes on: {}", line(process));
        would.notes.extend(theirs.iter().map(goes_on));
        would.notes.extend(
            people.namesakes(&account).map(|other| {
                format!("the account {other} has the same user number and stays open")
            }),
        );
        let elsewhere =
            self.sources().map(|source| format!("an account that {source} knows is not touched"));
        would.notes.extend(elsewhere);
        would
    }

    fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    fn look_up(&self, name: &str) -> Result<(People, Account), ActError> {
        let etc = self.etc();
        let today = UtcNanos::now().unix_nanos().div_euclid(NANOS_PER_DAY);
        let read = |file| shadow::read(&etc, file);
        let people = People::of(&read("passwd")?, &read("shadow")?, &read("group")?, today);
        let account = people.accounts.iter().find(|account| account.name == name).cloned();
        let account = account.ok_or_else(|| {
            let elsewhere: Vec<String> = self.sources().collect();
            ActError::not_there(if elsewhere.is_empty() {
                format!("there is no local account {name:?}")
            } else {
                let elsewhere = elsewhere.join(", ");
                format!(
                    "{name:?} is no local account; this machine also asks {elsewhere}: disable it there"
                )
            })
        })?;
        Ok((people, account))
    }

    fn sources(&self) -> impl Iterator<Item = String> {
        let nsswitch = shadow::read(&self.etc(), "nsswitch.conf").unwrap_or_default();
        other_sources(&nsswitch).into_iter()
    }

    /// What no order may do.
    fn refuse(&self, people: &People, account: &Account) -> Result<(), ActError> {
        let name = &account.name;
        if name == "root" {
            return Err(ActError::refused(
                "root is never disabled: nobody could repair the machine",
            ));
        }
        if OWN_USERS.contains(&name.as_str()) || account.uid == self.agent_user {
            return Err(ActError::refused(format!("{name} is one of Cordon's own users")));
        }
        if !account.is_shadowed {
            return Err(ActError::unfit(format!(
                "{name}'s password is in etc/passwd and not in etc/shadow, where no expiry is looked \
                 at: run pwconv first"
            )));
        }
        if people.administers(account) {
            let mounts = mounts().unwrap_or_default();
            let has_key = |home: &Path| has_key(&self.root, home, &mounts);
            if people.other_administrators(account, has_key).next().is_none() {
                return Err(ActError::refused(format!(
                    "{name} is the last account that can sign in and administer this machine (user 0, \
                     or in sudo, wheel or admin): give another one a way in first"
                )));
            }
        }
        Ok(())
    }

    /// One account, one measure: two could not be undone in any order.
    fn refuse_twice(&self, measure: MeasureId, name: &str) -> Result<(), ActError> {
        for other in self.journal.measures(ActionKind::DisableAccount)? {
            let is_same = self.begun(other)?.is_some_and(|held| held.target.name == name);
            if other != measure && is_same {
                let why = format!("{name} is disabled already, by the measure {other}");
                return Err(ActError::unfit(why));
            }
        }
        Ok(())
    }
}

/// Whose sessions can't be told from others'.
fn refuse_to_end(people: &People, account: &Account) -> Result<(), ActError> {
    let name = &account.name;
    if account.uid == 0 {
        return Err(ActError::refused(format!(
            "{name} has user number 0: its sessions can't be told from the system itself; disable it \
             without ending them"
        )));
    }
    if let Some(other) = people.namesakes(account).next() {
        return Err(ActError::refused(format!(
            "the account {other} has the same user number as {name}: their sessions can't be told apart; \
             disable it without ending them"
        )));
    }
    Ok(())
}

fn its_line<'a>(shadow: &'a [u8], name: &str) -> Result<(usize, &'a [u8]), ActError> {
    match lines_of(shadow, name)[..] {
        [line] => Ok(line),
        [] => Err(ActError::unfit(format!("{name} has no line in etc/shadow"))),
        _ => Err(ActError::unfit(format!("{name} has more than one line in etc/shadow"))),
    }
}

fn disabled(line: &[u8]) -> Result<(LineChange, Vec<u8>), ActError> {
    LineChange::disabling(line)
        .ok_or_else(|| ActError::unfit("its line in etc/shadow has not nine fields with a date"))
}

fn changed_by_others(name: &str) -> String {
    format!("{name}'s line in etc/shadow was changed by somebody else since, and was left as it is")
}
