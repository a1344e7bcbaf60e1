//! [`Machines`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::time::UtcNanos;
use sqlx::sqlite::SqliteRow;

use super::{
    Columns as _, Doing as _, SqliteState, column_of, count, decode, paged_readable, unsigned,
};
use crate::key::{Key, Listed, Page};
use crate::machines::{EnrolmentRefused, EnrolmentToken, Machine, Machines, NewMachine};
use crate::state::StoreError;

#[async_trait]
impl Machines for SqliteState {
    async fn enrolment_token(
        &self,
        key: &Key<[u8; 32]>,
    ) -> Result<Option<EnrolmentToken>, StoreError> {
        let row = sqlx::query(
            "SELECT document FROM enrolment_tokens WHERE organisation = $1 AND hash = $2",
        )
        .bind(key.organisation.as_str())
        .bind(&key.id[..])
        .fetch_optional(&self.readers)
        .await
        .doing("read an enrolment token")?;
        row.map(|row| row.document("document")).transpose()
    }

    async fn enrol(
        &self,
        token: &Key<[u8; 32]>,
        machine: &NewMachine,
        now: UtcNanos,
    ) -> Result<Result<(), EnrolmentRefused>, StoreError> {
        let mut tx = self.begin().await?;
        let found = sqlx::query(
            "SELECT expires_at, used_by IS NOT NULL AS is_used FROM enrolment_tokens
             WHERE organisation = $1 AND hash = $2",
        )
        .bind(token.organisation.as_str())
        .bind(&token.id[..])
        .fetch_optional(&mut *tx)
        .await
        .doing("read an enrolment token")?;
        let Some(found) = found else { return Ok(Err(EnrolmentRefused::Unknown)) };
        if found.truth("is_used")? {
            return Ok(Err(EnrolmentRefused::Used));
        }
        if found.time("expires_at")? <= now {
            return Ok(Err(EnrolmentRefused::Expired));
        }
        sqlx::query(
            "UPDATE enrolment_tokens SET used_by = $3 WHERE organisation = $1 AND hash = $2",
        )
        .bind(token.organisation.as_str())
        .bind(&token.id[..])
        .bind(machine.id.to_string())
        .execute(&mut *tx)
        .await
        .doing("use an enrolment token")?;
        sqlx::query(
            "INSERT INTO machines
                (organisation, machine, host, certificate, serial, receipt_key, enrolled_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(token.organisation.as_str())
        .bind(machine.id.to_string())
        .bind(&machine.host)
        .bind(&machine.certificate.fingerprint[..])
        .bind(&machine.certificate.serial[..])
        .bind(&machine.receipt_key[..])
        .bind(now.unix_nanos())
        .execute(&mut *tx)
        .await
        .doing("enrol a machine")?;
        tx.commit().await.doing("enrol a machine")?;
        Ok(Ok(()))
    }

    async fn machine(&self, key: &Key<MachineId>) -> Result<Option<Machine>, StoreError> {
        let row = sqlx::query("SELECT * FROM machines WHERE organisation = $1 AND machine = $2")
            .bind(key.organisation.as_str())
            .bind(key.id.to_string())
            .fetch_optional(&self.readers)
            .await
            .doing("read a machine")?;
        row.as_ref().map(machine).transpose()
    }

    async fn machine_with_certificate(
        &self,
        fingerprint: &Key<[u8; 32]>,
    ) -> Result<Option<Machine>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM machines WHERE organisation = $1 AND certificate = $2")
                .bind(fingerprint.organisation.as_str())
                .bind(&fingerprint.id[..])
                .fetch_optional(&self.readers)
                .await
                .doing("find a certificate's machine")?;
        row.as_ref().map(machine).transpose()
    }

    async fn machines(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<Machine>, StoreError> {
        let total = "SELECT COUNT(*) FROM machines WHERE organisation = $1";
        let total = count(&self.readers, total, organisation).await?;
        let rows = sqlx::query(
            "SELECT * FROM machines WHERE organisation = $1 AND machine > $2
             ORDER BY machine LIMIT $3",
        )
        .bind(organisation.as_str())
        .bind(page.after.as_ref().map_or("", |cursor| &cursor.0))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list machines")?;
        paged_readable(&rows, page, total, machine, |row| row.text("machine"))
    }
}

fn machine(row: &SqliteRow) -> Result<Machine, StoreError> {
    let optional =
        |column: &'static str| -> Result<Option<Vec<u8>>, StoreError> { column_of(row, column) };
    Ok(Machine {
        id: row.id("machine")?,
        host: row.text("host")?,
        certificate: row.hash("certificate")?,
        serial: row.bytes("serial")?,
        receipt_key: row.hash("receipt_key")?,
        enrolled_at: row.time("enrolled_at")?,
        // It says so again within seconds; a machine that is lost with it would be the greater harm.
        seen: optional("seen").ok().flatten().and_then(|bytes| decode("seen", &bytes).ok()),
        // The signer has it too: the machine is not lost with it.
        assignment: match optional("assignment")
            .and_then(|bytes| bytes.map(|bytes| decode("assignment", &bytes)).transpose())
        {
            Err(StoreError::Unreadable { reason, .. }) => Err(reason),
            read => Ok(read?),
        },
        reported: unsigned(row.number("reported")?),
    })
}
