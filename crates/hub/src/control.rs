//! The local socket that the command line and the drill speak to.
//!
//! The one idea: whoever the system says is root or the hub's own user administers this hub, and nobody
//! else is answered. It is the same [`Hub`] handle as the console's, in typed requests; no secret but the
//! one asked for crosses it.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use cordon_model::action::Action;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId};
use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::look::{LookAt, Seen};
use cordon_model::measure::Isolation;
use cordon_model::policy::{Mode, Policy};
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_store::{IncidentFilter, Page, Role, StoredMeasure};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::run::stopped;
use crate::view::{
    AssignmentDraft, IncidentRow, LedgerStatus, MachineRow, Ordered, Preview, Refused, StandingNow,
    Undone,
};

/// Connections at one time.
const CONNECTIONS: usize = 16;

/// How long a request may take to arrive once the connection is open.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows in one answer. A machine's row is below 1 KB, so 500 fit; the console shows more.
const ROWS: usize = 500;

/// Questions in one answer: each may name files, 4 KiB at the longest, so 100 fit.
const QUESTIONS: usize = 100;

/// What the command line asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is the hub?
    Status,
    /// A token that enrols one machine, once.
    CreateEnrolToken {
        /// What the machine is to be.
        draft: AssignmentDraft,
        /// For how long it is good.
        good_for_seconds: u32,
    },
    /// A secret that signs a person in, once.
    CreateSignIn {
        /// Who; made known if need be.
        name: String,
        /// What a new person may do; of one who is known it is only checked.
        role: Option<Role>,
        /// For how long it is good.
        good_for_seconds: u32,
    },
    /// Make a person known, or change what they may do.
    PutPerson {
        /// Sign-in name.
        name: String,
        /// What the person may do.
        role: Role,
        /// Whether the person may answer for patients' safety.
        is_clinical: bool,
    },
    /// Let a person sign in no more, and end the sessions that are open.
    BarPerson {
        /// Sign-in name.
        name: String,
    },
    /// Machines, by name.
    ListMachines,
    /// Incidents, newest first.
    ListIncidents {
        /// Only those that are not closed.
        only_open: bool,
    },
    /// What an isolation would do.
    Preview {
        /// Its id or name.
        machine: String,
        /// How far.
        isolation: Isolation,
    },
    /// Cut a machine off.
    Isolate {
        /// Its id or name.
        machine: String,
        /// How far.
        isolation: Isolation,
        /// Why.
        reason: String,
    },
    /// Begin a measure besides the isolation.
    Begin {
        /// Its id or name.
        machine: String,
        /// What is done.
        action: Action,
        /// Why.
        reason: String,
    },
    /// Take one measure back.
    Undo {
        /// Its id or name.
        machine: String,
        /// Which.
        measure: MeasureId,
        /// Why.
        reason: String,
    },
    /// The measures of a machine, the newest first.
    Measures {
        /// Its id or name.
        machine: String,
    },
    /// A machine's processes, by its own word.
    Processes {
        /// Its id or name.
        machine: String,
    },
    /// Take every isolation of a machine back.
    Release {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Take back everything that Cordon did by itself, to one machine or in one incident.
    UndoAll {
        /// A machine's id or name, or an incident's id.
        target: String,
        /// Why.
        reason: String,
    },
    /// The questions that wait for people.
    Questions,
    /// Answer one.
    Answer {
        /// Which.
        question: ApprovalId,
        /// Yes or no.
        is_approved: bool,
        /// Why.
        reason: String,
    },
    /// The measures on a machine that are not over.
    Standing(MachineId),
    /// Extend the lease of a machine's measure in force.
    Renew {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Say what a machine is.
    SetAssignment {
        /// Its id or name.
        machine: String,
        /// What it is.
        draft: AssignmentDraft,
    },
    /// Strike a machine off.
    StrikeOff {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Other break-glass codes for a machine.
    RenewCodes {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Which machine has this id or name, and of which revision it holds break-glass codes.
    Codes {
        /// Its id or name.
        machine: String,
    },
    /// Set how much is done without asking.
    SetMode(Mode),
    /// The policy in force.
    Policy,
    /// Put a policy in force; its organisation and revision are the hub's to give.
    SetPolicy(Box<Policy>),
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// A token or secret: shown once.
    Secret(String),
    /// Machines; `total` says of how many.
    Machines {
        /// The first rows.
        rows: Vec<MachineRow>,
        /// How many there are.
        total: usize,
    },
    /// To [`Request::Measures`].
    Measures(Vec<StoredMeasure>),
    /// To [`Request::Processes`].
    Seen(Box<Seen>),
    /// Incidents; `total` says of how many.
    Incidents {
        /// The first rows.
        rows: Vec<IncidentRow>,
        /// How many there are.
        total: u64,
    },
    /// To [`Request::Preview`].
    Preview(Box<Preview>),
    /// To [`Request::Policy`].
    Policy(Box<Policy>),
    /// To [`Request::Codes`].
    Codes {
        /// Which machine.
        machine: MachineId,
        /// Of which revision it last said that it holds codes (0: of none); `None`: it was never heard.
        held: Option<u64>,
    },
    /// What came of a wish.
    Ordered {
        /// For which machine.
        machine: MachineId,
        /// An order, or a question to others.
        ordered: Ordered,
    },
    /// Questions that wait for people.
    Questions {
        /// The first, with the names of their machines.
        rows: Vec<(String, Approval)>,
        /// How many there are.
        total: u64,
    },
    /// To [`Request::Answer`]: where the question is now.
    Answered(ApprovalState),
    /// To [`Request::UndoAll`], for each machine on which there was something to take back.
    Undone(Vec<Undone>),
    /// To [`Request::Standing`].
    Standing(Box<StandingNow>),
    /// Done.
    Done,
    /// No, and why.
    Refused(String),
}

/// How the hub is, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The organisation's code.
    pub organisation: cordon_model::ids::OdsCode,
    /// Its name.
    pub name: String,
    /// How much is done without asking.
    pub mode: Mode,
    /// Machines enrolled…
    pub machines: u64,
    /// …of which are linked now…
    pub linked: u64,
    /// …of which were heard in the last seconds…
    pub heard: u64,
    /// …of which at least one acting measure is on.
    pub contained: u64,
    /// Incidents that are not closed…
    pub incidents_open: u64,
    /// …of which nobody has.
    pub incidents_unowned: u64,
    /// Questions that wait for people.
    pub questions: u64,
    /// Orders that no machine has taken yet.
    pub orders_waiting: u64,
    /// The ledger.
    pub ledger: LedgerStatus,
    /// Why the signer does not sign the ledger any more: an alarm.
    pub ledger_alarm: Option<String>,
    /// `None`: the signer answered last time.
    pub signer_away: Option<String>,
    /// What was refused since the start.
    pub refused: Refused,
}

/// Asks a hub one thing.
///
/// # Errors
/// If nobody answers there, or the answer can't be read.
pub async fn ask(socket: &Path, request: &Request) -> Result<Answer, FrameError> {
    let mut stream = UnixStream::connect(socket).await?;
    frame::write(&mut stream, request, MESSAGE_BYTES).await?;
    frame::read(&mut stream, MESSAGE_BYTES).await?.ok_or(FrameError::Torn)
}

/// Binds the socket for its owner alone.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        // What a killed hub left. Two hubs at once are kept apart by the lock on the ledger.
        Ok(old) if old.file_type().is_socket() => std::fs::remove_file(path)?,
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the hub stops.
pub(crate) async fn serve(listener: UnixListener, hub: Hub, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection of the command line was lost");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let who = match admit(&stream) {
            Ok(who) => who,
            Err(why) => {
                tracing::warn!("a connection to the control socket was refused: {why}");
                continue;
            }
        };
        let Ok(seat) = room.clone().try_acquire_owned() else { continue };
        let hub = hub.clone();
        connections.spawn(async move {
            if let Err(error) = Box::pin(converse(stream, &hub, &who)).await {
                tracing::debug!(%error, "a connection of the command line ended");
            }
            drop(seat);
        });
    }
    connections.shutdown().await;
}

