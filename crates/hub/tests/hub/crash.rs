//! A hub that is killed loses nothing that it acknowledged (law 7).

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cordon_hub::HubConfig;
use cordon_hub::control::{Answer, Request, ask};
use cordon_hub::view::AssignmentDraft;
use cordon_link::token::EnrolToken;
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::policy::Mode;
use cordon_model::record::Deed;
use cordon_model::wire::Report;

use super::support::{Machine, Signer, Site, admin, copy, found, free, hub_config, rj1, until};

/// Set for the child process: the directory of its hub, and where it listens.
const CHILD: &str = "CORDON_HUB_TEST_CHILD";

/// Not a test: the hub in a process of its own, for those below.
#[test]
fn hub_in_a_process_of_its_own() {
    let Ok(child) = std::env::var(CHILD) else { return };
    let (directory, link) = child.split_once('|').unwrap();
    let link = link.parse().unwrap();
    let config = HubConfig { link, ..hub_config(Path::new(directory), rj1()) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let running = cordon_hub::start(config).await.unwrap();
        println!("\nhub at {}", running.link);
        running.ended().await.unwrap();
    });
}

/// It, and where it listens.
struct Process(Child, SocketAddr);

impl Process {
    fn start(directory: &Path, link: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::hub_in_a_process_of_its_own", "--exact", "--nocapture"])
            .env(CHILD, format!("{}|{link}", directory.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let link = lines.find_map(|line| line.unwrap().strip_prefix("hub at ")?.parse().ok());
        Self(child, link.expect("the hub says where it listens"))
    }

    /// Kills it, and says where it listened.
    fn kill(mut self) -> SocketAddr {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.1
    }
}

async fn asked(socket: &Path, request: Request) -> Answer {
    let answer = ask(socket, &request).await.unwrap();
    assert!(!matches!(answer, Answer::Refused(_)), "{answer:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_goes_on_with_incidents_orders_and_measures() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::start(directory.path(), rj1());
    let hub = Process::start(directory.path(), free());
    let socket = directory.path().join("hub.sock");
    let mut machines = Vec::new();
    for host in ["office-1", "office-2"] {
        let draft =
            AssignmentDraft { tier: Some(ClinicalTier::None), ..AssignmentDraft::default() };
        let request = Request::CreateEnrolToken { draft, good_for_seconds: 600 };
        let Answer::Secret(token) = asked(&socket, request).await else { panic!() };
        let token: EnrolToken = token.parse().unwrap();
        machines.push(Machine::enrol(&token, host).await.unwrap());
    }
    let (mut one, mut two) = (machines.remove(0), machines.remove(0));
    one.connect().await.unwrap();
    two.connect().await.unwrap();
    asked(&socket, Request::SetMode(Mode::Act)).await;

    // One is isolated and proven; two is ordered to be, and has not said that it has the order.
    one.send(found("office-1", Level::High, 1)).await;
    let order_of_one = one.order().await;
    one.carry_out(&order_of_one).await;
    two.disconnect();
    let isolation = Isolation::Full;
    let reason = "worm".to_owned();
    asked(&socket, Request::Isolate { machine: "office-2".into(), isolation, reason }).await;

    let link = hub.kill();
    let hub = Process::start(directory.path(), link);
    let Answer::Status(status) = asked(&socket, Request::Status).await else { panic!() };
    assert_eq!((status.machines, status.incidents_open, status.contained), (2, 1, 1));
    assert_eq!((status.mode, status.orders_waiting), (Mode::Act, 1));
    let order_of_two = {
        two.connect().await.unwrap();
        two.order().await
    };
    two.carry_out(&order_of_two).await;
    // What came before is not news again: the same finding opens no second incident, no second order.
    one.connect().await.unwrap();
    one.next = 1;
    one.send(found("office-1", Level::High, 1)).await;
    one.next = 10;
    let receipt = one.sealed(&one.receipt(&order_of_one, MeasureState::Verified));
    one.report(Report::Receipt(receipt)).await;
    let Answer::Status(status) = asked(&socket, Request::Status).await else { panic!() };
    assert_eq!((status.incidents_open, status.contained, status.orders_waiting), (1, 2, 0));
    hub.kill();
    signer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_finding_that_was_acknowledged_before_a_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let signer = Signer::start(directory.path(), rj1());
    let mut hub = Process::start(directory.path(), free());
    let socket = directory.path().join("hub.sock");
    let request =
        Request::CreateEnrolToken { draft: AssignmentDraft::default(), good_for_seconds: 600 };
    let Answer::Secret(token) = asked(&socket, request).await else { panic!() };
    let token: EnrolToken = token.parse().unwrap();
    let mut machine = Machine::enrol(&token, "office-1").await.unwrap();
    let mut acknowledged = 0;
    for round in 0..4_u8 {
        machine.connect().await.unwrap();
        machine.next = acknowledged + 1;
        for event in 0..20 {
            machine.send(found("office-1", Level::Medium, round * 20 + event)).await;
        }
        // Killed somewhere in the middle of them.
        acknowledged += 7;
        machine.acknowledged(acknowledged).await;
        let link = hub.kill();
        hub = Process::start(directory.path(), link);
        machine.connect().await.unwrap();
        // The hub says by itself how far it has come; it may be further, never less.
        loop {
            if let cordon_model::wire::FromHub::Acknowledged(at) = machine.hear().await.unwrap() {
                assert!(at >= acknowledged, "{at} of {acknowledged}");
                acknowledged = at;
                break;
            }
        }
    }
    hub.kill();
    // What is on disk is what was said: as many findings as numbers.
    let site = cordon_hub::start(hub_config(directory.path(), rj1())).await.unwrap();
    assert_eq!(site.hub.status().await.unwrap().counts.findings, acknowledged);
    assert_eq!(site.hub.status().await.unwrap().counts.findings_ungrouped, 0);
    site.stop().await.unwrap();
    signer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_stopped_and_started_again_knows_its_questions() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    let question = site.hub().approvals(true).await.unwrap().remove(0);
    site.restart().await;
    machine.connect().await.unwrap();
    site.hub().answer(question.id, true, "because", &admin()).await.unwrap();
    machine.order().await;
    cosigned_with_finding(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_forgot_a_finding_decides_the_same_and_says_that_its_ledger_was_set_back() {
    let mut site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    let hub = site.directory.path().join("hub");
    let backup = tempfile::tempdir().unwrap();
    site.stop().await;
    copy(&hub, backup.path());
    site.start_again().await;
    machine.connect().await.unwrap();
    let finding = found("office-1", Level::High, 1);
    machine.send(finding.clone()).await;
    let order = machine.order().await;
    cosigned_with_finding(&site).await;

    // As if the hub's disk had lost the last second: the signer has not.
    site.stop().await;
    std::fs::remove_dir_all(&hub).unwrap();
    copy(backup.path(), &hub);
    site.start_again().await;
    machine.connect().await.unwrap();
    machine.next = 1;
    machine.send(finding).await;
    let again = machine.order().await;
    assert_eq!(again.envelope(), order.envelope(), "the same order to the last byte");
    until("people see that the ledger was set back", || async {
        site.hub().status().await.unwrap().ledger_alarm.is_some()
    })
    .await;
}

/// Waits until the finding is in the ledger and all of that is cosigned: an order may be at its machine before
/// what led to it is in the ledger, which only follows the store.
async fn cosigned_with_finding(site: &Site) {
    until("the finding is in the ledger, and cosigned", || async {
        let ledger = site.hub().ledger();
        let records = site.hub().ledger_records(0..ledger.size).await.unwrap();
        ledger.covered == ledger.size
            && records.iter().any(|entry| matches!(entry.record.deed, Deed::Found(_)))
    })
    .await;
}
