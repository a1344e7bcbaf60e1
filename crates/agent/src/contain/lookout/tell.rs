//! What the lookout saw, told by a process of its own: it reads what is kept, and looks at each place once more.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cordon_model::action::FilePath;
use cordon_model::change::{Change, Changes, MOST_CHANGES, MOST_GAPS};
use cordon_model::limits::NAME_BYTES;
use cordon_model::time::UtcNanos;

use super::book::{Known, Record};
use super::limits;
use super::spots::{Realm, SYSTEM, Spots};
use super::standing::{self, Standing, View};
use super::store::Store;
use crate::contain::action::mounts::{Mount, mounts};
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
    let table = mounts()?;
    let spots = Spots::of_machine(root, table.clone());
    let (mut records, untold) =
        chosen(records, |path| spots.realm_of(&in_root(root, path)), MOST_CHANGES);
    // Of a place that is told in part, what stood there first is not what was there before them.
    let in_part: BTreeSet<FilePath> = untold.into_iter().map(|record| record.path).collect();
    for record in records.iter_mut().filter(|record| in_part.contains(&record.path)) {
        record.follows_unknown = true;
    }
    let changes = records.into_iter().map(|record| told(record, root, &table)).collect();
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

/// The newest, at most so many: two thirds of the system's places if they have as many, and of each home as many as of any
/// other: nobody has what others did left out by doing much. And the rest. Each the newest first.
fn chosen(
    records: Vec<Record>,
    whose: impl Fn(&FilePath) -> Realm,
    most: usize,
) -> (Vec<Record>, Vec<Record>) {
    let mut by_realm: BTreeMap<Realm, Vec<Record>> = BTreeMap::new();
    for record in records {
        by_realm.entry(whose(&record.path)).or_default().push(record);
    }
    let mut taken = Vec::new();
    let mut of_the_system = by_realm.remove(&SYSTEM).unwrap_or_default();
    let first = of_the_system.len().saturating_sub(most * 2 / 3);
    taken.extend(of_the_system.drain(first..));
    while taken.len() < most && !by_realm.is_empty() {
        for records in by_realm.values_mut() {
            if taken.len() < most {
                taken.extend(records.pop());
            }
        }
        by_realm.retain(|_, records| !records.is_empty());
    }
    while taken.len() < most
        && let Some(record) = of_the_system.pop()
    {
        taken.push(record);
    }
    let mut rest: Vec<Record> = by_realm.into_values().flatten().chain(of_the_system).collect();
    for records in [&mut taken, &mut rest] {
        records.sort_by_key(|record| std::cmp::Reverse(record.number));
    }
    (taken, rest)
}

fn in_root(root: &Path, path: &FilePath) -> PathBuf {
    let below = path.as_bytes().strip_prefix(b"/").unwrap_or_default();
    root.join(OsStr::from_bytes(below))
}

