//! The ledger's two files that can be made again from its records: the tree's complete subtrees, and
//! where each record begins.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::log::{Log, LogError};
use crate::merkle::{self, Hash, Nodes, Peaks};
use crate::note::Checkpoint;

/// Derived bytes that are held back while a tree is made again: 64 KiB, a page-cache-friendly write.
const DERIVED_WRITE_BYTES: usize = 64 << 10;

/// The two files that can be made again from the records.
#[derive(Debug)]
pub(crate) struct Derived {
    nodes: File,
    nodes_path: PathBuf,
    places: File,
    places_path: PathBuf,
    /// Not yet written. Nodes that are still here are read from here.
    new_nodes: Vec<u8>,
    new_places: Vec<u8>,
    /// Lengths of the files.
    nodes_end: u64,
    places_end: u64,
}

/// How far the derived files are borne out, and where the log goes on from there.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub size: u64,
    pub offset: u64,
}

impl Derived {
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let open = |path: &Path| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(LogError::io("open", path))?;
            let length = file.metadata().map_err(LogError::io("look at", path))?.len();
            Ok::<_, LogError>((file, length))
        };
        let (nodes_path, places_path) = (dir.join("nodes"), dir.join("places"));
        let (nodes, nodes_end) = open(&nodes_path)?;
        let (places, places_end) = open(&places_path)?;
        let (new_nodes, new_places) = (Vec::new(), Vec::new());
        Ok(Self {
            nodes,
            nodes_path,
            places,
            places_path,
            new_nodes,
            new_places,
            nodes_end,
            places_end,
        })
    }

    /// The checkpoint's size, if the files agree with the checkpoint and with the record before it;
    /// else nothing of them is trusted.
    pub fn base(&self, log: &Log, checkpoint: &Checkpoint) -> Base {
        let size = checkpoint.size;
        let Some(last) = size.checked_sub(1) else { return Base::default() };
        let agrees = || -> Result<Option<u64>, LogError> {
            if merkle::root(self, size)? != checkpoint.root {
                return Ok(None);
            }
            let place = self.place(last)?;
            let payload = log.read(place)?;
            let is_it = merkle::leaf_hash(&payload) == self.node(0, last)?;
            Ok(is_it.then_some(Log::behind(place, payload.len())))
        };
        match agrees() {
            Ok(Some(offset)) => Base { size, offset },
            Ok(None) | Err(_) => Base::default(),
        }
    }

    pub fn cut_to(&mut self, size: u64) -> Result<(), LogError> {
        self.nodes_end = merkle::stored_count(size).unwrap_or(0) * 32;
        self.places_end = size * 8;
        self.nodes.set_len(self.nodes_end).map_err(LogError::io("cut", &self.nodes_path))?;
        self.places.set_len(self.places_end).map_err(LogError::io("cut", &self.places_path))
    }

    pub fn push(&mut self, offset: u64, leaf: Hash, peaks: &mut Peaks) {
        peaks.push(leaf, |hash| self.new_nodes.extend_from_slice(&hash.0));
        self.new_places.extend_from_slice(&offset.to_le_bytes());
    }

    pub fn write_if_large(&mut self) -> Result<(), LogError> {
        if self.new_nodes.len() >= DERIVED_WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    pub fn write(&mut self) -> Result<(), LogError> {
        // At a position, not at the end: a write that failed half-way is simply done again.
        self.nodes
            .write_all_at(&self.new_nodes, self.nodes_end)
            .map_err(LogError::io("write", &self.nodes_path))?;
        self.nodes_end += self.new_nodes.len() as u64;
        self.new_nodes.clear();
        self.places
            .write_all_at(&self.new_places, self.places_end)
            .map_err(LogError::io("write", &self.places_path))?;
        self.places_end += self.new_places.len() as u64;
        self.new_places.clear();
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), LogError> {
        self.write()?;
        self.nodes.sync_data().map_err(LogError::io("sync", &self.nodes_path))?;
        self.places.sync_data().map_err(LogError::io("sync", &self.places_path))
    }

    pub fn place(&self, index: u64) -> Result<u64, LogError> {
        let bytes = read_at(
            (&self.places, &self.places_path),
            (self.places_end, &self.new_places),
            index.saturating_mul(8),
        )?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl Nodes for Derived {
    type Error = LogError;
    fn node(&self, level: u32, index: u64) -> Result<Hash, LogError> {
        let at = merkle::stored_index(level, index).and_then(|index| index.checked_mul(32));
        read_at(
            (&self.nodes, &self.nodes_path),
            (self.nodes_end, &self.new_nodes),
            at.unwrap_or(u64::MAX),
        )
        .map(Hash)
    }
}

/// `N` bytes at `at` of a file of `end` bytes that `held_back` is yet to follow.
fn read_at<const N: usize>(
    (file, path): (&File, &Path),
    (end, held_back): (u64, &[u8]),
    at: u64,
) -> Result<[u8; N], LogError> {
    let mut bytes = [0; N];
    let missing = || LogError::Damaged { path: path.to_owned(), offset: at, what: "it is cut" };
    if at >= end {
        let start = usize::try_from(at - end).map_err(|_| missing())?;
        let found = start.checked_add(N).and_then(|stop| held_back.get(start..stop));
        bytes.copy_from_slice(found.ok_or_else(missing)?);
        return Ok(bytes);
    }
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(missing()),
        Err(error) => Err(LogError::io("read", path)(error)),
    }
}
