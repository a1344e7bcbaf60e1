//! Aiming a measure from the console: what was asked for becomes an action, is shown, and is ordered as shown.
//!
//! The one idea: an address says what somebody thinks of ([`Wanted`]); the machine and the hub are asked what
//! that is now; and the form that confirms carries the whole [`Action`], so that what is ordered is what was on
//! the screen. A process is named by its start too, a name by its addresses.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use cordon_hub::view::{MachineView, Ordered};
use cordon_hub::{HubError, Who};
use cordon_model::action::{
    AccountTarget, Action, ActionKind, Blocked, BlockedPeer, Collection, Denied, FilePath,
    FileTarget, Piece, ProcessTarget, Sha256Digest,
};
use cordon_model::asset::{Assignment, ClinicalTier, PortRange, Transport};
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::look::{LookAt, Seen};
use cordon_model::named::HostName;
use cordon_respond::decision::needs_to_do;
use cordon_store::StoredMeasure;
use serde::Deserialize;

use crate::Desk;
use crate::acts::{Done, back, line};
use crate::pages;
use crate::problem::Problem;
use crate::routes::{Shown, id, to};
use crate::session::{Posted, SessionForm, SignedIn};

/// The most that an archive holds: 256 MiB, as at the command line.
const ARCHIVE_BYTES: u64 = 256 << 20;

/// How far apart the sensor's and `/proc`'s word of one start may be: `/proc` knows it to a hundredth of a second.
const SAME_START: u64 = 20_000_000;

/// What somebody thinks of doing, as an address says it. Empty is not said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What kind of action.
    pub kind: ActionKind,
    /// A process's number…
    #[serde(default)]
    pub pid: String,
    /// …and its start, in nanoseconds of the machine's boot.
    #[serde(default)]
    pub started: String,
    /// A file.
    #[serde(default)]
    pub path: String,
    /// What it holds.
    #[serde(default)]
    pub sha256: String,
    /// An address, a network or a name.
    #[serde(default)]
    pub peer: String,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub transport: String,
    /// `445` or `5985-5986`.
    #[serde(default)]
    pub ports: String,
    /// An account's name.
    #[serde(default)]
    pub account: String,
    /// Not empty: its sessions are ended too.
    #[serde(default)]
    pub end_sessions: String,
    /// Not empty: the process's memory and environment are gathered too.
    #[serde(default)]
    pub memory: String,
}

impl Wanted {
    /// Nothing but a kind.
    #[must_use]
    pub fn of(kind: ActionKind) -> Self {
        let empty = String::new;
        Self {
            kind,
            pid: empty(),
            started: empty(),
            path: empty(),
            sha256: empty(),
            peer: empty(),
            transport: empty(),
            ports: empty(),
            account: empty(),
            end_sessions: empty(),
            memory: empty(),
        }
    }

    /// The same as a part of an address.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = format!("kind={}", self.kind.as_str());
        for (name, value) in [
            ("pid", &self.pid),
            ("started", &self.started),
            ("path", &self.path),
            ("sha256", &self.sha256),
            ("peer", &self.peer),
            ("transport", &self.transport),
            ("ports", &self.ports),
            ("account", &self.account),
            ("end_sessions", &self.end_sessions),
            ("memory", &self.memory),
        ] {
            if !value.is_empty() {
                query += &format!("&{name}={}", encoded(value));
            }
        }
        query
    }

    /// Whether there is enough to say what it would do.
    fn is_said(&self) -> bool {
        match self.kind {
            // What is put back is named by a plan, which knows what stood there.
            ActionKind::Isolate | ActionKind::PutBack => false,
            ActionKind::Freeze | ActionKind::Kill => !self.pid.is_empty(),
            ActionKind::Quarantine => !self.path.is_empty(),
            ActionKind::Deny => !(self.path.is_empty() && self.sha256.is_empty()),
            ActionKind::Block => !self.peer.is_empty(),
            ActionKind::DisableAccount => !self.account.is_empty(),
            ActionKind::Collect => true,
        }
    }
}

/// Nothing is pasted into an address as it is.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Shows a machine's processes.
pub async fn processes(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
) -> Shown {
    let machine: MachineId = id(&machine)?;
    let name = desk.hub.machine_name(machine);
    let Seen::Processes { listed, of, .. } =
        desk.hub.look(machine, LookAt::Processes, &by.who).await?
    else {
        return Err(HubError::NotSeen("it answered something else".into()).into());
    };
    Ok(pages::measuring::processes(&by.frame(&desk).await?, machine, &name, &listed, of))
}

