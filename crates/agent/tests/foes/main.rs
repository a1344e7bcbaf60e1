//! Real programs of a hospital's machines, run while a machine is isolated: firewalls, container engines,
//! DHCP and router advertisements; and packets that are made to slip past rules.
//!
//! What the other tests simulate (a flush, a foreign table, a datagram at a DHCP port) the real program
//! does here, in a network namespace, with its own configuration in a folder of its own. Each test is
//! called after the failure of another product that it shows not to happen.
//!
//! | file | who |
//! |---|---|
//! | `siege` | the isolated machine, who tries to get in and out all the while, and what must go on |
//! | `programs` | finding and running a real program |
//! | `firewalld`, `ufw`, `iptables`, `docker` | firewalls and container engines: start, reload, stop |
//! | `leases` | addresses that end unless they are renewed |
//! | `fragments`, `forged` | fragments and extension headers |
//! | `boot` | a restart of the whole machine, the helper before the network |
//!
//! All need root. Where a program is missing the test says so and is skipped: `tools/install test`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

#[path = "../contain_world/mod.rs"]
mod contain_world;

mod boot;
mod docker;
mod firewalld;
mod forged;
mod fragments;
mod iptables;
mod leases;
mod programs;
mod siege;
mod ufw;
