//! What a survey says in words.

use cordon_model::limits::NAME_BYTES;
use cordon_model::time::UtcNanos;

/// A time, in UTC and to the second.
pub(super) fn time(at: UtcNanos) -> String {
    jiff::Timestamp::from_nanosecond(at.unix_nanos().into()).map_or_else(
        |_| "an unknown time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// As much of a reason as may be told.
pub(super) fn cut(mut why: String) -> String {
    let mut end = why.len().min(NAME_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}
