//! The folder where files are kept that were taken out of their places, and its key.
//!
//! Only root reads it. What is in it is encrypted, so that nothing starts it by mistake, no scanner finds
//! it again, and a copy of the folder without the key says nothing. The key lies beside it: whoever is
//! root on this machine can open the vault.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cordon_model::ids::MeasureId;
use rustix::fs::{Advice, FallocateFlags, RenameFlags, SeekFrom};
use zeroize::Zeroizing;

use super::super::{ActError, failed};
use super::chunks::{CHUNK_BYTES, HEADER_BYTES, PREFIX_BYTES, SEAL_BYTES, VaultError, VaultKey};
use super::metadata::Metadata;
use super::records::{APPARENT_BYTES, Ending, PIECE_BYTES, Recorded, Recording};

/// What is written and read at once: a chunk. It is a part of the most that the helper has in memory.
const BUFFER_BYTES: usize = CHUNK_BYTES;
/// What is read of a file at once. A vault may have larger pieces ([`PIECE_BYTES`]), of an earlier version: each is
/// memory of the helper while it is written, and again while it is read back for the proof.
const READ_BYTES: usize = CHUNK_BYTES / 2;
const _: () = assert!(READ_BYTES <= PIECE_BYTES);

/// What the vault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Data of one file, holes left out.
    pub file_bytes: u64,
    /// All files together.
    pub vault_bytes: u64,
    /// What stays free on the vault's filesystem.
    pub free_bytes: u64,
}

impl Default for Limits {
    /// One file of 1 GiB: programs that attack have kilobytes to some 100 MiB, and at 300 MB/s it is read,
    /// sealed and read again in ten seconds. Four of those, or 400 of 10 MiB, in all. The helper's own
    /// state needs at most 16 MiB a measure, so 256 MiB stay free.
    fn default() -> Self {
        Self { file_bytes: 1 << 30, vault_bytes: 4 << 30, free_bytes: 256 << 20 }
    }
}

/// The vault.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    limits: Limits,
}

