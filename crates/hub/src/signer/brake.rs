//! How many documents a hub has signed in a time: each is a line in the signer's ledger for ever, and a message to
//! a machine.
//!
//! The one idea: pails. Each document takes a drop out, and time puts drops back; what a hub may do at once is one
//! size, what it may do day after day another. A stolen hub can make up machines, so those that root spoke of share
//! a pail of their own, and each of them has a part that nobody else can spend: its codes, its description and what
//! people in front of it are told go on, whatever the hub did to the others. What root says at the signer's machine
//! is not counted. Kept in memory only: whoever can restart the signer is root, and frees all by it.

use std::collections::BTreeMap;
use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::time::BootNanos;

/// A pail's size, and how long it takes for one drop more.
#[derive(Debug, Clone, Copy)]
struct Size {
    at_once: u32,
    one_more: Duration,
}

/// For one machine: a description that is corrected over and over, its codes, its names' addresses, and its next
/// machine changing all through a bad hour. Then every six minutes one more: 240 in a day.
const FOR_ONE: Size = Size { at_once: 60, one_more: Duration::from_secs(360) };
/// For all that root spoke of: 10,000 machines, all described twice, with codes and what people are told of each
/// (four documents a machine), and half as much again. Then one every 864 milliseconds: 100,000 in a day, which are
/// 50 MB of the signer's ledger (500 bytes each).
const FOR_DESCRIBED: Size = Size { at_once: 60_000, one_more: Duration::from_millis(864) };
/// For all others, which a hub can make up: 10,000 that enrol at once are made known, get codes and are told of
/// (three documents a machine), and a third as much again. Then half as many in a day as of the described.
const FOR_OTHERS: Size = Size { at_once: 40_000, one_more: Duration::from_millis(1_728) };
/// For one machine that root spoke of and one [`Kind`], whatever else was signed: then one more in six hours. A hub
/// that wants to fill the disk has twelve a day for each described machine from it: 60 MB for 10,000.
const RESERVED: Size = Size { at_once: 4, one_more: Duration::from_secs(6 * 3600) };

/// What a document says: each kind has its own reserve, so that none is spent for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// What a machine is, or what holds.
    Description,
    /// Break-glass codes.
    Codes,
    /// What people in front of a machine are told.
    Guidance,
}

/// What a document is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    /// The machine; `None`: the policy.
    pub machine: Option<MachineId>,
    /// What it says.
    pub kind: Kind,
    /// Whether root said something of that machine (or it is the policy): no hub can make it up.
    pub is_described: bool,
}

/// Drops that time puts back, one by one.
#[derive(Debug, Clone, Copy)]
struct Pail {
    left: u32,
    /// Up to when drops were put back.
    at: BootNanos,
}

impl Pail {
    fn full(size: Size, now: BootNanos) -> Self {
        Self { left: size.at_once, at: now }
    }

    /// As it is at `now`.
    fn filled(self, now: BootNanos, size: Size) -> Self {
        let each = u64::try_from(size.one_more.as_nanos()).unwrap_or(u64::MAX).max(1);
        let passed = now.0.saturating_sub(self.at.0);
        let more = u32::try_from(passed / each).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(more).min(size.at_once);
        // What has passed of the next drop stays, but where the pail is full.
        let at = if left == size.at_once { now } else { BootNanos(now.0 - passed % each) };
        Self { left, at }
    }

    fn without_one(self) -> Self {
        Self { left: self.left.saturating_sub(1), ..self }
    }
}

/// Pails of one size: those that are not full.
#[derive(Debug)]
struct Pails<K> {
    size: Size,
    /// As many are kept before those that are full again are put away.
    kept: usize,
    not_full: BTreeMap<K, Pail>,
}

impl<K: Ord + Copy> Pails<K> {
    fn new(size: Size, kept: usize) -> Self {
        Self { size, kept, not_full: BTreeMap::new() }
    }

    fn of(&self, key: K, now: BootNanos) -> Pail {
        let pail = self.not_full.get(&key).copied();
        pail.unwrap_or(Pail::full(self.size, now)).filled(now, self.size)
    }

