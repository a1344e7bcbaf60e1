//! How many documents a hub has signed: whom it holds up, and whom it does not.

use cordon_model::break_glass::BreakGlassTerms;
use cordon_respond::clock::Moment;

use super::super::codes::{Asker, CodesAsk};
use super::super::leave::SaidAhead;
use super::super::{Answer, Desk, Peer, Request};
use super::leave::{HOUR, asked, at, bare, is_signed, open};
use super::*;

/// Each is a line in the ledger for ever: a stolen hub must not fill the disk of the signer, nor a machine's time.
#[test]
fn a_hub_has_so_many_documents_signed_and_no_more_and_root_as_many_as_it_likes() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    assert!(is_signed(&asked(&mut desk, Peer::Keeper, &bare(1), &at(1))));
    // Other codes each time, as if somebody knew the present ones.
    let renew = |desk: &mut Desk, peer, number: u8, now: &Moment| {
        let by = Asker { name: "dr day".into(), reason: "a sheet was lost".into() };
        let ask = CodesAsk::Renew { machine: machine(number), by };
        let to_make = desk.state().core.codes_to_make(machine(number), true, now);
        let mut made = to_make.unwrap().unwrap().document([7; 16]);
        made.codes = vec![[7; 32].into(); usize::from(BreakGlassTerms::default().codes)];
        desk.answer_to(peer, Request::Codes(ask), Some(made), now).unwrap()
    };
    let flood = |desk: &mut Desk, peer, now: &Moment| {
        (0..200).filter(|_| is_signed(&renew(desk, peer, 1, now))).count()
    };
    assert_eq!(flood(&mut desk, Peer::Hub, &at(1)), 60);
    let held_back = renew(&mut desk, Peer::Hub, 1, &at(1));
    let Answer::Refused(refused @ Refused::TooMany(_)) = held_back else { panic!("{held_back:?}") };
    assert!(refused.to_string().contains("one more every 6 minutes"), "{refused}");
    // What says the same as before costs nothing, and neither does what root says.
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare(1), &at(1))));
    assert_eq!(flood(&mut desk, Peer::Keeper, &at(1)), 200);
    // Another machine is made known all the same, and this one again in a while.
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare(2), &at(1))));
    assert_eq!(flood(&mut desk, Peer::Hub, &at(1 + HOUR)), 10);
}

fn guided(desk: &mut Desk, number: u8) -> Answer {
    let request = Request::Guide { machine: machine(number), nearest: None };
    desk.answer_to(Peer::Hub, request, None, &at(2)).unwrap()
}

fn coded(desk: &mut Desk, number: u8) -> Answer {
    let ask = CodesAsk::Document(machine(number));
    let made = desk.codes_to_make(&ask, &at(2)).unwrap().unwrap().unwrap().hash().unwrap();
    desk.answer_to(Peer::Hub, Request::Codes(ask), Some(made), &at(2)).unwrap()
}

/// A stolen hub has as much signed as it can, of machines that it makes up: whom root spoke of has codes all the same.
#[test]
fn whom_root_spoke_of_is_not_held_up_by_what_a_stolen_hub_had_signed() {
    let directory = tempfile::tempdir().unwrap();
    let mut desk = open(directory.path());
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare(1), &at(1))));
    let known = assignment(2, Some(ClinicalTier::Clinical));
    assert!(is_signed(&asked(&mut desk, Peer::Keeper, &known, &at(1))));
    let ward = |number| Assignment { group: Some("ward 7".into()), ..bare(number) };
    let ahead = Request::SayAhead {
        said: Box::new(SaidAhead::of(ward(0), None, None)),
        by: ada(),
        good_for_seconds: 3_600,
    };
    assert_eq!(desk.answer_to(Peer::Keeper, ahead, None, &at(1)).unwrap(), Answer::Done);
    desk.spend_documents(&at(1));
    let is_held_up = |answer: &Answer| matches!(answer, Answer::Refused(Refused::TooMany(_)));
    for answer in [guided(&mut desk, 1), coded(&mut desk, 1)] {
        assert!(is_held_up(&answer), "{answer:?}");
    }
    for answer in [guided(&mut desk, 2), coded(&mut desk, 2)] {
        assert!(is_signed(&answer), "{answer:?}");
    }
    let new = asked(&mut desk, Peer::Hub, &bare(3), &at(2));
    let Answer::Refused(refused @ Refused::TooMany(_)) = new else { panic!("{new:?}") };
    assert!(refused.to_string().contains("systemctl restart cordon-signer"), "{refused}");
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &ward(4), &at(2))), "root said it ahead");
    // What a wrong rule needs at once.
    let acts = act_policy();
    let set = |desk: &mut Desk, peer, draft: &Policy| {
        let request = Request::SetPolicy { draft: Box::new(draft.clone()), by: ada() };
        is_signed(&desk.answer_to(peer, request, None, &at(3)).unwrap())
    };
    assert!(set(&mut desk, Peer::Keeper, &acts));
    assert!(set(&mut desk, Peer::Hub, &Policy { mode: Mode::Ask, ..acts }));
    desk.close().unwrap();
    let mut desk = open(directory.path());
    assert!(is_signed(&asked(&mut desk, Peer::Hub, &bare(3), &at(4))), "root's restart frees all");
}
