//! Where is looked out: the survey's places, and the folders that have to be watched for them.
//!
//! The one idea: a place that is not there yet may come. So each folder on the way to a place is watched too, for
//! folders that are made in it; in a folder that files of a place lie in, what is done to the files is. What is the same
//! below each home is known once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cordon_model::ids::MeasureId;
use cordon_model::survey::ThingKind;

use crate::contain::action::mounts::Mount;
use crate::contain::survey::places::{AT_HOME, OF_THE_SYSTEM, Place};
use crate::contain::survey::tasks::Plan;

/// Below these the machine writes all the time while it runs, and forgets it at a restart.
const RESTLESS: &[&str] = &["run/systemd/transient", "run/systemd/generator", "run/user"];
/// How the files are called that Cordon's own measures hold for a moment: one of these, and the measure's id.
const OWN: [&str; 2] = [".cordon-put-back-", ".cordon-quarantine-"];

/// Whose things are: the system's, or those of one home. What one has too many of is lost by nobody else.
pub type Realm = u32;
/// The system's own places, and folders on the way to them.
pub const SYSTEM: Realm = 0;

/// Places by where they are, the folders on the way to them, and those that they are files in.
#[derive(Debug, Default)]
struct Table {
    places: BTreeMap<PathBuf, &'static Place>,
    /// By folder: the names in it that lead to a place.
    ways: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// Folders in which a place is that is a file.
    with_files: BTreeSet<PathBuf>,
}

impl Table {
    /// Adds a place below `root`. Of two at one path, the one that was first: they are of one kind.
    fn add(&mut self, root: &Path, place: &'static Place, path: PathBuf) {
        self.lead_to(root, &path);
        if let (0, Some(folder)) = (place.depth, path.parent()) {
            self.with_files.insert(folder.to_owned());
        }
        self.places.entry(path).or_insert(place);
    }

    fn lead_to(&mut self, root: &Path, path: &Path) {
        let mut inner = path;
        while inner != root && inner.starts_with(root) {
            let (Some(folder), Some(name)) = (inner.parent(), inner.file_name()) else { break };
            if !self.ways.entry(folder.to_owned()).or_default().insert(name.to_owned()) {
                break;
            }
            inner = folder;
        }
    }
}

/// What is the same below every home. It stands in memory once, however many homes there are.
static BELOW_A_HOME: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    for place in AT_HOME {
        table.add(Path::new(""), place, place.path.into());
    }
    table
});

/// The places of one machine.
#[derive(Debug, Default)]
pub struct Spots {
    /// All that are not in [`BELOW_A_HOME`], and the ways to the homes.
    table: Table,
    /// The homes, each with its number; [`SYSTEM`] if a place of the system's is in it.
    homes: BTreeMap<PathBuf, Realm>,
}

impl Spots {
    /// Of the machine whose file system begins at `root`: with the home that each place is in.
    #[must_use]
    pub fn of(
        root: &Path,
        places: impl IntoIterator<Item = (Option<PathBuf>, &'static Place, PathBuf)>,
    ) -> Self {
        let mut table = Table::default();
        let mut homes = BTreeSet::new();
        for (home, place, path) in places {
            let below = path.strip_prefix(root).unwrap_or(&path);
            // By its letters: `generator.late` is as restless as `generator`.
            let is_restless =
                |one: &&&str| below.as_os_str().as_bytes().starts_with(one.as_bytes());
            if RESTLESS.iter().find(is_restless).is_some() {
                continue;
            }
            let Some(home) = home else {
                table.add(root, place, path);
                continue;
            };
            let in_home = path.strip_prefix(&home).ok();
            if !in_home.is_some_and(|below| BELOW_A_HOME.places.contains_key(below)) {
                table.add(root, place, path);
            }
            table.lead_to(root, &home);
            homes.insert(home);
        }
        let is_systems =
            |home: &Path| OF_THE_SYSTEM.iter().any(|place| root.join(place.path).starts_with(home));
        let mut next = SYSTEM;
        let homes = homes.into_iter().map(|home| {
            let realm = if is_systems(&home) { SYSTEM } else { next + 1 };
            next = next.max(realm);
            (home, realm)
        });
        Self { homes: homes.collect(), table }
    }

    /// Of the machine whose file system begins at `root`, as its accounts are now.
    #[must_use]
    pub fn of_machine(root: &Path, mounts: Vec<Mount>) -> Self {
        let plan = Plan::of(root, mounts);
        let places = plan.tasks.into_iter().flat_map(|task| {
            let home = task.home;
            task.places.into_iter().map(move |(place, path)| (home.clone(), place, path))
        });
        Self::of(root, places)
    }

    /// With the places that were looked out for before, so that none is ever looked at as a new one that was known. The
    /// homes of before keep their numbers. Places beyond `most` are not taken over; whether all were.
    #[must_use]
    pub fn keeping(mut self, before: &Self, most: usize) -> (Self, bool) {
        let mut next = before.homes.values().max().map_or(SYSTEM, |last| *last) + 1;
        for (home, realm) in self.homes.iter_mut().filter(|(_, realm)| **realm != SYSTEM) {
            *realm = before.homes.get(home).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
        }
        let (now, more) = (&self.table.places, &before.table.places);
        let more = more.keys().filter(|path| !now.contains_key(*path)).count();
        let homes = before.homes.keys().filter(|home| !self.homes.contains_key(*home)).count();
        let places = now.len() + more + (self.homes.len() + homes) * AT_HOME.len();
        if places > most {
            return (self, false);
        }
        for (path, place) in &before.table.places {
            self.table.places.entry(path.clone()).or_insert(place);
        }
        for (folder, names) in &before.table.ways {
            self.table.ways.entry(folder.clone()).or_default().extend(names.iter().cloned());
        }
        self.table.with_files.extend(before.table.with_files.iter().cloned());
        for (home, realm) in &before.homes {
            self.homes.entry(home.clone()).or_insert(*realm);
        }
        (self, true)
    }

    /// The homes that `path` is in, or is, each with the way from there.
    fn in_homes<'a>(&self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        let homes = path.ancestors().filter(|folder| self.homes.contains_key(*folder));
        homes.filter_map(move |home| path.strip_prefix(home).ok())
    }