    fn take(&mut self, key: K, now: BootNanos) {
        let pail = self.of(key, now).without_one();
        self.not_full.insert(key, pail);
        if self.not_full.len() > self.kept {
            let size = self.size;
            self.not_full.retain(|_, pail| pail.filled(now, size).left < size.at_once);
        }
    }
}

/// The brake.
#[derive(Debug)]
pub(super) struct DocumentBrake {
    described: Pail,
    others: Pail,
    each: Pails<Option<MachineId>>,
    reserved: Pails<(Option<MachineId>, Kind)>,
}

/// Where a document's drop is taken from.
enum From {
    Shared,
    Reserve,
}

impl DocumentBrake {
    /// With full pails.
    pub(super) fn start(now: BootNanos) -> Self {
        let kept = (FOR_DESCRIBED.at_once + FOR_OTHERS.at_once) as usize;
        Self {
            described: Pail::full(FOR_DESCRIBED, now),
            others: Pail::full(FOR_OTHERS, now),
            each: Pails::new(FOR_ONE, kept),
            reserved: Pails::new(RESERVED, kept),
        }
    }

    /// All that is shared is spent.
    #[cfg(test)]
    pub(super) fn spend(&mut self, now: BootNanos) {
        let empty = Pail { left: 0, at: now };
        (self.described, self.others) = (empty, empty);
    }

    /// Whether one more may be signed.
    ///
    /// # Errors
    /// What there was too much of, and when there may be more.
    pub(super) fn may_sign(&self, about: About, now: BootNanos) -> Result<(), String> {
        self.from(about, now).map(|_| ())
    }

    /// One was signed.
    pub(super) fn signed(&mut self, about: About, now: BootNanos) {
        match self.from(about, now) {
            Ok(From::Reserve) => self.reserved.take((about.machine, about.kind), now),
            Ok(From::Shared) | Err(_) => {
                let (shared, size) = self.shared_mut(about);
                *shared = shared.filled(now, size).without_one();
                self.each.take(about.machine, now);
            }
        }
    }

    /// The reserve comes last: while there is enough for all, it stays whole.
    fn from(&self, about: About, now: BootNanos) -> Result<From, String> {
        let (shared, size) = match about.is_described {
            true => (self.described, FOR_DESCRIBED),
            false => (self.others, FOR_OTHERS),
        };
        let has_shared = shared.filled(now, size).left > 0;
        let has_own = self.each.of(about.machine, now).left > 0;
        let reserve = self.reserved.of((about.machine, about.kind), now).left;
        if has_shared && has_own {
            Ok(From::Shared)
        } else if about.is_described && reserve > 0 {
            Ok(From::Reserve)
        } else if has_own {
            let whose = if about.is_described {
                "of all machines"
            } else {
                "of machines that root said nothing of"
            };
            Err(format!("more than {} at once, {whose}", size.at_once))
        } else {
            let of =
                if about.machine.is_some() { "of this machine" } else { "that are of no machine" };
            Err(format!(
                "more than {} at once {of}; one more every {} minutes",
                FOR_ONE.at_once,
                FOR_ONE.one_more.as_secs() / 60
            ))
        }
    }

