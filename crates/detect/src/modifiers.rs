//! One line of a detection (`Field|modifier|modifier: values`) to a condition over predicates.
//!
//! The one idea: modifiers are applied in the order they are written, each turning a value into one or
//! more values of some kind; a modifier that makes no sense for the kind it meets refuses the rule. At
//! the end each value becomes one test (Sigma specification 2.1, appendix "modifiers").

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;
use regex_automata::meta::{BuildError, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;
use rsigma_parser::{DetectionItem, Modifier, SigmaString, SigmaValue};

use crate::budget::{Budget, MODIFIERS, PATTERN_BYTES_A_RULE};
use crate::number::Number;
use crate::pattern::{Pattern, Piece, Shape, pieces_of, with_any_dash};
use crate::placeholders::Placeholders;
use crate::predicate::{Comparison, Expression, Place, Reference, Test};
use crate::required::texts_in_each_match;
use crate::shorten::shortened;
use crate::timestamp::TimePart;

/// Most values that one written value may become by placeholders: 4,096 host names are a large list of
/// exceptions; a product of several lists is a mistake.
pub const EXPANSIONS: usize = 4096;

/// Largest compiled form of one regular expression: the `\w{1,64}` of a SigmaHQ rule needs 2 MiB, because
/// a word character is one of any script.
pub const REGEX_BYTES: usize = 8 << 20;

/// Longest text of one regular expression. SigmaHQ's longest has under 1 KiB.
pub const REGEX_TEXT_BYTES: usize = 32 << 10;

/// What is said where the account of regular expressions is empty.
const USED_UP: &str = "compiled, the regular expressions take more memory than a rule (32 MiB), a file \
    (128 MiB) and all rules together (512 MiB) may: shorten repetitions such as `\\w{1,64}`";

/// Most memory that one regular expression's lazily built table may take while it runs.
pub const REGEX_CACHE_BYTES: usize = 256 << 10;

/// 2^53: from here on a float stands for several whole numbers.
const WHOLE_FLOATS: f64 = 9_007_199_254_740_992.0;

/// One line of a detection, translated.
#[derive(Debug)]
pub struct Line {
    /// Whether all tests must hold, not one.
    pub all: bool,
    /// Whether the field must be there and the rest not hold.
    pub negated: bool,
    /// The tests; a test that must not hold is marked.
    pub tests: Vec<(Test, bool)>,
}

/// Translates a line. `keyword` lines have no field.
///
/// # Errors
/// What is wrong with the line, in a rule author's words.
pub(crate) fn translate(
    item: &DetectionItem,
    placeholders: &Placeholders,
    budget: &mut Budget,
) -> Result<Line, String> {
    let modifiers = &item.field.modifiers;
    if modifiers.len() > MODIFIERS {
        return Err(format!("it has more than {MODIFIERS} modifiers"));
    }
    let is_keyword = item.field.name.is_none();
    if item.values.is_empty() {
        return Err("the list of values is empty: it can never match".into());
    }
    let cased = modifiers.contains(&Modifier::Cased);
    let mut line = Line {
        all: modifiers.contains(&Modifier::All),
        negated: modifiers.contains(&Modifier::Neq),
        tests: Vec::new(),
    };
    if modifiers.contains(&Modifier::Exists) {
        line.tests.push(exists(item)?);
        return Ok(line);
    }
    for value in &item.values {
        let mut kinds = Vec::new();
        let kind = Kind::of(value)?;
        // Placeholders are in the value as written, wherever `expand` stands.
        if modifiers.contains(&Modifier::Expand) {
            kind.expanded(placeholders, &mut kinds)?;
        } else {
            kinds.push(kind);
        }
        for (position, modifier) in modifiers.iter().enumerate() {
            let before = modifiers.get(..position).unwrap_or_default();
            let mut next = Vec::with_capacity(kinds.len());
            for kind in kinds {
                kind.apply(*modifier, before, &mut next)?;
            }
            kinds = next;
            if kinds.len() > EXPANSIONS {
                return Err(format!("a value stands for more than {EXPANSIONS} others"));
            }
            budget.has_pattern_bytes(kinds.iter().map(Kind::bytes).sum())?;
        }
        budget.take_pattern_bytes(kinds.iter().map(Kind::bytes).sum())?;
        for kind in kinds {
            line.tests.push((kind.test(cased, is_keyword, budget)?, true));
        }
    }
    if line.all && modifiers.contains(&Modifier::Expand) && line.tests.len() != item.values.len() {
        return Err(
            "`expand` to a list and `all` together are ambiguous: list the values, or drop `all`"
                .into(),
        );
    }
    Ok(line)
}

fn exists(item: &DetectionItem) -> Result<(Test, bool), String> {
    if item.field.name.is_none() {
        return Err("`exists` needs a field".into());
    }
    if item.field.modifiers.len() > 1 {
        return Err("`exists` can't be combined with other modifiers".into());
    }
    match item.values.as_slice() {
        [SigmaValue::Bool(expected)] => Ok((Test::Exists, *expected)),
        _ => Err("`exists` takes one value, true or false, without quotes".into()),
    }
}

/// A value between modifiers.
#[derive(Debug, Clone)]
enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    /// As written, wildcards still to be read.
    String(SigmaString),
    /// Text with wildcards; `bytes` are what base64 encodes, when an encoding made some.
    Text {
        pieces: Vec<Piece>,
        bytes: Option<Vec<u8>>,
    },
    /// Encoded bytes that are no text (UTF-16 of characters beyond ASCII).
    Bytes(Vec<u8>),
    Regex {
        source: String,
        flags: String,
    },
    Network(IpNet),
    Compare(Comparison, Number),
    Part(TimePart, Comparison, Number),
    Reference(Box<str>, Place),
}

