//! The organisation's certificate authority: who may speak on a link, proven by TLS.
//!
//! The one idea: a certificate says **which machine** (an id that the hub gave) and nothing else; whether
//! that machine may still speak is looked up in the store at every connection, so that striking one off
//! needs no revocation list. The authority's key is made at the first start and never leaves the hub's
//! directory; the hub's own certificate lives in memory only and is made anew before it grows old.
//!
//! TLS 1.3 only, sessions are never resumed (a struck-off machine must not come back by a ticket), and
//! the provider (ring) is passed explicitly.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::time::UtcNanos;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

/// The name in the hub's certificate. It is no name of DNS: an agent knows the hub's addresses, and the
/// authority is its organisation's alone.
pub const HUB_NAME: &str = "hub.cordon.internal";

/// How long the authority lasts: 10 years, longer than a machine is kept. All must enrol anew at its end.
const AUTHORITY_DAYS: u64 = 3_653;

/// How long a machine's certificate lasts: 398 days, the customary longest for TLS. The store is asked at
/// every connection whether the machine is still known, so the length bounds a stolen key's use only
/// where nobody noticed.
pub const MACHINE_DAYS: u64 = 398;

/// How long the hub's own certificate lasts; a new one is made at half of that.
const HUB_DAYS: u64 = 14;

/// A machine's clock may be behind by this much and still take a certificate made now: 1 hour.
const CLOCKS_BEHIND: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its files are not what was written there.
    #[error(
        "the authority in {path} is damaged ({why}): restore it from a backup, or remove the directory \
         and enrol every machine again",
        path = path.display()
    )]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate request that is not taken.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// Making a key or certificate failed.
    #[error("a certificate can't be made: {0}")]
    Making(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Making(error.to_string())
    }
}

impl From<rustls::Error> for AuthorityError {
    fn from(error: rustls::Error) -> Self {
        Self::Making(error.to_string())
    }
}

/// A certificate made for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate (DER), and the authority's after it.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Its serial number.
    pub serial: Vec<u8>,
}

/// The authority of one organisation.
#[derive(Debug)]
pub struct Authority {
    organisation: OdsCode,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    hub: Arc<HubCertificate>,
}

impl Authority {
    /// Opens the authority in `directory`, or makes one (with a warning in the log: it happens once).
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn open(directory: &Path, organisation: &OdsCode) -> Result<Self, AuthorityError> {
        let (key_path, certificate_path) =
            (directory.join("authority.key"), directory.join("authority.der"));
        let damaged = |why: String| AuthorityError::Damaged { path: directory.to_owned(), why };
        let (key, certificate) = match (read(&key_path)?, read(&certificate_path)?) {
            (Some(key), Some(certificate)) => {
                let key = KeyPair::try_from(key).map_err(|error| damaged(error.to_string()))?;
                (key, CertificateDer::from(certificate))
            }
            (_, None) => {
                // A key without a certificate is what a crash between the two leaves: nobody has seen
                // that authority yet, so it is made anew.
                tracing::info!(%organisation, "making the organisation's certificate authority");
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                let certificate = authority_params(organisation)?.self_signed(&key)?.der().clone();
                make_directory(directory)?;
                write(&key_path, key.serialized_der())?;
                write(&certificate_path, &certificate)?;
                (key, certificate)
            }
            (None, Some(_)) => return Err(damaged("authority.key is missing".into())),
        };
        // What signs must be what the certificate names, or every machine would be refused later.
        let named = public_key_of(&certificate).map_err(damaged)?;
        if named != key.public_key_raw() {
            return Err(damaged("authority.key and authority.der do not belong together".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| damaged(error.to_string()))?;
        let hub = Arc::new(HubCertificate::make(&issuer, &certificate, UtcNanos::now())?);
        Ok(Self { organisation: organisation.clone(), issuer, certificate, hub })
    }

    /// The authority's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the authority's certificate: what enrolment tokens pin.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Makes a certificate for `machine` from its request. Of the request only the key is taken, after
    /// its proof of possession was checked; every name in it is ignored (law 11).
    ///
    /// # Errors
    /// [`AuthorityError::Request`] if it is no request, not signed by its own key, or not P-256.
    pub fn issue(
        &self,
        machine: MachineId,
        request: &[u8],
        now: UtcNanos,
    ) -> Result<Issued, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
                .map_err(|error| AuthorityError::Request(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::Request("its key is not of the curve P-256".into()));
        }
        let mut params = leaf_params(&machine.to_string(), now, MACHINE_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = machine_uri(&self.organisation, machine);
        let uri = uri.try_into().map_err(|_| AuthorityError::Making("its name".into()))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let certificate = params.signed_by(&request.public_key, &self.issuer)?.der().to_vec();
        Ok(Issued {
            fingerprint: Sha256::digest(&certificate).into(),
            chain: vec![certificate, self.certificate.to_vec()],
            serial,
        })
    }

    /// Which machine a certificate that the TLS stack accepted is of; `None` if it names none of this
    /// organisation.
    #[must_use]
    pub fn machine_of(&self, certificate: &[u8]) -> Option<MachineId> {
        use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let prefix = format!("urn:cordon:{}:machine:", self.organisation);
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(&prefix)?.parse().ok(),
            _ => None,
        })
    }

