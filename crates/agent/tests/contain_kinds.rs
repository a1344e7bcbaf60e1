//! Each kind of measure through the real helper: ordered, shown, at the end of its lease, taken back exactly; by
//! itself on a machine that no care depends on, and never on a clinical one.
//!
//! The helper acts on the machine that it runs on, so each test has **a mount namespace of its own**: a copy of
//! `/etc` lies over the real one, and the files are on a filesystem in memory. The machine's own accounts and files
//! are never touched.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod contain_world;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use contain_world::bench::{Bench, Connection, LEASE, assert_refused, dial, echo};
use contain_world::running::target;
use contain_world::{PEER, until};
use cordon_agent::contain::action::collect::collect;
use cordon_agent::contain::action::deny::warden::{WardenConfig, serve};
use cordon_agent::contain::protocol::{Ask, Refusal};
use cordon_model::action::{
    AccountTarget, Action, Blocked, BlockedPeer, Denied, FilePath, FileTarget, Sha256Digest,
};
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::ids::{FindingId, MeasureId};
use cordon_model::measure::{MeasureState, Receipt};
use cordon_model::order::{Authority, Instruction, Lease, Order};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest as _, Sha256};

const SOCKET: &str = "CORDON_TEST_WARDEN";
const SHORT: Lease = Lease { seconds: 1, ..LEASE };
/// A user that no machine has, nor any other test.
const ACCOUNT: &str = "cordon-probe";

/// Not a test: what a warden's process runs, when a test starts this program again with its socket.
#[test]
fn the_warden() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let Err(error) = serve(&WardenConfig { socket: socket.into() });
    panic!("{error}");
}

/// Not a test: what gathers for the helper, when it starts this program as that.
#[test]
fn role_of_who_gathers() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, role, _, journal, measure] = &arguments[..] else { return };
    if role == "role" {
        let done = collect(Path::new(journal), measure.parse().unwrap());
        // Not by returning, as the role itself.
        std::process::exit(i32::from(done.is_err()));
    }
}

struct Machine {
    bench: Bench,
    /// In memory.
    disk: PathBuf,
    revision: u64,
    warden: Option<Child>,
}

