//! What people in front of a machine are told of its neighbours: only of those that work.

use cordon_hub::view::AssignmentDraft;
use cordon_model::asset::ClinicalTier;
use cordon_model::guidance::{Bedside, Contact, Guidance};
use cordon_model::measure::Isolation;
use cordon_model::signed::Verified;
use cordon_model::time::BootNanos;
use cordon_model::wire::{FromAgent, FromHub, Status};
use ed25519_dalek::VerifyingKey;

use super::support::{Machine, Site, admin};

/// Says that it is there, as agents do every few seconds, and hears its guidance until it is as wanted.
async fn guidance_of(
    machine: &mut Machine,
    others: &mut [&mut Machine],
    is_wanted: impl Fn(&Guidance) -> bool,
) -> Verified<Guidance> {
    let key = VerifyingKey::from_bytes(&machine.enrolled.command_key).unwrap();
    let status = || {
        FromAgent::Status(Status {
            at_boot: BootNanos(1),
            holds: cordon_model::holds::Holds::NOTHING,
            rules: 1,
            events: 0,
            lost: 0,
            break_glass: 0,
            guidance: 0,
        })
    };
    loop {
        for other in others.iter_mut() {
            other.say(&status()).await;
        }
        machine.say(&status()).await;
        if let FromHub::Guidance(envelope) = machine.hear().await.unwrap() {
            let guidance: Verified<Guidance> = envelope.open(&key).unwrap();
            if is_wanted(&guidance) {
                return guidance;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn ct(place: &str, ring: &[Contact]) -> AssignmentDraft {
    AssignmentDraft {
        tier: Some(ClinicalTier::Clinical),
        kind: Some("CT console".into()),
        group: Some("Radiology".into()),
        bedside: Some(Bedside { place: Some(place.into()), instead: None, ring: ring.to_vec() }),
        ..AssignmentDraft::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_machine_is_one_that_is_heard_and_not_cut_off() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut here = site.machine_of("ct-1", None).await;
    let mut there = site.machine_of("ct-2", None).await;
    let mut far = site.machine_of("ct-3", None).await;
    let ring = [Contact { who: "Security operations".into(), number: "5555".into() }];
    hub.assign(here.id(), ct("room 1", &ring), &admin()).await.unwrap();
    hub.assign(there.id(), ct("room 2", &[]), &admin()).await.unwrap();
    let far_away = AssignmentDraft { group: Some("A&E".into()), ..ct("room 3", &[]) };
    hub.assign(far.id(), far_away, &admin()).await.unwrap();
    let nearest = |guidance: &Guidance| guidance.nearest.clone().map(|nearest| nearest.name);
    let told = guidance_of(&mut here, &mut [&mut there, &mut far], |guidance| {
        nearest(guidance).as_deref() == Some("ct-2")
    })
    .await;
    assert_eq!(told.ring, ring);
    assert_eq!(told.nearest.as_ref().unwrap().place.as_deref(), Some("room 2"));
    // It is cut off, or about to be: the next one is in another department.
    hub.isolate(there.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    guidance_of(&mut here, &mut [&mut there, &mut far], |guidance| {
        nearest(guidance).as_deref() == Some("ct-3")
    })
    .await;
    // That one is not heard any more: nobody is sent there.
    far.disconnect();
    guidance_of(&mut here, &mut [&mut there], |guidance| guidance.nearest.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_nobody_can_dial_is_refused_before_anything_is_signed() {
    let site = Site::start().await;
    let machine = site.machine_of("ct-1", None).await;
    let ring = [Contact { who: "Security operations".into(), number: "evil.example".into() }];
    let refused = site.hub().assign(machine.id(), ct("room 1", &ring), &admin()).await;
    assert!(refused.is_err());
    let view = site.hub().machine(machine.id()).await.unwrap();
    assert_eq!(view.bedside, Some(Bedside::default()));
}
