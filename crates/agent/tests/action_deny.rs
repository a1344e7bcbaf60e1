//! What denying costs, and what is left where it is cut short: a real warden in a process of its own, watched from outside.
//!
//! That it denies, and what, is tried in the whole program's `deny` tests.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

mod action_world;
mod cut_short;

use std::fmt::Debug;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use action_world::disks::Disks;
use action_world::measure;
use cordon_agent::contain::action::deny::Deny;
use cordon_agent::contain::action::deny::list::KNOWN;
use cordon_agent::contain::action::deny::warden::{WardenConfig, serve};
use cordon_agent::contain::action::{ActError, Journal, Protected};
use cordon_agent::contain::urgency::go_first;
use cordon_model::action::{Denied, FilePath, Sha256Digest};
use cordon_model::ids::MeasureId;
use sha2::{Digest as _, Sha256};

const SOCKET: &str = "CORDON_TEST_WARDEN";

/// Not a test: what a warden's process runs, when a test starts this program again with its socket.
#[test]
fn the_warden() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let Err(error) = serve(&WardenConfig { socket: socket.into() });
    panic!("{error}");
}

struct World {
    deny: Deny,
    /// A filesystem of which single files are denied.
    folder: PathBuf,
    warden: Child,
    disks: Disks,
}

impl World {
    fn new() -> Option<Self> {
        let disks = Disks::new()?;
        let folder = disks.memory("memory", 64 << 20);
        let socket = socket(&disks);
        let mut warden = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_warden", "--nocapture", "--test-threads=1"])
            .env(SOCKET, &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let late = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(&socket).is_err() {
            let ended = warden.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < late, "no warden: {ended:?}");
            std::thread::yield_now();
        }
        // As the helper, whom the warden gives little time to say what it wants.
        go_first();
        let deny = denying(&disks.state(), &socket);
        Some(Self { deny, folder, warden, disks })
    }

    fn socket(&self) -> PathBuf {
        socket(&self.disks)
    }

    fn program(&self, name: &str) -> (FilePath, Denied) {
        let mut content = fs::read("/bin/echo").unwrap();
        content.extend(name.as_bytes());
        (self.file(name, &content), content_of(&content))
    }

    fn file(&self, name: &str, content: &[u8]) -> FilePath {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        named(&path)
    }
}

fn socket(disks: &Disks) -> PathBuf {
    disks.folder.path().join("warden.sock")
}

fn denying(state: &Path, socket: &Path) -> Deny {
    let journal = Journal::open(&state.join("measures")).unwrap();
    Deny::new(journal, socket.to_owned(), Vec::new(), state.to_owned())
}

fn content_of(bytes: &[u8]) -> Denied {
    Denied::Sha256(Sha256Digest(Sha256::digest(bytes).into()))
}

/// A program that runs until its test ends.
struct Sleeper(Child);

