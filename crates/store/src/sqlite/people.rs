//! [`People`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::OdsCode;
use cordon_model::time::UtcNanos;
use sqlx::sqlite::SqliteConnection;

use super::{Columns as _, Doing as _, SqliteState, count, encode, paged};
use crate::key::{Key, Listed, Page};
use crate::people::{People, Person, Session};
use crate::state::StoreError;

#[async_trait]
impl People for SqliteState {
    async fn person(&self, key: &Key<String>) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query("SELECT document FROM people WHERE organisation = $1 AND name = $2")
            .bind(key.organisation.as_str())
            .bind(&key.id)
            .fetch_optional(&self.readers)
            .await
            .doing("read a person")?;
        row.map(|row| row.document("document")).transpose()
    }

    async fn people(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<Person>, StoreError> {
        let total = "SELECT COUNT(*) FROM people WHERE organisation = $1";
        let total = count(&self.readers, total, organisation).await?;
        let rows = sqlx::query(
            "SELECT name, document FROM people WHERE organisation = $1 AND name > $2
             ORDER BY name LIMIT $3",
        )
        .bind(organisation.as_str())
        .bind(page.after.as_ref().map_or("", |cursor| &cursor.0))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list people")?;
        paged(&rows, page, total, |row| row.document("document"), |row| row.text("name"))
    }

    async fn put_sign_in_token(
        &self,
        token: &Key<[u8; 32]>,
        name: &str,
        expires_at: UtcNanos,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sign_in_tokens (organisation, hash, name, expires_at, is_used)
             VALUES ($1, $2, $3, $4, FALSE)",
        )
        .bind(token.organisation.as_str())
        .bind(&token.id[..])
        .bind(name)
        .bind(expires_at.unix_nanos())
        .execute(&self.writer)
        .await
        .doing("keep a sign-in token")?;
        Ok(())
    }

    async fn use_sign_in_token(
        &self,
        token: &Key<[u8; 32]>,
        now: UtcNanos,
    ) -> Result<Option<Person>, StoreError> {
        let mut tx = self.begin().await?;
        let used = sqlx::query(
            "UPDATE sign_in_tokens SET is_used = TRUE
             WHERE organisation = $1 AND hash = $2 AND NOT is_used AND expires_at > $3",
        )
        .bind(token.organisation.as_str())
        .bind(&token.id[..])
        .bind(now.unix_nanos())
        .execute(&mut *tx)
        .await
        .doing("use a sign-in token")?;
        if used.rows_affected() == 0 {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT document FROM people
             JOIN sign_in_tokens USING (organisation, name)
             WHERE organisation = $1 AND hash = $2",
        )
        .bind(token.organisation.as_str())
        .bind(&token.id[..])
        .fetch_one(&mut *tx)
        .await
        .doing("read a person")?;
        let person: Person = row.document("document")?;
        tx.commit().await.doing("use a sign-in token")?;
        Ok(Some(person).filter(|person| person.is_active))
    }

    async fn begin_session(
        &self,
        session: &Key<[u8; 32]>,
        name: &str,
        now: UtcNanos,
        expires_at: UtcNanos,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO sessions (organisation, hash, name, begun_at, expires_at)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(session.organisation.as_str())
        .bind(&session.id[..])
        .bind(name)
        .bind(now.unix_nanos())
        .bind(expires_at.unix_nanos())
        .execute(&self.writer)
        .await
        .doing("begin a session")?;
        Ok(())
    }

    async fn session(
        &self,
        session: &Key<[u8; 32]>,
        now: UtcNanos,
    ) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query(
            "SELECT begun_at, expires_at, document FROM sessions
             JOIN people USING (organisation, name)
             WHERE organisation = $1 AND hash = $2 AND expires_at > $3",
        )
        .bind(session.organisation.as_str())
        .bind(&session.id[..])
        .bind(now.unix_nanos())
        .fetch_optional(&self.readers)
        .await
        .doing("read a session")?;
        let Some(row) = row else { return Ok(None) };
        let session = Session {
            person: row.document("document")?,
            begun_at: row.time("begun_at")?,
            expires_at: row.time("expires_at")?,
        };
        Ok(Some(session).filter(|session| session.person.is_active))
    }

    async fn end_session(&self, session: &Key<[u8; 32]>) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE organisation = $1 AND hash = $2")
            .bind(session.organisation.as_str())
            .bind(&session.id[..])
            .execute(&self.writer)
            .await
            .doing("end a session")?;
        Ok(())
    }

    async fn forget_expired(
        &self,
        organisation: &OdsCode,
        now: UtcNanos,
    ) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        let mut tx = self.begin().await?;
        for sql in [
            "DELETE FROM sessions WHERE organisation = $1 AND expires_at <= $2",
            "DELETE FROM sign_in_tokens WHERE organisation = $1 AND expires_at <= $2",
            "DELETE FROM enrolment_tokens WHERE organisation = $1 AND expires_at <= $2",
        ] {
            forgotten += sqlx::query(sql)
                .bind(organisation.as_str())
                .bind(now.unix_nanos())
                .execute(&mut *tx)
                .await
                .doing("forget what has expired")?
                .rows_affected();
        }
        tx.commit().await.doing("forget what has expired")?;
        Ok(forgotten)
    }
}

pub(super) async fn put_person(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    person: &Person,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO people (organisation, name, document) VALUES ($1, $2, $3)
         ON CONFLICT (organisation, name) DO UPDATE SET document = excluded.document",
    )
    .bind(organisation.as_str())
    .bind(&person.name)
    .bind(encode("person", person)?)
    .execute(tx)
    .await
    .doing("keep a person")?;
    Ok(())
}
