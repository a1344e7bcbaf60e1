//! What a hub keeps: one row that can't be read stops nothing else, and a finding costs what it brings.

use std::collections::BTreeMap;

use cordon_model::approval::Needs;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId};
use cordon_model::measure::Isolation;
use cordon_model::order::Instruction;
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::Deed;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_store::{
    Change, Incidents as _, Key, Page, Rows as _, SqliteState, State, StoredApproval,
};
use serde::Serialize;

use super::support::{Site, admin, found, until};

fn cbor<T: Serialize>(document: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(document, &mut bytes).unwrap();
    bytes
}

async fn store_of(site: &Site) -> SqliteState {
    SqliteState::open(&site.directory.path().join("hub")).await.unwrap()
}

/// What nobody can read, as a disk or a faulty version may leave it.
const GARBAGE: &[u8] = b"\xff\x00 not a row";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_set_aside_and_the_rest_goes_on() {
    let mut site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut good = site.machine("office-1").await;
    let mut bad = site.machine("office-2").await;
    good.send(found("office-1", Level::High, 1)).await;
    let order = good.order().await;
    good.carry_out(&order).await;
    // Beyond the group's share: people are asked, and isolate it.
    bad.send(found("office-2", Level::High, 1)).await;
    let segment = Isolation::Segment;
    site.hub().isolate(bad.id(), segment, "worm", None, &admin()).await.unwrap();
    let order = bad.order().await;
    bad.carry_out(&order).await;
    until("both are isolated", || async {
        site.hub().status().await.unwrap().counts.machines_contained == 2
    })
    .await;
    site.stop().await;

    let store = store_of(&site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    let ids = |kind: &str| -> Vec<String> {
        rows.iter().filter(|row| row.kind == kind).map(|row| row.id.clone()).collect()
    };
    let (stories, measures) = (ids("story"), ids("measure"));
    assert_eq!((stories.len(), measures.len(), ids("order").len()), (2, 2, 2));
    // The second machine's: its story, its measure; a record on its way to the ledger; and kinds that say little.
    let spoilt = [
        ("story", stories[1].clone()),
        ("measure", measures[1].clone()),
        ("outbox", format!("{:020}", 0)),
        ("version", "no machine".to_owned()),
        ("gap", bad.id().to_string()),
    ];
    let question = ApprovalId::new(UtcNanos::now(), [9; 10]);
    let mut changes: Vec<Change> = spoilt
        .iter()
        .map(|(kind, id)| Change::Row { kind, id: id.clone(), document: Some(GARBAGE.to_vec()) })
        .collect();
    changes.push(Change::Approval(StoredApproval {
        id: question,
        is_open: true,
        expires_at: UtcNanos::now(),
        incident: None,
        document: GARBAGE.to_vec(),
    }));
    store.commit(&site.organisation, &changes).await.unwrap();
    store.close().await;
    drop(store);

    site.start_again().await;
    let status = site.hub().status().await.unwrap();
    let said = status.set_aside.expect("it is said");
    assert!(said.starts_with("6 of the rows"), "{said}");
    assert!(
        said.contains(&stories[1]) && said.contains("and 1 more") && said.contains("backup"),
        "{said}"
    );
    until("it is in the ledger", || async {
        let ledger = site.hub().ledger();
        let records = site.hub().ledger_records(0..ledger.size).await.unwrap();
        records.iter().any(|entry| entry.record.deed == Deed::Gap && entry.record.detail == said)
    })
    .await;
    // The rest goes on: the first machine's order is known, what it finds is taken, and what people order obeyed.
    good.connect().await.unwrap();
    good.send(found("office-1", Level::High, 2)).await;
    site.hub().release(good.id(), "clean", Some("it was nothing"), None, &admin()).await.unwrap();
    assert_eq!(good.order().await.instruction, Instruction::Release);
    bad.connect().await.unwrap();
    assert_eq!(site.hub().incidents(Default::default(), &Page::default()).await.unwrap().total, 2);

    // Nothing of it was removed or written over: whoever mends it finds it.
    site.stop().await;
    let store = store_of(&site).await;
    let kept: BTreeMap<(String, String), Vec<u8>> = store
        .rows(&site.organisation)
        .await
        .unwrap()
        .into_iter()
        .map(|row| ((row.kind, row.id), row.document))
        .collect();
    for (kind, id) in &spoilt[..3] {
        let kept = kept.get(&((*kind).to_owned(), id.clone()));
        assert_eq!(kept.map(Vec::as_slice), Some(GARBAGE), "{kind} {id}");
    }
    let order = kept.keys().filter(|(kind, _)| kind == "order").count();
    assert_eq!(order, 3, "also the order whose measure nobody can read is no history");
}

/// What a no covered nobody knows any more: then people are asked again, rather than never.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_machines_share_cannot_be_read_an_old_no_covers_nothing_that_is_found_anew() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.send(found("office-1", Level::High, 1)).await;
    until("it is asked", || async { site.hub().approvals(true).await.unwrap().len() == 1 }).await;
    let asked = site.hub().approvals(true).await.unwrap().remove(0);
    site.hub().answer(asked.id, false, "a test", &admin()).await.unwrap();
    site.stop().await;
    let store = store_of(&site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    let seats: Vec<_> = rows.iter().filter(|row| row.kind == "seat").collect();
    assert_eq!(seats.len(), 1);
    let (id, document) = (seats[0].id.clone(), Some(GARBAGE.to_vec()));
    let spoilt = [Change::Row { kind: "seat", id, document }];
    store.commit(&site.organisation, &spoilt).await.unwrap();
    store.close().await;

    site.start_again().await;
    machine.connect().await.unwrap();
    machine.send(found("office-1", Level::High, 2)).await;
    until("it is asked again", || async { site.hub().approvals(true).await.unwrap().len() == 1 })
        .await;
    site.stop().await;
}

/// A question that is over, of an incident.
fn declined(number: u8, incident: IncidentId, machine: MachineId) -> Approval {
    let at = UtcNanos::from_unix_nanos(i64::from(number));
    let lease = Policy::default_for("RJ1".parse().unwrap()).lease;
    Approval {
        id: ApprovalId::new(at, [number; 10]),
        machine,
        instruction: Instruction::isolate(Isolation::Segment, lease),
        also: Vec::new(),
        needs: Needs::OnePerson,
        why: "test".into(),
        incident: Some(incident),
        finding: None,
        level: None,
        refused: None,
        asked_by: None,
        asked_at: at,
        expires_at: at,
        answers: Vec::new(),
        news: 0,
        turn: 0,
        since: Vec::new(),
        no_until: None,
        state: ApprovalState::Declined,
        withdrawn: None,
        released_by: None,
    }
}

/// As an earlier version kept them: nothing says to which incident a question belongs. They are read once, and later
/// starts read those of open incidents alone.
#[tokio::test(flavor = "multi_thread")]
async fn questions_of_an_earlier_version_are_read_once_and_known_by_their_incident() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.send(found("office-1", Level::High, 1)).await;
    until("it is asked", || async { site.hub().approvals(true).await.unwrap().len() == 1 }).await;
    let asked = site.hub().approvals(true).await.unwrap().remove(0);
    site.hub().answer(asked.id, false, "a test", &admin()).await.unwrap();
    site.stop().await;
    let store = store_of(&site).await;
    let answered = store.approval(&Key::new(&site.organisation, asked.id)).await.unwrap().unwrap();
    assert_eq!(answered.incident, asked.incident);
    let over = IncidentId::new(UtcNanos::from_unix_nanos(7), [7; 10]);
    let older = declined(1, over, machine.id());
    let as_before = |id, document| StoredApproval {
        id,
        is_open: false,
        expires_at: UtcNanos::from_unix_nanos(1),
        incident: None,
        document,
    };
    let changes = [
        Change::Approval(as_before(asked.id, answered.document.clone())),
        Change::Approval(as_before(older.id, cbor(&older))),
        Change::Setting { name: "approvals-by-incident".into(), value: None },
    ];
    store.commit(&site.organisation, &changes).await.unwrap();
    store.close().await;

    site.start_again().await;
    // The no is known: what is found again is not asked again.
    machine.connect().await.unwrap();
    machine.send(found("office-1", Level::High, 2)).await;
    assert!(site.hub().approvals(true).await.unwrap().is_empty());
    site.stop().await;
    let store = store_of(&site).await;
    let incident = |id| {
        let key = Key::new(&site.organisation, id);
        let store = &store;
        async move { store.approval(&key).await.unwrap().unwrap().incident }
    };
    assert_eq!((incident(asked.id).await, incident(older.id).await), (asked.incident, Some(over)));
    let count = store.approvals_that_count(&site.organisation, &Page::default()).await.unwrap();
    let counted: Vec<ApprovalId> = count.items.iter().map(|of| of.id).collect();
    assert_eq!(counted, vec![asked.id]);
}
