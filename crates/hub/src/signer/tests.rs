//! The signer as a whole: over its real socket, and where it matters as a real process that is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cordon_evidence::{Ledger, verify};
use cordon_model::action::Action;
use cordon_model::asset::{
    Assignment, ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport,
};
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Approver, Instruction, Lease, Order};
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::signed::{Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::peoples_brake;
use cordon_respond::signer_core::{Basis, Proposal, Refusal};
use ed25519_dalek::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod brake;
mod codes;
mod leave;
mod ledger;
mod names;
mod process;
mod replay;

use super::{
    Client, ClientError, Refused, SignerConfig, SignerError, hub_origin, serve_until, signer_origin,
};

fn rj1() -> OdsCode {
    "RJ1".parse().unwrap()
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn config(directory: &Path) -> SignerConfig {
    SignerConfig {
        directory: directory.to_owned(),
        socket: directory.join("signer.sock"),
        organisation: rj1(),
        hub_uid: own_uid(),
        user: None,
    }
}

/// A signer within this process.
struct Running {
    config: SignerConfig,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), SignerError>>,
}

impl Running {
    async fn start(directory: &Path) -> (Self, Client) {
        let config = config(directory);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn({
            let config = config.clone();
            async move {
                serve_until(&config, async {
                    let _ = stopped.await;
                })
                .await
            }
        });
        let client = reach(&config.socket).await;
        (Self { config, stop, task }, client)
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        assert!(!self.config.socket.exists());
    }
}

/// Connects as soon as the signer listens. Bounded by the test runner only: no clock judges.
async fn reach(socket: &Path) -> Client {
    loop {
        match Client::connect(socket).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn order_id(number: u16) -> OrderId {
    let mut bytes = [7; 10];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    OrderId::new(UtcNanos::from_unix_nanos(0), bytes)
}

fn assignment(number: u8, tier: Option<ClinicalTier>) -> Assignment {
    Assignment {
        organisation: rj1(),
        machine: machine(number),
        revision: 0,
        name: format!("pc-{number}"),
        tier,
        kind: None,
        group: Some(format!("ward {number}")),
        lifelines: vec![],
        names: Vec::new(),
        protected: cordon_model::asset::Protected::default(),
        watched: Vec::new(),
        hub: vec![],
    }
}

fn ada() -> Approver {
    Approver { name: "ada".into(), is_clinical: false }
}

fn act_policy() -> Policy {
    Policy { mode: Mode::Act, ..Policy::default_for(rj1()) }
}

fn isolate() -> Instruction {
    let lease = Policy::default_for(rj1()).lease;
    Instruction::isolate(Isolation::Segment, lease)
}

fn by_policy(id: u16, number: u8) -> Proposal {
    let finding = FindingId::of("rule", "host", &[number; 32]);
    Proposal {
        id: order_id(id),
        machine: machine(number),
        instruction: isolate(),
        basis: Basis::Policy { finding, level: Level::Critical },
        incident: None,
        reason: "worm".into(),
    }
}

fn by_people(id: u16, number: u8, instruction: Instruction) -> Proposal {
    let basis = Basis::People { approval: None, people: vec![ada()] };
    Proposal { basis, instruction, ..by_policy(id, number) }
}

async fn assign(client: &Client, number: u8, tier: ClinicalTier) {
    client.assign(assignment(number, Some(tier)), None, Some(ada())).await.unwrap();
}

fn refusal(result: Result<Verified<Order>, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused(Refused::Rule(refusal))) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn own_records(directory: &Path) -> Vec<Record> {
    let (ledger, _) = Ledger::open(&directory.join("ledger"), &signer_origin(&rj1())).unwrap();
    ledger.read(0..u64::MAX).unwrap().into_iter().map(|entry| entry.record).collect()
}

#[tokio::test]
async fn it_signs_what_the_policy_allows_and_writes_it_down() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    assign(&client, 1, ClinicalTier::None).await;
    let asked = refusal(client.sign(by_policy(1, 1)).await);
    assert!(matches!(asked, Refusal::Ask { .. }), "the first policy asks about everything");
    let policy = client.set_policy(act_policy(), ada()).await.unwrap();
    assert_eq!((policy.revision, client.policy().await.unwrap().revision), (2, 2));
    let order = client.sign(by_policy(1, 1)).await.unwrap();
    assert_eq!((order.sequence, order.machine), (1, machine(1)));
    assert_eq!(client.sign(by_policy(1, 1)).await.unwrap(), order, "asked again: the same bytes");
    let key = *client.ledger_key();
    signer.stop().await;
    let report = verify(&directory.path().join("ledger"), &key).unwrap();
    assert!(report.is_sound() && report.uncovered == 0, "{report}");
    let deeds: Vec<_> = own_records(directory.path()).into_iter().map(|r| r.deed).collect();
    let expected = [
        Deed::Began,
        Deed::Started,
        Deed::Assigned,
        Deed::OrderRefused,
        Deed::PolicySet,
        Deed::Ordered(order.id),
    ];
    assert_eq!(deeds, expected);
}

#[tokio::test]
async fn nothing_but_people_isolates_a_clinical_machine_and_nothing_a_life_sustaining_one() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    client.set_policy(act_policy(), ada()).await.unwrap();
    assign(&client, 2, ClinicalTier::Clinical).await;
    assign(&client, 3, ClinicalTier::LifeSustaining).await;
    for number in [2, 3] {
        let refused = refusal(client.sign(by_policy(number.into(), number)).await);
        assert!(matches!(refused, Refusal::Ask { .. }), "{refused}");
    }
    client.sign(by_people(12, 2, isolate())).await.unwrap();
    let one = refusal(client.sign(by_people(13, 3, isolate())).await);
    assert!(matches!(one, Refusal::NotEnoughPeople { .. }), "{one}");
    let clinical = Approver { name: "dr".into(), is_clinical: true };
    let basis = Basis::People { approval: None, people: vec![ada(), clinical] };
    let two = refusal(client.sign(Proposal { basis, ..by_people(14, 3, isolate()) }).await);
    assert!(matches!(two, Refusal::NeedsStrongIdentity { .. }), "names are not persons: {two}");
    let unknown = refusal(client.sign(by_people(15, 99, isolate())).await);
    assert_eq!(unknown, Refusal::UnknownMachine);
    signer.stop().await;
}

#[tokio::test]
async fn what_weakens_a_machines_protection_needs_a_name() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let lifeline = Lifeline {
        name: "everything".into(),
        peer: "10.0.0.0/8".parse().unwrap(),
        transport: Transport::Tcp,
        ports: PortRange { first: 8000, last: 9000 },
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    let viewer = Protected { units: vec!["viewer.service".into()], ..Protected::default() };
    let refused = |result: Result<_, ClientError>| {
        matches!(result, Err(ClientError::Refused(Refused::NeedsPerson(_))))
    };
    // A machine that enrols, of which nobody has said anything, needs nobody.
    let bare = Assignment { group: None, ..assignment(1, None) };
    let unknown = client.assign(bare.clone(), Some([1; 32]), None).await.unwrap();
    assert_eq!((unknown.revision, unknown.tier), (1, None));
    let same = client.assign(bare.clone(), Some([1; 32]), None).await.unwrap();
    assert_eq!(same.revision, 1, "said before: nothing changes");
    let weaker = [
        assignment(1, Some(ClinicalTier::None)),
        Assignment { lifelines: vec![lifeline], ..bare.clone() },
        Assignment { group: Some("ward 9".into()), ..bare.clone() },
        Assignment { kind: Some("printer".into()), ..bare.clone() },
        Assignment { protected: viewer, ..bare.clone() },
        Assignment { watched: vec![cordon_model::action::FilePath::new("/srv")], ..bare.clone() },
        Assignment { hub: vec!["192.0.2.1:443".parse().unwrap()], ..bare.clone() },
        Assignment { name: "ring 0800 thieves".into(), ..bare.clone() },
    ];
    for draft in weaker.clone() {
        assert!(refused(client.assign(draft.clone(), None, None).await), "{draft:?}");
    }
    assert!(refused(client.assign(bare.clone(), Some([2; 32]), None).await));
    assert!(refused(client.assign(assignment(9, Some(ClinicalTier::None)), None, None).await));
    // Nor a stricter one: less could be done about an intruder there.
    let stricter = assignment(1, Some(ClinicalTier::LifeSustaining));
    assert!(refused(client.assign(stricter, None, None).await));
    for draft in weaker {
        client.assign(draft, None, Some(ada())).await.unwrap();
    }
    let nameless = Approver { name: String::new(), is_clinical: true };
    let result = client.assign(assignment(1, None), None, Some(nameless)).await;
    assert!(matches!(result, Err(ClientError::Refused(Refused::BadName))));
    signer.stop().await;
    let records = own_records(directory.path());
    let said = records.iter().filter(|r| r.deed == Deed::Assigned && r.detail.contains("by ada"));
    assert_eq!(said.count(), 8);
    assert!(records.iter().all(|record| record.actor == Actor::Signer));
}

#[tokio::test]
async fn a_stolen_web_tier_cannot_isolate_a_hospital_and_cannot_stop_its_release() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let most = u16::try_from(peoples_brake::AT_LEAST).unwrap();
    for number in 0..=u8::try_from(most).unwrap() {
        assign(&client, number, ClinicalTier::None).await;
    }
    for id in 0..most {
        let number = u8::try_from(id).unwrap();
        client.sign(by_people(id, number, isolate())).await.unwrap();
    }
    let next = by_people(most, u8::try_from(most).unwrap(), isolate());
    let refused = refusal(client.sign(next).await);
    assert!(matches!(refused, Refusal::PeoplesBudget(_)), "{refused}");
    assert!(refused.to_string().starts_with("people ordered 60 isolations"), "{refused}");
    client.sign(by_people(0, 0, isolate())).await.unwrap();
    // Whoever spent that can't keep people from undoing it…
    client.sign(by_people(1_000, 0, Instruction::Release)).await.unwrap();
    // …and a policy that would lift the brake is not signed.
    let mut policy = act_policy();
    policy.budget.count = 10_000;
    let result = client.set_policy(policy, ada()).await;
    assert!(matches!(result, Err(ClientError::Refused(Refused::Ceiling(_)))));
    signer.stop().await;
}

