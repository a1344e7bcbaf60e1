//! The process that gathers: it reads from the journal what is wanted, and ends with an archive or a
//! reason.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use cordon_evidence::archive::{ArchiveWriter, FORMAT, Manifest, Statement, check, printable};
use cordon_model::action::{ActionKind, Piece, ProcessTarget};
use cordon_model::ids::MeasureId;
use cordon_model::time::{BootId, UtcNanos};

use super::gather::Gatherer;
use super::limits::{
    COLLECTION, FILE_BYTES, PROCESSOR_SECONDS, SHARE_OF_FREE_SPACE, SMALL_FILE_BYTES, WALKED_FILES,
};
use super::pieces::files::Files;
use super::pieces::{memory, network, processes, system};
use super::{Applied, Journal, limits};
use crate::contain::action::mounts::mounts;
use crate::contain::action::{ActError, failed};
use crate::contain::disk::Disk;
use crate::contain::urgency::stand_last;

/// Gathers what the journal in `journal_folder` says of `measure`. To be called by a process that does
/// nothing else: it goes behind all others, and ends with whoever started it.
///
/// # Errors
/// When there is no archive at the end; the reason is also kept for [`super::Collector::look`].
pub fn collect(journal_folder: &Path, measure: MeasureId) -> Result<Statement, ActError> {
    stand_last(PROCESSOR_SECONDS);
    let applied: Applied = Journal::open(journal_folder)
        .map_err(failed("opening the journal"))?
        .read(ActionKind::Collect, measure)?
        .ok_or_else(|| ActError::not_there(format!("the journal knows no measure {measure}")))?;
    let disk =
        Disk::open(Path::new(&applied.folder)).map_err(failed("opening the archives' folder"))?;
    let result = gather(&applied, &disk);
    if let Err(error) = &result {
        let _ = std::fs::remove_file(applied.file("part"));
        let _ = disk.write(&applied.failure(), &error.to_string());
    }
    result
}

fn gather(applied: &Applied, disk: &Disk) -> Result<Statement, ActError> {
    let folder = Path::new(&applied.folder);
    let doing = || format!("writing the archive in {}", folder.display());
    // A process of an earlier helper may not have ended yet.
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join("lock"))
        .map_err(failed(doing()))?;
    if lock.try_lock().is_err() {
        return Err(ActError::unfit("another collection is still at work: try again"));
    }
    let began = UtcNanos::now();
    let part = applied.file("part");
    let _ = std::fs::remove_file(&part);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(failed(doing()))?;
    let (most, why) = room(applied, folder).map_err(failed(doing()))?;
    let mut gatherer = Gatherer::new(file, folder, most, COLLECTION).map_err(failed(doing()))?;
    gather_all(applied, &mut gatherer);
    let (archive, pieces, missing) = gatherer.end().map_err(failed(doing()))?;
    let manifest = Manifest {
        format: FORMAT,
        written_by: format!("cordon {}", env!("CARGO_PKG_VERSION")),
        organisation: applied.request.organisation.clone(),
        machine: applied.request.machine,
        measure: applied.measure,
        host: words("/proc/sys/kernel/hostname"),
        kernel: words("/proc/sys/kernel/osrelease"),
        boot: BootId(words("/proc/sys/kernel/random/boot_id")),
        began,
        ended: UtcNanos::now(),
        agreed: agreed(applied),
        limits: vec![
            format!("{most} bytes in all ({why})"),
            format!(
                "{FILE_BYTES} bytes of a named file, {SMALL_FILE_BYTES} of each of at most {WALKED_FILES} others a kind"
            ),
            format!(
                "{} s in all, {} s for an answer",
                COLLECTION.as_secs(),
                limits::PATIENCE.as_secs()
            ),
        ],
        pieces,
        missing,
    };
    finish(applied, disk, archive, &manifest).map_err(failed(doing()))
}

