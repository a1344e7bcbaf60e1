//! A correlation as its author wrote it, read strictly.
//!
//! The one idea: the parser passes over what it can't read here (a rule's id that isn't a text, a key
//! with a typing error), which would change what the correlation means. So the section is read once more
//! from its text, and whatever isn't understood refuses the correlation.

use std::collections::BTreeMap;

use rsigma_parser::{
    ConditionExpr, CorrelationCondition, CorrelationRule, CorrelationType, Timespan,
};
use serde::{Deserialize, Serialize};
use yaml_serde::Value;

use super::{COUNTED, FIELDS_A_CORRELATION, RULES_A_CORRELATION};
use crate::document::Document;
use crate::lower::Fault;
use crate::number::Number;
use crate::stored::deeper;

/// The longest timespan: ten years of 365 days. Nanoseconds are counted in 63 bits, which are 292 years.
const TIMESPAN_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

/// What a correlation does with its hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Counts them.
    EventCount,
    /// Counts the different values of fields.
    ValueCount,
    /// Counts the different rules among them.
    Temporal,
    /// Counts the different rules that come in their order.
    TemporalOrdered,
    /// Adds the values of a field.
    ValueSum,
    /// Takes their average.
    ValueAverage,
    /// Takes the value below which so many in a hundred of them are; the median is 50.
    ValuePercentile(u8),
}

impl Kind {
    /// Whether it reckons with numbers.
    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Self::ValueSum | Self::ValueAverage | Self::ValuePercentile(_))
    }

    /// Whether it asks which rules happened.
    pub(crate) fn is_temporal(self) -> bool {
        matches!(self, Self::Temporal | Self::TemporalOrdered)
    }
}

/// What the outcome must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// All of these of a number.
    Bounds(Vec<(Operator, i64)>),
    /// Of which rules happened.
    Expression(Expression),
}

/// A comparison with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// A condition in words over the rules that a correlation refers to, by their place in its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Expression {
    Happened(usize),
    All(#[serde(deserialize_with = "deeper")] Vec<Expression>),
    Any(#[serde(deserialize_with = "deeper")] Vec<Expression>),
    Not(#[serde(deserialize_with = "deeper")] Box<Expression>),
}

impl Asked {
    /// Whether a number is as asked. An expression isn't about numbers.
    pub(crate) fn holds_for(&self, number: &Number) -> bool {
        let Self::Bounds(bounds) = self else { return false };
        bounds.iter().all(|(operator, bound)| {
            let ordering = number.cmp(&Number::Whole(i128::from(*bound)));
            match operator {
                Operator::Less => ordering.is_lt(),
                Operator::LessOrEqual => ordering.is_le(),
                Operator::Greater => ordering.is_gt(),
                Operator::GreaterOrEqual => ordering.is_ge(),
                Operator::Equal => ordering.is_eq(),
                Operator::NotEqual => ordering.is_ne(),
            }
        })
    }
}

impl Expression {
    /// Whether it holds, where `happened` says of each rule whether it happened.
    pub(crate) fn holds(&self, happened: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Happened(rule) => happened(*rule),
            Self::All(parts) => parts.iter().all(|part| part.holds(happened)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(happened)),
            Self::Not(part) => !part.holds(happened),
        }
    }

    fn mentions(&self, rule: usize) -> bool {
        match self {
            Self::Happened(mentioned) => *mentioned == rule,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.mentions(rule)),
            Self::Not(part) => part.mentions(rule),
        }
    }
}

/// Field names by rule, by alias.
pub(crate) type Aliases = BTreeMap<String, BTreeMap<String, String>>;

/// A correlation as written.
#[derive(Debug)]
pub(crate) struct Written {
    pub kind: Kind,
    /// Ids and names.
    pub rules: Vec<String>,
    pub group_by: Vec<String>,
    pub timespan_nanos: i64,
    pub asked: Asked,
    /// The fields whose values are counted or reckoned with.
    pub counted: Vec<String>,
    pub aliases: Aliases,
    pub generate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(rename = "type")]
    _kind: Value,
    rules: Option<Value>,
    #[serde(rename = "group-by")]
    group_by: Option<Value>,
    timespan: Option<String>,
    timeframe: Option<String>,
    condition: Option<Value>,
    #[serde(default)]
    aliases: Aliases,
    generate: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    field: Option<Value>,
    percentile: Option<u8>,
    lt: Option<i64>,
    lte: Option<i64>,
    gt: Option<i64>,
    gte: Option<i64>,
    eq: Option<i64>,
    neq: Option<i64>,
}

