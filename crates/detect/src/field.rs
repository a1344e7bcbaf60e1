//! One field's machine: every predicate that a group of rules has about it, answered in one pass over a
//! value.
//!
//! The one idea: literals of `contains`, `startswith`, `endswith`, globs, case-sensitive texts and regular
//! expressions are all found in one pass over the folded value; whole values by one look-up in a hash
//! table; numbers by a search in sorted bounds; addresses by one look-up a prefix length. Only what has no
//! literal at all is tried by itself. So the cost follows the value's bytes and its hits, not the number
//! of rules.

use cordon_model::event::Value;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::fold::fold;
use crate::literals::Finder;
use crate::number::Number;
use crate::pattern::Shape;
use crate::predicate::{Comparison, Place, Seen, Test, address};
use crate::quick_hash::QuickMap;
use crate::required::required_texts;
use crate::timestamp::TimePart;

/// A predicate's number within its group.
pub(crate) type Local = u32;

/// What is told of a value: which predicates hold, and which must be tried on it.
pub(crate) trait Verdicts {
    /// The predicate holds for the value.
    fn holds(&mut self, predicate: Local);
    /// The predicate may hold for the value: its definition must say. May come more than once.
    fn may_hold(&mut self, predicate: Local);
}

/// The machine of one field.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct FieldMachine {
    exists: Vec<Local>,
    anything: Vec<Local>,
    whole: QuickMap<Box<str>, Vec<Answer>>,
    literals: Option<Literals>,
    untriggered: Vec<Local>,
    networks: Networks,
    numbers: Bounds<Number>,
    times: Vec<(TimePart, Bounds<i64>)>,
    /// Whether a text that is looked for is a [code](is_code).
    seeks_codes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Anywhere,
    AtStart,
    AtEnd,
    Ask,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Answer {
    how: How,
    predicate: Local,
}

#[derive(Debug, Serialize, Deserialize)]
struct Literals {
    finder: Finder,
    /// By literal: where its answers start in `answers`; one more at the end.
    starts: Vec<u32>,
    answers: Vec<Answer>,
}

/// Collects a field's predicates.
#[derive(Debug, Default)]
pub(crate) struct FieldMachineBuilder {
    machine: FieldMachine,
    literals: QuickMap<String, Vec<Answer>>,
}

impl FieldMachineBuilder {
    /// Adds a predicate about this field. [`Test::Null`] and [`Test::SameAs`] are not answered by a
    /// value and don't belong here.
    pub(crate) fn add(&mut self, predicate: Local, test: &Test) {
        let machine = &mut self.machine;
        match test {
            Test::Exists => machine.exists.push(predicate),
            Test::Text(pattern) => {
                let how = |how| if pattern.is_cased() { How::Ask } else { how };
                if pattern.shape() == Shape::Anything {
                    machine.anything.push(predicate);
                } else if pattern.shape() == Shape::Equals("") {
                    machine
                        .whole
                        .entry("".into())
                        .or_default()
                        .push(Answer { how: How::Anywhere, predicate });
                } else if let Some((place, texts)) = pattern.plain_forms() {
                    for text in texts {
                        match place {
                            Place::Whole => {
                                let answer = Answer { how: how(How::Anywhere), predicate };
                                self.machine
                                    .whole
                                    .entry(fold(&text).into())
                                    .or_default()
                                    .push(answer);
                            }
                            Place::Anywhere => self.literal(&text, how(How::Anywhere), predicate),
                            Place::Start => self.literal(&text, how(How::AtStart), predicate),
                            Place::End => self.literal(&text, how(How::AtEnd), predicate),
                        }
                    }
                } else if let Some(texts) = pattern.required_texts() {
                    for text in texts {
                        self.literal(&text, How::Ask, predicate);
                    }
                } else {
                    machine.untriggered.push(predicate);
                }
            }
            Test::Regex(expression) => match required_texts(&expression.source) {
                Some(texts) => {
                    for text in texts {
                        self.literal(&text, How::Ask, predicate);
                    }
                }
                None => machine.untriggered.push(predicate),
            },
            Test::Network(network) => machine.networks.add(network, predicate),
            Test::Compare(comparison, number) => {
                machine.numbers.add(*comparison, *number, predicate)
            }
            Test::Time(part, comparison, number) => {
                let at = machine.times.iter().position(|(known, _)| known == part).unwrap_or_else(
                    || {
                        machine.times.push((*part, Bounds::default()));
                        machine.times.len() - 1
                    },
                );
                if let Some((_, bounds)) = machine.times.get_mut(at) {
                    bounds.add(*comparison, *number, predicate);
                }
            }
            Test::Null | Test::SameAs(_) => {}
        }
    }

