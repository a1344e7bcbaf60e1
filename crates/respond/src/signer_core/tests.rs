//! What the signer's mind does, and refuses to do.

use cordon_model::action::Action;
use cordon_model::asset::ClinicalTier;
use cordon_model::guidance::{Bedside, Contact};
use cordon_model::ids::FindingId;
use cordon_model::measure::{MeasureState, Origin};
use cordon_model::order::Lease;
use cordon_model::policy::{Budget, Mode};
use cordon_model::time::{BootNanos, UtcNanos};

use super::*;
use crate::clock::tests::moment;
use crate::decision::AskReason;

mod approval;
mod ids;
mod taken_back;

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
                names: Vec::new(),
                protected: cordon_model::asset::Protected::default(),
                watched: Vec::new(),
                hub: vec![],
            };
            assert_eq!(signer.assign(draft).unwrap().revision, 1);
        }
        let mut bench = Self { signer, dice: 0 };
        bench.all_are_heard(0);
        bench
    }

    /// Every machine is in contact, and holds nothing that it did not hold.
    fn all_are_heard(&mut self, seconds: u64) {
        let known: Vec<MachineId> = self.signer.machines.keys().copied().collect();
        for machine in known {
            self.signer.heard(machine, Some(Isolation::Watch), &moment("a", seconds));
        }
    }

    fn sign(&mut self, proposal: &Proposal, seconds: u64) -> Result<Order, Refusal> {
        let dice = &mut self.dice;
        self.signer.sign(proposal, &moment("a", seconds), &mut || {
            *dice = dice.wrapping_add(1);
            [*dice; 16]
        })
    }

    fn permits(&mut self, seconds: u64) -> Vec<Permit> {
        let dice = &mut self.dice;
        self.signer.renew_permits(&moment("a", seconds), &mut || {
            *dice = dice.wrapping_add(1);
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
        spared: Vec::new(),
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
fn what_opens_a_machine_has_no_last_time_to_come() {
    let mut signer = Bench::new(&[Some(ClinicalTier::None)], None);
    let mut policy = signer.signer.policy().clone();
    policy.deliver_within_seconds = Some(60);
    signer.signer.set_policy(policy).unwrap();
    let names = &[("ada", false)];
    let isolate = Instruction::isolate(Isolation::Full, LEASE);
    let isolated = by_people(1, 1, isolate, names);
    assert!(signer.sign(&isolated, 1).unwrap().deliver_until.is_some());
    let undone = Instruction::Undo { measure: order_id(1).into() };
    let eased = Instruction::ease(Isolation::Segment, LEASE);
    for (id, opens) in [(4, eased), (2, undone), (3, Instruction::Release)] {
        let order = signer.sign(&by_people(1, id, opens, names), 2).unwrap();
        assert_eq!(order.deliver_until, None, "a wrong clock on the machine must not refuse it");
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
fn where_the_policy_isolates_in_full_the_hub_may_have_a_machine_segmented_and_no_less() {
    let mut bench = Bench::new(&[OFFICE], None);
    let mut full = bench.signer.policy().clone();
    full.responses[0].isolation = Isolation::Full;
    bench.signer.set_policy(full).unwrap();
    let watch = Instruction::isolate(Isolation::Watch, LEASE);
    let watch = Proposal { instruction: watch, ..by_policy(1, 1) };
    let refused = bench.sign(&watch, 0).unwrap_err();
    assert_eq!(refused, Refusal::NotThePolicys { would: Isolation::Full });
    let order = bench.sign(&by_policy(1, 2), 1).unwrap();
    assert_eq!(order.instruction.isolation(), Some(Isolation::Segment));
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

/// A machine's own receipt of an order to release it.
fn released(number: u8, order: &Order) -> Receipt {
    let origin = Origin::Order(order.id);
    Receipt { origin, ..receipt(number, order.id.into(), MeasureState::Released) }
}

#[test]
fn a_stolen_hub_gives_no_place_back_by_its_own_word() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    let begun = bench.sign(&by_policy(1, 1), 0).unwrap();
    let is_last =
        |bench: &Bench| bench.signer.situation(machine(2), &moment("a", 3)).is_last_of_kind;
    // The isolation is in force, and the hub says that it never began and that nothing is.
    bench.signer.never_begun(machine(1), begun.id);
    bench.signer.heard(machine(1), None, &moment("a", 1));
    assert!(is_last(&bench));
    assert_eq!(bench.signer.situation(machine(1), &moment("a", 1)).contained, None);
    // Nor does a release help that it never delivered, whatever it says of it.
    let release = by_people(1, 2, Instruction::Release, &[("ann", false)]);
    let release = bench.sign(&release, 2).unwrap();
    bench.signer.heard(machine(1), None, &moment("a", 2));
    bench.signer.never_begun(machine(1), release.id);
    bench.signer.heard(machine(1), None, &moment("a", 2));
    assert!(is_last(&bench));
    // The machine itself says that it carried it out.
    bench.signer.learn(&released(1, &release));
    assert!(!is_last(&bench));
}

#[test]
fn a_stolen_hub_gives_no_place_back_by_half_of_what_a_machine_says() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    let begun = bench.sign(&by_policy(1, 1), 0).unwrap();
    // It has a release signed in somebody's name and keeps it to itself. The lease ends, and of what the
    // machine seals it passes on that, and not what stepped into its place.
    let release = by_people(1, 2, Instruction::Release, &[("ann", false)]);
    bench.sign(&release, 1).unwrap();
    for state in [MeasureState::SteppedDown, MeasureState::Superseded] {
        bench.signer.learn(&receipt(1, begun.id.into(), state));
        assert!(bench.signer.situation(machine(2), &moment("a", 2)).is_last_of_kind);
    }
    // The machine says that it is open: it has the release.
    bench.signer.learn(&receipt(1, begun.id.into(), MeasureState::Released));
    assert!(!bench.signer.situation(machine(2), &moment("a", 2)).is_last_of_kind);
}

#[test]
fn a_release_that_is_shown_ends_what_was_before_it_and_no_more() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    bench.sign(&by_policy(1, 1), 0).unwrap();
    let release = by_people(1, 2, Instruction::Release, &[("ann", false)]);
    let release = bench.sign(&release, 1).unwrap();
    let isolate = Instruction::isolate(Isolation::Segment, LEASE);
    bench.sign(&by_people(1, 3, isolate, &[("ann", false)]), 2).unwrap();
    // Held back until now, or shown twice: what was begun since is not ended by it.
    for _ in 0..2 {
        bench.signer.learn(&released(1, &release));
        assert!(bench.signer.situation(machine(2), &moment("a", 3)).is_last_of_kind);
    }
    assert_eq!(bench.signer.machines[&machine(1)].measures.len(), 1);
}

#[test]
fn a_machine_that_was_not_heard_of_late_stands_in_for_nobody() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], Some("desk"));
    bench.all_are_heard(100);
    let late = 101 + WORKS_FOR.as_secs();
    // The other one is switched off: this is the last that works, though nothing contains the other.
    bench.signer.heard(machine(1), Some(Isolation::Watch), &moment("a", late));
    let last = bench.sign(&by_policy(1, 1), late);
    assert!(matches!(last, Err(Refusal::Ask { why: AskReason::LastOfKind, .. })), "{last:?}");
    let guided = bench.signer.guide(machine(1), Some(machine(2)), &moment("a", late));
    assert!(matches!(guided, Err(Refusal::NoStandIn)), "nobody is sent to it either: {guided:?}");
    bench.signer.heard(machine(2), Some(Isolation::Watch), &moment("a", late));
    assert!(bench.signer.guide(machine(1), Some(machine(2)), &moment("a", late)).is_ok());
    assert!(bench.sign(&by_policy(1, 2), late).is_ok());
}

