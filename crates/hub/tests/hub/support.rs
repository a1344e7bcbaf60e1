//! A hub with its signer in a directory of its own, and a machine that speaks to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use cordon_hub::signer::{SignerConfig, SignerError, serve_until};
use cordon_hub::view::AssignmentDraft;
use cordon_hub::{Hub, HubConfig, Running, Who};
use cordon_link::frame::{self, FrameError};
use cordon_link::token::EnrolToken;
use cordon_model::action::Action;
use cordon_model::asset::ClinicalTier;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, RuleRef};
use cordon_model::ids::{FindingId, MachineId, OdsCode};
use cordon_model::limits;
use cordon_model::look::LookAt;
use cordon_model::measure::{Isolation, MeasureState, Origin, Proof, Receipt};
use cordon_model::order::{Instruction, Order};
use cordon_model::signed::{Envelope, Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_model::wire::{
    EnrolAnswer, EnrolRequest, Enrolled, FromAgent, FromHub, Hello, Numbered, Report, VERSION,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// So long nothing here takes; it only keeps a broken test from hanging.
const HANGS: Duration = Duration::from_secs(180);

pub fn rj1() -> OdsCode {
    "RJ1".parse().unwrap()
}

pub fn admin() -> Who {
    Who::local("test")
}

/// A free port at a loopback address that no other test of this process has: a hub that is started again
/// must get its port back, and nobody's connection may have been given it meanwhile. Connections leave from
/// 127.0.0.1.
pub fn free() -> SocketAddr {
    static HUBS: AtomicU16 = AtomicU16::new(1);
    let [high, low] = HUBS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 77, high, low], 0))
}

pub fn hub_config(directory: &Path, organisation: OdsCode) -> HubConfig {
    let free = free();
    HubConfig {
        directory: directory.join("hub"),
        organisation,
        name: "Test Hospital".into(),
        link: free,
        enrol: free,
        link_seen_as: vec![],
        enrol_seen_as: vec![],
        signer: directory.join("signer.sock"),
        control: Some(directory.join("hub.sock")),
    }
}

/// A signer in a task.
pub struct Signer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), SignerError>>,
}

impl Signer {
    pub fn start(directory: &Path, organisation: OdsCode) -> Self {
        let config = SignerConfig {
            directory: directory.join("signer"),
            socket: directory.join("signer.sock"),
            organisation,
            hub_uid: nix::unistd::geteuid().as_raw(),
            user: None,
        };
        std::fs::create_dir_all(&config.directory).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            serve_until(&config, async {
                let _ = stopped.await;
            })
            .await
        });
        Self { stop, task }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

/// An organisation with a running hub.
pub struct Site {
    pub directory: tempfile::TempDir,
    pub organisation: OdsCode,
    pub signer: Option<Signer>,
    running: Option<Running>,
    at: Option<(SocketAddr, SocketAddr)>,
}

impl Site {
    pub async fn start() -> Self {
        Self::of("RJ1").await
    }

    pub async fn of(organisation: &str) -> Self {
        let organisation: OdsCode = organisation.parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer::start(directory.path(), organisation.clone());
        let config = hub_config(directory.path(), organisation.clone());
        let running = cordon_hub::start(config).await.unwrap();
        Self { directory, organisation, signer: Some(signer), running: Some(running), at: None }
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn hub(&self) -> &Hub {
        &self.running().hub
    }

    pub fn control(&self) -> PathBuf {
        self.directory.path().join("hub.sock")
    }

    /// Stops the hub and starts it again at the same addresses.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        self.at = Some((running.link, running.enrol));
        running.stop().await.unwrap();
    }

