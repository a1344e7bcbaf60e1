//! [`Orders`] in SQLite.

use async_trait::async_trait;
use cordon_model::ids::{MachineId, MeasureId, OdsCode, OrderId};
use cordon_model::signed::Envelope;
use cordon_model::time::UtcNanos;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{
    Columns as _, Doing as _, SqliteState, count, count_of, encode, found, paged, paged_readable,
    signed, unsigned,
};
use crate::key::{Key, Listed, PAGE_ROWS, Page};
use crate::orders::{OrderState, Orders, StoredMeasure, StoredOrder, StoredPermit};
use crate::state::StoreError;

#[async_trait]
impl Orders for SqliteState {
    async fn order(&self, key: &Key<OrderId>) -> Result<Option<StoredOrder>, StoreError> {
        let row = sqlx::query("SELECT * FROM orders WHERE organisation = $1 AND order_id = $2")
            .bind(key.organisation.as_str())
            .bind(key.id.to_string())
            .fetch_optional(&self.readers)
            .await
            .doing("read an order")?;
        row.as_ref().map(order).transpose()
    }

    async fn waiting_orders(
        &self,
        machine: &Key<MachineId>,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE organisation = $1 AND machine = $2 AND is_waiting
             ORDER BY sequence LIMIT $3",
        )
        .bind(machine.organisation.as_str())
        .bind(machine.id.to_string())
        .bind(i64::from(PAGE_ROWS))
        .fetch_all(&self.readers)
        .await
        .doing("list waiting orders")?;
        rows.iter().map(order).collect()
    }

    async fn all_waiting_orders(
        &self,
        organisation: &OdsCode,
    ) -> Result<Vec<StoredOrder>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE organisation = $1 AND is_waiting
             ORDER BY machine, sequence",
        )
        .bind(organisation.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("list waiting orders")?;
        rows.iter().map(order).collect()
    }

    async fn permits(
        &self,
        machine: &Key<MachineId>,
        now: UtcNanos,
    ) -> Result<Vec<StoredPermit>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM permits WHERE organisation = $1 AND machine = $2 AND expires_at > $3
             ORDER BY expires_at DESC LIMIT $4",
        )
        .bind(machine.organisation.as_str())
        .bind(machine.id.to_string())
        .bind(now.unix_nanos())
        .bind(i64::from(PAGE_ROWS))
        .fetch_all(&self.readers)
        .await
        .doing("list permits")?;
        let permit = |row: &SqliteRow| {
            Ok(StoredPermit {
                id: row.id("permit")?,
                machine: row.id("machine")?,
                expires_at: row.time("expires_at")?,
                envelope: row.document("envelope")?,
            })
        };
        rows.iter().map(permit).collect()
    }

    async fn measure(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Option<StoredMeasure>, StoreError> {
        let row = sqlx::query(
            "SELECT document FROM measures
             WHERE organisation = $1 AND machine = $2 AND measure = $3",
        )
        .bind(key.organisation.as_str())
        .bind(key.id.0.to_string())
        .bind(key.id.1.to_string())
        .fetch_optional(&self.readers)
        .await
        .doing("read a measure")?;
        row.map(|row| row.document("document")).transpose()
    }

    async fn measures_of(
        &self,
        machine: &Key<MachineId>,
        page: &Page,
    ) -> Result<Listed<StoredMeasure>, StoreError> {
        let total = "SELECT COUNT(*) FROM measures WHERE organisation = $1 AND machine = $2";
        let total = count_of(&self.readers, total, machine).await?;
        // `~` sorts behind every digit and letter of an id.
        let rows = sqlx::query(
            "SELECT measure, document FROM measures
             WHERE organisation = $1 AND machine = $2 AND measure < $3
             ORDER BY measure DESC LIMIT $4",
        )
        .bind(machine.organisation.as_str())
        .bind(machine.id.to_string())
        .bind(page.after.as_ref().map_or("~", |cursor| &cursor.0))
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list measures")?;
        paged(&rows, page, total, |row| row.document("document"), |row| row.text("measure"))
    }

    async fn measures_not_over(
        &self,
        organisation: &OdsCode,
        page: &Page,
    ) -> Result<Listed<StoredMeasure>, StoreError> {
        let total = "SELECT COUNT(*) FROM measures WHERE organisation = $1 AND NOT is_over";
        let total = count(&self.readers, total, organisation).await?;
        let (measure, machine) = match &page.after {
            Some(cursor) => cursor.0.split_once('.').ok_or(StoreError::Cursor)?,
            None => ("", ""),
        };
        let rows = sqlx::query(
            "SELECT measure, machine, document FROM measures
             WHERE organisation = $1 AND NOT is_over AND (measure, machine) > ($2, $3)
             ORDER BY measure, machine LIMIT $4",
        )
        .bind(organisation.as_str())
        .bind(measure)
        .bind(machine)
        .bind(page.rows() + 1)
        .fetch_all(&self.readers)
        .await
        .doing("list measures")?;
        paged_readable(
            &rows,
            page,
            total,
            |row| row.document("document"),
            |row| Ok(format!("{}.{}", row.text("measure")?, row.text("machine")?)),
        )
    }

    async fn receipts(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Vec<Envelope>, StoreError> {
        let rows = sqlx::query(
            "SELECT envelope FROM receipts
             WHERE organisation = $1 AND machine = $2 AND measure = $3 ORDER BY number LIMIT $4",
        )
        .bind(key.organisation.as_str())
        .bind(key.id.0.to_string())
        .bind(key.id.1.to_string())
        .bind(i64::from(PAGE_ROWS))
        .fetch_all(&self.readers)
        .await
        .doing("list receipts")?;
        rows.iter().map(|row| row.document("envelope")).collect()
    }

    async fn newest_receipt(
        &self,
        key: &Key<(MachineId, MeasureId)>,
    ) -> Result<Option<Envelope>, StoreError> {
        let row = sqlx::query(
            "SELECT envelope FROM receipts
             WHERE organisation = $1 AND machine = $2 AND measure = $3
             ORDER BY number DESC LIMIT 1",
        )
        .bind(key.organisation.as_str())
        .bind(key.id.0.to_string())
        .bind(key.id.1.to_string())
        .fetch_optional(&self.readers)
        .await
        .doing("read the newest receipt")?;
        row.map(|row| row.document("envelope")).transpose()
    }
}

fn order(row: &SqliteRow) -> Result<StoredOrder, StoreError> {
    Ok(StoredOrder {
        id: row.id("order_id")?,
        machine: row.id("machine")?,
        sequence: unsigned(row.number("sequence")?),
        incident: row.optional_id("incident")?,
        state: row.document("state")?,
        envelope: row.document("envelope")?,
    })
}

pub(super) async fn put_order(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    order: &StoredOrder,
) -> Result<(), StoreError> {
    // The signer answers a repeated proposal with the same order.
    sqlx::query(
        "INSERT INTO orders
            (organisation, order_id, machine, sequence, incident, is_waiting, state, envelope)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (organisation, order_id) DO NOTHING",
    )
    .bind(organisation.as_str())
    .bind(order.id.to_string())
    .bind(order.machine.to_string())
    .bind(signed("order's sequence", order.sequence)?)
    .bind(order.incident.map(|incident| incident.to_string()))
    .bind(order.state == OrderState::Waiting)
    .bind(encode("order's state", &order.state)?)
    .bind(encode("order", &order.envelope)?)
    .execute(tx)
    .await
    .doing("keep an order")?;
    Ok(())
}

pub(super) async fn put_order_state(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    order: OrderId,
    state: &OrderState,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE orders SET is_waiting = $3, state = $4
         WHERE organisation = $1 AND order_id = $2",
    )
    .bind(organisation.as_str())
    .bind(order.to_string())
    .bind(*state == OrderState::Waiting)
    .bind(encode("order's state", state)?)
    .execute(tx)
    .await
    .doing("move an order")?;
    found(done.rows_affected(), "order")
}

