//! Who this machine is, whom it obeys, and the keys that prove it; and how it gets there.
//!
//! The one idea: an agent is enrolled once. The token pins the organisation's authority before the first
//! byte is sent, the private keys are made here and never leave, and from then on no message can make
//! the agent belong to anybody else: the identity file is the only place that says so.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cordon_link::frame::{self, FrameError};
use cordon_link::token::EnrolToken;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::limits;
use cordon_model::wire::{EnrolAnswer, EnrolRequest, Enrolled};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long enrolment waits for each answer. A hub answers in milliseconds; a slow site link in seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why the agent has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written there.
    #[error(
        "{path} is damaged ({why}): enrol this machine again with a new token",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// No address of the token answered.
    #[error("no hub at {tried}: {why}")]
    NoHub {
        /// The addresses.
        tried: String,
        /// What the last said.
        why: String,
    },
    /// The hub said no.
    #[error("the hub refused: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// A key or request can't be made.
    #[error("this machine's keys can't be made: {0}")]
    Keys(String),
    /// The hub's answer is not what it should be.
    #[error("the hub's answer can't be used: {0}")]
    Answer(String),
}

/// What the identity file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    enrolled: Enrolled,
    #[serde(with = "serde_bytes")]
    link_key: Vec<u8>,
    #[serde(with = "serde_bytes")]
    receipt_key: [u8; 32],
}

/// An enrolled machine's identity.
pub struct Identity {
    enrolled: Enrolled,
    command_key: VerifyingKey,
    link_key: Vec<u8>,
    receipt_key: SigningKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the keys.
        f.debug_struct("Identity")
            .field("machine", &self.enrolled.machine)
            .field("organisation", &self.enrolled.organisation)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity kept in `directory`; `None` if this machine was never enrolled.
    ///
    /// # Errors
    /// If the file can't be read, or is damaged.
    pub fn load(directory: &Path) -> Result<Option<Self>, IdentityError> {
        let path = file_in(directory);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        ciborium::from_reader(bytes.as_slice())
            .map_err(|error| error.to_string())
            .and_then(Self::from_stored)
            .map(Some)
            .map_err(|why| IdentityError::Damaged { path, why })
    }

    /// Enrols this machine, which calls itself `host`, with `token`, and keeps the identity in
    /// `directory`.
    ///
    /// # Errors
    /// See [`IdentityError`]. A token that reached the hub is used up, whatever happened after.
    pub async fn enrol(
        directory: &Path,
        token: &EnrolToken,
        host: &str,
    ) -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| IdentityError::Keys(error.to_string()))?;
        let request = rcgen::CertificateParams::default()
            .serialize_request(&key)
            .map_err(|error| IdentityError::Keys(error.to_string()))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| IdentityError::Keys(error.to_string()))?;
        let receipt_key = SigningKey::from_bytes(&seed);
        let request = EnrolRequest {
            token: token.secret_text(),
            host: host.to_owned(),
            certificate_request: request.der().to_vec(),
            receipt_key: receipt_key.verifying_key().to_bytes(),
        };
        let enrolled = match ask(token, &request).await? {
            EnrolAnswer::Enrolled(enrolled) => *enrolled,
            EnrolAnswer::Refused { why } => return Err(IdentityError::Refused { why }),
        };
        if <[u8; 32]>::from(Sha256::digest(&enrolled.authority)) != token.authority_sha256 {
            return Err(IdentityError::Answer("it names another authority than the token".into()));
        }
        let stored = Stored { enrolled, link_key: key.serialize_der(), receipt_key: seed };
        write_file(&file_in(directory), &stored)?;
        Self::from_stored(stored).map_err(IdentityError::Answer)
    }

    fn from_stored(stored: Stored) -> Result<Self, String> {
        let command_key = VerifyingKey::from_bytes(&stored.enrolled.command_key)
            .map_err(|_| "the command key is no Ed25519 key".to_owned())?;
        if stored.enrolled.link.is_empty() || stored.enrolled.certificates.is_empty() {
            return Err("it names no link or no certificate".to_owned());
        }
        Ok(Self {
            command_key,
            receipt_key: SigningKey::from_bytes(&stored.receipt_key),
            link_key: stored.link_key,
            enrolled: stored.enrolled,
        })
    }

    /// Which machine this is.
    #[must_use]
    pub fn machine(&self) -> MachineId {
        self.enrolled.machine
    }

    /// Whose it is.
    #[must_use]
    pub fn organisation(&self) -> &OdsCode {
        &self.enrolled.organisation
    }

    /// The only key whose orders are obeyed.
    #[must_use]
    pub fn command_key(&self) -> &VerifyingKey {
        &self.command_key
    }

    /// What receipts are signed with.
    #[must_use]
    pub fn receipt_key(&self) -> &SigningKey {
        &self.receipt_key
    }

    /// Where the hub's link is, first choice first.
    #[must_use]
    pub fn link_addresses(&self) -> &[SocketAddr] {
        &self.enrolled.link
    }

    /// The same machine, whose hub is now at `address`: as whoever starts the agent says, for the hub's
    /// certificate still has to prove it. Nothing is written.
    #[must_use]
    pub fn linked_at(mut self, address: SocketAddr) -> Self {
        self.enrolled.link = vec![address];
        self
    }

    /// Opens the link: TLS 1.3, both sides by certificate, the hub under the pinned authority.
    ///
    /// # Errors
    /// [`IdentityError::NoHub`] if none answers, or none is genuine.
    pub async fn connect(
        &self,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, IdentityError> {
        let config = self.link_config().map_err(IdentityError::Answer)?;
        let name = ServerName::try_from(self.enrolled.hub_name.clone())
            .map_err(|error| IdentityError::Answer(error.to_string()))?;
        connect_any(&self.enrolled.link, config, name).await
    }

    fn link_config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.enrolled.authority.clone()))
            .map_err(|error| error.to_string())?;
        let chain = self
            .enrolled
            .certificates
            .iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.link_key.clone()));
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())
    }
}