    fn shared_mut(&mut self, about: About) -> (&mut Pail, Size) {
        match about.is_described {
            true => (&mut self.described, FOR_DESCRIBED),
            false => (&mut self.others, FOR_OTHERS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::UtcNanos;

    fn machine(number: u32) -> MachineId {
        let mut bytes = [0; 10];
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        MachineId::new(UtcNanos::from_unix_nanos(0), bytes)
    }

    fn at(seconds: u64) -> BootNanos {
        BootNanos(seconds * 1_000_000_000)
    }

    fn made_up(number: u32) -> About {
        let machine = Some(machine(number));
        About { machine, kind: Kind::Description, is_described: false }
    }

    fn described(number: u32, kind: Kind) -> About {
        About { kind, is_described: true, ..made_up(number) }
    }

    /// How many of `wanted` go at this moment.
    fn signed(brake: &mut DocumentBrake, about: About, wanted: u32, now: BootNanos) -> u32 {
        (0..wanted)
            .filter(|_| {
                let may = brake.may_sign(about, now).is_ok();
                if may {
                    brake.signed(about, now);
                }
                may
            })
            .count() as u32
    }

    #[test]
    fn ten_thousand_machines_are_described_twice_in_an_hour() {
        let mut brake = DocumentBrake::start(at(0));
        for round in 0..2 {
            for number in 0..10_000 {
                // A description, and what follows from it for people at the machine.
                let about = described(number, Kind::Description);
                assert_eq!(signed(&mut brake, about, 2, at(round * 1_800)), 2, "{round} {number}");
            }
        }
    }

    #[test]
    fn ten_thousand_machines_enrol_at_once_before_root_has_said_anything_of_them() {
        let mut brake = DocumentBrake::start(at(0));
        for number in 0..10_000 {
            assert_eq!(signed(&mut brake, made_up(number), 3, at(0)), 3, "{number}");
        }
    }

    #[test]
    fn one_machine_spends_its_own_pail_and_no_other() {
        let mut brake = DocumentBrake::start(at(0));
        assert_eq!(signed(&mut brake, made_up(1), 1_000, at(0)), FOR_ONE.at_once);
        assert_eq!(signed(&mut brake, made_up(2), 1, at(0)), 1);
        assert_eq!(signed(&mut brake, made_up(1), 10, at(359)), 0);
        assert_eq!(signed(&mut brake, made_up(1), 10, at(361)), 1);
        let so = "what had passed of a drop is not lost";
        assert_eq!(signed(&mut brake, made_up(1), 10, at(719)), 0, "{so}");
        assert_eq!(signed(&mut brake, made_up(1), 10, at(720)), 1);
    }

    #[test]
    fn made_up_machines_do_not_grow_the_disk_without_end() {
        let mut brake = DocumentBrake::start(at(0));
        let mut all = 0;
        for day in 0..10_u64 {
            for number in 0..200_000 {
                let about = made_up(u32::try_from(day).unwrap() * 200_000 + number);
                all += signed(&mut brake, about, 1, at(day * 86_400));
            }
        }
        // A pail holds so many, however many days it stands.
        assert_eq!(all, 10 * FOR_OTHERS.at_once);
        assert!(brake.each.not_full.len() <= 2 * brake.each.kept, "{}", brake.each.not_full.len());
    }

    #[test]
    fn machines_that_a_hub_makes_up_take_nothing_from_those_that_root_spoke_of() {
        let mut brake = DocumentBrake::start(at(0));
        for number in 0..100_000 {
            signed(&mut brake, made_up(number), 1, at(0));
        }
        let refused = brake.may_sign(made_up(100_001), at(0)).unwrap_err();
        assert_eq!(refused, "more than 40000 at once, of machines that root said nothing of");
        assert_eq!(signed(&mut brake, described(1, Kind::Codes), 10, at(0)), 10);
        let policy = About { machine: None, ..described(1, Kind::Description) };
        assert_eq!(signed(&mut brake, policy, 1, at(0)), 1);
    }

    #[test]
    fn a_described_machine_has_a_part_that_nothing_else_spends() {
        let mut brake = DocumentBrake::start(at(0));
        // All that root spoke of are told of over and over, by a stolen hub, until nothing is left for all.
        for number in 1..=2_000 {
            signed(&mut brake, described(number, Kind::Guidance), 100, at(0));
        }
        let codes = described(1, Kind::Codes);
        assert_eq!(signed(&mut brake, codes, 100, at(0)), RESERVED.at_once);
        let description = described(1, Kind::Description);
        assert_eq!(signed(&mut brake, description, 100, at(0)), RESERVED.at_once);
        assert_eq!(signed(&mut brake, described(1, Kind::Guidance), 100, at(0)), 0);
        // One that a hub makes up has none.
        let mut brake = DocumentBrake::start(at(0));
        for number in 0..FOR_OTHERS.at_once {
            signed(&mut brake, made_up(number), 1, at(0));
        }
        let codes = About { kind: Kind::Codes, ..made_up(1) };
        assert_eq!(signed(&mut brake, codes, 1, at(0)), 0);
    }
}
