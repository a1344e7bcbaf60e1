//! Whatever an attacker leaves there, against an oracle: the same question, answered by the standard library, with no
//! bound and no haste.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use cordon_model::action::FilePath;
use cordon_model::survey::PLACE_BYTES;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

const PLACES: [&str; 3] = ["tmp", "var/tmp", "dev/shm"];
/// Folders below a place that are looked into, and the place itself.
const LEVELS: usize = 4;

/// What is put somewhere.
#[derive(Debug, Clone, Copy)]
enum What {
    File {
        begins: &'static [u8],
        mode: u32,
    },
    Huge,
    Folder,
    LinkTo(&'static str),
    /// Of what was put there last.
    HardLink,
    Pipe,
    Socket,
}

/// Where, and what. With which number it is made, so that no two files hold the same by chance.
#[derive(Debug, Clone)]
struct Put {
    place: usize,
    way: Vec<OsString>,
    what: What,
    holds: u8,
}

fn any_name() -> impl Strategy<Value = OsString> {
    let bytes = prop_oneof![
        6 => "[abc]".prop_map(String::into_bytes),
        1 => Just(b"\n\x1b[2J\r".to_vec()),
        1 => Just(b"\xff\xfe".to_vec()),
        1 => Just(b" ' \"$(reboot)`".to_vec()),
        2 => (0..3_u8, 200..=255_usize).prop_map(|(letter, long)| vec![b'x' + letter; long]),
        2 => prop::collection::vec(any::<u8>(), 1..40),
    ];
    let plain = |name: &Vec<u8>| {
        !name.contains(&0) && !name.contains(&b'/') && name != b"." && name != b".."
    };
    bytes.prop_filter("a name", plain).prop_map(OsString::from_vec)
}

fn any_what() -> impl Strategy<Value = What> {
    let begins = prop_oneof![
        Just(ELF),
        Just(&b"#!"[..]),
        Just(&b"text"[..]),
        Just(&b"#"[..]),
        Just(&b""[..])
    ];
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o001), Just(0o6755), Just(0o000)];
    let target = prop_oneof![
        Just("a"),
        Just(".."),
        Just("../../etc/passwd"),
        Just("/"),
        Just("/dev/zero"),
        Just("nowhere")
    ];
    prop_oneof![
        10 => (begins, mode).prop_map(|(begins, mode)| What::File { begins, mode }),
        2 => Just(What::Huge),
        2 => Just(What::Folder),
        2 => target.prop_map(What::LinkTo),
        1 => Just(What::HardLink),
        1 => Just(What::Pipe),
        1 => Just(What::Socket),
    ]
}

fn any_puts(most: usize) -> impl Strategy<Value = Vec<Put>> {
    let put = (0..3_usize, prop::collection::vec(any_name(), 1..7), any_what(), any::<u8>());
    let put = put.prop_map(|(place, way, what, holds)| Put { place, way, what, holds });
    prop::collection::vec(put, 0..most)
}

/// Does it, as far as what is there already lets it.
fn put(machine: &Machine, puts: &[Put]) {
    let mut last: Option<PathBuf> = None;
    for (number, one) in puts.iter().enumerate() {
        let path = one.way.iter().fold(machine.at(PLACES[one.place]), |path, name| path.join(name));
        let Some(folder) = path.parent() else { continue };
        // Over no link, which could lead out of the tree.
        let is_led = folder.ancestors().any(|above| above.is_symlink());
        if is_led || std::fs::create_dir_all(folder).is_err() || path.is_symlink() {
            continue;
        }
        let is_done = match one.what {
            What::File { begins, mode } => {
                let text = match begins {
                    b"" => Vec::new(),
                    _ => [begins, &[one.holds], number.to_string().as_bytes()].concat(),
                };
                let is_free = !path.exists() || path.is_file();
                is_free
                    && std::fs::write(&path, text).is_ok()
                    && std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                        .is_ok()
            }
            What::Huge => {
                (!path.exists() || path.is_file())
                    && std::fs::write(&path, ELF).is_ok()
                    && std::fs::File::options()
                        .write(true)
                        .open(&path)
                        .is_ok_and(|file| file.set_len(limits::FILE_BYTES + 1).is_ok())
            }
            What::Folder => std::fs::create_dir(&path).is_ok(),
            What::LinkTo(target) => symlink(target, &path).is_ok(),
            What::HardLink => {
                last.as_ref().is_some_and(|last| std::fs::hard_link(last, &path).is_ok())
            }
            What::Pipe => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).is_ok(),
            What::Socket => std::os::unix::net::UnixListener::bind(&path).is_ok(),
        };
        if is_done && path.is_file() && !path.is_symlink() {
            last = Some(path);
        }
    }
}

/// What lies there.
#[derive(Debug, Default)]
struct Truth {
    /// Programs, with what they hold and whose they are.
    programs: BTreeMap<Vec<u8>, ([u8; 32], u32)>,
    /// Programs that are larger than is read.
    huge: BTreeSet<Vec<u8>>,
    /// Folders in which something has too long a path.
    too_long: BTreeSet<Vec<u8>>,
    /// Places in which something lies too deep.
    too_deep: BTreeSet<Vec<u8>>,
}

impl Truth {
    fn of(machine: &Machine) -> Self {
        let mut truth = Self::default();
        for place in PLACES {
            truth.folder(machine, &machine.at(place), &shown(machine, &machine.at(place)), 1);
        }
        truth
    }

