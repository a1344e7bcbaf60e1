//! Processes: a row each, from `/proc`. Any of them may end while it is read; what is left of it is kept.
//!
//! Environments are left out: they hold passwords and tokens. A hidden process (one that a rootkit keeps
//! out of the list of `/proc`) is found where its number still answers: every number up to the largest
//! is tried, and those not listed are marked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex};

use cordon_evidence::archive::printable;
use cordon_model::action::ProcessTarget;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::gather::{About, Gatherer, Sink, Step};
use super::super::limits::{
    COMMAND_LINE_BYTES, ENVIRONMENT_BYTES, MAPS_BYTES, OPEN_FILES, PROCESSES_BYTES, PROGRAM_BYTES,
};
use crate::sensor::proc_files;

/// Programs that were hashed already: device, inode and time of change name a file's content well enough
/// within one collection.
type Hashes = Arc<Mutex<HashMap<(u64, u64, i64, i64), String>>>;

#[derive(Serialize)]
struct ProcessRow {
    pid: u32,
    /// Whether `/proc` lists it: a process that does not is hidden from whoever lists.
    is_listed: bool,
    name: String,
    parent: u32,
    /// Nanoseconds since boot, to 10 ms.
    started: u64,
    /// Lines of `/proc/PID/status`: state, users, groups, capabilities, namespaces' numbers.
    status: Vec<String>,
    login_user: Option<u32>,
    arguments: Vec<String>,
    program: String,
    program_is_deleted: bool,
    program_bytes: Option<u64>,
    program_sha256: Option<String>,
    folder: String,
    root: String,
    cgroup: String,
    namespaces: Vec<String>,
    open_files: Vec<OpenFile>,
    /// As the kernel writes it.
    maps: String,
    /// What was cut or could not be read.
    lacks: Vec<String>,
}

#[derive(Serialize)]
struct OpenFile {
    number: u32,
    leads_to: String,
}

#[derive(Serialize)]
struct Silent {
    pid: u32,
    lacks: &'static str,
}

/// All processes.
pub(in super::super) fn all(gatherer: &mut Gatherer) {
    let listed = proc_files::pids();
    let mut pids: Vec<(u32, bool)> = listed.iter().map(|pid| (*pid, true)).collect();
    pids.extend(hidden(&listed).into_iter().map(|pid| (pid, false)));
    pids.sort_unstable();
    let hashes = Hashes::default();
    let steps = pids
        .into_iter()
        .map(|(pid, is_listed)| {
            let silent = Silent { pid, lacks: "it could not be read, or ended meanwhile" };
            let mut instead = serde_json::to_vec(&silent).unwrap_or_default();
            instead.push(b'\n');
            let hashes = hashes.clone();
            let step: Step = Box::new(move |sink| match row(pid, is_listed, &hashes) {
                Some(row) => sink.row(&row),
                None => Err("it ended meanwhile".into()),
            });
            (instead, step)
        })
        .collect();
    let about = About {
        kind: "processes",
        source: b"/proc",
        how: "read, a row of JSON for each",
        most: PROCESSES_BYTES,
    };
    gatherer.piece_of(about, steps);
}

/// Numbers that answer and are not listed. Threads answer too, and are no processes of their own.
fn hidden(listed: &[u32]) -> Vec<u32> {
    let largest = std::fs::read_to_string("/proc/sys/kernel/ns_last_pid")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(0)
        .max(listed.iter().copied().max().unwrap_or(0));
    let listed: std::collections::HashSet<u32> = listed.iter().copied().collect();
    (1..=largest)
        .filter(|pid| !listed.contains(pid))
        .filter(|pid| {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(*pid).unwrap_or(0));
            nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH)
        })
        .filter(|pid| is_leader(*pid))
        .collect()
}

fn is_leader(pid: u32) -> bool {
    let status = text(pid, "status", 8 << 10);
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    group.is_some_and(|group| group.trim() == pid.to_string())
        // One that was started since the list was made is no secret.
        && !proc_files::pids().contains(&pid)
}