    /// How links are taken: TLS 1.3, the hub's certificate, and a client certificate of this authority
    /// required.
    ///
    /// # Errors
    /// If the TLS library refuses.
    pub fn link_config(&self) -> Result<ServerConfig, AuthorityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| AuthorityError::Making(error.to_string()))?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.hub.clone());
        Ok(without_resumption(config))
    }

    /// How enrolments are taken: the same without a client certificate.
    ///
    /// # Errors
    /// If the TLS library refuses.
    pub fn enrol_config(&self) -> Result<ServerConfig, AuthorityError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.hub.clone());
        Ok(without_resumption(config))
    }

    /// Makes the hub's own certificate anew if half its time is over. Called now and then.
    ///
    /// # Errors
    /// If it can't be made; the old one stays.
    pub fn renew_hub_certificate(&self, now: UtcNanos) -> Result<(), AuthorityError> {
        if self.hub.is_fresh(now) {
            return Ok(());
        }
        tracing::info!("renewing the hub's certificate");
        self.hub.replace(HubCertificate::make(&self.issuer, &self.certificate, now)?);
        Ok(())
    }
}

/// The name of a machine in its certificate.
fn machine_uri(organisation: &OdsCode, machine: MachineId) -> String {
    format!("urn:cordon:{organisation}:machine:{machine}")
}

/// The one provider.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The hub's own certificate, changed while connections go on.
#[derive(Debug)]
struct HubCertificate {
    present: RwLock<(Arc<CertifiedKey>, UtcNanos)>,
}

impl HubCertificate {
    fn make(
        issuer: &Issuer<'static, KeyPair>,
        authority: &CertificateDer<'static>,
        now: UtcNanos,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf_params(HUB_NAME, now, HUB_DAYS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let name = HUB_NAME.try_into().map_err(|_| AuthorityError::Making(HUB_NAME.into()))?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        let certificate = params.signed_by(&key, issuer)?.der().clone();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        // The authority goes along in the chain: an enrolling machine knows only its hash.
        let chain = vec![certificate, authority.clone()];
        let key = CertifiedKey::from_der(chain, private, &provider())?;
        Ok(Self { present: RwLock::new((Arc::new(key), now.plus(DAY * (HUB_DAYS as u32 / 2)))) })
    }

    fn is_fresh(&self, now: UtcNanos) -> bool {
        self.present.read().is_ok_and(|present| now < present.1)
    }

    fn replace(&self, by: Self) {
        let by = by.present.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        *self.present.write().unwrap_or_else(std::sync::PoisonError::into_inner) = by;
    }
}

impl ResolvesServerCert for HubCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.present.read().ok().map(|present| present.0.clone())
    }
}

