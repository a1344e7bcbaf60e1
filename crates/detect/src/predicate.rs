//! Predicates: the smallest questions that rules ask, each about one field (or, for a keyword, about any
//! value).
//!
//! The one idea: a predicate has a plain definition, [`Test::holds`], which says for one value whether
//! it holds. The machines of `field.rs` answer thousands of predicates at once and must
//! agree with it; explanations and rare cases use it directly.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use cordon_model::event::Value;
use ipnet::IpNet;
use regex_automata::meta::Regex;
use serde::{Deserialize, Serialize};

use crate::modifiers::{REGEX_BYTES, regex};
use crate::number::Number;
use crate::pattern::Pattern;
use crate::timestamp::TimePart;

/// A question about one field of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Predicate {
    /// Sigma's name of the field; none: any value of the event (a keyword).
    pub field: Option<Box<str>>,
    /// What is asked of its values.
    pub test: Test,
}

/// What is asked of a field's values. Most tests hold for a field if they hold for one of its values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Test {
    /// The value as text matches.
    Text(Pattern),
    /// The value as text has a match of a regular expression in it.
    Regex(Expression),
    /// The value is an address of this network.
    Network(IpNet),
    /// The value is a number that compares so to this one.
    Compare(Comparison, Number),
    /// The value is a date with a part that compares so to this number.
    Time(TimePart, Comparison, i64),
    /// The value compares so to a value of another field of the same event.
    SameAs(Reference),
    /// The field isn't there, or is there and null.
    Null,
    /// The field is there, be it empty or null.
    Exists,
}

/// How two numbers are to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// The event's is equal.
    Equal,
    /// The event's is less.
    Less,
    /// The event's is less or equal.
    LessOrEqual,
    /// The event's is greater.
    Greater,
    /// The event's is greater or equal.
    GreaterOrEqual,
}

impl Comparison {
    /// Whether `seen` compares so to `asked`.
    #[must_use]
    pub fn holds<N: Ord>(self, seen: &N, asked: &N) -> bool {
        match self {
            Self::Equal => seen == asked,
            Self::Less => seen < asked,
            Self::LessOrEqual => seen <= asked,
            Self::Greater => seen > asked,
            Self::GreaterOrEqual => seen >= asked,
        }
    }
}

/// A reference to another field, as `fieldref` makes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// Sigma's name of the other field.
    pub field: Box<str>,
    /// Where the other field's value must be.
    pub place: Place,
    /// Whether case counts.
    pub cased: bool,
}

/// Where one text is in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// It is all of it.
    Whole,
    /// Anywhere in it.
    Anywhere,
    /// At its start.
    Start,
    /// At its end.
    End,
}

impl Place {
    /// Whether `part` is at this place of `text`.
    #[must_use]
    pub fn holds(self, text: &str, part: &str) -> bool {
        match self {
            Self::Whole => text == part,
            Self::Anywhere => text.contains(part),
            Self::Start => text.starts_with(part),
            Self::End => text.ends_with(part),
        }
    }
}

/// A compiled regular expression that compares by its source.
#[derive(Debug, Clone)]
pub struct Expression {
    /// Its text, flags included, as the engine reads it.
    pub source: Arc<str>,
    /// Folded texts of which every match has one in it; none if that can't be said.
    pub needs: Option<Arc<[String]>>,
    /// The machine: linear in the value's length. Of rules that were stored it is made when it is first
    /// needed: most never are, and none is quickly made.
    regex: OnceLock<Option<Regex>>,
}

impl Expression {
    /// An expression and its machine.
    pub(crate) fn new(source: Arc<str>, needs: Option<Arc<[String]>>, regex: Regex) -> Self {
        Self { source, needs, regex: Some(regex).into() }
    }

    /// Whether it has a match in `text`.
    fn is_match(&self, text: &str) -> bool {
        let made = || regex(&self.source, REGEX_BYTES).ok();
        self.regex.get_or_init(made).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl Serialize for Expression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.source, &self.needs).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (source, needs) = <(Arc<str>, Option<Arc<[String]>>)>::deserialize(deserializer)?;
        Ok(Self { source, needs, regex: OnceLock::new() })
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Expression {}

impl Hash for Expression {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

/// A value of an event in the forms that tests want.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'v> {
    /// The value.
    pub value: &'v Value<'v>,
    /// As text: numbers in decimal, truth values as `true` and `false`; empty for null.
    pub text: &'v str,
    /// The fold of that text.
    pub folded: &'v str,
}

impl Seen<'_> {
    /// Whether the value is null: then it has no text.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

impl Test {
    /// Whether the test holds for one value. [`Test::Null`] and [`Test::SameAs`] are about more than one
    /// value: for the first this says whether the value is null, for the second it says no.
    #[must_use]
    pub fn holds(&self, seen: Seen<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Null => seen.is_null(),
            Self::SameAs(_) => false,
            _ if seen.is_null() => false,
            Self::Text(pattern) if pattern.is_cased() => pattern.matches(seen.text),
            Self::Text(pattern) => pattern.matches(seen.folded),
            Self::Regex(expression) => {
                let may_match = |needs: &Arc<[String]>| {
                    needs.iter().any(|needed| seen.folded.contains(needed.as_str()))
                };
                expression.needs.as_ref().is_none_or(may_match) && expression.is_match(seen.text)
            }
            Self::Network(network) => {
                address(seen.text).is_some_and(|address| network.contains(&address))
            }
            Self::Compare(comparison, asked) => {
                Number::of(seen.value).is_some_and(|number| comparison.holds(&number, asked))
            }
            Self::Time(part, comparison, asked) => {
                part.of(seen.text).is_some_and(|number| comparison.holds(&number, asked))
            }
        }
    }
}

/// The address that `text` writes. An IPv4 address written as an IPv6 one is that IPv4 address, which is
/// how dual-stack sockets report it.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    // The longest address, an IPv6 one with an IPv4 tail, has 45 characters.
    (text.len() <= 45).then(|| text.parse::<IpAddr>().ok())?.map(|address| address.to_canonical())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "is",
            Self::Less => "lt",
            Self::LessOrEqual => "lte",
            Self::Greater => "gt",
            Self::GreaterOrEqual => "gte",
        })
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern) => pattern.fmt(f),
            Self::Regex(expression) => write!(f, "re {}", expression.source),
            Self::Network(network) => write!(f, "cidr {network}"),
            Self::Compare(comparison, number) => write!(f, "{comparison} {number}"),
            Self::Time(part, comparison, number) => write!(f, "{part} {comparison} {number}"),
            Self::SameAs(reference) => {
                f.write_str(match reference.place {
                    Place::Whole => "is the same as ",
                    Place::Anywhere => "contains the value of ",
                    Place::Start => "startswith the value of ",
                    Place::End => "endswith the value of ",
                })?;
                f.write_str(&reference.field)
            }
            Self::Null => f.write_str("is null or absent"),
            Self::Exists => f.write_str("exists"),
        }
    }
}
