//! Surveys of places where anybody may write, whatever anybody put there.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use cordon_model::survey::{MOST_DROPPED, Unread};
use sha2::Digest as _;

use super::*;

mod oracle;

/// A program by how it begins, and one by its mode alone.
const ELF: &[u8] = b"\x7fELF\x02\x01\x01";

impl Machine {
    fn mode(&self, place: &str, mode: u32) {
        std::fs::set_permissions(self.at(place), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn program(&self, place: impl AsRef<Path>) {
        self.write(place, ELF);
    }
}

fn dropped(look: &Look) -> Vec<String> {
    let is_dropped = |kind: &ThingKind| *kind == ThingKind::DroppedProgram;
    found(look).into_iter().filter(|(kind, ..)| is_dropped(kind)).map(|(_, path, _)| path).collect()
}

#[test]
fn a_program_is_told_by_its_mode_or_how_it_begins_and_nothing_else_is_one() {
    let machine = Machine::new();
    machine.program("tmp/elf");
    machine.write("tmp/script", "#!/bin/sh\n");
    machine.write("tmp/by-mode", "echo");
    machine.mode("tmp/by-mode", 0o641);
    machine.program("tmp/systemd-private-x/tmp/.x/inner");
    machine.program("var/tmp/.x/.y/.z");
    machine.program("dev/shm/x");
    let odd = OsStr::from_bytes(b"tmp/\xff\n\x1b[2J");
    machine.program(odd);
    // No programs, or not where anybody may write.
    machine.write("tmp/text", "ELF #!");
    machine.write("tmp/short", "#");
    machine.write("tmp/empty", "");
    machine.mode("tmp/empty", 0o777);
    machine.program("home/ann/x");
    machine.program("run/user/1000/x");
    machine.program("srv/x");
    let look = machine.look();
    let expected = [
        "/dev/shm/x",
        "/tmp/by-mode",
        "/tmp/elf",
        "/tmp/script",
        "/tmp/systemd-private-x/tmp/.x/inner",
        "/var/tmp/.x/.y/.z",
    ];
    let mut all = dropped(&look);
    all.retain(|path| !path.contains("[2J"));
    assert_eq!(all, expected);
    assert!(look.present.iter().any(|one| one.path.as_bytes() == b"/tmp/\xff\n\x1b[2J"));
    assert_eq!(look.missed, []);
    let elf = look.present.iter().find(|one| one.path.as_bytes() == b"/tmp/elf").unwrap();
    assert_eq!(elf.owner, std::fs::metadata(machine.at("tmp/elf")).unwrap().uid());
    let survey = machine.survey(100);
    let elf = thing(&survey, "/tmp/elf", "");
    assert_eq!((elf.kind.technique(), elf.line.as_deref()), ("T1105", None));
}

#[test]
fn links_are_not_followed_there_and_pipes_and_devices_not_opened() {
    let machine = Machine::new();
    machine.program("secret/program");
    machine.program("tmp/x");
    machine.link("tmp/passwd", "/etc/passwd");
    machine.link("tmp/program", "../secret/program");
    machine.link("tmp/folder", "../secret");
    machine.link("tmp/sub/deep", "../../secret/program");
    let everything = nix::sys::stat::Mode::S_IRWXU | nix::sys::stat::Mode::S_IRWXO;
    nix::unistd::mkfifo(&machine.at("tmp/pipe"), everything).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(machine.at("tmp/socket")).unwrap();
    if nix::unistd::geteuid().is_root() {
        use nix::sys::stat::{SFlag, makedev, mknod};
        // Opened, this one would have the machine wait for a tape. Not every container lets root make one.
        let _ = mknod(&machine.at("tmp/tape"), SFlag::S_IFCHR, everything, makedev(9, 0));
    }
    let began = Instant::now();
    let look = machine.look();
    assert_eq!((dropped(&look), look.missed), (vec!["/tmp/x".to_owned()], vec![]));
    assert!(began.elapsed() < limits::PATIENCE, "nothing was waited for");
}

#[test]
fn a_place_that_is_a_link_is_known_by_where_it_leads_or_said_to_be_unread() {
    let machine = Machine::new();
    machine.program("var/tmp/x");
    machine.link("tmp", "var/tmp");
    machine.program("elsewhere/x");
    machine.link("dev/shm", "../elsewhere");
    let look = machine.look();
    assert_eq!(dropped(&look), ["/var/tmp/x"]);
    assert_eq!(look.missed.len(), 1, "{:#?}", look.missed);
    assert!(why_missed(&look, "/dev/shm").unwrap().contains("symbolic link"));
}

#[test]
fn what_lies_deeper_than_is_looked_is_said_and_an_empty_folder_is_nothing() {
    let machine = Machine::new();
    machine.program("tmp/a/b/c/x");
    std::fs::create_dir_all(machine.at("tmp/a/b/c/d")).unwrap();
    assert_eq!(machine.look().missed, []);
    machine.program("tmp/a/b/c/d/x");
    let look = machine.look();
    assert_eq!(dropped(&look), ["/tmp/a/b/c/x"]);
    assert!(why_missed(&look, "/tmp").unwrap().contains("4 levels below"));
    // It hides nothing that was ever looked at.
    assert_eq!(look.missed[0].hides, Hides::Nothing);
}

#[test]
fn a_folder_that_may_not_be_read_is_said_and_the_rest_is_read() {
    let machine = Machine::new();
    machine.program("tmp/closed/x");
    machine.program("tmp/open/x");
    machine.mode("tmp/closed", 0o000);
    machine.mode("tmp", 0o1777);
    let look = machine.look();
    machine.mode("tmp/closed", 0o755);
    // Root reads it all the same.
    match why_missed(&look, "/tmp/closed") {
        Some(_) => assert_eq!(dropped(&look), ["/tmp/open/x"]),
        None => assert_eq!(dropped(&look), ["/tmp/closed/x", "/tmp/open/x"]),
    }
}

#[test]
fn thousands_of_programs_are_cut_and_counted_and_hide_nothing_that_comes_among_them() {
    let machine = Machine::new();
    for number in 0..3_000 {
        machine.program(format!("tmp/build/objects/{number}.o"));
    }
    machine.program("tmp/zz");
    machine.program("tmp/a/zz");
    machine.program("var/tmp/zz");
    machine.write("etc/cron.daily/evil", "evil");
    let began = Instant::now();
    let look = machine.look();
    println!("{} things in {:?}", look.present.len(), began.elapsed());
    let all = dropped(&look);
    for path in ["/tmp/zz", "/tmp/a/zz", "/var/tmp/zz"] {
        assert!(all.iter().any(|one| one == path), "{path}");
    }
    assert_eq!(all.len(), limits::DROPPED_THINGS + 1);
    let [missed] = &look.missed[..] else { panic!("{:#?}", look.missed) };
    assert_eq!((missed.path.to_string().as_str(), missed.hides), ("/tmp/build", Hides::Nothing));
    assert_eq!(missed.why, "2874 more programs lie there than are told");
    assert_eq!(look.unread.len(), 2_874, "each is remembered not to have been read");

    // So what comes beside the build, or in it, is surely new, and of the build nobody says that it came or went.
    let _ = machine.survey(100);
    machine.program("tmp/payload");
    machine.program("tmp/build/objects/payload");
    let survey = machine.survey_of(200, Wanted::Since(utc(100)));
    let came = FirstSeen::Between { absent_at: utc(100), present_at: utc(200) };
    for path in ["/tmp/payload", "/tmp/build/objects/payload"] {
        assert_eq!(thing(&survey, path, "").first_seen, came);
    }
    assert_eq!(survey.things.len(), 2, "{survey:#?}");

    // What lay there and was not told is not new when it is.
    std::fs::remove_dir_all(machine.at("tmp/a")).unwrap();
    for number in 500..3_000 {
        std::fs::remove_file(machine.at(&format!("tmp/build/objects/{number}.o"))).unwrap();
    }
    let survey = machine.survey_of(300, Wanted::Since(utc(250)));
    let new = survey.things.iter().filter(|thing| thing.gone_at.is_none());
    assert_eq!(new.count(), 0, "{survey:#?}");

    // Of a level that is too full itself nothing is concluded.
    for number in 0..=limits::DROPPED_NAMES {
        machine.write(format!("dev/shm/{number}"), "no program");
    }
    let why = why_missed(&machine.look(), "/dev/shm").unwrap();
    assert!(why.contains("more lies there"), "{why}");
}

/// Larger than is read, of nothing.
fn huge(machine: &Machine, place: &str) {
    machine.write(place, ELF);
    let file = std::fs::File::options().write(true).open(machine.at(place)).unwrap();
    file.set_len(limits::FILE_BYTES + 1).unwrap();
}

#[test]
fn whoever_leaves_much_that_can_not_be_read_has_each_counted_and_the_rest_judged() {
    let machine = Machine::new();
    for number in 0..2_000 {
        huge(&machine, &format!("tmp/{number}"));
    }
    machine.program("tmp/x");
    machine.write("etc/cron.daily/ours", "ours");
    let look = machine.look();
    assert_eq!(dropped(&look), ["/tmp/x"], "what can be read is");
    let named =
        |one: &&Missed| one.why.contains("16777217 bytes") && one.path.as_bytes() != b"/tmp";
    assert_eq!(look.missed.iter().filter(named).count(), limits::DROPPED_MISSED);
    assert_eq!(look.missed.len(), limits::DROPPED_MISSED + 1, "{:#?}", look.missed);
    let why = why_missed(&look, "/tmp").unwrap();
    assert_eq!(why, "1984 more could not be read there than are named");
    assert!(look.missed.iter().all(|one| one.hides == Hides::Nothing), "{:#?}", look.missed);

    // What comes among them surely came, and what goes is gone: they hide nothing but themselves.
    let _ = machine.survey(1);
    std::fs::remove_file(machine.at("etc/cron.daily/ours")).unwrap();
    machine.program("tmp/payload");
    std::fs::remove_file(machine.at("tmp/x")).unwrap();
    // One that could not be read can be now: nobody knows what it held.
    std::fs::remove_file(machine.at("tmp/1500")).unwrap();
    machine.program("tmp/1500");
    let survey = machine.survey(2);
    assert_eq!(thing(&survey, "/etc/cron.daily/ours", "").gone_at, Some(utc(2)));
    assert!(thing(&survey, "/tmp/payload", "").came_after(utc(1)));
    assert_eq!(thing(&survey, "/tmp/x", "").gone_at, Some(utc(2)));
    assert!(!thing(&survey, "/tmp/1500", "").came_after(utc(1)));
    let said = survey
        .unread
        .iter()
        .any(|one| one.why.starts_with("something that lies there was not read before"));
    assert!(said, "{:#?}", survey.unread);

    // One that was known and can't be read any more is not gone; and when it can be again, it is not new.
    huge(&machine, "tmp/payload");
    assert_eq!(thing(&machine.survey(3), "/tmp/payload", "").gone_at, None);
    machine.program("tmp/payload");
    let survey = machine.survey(4);
    let payload = thing(&survey, "/tmp/payload", "");
    assert_eq!(
        payload.first_seen,
        FirstSeen::Between { absent_at: utc(1), present_at: utc(2) },
        "{payload:?}"
    );
}

#[test]
fn what_can_not_be_read_there_takes_no_room_from_what_can_not_elsewhere() {
    let machine = Machine::new();
    for number in 0..100 {
        for place in ["tmp", "var/tmp", "dev/shm"] {
            huge(&machine, &format!("{place}/{number}"));
        }
        std::fs::create_dir_all(machine.at("etc/profile.d")).unwrap();
        let pipe = machine.at(&format!("etc/profile.d/{number}"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let _ = machine.survey(1);
    let told = |survey: &Survey| {
        let is_open = |one: &&Unread| !one.path.to_string().starts_with("/etc");
        let (open, closed): (Vec<_>, Vec<_>) = survey.unread.iter().partition(is_open);
        (
            open.into_iter().cloned().collect::<Vec<_>>(),
            closed.into_iter().cloned().collect::<Vec<_>>(),
        )
    };
    let (_, before) = told(&machine.survey(2));
    // A flood, or its end, changes no word of what is said of the rest.
    for number in 0..100 {
        std::fs::remove_file(machine.at(&format!("tmp/{number}"))).unwrap();
    }
    let (open, after) = told(&machine.survey(3));
    assert_eq!(before, after);
    assert!(open.len() >= 8, "{open:#?}");
    assert!(
        open.iter().any(|one| one.why.contains("more could not be read where anybody")),
        "{open:#?}"
    );
}

#[test]
fn of_large_programs_so_many_bytes_are_read_and_small_ones_are_told_all_the_same() {
    let machine = Machine::new();
    machine.program("tmp/small");
    let large = vec![b'#'; usize::try_from(limits::FILE_BYTES).unwrap()];
    for number in 0..5 {
        machine.write(format!("tmp/{number}"), [b"#!", &large[2..]].concat());
    }
    let look = machine.look();
    assert_eq!(dropped(&look).len(), 5);
    assert!(dropped(&look).contains(&"/tmp/small".to_owned()));
    let [missed] = &look.missed[..] else { panic!("{:#?}", look.missed) };
    assert!(missed.why.contains("more than is read"), "{missed:?}");
}

#[test]
fn a_file_of_another_place_has_no_second_name_there() {
    let machine = Machine::new();
    machine.program("tmp/x");
    machine.program("tmp/mounted/x");
    // A folder of the root's own filesystem, as a build in a changed root has it.
    let known = mounts().unwrap().into_iter().find(|mount| mount.point == Path::new("/")).unwrap();
    let mut bound = with_mount(&machine, "tmp/mounted", "ext4");
    bound.last_mut().unwrap().device = known.device;
    let looked = look(&machine.root(), bound);
    assert_eq!(dropped(&looked), ["/tmp/x"]);
    assert!(why_missed(&looked, "/tmp/mounted").unwrap().contains("lies elsewhere, too"));
}

#[test]
fn what_comes_and_goes_and_changes_while_it_is_read_costs_nothing_that_stays() {
    let machine = Machine::new();
    let stays: Vec<String> = (0..20).map(|number| format!("tmp/stays/{number}")).collect();
    stays.iter().for_each(|place| machine.program(place));
    let stop = Arc::new(AtomicBool::new(false));
    let (folder, is_over) = (machine.at("tmp"), Arc::clone(&stop));
    let churn = std::thread::spawn(move || {
        let mut round = 0_usize;
        while !is_over.load(Ordering::Relaxed) {
            round += 1;
            let path = folder.join(format!("churn-{}", round % 7));
            // What it is changes as often as what it holds.
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir_all(&path);
            match round % 5 {
                0 => drop(std::fs::create_dir(&path)),
                1 => drop(nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)),
                2 => drop(symlink("stays/0", &path)),
                _ => drop(std::fs::write(&path, vec![b'#'; 1 << 16])),
            }
            let _ = std::fs::write(
                folder.join("grows"),
                [b"#!", &vec![b'x'; round % 90_000][..]].concat(),
            );
        }
    });
    for second in 1..40 {
        let told = dropped(&machine.look());
        assert!(stays.iter().all(|place| told.contains(&format!("/{place}"))), "{told:?}");
        let survey = machine.survey(second);
        for place in &stays {
            let thing = thing(&survey, &format!("/{place}"), "");
            assert_eq!((thing.first_seen, thing.gone_at), (FirstSeen::AtTheFirstLook, None));
        }
        assert!(survey.unread.iter().all(|one| one.path.to_string().starts_with("/tmp")));
    }
    stop.store(true, Ordering::Relaxed);
    churn.join().unwrap();
}

#[test]
fn a_program_that_never_ran_is_new_and_gone_and_another_when_it_is_changed() {
    let machine = Machine::new();
    machine.write("tmp/ours", "#!/bin/ours");
    let _ = machine.survey(100);
    machine.program("dev/shm/payload");
    machine.write("tmp/ours", "#!/bin/evil");
    let survey = machine.survey_of(200, Wanted::Since(utc(100)));
    let came = FirstSeen::Between { absent_at: utc(100), present_at: utc(200) };
    assert_eq!(thing(&survey, "/dev/shm/payload", "").first_seen, came);
    let ours = survey.things.iter().filter(|one| one.path.as_bytes() == b"/tmp/ours");
    let ours: Vec<_> = ours.map(|one| (one.first_seen, one.gone_at)).collect();
    assert!(ours.contains(&(came, None)), "{ours:?}");
    assert!(ours.contains(&(FirstSeen::AtTheFirstLook, Some(utc(200)))), "{ours:?}");
    std::fs::remove_file(machine.at("dev/shm/payload")).unwrap();
    let survey = machine.survey_of(300, Wanted::Since(utc(300)));
    assert_eq!(thing(&survey, "/dev/shm/payload", "").gone_at, Some(utc(300)));
}

#[test]
fn what_comes_and_goes_there_takes_no_room_from_the_rest() {
    let machine = Machine::new();
    machine.write("etc/cron.daily/goes", "goes");
    for number in 0..600 {
        machine.write(format!("etc/cron.daily/{number}"), "comes");
    }
    let _ = machine.survey(1);
    std::fs::remove_file(machine.at("etc/cron.daily/goes")).unwrap();
    // Twenty builds, one after the other, in each of the three.
    for second in 2..22 {
        for place in ["tmp", "var/tmp", "dev/shm"] {
            let _ = std::fs::remove_dir_all(machine.at(place));
            for number in 0..limits::DROPPED_THINGS {
                machine.program(format!("{place}/{second}-{number}"));
            }
        }
        let _ = machine.survey(second);
    }
    let kept = std::fs::metadata(machine.memory().join("memory")).unwrap().len();
    println!("{kept} bytes are remembered");
    let survey = machine.survey(99);
    let (dropped, others): (Vec<_>, Vec<_>) =
        survey.things.iter().partition(|one| one.kind == ThingKind::DroppedProgram);
    assert_eq!(dropped.len(), MOST_DROPPED);
    assert!(dropped.iter().all(|one| one.gone_at.is_none()), "those that are there come first");
    // With the two accounts, all else that there is or was.
    assert!(others.len() > 500, "{}", others.len());
    let survey = machine.survey_of(100, Wanted::Since(utc(2)));
    let gone = thing(&survey, "/etc/cron.daily/goes", "");
    assert_eq!(gone.gone_at, Some(utc(2)), "remembered for all that");
    // It is said that not all is told, in words that stay.
    let is_said = |one: &&Unread| one.why.starts_with("more programs came and went");
    let said: Vec<_> = survey.unread.iter().filter(is_said).collect();
    assert_eq!(said.len(), 1, "{:#?}", survey.unread);
    assert!(!said[0].why.contains(|c: char| c.is_ascii_digit()), "{}", said[0].why);
    assert_eq!(survey.of as usize, survey.things.len(), "of the others all were told");
}

#[test]
fn what_lay_there_before_an_earlier_version_looked_is_not_new() {
    let machine = Machine::new();
    machine.program("tmp/old");
    machine.write("etc/rc.local", "old");
    let _ = machine.survey(1);
    // As an earlier version remembered it: without what it knew nothing of.
    let kept = machine.memory().join("memory");
    let bytes = std::fs::read(&kept).unwrap();
    let mut memory: ciborium::Value = ciborium::from_reader(&bytes[..bytes.len() - 32]).unwrap();
    let fields = memory.as_map_mut().unwrap();
    fields.retain(|(name, _)| name.as_text() != Some("dropped"));
    let is_things = |(name, _): &&mut (ciborium::Value, _)| name.as_text() == Some("things");
    let (_, things) = fields.iter_mut().find(is_things).unwrap();
    things
        .as_array_mut()
        .unwrap()
        .retain(|thing| !format!("{thing:?}").contains("dropped-program"));
    let mut bytes = Vec::new();
    ciborium::into_writer(&memory, &mut bytes).unwrap();
    bytes.extend_from_slice(&sha2::Sha256::digest(&bytes));
    std::fs::write(&kept, &bytes).unwrap();

    machine.write("etc/inittab", "new");
    let survey = machine.survey(2);
    assert_eq!(survey.known_since, utc(1), "the rest is remembered");
    assert_eq!(thing(&survey, "/tmp/old", "").first_seen, FirstSeen::AtTheFirstLook);
    assert!(thing(&survey, "/etc/inittab", "").came_after(utc(1)));
    let said = machine.survey_of(3, Wanted::Since(utc(1))).unread;
    assert!(said.iter().any(|one| one.path.as_bytes() == b"/tmp"), "{said:#?}");
    machine.program("tmp/new");
    assert!(thing(&machine.survey(4), "/tmp/new", "").came_after(utc(3)));
}

#[test]
fn a_filesystem_there_that_others_answer_for_is_not_entered_and_the_rest_is_read() {
    let machine = Machine::new();
    machine.program("tmp/x");
    machine.program("tmp/mounted/x");
    let looked = look(&machine.root(), with_mount(&machine, "tmp/mounted", "fuse.sshfs"));
    assert_eq!(dropped(&looked), ["/tmp/x"]);
    assert!(why_missed(&looked, "/tmp/mounted").unwrap().contains("fuse.sshfs"));
    let looked = look(&machine.root(), with_mount(&machine, "tmp", "nfs4"));
    assert_eq!(dropped(&looked), [""; 0]);
    assert!(why_missed(&looked, "/tmp").unwrap().contains("nfs4"));
}

#[test]
fn a_filesystem_that_was_mounted_there_a_moment_ago_is_asked_nothing() {
    if cordon_tests::lacks_root("mounting a file system that hangs") {
        return;
    }
    if !Path::new("/dev/fuse").exists() {
        cordon_tests::cannot_be_had("a file system that hangs needs /dev/fuse");
        return;
    }
    use std::os::fd::AsRawFd as _;
    let machine = Machine::new();
    machine.program("tmp/x");
    std::fs::create_dir_all(machine.at("tmp/mounted")).unwrap();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let before = mounts().unwrap();
    let fuse = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
    let flags = nix::mount::MsFlags::empty();
    let mounted = machine.at("tmp/mounted");
    nix::mount::mount(Some("dead"), &mounted, Some("fuse"), flags, Some(&*options)).unwrap();
    let began = Instant::now();
    let look = look(&machine.root(), before);
    assert!(began.elapsed() < limits::PATIENCE, "nobody waited");
    assert_eq!(dropped(&look), ["/tmp/x"]);
    assert!(why_missed(&look, "/tmp/mounted").unwrap().contains("mounted just now"));
}
