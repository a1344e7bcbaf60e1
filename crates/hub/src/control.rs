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
use cordon_model::ids::{IncidentId, MachineId};
use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::look::LookAt;
use cordon_model::order::Instruction;
use cordon_model::policy::Policy;
use cordon_store::{IncidentFilter, Page};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::run::stopped;

mod detail;
mod words;

pub use detail::{CodesNow, FindingLine, IncidentDetail, MachineDetail, MeasureLine, TimelineLine};
pub use words::{Answer, ListedMeasure, QuestionRow, Request, Status};

/// Connections at one time.
const CONNECTIONS: usize = 16;

/// How long a request may take to arrive once the connection is open.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows in one answer. A machine's row is below 1 KB, so 500 fit; the console shows more.
const ROWS: usize = 500;

/// Questions in one answer: each may name files, 4 KiB at the longest, so 100 fit.
const QUESTIONS: usize = 100;

/// Addresses to confirm in one list of machines: 4,000 of some 60 bytes, a quarter of a message.
const ADDRESSES_LISTED: usize = 4_000;

/// Names in one answer: each is at most 4 KB, so 200 fit.
const NAMES_LISTED: usize = 200;

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
            Answer::Kept { night: hub.night_gap().await? }
        }
        Request::BarPerson { name } => {
            hub.bar(&name, who).await?;
            Answer::Kept { night: hub.night_gap().await? }
        }
        Request::ListMachines => {
            let mut rows = hub.machines();
            let total = rows.len();
            rows.truncate(ROWS);
            let mut room = ADDRESSES_LISTED;
            for name in rows.iter_mut().flat_map(|row| &mut row.to_confirm) {
                match room.checked_sub(name.addresses.len()) {
                    Some(left) => room = left,
                    None => name.addresses.clear(),
                }
            }
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
            let unreadable = listed.unreadable.into_iter().map(|row| (row.id, row.reason));
            Answer::Incidents {
                rows: rows.collect(),
                total: listed.total,
                unreadable: unreadable.collect(),
            }
        }
        Request::Machine { machine } => {
            Answer::Machine(Box::new(hub.machine_detail(named(hub, &machine)?).await?))
        }
        Request::Incident(incident) => {
            Answer::Incident(Box::new(hub.incident_detail(incident).await?))
        }
        Request::TakeIncident(incident) => {
            hub.take_incident(incident, who).await?;
            Answer::Done
        }
        Request::CommentIncident { incident, comment } => {
            hub.comment_incident(incident, &comment, who).await?;
            Answer::Done
        }
        Request::CloseIncident { incident, reason } => {
            hub.close_incident(incident, &reason, who).await?;
            Answer::Done
        }
        Request::Preview { machine, isolation } => {
            Answer::Preview(Box::new(hub.preview_now(named(hub, &machine)?, isolation, who).await?))
        }
        Request::PreviewMeasure { machine, action } => {
            let machine = named(hub, &machine)?;
            Answer::MeasurePreview(Box::new(hub.preview_measure(machine, action, who).await?))
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
            let rows = view.measures.into_iter().map(|view| ListedMeasure {
                is_release: view
                    .order
                    .is_some_and(|order| order.instruction == Instruction::Release),
                measure: view.measure,
            });
            Answer::Measures(rows.collect())
        }
        Request::Processes { machine } => {
            let machine = named(hub, &machine)?;
            Answer::Seen(Box::new(hub.look(machine, LookAt::Processes, who).await?))
        }
        Request::Survey { machine, since } => {
            let machine = named(hub, &machine)?;
            Answer::Seen(Box::new(hub.look(machine, LookAt::Survey { since }, who).await?))
        }
        Request::Release { machine, reason, despite } => {
            let machine = named(hub, &machine)?;
            let before = Box::new(hub.standing(machine)?);
            let ordered = hub.release(machine, &reason, despite.as_deref(), None, who).await?;
            Answer::Released { machine, ordered, before }
        }
        Request::Plan { machine, incident } => {
            Answer::Plan(Box::new(hub.elimination(named(hub, &machine)?, incident, who).await?))
        }
        Request::OrderPlan { machine, incident, digest, reason } => {
            let machine = named(hub, &machine)?;
            let came = hub.order_elimination(machine, incident, &digest, &reason, who).await?;
            Answer::PlanOrdered(Box::new(came))
        }
        Request::VerifyPlan { machine, incident } => {
            let machine = named(hub, &machine)?;
            let (plan, is_clean) = hub.verify_elimination(machine, incident, who).await?;
            Answer::Verified { plan: Box::new(plan), is_clean }
        }
        Request::AcceptSteps { machine, incident, steps, reason } => {
            let machine = named(hub, &machine)?;
            let plan = hub.accept_steps(machine, incident, &steps, &reason, who).await?;
            Answer::Plan(Box::new(plan))
        }
        Request::Gate { machine } => Answer::Gate(Box::new(hub.gate(named(hub, &machine)?).await?)),
        Request::SayPatched { machine, reason } => {
            let machine = named(hub, &machine)?;
            Answer::Gate(Box::new(hub.say_patched(machine, &reason, who).await?))
        }
        Request::SignOff { machine, reason } => {
            Answer::Gate(Box::new(hub.sign_off(named(hub, &machine)?, &reason, who).await?))
        }
        Request::UndoAll { target, reason } => {
            let machines = match (hub.machine_called(&target), target.parse::<IncidentId>()) {
                (Some(machine), _) => vec![machine],
                (None, Ok(incident)) => hub.machines_of(incident).await?,
                (None, Err(_)) => {
                    let what = "machine (give its id or its one name: see `cordon machines`) or incident \
                                (give its id: see `cordon incidents`)";
                    return Err(HubError::Missing { what });
                }
            };
            Answer::Undone(hub.undo_all(&machines, &reason, who).await?)
        }
        Request::Questions => {
            let mut open = hub.approvals(true).await?;
            // A page of them at most is at hand; how many there are is counted.
            let total = hub.status().await?.counts.approvals_open.max(open.len() as u64);
            open.truncate(QUESTIONS);
            let rows = open.into_iter().map(|question| QuestionRow {
                machine: hub.machine_name(question.machine),
                tier: hub.tier(question.machine),
                question,
            });
            Answer::Questions { rows: rows.collect(), total }
        }
        Request::Answer { question, is_approved, reason } => {
            let (state, no_until) =
                hub.answer_with_age(question, is_approved, &reason, who).await?;
            Answer::Answered(state, no_until)
        }
        Request::Standing(machine) => Answer::Standing(Box::new(hub.standing(machine)?)),
        Request::Measure { machine, measure } => {
            Answer::Measure(hub.measure_now(machine, measure).await?)
        }
        Request::Renew { machine, reason } => {
            let machine = named(hub, &machine)?;
            let ordered = hub.renew(machine, &reason, who).await?;
            Answer::Ordered { machine, ordered }
        }
        Request::SetAssignment { machine, draft } => {
            Answer::Assigned(Box::new(hub.assign(named(hub, &machine)?, draft, who).await?))
        }
        Request::WouldAssign { machine, draft } => {
            Answer::Assigned(Box::new(hub.would_assign(named(hub, &machine)?, draft, who).await?))
        }
        Request::WouldEnrol { draft } => {
            Answer::Assigned(Box::new(hub.would_enrol(draft, who).await?))
        }
        Request::Names { machine, looks } => {
            let machine = machine.map(|machine| named(hub, &machine)).transpose()?;
            if looks {
                hub.look_at_names(machine, who).await?;
            }
            let machines = match machine {
                Some(machine) => vec![machine],
                None => hub.machines().into_iter().map(|row| row.id).collect(),
            };
            let (mut rows, mut total, mut room) = (Vec::new(), 0, NAMES_LISTED);
            for machine in machines {
                let names = hub.names(machine)?;
                if !names.is_empty() {
                    total += 1;
                    if let Some(left) = room.checked_sub(names.len()) {
                        room = left;
                        rows.push((hub.machine_name(machine), names));
                    }
                }
            }
            Answer::Names { rows, total }
        }
        Request::ConfirmAddresses { machine, pin } => {
            let machine = named(hub, &machine)?;
            Answer::Assigned(Box::new(hub.confirm_addresses(machine, pin, who).await?))
        }
        Request::StrikeOff { machine, called, reason, though_cut_off } => {
            if let (Some(name), Ok(id)) = (&called, machine.parse()) {
                hub.check_no_other(id, name)?;
            }
            let machine = named(hub, &machine)?;
            let was = hub.card(machine)?.is_struck_off;
            let said = hub.strike_off(machine, &reason, though_cut_off, who).await?;
            Answer::StruckOff { machine, was, said }
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
            let policy = Policy { mode, ..Policy::clone(&hub.policy()) };
            set_policy(hub, policy, who).await?
        }
        Request::Policy => Answer::Policy(Box::new(Policy::clone(&hub.policy()))),
        Request::CheckPolicy(policy) => match hub.check_policy(&policy, who).await {
            Ok(()) => Answer::Done,
            Err(error @ HubError::Invalid { .. }) => unchanged(&error),
            Err(error) => return Err(error),
        },
        Request::SetPolicy(policy) => set_policy(hub, *policy, who).await?,
    })
}

