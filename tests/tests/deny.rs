//! Denying programs by a real warden: the real binary, asked by the real kernel.
//!
//! Everything that is denied or watched here is on a filesystem in memory that only the test's own
//! thread, and what it starts, can see.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cordon_agent::contain::action::deny::{DeniedProgram, Deny};
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_model::action::{ActionKind, Denied, FilePath, Sha256Digest};
use cordon_model::ids::MeasureId;
use cordon_tests::{cordon, lacks_root};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};

struct World {
    folder: tempfile::TempDir,
    /// Every program of it is looked at.
    watched: PathBuf,
    /// Only single files of it are.
    other: PathBuf,
    warden: Child,
    deny: Deny,
}

impl World {
    fn new(test: &str) -> Option<Self> {
        if lacks_root(test) {
            return None;
        }
        // Built before anything is denied.
        let _ = cordon();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let disk = |name: &str| {
            let point = folder.path().join(name);
            fs::create_dir(&point).unwrap();
            let options = Some("size=64m,mode=755");
            mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), options).unwrap();
            point
        };
        let (watched, other) = (disk("watched"), disk("other"));
        let state = folder.path().join("cordon");
        let socket = folder.path().join("warden.sock");
        let journal = Journal::open(&state.join("measures")).unwrap();
        let deny = Deny::new(journal, socket.clone(), vec![name(&watched)], state);
        let warden = start(&socket);
        Some(Self { folder, watched, other, warden, deny })
    }

    fn restart(&mut self) {
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        self.warden = start(&self.folder.path().join("warden.sock"));
    }

    fn deny(&self, number: u8, denied: &Denied) -> Result<DeniedProgram, ActError> {
        self.deny.apply(measure(number), denied, &[], &Protected::default())
    }

    fn allow(&self, program: &DeniedProgram) {
        assert!(self.deny.undo(program.entry.measure, &Protected::default()).unwrap().is_exact());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        for point in [&self.watched, &self.other] {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}

fn start(socket: &Path) -> Child {
    let _ = fs::remove_file(socket);
    let warden = Command::new(cordon())
        .args(["role", "warden", "--socket"])
        .arg(socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        std::thread::yield_now();
    }
    warden
}

fn measure(number: u8) -> MeasureId {
    format!("018f0000-0000-7000-8000-0000000000{number:02x}").parse().unwrap()
}

fn name(path: &Path) -> FilePath {
    FilePath::new(path.as_os_str().as_encoded_bytes())
}

/// A program of its own that says `text`: the shell's content is one that is never denied.
fn program(path: &Path, text: &str) -> Vec<u8> {
    let mut content = fs::read("/bin/echo").unwrap();
    content.extend(text.as_bytes());
    write(path, &content);
    content
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn digest(content: &[u8]) -> Denied {
    Denied::Sha256(Sha256Digest(Sha256::digest(content).into()))
}

fn can_start(path: &Path) -> bool {
    match Command::new(path).stdout(Stdio::null()).status() {
        Ok(status) => status.success(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EPERM), "{}", path.display());
            false
        }
    }
}

