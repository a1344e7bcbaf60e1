//! A process's memory, where two people agreed to it: it may hold patients' data and passwords.
//!
//! Read region by region through `/proc/PID/mem` while the process goes on (freeze it first for one
//! moment's picture). Two pieces: an index, a row for each region, and the regions' bytes one after the
//! other. Regions of devices are not touched: reading them may do something.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use cordon_model::action::ProcessTarget;
use serde::Serialize;

use super::super::gather::{About, Gatherer, Sink};
use super::super::limits::{MEMORY_BYTES, TABLE_BYTES};
use super::processes::{bytes, is_still};

const CHUNK: usize = 64 << 10;
/// The smallest page there is.
const PAGE: usize = 4096;

/// A line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Region {
    from: u64,
    to: u64,
    permissions: String,
    what: String,
    /// Where its bytes begin in the other piece, if nothing before it was unreadable.
    at: Option<u64>,
}

/// Gathers the memory of `target`.
pub(in super::super) fn of(target: &ProcessTarget, gatherer: &mut Gatherer) {
    let pid = target.process.pid;
    let source = format!("/proc/{pid}/mem");
    let regions = regions(&bytes(pid, "maps", 16 << 20));
    if let Err(why) = is_still(target) {
        return gatherer.lacks("memory", source.as_bytes(), &why);
    }
    let index = regions.clone();
    let about = About {
        kind: "memory-index",
        source: source.as_bytes(),
        how: "a row of JSON for each region, with its place in the next piece",
        most: TABLE_BYTES,
    };
    gatherer.piece(
        about,
        Box::new(move |sink: &mut Sink| index.iter().try_for_each(|region| sink.row(region))),
    );
    let about = About {
        kind: "memory",
        source: source.as_bytes(),
        how: "regions one after the other; what could not be read is zeros",
        most: MEMORY_BYTES,
    };
    let (target, path) = (target.clone(), source.clone());
    gatherer.piece(
        about,
        Box::new(move |sink: &mut Sink| {
            let memory = File::open(&path).map_err(|error| error.to_string())?;
            is_still(&target)?;
            sink.length(
                regions
                    .iter()
                    .filter_map(|region| region.at.map(|_| region.to - region.from))
                    .sum(),
            );
            for region in regions.iter().filter(|region| region.at.is_some()) {
                copy(&memory, region, sink)?;
            }
            is_still(&target)
        }),
    );
}

fn copy(memory: &File, region: &Region, sink: &mut Sink) -> Result<(), String> {
    let mut at = region.from;
    while at < region.to {
        let mut chunk = vec![0; usize::try_from(region.to - at).unwrap_or(CHUNK).min(CHUNK)];
        let length = chunk.len() as u64;
        // A page that is gone stays zeros, so that the index stays true.
        let mut filled = 0;
        while filled < chunk.len() {
            match memory.read_at(&mut chunk[filled..], at + filled as u64) {
                Ok(0) | Err(_) => filled = (filled / PAGE + 1) * PAGE,
                Ok(count) => filled += count,
            }
        }
        sink.add(chunk)?;
        at += length;
    }
    Ok(())
}

/// Regions in order, with places for those that are read: readable, and no device's.
fn regions(maps: &[u8]) -> Vec<Region> {
    let mut place = 0;
    String::from_utf8_lossy(maps)
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(6, ' ');
            let (from, to) = fields.next()?.split_once('-')?;
            let (from, to) =
                (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            let permissions = fields.next()?.to_owned();
            let what = fields.nth(3).unwrap_or_default().trim().to_owned();
            let is_device = what.starts_with("/dev/") && !what.starts_with("/dev/shm/");
            let is_read = permissions.starts_with('r')
                && to > from
                && !is_device
                && !["[vvar]", "[vvar_vclock]", "[vsyscall]"].contains(&what.as_str());
            let at = is_read.then_some(place);
            if is_read {
                place += to - from;
            }
            let what = cordon_evidence::archive::printable(what.as_bytes());
            Some(Region { from, to, permissions, what, at })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_places_and_devices_have_none() {
        let maps = b"1000-3000 r-xp 00000000 08:01 5    /bin/a b\n\
            3000-4000 ---p 00000000 00:00 0 \n\
            4000-5000 rw-s 00000000 00:05 9    /dev/mem\n\
            5000-6000 rw-p 00000000 00:00 0    [heap]\n\
            nonsense\n";
        let found = regions(maps);
        let places: Vec<_> = found.iter().map(|region| region.at).collect();
        assert_eq!(places, [Some(0), None, None, Some(0x2000)]);
        assert_eq!((found[0].what.as_str(), found[3].what.as_str()), ("/bin/a b", "[heap]"));
    }

    proptest::proptest! {
        #[test]
        fn any_map_is_read_or_skipped(maps in proptest::collection::vec(0u8.., 0..300)) {
            let _ = regions(&maps);
        }
    }
}
