//! What the lookout saw, told by a process of its own: it reads what is kept, and looks at each place once more.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cordon_model::action::FilePath;
use cordon_model::change::{Change, Changes, MOST_CHANGES, MOST_GAPS};
use cordon_model::time::UtcNanos;

use super::book::{Known, Record};
use super::limits;
use super::standing;
use super::store::Store;
use crate::contain::survey::take::Wanted;
use crate::contain::urgency::stand_last;

/// Processor seconds of this process: it reads a thousand small files at most.
const PROCESSOR_SECONDS: u64 = 30;
/// Beyond this many signs of life that did not come, nobody looks out any more.
const SIGNS: u32 = 3;

/// Writes what is wanted to standard output; what it returns is the process's exit code. To be called by a process that
/// does nothing else.
#[must_use]
pub fn run(folder: &Path, root: &Path, wanted: Wanted) -> i32 {
    let since = match wanted {
        Wanted::Nothing => return 0,
        Wanted::All => UtcNanos::from_unix_nanos(i64::MIN),
        Wanted::Since(since) => since,
    };
    stand_last(PROCESSOR_SECONDS);
    let told = tell(folder, root, since, UtcNanos::now()).and_then(|changes| {
        let mut bytes = Vec::new();
        ciborium::into_writer(&changes, &mut bytes).map_err(io::Error::other)?;
        Ok(bytes)
    });
    let (bytes, code) = match told {
        Ok(bytes) => (bytes, 0),
        Err(error) => (error.to_string().into_bytes(), 1),
    };
    let mut out = io::stdout().lock();
    let is_told = out.write_all(&bytes).and_then(|()| out.flush()).is_ok();
    if is_told { code } else { 1 }
}

/// What changed at `since` or later.
///
/// # Errors
/// When nobody has looked out yet, or the disk fails.
pub fn tell(folder: &Path, root: &Path, since: UtcNanos, now: UtcNanos) -> io::Result<Changes> {
    let store = Store::open(folder)?;
    let nobody = || io::Error::other("nobody has looked out on this machine yet");
    let known = store.known()?.ok_or_else(nobody)?;
    let mut records = store.changes()?;
    // Of a place that changed since, what was done to it before, too: what stood there is told by all of it.
    let concerned: BTreeSet<FilePath> = records
        .iter()
        .filter(|record| record.until >= since)
        .map(|record| record.path.clone())
        .collect();
    records.retain(|record| concerned.contains(&record.path));
    let of = u32::try_from(records.len()).unwrap_or(u32::MAX);
    records.reverse();
    let untold = records.split_off(MOST_CHANGES.min(records.len()));
    // Of a place that is told in part, what stood there first is not what was there before them.
    let in_part: BTreeSet<FilePath> = untold.into_iter().map(|record| record.path).collect();
    for record in records.iter_mut().filter(|record| in_part.contains(&record.path)) {
        record.follows_unknown = true;
    }
    let changes = records.into_iter().map(|record| told(record, root)).collect();
    let first = known.since.unwrap_or(now);
    let watched_since = known.breaks.back().map_or(first, |(_, to)| *to);
    Ok(Changes {
        taken_at: now,
        watched_since,
        changes,
        of,
        gaps: gaps(&known, &store, since, now),
    })
}

fn told(record: Record, root: &Path) -> Change {
    let below = record.path.as_bytes().strip_prefix(b"/").unwrap_or_default();
    let now = standing::look(&root.join(OsStr::from_bytes(below)));
    let is_now = now.is_ok_and(|(now, _)| now.is(&record.after));
    Change {
        number: record.number,
        path: record.path,
        kind: record.kind,
        at: record.at,
        boot: record.boot,
        by: record.by,
        before: record.before.told(),
        after: record.after.told(),
        lines: record.lines,
        follows_unknown: record.follows_unknown,
        is_now,
    }
}

fn gaps(known: &Known, store: &Store, since: UtcNanos, now: UtcNanos) -> Vec<String> {
    let mut gaps = Vec::new();
    let alive = store.alive().unwrap_or(now);
    if now.since(alive) > limits::SIGN_OF_LIFE * SIGNS {
        gaps.push(format!("nobody has looked out since {alive}"));
    }
    for (from, to) in known.breaks.iter().filter(|(_, to)| *to >= since) {
        gaps.push(format!(
            "nobody looked out from {from} to {to}: what changed then is told as one change each, by nobody known"
        ));
    }
    let counted = [
        (
            known.overflows,
            "times the kernel told of more than could be heard: by whom is not known of what changed then",
        ),
        (known.forgotten, "older changes are not remembered any more"),
        (known.beyond, "things are more than are known at once"),
        (known.unkept, "contents were not kept, for want of room"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    gaps.extend(counted.map(|(count, what)| format!("{count} {what}")));
    gaps.extend(known.gaps.iter().cloned());
    gaps.truncate(MOST_GAPS);
    gaps
}