    fn literal(&mut self, text: &str, how: How, predicate: Local) {
        self.literals.entry(fold(text)).or_default().push(Answer { how, predicate });
    }

    /// The machine.
    pub(crate) fn build(mut self) -> FieldMachine {
        self.machine.numbers.sort();
        self.machine.times.iter_mut().for_each(|(_, bounds)| bounds.sort());
        let mut texts = self.machine.whole.keys().map(AsRef::as_ref);
        self.machine.seeks_codes =
            texts.any(is_code_text) || self.literals.keys().any(|text| is_code_text(text));
        if self.literals.is_empty() {
            return self.machine;
        }
        // In order of text, so that the same rules always give the same machine.
        let mut literals: Vec<(String, Vec<Answer>)> = self.literals.into_iter().collect();
        literals.sort_by(|(left, _), (right, _)| left.cmp(right));
        let texts: Vec<&[u8]> = literals.iter().map(|(text, _)| text.as_bytes()).collect();
        match Finder::new(&texts) {
            Ok(finder) => {
                let mut starts = Vec::with_capacity(literals.len() + 1);
                let mut answers = Vec::new();
                for (_, own) in literals {
                    starts.push(answers.len() as u32);
                    answers.extend(own);
                }
                starts.push(answers.len() as u32);
                self.machine.literals = Some(Literals { finder, starts, answers });
            }
            // Only past 2^31 states: slower then, but still right.
            Err(_) => {
                let answers = literals.into_iter().flat_map(|(_, answers)| answers);
                self.machine.untriggered.extend(answers.map(|answer| answer.predicate));
            }
        }
        self.machine
    }
}

impl FieldMachine {
    /// Leaves out the predicates that every value would have to be tried for, but those that are needed at
    /// once: they are asked when a rule gets as far as them.
    pub(crate) fn put_off(&mut self, is_needed: impl Fn(Local) -> bool) -> Vec<Local> {
        let (needed, put_off) = std::mem::take(&mut self.untriggered)
            .into_iter()
            .partition(|predicate| is_needed(*predicate));
        self.untriggered = needed;
        put_off
    }

    /// Whether nothing of this machine holds for a [code](is_code).
    pub(crate) fn passes_codes(&self) -> bool {
        let asks_all = [&self.exists, &self.anything, &self.untriggered];
        let has_more =
            !self.networks.is_empty() || !self.numbers.is_empty() || !self.times.is_empty();
        !self.seeks_codes && !has_more && asks_all.iter().all(|predicates| predicates.is_empty())
    }

    /// Says of every predicate whether it holds for this value.
    pub(crate) fn observe(&self, seen: Seen<'_>, verdicts: &mut impl Verdicts) {
        self.exists.iter().for_each(|predicate| verdicts.holds(*predicate));
        if seen.is_null() {
            return;
        }
        self.anything.iter().for_each(|predicate| verdicts.holds(*predicate));
        self.untriggered.iter().for_each(|predicate| verdicts.may_hold(*predicate));
        if !self.whole.is_empty()
            && let Some(answers) = self.whole.get(seen.folded)
        {
            for answer in answers {
                match answer.how {
                    How::Ask => verdicts.may_hold(answer.predicate),
                    How::Anywhere | How::AtStart | How::AtEnd => verdicts.holds(answer.predicate),
                }
            }
        }
        if let Some(literals) = &self.literals {
            literals.find(seen.folded, verdicts);
        }
        if !self.networks.is_empty()
            && let Some(address) = address(seen.text)
        {
            self.networks.find(IpNet::from(address), verdicts);
        }
        if !self.numbers.is_empty()
            && let Some(number) = Number::of(seen.value)
        {
            self.numbers.find(&number, verdicts);
        }
        for (part, bounds) in &self.times {
            if let Some(number) = part.of(seen.text) {
                bounds.find(&number, verdicts);
            }
        }
    }
}

/// Whether a value is a code: null, a whole number, or a text of digits, letters of hexadecimal numbers, times
/// and SIDs, and the marks between them. Of a Windows event two values in three are: numbers of processes,
/// threads and records, GUIDs, times. Words have other letters.
pub(crate) fn is_code(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Int(_) | Value::Unsigned(_) => true,
        Value::Bool(_) | Value::Float(_) => false,
        Value::Text(text) => is_code_text(text),
    }
}