    /// The place that is at this very path.
    fn place_at(&self, path: &Path) -> Option<&'static Place> {
        let here = self.table.places.get(path).copied();
        here.or_else(|| {
            self.in_homes(path).find_map(|below| BELOW_A_HOME.places.get(below).copied())
        })
    }

    /// Whose the thing or folder at `path` is.
    #[must_use]
    pub fn realm_of(&self, path: &Path) -> Realm {
        path.ancestors().find_map(|folder| self.homes.get(folder)).copied().unwrap_or(SYSTEM)
    }

    /// How many places are of no home, and how many homes there are in which no place of the system's is.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.table.places.len(), self.realms().count())
    }

    /// The home with this number.
    #[must_use]
    pub fn home(&self, realm: Realm) -> Option<&Path> {
        let is_it = |(_, other): &(&PathBuf, &Realm)| **other == realm && realm != SYSTEM;
        self.homes.iter().find(is_it).map(|(home, _)| home.as_path())
    }

    /// The numbers of all homes.
    pub fn realms(&self) -> impl Iterator<Item = Realm> {
        self.homes.values().copied().filter(|realm| *realm != SYSTEM)
    }

    /// What a thing at `path` is, if it is one that is looked out for.
    #[must_use]
    pub fn kind_of(&self, path: &Path) -> Option<ThingKind> {
        let name = path.file_name()?.as_bytes();
        if is_of_a_measure(name) {
            return None;
        }
        for (above, folder) in path.ancestors().enumerate().take(3) {
            if let Some(place) = self.place_at(folder)
                && (above == place.depth || (above > 0 && above < place.depth))
                && (above == 0 || place.takes(name))
            {
                return Some(place.kind);
            }
        }
        None
    }

    /// Whether the folder at `path` is to be watched; and then, whether for the files in it too.
    #[must_use]
    pub fn watches(&self, path: &Path) -> Option<bool> {
        let of_home = |is: fn(&Table, &Path) -> bool| {
            self.in_homes(path).any(|below| is(&BELOW_A_HOME, below))
        };
        let holds_files = |table: &Table, path: &Path| table.with_files.contains(path);
        let leads_on = |table: &Table, path: &Path| table.ways.contains_key(path);
        if self.is_place(path) || holds_files(&self.table, path) || of_home(holds_files) {
            return Some(true);
        }
        (leads_on(&self.table, path) || of_home(leads_on)).then_some(false)
    }

    /// Whether all files in the folder are things.
    #[must_use]
    pub fn is_place(&self, path: &Path) -> bool {
        let depth = |path: &Path| self.place_at(path).map_or(0, |place| place.depth);
        depth(path) >= 1 || path.parent().is_some_and(|above| depth(above) >= 2)
    }

    /// The names in the folder that lead to a place.
    pub fn names_in<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        let names = self.table.ways.get(path).into_iter();
        let of_home = self.in_homes(path).filter_map(|below| BELOW_A_HOME.ways.get(below));
        names.chain(of_home).flatten().map(|name| path.join(name))
    }
}