#[tokio::test]
async fn a_stolen_web_tier_cannot_open_a_hospital_at_once_nor_stop_its_isolation() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let most = u16::try_from(peoples_brake::AT_LEAST).unwrap();
    for number in 0..=u8::try_from(most).unwrap() {
        assign(&client, number, ClinicalTier::None).await;
    }
    let release = |id: u16| by_people(id, u8::try_from(id).unwrap(), Instruction::Release);
    for id in 0..most {
        client.sign(release(id)).await.unwrap();
    }
    signer.stop().await;
    // Nor does a restart give any back.
    let (signer, client) = Running::start(directory.path()).await;
    let refused = refusal(client.sign(release(most)).await);
    assert!(refused.to_string().starts_with("people ordered 60 releases"), "{refused}");
    client.sign(by_people(1_000, 0, isolate())).await.unwrap();
    signer.stop().await;
}

/// A hub says it at each of its starts, and what machines say waits behind it.
#[tokio::test]
async fn that_an_order_never_began_is_written_once_and_meets_no_brake() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    assign(&client, 1, ClinicalTier::None).await;
    let proposal = by_people(1, 1, isolate());
    let order = proposal.id;
    client.sign(proposal).await.unwrap();
    for _ in 0..100 {
        for number in [1, 200] {
            client.never_begun(machine(number), order).await.unwrap();
        }
    }
    signer.stop().await;
    let records = own_records(directory.path());
    let said = records.iter().filter(|record| record.detail.contains("never began"));
    assert_eq!(said.count(), 1);
}

