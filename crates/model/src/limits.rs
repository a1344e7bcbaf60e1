//! Every limit on what crosses a border, each with its arithmetic. A limit that is reached is said,
//! counted and survived; it is never a panic and never silent.

/// The largest message on a link between two Cordon processes: 1 MiB.
///
/// The largest honest message is a batch of [`FINDINGS_PER_MESSAGE`] findings with their raw events:
/// 16 × (32 KiB + 4 KiB) = 576 KiB; the rest is head-room for encoding.
pub const MESSAGE_BYTES: usize = 1 << 20;

/// The largest enrolment message (a token, a name and a certificate request of about 400 bytes): 8 KiB.
/// An enrolling peer is a stranger; it gets no more.
pub const ENROL_MESSAGE_BYTES: usize = 8 << 10;

/// The largest raw event that is kept with a finding: 32 KiB, the most that one Windows command line
/// (32,767 UTF-16 units) fills in ASCII. What is longer is cut and says so.
pub const RAW_EVENT_BYTES: usize = 32 << 10;

/// Findings in one message; see [`MESSAGE_BYTES`].
pub const FINDINGS_PER_MESSAGE: usize = 16;

/// Lifelines of one machine. A PACS server talks to about 100 modalities; 256 leaves room, and an
/// nftables set of 256 elements loads in single milliseconds.
pub const LIFELINES_PER_MACHINE: usize = 256;

/// Addresses that are pinned for one name. A service behind a dozen front ends on two families is rare, and
/// each is a line to read and to sign for: 16.
pub const ADDRESSES_PER_NAME: usize = 16;

/// Networks that one name may be bound to: two sites on two families.
pub const NETWORKS_PER_NAME: usize = 4;

/// Lifelines of one machine that are known by name: a page. With one address and one service each, a quarter of
/// [`LIFELINES_PER_MACHINE`].
pub const NAMES_PER_MACHINE: usize = 64;

/// The longest name (machine, rule title, reason) that is taken over a border, in bytes.
pub const NAME_BYTES: usize = 1024;

/// Measures that a machine may say it holds: an isolation, one that takes its place, and all others. An
/// entry is about 80 bytes, so at most 5.2 KiB in each status.
pub const HOLDINGS_PER_MACHINE: usize = MEASURES_PER_MACHINE + 2;

/// Fields shown as the reason of one finding.
pub const MATCHED_FIELDS_PER_FINDING: usize = 32;

/// The longest path, in bytes: Linux's `PATH_MAX`, with its final zero.
pub const PATH_BYTES: usize = 4096;

/// Addresses of one blocked domain: a large content network answers with a dozen; 64 leaves room, and is a
/// set that the packet filter loads at once.
pub const ADDRESSES_PER_DOMAIN: usize = 64;

/// Pieces of evidence in one archive: six kinds and some fifty named files; an order with 64 paths of the
/// longest kind is 256 KiB, a quarter of a message.
pub const PIECES_PER_COLLECTION: usize = 64;

/// The largest archive of evidence: 8 GiB, the memory of a large process and the logs of a week.
pub const COLLECTION_BYTES: u64 = 8 << 30;

/// Measures besides its isolation that are in force on one machine at once. A plan against one intruder
/// freezes a tree, sets a few files aside and blocks a few peers: 64 is several of those. Each is below
/// 8 KiB of state, so half a megabyte in all.
pub const MEASURES_PER_MACHINE: usize = 64;

/// Measures of one machine that its hub shows as not over: twice what a machine may hold, so that those which
/// it lost with its memory, and people have not ended yet, leave room for all that it holds now. 132 of about
/// 2 KB. What it reports beyond is refused, counted and said.
pub const STANDING_PER_MACHINE: usize = 2 * HOLDINGS_PER_MACHINE;

/// Incidents of one machine of which the hub remembers that people were told: 16 bytes each. Of an older one
/// they are told once more.
pub const TOLD_PER_MACHINE: usize = 16;

/// Permits of one machine that the signer remembers: the newest and the one before it, which may be on its
/// way. Older ones ended before those.
pub const PERMITS_PER_MACHINE: usize = 2;

/// Lines in which a receipt says what was done, and the bytes of each.
pub const DONE_LINES: usize = 32;
/// See [`DONE_LINES`]: 32 × 256 bytes are 8 KiB of a message of 1 MiB.
pub const DONE_LINE_BYTES: usize = 256;
/// Tries that a receipt tells of, each in [`DONE_LINE_BYTES`]: four for each address of a hub.
pub const PROBES: usize = 64;
/// Bytes in which a receipt says why. With the longest action (64 paths of 4 KiB), 32 lines done, 32 of what
/// was spared, 32 unproven and 64 tries of 256 bytes, a receipt is below 300 KiB of a message of 1 MiB.
pub const WHY_BYTES: usize = 1024;

/// What an organisation names as needed for care on one machine: a page of names at most.
pub const PROTECTED: usize = 256;

/// Filesystems of one machine that are watched for contents that are denied: more disks than any has.
pub const WATCHED: usize = 16;

/// People who may say yes at night: a rota of a month; and parts of a policy's terms of approval.
pub const NIGHT_PEOPLE: usize = 32;

/// Open questions about one machine: one is about its isolation, the others each about some process. What is
/// beyond is not asked, and said to be not blocked: nobody reads a seventeenth.
pub const QUESTIONS_PER_MACHINE: usize = 16;

/// Open questions that one person has put by ordering what others must agree to: more than one person can see
/// through, and a stolen session can't bury the rest.
pub const QUESTIONS_PER_PERSON: usize = 32;
