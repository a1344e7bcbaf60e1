//! What runs as root on a machine, in a program of its own: the helper, its warden, and who gathers evidence
//! and looks around for the helper.
//!
//! The one idea: the process that may change anything on a machine carries nothing that it does not need. No
//! hub, no console, no database lies in its memory. The
//! command stays `cordon role helper`: that goes on as this program where it lies beside `cordon` and only root
//! can have put it there ([`beside`]); everywhere else `cordon` does the same work itself.

#![forbid(unsafe_code)]

pub mod beside;
mod roles;

use std::io::IsTerminal as _;

pub use roles::{Role, run, user_number};

/// Logs go to standard error, in colour on a terminal only (and not where `NO_COLOR` is set);
/// `CORDON_LOG` chooses what (`info` by default), as the crate `tracing-subscriber` reads it.
pub fn begin_logging(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CORDON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if json { logs.json().init() } else { logs.with_target(false).init() }
}

/// A role is in no terminal's foreground: where `stty tostop` is set, its first word would stop it. Inherited
/// by every thread that is made from here on.
///
/// # Errors
/// If the system refuses.
pub fn speak_from_the_background() -> nix::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut stop_at_word = SigSet::empty();
    stop_at_word.add(Signal::SIGTTOU);
    stop_at_word.thread_block()
}
