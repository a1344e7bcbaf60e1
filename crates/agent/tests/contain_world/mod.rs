//! A machine and a peer, each in a network namespace of its own, joined by a cable.
//!
//! Needs root; [`World::new`] is `None` without it and says so, or fails where it must be there. Everything is removed when it is
//! dropped, and names carry the process id, so that runs beside each other don't meet.

#![allow(dead_code, reason = "each test file uses its part of the world")]

pub mod bench;
pub mod codes;
pub mod container;
pub mod flow;
pub mod running;
pub mod traced;
pub mod wiretap;

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The user that the agent runs as in these tests (`nobody`).
pub const AGENT_USER: u32 = 65534;

pub const MACHINE: &str = "10.77.0.1";
pub const PEER: &str = "10.77.0.2";
/// The peer's second address: an organisation's PACS.
pub const PACS: &str = "10.77.0.3";
/// The peer's third address: the hub.
pub const HUB: &str = "10.77.0.4";
pub const MACHINE6: &str = "fd77::1";
pub const PEER6: &str = "fd77::2";
pub const PACS6: &str = "fd77::3";
pub const HUB6: &str = "fd77::4";

pub struct World {
    pub machine: Namespace,
    pub peer: Namespace,
}

#[derive(Clone)]
pub struct Namespace {
    pub name: String,
}

impl World {
    pub fn new() -> Option<Self> {
        if cordon_tests::lacks_root("isolating in a network namespace") {
            return None;
        }
        let world = Self::unplugged();
        world.plug();
        Some(world)
    }

    /// The same before the network is: the machine's link has no address and is down.
    fn unplugged() -> Self {
        let prefix = format!("cc{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let machine = Namespace { name: format!("{prefix}m") };
        let peer = Namespace { name: format!("{prefix}p") };
        let world = Self { machine, peer };
        let Self { machine, peer } = &world;
        for namespace in [machine, peer] {
            run("ip", &["netns", "add", &namespace.name]);
            namespace.run("ip", &["link", "set", "lo", "up"]);
        }
        let (ours, theirs) = (world.link(), world.far_link());
        run(
            "ip",
            &[
                "link",
                "add",
                &ours,
                "netns",
                &machine.name,
                "type",
                "veth",
                "peer",
                "name",
                &theirs,
                "netns",
                &peer.name,
            ],
        );
        addressed(peer, &theirs, &[PEER, PACS, HUB, PEER6, PACS6, HUB6]);
        world
    }

    /// Gives the machine its addresses and its link.
    pub fn plug(&self) {
        addressed(&self.machine, &self.link(), &[MACHINE, MACHINE6]);
    }

    /// Switches the machine off and on: the kernel's tables, links and addresses are gone, and the
    /// network is not there yet. What stands beside it (disk, peer's services) is the caller's.
    pub fn restart(&mut self) {
        *self = Self::unplugged();
    }

    /// The peer's end of the cable.
    pub fn far_link(&self) -> String {
        format!("{}v", self.peer.name)
    }

    /// The machine's link to the peer.
    pub fn link(&self) -> String {
        format!("{}v", self.machine.name)
    }
}

fn addressed(namespace: &Namespace, link: &str, addresses: &[&str]) {
    for address in addresses {
        if address.contains(':') {
            let address = format!("{address}/64");
            namespace.run("ip", &["addr", "add", &address, "dev", link, "nodad"]);
        } else {
            namespace.run("ip", &["addr", "add", &format!("{address}/24"), "dev", link]);
        }
    }
    namespace.run("ip", &["link", "set", link, "up"]);
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.machine, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", &namespace.name]).status();
        }
    }
}

impl Namespace {
    pub fn path(&self) -> PathBuf {
        Path::new("/var/run/netns").join(&self.name)
    }

    /// Runs `what` on a thread that lives in this namespace.
    pub fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(what).join().unwrap()
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let path = self.path();
        std::thread::spawn(move || {
            let file = std::fs::File::open(path).unwrap();
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        })
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        output(self.command(program).args(arguments))
    }

    /// Loads an nftables script.
    pub fn nft(&self, script: &str) {
        use std::io::Write as _;
        let mut child =
            self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refused {script}");
    }

    pub fn ruleset(&self) -> String {
        self.run("nft", &["list", "ruleset"])
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    output(Command::new(program).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Looks again and again until it is so. What never comes fails a test instead of hanging it, after two
/// minutes at least; when it comes decides nothing.
#[track_caller]
pub fn until(mut is_so: impl FnMut() -> bool) {
    const LOOKS: u32 = 24_000;
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never was so");
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