/// Root and the hub's own user; the system says who it is, and that can't be forged.
fn admit(stream: &UnixStream) -> Result<Who, String> {
    let peer = stream.peer_cred().map_err(|error| error.to_string())?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != own {
        return Err(format!("user {} is neither root nor the hub's", peer.uid()));
    }
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(peer.uid()));
    let name = user.ok().flatten().map_or_else(|| peer.uid().to_string(), |user| user.name);
    Ok(Who::local(&name))
}

async fn converse(mut stream: UnixStream, hub: &Hub, who: &Who) -> Result<(), FrameError> {
    loop {
        let request = timeout(PATIENCE, frame::read::<Request, _>(&mut stream, MESSAGE_BYTES));
        let Ok(request) = request.await else { return Ok(()) };
        let answer = match request {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => answer(hub, request, who)
                .await
                .unwrap_or_else(|error| Answer::Refused(with_causes(&error))),
            Err(error @ FrameError::Unreadable(_)) => Answer::Refused(error.to_string()),
            Err(error) => return Err(error),
        };
        frame::write(&mut stream, &answer, MESSAGE_BYTES).await?;
    }
}

async fn answer(hub: &Hub, request: Request, who: &Who) -> Result<Answer, HubError> {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Ok(match request {
        Request::Status => Answer::Status(Box::new(status(hub).await?)),
        Request::CreateEnrolToken { draft, good_for_seconds } => {
            let token = hub.create_enrolment_token(draft, seconds(good_for_seconds), who).await?;
            Answer::Secret(token.to_string())
        }
        Request::CreateSignIn { name, role, good_for_seconds } => {
            let sign_in = hub.create_sign_in(&name, role, seconds(good_for_seconds), who).await?;
            Answer::Secret(sign_in.token.text())
        }
        Request::PutPerson { name, role, is_clinical } => {
            hub.admit(&name, role, is_clinical, who).await?;
            Answer::Done
        }
        Request::BarPerson { name } => {
            hub.bar(&name, who).await?;
            Answer::Done
        }
        Request::ListMachines => {
            let mut rows = hub.machines();
            let total = rows.len();
            rows.truncate(ROWS);
            Answer::Machines { rows, total }
        }
        Request::ListIncidents { only_open } => {
            let filter = if only_open { IncidentFilter::Open } else { IncidentFilter::Any };
            // An incident may hold ids of a thousand findings: 20 fit the message whatever they hold.
            let listed = hub.incidents(filter, &Page::first(20)).await?;
            let rows = listed.items.into_iter().map(|mut row| {
                row.incident.findings.clear();
                row.incident.machines.truncate(100);
                row
            });
            Answer::Incidents { rows: rows.collect(), total: listed.total }
        }
        Request::Preview { machine, isolation } => {
            Answer::Preview(Box::new(hub.preview_now(named(hub, &machine)?, isolation, who).await?))
        }
        Request::Isolate { machine, isolation, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.isolate(machine, isolation, &reason, None, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::Begin { machine, action, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.begin(machine, action, &reason, None, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::Undo { machine, measure, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.undo(machine, measure, &reason, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::Measures { machine } => {
            let view = hub.machine(named(hub, &machine)?).await?;
            let rows = view.measures.into_iter().map(|view| view.measure).collect();
            Answer::Measures(rows)
        }
        Request::Processes { machine } => {
            let machine = named(hub, &machine)?;
            Answer::Seen(Box::new(hub.look(machine, LookAt::Processes, who).await?))
        }
        Request::Release { machine, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.release(machine, &reason, None, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::UndoAll { target, reason } => {
            let machines = match (hub.machine_called(&target), target.parse::<IncidentId>()) {
                (Some(machine), _) => vec![machine],
                (None, Ok(incident)) => hub.incident(incident, None).await?.incident.machines,
                (None, Err(_)) => {
                    let what = "machine (give its id or its one name) or incident (give its id)";
                    return Err(HubError::Missing { what });
                }
            };
            Answer::Undone(hub.undo_all(&machines, &reason, who).await?)
        }
        Request::Questions => {
            let mut open = hub.approvals(true).await?;
            let total = open.len() as u64;
            open.truncate(QUESTIONS);
            let name = |of: &Approval| hub.machine_name(of.machine);
            Answer::Questions { rows: open.into_iter().map(|of| (name(&of), of)).collect(), total }
        }
        Request::Answer { question, is_approved, reason } => {
            Answer::Answered(hub.answer(question, is_approved, &reason, who).await?)
        }
        Request::Standing(machine) => Answer::Standing(Box::new(hub.standing(machine)?)),
        Request::Renew { machine, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.renew(machine, &reason, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::SetAssignment { machine, draft } => {
            hub.assign(named(hub, &machine)?, draft, who).await?;
            Answer::Done
        }
        Request::StrikeOff { machine, reason } => {
            hub.strike_off(named(hub, &machine)?, &reason, who).await?;
            Answer::Done
        }
        Request::RenewCodes { machine, reason } => {
            hub.renew_codes(named(hub, &machine)?, &reason, who).await?;
            Answer::Done
        }
        Request::Codes { machine } => {
            let machine = named(hub, &machine)?;
            let status = hub.machine(machine).await?.status;
            Answer::Codes { machine, held: status.map(|status| status.break_glass) }
        }
        Request::SetMode(mode) => {
            hub.set_mode(mode, who).await?;
            Answer::Done
        }
        Request::Policy => Answer::Policy(Box::new(Policy::clone(&hub.policy()))),
        Request::SetPolicy(policy) => {
            hub.set_policy(*policy, who).await?;
            Answer::Done
        }
    })
}

fn named(hub: &Hub, name: &str) -> Result<MachineId, HubError> {
    hub.machine_called(name)
        .ok_or(HubError::Missing { what: "machine (give its id or its one name)" })
}

async fn status(hub: &Hub) -> Result<Status, HubError> {
    let status = hub.status().await?;
    let counts = status.counts;
    Ok(Status {
        organisation: status.organisation.code,
        name: status.organisation.name,
        mode: status.mode,
        machines: counts.machines,
        linked: status.linked as u64,
        heard: counts.machines_heard,
        contained: counts.machines_contained,
        incidents_open: counts.incidents_open,
        incidents_unowned: counts.incidents_unowned,
        questions: counts.approvals_open,
        orders_waiting: counts.orders_waiting,
        ledger: status.ledger,
        ledger_alarm: status.ledger_alarm,
        signer_away: status.signer_away,
        refused: status.refused,
    })
}

/// An error with what caused it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