/// Shows what a measure would do, or asks for what is missing to say it.
pub async fn preview(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path(machine): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Shown {
    let view = desk.hub.machine(id(&machine)?).await?;
    let frame = by.frame(&desk).await?;
    if wanted.kind == ActionKind::Isolate {
        return Err(Problem::no_page());
    }
    if !wanted.is_said() {
        return Ok(pages::measuring::fill(&frame, &view, &wanted, None));
    }
    match action(&desk, &by.who, &view, &wanted).await? {
        Ok(action) => {
            let tier = view
                .assignment
                .as_ref()
                .map_or(ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier);
            let needs = needs_to_do(&desk.hub.policy(), &action, tier);
            let sealed = serde_json::to_string(&action)
                .map_err(|error| HubError::Document(error.to_string()))?;
            Ok(pages::measuring::preview(&frame, &view, &action, needs, &sealed))
        }
        Err(why) => Ok(pages::measuring::fill(&frame, &view, &wanted, Some(&why))),
    }
}

/// A measure, seen and confirmed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    csrf: String,
    action: String,
    reason: String,
}

impl SessionForm for Confirmed {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// Begins a measure, as it was shown.
pub async fn begin(
    State(desk): State<Arc<Desk>>,
    Path(machine): Path<String>,
    Posted { by, form }: Posted<Confirmed>,
) -> Done {
    let machine: MachineId = id(&machine)?;
    let invalid = |why: String| HubError::Invalid { what: "measure", why };
    let action: Action =
        serde_json::from_str(&form.action).map_err(|error| invalid(error.to_string()))?;
    // An isolation has a page of its own, which shows what it would do.
    if action.kind() == ActionKind::Isolate {
        return Err(Problem::no_page());
    }
    action.check().map_err(|error| invalid(error.to_string()))?;
    let reason = line(&form.reason);
    Ok(match desk.hub.begin(machine, action, &reason, None, &by.who).await? {
        Ordered::Signed { .. } => back(machine, None),
        Ordered::Asked { approval, .. } => to(&format!("/questions/{approval}")),
    })
}

/// Shows what taking a measure back would do.
pub async fn preview_undo(
    State(desk): State<Arc<Desk>>,
    by: SignedIn,
    Path((machine, measure)): Path<(String, String)>,
) -> Shown {
    let view = desk.hub.machine(id(&machine)?).await?;
    let measure = undoable(&view, id(&measure)?)?;
    Ok(pages::measuring::undo(&by.frame(&desk).await?, &view, &measure))
}

/// A reason, for taking back what was seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeBack {
    csrf: String,
    reason: String,
}