impl Kind {
    fn of(value: &SigmaValue) -> Result<Self, String> {
        Ok(match value {
            SigmaValue::Null => Self::Null,
            SigmaValue::Bool(bool) => Self::Bool(*bool),
            SigmaValue::Integer(whole) => Self::Number(Number::Whole(i128::from(*whole))),
            // The parser reads a whole number beyond 64 bits as the nearest float, which is another number.
            SigmaValue::Float(real) if real.abs() >= WHOLE_FLOATS && real.is_finite() => {
                return Err(
                    "a number is too large to be compared exactly: write it in quotes".into()
                );
            }
            SigmaValue::Float(real) => Number::from_float(*real)
                .map(Self::Number)
                .ok_or("`.nan` is no value that can be compared")?,
            // What the parser makes of a value that is no scalar: its debug form. Never search for that.
            SigmaValue::String(string)
                if ["Sequence [", "Mapping {", "Tagged("]
                    .iter()
                    .any(|form| string.original.starts_with(form)) =>
            {
                return Err(
                    "a value is a list or a mapping where a single value is expected".into()
                );
            }
            SigmaValue::String(string) => Self::String(string.clone()),
        })
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let of_piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::One | Piece::Run | Piece::Dash => 0,
        };
        size_of::<Self>()
            + match self {
                Self::String(string) => {
                    string.original.len() + string.parts.len() * size_of::<Piece>()
                }
                Self::Text { pieces, bytes } => {
                    let texts: usize = pieces.iter().map(of_piece).sum();
                    texts + size_of_val(pieces.as_slice()) + bytes.as_ref().map_or(0, Vec::len)
                }
                Self::Bytes(bytes) => bytes.len(),
                Self::Regex { source, .. } => source.len(),
                Self::Reference(field, _) => field.len(),
                _ => 0,
            }
    }

    /// As text with wildcards, if it is a kind that has one.
    fn into_text(self, modifier: &str) -> Result<(Vec<Piece>, Option<Vec<u8>>), String> {
        match self {
            Self::String(string) => Ok((pieces_of(&string), None)),
            Self::Text { pieces, bytes } => Ok((pieces, bytes)),
            Self::Number(number) => Ok((vec![Piece::Text(number.to_string())], None)),
            Self::Bool(bool) => Ok((vec![Piece::Text(bool.to_string())], None)),
            Self::Bytes(_) => {
                Err(format!("`{modifier}` can't follow an encoding of text beyond ASCII"))
            }
            Self::Null => Err(format!("`{modifier}` can't be applied to null")),
            _ => Err(format!("`{modifier}` can only be applied to text")),
        }
    }

    fn apply(
        self,
        modifier: Modifier,
        before: &[Modifier],
        results: &mut Vec<Self>,
    ) -> Result<(), String> {
        results.push(match modifier {
            // These are about the whole line, or were applied before.
            Modifier::All | Modifier::Neq | Modifier::Exists | Modifier::Expand => self,
            Modifier::Cased => match self {
                Self::Regex { .. } => self,
                Self::Reference(..) | Self::Text { .. } | Self::Bytes(_) | Self::String(_) => self,
                _ => return Err("`cased` can only be applied to text".into()),
            },
            Modifier::Contains => self.placed("contains", Place::Anywhere)?,
            Modifier::StartsWith => self.placed("startswith", Place::Start)?,
            Modifier::EndsWith => self.placed("endswith", Place::End)?,
            Modifier::WindAsh => {
                let (pieces, _) = self.into_text("windash")?;
                Self::Text { pieces: with_any_dash(pieces), bytes: None }
            }
            Modifier::Wide => self.encoded("utf16le", false, u16::to_le_bytes)?,
            Modifier::Utf16be => self.encoded("utf16be", false, u16::to_be_bytes)?,
            Modifier::Utf16 => self.encoded("utf16", true, u16::to_le_bytes)?,
            Modifier::Base64 => {
                let bytes = self.plain_bytes("base64")?;
                Self::Text { pieces: vec![Piece::Text(BASE64.encode(bytes))], bytes: None }
            }
            Modifier::Base64Offset => {
                let bytes = self.plain_bytes("base64offset")?;
                results.extend(base64_at_offsets(&bytes));
                return Ok(());
            }
            Modifier::Re => self.into_regex(before)?,
            Modifier::IgnoreCase => self.flagged('i')?,
            Modifier::Multiline => self.flagged('m')?,
            Modifier::DotAll => self.flagged('s')?,
            Modifier::Cidr => self.into_network()?,
            Modifier::Lt => self.compared(Comparison::Less)?,
            Modifier::Lte => self.compared(Comparison::LessOrEqual)?,
            Modifier::Gt => self.compared(Comparison::Greater)?,
            Modifier::Gte => self.compared(Comparison::GreaterOrEqual)?,
            Modifier::Minute => self.part(TimePart::Minute)?,
            Modifier::Hour => self.part(TimePart::Hour)?,
            Modifier::Day => self.part(TimePart::Day)?,
            Modifier::Week => self.part(TimePart::Week)?,
            Modifier::Month => self.part(TimePart::Month)?,
            Modifier::Year => self.part(TimePart::Year)?,
            Modifier::FieldRef => match self {
                Self::String(string) => match string.as_plain() {
                    Some(field) if !field.is_empty() => Self::Reference(field.into(), Place::Whole),
                    _ => return Err("`fieldref` needs a field's name, without wildcards".into()),
                },
                _ => return Err("`fieldref` needs a field's name".into()),
            },
        });
        Ok(())
    }

    fn placed(self, word: &str, place: Place) -> Result<Self, String> {
        match self {
            // A regular expression is searched for anywhere already.
            Self::Regex { .. } if place == Place::Anywhere => Ok(self),
            Self::Regex { .. } => {
                Err(format!("`re` and `{word}` can't be combined: use ^ or $ in the expression"))
            }
            Self::Reference(field, Place::Whole) => Ok(Self::Reference(field, place)),
            Self::Reference(..) => Err(format!("`{word}` can't follow another place modifier")),
            kind => {
                let (mut pieces, bytes) = kind.into_text(word)?;
                if matches!(place, Place::Anywhere | Place::End) {
                    pieces.insert(0, Piece::Run);
                }
                if matches!(place, Place::Anywhere | Place::Start) {
                    pieces.push(Piece::Run);
                }
                Ok(Self::Text { pieces, bytes })
            }
        }
    }

    /// UTF-16 as the log shows it: for ASCII, each character with a NUL; for the rest only as bytes.
    fn encoded(
        self,
        word: &str,
        mark: bool,
        to_bytes: impl Fn(u16) -> [u8; 2],
    ) -> Result<Self, String> {
        let (pieces, bytes) = self.into_text(word)?;
        if bytes.is_some() {
            return Err(format!("`{word}` can't follow another encoding"));
        }
        let encode = |text: &str| text.encode_utf16().flat_map(&to_bytes).collect::<Vec<u8>>();
        if let Some(text) = plain(&pieces) {
            let mut encoded = if mark { to_bytes(0xfeff).to_vec() } else { Vec::new() };
            encoded.extend(encode(&text));
            if !text.is_ascii() {
                return Ok(Self::Bytes(encoded));
            }
            let shown = String::from_utf8(encode(&text)).map_err(|_| "no text".to_owned())?;
            let shown = if mark { format!("\u{feff}{shown}") } else { shown };
            return Ok(Self::Text { pieces: vec![Piece::Text(shown)], bytes: Some(encoded) });
        }
        let mut shown: Vec<Piece> =
            mark.then(|| Piece::Text("\u{feff}".into())).into_iter().collect();
        for piece in pieces {
            shown.push(match piece {
                Piece::Text(text) => Piece::Text(
                    String::from_utf8(encode(&text))
                        .ok()
                        .filter(|_| text.is_ascii())
                        .ok_or_else(|| format!("`{word}` with wildcards needs ASCII text"))?,
                ),
                other => other,
            });
        }
        Ok(Self::Text { pieces: shown, bytes: None })
    }

    fn plain_bytes(self, word: &str) -> Result<Vec<u8>, String> {
        if let Self::Bytes(bytes) = self {
            return Ok(bytes);
        }
        let (pieces, bytes) = self.into_text(word)?;
        match (bytes, plain(&pieces)) {
            (Some(bytes), Some(_)) => Ok(bytes),
            (None, Some(text)) => Ok(text.into_bytes()),
            (_, None) => Err(format!(
                "`{word}` can't encode wildcards: put `contains` after it, or escape the wildcard by a backslash"
            )),
        }
    }

    fn into_regex(self, before: &[Modifier]) -> Result<Self, String> {
        let may_precede = |modifier: &Modifier| {
            matches!(modifier, Modifier::Expand | Modifier::All | Modifier::Neq | Modifier::Cased)
        };
        if !before.iter().all(may_precede) {
            return Err("`re` must be the first modifier".into());
        }
        match self {
            Self::String(string) => {
                Ok(Self::Regex { source: string.original, flags: String::new() })
            }
            Self::Number(number) => {
                Ok(Self::Regex { source: number.to_string(), flags: String::new() })
            }
            _ => Err("`re` needs text".into()),
        }
    }

    fn flagged(self, flag: char) -> Result<Self, String> {
        match self {
            Self::Regex { source, mut flags } => {
                if !flags.contains(flag) {
                    flags.push(flag);
                }
                Ok(Self::Regex { source, flags })
            }
            _ => Err(format!("`{flag}` is a flag of `re` and must follow it")),
        }
    }

    fn into_network(self) -> Result<Self, String> {
        let Self::String(string) = self else {
            return Err("`cidr` needs a network such as 10.0.0.0/8, and nothing before it".into());
        };
        let text = string.original.trim();
        let network = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
            .ok_or_else(|| {
                format!("{text:?} is no network: write it like 10.0.0.0/8 or fd00::/8")
            })?;
        Ok(Self::Network(network.trunc()))
    }

    fn number(&self, word: &str) -> Result<Number, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::String(string) => Number::parse(&string.original)
                .ok_or_else(|| format!("`{word}` needs a number, not {:?}", string.original)),
            _ => Err(format!("`{word}` needs a number")),
        }
    }

    fn compared(self, comparison: Comparison) -> Result<Self, String> {
        match self {
            Self::Part(part, Comparison::Equal, number) => Ok(Self::Part(part, comparison, number)),
            Self::Part(..) | Self::Compare(..) => Err("one comparison is enough".into()),
            kind => Ok(Self::Compare(comparison, kind.number("lt, lte, gt or gte")?)),
        }
    }

    fn part(self, part: TimePart) -> Result<Self, String> {
        match self {
            Self::Compare(comparison, number) => Ok(Self::Part(part, comparison, number)),
            Self::Part(..) => Err("one part of a date is enough".into()),
            kind => Ok(Self::Part(part, Comparison::Equal, kind.number(&part.to_string())?)),
        }
    }

    /// Replaces `%name%` by each value of that placeholder; `\%` is a percent sign.
    fn expanded(self, placeholders: &Placeholders, results: &mut Vec<Self>) -> Result<(), String> {
        let Self::String(string) = self else {
            return Err("`expand` needs text".into());
        };
        let mut texts = vec![String::new()];
        let mut rest = string.original.as_str();
        while let Some(at) = rest.find('%') {
            let (head, tail) =
                (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
            if let Some(head) = head.strip_suffix('\\') {
                texts.iter_mut().for_each(|text| text.extend([head, "%"]));
                rest = tail;
                continue;
            }
            let Some((name, after)) = tail.split_once('%') else {
                return Err(
                    "a placeholder isn't closed: write %name%, or \\% for a percent sign".into()
                );
            };
            let values =
                placeholders.get(name).filter(|values| !values.is_empty()).ok_or_else(|| {
                    format!(
                        "the placeholder %{name}% has no values: say them under `vars:` in a YAML file beside the rules"
                    )
                })?;
            if texts.len().saturating_mul(values.len()) > EXPANSIONS {
                return Err(format!("the placeholders stand for more than {EXPANSIONS} values"));
            }
            let so_far: usize = texts.iter().map(|text| text.len() + head.len()).sum();
            let named: usize = values.iter().map(String::len).sum();
            if so_far * values.len() + named * texts.len() > PATTERN_BYTES_A_RULE {
                let most = PATTERN_BYTES_A_RULE >> 20;
                return Err(format!("its placeholders make more than {most} MiB of texts of it"));
            }
            texts = texts
                .iter()
                .flat_map(|text| values.iter().map(move |value| format!("{text}{head}{value}")))
                .collect();
            rest = after;
        }
        if (texts.len() * rest.len()) > PATTERN_BYTES_A_RULE {
            let most = PATTERN_BYTES_A_RULE >> 20;
            return Err(format!("its placeholders make more than {most} MiB of texts of it"));
        }
        results
            .extend(texts.into_iter().map(|text| Self::String(SigmaString::new(&(text + rest)))));
        Ok(())
    }

    fn test(self, cased: bool, is_keyword: bool, budget: &mut Budget) -> Result<Test, String> {
        Ok(match self {
            Self::Null if is_keyword => return Err("null can't be a keyword".into()),
            Self::Null => Test::Null,
            Self::Regex { source, flags } => Test::Regex(compile_regex(&source, &flags, budget)?),
            Self::Network(network) => Test::Network(network),
            Self::Compare(comparison, number) => Test::Compare(comparison, number),
            Self::Part(part, comparison, Number::Whole(number)) => {
                let number = i64::try_from(number).map_err(|_| format!("no {part} is {number}"))?;
                Test::Time(part, comparison, number)
            }
            Self::Part(part, _, number) => {
                return Err(format!("`{part}` needs a whole number, not {number}"));
            }
            Self::Reference(..) if is_keyword => return Err("`fieldref` needs a field".into()),
            Self::Reference(field, place) => Test::SameAs(Reference { field, place, cased }),
            Self::Bytes(_) => {
                return Err("UTF-16 of text beyond ASCII can only be searched for after base64 or base64offset".into());
            }
            kind => {
                let is_written = matches!(kind, Self::String(_) | Self::Number(_) | Self::Bool(_));
                let (mut pieces, _) = kind.into_text("a value")?;
                // A keyword is searched for anywhere, as in the text of the whole log line.
                if is_keyword && is_written {
                    pieces.insert(0, Piece::Run);
                    pieces.push(Piece::Run);
                }
                let pattern = Pattern::new(pieces, cased);
                if pattern.shape() == Shape::Glob {
                    budget.take_glob_pieces(pattern.pieces())?;
                }
                Test::Text(pattern)
            }
        })
    }
}