#[tokio::test]
async fn permits_are_signed_once_and_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    for number in 1..=3 {
        assign(&client, number, ClinicalTier::None).await;
    }
    assert!(client.renew_permits().await.unwrap().is_empty(), "nothing is done by itself yet");
    let policy = Policy { permits: 2, ..act_policy() };
    client.set_policy(policy, ada()).await.unwrap();
    assert_eq!(client.renew_permits().await.unwrap().len(), 2);
    assert!(client.renew_permits().await.unwrap().is_empty());
    signer.stop().await;
    let (signer, client) = Running::start(directory.path()).await;
    assert!(client.renew_permits().await.unwrap().is_empty(), "also after a restart");
    signer.stop().await;
}

#[tokio::test]
async fn a_receipt_is_believed_of_its_own_machine_only() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let key = SigningKey::from_bytes(&[5; 32]);
    let public = key.verifying_key().to_bytes();
    client.assign(assignment(1, None), Some(public), Some(ada())).await.unwrap();
    client.assign(assignment(2, None), None, Some(ada())).await.unwrap();
    let receipt = Receipt {
        machine: machine(1),
        measure: MeasureId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
        origin: Origin::LeaseEnd(MeasureId::new(UtcNanos::from_unix_nanos(0), [2; 10])),
        action: Action::Isolate(Isolation::Segment),
        state: MeasureState::Verified,
        proof: None,
        lease_ends: None,
        boot: BootId("boot".into()),
        at_boot: BootNanos(1),
        at: UtcNanos::from_unix_nanos(1),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    };
    let genuine = seal(&receipt, &key).unwrap();
    let forged = seal(&receipt, &SigningKey::from_bytes(&[6; 32])).unwrap();
    let foreign = seal(&Receipt { machine: machine(2), ..receipt }, &key).unwrap();
    for (number, envelope) in
        [(1, forged), (1, foreign.clone()), (2, foreign), (3, genuine.clone())]
    {
        let told = client.learn(machine(number), envelope).await;
        assert!(matches!(told, Err(ClientError::Refused(Refused::NotGenuine(_)))), "{number}");
    }
    assert_eq!(client.situation(machine(1)).await.unwrap().contained, None);
    client.learn(machine(1), genuine).await.unwrap();
    let contained = client.situation(machine(1)).await.unwrap().contained;
    assert_eq!(contained, Some(Isolation::Segment));
    client.heard(machine(1), Some(Isolation::Segment)).await.unwrap();
    signer.stop().await;
    let (signer, client) = Running::start(directory.path()).await;
    let contained = client.situation(machine(1)).await.unwrap().contained;
    assert_eq!(contained, Some(Isolation::Segment), "also after a restart");
    signer.stop().await;
}

