//! Containment on Linux: the only code that changes a machine.
//!
//! Read in this order:
//!
//! | module | owns |
//! |---|---|
//! | [`intent`] | what an isolation is meant to do to flows |
//! | [`ruleset`], [`cover`], [`nft`] | the nftables table that does it, as a value |
//! | [`table`] | that table in the kernel: one transaction, read back, watched |

pub mod client;
pub mod cover;
pub mod disk;
pub mod enforce;
pub mod helper;
pub mod intent;
pub mod keeper;
pub mod moment;
mod netlink;
pub mod nft;
pub mod probe;
pub mod protocol;
pub mod ruleset;
pub mod sockets;
pub mod table;

pub use netlink::NetlinkError;
