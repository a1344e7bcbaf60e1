//! Point 10: a brake. So many without people, then a human.
//!
//! Answers what no product listed: one wrong rule cuts off everybody. The organisation's brake is the
//! signer's (`crates/sim/tests/laws.rs`, `crates/hub/src/signer/tests.rs`); here is the machine's own,
//! which holds whatever a signer, a policy or a permit says.

use cordon_agent::contain::protocol::{Answer, Refusal};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::FindingId;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Authority, Instruction};

use crate::contain_world::PEER;
use crate::contain_world::bench::{Bench, LEASE, assert_refused, dial, echo};

/// A wrong rule isolates, somebody releases, it isolates again: after five times in ten minutes the
/// machine takes no more of it, also not after a restart. Packets pass; a person can still cut it off.
#[test]
fn point_10_after_five_without_people_the_machine_takes_orders_from_people_only() {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    echo(&bench.world, PEER, 445);
    let by_policy = |bench: &mut Bench| {
        let isolation = Isolation::Segment;
        let mut order = bench.order(Instruction::isolate(isolation, LEASE));
        let finding = FindingId::of("a wrong rule", "host", &[1; 32]);
        order.authority = Authority::Policy { revision: 1, finding };
        bench.give(&order)
    };
    for _ in 0..5 {
        assert!(matches!(by_policy(&mut bench), Answer::Obeyed(_)));
        assert!(dial(&bench.world, PEER, 445).is_err());
        bench.release();
    }
    for _ in 0..2 {
        assert_refused(&by_policy(&mut bench), Refusal::NotObeyed, "brake");
        assert!(dial(&bench.world, PEER, 445).is_ok(), "nothing is cut");
        bench.kill();
        bench.start();
    }
    assert_eq!(bench.isolate(Isolation::Segment).state, MeasureState::Verified);
    assert!(dial(&bench.world, PEER, 445).is_err(), "people still can");
}
