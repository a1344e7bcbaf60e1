//! The conformance suite on SQLite, and what a crash leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests state expectations by unwrapping")]

mod conformance;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use conformance::{at, bytes, enrolled, incident, incident_id, known, machine_id, ours, report};
use cordon_model::finding::Level;
use cordon_model::ids::ApprovalId;
use cordon_model::incident::IncidentState;
use cordon_store::{
    Change, FindingFilter, Findings as _, IncidentFilter, Key, Machines as _, Page, SqliteState,
    State, StoredApproval,
};

/// Set for the child that is killed: where its store is.
const CHILD: &str = "CORDON_STORE_TEST_CHILD";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_does_what_every_backend_must() {
    let directories = std::sync::Mutex::new(Vec::new());
    conformance::run(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        directories.lock().unwrap().push(directory);
        async move { Arc::new(SqliteState::open(&path).await.unwrap()) as Arc<dyn State> }
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_opens_again_with_what_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
    let machine = enrolled(&store, &ours(), 1).await;
    store.take_reports(&machine, at(1), &[report(1, Level::High)]).await.unwrap();
    store.close().await;
    let store = SqliteState::open(directory.path()).await.unwrap();
    assert_eq!(store.machine(&machine).await.unwrap().unwrap().reported, 1);
    assert_eq!(store.ungrouped_findings(&ours()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    SqliteState::open(directory.path()).await.unwrap().close().await;
    let file = directory.path().join("state.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, X'00', 0)")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let opened = SqliteState::open(directory.path()).await;
    assert!(matches!(opened, Err(cordon_store::StoreError::Migration(_))));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other_of_its_list() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
    let mut machines = Vec::new();
    for number in 1..=3 {
        machines.push(enrolled(&store, &ours(), number).await.id);
    }
    let file = directory.path().join("state.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let spoilt = [("receipt_key", machines[0]), ("seen", machines[1]), ("assignment", machines[2])];
    for (column, machine) in spoilt {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE machines SET {column} = X'ff00' WHERE machine = '{machine}'"
        )))
        .execute(&pool)
        .await
        .unwrap();
    }
    let listed = store.machines(&ours(), &Page::default()).await.unwrap();
    let items: Vec<_> = listed.items.iter().map(|machine| machine.id).collect();
    assert_eq!((items, listed.total), (machines[1..].to_vec(), 3));
    let [row] = &listed.unreadable[..] else { panic!("{:?}", listed.unreadable) };
    assert_eq!((row.what, row.id.as_str()), ("receipt_key", machines[0].to_string().as_str()));
    assert!(listed.items[0].seen.is_none(), "it says how it is in a moment");
    assert_eq!(listed.items[0].assignment, Ok(None));
    assert!(listed.items[1].assignment.is_err(), "the signer has it");
}

/// What is no text where a text should be is the fault of that row, and not of the database.
#[tokio::test]
async fn a_value_of_another_kind_hides_no_other_row_either() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
    let first = enrolled(&store, &ours(), 1).await.id;
    let second = enrolled(&store, &ours(), 2).await.id;
    for (kind, id) in [("story", "1"), ("story", "2")] {
        let change = Change::Row { kind, id: id.into(), document: Some(vec![1]) };
        store.commit(&ours(), &[change]).await.unwrap();
    }
    let of_first = format!("WHERE machine = '{first}'");
    spoil(directory.path(), &format!("UPDATE machines SET host = CAST(X'ff' AS TEXT) {of_first}"))
        .await;
    spoil(directory.path(), "UPDATE rows SET id = CAST(X'ff' AS TEXT) WHERE id = '1'").await;
    let listed = store.machines(&ours(), &Page::default()).await.unwrap();
    let items: Vec<_> = listed.items.iter().map(|machine| machine.id).collect();
    assert_eq!(items, [second]);
    let dim: Vec<_> = listed.unreadable.iter().map(|row| (row.what, row.id.clone())).collect();
    assert_eq!(dim, [("host", first.to_string())]);
    let rows = store.rows(&ours()).await.unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["2", "\u{fffd}"]);
}

