//! Numbers as rules and events have them, compared exactly: whole numbers are never rounded on the way
//! to a comparison.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use cordon_model::event::Value;
use serde::{Deserialize, Serialize};

/// A number that is not "not a number".
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Number {
    /// A whole number; holds everything that an event's `i64` or `u64` can.
    Whole(i128),
    /// Any other number; never NaN.
    Real(f64),
}

impl Number {
    /// The number of a float, unless it is none.
    #[must_use]
    pub fn from_float(float: f64) -> Option<Self> {
        (!float.is_nan()).then_some(Self::Real(float))
    }

    /// The number that `text` writes in decimal, if it does, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let first = *text.as_bytes().first()?;
        // Words that Rust's parser takes for floats (`inf`, `nan`) are no numbers in a log.
        if !(first.is_ascii_digit() || first == b'-') {
            return None;
        }
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        text.parse().ok().filter(|real: &f64| real.is_finite()).map(Self::Real)
    }

    /// The number that an event's value is or writes.
    #[must_use]
    pub fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Int(whole) => Some(Self::Whole(i128::from(*whole))),
            Value::Unsigned(whole) => Some(Self::Whole(i128::from(*whole))),
            Value::Float(real) => Self::from_float(*real),
            Value::Text(text) => Self::parse(text),
            Value::Null | Value::Bool(_) => None,
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            // Neither is NaN, and zero is one zero.
            (Self::Real(a), Self::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Whole(a), Self::Real(b)) => whole_to_real(*a, *b),
            (Self::Real(a), Self::Whole(b)) => whole_to_real(*b, *a).reverse(),
        }
    }
}

fn whole_to_real(whole: i128, real: f64) -> Ordering {
    let floor = real.floor();
    // 2^127 is past every i128; converting saturates, so only within is the cast exact.
    if floor >= 2f64.powi(127) {
        return Ordering::Less;
    }
    if floor < -(2f64.powi(127)) {
        return Ordering::Greater;
    }
    whole.cmp(&(floor as i128)).then(if real > floor { Ordering::Less } else { Ordering::Equal })
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal numbers hash alike: a real that is whole hashes as that whole.
        match self {
            Self::Whole(whole) => whole.hash(state),
            Self::Real(real) => match *real as i128 {
                whole if whole_to_real(whole, *real) == Ordering::Equal => whole.hash(state),
                _ => real.to_bits().hash(state),
            },
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Real(real) => write!(f, "{real}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_beyond_a_floats_precision_stay_apart() {
        let large = i128::from(u64::MAX);
        assert!(Number::Whole(large - 1) < Number::Whole(large));
        assert!(Number::Whole((1 << 53) + 1) > Number::Real(2f64.powi(53)));
        assert_eq!(Number::Whole(4), Number::Real(4.0));
        assert!(Number::Whole(-1) > Number::Real(-1.5));
        assert!(Number::Whole(i128::MAX) < Number::Real(f64::INFINITY));
    }

    #[test]
    fn only_decimal_numbers_are_read_from_text() {
        assert_eq!(Number::parse("-12"), Some(Number::Whole(-12)));
        assert_eq!(Number::parse("1.5"), Some(Number::Real(1.5)));
        for text in ["", "0x10", "inf", "nan", "12 ", "1e999", "twelve"] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }
}