fn authority_params(organisation: &OdsCode) -> Result<CertificateParams, AuthorityError> {
    let mut params = leaf_params(
        &format!("Cordon authority of {organisation}"),
        UtcNanos::now(),
        AUTHORITY_DAYS,
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::OrganizationName, organisation.as_str());
    Ok(params)
}

fn leaf_params(name: &str, now: UtcNanos, days: u64) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| AuthorityError::Making(error.to_string()))?;
    // RFC 5280, 4.1.2.2: positive, and never with a leading zero byte to argue about.
    serial[0] = serial[0] & 0x7f | 0x40;
    let since_epoch = Duration::from_nanos(u64::try_from(now.unix_nanos()).unwrap_or(0));
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch.saturating_sub(CLOCKS_BEHIND);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch + Duration::from_secs(days * 86_400);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn public_key_of(certificate: &[u8]) -> Result<Vec<u8>, String> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.public_key().subject_public_key.data.to_vec())
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, AuthorityError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::File { path: path.to_owned(), source }),
    }
}

fn make_directory(path: &Path) -> Result<(), AuthorityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let written = cordon_durable::write_whole(path, bytes);
    written.map_err(|error| AuthorityError::File { path: path.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn organisation() -> OdsCode {
        "RJ1".parse().unwrap()
    }

    fn machine() -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [7; 10])
    }

    fn request(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::new(vec!["hub.cordon.internal".into()])
            .unwrap()
            .serialize_request(&key)
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path(), &organisation()).unwrap();
        let again = Authority::open(directory.path(), &organisation()).unwrap();
        assert_eq!(first.sha256(), again.sha256());
        let mode = std::fs::metadata(directory.path().join("authority.key")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_names_the_machine_that_the_hub_chose_whatever_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), &organisation()).unwrap();
        let issued =
            authority.issue(machine(), &request(&PKCS_ECDSA_P256_SHA256), UtcNanos::now()).unwrap();
        assert_eq!(authority.machine_of(&issued.chain[0]), Some(machine()));
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1, "no name of the request is taken over");
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_certificate_of_another_organisation_names_no_machine_here() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let here = Authority::open(here.path(), &organisation()).unwrap();
        let there = Authority::open(there.path(), &"RX9".parse().unwrap()).unwrap();
        let issued =
            there.issue(machine(), &request(&PKCS_ECDSA_P256_SHA256), UtcNanos::now()).unwrap();
        assert_eq!(here.machine_of(&issued.chain[0]), None);
    }

    #[test]
    fn other_keys_than_p256_and_damaged_requests_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), &organisation()).unwrap();
        let other = request(&rcgen::PKCS_ED25519);
        assert!(matches!(
            authority.issue(machine(), &other, UtcNanos::now()),
            Err(AuthorityError::Request(_))
        ));
        let mut forged = request(&PKCS_ECDSA_P256_SHA256);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(authority.issue(machine(), &forged, UtcNanos::now()).is_err());
        assert!(authority.issue(machine(), b"nonsense", UtcNanos::now()).is_err());
    }

    #[test]
    fn key_and_certificate_that_do_not_belong_together_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open(one.path(), &organisation()).unwrap();
        Authority::open(two.path(), &organisation()).unwrap();
        std::fs::copy(one.path().join("authority.key"), two.path().join("authority.key")).unwrap();
        assert!(matches!(
            Authority::open(two.path(), &organisation()),
            Err(AuthorityError::Damaged { .. })
        ));
    }

    #[test]
    fn the_hubs_certificate_is_renewed_at_half_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), &organisation()).unwrap();
        let serial =
            |authority: &Authority| authority.hub.present.read().unwrap().0.cert[0].to_vec();
        let first = serial(&authority);
        authority.renew_hub_certificate(UtcNanos::now()).unwrap();
        assert_eq!(serial(&authority), first);
        authority.renew_hub_certificate(UtcNanos::now().plus(DAY * 8)).unwrap();
        assert_ne!(serial(&authority), first);
    }
}
