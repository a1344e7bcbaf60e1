//! Who gets in, once, and who does not.

use std::time::Duration;

use cordon_hub::view::AssignmentDraft;
use cordon_link::frame;
use cordon_link::token::EnrolToken;
use cordon_model::asset::ClinicalTier;
use cordon_model::limits;
use cordon_model::record::Deed;
use cordon_model::wire::EnrolAnswer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Machine, Site, admin, enrol_stream, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_machine_as_its_maker_said_and_is_then_used_up() {
    let site = Site::start().await;
    let token = site.token(Some(ClinicalTier::Supports)).await;
    // As a person pastes it.
    let token: EnrolToken = token.to_string().parse().unwrap();
    let machine = Machine::enrol(&token, "office-1").await.unwrap();
    assert_eq!(machine.enrolled.organisation, site.organisation);
    let view = site.hub().machine(machine.id()).await.unwrap();
    assert_eq!(view.row.tier, Some(ClinicalTier::Supports));
    assert_eq!(view.assignment.unwrap().hub, machine.enrolled.link);

    let again = Machine::enrol(&token, "office-2").await;
    assert!(again.is_err_and(|why| why.contains("not good")));
    assert_eq!(site.hub().machines().len(), 1);
    let records = site.hub().ledger_records(0..100);
    let deeds: Vec<Deed> =
        records.await.unwrap().into_iter().map(|entry| entry.record.deed).collect();
    for deed in [Deed::EnrolmentAllowed, Deed::Enrolled, Deed::Assigned, Deed::EnrolmentRefused] {
        assert!(deeds.contains(&deed), "{deed:?} is not in the ledger: {deeds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_use_one_token_at_once_one_gets_in() {
    let site = Site::start().await;
    let token = site.token(None).await;
    let attempts = (0..8).map(|n| {
        let token = token.clone();
        tokio::spawn(async move { Machine::enrol(&token, &format!("host-{n}")).await.is_ok() })
    });
    let mut enrolled = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        enrolled += usize::from(attempt.await.unwrap());
    }
    assert_eq!((enrolled, site.hub().machines().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_or_invented_token_is_refused_in_the_same_words() {
    let site = Site::start().await;
    let hub = site.hub();
    let expired =
        hub.create_enrolment_token(AssignmentDraft::default(), Duration::ZERO, &admin()).await;
    let expired = expired.unwrap();
    let mut invented = site.token(None).await;
    invented.secret[0] ^= 1;
    let one = Machine::enrol(&expired, "a").await.err();
    let other = Machine::enrol(&invented, "b").await.err();
    assert!(one.is_some() && one == other, "{one:?} {other:?}");
    assert_eq!(hub.status().await.unwrap().refused.enrolments, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_token_pins_another_authority_does_not_speak_to_this_hub() {
    let (site, other) = (Site::start().await, Site::of("RX9").await);
    let mut token = other.token(None).await;
    token.addresses = site.token(None).await.addresses;
    let refused = Machine::enrol(&token, "lured").await;
    assert!(refused.is_err_and(|why| why.contains("not the pinned authority")));
    assert!(site.hub().machines().is_empty() && other.hub().machines().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_sends_instead_of_a_request_harms_nobody() {
    let site = Site::start().await;
    let token = site.token(None).await;
    // Larger than a stranger may send: refused by the announced length.
    let mut stream = enrol_stream(&token).await.unwrap();
    let length = u32::try_from(limits::ENROL_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    stream.write_all(&length).await.unwrap();
    let answer: Option<EnrolAnswer> = frame::read(&mut stream, 10_000).await.unwrap();
    assert!(matches!(answer, Some(EnrolAnswer::Refused { .. })));
    // Garbage in a frame, and a frame that never ends.
    let mut stream = enrol_stream(&token).await.unwrap();
    stream.write_all(&[0, 0, 0, 3, 0xff, 0xff, 0xff]).await.unwrap();
    let answer: Option<EnrolAnswer> = frame::read(&mut stream, 10_000).await.unwrap();
    assert!(matches!(answer, Some(EnrolAnswer::Refused { .. })));
    let mut torn = enrol_stream(&token).await.unwrap();
    torn.write_all(&[0, 0, 1, 0, 1]).await.unwrap();
    drop(torn);
    // No TLS at all.
    let mut plain = tokio::net::TcpStream::connect(token.addresses[0]).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    until("all refusals are counted", || async {
        site.hub().status().await.unwrap().refused.enrolments >= 4
    })
    .await;
    Machine::enrol(&token, "honest").await.expect("the token is still good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_enrolments_from_one_address_is_slowed_and_counted() {
    let site = Site::start().await;
    let mut invented = site.token(None).await;
    invented.secret = [9; 32];
    let mut turned_away = 0;
    for _ in 0..60 {
        match Machine::enrol(&invented, "flood").await.err() {
            Some(why) if why.contains("not good") => {}
            // The connection was closed before TLS: no certificate check, no store, was spent on it.
            _ => turned_away += 1,
        }
    }
    assert!(turned_away > 0);
    assert_eq!(site.hub().status().await.unwrap().refused.enrolments, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ward_behind_one_address_enrols_as_fast_as_it_can() {
    let site = Site::start().await;
    for number in 0..40 {
        let token = site.token(None).await;
        Machine::enrol(&token, &format!("bed-{number}")).await.unwrap();
    }
    assert_eq!(site.hub().machines().len(), 40);
}
