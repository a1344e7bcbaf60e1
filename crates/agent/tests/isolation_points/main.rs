//! The eleven points of an isolation that can be trusted, each shown with real packets in network
//! namespaces. Each test is called after its point.
//!
//! | point | where |
//! |---|---|
//! | 1. one atomic transaction; killed at any instant, the old state or the new | `killed`, `reapplied`; of codes, permits and assignments: `spent` |
//! | 2. what stays is pinned and shipped before; nothing is resolved; DNS is shut | `pinned`, `named`; needs known by a word: `lifelines` |
//! | 3. IPv4 and IPv6 alike; loopback, ARP and ND; the agent's own exemption; containers | `families`, `containers`; real DHCP clients: `../foes/leases` |
//! | 4. existing flows are cut, shown with a live session | `sessions` |
//! | 5. in force again | `restarted`; on an earlier version's disk: `upgraded`; before the network is: `../foes/boot` |
//! | 6. watched, put back when wiped, each wipe a finding | `wiped` |
//! | 7. the weakest truth, with receipts | `truth` |
//! | 8. a lease, and what follows its end | `leases` |
//! | 9. watch, segment, full | `modes`; what is signed for of what intruders move by: `lifelines` |
//! | 10. a brake | `brake` |
//! | 11. an order waits for a machine that is off | with the real hub: `tests/tests/away.rs` |
//!
//! All need root, and say so when they are skipped; with `CORDON_MUST_RUN=1` they fail instead.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

#[path = "../contain_world/mod.rs"]
mod contain_world;

mod brake;
mod containers;
mod families;
mod killed;
mod leases;
mod lifelines;
mod modes;
mod named;
mod pinned;
mod reapplied;
mod restarted;
mod sessions;
mod spent;
mod truth;
mod upgraded;
mod wiped;