async fn set_policy(hub: &Hub, policy: Policy, who: &Who) -> Result<Answer, HubError> {
    let mode = policy.mode;
    match hub.set_policy(policy, who).await {
        Ok(revision) => Ok(Answer::PolicySet { revision, mode, night: hub.night_gap().await? }),
        // Of a signer that does not answer nobody knows what it did.
        Err(
            error @ (HubError::Refused(_)
            | HubError::NeedsKeeper { .. }
            | HubError::Invalid { .. }
            | HubError::NotAllowed { .. }),
        ) => Ok(unchanged(&error)),
        Err(error) => Err(error),
    }
}

fn unchanged(error: &HubError) -> Answer {
    Answer::Refused(format!("{}. Nothing was changed", with_causes(error)))
}

fn named(hub: &Hub, name: &str) -> Result<MachineId, HubError> {
    let what = "machine (give its id or its one name: see `cordon machines`)";
    hub.machine_called(name).ok_or(HubError::Missing { what })
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
        held_up: status.held_up,
        set_aside: status.set_aside,
        refused: status.refused,
    })
}

/// An error with what caused it, as far as its own words don't end with that.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let because = error.to_string();
        if !text.ends_with(&because) {
            text = format!("{text}: {because}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once() {
        use cordon_respond::signer_core::Refusal;
        let refused = with_causes(&HubError::from(Refusal::UnknownMachine));
        assert_eq!(refused, format!("the signer refuses: {}", Refusal::UnknownMachine));
        let file = std::io::Error::other("the disk is full");
        let failed = crate::HubFailure::System { what: "write", at: "there".into(), source: file };
        assert_eq!(with_causes(&failed), "the hub can't write there: the disk is full");
    }
}