#[test]
fn a_machine_that_is_away_for_long_piles_up_no_permits() {
    let mut bench = Bench::new(&[OFFICE], None);
    for days in 0..20 {
        assert_eq!(bench.permits(days * 24 * 3600).len(), 1, "it holds its place");
    }
    assert_eq!(bench.signer.permits.len(), cordon_model::limits::PERMITS_PER_MACHINE);
    assert_eq!(bench.signer.permit_holders().len(), 1);
}

#[test]
fn what_a_machine_claims_to_hold_piles_up_no_further_than_its_limit() {
    let mut bench = Bench::new(&[OFFICE], None);
    for number in 0..=u8::MAX {
        let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [number; 10]);
        bench.signer.learn(&receipt(1, measure, MeasureState::Verified));
    }
    let known = &bench.signer.machines[&machine(1)];
    assert_eq!(known.measures.len(), cordon_model::limits::STANDING_PER_MACHINE);
    assert!(known.may_be_contained());
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

/// Has codes made as the shell does, with hashes that are only numbers.
fn make_codes(signer: &mut SignerCore, number: u8, wants_new: bool, seconds: u64) -> Option<u64> {
    let making =
        signer.codes_to_make(machine(number), wants_new, &moment("a", seconds)).unwrap()?;
    let mut document = making.document([1; 16]);
    document.codes = (0..making.terms.codes).map(|code| [code; 32].into()).collect();
    Some(signer.codes_made(document).unwrap().revision)
}

