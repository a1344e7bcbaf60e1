//! [`Findings`] in SQLite.

use async_trait::async_trait;
use cordon_model::finding::{Finding, ReceivedFinding};
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::measure::Receipt;
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::orders::put_measure;
use super::{Columns as _, Doing as _, SqliteState, encode, paged, signed, unsigned};
use crate::findings::{FindingFilter, Findings, Taken, TakenReport, TakenWhat};
use crate::key::{Cursor, Key, Listed, PAGE_ROWS, Page};
use crate::orders::StoredMeasure;
use crate::state::StoreError;

#[async_trait]
impl Findings for SqliteState {
    async fn take_reports(
        &self,
        machine: &Key<MachineId>,
        received: UtcNanos,
        reports: &[TakenReport],
    ) -> Result<Taken, StoreError> {
        let mut tx = self.begin().await?;
        let taken = take(&mut tx, machine, received, reports).await?;
        tx.commit().await.doing("take reports")?;
        Ok(taken)
    }

    async fn findings(
        &self,
        organisation: &OdsCode,
        filter: &FindingFilter,
        page: &Page,
    ) -> Result<Listed<ReceivedFinding>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT COUNT(*) FROM findings WHERE ");
        push_filter(&mut query, organisation, filter);
        let total: i64 =
            query.build_query_scalar().fetch_one(&self.readers).await.doing("count findings")?;
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT received_at, machine, finding, document FROM findings WHERE ",
        );
        push_filter(&mut query, organisation, filter);
        if let Some(cursor) = &page.after {
            let (received_at, machine, finding) = place(cursor)?;
            query.push(" AND (received_at, machine, finding) < (").push_bind(received_at);
            query.push(", ").push_bind(machine).push(", ").push_bind(finding).push(")");
        }
        query.push(" ORDER BY received_at DESC, machine DESC, finding DESC LIMIT ");
        query.push_bind(page.rows() + 1);
        let rows = query.build().fetch_all(&self.readers).await.doing("list findings")?;
        paged(
            &rows,
            page,
            total,
            |row| row.document("document"),
            |row| {
                let (at, machine) = (row.number("received_at")?, row.text("machine")?);
                Ok(format!("{at}.{machine}.{}", row.text("finding")?))
            },
        )
    }

    async fn ungrouped_findings(
        &self,
        organisation: &OdsCode,
    ) -> Result<Vec<ReceivedFinding>, StoreError> {
        let rows = sqlx::query(
            "SELECT document FROM findings WHERE organisation = $1 AND incident IS NULL
             ORDER BY received_at, machine, finding LIMIT $2",
        )
        .bind(organisation.as_str())
        .bind(i64::from(PAGE_ROWS))
        .fetch_all(&self.readers)
        .await
        .doing("list findings without an incident")?;
        rows.iter().map(|row| row.document("document")).collect()
    }
}

/// Takes reports within a transaction.
pub(super) async fn take(
    tx: &mut SqliteConnection,
    machine: &Key<MachineId>,
    received: UtcNanos,
    reports: &[TakenReport],
) -> Result<Taken, StoreError> {
    let reported: Option<i64> = sqlx::query_scalar(
        "SELECT reported FROM machines WHERE organisation = $1 AND machine = $2",
    )
    .bind(machine.organisation.as_str())
    .bind(machine.id.to_string())
    .fetch_optional(&mut *tx)
    .await
    .doing("read a machine's reports")?;
    let reported = reported.ok_or(StoreError::Missing { what: "machine" })?;
    let mut taken = Taken { reported: unsigned(reported), ..Taken::default() };
    for report in reports {
        if report.number <= taken.reported {
            taken.repeated += 1;
            continue;
        }
        let expected = taken.reported + 1;
        if report.number > expected {
            taken.missing.push((expected, report.number - 1));
        }
        taken.reported = report.number;
        match &report.what {
            TakenWhat::Finding(finding) => {
                if put_finding(&mut *tx, machine, received, finding).await? {
                    taken.new_findings.push(finding.id);
                }
            }
            TakenWhat::Receipt(receipt) => {
                put_receipt(&mut *tx, machine, received, report.number, receipt).await?;
                taken.new_receipts.push(report.number);
            }
            TakenWhat::Other => {}
        }
    }
    if unsigned(reported) < taken.reported {
        sqlx::query("UPDATE machines SET reported = $3 WHERE organisation = $1 AND machine = $2")
            .bind(machine.organisation.as_str())
            .bind(machine.id.to_string())
            .bind(signed("report's number", taken.reported)?)
            .execute(&mut *tx)
            .await
            .doing("number a machine's reports")?;
    }
    Ok(taken)
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, organisation: &OdsCode, filter: &FindingFilter) {
    query.push("organisation = ").push_bind(organisation.as_str().to_owned());
    if let Some(machine) = filter.machine {
        query.push(" AND machine = ").push_bind(machine.to_string());
    }
    if let Some(incident) = filter.incident {
        query.push(" AND incident = ").push_bind(incident.to_string());
    }
    if let Some(id) = filter.id {
        query.push(" AND finding = ").push_bind(id.to_string());
    }
    if let Some(level) = filter.level_at_least {
        query.push(" AND level >= ").push_bind(i64::from(level.ocsf_severity()));
    }
}

fn place(cursor: &Cursor) -> Result<(i64, String, String), StoreError> {
    let mut parts = cursor.0.splitn(3, '.');
    let at = parts.next().and_then(|at| at.parse().ok()).ok_or(StoreError::Cursor)?;
    match (parts.next(), parts.next()) {
        (Some(machine), Some(finding)) => Ok((at, machine.to_owned(), finding.to_owned())),
        _ => Err(StoreError::Cursor),
    }
}

/// Keeps a finding, and says whether it was new.
async fn put_finding(
    tx: &mut SqliteConnection,
    machine: &Key<MachineId>,
    received: UtcNanos,
    finding: &Finding,
) -> Result<bool, StoreError> {
    let document = ReceivedFinding { machine: machine.id, received, finding: finding.clone() };
    let done = sqlx::query(
        "INSERT INTO findings (organisation, machine, finding, received_at, level, document)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (organisation, machine, finding) DO NOTHING",
    )
    .bind(machine.organisation.as_str())
    .bind(machine.id.to_string())
    .bind(finding.id.to_string())
    .bind(received.unix_nanos())
    .bind(i64::from(finding.rule.level.ocsf_severity()))
    .bind(encode("finding", &document)?)
    .execute(tx)
    .await
    .doing("keep a finding")?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a receipt, and moves its measure.
async fn put_receipt(
    tx: &mut SqliteConnection,
    machine: &Key<MachineId>,
    received: UtcNanos,
    number: u64,
    receipt: &Verified<Receipt>,
) -> Result<(), StoreError> {
    if receipt.machine != machine.id {
        return Err(StoreError::Missing { what: "machine of that name on this link" });
    }
    sqlx::query(
        "INSERT INTO receipts (organisation, machine, number, measure, envelope)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(machine.organisation.as_str())
    .bind(machine.id.to_string())
    .bind(signed("report's number", number)?)
    .bind(receipt.measure.to_string())
    .bind(encode("receipt", receipt.envelope())?)
    .execute(&mut *tx)
    .await
    .doing("keep a receipt")?;
    let measure = StoredMeasure {
        id: receipt.measure,
        machine: machine.id,
        action: receipt.action.clone(),
        state: receipt.state.clone(),
        is_denied: false,
        since: received,
        receipt: Some((**receipt).clone()),
    };
    put_measure(tx, &machine.organisation, &measure).await
}
