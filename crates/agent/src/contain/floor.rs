//! What was used up, in a file of its own.
//!
//! The one idea (law 1): the helper's memory holds the [`Floor`] too, but a memory that rots, or that an
//! administrator moves away, must not let whoever recorded an old order to release have it obeyed, nor make
//! a used code or permit good again. So it stands twice, and the helper starts only if one of the two is
//! whole. A floor that is older than the last deed would be as bad as none: what is one write older does
//! not count. It is written after the memory and before anything is done: whoever loses the power in between
//! has what is meant in the memory, and it is done at the next start.

use std::io;

use cordon_model::ids::MachineId;
use cordon_respond::helper_core::{Floor, Marks};
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
    /// What else is used up. The first versions kept only the sequence.
    #[serde(default)]
    marks: Marks,
}

/// The floor as it stands on disk.
#[derive(Debug)]
pub struct FloorFile {
    machine: MachineId,
    /// `None`: what is on disk is not to be relied on, and is written anew.
    on_disk: Option<Floor>,
}

impl FloorFile {
    /// At enrolment, before the machine obeys anybody: nothing was taken yet, unless this very machine was
    /// enrolled before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn lay(disk: &Disk, machine: MachineId) -> io::Result<()> {
        let floor = match disk.read::<Kept>(FLOOR)? {
            Found::Whole(kept) if kept.machine == machine => return Ok(()),
            Found::Previous(kept) if kept.machine == machine => kept.floor(),
            Found::Whole(_) | Found::Previous(_) | Found::Torn | Found::Nothing => Floor::default(),
        };
        disk.write(FLOOR, &Kept::of(machine, &floor))
    }

    /// At a start: the file, and the floor in it, which the memory has to meet.
    ///
    /// # Errors
    /// When the disk fails, or the floor is not whole and the memory is not either.
    pub fn find(
        disk: &Disk,
        machine: MachineId,
        is_memory_whole: bool,
    ) -> io::Result<(Self, Floor)> {
        let on_disk = match disk.read::<Kept>(FLOOR)? {
            Found::Whole(kept) if kept.machine == machine => Some(kept.floor()),
            _ => None,
        };
        if on_disk.is_none() && !is_memory_whole {
            return Err(io::Error::other(
                "neither the helper's memory nor its floor is whole, so an old order could not be told \
                 from a new one: enrol the machine again",
            ));
        }
        let floor = on_disk.clone().unwrap_or_default();
        Ok((Self { machine, on_disk }, floor))
    }

    /// Writes the floor of the memory down, if it differs: while the helper runs, its memory has met this
    /// file, so it is never behind it.
    ///
    /// # Errors
    /// When the disk fails; then nothing may be done by what was to be written.
    pub fn keep(&mut self, disk: &Disk, floor: Floor) -> io::Result<()> {
        if self.on_disk.as_ref().is_none_or(|on_disk| !on_disk.holds_back_the_same_as(&floor)) {
            // Cut short, either may stand.
            self.on_disk = None;
            disk.write(FLOOR, &Kept::of(self.machine, &floor))?;
            self.on_disk = Some(floor);
        }
        Ok(())
    }
}

impl Kept {
    fn of(machine: MachineId, floor: &Floor) -> Self {
        Self { machine, sequence: floor.sequence, marks: floor.marks.clone() }
    }

    fn floor(self) -> Floor {
        Floor { sequence: self.sequence, marks: self.marks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::ids::PermitId;
    use cordon_model::time::UtcNanos;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    fn floor(sequence: u64) -> Floor {
        let permit = PermitId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
        let marks = Marks {
            used_codes: [2, 5].into(),
            used_permits: [(permit, UtcNanos::from_unix_nanos(77))].into(),
            time: Some(UtcNanos::from_unix_nanos(3)),
            ..Marks::default()
        };
        Floor { sequence, marks }
    }

    fn found(disk: &Disk, number: u8) -> io::Result<Floor> {
        FloorFile::find(disk, machine(number), false).map(|(_, floor)| floor)
    }

    #[test]
    fn the_floor_outlives_the_memory_and_is_written_anew_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        FloorFile::lay(&disk, machine(1)).unwrap();
        let (mut file, lowest) = FloorFile::find(&disk, machine(1), false).unwrap();
        assert_eq!(lowest, Floor::default());
        file.keep(&disk, floor(7)).unwrap();
        assert_eq!(found(&disk, 1).unwrap(), floor(7));
        std::fs::write(folder.path().join("floor.cbor"), b"rotten").unwrap();
        let (mut file, lowest) = FloorFile::find(&disk, machine(1), true).unwrap();
        assert_eq!(lowest, Floor::default(), "the memory says more");
        file.keep(&disk, floor(7)).unwrap();
        assert_eq!(found(&disk, 1).unwrap(), floor(7), "written anew");
    }

    #[test]
    fn an_older_floor_and_another_machines_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        FloorFile::lay(&disk, machine(1)).unwrap();
        let (mut file, _) = FloorFile::find(&disk, machine(1), false).unwrap();
        file.keep(&disk, floor(1)).unwrap();
        file.keep(&disk, floor(2)).unwrap();
        assert!(found(&disk, 2).is_err());
        std::fs::write(folder.path().join("floor.cbor"), b"rotten").unwrap();
        assert!(found(&disk, 1).is_err(), "the one before it would say 1");
        std::fs::remove_file(folder.path().join("floor.cbor")).unwrap();
        assert!(found(&disk, 1).is_err());
    }

    #[test]
    fn the_same_machine_enrolled_again_begins_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        FloorFile::lay(&disk, machine(1)).unwrap();
        let (mut file, _) = FloorFile::find(&disk, machine(1), false).unwrap();
        file.keep(&disk, floor(5)).unwrap();
        FloorFile::lay(&disk, machine(1)).unwrap();
        assert_eq!(found(&disk, 1).unwrap(), floor(5));
        FloorFile::lay(&disk, machine(2)).unwrap();
        assert_eq!(found(&disk, 2).unwrap(), Floor::default());
    }

    #[test]
    fn a_floor_of_the_first_versions_which_kept_the_sequence_alone_is_read() {
        #[derive(Serialize)]
        struct First {
            machine: MachineId,
            sequence: u64,
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        disk.write(FLOOR, &First { machine: machine(1), sequence: 12 }).unwrap();
        assert_eq!(found(&disk, 1).unwrap(), Floor { sequence: 12, marks: Marks::default() });
    }

    #[test]
    fn what_stands_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        FloorFile::lay(&disk, machine(1)).unwrap();
        let (mut file, _) = FloorFile::find(&disk, machine(1), false).unwrap();
        file.keep(&disk, floor(1)).unwrap();
        let written =
            |name| std::fs::metadata(folder.path().join(name)).unwrap().modified().unwrap();
        let before = written("floor.cbor");
        let mut later = floor(1);
        later.marks.time = Some(UtcNanos::from_unix_nanos(4));
        file.keep(&disk, later).unwrap();
        assert_eq!(written("floor.cbor"), before);
    }
}
