//! What every backend of the store must do. A backend's test calls [`run`] with a way to make empty
//! stores; nothing here knows which database it is.

mod fixtures;

use std::future::Future;
use std::sync::Arc;

use cordon_model::action::Action;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OrderId, PermitId};
use cordon_model::incident::IncidentState;
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::time::BootId;
use cordon_store::{
    Change, Counts, EnrolmentRefused, FindingFilter, IncidentFilter, Key, NewCertificate,
    OrderState, Page, Person, Seen, State, StoreError, StoredApproval, StoredMeasure, StoredOrder,
    StoredPermit, TakenReport, TakenWhat, secret_hash,
};
pub use fixtures::*;

type Store = Arc<dyn State>;

/// Runs everything; each part gets an empty store of its own.
pub async fn run<F, Made>(make_store: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Store>,
{
    a_token_enrols_one_machine_once(make_store().await).await;
    one_token_enrols_one_of_many_at_the_same_instant(make_store().await).await;
    an_expired_or_unknown_token_enrols_nobody(make_store().await).await;
    what_a_machine_says_of_itself_is_kept(make_store().await).await;
    a_double_report_folds(make_store().await).await;
    skipped_report_numbers_are_a_gap(make_store().await).await;
    one_machine_cannot_take_another_machines_finding_id(make_store().await).await;
    a_receipt_moves_its_measure(make_store().await).await;
    a_receipt_for_another_machine_is_refused_with_its_batch(make_store().await).await;
    findings_are_listed_by_page_and_filter(make_store().await).await;
    a_step_is_all_or_nothing(make_store().await).await;
    a_state_machine_is_restored_from_its_rows(make_store().await).await;
    reports_are_taken_with_what_follows_from_them_or_not_at_all(make_store().await).await;
    an_incident_has_its_timeline(make_store().await).await;
    questions_wait_until_they_are_closed(make_store().await).await;
    orders_wait_in_sequence_until_taken(make_store().await).await;
    expired_permits_are_not_listed(make_store().await).await;
    statements_are_kept_in_the_order_in_which_they_were_written(make_store().await).await;
    a_sign_in_token_works_once(make_store().await).await;
    a_session_ends_with_its_time_its_owner_or_its_word(make_store().await).await;
    what_has_expired_is_forgotten(make_store().await).await;
    settings_and_policies_are_kept(make_store().await).await;
    an_older_assignment_changes_nothing(make_store().await).await;
    counts_have_their_denominators(make_store().await).await;
    another_organisations_key_finds_nothing(make_store().await).await;
}

async fn a_token_enrols_one_machine_once(store: Store) {
    known(&store, &ours()).await;
    let token = token(1, at(1000));
    let hash = Key::new(&ours(), token.hash);
    store.commit(&ours(), &[Change::EnrolmentToken(token.clone())]).await.unwrap();
    assert_eq!(store.enrolment_token(&hash).await.unwrap(), Some(token));
    assert_eq!(store.enrol(&hash, &new_machine(1), at(5)).await.unwrap(), Ok(()));
    let again = store.enrol(&hash, &new_machine(2), at(5)).await.unwrap();
    assert_eq!(again, Err(EnrolmentRefused::Used));
    let machine = one(&store, &Key::new(&ours(), machine_id(1))).await;
    assert_eq!((machine.host.as_str(), machine.enrolled_at), ("host 1", at(5)));
    assert_eq!((machine.receipt_key, machine.reported, machine.seen), ([1; 32], 0, None));
    let by_certificate = Key::new(&ours(), machine.certificate);
    let found = store.machine_with_certificate(&by_certificate).await.unwrap().unwrap();
    assert_eq!(found.id, machine_id(1));
    assert_eq!(store.machines(&ours(), &Page::default()).await.unwrap().total, 1);
}

async fn one_token_enrols_one_of_many_at_the_same_instant(store: Store) {
    known(&store, &ours()).await;
    let token = token(1, at(1000));
    let hash = Key::new(&ours(), token.hash);
    store.commit(&ours(), &[Change::EnrolmentToken(token)]).await.unwrap();
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let (store, hash) = (store.clone(), hash.clone());
            tokio::spawn(async move { store.enrol(&hash, &new_machine(number), at(0)).await })
        })
        .collect();
    let mut enrolled = 0;
    for tried in tries {
        enrolled += u32::from(tried.await.unwrap().unwrap().is_ok());
    }
    assert_eq!(enrolled, 1);
    assert_eq!(store.machines(&ours(), &Page::default()).await.unwrap().items.len(), 1);
}

async fn an_expired_or_unknown_token_enrols_nobody(store: Store) {
    known(&store, &ours()).await;
    let token = token(1, at(10));
    let hash = Key::new(&ours(), token.hash);
    store.commit(&ours(), &[Change::EnrolmentToken(token)]).await.unwrap();
    let late = store.enrol(&hash, &new_machine(1), at(10)).await.unwrap();
    assert_eq!(late, Err(EnrolmentRefused::Expired));
    let unknown = Key::new(&ours(), secret_hash(b"guess"));
    let guessed = store.enrol(&unknown, &new_machine(1), at(0)).await.unwrap();
    assert_eq!(guessed, Err(EnrolmentRefused::Unknown));
    assert_eq!(store.machine(&Key::new(&ours(), machine_id(1))).await.unwrap(), None);
}