impl Machine {
    fn new() -> Option<Self> {
        if cordon_tests::lacks_root("measures on a machine") {
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let mut bench = Bench::off()?;
        let [disk, etc] = ["disk", "etc"].map(|name| bench.folder.path().join(name));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&etc).unwrap();
        let options = Some("size=64m,mode=755");
        mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), options).unwrap();
        contain_world::run("cp", &["-a", "/etc/.", etc.to_str().unwrap()]);
        mount(Some(&etc), "/etc", nothing, MsFlags::MS_BIND, nothing).unwrap();
        for (file, line) in [
            ("passwd", "x:54399:54399::/nonexistent:/bin/sh"),
            ("shadow", "$6$salt$hash:19000:0:99999:7::30000:"),
        ] {
            let path = Path::new("/etc").join(file);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, format!("{text}{ACCOUNT}:{line}\n")).unwrap();
        }
        bench.start();
        bench.pin();
        let mut machine = Self { bench, disk, revision: 0, warden: None };
        machine.is(ClinicalTier::None);
        Some(machine)
    }

    /// With a warden, and the disk watched.
    fn with_warden() -> Option<Self> {
        let mut machine = Self::new()?;
        let socket = machine.bench.folder.path().join("warden.sock");
        let warden = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_warden", "--nocapture", "--test-threads=1"])
            .env(SOCKET, &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        machine.warden = Some(warden.unwrap());
        until(|| UnixStream::connect(&socket).is_ok());
        Some(machine)
    }

    /// From now on it is of this tier.
    fn is(&mut self, tier: ClinicalTier) {
        self.revision += 1;
        let watched = vec![name(&self.disk)];
        let assignment = self.bench.assignment(self.revision, Some(tier));
        self.bench.reassign(&Assignment { watched, ..assignment });
    }

    fn listening(&self) -> Connection {
        let mut agent = self.bench.connect();
        agent.ask(Ask::Listen);
        agent
    }

    /// As the signed policy orders it, with nobody asked.
    fn by_itself(&mut self, action: &Action, lease: Lease) -> Order {
        let finding = FindingId::of("rule", "m", &[0; 32]);
        let authority = Authority::Policy { revision: 1, finding };
        Order { authority, ..self.bench.order(Instruction::begin(action.clone(), lease)) }
    }

    /// On a clinical machine it is refused where nobody was asked; ordered by people it is in force, and what its
    /// lease's end brings comes by itself. Gives the receipt of that end.
    fn on_a_clinical_machine(
        &mut self,
        action: &Action,
        mut holds: impl FnMut() -> bool,
        is_the_end: impl Fn(&Receipt) -> bool,
    ) -> Receipt {
        self.is(ClinicalTier::Clinical);
        let order = self.by_itself(action, LEASE);
        assert_refused(&self.bench.give(&order), Refusal::NotObeyed, "tier 2");
        assert!(!holds(), "refused by itself: {action}");
        assert!(self.bench.status().holds.is_empty());
        let mut agent = self.listening();
        let order = self.bench.order(Instruction::begin(action.clone(), LEASE));
        agent.give(self.bench.sealed(&order));
        let measure = order.id.into();
        shown(&mut agent, measure);
        assert!(holds(), "ordered by people: {action}");
        self.ends_soon(&mut agent, measure);
        agent.receipt(|receipt| receipt.measure == measure && is_the_end(receipt))
    }

    /// On a machine that no care depends on it comes by itself, and goes on at the end of its lease; taken back,
    /// the machine is as it was.
    fn on_any_other(&mut self, action: &Action, mut holds: impl FnMut() -> bool) {
        self.is(ClinicalTier::None);
        let mut agent = self.listening();
        let order = self.by_itself(action, LEASE);
        let measure = order.id.into();
        agent.give(self.bench.sealed(&order));
        shown(&mut agent, measure);
        self.ends_soon(&mut agent, measure);
        agent.receipt(|receipt| receipt.measure == measure && goes_on(receipt));
        assert!(holds(), "it goes on: {action}");
        let back = self.bench.undo(measure);
        assert_eq!(back.done, Vec::<String>::new(), "exactly: {action}");
        assert!(!holds(), "taken back: {action}");
        assert!(self.bench.status().holds.is_empty());
    }

    /// From now on its lease is a short one.
    fn ends_soon(&mut self, agent: &mut Connection, measure: MeasureId) {
        let order = self.bench.order(Instruction::Renew { measure, lease: SHORT });
        agent.give(self.bench.sealed(&order));
    }

    /// What stops something and can be taken back.
    fn through_its_life(&mut self, action: &Action, mut holds: impl FnMut() -> bool) {
        let ends = |receipt: &Receipt| receipt.state == MeasureState::Released;
        let back = self.on_a_clinical_machine(action, &mut holds, ends);
        assert_eq!(back.done, Vec::<String>::new(), "exactly: {action}");
        assert!(!holds(), "its lease is over: {action}");
        self.on_any_other(action, holds);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.bench.kill();
        if let Some(warden) = &mut self.warden {
            let _ = warden.kill();
            let _ = warden.wait();
        }
        let _ = umount2("/etc", MntFlags::MNT_DETACH);
        let _ = umount2(&self.disk, MntFlags::MNT_DETACH);
    }
}

/// Waits until it is in force, and shown.
#[track_caller]
fn shown(agent: &mut Connection, measure: MeasureId) {
    let receipt = agent.receipt(|receipt| receipt.measure == measure);
    assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
}

fn goes_on(receipt: &Receipt) -> bool {
    receipt.done.iter().any(|words| words.starts_with("its lease ended; it goes on"))
}

fn name(path: &Path) -> FilePath {
    FilePath::new(path.as_os_str().as_encoded_bytes())
}

/// A process that says back what it hears.
struct Echo {
    process: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// Said, and not heard back yet.
    unanswered: usize,
}