/// The text of pieces that have no wildcard.
fn plain(pieces: &[Piece]) -> Option<String> {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::One | Piece::Run | Piece::Dash => None,
        })
        .collect()
}

/// How `bytes` shows inside base64 when 0, 1 or 2 bytes come before it: the characters that depend on no
/// neighbour. With n bytes before, the first ⌈8n/6⌉ characters hold some of their bits; at the end, what
/// is left of a group of three shares its last character with what follows.
fn base64_at_offsets(bytes: &[u8]) -> impl Iterator<Item = Kind> {
    (0..3usize).filter_map(move |offset| {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let encoded = BASE64.encode(&padded);
        let start = [0, 2, 3].get(offset).copied()?;
        let end = encoded.len() - [0, 3, 2].get(padded.len() % 3).copied()?;
        let text = encoded.get(start..end).filter(|text| !text.is_empty())?;
        Some(Kind::Text { pieces: vec![Piece::Text(text.to_owned())], bytes: None })
    })
}

fn compile_regex(source: &str, flags: &str, budget: &mut Budget) -> Result<Expression, String> {
    let source = if flags.is_empty() { source.to_owned() } else { format!("(?{flags}){source}") };
    if source.len() > REGEX_TEXT_BYTES {
        return Err(format!(
            "the regular expression {} is longer than {} KiB: write several",
            shown(&source),
            REGEX_TEXT_BYTES >> 10
        ));
    }
    let most = REGEX_BYTES.min(budget.regex_bytes());
    if most == 0 {
        return Err(USED_UP.to_owned());
    }
    let regex = regex(&source, most).map_err(|error| {
        let is_too_large = error.size_limit().is_some();
        // It was worked at up to there.
        budget.take_regex_bytes(if is_too_large { most } else { source.len() });
        if is_too_large && most < REGEX_BYTES {
            USED_UP.to_owned()
        } else {
            regex_reason(&source, &error)
        }
    })?;
    budget.take_regex_bytes(regex.memory_usage());
    let needs = texts_in_each_match(&source).map(Arc::from);
    Ok(Expression::new(Arc::from(source), needs, regex))
}

