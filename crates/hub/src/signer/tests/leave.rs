//! What the hub alone has signed, and what takes the keeper.

use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::guidance::{Bedside, Contact};
use cordon_respond::clock::Moment;

use super::super::leave::SaidAhead;
use super::super::{Answer, Desk, Peer, Request};
use super::*;

pub(super) const HOUR: u64 = 3600;

pub(super) fn at(seconds: u64) -> Moment {
    Moment {
        boot: BootId("a".into()),
        at: BootNanos(seconds * 1_000_000_000),
        utc: UtcNanos::from_unix_nanos(0).plus(Duration::from_secs(seconds)),
        trusted_utc: None,
    }
}

pub(super) fn open(directory: &Path) -> Desk {
    Desk::open(directory, &rj1(), &at(0)).unwrap()
}

/// In a name that whoever has stolen the hub knows.
pub(super) fn asked(desk: &mut Desk, peer: Peer, draft: &Assignment, now: &Moment) -> Answer {
    let by = Some(Approver { name: "dr day".into(), is_clinical: true });
    let request = Request::Assign { draft: Box::new(draft.clone()), receipt_key: None, by };
    desk.answer_to(peer, request, None, now).unwrap()
}

fn needs_keeper(answer: &Answer) -> Option<String> {
    match answer {
        Answer::Refused(Refused::NeedsKeeper(weaker)) => Some(weaker.clone()),
        _ => None,
    }
}

pub(super) fn is_signed(answer: &Answer) -> bool {
    matches!(answer, Answer::Document(_))
}

fn to_the_thief() -> Lifeline {
    Lifeline {
        name: "update server".into(),
        peer: "203.0.113.9/32".parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange::one(443),
        direction: Direction::Outbound,
        signed_off_by: Some("dr day".into()),
    }
}

fn set(desk: &mut Desk, peer: Peer, draft: &Policy) -> Answer {
    let by = Approver { name: "dr day".into(), is_clinical: true };
    let request = Request::SetPolicy { draft: Box::new(draft.clone()), by };
    desk.answer_to(peer, request, None, &at(1)).unwrap()
}

#[test]
fn a_stolen_hub_has_no_machine_made_weaker_in_anybodys_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    let bare = Assignment { group: None, ..assignment(1, None) };
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare, &at(1))), "of which nothing is known");
    let known = assignment(1, Some(ClinicalTier::Clinical));
    assert!(is_signed(&asked(&mut desk, Peer::Keeper, &known, &at(1))));
    let weaker = [
        Assignment { name: "the spare one".into(), ..known.clone() },
        Assignment { tier: Some(ClinicalTier::None), ..known.clone() },
        Assignment { tier: Some(ClinicalTier::LifeSustaining), ..known.clone() },
        Assignment { tier: None, lifelines: vec![to_the_thief()], ..known.clone() },
        Assignment { kind: Some("printer".into()), ..known.clone() },
        Assignment { group: None, ..known.clone() },
        Assignment { hub: vec!["203.0.113.9:7443".parse().unwrap()], ..known.clone() },
        Assignment {
            protected: Protected { units: vec!["evil.service".into()], ..Protected::default() },
            ..known.clone()
        },
    ];
    for draft in &weaker {
        let answer = asked(&mut desk, Peer::Hub, draft, &at(2));
        assert!(needs_keeper(&answer).is_some(), "{draft:?}: {answer:?}");
        assert!(is_signed(&asked(&mut desk, Peer::Keeper, draft, &at(3))), "{draft:?}");
        // What the keeper has said is the hub's to bring to the machine, and the next takes the keeper again.
        assert!(is_signed(&asked(&mut desk, Peer::Hub, draft, &at(4))));
        assert!(needs_keeper(&asked(&mut desk, Peer::Hub, &known, &at(5))).is_some());
        assert!(is_signed(&asked(&mut desk, Peer::Keeper, &known, &at(6))));
    }
    desk.close().unwrap();
    let records = own_records(directory.path());
    let said = |how: &str| {
        records.iter().filter(|r| r.deed == Deed::Assigned && r.detail.contains(how)).count()
    };
    assert_eq!(said("at the signer's machine"), 1 + 2 * weaker.len());
}