impl Echo {
    fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, to, from, unanswered: 0 }
    }

    fn stands_still(&mut self) -> bool {
        self.to.write_all(b"x").unwrap();
        self.unanswered += 1;
        while self.unanswered > 0 {
            let mut waiting = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            if poll(&mut waiting, 500_u16).unwrap() == 0 {
                return true;
            }
            let mut heard = [0; 16];
            self.unanswered -= self.from.read(&mut heard).unwrap();
        }
        false
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_process_is_frozen_and_goes_on() {
    let Some(mut machine) = Machine::new() else { return };
    let mut echo = Echo::start("cat");
    let action = Action::Freeze(target(echo.process.id()));
    machine.through_its_life(&action, || echo.stands_still());
}

#[test]
fn a_process_is_ended_by_itself_only_where_no_care_depends_on_the_machine() {
    let Some(mut machine) = Machine::new() else { return };
    let mut echo = Echo::start("cat");
    let action = Action::Kill(target(echo.process.id()));
    machine.is(ClinicalTier::Clinical);
    let order = machine.by_itself(&action, LEASE);
    assert_refused(&machine.bench.give(&order), Refusal::NotObeyed, "tier 2");
    assert!(!echo.stands_still(), "it lives");
    machine.is(ClinicalTier::None);
    let order = machine.by_itself(&action, LEASE);
    let receipt = machine.bench.outcome(&order, order.id.into(), |_| true);
    assert_eq!(receipt.state, MeasureState::Done, "{receipt:?}");
    assert!(!echo.process.wait().unwrap().success());
    assert!(machine.bench.status().holds.is_empty(), "done at once");
    // What has ended can't be ended, and there is no way back.
    let order = machine.bench.order(Instruction::Undo { measure: receipt.measure });
    assert_refused(&machine.bench.give(&order), Refusal::NotObeyed, "");
}

#[test]
fn a_file_is_set_aside_and_is_where_it_was_in_all_that_can_be_seen_of_it() {
    let Some(mut machine) = Machine::new() else { return };
    let path = machine.disk.join("dropper");
    let at = || fs::File::options().write(true).open(&path).unwrap();
    fs::write(&path, b"what an intruder left").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap();
    at().set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_891))
        .unwrap();
    let seen = || {
        let format = "--printf=%s %a %u %g %.9Y %h %F";
        (contain_world::run("stat", &[format, path.to_str().unwrap()]), fs::read(&path).unwrap())
    };
    let before = seen();
    let action = Action::Quarantine(FileTarget { path: name(&path), sha256: None });
    // At the end of its lease it stays aside on every tier: nothing runs without it by then.
    let receipt = machine.on_a_clinical_machine(&action, || !path.exists(), goes_on);
    assert!(!path.exists());
    assert_eq!(machine.bench.undo(receipt.measure).done, Vec::<String>::new());
    assert_eq!(seen(), before);
    machine.on_any_other(&action, || !path.exists());
    assert_eq!(seen(), before);
}

/// A program of its own that does nothing: the content of the machine's own is never denied.
fn program(at: &Path) -> Vec<u8> {
    let mut content = fs::read("/bin/true").unwrap();
    content.extend(b"a worm");
    fs::write(at, &content).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    content
}

fn is_refused(program: &Path) -> bool {
    match Command::new(program).status() {
        Ok(status) => !status.success(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EPERM), "{error}");
            true
        }
    }
}

#[test]
fn a_program_is_denied_by_its_path_and_starts_again() {
    let Some(mut machine) = Machine::with_warden() else { return };
    let path = machine.disk.join("worm");
    program(&path);
    let action = Action::Deny(Denied::Path(name(&path)));
    machine.through_its_life(&action, || is_refused(&path));
}

/// On a filesystem that the assignment names.
#[test]
fn a_program_is_denied_by_its_content_under_any_name_and_starts_again() {
    let Some(mut machine) = Machine::with_warden() else { return };
    let path = machine.disk.join("worm");
    let content = program(&path);
    let renamed = machine.disk.join("renamed");
    program(&renamed);
    let action = Action::Deny(Denied::Sha256(Sha256Digest(Sha256::digest(&content).into())));
    machine.through_its_life(&action, || {
        let (one, other) = (is_refused(&path), is_refused(&renamed));
        assert_eq!(one, other, "whatever its name");
        one
    });
}

