//! What is known of a rule beside its condition, and of one that was refused.

use std::fmt;
use std::sync::Arc;

use cordon_model::finding::{Level, RuleRef};
use serde::{Deserialize, Serialize};

use crate::lower::Fault;

/// A rule's number in one [`RuleSet`](crate::RuleSet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleIndex(pub u32);

/// Where a rule looks, as its author wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogSource {
    /// Whose logs: `windows`, `linux`…
    pub product: Option<Box<str>>,
    /// What kind of event: `process_creation`…
    pub category: Option<Box<str>>,
    /// Which log of the product: `security`, `auditd`…
    pub service: Option<Box<str>>,
}

impl LogSource {
    /// The log source as parsed.
    pub(crate) fn of(parsed: &rsigma_parser::LogSource) -> Result<Self, Fault> {
        if let Some(unknown) = parsed.custom.keys().min() {
            return Err(Fault {
                reason: format!(
                    "in `logsource`: `{unknown}` is not known; use product, category and service"
                ),
                near: Some(unknown.clone()),
            });
        }
        Ok(Self {
            product: parsed.product.as_deref().map(Into::into),
            category: parsed.category.as_deref().map(Into::into),
            service: parsed.service.as_deref().map(Into::into),
        })
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts =
            [("product", &self.product), ("category", &self.category), ("service", &self.service)];
        let mut any = false;
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, "{}{name} {value}", if any { ", " } else { "" })?;
                any = true;
            }
        }
        if any { Ok(()) } else { f.write_str("any log") }
    }
}

/// A rule as people know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Its id; the title if the author gave none.
    pub id: String,
    /// Its title.
    pub title: String,
    /// How serious a match is; informational if the author doesn't say.
    pub level: Level,
    /// Its tags as written.
    pub tags: Vec<String>,
    /// Where it looks.
    pub log_source: LogSource,
    /// Who wrote it.
    pub author: Option<String>,
    /// What it is about, in its author's words.
    pub description: Option<String>,
    /// What else may look so, in its author's words.
    pub false_positives: Vec<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// Where it was loaded from: a path, or the name of a pack.
    pub origin: Arc<str>,
    /// The line of its document's start there, from 1.
    pub line: usize,
}

impl RuleInfo {
    /// What a finding says of its rule.
    #[must_use]
    pub fn reference(&self) -> RuleRef {
        RuleRef {
            id: self.id.clone(),
            title: self.title.clone(),
            level: self.level,
            tags: self.tags.clone(),
        }
    }
}

/// A rule that wasn't loaded, and why. The other rules of its file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where it is: a path, or the name of a pack.
    pub origin: Arc<str>,
    /// The line to look at, from 1: of the fault where it is known, else of the document's start.
    pub line: usize,
    /// The rule's title or id, if it could be read.
    pub rule: Option<String>,
    /// What is wrong and what to do, in a rule author's words.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.origin, self.line)?;
        if let Some(rule) = &self.rule {
            write!(f, "{rule}: ")?;
        }
        f.write_str(&self.reason)
    }
}
