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

/// So many machines that the policy has cut off.
async fn cut_off_by_itself(site: &Site, count: usize) -> Vec<Machine> {
    let hub = site.hub();
    let policy = Policy { mode: Mode::Act, ..(*hub.policy()).clone() };
    hub.set_policy(policy, &admin()).await.unwrap();
    let mut machines = Vec::new();
    for number in 1..=count {
        let mut machine = site.machine(&format!("office-{number}")).await;
        // Of a group of its own each, so that the group's share lets all be cut off.
        let draft = AssignmentDraft {
            tier: Some(ClinicalTier::None),
            group: Some(format!("ward {number}")),
            ..AssignmentDraft::default()
        };
        hub.assign(machine.id(), draft, &admin()).await.unwrap();
        machine.report(found(&machine.host.clone(), Level::High, 1)).await;
        let order = machine.order().await;
        machine.carry_out(&order).await;
        machines.push(machine);
    }
    machines
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_did_on_all_machines_of_an_incident_is_taken_back_at_once() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machines = cut_off_by_itself(&site, 2).await;
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
async fn a_machine_that_the_hub_cannot_read_keeps_no_other_from_being_taken_back() {
    let mut site = Site::start().await;
    let mut machines = cut_off_by_itself(&site, 3).await;
    let ids: Vec<_> = machines.iter().map(Machine::id).collect();
    let incidents = site.hub().incidents(Default::default(), &Default::default()).await.unwrap();
    let incidents: Vec<_> = incidents.items.iter().map(|row| row.incident.id).collect();
    site.stop().await;
    let second = ids[1];
    site.spoil(&format!("UPDATE machines SET receipt_key = X'ff00' WHERE machine = '{second}'"))
        .await;
    site.spoil("UPDATE incidents SET document = X'ff00'").await;
    site.start_again().await;
    for machine in [0, 2] {
        machines[machine].connect().await.unwrap();
    }
    let hub = site.hub();
    // Also which machines an incident has is known by what the hub goes on from.
    let mut known = Vec::new();
    for incident in incidents {
        known.extend(hub.machines_of(incident).await.unwrap());
    }
    known.sort();
    known.dedup();
    assert_eq!(known, ids);
    let undone = hub.undo_all(&known, "a wrong rule", &admin()).await.unwrap();
    assert_eq!(undone.len(), 3);
    for one in &undone {
        let is_dim = one.machine == second;
        let (count, refused) = (one.taken_back.len(), one.refused.as_deref());
        assert_eq!(
            (count, refused.is_some()),
            if is_dim { (0, true) } else { (1, false) },
            "{one:?}"
        );
        assert!(one.waits.is_empty());
    }
    for machine in [0, 2] {
        assert_eq!(machines[machine].order().await.instruction, Instruction::Release);
    }
}

/// Who began it stands in the mind's own row alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_measure_of_which_nobody_knows_any_more_who_began_it_is_said_to_be_left() {
    let mut site = Site::start().await;
    let mut machines = cut_off_by_itself(&site, 2).await;
    let ids: Vec<_> = machines.iter().map(Machine::id).collect();
    let dim = site.hub().standing(ids[0]).unwrap().measures[0].measure;
    site.stop().await;
    site.spoil(&format!(
        "UPDATE rows SET document = X'ff00' WHERE kind = 'measure' AND id = '{dim}'"
    ))
    .await;
    site.start_again().await;
    machines[1].connect().await.unwrap();
    let undone = site.hub().undo_all(&ids, "a wrong rule", &admin()).await.unwrap();
    let [first, second] = &undone[..] else { panic!("{undone:?}") };
    let why = first.refused.as_deref().unwrap();
    assert!(why.contains(&dim.to_string()) && why.contains("cordon release"), "{why}");
    assert!(first.taken_back.is_empty() && second.refused.is_none());
    assert_eq!(machines[1].order().await.instruction, Instruction::Release);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_signer_is_said_to_wait_and_goes_out_when_it_is_back() {
    let mut site = Site::start().await;
    let mut machines = cut_off_by_itself(&site, 2).await;
    let ids: Vec<_> = machines.iter().map(Machine::id).collect();
    site.signer.take().unwrap().stop().await;
    let undone = site.hub().undo_all(&ids, "a wrong rule", &admin()).await.unwrap();
    for one in &undone {
        assert_eq!((one.taken_back.len(), one.waits.len()), (0, 1), "{one:?}");
        assert_eq!(one.refused, None);
    }
    site.start_signer().await;
    for machine in &mut machines {
        assert_eq!(machine.order().await.instruction, Instruction::Release);
    }
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
