//! [`Statements`] in SQLite.

use async_trait::async_trait;
use cordon_model::gate::Statement;
use cordon_model::ids::{MachineId, OdsCode};
use sqlx::sqlite::SqliteConnection;

use super::{Columns as _, Doing as _, SqliteState, count_of, encode, found, paged};
use crate::key::{Key, Listed, Page};
use crate::state::StoreError;
use crate::statements::Statements;

#[async_trait]
impl Statements for SqliteState {
    async fn statements(
        &self,
        machine: &Key<MachineId>,
        page: &Page,
    ) -> Result<Listed<Statement>, StoreError> {
        let total = "SELECT COUNT(*) FROM statements WHERE organisation = $1 AND machine = $2";
        let total = count_of(&self.readers, total, machine).await?;
        let before = match &page.after {
            Some(cursor) => cursor.0.parse().map_err(|_| StoreError::Cursor)?,
            None => i64::MAX,
        };
        let rows = sqlx::query(
            "SELECT number, document FROM statements
             WHERE organisation = $1 AND machine = $2 AND number < $3
             ORDER BY number DESC LIMIT $4",
        )
        .bind(machine.organisation.as_str())
        .bind(machine.id.to_string())
        .bind(before)
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list statements")?;
        paged(
            &rows,
            page,
            total,
            |row| row.document("document"),
            |row| Ok(row.number("number")?.to_string()),
        )
    }
}

pub(super) async fn put_statement(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    statement: &Statement,
) -> Result<(), StoreError> {
    // The next number is taken within the transaction, and one process writes.
    let done = sqlx::query(
        "INSERT INTO statements (organisation, machine, number, document)
         SELECT organisation, machine,
             1 + COALESCE((SELECT MAX(number) FROM statements
                 WHERE organisation = $1 AND machine = $2), 0), $3
         FROM machines WHERE organisation = $1 AND machine = $2",
    )
    .bind(organisation.as_str())
    .bind(statement.machine.to_string())
    .bind(encode("statement", statement)?)
    .execute(tx)
    .await
    .doing("keep a statement")?;
    found(done.rows_affected(), "machine")
}
