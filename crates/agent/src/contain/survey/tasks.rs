//! What one look reads: every place, as it lies on this machine with its accounts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use cordon_model::action::FilePath;

use super::keys_files::{self, KeysFiles, below_root};
use super::limits;
use super::lines::{Account, accounts};
use super::memory::{Hides, Missed};
use super::places::{AT_HOME, AT_RUN, KEYS, OF_THE_SYSTEM, OPEN_TO_ALL, PASSWD, Place};
use super::read::{Files, Task};
use crate::contain::action::account::other_sources;
use crate::contain::action::mounts::Mount;

/// What is to be read, and what is known already not to be.
#[derive(Debug)]
pub(in crate::contain) struct Plan {
    pub(super) files: Files,
    pub(in crate::contain) tasks: Vec<Task>,
    /// The places where anybody may write.
    pub(super) dropped: Vec<Task>,
    pub(super) missed: Vec<Missed>,
}

impl Plan {
    /// For the machine whose file system begins at `root`.
    pub(in crate::contain) fn of(root: &Path, mounts: Vec<Mount>) -> Self {
        let files = Files { root: root.to_owned(), mounts, looked_at: HashSet::new() };
        let dropped = OPEN_TO_ALL.iter().map(|place| Task {
            places: vec![(place, root.join(place.path))],
            things: limits::DROPPED_THINGS,
            bytes: limits::DROPPED_BYTES,
            home: None,
        });
        let dropped = dropped.collect();
        let mut plan = Self { files, tasks: Vec::new(), dropped, missed: Vec::new() };
        for place in OF_THE_SYSTEM {
            plan.task(
                vec![(place, root.join(place.path))],
                limits::PLACE_THINGS,
                limits::PLACE_BYTES,
            );
        }
        plan.homes();
        for (_, path) in plan.tasks.iter().flat_map(|task| &task.places) {
            plan.files.looked_at.insert(path.clone());
        }
        plan
    }

    fn task(&mut self, places: Vec<(&'static Place, PathBuf)>, things: usize, bytes: u64) {
        self.tasks.push(Task { places, things, bytes, home: None });
    }

    /// What could not be looked at, though it hides nothing that was looked at before.
    fn beyond(&mut self, below: &str, why: impl Into<String>) {
        let missed = self.files.missed(&self.files.root.join(below), why);
        self.missed.push(Missed { hides: Hides::Nothing, ..missed });
    }

    fn homes(&mut self) {
        let passwd = match self.files.whole(PASSWD) {
            Ok(passwd) => passwd.unwrap_or_default(),
            // Nobody knows whose homes there are: nothing is concluded of anything.
            Err(why) => {
                let root = FilePath::new("/");
                let why = format!("the accounts in /{PASSWD} can't be read: {why}");
                return self.missed.push(Missed { path: root, why, hides: Hides::All });
            }
        };
        for (below, why) in self.other_accounts() {
            self.beyond(&below, why);
        }
        let keys = self.keys_files();
        for what in &keys.beyond {
            self.beyond(keys_files::MAIN, what.clone());
        }
        // Several accounts may share a home, as all of a system's own do with `/`.
        let mut homes: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        let mut users = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        for mut account in accounts(&passwd) {
            let Some(home) = below_root(&account.home) else {
                let why = format!("the home of {} is no plain path", name_of(&account));
                self.beyond(PASSWD, why);
                continue;
            };
            let home = behind_usr(&self.files.root, home);
            account.home = Path::new("/").join(&home);
            let (files, others) = keys.of_account(&account);
            homes.entry(home).or_default().extend(files);
            users.insert(account.uid);
            unknown.extend(others);
        }
        for pattern in unknown {
            let pattern = String::from_utf8_lossy(&pattern).into_owned();
            self.beyond(
                keys_files::MAIN,
                format!("keys are in {pattern}, which is not understood"),
            );
        }
        let root = self.files.root.clone();
        let mut left_out = BTreeSet::new();
        for (number, (home, keys)) in homes.into_iter().enumerate() {
            let home = root.join(home);
            if number >= limits::HOMES {
                left_out.insert(home.parent().unwrap_or(&root).to_owned());
                continue;
            }
            let mut places: Vec<_> =
                keys.into_iter().map(|file| (&KEYS, root.join(file))).collect();
            places.extend(AT_HOME.iter().map(|place| (place, home.join(place.path))));
            let (things, bytes) = (limits::HOME_THINGS, limits::HOME_BYTES);
            self.tasks.push(Task { places, things, bytes, home: Some(home) });
        }
        for folder in left_out {
            let why = format!("there are more than {} homes", limits::HOMES);
            let missed = self.files.missed(&folder, why);
            self.missed.push(missed);
        }
        for user in users.into_iter().take(limits::HOMES) {
            let folder = root.join(format!("run/user/{user}"));
            let places = AT_RUN.iter().map(|place| (place, folder.join(place.path))).collect();
            self.task(places, limits::HOME_THINGS, limits::HOME_BYTES);
        }
    }

    /// Accounts that are not in the local file: their homes are not known here.
    fn other_accounts(&self) -> Vec<(String, String)> {
        const SWITCH: &str = "etc/nsswitch.conf";
        let why = match self.files.whole(SWITCH) {
            Ok(switch) => {
                let others = other_sources(&switch.unwrap_or_default());
                if others.is_empty() {
                    return Vec::new();
                }
                let others = others.join(", ");
                format!(
                    "accounts also come from {others}, which is not asked: their homes are not known"
                )
            }
            Err(why) => why,
        };
        vec![(SWITCH.to_owned(), why)]
    }

    fn keys_files(&mut self) -> KeysFiles {
        let mut configurations = Vec::new();
        let mut names = vec![PathBuf::from(keys_files::MAIN)];
        names.extend(self.files.names(keys_files::MORE));
        for name in names {
            match self.files.whole(&name) {
                Ok(text) => configurations.extend(text),
                Err(why) => self.beyond(keys_files::MAIN, format!("{}: {why}", name.display())),
            }
        }
        KeysFiles::of(configurations.iter().map(Vec::as_slice))
    }
}

fn name_of(account: &Account) -> String {
    String::from_utf8_lossy(&account.name).into_owned()
}

/// Where a home lies on a machine with one `/usr`, where `/bin` is a link to `usr/bin` and the account `bin`
/// lives there. No other link is followed: these lie beside the root's own folders, so that asking for them
/// can't hang, and root alone puts them there.
fn behind_usr(root: &Path, home: PathBuf) -> PathBuf {
    const IN_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
    let Some(name) = IN_USR.into_iter().find(|name| home.starts_with(name)) else { return home };
    let in_usr = Path::new("usr").join(name);
    let leads_there = std::fs::read_link(root.join(name))
        .is_ok_and(|target| target == in_usr || target == Path::new("/").join(&in_usr));
    if leads_there { Path::new("usr").join(home) } else { home }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_in_bin_is_looked_for_where_usr_has_it_and_no_other_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, root.path().join(name)).unwrap();
        };
        link("usr/bin", "bin");
        link("/usr/sbin", "sbin");
        link("tmp/lib", "lib");
        link("usr/home", "home");
        let lies = |home: &str| behind_usr(root.path(), home.into()).to_str().unwrap().to_owned();
        assert_eq!(lies("bin"), "usr/bin");
        assert_eq!(lies("sbin/x"), "usr/sbin/x");
        for unchanged in ["lib", "lib64", "home/ann", "binary", "root"] {
            assert_eq!(lies(unchanged), unchanged);
        }
    }
}
