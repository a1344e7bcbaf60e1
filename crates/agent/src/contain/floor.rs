//! Below which sequence no order is obeyed, in a file of its own.
//!
//! The one idea (law 1): the helper's memory holds this number too, but a memory that rots, or that an
//! administrator moves away, must not let whoever recorded an old order to release have it obeyed. So the
//! number stands twice, and the helper starts only if one of the two is whole. A number that is older than
//! the last order would be as bad as none: what is one write older does not count.

use std::io;

use cordon_model::ids::MachineId;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, Found};

const FLOOR: &str = "floor";

/// What is on disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Whose orders are numbered so: another machine's begin anew.
    machine: MachineId,
    /// The highest sequence that was taken or refused.
    sequence: u64,
}

/// The floor as it stands on disk.
#[derive(Debug)]
pub struct Floor {
    machine: MachineId,
    /// `None`: what is on disk is not to be relied on, and is written anew.
    on_disk: Option<u64>,
}

impl Floor {
    /// At enrolment, before the machine obeys anybody: nothing was taken yet, unless this very machine was
    /// enrolled before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn lay(disk: &Disk, machine: MachineId) -> io::Result<()> {
        let sequence = match disk.read::<Kept>(FLOOR)? {
            Found::Whole(kept) if kept.machine == machine => return Ok(()),
            Found::Previous(kept) if kept.machine == machine => kept.sequence,
            Found::Whole(_) | Found::Previous(_) | Found::Torn | Found::Nothing => 0,
        };
        disk.write(FLOOR, &Kept { machine, sequence })
    }

    /// At a start: the floor, and the lowest sequence above which orders are obeyed. `in_memory` is what the
    /// helper's memory says, if it is whole.
    ///
    /// # Errors
    /// When the disk fails, or neither is whole.
    pub fn find(
        disk: &Disk,
        machine: MachineId,
        in_memory: Option<u64>,
    ) -> io::Result<(Self, u64)> {
        let on_disk = match disk.read::<Kept>(FLOOR)? {
            Found::Whole(kept) if kept.machine == machine => Some(kept.sequence),
            _ => None,
        };
        let Some(sequence) = in_memory.max(on_disk) else {
            return Err(io::Error::other(
                "neither the helper's memory nor its floor is whole, so an old order could not be told \
                 from a new one: enrol the machine again",
            ));
        };
        Ok((Self { machine, on_disk }, sequence))
    }

    /// Writes the number down if it has risen.
    ///
    /// # Errors
    /// When the disk fails; the memory holds it meanwhile.
    pub fn raise(&mut self, disk: &Disk, sequence: u64) -> io::Result<()> {
        if self.on_disk.is_none_or(|on_disk| on_disk < sequence) {
            disk.write(FLOOR, &Kept { machine: self.machine, sequence })?;
            self.on_disk = Some(sequence);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    #[test]
    fn the_floor_outlives_the_memory_and_the_memory_the_floor() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        Floor::lay(&disk, machine(1)).unwrap();
        let (mut floor, lowest) = Floor::find(&disk, machine(1), None).unwrap();
        assert_eq!(lowest, 0);
        floor.raise(&disk, 7).unwrap();
        assert_eq!(Floor::find(&disk, machine(1), None).unwrap().1, 7);
        assert_eq!(Floor::find(&disk, machine(1), Some(9)).unwrap().1, 9, "the memory is ahead");
        assert_eq!(Floor::find(&disk, machine(1), Some(3)).unwrap().1, 7, "or behind");
        std::fs::write(folder.path().join("floor.cbor"), b"rotten").unwrap();
        let (mut floor, lowest) = Floor::find(&disk, machine(1), Some(7)).unwrap();
        floor.raise(&disk, lowest).unwrap();
        assert_eq!(Floor::find(&disk, machine(1), None).unwrap().1, 7, "written anew");
    }

    #[test]
    fn an_older_number_and_another_machines_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        Floor::lay(&disk, machine(1)).unwrap();
        let (mut floor, _) = Floor::find(&disk, machine(1), None).unwrap();
        floor.raise(&disk, 1).unwrap();
        floor.raise(&disk, 2).unwrap();
        assert!(Floor::find(&disk, machine(2), None).is_err());
        std::fs::write(folder.path().join("floor.cbor"), b"rotten").unwrap();
        assert!(Floor::find(&disk, machine(1), None).is_err(), "the one before it would say 1");
        std::fs::remove_file(folder.path().join("floor.cbor")).unwrap();
        assert!(Floor::find(&disk, machine(1), None).is_err());
    }

    #[test]
    fn the_same_machine_enrolled_again_begins_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        Floor::lay(&disk, machine(1)).unwrap();
        Floor::find(&disk, machine(1), None).unwrap().0.raise(&disk, 5).unwrap();
        Floor::lay(&disk, machine(1)).unwrap();
        assert_eq!(Floor::find(&disk, machine(1), None).unwrap().1, 5);
        Floor::lay(&disk, machine(2)).unwrap();
        assert_eq!(Floor::find(&disk, machine(2), None).unwrap().1, 0);
    }
}