/// Whether a measure calls a file so. Any other name that only begins like it is somebody's hiding place.
fn is_of_a_measure(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let id = OWN.iter().find_map(|begin| name.strip_prefix(begin));
    id.is_some_and(|id| id.parse::<MeasureId>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots() -> Spots {
        with_homes(&[])
    }

    fn with_homes(homes: &[&str]) -> Spots {
        let root = Path::new("/m");
        let systems = OF_THE_SYSTEM.iter().map(|place| (None, place, root.join(place.path)));
        let at_home = homes.iter().flat_map(|home| {
            let home = root.join(home);
            AT_HOME.iter().map(move |place| (Some(home.clone()), place, home.join(place.path)))
        });
        Spots::of(root, systems.chain(at_home))
    }

    #[test]
    fn a_home_keeps_its_number_and_its_places_when_it_is_none_any_more() {
        let spots = with_homes(&["home/ann", "home/bob", "", "etc"]);
        let realm = |spots: &Spots, path: &str| spots.realm_of(Path::new(path));
        let ann = realm(&spots, "/m/home/ann/.config/autostart/x");
        assert_ne!(ann, SYSTEM);
        assert_ne!(ann, realm(&spots, "/m/home/bob/.profile"));
        for systems in ["/m/etc/crontab", "/m/home", "/m/.profile", "/m/etc/.profile"] {
            assert_eq!(realm(&spots, systems), SYSTEM, "{systems}");
        }
        let (later, is_all) = with_homes(&["home/aaron"]).keeping(&spots, 10_000);
        assert!(is_all && realm(&later, "/m/home/ann") == ann);
        assert!(later.kind_of(Path::new("/m/home/ann/.bashrc")).is_some());
        let all: BTreeSet<_> = later.realms().collect();
        assert_eq!(all.len(), 3, "no number is two homes'");
        assert!(!with_homes(&["home/eve"]).keeping(&spots, 10).1);
    }

    #[test]
    fn a_thing_is_known_by_its_place_and_nothing_else_is() {
        let spots = spots();
        let kind = |path: &str| spots.kind_of(Path::new(path));
        assert_eq!(kind("/m/etc/crontab"), Some(ThingKind::CronLine));
        assert_eq!(kind("/m/etc/cron.d/x"), Some(ThingKind::CronLine));
        assert_eq!(kind("/m/etc/cron.d/.cordon-x"), Some(ThingKind::CronLine), "a hiding place");
        assert_eq!(kind("/m/etc/systemd/system/x.service"), Some(ThingKind::Unit));
        assert_eq!(kind("/m/etc/systemd/system/x.service.d/y.conf"), Some(ThingKind::Unit));
        for other in [
            "/m/etc/hosts",
            "/m/etc/cron.d/a/b",
            "/m/etc/cron.d/.cordon-quarantine-01a3185c-8118-794e-80fa-8d0aa8e3155c",
            "/m/etc/systemd/system/a/b/c",
            "/m/run/systemd/generator/x.service",
            "/etc/crontab",
            "/",
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn below_each_home_the_same_is_looked_out_for_and_beside_it_nothing() {
        let spots = with_homes(&["home/ann", "home/ann/inner", "srv/bob", ""]);
        for home in ["/m", "/m/home/ann", "/m/home/ann/inner", "/m/srv/bob"] {
            let at = |below: &str| Path::new(home).join(below);
            assert_eq!(spots.kind_of(&at(".bashrc")), Some(ThingKind::ShellProfile), "{home}");
            assert_eq!(spots.kind_of(&at(".config/autostart/x")), Some(ThingKind::Autostart));
            let unit = at(".config/systemd/user/default.target.wants/x.service");
            assert_eq!(spots.kind_of(&unit), Some(ThingKind::Unit));
            assert_eq!(spots.kind_of(&at(".config/x")), None);
            let folders = ["", ".config", ".config/autostart", ".config/fish", ".local"];
            let watched = folders.map(|folder| spots.watches(&at(folder)));
            assert_eq!(watched, [Some(true), Some(false), Some(true), Some(true), Some(false)]);
            let names: Vec<_> = spots.names_in(&at("")).collect();
            assert!(names.contains(&at(".bashrc")) && names.contains(&at(".config")), "{names:?}");
        }
        let on_the_way: Vec<_> = spots.names_in(Path::new("/m/srv")).collect();
        assert_eq!(on_the_way, [Path::new("/m/srv/bob")]);
        let inner = Path::new("/m/home/ann/inner");
        assert!(spots.names_in(Path::new("/m/home/ann")).any(|path| path == inner));
        for beside in ["/m/home/.bashrc", "/m/home/eve/.bashrc", "/m/srv/.config/autostart/x"] {
            assert_eq!(spots.kind_of(Path::new(beside)), None, "{beside}");
        }
        assert_eq!(spots.watches(Path::new("/m/home/eve")), None);
    }

    #[test]
    fn each_folder_on_the_way_is_watched_and_only_where_files_count_for_files() {
        let spots = spots();
        let watches = |path: &str| spots.watches(Path::new(path));
        assert_eq!(watches("/m"), Some(false));
        assert_eq!(watches("/m/etc"), Some(true), "crontab is in it");
        assert_eq!(watches("/m/etc/systemd"), Some(false));
        assert_eq!(watches("/m/etc/systemd/system"), Some(true));
        assert_eq!(watches("/m/etc/systemd/system/a.service.d"), Some(true));
        assert_eq!(watches("/m/etc/systemd/system/a.service.d/x"), None);
        assert_eq!(watches("/m/home"), None);
        let mut names = spots.names_in(Path::new("/m/etc/systemd"));
        assert!(names.any(|path| path == Path::new("/m/etc/systemd/system")));
    }
}