    pub async fn start_again(&mut self) {
        let (link, enrol) = self.at.unwrap();
        let config = hub_config(self.directory.path(), self.organisation.clone());
        let config = HubConfig { link, enrol, ..config };
        for _ in 0..100 {
            match cordon_hub::start(config.clone()).await {
                Ok(running) => return self.running = Some(running),
                // Another test's child has the ledger's lock from being forked until it is its own program.
                Err(error) if format!("{error:?}").contains("Busy") => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("somebody keeps the ledger");
    }

    /// Starts the signer again, and waits until it takes connections.
    pub async fn start_signer(&mut self) {
        let directory = self.directory.path().to_owned();
        self.signer = Some(Signer::start(&directory, self.organisation.clone()));
        let socket = directory.join("signer.sock");
        until("the signer is there", || async {
            tokio::net::UnixStream::connect(&socket).await.is_ok()
        })
        .await;
    }

    /// Changes what a stopped hub keeps, as a disk or a faulty version may.
    pub async fn spoil(&self, statement: &str) {
        let file = self.directory.path().join("hub").join("state.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let done =
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await.unwrap();
        assert!(done.rows_affected() > 0, "{statement}");
        pool.close().await;
    }

    pub async fn token(&self, tier: Option<ClinicalTier>) -> EnrolToken {
        let draft = AssignmentDraft { tier, ..AssignmentDraft::default() };
        self.hub().create_enrolment_token(draft, Duration::from_secs(600), &admin()).await.unwrap()
    }

    /// An office machine that is enrolled and linked.
    pub async fn machine(&self, host: &str) -> Machine {
        self.machine_of(host, Some(ClinicalTier::None)).await
    }

    pub async fn machine_of(&self, host: &str, tier: Option<ClinicalTier>) -> Machine {
        let token = self.token(tier).await;
        let mut machine = Machine::enrol(&token, host).await.unwrap();
        machine.connect().await.unwrap();
        machine
    }
}

/// A machine with its keys; the test decides what it says.
pub struct Machine {
    pub enrolled: Enrolled,
    pub host: String,
    pub receipt_key: SigningKey,
    link_key: Vec<u8>,
    stream: Option<TlsStream<TcpStream>>,
    pub next: u64,
}

impl Machine {
    pub async fn enrol(token: &EnrolToken, host: &str) -> Result<Self, String> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let receipt_key = SigningKey::from_bytes(&seed);
        let request = EnrolRequest {
            token: token.secret_text(),
            host: host.into(),
            certificate_request: csr.der().to_vec(),
            receipt_key: receipt_key.verifying_key().to_bytes(),
        };
        let mut stream = enrol_stream(token).await?;
        let text = |error: FrameError| error.to_string();
        frame::write(&mut stream, &request, limits::ENROL_MESSAGE_BYTES).await.map_err(text)?;
        match frame::read(&mut stream, limits::MESSAGE_BYTES).await.map_err(text)? {
            Some(EnrolAnswer::Enrolled(enrolled)) => Ok(Self {
                enrolled: *enrolled,
                host: host.into(),
                receipt_key,
                link_key: key.serialize_der(),
                stream: None,
                next: 1,
            }),
            Some(EnrolAnswer::Refused { why }) => Err(why),
            None => Err("no answer".into()),
        }
    }

    pub fn id(&self) -> MachineId {
        self.enrolled.machine
    }

    fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.enrolled.authority.clone())).unwrap();
        let chain = self.enrolled.certificates.iter();
        let chain = chain.map(|der| CertificateDer::from(der.to_vec())).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.link_key.clone()));
        builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap()
    }

    /// The same machine, not connected: a second process with the same keys.
    pub fn same_again(&self) -> Self {
        Self {
            enrolled: self.enrolled.clone(),
            host: self.host.clone(),
            receipt_key: self.receipt_key.clone(),
            link_key: self.link_key.clone(),
            stream: None,
            next: self.next,
        }
    }

    /// Connects without a word.
    pub async fn dial(&mut self) {
        self.stream = Some(self.open(self.enrolled.link[0]).await.unwrap());
    }

    /// TLS only; a hub that refuses the certificate says so at the first reading.
    pub async fn open(&self, at: SocketAddr) -> Result<TlsStream<TcpStream>, String> {
        tls(at, self.client_config(), &self.enrolled.hub_name).await
    }

    pub fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            build: "test".into(),
            host: self.host.clone(),
            boot: BootId("boot".into()),
            last_order: 0,
            assignment: 0,
            policy: 0,
            coverage: vec![],
        }
    }

    /// Connects, says hello, and waits for the welcome.
    pub async fn connect(&mut self) -> Result<(), String> {
        let stream = self.open(self.enrolled.link[0]).await?;
        self.stream = Some(stream);
        self.say(&FromAgent::Hello(self.hello())).await;
        match self.hear().await? {
            FromHub::Welcome { version: VERSION, .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    pub async fn say(&mut self, message: &FromAgent) {
        let stream = self.stream.as_mut().unwrap();
        // A hub that has hung up is noticed by the next reading.
        let _ = frame::write(stream, message, limits::MESSAGE_BYTES).await;
    }

    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt as _;
        let stream = self.stream.as_mut().unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
    }

    /// The hub's next message.
    pub async fn hear(&mut self) -> Result<FromHub, String> {
        let stream = self.stream.as_mut().unwrap();
        let read = frame::read(stream, limits::MESSAGE_BYTES);
        match tokio::time::timeout(HANGS, read).await.expect("the hub says nothing") {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err("the hub hung up".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads until the link ends, and says what the hub's goodbye was.
    pub async fn goodbye(&mut self) -> String {
        loop {
            match self.hear().await {
                Ok(FromHub::Goodbye { why }) => return why,
                Ok(_) => {}
                Err(why) => return why,
            }
        }
    }

    /// Reports, and waits until the hub has it on disk.
    pub async fn report(&mut self, report: Report) {
        let number = self.next;
        self.send(report).await;
        self.acknowledged(number).await;
    }

    /// Reports without waiting.
    pub async fn send(&mut self, report: Report) {
        let numbered = Numbered { number: self.next, report };
        self.next += 1;
        self.say(&FromAgent::Reports(vec![numbered])).await;
    }

    pub async fn acknowledged(&mut self, number: u64) {
        loop {
            match self.hear().await.unwrap() {
                FromHub::Acknowledged(up_to) if up_to >= number => return,
                FromHub::Goodbye { why } => panic!("the hub says goodbye: {why}"),
                _ => {}
            }
        }
    }

    /// The next order, which must be genuine and for this machine.
    pub async fn order(&mut self) -> Verified<Order> {
        loop {
            if let FromHub::Order(envelope) = self.hear().await.unwrap() {
                let key = VerifyingKey::from_bytes(&self.enrolled.command_key).unwrap();
                let order = envelope.open::<Order>(&key).unwrap();
                assert_eq!(order.machine, self.id());
                return order;
            }
        }
    }

    /// The next question how it is here: its number, and what is looked at.
    pub async fn asked_to_look(&mut self) -> (u64, LookAt) {
        loop {
            if let FromHub::Look { number, at } = self.hear().await.unwrap() {
                return (number, at);
            }
        }
    }

    pub async fn take(&mut self, order: &Order) {
        self.say(&FromAgent::OrderTaken(order.id)).await;
    }

    pub fn receipt(&self, order: &Order, state: MeasureState) -> Receipt {
        let action = match order.instruction {
            Instruction::Begin { ref action, .. } => action.clone(),
            _ => Action::Isolate(Isolation::Segment),
        };
        let proof = state.is_acting().then(|| Proof {
            table_handle: Some(7),
            is_read_back: true,
            probes: vec![],
            unproven: vec!["inbound read back, not probed by a peer".into()],
            at: BootNanos(1),
        });
        Receipt {
            machine: self.id(),
            measure: order.id.into(),
            origin: Origin::Order(order.id),
            action,
            state,
            proof,
            lease_ends: None,
            boot: BootId("boot".into()),
            at_boot: BootNanos(1),
            at: UtcNanos::now(),
            sockets_cut: 0,
            done: Vec::new(),
            spared: Vec::new(),
        }
    }

    pub fn sealed(&self, receipt: &Receipt) -> Envelope {
        seal(receipt, &self.receipt_key).unwrap()
    }

    /// Carries an order out, as far as the hub can tell.
    pub async fn carry_out(&mut self, order: &Order) {
        self.take(order).await;
        for state in [MeasureState::Applied, MeasureState::Verified] {
            let receipt = self.sealed(&self.receipt(order, state));
            self.report(Report::Receipt(receipt)).await;
        }
    }
}

/// A finding of `level`; `event` makes it another.
pub fn finding(host: &str, level: Level, event: u8) -> Finding {
    let raw = format!(r#"{{"Image":"/tmp/worm","event":{event}}}"#);
    let raw_sha256: [u8; 32] = Sha256::digest(raw.as_bytes()).into();
    Finding {
        id: FindingId::of("rule-1", host, &raw_sha256),
        rule: RuleRef {
            id: "rule-1".into(),
            title: "A worm spreads".into(),
            level,
            tags: vec!["attack.lateral-movement".into()],
        },
        host: host.into(),
        time: UtcNanos::now(),
        boot_time: None,
        process: None,
        matched: vec![],
        raw: RawEvent { json: raw, is_cut: false },
        raw_sha256,
    }
}

pub fn found(host: &str, level: Level, event: u8) -> Report {
    Report::Finding(Box::new(finding(host, level, event)))
}

/// Waits until `is_so`; what it waits for always comes, so time decides nothing.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANGS, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
}

pub async fn tls(
    at: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| error.to_string())
}

/// TLS to the link without a certificate.
pub async fn open_without_certificate(
    at: SocketAddr,
    authority: &[u8],
    name: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    tls(at, builder().with_root_certificates(roots).with_no_client_auth(), name).await
}

/// TLS to the enrolment's listener, which must show the authority that the token pins.
pub async fn enrol_stream(token: &EnrolToken) -> Result<TlsStream<TcpStream>, String> {
    let verifier = Arc::new(Pinned(token.authority_sha256));
    let config =
        builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    tls(token.addresses[0], config, "hub.cordon.internal").await
}

#[derive(Debug)]
struct Pinned([u8; 32]);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|der| <[u8; 32]>::from(Sha256::digest(der)) == self.0)
            .ok_or_else(|| rustls::Error::General("not the pinned authority".into()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let inner =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        inner.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