#[test]
fn a_peer_is_blocked_and_can_be_spoken_to_again_to_the_byte() {
    let Some(mut machine) = Machine::new() else { return };
    echo(&machine.bench.world, PEER, 4444);
    let (before, world) =
        (machine.bench.world.machine.ruleset(), machine.bench.world.machine.clone());
    let peer = BlockedPeer::Network(format!("{PEER}/32").parse().unwrap());
    let action = Action::Block(Blocked { peer, transport: None, ports: None, direction: None });
    let to = std::net::SocketAddr::new(contain_world::address(PEER), 4444);
    machine.through_its_life(&action, || {
        let dials = world.inside(move || {
            std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2)).is_ok()
        });
        assert_eq!(world.ruleset() == before, dials, "nothing of it is left");
        !dials
    });
}

#[test]
fn an_account_is_disabled_and_can_sign_in_again_to_the_byte() {
    let Some(mut machine) = Machine::new() else { return };
    let shadow = || fs::read_to_string("/etc/shadow").unwrap();
    let before = shadow();
    let target = AccountTarget { name: ACCOUNT.into(), ends_sessions: false };
    machine.through_its_life(&Action::DisableAccount(target), || {
        let now = shadow();
        let is_locked = now.contains(&format!("{ACCOUNT}:!"));
        assert!(is_locked || now == before, "{now}");
        is_locked
    });
}

#[path = "contain_kinds/evidence.rs"]
mod evidence;

/// Wazuh #9370: of many timeouts that were over together only the first was undone. Fifteen leases are over at one
/// look of the helper, because it was away when they ended.
#[test]
fn of_ten_blocks_and_five_freezes_that_end_together_every_one_is_undone() {
    let Some(mut machine) = Machine::new() else { return };
    machine.is(ClinicalTier::Clinical);
    let before = machine.bench.world.machine.ruleset();
    let mut echoes: Vec<Echo> = (0..5).map(|_| Echo::start("cat")).collect();
    let mut actions: Vec<Action> = Vec::new();
    for number in 0..10 {
        echo(&machine.bench.world, PEER, 5000 + number);
        actions.push(Action::Block(Blocked {
            peer: BlockedPeer::Network(format!("{PEER}/32").parse().unwrap()),
            transport: Some(cordon_model::asset::Transport::Tcp),
            ports: Some(cordon_model::asset::PortRange::one(5000 + number)),
            direction: None,
        }));
    }
    actions.extend(echoes.iter().map(|echo| Action::Freeze(target(echo.process.id()))));
    let lease = Lease { seconds: 20, ..LEASE };
    let mut measures = Vec::new();
    for action in actions {
        let receipt = machine.bench.begin(action, lease);
        assert_eq!(receipt.state, MeasureState::Verified, "{receipt:?}");
        measures.push(receipt.measure);
    }
    let ends = machine.bench.status().holds.iter().map(|held| held.lease_ends).max().unwrap();
    machine.bench.kill();
    for number in 0..10 {
        assert!(dial(&machine.bench.world, PEER, 5000 + number).is_err(), "{number} is blocked");
    }
    assert!(echoes.iter_mut().all(Echo::stands_still));
    until(|| cordon_agent::contain::moment::boot_time() > ends);
    machine.bench.start();
    let mut agent = machine.listening();
    for measure in measures {
        let back = agent.receipt_of(measure, MeasureState::Released);
        assert_eq!(back.done, Vec::<String>::new(), "exactly");
    }
    assert!(machine.bench.status().holds.is_empty());
    assert_eq!(machine.bench.world.machine.ruleset(), before);
    for number in 0..10 {
        assert!(dial(&machine.bench.world, PEER, 5000 + number).is_ok(), "{number} is open again");
    }
    for echo in &mut echoes {
        assert!(!echo.stands_still(), "it goes on");
    }
}