fn hub_record(number: u64, detail: &str) -> Record {
    Record {
        at: UtcNanos::from_unix_nanos(number as i64),
        organisation: rj1(),
        actor: Actor::Hub,
        deed: Deed::Gap,
        machine: None,
        incident: None,
        detail: detail.into(),
    }
}

async fn cosign(client: &Client, ledger: &mut Ledger) -> Result<(), ClientError> {
    let last = client.last_cosigned().await?;
    let request = Client::cosign_request(ledger, last)?;
    let signed = client.cosign(request).await?;
    Ok(ledger.keep(&signed)?)
}

#[tokio::test]
async fn a_ledger_that_was_rewritten_is_never_cosigned_again() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let path = directory.path().join("hub");
    let (mut ledger, _) = Ledger::open(&path, &hub_origin(&rj1())).unwrap();
    for number in 0..7 {
        ledger.append(&hub_record(number, "honest")).unwrap();
        cosign(&client, &mut ledger).await.unwrap();
    }
    cosign(&client, &mut ledger).await.unwrap();
    assert!(verify(&path, client.ledger_key()).unwrap().is_sound());
    signer.stop().await;
    let (signer, client) = Running::start(directory.path()).await;
    let rewritten = directory.path().join("rewritten");
    let (mut ledger, _) = Ledger::open(&rewritten, &hub_origin(&rj1())).unwrap();
    for number in 0..9 {
        let detail = if number == 3 { "nothing happened" } else { "honest" };
        ledger.append(&hub_record(number, detail)).unwrap();
    }
    let refused = cosign(&client, &mut ledger).await;
    assert!(
        matches!(refused, Err(ClientError::Refused(Refused::Inconsistent { size: 7 }))),
        "{refused:?}"
    );
    let (mut short, _) =
        Ledger::open(&directory.path().join("short"), &hub_origin(&rj1())).unwrap();
    short.append(&hub_record(0, "honest")).unwrap();
    assert!(matches!(cosign(&client, &mut short).await, Err(ClientError::Ledger(_))));
    signer.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    assign(&client, 1, ClinicalTier::None).await;
    let unknown = [0, 0, 0, 6, 0x65, b'p', b'w', b'n', b'e', b'd'];
    let nested = [&[0u8, 0, 1, 0][..], &[0x81; 256]].concat();
    let messages: [&[u8]; 7] = [
        &[0xff; 64],
        &[0, 0x20, 0, 0],
        &[0, 0, 0, 0],
        &[0, 0, 0, 4, 1],
        &unknown,
        &nested,
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for message in messages {
        let mut stream = UnixStream::connect(directory.path().join("signer.sock")).await.unwrap();
        stream.write_all(message).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too: the signer closed without reading on.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 4096, "at most a refusal");
        client.sign(by_people(1, 1, isolate())).await.unwrap();
    }
    // What is large within a message is refused too, and nothing is remembered of it.
    let long = Proposal { reason: "x".repeat(100_000), ..by_people(2, 1, isolate()) };
    let refused = client.sign(long).await;
    assert!(matches!(refused, Err(ClientError::Refused(Refused::Malformed(_)))), "{refused:?}");
    let bad = Lease { seconds: 0, step_down_seconds: 0, warn_seconds: 0 };
    let bad = Instruction::isolate(Isolation::Full, bad);
    assert!(matches!(refusal(client.sign(by_people(3, 1, bad)).await), Refusal::Terms(_)));
    let order = client.sign(by_people(4, 1, Instruction::Release)).await.unwrap();
    assert_eq!(order.sequence, 2, "refusals take no sequence");
    signer.stop().await;
}

#[tokio::test]
async fn who_comes_while_all_seats_are_taken_waits_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let socket = directory.path().join("signer.sock");
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(UnixStream::connect(&socket).await.unwrap());
    }
    // The hub's connection was there first, and goes on.
    assign(&client, 1, ClinicalTier::None).await;
    let knock = tokio::spawn(async move { Client::connect(&socket).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!knock.is_finished(), "it is neither answered nor turned away");
    drop(crowd);
    let newcomer = knock.await.unwrap().unwrap();
    newcomer.sign(by_people(1, 1, isolate())).await.unwrap();
    signer.stop().await;
}