#[test]
fn a_machine_gets_codes_once_and_others_when_somebody_wants_them_or_their_time_nears() {
    let mut bench = Bench::new(&[OFFICE], None);
    let signer = &mut bench.signer;
    assert_eq!(signer.next_code(machine(1)), Err(Refusal::NoCodes));
    let first = make_codes(signer, 1, false, 1).unwrap();
    assert_eq!(make_codes(signer, 1, false, 2), None, "it has good ones");
    assert!(make_codes(signer, 1, true, 3).unwrap() > first);
    let mut late = moment("a", 4);
    late.utc = signer.codes(machine(1)).unwrap().expires_at;
    assert!(signer.codes_to_make(machine(1), false, &late).unwrap().is_some());
    assert!(signer.codes_to_make(machine(9), false, &late).is_err());
    // Made twice at once: the first holds.
    let making = signer.codes_to_make(machine(1), true, &late).unwrap().unwrap();
    let with = |salt| {
        let mut document = making.document([salt; 16]);
        document.codes = vec![[7; 32].into()];
        document
    };
    let held = signer.codes_made(with(1)).unwrap();
    assert_eq!(signer.codes_made(with(2)).unwrap(), held);
}

#[test]
fn a_signer_that_was_restored_gives_no_number_that_a_machine_has_seen() {
    let bench = Bench::new(&[OFFICE], None);
    let mut now = moment("a", 1);
    now.utc = UtcNanos::from_unix_nanos(1_700_000_000_000_000_000);
    let backup = bench.signer.clone();
    let before = bench.signer.codes_to_make(machine(1), true, &now).unwrap().unwrap();
    now.utc = UtcNanos::from_unix_nanos(1_700_000_001_000_000_000);
    let after = backup.codes_to_make(machine(1), true, &now).unwrap().unwrap();
    assert!(after.revision > before.revision);
}

#[test]
fn a_code_is_read_out_once_as_long_as_there_are_others_and_never_after_its_use() {
    let mut bench = Bench::new(&[OFFICE], None);
    let signer = &mut bench.signer;
    let revision = make_codes(signer, 1, false, 1).unwrap();
    let now = moment("a", 2);
    for number in 1..=6 {
        assert_eq!(signer.next_code(machine(1)), Ok(number));
        signer.codes_shown(machine(1), &[number], &now).unwrap();
    }
    assert_eq!(signer.next_code(machine(1)), Ok(1), "all were told: the first may never have come");
    let used = |code| Receipt {
        origin: Origin::BreakGlass { revision, code },
        action: Action::Isolate(Isolation::Watch),
        ..receipt(1, order_id(50 + code).into(), MeasureState::Verified)
    };
    signer.learn(&used(1));
    assert_eq!(signer.next_code(machine(1)), Ok(2));
    let row = signer.codes_row(machine(1), now.utc).unwrap();
    assert_eq!((row.fates[0], row.fates[1], row.is_due), (CodeFate::Used, CodeFate::Read, false));
    (2..=6).for_each(|code| signer.learn(&used(code)));
    assert_eq!(signer.next_code(machine(1)), Err(Refusal::NoCodes));
    assert!(signer.codes_row(machine(1), now.utc).unwrap().is_due, "none is left");
}

#[test]
fn a_machine_that_a_code_holds_open_is_asked_about_until_the_time_is_over() {
    let mut bench = Bench::new(&[OFFICE, OFFICE], None);
    let isolated = bench.sign(&by_policy(1, 1), 1).unwrap();
    let opening = |state| Receipt {
        origin: Origin::BreakGlass { revision: 1, code: 1 },
        action: Action::Isolate(Isolation::Watch),
        ..receipt(1, order_id(50).into(), state)
    };
    bench.signer.learn(&opening(MeasureState::Verified));
    bench.signer.learn(&receipt(1, isolated.id.into(), MeasureState::Released));
    let asked = bench.sign(&by_policy(1, 2), 2);
    assert_eq!(asked, Err(Refusal::Ask { needs: Needs::OnePerson, why: AskReason::HeldOpen }));
    // People may, at any moment.
    let isolate = by_policy(1, 3).instruction;
    assert!(bench.sign(&by_people(1, 3, isolate, &[("ann", false)]), 3).is_ok());
    bench.signer.learn(&opening(MeasureState::Superseded));
    let order = bench.sign(&by_people(1, 4, Instruction::Release, &[("ann", false)]), 4).unwrap();
    bench.signer.learn(&receipt(1, order_id(3).into(), MeasureState::Released));
    assert_eq!(order.instruction, Instruction::Release);
    assert!(bench.sign(&by_policy(1, 5), 5).is_ok(), "it may be done by itself again");
}

