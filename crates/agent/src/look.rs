//! A look at this machine for people: what is open, and what runs. Needs no privilege and changes nothing. (A
//! survey needs the helper: `surveying`.)
//!
//! What an isolation would do is told by the same [`Intent`] that would carry it out, of the connections
//! that are open now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::finding::ProcessRef;
use cordon_model::look::{
    COMMAND_BYTES, LookAt, MOST_CONNECTIONS, MOST_PROCESSES, OpenConnection, Seen, SeenProcess,
};
use cordon_model::measure::Isolation;
use cordon_model::signed::Verified;
use cordon_model::time::BootId;
use cordon_model::wire::FromAgent;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::contain::action::mounts::mounts;
use crate::contain::intent::Intent;
use crate::contain::printers::PrintQueue;
use crate::contain::protocol::{Answer, Ask};
use crate::contain::sockets::{Sockets, own_addresses};
use crate::helper_link::Helper;
use crate::sensor::proc_files;
use crate::services::{Known, fates};

/// How long the helper is waited for: less than whoever looks waits for all of it.
const HELPER_WITHIN: Duration = Duration::from_secs(1);

/// What a look is made of, besides the machine itself.
#[derive(Debug)]
pub struct Of {
    /// What the machine is.
    pub assignment: Option<Verified<Assignment>>,
    /// Who may read what only root may.
    pub helper: Option<Helper>,
    /// What the machine used lately: peer, port, and how many seconds ago.
    pub used: Vec<(IpAddr, u16, u64)>,
    /// In which boot.
    pub boot: BootId,
}

/// What is told beside what is read here.
#[derive(Debug)]
pub struct Beside {
    /// The print queues, or why they are not known.
    pub queues: Result<Vec<PrintQueue>, String>,
    /// See [`Of::used`].
    pub used: Vec<(IpAddr, u16, u64)>,
}

/// Looks on a thread of its own, beside the work that must not wait, and says what was seen. Nothing is
/// said when all `turns` are taken: whoever waits asks again.
pub fn answer(
    turns: &Arc<Semaphore>,
    say: &mpsc::Sender<FromAgent>,
    of: Of,
    number: u64,
    at: LookAt,
) {
    let Ok(turn) = Arc::clone(turns).try_acquire_owned() else { return };
    let say = say.clone();
    tokio::spawn(async move {
        let queues = match &at {
            LookAt::Connections(_) => queues(of.helper.as_ref()).await,
            LookAt::Processes | LookAt::Survey { .. } | LookAt::Changes { .. } => Ok(Vec::new()),
            LookAt::Measure(action) => {
                let seen = would(of.helper.as_ref(), action).await;
                let _ = say.try_send(FromAgent::Looked { number, seen });
                return;
            }
        };
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let user = nix::unistd::geteuid().as_raw();
            let beside = Beside { queues, used: of.used };
            let seen = look(at, of.assignment.as_deref(), user, &of.boot, beside);
            let _ = say.try_send(FromAgent::Looked { number, seen });
        });
    });
}

async fn queues(helper: Option<&Helper>) -> Result<Vec<PrintQueue>, String> {
    let unread = |why: &str| Err(format!("print queues: {why}"));
    let Some(helper) = helper else {
        return unread("only the privileged helper can read them, and there is none");
    };
    match timeout(HELPER_WITHIN, helper.ask(Ask::Printers)).await {
        Ok(Ok(Answer::Printers(queues))) => Ok(queues),
        Ok(Ok(Answer::Refused { why, .. })) => unread(&why),
        Ok(Ok(_)) => unread("the helper answered something else"),
        Ok(Err(_)) | Err(_) => unread("the privileged helper did not answer in time"),
    }
}

async fn would(helper: Option<&Helper>, action: &Action) -> Seen {
    let Some(helper) = helper else {
        return Seen::Unable("nothing can be done on this machine: it runs without root".into());
    };
    let why = match timeout(HELPER_WITHIN, helper.ask(Ask::Would(action.clone()))).await {
        Ok(Ok(Answer::Would(would))) => return Seen::Would(would.bounded()),
        Ok(Ok(Answer::Refused { why, .. })) => why,
        Ok(Ok(_)) => "the helper answered something else".to_owned(),
        Ok(Err(_)) | Err(_) => "the privileged helper did not answer in time".to_owned(),
    };
    Seen::Unable(shortened(&why))
}

/// Looks. `agent_user` is who the hub's link is open to.
#[must_use]
pub fn look(
    at: LookAt,
    assignment: Option<&Assignment>,
    agent_user: u32,
    boot: &BootId,
    beside: Beside,
) -> Seen {
    match at {
        LookAt::Connections(isolation) => connections(isolation, assignment, agent_user, beside),
        LookAt::Processes => processes(boot),
        LookAt::Survey { .. } | LookAt::Changes { .. } | LookAt::Measure(_) => {
            Seen::Unable("only the privileged helper looks there".into())
        }
    }
}

