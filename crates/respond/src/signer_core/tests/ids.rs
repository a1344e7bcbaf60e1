//! What an order's id may be, whatever clock made it.

use super::*;

/// A day of 2026.
const NOW_MILLIS: u64 = 1_790_000_000_000;

/// A day of 2250.
const FAR_MILLIS: u64 = 8_836_000_000_000;

fn of_millis(millis: u64) -> UtcNanos {
    UtcNanos::from_unix_nanos(i64::try_from(millis * 1_000_000).unwrap())
}

fn isolate() -> Instruction {
    Instruction::isolate(Isolation::Segment, LEASE)
}

/// By people, under an id of so many milliseconds since 1970.
fn of_then(millis: u64, instruction: Instruction) -> Proposal {
    let id = OrderId::new(of_millis(millis), [1; 10]);
    Proposal { id, ..by_people(1, 1, instruction, &[("ann", false)]) }
}

impl Bench {
    /// With the signer's clock at so many milliseconds since 1970, as whoever signs asks.
    fn sign_at(&mut self, proposal: &Proposal, millis: u64) -> Result<Order, Refusal> {
        let now = Moment { utc: of_millis(millis), ..moment("a", 1) };
        if !self.signer.has_place_for(proposal.machine, proposal.id, now.utc) {
            return Err(Refusal::UsedId);
        }
        self.signer.sign(proposal, &now, &mut || [7; 16])
    }
}

#[test]
fn no_id_comes_back_when_there_was_no_room_to_remember_it() {
    let mut bench = Bench::new(&[OFFICE], None);
    let release = |number| of_then(number, Instruction::Release);
    let most = (REMEMBERED_IDS + REMEMBERED_ORDERS) as u64;
    for number in 1..=most + 10 {
        bench.sign(&release(number), 1).unwrap();
    }
    for number in [1, 5, 9, 500] {
        assert_eq!(bench.sign(&of_then(number, isolate()), 1), Err(Refusal::UsedId), "{number}");
    }
    assert_eq!(bench.sign(&release(500), 1), Err(Refusal::UsedId));
}

/// The machine's old word of the one would pass for its word of the other.
#[test]
fn a_release_whose_id_may_be_an_older_ones_is_signed_and_frees_nothing_here() {
    let mut bench = Bench::new(&[OFFICE], None);
    let release = |number| of_then(number, Instruction::Release);
    let first = bench.sign(&release(1), 1).unwrap();
    for number in 2..=(REMEMBERED_IDS + REMEMBERED_ORDERS + 10) as u64 {
        bench.sign(&release(number), 1).unwrap();
    }
    bench.sign(&of_then(10_000, isolate()), 1).unwrap();
    assert_eq!(bench.sign(&release(1), 1).map(|order| order.id), Ok(first.id));
    let word = released(1, &first);
    bench.signer.learn(&word);
    assert_eq!(bench.signer.machines[&machine(1)].measures.len(), 1, "its place stays taken");
    // People's next one does.
    let next = bench.sign(&release(10_001), 1).unwrap();
    bench.signer.learn(&released(1, &next));
    assert_eq!(bench.signer.machines[&machine(1)].measures.len(), 0);
}

#[test]
fn ids_of_the_far_future_lock_no_machine_out_of_orders_of_now() {
    let mut bench = Bench::new(&[OFFICE], None);
    // A stolen hub, all day long.
    let mut signed = 0;
    for number in 0..(REMEMBERED_IDS + REMEMBERED_ORDERS + 1) as u64 {
        let instruction = if number % 2 == 0 { isolate() } else { Instruction::Release };
        let proposal = of_then(FAR_MILLIS + number, instruction);
        match bench.sign_at(&proposal, NOW_MILLIS) {
            Ok(_) => signed += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::UsedId),
        }
    }
    assert_eq!(signed, REMEMBERED_IDS_AHEAD, "none of these is forgotten");
    // The honest one after it, for years; its clock may be a little ahead.
    for number in 0..(REMEMBERED_IDS + REMEMBERED_ORDERS + 10) as u64 {
        let ahead = 60_000 * (number % 2);
        let at = NOW_MILLIS + number * 60_000;
        let instruction = if number % 2 == 0 { isolate() } else { Instruction::Release };
        let order = bench.sign_at(&of_then(at + ahead, instruction), at);
        assert!(order.is_ok(), "{number}: {order:?}");
    }
    // And none of the thief's comes back.
    for number in [0, 1, 500] {
        let again = of_then(FAR_MILLIS + number, Instruction::Release);
        assert_eq!(bench.sign_at(&again, NOW_MILLIS), Err(Refusal::UsedId), "{number}");
    }
}

#[test]
fn a_clock_of_hub_and_signer_that_was_wrong_leaves_every_machine_with_a_release() {
    let year = 365 * 86_400_000;
    for (name, wrong) in [("ahead", NOW_MILLIS + 10 * year), ("behind", 0)] {
        for before in [0, (REMEMBERED_IDS + REMEMBERED_ORDERS + 10) as u64] {
            let mut bench = Bench::new(&[OFFICE], None);
            let mut sign = |millis, instruction| {
                let order = bench.sign_at(&of_then(millis, instruction), millis);
                assert!(order.is_ok(), "{name}, after {before}: {order:?}");
            };
            // More than anybody ever orders for one machine.
            (0..before).for_each(|number| sign(NOW_MILLIS + number, Instruction::Release));
            (1..=6_000).for_each(|number| sign(wrong + number, Instruction::Release));
            sign(NOW_MILLIS + year, Instruction::Release);
            // Where it was not wrong for so many orders, it can be isolated as ever.
            let mut bench = Bench::new(&[OFFICE], None);
            for number in 1..=1_000 {
                let wrongly = of_then(wrong + number, Instruction::Release);
                bench.sign_at(&wrongly, wrong + number).unwrap();
            }
            bench.sign_at(&of_then(NOW_MILLIS + year, isolate()), NOW_MILLIS + year).unwrap();
        }
    }
}
