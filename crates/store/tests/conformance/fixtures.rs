//! What the conformance tests are made of: organisations, machines, findings, incidents with numbers.

#![allow(unused_imports, missing_docs, reason = "each test file uses its part")]

use std::future::Future;
use std::sync::Arc;

use cordon_model::action::Action;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, RuleRef};
use cordon_model::gate::{Said, Statement};
use cordon_model::ids::{
    ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OdsCode, OrderId, PermitId,
};
use cordon_model::incident::{Incident, IncidentState};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::signed::{Document, Envelope, Verified, seal};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_store::{
    Change, Counts, EnrolmentRefused, EnrolmentToken, FindingFilter, IncidentFilter, Key, Machine,
    NewCertificate, NewMachine, OrderState, Organisation, Page, Person, Role, Seen, State,
    StoreError, StoredApproval, StoredMeasure, StoredOrder, StoredPermit, TakenReport, TakenWhat,
    secret_hash,
};
use ed25519_dalek::SigningKey;

type Store = Arc<dyn State>;

use super::*;

pub fn ours() -> OdsCode {
    "RJ1".parse().unwrap()
}

pub fn theirs() -> OdsCode {
    "RX9".parse().unwrap()
}

pub fn at(second: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos((1_700_000_000 + second) * 1_000_000_000)
}

/// A number as the randomness of an id.
pub fn bytes(number: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub fn machine_id(number: u64) -> MachineId {
    MachineId::new(at(number as i64), bytes(number))
}

pub fn incident_id(number: u64) -> IncidentId {
    IncidentId::new(at(number as i64), bytes(number))
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Envelopes are opaque to the store; any signed document will do.
pub fn envelope<D: Document>(document: &D) -> Envelope {
    seal(document, &key()).unwrap()
}

pub fn finding(number: u64, level: Level) -> Finding {
    let hash = secret_hash(&number.to_be_bytes());
    Finding {
        id: FindingId::of("rule", "host", &hash),
        rule: RuleRef { id: "rule".into(), title: "A rule".into(), level, tags: vec![] },
        host: "host".into(),
        time: at(number as i64),
        boot_time: Some(BootNanos(number)),
        process: None,
        matched: vec![],
        raw: RawEvent { json: format!("{{\"n\":{number}}}"), is_cut: false },
        raw_sha256: hash,
    }
}

pub fn report(number: u64, level: Level) -> TakenReport {
    TakenReport { number, what: TakenWhat::Finding(Box::new(finding(number, level))) }
}

pub fn receipt(machine: MachineId, measure: MeasureId, state: MeasureState) -> Verified<Receipt> {
    let receipt = Receipt {
        machine,
        measure,
        origin: Origin::LeaseEnd(measure),
        action: Action::Isolate(Isolation::Segment),
        state,
        proof: None,
        lease_ends: None,
        boot: BootId("boot".into()),
        at_boot: BootNanos(1),
        at: at(1),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    };
    envelope(&receipt).open(&key().verifying_key()).unwrap()
}

pub fn incident(number: u64, state: IncidentState) -> Incident {
    Incident {
        id: incident_id(number),
        organisation: ours(),
        title: format!("incident {number}"),
        state,
        owner: (state == IncidentState::Owned).then(|| "ada".into()),
        level: Level::High,
        risk: 10,
        first: at(0),
        last: at(1),
        machines: vec![machine_id(1)],
        findings: vec![],
        finding_count: 0,
    }
}

pub fn record(detail: &str) -> Record {
    Record {
        at: at(0),
        organisation: ours(),
        actor: Actor::Hub,
        deed: Deed::IncidentChanged,
        machine: None,
        incident: None,
        detail: detail.into(),
    }
}

pub fn person(name: &str) -> Person {
    Person {
        name: name.into(),
        role: Role::Responder,
        is_clinical: true,
        is_active: true,
        password: Some("$argon2id$…".into()),
        created_at: at(0),
    }
}

pub fn token(number: u64, expires_at: UtcNanos) -> EnrolmentToken {
    EnrolmentToken {
        hash: secret_hash(&number.to_be_bytes()),
        made_by: "ada".into(),
        made_at: at(0),
        expires_at,
        note: b"tier 2".to_vec(),
    }
}

pub fn new_machine(number: u64) -> NewMachine {
    NewMachine {
        id: machine_id(number),
        host: format!("host {number}"),
        certificate: NewCertificate {
            fingerprint: secret_hash(&[b'c', number as u8]),
            serial: number.to_be_bytes().to_vec(),
        },
        receipt_key: [number as u8; 32],
    }
}

pub async fn known(store: &Store, organisation: &OdsCode) {
    let created_at = at(0);
    let name = format!("Trust {organisation}");
    let code = organisation.clone();
    store.put_organisation(&Organisation { code, name, created_at }).await.unwrap();
}

pub async fn enrolled(store: &Store, organisation: &OdsCode, number: u64) -> Key<MachineId> {
    known(store, organisation).await;
    let token = token(number, at(1000));
    let hash = Key::new(organisation, token.hash);
    store.commit(organisation, &[Change::EnrolmentToken(token)]).await.unwrap();
    store.enrol(&hash, &new_machine(number), at(0)).await.unwrap().unwrap();
    Key::new(organisation, machine_id(number))
}

pub async fn one(store: &Store, key: &Key<MachineId>) -> Machine {
    store.machine(key).await.unwrap().unwrap()
}

/// A person's word on a machine's return.
pub fn statement(machine: MachineId, second: i64, reason: &str) -> Statement {
    Statement {
        machine,
        at: at(second),
        by: Actor::Person("ada".into()),
        findings: 0,
        said: Said::Patched { reason: reason.into() },
    }
}