impl Vault {
    /// Opens the vault in `folder`, or makes it.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), limits })
    }

    /// Seals `source`, which is `metadata`, and reads it back; on return it is on disk whole.
    ///
    /// # Errors
    /// If it is too large, or there is no room, or the disk fails. Nothing of it is then kept.
    pub fn seal(
        &self,
        measure: MeasureId,
        metadata: &Metadata,
        source: &File,
    ) -> Result<Ending, ActError> {
        let shown = metadata.path.display();
        let sealed = self.write(measure, metadata, source).and_then(|ending| {
            let (found, read) = self.read(&self.fresh(measure), |_, _| Ok(()))?;
            let is_whole = found == *metadata && read == ending;
            is_whole.then_some(ending).ok_or_else(|| {
                ActError::unfit(format!(
                    "the vault's copy of {shown} is not what was written: a bad disk?"
                ))
            })
        });
        let kept = sealed.and_then(|ending| {
            fs::rename(self.fresh(measure), self.path(measure))
                .and_then(|()| File::open(&self.folder)?.sync_all())
                .map_err(failed("keeping the vault's copy"))?;
            Ok(ending)
        });
        if kept.is_err() {
            let _ = fs::remove_file(self.fresh(measure));
        }
        kept
    }

    fn write(
        &self,
        measure: MeasureId,
        metadata: &Metadata,
        source: &File,
    ) -> Result<Ending, ActError> {
        let writing = || failed(format!("copying {} into the vault", metadata.path.display()));
        let room = self.room_for(metadata, source)?;
        let key = self.key().map_err(failed("reading or making the vault's key"))?;
        let mut prefix = [0; PREFIX_BYTES];
        getrandom::fill(&mut prefix)
            .map_err(|error| writing()(io::Error::other(error.to_string())))?;
        let fresh = self.fresh(measure);
        let _ = fs::remove_file(&fresh);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&fresh);
        let file = file.map_err(writing())?;
        // Taken before the first byte is read: a full disk is told now.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, room) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(writing()(error.into())),
        }
        let mut recording =
            Recording::begin(BufWriter::with_capacity(BUFFER_BYTES, file), &key, prefix, metadata)
                .map_err(writing())?;
        each_piece(source, metadata.size, |offset, bytes| recording.piece(offset, bytes))
            .map_err(writing())?;
        let (to, ending) = recording.end(metadata.size).map_err(writing())?;
        let mut file = to.into_inner().map_err(|error| writing()(error.into_error()))?;
        let length = io::Seek::stream_position(&mut file).map_err(writing())?;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(writing())?;
        // So that it is read back from the disk, and not from what we just wrote to memory.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(ending)
    }

    /// How long the vault's file will be at most, if the vault takes it.
    fn room_for(&self, metadata: &Metadata, source: &File) -> Result<u64, ActError> {
        let shown = metadata.path.display();
        if metadata.size > APPARENT_BYTES {
            return Err(ActError::unfit(format!(
                "{shown} is {} bytes long, and at most {APPARENT_BYTES} are taken",
                metadata.size
            )));
        }
        let data = data_bytes(source, metadata.size)
            .map_err(failed(format!("looking for the data of {shown}")))?;
        let Limits { file_bytes, vault_bytes, free_bytes } = self.limits;
        if data > file_bytes {
            return Err(ActError::unfit(format!(
                "{shown} has {data} bytes of data, and at most {file_bytes} are taken"
            )));
        }
        let attributes: usize =
            metadata.attributes.iter().map(|a| a.name.len() + a.value.len()).sum();
        // Each piece has 13 bytes of its own; a page is the least that lies between two holes.
        let records = data + 13 * (data / 4096 + 2) + attributes as u64 + (16 << 10);
        let room =
            records + (records / CHUNK_BYTES as u64 + 1) * SEAL_BYTES as u64 + HEADER_BYTES as u64;
        let used = self.used_bytes().map_err(failed("reading the vault's folder"))?;
        if used.saturating_add(room) > vault_bytes {
            return Err(ActError::unfit(format!(
                "the vault holds {used} bytes, and with {room} more it would hold over {vault_bytes}: \
                 take back or remove quarantined files first"
            )));
        }
        let space = rustix::fs::statvfs(&self.folder)
            .map_err(failed("asking how much room the vault's disk has"))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < room.saturating_add(free_bytes) {
            return Err(ActError::unfit(format!(
                "the vault's disk has {free} bytes free; {room} are needed, and {free_bytes} must stay free"
            )));
        }
        Ok(room)
    }

    /// How many bytes all its files have.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let mut used = 0;
        for entry in fs::read_dir(&self.folder)? {
            used += entry?.metadata()?.size();
        }
        Ok(used)
    }

    /// Opens what is kept for `measure`, giving each piece to `take`.
    ///
    /// # Errors
    /// If nothing is kept, or it is damaged.
    pub fn restore(
        &self,
        measure: MeasureId,
        take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(Metadata, Ending), ActError> {
        self.read(&self.path(measure), take)
    }

    /// What is kept for `measure`, by its beginning, and how long it is; `None` if nothing is.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn look(&self, measure: MeasureId) -> Result<Option<Metadata>, ActError> {
        let path = self.path(measure);
        if !path.exists() {
            return Ok(None);
        }
        let (metadata, _) = self.begin(&path)?;
        Ok(Some(metadata))
    }

    /// Removes what is kept for `measure`, if anything.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, measure: MeasureId) -> Result<(), ActError> {
        for path in [self.fresh(measure), self.path(measure)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing the vault's copy")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(
        &self,
        path: &Path,
        take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(Metadata, Ending), ActError> {
        let (metadata, recorded) = self.begin(path)?;
        let ending = recorded.each(take).map_err(|error| damaged(path, error))?;
        Ok((metadata, ending))
    }

    fn begin(&self, path: &Path) -> Result<(Metadata, Recorded<BufReader<File>>), ActError> {
        let key = self.key().map_err(failed("reading the vault's key"))?;
        let file = File::open(path).map_err(failed(format!("opening {}", path.display())))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Recorded::begin(file, &key).map_err(|error| damaged(path, error))
    }

    /// The key; made when it is first needed.
    fn key(&self) -> io::Result<VaultKey> {
        let path = self.folder.join("key");
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            match File::open(&path) {
                Ok(mut file) => {
                    if file.metadata()?.len() != 32 {
                        return Err(io::Error::other(format!("{} is no key", path.display())));
                    }
                    file.read_exact(bytes.as_mut_slice())?;
                    return Ok(VaultKey::new(bytes));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            getrandom::fill(bytes.as_mut_slice()).map_err(|e| io::Error::other(e.to_string()))?;
            let fresh = self.folder.join("key.new");
            let _ = fs::remove_file(&fresh);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(bytes.as_slice())?;
            file.sync_all()?;
            // Never over a key that is there.
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, &fresh, cwd, &path, RenameFlags::NOREPLACE) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            File::open(&self.folder)?.sync_all()?;
        }
    }

    fn path(&self, measure: MeasureId) -> PathBuf {
        self.folder.join(format!("{measure}.vault"))
    }

    fn fresh(&self, measure: MeasureId) -> PathBuf {
        self.folder.join(format!("{measure}.new"))
    }
}

