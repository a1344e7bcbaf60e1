//! The embedded backend: SQLite, in one file.
//!
//! The one idea: one connection writes, in `BEGIN IMMEDIATE` transactions, and a few read beside it
//! (write-ahead log), so that nothing ever waits for a lock in the middle of a transaction. With
//! `synchronous = FULL` a commit is on disk when it returns.

mod commit;
mod findings;
mod incidents;
mod machines;
mod orders;
mod organisations;
mod people;
mod rows;
mod statements;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use cordon_model::ids::OdsCode;
use cordon_model::time::UtcNanos;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::key::{Cursor, Key, Listed, Page, Unreadable};
use crate::state::StoreError;

/// Connections that read: the hub's tasks that wait for the store at one time are few, and a read takes
/// well below a millisecond.
const READERS: u32 = 4;

/// How long a statement waits for a lock that another process holds (a backup, somebody's `sqlite3`).
const BUSY: Duration = Duration::from_secs(10);

/// State in a SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteState {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteState {
    /// Opens `state.db` in `directory`, or makes it, and brings its tables to this version.
    ///
    /// # Errors
    /// If the directory or the file can't be used, or the tables are of a newer version.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(directory.join("state.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = |connections| {
            // A connection that sat idle costs a few pages; opening one costs a parse of the schema.
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(options.clone()).await.doing("open")?;
        sqlx::migrate!().run(&writer).await.map_err(StoreError::Migration)?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await.doing("open")?;
        Ok(Self { writer, readers })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.doing("begin a change")
    }
}

/// Says what was tried when the database fails.
trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { what, source })
    }
}

fn encode<T: Serialize>(what: &'static str, document: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(document, &mut bytes)
        .map_err(|error| StoreError::Unreadable { what, reason: error.to_string() })?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    ciborium::from_reader(bytes)
        .map_err(|error| StoreError::Unreadable { what, reason: error.to_string() })
}

/// A `u64` as the database has it. What counts records and reports stays far below 2⁶³; a number from
/// outside that does not is refused.
fn signed(what: &'static str, number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Unreadable { what, reason: format!("{number} is too large") })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Typed reading of a row's columns.
trait Columns {
    fn text(&self, column: &'static str) -> Result<String, StoreError>;
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError>;
    fn number(&self, column: &'static str) -> Result<i64, StoreError>;
    fn truth(&self, column: &'static str) -> Result<bool, StoreError>;

    fn time(&self, column: &'static str) -> Result<UtcNanos, StoreError> {
        Ok(UtcNanos::from_unix_nanos(self.number(column)?))
    }

    fn id<T: FromStr>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        self.text(column)?.parse().map_err(|error: T::Err| unreadable(column, error.to_string()))
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError>;

    fn optional_id<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let id = self.optional_text(column)?.map(|text| text.parse());
        id.transpose().map_err(|error: T::Err| unreadable(column, error.to_string()))
    }

    fn document<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        decode(column, &self.bytes(column)?)
    }

    fn hash(&self, column: &'static str) -> Result<[u8; 32], StoreError> {
        self.bytes(column)?.try_into().map_err(|_| unreadable(column, "not 32 bytes".into()))
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        column_of(self, column)
    }
    fn optional_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        column_of(self, column)
    }
    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        column_of(self, column)
    }
    fn number(&self, column: &'static str) -> Result<i64, StoreError> {
        column_of(self, column)
    }
    fn truth(&self, column: &'static str) -> Result<bool, StoreError> {
        column_of(self, column)
    }
}

/// One value of a row. What is of another kind (no text, say) is that row's fault and not the database's.
fn column_of<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(|error| match error {
        sqlx::Error::ColumnDecode { source, .. } => unreadable(column, source.to_string()),
        source => StoreError::Database { what: "read a row", source },
    })
}

fn unreadable(what: &'static str, reason: String) -> StoreError {
    StoreError::Unreadable { what, reason }
}

/// As [`paged_readable`], where a row that can't be read must not be passed over: what is judged by the list would be
/// judged without it.
fn paged<T>(
    rows: &[SqliteRow],
    page: &Page,
    total: i64,
    item: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    cursor: impl Fn(&SqliteRow) -> Result<String, StoreError>,
) -> Result<Listed<T>, StoreError> {
    let mut listed = paged_readable(rows, page, total, item, cursor)?;
    match listed.unreadable.pop() {
        Some(Unreadable { what, reason, .. }) => Err(StoreError::Unreadable { what, reason }),
        None => Ok(listed),
    }
}

/// Makes a page of `rows`, which were asked for with one more than the page takes.
fn paged_readable<T>(
    rows: &[SqliteRow],
    page: &Page,
    total: i64,
    item: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    cursor: impl Fn(&SqliteRow) -> Result<String, StoreError>,
) -> Result<Listed<T>, StoreError> {
    let limit = usize::try_from(page.rows()).unwrap_or(0);
    let shown = &rows[..rows.len().min(limit)];
    // After the last whose name can be read.
    let next = shown.iter().rev().find_map(|row| cursor(row).ok());
    let next = next.filter(|_| rows.len() > limit).map(Cursor);
    let (mut items, mut unreadable) = (Vec::with_capacity(shown.len()), Vec::new());
    for row in shown {
        match item(row) {
            Ok(item) => items.push(item),
            Err(StoreError::Unreadable { what, reason }) => {
                let id = cursor(row).unwrap_or_else(|_| "that nobody can name".to_owned());
                unreadable.push(Unreadable { what, id, reason });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Listed { items, next, total: unsigned(total), unreadable })
}

/// Counts the rows of one thing (a machine, an incident) that a statement (`SELECT COUNT(*) …`) finds, with
/// the organisation and the thing's id bound.
async fn count_of<I: std::fmt::Display>(
    from: &SqlitePool,
    sql: &'static str,
    of: &Key<I>,
) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql)
        .bind(of.organisation.as_str())
        .bind(of.id.to_string())
        .fetch_one(from)
        .await
        .doing("count")
}

/// A change to something that must be there has changed `rows`.
fn found(rows: u64, what: &'static str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::Missing { what }) } else { Ok(()) }
}

/// Counts the rows that a statement (`SELECT COUNT(*) …`) with only the organisation bound finds.
async fn count(
    from: &SqlitePool,
    sql: &'static str,
    organisation: &OdsCode,
) -> Result<i64, StoreError> {
    sqlx::query_scalar(sql).bind(organisation.as_str()).fetch_one(from).await.doing("count")
}
