//! Correlations: rules about several events within a time.
//!
//! The one idea: a correlation never sees an event. It sees *hits*: that a rule matched, when, and the few
//! values that it groups by or counts. Compiling (`compile`) turns names into numbers once: each rule knows
//! which values are wanted of its events and which correlations it feeds; each correlation knows where in
//! those values its own are. The [`Correlator`](crate::Correlator) (`state`) then keeps a window of hits
//! for each group (`window`) and asks the condition whenever a hit came in.
//!
//! A correlation that feeds another one does so like a rule: what fires is a hit, with values.

pub(crate) mod compile;
pub(crate) mod section;
pub(crate) mod state;
mod window;

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

use crate::rule::RuleIndex;
use section::{Asked, Kind};

/// Correlations in one set.
pub const CORRELATIONS: usize = 10_000;

/// Rules that one correlation may refer to. The ordered kind keeps a table of their square in each group.
pub const RULES_A_CORRELATION: usize = 32;

/// Fields that one correlation may group by, and fields that it may count the values of.
pub const FIELDS_A_CORRELATION: usize = 16;

/// How deep correlations may refer to one another.
pub const CHAIN: usize = 8;

/// The largest count that a condition may ask for: what is asked for must also be kept.
pub const COUNTED: u64 = 100_000;

/// Compiled correlations.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Correlations {
    /// Each after those that it refers to.
    plans: Vec<Plan>,
    needs: HashMap<RuleIndex, Needs>,
    /// Rules that are there for correlations only.
    silent: HashSet<RuleIndex>,
}

/// What correlations want of the events that a rule matches.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Needs {
    fields: Vec<Box<str>>,
    feeds: Vec<Feed>,
}

/// Where a hit goes: which correlation, as which of the rules that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Feed {
    plan: usize,
    input: usize,
}

/// One correlation.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    rule: RuleIndex,
    kind: Kind,
    timespan_nanos: i64,
    asked: Asked,
    /// The names that it groups by, as its author wrote them.
    group_by: Vec<Box<str>>,
    inputs: Vec<Input>,
    /// What it passes on when it fires, in this order.
    passes: Vec<Passed>,
    feeds: Vec<Feed>,
}

/// One rule that a correlation refers to, and where in its values the correlation's own are.
#[derive(Debug, Serialize, Deserialize)]
struct Input {
    group: Vec<usize>,
    counted: Vec<usize>,
    carried: Vec<usize>,
}

/// A value that a correlation passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Passed {
    /// One that it groups by.
    Group(usize),
    /// All that its hits have in a field that it only carries.
    Carried(usize),
}

impl Correlations {
    /// The fields that are wanted of events that `rule` matches. None if no correlation refers to it.
    pub(crate) fn wanted_of(&self, rule: RuleIndex) -> Option<&[Box<str>]> {
        self.needs.get(&rule).map(|needs| &*needs.fields)
    }

    /// Whether a match of `rule` is to be told by itself.
    pub(crate) fn is_told(&self, rule: RuleIndex) -> bool {
        !self.silent.contains(&rule)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    fn feeds_of(&self, rule: RuleIndex) -> &[Feed] {
        self.needs.get(&rule).map_or(&[], |needs| &needs.feeds)
    }
}
