//! Who is called what: the ids and names by which filters and correlations refer to rules.
//!
//! The one idea: everything that was read has an entry, also what was refused or passed over, so that a
//! reference to it can be answered with the reason.

use std::collections::HashMap;

use crate::rule::RuleIndex;

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referent {
    /// A rule that was loaded.
    Rule(RuleIndex),
    /// A correlation, by its place among those that were read.
    Correlation(usize),
    /// A filter.
    Filter,
    /// Something that was refused.
    Refused,
    /// A rule about another product than the one that rules are taken for.
    PassedOver,
    /// A rule that its author withdrew.
    Withdrawn,
    /// More than one of them.
    Several,
}

impl Referent {
    /// Whether it was read and is not there.
    fn is_absent(self) -> bool {
        matches!(self, Self::Refused | Self::PassedOver | Self::Withdrawn)
    }
}

/// Ids and names, with what they stand for.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, Referent>);

impl Names {
    /// Gives `referent` its id and its name.
    pub(crate) fn add(&mut self, id: Option<&str>, name: Option<&str>, referent: Referent) {
        for key in [id, name].into_iter().flatten().map(str::trim).filter(|key| !key.is_empty()) {
            match self.0.get_mut(key) {
                None => {
                    self.0.insert(key.to_owned(), referent);
                }
                // What was refused because its id was taken doesn't make the id doubtful.
                Some(_) if referent.is_absent() => {}
                Some(known) if known.is_absent() => *known = referent,
                Some(known) if *known == referent => {}
                Some(known) => *known = Referent::Several,
            }
        }
    }

    /// What `reference` leads to.
    pub(crate) fn find(&self, reference: &str) -> Option<Referent> {
        self.0.get(reference.trim()).copied()
    }

    /// Why a reference that leads to no rule or correlation leads nowhere.
    pub(crate) fn reason(reference: &str, referent: Option<Referent>) -> String {
        match referent {
            None => format!(
                "no rule with the id or name `{reference}` is loaded: a title is neither of them"
            ),
            Some(Referent::Refused) => format!("`{reference}` was itself refused"),
            Some(Referent::PassedOver) => {
                format!("`{reference}` is about another product, and isn't loaded")
            }
            Some(Referent::Withdrawn) => format!(
                "`{reference}` is deprecated or unsupported, and isn't loaded: refer to what took its place"
            ),
            Some(Referent::Several) => {
                format!("more than one rule is called `{reference}`: refer by id")
            }
            Some(Referent::Filter) => format!("`{reference}` is a filter"),
            Some(Referent::Rule(_) | Referent::Correlation(_)) => {
                format!("`{reference}` can't be referred to here")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_two_rules_have_is_nobodys_and_a_refused_double_changes_nothing() {
        let mut names = Names::default();
        names.add(Some("1"), Some("logon"), Referent::Rule(RuleIndex(0)));
        names.add(Some("1"), None, Referent::Refused);
        names.add(Some("2"), Some("logon"), Referent::Rule(RuleIndex(1)));
        assert_eq!(names.find("1"), Some(Referent::Rule(RuleIndex(0))));
        assert_eq!(names.find(" 2 "), Some(Referent::Rule(RuleIndex(1))));
        assert_eq!(names.find("logon"), Some(Referent::Several));
        assert_eq!(names.find("3"), None);
    }
}
