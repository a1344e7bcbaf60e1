//! [`State`] in SQLite: all changes of a step in one transaction.

use async_trait::async_trait;
use cordon_model::ids::{FindingId, IncidentId, MachineId, OdsCode};
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use sqlx::sqlite::SqliteConnection;

use super::findings::take;
use super::incidents::{put_approval, put_entry, put_incident};
use super::orders::{put_measure, put_order, put_order_state, put_permit};
use super::people::put_person;
use super::rows::put_row;
use super::statements::put_statement;
use super::{Columns as _, Doing as _, SqliteState, encode, found, signed, unsigned};
use crate::change::Change;
use crate::key::Key;
use crate::machines::{EnrolmentToken, NewCertificate, Seen};
use crate::organisations::SETTING_BYTES;
use crate::state::{Counts, State, StoreError};

#[async_trait]
impl State for SqliteState {
    async fn commit(&self, organisation: &OdsCode, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for change in changes {
            make(&mut tx, organisation, change).await?;
        }
        tx.commit().await.doing("make changes")
    }

    async fn counts(
        &self,
        organisation: &OdsCode,
        heard_since: UtcNanos,
    ) -> Result<Counts, StoreError> {
        // One statement, so that all counts are of one moment.
        let row = sqlx::query(
            "SELECT
                (SELECT COUNT(*) FROM machines WHERE organisation = $1) AS machines,
                (SELECT COUNT(*) FROM machines WHERE organisation = $1
                    AND seen_at >= $2) AS machines_heard,
                (SELECT COUNT(*) FROM machines WHERE organisation = $1
                    AND seen_at IS NULL) AS machines_never_heard,
                (SELECT COUNT(*) FROM machines WHERE organisation = $1
                    AND assignment IS NOT NULL) AS machines_assigned,
                (SELECT COUNT(DISTINCT machine) FROM measures WHERE organisation = $1
                    AND NOT is_over AND is_acting) AS machines_contained,
                (SELECT COUNT(*) FROM incidents WHERE organisation = $1) AS incidents,
                (SELECT COUNT(*) FROM incidents WHERE organisation = $1
                    AND state IN ('new', 'owned')) AS incidents_open,
                (SELECT COUNT(*) FROM incidents WHERE organisation = $1
                    AND state = 'new') AS incidents_unowned,
                (SELECT COUNT(*) FROM findings WHERE organisation = $1) AS findings,
                (SELECT COUNT(*) FROM findings WHERE organisation = $1
                    AND incident IS NULL) AS findings_ungrouped,
                (SELECT COUNT(*) FROM approvals WHERE organisation = $1
                    AND is_open) AS approvals_open,
                (SELECT COUNT(*) FROM orders WHERE organisation = $1
                    AND is_waiting) AS orders_waiting",
        )
        .bind(organisation.as_str())
        .bind(heard_since.unix_nanos())
        .fetch_one(&self.readers)
        .await
        .doing("count")?;
        let number = |column| Ok::<_, StoreError>(unsigned(row.number(column)?));
        Ok(Counts {
            machines: number("machines")?,
            machines_heard: number("machines_heard")?,
            machines_never_heard: number("machines_never_heard")?,
            machines_assigned: number("machines_assigned")?,
            machines_contained: number("machines_contained")?,
            incidents: number("incidents")?,
            incidents_open: number("incidents_open")?,
            incidents_unowned: number("incidents_unowned")?,
            findings: number("findings")?,
            findings_ungrouped: number("findings_ungrouped")?,
            approvals_open: number("approvals_open")?,
            orders_waiting: number("orders_waiting")?,
        })
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn make(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    change: &Change,
) -> Result<(), StoreError> {
    match change {
        Change::Incident(incident) => put_incident(tx, organisation, incident).await,
        Change::Reports { machine, received, reports } => {
            let machine = Key::new(organisation, *machine);
            take(tx, &machine, *received, reports).await.map(|_| ())
        }
        Change::Row { kind, id, document } => {
            put_row(tx, organisation, kind, id, document.as_deref()).await
        }
        Change::Group { machine, finding, incident } => {
            group(tx, organisation, *machine, *finding, *incident).await
        }
        Change::Timeline { incident, record } => {
            put_entry(tx, organisation, *incident, record).await
        }
        Change::Approval(approval) => put_approval(tx, organisation, approval).await,
        Change::Order(order) => put_order(tx, organisation, order).await,
        Change::OrderState { order, state } => {
            put_order_state(tx, organisation, *order, state).await
        }
        Change::Permit(permit) => put_permit(tx, organisation, permit).await,
        Change::Measure(measure) => put_measure(tx, organisation, measure).await,
        Change::Assignment { machine, revision, envelope } => {
            assign(tx, organisation, *machine, *revision, envelope).await
        }
        Change::Policy { revision, envelope } => {
            put_policy(tx, organisation, *revision, envelope).await
        }
        Change::Certificate { machine, certificate } => {
            put_certificate(tx, organisation, *machine, certificate).await
        }
        Change::Seen { machine, seen } => put_seen(tx, organisation, *machine, seen).await,
        Change::EnrolmentToken(token) => put_enrolment_token(tx, organisation, token).await,
        Change::Statement(statement) => put_statement(tx, organisation, statement).await,
        Change::Person(person) => put_person(tx, organisation, person).await,
        Change::Setting { name, value } => {
            put_setting(tx, organisation, name, value.as_deref()).await
        }
    }
}

async fn group(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    machine: MachineId,
    finding: FindingId,
    incident: IncidentId,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE findings SET incident = $4
         WHERE organisation = $1 AND machine = $2 AND finding = $3",
    )
    .bind(organisation.as_str())
    .bind(machine.to_string())
    .bind(finding.to_string())
    .bind(incident.to_string())
    .execute(tx)
    .await
    .doing("group a finding")?;
    found(done.rows_affected(), "finding")
}

async fn assign(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    machine: MachineId,
    revision: u64,
    envelope: &Envelope,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE machines SET assignment_revision = $3, assignment = $4
         WHERE organisation = $1 AND machine = $2 AND assignment_revision <= $3",
    )
    .bind(organisation.as_str())
    .bind(machine.to_string())
    .bind(signed("revision", revision)?)
    .bind(encode("assignment", envelope)?)
    .execute(tx)
    .await
    .doing("assign a machine")?;
    Ok(())
}

