//! Parts of a date, as Sigma's time modifiers ask for them.
//!
//! The specification says that these are "not designed to handle timezone or format conversions": the
//! parts are read as they are written, in ISO 8601's order, whatever offset follows.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A part of a date or time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Of the month, 1 to 31.
    Day,
    /// Of the year as ISO 8601 counts them, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// With the century.
    Year,
}

impl TimePart {
    /// This part of the date that `text` writes (`2024-05-01T23:59:58.123Z`, a blank for the `T`, or a
    /// date alone, which has neither hour nor minute).
    #[must_use]
    pub fn of(self, text: &str) -> Option<i64> {
        let date = Date::parse(text)?;
        match self {
            Self::Minute => date.minute,
            Self::Hour => date.hour,
            Self::Day => Some(date.day),
            Self::Month => Some(date.month),
            Self::Year => Some(date.year),
            Self::Week => Some(date.iso_week()),
        }
    }
}

impl fmt::Display for TimePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
    hour: Option<i64>,
    minute: Option<i64>,
}

impl Date {
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = |from: usize, count: usize| -> Option<i64> {
            bytes.get(from..from + count)?.iter().try_fold(0i64, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
            })
        };
        let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
        if !is(4, b"-/") || !is(7, b"-/") {
            return None;
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
        let (hour, minute) = match bytes.len() {
            10 => (None, None),
            _ if is(10, b"Tt ") && is(13, b":") => (Some(digits(11, 2)?), Some(digits(14, 2)?)),
            _ => return None,
        };
        let is_possible = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour.is_none_or(|hour| hour < 24)
            && minute.is_none_or(|minute| minute < 60);
        is_possible.then_some(Self { year, month, day, hour, minute })
    }

    /// ISO 8601: the week with the year's first Thursday is week 1.
    fn iso_week(&self) -> i64 {
        let ordinal =
            (1..self.month).map(|month| days_in(self.year, month)).sum::<i64>() + self.day;
        let week = (ordinal - weekday(self.year, self.month, self.day) + 10) / 7;
        match week {
            0 => weeks_in(self.year - 1),
            53 if weeks_in(self.year) == 52 => 1,
            _ => week,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Monday 1 to Sunday 7, by Sakamoto's table.
fn weekday(year: i64, month: i64, day: i64) -> i64 {
    const SHIFT: [i64; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let year = if month < 3 { year - 1 } else { year };
    let shift = usize::try_from(month - 1).ok().and_then(|at| SHIFT.get(at)).copied().unwrap_or(0);
    let from_sunday =
        (year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + shift + day)
            .rem_euclid(7);
    if from_sunday == 0 { 7 } else { from_sunday }
}

/// 53 if the year starts on a Thursday, or on a Wednesday and is a leap year.
fn weeks_in(year: i64) -> i64 {
    match weekday(year, 1, 1) {
        4 => 53,
        3 if is_leap(year) => 53,
        _ => 52,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_written() {
        let text = "2024-05-01T23:59:58.123+02:00";
        assert_eq!(TimePart::Minute.of(text), Some(59));
        assert_eq!(TimePart::Hour.of(text), Some(23));
        assert_eq!(TimePart::Day.of(text), Some(1));
        assert_eq!(TimePart::Month.of(text), Some(5));
        assert_eq!(TimePart::Year.of(text), Some(2024));
        assert_eq!(TimePart::Hour.of("2024-05-01 07:00:00"), Some(7));
        assert_eq!(TimePart::Hour.of("2024-05-01"), None);
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for (date, week) in [
            ("2005-01-01", 53),
            ("2005-01-02", 53),
            ("2005-12-31", 52),
            ("2007-01-01", 1),
            ("2008-12-29", 1),
            ("2010-01-03", 53),
            ("2024-12-30", 1),
            ("2020-12-31", 53),
            ("2024-05-01", 18),
        ] {
            assert_eq!(TimePart::Week.of(date), Some(week), "{date}");
        }
    }

    #[test]
    fn what_is_no_date_has_no_parts() {
        for text in ["", "yesterday", "2024-13-01", "2024-02-30", "2024-05-01T25:00", "2024-05-01T"]
        {
            assert_eq!(TimePart::Day.of(text), None, "{text:?}");
        }
    }
}