/// Sends the request to the first address of the token that answers as the pinned authority's hub.
async fn ask(token: &EnrolToken, request: &EnrolRequest) -> Result<EnrolAnswer, IdentityError> {
    let verifier =
        Arc::new(PinnedAuthority { sha256: token.authority_sha256, provider: provider() });
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| IdentityError::Answer(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from("hub.cordon.internal")
        .map_err(|error| IdentityError::Answer(error.to_string()))?;
    let mut stream = connect_any(&token.addresses, config, name).await?;
    let exchange = async {
        frame::write(&mut stream, request, limits::ENROL_MESSAGE_BYTES).await?;
        frame::read(&mut stream, limits::ENROL_MESSAGE_BYTES).await?.ok_or(FrameError::Torn)
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer.map_err(|error| IdentityError::Answer(error.to_string())),
        Err(_) => Err(IdentityError::Answer("it did not come in time".into())),
    }
}

async fn connect_any(
    addresses: &[SocketAddr],
    config: ClientConfig,
    name: ServerName<'static>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, IdentityError> {
    let connector = TlsConnector::from(Arc::new(config));
    let mut why = "it has no address".to_owned();
    for address in addresses {
        let attempt = async {
            let stream = TcpStream::connect(address).await?;
            // A finding and an order are each one small packet; waiting for more would cost 40 ms.
            stream.set_nodelay(true)?;
            connector.connect(name.clone(), stream).await
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = "no answer in time".into(),
        }
    }
    let tried: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    Err(IdentityError::NoHub { tried: tried.join(", "), why })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Accepts a server whose certificate was issued, for a server, by the authority with this hash. The name
/// is not checked: before enrolment the machine knows its hub by the authority alone.
#[derive(Debug)]
struct PinnedAuthority {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates
            .iter()
            .find(|der| <[u8; 32]>::from(Sha256::digest(der.as_ref())) == self.sha256)
            .ok_or_else(|| {
                rustls::Error::General(
                    "the server is not the hub that the token was made by".into(),
                )
            })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            &[],
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is the only version spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn file_in(directory: &Path) -> PathBuf {
    directory.join("identity.cbor")
}

fn write_file(path: &Path, stored: &Stored) -> Result<(), IdentityError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(stored, &mut bytes)
        .map_err(|error| IdentityError::Answer(error.to_string()))?;
    let written = cordon_durable::write_whole(path, &bytes);
    written.map_err(|error| IdentityError::File { path: path.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_was_never_enrolled_has_no_identity() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Identity::load(directory.path()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_identity_is_said_to_be_damaged() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(file_in(directory.path()), b"nonsense").unwrap();
        let error = Identity::load(directory.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    }
}