/// The machine of an expression, each of its parts of at most so many bytes.
pub(crate) fn regex(source: &str, most: usize) -> Result<Regex, Box<BuildError>> {
    let mut builder = Regex::builder();
    builder
        .configure(
            Regex::config()
                .nfa_size_limit(Some(most))
                .hybrid_cache_capacity(REGEX_CACHE_BYTES)
                // Only whether there is a match is ever asked.
                .which_captures(WhichCaptures::None)
                .onepass(false),
        )
        .syntax(syntax::Config::new());
    match regex_syntax::parse(source) {
        Ok(hir) => builder.build_from_hir(&shortened(&hir)),
        // Said in the builder's own words.
        Err(_) => builder.build(source),
    }
    .map_err(Box::new)
}

/// The beginning of an expression, for people.
fn shown(source: &str) -> String {
    match source.char_indices().nth(200) {
        Some((end, _)) => format!("{:?}…", source.get(..end).unwrap_or_default()),
        None => format!("{source:?}"),
    }
}

fn regex_reason(source: &str, error: &BuildError) -> String {
    if error.size_limit().is_some() {
        return format!(
            "the regular expression {} is too large: at most {} MiB compiled; shorten its repetitions",
            shown(source),
            REGEX_BYTES >> 20
        );
    }
    let reason = match error.syntax_error() {
        // The last line of its message says what; those before it draw where.
        Some(syntax) => syntax.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        None => error.to_string(),
    };
    format!(
        "the regular expression {} can't be used ({}): only what runs in linear time is, so no look-around and no back-references",
        shown(source),
        reason.trim_start_matches("error: ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_base64_at_every_offset() {
        let texts = ["I", "IE", "IEX", "foob", "New-Object"];
        for text in texts {
            let forms: Vec<String> = base64_at_offsets(text.as_bytes())
                .map(|kind| plain(&kind.into_text("").unwrap().0).unwrap())
                .collect();
            for before in ["", "x", "xy", "xyz"] {
                for after in ["", "a", "ab", "abc", "\u{ff}\u{ff}"] {
                    let encoded = BASE64.encode(format!("{before}{text}{after}"));
                    assert!(
                        forms.iter().any(|form| encoded.contains(form)) || text.len() < 2,
                        "{text} in {encoded}: {forms:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_specifications_own_base64offset_example_holds() {
        // `/bin/bash` as in the specification's appendix.
        let forms: Vec<String> = base64_at_offsets(b"/bin/bash")
            .map(|kind| plain(&kind.into_text("").unwrap().0).unwrap())
            .collect();
        assert_eq!(forms, ["L2Jpbi9iYXNo", "9iaW4vYmFza", "vYmluL2Jhc2"]);
    }
}
