//! How much the lookout keeps at most, and for how long. What a limit cuts is said.

use std::time::Duration;

/// The largest file whose content is kept, and so can be put back: a quarter of a MiB, where a crontab has a few
/// lines and the longest unit of a distribution some 20 KiB. Programs (generators) are larger: of those the hash is.
pub const FILE_BYTES: u64 = 256 << 10;
/// All contents together: 64 MiB, of which a usual machine's places take 3.
pub const KEPT_BYTES: u64 = 64 << 20;
/// The largest file that is hashed.
pub const HASHED_BYTES: u64 = 16 << 20;
/// Things that are known: 8,192 of some 600 bytes are below the largest file of a [`Disk`](crate::contain::disk::Disk).
pub const THINGS: usize = 8_192;
/// Of these so many may be of one user other than root, and so many bytes of their contents be kept: nobody crowds out
/// what the system starts by filling their own home.
pub const USER_THINGS: usize = 512;
/// See [`USER_THINGS`].
pub const USER_BYTES: u64 = 4 << 20;
/// Folders that are watched: each keeps an inode in the kernel's memory, of about a KiB.
pub const FOLDERS: usize = 8_192;
/// Changes that are remembered: the newest. Of at most some 8 KiB each.
pub const CHANGES: usize = 1_024;
/// Places of which it is remembered that earlier changes are not.
pub const UNREMEMBERED: usize = 1_024;
/// What one process does to one thing within so long is one change: an editor writes in several steps.
pub const TOGETHER: Duration = Duration::from_secs(10);
/// A process that is told of so late may have had its part in the change before it.
pub const LATE: Duration = Duration::from_secs(2);
/// Lines are told of contents of at most so many bytes.
pub const TOLD_BYTES: usize = 64 << 10;
/// How often a file is read again that changes meanwhile.
pub const TRIES: usize = 3;
/// How often it is noted that somebody looks out, so that a break is told by its length.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(60);
/// What is known is written at most so often: a package that brings 500 units writes it once or twice.
pub const WRITTEN_AFTER: Duration = Duration::from_secs(1);
/// Breaks that are remembered, the newest.
pub const BREAKS: usize = 8;