fn damaged(path: &Path, error: VaultError) -> ActError {
    match error {
        VaultError::Io(error) => failed(format!("reading {}", path.display()))(error),
        VaultError::NotTaken(error) => failed("writing the file from the vault")(error),
        error => ActError::unfit(format!("{}: {error}", path.display())),
    }
}

/// The next part of a file that is no hole, from `offset` on; `None` if only holes follow.
fn next_data(file: &File, offset: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if offset >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        // A filesystem that can't tell: all is data.
        Err(_) => return Ok(Some((offset, size))),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok((start < size).then_some((start, end.min(size))))
}

fn data_bytes(file: &File, size: u64) -> io::Result<u64> {
    let (mut at, mut bytes) = (0, 0);
    while let Some((start, end)) = next_data(file, at, size)? {
        bytes += end - start;
        at = end;
    }
    Ok(bytes)
}

/// Gives `take` the first `size` bytes of `file` in pieces, without its holes.
pub(super) fn each_piece(
    file: &File,
    size: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while let Some((start, end)) = next_data(file, at, size)? {
        at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let count = file.read_at(&mut buffer[..length], at)?;
            if count == 0 {
                return Err(io::Error::other("the file became shorter while it was read"));
            }
            take(at, &buffer[..count])?;
            at += count as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::metadata::tests::plain;
    use super::*;

    fn measure() -> MeasureId {
        "018f0000-0000-7000-8000-000000000001".parse().unwrap()
    }

    fn file(bytes: &[u8]) -> (File, Metadata) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        (file, Metadata { size: bytes.len() as u64, ..plain() })
    }

    #[test]
    fn a_large_file_is_never_held_in_memory_by_more_than_a_small_part() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; PIECE_BYTES + 5], 0).unwrap();
        let (mut most, mut all) = (0, 0);
        each_piece(&file, PIECE_BYTES as u64 + 5, |_, bytes| {
            (most, all) = (most.max(bytes.len()), all + bytes.len());
            Ok(())
        })
        .unwrap();
        assert_eq!((most, all), (READ_BYTES, PIECE_BYTES + 5));
    }

    #[test]
    fn the_vault_and_all_in_it_are_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(&folder.path().join("vault"), Limits::default()).unwrap();
        let (source, metadata) = file(b"content");
        vault.seal(measure(), &metadata, &source).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&vault.folder), 0o700);
        let mut names = Vec::new();
        for entry in fs::read_dir(&vault.folder).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            names.push(path.extension().is_some_and(|e| e == "vault"));
        }
        assert_eq!(names.len(), 2, "a key and a file");
    }

    #[test]
    fn what_is_kept_comes_back_and_a_lost_key_is_not_replaced_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), Limits::default()).unwrap();
        let content: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let (source, metadata) = file(&content);
        let ending = vault.seal(measure(), &metadata, &source).unwrap();
        let mut back = vec![0; content.len()];
        let (found, read) = vault
            .restore(measure(), |offset, bytes| {
                let at = usize::try_from(offset).unwrap();
                back[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        assert_eq!((found, read), (metadata, ending));
        assert_eq!(back, content);
        fs::remove_file(folder.path().join("key")).unwrap();
        let error = vault.restore(measure(), |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("another key"), "{error}");
    }

    #[test]
    fn a_file_above_a_limit_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (source, metadata) = file(&[1; 100_000]);
        for (limits, word) in [
            (Limits { file_bytes: 99_999, ..Limits::default() }, "at most 99999"),
            (Limits { vault_bytes: 100_000, ..Limits::default() }, "would hold over"),
            (Limits { free_bytes: u64::MAX, ..Limits::default() }, "must stay free"),
        ] {
            let vault = Vault::open(folder.path(), limits).unwrap();
            let error = vault.seal(measure(), &metadata, &source).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(vault.used_bytes().unwrap(), 0);
        }
        let vault = Vault::open(folder.path(), Limits::default()).unwrap();
        let huge = Metadata { size: APPARENT_BYTES + 1, ..metadata };
        assert!(vault.seal(measure(), &huge, &source).is_err());
    }

    #[test]
    fn a_hole_takes_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), Limits::default()).unwrap();
        let source = tempfile::tempfile().unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_at(b"in the middle", 32 << 20).unwrap();
        let metadata = Metadata { size: 64 << 20, ..plain() };
        let ending = vault.seal(measure(), &metadata, &source).unwrap();
        assert_eq!(ending.size, 64 << 20);
        assert!(vault.used_bytes().unwrap() < 1 << 20, "{}", vault.used_bytes().unwrap());
    }
}
