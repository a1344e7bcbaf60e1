//! How rows are named and listed.
//!
//! The one idea (law 11): a name without its organisation finds nothing, because there is no way to
//! write it down.

use cordon_model::ids::OdsCode;

/// Rows on one page, at most. A screen shows 50; an export pages.
pub const PAGE_ROWS: u32 = 500;

/// The name of one row: whose, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key<T> {
    /// Whose.
    pub organisation: OdsCode,
    /// Which.
    pub id: T,
}

impl<T> Key<T> {
    /// The row `id` of `organisation`.
    pub fn new(organisation: &OdsCode, id: T) -> Self {
        Self { organisation: organisation.clone(), id }
    }
}

/// Where a list goes on. Opaque; it may be shown in an address, and a false one is refused or finds
/// other rows of the same list, never of another organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Which part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// From where on; `None`: from the beginning.
    pub after: Option<Cursor>,
    /// How many rows; 0 or more than [`PAGE_ROWS`] means [`PAGE_ROWS`].
    pub limit: u32,
}

impl Page {
    /// The first `limit` rows.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    pub(crate) fn rows(&self) -> i64 {
        i64::from(if self.limit == 0 { PAGE_ROWS } else { self.limit.min(PAGE_ROWS) })
    }
}

/// A part of a list, and of how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the list goes on; `None`: this was its end.
    pub next: Option<Cursor>,
    /// How many rows the whole list has.
    pub total: u64,
    /// Rows of this part that can't be read, and are not among the others.
    pub unreadable: Vec<Unreadable>,
}

/// A row that holds what this version can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What it should be.
    pub what: &'static str,
    /// Its place in its list.
    pub id: String,
    /// The decoder's words.
    pub reason: String,
}
