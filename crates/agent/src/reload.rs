//! New rules while the agent runs.
//!
//! The one idea: rules are read and compiled beside the sensor's thread, and only a set that is whole is handed
//! to it. The thread takes it between two events, with all that it keeps for correlations: each event is judged
//! once, by the one set or the other, and none waits for a compiler. A set that is worse than the one in force
//! (it can't be read, holds no rule, or refuses one that was not refused before) is not handed over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cordon_detect::{Refusal, RuleSet};

use crate::local::compiled;

/// Origin and YAML text of each file of rules.
pub type RuleTexts = Vec<(String, String)>;

/// Reads the rules again from where they come from; why it can't, in words for people.
pub type ReadRules = Arc<dyn Fn() -> Result<RuleTexts, String> + Send + Sync>;

/// Rules on their way to the sensor's thread.
#[derive(Clone, Default)]
pub struct Handover {
    /// Looked at for each event, so that no lock is.
    is_there: Arc<AtomicBool>,
    next: Arc<Mutex<Option<RuleSet>>>,
}

impl Handover {
    /// Gives `rules`, in place of those that were given and not taken yet.
    pub fn give(&self, rules: RuleSet) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
        self.is_there.store(true, Ordering::Release);
    }

    /// What was given last, if it wasn't taken yet.
    pub fn take(&self) -> Option<RuleSet> {
        if !self.is_there.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Rules that were read again, and whether they may take the place of those in force.
///
/// # Errors
/// Why those in force stay, for people.
pub fn renewed(
    read: Result<RuleTexts, String>,
    refused_before: &[Refusal],
) -> Result<(RuleSet, Vec<Refusal>), String> {
    let texts = read?;
    let texts = texts.iter().map(|(origin, yaml)| (origin.as_str(), yaml.as_str()));
    let (rules, refusals) = compiled(texts);
    if rules.rules().is_empty() {
        return Err("not one rule is left".to_owned());
    }
    // By file and rule: a line more above it makes no other fault of it.
    let was_refused = |refusal: &&Refusal| {
        let is_it =
            |before: &Refusal| (&before.origin, &before.rule) == (&refusal.origin, &refusal.rule);
        refused_before.iter().any(is_it)
    };
    let mut new = refusals.iter().filter(|refusal| !was_refused(refusal));
    if let Some(first) = new.next() {
        let more = match new.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return Err(format!("{first}{more}"));
    }
    Ok((rules, refusals))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, field: &str) -> (String, String) {
        let text = format!(
            "title: {id}\nid: {id}\nlogsource: {{product: linux}}\ndetection:\n  s: {{'{field}': b}}\n  condition: s\n"
        );
        (format!("{id}.yml"), text)
    }

    #[test]
    fn a_set_that_is_worse_than_the_one_in_force_is_not_taken_and_says_why() {
        let why = |read, before: &[Refusal]| renewed(read, before).unwrap_err();
        assert_eq!(why(Err("rules.d: gone".into()), &[]), "rules.d: gone");
        assert_eq!(why(Ok(Vec::new()), &[]), "not one rule is left");
        let broken = rule("two", "A|nonsense");
        let bad = || Ok(vec![rule("one", "A"), broken.clone(), rule("three", "A|re|lt")]);
        let reason = why(bad(), &[]);
        assert!(reason.starts_with("two.yml:") && reason.ends_with("(and 1 more)"), "{reason}");
        // What was refused before is nothing new.
        let (_, before) = compiled([("two.yml", broken.1.as_str())]);
        let reason = why(bad(), &before);
        assert!(reason.starts_with("three.yml:") && !reason.contains("more)"), "{reason}");
        let good = Ok(vec![rule("one", "A"), broken.clone()]);
        let (rules, refusals) = renewed(good, &before).unwrap();
        assert_eq!((rules.rules().len(), refusals.len()), (1, 1));
    }
}
