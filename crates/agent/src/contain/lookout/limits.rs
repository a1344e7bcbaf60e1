//! How much the lookout keeps at most, and for how long. What a limit cuts is said.

use std::time::Duration;

/// The largest file whose content is kept, and so can be put back: a quarter of a MiB, where a crontab has a few
/// lines and the longest unit of a distribution some 20 KiB. Programs (generators) are larger: of those the hash is.
pub const FILE_BYTES: u64 = 256 << 10;
/// All contents together: 64 MiB, of which a usual machine's places take 3.
pub const KEPT_BYTES: u64 = 64 << 20;
/// The largest file that is hashed.
pub const HASHED_BYTES: u64 = 16 << 20;
/// Things that are known.
pub const THINGS: usize = 8_192;
/// What all that is known may weigh: 6 MiB, below the largest file of a [`Disk`](crate::contain::disk::Disk), which is 8. A
/// usual thing weighs some 400 bytes.
pub const KNOWN_BYTES: usize = 6 << 20;
/// Of these so many may be of one home, weigh so much, and have so many bytes of contents kept: nobody crowds out what the
/// system starts, or others, by filling their own home.
pub const HOME_THINGS: usize = 512;
/// See [`HOME_THINGS`].
pub const HOME_KNOWN_BYTES: usize = 512 << 10;
/// See [`HOME_THINGS`].
pub const HOME_BYTES: u64 = 4 << 20;
/// The largest file in a home that is hashed: whoever writes one again and again has it read as often.
pub const HOME_HASHED_BYTES: u64 = 1 << 20;
/// Names and values of the attributes of one file that are kept: access control lists, capabilities and labels have some
/// hundred. A file with more is known to be there, and can't be put back.
pub const ATTRIBUTE_BYTES: usize = 4 << 10;
/// Folders that are watched: each keeps an inode in the kernel's memory, of about a KiB.
pub const FOLDERS: usize = 8_192;
/// Of these so many may be in one home.
pub const HOME_FOLDERS: usize = 256;
/// Places: those of 4,096 homes.
pub const PLACES: usize = 160_000;
/// Changes of the system's places that are remembered: the newest. Of at most some 8 KiB each.
pub const CHANGES: usize = 1_024;
/// Changes in one home that are remembered, and in all homes.
pub const HOME_CHANGES: usize = 128;
/// See [`HOME_CHANGES`].
pub const HOMES_CHANGES: usize = 512;
/// Of these so many may be of what was there for a moment only: an editor's own files come and go.
pub const MOMENTARY: usize = 256;
/// Places of which it is remembered that earlier changes are not.
pub const UNREMEMBERED: usize = 1_024;
/// What one process does to one thing within so long is one change: an editor writes in several steps.
pub const TOGETHER: Duration = Duration::from_secs(10);
/// A process that is told of so late may have had its part in the change before it.
pub const LATE: Duration = Duration::from_secs(2);
/// Things of one home that may wait to be looked at, and of the system: of more at once nobody is told by whom.
pub const HOME_WAITING: usize = 512;
/// See [`HOME_WAITING`].
pub const WAITING: usize = 8_192;
/// Things that are looked at, and bytes of theirs, before it is heard again what happened.
pub const AT_ONCE: usize = 64;
/// See [`AT_ONCE`].
pub const AT_ONCE_BYTES: usize = 1 << 20;
/// Kernel's queues: one of the system's folders, the others shared by the homes. Each user may have 128.
pub const QUEUES: usize = 32;
/// Folders that went elsewhere and are watched still, before all of a queue are let go of and watched anew.
pub const STRAYED: usize = 256;
/// Things of the system's that are looked at later, and who is named for them.
pub const OWED: usize = 1_024;
/// The same of one home: all that may be known of it, and some that is new.
pub const HOME_OWED: usize = HOME_THINGS + 64;
/// How long after a look in vain the next is; twice as long after each.
pub const OWED_AFTER: Duration = Duration::from_millis(100);
/// After so many looks in vain, three seconds, it is told that it is written to without end.
pub const RESTLESS: u32 = 6;
/// So much of one home is read within [`SPENT_IN`], about 2 % of a processor; what is changed beyond is looked at later.
pub const HOME_SPENT: u64 = 4 << 20;
/// See [`HOME_SPENT`].
pub const SPENT_IN: Duration = Duration::from_secs(1);
/// What a look counts for that reads nothing: of one home there are 1,024 a second.
pub const LOOK_BYTES: u64 = 4 << 10;
/// What can't be looked out for is remembered of the system's places, and of all homes, in so many words each; of one home in
/// no more than [`HOME_GAPS`].
pub const GAPS: usize = 8;
/// See [`GAPS`].
pub const HOME_GAPS: usize = 2;
/// Homes of which it is remembered that more happened than could be heard.
pub const LOST: usize = 64;
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
/// After so long without anything to do, memory that only the work needed is given back.
pub const SETTLED_AFTER: Duration = Duration::from_secs(5);