impl Written {
    /// Reads the correlation of `document`, which the parser took for `parsed`.
    pub(crate) fn of(parsed: &CorrelationRule, document: &Document<'_>) -> Result<Self, Fault> {
        let at = |near: &str| {
            let near = near.to_owned();
            move |reason: String| Fault { reason, near: Some(near) }
        };
        let Some(section) = document.section("correlation") else {
            let reason =
                "a correlation can't stand in a file with `action:`: give it a file of its own";
            return Err(at("correlation")(reason.to_owned()));
        };
        if let Some(extension) = parsed.custom_attributes.keys().find(|key| changes_meaning(key)) {
            return Err(at(extension)(format!("`{extension}` isn't part of Sigma 2")));
        }
        let section: Section = yaml_serde::from_value(section)
            .map_err(|error| at("correlation")(format!("in `correlation`: {error}")))?;
        let group_by = texts(section.group_by.as_ref()).map_err(at("group-by"))?;
        let timespan_nanos = timespan(section.timespan.as_deref(), section.timeframe.as_deref())
            .map_err(at("timespan"))?;
        let mut rules = texts(section.rules.as_ref()).map_err(at("rules"))?;
        let condition = section.condition;
        let bounds = match &condition {
            Some(Value::Mapping(_)) => {
                let bounds: Bounds = yaml_serde::from_value(condition.clone().unwrap_or_default())
                    .map_err(|error| at("condition")(format!("in `condition`: {error}")))?;
                Some(bounds)
            }
            _ => None,
        };
        let counted =
            texts(bounds.as_ref().and_then(|bounds| bounds.field.as_ref())).map_err(at("field"))?;
        let kind =
            kind(parsed.correlation_type, bounds.as_ref(), &counted).map_err(at("condition"))?;
        if kind == Kind::Temporal
            && rules.is_empty()
            && let CorrelationCondition::Extended(expression) = &parsed.condition
        {
            names_in(expression, &mut rules);
        }
        let number = rules.len();
        if number == 0 {
            return Err(at("correlation")("`rules` is missing: name the rules it is about".into()));
        }
        if number > RULES_A_CORRELATION {
            let reason = format!("it refers to more than {RULES_A_CORRELATION} rules");
            return Err(at("rules")(reason));
        }
        if let Some(twice) = first_double(&rules) {
            return Err(at("rules")(format!("`{twice}` stands there twice")));
        }
        if group_by.len() > FIELDS_A_CORRELATION || counted.len() > FIELDS_A_CORRELATION {
            let reason = format!("it groups by or counts more than {FIELDS_A_CORRELATION} fields");
            return Err(at("group-by")(reason));
        }
        if let Some(twice) = first_double(&group_by) {
            return Err(at("group-by")(format!("`{twice}` stands there twice")));
        }
        let asked = match (bounds, &parsed.condition) {
            (Some(bounds), _) => bounds.asked(kind, number).map_err(at("condition"))?,
            (None, CorrelationCondition::Extended(expression)) => {
                in_words(expression, kind, &rules).map_err(at("condition"))?
            }
            // The default: all of the rules.
            (None, CorrelationCondition::Threshold { .. }) if kind.is_temporal() => {
                Asked::Bounds(vec![(Operator::GreaterOrEqual, number as i64)])
            }
            (None, CorrelationCondition::Threshold { .. }) => {
                return Err(at("correlation")("`condition` is missing".into()));
            }
        };
        Ok(Self {
            kind,
            rules,
            group_by,
            timespan_nanos,
            asked,
            counted,
            aliases: section.aliases,
            generate: parsed.generate || section.generate.unwrap_or(false),
        })
    }
}

impl Written {
    /// The names of all fields that may be read for its sake.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let aliased = self.aliases.values().flat_map(|fields| fields.values());
        self.group_by.iter().chain(&self.counted).chain(aliased).map(String::as_str)
    }
}

/// Keys by which another engine changes what a correlation means.
fn changes_meaning(key: &str) -> bool {
    ["rsigma.window", "rsigma.gap"].contains(&key)
}

/// A text or a list of texts.
fn texts(value: Option<&Value>) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ => Err("it must be a list of texts; put quotes around numbers".to_owned()),
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(values)) => values.iter().map(text).collect(),
        Some(value) => Ok(vec![text(value)?]),
    }
}

fn first_double(texts: &[String]) -> Option<&String> {
    texts
        .iter()
        .enumerate()
        .find(|(at, text)| texts.iter().take(*at).any(|other| other == *text))
        .map(|(_, text)| text)
}

fn timespan(timespan: Option<&str>, timeframe: Option<&str>) -> Result<i64, String> {
    let written = match (timespan, timeframe) {
        (Some(timespan), None) => timespan,
        (None, Some(timeframe)) => timeframe,
        (Some(_), Some(_)) => return Err("there are both `timespan` and `timeframe`".into()),
        (None, None) => return Err("`timespan` is missing".into()),
    };
    let seconds = Timespan::parse(written)
        .map_err(|_| format!("`{written}` is no timespan: write a number and one of s, m, h, d"))?
        .seconds;
    match seconds {
        0 => Err("a timespan of nothing holds nothing".into()),
        // Both fit: ten years have 3 · 10^17 nanoseconds.
        1..=TIMESPAN_SECONDS => Ok(seconds as i64 * 1_000_000_000),
        _ => Err("the timespan is longer than ten years".into()),
    }
}

