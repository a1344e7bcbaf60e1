//! The conformance suite on SQLite, and what a crash leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests state expectations by unwrapping")]

mod conformance;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use conformance::{at, enrolled, machine_id, ours, report};
use cordon_model::finding::Level;
use cordon_store::{FindingFilter, Findings as _, Key, Machines as _, Page, SqliteState, State};

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
    for (column, machine) in [("receipt_key", machines[0]), ("seen", machines[1])] {
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