async fn what_a_machine_says_of_itself_is_kept(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let seen = Seen {
        at: at(7),
        boot: BootId("boot".into()),
        build: "0.1".into(),
        coverage: vec![],
        status: None,
    };
    let certificate = NewCertificate { fingerprint: secret_hash(b"renewed"), serial: vec![9] };
    let changes = [
        Change::Seen { machine: key.id, seen: Box::new(seen.clone()) },
        Change::Certificate { machine: key.id, certificate },
    ];
    store.commit(&ours(), &changes).await.unwrap();
    let machine = one(&store, &key).await;
    assert_eq!((machine.seen, machine.serial), (Some(seen), vec![9]));
    assert_eq!(machine.certificate, secret_hash(b"renewed"));
}

async fn a_double_report_folds(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let batch = [report(1, Level::High), report(2, Level::Low)];
    let first = store.take_reports(&key, at(1), &batch).await.unwrap();
    assert_eq!((first.reported, first.new_findings.len(), first.repeated), (2, 2, 0));
    // The acknowledgement was lost: the machine sends them again, with a new one.
    let batch = [report(1, Level::High), report(2, Level::Low), report(3, Level::Low)];
    let second = store.take_reports(&key, at(2), &batch).await.unwrap();
    assert_eq!((second.reported, second.repeated), (3, 2));
    assert_eq!(second.new_findings, [finding(3, Level::Low).id]);
    // The same finding under a new number (the machine's spool was restored): still one finding.
    let same = TakenReport { number: 4, ..report(1, Level::High) };
    let third = store.take_reports(&key, at(3), &[same]).await.unwrap();
    assert_eq!((third.reported, third.new_findings.len()), (4, 0));
    let all = store.findings(&ours(), &FindingFilter::default(), &Page::default()).await.unwrap();
    assert_eq!((all.total, one(&store, &key).await.reported), (3, 4));
    assert_eq!(all.items.last().unwrap().received, at(1), "when it was first on disk");
    let unknown = Key::new(&ours(), machine_id(99));
    let refused = store.take_reports(&unknown, at(1), &batch).await;
    assert!(matches!(refused, Err(StoreError::Missing { .. })));
}

async fn skipped_report_numbers_are_a_gap(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let other = |number| TakenReport { number, what: TakenWhat::Other };
    let taken = store.take_reports(&key, at(1), &[other(1), other(4), other(6)]).await.unwrap();
    assert_eq!((taken.reported, taken.missing), (6, vec![(2, 3), (5, 5)]));
}

async fn one_machine_cannot_take_another_machines_finding_id(store: Store) {
    let (a, b) = (enrolled(&store, &ours(), 1).await, enrolled(&store, &ours(), 2).await);
    store.take_reports(&a, at(1), &[report(1, Level::Low)]).await.unwrap();
    let taken = store.take_reports(&b, at(2), &[report(1, Level::Critical)]).await.unwrap();
    assert_eq!(taken.new_findings.len(), 1, "not folded into the other machine's");
    let id = Some(finding(1, Level::Low).id);
    let filter = FindingFilter { id, ..FindingFilter::default() };
    let both = store.findings(&ours(), &filter, &Page::default()).await.unwrap();
    let machines: Vec<_> = both.items.iter().map(|found| found.machine).collect();
    assert_eq!(machines, [b.id, a.id]);
}

async fn a_receipt_moves_its_measure(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let measure = MeasureId::new(at(0), bytes(1));
    for (number, state) in
        [(1, MeasureState::Applied), (2, MeasureState::Verified), (3, MeasureState::Released)]
    {
        let signed = receipt(key.id, measure, state.clone());
        let what = TakenWhat::Receipt(Box::new(signed.clone()));
        let taken = store
            .take_reports(&key, at(number as i64), &[TakenReport { number, what }])
            .await
            .unwrap();
        assert_eq!(taken.new_receipts, [number]);
        let kept = store.measure(&Key::new(&ours(), (key.id, measure))).await.unwrap().unwrap();
        assert_eq!((kept.state.clone(), kept.receipt), (state, Some(signed.into_document())));
        let acting = store.measures_not_over(&ours(), &Page::default()).await.unwrap();
        assert_eq!(acting.total, u64::from(number < 3));
    }
    let of_machine = store.measures_of(&key, &Page::default()).await.unwrap();
    assert_eq!((of_machine.total, of_machine.items.len()), (1, 1));
    let signed = store.receipts(&Key::new(&ours(), (key.id, measure))).await.unwrap();
    assert_eq!(signed.len(), 3);
    assert!(signed[0].open::<Receipt>(&key_of_receipts()).is_ok(), "kept exactly as signed");
    let newest = store.newest_receipt(&Key::new(&ours(), (key.id, measure))).await.unwrap();
    assert_eq!(newest, Some(signed[2].clone()));
}