fn row(pid: u32, is_listed: bool, hashes: &Hashes) -> Option<ProcessRow> {
    let stat = proc_files::stat(pid)?;
    let mut lacks = Vec::new();
    let link = |what: &str| {
        std::fs::read_link(format!("/proc/{pid}/{what}"))
            .map(|path| printable(path.as_os_str().as_bytes()))
            .unwrap_or_default()
    };
    let (program, program_is_deleted) = proc_files::image(pid).unwrap_or_default();
    let mut command_line = bytes(pid, "cmdline", COMMAND_LINE_BYTES + 1);
    if command_line.len() > COMMAND_LINE_BYTES {
        command_line.truncate(COMMAND_LINE_BYTES);
        lacks.push(format!("the command line is longer than {COMMAND_LINE_BYTES} bytes"));
    }
    let mut arguments: Vec<String> = command_line.split(|byte| *byte == 0).map(printable).collect();
    if arguments.last().is_some_and(String::is_empty) {
        arguments.pop();
    }
    let mut maps = bytes(pid, "maps", MAPS_BYTES + 1);
    if maps.len() > MAPS_BYTES {
        maps.truncate(MAPS_BYTES);
        lacks.push(format!("the map is longer than {MAPS_BYTES} bytes"));
    }
    let (program_bytes, program_sha256) = match program_hash(pid, hashes) {
        Ok((bytes, sha256)) => (Some(bytes), Some(sha256)),
        Err(error) => {
            // The kernel's own threads run no program.
            if !program.is_empty() {
                lacks.push(format!("the program's hash: {error}"));
            }
            (None, None)
        }
    };
    let namespaces = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    Some(ProcessRow {
        pid,
        is_listed,
        name: printable(stat.short_name.as_bytes()),
        parent: stat.parent,
        started: stat.started.0,
        status: text(pid, "status", 8 << 10).lines().map(str::to_owned).collect(),
        login_user: proc_files::login_uid(pid),
        arguments,
        program: printable(program.as_bytes()),
        program_is_deleted,
        program_bytes,
        program_sha256,
        folder: link("cwd"),
        root: link("root"),
        cgroup: text(pid, "cgroup", 8 << 10),
        namespaces: namespaces.iter().map(|name| link(&format!("ns/{name}"))).collect(),
        open_files: open_files(pid, &mut lacks),
        maps: String::from_utf8_lossy(&maps).into_owned(),
        lacks,
    })
}

fn open_files(pid: u32, lacks: &mut Vec<String>) -> Vec<OpenFile> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut found: Vec<OpenFile> = entries
        .filter_map(Result::ok)
        .take(OPEN_FILES + 1)
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let leads_to = std::fs::read_link(entry.path()).ok()?;
            Some(OpenFile { number, leads_to: printable(leads_to.as_os_str().as_bytes()) })
        })
        .collect();
    if found.len() > OPEN_FILES {
        found.truncate(OPEN_FILES);
        lacks.push(format!("more than {OPEN_FILES} open files"));
    }
    found
}

/// Length and SHA-256 of the file that runs, even if it has been deleted or replaced.
fn program_hash(pid: u32, hashes: &Hashes) -> io::Result<(u64, String)> {
    let mut file = File::open(format!("/proc/{pid}/exe"))?;
    let metadata = file.metadata()?;
    let key = (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
    let known = hashes.lock().ok().and_then(|hashes| hashes.get(&key).cloned());
    if let Some(known) = known {
        return Ok((metadata.len(), known));
    }
    if metadata.len() > PROGRAM_BYTES {
        return Err(io::Error::other(format!("it is larger than {PROGRAM_BYTES} bytes")));
    }
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = PROGRAM_BYTES;
    while left > 0 {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        left = left.saturating_sub(count as u64);
    }
    let text: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Ok(mut hashes) = hashes.lock() {
        hashes.insert(key, text.clone());
    }
    Ok((metadata.len(), text))
}

/// The environment of a process that the order names.
pub(in super::super) fn environment(target: &ProcessTarget, gatherer: &mut Gatherer) {
    let source = format!("/proc/{}/environ", target.process.pid);
    let about = About {
        kind: "environment",
        source: source.as_bytes(),
        how: "read",
        most: ENVIRONMENT_BYTES,
    };
    let target = target.clone();
    let path = source.clone();
    gatherer.piece(
        about,
        Box::new(move |sink: &mut Sink| {
            is_still(&target)?;
            let mut file = File::open(&path).map_err(|error| error.to_string())?;
            sink.copy(&mut file, ENVIRONMENT_BYTES + 1)?;
            is_still(&target)
        }),
    );
}

/// A number may be another process by now.
pub(super) fn is_still(target: &ProcessTarget) -> Result<(), String> {
    /// `/proc` knows a start to a hundredth of a second, the sensor to a nanosecond.
    const APART: u64 = 20_000_000;
    let pid = target.process.pid;
    let started =
        proc_files::stat(pid).ok_or_else(|| format!("process {pid} has ended"))?.started.0;
    if started.abs_diff(target.process.started.0) > APART {
        return Err(format!("process {pid} is another by now"));
    }
    Ok(())
}

pub(super) fn bytes(pid: u32, file: &str, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/{file}")) {
        let _ = file.take(most as u64).read_to_end(&mut bytes);
    }
    bytes
}

fn text(pid: u32, file: &str, most: usize) -> String {
    String::from_utf8_lossy(&bytes(pid, file, most)).into_owned()
}