    fn folder(&mut self, machine: &Machine, folder: &Path, place: &[u8], level: usize) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            let status = std::fs::symlink_metadata(&path).unwrap();
            let name = shown(machine, &path);
            let is_something = match status.is_dir() {
                true => std::fs::read_dir(&path).unwrap().next().is_some(),
                false => status.is_file() && is_program(&path, &status),
            };
            if !is_something {
                continue;
            }
            if name.len() > PLACE_BYTES {
                self.too_long.insert(shown(machine, folder));
            } else if status.is_dir() && level < LEVELS {
                self.folder(machine, &path, place, level + 1);
            } else if status.is_dir() {
                self.too_deep.insert(place.to_vec());
            } else if status.len() > limits::FILE_BYTES {
                self.huge.insert(name);
            } else {
                let sha256 = Sha256::digest(std::fs::read(&path).unwrap()).into();
                self.programs.insert(name, (sha256, status.uid()));
            }
        }
    }
}

fn is_program(path: &Path, status: &std::fs::Metadata) -> bool {
    use std::io::Read as _;
    let mut beginning = Vec::new();
    std::fs::File::open(path).unwrap().take(4).read_to_end(&mut beginning).unwrap();
    let begins = beginning == *b"\x7fELF" || beginning.starts_with(b"#!");
    status.len() > 0 && (begins || status.mode() & 0o111 != 0)
}

/// As the machine knows it.
fn shown(machine: &Machine, path: &Path) -> Vec<u8> {
    let below = path.strip_prefix(machine.root()).unwrap();
    [b"/", below.as_os_str().as_bytes()].concat()
}

fn told(
    things: impl Iterator<Item = (ThingKind, FilePath, [u8; 32], u32)>,
) -> BTreeMap<Vec<u8>, ([u8; 32], u32)> {
    let dropped = things.filter(|(kind, ..)| *kind == ThingKind::DroppedProgram);
    dropped.map(|(_, path, sha256, owner)| (path.as_bytes().to_vec(), (sha256, owner))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// A look tells each program and nothing else, and says of all else what it could not read.
    #[test]
    fn a_look_is_what_the_oracle_says(puts in any_puts(40)) {
        let machine = Machine::new();
        put(&machine, &puts);
        let (look, truth) = (machine.look(), Truth::of(&machine));
        let present = look.present.iter().map(|one| (one.kind, one.path.clone(), one.sha256, one.owner));
        prop_assert_eq!(&told(present), &truth.programs);
        // As many as are named are few enough here to be named all.
        let missed = |has: &str| -> BTreeSet<Vec<u8>> {
            let missed = look.missed.iter().filter(|one| one.why.contains(has));
            missed.map(|one| one.path.as_bytes().to_vec()).collect()
        };
        let is_cut = !missed("than are named").is_empty();
        prop_assert!(is_cut || missed("at most") == truth.huge, "{:?} {:?}", look.missed, truth);
        prop_assert!(is_cut || missed("something below") == truth.too_long, "{:?} {:?}", look.missed, truth);
        prop_assert_eq!(missed("levels below"), truth.too_deep);
        prop_assert_eq!(look.unread.len(), truth.huge.len());
    }

    /// Of two looks: what came is new, what was there is not, what is gone is gone; and of what could not be read at
    /// either nothing is said.
    #[test]
    fn what_came_between_two_looks_is_what_the_oracle_says(
        before in any_puts(25),
        between in any_puts(25),
        goes in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let machine = Machine::new();
        put(&machine, &before);
        let _ = machine.survey(100);
        let then = Truth::of(&machine);
        let names: Vec<&Vec<u8>> = then.programs.keys().chain(&then.huge).collect();
        for index in goes {
            if !names.is_empty() {
                let name = OsStr::from_bytes(&names[index.index(names.len())][1..]);
                let _ = std::fs::remove_file(machine.root().join(name));
            }
        }
        put(&machine, &between);
        let (survey, now) = (machine.survey(200), Truth::of(&machine));
        let is_there = |thing: &&Thing| thing.gone_at.is_none();
        let things: Vec<&Thing> = survey.things.iter().filter(is_there).collect();
        let dropped: Vec<&&Thing> =
            things.iter().filter(|thing| thing.kind == ThingKind::DroppedProgram).collect();
        for thing in &dropped {
            let path = thing.path.as_bytes();
            let was = then.programs.get(path);
            let is_as_it_was = was.is_some_and(|(sha256, _)| *sha256 == thing.sha256);
            match now.programs.get(path) {
                Some((sha256, _)) => prop_assert_eq!(*sha256, thing.sha256),
                // It can't be read any more, and is not gone for that.
                None => prop_assert!(now.huge.contains(path) && is_as_it_was, "{:?}", thing),
            }
            let is_new = !is_as_it_was && !then.huge.contains(path);
            prop_assert_eq!(thing.came_after(utc(100)), is_new, "{:?}", thing);
        }
        let there = dropped.iter().map(|one| (one.kind, one.path.clone(), one.sha256, one.owner));
        let there = told(there);
        for (path, program) in &now.programs {
            prop_assert_eq!(there.get(path), Some(program));
        }
        for (path, (sha256, _)) in &then.programs {
            let is_gone = now.programs.get(path).is_none_or(|(now, _)| now != sha256) && !now.huge.contains(path);
            let is_it = |thing: &&Thing| thing.path.as_bytes() == path && thing.sha256 == *sha256;
            let thing = survey.things.iter().find(is_it);
            let gone_at = thing.and_then(|thing| thing.gone_at);
            prop_assert!(thing.is_some(), "{:?} is remembered", path);
            prop_assert_eq!(gone_at, is_gone.then_some(utc(200)));
        }
    }
}
