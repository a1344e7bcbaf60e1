//! Taking back everything that was done by itself, and nothing else.

use cordon_hub::HubError;
use cordon_hub::view::AssignmentDraft;
use cordon_model::action::Action;
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MeasureId, PermitId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::Instruction;
use cordon_model::policy::{Mode, Policy};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_model::wire::Report;

use super::support::{Machine, Site, admin, found, until};

fn receipt(machine: &Machine, number: u8, origin: Origin, state: MeasureState) -> Receipt {
    Receipt {
        machine: machine.id(),
        measure: MeasureId::new(UtcNanos::from_unix_nanos(0), [number; 10]),
        origin,
        action: Action::Isolate(Isolation::Segment),
        state,
        proof: None,
        lease_ends: None,
        boot: BootId("boot".into()),
        at_boot: BootNanos(1),
        at: UtcNanos::now(),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    }
}

async fn report(machine: &mut Machine, receipt: &Receipt) {
    let sealed = machine.sealed(receipt);
    machine.report(Report::Receipt(sealed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_did_on_all_machines_of_an_incident_is_taken_back_at_once() {
    let site = Site::start().await;
    let hub = site.hub();
    let policy = Policy { mode: Mode::Act, ..(*hub.policy()).clone() };
    hub.set_policy(policy, &admin()).await.unwrap();
    let mut machines = vec![site.machine("office-1").await, site.machine("office-2").await];
    for (number, machine) in (1..).zip(&mut machines) {
        // Of a group of its own each, so that the group's share lets both be cut off.
        let draft = AssignmentDraft {
            tier: Some(ClinicalTier::None),
            group: Some(format!("ward {number}")),
            ..AssignmentDraft::default()
        };
        hub.assign(machine.id(), draft, &admin()).await.unwrap();
        machine.report(found(&machine.host.clone(), Level::High, 1)).await;
        let order = machine.order().await;
        machine.carry_out(&order).await;
    }
    let listed = hub.incidents(Default::default(), &Default::default()).await.unwrap();
    let ids: Vec<_> = listed.items.iter().flat_map(|row| row.incident.machines.clone()).collect();
    assert_eq!(ids.len(), 2, "both were cut off in its course");
    let undone = hub.undo_all(&ids, "a wrong rule", &admin()).await.unwrap();
    assert!(undone.iter().all(|one| one.taken_back.len() == 1 && one.refused.is_none()));
    for machine in &mut machines {
        let order = machine.order().await;
        assert_eq!(order.instruction, Instruction::Release);
        machine.take(&order).await;
        let standing = hub.standing(machine.id()).unwrap();
        let mut over = receipt(machine, 0, Origin::Order(order.id), MeasureState::Released);
        over.measure = standing.measures[0].measure;
        report(machine, &over).await;
        until("nothing stands", || async {
            hub.standing(machine.id()).unwrap().measures.is_empty()
        })
        .await;
    }
    let nothing = hub.undo_all(&ids, "again", &admin()).await;
    assert!(matches!(nothing, Err(HubError::Missing { .. })), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_followed_on_a_permits_isolation_is_taken_back_and_what_people_renewed_is_not() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let permit = PermitId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
    let finding = FindingId::of("r", "h", &[1; 32]);
    let first = receipt(&machine, 1, Origin::Permit { permit, finding }, MeasureState::Verified);
    let next = receipt(&machine, 2, Origin::LeaseEnd(first.measure), MeasureState::Verified);
    let over = Receipt { state: MeasureState::SteppedDown, ..first.clone() };
    for one in [&first, &next, &over] {
        report(&mut machine, one).await;
    }
    // Another process of the hub knows it too.
    site.restart().await;
    machine.connect().await.unwrap();
    let hub = site.hub();
    let undone = hub.undo_all(&[machine.id()], "a wrong rule", &admin()).await.unwrap();
    assert_eq!(undone[0].taken_back[0].measure, next.measure);
    assert_eq!(machine.order().await.instruction, Instruction::Release);
    // The same, but somebody decided that it goes on.
    let mut other = site.machine("office-2").await;
    let begun = receipt(&other, 3, Origin::Permit { permit, finding }, MeasureState::Verified);
    report(&mut other, &begun).await;
    until("the signer knows it", || async {
        hub.renew(other.id(), "still looking", &admin()).await.is_ok()
    })
    .await;
    let undone = hub.undo_all(&[other.id()], "a wrong rule", &admin()).await;
    assert!(matches!(undone, Err(HubError::Missing { .. })), "{undone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_ordered_stays() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let hub = site.hub();
    hub.isolate(machine.id(), Isolation::Full, "people want it", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    let undone = hub.undo_all(&[machine.id()], "a wrong rule", &admin()).await;
    assert!(matches!(undone, Err(HubError::Missing { .. })), "{undone:?}");
    let said = undone.unwrap_err().to_string();
    assert!(said.contains("people ordered") && said.contains("cordon release"), "{said}");
    assert_eq!(hub.standing(machine.id()).unwrap().measures.len(), 1);
}
