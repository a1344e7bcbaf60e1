//! A machine that lies harms itself and nobody else (laws 8 and 11).

use cordon_model::action::ActionKind;
use cordon_model::finding::Level;
use cordon_model::holds::{Holding, Holds};
use cordon_model::ids::MeasureId;
use cordon_model::limits;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::policy::Mode;
use cordon_model::record::Deed;
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_model::wire::{FromAgent, Numbered, Report, Status};

use super::support::{Site, admin, finding, found, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_machine_or_by_another_key_changes_nothing() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.set_mode(Mode::Act, &admin()).await.unwrap();
    let mut victim = site.machine("victim").await;
    let mut liar = site.machine("liar").await;
    victim.send(found("victim", Level::High, 1)).await;
    let order = victim.order().await;
    victim.carry_out(&order).await;

    // In the victim's name with the liar's key, and in its own name for the victim's measure.
    let forged = liar.sealed(&victim.receipt(&order, MeasureState::Released));
    liar.report(Report::Receipt(forged)).await;
    let own = liar.sealed(&liar.receipt(&order, MeasureState::Released));
    liar.report(Report::Receipt(own)).await;
    // And a receipt that nobody signed as it is.
    let mut altered = liar.sealed(&liar.receipt(&order, MeasureState::Verified));
    altered.payload[10] ^= 1;
    liar.report(Report::Receipt(altered)).await;

    let row = hub.machines().into_iter().find(|row| row.id == victim.id()).unwrap();
    assert_eq!(row.truth, Some(MeasureState::Verified));
    assert_eq!(hub.status().await.unwrap().refused.messages, 3);
    let records = hub.ledger_records(0..1000).await.unwrap();
    let gaps = records.iter().filter(|entry| entry.record.deed == Deed::Gap).count();
    assert!(gaps >= 2, "what was refused is said");
    // The liar's honest words are still heard.
    liar.report(found("liar", Level::Low, 9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_read_end_their_own_link_only() {
    let site = Site::start().await;
    let mut honest = site.machine("honest").await;
    let mut liar = site.machine("liar").await;
    let garbage = [0, 0, 0, 4, 0xff, 0xfe, 0xfd, 0xfc].to_vec();
    let oversize = u32::try_from(limits::MESSAGE_BYTES + 1).unwrap().to_be_bytes().to_vec();
    // Nested deeper than any honest message: a decoder must not run out of stack.
    let mut nested = 4_u32.pow(8).to_be_bytes().to_vec();
    nested.extend(std::iter::repeat_n(0x81, 4_usize.pow(8)));
    for lie in [garbage, oversize, nested] {
        liar.say_bytes(&lie).await;
        liar.goodbye().await;
        liar.connect().await.unwrap();
    }
    honest.report(found("honest", Level::Low, 1)).await;
    assert_eq!(site.hub().status().await.unwrap().refused.messages, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn report_numbers_must_rise_and_messages_have_a_size() {
    let site = Site::start().await;
    let mut liar = site.machine("liar").await;
    let numbered = |number| Numbered { number, report: found("liar", Level::Low, 1) };
    let falling = vec![numbered(5), numbered(4)];
    let endless = vec![numbered(u64::MAX)];
    let zero = vec![numbered(0)];
    let many = (1..=limits::FINDINGS_PER_MESSAGE as u64 + 1).map(numbered).collect();
    for lie in [falling, endless, zero, many] {
        liar.say(&FromAgent::Reports(lie)).await;
        liar.goodbye().await;
        liar.connect().await.unwrap();
    }
    assert_eq!(site.hub().status().await.unwrap().counts.findings, 0);
    assert_eq!(site.hub().status().await.unwrap().refused.messages, 4, "each is counted");
    liar.report(found("liar", Level::Low, 1)).await;
    assert_eq!(site.hub().status().await.unwrap().counts.findings, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_or_status_beyond_its_limits_and_words_of_anothers_order_are_counted() {
    let site = Site::start().await;
    let hub = site.hub();
    let refused = || async { site.hub().status().await.unwrap().refused.messages };
    let mut liar = site.machine("liar").await;
    let host = std::mem::replace(&mut liar.host, "x".repeat(limits::NAME_BYTES + 1));
    assert!(liar.connect().await.is_err());
    liar.host = host;
    until("the hello is counted", || async { refused().await == 1 }).await;
    liar.connect().await.unwrap();
    let holding = Holding {
        measure: MeasureId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
        kind: ActionKind::Isolate,
        isolation: None,
        lease_ends: BootNanos(1),
    };
    let holds = Holds::Measures(vec![holding; limits::HOLDINGS_PER_MACHINE + 1]);
    let status = Status {
        at_boot: BootNanos(1),
        holds,
        rules: 0,
        events: 0,
        lost: 0,
        break_glass: 0,
        guidance: 0,
    };
    liar.say(&FromAgent::Status(status)).await;
    liar.goodbye().await;
    until("the status is counted", || async { refused().await == 2 }).await;
    liar.connect().await.unwrap();
    // Another machine's order: it could be read, and is not taken.
    let victim = site.machine("victim").await;
    let ordered = hub.isolate(victim.id(), Isolation::Segment, "test", None, &admin()).await;
    let order = ordered.unwrap().order().unwrap();
    liar.report(Report::OrderRefused { order, why: "no".into() }).await;
    until("the word is counted", || async { refused().await == 3 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_beyond_its_limits_is_set_aside_and_the_rest_of_its_message_is_taken() {
    let site = Site::start().await;
    let mut liar = site.machine("liar").await;
    let mut huge = finding("liar", Level::High, 1);
    huge.raw.json = "x".repeat(limits::RAW_EVENT_BYTES + 1);
    liar.say(&FromAgent::Reports(vec![
        Numbered { number: 1, report: Report::Finding(Box::new(huge)) },
        Numbered { number: 2, report: found("liar", Level::Low, 2) },
    ]))
    .await;
    liar.acknowledged(2).await;
    assert_eq!(site.hub().status().await.unwrap().counts.findings, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_repeats_itself_is_heard_once() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    for _ in 0..3 {
        let report = Numbered { number: 1, report: found("office-1", Level::High, 1) };
        machine.say(&FromAgent::Reports(vec![report])).await;
        machine.acknowledged(1).await;
    }
    let counts = site.hub().status().await.unwrap().counts;
    assert_eq!((counts.findings, counts.incidents, counts.approvals_open), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_machine_does_not_keep_another_from_being_defended() {
    let site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut flooder = site.machine("flooder").await;
    let mut victim = site.machine("victim").await;
    let flood = tokio::spawn(async move {
        let mut number = 1;
        for _ in 0..200 {
            let reports = (0..limits::FINDINGS_PER_MESSAGE).map(|_| {
                let mut lie = finding("flooder", Level::Low, 0);
                lie.raw_sha256 =
                    *cordon_model::ids::FindingId::of("x", &number.to_string(), &[0; 32])
                        .as_bytes()
                        .first_chunk::<16>()
                        .map(|half| {
                            let mut whole = [0; 32];
                            whole[..16].copy_from_slice(half);
                            whole
                        })
                        .as_ref()
                        .unwrap();
                lie.id = cordon_model::ids::FindingId::of("rule-1", "flooder", &lie.raw_sha256);
                let report = Numbered { number, report: Report::Finding(Box::new(lie)) };
                number += 1;
                report
            });
            flooder.say(&FromAgent::Reports(reports.collect())).await;
        }
        flooder
    });
    victim.send(found("victim", Level::High, 1)).await;
    let order = victim.order().await;
    victim.carry_out(&order).await;
    let row = site.hub().machines().into_iter().find(|row| row.id == victim.id()).unwrap();
    assert_eq!(row.truth, Some(MeasureState::Verified));
    let flooder = flood.await.unwrap();
    until("what was taken of the flood is on disk", || async {
        site.hub().machine(flooder.id()).await.unwrap().finding_count > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_long_words_make_no_record_that_ends_the_hub() {
    let mut site = Site::start().await;
    let mut liar = site.machine("liar").await;
    let id = liar.id();
    site.hub().isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let order = liar.order().await;
    liar.take(&order).await;
    // More than the ledger takes in one record, and cut in the middle of a letter if it is cut anywhere.
    let why = format!("x{}", "ä".repeat(100_000));
    let receipt = liar.receipt(&order, MeasureState::Failed { why });
    let sealed = liar.sealed(&receipt);
    liar.report(Report::Receipt(sealed)).await;
    let said = |records: &[cordon_evidence::Entry]| {
        let of_it = records.iter().find(|entry| entry.record.detail.contains("xää"));
        of_it.map(|entry| entry.record.detail.len())
    };
    until("it is in the ledger, cut", || async {
        let records = site.hub().ledger_records(0..1_000).await.unwrap_or_default();
        said(&records).is_some_and(|length| length <= 8 << 10)
    })
    .await;
    site.restart().await;
    assert_eq!(site.hub().machines().len(), 1, "and the hub starts again");
}
