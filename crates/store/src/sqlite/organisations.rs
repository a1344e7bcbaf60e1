//! [`Organisations`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use cordon_model::signed::Envelope;

use super::{Columns as _, Doing as _, SqliteState, unsigned};
use crate::key::Key;
use crate::organisations::{Organisation, Organisations};
use crate::state::StoreError;

#[async_trait]
impl Organisations for SqliteState {
    async fn put_organisation(&self, organisation: &Organisation) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO organisations (organisation, name, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (organisation) DO UPDATE SET name = excluded.name",
        )
        .bind(organisation.code.as_str())
        .bind(&organisation.name)
        .bind(organisation.created_at.unix_nanos())
        .execute(&self.writer)
        .await
        .doing("keep an organisation")?;
        Ok(())
    }

    async fn organisation(&self, code: &OdsCode) -> Result<Option<Organisation>, StoreError> {
        let row = sqlx::query("SELECT name, created_at FROM organisations WHERE organisation = $1")
            .bind(code.as_str())
            .fetch_optional(&self.readers)
            .await
            .doing("read an organisation")?;
        row.map(|row| {
            Ok(Organisation {
                code: code.clone(),
                name: row.text("name")?,
                created_at: row.time("created_at")?,
            })
        })
        .transpose()
    }

    async fn setting(&self, key: &Key<String>) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT value FROM settings WHERE organisation = $1 AND name = $2")
            .bind(key.organisation.as_str())
            .bind(&key.id)
            .fetch_optional(&self.readers)
            .await
            .doing("read a setting")
    }

    async fn policy(&self, organisation: &OdsCode) -> Result<Option<(u64, Envelope)>, StoreError> {
        let row = sqlx::query(
            "SELECT revision, envelope FROM policies WHERE organisation = $1
             ORDER BY revision DESC LIMIT 1",
        )
        .bind(organisation.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing("read the policy")?;
        row.map(|row| Ok((unsigned(row.number("revision")?), row.document("envelope")?)))
            .transpose()
    }
}
