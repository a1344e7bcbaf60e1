//! The eleven points.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

#[path = "../contain_world/mod.rs"]
mod contain_world;
mod killed;
mod wiped;
