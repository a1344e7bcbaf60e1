//! What a hub keeps: one row that can't be read stops nothing else, and a finding costs what it brings.

use std::collections::BTreeMap;

use cordon_hub::HubConfig;
use cordon_hub::signer::Client;
use cordon_hub::view::AssignmentDraft;
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Approver, Instruction};
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::Deed;
use cordon_model::time::UtcNanos;
use cordon_model::wire::Report;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_store::{
    Change, Incidents as _, Key, Machines as _, Orders as _, Page, Rows as _, SqliteState, State,
    StoredApproval,
};
use serde::Serialize;

use super::support::{Machine, Site, admin, copy, found, free, hub_config, until};

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
        is_left: false,
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

/// Rows of seats, of orders, and those whose name is damaged.
async fn counted(site: &Site) -> (usize, usize, usize) {
    let store = store_of(site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    store.close().await;
    let count = |kind: &str| rows.iter().filter(|row| row.kind == kind).count();
    let dim = rows.iter().filter(|row| (row.kind.clone() + &row.id).contains('\u{fffd}'));
    (count("seat"), count("order"), dim.count())
}

/// A row's own name may be what is damaged: then nothing of it is known, and nothing that hangs on it is over.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_rows_name_is_damaged_nothing_that_hangs_on_it_is_removed_or_comes_back() {
    for what in ["kind", "id"] {
        let mut site = Site::start().await;
        let mut machine = site.machine("office-1").await;
        machine.report(found("office-1", Level::High, 1)).await;
        site.hub().isolate(machine.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
        let order = machine.order().await;
        machine.carry_out(&order).await;
        let mut stolen = site.machine("office-2").await;
        site.hub().strike_off(stolen.id(), "stolen", false, &admin()).await.unwrap();
        site.stop().await;
        // One byte of each is another, in the middle.
        let damaged = format!(
            "CAST(substr({what}, 1, 2) AS BLOB) || X'ff' || CAST(substr({what}, 4) AS BLOB)"
        );
        for kind in ["story", "measure", "struck-off"] {
            let one =
                format!("UPDATE rows SET {what} = CAST({damaged} AS TEXT) WHERE kind = '{kind}'");
            site.spoil(&one).await;
        }
        let before = counted(&site).await;
        assert_eq!(before, (1, 1, 3), "{what}");

        site.start_again().await;
        let said = site.hub().status().await.unwrap().set_aside.expect("it is said");
        assert!(said.starts_with("3 of the rows") && said.contains("name is damaged"), "{said}");
        let refused = stolen.connect().await;
        assert!(refused.is_err(), "{what}: a machine that was struck off is no member again");
        site.stop().await;
        assert_eq!(counted(&site).await, before, "{what}");
        // What people end is not there again at the next start.
        site.start_again().await;
        machine.connect().await.unwrap();
        let over = machine.receipt(&order, MeasureState::Released);
        machine.report(Report::Receipt(machine.sealed(&over))).await;
        assert_eq!(site.hub().machines()[0].isolation, None, "{what}");
        site.restart().await;
        assert_eq!(site.hub().machines()[0].isolation, None, "{what}");
        site.stop().await;
    }
}

/// It would come back at every start, and could never be ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_not_its_rows_own_is_set_aside() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    site.stop().await;
    let store = store_of(&site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    let seats = rows.iter().filter(|row| row.kind == "seat").count();
    let story = rows.into_iter().find(|row| row.kind == "story").unwrap();
    store.close().await;
    let other = IncidentId::new(UtcNanos::from_unix_nanos(7), [7; 10]);
    site.spoil(&format!("UPDATE rows SET id = '{other}' WHERE id = '{}'", story.id)).await;
    site.start_again().await;
    let said = site.hub().status().await.unwrap().set_aside.expect("it is said");
    assert!(said.starts_with("1 of the rows") && said.contains(&other.to_string()), "{said}");
    site.stop().await;
    let store = store_of(&site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.kind == "seat").count(), seats);
    assert_eq!(rows.iter().filter(|row| row.id == other.to_string()).count(), 1);
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
        is_in_vain: false,
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
        is_left: false,
        document,
    };
    let changes = [
        Change::Approval(as_before(asked.id, answered.document.clone())),
        Change::Approval(as_before(older.id, cbor(&older))),
        Change::Setting { name: "approvals-that-count".into(), value: None },
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

/// The store's columns of a machine and its permits: the machine is reached all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_assignment_or_permit_cannot_be_read_is_released_as_ever() {
    let mut site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    let id = machine.id();
    let lifelines = vec![lifeline()];
    let draft = AssignmentDraft {
        tier: Some(ClinicalTier::Clinical),
        lifelines: lifelines.clone(),
        ..AssignmentDraft::default()
    };
    let signed = site.hub().assign(id, draft, &admin()).await.unwrap();
    site.hub().isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    // A machine of an office, which gets a permit.
    let other = site.machine("office-2").await;
    until("it has a permit", || async {
        let store = store_of(&site).await;
        let key = Key::new(&site.organisation, other.id());
        let permits = store.permits(&key, UtcNanos::now()).await.unwrap();
        store.close().await;
        !permits.is_empty()
    })
    .await;
    site.stop().await;
    site.spoil(&format!("UPDATE machines SET assignment = X'ff00' WHERE machine = '{id}'")).await;
    site.spoil("UPDATE permits SET envelope = X'00'").await;

    site.start_again().await;
    let said = site.hub().status().await.unwrap().set_aside.expect("it is said");
    for what in [format!("the assignment {id}"), format!("the permit of machine {}", other.id())] {
        assert!(said.contains(&what), "{said}");
    }
    // A hub that is put back loses what it kept since: nobody is told to for what is well again.
    assert!(said.contains("nothing is to be done") && !said.contains("backup"), "{said}");
    let view = site.hub().machine(id).await.unwrap();
    assert_eq!(view.assignment, Some(signed.clone()));
    machine.connect().await.unwrap();
    site.hub().release(id, "clean", Some("it was nothing"), None, &admin()).await.unwrap();
    assert_eq!(machine.order().await.instruction, Instruction::Release);
    // It was put in its place: the next start finds it there.
    site.restart().await;
    let said = site.hub().status().await.unwrap().set_aside.unwrap_or_default();
    assert!(!said.contains("assignment"), "{said}");
    assert_eq!(site.hub().machine(id).await.unwrap().assignment, Some(signed));
}

