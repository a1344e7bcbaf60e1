//! An nftables table as a value: what is meant, and what the kernel says it holds.
//!
//! The one idea: the same type is written to the kernel ([`super::table`]) and read back from it, so
//! "in force as meant" is `==` over every expression of every rule, not a comparison of listings.
//! Only what Cordon's own rules use can be said; anything else read back is
//! [`Expression::Foreign`] and equals nothing that was meant.

use std::collections::BTreeSet;

/// A table of family `inet`, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What people see beside it in `nft list ruleset`.
    pub comment: String,
    /// Table flags: 0, or it is dormant, owned or otherwise not what was meant.
    pub flags: u32,
    /// Its sets, in the order of their names: their order in the kernel means nothing.
    pub sets: Vec<Set>,
    /// Its chains, likewise.
    pub chains: Vec<Chain>,
}

impl Table {
    /// A table that is in force, of these parts in any order.
    #[must_use]
    pub fn new(comment: &str, mut sets: Vec<Set>, mut chains: Vec<Chain>) -> Self {
        sets.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        chains.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Self { comment: comment.to_owned(), flags: 0, sets, chains }
    }

    /// Whether `other` differs only in its rules, and the chains and sets that they lead to.
    #[must_use]
    pub fn has_frame_of(&self, other: &Self) -> bool {
        let bases = |table: &Self| -> Vec<(String, Base)> {
            let base = |chain: &Chain| chain.base.clone().map(|base| (chain.name.clone(), base));
            table.chains.iter().filter_map(base).collect()
        };
        (&self.comment, self.flags) == (&other.comment, other.flags) && bases(self) == bases(other)
    }

    /// What people read beside the table's rules of what they are for.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.chains.iter().flat_map(|chain| &chain.rules).flatten().find_map(|step| match step {
            Expression::Comment(words) => Some(words.as_str()),
            _ => None,
        })
    }
}

/// One part of a set's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Transport protocol number.
    Protocol,
    /// Port.
    Port,
}

impl Field {
    /// Its length in a packet, in bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// The number that the `nft` tool gives the type, by which it prints keys.
    #[must_use]
    pub fn tool_type(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }
}

/// A set of keys that are looked up by their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// 0, or it is one of intervals, of verdicts, without a name or otherwise not what was meant.
    pub flags: u32,
    /// What its keys are made of; nothing if that is nothing that Cordon writes.
    pub key: Vec<Field>,
    /// What is in it.
    pub elements: BTreeSet<Element>,
}

/// Set flag of one that lives and dies with its rule (`NFT_SET_ANONYMOUS`).
pub const ANONYMOUS: u32 = 1;

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A key; each field is padded to 4 bytes.
    Key(Vec<u8>),
    /// Something that Cordon never writes, as the kernel shows it: the element that every key matches, one
    /// that has a limit or a counter, ends by itself or bears a comment.
    Foreign(Vec<u8>),
}

/// Where a base chain sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Packets to this machine.
    Input,
    /// Packets through this machine: containers, virtual machines, routing.
    Forward,
    /// Packets from this machine.
    Output,
}

impl Hook {
    /// The kernel's number (`NF_INET_*`).
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
        }
    }
}

/// What a base chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `NF_INET_*`.
    pub hook: u32,
    /// Lower is earlier.
    pub priority: i32,
    /// Whether what no rule decides is dropped.
    pub drops: bool,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it sits, if packets enter by it.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// A rule: expressions from left to right, until one does not match.
pub type Rule = Vec<Expression>;

/// A register of the kernel's rule machine: 1 to 4 hold 16 bytes; 8 to 23 are their quarters.
pub type Register = u32;

/// The register that begins after so many quarters, by the name that the kernel reads back.
#[must_use]
pub fn quarter(number: u32) -> Register {
    if number.is_multiple_of(4) { number / 4 + 1 } else { number + 8 }
}

/// What is known about a packet besides its bytes (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Interface that it came in by.
    InputInterface,
    /// Interface that it goes out by.
    OutputInterface,
    /// User that opened the socket it comes from.
    SocketUser,
    /// IPv4 (2) or IPv6 (10).
    Family,
    /// Transport protocol.
    Protocol,
}

/// What connection tracking knows (`NFT_CT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// State bits.
    State,
    /// 0 from whoever opened the connection, 1 to them.
    Direction,
    /// Status bits.
    Status,
    /// Mark bits.
    Mark,
    /// The port that the connection was first opened to, before any translation.
    OriginalPort,
}

/// Which header an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// IP.
    Network,
    /// TCP, UDP, ICMP.
    Transport,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This table lets it through; others may still drop it.
    Accept,
    /// It goes no further, whatever any other chain says.
    Drop,
    /// Go on in another chain, and come back.
    Jump(String),
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the variant's line says")]
pub enum Expression {
    /// Loads a fact.
    Meta { key: Meta, into: Register },
    /// Loads bytes of the packet.
    Payload { header: Header, offset: u32, bytes: u32, into: Register },
    /// Loads what tracking knows.
    Track { key: Track, into: Register },
    /// Gives the connection a mark.
    SetMark { from: Register },
    /// `register = (register & mask) ^ flip`.
    Bits { register: Register, mask: Vec<u8>, flip: Vec<u8> },
    /// Goes on only if equal (or only if not).
    Compare { register: Register, is_equal: bool, value: Vec<u8> },
    /// Goes on only if neither less nor more, as numbers in network order.
    Between { register: Register, first: Vec<u8>, last: Vec<u8> },
    /// Goes on only if the key that begins in `register` is in the set.
    Lookup { set: String, register: Register },
    /// Decides.
    Verdict(Verdict),
    /// Drops, and tells the sender by a TCP reset.
    Reset,
    /// What people read beside the rule; does nothing. Stands at a rule's end.
    Comment(String),
    /// Something that Cordon never writes.
    Foreign(String),
}
