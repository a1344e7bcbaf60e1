//! Where is looked out: the survey's places, and the folders that have to be watched for them.
//!
//! The one idea: a place that is not there yet may come. So each folder on the way to a place is watched too, for
//! folders that are made in it; in a folder that files of a place lie in, what is done to the files is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cordon_model::ids::MeasureId;
use cordon_model::survey::ThingKind;

use crate::contain::survey::places::Place;

/// Below these the machine writes all the time while it runs, and forgets it at a restart.
const RESTLESS: &[&str] = &["run/systemd/transient", "run/systemd/generator", "run/user"];
/// How the files are called that Cordon's own measures hold for a moment: one of these, and the measure's id.
const OWN: [&str; 2] = [".cordon-put-back-", ".cordon-quarantine-"];

/// The places of one machine.
#[derive(Debug, Default)]
pub struct Spots {
    places: BTreeMap<PathBuf, &'static Place>,
    /// By folder: the names in it that lead to a place.
    ways: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// Folders in which a place is that is a file.
    with_files: BTreeSet<PathBuf>,
}

impl Spots {
    /// Of the machine whose file system begins at `root`.
    #[must_use]
    pub fn of(root: &Path, places: impl IntoIterator<Item = (&'static Place, PathBuf)>) -> Self {
        let mut spots = Self::default();
        for (place, path) in places {
            let below = path.strip_prefix(root).unwrap_or(&path);
            // By its letters: `generator.late` is as restless as `generator`.
            let is_restless =
                |one: &&&str| below.as_os_str().as_bytes().starts_with(one.as_bytes());
            if RESTLESS.iter().find(is_restless).is_some() {
                continue;
            }
            let mut inner = path.clone();
            while inner != *root && inner.starts_with(root) {
                let (Some(folder), Some(name)) = (inner.parent(), inner.file_name()) else { break };
                spots.ways.entry(folder.to_owned()).or_default().insert(name.to_owned());
                inner = folder.to_owned();
            }
            if let (0, Some(folder)) = (place.depth, path.parent()) {
                spots.with_files.insert(folder.to_owned());
            }
            // Of two at one path, the one that was first: they are of one kind.
            spots.places.entry(path).or_insert(place);
        }
        spots
    }

    /// What a thing at `path` is, if it is one that is looked out for.
    #[must_use]
    pub fn kind_of(&self, path: &Path) -> Option<ThingKind> {
        let name = path.file_name()?.as_bytes();
        if is_of_a_measure(name) {
            return None;
        }
        for (above, folder) in path.ancestors().enumerate().take(3) {
            if let Some(place) = self.places.get(folder)
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
        if self.is_place(path) || self.with_files.contains(path) {
            return Some(true);
        }
        self.ways.contains_key(path).then_some(false)
    }

    /// Whether all files in the folder are things.
    #[must_use]
    pub fn is_place(&self, path: &Path) -> bool {
        let depth = |path: &Path| self.places.get(path).map_or(0, |place| place.depth);
        depth(path) >= 1 || path.parent().is_some_and(|above| depth(above) >= 2)
    }

    /// The names in the folder that lead to a place.
    pub fn names_in<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        self.ways.get(path).into_iter().flatten().map(|name| path.join(name))
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
    use crate::contain::survey::places::OF_THE_SYSTEM;

    fn spots() -> Spots {
        let root = Path::new("/m");
        Spots::of(root, OF_THE_SYSTEM.iter().map(|place| (place, root.join(place.path))))
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