#[test]
fn what_the_keeper_says_ahead_is_good_for_one_machine_that_is_just_so_and_for_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    let wanted = |number| Assignment {
        group: Some("ward 7".into()),
        lifelines: vec![to_the_thief()],
        ..assignment(number, Some(ClinicalTier::Supports))
    };
    let say = |desk: &mut Desk, peer, now: &Moment| {
        let said = Box::new(SaidAhead::of(wanted(0), None, None));
        let by = ada();
        let request = Request::SayAhead { said, by, good_for_seconds: 3_600 };
        desk.answer_to(peer, request, None, now).unwrap()
    };
    assert!(needs_keeper(&say(&mut desk, Peer::Hub, &at(1))).is_some(), "not for the hub to say");
    assert!(needs_keeper(&asked(&mut desk, Peer::Hub, &wanted(1), &at(1))).is_some());
    assert_eq!(say(&mut desk, Peer::Keeper, &at(1)), Answer::Done);
    let other = Assignment { tier: Some(ClinicalTier::None), ..wanted(1) };
    assert!(needs_keeper(&asked(&mut desk, Peer::Hub, &other, &at(2))).is_some(), "not just so");
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &wanted(1), &at(2))));
    assert!(
        needs_keeper(&asked(&mut desk, Peer::Hub, &wanted(2), &at(3))).is_some(),
        "one machine"
    );
    desk.close().unwrap();
    // Over a restart too: what was used is used, what was not is good for its time.
    let mut desk = open(directory.path());
    assert!(needs_keeper(&asked(&mut desk, Peer::Hub, &wanted(2), &at(4))).is_some());
    say(&mut desk, Peer::Keeper, &at(4));
    desk.close().unwrap();
    let mut desk = open(directory.path());
    assert!(needs_keeper(&asked(&mut desk, Peer::Hub, &wanted(3), &at(5 + HOUR))).is_some());
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &wanted(2), &at(6))));
    desk.close().unwrap();
    let records = own_records(directory.path());
    assert!(records.iter().any(|record| record.detail.contains("as said ahead")));
}

#[test]
fn a_stolen_hub_sets_no_policy_that_does_more_or_less_but_may_hold_it_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    let acts = act_policy();
    assert!(needs_keeper(&set(&mut desk, Peer::Hub, &acts)).is_some());
    assert!(is_signed(&set(&mut desk, Peer::Keeper, &acts)));
    let held = desk.answer(Request::Policy, &at(1)).unwrap();
    assert!(is_signed(&set(&mut desk, Peer::Hub, &acts)), "what holds is the hub's to bring on");
    assert_eq!(desk.answer(Request::Policy, &at(1)).unwrap(), held, "of the same revision");
    let mut alone = acts.clone();
    alone.approval.open_for_seconds += 1;
    for draft in [
        Policy { mode: Mode::Observe, ..acts.clone() },
        Policy { permits: acts.permits + 1, ..acts.clone() },
        alone,
    ] {
        assert!(needs_keeper(&set(&mut desk, Peer::Hub, &draft)).is_some(), "{draft:?}");
    }
    assert!(
        is_signed(&set(&mut desk, Peer::Hub, &Policy { mode: Mode::Ask, ..acts })),
        "the brake"
    );
}

#[test]
fn what_opens_never_takes_the_keeper() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    asked(&mut desk, Peer::Keeper, &assignment(1, Some(ClinicalTier::None)), &at(1));
    for (id, instruction) in [(1, isolate()), (2, Instruction::Release)] {
        let request = Request::Sign(Box::new(by_people(id, 1, instruction)));
        assert!(is_signed(&desk.answer_to(Peer::Hub, request, None, &at(2)).unwrap()), "{id}");
    }
}

/// A machine of which nothing is said but its name.
pub(super) fn bare(number: u8) -> Assignment {
    Assignment { group: None, ..assignment(number, None) }
}

fn ring(number: &str) -> Bedside {
    let ring = vec![Contact { who: "Security operations".into(), number: number.into() }];
    Bedside { place: Some("room 1".into()), ring, ..Bedside::default() }
}

fn told(desk: &mut Desk, number: u8) -> Bedside {
    match desk.answer_to(Peer::Hub, Request::Bedside(machine(number)), None, &at(2)).unwrap() {
        Answer::Bedside(bedside) => *bedside,
        other => panic!("{other:?}"),
    }
}

/// A stolen hub puts no telephone number of its own on a hospital's screens.
#[test]
fn whom_people_at_a_machine_ring_is_said_by_root_and_not_by_a_hub_in_a_persons_name() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare(1), &at(1))));
    let say = |desk: &mut Desk, peer, number: u8, bedside: Bedside| {
        let by = Approver { name: "dr day".into(), is_clinical: true };
        let (machine, bedside) = (machine(number), Box::new(bedside));
        desk.answer_to(peer, Request::SetBedside { machine, bedside, by }, None, &at(2)).unwrap()
    };
    let refused = say(&mut desk, Peer::Hub, 1, ring("6666"));
    assert!(needs_keeper(&refused).unwrap().contains("whom to ring"), "{refused:?}");
    assert_eq!(told(&mut desk, 1), Bedside::default());
    assert_eq!(say(&mut desk, Peer::Keeper, 1, ring("5555")), Answer::Done);
    // The hub says what root said, as it does after each assignment, and nothing else.
    assert_eq!(say(&mut desk, Peer::Hub, 1, ring("5555")), Answer::Done);
    assert!(needs_keeper(&say(&mut desk, Peer::Hub, 1, Bedside::default())).is_some());
    // Said ahead, with a token that root made.
    let said = Box::new(SaidAhead::of(assignment(2, None), None, Some(ring("7777"))));
    let by = Approver { name: "root".into(), is_clinical: false };
    let ahead = Request::SayAhead { said, by, good_for_seconds: 3_600 };
    assert_eq!(desk.answer_to(Peer::Keeper, ahead, None, &at(3)).unwrap(), Answer::Done);
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &assignment(2, None), &at(4))));
    assert_eq!(told(&mut desk, 2), ring("7777"));
}
