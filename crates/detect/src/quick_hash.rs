//! A fast hash for tables whose keys the rules made. A hostile event can only look things up in them, so
//! it can't make them slow; a keyed hash would cost more than the comparison that it saves.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use foldhash::fast::{FixedState, FoldHasher};

/// A map with that hash.
pub(crate) type QuickMap<K, V> = HashMap<K, V, FixedState>;

/// That hash.
pub(crate) fn quick_hasher() -> FoldHasher<'static> {
    FixedState::default().build_hasher()
}
