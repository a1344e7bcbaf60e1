//! What the signer's mind does, and refuses to do.

use cordon_model::action::Action;
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::FindingId;
use cordon_model::measure::MeasureState;
use cordon_model::order::Lease;
use cordon_model::policy::{Budget, Mode};
use cordon_model::time::{BootNanos, UtcNanos};

use super::*;
use crate::clock::tests::moment;
use crate::decision::AskReason;

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn order_id(number: u8) -> OrderId {
    OrderId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

struct Bench {
    signer: SignerCore,
    dice: u8,
}

impl Bench {
    /// `tiers` become machines 1, 2, 3… of one group, and of one kind if `kind` is given.
    fn new(tiers: &[Option<ClinicalTier>], kind: Option<&str>) -> Self {
        let budget = Budget { count: 2, window_seconds: 600, group_percent: 100 };
        let policy = Policy {
            mode: Mode::Act,
            budget,
            permits: 2,
            ..Policy::default_for("RJ1".parse().unwrap())
        };
        let mut signer = SignerCore::new(policy, &moment("a", 0));
        for (number, tier) in (1..).zip(tiers) {
            let draft = Assignment {
                organisation: "RJ1".parse().unwrap(),
                machine: machine(number),
                revision: 0,
                name: format!("m{number}"),
                tier: *tier,
                kind: kind.map(Into::into),
                group: Some("ward".into()),
                lifelines: vec![],
                hub: vec![],
            };
            assert_eq!(signer.assign(draft).unwrap().revision, 1);
        }
        Self { signer, dice: 0 }
    }

    fn sign(&mut self, proposal: &Proposal, seconds: u64) -> Result<Order, Refusal> {
        let dice = &mut self.dice;
        self.signer.sign(proposal, &moment("a", seconds), &mut || {
            *dice += 1;
            [*dice; 16]
        })
    }

    fn permits(&mut self, seconds: u64) -> Vec<Permit> {
        let dice = &mut self.dice;
        self.signer.renew_permits(&moment("a", seconds), &mut || {
            *dice += 1;
            [*dice; 16]
        })
    }
}

const OFFICE: Option<ClinicalTier> = Some(ClinicalTier::None);
const LEASE: Lease = Lease { seconds: 4 * 3600, step_down_seconds: 4 * 3600, warn_seconds: 1800 };

fn by_policy(number: u8, id: u8) -> Proposal {
    Proposal {
        id: order_id(id),
        machine: machine(number),
        instruction: Instruction::isolate(Isolation::Segment, LEASE),
        basis: Basis::Policy { finding: FindingId::of("r", "h", &[id; 32]), level: Level::High },
        incident: None,
        reason: "test".into(),
    }
}

fn by_people(number: u8, id: u8, instruction: Instruction, names: &[(&str, bool)]) -> Proposal {
    let people = names
        .iter()
        .map(|(name, is_clinical)| Approver { name: (*name).into(), is_clinical: *is_clinical });
    let basis = Basis::People { approval: None, people: people.collect() };
    Proposal { instruction, basis, ..by_policy(number, id) }
}

fn receipt(number: u8, measure: MeasureId, state: MeasureState) -> Receipt {
    Receipt {
        machine: machine(number),
        measure,
        origin: Origin::Order(order_id(0)),
        action: Action::Isolate(Isolation::Segment),
        state,
        proof: None,
        lease_ends: None,
        boot: cordon_model::time::BootId("m".into()),
        at_boot: BootNanos(0),
        at: UtcNanos::from_unix_nanos(0),
        sockets_cut: 0,
        done: Vec::new(),
    }
}

#[test]
fn the_same_proposal_gets_the_same_order_and_spends_once() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], None);
    let first = bench.sign(&by_policy(1, 1), 0).unwrap();
    assert_eq!(bench.sign(&by_policy(1, 1), 1).unwrap(), first);
    assert_eq!(bench.signer.spent(&moment("a", 1)), (1, 2));
    assert_eq!(first.sequence, 1);
}

#[test]
fn the_budget_stops_the_third_and_people_are_asked() {
    let mut bench = Bench::new(&[OFFICE, OFFICE, OFFICE], None);
    bench.sign(&by_policy(1, 1), 0).unwrap();
    bench.sign(&by_policy(2, 2), 0).unwrap();
    let third = bench.sign(&by_policy(3, 3), 1);
    assert!(matches!(third, Err(Refusal::Ask { why: AskReason::BudgetSpent(_), .. })), "{third:?}");
    assert!(bench.sign(&by_policy(3, 4), 600).is_ok(), "the window has moved on");
}

#[test]
fn the_registry_decides_about_tiers_and_not_the_proposal() {
    for tier in [None, Some(ClinicalTier::Clinical), Some(ClinicalTier::LifeSustaining)] {
        let mut bench = Bench::new(&[tier], None);
        // Even a policy that says so itself is not obeyed here.
        let mut reckless = bench.signer.policy().clone();
        reckless.responses.iter_mut().for_each(|response| response.by_itself = true);
        bench.signer.set_policy(reckless).unwrap();
        assert!(matches!(bench.sign(&by_policy(1, 1), 0), Err(Refusal::Ask { .. })), "{tier:?}");
    }
}

