//! Opening an archive of evidence, which may be hostile, where it can do nothing.
//!
//! The one idea: whoever checks evidence is often root, and what unpacks it may have a hole. So a **child** reads
//! it, that was given the open file and has given up everything else before it reads a byte: another user's
//! files, the network, programs, memory and time without end. What it says is a verdict and a few lines; those
//! are bounded and made printable before anybody sees them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::contain::action::kernel::{close_all_others, give_up_all_but_reading};
use cordon_evidence::archive::{check as check_archive, printable};
use ed25519_dalek::VerifyingKey;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};

use crate::tools::{hex, key_from_hex};

/// The most memory: the longest manifest (32 MiB) as text, which grows by doubling, and the 16,384 pieces that an
/// archive may have, read from it, are below 128 MiB.
const MEMORY_BYTES: u64 = 256 << 20;
/// The most time of a processor: the largest archive (8 GiB unpacked) at 2.3 MiB/s.
const PROCESSOR_SECONDS: u64 = 3600;
/// The most time in all: twice that.
const WITHIN: Duration = Duration::from_secs(2 * PROCESSOR_SECONDS);
const LOOKED_AT_EVERY: Duration = Duration::from_millis(5);
/// The most that is heard: sixteen faults and ten lines more have 8 KiB.
const REPORT_BYTES: u64 = 64 << 10;
/// `nobody`, by its number on every Linux.
const NOBODY: u32 = 65534;
/// How the child ends where it can't read or can't be confined.
const UNABLE: i32 = 2;

/// What the child is told; the archive is its standard input.
#[derive(Debug, Clone, clap::Args)]
pub struct OpenArgs {
    /// The receipt key, 64 hexadecimal digits.
    #[arg(long)]
    key: Option<String>,
}

/// Checks `archive` in a child: whether it is sound, and the report.
///
/// # Errors
/// If the child can't be started or confined, or was ended by one of its bounds.
pub fn check(archive: File, key: Option<&VerifyingKey>) -> Result<(bool, String)> {
    // Whoever writes into a pipe could have us wait for ever.
    anyhow::ensure!(
        archive.metadata()?.is_file(),
        "this is no file: an archive of evidence is one"
    );
    let mut command = Command::new("/proc/self/exe");
    command.args(["role", "open-evidence"]);
    if let Some(key) = key {
        command.args(["--key", &hex(&key.to_bytes())]);
    }
    let mut child = command
        .env_clear()
        .current_dir("/")
        .stdin(archive)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the process that opens it")?;
    let from = child.stdout.take();
    let hearing = std::thread::spawn(move || {
        let mut said = Vec::new();
        // Beyond it nobody listens: the child's next word ends it.
        from.map_or(Ok(0), |from| from.take(REPORT_BYTES).read_to_end(&mut said)).map(|_| said)
    });
    let began = Instant::now();
    let status = loop {
        let ended = child.try_wait().context("waiting for the process that opens it")?;
        if let Some(status) = ended {
            break status;
        }
        // One that was taken over could wait for ever, which costs no processor.
        if began.elapsed() > WITHIN {
            let _ = child.kill();
        }
        std::thread::sleep(LOOKED_AT_EVERY);
    };
    let said = hearing.join().map_err(|_| anyhow::anyhow!("nobody heard what was found"))?;
    let said = said.context("hearing what was found")?;
    judged(status, &said)
}

/// What is believed of a child that read hostile bytes.
fn judged(status: ExitStatus, said: &[u8]) -> Result<(bool, String)> {
    let text = in_plain_words(said);
    match status.code() {
        Some(0) => Ok((true, text)),
        Some(1) if !text.is_empty() => Ok((false, text)),
        Some(UNABLE) => bail!("{text}"),
        _ => {
            let how =
                status.signal().map_or_else(String::new, |signal| format!(" (signal {signal})"));
            bail!(
                "NOT SOUND: what opens it was ended{how}. It may take {} MiB of memory and {} minutes of a \
                 processor, and no archive of Cordon's needs that: take this one for hostile, and don't open it \
                 with other tools",
                MEMORY_BYTES >> 20,
                PROCESSOR_SECONDS / 60
            )
        }
    }
}

/// The lines, with nothing in them that a terminal obeys. Backslashes were escapes already.
fn in_plain_words(said: &[u8]) -> String {
    let plain = |line: &[u8]| {
        let parts = line.split(|byte| *byte == b'\\').map(printable);
        parts.collect::<Vec<_>>().join("\\")
    };
    let lines = said.split(|byte| *byte == b'\n').map(plain);
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The child: gives everything up, then reads. Its exit status is the verdict.
pub fn open(args: &OpenArgs) -> Result<()> {
    let verdict = args
        .key
        .as_deref()
        .map(key_from_hex)
        .transpose()
        .and_then(|key| give_up_everything().map(|()| key))
        .and_then(|key| Ok(check_archive(std::io::stdin().lock(), key.as_ref())?));
    let (status, text) = match verdict {
        Ok(report) => (i32::from(!report.is_sound()), report.to_string()),
        Err(error) => (UNABLE, crate::with_causes(&error)),
    };
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    // Not by returning: nothing more is allowed that the way back would ask for.
    std::process::exit(status)
}

fn give_up_everything() -> Result<()> {
    let doing = "giving up what opening an archive does not need";
    for (what, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_CPU, PROCESSOR_SECONDS),
        (Resource::RLIMIT_DATA, MEMORY_BYTES),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NOFILE, 0),
        (Resource::RLIMIT_NPROC, 0),
    ] {
        setrlimit(what, most, most).with_context(|| format!("{doing} ({what:?})"))?;
    }
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&[]).context(doing)?;
        nix::unistd::setgid(Gid::from_raw(NOBODY)).context(doing)?;
        nix::unistd::setuid(Uid::from_raw(NOBODY)).context(doing)?;
    }
    nix::sys::prctl::set_dumpable(false).context(doing)?;
    close_all_others().and_then(|()| give_up_all_but_reading()).context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32, said: &[u8]) -> Result<(bool, String)> {
        judged(ExitStatus::from_raw(raw), said)
    }

    #[test]
    fn only_a_childs_own_verdict_is_believed() {
        assert_eq!(ended(0, b"sound\n").unwrap(), (true, "sound".into()));
        assert_eq!(ended(1 << 8, b"NOT SOUND").unwrap(), (false, "NOT SOUND".into()));
        assert_eq!(ended(2 << 8, b"no disk").unwrap_err().to_string(), "no disk");
        for raw in [6, 9, 24, 101 << 8, 1 << 8] {
            let said = ended(raw, b"").unwrap_err().to_string();
            assert!(said.contains("NOT SOUND") && said.contains("256 MiB"), "{said}");
        }
    }

    #[test]
    fn what_it_says_can_do_nothing_to_a_terminal() {
        let said = in_plain_words(b"a\\xff\n\x1b[2J\xe2\x80\xae\r\n");
        assert_eq!(said, "a\\xff\n\\u{1b}[2J\\u{202e}\\r");
    }
}
