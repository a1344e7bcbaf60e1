//! A look at this machine for people: what is open, and what runs. Needs no privilege and changes nothing.
//!
//! What an isolation would do is told by the same [`Intent`] that would carry it out, of the connections
//! that are open now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

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

use crate::contain::intent::Intent;
use crate::contain::sockets::{Sockets, own_addresses};
use crate::sensor::proc_files;

/// Looks on a thread of its own, beside the work that must not wait, and says what was seen. Nothing is
/// said when all `turns` are taken: whoever waits asks again.
pub fn answer(
    turns: &Arc<Semaphore>,
    say: &mpsc::Sender<FromAgent>,
    assignment: Option<Verified<Assignment>>,
    boot: BootId,
    number: u64,
    at: LookAt,
) {
    let Ok(turn) = Arc::clone(turns).try_acquire_owned() else { return };
    let say = say.clone();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let user = nix::unistd::geteuid().as_raw();
        let seen = look(at, assignment.as_deref(), user, &boot);
        let _ = say.try_send(FromAgent::Looked { number, seen });
    });
}

/// Looks. `agent_user` is who the hub's link is open to.
#[must_use]
pub fn look(at: LookAt, assignment: Option<&Assignment>, agent_user: u32, boot: &BootId) -> Seen {
    match at {
        LookAt::Connections(isolation) => connections(isolation, assignment, agent_user),
        LookAt::Processes => processes(boot),
    }
}

fn connections(isolation: Isolation, assignment: Option<&Assignment>, agent_user: u32) -> Seen {
    let Some(assignment) = assignment else {
        return Seen::Unable("nobody has said what this machine is: it can't be isolated".into());
    };
    let intent = Intent::new(isolation, assignment, agent_user);
    let own = own_addresses();
    let found = Sockets::open().and_then(|mut sockets| sockets.connections());
    let mut listed = match found {
        Ok(found) => found,
        Err(error) => return Seen::Unable(format!("connections can't be listed: {error}")),
    };
    listed.retain(|connection| leaves_the_machine(connection.remote.ip(), &own));
    let of = u32::try_from(listed.len()).unwrap_or(u32::MAX);
    let listed = listed.into_iter().take(MOST_CONNECTIONS).map(|connection| OpenConnection {
        transport: connection.transport,
        local: connection.local,
        remote: connection.remote,
        user: connection.user,
        goes_on: intent.keeps(&connection, &own),
    });
    Seen::Connections { listed: listed.collect(), of }
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
    use super::*;

    #[test]
    fn this_process_is_seen_with_its_parent_and_command() {
        let seen = look(LookAt::Processes, None, 0, &BootId("boot".into()));
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
        assert!(matches!(look(at, None, 0, &BootId("boot".into())), Seen::Unable(_)));
    }
}