fn kind(
    parsed: CorrelationType,
    bounds: Option<&Bounds>,
    counted: &[String],
) -> Result<Kind, String> {
    let name = parsed.as_str();
    let percentile = bounds.and_then(|bounds| bounds.percentile);
    let kind = match parsed {
        CorrelationType::EventCount => Kind::EventCount,
        CorrelationType::ValueCount => Kind::ValueCount,
        CorrelationType::Temporal => Kind::Temporal,
        CorrelationType::TemporalOrdered => Kind::TemporalOrdered,
        CorrelationType::ValueSum => Kind::ValueSum,
        CorrelationType::ValueAvg => Kind::ValueAverage,
        CorrelationType::ValueMedian => Kind::ValuePercentile(50),
        CorrelationType::ValuePercentile => match percentile {
            Some(percentile @ 0..=100) => Kind::ValuePercentile(percentile),
            Some(_) => return Err("`percentile` is more than 100".into()),
            None => {
                return Err(
                    "value_percentile needs `percentile` in its condition: the bound alone \
                            doesn't say which value is compared with it"
                        .into(),
                );
            }
        },
    };
    if percentile.is_some() && parsed != CorrelationType::ValuePercentile {
        return Err(format!("`percentile` means nothing with {name}"));
    }
    match (kind, counted.len()) {
        (Kind::ValueCount, 0) => Err("value_count needs `field` in its condition".into()),
        (Kind::ValueCount, _) => Ok(kind),
        (kind, 1) if kind.is_numeric() => Ok(kind),
        (kind, _) if kind.is_numeric() => Err(format!("{name} needs one `field` in its condition")),
        (_, 0) => Ok(kind),
        _ => Err(format!("`field` means nothing with {name}")),
    }
}

impl Bounds {
    fn asked(&self, kind: Kind, rules: usize) -> Result<Asked, String> {
        let bounds: Vec<(Operator, i64)> = [
            (Operator::Less, self.lt),
            (Operator::LessOrEqual, self.lte),
            (Operator::Greater, self.gt),
            (Operator::GreaterOrEqual, self.gte),
            (Operator::Equal, self.eq),
            (Operator::NotEqual, self.neq),
        ]
        .into_iter()
        .filter_map(|(operator, bound)| Some((operator, bound?)))
        .collect();
        if bounds.is_empty() {
            return Err("it compares with nothing: use lt, lte, gt, gte, eq or neq".into());
        }
        let asked = Asked::Bounds(bounds);
        if !kind.is_numeric() {
            let most = if kind.is_temporal() { rules as i64 } else { COUNTED as i64 };
            asked.can_hold(most).then_some(()).ok_or_else(|| {
                format!(
                    "no count from 1 to {most} is that: a correlation is judged when an event \
                     comes, and there are no more to count"
                )
            })?;
        }
        Ok(asked)
    }
}

impl Asked {
    /// Whether some count from 1 to `most` is as asked: the truth only changes beside a bound.
    fn can_hold(&self, most: i64) -> bool {
        let Self::Bounds(bounds) = self else { return true };
        let beside =
            bounds.iter().flat_map(|(_, bound)| [-1, 0, 1].map(|by| bound.saturating_add(by)));
        [1, most].into_iter().chain(beside).any(|count| {
            (1..=most).contains(&count) && self.holds_for(&Number::Whole(i128::from(count)))
        })
    }
}

/// The names in an expression, each once, in order.
fn names_in(expression: &ConditionExpr, names: &mut Vec<String>) {
    match expression {
        ConditionExpr::Identifier(name) if !names.contains(name) => names.push(name.clone()),
        ConditionExpr::Identifier(_) | ConditionExpr::Selector { .. } => {}
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().for_each(|part| names_in(part, names));
        }
        ConditionExpr::Not(part) => names_in(part, names),
    }
}

fn in_words(expression: &ConditionExpr, kind: Kind, rules: &[String]) -> Result<Asked, String> {
    if kind != Kind::Temporal {
        return Err("only `type: temporal` has a condition in words".into());
    }
    let expression = over(expression, rules)?;
    let unused = rules.iter().enumerate().find(|(at, _)| !expression.mentions(*at));
    match unused {
        Some((_, rule)) => Err(format!("the condition says nothing of `{rule}`")),
        None => Ok(Asked::Expression(expression)),
    }
}

fn over(expression: &ConditionExpr, rules: &[String]) -> Result<Expression, String> {
    let all = |parts: &[ConditionExpr]| -> Result<Vec<Expression>, String> {
        parts.iter().map(|part| over(part, rules)).collect()
    };
    Ok(match expression {
        ConditionExpr::And(parts) => Expression::All(all(parts)?),
        ConditionExpr::Or(parts) => Expression::Any(all(parts)?),
        ConditionExpr::Not(part) => Expression::Not(Box::new(over(part, rules)?)),
        ConditionExpr::Identifier(name) => Expression::Happened(
            rules
                .iter()
                .position(|rule| rule == name)
                .ok_or_else(|| format!("`{name}` is none of its `rules`"))?,
        ),
        ConditionExpr::Selector { .. } => {
            return Err(format!("`{expression}`: name the rules; or say how many by gte"));
        }
    })
}