fn connections(
    isolation: Isolation,
    assignment: Option<&Assignment>,
    agent_user: u32,
    beside: Beside,
) -> Seen {
    let Some(assignment) = assignment else {
        return Seen::Unable("nobody has said what this machine is: it can't be isolated".into());
    };
    let intent = Intent::new(isolation, assignment, agent_user);
    let own = own_addresses();
    let found = Sockets::open()
        .and_then(|mut sockets| Ok((sockets.connections()?, sockets.listening_at()?)));
    let (mut listed, waiting) = match found {
        Ok(found) => found,
        Err(error) => return Seen::Unable(format!("connections can't be listed: {error}")),
    };
    let mut unseen = Vec::new();
    let queues = beside.queues.unwrap_or_else(|why| {
        unseen.push(shortened(&why));
        Vec::new()
    });
    let mounts = mounts().unwrap_or_else(|error| {
        unseen.push(format!("folders of other machines: the kernel does not say: {error}"));
        Vec::new()
    });
    let known = Known { queues, mounts, waiting, used: beside.used };
    let services = fates(&known, &intent, assignment, &own);
    listed.retain(|connection| leaves_the_machine(connection.remote.ip(), &own));
    let of = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    let listed = listed.into_iter().take(MOST_CONNECTIONS).map(|connection| OpenConnection {
        transport: connection.transport,
        local: connection.local,
        remote: connection.remote,
        user: connection.user,
        goes_on: intent.keeps(&connection, &own),
    });
    Seen::Connections { listed: listed.collect(), of, services, unseen }
}

fn leaves_the_machine(remote: IpAddr, own: &BTreeSet<IpAddr>) -> bool {
    !remote.is_loopback() && !remote.is_unspecified() && !own.contains(&remote)
}

fn processes(boot: &BootId) -> Seen {
    let mut listed: Vec<SeenProcess> = proc_files::pids().into_iter().filter_map(process).collect();
    let of = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    // The youngest are what people look for.
    listed.sort_by_key(|seen| std::cmp::Reverse(seen.process.started));
    listed.truncate(MOST_PROCESSES);
    Seen::Processes { listed, of, boot: boot.clone() }
}

/// `None` for one that is gone by now, and for the kernel's own threads, which have no command line.
fn process(pid: u32) -> Option<SeenProcess> {
    let stat = proc_files::stat(pid)?;
    let mut arguments = proc_files::arguments(pid)?;
    if arguments.is_empty() {
        return None;
    }
    arguments.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    let command = String::from_utf8_lossy(&arguments);
    let (image, _) = proc_files::image(pid).unwrap_or((stat.short_name, false));
    Some(SeenProcess {
        process: ProcessRef { pid, started: stat.started, image: shortened(&image) },
        parent: stat.parent,
        user: proc_files::credentials(pid)?.uid,
        command: shortened(command.trim_end()),
    })
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(COMMAND_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use cordon_model::ids::MachineId;
    use cordon_model::look::{IdleService, KnownBy};
    use cordon_model::time::UtcNanos;

    use super::*;

    fn nothing() -> Beside {
        Beside { queues: Ok(Vec::new()), used: Vec::new() }
    }

    #[test]
    fn what_waits_here_is_told_with_what_could_not_be_read() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let assignment = Assignment::of("RJ1".parse().unwrap(), machine, "m");
        let beside = Beside {
            queues: Err("print queues: nobody knows".into()),
            used: vec![([192, 0, 2, 20].into(), 9100, 60)],
        };
        let at = LookAt::Connections(Isolation::Full);
        let seen = look(at, Some(&assignment), 0, &BootId("boot".into()), beside);
        assert!(seen.is_bounded());
        let Seen::Connections { services, unseen, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(unseen, ["print queues: nobody knows"]);
        let waits = |one: &IdleService| one.known_by == KnownBy::Waiting && one.port == port;
        assert!(services.iter().any(waits), "{services:?}");
        let printing = services.iter().find(|one| one.port == 9100).unwrap();
        assert_eq!((&printing.known_by, printing.goes_on), (&KnownBy::Used(60), Some(false)));
    }

    #[test]
    fn this_process_is_seen_with_its_parent_and_command() {
        let seen = look(LookAt::Processes, None, 0, &BootId("boot".into()), nothing());
        assert!(seen.is_bounded());
        let Seen::Processes { listed, of, .. } = seen else { panic!("{seen:?}") };
        assert!(of as usize >= listed.len());
        let me = listed.iter().find(|one| one.process.pid == std::process::id()).unwrap();
        assert_eq!(me.parent, std::os::unix::process::parent_id());
        assert!(me.command.contains("agent"), "{}", me.command);
    }

    #[test]
    fn of_a_machine_that_nobody_described_nothing_is_foretold() {
        let at = LookAt::Connections(Isolation::Full);
        let seen = look(at, None, 0, &BootId("boot".into()), nothing());
        assert!(matches!(seen, Seen::Unable(_)));
    }
}
