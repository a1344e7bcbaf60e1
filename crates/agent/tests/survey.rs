//! Surveys of trees of real files, friendly and hostile, taken as the helper's process takes them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cordon_agent::contain::action::mounts::{Mount, mounts};
use cordon_agent::contain::survey::keys_files::KeysFiles;
use cordon_agent::contain::survey::limits;
use cordon_agent::contain::survey::lines::{accounts, lines_of};
use cordon_agent::contain::survey::look::look;
use cordon_agent::contain::survey::memory::{Hides, Look, Missed};
use cordon_agent::contain::survey::places::Lines;
use cordon_agent::contain::survey::take::{Wanted, take};
use cordon_model::survey::{FirstSeen, Survey, TEXT_BYTES, Thing, ThingKind};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::clock::Moment;

mod survey_dropped;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n";

/// A machine's tree of files, and what is remembered of it.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        machine.write("etc/passwd", PASSWD);
        machine
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("root")
    }

    fn at(&self, place: &str) -> PathBuf {
        self.root().join(place)
    }

    fn write(&self, place: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.root().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, place: &str, target: &str) {
        std::fs::create_dir_all(self.at(place).parent().unwrap()).unwrap();
        symlink(target, self.at(place)).unwrap();
    }

    fn memory(&self) -> PathBuf {
        self.folder.path().join("survey")
    }

    fn look(&self) -> Look {
        look(&self.root(), mounts().unwrap())
    }

    /// A survey at this second of one boot.
    fn survey(&self, second: u64) -> Survey {
        self.survey_of(second, Wanted::All)
    }

    fn survey_of(&self, second: u64, wanted: Wanted) -> Survey {
        let survey =
            take(&self.memory(), &self.root(), wanted, || moment(second)).unwrap().unwrap();
        assert!(survey.is_bounded());
        survey
    }
}

fn moment(second: u64) -> Moment {
    Moment {
        boot: BootId("boot".into()),
        at: BootNanos(second * 1_000_000_000),
        utc: utc(second),
        trusted_utc: None,
    }
}

fn utc(second: u64) -> UtcNanos {
    UtcNanos::from_unix_nanos(i64::try_from(second).unwrap() * 1_000_000_000)
}

/// What is there, in words that a test can state.
fn found(look: &Look) -> Vec<(ThingKind, String, Option<&str>)> {
    let mut found: Vec<_> = look
        .present
        .iter()
        .map(|one| (one.kind, one.path.to_string(), one.line.as_deref()))
        .filter(|(_, path, _)| path != "/etc/passwd")
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Why something at `path` was not looked at.
fn why_missed(look: &Look, path: &str) -> Option<String> {
    let missed = look.missed.iter().find(|missed| missed.path.to_string() == path)?;
    Some(missed.why.clone())
}

fn thing<'a>(survey: &'a Survey, path: &str, has: &str) -> &'a Thing {
    let is_it = |thing: &&Thing| {
        thing.path.to_string() == path && thing.line.as_deref().unwrap_or("").contains(has)
    };
    survey.things.iter().find(is_it).unwrap_or_else(|| panic!("no {path} {has}: {survey:#?}"))
}

