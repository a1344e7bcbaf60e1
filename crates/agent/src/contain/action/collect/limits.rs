//! How much is gathered at most, and for how long. What a limit cuts is said in the manifest.
//!
//! A whole collection of the six kinds comes to some 50 MiB on an ordinary machine before it is packed:
//! 300 processes of 30 KiB, 200 unit files of 2 KiB, sockets of a dozen containers, a few logs.

use std::time::Duration;

/// A named file, or a log: 64 MiB, a week of a busy server's log.
pub const FILE_BYTES: u64 = 64 << 20;
/// One of the many small files that say what starts by itself, or who may sign in: 1 MiB, where a large
/// unit file has 20 KiB.
pub const SMALL_FILE_BYTES: u64 = 1 << 20;
/// Records of logins (`wtmp`, `btmp`): the last 4 MiB, 11,000 records of 384 bytes.
pub const LOGIN_BYTES: u64 = 4 << 20;
/// What `/proc` says of all processes: 64 MiB, 2,000 processes of 32 KiB.
pub const PROCESSES_BYTES: u64 = 64 << 20;
/// Of one process: its command line (the kernel allows 2 MiB, people write 1 KiB).
pub const COMMAND_LINE_BYTES: usize = 256 << 10;
/// Of one process: its memory map, 2,000 lines of 120 bytes.
pub const MAPS_BYTES: usize = 256 << 10;
/// Of one process: open files that are named.
pub const OPEN_FILES: usize = 1024;
/// The largest program that is hashed: browsers have 200 MiB.
pub const PROGRAM_BYTES: u64 = 512 << 20;
/// Of one process's environment: as much as the kernel gives a program at its start.
pub const ENVIRONMENT_BYTES: u64 = 2 << 20;
/// Of one process's memory. A tar member ends at 8 GiB; a worm has a few MiB, a database too many.
pub const MEMORY_BYTES: u64 = 4 << 30;
/// Network namespaces that are looked at: a large container host has a hundred.
pub const NAMESPACES: usize = 128;
/// A table of `/proc/net`: 32 MiB, 200,000 sockets of 150 bytes.
pub const TABLE_BYTES: u64 = 32 << 20;
/// Files below the folders that say what starts by itself, and how deep they lie.
pub const WALKED_FILES: usize = 4096;
/// See [`WALKED_FILES`].
pub const WALKED_DEPTH: usize = 6;

/// How long something that is being read may keep silent. A disk that wakes up takes 10 seconds; what
/// takes longer is a server or a program that does not answer any more, and is left.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Readers that may be left hanging before everything that could hang too is skipped: each is a thread
/// that the kernel gives back only when the other side answers or the collection ends.
pub const HANGING: usize = 16;
/// How long a whole collection may take; what is not reached by then is missing, and what was gathered
/// is kept. Memory at 200 MiB/s: 4 GiB in 20 seconds, a few times over, and all else.
pub const COLLECTION: Duration = Duration::from_secs(15 * 60);
/// How much longer its process may take to write what it has before it is ended.
pub const GRACE: Duration = Duration::from_secs(5 * 60);
/// Of the free space of its disk, a collection takes at most this part: the machine goes on living.
pub const SHARE_OF_FREE_SPACE: u64 = 3;
/// Processor seconds that its process may use: gzip at 100 MiB/s packs 8 GiB in 80, hashing as much.
pub const PROCESSOR_SECONDS: u64 = 900;