fn ring(number: &str) -> Contact {
    Contact { who: "Security operations".into(), number: number.into() }
}

#[test]
fn what_people_are_told_is_the_registrys_and_the_hub_names_only_a_neighbour_that_works() {
    let mut bench = Bench::new(&[OFFICE, OFFICE, OFFICE], Some("CT console"));
    let (signer, now) = (&mut bench.signer, moment("a", 1));
    let place = Some("ground floor, room 0.14".to_owned());
    let bedside = Bedside { place: place.clone(), ring: vec![ring("1111")], ..Bedside::default() };
    signer.set_bedside(machine(2), bedside).unwrap();
    let policy = Policy { ring: vec![ring("5555")], ..signer.policy().clone() };
    signer.set_policy(policy).unwrap();
    let told = signer.guide(machine(1), Some(machine(2)), &now).unwrap();
    let nearest = told.nearest.clone().unwrap();
    assert_eq!((nearest.name.as_str(), nearest.place), ("m2", place));
    assert_eq!(told.ring, [ring("5555")], "its own number is the second machine's");
    assert_eq!(signer.guide(machine(2), None, &now).unwrap().ring, [ring("1111")]);
    // The same is not signed anew; another is, with a higher number.
    assert_eq!(signer.guide(machine(1), Some(machine(2)), &moment("a", 9)).unwrap(), told);
    assert!(signer.guide(machine(1), Some(machine(3)), &now).unwrap().revision > told.revision);
    // Nobody is sent to a machine that is cut off, of another kind, or the same one.
    for (of, nearest) in [(1, 1), (1, 9)] {
        let refused = signer.guide(machine(of), Some(machine(nearest)), &now);
        assert_eq!(refused, Err(Refusal::NoStandIn));
    }
    bench.sign(&by_policy(2, 1), 2).unwrap();
    let refused = bench.signer.guide(machine(1), Some(machine(2)), &now);
    assert_eq!(refused, Err(Refusal::NoStandIn));
}

#[test]
fn a_telephone_number_that_nobody_can_dial_is_not_taken() {
    let mut bench = Bench::new(&[OFFICE], None);
    let bedside = Bedside { ring: vec![ring("evil.example")], ..Bedside::default() };
    assert!(matches!(bench.signer.set_bedside(machine(1), bedside), Err(Refusal::Terms(_))));
    let policy = Policy { ring: vec![ring("")], ..bench.signer.policy().clone() };
    assert!(matches!(bench.signer.set_policy(policy), Err(Refusal::Terms(_))));
}

#[test]
fn an_id_names_one_order_however_many_there_were_since() {
    let mut bench = Bench::new(&[OFFICE], None);
    let release = |id| by_people(1, id, Instruction::Release, &[("ann", false)]);
    let first = bench.sign(&release(1), 1).unwrap();
    assert_eq!(bench.sign(&release(1), 1), Ok(first.clone()), "asked again, answered alike");
    for id in 2..=20 {
        bench.sign(&release(id), 1).unwrap();
    }
    let isolate = Instruction::isolate(Isolation::Segment, LEASE);
    bench.sign(&by_people(1, 21, isolate, &[("ann", false)]), 1).unwrap();
    // A stolen hub would have it signed, keep it, and show the machine's old word of it.
    assert_eq!(bench.sign(&release(1), 1), Err(Refusal::UsedId));
    bench.signer.learn(&released(1, &first));
    assert!(bench.signer.situation(machine(1), &moment("a", 1)).contained.is_some());
}

/// The registry forgets nobody: a stolen hub could fill it with machines that it makes up.
#[test]
fn machines_that_a_hub_makes_up_leave_room_for_those_that_root_describes() {
    let organisation: cordon_model::ids::OdsCode = "RJ1".parse().unwrap();
    let policy = Policy::default_for(organisation.clone());
    let mut core = SignerCore::new(policy, &crate::clock::tests::moment("a", 0));
    let draft = |number: u32| {
        let mut bytes = [0; 10];
        bytes[4..8].copy_from_slice(&number.to_be_bytes());
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), bytes);
        Assignment::of(organisation.clone(), machine, "made up")
    };
    let made_up = (0..50_010).filter(|number| core.assign(draft(*number)).is_ok()).count();
    assert_eq!(made_up, MOST_UNDESCRIBED);
    assert_eq!(core.assign(draft(50_020)), Err(Refusal::TooManyMachines));
    let described = Assignment { group: Some("ward 7".into()), ..draft(50_021) };
    assert!(core.assign(described).is_ok());
    assert!(core.assign(draft(1)).is_ok(), "one that is known is described anew");
}