fn is_code_text(text: &str) -> bool {
    text.bytes().all(|byte| {
        matches!(
            byte,
            b'0'..=b'9'
                | b'a'..=b'f'
                | b'A'..=b'F'
                | b't'
                | b'T'
                | b'z'
                | b'Z'
                | b's'
                | b'S'
                | b'x'
                | b'X'
                | b'{'
                | b'}'
                | b'-'
                | b':'
                | b'.'
        )
    })
}

impl Literals {
    fn find(&self, folded: &str, verdicts: &mut impl Verdicts) {
        self.finder.find(folded.as_bytes(), &mut |literal, begin, end| {
            let literal = literal as usize;
            let answers = match self.starts.get(literal..literal + 2) {
                Some(&[from, to]) => {
                    self.answers.get(from as usize..to as usize).unwrap_or_default()
                }
                _ => return,
            };
            for answer in answers {
                let is_there = match answer.how {
                    How::Anywhere => true,
                    How::AtStart => begin == 0,
                    How::AtEnd => end == folded.len(),
                    How::Ask => {
                        verdicts.may_hold(answer.predicate);
                        continue;
                    }
                };
                if is_there {
                    verdicts.holds(answer.predicate);
                }
            }
        });
    }
}

/// Networks by prefix length: at most 33 + 129 look-ups an address, however many networks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Networks(Vec<(u8, bool, QuickMap<IpNet, Vec<Local>>)>);

impl Networks {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, network: &IpNet, predicate: Local) {
        let (length, is_v4) = (network.prefix_len(), network.network().is_ipv4());
        let at = self.0.iter().position(|(l, v4, _)| (*l, *v4) == (length, is_v4)).unwrap_or_else(
            || {
                self.0.push((length, is_v4, QuickMap::default()));
                self.0.len() - 1
            },
        );
        if let Some((_, _, networks)) = self.0.get_mut(at) {
            networks.entry(network.trunc()).or_default().push(predicate);
        }
    }

    fn find(&self, address: IpNet, verdicts: &mut impl Verdicts) {
        let address = address.addr();
        for (length, is_v4, networks) in &self.0 {
            if *is_v4 != address.is_ipv4() {
                continue;
            }
            let Ok(network) = IpNet::new(address, *length) else { continue };
            for predicate in networks.get(&network.trunc()).into_iter().flatten() {
                verdicts.holds(*predicate);
            }
        }
    }
}

/// Bounds in order: those that hold for a number are a range of each list.
#[derive(Debug, Serialize, Deserialize)]
struct Bounds<N> {
    equal: Vec<(N, Local)>,
    less: Vec<(N, Local)>,
    less_or_equal: Vec<(N, Local)>,
    greater: Vec<(N, Local)>,
    greater_or_equal: Vec<(N, Local)>,
    is_empty: bool,
}

impl<N> Default for Bounds<N> {
    fn default() -> Self {
        Self {
            equal: Vec::new(),
            less: Vec::new(),
            less_or_equal: Vec::new(),
            greater: Vec::new(),
            greater_or_equal: Vec::new(),
            is_empty: true,
        }
    }
}

impl<N: Ord> Bounds<N> {
    fn is_empty(&self) -> bool {
        self.is_empty
    }

    fn add(&mut self, comparison: Comparison, bound: N, predicate: Local) {
        self.is_empty = false;
        match comparison {
            Comparison::Equal => &mut self.equal,
            Comparison::Less => &mut self.less,
            Comparison::LessOrEqual => &mut self.less_or_equal,
            Comparison::Greater => &mut self.greater,
            Comparison::GreaterOrEqual => &mut self.greater_or_equal,
        }
        .push((bound, predicate));
    }

    fn sort(&mut self) {
        for list in [
            &mut self.equal,
            &mut self.less,
            &mut self.less_or_equal,
            &mut self.greater,
            &mut self.greater_or_equal,
        ] {
            list.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
    }

    fn find(&self, seen: &N, verdicts: &mut impl Verdicts) {
        let below = |list: &[(N, Local)]| list.partition_point(|(bound, _)| bound < seen);
        let up_to = |list: &[(N, Local)]| list.partition_point(|(bound, _)| bound <= seen);
        let ranges = [
            self.equal.get(below(&self.equal)..up_to(&self.equal)),
            self.less.get(up_to(&self.less)..),
            self.less_or_equal.get(below(&self.less_or_equal)..),
            self.greater.get(..below(&self.greater)),
            self.greater_or_equal.get(..up_to(&self.greater_or_equal)),
        ];
        for (_, predicate) in ranges.into_iter().flatten().flatten() {
            verdicts.holds(*predicate);
        }
    }
}