/// Keeps a permit. One of a machine that is not in the store is passed over: a signer may know machines that this
/// store has not, as after a backup was put back, and the rest of the commit is kept all the same.
pub(super) async fn put_permit(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    permit: &StoredPermit,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO permits (organisation, permit, machine, expires_at, envelope)
         SELECT $1, $2, $3, $4, $5 WHERE EXISTS
            (SELECT 1 FROM machines WHERE organisation = $1 AND machine = $3)
         ON CONFLICT (organisation, permit) DO NOTHING",
    )
    .bind(organisation.as_str())
    .bind(permit.id.to_string())
    .bind(permit.machine.to_string())
    .bind(permit.expires_at.unix_nanos())
    .bind(encode("permit", &permit.envelope)?)
    .execute(tx)
    .await
    .doing("keep a permit")?;
    Ok(())
}

pub(super) async fn put_measure(
    tx: &mut SqliteConnection,
    organisation: &OdsCode,
    measure: &StoredMeasure,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO measures (organisation, measure, machine, is_over, is_acting, document)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (organisation, machine, measure) DO UPDATE SET
            is_over = excluded.is_over, is_acting = excluded.is_acting,
            document = excluded.document",
    )
    .bind(organisation.as_str())
    .bind(measure.id.to_string())
    .bind(measure.machine.to_string())
    .bind(measure.state.is_over())
    .bind(measure.state.is_acting() && !measure.is_denied)
    .bind(encode("measure", measure)?)
    .execute(tx)
    .await
    .doing("keep a measure")?;
    Ok(())
}
