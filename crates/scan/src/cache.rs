//! Compiled rules, kept between scans in the user's own cache directory.
//!
//! The one idea: a kept set is used only if it was surely made by this user and this program from exactly these
//! rules. Its name is the hash of all that it was compiled from; it lies in a directory, as a file, that only
//! its owner writes, and has a checksum. Whatever is otherwise, whoever did it and be it only torn, is as if it
//! weren't there: the rules are compiled, as without a cache.

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cordon_detect::stored::{FORMAT, Stored};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::{fs, process};
use sha2::{Digest as _, Sha256};

/// The first bytes of a kept set.
const MAGIC: &[u8; 8] = b"CORDON1\n";
/// Before the set: those, the key, and the checksum of key and set.
const HEAD: usize = MAGIC.len() + 32 + 32;
/// The largest file that is read: all of SigmaHQ takes about 15 MB.
const MOST_BYTES: u64 = 256 << 20;
/// How many sets are kept: the built-in pack, and three more. The oldest goes.
const KEPT: usize = 4;

/// What a set was compiled from, as a hash: the version of the engine, what was asked of the compiler, each
/// text with where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of these texts, each with its origin, in this order.
    pub(crate) fn of(with_withdrawn: bool, texts: &[(String, impl AsRef<str>)]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(MAGIC);
        hasher.update(FORMAT);
        hasher.update([u8::from(with_withdrawn)]);
        for (origin, text) in texts {
            for part in [origin, text.as_ref()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        Self(hasher.finalize().into())
    }

    fn file_name(self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{digits}.rules")
    }

    fn checksum(self, set: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(set).finalize().into()
    }
}

/// Where compiled rules are kept.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: OwnedFd,
}

impl Cache {
    /// This user's; none where no place for one is known.
    ///
    /// # Errors
    /// Why the place is not used, for people.
    pub(crate) fn of_this_user() -> Result<Option<Self>, String> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let named = absolute("XDG_CACHE_HOME");
        let base = named.or_else(|| Some(absolute("HOME")?.join(".cache")));
        let base = if process::geteuid().is_root() { Some(of_root(base)) } else { base };
        base.map(|base| Self::below(&base)).transpose()
    }

    /// The one below a user's directory of caches, made if it isn't there.
    pub(crate) fn below(base: &Path) -> Result<Self, String> {
        let shown = base.display();
        // What can't be made can't be opened either, and that says why.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(base);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = |error: rustix::io::Errno| format!("{shown} can't be used: {error}");
        let mut folder = fs::open(base, flags, Mode::empty()).map_err(opened)?;
        of_this_user_alone(&folder).map_err(|why| format!("{shown} {why}"))?;
        for name in ["cordon", "rules"] {
            let _ = fs::mkdirat(&folder, name, Mode::RWXU);
            folder = fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(opened)?;
            of_this_user_alone(&folder).map_err(|why| format!("{name} in {shown} {why}"))?;
        }
        Ok(Self { folder })
    }

    /// The set that was kept under `key`, if it can be trusted.
    pub(crate) fn read(&self, key: Key) -> Option<Stored> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.folder, key.file_name(), flags, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let is_private = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_uid == process::geteuid().as_raw()
            && stat.st_mode & 0o177 == 0
            && stat.st_nlink == 1;
        if !is_private || u64::try_from(stat.st_size).is_ok_and(|bytes| bytes > MOST_BYTES) {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).ok()? + 1);
        File::from(file).take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        let (head, set) = bytes.split_at_checked(HEAD)?;
        if *head != *Self::head(key, set) {
            return None;
        }
        Stored::from_bytes(set)
    }

    /// Keeps a set under `key`. That it can't be kept stops nothing.
    pub(crate) fn write(&self, key: Key, set: &[u8]) {
        let name = key.file_name();
        // Of one process, and moved into place whole.
        let unfinished = format!("{name}.{}", std::process::id());
        let written = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = fs::openat(&self.folder, &unfinished, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(file);
            file.write_all(&Self::head(key, set))?;
            file.write_all(set)?;
            Ok(fs::renameat(&self.folder, &unfinished, &self.folder, &name)?)
        };
        if written().is_err() {
            let _ = fs::unlinkat(&self.folder, &unfinished, AtFlags::empty());
        }
        self.forget_oldest();
    }

    fn head(key: Key, set: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &key.0, &key.checksum(set)].concat()
    }

    /// Removes all sets but the newest [`KEPT`], and what was never finished.
    fn forget_oldest(&self) {
        let Ok(entries) = fs::Dir::read_from(&self.folder) else { return };
        let mut files: Vec<(SystemTime, Vec<u8>)> = entries
            .flatten()
            .map(|entry| entry.file_name().to_bytes().to_vec())
            .filter(|name| name.windows(6).any(|part| part == b".rules"))
            .filter_map(|name| {
                let stat = fs::statat(&self.folder, &*name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).ok()?);
                Some((SystemTime::UNIX_EPOCH + seconds, name))
            })
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(KEPT);
        for (_, name) in files.into_iter().take(surplus) {
            let _ = fs::unlinkat(&self.folder, &*name, AtFlags::empty());
        }
    }
}