impl SessionForm for TakeBack {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// Takes a measure back.
pub async fn undo(
    State(desk): State<Arc<Desk>>,
    Path((machine, measure)): Path<(String, String)>,
    Posted { by, form }: Posted<TakeBack>,
) -> Done {
    let (machine, measure): (MachineId, MeasureId) = (id(&machine)?, id(&measure)?);
    desk.hub.undo(machine, measure, &line(&form.reason), &by.who).await?;
    Ok(back(machine, None))
}

/// Whether there is a way back for a measure that a page shows.
#[must_use]
pub fn has_a_way_back(measure: &StoredMeasure) -> bool {
    let kind = measure.action.kind();
    kind != ActionKind::Isolate && !kind.is_done_at_once() && !measure.state.is_over()
}

fn undoable(view: &MachineView, measure: MeasureId) -> Result<StoredMeasure, Problem> {
    let found = view.measures.iter().map(|view| &view.measure).find(|known| known.id == measure);
    found.filter(|known| has_a_way_back(known)).cloned().ok_or_else(Problem::no_page)
}

/// The action that is meant, with what the machine and the hub say of its target now; or what is wrong with
/// what was typed.
async fn action(
    desk: &Desk,
    who: &Who,
    view: &MachineView,
    wanted: &Wanted,
) -> Result<Result<Action, String>, Problem> {
    let action = match wanted.kind {
        ActionKind::Isolate | ActionKind::PutBack => return Err(Problem::no_page()),
        ActionKind::Freeze => target(desk, who, view, wanted).await?.map(Action::Freeze),
        ActionKind::Kill => target(desk, who, view, wanted).await?.map(Action::Kill),
        ActionKind::Collect => collection(desk, who, view, wanted).await?.map(Action::Collect),
        ActionKind::Block => blocked(desk, who, wanted).await?.map(Action::Block),
        ActionKind::Quarantine => file(wanted).map(Action::Quarantine),
        ActionKind::Deny => denied(wanted).map(Action::Deny),
        ActionKind::DisableAccount => Ok(Action::DisableAccount(AccountTarget {
            name: wanted.account.trim().to_owned(),
            ends_sessions: !wanted.end_sessions.is_empty(),
        })),
    };
    Ok(action.and_then(|action| action.check().map_err(|error| error.to_string()).map(|()| action)))
}

/// The process as the machine says that it is now. One that has ended is not shown as something to stop.
async fn target(
    desk: &Desk,
    who: &Who,
    view: &MachineView,
    wanted: &Wanted,
) -> Result<Result<ProcessTarget, String>, Problem> {
    let Ok(pid) = wanted.pid.trim().parse::<u32>() else {
        return Ok(Err("a process is a number".into()));
    };
    let started = wanted.started.trim().parse::<u64>().ok();
    let Seen::Processes { listed, boot, .. } =
        desk.hub.look(view.row.id, LookAt::Processes, who).await?
    else {
        return Err(HubError::NotSeen("it answered something else".into()).into());
    };
    let is_it = |process: &cordon_model::finding::ProcessRef| {
        process.pid == pid
            && started.is_none_or(|started| process.started.0.abs_diff(started) <= SAME_START)
    };
    let found = listed.into_iter().map(|one| one.process).find(is_it);
    Ok(found.map(|process| ProcessTarget { boot, process }).ok_or_else(|| {
        format!("process {pid} has ended, or is another by now: nothing is left to stop")
    }))
}

async fn collection(
    desk: &Desk,
    who: &Who,
    view: &MachineView,
    wanted: &Wanted,
) -> Result<Result<Collection, String>, Problem> {
    let mut pieces = Piece::OF_ANY_MACHINE.to_vec();
    if !wanted.memory.is_empty() {
        match target(desk, who, view, wanted).await? {
            Ok(target) => {
                pieces.extend([Piece::Memory(target.clone()), Piece::Environment(target)]);
            }
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(Collection { pieces, most_bytes: ARCHIVE_BYTES }))
}

fn file(wanted: &Wanted) -> Result<FileTarget, String> {
    let sha256 = match wanted.sha256.trim() {
        "" => None,
        text => Some(text.parse::<Sha256Digest>().map_err(|error| error.to_string())?),
    };
    Ok(FileTarget { path: FilePath::new(wanted.path.trim().as_bytes()), sha256 })
}

fn denied(wanted: &Wanted) -> Result<Denied, String> {
    match (wanted.path.trim(), wanted.sha256.trim()) {
        (path, "") => Ok(Denied::Path(FilePath::new(path.as_bytes()))),
        ("", digest) => {
            let digest = digest.parse::<Sha256Digest>().map_err(|error| error.to_string())?;
            Ok(Denied::Sha256(digest))
        }
        _ => Err("name the program by its path or by what it holds, not by both".into()),
    }
}

async fn blocked(
    desk: &Desk,
    who: &Who,
    wanted: &Wanted,
) -> Result<Result<Blocked, String>, Problem> {
    let transport = match wanted.transport.trim() {
        "" => None,
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        other => return Ok(Err(format!("{other:?} is neither tcp nor udp"))),
    };
    let ports = match wanted.ports.trim() {
        "" => None,
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) => Some(PortRange { first, last }),
                _ => return Ok(Err("ports are numbers: 445 or 5985-5986".into())),
            }
        }
    };
    let typed = wanted.peer.trim();
    let peer = match (typed.parse(), typed.parse::<IpAddr>()) {
        (Ok(network), _) => BlockedPeer::Network(network),
        (Err(_), Ok(address)) => BlockedPeer::Network(address.into()),
        (Err(_), Err(_)) => match typed.parse::<HostName>() {
            Ok(host) => match desk.hub.addresses_of(&host, who).await {
                Ok(addresses) => BlockedPeer::Domain { name: host.into(), addresses },
                Err(HubError::Invalid { why, .. }) => return Ok(Err(why)),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Ok(Err(error.to_string())),
        },
    };
    Ok(Ok(Blocked { peer, transport, ports, direction: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::finding::ProcessRef;
    use cordon_model::time::{BootId, BootNanos};

    #[test]
    fn what_is_confirmed_is_what_was_shown_whatever_its_bytes() {
        let process =
            ProcessRef { pid: 77, started: BootNanos(5), image: "/tmp/a \"<b>\u{202e}".into() };
        let target = ProcessTarget { boot: BootId("b".into()), process };
        let path = FilePath::new(&b"/tmp/\xff\n%2e"[..]);
        let peer = BlockedPeer::Domain {
            name: "c2.example".into(),
            addresses: vec!["fd00::1".parse().unwrap()],
        };
        for action in [
            Action::Kill(target),
            Action::Quarantine(FileTarget { path, sha256: Some(Sha256Digest([7; 32])) }),
            Action::Block(Blocked { peer, transport: None, ports: None, direction: None }),
        ] {
            let sealed = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&sealed).unwrap(), action);
        }
    }

    #[test]
    fn an_address_says_nothing_that_was_not_meant() {
        let wanted = Wanted { path: "/tmp/a&kind=kill#x y".into(), ..Wanted::of(ActionKind::Deny) };
        assert_eq!(wanted.query(), "kind=deny&path=%2Ftmp%2Fa%26kind%3Dkill%23x%20y");
    }
}
