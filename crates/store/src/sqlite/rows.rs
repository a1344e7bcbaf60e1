//! [`Rows`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{Columns as _, Doing as _, SqliteState, column_of};
use crate::rows::{ROW_BYTES, Row, Rows};
use crate::state::StoreError;

#[async_trait]
impl Rows for SqliteState {
    async fn rows(&self, organisation: &OdsCode) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, id, document FROM rows WHERE organisation = $1 ORDER BY kind, id",
        )
        .bind(organisation.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("read rows")?;
        // A name that is no text stays what can be read of it: nothing of that kind or id is known, and it is said.
        let name = |row: &SqliteRow, column: &'static str| {
            let bytes: Vec<u8> = column_of(row, column)?;
            Ok::<_, StoreError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        rows.iter()
            .map(|row| {
                Ok(Row {
                    kind: name(row, "kind")?,
                    id: name(row, "id")?,
                    document: row.bytes("document")?,
                })
            })
            .collect()
    }

    async fn row(
        &self,
        organisation: &OdsCode,
        kind: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query(
            "SELECT document FROM rows WHERE organisation = $1 AND kind = $2 AND id = $3",
        )
        .bind(organisation.as_str())
        .bind(kind)
        .bind(id)
        .fetch_optional(&self.readers)
        .await
        .doing("read a row")?;
        row.map(|row| row.bytes("document")).transpose()
    }
}

pub(super) async fn put_row(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    kind: &str,
    id: &str,
    document: Option<&[u8]>,
) -> Result<(), StoreError> {
    let query = match document {
        None => sqlx::query("DELETE FROM rows WHERE organisation = $1 AND kind = $2 AND id = $3")
            .bind(organisation.as_str())
            .bind(kind)
            .bind(id),
        Some(document) if document.len() > ROW_BYTES => {
            return Err(StoreError::TooLarge {
                what: "row",
                bytes: document.len(),
                limit: ROW_BYTES,
            });
        }
        Some(document) => sqlx::query(
            "INSERT INTO rows (organisation, kind, id, document) VALUES ($1, $2, $3, $4)
             ON CONFLICT (organisation, kind, id) DO UPDATE SET document = excluded.document",
        )
        .bind(organisation.as_str())
        .bind(kind)
        .bind(id)
        .bind(document),
    };
    query.execute(tx).await.doing("keep a row")?;
    Ok(())
}