impl Sleeper {
    fn start(path: &FilePath) -> Self {
        loop {
            match Command::new(path.to_string()).arg("1000").spawn() {
                Ok(child) => return Self(child),
                // What another test forked meanwhile has it open for writing until it starts its program.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again, until a look finds what is awaited. On a busy machine a test is not always fast enough
/// for the warden, which hangs up then; its helper, which goes first, is.
fn look_until<T: Debug>(look: impl Fn() -> Result<T, ActError>, is_it: impl Fn(&T) -> bool) -> T {
    let late = Instant::now() + Duration::from_secs(60);
    loop {
        let looked = look();
        match looked {
            Ok(looked) if is_it(&looked) => return looked,
            looked => assert!(Instant::now() < late, "{looked:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.warden.kill();
        let _ = self.warden.wait();
    }
}

fn named(path: &Path) -> FilePath {
    FilePath::new(path.as_os_str().as_encoded_bytes())
}

/// Bytes that were read, as the kernel counts them (`proc_pid_io(5)`).
fn bytes_read(whose: &str) -> u64 {
    let facts = fs::read_to_string(format!("/proc/{whose}/io")).unwrap();
    facts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn contents_are_hashed_when_a_denial_begins_and_not_at_each_look() {
    let Some(world) = World::new() else { return };
    let nobody = Protected::default();
    let (file, content) = world.program("worm");
    let (_, nowhere) = world.program("gone");
    fs::remove_file(world.folder.join("gone")).unwrap();
    for (denied, seen_at) in [(content, vec![file.clone()]), (nowhere, vec![])] {
        let measure = measure();
        let apply = |protected: &Protected| {
            let before = bytes_read("thread-self");
            let program = world.deny.apply(measure, &denied, &seen_at, protected).unwrap();
            (program, bytes_read("thread-self") - before)
        };
        let (first, hashed) = apply(&nobody);
        assert!(hashed > 4 << 20, "the needed programs are more than this: {hashed}");
        assert_eq!(first.entry.known, seen_at);
        let again = [(); 3].map(|()| {
            let (again, hashed) = apply(&nobody);
            assert_eq!(again, first, "and what is known stays known");
            hashed
        });
        // Somebody else's program may begin to run meanwhile, and is new.
        assert!(again.into_iter().min() < Some(1 << 20), "{again:?} bytes at each look");
        let covered = world.deny.prove(&first).unwrap();
        assert_eq!(covered.is_read_back, !seen_at.is_empty(), "{covered:?}");
        assert_eq!(covered.holds(), covered.is_read_back, "{covered:?}");
        let says = |text: &String| text.contains("nothing is denied yet");
        assert_eq!(covered.unproven.iter().any(says), seen_at.is_empty(), "{covered:?}");
    }
}

/// On no watched filesystem, as on that of `/`: by what runs, also if it did not run yet when it was denied.
#[test]
fn a_content_that_begins_to_run_after_it_was_denied_is_found_and_not_started_again() {
    let Some(world) = World::new() else { return };
    let (measure, nobody) = (measure(), Protected::default());
    let mut bytes = fs::read("/bin/sleep").unwrap();
    bytes.extend(b"a worm");
    let content = content_of(&bytes);
    let look = || world.deny.apply(measure, &content, &[], &nobody);
    let first = look_until(look, |_| true);
    assert_eq!(first.entry.known, []);
    assert!(!world.deny.prove(&first).unwrap().is_read_back, "nothing covers it");
    // More of them than are remembered, one after the other: what is gone gives way to what is there.
    for number in 0..=KNOWN {
        let file = world.file(&format!("worm-{number}"), &bytes);
        let mut running = Sleeper::start(&file);
        let again = || Command::new(file.to_string()).arg("0").status();
        let found = look_until(look, |looked| {
            looked.entry.known.contains(&file)
                && world.deny.prove(looked).unwrap().holds()
                && again().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        });
        assert!(running.runs(), "as what ran when it was denied, it goes on");
        assert_eq!(world.deny.begun(measure).unwrap(), Some(found), "and it is written down");
        fs::remove_file(file.to_string()).unwrap();
    }
    // Another content beside it is nobody's business.
    bytes.extend(b", and not the same");
    let other = world.file("other", &bytes);
    let _running = Sleeper::start(&other);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!look_until(look, |_| true).entry.known.contains(&other));
}

#[test]
fn a_look_at_what_runs_hashes_so_much_and_no_more_and_no_file_twice() {
    /// The most that one look hashes: what is set for it, and the last file, which may be as large as any.
    const MOST: u64 = (16 + 64 + 1) << 20;
    const FILES: usize = 6;
    let Some(world) = World::new() else { return };
    let (measure, nobody) = (measure(), Protected::default());
    let mut bytes = fs::read("/bin/sleep").unwrap();
    bytes.resize(20 << 20, 0);
    let content = content_of(&bytes);
    let files: Vec<FilePath> = (0..FILES)
        .map(|number| {
            let file = world.file(&format!("worm-{number}"), &bytes[..1 << 20]);
            // The rest is a hole, and takes no memory.
            let long = fs::File::options().write(true).open(file.to_string()).unwrap();
            long.set_len(20 << 20).unwrap();
            file
        })
        .collect();
    // What was changed just now may change again unseen, and is hashed at each look.
    std::thread::sleep(Duration::from_millis(2_100));
    let look = || {
        let before = bytes_read("thread-self");
        let looked = world.deny.apply(measure, &content, &[], &nobody);
        (looked, bytes_read("thread-self") - before)
    };
    look_until(|| look().0, |_| true);
    let _running: Vec<Sleeper> = files.iter().map(Sleeper::start).collect();
    look_until(
        || {
            let (looked, hashed) = look();
            assert!(hashed < MOST, "{hashed} bytes at one look");
            looked
        },
        |looked| files.iter().all(|file| looked.entry.known.contains(file)),
    );
    // As long as a look is good for, it is not made again.
    let again = [(); 3].map(|()| {
        std::thread::sleep(Duration::from_millis(600));
        look().1
    });
    assert!(again.into_iter().min() < Some(1 << 20), "{again:?} bytes when all is known");
}

#[test]
fn a_denied_content_that_care_needs_by_now_is_refused_at_the_next_look() {
    let Some(world) = World::new() else { return };
    let measure = measure();
    let (viewer, content) = world.program("viewer");
    let apply = |protected: &Protected| world.deny.apply(measure, &content, &[], protected);
    apply(&Protected::default()).unwrap();
    let protected = Protected { executables: vec![viewer], ..Protected::default() };
    for _ in 0..2 {
        let error = apply(&protected).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{error}");
    }
    apply(&Protected::default()).unwrap();
}

#[test]
fn a_warden_that_has_it_all_is_not_told_again() {
    let Some(world) = World::new() else { return };
    let (file, _) = world.program("bad");
    let (measure, denied) = (measure(), Denied::Path(file));
    let group = || {
        let held = world.deny.apply(measure, &denied, &[], &Protected::default()).unwrap();
        assert!(world.deny.prove(&held).unwrap().holds());
        let links = fs::read_dir(format!("/proc/{}/fd", world.warden.id())).unwrap();
        let is_group = |link: &PathBuf| {
            fs::read_link(link).is_ok_and(|to| to.to_string_lossy().contains("fanotify"))
        };
        links.map(|link| link.unwrap().path()).find(is_group).unwrap()
    };
    // A new group is opened before the old one is closed, and so has another number.
    let first = group();
    assert_eq!([group(), group()], [first.clone(), first]);
}

/// Starts of a denied program, one after the other.
const STARTS: u64 = 300;

#[test]
fn who_is_refused_again_and_again_does_not_keep_the_warden_busy() {
    let Some(world) = World::new() else { return };
    let (file, _) = world.program("bad");
    let path = world.folder.join("bad");
    let nobody = Protected::default();
    let held = world.deny.apply(measure(), &Denied::Path(file), &[], &nobody).unwrap();
    let read = || bytes_read(&world.warden.id().to_string());
    let (before, began) = (read(), Instant::now());
    for _ in 0..STARTS {
        assert!(Command::new(&path).stdout(Stdio::null()).status().is_err());
    }
    // What is needed can't be looked at without the mount table: as often as that was read, at most.
    let table = fs::read("/proc/thread-self/mountinfo").unwrap().len() as u64;
    let tables = (read() - before) / table;
    // Twice a second, once for the paths and once for what is needed; and what each question takes.
    let most = 2 * (began.elapsed().as_secs() + 2) + STARTS / 4;
    assert!(tables < most, "{tables} of {most} for {STARTS} starts in {:?}", began.elapsed());
    assert!(world.deny.prove(&held).unwrap().holds());
}

#[test]
fn a_warden_that_does_not_answer_is_waited_for_once() {
    let Some(world) = World::new() else { return };
    let (file, _) = world.program("bad");
    let (denied, nobody) = (Denied::Path(file), Protected::default());
    let held = world.deny.apply(measure(), &denied, &[], &nobody).unwrap();
    let socket = world.socket();
    let aside = socket.with_file_name("aside.sock");
    fs::rename(&socket, &aside).unwrap();
    let silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let began = Instant::now();
    for _ in 0..8 {
        assert!(!world.deny.prove(&held).unwrap().holds());
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Another one is asked at once.
    drop(silent);
    fs::rename(&aside, &socket).unwrap();
    assert!(world.deny.prove(&held).unwrap().holds());
}

/// What changes something outside the helper, on disk or at the warden.
const CHANGING: [libc::c_long; 11] = [
    libc::SYS_write,
    libc::SYS_sendto,
    libc::SYS_connect,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_mkdir,
];

const DEED: &str = "CORDON_TEST_DENIAL";

/// Not a test: what is cut short, in lines: deny or allow, where the state and the warden are, which measure, and the program.
#[test]
fn the_denial_that_is_cut_short() {
    let Some(words) = cut_short::is_deed(DEED) else { return };
    let [what, state, socket, measure, file, content] =
        <[&str; 6]>::try_from(words.lines().collect::<Vec<_>>()).unwrap();
    go_first();
    let deny = denying(state.as_ref(), socket.as_ref());
    let (measure, nobody) = (measure.parse().unwrap(), Protected::default());
    let file = named(file.as_ref());
    let (denied, seen_at) = match content {
        "" => (Denied::Path(file), vec![]),
        content => (Denied::Sha256(content.parse().unwrap()), vec![file]),
    };
    // Traced, it is not always fast enough for the warden.
    let is_done = || match what {
        "deny" => deny.apply(measure, &denied, &seen_at, &nobody).is_ok(),
        _ => deny.undo(measure, &nobody).is_ok(),
    };
    while !is_done() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl World {
    fn words(&self, what: &str, measure: MeasureId, file: &FilePath, content: &Denied) -> String {
        let content = match content {
            Denied::Sha256(digest) => digest.to_string(),
            Denied::Path(_) => String::new(),
        };
        let (state, socket) = (self.disks.state(), self.socket());
        let (state, socket) = (state.display(), socket.display());
        format!("{what}\n{state}\n{socket}\n{measure}\n{file}\n{content}\n")
    }

    /// Whether the program is started; anything but that it runs or that the kernel denies it is a failure.
    fn starts(&self, file: &FilePath) -> bool {
        match Command::new(file.to_string()).stdout(Stdio::null()).status() {
            Ok(status) => {
                assert!(status.success());
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                false
            }
        }
    }

    /// What a helper does that is started on what another left: the warden hears what is written down.
    fn another_helper(&self) -> Deny {
        let deny = denying(&self.disks.state(), &self.socket());
        look_until(|| deny.tell_again(&Protected::default()), |_| true);
        deny
    }
}

/// Whatever the kernel refuses is written down: or nobody would take it back.
#[test]
fn a_denial_that_is_cut_short_anywhere_is_in_the_journal_or_not_in_force() {
    let Some(world) = World::new() else { return };
    let nobody = Protected::default();
    let (file, content) = world.program("worm");
    let (other, _) = world.program("what care needs");
    for denied in [Denied::Path(file.clone()), content] {
        let seen_at = std::slice::from_ref(&file);
        let id = measure();
        let mut stops = [0; 2];
        let calls = cut_short::killed_around_calls(
            "the_denial_that_is_cut_short",
            &CHANGING,
            |command| {
                assert!(world.starts(&file));
                command.env(DEED, world.words("deny", id, &file, &denied));
            },
            |stop| {
                let at = format!("{denied:?}, stop {stop}");
                assert!(world.starts(&other), "{at}");
                let starts = world.starts(&file);
                let deny = world.another_helper();
                let is_written = deny.begun(id).unwrap().is_some();
                assert!(starts || is_written, "{at}: denied, and nobody knows it");
                assert_eq!(world.starts(&file), !is_written, "{at}");
                stops[usize::from(is_written)] += 1;
                // Every other time the order comes again first.
                if stop % 2 == 0 {
                    let held = look_until(|| deny.apply(id, &denied, seen_at, &nobody), |_| true);
                    look_until(|| deny.prove(&held), |proof| proof.holds());
                    assert!(!world.starts(&file), "{at}");
                }
                look_until(|| deny.undo(id, &nobody), |_| true);
                assert!(world.starts(&file) && world.starts(&other), "{at}");
                assert_eq!(deny.begun(id).unwrap(), None, "{at}");
            },
        );
        println!(
            "denying: killed around {calls} calls: {stops:?} not written down, and written down"
        );
        assert!(
            stops.iter().all(|&stops| stops > 0),
            "both sides of the change were tried: {stops:?}"
        );
    }
}

#[test]
fn what_is_allowed_again_and_cut_short_anywhere_is_in_the_journal_or_allowed() {
    let Some(world) = World::new() else { return };
    let nobody = Protected::default();
    let (file, _) = world.program("worm");
    let (id, denied) = (measure(), Denied::Path(file.clone()));
    let mut stops = [0; 2];
    let calls = cut_short::killed_around_calls(
        "the_denial_that_is_cut_short",
        &CHANGING,
        |command| {
            look_until(|| world.deny.apply(id, &denied, &[], &nobody), |_| true);
            assert!(!world.starts(&file));
            command.env(DEED, world.words("allow", id, &file, &denied));
        },
        |stop| {
            let starts = world.starts(&file);
            let deny = world.another_helper();
            let is_written = deny.begun(id).unwrap().is_some();
            assert!(starts || is_written, "stop {stop}: denied, and nobody knows it");
            assert_eq!(world.starts(&file), !is_written, "stop {stop}");
            stops[usize::from(is_written)] += 1;
            look_until(|| deny.undo(id, &nobody), |_| true);
            assert!(world.starts(&file), "stop {stop}");
            assert_eq!(deny.begun(id).unwrap(), None, "stop {stop}");
        },
    );
    println!("allowing: killed around {calls} calls: {stops:?} gone from the journal, and there");
    assert!(stops.iter().all(|&stops| stops > 0), "both sides of the change were tried: {stops:?}");
}
