//! What is gathered, kind by kind. Each says where it looks and what it leaves out on purpose.
//!
//! | module | kind |
//! |---|---|
//! | [`processes`] | command lines, parents, users, programs and their hashes, open files, maps; environments and memory only where ordered |
//! | [`network`] | sockets, addresses, routes, neighbours of every network namespace; the packet filter's rules |
//! | [`files`] | named files, and the files that say who may sign in and what starts by itself |
//! | [`system`] | modules, mounts, the kernel's own words about itself |

pub(super) mod files;
pub(super) mod memory;
pub(super) mod network;
pub(super) mod processes;
pub(super) mod system;