/// Why a hub of a site does not start.
async fn refusal(config: HubConfig) -> String {
    loop {
        match cordon_hub::start(config.clone()).await {
            Ok(_) => panic!("it starts"),
            // Another test's child has the ledger's lock for a moment.
            Err(error) if format!("{error:?}").contains("Busy") => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// What is put right is said by the hub that does it: one that does not start says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_start_puts_nothing_right_in_silence() {
    let mut site = Site::start().await;
    let machine = site.machine("office-1").await;
    let id = machine.id();
    let draft =
        AssignmentDraft { tier: Some(ClinicalTier::Clinical), ..AssignmentDraft::default() };
    let signed = site.hub().assign(id, draft, &admin()).await.unwrap();
    site.stop().await;
    site.spoil(&format!("UPDATE machines SET assignment = X'ff00' WHERE machine = '{id}'")).await;
    let taken = std::net::TcpListener::bind(free()).unwrap();
    let at = taken.local_addr().unwrap();
    let config = || hub_config(site.directory.path(), site.organisation.clone());
    let nowhere = site.directory.path().join("nowhere").join("hub.sock");
    for (config, why) in [
        (HubConfig { link: at, ..config() }, "listen at"),
        (HubConfig { enrol: at, ..config() }, "listen at"),
        (HubConfig { control: Some(nowhere), ..config() }, "the command line"),
    ] {
        let refused = refusal(config).await;
        assert!(refused.contains(why), "{refused}");
        let store = store_of(&site).await;
        let kept = store.machine(&Key::new(&site.organisation, id)).await.unwrap().unwrap();
        assert!(kept.assignment.is_err(), "{why}: {:?}", kept.assignment);
        store.close().await;
    }
    site.start_again().await;
    let said = site.hub().status().await.unwrap().set_aside.expect("it is said");
    assert!(said.contains(&format!("the assignment {id}")), "{said}");
    assert_eq!(site.hub().machine(id).await.unwrap().assignment, Some(signed));
}

/// A signer that was put back from a backup, and then found again: at its start the hub was told of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_signer_knows_of_a_machine_is_asked_for_when_it_links() {
    let mut site = Site::start().await;
    let before = site.directory.path().join("before");
    site.signer.take().unwrap().stop().await;
    copy(&site.directory.path().join("signer"), &before);
    site.start_signer().await;
    let mut machine = site.machine("office-1").await;
    let id = machine.id();
    let draft = AssignmentDraft {
        tier: Some(ClinicalTier::Clinical),
        lifelines: vec![lifeline()],
        ..AssignmentDraft::default()
    };
    let signed = site.hub().assign(id, draft, &admin()).await.unwrap();
    site.stop().await;
    site.signer.take().unwrap().stop().await;
    let (signers, newest) =
        (site.directory.path().join("signer"), site.directory.path().join("newest"));
    std::fs::rename(&signers, &newest).unwrap();
    std::fs::rename(&before, &signers).unwrap();
    site.start_signer().await;
    site.spoil(&format!("UPDATE machines SET assignment = X'ff00' WHERE machine = '{id}'")).await;
    site.start_again().await;
    assert_eq!(site.hub().machine(id).await.unwrap().assignment, None);
    site.signer.take().unwrap().stop().await;
    std::fs::remove_dir_all(&signers).unwrap();
    std::fs::rename(&newest, &signers).unwrap();
    site.start_signer().await;

    machine.connect().await.unwrap();
    until("it is known again", || async {
        site.hub().machine(id).await.unwrap().assignment.as_ref() == Some(&signed)
    })
    .await;
    site.hub().isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
    assert!(matches!(machine.order().await.instruction, Instruction::Begin { .. }));
}

/// Root spoke of it at a signer that was put back from a backup, and had only its id.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_signs_is_taken_by_a_signer_that_had_it_from_roots_word_alone() {
    let mut site = Site::start().await;
    let before = site.directory.path().join("before");
    site.signer.take().unwrap().stop().await;
    copy(&site.directory.path().join("signer"), &before);
    site.start_signer().await;
    // One is known to the hub again at its start, the other when it links, the third all along.
    let mut machines = Vec::new();
    for host in ["office-1", "office-2", "office-3"] {
        machines.push(site.machine(host).await);
    }
    site.stop().await;
    site.signer.take().unwrap().stop().await;
    let signers = site.directory.path().join("signer");
    std::fs::remove_dir_all(&signers).unwrap();
    std::fs::rename(&before, &signers).unwrap();
    site.start_signer().await;
    let client = Client::connect(&site.directory.path().join("signer.sock")).await.unwrap();
    let root = || Approver { name: "root".into(), is_clinical: false };
    let organisation = site.organisation.clone();
    let of = |machine: &Machine| Assignment {
        tier: Some(ClinicalTier::None),
        ..Assignment::of(organisation.clone(), machine.id(), &*machine.host)
    };
    let spoil = |number: usize| {
        format!(
            "UPDATE machines SET assignment = X'ff00' WHERE machine = '{}'",
            machines[number].id()
        )
    };
    client.assign(of(&machines[0]), None, Some(root())).await.unwrap();
    client.assign(of(&machines[2]), None, Some(root())).await.unwrap();
    site.spoil(&spoil(0)).await;
    site.spoil(&spoil(1)).await;
    site.start_again().await;
    client.assign(of(&machines[1]), None, Some(root())).await.unwrap();
    for mut machine in machines {
        machine.connect().await.unwrap();
        let id = machine.id();
        site.hub().isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
        let order = machine.order().await;
        machine.carry_out(&order).await;
        site.hub().release(id, "clean", Some("it was nothing"), None, &admin()).await.unwrap();
        let release = machine.order().await;
        machine.take(&release).await;
        let over = machine.receipt(&order, MeasureState::Released);
        machine.report(Report::Receipt(machine.sealed(&over))).await;
        until("its word is heard", || async {
            client.learn(id, machine.sealed(&over)).await.is_ok()
        })
        .await;
    }
}