/// The facts of a process, from the kernel.
fn fact(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_path_is_denied_under_any_name_of_its_file_and_allowed_again() {
    let Some(world) = World::new("a_path_is_denied") else { return };
    let (path, link) = (world.other.join("bad"), world.other.join("link"));
    let content = program(&path, "bad");
    fs::hard_link(&path, &link).unwrap();
    let copy = world.other.join("copy");
    write(&copy, &content);
    let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
    assert_eq!(denied.not_covered, Vec::<String>::new());
    assert!(!can_start(&path) && !can_start(&link));
    assert!(can_start(&copy), "another file is not its business");
    assert!(can_start(Path::new("/bin/true")));
    let proof = world.deny.prove(&denied).unwrap();
    assert!(proof.holds(), "{proof:?}");
    assert!(proof.probes.iter().any(|probe| !probe.should_pass), "{proof:?}");
    assert!(fs::read(&path).is_ok(), "it can be read");
    world.allow(&denied);
    assert!(can_start(&path) && can_start(&link));
    world.allow(&denied);
}

#[test]
fn a_content_is_denied_wherever_it_is_on_a_watched_filesystem() {
    let Some(world) = World::new("a_content_is_denied") else { return };
    let content = program(&world.watched.join("one"), "worm");
    let denied = world.deny(1, &digest(&content)).unwrap();
    assert_eq!(denied.not_covered.len(), 1, "it says where it does not hold: {denied:?}");
    write(&world.watched.join("copy"), &content);
    fs::hard_link(world.watched.join("copy"), world.watched.join("link")).unwrap();
    for name in ["one", "copy", "link", "one"] {
        assert!(!can_start(&world.watched.join(name)), "{name}");
    }
    program(&world.watched.join("other"), "honest");
    assert!(can_start(&world.watched.join("other")));
    let elsewhere = world.other.join("copy");
    write(&elsewhere, &content);
    assert!(can_start(&elsewhere), "as it said");
    world.allow(&denied);
    assert!(can_start(&world.watched.join("one")));
}

#[test]
fn a_file_that_was_looked_at_is_looked_at_again_when_it_changed() {
    let Some(world) = World::new("looked_at_again") else { return };
    let path = world.watched.join("program");
    let bad = program(&path, "bad");
    let good = program(&path, "good");
    let denied = world.deny(1, &digest(&bad)).unwrap();
    // In place, as fast as it goes: the clock that notes changes hardly ticks between.
    for round in 0..50 {
        assert!(can_start(&path), "{round}");
        write(&path, &bad);
        assert!(!can_start(&path), "{round}");
        write(&path, &good);
    }
    // Long unchanged, and so remembered; then changed with its times put back.
    let old = fs::File::options().write(true).open(&path).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    old.set_modified(long_ago).unwrap();
    drop(old);
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert!(can_start(&path) && can_start(&path));
    write(&path, &bad);
    fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    assert!(!can_start(&path));
    world.allow(&denied);
}

#[test]
fn another_file_that_is_put_at_a_denied_path_is_denied_too() {
    let Some(world) = World::new("put_at_a_denied_path") else { return };
    for folder in [&world.watched, &world.other] {
        let path = folder.join("later");
        let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
        assert!(world.deny.prove(&denied).unwrap().is_read_back);
        let fresh = folder.join("fresh");
        program(&fresh, "fresh");
        fs::rename(&fresh, &path).unwrap();
        // At once where every start is asked about; elsewhere when the warden looks next.
        if folder == &world.watched {
            assert!(!can_start(&path));
        }
        while can_start(&path) {}
        world.allow(&denied);
    }
}

#[test]
fn a_warden_that_stands_still_ends_and_lets_go_who_waits() {
    let Some(mut world) = World::new("stands_still") else { return };
    let path = world.watched.join("bad");
    program(&path, "bad");
    let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
    assert!(!can_start(&path));
    let pid = Pid::from_raw(world.warden.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    // Were it not for the switch, this would wait for ever.
    assert!(can_start(&path), "in doubt it is allowed");
    let status = world.warden.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let proof = world.deny.prove(&denied).unwrap();
    assert!(!proof.holds(), "and that is said");
    // Its supervisor starts it again; the helper tells it again.
    world.restart();
    assert!(!world.deny.prove(&denied).unwrap().holds());
    assert!(world.deny.tell_again(&Protected::default()).unwrap());
    assert!(!world.deny.tell_again(&Protected::default()).unwrap(), "once is enough");
    assert!(!can_start(&path));
    assert!(world.deny.prove(&denied).unwrap().holds());
}

#[test]
fn a_warden_that_is_killed_lets_all_go() {
    let Some(mut world) = World::new("is_killed") else { return };
    let path = world.watched.join("bad");
    program(&path, "bad");
    let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
    world.warden.kill().unwrap();
    world.warden.wait().unwrap();
    assert!(can_start(&path));
    // To allow it now needs nobody.
    world.allow(&denied);
    world.restart();
    assert!(!world.deny.tell_again(&Protected::default()).unwrap());
    assert!(can_start(&path));
}

#[test]
fn the_warden_can_neither_fork_nor_start_anything_and_is_one_thread() {
    let Some(world) = World::new("can_neither_fork") else { return };
    assert_eq!(fact(world.warden.id(), "Seccomp"), "2");
    assert_eq!(fact(world.warden.id(), "NoNewPrivs"), "1");
    assert_eq!(fact(world.warden.id(), "Threads"), "1");
}

#[test]
fn what_the_machine_needs_is_never_denied_by_path_or_by_content() {
    let Some(world) = World::new("never_denied") else { return };
    let real = |path: &str| fs::canonicalize(path).unwrap();
    let needed = [
        real("/bin/sh"),
        real("/bin/bash"),
        real("/bin/mount"),
        real("/lib64/ld-linux-x86-64.so.2"),
    ];
    for path in needed.iter().filter(|path| path.exists()) {
        for denied in [Denied::Path(name(path)), digest(&fs::read(path).unwrap())] {
            let error = world.deny(1, &denied).unwrap_err();
            assert!(matches!(error, ActError::Refused(_)), "{}: {error}", path.display());
        }
    }
    // Not even a path at which nothing is yet.
    let error = world.deny(1, &Denied::Path(FilePath::new("/bin/busybox"))).unwrap_err();
    assert!(
        matches!(error, ActError::Refused(_)) || !Path::new("/bin/busybox").exists(),
        "{error}"
    );
    // The viewer that care needs.
    let viewer = world.watched.join("viewer");
    let content = program(&viewer, "viewer");
    let protected = Protected { executables: vec![name(&viewer)], ..Protected::default() };
    for denied in [Denied::Path(name(&viewer)), digest(&content)] {
        let error = world.deny.apply(measure(1), &denied, &[], &protected).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{error}");
    }
    assert!(can_start(&viewer));
    assert_eq!(world.deny.begun(measure(1)).unwrap(), None);
}

#[test]
fn a_program_that_became_needed_is_not_refused_though_it_is_denied() {
    let Some(world) = World::new("became_needed") else { return };
    let viewer = world.watched.join("viewer");
    program(&viewer, "viewer");
    let denied = world.deny(1, &Denied::Path(name(&viewer))).unwrap();
    assert!(!can_start(&viewer));
    let protected = Protected { executables: vec![name(&viewer)], ..Protected::default() };
    assert!(world.deny.tell_again(&protected).unwrap(), "the list is another");
    assert!(can_start(&viewer));
    assert!(!world.deny.prove(&denied).unwrap().holds(), "and that is said");
}

#[test]
fn a_running_program_with_the_content_is_found_on_any_filesystem() {
    let Some(world) = World::new("is_found") else { return };
    let path = world.other.join("runs");
    let mut content = fs::read("/bin/sleep").unwrap();
    content.extend(b"a worm");
    write(&path, &content);
    let mut running = Command::new(&path).arg("1000").spawn().unwrap();
    let denied = world.deny(1, &digest(&content)).unwrap();
    assert_eq!(denied.entry.known, [name(&path)]);
    assert!(!can_start(&path));
    let proof = world.deny.prove(&denied).unwrap();
    assert!(proof.holds(), "{proof:?}");
    // The content is denied, and not the name.
    running.kill().unwrap();
    running.wait().unwrap();
    program(&path, "honest");
    assert!(can_start(&path));
}

#[test]
fn a_denial_that_was_written_and_never_told_is_told_later() {
    let Some(world) = World::new("never_told") else { return };
    let path = world.watched.join("bad");
    program(&path, "bad");
    let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
    world.allow(&denied);
    // The helper died between writing and telling.
    let journal = Journal::open(&world.folder.path().join("cordon/measures")).unwrap();
    let kind = ActionKind::Deny;
    journal.write(kind, measure(1), &denied).unwrap();
    assert!(can_start(&path));
    assert!(world.deny.tell_again(&Protected::default()).unwrap());
    assert!(!can_start(&path));
    assert_eq!(world.deny(1, &Denied::Path(name(&path))).unwrap(), denied);
}

#[test]
fn what_the_warden_may_still_deny_is_not_forgotten_before_it_is_told() {
    let Some(world) = World::new("not_forgotten") else { return };
    let path = world.watched.join("bad");
    program(&path, "bad");
    let denied = world.deny(1, &Denied::Path(name(&path))).unwrap();
    let (socket, aside) =
        (world.folder.path().join("warden.sock"), world.folder.path().join("aside.sock"));
    fs::rename(&socket, &aside).unwrap();
    // In its place somebody takes the question and never answers.
    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(world.deny.undo(measure(1), &Protected::default()).is_err());
    assert_eq!(world.deny.begun(measure(1)).unwrap(), Some(denied), "to be taken back again");
    drop(silent);
    fs::rename(&aside, &socket).unwrap();
    assert!(!can_start(&path));
    // Also where the journal lost it: the warden holds it, and is told.
    let journal = Journal::open(&world.folder.path().join("cordon/measures")).unwrap();
    journal.forget(ActionKind::Deny, measure(1)).unwrap();
    assert!(world.deny.undo(measure(1), &Protected::default()).unwrap().is_exact());
    assert!(can_start(&path));
}

#[test]
fn a_content_that_no_mark_covers_is_not_said_to_be_denied() {
    let Some(world) = World::new("no_mark_covers") else { return };
    let path = world.other.join("worm");
    let content = program(&path, "worm");
    let journal = Journal::open(&world.folder.path().join("cordon/measures")).unwrap();
    let socket = world.folder.path().join("warden.sock");
    let watches_nothing =
        Deny::new(journal, socket, Vec::new(), world.folder.path().join("cordon"));
    let nobody = Protected::default();
    let denied = watches_nothing.apply(measure(1), &digest(&content), &[], &nobody).unwrap();
    assert!(can_start(&path));
    let proof = watches_nothing.prove(&denied).unwrap();
    assert!(!proof.is_read_back && !proof.holds(), "{proof:?}");
    // With a file that is known it is.
    let seen_at = [name(&path)];
    let denied = watches_nothing.apply(measure(1), &digest(&content), &seen_at, &nobody).unwrap();
    assert!(!can_start(&path));
    assert!(watches_nothing.prove(&denied).unwrap().is_read_back);
}

#[test]
fn many_starts_at_once_are_answered_each_in_its_own_way() {
    let Some(world) = World::new("many_starts") else { return };
    let bad = world.watched.join("bad");
    let content = program(&bad, "bad");
    let good: Vec<PathBuf> = (0..20)
        .map(|number| {
            let path = world.watched.join(format!("good-{number}"));
            program(&path, &number.to_string());
            path
        })
        .collect();
    let denied = world.deny(1, &digest(&content)).unwrap();
    let mut children = Vec::new();
    for _ in 0..10 {
        for path in &good {
            children.push(Command::new(path).stdout(Stdio::null()).spawn().unwrap());
        }
        assert!(!can_start(&bad));
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    world.allow(&denied);
}

#[test]
fn a_list_without_end_is_not_taken_and_what_was_denied_stays_denied() {
    let Some(world) = World::new("without_end") else { return };
    let path = world.watched.join("bad");
    program(&path, "bad");
    let denied = world.deny(0, &Denied::Path(name(&path))).unwrap();
    for number in 1..128 {
        let other = world.watched.join(format!("other-{number}"));
        world.deny(number, &Denied::Path(name(&other))).unwrap();
    }
    let one_more = Denied::Path(name(&world.watched.join("one-more")));
    assert!(matches!(world.deny(200, &one_more), Err(ActError::Unfit(_))));
    assert!(!can_start(&path));
    assert!(world.deny.prove(&denied).unwrap().is_read_back);
}
