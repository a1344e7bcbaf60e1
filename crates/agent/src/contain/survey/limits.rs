//! How much a look at a machine reads and remembers at most, and for how long. What a limit cuts is said.
//!
//! A whole look at an ordinary server finds some 1,500 things in some 3 MiB; one with a thousand people's
//! homes, 6,000. Where anybody may write at most 49,152 files are looked at and 288 MiB read.

use std::time::Duration;

/// The largest file: 16 MiB, where a generator of systemd's, which is a program, has 5.
pub const FILE_BYTES: u64 = 16 << 20;
/// Names in one folder: 4,096, where `/usr/lib/systemd/system` has 400.
pub const NAMES: usize = 4_096;
/// Lines of one file: 4,096 accounts or keys.
pub const LINES: usize = 4_096;
/// Things at one place of the system's.
pub const PLACE_THINGS: usize = 4_096;
/// Bytes read at one place of the system's: 256 MiB, 400 files of more than half a megabyte each.
pub const PLACE_BYTES: u64 = 256 << 20;
/// Things in one person's home: 512, where most have 5. Thirty people who fill theirs on purpose do not fill
/// [`THINGS`].
pub const HOME_THINGS: usize = 512;
/// Bytes read in one person's home.
pub const HOME_BYTES: u64 = 32 << 20;
/// Accounts whose homes are looked into: each of some 40 places costs a few microseconds, so 4,096 a second.
pub const HOMES: usize = 4_096;
/// Things of one look. Places that are reached after it count as unread.
pub const THINGS: usize = 16_384;
/// Places of one look that could not be read and are remembered each; of more it is remembered as if nothing
/// had been read.
pub const MISSED: usize = 1_024;

/// Files and folders that are looked at in one place where anybody may write: 16,384, at some 20 µs each; a server has a
/// few dozen, a desktop some hundreds, one that keeps its sessions there some thousands. Each that can't be read is
/// remembered, by 45 bytes: 2 MiB in all three.
pub const DROPPED_NAMES: usize = 16_384;
/// Programs in one such place: in all three fewer than a build makes, and more than an ordinary machine has.
pub const DROPPED_THINGS: usize = 128;
/// Programs up to this size are read whatever else lies there: with [`DROPPED_THINGS`] of them 32 MiB in one place.
pub const DROPPED_SMALL: u64 = 256 << 10;
/// Bytes of larger programs that are read in one such place: four of the largest [`FILE_BYTES`], a third of a second.
/// What is read in vain counts.
pub const DROPPED_BYTES: u64 = 64 << 20;
/// How long is looked in one such place: less than a second, but for a machine that is busy. All three and the rest
/// stay below the 18 seconds that somebody waits for whom a plan is made.
pub const DROPPED_TIME: Duration = Duration::from_secs(4);
/// What could not be read in one such place is named so often; of more it is said how many.
pub const DROPPED_MISSED: usize = 16;
/// Dropped programs that are remembered: all of one look, and twice as many that are gone. They have a bound of their
/// own, so that whoever fills `/tmp` makes nothing else forgotten.
pub const DROPPED_REMEMBERED: usize = 3 * 3 * DROPPED_THINGS;

/// Things that are remembered: all of one look, and half as many that are gone, or could not be looked at.
/// Of some 300 bytes each, 1,000 at most: 7 MiB on a disk once an hour, 24 at most.
pub const REMEMBERED: usize = THINGS + THINGS / 2;
/// The largest memory: the things, [`MISSED`] places three times over of at most 2 KiB, and what could not be read where
/// anybody may write.
pub const MEMORY_BYTES: u64 = 36 << 20;

/// How long one place may keep silent. See [`crate::contain::action::collect::limits::PATIENCE`].
pub const PATIENCE: Duration = crate::contain::action::collect::limits::PATIENCE;
/// Readers that may be left hanging before nothing more is tried.
pub const HANGING: usize = 16;
/// How long a whole look may take. It takes a second; last in every queue of a busy machine, a hundred.
pub const LOOK: Duration = Duration::from_secs(5 * 60);
/// How much longer its process may take to write what it has before it is ended.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long a look waits for one of an earlier helper's, which was killed with it: the last in every queue of a busy
/// machine, that needs seconds to be gone.
pub const ONE_BEFORE: Duration = Duration::from_secs(60);
/// The same, while somebody waits, who hears why before their 18 seconds are over.
pub const ONE_BEFORE_ASKED: Duration = Duration::from_secs(10);
/// Processor seconds that its process may use: it needs one.
pub const PROCESSOR_SECONDS: u64 = 120;
/// Between two looks that nobody asked for.
pub const EVERY: Duration = Duration::from_secs(60 * 60);
/// Looks that may be asked for at once: a few people, or a plan that is being made. The helper's memory holds
/// an answer of each, a megabyte.
pub const ASKED: usize = 4;