async fn put_policy(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    revision: u64,
    envelope: &Envelope,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO policies (organisation, revision, envelope) VALUES ($1, $2, $3)
         ON CONFLICT (organisation, revision) DO NOTHING",
    )
    .bind(organisation.as_str())
    .bind(signed("revision", revision)?)
    .bind(encode("policy", envelope)?)
    .execute(tx)
    .await
    .doing("keep a policy")?;
    Ok(())
}

async fn put_certificate(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    machine: MachineId,
    certificate: &NewCertificate,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE machines SET certificate = $3, serial = $4
         WHERE organisation = $1 AND machine = $2",
    )
    .bind(organisation.as_str())
    .bind(machine.to_string())
    .bind(&certificate.fingerprint[..])
    .bind(&certificate.serial[..])
    .execute(tx)
    .await
    .doing("renew a certificate")?;
    found(done.rows_affected(), "machine")
}

async fn put_seen(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    machine: MachineId,
    seen: &Seen,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE machines SET seen_at = $3, seen = $4 WHERE organisation = $1 AND machine = $2",
    )
    .bind(organisation.as_str())
    .bind(machine.to_string())
    .bind(seen.at.unix_nanos())
    .bind(encode("status", seen)?)
    .execute(tx)
    .await
    .doing("note a machine's status")?;
    found(done.rows_affected(), "machine")
}

async fn put_enrolment_token(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    token: &EnrolmentToken,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO enrolment_tokens (organisation, hash, document, expires_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(organisation.as_str())
    .bind(&token.hash[..])
    .bind(encode("enrolment token", token)?)
    .bind(token.expires_at.unix_nanos())
    .execute(tx)
    .await
    .doing("keep an enrolment token")?;
    Ok(())
}

async fn put_setting(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    name: &str,
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    let query = match value {
        None => sqlx::query("DELETE FROM settings WHERE organisation = $1 AND name = $2")
            .bind(organisation.as_str())
            .bind(name),
        Some(value) if value.len() > SETTING_BYTES => {
            return Err(StoreError::TooLarge {
                what: "setting",
                bytes: value.len(),
                limit: SETTING_BYTES,
            });
        }
        Some(value) => sqlx::query(
            "INSERT INTO settings (organisation, name, value) VALUES ($1, $2, $3)
             ON CONFLICT (organisation, name) DO UPDATE SET value = excluded.value",
        )
        .bind(organisation.as_str())
        .bind(name)
        .bind(value),
    };
    query.execute(tx).await.doing("keep a setting")?;
    Ok(())
}