#[test]
fn every_kind_of_thing_is_found_where_it_is() {
    use ThingKind as K;
    let machine = Machine::new();
    let planted = [
        (K::Unit, "/etc/systemd/system/evil.service", None),
        (K::Unit, "/etc/systemd/system/ssh.service.d/evil.conf", None),
        (K::Unit, "/home/ann/.config/systemd/user/evil.timer", None),
        (K::Unit, "/run/systemd/system/evil.socket", None),
        (K::Unit, "/run/user/1000/systemd/user/evil.path", None),
        (K::Unit, "/usr/lib/systemd/system/evil.service", None),
        (K::Unit, "/usr/local/lib/systemd/system/evil.service", None),
        (K::Generator, "/usr/lib/systemd/system-generators/evil", None),
        (K::UnitLink, "/etc/systemd/system/multi-user.target.wants/evil.service", None),
        (K::CronLine, "/etc/cron.d/evil", Some("* * * * * root /tmp/x")),
        (K::CronLine, "/etc/crontab", Some("* * * * * root /tmp/x")),
        (K::CronLine, "/var/spool/cron/crontabs/ann", Some("* * * * * root /tmp/x")),
        (K::CronScript, "/etc/cron.daily/evil", None),
        (K::AtJob, "/var/spool/cron/atjobs/a00001019", None),
        (K::InitScript, "/etc/init.d/evil", None),
        (K::InitScript, "/etc/rc.local", None),
        (K::ShellProfile, "/etc/profile.d/evil.sh", None),
        (K::ShellProfile, "/root/.bashrc", None),
        (K::Autostart, "/home/ann/.config/autostart/evil.desktop", None),
        (K::UdevRule, "/etc/udev/rules.d/99-evil.rules", None),
        (K::Preload, "/etc/ld.so.preload", None),
        (K::Pam, "/etc/pam.d/sshd", None),
        (K::Sudoers, "/etc/sudoers.d/evil", None),
        (K::AuthorizedKey, "/home/ann/.ssh/authorized_keys", Some("ssh-ed25519 AAAA eve")),
        (K::ModuleConfig, "/etc/modprobe.d/evil.conf", Some("install x /tmp/x")),
        (K::ModuleConfig, "/etc/modules-load.d/evil.conf", Some("evil")),
        (K::NetworkHook, "/etc/NetworkManager/dispatcher.d/pre-up.d/evil", None),
        (K::NetworkHook, "/etc/network/if-up.d/evil", None),
        (K::Hook, "/etc/apt/apt.conf.d/evil", None),
        (K::Hook, "/etc/update-motd.d/evil", None),
        (K::DroppedProgram, "/dev/shm/.hidden/evil", None),
        (K::DroppedProgram, "/tmp/evil", None),
        (K::DroppedProgram, "/var/tmp/evil", None),
    ];
    for (kind, path, line) in planted {
        let place = &path[1..];
        match (kind, line) {
            (K::UnitLink, _) => machine.link(place, "/usr/lib/systemd/system/evil.service"),
            (_, Some(line)) => machine.write(place, format!("# a comment\n\n{line}\n")),
            (K::DroppedProgram, _) => machine.write(place, "#!/bin/evil"),
            (_, None) => machine.write(place, "evil"),
        }
    }
    // What the system itself does not look at is none.
    machine.write("etc/cron.d/folder/deeper", "* * * * * root /tmp/x");
    machine.write("var/spool/cron/atjobs/.SEQ", "1");
    machine.write("run/systemd/transient/session-1.scope", "");
    let look = machine.look();
    let mut expected: Vec<_> =
        planted.into_iter().map(|(kind, path, line)| (kind, path.to_owned(), line)).collect();
    expected.sort();
    assert_eq!(found(&look), expected);
    assert_eq!(look.missed, []);
}

#[test]
fn what_is_planted_after_the_first_look_is_new_and_what_is_taken_away_is_gone() {
    let machine = Machine::new();
    machine.write("etc/cron.d/old", "0 0 * * * root /bin/old\n");
    machine.write("home/ann/.ssh/authorized_keys", "ssh-ed25519 AAAA ann\n");
    let first = machine.survey(100);
    assert_eq!((first.known_since, first.taken_at), (utc(100), utc(100)));
    assert!(first.things.iter().all(|thing| thing.first_seen == FirstSeen::AtTheFirstLook));

    machine.write("etc/cron.d/old", "0 0 * * * root /bin/old\n* * * * * root /tmp/x\n");
    machine.write("home/ann/.ssh/authorized_keys", "ssh-ed25519 AAAA ann\nssh-ed25519 BBBB eve\n");
    machine.write("etc/passwd", format!("{PASSWD}eve:$6$hash:0:0::/home/eve:/bin/sh\n"));
    machine.write("home/eve/.bashrc", "evil");
    let survey = machine.survey_of(200, Wanted::Since(utc(100)));
    let came = FirstSeen::Between { absent_at: utc(100), present_at: utc(200) };
    let new: Vec<_> = survey.things.iter().map(|thing| (thing.first_seen, thing.gone_at)).collect();
    assert_eq!(new, [(came, None); 4], "{survey:#?}");
    assert_eq!(
        thing(&survey, "/etc/passwd", "eve").line.as_deref(),
        Some("eve:(a password):0:0::/home/eve:/bin/sh")
    );
    assert_eq!(thing(&survey, "/etc/cron.d/old", "/tmp/x").kind, ThingKind::CronLine);
    thing(&survey, "/home/ann/.ssh/authorized_keys", "eve");
    thing(&survey, "/home/eve/.bashrc", "");

    std::fs::remove_file(machine.at("etc/cron.d/old")).unwrap();
    let survey = machine.survey_of(300, Wanted::Since(utc(250)));
    let gone: Vec<_> = survey.things.iter().map(|thing| thing.gone_at).collect();
    assert_eq!(gone, [Some(utc(300)); 2], "both of its lines: {survey:#?}");
    // The file's own times are nobody's word here.
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    machine.write("etc/cron.d/touched", "0 0 * * * root /bin/x\n");
    std::fs::File::options()
        .write(true)
        .open(machine.at("etc/cron.d/touched"))
        .unwrap()
        .set_times(long_ago)
        .unwrap();
    let survey = machine.survey_of(400, Wanted::Since(utc(350)));
    assert!(thing(&survey, "/etc/cron.d/touched", "").may_have_come_after(utc(350)));
}

