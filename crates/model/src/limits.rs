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

/// The longest name (machine, rule title, reason) that is taken over a border, in bytes.
pub const NAME_BYTES: usize = 1024;

/// Fields shown as the reason of one finding.
pub const MATCHED_FIELDS_PER_FINDING: usize = 32;
