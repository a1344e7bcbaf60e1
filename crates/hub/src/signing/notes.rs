//! What waits to be told to the signer, in order; and beyond a bound, what is owed to it.
//!
//! The one idea: what finds no room is not forgotten, only made small. Of a measure the newest receipt is in the
//! store, and tells all that the ones before it did of what is so now; so a name suffices, and each is named once.

use std::collections::{BTreeSet, VecDeque};

use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OrderId};
use cordon_model::measure::Isolation;
use cordon_model::signed::Envelope;

/// What the signer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    /// A receipt, as its machine signed it.
    Learn(MachineId, MeasureId, Envelope),
    /// What a machine says of itself, about every half minute.
    Heard(MachineId, Option<Isolation>),
    /// What the hub's own rows suffice to tell.
    Owed(Owed),
}

/// What can be told from what the hub has kept, in the order in which it is told: what a machine denies after what it
/// signed, for of the two the doubt is the safe one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owed {
    /// The newest receipt of a measure: its envelope is in the store.
    Newest(MachineId, MeasureId),
    NeverBegun(MachineId, OrderId),
    NotInForce(MachineId, MeasureId),
    Asked(MachineId, ApprovalId),
}

/// What waits.
pub(super) struct Notes {
    most: usize,
    waiting: VecDeque<Note>,
    owed: BTreeSet<Owed>,
}

impl Notes {
    /// `most`: how many wait as they are.
    pub fn new(most: usize) -> Self {
        Self { most, waiting: VecDeque::new(), owed: BTreeSet::new() }
    }

    /// Takes one more. Whether it is the first for which there is no room. While anything is owed there is none: what a
    /// machine denies must not overtake what it signed before.
    pub fn push(&mut self, note: Note) -> bool {
        if self.owed.is_empty() && self.waiting.len() < self.most {
            self.waiting.push_back(note);
            return false;
        }
        let is_first = self.owed.is_empty();
        let owed = match note {
            Note::Owed(owed) => owed,
            Note::Learn(machine, measure, _) => Owed::Newest(machine, measure),
            // It is said again anyway, and says then what is so then.
            Note::Heard(..) => return false,
        };
        if let Owed::Newest(machine, measure) = owed {
            // What the machine signs now is newer than its denial, which would be told after it.
            self.owed.remove(&Owed::NotInForce(machine, measure));
        }
        self.owed.insert(owed);
        is_first
    }

    /// The next to be told: what waits first, then what is owed.
    pub fn next(&mut self) -> Option<Note> {
        self.waiting.pop_front().or_else(|| self.owed.pop_first().map(Note::Owed))
    }
}

#[cfg(test)]
mod tests {
    use cordon_model::time::UtcNanos;
    use ed25519_dalek::SigningKey;

    use super::*;

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    fn measure(number: u8) -> MeasureId {
        OrderId::new(UtcNanos::from_unix_nanos(0), [number; 10]).into()
    }

    fn envelope() -> Envelope {
        let organisation = "RJ1".parse().unwrap();
        let policy = cordon_model::policy::Policy::default_for(organisation);
        cordon_model::signed::seal(&policy, &SigningKey::from_bytes(&[1; 32])).unwrap()
    }

    #[test]
    fn what_finds_no_room_is_told_once_after_what_waits() {
        let mut notes = Notes::new(2);
        let learn = |number| Note::Learn(machine(number), measure(number), envelope());
        assert!(!notes.push(learn(1)) && !notes.push(learn(2)));
        assert!(notes.push(learn(3)), "the first without room is said");
        assert!(!notes.push(learn(4)) && !notes.push(learn(3)));
        assert!(!notes.push(Note::Heard(machine(1), None)), "it is said again by itself");
        let never =
            Owed::NeverBegun(machine(9), OrderId::new(UtcNanos::from_unix_nanos(0), [9; 10]));
        assert!(!notes.push(Note::Owed(never)));
        let mut told = vec![notes.next().unwrap()];
        let denied = Owed::NotInForce(machine(3), measure(3));
        assert!(!notes.push(Note::Owed(denied)), "it waits for what it denies");
        told.extend(std::iter::from_fn(|| notes.next()));
        let newest = |number| Note::Owed(Owed::Newest(machine(number), measure(number)));
        let owed = [newest(3), newest(4), Note::Owed(never), Note::Owed(denied)];
        assert_eq!((&told[..2], &told[2..]), (&[learn(1), learn(2)][..], &owed[..]));
        assert!(!notes.push(learn(5)), "there is room again");
    }

    #[test]
    fn a_denial_that_waits_is_over_when_its_machine_signs_the_measure_again() {
        let mut notes = Notes::new(0);
        let (newest, denied) = (Owed::Newest, Owed::NotInForce);
        for owed in [newest(machine(1), measure(1)), denied(machine(1), measure(1))] {
            notes.push(Note::Owed(owed));
        }
        notes.push(Note::Owed(denied(machine(2), measure(2))));
        notes.push(Note::Learn(machine(1), measure(1), envelope()));
        let told: Vec<Note> = std::iter::from_fn(|| notes.next()).collect();
        let owed = [newest(machine(1), measure(1)), denied(machine(2), measure(2))];
        assert_eq!(told, owed.map(Note::Owed), "another's denial stays");
    }
}