/// Where root keeps caches: what the environment says may be the home of whoever used `sudo`, and a directory that
/// root makes there keeps that user's own programs out of it.
fn of_root(said: Option<PathBuf>) -> PathBuf {
    let is_roots = |base: &PathBuf| {
        let there = base.ancestors().find_map(|path| std::fs::metadata(path).ok());
        there.is_some_and(|there| there.uid() == 0)
    };
    said.filter(is_roots).unwrap_or_else(|| PathBuf::from("/var/cache"))
}

/// Whether only this user writes in `folder`.
fn of_this_user_alone(folder: &OwnedFd) -> Result<(), &'static str> {
    let stat = fs::fstat(folder).map_err(|_| "can't be looked at")?;
    if stat.st_uid != process::geteuid().as_raw() {
        return Err("belongs to another user");
    }
    if stat.st_mode & 0o022 != 0 {
        return Err("can be written to by others");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_detect::Compiler;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const RULE: &str =
        "title: one\nlogsource: {product: windows}\ndetection:\n  s: {A: b}\n  condition: s\n";

    fn texts() -> Vec<(String, &'static str)> {
        vec![("one.yml".to_owned(), RULE)]
    }

    fn set() -> Vec<u8> {
        let mut compiler = Compiler::new();
        compiler.add_yaml("one.yml", RULE);
        let (set, refusals) = compiler.compile();
        Stored { set: &set, refusals: &refusals[..], withdrawn: 0 }.to_bytes().unwrap()
    }

    /// A base with a kept set in it: the base, its cache, the set's key and file.
    fn kept() -> (tempfile::TempDir, Cache, Key, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        let key = Key::of(false, &texts());
        cache.write(key, &set());
        let file = base.path().join("cordon/rules").join(key.file_name());
        assert_eq!(cache.read(key).unwrap().set.rules().len(), 1);
        (base, cache, key, file)
    }

    #[test]
    fn a_key_is_of_all_that_a_set_is_compiled_from() {
        let key = Key::of(false, &texts());
        let other = |texts: &[(&str, &str)], with_withdrawn| {
            let texts: Vec<(String, &str)> =
                texts.iter().map(|(origin, text)| ((*origin).to_owned(), *text)).collect();
            Key::of(with_withdrawn, &texts)
        };
        assert_eq!(key, other(&[("one.yml", RULE)], false));
        assert_ne!(key, other(&[("one.yml", RULE)], true));
        assert_ne!(key, other(&[("two.yml", RULE)], false));
        assert_ne!(key, other(&[("one.yml", &RULE.replace("A: b", "A: c"))], false));
        // What belongs to which text counts.
        assert_ne!(other(&[("a", "bc")], false), other(&[("ab", "c")], false));
        assert_ne!(
            other(&[("a", "b"), ("c", "d")], false),
            other(&[("a", "bc"), ("", "d")], false)
        );
    }

    #[test]
    fn what_is_torn_changed_foreign_or_others_can_write_is_not_used() {
        let (base, cache, key, file) = kept();
        let whole = fs::read(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for end in (0..whole.len()).step_by(7) {
            fs::write(&file, &whole[..end]).unwrap();
            assert!(cache.read(key).is_none(), "{end} of {}", whole.len());
        }
        for at in (0..whole.len()).step_by(5) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file, changed).unwrap();
            assert!(cache.read(key).is_none(), "changed at {at}");
        }
        // Another key's set, with a checksum that is right for it.
        let other = Key::of(true, &texts());
        let moved = [Cache::head(other, &set()), set()].concat();
        fs::write(&file, moved).unwrap();
        assert!(cache.read(key).is_none());
        // A checksum that is right, and no set behind it.
        let nonsense = vec![0xff; 100];
        fs::write(&file, [Cache::head(key, &nonsense), nonsense].concat()).unwrap();
        assert!(cache.read(key).is_none());

        fs::write(&file, &whole).unwrap();
        assert!(cache.read(key).is_some());
        for mode in [0o620, 0o602, 0o640, 0o604, 0o700] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert!(cache.read(key).is_none(), "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&file, base.path().join("second")).unwrap();
        assert!(cache.read(key).is_none(), "a second name");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(base.path().join("second"), &file).unwrap();
        assert!(cache.read(key).is_none(), "a link");
        // And all of it is put right by the next write.
        cache.write(key, &set());
        assert!(cache.read(key).is_some());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_by_name() {
        for name in ["", "cordon", "cordon/rules"] {
            for mode in [0o777, 0o775] {
                let (base, ..) = kept();
                let folder = base.path().join(name);
                fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
                let why = Cache::below(base.path()).unwrap_err();
                assert!(why.contains("can be written to by others"), "{name} {mode:o}: {why}");
                assert!(why.contains(&*base.path().to_string_lossy()), "{why}");
            }
        }
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(base.path().join("elsewhere"), base.path().join("cordon"))
            .unwrap();
        assert!(Cache::below(base.path()).unwrap_err().contains("can't be used"), "a link");
    }

    #[test]
    fn another_users_directory_and_file_are_refused() {
        let (base, cache, key, file) = kept();
        // 65534: nobody.
        if std::os::unix::fs::chown(&file, Some(65534), None).is_err() {
            cordon_tests::skip("giving a file to another user needs root");
            return;
        }
        assert!(cache.read(key).is_none());
        std::os::unix::fs::chown(base.path().join("cordon"), Some(65534), None).unwrap();
        assert!(Cache::below(base.path()).unwrap_err().contains("belongs to another user"));
    }

    #[test]
    fn root_makes_nothing_in_the_home_of_whoever_used_sudo() {
        let home = tempfile::tempdir().unwrap();
        let caches = home.path().join(".cache");
        let system = PathBuf::from("/var/cache");
        assert_eq!(of_root(None), system);
        // 65534: nobody.
        if std::os::unix::fs::chown(home.path(), Some(65534), None).is_err() {
            cordon_tests::skip("giving a directory to another user needs root");
            return;
        }
        assert_eq!(of_root(Some(caches.clone())), system, "before it is there");
        fs::create_dir(&caches).unwrap();
        std::os::unix::fs::chown(&caches, Some(65534), None).unwrap();
        assert_eq!(of_root(Some(caches.clone())), system);
        std::os::unix::fs::chown(&caches, Some(0), None).unwrap();
        assert_eq!(of_root(Some(caches.clone())), caches, "root's own");
    }

    #[test]
    fn only_the_newest_sets_are_kept() {
        let (base, cache, ..) = kept();
        for number in 0..10_u8 {
            cache.write(Key([number; 32]), &set());
        }
        let folder = base.path().join("cordon/rules");
        assert_eq!(fs::read_dir(folder).unwrap().count(), KEPT);
    }
}
