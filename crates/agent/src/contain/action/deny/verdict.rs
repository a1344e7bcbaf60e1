//! Whether a program may be started: decided without input or output, and in doubt for it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cordon_model::action::{Denied, Sha256Digest};
use cordon_model::ids::MeasureId;

use super::super::path_of;
use super::super::spared::FileId;
use super::list::DenyList;

/// Files whose content is remembered: about 100 bytes each, 400 KiB. A machine starts some hundred
/// different programs.
const REMEMBERED: usize = 4096;

/// How old a file's last change must be for its content to be remembered, in seconds. The kernel notes
/// changes by a clock that ticks every 1 to 10 ms: two in one tick look like one.
const SETTLED_SECONDS: i64 = 2;

/// A file as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Which.
    pub file: FileId,
    /// How long.
    pub size: u64,
    /// When its content was changed last.
    pub modified: (i64, i64),
    /// When anything of it was changed last: this nobody can set.
    pub changed: (i64, i64),
}

impl FileState {
    /// Of a file with `metadata`.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            file: FileId::of(metadata),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The rules, ready to be looked up.
#[derive(Debug, Default)]
pub struct Rules {
    paths: HashMap<PathBuf, MeasureId>,
    files: HashMap<FileId, MeasureId>,
    contents: HashMap<Sha256Digest, MeasureId>,
}

impl Rules {
    /// Of `list`.
    #[must_use]
    pub fn of(list: &DenyList) -> Self {
        let mut rules = Self::default();
        for entry in &list.entries {
            match &entry.denied {
                Denied::Path(path) => {
                    rules.paths.insert(path_of(path).to_owned(), entry.measure);
                }
                Denied::Sha256(digest) => {
                    rules.contents.insert(*digest, entry.measure);
                }
            }
            if let Some(file) = entry.file {
                rules.files.insert(file, entry.measure);
            }
        }
        rules
    }

    /// Which measure denies the file, by its name or because it is the very file.
    #[must_use]
    pub fn by_name(&self, path: Option<&Path>, file: FileId) -> Option<MeasureId> {
        self.files.get(&file).or_else(|| self.paths.get(path?)).copied()
    }

    /// Whether any content is denied, so that contents have to be looked at.
    #[must_use]
    pub fn look_at_contents(&self) -> bool {
        !self.contents.is_empty()
    }

    /// Whether any path is denied, so that it has to be seen what is there.
    #[must_use]
    pub fn look_at_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Which measure denies a content.
    #[must_use]
    pub fn by_content(&self, digest: &Sha256Digest) -> Option<MeasureId> {
        self.contents.get(digest).copied()
    }
}

/// What a look at a content found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Its digest.
    Is(Sha256Digest),
    /// It could not be read in the time that there is.
    Unknown,
}

/// Contents that were looked at, as long as their files are as they were.
#[derive(Debug, Default)]
pub struct Memory {
    known: HashMap<FileId, (FileState, Content)>,
}

impl Memory {
    /// The content of the file that is `now`, if it was looked at and is unchanged since.
    #[must_use]
    pub fn recall(&self, now: &FileState) -> Option<Content> {
        let (then, content) = self.known.get(&now.file)?;
        (then == now).then_some(*content)
    }

    /// Remembers a content, unless the file was changed too shortly before `seconds` (since 1970) for a
    /// next change to be told from the last. Whether it does.
    pub fn note(&mut self, state: FileState, content: Content, seconds: i64) -> bool {
        let is_settled = state.changed.0.max(state.modified.0) + SETTLED_SECONDS <= seconds;
        if !is_settled {
            self.known.remove(&state.file);
            return false;
        }
        if self.known.len() >= REMEMBERED {
            // Whoever fills it gains nothing but that contents are looked at again.
            self.known.clear();
        }
        self.known.insert(state.file, (state, content));
        true
    }

    /// Forgets a file that somebody wrote to.
    pub fn forget(&mut self, file: FileId) {
        self.known.remove(&file);
    }
}

#[cfg(test)]
mod tests {
    use cordon_model::action::FilePath;

    use super::super::list::Entry;
    use super::*;

    const FILE: FileId = FileId { device: 1, inode: 2 };
    const OTHER: FileId = FileId { device: 1, inode: 3 };

    fn measure(last: u8) -> MeasureId {
        format!("018f0000-0000-7000-8000-0000000000{last:02x}").parse().unwrap()
    }

    fn state(changed: i64) -> FileState {
        FileState { file: FILE, size: 9, modified: (changed, 0), changed: (changed, 5) }
    }

    #[test]
    fn a_path_denies_what_is_there_and_the_file_that_was_there_under_any_name() {
        let list = DenyList {
            entries: vec![Entry {
                measure: measure(1),
                denied: Denied::Path(FilePath::new("/srv/bad")),
                file: Some(FILE),
                known: vec![],
            }],
            ..DenyList::default()
        };
        let rules = Rules::of(&list);
        let by_name = |path: &str, file| rules.by_name(Some(Path::new(path)), file);
        assert_eq!(by_name("/srv/bad", OTHER), Some(measure(1)));
        assert_eq!(by_name("/srv/renamed", FILE), Some(measure(1)));
        assert_eq!(by_name("/srv/other", OTHER), None);
        assert_eq!(rules.by_name(None, OTHER), None);
        assert!(!rules.look_at_contents());
    }

    #[test]
    fn a_content_is_denied_wherever_it_is() {
        let digest = Sha256Digest([7; 32]);
        let entry = Entry {
            measure: measure(2),
            denied: Denied::Sha256(digest),
            file: None,
            known: vec![],
        };
        let rules = Rules::of(&DenyList { entries: vec![entry], ..DenyList::default() });
        assert!(rules.look_at_contents());
        assert_eq!(rules.by_content(&digest), Some(measure(2)));
        assert_eq!(rules.by_content(&Sha256Digest([8; 32])), None);
    }

    #[test]
    fn a_content_is_remembered_until_its_file_is_changed_in_any_way() {
        let content = Content::Is(Sha256Digest([1; 32]));
        let mut memory = Memory::default();
        assert!(memory.note(state(100), content, 110));
        assert_eq!(memory.recall(&state(100)), Some(content));
        let changed = [
            FileState { size: 10, ..state(100) },
            FileState { modified: (100, 1), ..state(100) },
            FileState { changed: (100, 6), ..state(100) },
            FileState { file: OTHER, ..state(100) },
        ];
        assert!(changed.iter().all(|state| memory.recall(state).is_none()));
        memory.forget(FILE);
        assert_eq!(memory.recall(&state(100)), None);
    }

    #[test]
    fn a_file_that_was_changed_just_now_is_looked_at_again() {
        let content = Content::Is(Sha256Digest([1; 32]));
        let mut memory = Memory::default();
        for now in [100, 101] {
            assert!(!memory.note(state(100), content, now));
            assert_eq!(memory.recall(&state(100)), None);
        }
        assert!(memory.note(state(100), content, 102));
    }

    #[test]
    fn a_full_memory_forgets_and_does_not_grow() {
        let mut memory = Memory::default();
        for inode in 0..3 * REMEMBERED as u64 {
            let state = FileState { file: FileId { device: 1, inode }, ..state(0) };
            memory.note(state, Content::Unknown, 100);
            assert!(memory.known.len() <= REMEMBERED);
            assert_eq!(memory.recall(&state), Some(Content::Unknown));
        }
    }
}
