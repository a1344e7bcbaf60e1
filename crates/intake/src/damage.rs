//! What could not be read, where it stood, and what was lost with it.
//!
//! The one idea: damage is an item of the stream like a record is, never an end of it. Only a file that
//! gives nothing at all is an error ([`Unreadable`]).

use std::fmt;

/// A place in a file that could not be read. The rest of the file was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The byte of the file where it starts.
    pub offset: u64,
    /// The line of the file where it starts, counted from one, if the file has lines.
    pub line: Option<u64>,
    /// What is wrong there.
    pub reason: String,
    /// What was lost.
    pub lost: Lost,
}

/// What a [`Damage`] cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Nothing that is known of: a checksum is wrong, the records could be read all the same.
    Nothing,
    /// One record, by its number.
    Record {
        /// The record's number.
        id: u64,
        /// Its length.
        bytes: u64,
    },
    /// A run of records. The numbers follow from the neighbours' and are absent when those don't tell.
    Records {
        /// First and last number.
        ids: Option<(u64, u64)>,
        /// The length of the run.
        bytes: u64,
    },
    /// A whole 64 KiB chunk.
    Chunk {
        /// The chunk's number in the file, from zero.
        number: u64,
        /// How many chunks the file has.
        of: u64,
        /// Its length.
        bytes: u64,
        /// Records that were found in it all the same, by their own marks.
        salvaged: u64,
    },
    /// The last values of an event that has too many; the event was read with the others.
    Values {
        /// How many.
        values: u64,
    },
    /// Text that holds no whole event.
    Text {
        /// Its length.
        bytes: u64,
    },
    /// What follows a cut. Nobody can say how much it was.
    Unknown,
}

impl Lost {
    /// Whether anything was lost.
    #[must_use]
    pub fn is_anything(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing lost"),
            Self::Record { id, bytes } => write!(f, "lost record {id} ({bytes} bytes)"),
            Self::Records { ids: Some((first, last)), bytes } if first == last => {
                write!(f, "lost record {first} ({bytes} bytes)")
            }
            Self::Records { ids: Some((first, last)), bytes } => {
                write!(f, "lost records {first} to {last} ({bytes} bytes)")
            }
            Self::Records { ids: None, bytes } => write!(f, "lost {bytes} bytes of records"),
            Self::Chunk { number, of, bytes, salvaged: 0 } => {
                write!(f, "lost chunk {number} of {of} ({bytes} bytes)")
            }
            Self::Chunk { number, of, bytes, salvaged } => write!(
                f,
                "chunk {number} of {of} ({bytes} bytes): {salvaged} records salvaged, the others lost"
            ),
            Self::Values { values } => write!(f, "lost {values} values of an event"),
            Self::Text { bytes } => write!(f, "lost {bytes} bytes"),
            Self::Unknown => f.write_str("lost what followed"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {}; {}", self.reason, self.lost)
    }
}

/// Why a file gave nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The operating system refused.
    #[error("can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// No bytes. A log that was collected while its disk was full looks like this.
    #[error("the file is empty")]
    Empty,
    /// Shorter than the header that every event log starts with.
    #[error("an event log cut short inside its header ({bytes} of 4096 bytes); collect it again")]
    CutHeader {
        /// The file's length.
        bytes: u64,
    },
    /// Named `.evtx`, but it isn't one.
    #[error("named .evtx, but neither an EVTX header nor a chunk is in it")]
    NotEvtx,
    /// The event log format before Windows Vista.
    #[error(
        "an event log of Windows XP or 2003 (.evt), which is not read; convert it with `wevtutil epl /lf`"
    )]
    OldEventLog,
    /// An archive or a compressed file.
    #[error("a {0} file; unpack it first")]
    Compressed(&'static str),
    /// UTF-16 text.
    #[error("text in UTF-16; convert it to UTF-8 first")]
    Utf16,
    /// Nothing that is known here.
    #[error("neither EVTX nor JSON")]
    Unknown,
}
