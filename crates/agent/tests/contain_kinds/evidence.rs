//! Evidence is gathered by itself, and is done only when the machine's key has signed it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use cordon_agent::contain::protocol::{Answer, Ask, Event, Refusal};
use cordon_evidence::archive::{Statement, check};
use cordon_model::action::{Action, Collection, Piece};
use cordon_model::asset::ClinicalTier;
use cordon_model::ids::MeasureId;
use cordon_model::measure::MeasureState;
use cordon_model::order::Lease;
use cordon_model::signed::seal;
use ed25519_dalek::SigningKey;
use nix::mount::{MsFlags, mount, umount2};

use super::Machine;
use super::contain_world::bench::{Connection, LEASE, assert_refused};

fn receipt_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn sealing(statement: &Statement, measure: MeasureId) -> Ask {
    Ask::Seal { measure, seal: seal(statement, &receipt_key()).unwrap() }
}

/// What the helper asks to have signed.
fn asked(agent: &mut Connection, of: MeasureId) -> Statement {
    let is_it = |event: &Event| matches!(event, Event::Gathered { measure, .. } if *measure == of);
    match agent.event(is_it) {
        Event::Gathered { statement, .. } => statement,
        other => panic!("{other:?}"),
    }
}

impl Machine {
    fn gathers(&mut self, agent: &mut Connection, lease: Lease) -> MeasureId {
        let collection = Collection { pieces: vec![Piece::Kernel], most_bytes: 1 << 20 };
        let order = self.by_itself(&Action::Collect(collection), lease);
        agent.give(self.bench.sealed(&order));
        order.id.into()
    }

    fn evidence(&self) -> PathBuf {
        self.bench.folder.path().join("state/evidence")
    }

    fn is_sealed(&self, measure: MeasureId) -> bool {
        let archive = self.evidence().join(format!("evidence-{measure}.tar.gz"));
        let key = receipt_key().verifying_key();
        check(File::open(archive).unwrap(), Some(&key)).unwrap().is_sound()
    }

    fn asks_for_nothing_more(&self) {
        let mut agent = self.listening();
        // What is told unasked comes before the second answer.
        agent.ask(Ask::Listen);
        agent.ask(Ask::Status);
        let asks = |event: &Event| matches!(event, Event::Gathered { .. });
        assert!(!agent.events.iter().any(asks), "{:?}", agent.events);
    }
}

/// Evidence changes nothing, so it is gathered by itself on a clinical machine too.
#[test]
fn evidence_is_gathered_by_itself_on_any_machine_and_done_when_it_is_signed() {
    let Some(mut machine) = Machine::new() else { return };
    for tier in [ClinicalTier::None, ClinicalTier::Clinical] {
        machine.is(tier);
        let mut agent = machine.listening();
        let measure = machine.gathers(&mut agent, LEASE);
        let statement = asked(&mut agent, measure);
        // However often it is asked, and never believed to be done.
        assert_eq!(asked(&mut agent, measure), statement);
        assert!(!machine.is_sealed(measure));
        assert_eq!(machine.bench.status().holds.len(), 1, "it is under way");

        let Answer::Obeyed(told) = agent.ask(sealing(&statement, measure)) else { panic!() };
        let mut of_it = told.receipts.iter().filter(|receipt| receipt.measure == measure);
        let done = of_it.clone().filter(|receipt| receipt.state == MeasureState::Done);
        assert_eq!(done.count(), 1, "{told:?}");
        let last = of_it.next_back().unwrap();
        assert_eq!(last.state, MeasureState::Done, "{last:?}");
        let unproven = &last.proof.as_ref().unwrap().unproven;
        assert!(!unproven.iter().any(|what| what.contains("sealed")), "{unproven:?}");
        assert!(machine.is_sealed(measure));
        assert!(machine.bench.status().holds.is_empty());
        machine.asks_for_nothing_more();
    }
}

#[test]
fn a_seal_that_a_full_disk_or_a_killed_helper_lost_is_asked_for_again() {
    let Some(mut machine) = Machine::new() else { return };
    let folder = machine.evidence();
    // The helper has a mount namespace of its own, from its start on.
    machine.bench.kill();
    let options = Some("size=1m,mode=700");
    mount(Some("none"), &folder, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    machine.bench.start();
    let mut agent = machine.listening();
    let measure = machine.gathers(&mut agent, LEASE);
    let statement = asked(&mut agent, measure);

    let mut filler = File::create(folder.join("filler")).unwrap();
    while filler.write(&[7; 4096]).is_ok() {}
    // Open, it would keep its room after it is removed.
    drop(filler);
    let refused = agent.ask(sealing(&statement, measure));
    assert_refused(&refused, Refusal::NotObeyed, "No space left");
    let receipt = agent.receipt(|receipt| receipt.state.is_unproven());
    let said = format!("{:?}", receipt.state);
    assert!(said.contains("can't be sealed") && said.contains("No space left"), "{said}");
    agent.events.clear();
    assert_eq!(asked(&mut agent, measure), statement, "it is asked for again by itself");

    machine.bench.kill();
    machine.bench.start();
    let mut agent = machine.listening();
    assert_eq!(asked(&mut agent, measure), statement, "by the next helper");
    fs::remove_file(folder.join("filler")).unwrap();
    let sealed = agent.ask(sealing(&statement, measure));
    assert!(matches!(sealed, Answer::Obeyed(_)), "{sealed:?}");
    assert!(machine.is_sealed(measure));
    assert!(machine.bench.status().holds.is_empty());
    machine.asks_for_nothing_more();
    machine.bench.kill();
    umount2(&folder, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn an_archive_whose_measure_was_over_before_anybody_signed_is_signed_by_who_listens_next() {
    let Some(mut machine) = Machine::new() else { return };
    let mut agent = machine.listening();
    let measure = machine.gathers(&mut agent, LEASE);
    let statement = asked(&mut agent, measure);
    machine.ends_soon(&mut agent, measure);
    let receipt = agent.receipt(|receipt| receipt.measure == measure && receipt.state.is_over());
    assert!(matches!(receipt.state, MeasureState::Failed { .. }), "never done: {receipt:?}");

    machine.bench.kill();
    machine.bench.start();
    let mut agent = machine.listening();
    assert_eq!(asked(&mut agent, measure), statement);
    assert!(matches!(agent.ask(sealing(&statement, measure)), Answer::Obeyed(_)));
    assert!(machine.is_sealed(measure));
    machine.asks_for_nothing_more();
}