/// Lists that people are shown, and those that a start reads.
#[tokio::test]
async fn one_incident_or_question_that_cannot_be_read_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
    known(&store, &ours()).await;
    let mut changes: Vec<Change> =
        (1..=3).map(|number| Change::Incident(incident(number, IncidentState::New))).collect();
    changes.extend((1..=3).map(|number| {
        Change::Approval(StoredApproval {
            id: ApprovalId::new(at(5), bytes(number)),
            is_open: true,
            expires_at: at(20),
            incident: Some(incident_id(number)),
            is_left: false,
            document: b"document".to_vec(),
        })
    }));
    store.commit(&ours(), &changes).await.unwrap();
    let second = incident_id(2);
    let of_second = format!("WHERE incident = '{second}'");
    spoil(directory.path(), &format!("UPDATE incidents SET document = X'ff00' {of_second}")).await;
    spoil(directory.path(), &format!("UPDATE approvals SET incident = 'nonsense' {of_second}"))
        .await;
    let page = Page::default();
    let listed = store.incidents(&ours(), IncidentFilter::Open, &page).await.unwrap();
    let ids: Vec<_> = listed.items.iter().map(|incident| incident.id).collect();
    assert_eq!((ids, listed.total), (vec![incident_id(3), incident_id(1)], 3));
    let dim: Vec<_> = listed.unreadable.iter().map(|row| row.id.clone()).collect();
    assert_eq!(dim, [second.to_string()]);
    let question = ApprovalId::new(at(5), bytes(2));
    for listed in [
        store.approvals_that_count(&ours(), &page).await.unwrap(),
        store.approvals(&ours(), true, &page).await.unwrap(),
    ] {
        assert_eq!(listed.items.len(), 2);
        let [row] = &listed.unreadable[..] else { panic!("{:?}", listed.unreadable) };
        assert_eq!((row.what, row.id.as_str()), ("incident", question.to_string().as_str()));
    }
}

/// Changes what is kept, as a disk or a faulty version may.
async fn spoil(directory: &Path, statement: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.join("state.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    assert_eq!(sqlx::query(statement).execute(&pool).await.unwrap().rows_affected(), 1);
    pool.close().await;
}

/// Not a test of its own: the process that the next test kills. It says each number once the store has
/// acknowledged it.
#[tokio::test]
async fn child_that_takes_reports_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let store: Arc<dyn State> = Arc::new(SqliteState::open(&directory).await.unwrap());
    let machine = Key::new(&ours(), machine_id(1));
    let mut number = store.machine(&machine).await.unwrap().unwrap().reported;
    loop {
        let batch = [report(number + 1, Level::High), report(number + 2, Level::Low)];
        number = store.take_reports(&machine, at(1), &batch).await.unwrap().reported;
        println!("acknowledged {number}");
    }
}

/// Starts the child, lets it acknowledge some reports, and kills it in the middle of its work. Returns
/// the last number that it said.
fn run_and_kill(directory: &Path, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_takes_reports_until_it_is_killed", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = |line: &str| line.split("acknowledged ").nth(1)?.trim().parse::<u64>().ok();
    let mut last = 0;
    for _ in 0..lines {
        last = output.find_map(|line| said(&line.unwrap())).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said between our last reading and its end was acknowledged too. The last line may be cut.
    let rest: Vec<String> = output.map_while(Result::ok).collect();
    rest.iter().rev().skip(1).rev().filter_map(|line| said(line)).next_back().unwrap_or(last)
}

#[tokio::test]
async fn everything_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
    let machine = enrolled(&store, &ours(), 1).await;
    store.close().await;
    for round in 1..=5 {
        let acknowledged = run_and_kill(directory.path(), round * 7);
        let store = SqliteState::open(directory.path()).await.unwrap();
        let reported = store.machine(&machine).await.unwrap().unwrap().reported;
        assert!(reported >= acknowledged, "{reported} on disk, {acknowledged} acknowledged");
        let all = store.findings(&ours(), &FindingFilter::default(), &Page::first(1)).await;
        assert_eq!(all.unwrap().total, reported, "findings and number move together");
        store.close().await;
    }
}