#[test]
fn a_life_sustaining_machine_is_refused_until_identities_are_strong() {
    let mut bench = Bench::new(&[Some(ClinicalTier::LifeSustaining)], None);
    let isolate = Instruction::isolate(Isolation::Segment, LEASE);
    let one = by_people(1, 1, isolate.clone(), &[("ann", true)]);
    assert!(matches!(bench.sign(&one, 0), Err(Refusal::NotEnoughPeople { .. })));
    let two = by_people(1, 2, isolate, &[("ann", false), ("bob", true)]);
    assert!(matches!(bench.sign(&two, 0), Err(Refusal::NeedsStrongIdentity { .. })));
    assert!(bench.sign(&by_people(1, 3, Instruction::Release, &[("ann", false)]), 0).is_ok());
}

#[test]
fn the_policy_can_neither_release_nor_renew_nor_go_further_than_it_says() {
    let mut bench = Bench::new(&[OFFICE], None);
    let release = Proposal { instruction: Instruction::Release, ..by_policy(1, 1) };
    assert_eq!(bench.sign(&release, 0), Err(Refusal::NeedsPeople));
    let full = Instruction::isolate(Isolation::Full, LEASE);
    let further = Proposal { instruction: full, ..by_policy(1, 2) };
    assert!(matches!(bench.sign(&further, 0), Err(Refusal::NotThePolicys { .. })));
    let longer = Lease { seconds: LEASE.seconds + 1, ..LEASE };
    let longer = Instruction::isolate(Isolation::Segment, longer);
    let longer = Proposal { instruction: longer, ..by_policy(1, 3) };
    assert!(matches!(bench.sign(&longer, 0), Err(Refusal::NotThePolicys { .. })));
}

#[test]
fn the_last_of_a_kind_is_asked_about_until_another_is_known_to_work() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    let first = bench.sign(&by_policy(1, 1), 0).unwrap();
    let last = bench.sign(&by_policy(2, 2), 1);
    assert!(matches!(last, Err(Refusal::Ask { why: AskReason::LastOfKind, .. })), "{last:?}");
    // An order to release is not yet a machine that works.
    bench.sign(&by_people(1, 3, Instruction::Release, &[("ann", false)]), 2).unwrap();
    assert!(bench.sign(&by_policy(2, 4), 3).is_err());
    bench.signer.learn(&receipt(1, first.id.into(), MeasureState::Released));
    assert!(bench.sign(&by_policy(2, 5), 4).is_ok());
}

#[test]
fn permits_are_bounded_and_leave_two_of_a_kind_without() {
    let mut bench = Bench::new(&[OFFICE, OFFICE, OFFICE, OFFICE], None);
    assert_eq!(bench.permits(0).len(), 2, "as many as the policy says");
    assert_eq!(bench.permits(1).len(), 0, "they are fresh");
    assert_eq!(bench.permits(13 * 3600).len(), 2, "renewed at half their time");
    for (machines, permits) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
        let mut kind = Bench::new(&vec![OFFICE; machines], Some("desk"));
        assert_eq!(kind.permits(0).len(), permits, "of {machines}");
    }
}

#[test]
fn the_first_infection_of_any_machine_of_a_kind_is_contained_by_policy() {
    for first in 1..=3 {
        let mut kind = Bench::new(&[OFFICE, OFFICE, OFFICE], Some("desk"));
        kind.permits(0);
        kind.sign(&by_policy(first, 1), 1).unwrap();
        // One without a permit is left by then, or none: the kind is never gone without asking.
        let holders = kind.signer.permit_holders();
        let others = (1..=3).filter(|other| *other != first && !holders.contains(&machine(*other)));
        let left = others.collect::<Vec<_>>();
        if let [last] = left[..] {
            assert!(matches!(
                kind.sign(&by_policy(last, 2), 2),
                Err(Refusal::Ask { why: AskReason::LastOfKind, .. })
            ));
        }
    }
}

#[test]
fn a_permit_that_ended_counts_until_its_machine_is_heard_and_open() {
    let mut bench = Bench::new(&[OFFICE, OFFICE, OFFICE], None);
    bench.permits(0);
    let after = 24 * 3600 + 61;
    bench.signer.policy.mode = Mode::Ask; // No new ones meanwhile.
    for holder in bench.signer.permit_holders() {
        bench.signer.heard(holder, Some(Isolation::Segment), &moment("a", after));
    }
    assert_eq!(bench.signer.permit_holders().len(), 2, "isolated: it may be by the permit");
    for holder in bench.signer.permit_holders() {
        bench.signer.heard(holder, None, &moment("a", after));
    }
    assert!(bench.signer.permit_holders().is_empty());
}

#[test]
fn what_is_kept_is_what_there_was() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    bench.permits(0);
    bench.sign(&by_people(1, 1, Instruction::Release, &[("ann", false)]), 1).unwrap();
    let kept = serde_json::to_string(&bench.signer).unwrap();
    assert_eq!(serde_json::from_str::<SignerCore>(&kept).unwrap(), bench.signer);
}

#[test]
fn another_organisations_assignment_is_refused() {
    let mut bench = Bench::new(&[OFFICE], None);
    let mut foreign = bench.signer.assignment(machine(1)).unwrap().clone();
    foreign.organisation = "A81001".parse().unwrap();
    assert_eq!(bench.signer.assign(foreign), Err(Refusal::WrongOrganisation));
}
