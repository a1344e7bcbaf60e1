//! The signer as a process of its own: killed, started again, and giving up what it does not need.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::super::{User, serve};
use super::*;

/// Set for a child process: the directory that it works in.
const CHILD: &str = "CORDON_SIGNER_TEST_CHILD";

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn there_is_one_signer_and_it_keeps_its_keys_and_its_organisation() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let key = *client.command_key();
    let second =
        SignerConfig { socket: directory.path().join("second.sock"), ..config(directory.path()) };
    assert!(serve_until(&second, async {}).await.is_err(), "the first holds the journal");
    signer.stop().await;
    let (signer, client) = Running::start(directory.path()).await;
    assert_eq!(*client.command_key(), key);
    signer.stop().await;
    let other = SignerConfig { organisation: "RX9".parse().unwrap(), ..config(directory.path()) };
    let error = serve_until(&other, async {}).await.unwrap_err();
    assert!(error.to_string().contains("RJ1"), "{error}");
    std::fs::remove_file(directory.path().join("command.key")).unwrap();
    let error = serve_until(&config(directory.path()), async {}).await.unwrap_err();
    let cause = std::error::Error::source(&error);
    let words = format!("{error} {cause:?}");
    assert!(words.contains("Missing"), "a lost key is never silently replaced: {words}");
}

/// Starts one of the children below, in a process of its own, for `directory`.
pub(super) fn start_child(test: &str, directory: &Path, uid: Option<u32>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("signer::tests::process::{test}"), "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.spawn().unwrap()
}

fn child_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Not a test of its own: the signer that others kill.
#[tokio::test]
async fn child_signer() {
    let Some(directory) = child_directory() else { return };
    serve_until(&config(&directory), std::future::pending()).await.unwrap();
}

/// Not a test of its own: the signer with all that it gives up.
#[test]
fn child_hardened_signer() {
    let Some(directory) = child_directory() else { return };
    let user = Some(User { uid: NOBODY, gid: NOBODY });
    serve(&SignerConfig { user, ..config(&directory) }).unwrap();
}

/// Not a test of its own: somebody who is not the hub. Ends well if it was turned away.
#[tokio::test]
async fn child_stranger() {
    let Some(directory) = child_directory() else { return };
    let stranger = Client::connect(&directory.join("signer.sock")).await;
    assert!(matches!(stranger, Err(ClientError::Unreachable { .. })), "{stranger:?}");
}

#[tokio::test]
async fn the_budget_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = start_child("child_signer", directory.path(), None);
    let client = reach(&directory.path().join("signer.sock")).await;
    client.set_policy(act_policy(), ada()).await.unwrap();
    for number in 1..=6 {
        assign(&client, number, ClinicalTier::None).await;
    }
    for number in 1..=5 {
        client.sign(by_policy(number.into(), number)).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        child = start_child("child_signer", directory.path(), None);
        reach(&directory.path().join("signer.sock")).await;
    }
    let refused = refusal(client.sign(by_policy(6, 6)).await);
    assert!(matches!(refused, Refusal::Ask { .. }), "{refused}");
    assert!(refused.to_string().contains("budget"), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_sequence_never_repeats_however_often_it_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("signer.sock");
    let mut signed: BTreeMap<u64, OrderId> = BTreeMap::new();
    let mut next = 0u16;
    for round in 0..6u64 {
        let mut child = start_child("child_signer", directory.path(), None);
        let client = reach(&socket).await;
        assign(&client, 1, ClinicalTier::None).await;
        let killer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10 + round * 7)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        });
        // Each proposal until the signer is gone, so that the kill falls somewhere in the work.
        loop {
            match client.sign(by_people(next, 1, Instruction::Release)).await {
                Ok(order) => {
                    let before = signed.insert(order.sequence, order.id);
                    assert!(before.is_none_or(|id| id == order.id), "{} twice", order.sequence);
                }
                Err(ClientError::Refused(Refused::Rule(Refusal::PeoplesBudget(_)))) => {}
                Err(ClientError::Unreachable { .. }) => break,
                Err(other) => panic!("{other:?}"),
            }
            next += 1;
        }
        killer.await.unwrap();
    }
    let mut child = start_child("child_signer", directory.path(), None);
    let client = reach(&socket).await;
    assign(&client, 2, ClinicalTier::None).await;
    let report = verify(&directory.path().join("ledger"), client.ledger_key()).unwrap();
    assert!(report.is_sound(), "{report}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!signed.is_empty());
    let told = own_records(directory.path());
    for id in signed.values() {
        let deed = Deed::Ordered(*id);
        assert_eq!(told.iter().filter(|record| record.deed == deed).count(), 1, "{id}");
    }
}

#[tokio::test]
async fn only_the_hubs_user_is_answered() {
    if cordon_tests::lacks_root("becoming another user") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Others may reach the socket: it is the peer's credentials that decide.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let mut stranger = start_child("child_stranger", directory.path(), Some(NOBODY));
    let status = tokio::task::spawn_blocking(move || stranger.wait().unwrap()).await.unwrap();
    assert!(status.success());
    client.policy().await.unwrap();
    signer.stop().await;
}

#[tokio::test]
async fn as_root_it_leaves_the_network_becomes_another_and_cannot_come_back() {
    if cordon_tests::lacks_root("becoming another user and leaving the network") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    nix::unistd::chown(directory.path(), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
    let mut child = start_child("child_hardened_signer", directory.path(), None);
    let client = reach(&directory.path().join("signer.sock")).await;
    client.policy().await.unwrap();
    // The signer's own thread: the test runner's first thread only waits for it.
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let threads: Vec<PathBuf> = threads.map(|thread| thread.unwrap().path()).collect();
    let status = |thread: &PathBuf| std::fs::read_to_string(thread.join("status")).unwrap();
    let hardened = threads.iter().find(|thread| status(thread).contains("NoNewPrivs:\t1")).unwrap();
    assert!(status(hardened).contains(&format!("Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}")));
    let own_network = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(std::fs::read_link(hardened.join("ns/net")).unwrap(), own_network);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // A process that is not dumpable belongs to root in /proc, whoever it runs as.
    let owner = std::os::unix::fs::MetadataExt::uid(
        &std::fs::metadata(format!("/proc/{}/environ", child.id())).unwrap(),
    );
    assert_eq!(owner, 0);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(ended.success(), "a signer that is asked to stop ends well");
}
