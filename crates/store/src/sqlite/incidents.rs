//! [`Incidents`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::{ApprovalId, IncidentId, OdsCode};
use cordon_model::incident::{Incident, IncidentState};
use cordon_model::record::Record;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::{Columns as _, Doing as _, SqliteState, count_of, encode, paged, paged_readable};
use crate::incidents::{IncidentFilter, Incidents, StoredApproval};
use crate::key::{Key, Listed, Page};
use crate::state::StoreError;

#[async_trait]
impl Incidents for SqliteState {
    async fn incident(&self, key: &Key<IncidentId>) -> Result<Option<Incident>, StoreError> {
        let row =
            sqlx::query("SELECT document FROM incidents WHERE organisation = $1 AND incident = $2")
                .bind(key.organisation.as_str())
                .bind(key.id.to_string())
                .fetch_optional(&self.readers)
                .await
                .doing("read an incident")?;
        row.map(|row| row.document("document")).transpose()
    }

    async fn incidents(
        &self,
        organisation: &OdsCode,
        filter: IncidentFilter,
        page: &Page,
    ) -> Result<Listed<Incident>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT COUNT(*) FROM incidents WHERE ");
        push_filter(&mut query, organisation, filter);
        let total: i64 =
            query.build_query_scalar().fetch_one(&self.readers).await.doing("count incidents")?;
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT incident, document FROM incidents WHERE ");
        push_filter(&mut query, organisation, filter);
        if let Some(cursor) = &page.after {
            query.push(" AND incident < ").push_bind(cursor.0.clone());
        }
        query.push(" ORDER BY incident DESC LIMIT ").push_bind(page.rows() + 1);
        let rows = query.build().fetch_all(&self.readers).await.doing("list incidents")?;
        paged_readable(
            &rows,
            page,
            total,
            |row| row.document("document"),
            |row| row.text("incident"),
        )
    }

    async fn timeline(
        &self,
        key: &Key<IncidentId>,
        page: &Page,
    ) -> Result<Listed<Record>, StoreError> {
        let total = "SELECT COUNT(*) FROM timeline WHERE organisation = $1 AND incident = $2";
        let total = count_of(&self.readers, total, key).await?;
        let after = match &page.after {
            Some(cursor) => cursor.0.parse().map_err(|_| StoreError::Cursor)?,
            None => -1i64,
        };
        let rows = sqlx::query(
            "SELECT entry, document FROM timeline
             WHERE organisation = $1 AND incident = $2 AND entry > $3 ORDER BY entry LIMIT $4",
        )
        .bind(key.organisation.as_str())
        .bind(key.id.to_string())
        .bind(after)
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("read a timeline")?;
        paged(
            &rows,
            page,
            total,
            |row| row.document("document"),
            |row| Ok(row.number("entry")?.to_string()),
        )
    }

    async fn approval(&self, key: &Key<ApprovalId>) -> Result<Option<StoredApproval>, StoreError> {
        let row = sqlx::query("SELECT * FROM approvals WHERE organisation = $1 AND approval = $2")
            .bind(key.organisation.as_str())
            .bind(key.id.to_string())
            .fetch_optional(&self.readers)
            .await
            .doing("read a question")?;
        row.as_ref().map(approval).transpose()
    }

    async fn approvals_that_count(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM approvals WHERE organisation = $1 AND is_open AND approval > $2
             UNION
             SELECT * FROM approvals WHERE organisation = $1 AND is_left AND approval > $2
             UNION
             SELECT approvals.* FROM incidents JOIN approvals
                ON approvals.organisation = incidents.organisation
                AND approvals.incident = incidents.incident
             WHERE incidents.organisation = $1 AND incidents.state IN ($3, $4)
                AND approvals.approval > $2
             ORDER BY approval LIMIT $5",
        )
        .bind(organisation.as_str())
        .bind(page.after.as_ref().map_or("", |cursor| &cursor.0))
        .bind(state_word(IncidentState::New))
        .bind(state_word(IncidentState::Owned))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list questions that count")?;
        let total = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        paged_readable(&rows, page, total, approval, |row| row.text("approval"))
    }

    async fn approvals_of(
        &self,
        key: &Key<IncidentId>,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError> {
        let total = "SELECT COUNT(*) FROM approvals WHERE organisation = $1 AND incident = $2";
        let total = count_of(&self.readers, total, key).await?;
        let rows = sqlx::query(
            "SELECT * FROM approvals
             WHERE organisation = $1 AND incident = $2 AND approval > $3
             ORDER BY approval LIMIT $4",
        )
        .bind(key.organisation.as_str())
        .bind(key.id.to_string())
        .bind(page.after.as_ref().map_or("", |cursor| &cursor.0))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list an incident's questions")?;
        paged_readable(&rows, page, total, approval, |row| row.text("approval"))
    }

    async fn approvals(
        &self,
        organisation: &OdsCode,
        only_open: bool,
        page: &Page,
    ) -> Result<Listed<StoredApproval>, StoreError> {
        let total: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM approvals WHERE organisation = $1 AND (is_open OR NOT $2)",
        )
        .bind(organisation.as_str())
        .bind(only_open)
        .fetch_one(&self.readers)
        .await
        .doing("count questions")?;
        let rows = sqlx::query(
            "SELECT * FROM approvals
             WHERE organisation = $1 AND (is_open OR NOT $2) AND approval > $3
             ORDER BY approval LIMIT $4",
        )
        .bind(organisation.as_str())
        .bind(only_open)
        .bind(page.after.as_ref().map_or("", |cursor| &cursor.0))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list questions")?;
        paged_readable(&rows, page, total, approval, |row| row.text("approval"))
    }
}

