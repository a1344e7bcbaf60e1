//! Containment on Linux: the only code that changes a machine.
//!
//! A small privileged process, the **helper**, holds this machine's measures; the agent, which is not
//! privileged, carries signed documents to it and receipts away. Everything happens in the network
//! namespace that the helper was started in.
//!
//! ```text
//! agent ── protocol ──► helper ─► executor ─► respond::helper_core   decides (pure)
//!                                      ├────► disk                   what is meant, before it is done
//!                                      └────► enforce ─► ruleset ─► table    one transaction, read back
//!                                                  ├───► sockets            what is open is closed
//!                                                  └───► probe              what must fail fails
//! ```
//!
//! Read in this order:
//!
//! | module | owns |
//! |---|---|
//! | [`intent`] | what an isolation is meant to do to flows |
//! | [`ruleset`], `flows`, [`cover`], [`nft`] | the nftables table that does it, as a value |
//! | [`table`], `upheld` | that table in the kernel: one transaction, read back, watched |
//! | [`sockets`], [`probe`] | cutting what is open; showing that it holds |
//! | [`enforce`] | these four, in their order |
//! | [`way`] | whether a full isolation would leave a machine behind a tunnel its way to the hub |
//! | `means`, `beside`, `preview` | everything that can be done besides isolating; what of it takes long; what it would do |
//! | [`action`] | freezing, killing, quarantining, denying, blocking: how each is done, proven and taken back |
//! | [`disk`], [`floor`], [`executor`] | what survives a crash, and what even a lost memory; documents in, receipts out |
//! | [`helper`], `pace`, [`protocol`], [`client`] | the process, how often it looks after changes, what it is asked, and the agent's end |
//! | [`survey`] | looking again and again at what starts by itself or lets somebody in |
//! | [`lookout`] | seeing what is changed there as it is made, and keeping what was there before |
//! | [`bulletin`] | telling the person in front of the machine |
//! | [`door`] | the one thing that any user of the machine may ask: to open it by a code |
//! | [`moment`], [`urgency`], `resident`, `ready` | its clocks, its place on the processor, the memory that it gives back, and its word to a service manager |

pub mod action;
mod beside;
pub mod bulletin;
pub mod client;
mod codec;
pub mod cover;
pub mod disk;
pub mod door;
pub mod enforce;
pub mod executor;
pub mod floor;
mod flows;
pub mod helper;
pub mod intent;
pub mod lookout;
mod means;
pub mod moment;
mod netlink;
pub mod nft;
mod pace;
mod phrase;
mod preview;
pub mod printers;
pub mod probe;
pub mod protocol;
mod ready;
mod resident;
pub mod ruleset;
pub mod sockets;
pub mod survey;
pub mod table;
mod tracked;
mod upheld;
pub mod urgency;
pub mod way;

pub use netlink::NetlinkError;
