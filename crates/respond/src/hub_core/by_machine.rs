//! Things by their id, and at hand by their machine.
//!
//! The one idea: nearly every question that the hub asks of its orders, measures and questions is about one
//! machine. Answered by looking at all of them, each would cost as much as there are machines, and all of a
//! hospital's together the square of that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OrderId};

use crate::approval::Approval;
use crate::order::{MeasureLife, OrderLife};

/// Something about one machine, for ever the same one.
pub(super) trait OfMachine {
    /// What names it; in order of time.
    type Id: Copy + Ord + Debug;
    /// Its name.
    fn id(&self) -> Self::Id;
    /// Which machine it is about.
    fn machine(&self) -> MachineId;
}

impl OfMachine for OrderLife {
    type Id = OrderId;
    fn id(&self) -> OrderId {
        self.order.id
    }
    fn machine(&self) -> MachineId {
        self.order.machine
    }
}

impl OfMachine for MeasureLife {
    type Id = MeasureId;
    fn id(&self) -> MeasureId {
        self.measure
    }
    fn machine(&self) -> MachineId {
        self.machine
    }
}

impl OfMachine for Approval {
    type Id = ApprovalId;
    fn id(&self) -> ApprovalId {
        self.id
    }
    fn machine(&self) -> MachineId {
        self.machine
    }
}

/// All of one sort.
#[derive(Debug, Clone)]
pub(super) struct ByMachine<T: OfMachine> {
    all: BTreeMap<T::Id, T>,
    of: BTreeMap<MachineId, BTreeSet<T::Id>>,
}

impl<T: OfMachine> ByMachine<T> {
    pub fn new() -> Self {
        Self { all: BTreeMap::new(), of: BTreeMap::new() }
    }

    /// Puts one in, in place of the one with its id.
    pub fn put(&mut self, one: T) {
        let (id, machine) = (one.id(), one.machine());
        if let Some(before) = self.all.insert(id, one)
            && before.machine() != machine
        {
            self.forget(id, before.machine());
        }
        self.of.entry(machine).or_default().insert(id);
    }

    pub fn remove(&mut self, id: T::Id) {
        if let Some(gone) = self.all.remove(&id) {
            self.forget(id, gone.machine());
        }
    }

    fn forget(&mut self, id: T::Id, machine: MachineId) {
        if let Some(ids) = self.of.get_mut(&machine) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of.remove(&machine);
            }
        }
    }

    pub fn get(&self, id: T::Id) -> Option<&T> {
        self.all.get(&id)
    }

    /// To be changed in anything but its id and machine.
    pub fn get_mut(&mut self, id: T::Id) -> Option<&mut T> {
        self.all.get_mut(&id)
    }

    /// All, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.all.values()
    }

    /// The same, to be changed in anything but id and machine.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.all.values_mut()
    }

    /// Those of a machine, the oldest first.
    pub fn of(&self, machine: MachineId) -> impl Iterator<Item = &T> {
        self.ids_of(machine).filter_map(|id| self.all.get(&id))
    }

    /// The ids of those, in the same order.
    pub fn ids_of(&self, machine: MachineId) -> impl Iterator<Item = T::Id> {
        self.of.get(&machine).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    #[derive(Debug, Clone, PartialEq)]
    struct Thing(u8, MachineId);

    impl OfMachine for Thing {
        type Id = u8;
        fn id(&self) -> u8 {
            self.0
        }
        fn machine(&self) -> MachineId {
            self.1
        }
    }

    proptest::proptest! {
        /// Whatever is put in and taken out: a machine's are those that looking at all would find.
        #[test]
        fn a_machine_has_what_looking_at_all_would_find(
            steps in proptest::collection::vec((0u8..12, 0u8..4, 0u8..3), 0..60),
        ) {
            let machine =
                |number| MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10]);
            let mut things = ByMachine::new();
            for (id, of, what) in steps {
                if what == 0 {
                    things.remove(id);
                } else {
                    things.put(Thing(id, machine(of)));
                }
                for number in 0..4 {
                    let found: Vec<&Thing> = things.of(machine(number)).collect();
                    let all = things.all().filter(|one| one.1 == machine(number));
                    proptest::prop_assert_eq!(found, all.collect::<Vec<_>>());
                }
            }
        }
    }
}