#[test]
fn links_are_things_by_themselves_and_followed_nowhere() {
    let machine = Machine::new();
    machine.write("secret", "ssh-ed25519 AAAA secret\n");
    machine.write("elsewhere/evil.service", "secret");
    // A folder on the way, a file at the end, a unit that lies elsewhere, a masked one, one that is looked at.
    machine.link("etc/cron.d", "../elsewhere");
    machine.link("root/.ssh/authorized_keys", "../../secret");
    machine.link("etc/systemd/system/evil.service", "/elsewhere/evil.service");
    machine.link("etc/systemd/system/masked.service", "/dev/null");
    machine.write("usr/lib/systemd/system/known.service", "known");
    machine.link("etc/systemd/system/alias.service", "../../../lib/systemd/system/known.service");
    machine.link("lib", "usr/lib");
    machine.link("home", "secret-homes");
    let look = machine.look();
    let (link, key) = (ThingKind::UnitLink, ThingKind::AuthorizedKey);
    let expected = [
        (ThingKind::Unit, "/usr/lib/systemd/system/known.service"),
        (link, "/etc/systemd/system/alias.service"),
        (link, "/etc/systemd/system/evil.service"),
        (link, "/etc/systemd/system/masked.service"),
        (ThingKind::CronLine, "/etc/cron.d"),
        (key, "/root/.ssh/authorized_keys"),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(kind, path)| (kind, path.to_owned(), None)).collect();
    assert_eq!(found(&look), expected);
    for path in ["/etc/cron.d", "/root/.ssh/authorized_keys", "/etc/systemd/system/evil.service"] {
        let why = why_missed(&look, path).unwrap_or_else(|| panic!("{path}: {:#?}", look.missed));
        assert!(why.contains("which is not looked at"), "{path}: {why}");
    }
    assert!(why_missed(&look, "/home").unwrap().contains("symbolic link"));
    assert_eq!(look.missed.len(), 4, "each once: {:#?}", look.missed);
}

