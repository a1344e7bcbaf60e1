//! What the hub tells its signer, told to the real one.

use std::collections::BTreeMap;

use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::ids::OdsCode;
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Approver, Instruction, Order};
use cordon_model::policy::Policy;
use cordon_model::signed::{Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::signer_core::Basis;
use cordon_store::{
    Change, EnrolmentToken, Key, NewCertificate, NewMachine, Organisation, SqliteState, State,
    TakenReport, TakenWhat,
};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::telling::Teller;
use super::*;
use crate::signer::{SignerConfig, serve_until};

fn rj1() -> OdsCode {
    "RJ1".parse().unwrap()
}

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn receipt_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The real signer, which knows two machines and has ordered the first to be isolated; and a store.
struct Site {
    directory: TempDir,
    client: Arc<Client>,
    store: Arc<dyn State>,
    order: Verified<Order>,
    /// It was isolated, and said so.
    receipt: Verified<Receipt>,
    _stop: oneshot::Sender<()>,
}

impl Site {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = SignerConfig {
            directory: directory.path().join("signer"),
            socket: directory.path().join("signer.sock"),
            organisation: rj1(),
            hub_uid: nix::unistd::geteuid().as_raw(),
            user: None,
        };
        std::fs::create_dir_all(&config.directory).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let socket = config.socket.clone();
        tokio::spawn(async move {
            let _ = serve_until(&config, async {
                let _ = stopped.await;
            })
            .await;
        });
        let client = loop {
            match Client::connect(&socket).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let ada = Approver { name: "ada".into(), is_clinical: false };
        for number in [1, 2] {
            let name = format!("pc-{number}");
            let draft = Assignment {
                tier: Some(ClinicalTier::None),
                ..Assignment::of(rj1(), machine(number), &name)
            };
            let key = receipt_key().verifying_key().to_bytes();
            client.assign(draft, Some(key), Some(ada.clone())).await.unwrap();
        }
        let lease = Policy::default_for(rj1()).lease;
        let proposal = Proposal {
            id: OrderId::new(UtcNanos::now(), [1; 10]),
            machine: machine(1),
            instruction: Instruction::isolate(Isolation::Segment, lease),
            basis: Basis::People { approval: None, people: vec![ada] },
            incident: None,
            reason: "worm".into(),
        };
        let order = client.sign(proposal).await.unwrap();
        let receipt = verified(&order);
        let store: Arc<dyn State> = Arc::new(SqliteState::open(directory.path()).await.unwrap());
        keep(store.as_ref(), &receipt).await;
        Self { directory, client: Arc::new(client), store, order, receipt, _stop: stop }
    }

    fn board(&self) -> Arc<Board> {
        Arc::new(Board::new(Policy::default_for(rj1()), BTreeMap::new()))
    }

    fn kept(&self) -> Kept {
        Kept { store: self.store.clone(), organisation: rj1() }
    }

    fn signers(&self, room: usize) -> (Signers, Telling) {
        let connections = Connections { orders: Vec::new(), notes: self.client.clone() };
        let (work, _) = mpsc::channel(1);
        let (_, stop) = watch::channel(true);
        Signers::start(connections, self.kept(), room, work.downgrade(), self.board(), stop)
    }

    /// How far the signer holds the machine to be isolated.
    async fn contained(&self) -> Option<Isolation> {
        self.client.situation(machine(1)).await.unwrap().contained
    }

    fn newest(&self) -> Note {
        Note::Owed(Owed::Newest(machine(1), self.receipt.measure))
    }

    fn denied(&self) -> ForSigner {
        ForSigner::NotInForce(machine(1), self.receipt.measure)
    }

    /// Whether the signer heard that the machine was isolated: else it takes no denial of that.
    async fn is_learned(&self) -> bool {
        self.client.not_in_force(machine(1), self.receipt.measure).await.unwrap();
        self.contained().await.is_none()
    }

    /// Changes the store's file, as a disk or a faulty version may.
    async fn spoil(&self, statement: &str) {
        let file = self.directory.path().join("state.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

fn verified(order: &Order) -> Verified<Receipt> {
    let Instruction::Begin { action, .. } = order.instruction.clone() else { panic!() };
    let receipt = Receipt {
        machine: order.machine,
        measure: order.id.into(),
        origin: Origin::Order(order.id),
        action,
        state: MeasureState::Verified,
        proof: Some(Proof {
            table_handle: Some(7),
            is_read_back: true,
            probes: vec![],
            unproven: vec![],
            at: BootNanos(1),
        }),
        lease_ends: None,
        boot: BootId("boot".into()),
        at_boot: BootNanos(1),
        at: UtcNanos::now(),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    };
    let sealed = seal(&receipt, &receipt_key()).unwrap();
    sealed.open(&receipt_key().verifying_key()).unwrap()
}

/// Keeps a receipt of the first machine's, which enrols before.
async fn keep(store: &dyn State, receipt: &Verified<Receipt>) {
    let now = UtcNanos::now();
    let organisation = Organisation { code: rj1(), name: "Test Hospital".into(), created_at: now };
    store.put_organisation(&organisation).await.unwrap();
    let token = EnrolmentToken {
        hash: [1; 32],
        made_by: "ada".into(),
        made_at: now,
        expires_at: now.plus(Duration::from_secs(3_600)),
        note: Vec::new(),
    };
    let hash = Key::new(&rj1(), token.hash);
    store.commit(&rj1(), &[Change::EnrolmentToken(token)]).await.unwrap();
    let new = NewMachine {
        id: machine(1),
        host: "pc-1".into(),
        certificate: NewCertificate { fingerprint: [1; 32], serial: vec![1] },
        receipt_key: receipt_key().verifying_key().to_bytes(),
    };
    store.enrol(&hash, &new, now).await.unwrap().unwrap();
    let what = TakenWhat::Receipt(Box::new(receipt.clone()));
    let key = Key::new(&rj1(), machine(1));
    store.take_reports(&key, now, &[TakenReport { number: 1, what }]).await.unwrap();
}

/// All is put before the task that tells has its first turn: this runtime has one thread.
#[tokio::test]
async fn beyond_the_room_a_receipt_is_told_from_the_store_and_its_denial_after_it() {
    let site = Site::start().await;
    let measure = site.receipt.measure;
    assert_eq!(site.contained().await, Some(Isolation::Segment), "by its order");
    let (signers, telling) = site.signers(1);
    signers.tell(ForSigner::Heard(machine(2), None));
    signers.learn(machine(1), measure, site.receipt.envelope().clone());
    signers.tell(ForSigner::NeverBegun(machine(2), site.order.id));
    signers.tell(site.denied());
    telling.end().await;
    // A denial that came first would have been of nothing, and the receipt would stand.
    assert_eq!(site.contained().await, None);
}

#[tokio::test]
async fn what_a_machine_signs_again_is_not_denied_by_what_it_said_before() {
    let site = Site::start().await;
    let (signers, telling) = site.signers(0);
    signers.learn(machine(1), site.receipt.measure, site.receipt.envelope().clone());
    signers.tell(site.denied());
    signers.learn(machine(1), site.receipt.measure, site.receipt.envelope().clone());
    telling.end().await;
    assert_eq!(site.contained().await, Some(Isolation::Segment));
    assert!(site.is_learned().await);
}

#[tokio::test]
async fn what_is_queued_while_the_hub_ends_is_told_before_it_has_ended() {
    let site = Site::start().await;
    let (signers, telling) = site.signers(10);
    // The task that tells has its first turn, and waits.
    tokio::task::yield_now().await;
    signers.learn(machine(1), site.receipt.measure, site.receipt.envelope().clone());
    signers.tell(site.denied());
    telling.end().await;
    assert_eq!(site.contained().await, None);
}

#[tokio::test]
async fn what_cannot_be_read_now_is_told_later_and_what_is_damaged_never() {
    let site = Site::start().await;
    let teller = Teller {
        client: site.client.clone(),
        waiting: Arc::new(Waiting {
            room: 1,
            notes: Mutex::new(Notes::new(1)),
            more: Notify::new(),
        }),
        kept: site.kept(),
        board: site.board(),
    };
    site.spoil("ALTER TABLE receipts RENAME TO elsewhere").await;
    assert!(!teller.is_done_with(&site.newest()).await, "the store can't say it now");
    site.spoil("ALTER TABLE elsewhere RENAME TO receipts").await;
    assert!(teller.is_done_with(&site.newest()).await);
    assert!(site.is_learned().await);
    site.spoil("UPDATE receipts SET envelope = X'ff00'").await;
    assert!(teller.is_done_with(&site.newest()).await, "it holds up nothing behind it");
}
