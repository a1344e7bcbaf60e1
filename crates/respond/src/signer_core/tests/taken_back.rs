//! What began without any person is taken back whatever people ordered before.

use cordon_model::ids::PermitId;

use super::*;
use crate::peoples_brake::{self, AT_LEAST, Lately};

const SEGMENT: Action = Action::Isolate(Isolation::Segment);

/// A signer with the brake on people, who have released as many as they may.
struct Night {
    bench: Bench,
    closed: Spending,
    opened: Spending,
}

impl Night {
    fn new(machines: usize) -> Self {
        let mut bench = Bench::new(&vec![OFFICE; machines], None);
        bench.signer.policy.budget.count = 100;
        let at_first = moment("a", 0);
        let mut night =
            Self { bench, closed: Spending::start(&at_first), opened: Spending::start(&at_first) };
        for id in 0..u8::try_from(AT_LEAST).unwrap() {
            assert!(night.people(1, 100 + id, Instruction::Release).is_ok());
        }
        assert!(
            is_braked(&night.people(1, 200, Instruction::Release)),
            "nothing is isolated there"
        );
        night
    }

    fn people(&mut self, number: u8, id: u8, instruction: Instruction) -> Result<Order, Refusal> {
        let proposal = by_people(number, id, instruction, &[("Sam", false)]);
        let lately = Lately { closed: &mut self.closed, opened: &mut self.opened };
        let (signer, now) = (&mut self.bench.signer, moment("a", 60));
        peoples_brake::sign(signer, lately, &proposal, &now, &mut || [id; 16])
    }

    /// A machine says that it has segmented itself by the permit that it has.
    fn by_permit(&mut self, number: u8, measure: MeasureId) {
        let permit = PermitId::new(UtcNanos::from_unix_nanos(0), [number; 10]);
        let held = Outstanding {
            machine: machine(number),
            issued: Duration::ZERO,
            good_for: Duration::MAX,
            is_used: false,
        };
        self.bench.signer.permits.entry(permit).or_insert(held);
        let origin = Origin::Permit { permit, finding: FindingId::of("r", "h", &[number; 32]) };
        let receipt = Receipt { origin, ..receipt(number, measure, MeasureState::Verified) };
        self.bench.signer.learn(&receipt);
    }
}

fn is_braked(signed: &Result<Order, Refusal>) -> bool {
    matches!(signed, Err(Refusal::PeoplesBudget(_)))
}

#[test]
fn what_began_by_itself_is_taken_back_however_much_people_have_ordered() {
    let mut night = Night::new(50);
    for number in 2..20 {
        night.bench.sign(&by_policy(number, number), 10).unwrap();
        let release = night.people(number, 40 + number, Instruction::Release).unwrap();
        assert_eq!(release.machine, machine(number));
        assert!(is_braked(&night.people(number, 90 + number, Instruction::Release)), "once");
    }
    for number in 20..40 {
        let measure = order_id(number).into();
        night.by_permit(number, measure);
        assert!(night.people(number, 70 + number, Instruction::Undo { measure }).is_ok());
        // Whoever says again what was sealed, or says more of the same permit, gets nothing for it.
        for again in [measure, order_id(200 + number).into()] {
            night.by_permit(number, again);
            let undo = Instruction::Undo { measure: again };
            assert!(is_braked(&night.people(number, 120 + number, undo)));
        }
    }
    assert!(is_braked(&night.people(1, 250, Instruction::Release)), "the brake is as it was");
}

#[test]
fn what_people_ordered_or_had_go_on_is_theirs() {
    let mut night = Night::new(4);
    // One on top of the policy's.
    night.bench.sign(&by_policy(2, 2), 10).unwrap();
    night.people(2, 3, Instruction::isolate(Isolation::Full, LEASE)).unwrap();
    assert!(is_braked(&night.people(2, 4, Instruction::Release)));
    assert!(night.people(2, 5, Instruction::Undo { measure: order_id(2).into() }).is_ok());
    // One that they had go on.
    night.bench.sign(&by_policy(3, 6), 10).unwrap();
    let measure = order_id(6).into();
    night.people(3, 7, Instruction::Renew { measure, lease: LEASE }).unwrap();
    assert!(is_braked(&night.people(3, 8, Instruction::Release)));
    assert!(is_braked(&night.people(3, 9, Instruction::Undo { measure })));
    // A machine that says of people's order that it was its permit.
    night.people(4, 10, Instruction::isolate(Isolation::Full, LEASE)).unwrap();
    night.by_permit(4, order_id(10).into());
    assert!(is_braked(&night.people(4, 11, Instruction::Release)));
}

/// What takes its place when the lease ends is no more people's than it was.
#[test]
fn what_follows_at_the_end_of_a_lease_is_of_the_same_kind() {
    for (is_by_people, number) in [(false, 2), (true, 3)] {
        let mut night = Night::new(3);
        if is_by_people {
            night.people(number, 2, Instruction::begin(SEGMENT, LEASE)).unwrap();
        } else {
            night.bench.sign(&by_policy(number, 2), 10).unwrap();
        }
        let before: MeasureId = order_id(2).into();
        let after: MeasureId = order_id(3).into();
        let origin = Origin::LeaseEnd(before);
        let follows = Receipt { origin, ..receipt(number, after, MeasureState::Verified) };
        night.bench.signer.learn(&follows);
        night.bench.signer.learn(&receipt(number, before, MeasureState::Superseded));
        assert_eq!(is_braked(&night.people(number, 4, Instruction::Release)), is_by_people);
    }
}

/// A policy that goes on and on doesn't grow what is kept of a machine.
#[test]
fn what_is_remembered_of_a_machine_is_bounded() {
    let mut night = Night::new(2);
    let mut order = night.bench.sign(&by_policy(2, 2), 10).unwrap();
    let known = night.bench.signer.machines.get_mut(&machine(2)).unwrap();
    for number in 0..1_000_u16 {
        let mut bytes = [0; 10];
        bytes[4..6].copy_from_slice(&number.to_be_bytes());
        order.id = OrderId::new(UtcNanos::from_unix_nanos(0), bytes);
        known.note(&order);
    }
    assert_eq!(known.by_itself.len(), known::REMEMBERED_BY_ITSELF);
}