/// How much may be gathered, and why so much.
fn room(applied: &Applied, folder: &Path) -> io::Result<(u64, String)> {
    let status = nix::sys::statvfs::statvfs(folder)?;
    let free = status.blocks_available().saturating_mul(status.fragment_size());
    let (ordered, share) = (applied.request.collection.most_bytes, free / SHARE_OF_FREE_SPACE);
    Ok(if ordered <= share {
        (ordered, "as ordered".into())
    } else {
        (share, format!("a third of the free space; {ordered} were ordered"))
    })
}

fn gather_all(applied: &Applied, gatherer: &mut Gatherer) {
    let mounts = mounts().unwrap_or_default();
    let files = Files { root: Path::new(&applied.root), mounts: &mounts };
    for piece in &applied.request.collection.pieces {
        match piece {
            Piece::Processes => processes::all(gatherer),
            Piece::Network => network::all(gatherer),
            Piece::Rules => network::rules(gatherer),
            Piece::Accounts => files.accounts(gatherer),
            Piece::Persistence => files.persistence(gatherer),
            Piece::Kernel => system::all(gatherer),
            Piece::File(path) => {
                use std::os::unix::ffi::OsStrExt as _;
                files.named(Path::new(OsStr::from_bytes(path.as_bytes())), gatherer);
            }
            Piece::Memory(target) => {
                if may_look_inside("memory", "mem", target, applied, gatherer) {
                    memory::of(target, gatherer);
                }
            }
            Piece::Environment(target) => {
                if may_look_inside("environment", "environ", target, applied, gatherer) {
                    processes::environment(target, gatherer);
                }
            }
        }
    }
}

/// Whether that is gathered; if not, the archive says why.
fn may_look_inside(
    kind: &'static str,
    file: &str,
    target: &ProcessTarget,
    applied: &Applied,
    gatherer: &mut Gatherer,
) -> bool {
    let why = if target.boot != BootId(words("/proc/sys/kernel/random/boot_id")) {
        "the process is of another boot"
    } else if agreed(applied).is_empty() {
        // The helper has refused it without two people; looked at once more where it is done.
        "nobody agreed to it"
    } else {
        return true;
    };
    let source = format!("/proc/{}/{file}", target.process.pid);
    gatherer.lacks(kind, source.as_bytes(), why);
    false
}

fn agreed(applied: &Applied) -> Vec<String> {
    let looks_inside = applied.request.collection.looks_into_a_process();
    match &applied.request.agreed {
        Some(agreed) if looks_inside && agreed.is_of_two() => {
            vec![agreed.first.clone(), agreed.second.clone()]
        }
        _ => Vec::new(),
    }
}

/// Writes the manifest, reads everything back, and gives the archive its name.
fn finish(
    applied: &Applied,
    disk: &Disk,
    archive: ArchiveWriter<File>,
    manifest: &Manifest,
) -> io::Result<Statement> {
    let finished = archive.finish(manifest).map_err(io::Error::other)?;
    let mut file = finished.to;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let report = check(BufReader::new(&file), None).map_err(io::Error::other)?;
    if !report.is_whole() {
        return Err(io::Error::other(format!("what was written reads back otherwise: {report}")));
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let statement = Statement {
        organisation: manifest.organisation.clone(),
        machine: manifest.machine,
        measure: manifest.measure,
        manifest_sha256: finished.manifest_sha256,
        pieces: count(manifest.pieces.len()),
        missing: count(manifest.missing.len()),
        bytes: finished.bytes,
        sha256: finished.sha256,
        ended: manifest.ended,
    };
    // The statement first: an archive under its name always has one.
    disk.write(&applied.statement(), &statement)?;
    std::fs::rename(applied.file("part"), applied.archive())?;
    File::open(Path::new(&applied.folder))?.sync_all()?;
    Ok(statement)
}

fn words(path: &str) -> String {
    printable(std::fs::read_to_string(path).unwrap_or_default().trim().as_bytes())
}