#[test]
fn pipes_and_devices_are_not_opened_and_names_may_be_anything() {
    let machine = Machine::new();
    machine.write("etc/cron.d/plain", "x\n");
    nix::unistd::mkfifo(&machine.at("etc/cron.d/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(machine.at("etc/cron.d/socket")).unwrap();
    let odd = OsStr::from_bytes(b"etc/profile.d/\xff\n\x1b[2J.sh");
    machine.write(odd, "evil");
    machine.write("etc/crontab", b"\xff\xfe\x00 * root \x1b[2J\n");
    let began = Instant::now();
    let look = machine.look();
    assert!(began.elapsed() < limits::PATIENCE, "nothing was waited for");
    assert!(why_missed(&look, "/etc/cron.d/pipe").unwrap().contains("pipe"));
    assert!(why_missed(&look, "/etc/cron.d/socket").unwrap().contains("socket"));
    let is_odd = |path: &[u8]| path == [b"/", odd.as_bytes()].concat();
    assert!(look.present.iter().any(|one| is_odd(one.path.as_bytes())), "{:#?}", look.present);
    assert_eq!(look.present.iter().filter(|one| one.kind == ThingKind::CronLine).count(), 2);
}

#[test]
fn what_is_too_much_is_cut_and_said_and_leaves_the_rest() {
    let machine = Machine::new();
    // A hundred thousand names in one folder; a file of a gigabyte (of nothing); a crontab without end.
    for number in 0..100_000 {
        let path = machine.at(&format!("home/ann/.config/autostart/{number}"));
        if number == 0 {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::File::create(path).unwrap();
    }
    machine.write("etc/rc.local", "");
    let large = std::fs::File::options().write(true).open(machine.at("etc/rc.local")).unwrap();
    large.set_len(1 << 30).unwrap();
    machine.write("etc/crontab", "x\n".repeat(1_000_000));
    machine.write("root/.bashrc", "plain");
    let long = format!("etc/systemd/system/{}/{}", "a".repeat(250), "b".repeat(250));
    machine.write(&long, "");
    let began = Instant::now();
    let look = machine.look();
    println!("{} things in {:?}", look.present.len(), began.elapsed());
    let why = |path: &str| why_missed(&look, path).unwrap_or_else(|| panic!("{path}"));
    assert!(why("/home/ann/.config/autostart").contains("more"), "{:#?}", look.missed);
    assert!(why("/etc/rc.local").contains("1073741824 bytes"));
    assert!(why("/etc/crontab").contains("more lines"));
    assert!(
        why(&format!("/etc/systemd/system/{}", "a".repeat(250))).contains("more than 512 bytes")
    );
    let of_ann = look.present.iter().filter(|one| one.path.to_string().starts_with("/home/ann"));
    assert!(of_ann.count() <= limits::HOME_THINGS);
    assert!(found(&look).contains(&(ThingKind::ShellProfile, "/root/.bashrc".into(), None)));
}

#[test]
fn a_file_that_changes_all_the_while_is_unread_and_not_half_read() {
    let machine = Machine::new();
    machine.write("etc/rc.local", "");
    let stop = Arc::new(AtomicBool::new(false));
    let (path, is_over) = (machine.at("etc/rc.local"), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let text = "x".repeat(4 << 20);
        while !is_over.load(Ordering::Relaxed) {
            std::fs::write(&path, &text).unwrap();
        }
    });
    for _ in 0..20 {
        let look = machine.look();
        let is_read = look.present.iter().find(|one| one.kind == ThingKind::InitScript);
        match (is_read, why_missed(&look, "/etc/rc.local")) {
            (None, Some(why)) => assert!(why.contains("changes"), "{why}"),
            // It may have been read between two changes.
            (Some(_), None) => {}
            other => panic!("{other:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

/// The mounts of this machine, and one more below the machine's own root.
fn with_mount(machine: &Machine, place: &str, kind: &str) -> Vec<Mount> {
    let mut all = mounts().unwrap();
    let (root, point) = ("/".into(), machine.at(place));
    all.push(Mount { id: 9_999, device: (0, 99), root, point, kind: kind.into(), address: None });
    all
}

#[test]
fn homes_that_others_answer_for_are_not_entered_and_their_things_are_not_gone() {
    let machine = Machine::new();
    machine.write("home/ann/.bashrc", "plain");
    for kind in ["nfs4", "fuse.sshfs", "cifs", "autofs"] {
        let look = look(&machine.root(), with_mount(&machine, "home", kind));
        assert_eq!(found(&look), []);
        let [missed] = &look.missed[..] else { panic!("told once: {:#?}", look.missed) };
        assert_eq!((missed.path.to_string().as_str(), missed.hides), ("/home", Hides::All));
        assert!(missed.why.contains(kind), "{}", missed.why);
    }
}

#[test]
fn a_home_that_never_answers_is_left_and_the_rest_is_read() {
    if cordon_tests::lacks_root("mounting a file system that hangs") {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        cordon_tests::cannot_be_had("a file system that hangs needs /dev/fuse");
        return;
    }
    use std::os::fd::AsRawFd as _;
    let machine = Machine::new();
    machine.write("home/ann/.bashrc", "plain");
    machine.write("root/.bashrc", "plain");
    // In a mount namespace of this thread's own, which the threads that read inherit.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    // Mounted when the mount table had been read, and nobody will ever answer.
    let before = mounts().unwrap();
    let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
    let flags = nix::mount::MsFlags::empty();
    let home = machine.at("home/ann");
    nix::mount::mount(Some("dead"), &home, Some("fuse"), flags, Some(&*options)).unwrap();
    let look = cordon_agent::contain::survey::look::look(&machine.root(), before);
    assert_eq!(found(&look), [(ThingKind::ShellProfile, "/root/.bashrc".into(), None)]);
    assert!(why_missed(&look, "/home/ann/.bashrc").unwrap().contains("no answer within"));
    // Who reads the table first does not even ask.
    let began = Instant::now();
    let look = cordon_agent::contain::survey::look::look(&machine.root(), mounts().unwrap());
    assert!(why_missed(&look, "/home/ann").unwrap().contains("fuse"), "{:#?}", look.missed);
    assert!(began.elapsed() < limits::PATIENCE);
}

#[test]
fn keys_are_looked_for_where_sshd_does() {
    let machine = Machine::new();
    machine.write("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n");
    machine.write(
        "etc/ssh/sshd_config.d/x.conf",
        "AuthorizedKeysFile /etc/keys/%u\nTrustedUserCAKeys /ca\n",
    );
    machine.write("etc/keys/ann", "ssh-ed25519 AAAA eve\n");
    let look = machine.look();
    assert_eq!(
        found(&look),
        [(ThingKind::AuthorizedKey, "/etc/keys/ann".into(), Some("ssh-ed25519 AAAA eve"))]
    );
    assert!(why_missed(&look, "/etc/ssh/sshd_config").unwrap().contains("TrustedUserCAKeys"));
}

#[test]
fn accounts_of_a_directory_are_said_not_to_be_known() {
    let machine = Machine::new();
    machine.write("etc/nsswitch.conf", "passwd: files sss\n");
    assert!(why_missed(&machine.look(), "/etc/nsswitch.conf").unwrap().contains("sss"));
}

#[test]
fn without_the_list_of_accounts_nothing_is_gone_and_nothing_new() {
    let machine = Machine::new();
    machine.write("home/ann/.bashrc", "plain");
    let _ = machine.survey(1);
    let passwd = machine.at("etc/passwd");
    std::fs::remove_file(&passwd).unwrap();
    symlink("nowhere", &passwd).unwrap();
    let survey = machine.survey(2);
    assert_eq!(thing(&survey, "/home/ann/.bashrc", "").gone_at, None);
    std::fs::remove_file(&passwd).unwrap();
    machine.write("etc/passwd", PASSWD);
    let survey = machine.survey(3);
    assert_eq!(thing(&survey, "/home/ann/.bashrc", "").first_seen, FirstSeen::AtTheFirstLook);
}

#[test]
fn a_damaged_memory_begins_anew_and_is_not_silently_clean() {
    let machine = Machine::new();
    let _ = machine.survey(1);
    machine.write("etc/rc.local", "evil");
    assert_eq!(machine.survey_of(2, Wanted::Since(utc(1))).of, 1);
    let kept = machine.memory().join("memory");
    let whole = std::fs::read(&kept).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", &[&whole[..], b"x"].concat()] {
        std::fs::write(&kept, damaged).unwrap();
        let survey = machine.survey_of(3, Wanted::Since(utc(1)));
        assert_eq!((survey.known_since, survey.of), (utc(3), 0));
        assert!(survey.unread.iter().any(|one| one.why.contains("damaged")), "{survey:#?}");
    }
    // Said again at the next look, and the memory is sound again.
    machine.write("etc/inittab", "evil");
    let survey = machine.survey_of(4, Wanted::Since(utc(3)));
    assert_eq!((survey.known_since, survey.of), (utc(3), 1));
    assert!(survey.unread.iter().any(|one| one.why.contains("damaged")));
    // One that is put back is what it was.
    std::fs::write(&kept, whole).unwrap();
    assert_eq!(machine.survey_of(5, Wanted::Since(utc(1))).known_since, utc(1));
}

#[test]
fn two_looks_do_not_write_one_memory_at_once() {
    let machine = Machine::new();
    let _ = machine.survey(1);
    let lock = std::fs::File::options().write(true).open(machine.memory().join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = take(&machine.memory(), &machine.root(), Wanted::All, || moment(2)).unwrap_err();
    assert!(refused.to_string().contains("another look"), "{refused}");
    drop(lock);
    assert_eq!(machine.survey(3).known_since, utc(1));
}

#[test]
fn a_memory_that_can_not_be_read_is_not_begun_anew() {
    let machine = Machine::new();
    let kept = machine.memory().join("memory");
    std::fs::create_dir_all(&kept).unwrap();
    assert!(take(&machine.memory(), &machine.root(), Wanted::All, || moment(1)).is_err());
    assert!(kept.is_dir(), "nothing was put in its place");
}

/// The fuzz target's seeds, as a plain test.
#[test]
fn every_seed_is_read_to_its_end() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/agent_survey");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let all = [Lines::Plain, Lines::Accounts, Lines::ModuleCommands];
        let said = all.into_iter().flat_map(|lines| lines_of(lines, &bytes));
        assert!(said.map(|line| line.text).all(|text| text.len() <= TEXT_BYTES));
        let keys = KeysFiles::of([&bytes[..]]);
        assert!(accounts(&bytes).iter().all(|account| !keys.of_account(account).0.is_empty()));
        seeds += 1;
    }
    assert_eq!(seeds, 5);
}

/// Not a judgement, a number: how long a look at this machine takes, and how large what it remembers is.
#[test]
fn this_machine_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let survey =
            take(folder.path(), Path::new("/"), Wanted::All, || moment(1)).unwrap().unwrap();
        let size = std::fs::metadata(folder.path().join("memory")).unwrap().len();
        println!(
            "{} things, {} unread, {size} bytes, in {:?}",
            survey.of,
            survey.unread.len(),
            began.elapsed()
        );
        assert!(survey.things.iter().any(|thing| thing.kind == ThingKind::Account));
        assert!(began.elapsed() < Duration::from_secs(120));
    }
}