fn key_of_receipts() -> ed25519_dalek::VerifyingKey {
    key().verifying_key()
}

async fn a_receipt_for_another_machine_is_refused_with_its_batch(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let measure = MeasureId::new(at(0), bytes(1));
    let signed = receipt(machine_id(2), measure, MeasureState::Verified);
    let batch = [
        report(1, Level::High),
        TakenReport { number: 2, what: TakenWhat::Receipt(Box::new(signed)) },
    ];
    assert!(store.take_reports(&key, at(1), &batch).await.is_err());
    assert_eq!(one(&store, &key).await.reported, 0, "nothing of it was taken");
    let found = store.ungrouped_findings(&ours()).await.unwrap();
    assert_eq!(found, []);
}

async fn findings_are_listed_by_page_and_filter(store: Store) {
    let (a, b) = (enrolled(&store, &ours(), 1).await, enrolled(&store, &ours(), 2).await);
    for number in 1..=7 {
        let level = if number % 2 == 0 { Level::Critical } else { Level::Low };
        // Several in the same instant: the list must not lose any at a page's border.
        store.take_reports(&a, at(number as i64 / 3), &[report(number, level)]).await.unwrap();
    }
    store.take_reports(&b, at(1), &[report(1, Level::High)]).await.unwrap();
    let mut page = Page::first(3);
    let mut seen = Vec::new();
    loop {
        let list = store.findings(&ours(), &FindingFilter::default(), &page).await.unwrap();
        assert_eq!(list.total, 8);
        assert!(list.items.len() <= 3);
        seen.extend(list.items.iter().map(|found| (found.machine, found.finding.id)));
        assert!(seen.len() <= 8);
        match list.next {
            Some(cursor) => page.after = Some(cursor),
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8);
    let serious = FindingFilter {
        machine: Some(a.id),
        level_at_least: Some(Level::High),
        ..FindingFilter::default()
    };
    let serious = store.findings(&ours(), &serious, &Page::default()).await.unwrap();
    assert_eq!((serious.total, serious.items[0].finding.rule.level), (3, Level::Critical));
    let nonsense = Page { after: Some(cordon_store::Cursor("nonsense".into())), limit: 1 };
    let refused = store.findings(&ours(), &FindingFilter::default(), &nonsense).await;
    assert!(matches!(refused, Err(StoreError::Cursor)));
}

async fn a_step_is_all_or_nothing(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let changes = [
        Change::Incident(incident(1, IncidentState::New)),
        Change::Timeline { incident: incident_id(1), record: record("opened") },
        // Not there: the whole step must not have been.
        Change::Group {
            machine: key.id,
            finding: finding(1, Level::High).id,
            incident: incident_id(1),
        },
    ];
    let failed = store.commit(&ours(), &changes).await;
    assert!(matches!(failed, Err(StoreError::Missing { .. })));
    let none = store.incident(&Key::new(&ours(), incident_id(1))).await.unwrap();
    assert_eq!(none, None);
    store.take_reports(&key, at(1), &[report(1, Level::High)]).await.unwrap();
    assert_eq!(store.ungrouped_findings(&ours()).await.unwrap().len(), 1);
    store.commit(&ours(), &changes).await.unwrap();
    assert_eq!(store.ungrouped_findings(&ours()).await.unwrap().len(), 0);
    let of_incident = FindingFilter { incident: Some(incident_id(1)), ..FindingFilter::default() };
    let listed = store.findings(&ours(), &of_incident, &Page::default()).await.unwrap();
    assert_eq!(listed.total, 1);
}

async fn a_state_machine_is_restored_from_its_rows(store: Store) {
    known(&store, &ours()).await;
    let row = |id: &str, document: Option<&[u8]>| Change::Row {
        kind: "order",
        id: id.into(),
        document: document.map(<[u8]>::to_vec),
    };
    let changes = [row("b", Some(b"1")), row("a", Some(b"1")), row("c", Some(b"1"))];
    store.commit(&ours(), &changes).await.unwrap();
    store.commit(&ours(), &[row("b", Some(b"2")), row("c", None)]).await.unwrap();
    let rows = store.rows(&ours()).await.unwrap();
    let rows: Vec<_> =
        rows.iter().map(|row| (row.kind.as_str(), row.id.as_str(), &row.document[..])).collect();
    assert_eq!(rows, [("order", "a", &b"1"[..]), ("order", "b", b"2")]);
    assert_eq!(store.row(&ours(), "order", "b").await.unwrap().as_deref(), Some(&b"2"[..]));
    for (kind, id) in [("order", "c"), ("measure", "b")] {
        assert_eq!(store.row(&ours(), kind, id).await.unwrap(), None);
    }
    let them = "RXX".parse().unwrap();
    assert_eq!(store.row(&them, "order", "b").await.unwrap(), None);
}

async fn reports_are_taken_with_what_follows_from_them_or_not_at_all(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let reports =
        Change::Reports { machine: key.id, received: at(1), reports: vec![report(1, Level::High)] };
    let group = |number| Change::Group {
        machine: key.id,
        finding: finding(number, Level::High).id,
        incident: incident_id(1),
    };
    let opened = Change::Incident(incident(1, IncidentState::New));
    let failed = store.commit(&ours(), &[opened.clone(), reports.clone(), group(2)]).await;
    assert!(matches!(failed, Err(StoreError::Missing { .. })));
    assert_eq!(one(&store, &key).await.reported, 0);
    for _ in 0..2 {
        store.commit(&ours(), &[opened.clone(), reports.clone(), group(1)]).await.unwrap();
    }
    assert_eq!(one(&store, &key).await.reported, 1);
    let filter = FindingFilter { incident: Some(incident_id(1)), ..FindingFilter::default() };
    assert_eq!(store.findings(&ours(), &filter, &Page::default()).await.unwrap().total, 1);
}

async fn an_incident_has_its_timeline(store: Store) {
    known(&store, &ours()).await;
    let id = incident_id(1);
    let mut changes = vec![Change::Incident(incident(1, IncidentState::New))];
    for number in 0..5 {
        let record = record(&format!("{number}"));
        changes.push(Change::Timeline { incident: id, record });
    }
    store.commit(&ours(), &changes).await.unwrap();
    let owned = incident(1, IncidentState::Owned);
    store.commit(&ours(), &[Change::Incident(owned.clone())]).await.unwrap();
    let key = Key::new(&ours(), id);
    assert_eq!(store.incident(&key).await.unwrap(), Some(owned));
    let first = store.timeline(&key, &Page::first(3)).await.unwrap();
    let rest = Page { after: first.next, limit: 3 };
    let rest = store.timeline(&key, &rest).await.unwrap();
    let details: Vec<_> = first.items.iter().chain(&rest.items).map(|r| r.detail.clone()).collect();
    assert_eq!((details, rest.next), (["0", "1", "2", "3", "4"].map(String::from).to_vec(), None));
    let changes = [
        Change::Incident(incident(2, IncidentState::New)),
        Change::Incident(incident(3, IncidentState::Closed)),
    ];
    store.commit(&ours(), &changes).await.unwrap();
    for (filter, expected) in [
        (IncidentFilter::Any, vec![3, 2, 1]),
        (IncidentFilter::Open, vec![2, 1]),
        (IncidentFilter::In(IncidentState::Closed), vec![3]),
    ] {
        let mut found = Vec::new();
        let mut page = Page::first(1);
        loop {
            let list = store.incidents(&ours(), filter, &page).await.unwrap();
            assert_eq!(list.total, expected.len() as u64);
            found.extend(list.items.iter().map(|incident| incident.id));
            match list.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected.into_iter().map(incident_id).collect::<Vec<_>>());
    }
}

async fn questions_wait_until_they_are_closed(store: Store) {
    known(&store, &ours()).await;
    let question = |number: u64, is_open| StoredApproval {
        id: ApprovalId::new(at(number as i64), bytes(number)),
        is_open,
        expires_at: at(100),
        incident: (number > 2).then(|| incident_id(number)),
        is_left: false,
        document: vec![number as u8],
    };
    let changes = [1, 2].map(|number| Change::Approval(question(number, true)));
    store.commit(&ours(), &changes).await.unwrap();
    store.commit(&ours(), &[Change::Approval(question(1, false))]).await.unwrap();
    let open = store.approvals(&ours(), true, &Page::default()).await.unwrap();
    assert_eq!((open.total, open.items), (1, vec![question(2, true)]));
    assert_eq!(store.approvals(&ours(), false, &Page::default()).await.unwrap().total, 2);
    let key = Key::new(&ours(), question(1, false).id);
    assert_eq!(store.approval(&key).await.unwrap(), Some(question(1, false)));
    // Those that count: what waits, and what belongs to an incident that is not closed.
    let changes = [
        Change::Incident(incident(3, IncidentState::Owned)),
        Change::Incident(incident(4, IncidentState::Closed)),
        Change::Approval(question(3, false)),
        Change::Approval(question(4, false)),
    ];
    store.commit(&ours(), &changes).await.unwrap();
    let count = async |page: &Page| store.approvals_that_count(&ours(), page).await.unwrap();
    assert_eq!(count(&Page::default()).await.items, vec![question(2, true), question(3, false)]);
    let first = count(&Page::first(1)).await;
    assert_eq!(first.items, vec![question(2, true)]);
    let second = count(&Page { after: first.next, limit: 1 }).await;
    assert_eq!((second.items, second.next), (vec![question(3, false)], None));
    // And what is left, until it is not, whatever became of its incident.
    let left = |number, is_left| StoredApproval { is_left, ..question(number, false) };
    let changes = [1, 4].map(|number| Change::Approval(left(number, true)));
    store.commit(&ours(), &changes).await.unwrap();
    let all = [left(1, true), question(2, true), question(3, false), left(4, true)];
    assert_eq!(count(&Page::default()).await.items, all);
    let last = count(&Page { after: count(&Page::first(3)).await.next, limit: 3 }).await;
    assert_eq!((last.items, last.next), (vec![left(4, true)], None));
    let changes = [1, 4].map(|number| Change::Approval(left(number, false)));
    store.commit(&ours(), &changes).await.unwrap();
    assert_eq!(count(&Page::default()).await.items, vec![question(2, true), question(3, false)]);
    let of = Key::new(&ours(), incident_id(4));
    let its = store.approvals_of(&of, &Page::default()).await.unwrap();
    assert_eq!((its.total, its.items), (1, vec![question(4, false)]));
}

fn order(number: u64, machine: MachineId, sequence: u64) -> StoredOrder {
    StoredOrder {
        id: OrderId::new(at(number as i64), bytes(number)),
        machine,
        sequence,
        incident: Some(incident_id(1)),
        state: OrderState::Waiting,
        envelope: receipt(machine, MeasureId::new(at(0), bytes(0)), MeasureState::Verified)
            .envelope()
            .clone(),
    }
}

async fn orders_wait_in_sequence_until_taken(store: Store) {
    let (a, b) = (enrolled(&store, &ours(), 1).await, enrolled(&store, &ours(), 2).await);
    let orders = [order(1, a.id, 2), order(2, a.id, 1), order(3, b.id, 1)];
    let changes: Vec<_> = orders.iter().cloned().map(Change::Order).collect();
    store.commit(&ours(), &changes).await.unwrap();
    // The signer answers a repeated proposal with the same order.
    store.commit(&ours(), &changes[..1]).await.unwrap();
    let waiting = store.waiting_orders(&a).await.unwrap();
    assert_eq!(waiting, [orders[1].clone(), orders[0].clone()]);
    assert_eq!(store.all_waiting_orders(&ours()).await.unwrap().len(), 3);
    let taken = Change::OrderState { order: orders[1].id, state: OrderState::Taken };
    store.commit(&ours(), &[taken]).await.unwrap();
    assert_eq!(store.waiting_orders(&a).await.unwrap(), [orders[0].clone()]);
    let key = Key::new(&ours(), orders[1].id);
    assert_eq!(store.order(&key).await.unwrap().unwrap().state, OrderState::Taken);
    // A sequence is never used twice on one machine.
    let double = StoredOrder { id: OrderId::new(at(9), bytes(9)), ..orders[0].clone() };
    assert!(store.commit(&ours(), &[Change::Order(double)]).await.is_err());
}

async fn expired_permits_are_not_listed(store: Store) {
    let machine = enrolled(&store, &ours(), 1).await;
    let permit = |number: u64, second| StoredPermit {
        id: PermitId::new(at(0), bytes(number)),
        machine: machine.id,
        expires_at: at(second),
        envelope: order(1, machine.id, 1).envelope,
    };
    let changes = [Change::Permit(permit(1, 10)), Change::Permit(permit(2, 20))];
    store.commit(&ours(), &changes).await.unwrap();
    let both = store.permits(&machine, at(9)).await.unwrap();
    assert_eq!(both, [permit(2, 20), permit(1, 10)]);
    assert_eq!(store.permits(&machine, at(10)).await.unwrap().len(), 1);
    // A signer may know machines that this store has not, as after a backup was put back: the rest is kept.
    let unknown = MachineId::new(at(9), bytes(9));
    let of_it = StoredPermit { machine: unknown, ..permit(3, 30) };
    let changes = [Change::Permit(of_it), Change::Permit(permit(4, 40))];
    store.commit(&ours(), &changes).await.unwrap();
    assert_eq!(store.permits(&machine, at(30)).await.unwrap(), [permit(4, 40)]);
    assert!(store.permits(&Key::new(&ours(), unknown), at(0)).await.unwrap().is_empty());
}

async fn a_sign_in_token_works_once(store: Store) {
    known(&store, &ours()).await;
    let idle = Person { is_active: false, ..person("idle") };
    let changes = [Change::Person(person("ada")), Change::Person(idle)];
    store.commit(&ours(), &changes).await.unwrap();
    let hash = |secret: &str| Key::new(&ours(), secret_hash(secret.as_bytes()));
    store.put_sign_in_token(&hash("one"), "ada", at(10)).await.unwrap();
    store.put_sign_in_token(&hash("two"), "ada", at(10)).await.unwrap();
    store.put_sign_in_token(&hash("three"), "idle", at(10)).await.unwrap();
    assert!(store.put_sign_in_token(&hash("four"), "nobody", at(10)).await.is_err());
    assert_eq!(store.use_sign_in_token(&hash("one"), at(9)).await.unwrap(), Some(person("ada")));
    assert_eq!(store.use_sign_in_token(&hash("one"), at(9)).await.unwrap(), None, "used");
    assert_eq!(store.use_sign_in_token(&hash("two"), at(10)).await.unwrap(), None, "late");
    assert_eq!(store.use_sign_in_token(&hash("three"), at(9)).await.unwrap(), None, "barred");
    assert_eq!(store.use_sign_in_token(&hash("guess"), at(9)).await.unwrap(), None);
    let people = store.people(&ours(), &Page::default()).await.unwrap();
    assert_eq!((people.total, people.items[0].name.as_str()), (2, "ada"));
    let ada = store.person(&Key::new(&ours(), "ada".to_owned())).await.unwrap();
    assert_eq!(ada, Some(person("ada")));
}

async fn a_session_ends_with_its_time_its_owner_or_its_word(store: Store) {
    known(&store, &ours()).await;
    store.commit(&ours(), &[Change::Person(person("ada"))]).await.unwrap();
    let hash = |secret: &str| Key::new(&ours(), secret_hash(secret.as_bytes()));
    for secret in ["a", "b"] {
        store.begin_session(&hash(secret), "ada", at(0), at(10)).await.unwrap();
    }
    let session = store.session(&hash("a"), at(9)).await.unwrap().unwrap();
    assert_eq!((session.person, session.begun_at), (person("ada"), at(0)));
    assert_eq!(store.session(&hash("a"), at(10)).await.unwrap(), None);
    store.end_session(&hash("a")).await.unwrap();
    assert_eq!(store.session(&hash("a"), at(1)).await.unwrap(), None);
    assert!(store.session(&hash("b"), at(1)).await.unwrap().is_some());
    let barred = Person { is_active: false, ..person("ada") };
    store.commit(&ours(), &[Change::Person(barred)]).await.unwrap();
    assert_eq!(store.session(&hash("b"), at(1)).await.unwrap(), None);
}

async fn what_has_expired_is_forgotten(store: Store) {
    known(&store, &ours()).await;
    let changes = [
        Change::Person(person("ada")),
        Change::EnrolmentToken(token(1, at(10))),
        Change::EnrolmentToken(token(2, at(30))),
    ];
    store.commit(&ours(), &changes).await.unwrap();
    let hash = |secret: &str| Key::new(&ours(), secret_hash(secret.as_bytes()));
    store.begin_session(&hash("a"), "ada", at(0), at(10)).await.unwrap();
    store.put_sign_in_token(&hash("b"), "ada", at(10)).await.unwrap();
    assert_eq!(store.forget_expired(&ours(), at(20)).await.unwrap(), 3);
    assert_eq!(store.forget_expired(&ours(), at(20)).await.unwrap(), 0);
}

async fn settings_and_policies_are_kept(store: Store) {
    known(&store, &ours()).await;
    let key = Key::new(&ours(), "core".to_owned());
    let set = |value: Option<Vec<u8>>| [Change::Setting { name: "core".into(), value }];
    store.commit(&ours(), &set(Some(vec![1]))).await.unwrap();
    store.commit(&ours(), &set(Some(vec![2]))).await.unwrap();
    assert_eq!(store.setting(&key).await.unwrap(), Some(vec![2]));
    let large = set(Some(vec![0; cordon_store::SETTING_BYTES + 1]));
    assert!(matches!(store.commit(&ours(), &large).await, Err(StoreError::TooLarge { .. })));
    store.commit(&ours(), &set(None)).await.unwrap();
    assert_eq!(store.setting(&key).await.unwrap(), None);
    assert_eq!(store.policy(&ours()).await.unwrap(), None);
    let envelope = order(1, machine_id(1), 1).envelope;
    for revision in [1, 3, 2] {
        let change = Change::Policy { revision, envelope: envelope.clone() };
        store.commit(&ours(), &[change]).await.unwrap();
    }
    assert_eq!(store.policy(&ours()).await.unwrap(), Some((3, envelope)));
    let trust = store.organisation(&ours()).await.unwrap().unwrap();
    assert_eq!(trust.name, "Trust RJ1");
}

async fn an_older_assignment_changes_nothing(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let new = order(1, machine_id(1), 1).envelope;
    let old = receipt(key.id, MeasureId::new(at(5), bytes(5)), MeasureState::Applied);
    for (revision, envelope) in [(2, new.clone()), (1, old.envelope().clone())] {
        let change = Change::Assignment { machine: key.id, revision, envelope };
        store.commit(&ours(), &[change]).await.unwrap();
    }
    assert_eq!(one(&store, &key).await.assignment, Ok(Some(new)));
    // The same once more: what was there can't be read, say.
    let change =
        Change::Assignment { machine: key.id, revision: 2, envelope: old.envelope().clone() };
    store.commit(&ours(), &[change]).await.unwrap();
    assert_eq!(one(&store, &key).await.assignment, Ok(Some(old.envelope().clone())));
}

async fn counts_have_their_denominators(store: Store) {
    let (a, b) = (enrolled(&store, &ours(), 1).await, enrolled(&store, &ours(), 2).await);
    enrolled(&store, &theirs(), 3).await;
    store.take_reports(&a, at(1), &[report(1, Level::High), report(2, Level::Low)]).await.unwrap();
    let seen = |second| {
        Box::new(Seen {
            at: at(second),
            boot: BootId("boot".into()),
            build: String::new(),
            coverage: vec![],
            status: None,
        })
    };
    let measure = StoredMeasure {
        id: MeasureId::new(at(0), bytes(1)),
        machine: a.id,
        action: Action::Isolate(Isolation::Full),
        state: MeasureState::Verified,
        is_denied: false,
        since: at(1),
        receipt: None,
    };
    // One that its machine says it does not hold contains nothing.
    let denied = StoredMeasure {
        id: MeasureId::new(at(0), bytes(2)),
        machine: b.id,
        state: MeasureState::Unproven { why: "nothing is in force on it".into() },
        is_denied: true,
        ..measure.clone()
    };
    let changes = [
        Change::Seen { machine: a.id, seen: seen(5) },
        Change::Incident(incident(1, IncidentState::New)),
        Change::Incident(incident(2, IncidentState::Owned)),
        Change::Incident(incident(3, IncidentState::Closed)),
        Change::Group {
            machine: a.id,
            finding: finding(1, Level::High).id,
            incident: incident_id(1),
        },
        Change::Measure(measure),
        Change::Measure(denied),
        Change::Order(order(1, b.id, 1)),
    ];
    store.commit(&ours(), &changes).await.unwrap();
    let expected = Counts {
        machines: 2,
        machines_heard: 1,
        machines_never_heard: 1,
        machines_assigned: 0,
        machines_contained: 1,
        incidents: 3,
        incidents_open: 2,
        incidents_unowned: 1,
        findings: 2,
        findings_ungrouped: 1,
        approvals_open: 0,
        orders_waiting: 1,
    };
    assert_eq!(store.counts(&ours(), at(5)).await.unwrap(), expected);
    assert_eq!(store.counts(&ours(), at(6)).await.unwrap().machines_heard, 0);
}

async fn statements_are_kept_in_the_order_in_which_they_were_written(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    let other = enrolled(&store, &ours(), 2).await;
    // A clock that is set back does not change the order.
    let said = [statement(key.id, 9, "first"), statement(key.id, 5, "second")];
    let changes = said.clone().map(|one| Change::Statement(Box::new(one)));
    store.commit(&ours(), &changes).await.unwrap();
    let third = statement(key.id, 5, "third");
    let theirs = statement(other.id, 1, "of another machine");
    let changes = [third.clone(), theirs.clone()].map(|one| Change::Statement(Box::new(one)));
    store.commit(&ours(), &changes).await.unwrap();
    let page = Page::first(2);
    let listed = store.statements(&key, &page).await.unwrap();
    let [first, second] = said;
    assert_eq!((listed.total, listed.items), (3, vec![third, second]));
    let rest = Page { after: listed.next, limit: 2 };
    let listed = store.statements(&key, &rest).await.unwrap();
    assert_eq!((listed.items, listed.next), (vec![first], None));
    let listed = store.statements(&other, &Page::default()).await.unwrap();
    assert_eq!(listed.items, [theirs]);
    // Of a machine that nobody knows nothing is kept, nor anything else of the same step.
    let nobody = statement(machine_id(7), 1, "of nobody");
    let changes = [
        Change::Statement(Box::new(statement(key.id, 20, "with it"))),
        Change::Statement(Box::new(nobody)),
    ];
    let refused = store.commit(&ours(), &changes).await;
    assert!(matches!(refused, Err(StoreError::Missing { what: "machine" })), "{refused:?}");
    assert_eq!(store.statements(&key, &page).await.unwrap().total, 3);
}

/// The same ids under another organisation's code: nothing is shown, and nothing is changed.
async fn another_organisations_key_finds_nothing(store: Store) {
    let key = enrolled(&store, &ours(), 1).await;
    known(&store, &theirs()).await;
    let machine = key.id;
    let measure = MeasureId::new(at(0), bytes(1));
    let reports = [
        report(1, Level::High),
        TakenReport {
            number: 2,
            what: TakenWhat::Receipt(Box::new(receipt(machine, measure, MeasureState::Verified))),
        },
    ];
    store.take_reports(&key, at(1), &reports).await.unwrap();
    let approval = StoredApproval {
        id: ApprovalId::new(at(0), bytes(1)),
        is_open: true,
        expires_at: at(10),
        incident: Some(incident_id(1)),
        is_left: false,
        document: vec![],
    };
    let waiting = order(1, machine, 1);
    let permit = StoredPermit {
        id: PermitId::new(at(0), bytes(1)),
        machine,
        expires_at: at(100),
        envelope: waiting.envelope.clone(),
    };
    let enrolment = token(7, at(100));
    let changes = [
        Change::Incident(incident(1, IncidentState::New)),
        Change::Timeline { incident: incident_id(1), record: record("ours") },
        Change::Approval(approval.clone()),
        Change::Order(waiting.clone()),
        Change::Permit(permit),
        Change::Person(person("ada")),
        Change::EnrolmentToken(enrolment.clone()),
        Change::Setting { name: "s".into(), value: Some(vec![1]) },
        Change::Row { kind: "order", id: "1".into(), document: Some(vec![]) },
        Change::Policy { revision: 1, envelope: waiting.envelope.clone() },
        Change::Statement(Box::new(statement(machine, 1, "ours"))),
    ];
    store.commit(&ours(), &changes).await.unwrap();
    let secret = secret_hash(b"secret");
    store.begin_session(&Key::new(&ours(), secret), "ada", at(0), at(10)).await.unwrap();
    store.put_sign_in_token(&Key::new(&ours(), secret), "ada", at(10)).await.unwrap();

    let them = theirs();
    let page = Page::default();
    macro_rules! finds_nothing {
        ($($call:expr),* $(,)?) => { $(
            assert!($call.await.unwrap().is_none(), stringify!($call));
        )* };
    }
    finds_nothing!(
        store.machine(&Key::new(&them, machine)),
        store.machine_with_certificate(&Key::new(&them, new_machine(1).certificate.fingerprint)),
        store.enrolment_token(&Key::new(&them, enrolment.hash)),
        store.incident(&Key::new(&them, incident_id(1))),
        store.approval(&Key::new(&them, approval.id)),
        store.order(&Key::new(&them, waiting.id)),
        store.measure(&Key::new(&them, (machine, measure))),
        store.person(&Key::new(&them, "ada".to_owned())),
        store.session(&Key::new(&them, secret), at(1)),
        store.use_sign_in_token(&Key::new(&them, secret), at(1)),
        store.setting(&Key::new(&them, "s".to_owned())),
        store.policy(&them),
    );
    let filter = FindingFilter::default();
    let other = Key::new(&them, machine);
    assert_eq!(store.machines(&them, &page).await.unwrap().total, 0);
    assert_eq!(store.findings(&them, &filter, &page).await.unwrap().total, 0);
    assert_eq!(store.ungrouped_findings(&them).await.unwrap().len(), 0);
    assert_eq!(store.incidents(&them, IncidentFilter::Any, &page).await.unwrap().total, 0);
    assert_eq!(store.statements(&other, &page).await.unwrap().total, 0);
    let timeline = store.timeline(&Key::new(&them, incident_id(1)), &page).await.unwrap();
    assert_eq!((timeline.total, timeline.items.len()), (0, 0));
    assert_eq!(store.approvals(&them, false, &page).await.unwrap().total, 0);
    assert_eq!(store.approvals_that_count(&them, &page).await.unwrap().total, 0);
    let their_incident = Key::new(&them, incident_id(1));
    assert_eq!(store.approvals_of(&their_incident, &page).await.unwrap().total, 0);
    assert_eq!(store.waiting_orders(&other).await.unwrap().len(), 0);
    assert_eq!(store.all_waiting_orders(&them).await.unwrap().len(), 0);
    assert_eq!(store.permits(&other, at(0)).await.unwrap().len(), 0);
    assert_eq!(store.measures_of(&other, &page).await.unwrap().total, 0);
    assert_eq!(store.measures_not_over(&them, &page).await.unwrap().total, 0);
    assert_eq!(store.receipts(&Key::new(&them, (machine, measure))).await.unwrap().len(), 0);
    let newest = store.newest_receipt(&Key::new(&them, (machine, measure))).await.unwrap();
    assert_eq!(newest, None);
    assert_eq!(store.people(&them, &page).await.unwrap().total, 0);
    assert_eq!(store.rows(&them).await.unwrap().len(), 0);
    assert_eq!(store.counts(&them, at(0)).await.unwrap(), Counts::default());

    // Nor can they write to ours, or as if it were theirs.
    let enrolled = store.enrol(&Key::new(&them, enrolment.hash), &new_machine(9), at(1)).await;
    assert_eq!(enrolled.unwrap(), Err(EnrolmentRefused::Unknown));
    assert!(store.take_reports(&other, at(2), &[report(3, Level::Low)]).await.is_err());
    let ours_as_theirs = [
        Change::Incident(incident(1, IncidentState::Closed)),
        Change::Timeline { incident: incident_id(1), record: record("forged") },
        Change::OrderState { order: waiting.id, state: OrderState::Expired },
        Change::Order(waiting.clone()),
        Change::Group { machine, finding: finding(1, Level::High).id, incident: incident_id(1) },
    ];
    for change in ours_as_theirs {
        let shown = format!("{change:?}");
        assert!(store.commit(&them, &[change]).await.is_err(), "{shown}");
    }
    let state = store.order(&Key::new(&ours(), waiting.id)).await.unwrap().unwrap().state;
    assert_eq!(state, OrderState::Waiting);
    store.forget_expired(&them, at(1000)).await.unwrap();
    store.end_session(&Key::new(&them, secret)).await.unwrap();
    assert!(store.session(&Key::new(&ours(), secret), at(1)).await.unwrap().is_some());
}