fn told(record: Record, root: &Path, mounts: &[Mount]) -> Change {
    // What is larger than it was is another: whoever lets their files grow has nobody read them for that.
    let hashed_bytes = match &record.after {
        Standing::File(file) => file.metadata.size,
        Standing::Nothing | Standing::Link(_) | Standing::Other(_) => 0,
    };
    let view = View { root, mounts, hashed_bytes, read: &Cell::new(0) };
    let now = standing::look(&in_root(root, &record.path), view);
    let is_now = now.is_ok_and(|(now, _)| now.is_but_for_flags(&record.after));
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
    match store.alive() {
        None => gaps.push("it is not known when somebody last looked out".to_owned()),
        Some(alive) if now.since(alive) > limits::SIGN_OF_LIFE * SIGNS => {
            gaps.push(format!("nobody has looked out since {alive}"));
        }
        Some(_) => {}
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
    for (home, at) in known.lost_at.iter().filter(|(_, at)| **at >= since) {
        let what = format!(
            "at {at} more happened than could be heard in {home}: by whom is not known of what changed there then"
        );
        gaps.push(standing::cut(&what, NAME_BYTES));
    }
    gaps.extend(known.gaps.iter().cloned());
    if gaps.len() > MOST_GAPS {
        let more = gaps.len() - (MOST_GAPS - 1);
        gaps.truncate(MOST_GAPS - 1);
        gaps.push(format!("and {more} more that was not seen"));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use cordon_model::change::Doer;
    use cordon_model::survey::ThingKind;
    use cordon_model::time::BootId;

    use super::*;

    fn record(number: u64, path: &str) -> Record {
        Record {
            number,
            path: FilePath::new(path),
            kind: ThingKind::CronLine,
            at: UtcNanos::from_unix_nanos(0),
            until: UtcNanos::from_unix_nanos(0),
            boot: BootId("boot".into()),
            by: Vec::new(),
            is_by_many: false,
            before: Standing::Nothing,
            after: Standing::Nothing,
            lines: Vec::new(),
            follows_unknown: false,
        }
    }

    #[test]
    fn what_is_told_in_part_is_told_to_follow_what_is_not() {
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(folder.path()).unwrap();
        store.write_known(&Known { since: Some(record(1, "/x").at), ..Known::default() }).unwrap();
        let most = u64::try_from(MOST_CHANGES).unwrap();
        // One more than is told, of one place; before them one of another.
        store.write_change(&record(1, "/etc/crontab")).unwrap();
        for number in 2..most + 2 {
            store.write_change(&record(number, "/etc/cron.d/much")).unwrap();
        }
        let zero = UtcNanos::from_unix_nanos(0);
        let told = tell(folder.path(), root.path(), zero, zero).unwrap();
        assert_eq!((told.changes.len(), told.of), (MOST_CHANGES, MOST_CHANGES as u32 + 1));
        assert!(told.changes.iter().all(|change| !change.follows_unknown), "the other is left out");
        store.write_change(&record(most + 2, "/etc/crontab")).unwrap();
        let told = tell(folder.path(), root.path(), zero, zero).unwrap();
        let (of_crontab, others): (Vec<_>, Vec<_>) =
            told.changes.iter().partition(|change| change.path == FilePath::new("/etc/crontab"));
        assert_eq!((of_crontab.len(), of_crontab[0].number), (1, most + 2));
        assert!(of_crontab[0].follows_unknown, "what stood there first is not what is told");
        assert!(others.iter().all(|change| change.follows_unknown), "nor there");
    }

    #[test]
    fn of_a_change_that_is_torn_nobody_is_named_for_others_may_have_been() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let doer = |pid| Doer { pid, process: None, above: Vec::new(), is_cordon: false };
        let by = |pids: &[u32]| Record {
            by: pids.iter().copied().map(doer).collect(),
            ..record(1, "/etc/crontab")
        };
        store.write_change(&by(&[7])).unwrap();
        store.write_change(&by(&[7, 8])).unwrap();
        assert_eq!(store.change(1).unwrap(), Some(by(&[7, 8])));
        std::fs::write(folder.path().join("change-1.cbor"), b"torn").unwrap();
        assert_eq!(store.change(1).unwrap(), Some(by(&[])));
        assert_eq!(store.changes().unwrap(), [by(&[])]);
    }

    fn numbers(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.number).collect()
    }

    #[test]
    fn what_one_home_is_full_of_leaves_room_for_what_others_and_the_system_have() {
        let whose = |path: &FilePath| match path.as_bytes() {
            [b'/', b'a', ..] => 1,
            [b'/', b'b', ..] => 2,
            _ => SYSTEM,
        };
        let records = |of: &[&str]| -> Vec<Record> {
            of.iter().zip(1..).map(|(path, number)| record(number, path)).collect()
        };
        let of = records(&["/s", "/s", "/b", "/s", "/a", "/a", "/a", "/a", "/a"]);
        let (told, rest) = chosen(of.clone(), whose, 6);
        assert_eq!(numbers(&told), [9, 8, 4, 3, 2, 1]);
        assert_eq!(numbers(&rest), [7, 6, 5]);
        let (told, rest) = chosen(of.clone(), whose, 3);
        assert_eq!((numbers(&told), rest.len()), (vec![9, 4, 2], 6));
        let (told, rest) = chosen(of, whose, 99);
        assert_eq!((told.len(), rest.len()), (9, 0));
        let (told, _) = chosen(records(&["/s", "/s", "/s", "/s", "/a"]), whose, 4);
        assert_eq!(numbers(&told), [5, 4, 3, 2], "what others don't need is the system's");
    }
}