fn approval(row: &SqliteRow) -> Result<StoredApproval, StoreError> {
    Ok(StoredApproval {
        id: row.id("approval")?,
        is_open: row.truth("is_open")?,
        expires_at: row.time("expires_at")?,
        incident: row.optional_id("incident")?,
        is_left: row.truth("is_left")?,
        document: row.bytes("document")?,
    })
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, organisation: &OdsCode, filter: IncidentFilter) {
    query.push("organisation = ").push_bind(organisation.as_str().to_owned());
    match filter {
        IncidentFilter::Any => {}
        // Written so that the index by state serves it.
        IncidentFilter::Open => {
            query.push(" AND state IN (").push_bind(state_word(IncidentState::New));
            query.push(", ").push_bind(state_word(IncidentState::Owned)).push(")");
        }
        IncidentFilter::In(state) => {
            query.push(" AND state = ").push_bind(state_word(state));
        }
    }
}

fn state_word(state: IncidentState) -> &'static str {
    match state {
        IncidentState::New => "new",
        IncidentState::Owned => "owned",
        IncidentState::Closed => "closed",
    }
}

pub(super) async fn put_incident(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    incident: &Incident,
) -> Result<(), StoreError> {
    if incident.organisation != *organisation {
        return Err(StoreError::WrongOrganisation { what: "incident" });
    }
    sqlx::query(
        "INSERT INTO incidents (organisation, incident, state, owner, level, document)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (organisation, incident) DO UPDATE SET
            state = excluded.state, owner = excluded.owner, level = excluded.level,
            document = excluded.document",
    )
    .bind(organisation.as_str())
    .bind(incident.id.to_string())
    .bind(state_word(incident.state))
    .bind(&incident.owner)
    .bind(i64::from(incident.level.ocsf_severity()))
    .bind(encode("incident", incident)?)
    .execute(tx)
    .await
    .doing("keep an incident")?;
    Ok(())
}

pub(super) async fn put_entry(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    incident: IncidentId,
    record: &Record,
) -> Result<(), StoreError> {
    if record.organisation != *organisation {
        return Err(StoreError::WrongOrganisation { what: "timeline entry" });
    }
    // There is one writer, so the next number is nobody else's.
    sqlx::query(
        "INSERT INTO timeline (organisation, incident, entry, document)
         SELECT $1, $2, COALESCE(MAX(entry) + 1, 0), $3 FROM timeline
         WHERE organisation = $1 AND incident = $2",
    )
    .bind(organisation.as_str())
    .bind(incident.to_string())
    .bind(encode("timeline entry", record)?)
    .execute(tx)
    .await
    .doing("write a timeline")?;
    Ok(())
}

pub(super) async fn put_approval(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    approval: &StoredApproval,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO approvals
            (organisation, approval, is_open, expires_at, document, incident, is_left)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (organisation, approval) DO UPDATE SET
            is_open = excluded.is_open, expires_at = excluded.expires_at,
            document = excluded.document, incident = excluded.incident,
            is_left = excluded.is_left",
    )
    .bind(organisation.as_str())
    .bind(approval.id.to_string())
    .bind(approval.is_open)
    .bind(approval.expires_at.unix_nanos())
    .bind(&approval.document)
    .bind(approval.incident.map(|incident| incident.to_string()))
    .bind(approval.is_left)
    .execute(tx)
    .await
    .doing("keep a question")?;
    Ok(())
}