fn lifeline() -> Lifeline {
    Lifeline {
        name: "DICOM to the PACS".into(),
        peer: "10.7.0.9/32".parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange { first: 104, last: 104 },
        direction: Direction::Outbound,
        signed_off_by: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_cannot_be_read_keeps_no_hub_from_starting() {
    let mut site = Site::start().await;
    let mut first = site.machine("office-1").await;
    let mut second = site.machine("office-2").await;
    first.report(found("office-1", Level::High, 1)).await;
    second.report(found("office-2", Level::High, 2)).await;
    until("both are asked about", || async {
        site.hub().approvals(true).await.unwrap().len() == 2
    })
    .await;
    let asked = site.hub().approvals(true).await.unwrap();
    let dim = asked.iter().find(|question| question.machine == first.id()).unwrap().id;
    site.stop().await;
    site.spoil(&format!("UPDATE approvals SET incident = 'nonsense' WHERE approval = '{dim}'"))
        .await;
    // As after an update from a version that did not keep with a question whether it counts: all are read once more.
    site.spoil("DELETE FROM settings WHERE name = 'approvals-that-count'").await;

    site.start_again().await;
    let said = site.hub().status().await.unwrap().set_aside.expect("it is said");
    assert!(said.starts_with("1 of the rows") && said.contains(&dim.to_string()), "{said}");
    let left = site.hub().approvals(true).await.unwrap();
    assert_eq!(left.iter().map(|question| question.machine).collect::<Vec<_>>(), [second.id()]);
}

/// Silence would be read as health (law 12).
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_dies_while_nothing_happens_is_told_of() {
    let mut site = Site::start().await;
    until("all is cosigned", || async {
        let ledger = site.hub().ledger();
        ledger.checkpoint_at.is_some() && ledger.covered == ledger.size
    })
    .await;
    site.signer.take().unwrap().stop().await;
    until("it is said", || async { site.hub().status().await.unwrap().signer_away.is_some() })
        .await;
    site.start_signer().await;
    until("it is back", || async { site.hub().status().await.unwrap().signer_away.is_none() })
        .await;
}
