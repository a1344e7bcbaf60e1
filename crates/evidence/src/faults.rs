//! What is wrong with something that was judged from its bytes: a ledger or an archive.
//!
//! The one idea: whoever altered a file may have altered all of it, so faults are counted without end and
//! listed up to a limit.

use std::fmt;

/// Faults that are listed; the others are counted. A screen shows fewer.
const LISTED: usize = 100;

/// What is wrong, in the order in which it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults<F> {
    listed: Vec<F>,
    count: u64,
}

impl<F> Faults<F> {
    pub(crate) fn none() -> Self {
        Self { listed: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, fault: F) {
        self.count += 1;
        if self.listed.len() < LISTED {
            self.listed.push(fault);
        }
    }

    /// The first of them, at most a hundred.
    #[must_use]
    pub fn listed(&self) -> &[F] {
        &self.listed
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// A line for each that is listed, and one for the others.
impl<F: fmt::Display> fmt::Display for Faults<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.listed {
            writeln!(f, "ALTERED: {fault}")?;
        }
        let unlisted = self.count - self.listed.len() as u64;
        if unlisted > 0 {
            writeln!(f, "… and {unlisted} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_hundred_are_listed() {
        let mut faults = Faults::none();
        assert_eq!((faults.count(), faults.to_string()), (0, String::new()));
        (1..=103).for_each(|number| faults.add(number));
        assert_eq!((faults.count(), faults.listed().len()), (103, 100));
        let text = faults.to_string();
        assert!(
            text.starts_with("ALTERED: 1\n") && text.ends_with("100\n… and 3 more\n"),
            "{text}"
        );
    }
}
