//! A slow, obvious evaluator of Sigma rules: the parsed rule is walked for every event, and each modifier
//! is what the specification says, written the short way. It shares no code with the engine.

use regex_automata::meta::Regex;
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Modifier as M, Quantifier, SelectorPattern, SigmaRule,
    SigmaValue, SpecialChar, StringPart,
};
use serde_json::Value as Json;

/// Name and value of each field; a list is a name that comes more than once.
pub type Fields = Vec<(String, Json)>;

pub fn matches(rule: &SigmaRule, event: &Fields) -> bool {
    rule.detection.conditions.iter().any(|condition| condition_holds(condition, rule, event))
}

fn condition_holds(condition: &ConditionExpr, rule: &SigmaRule, event: &Fields) -> bool {
    let named = |name: &str| detection_holds(&rule.detection.named[name], event);
    match condition {
        ConditionExpr::And(parts) => parts.iter().all(|part| condition_holds(part, rule, event)),
        ConditionExpr::Or(parts) => parts.iter().any(|part| condition_holds(part, rule, event)),
        ConditionExpr::Not(inner) => !condition_holds(inner, rule, event),
        ConditionExpr::Identifier(name) => named(name),
        ConditionExpr::Selector { quantifier, pattern } => {
            let mut names = rule.detection.named.keys().filter(|name| match pattern {
                SelectorPattern::Them => !name.starts_with('_'),
                SelectorPattern::Pattern(pattern) => {
                    let pattern: Vec<Token> = pattern
                        .chars()
                        .map(|c| if c == '*' { Token::Run } else { Token::Char(c) })
                        .collect();
                    like(&pattern, &name.chars().collect::<Vec<_>>())
                }
            });
            match quantifier {
                Quantifier::Any => names.any(|name| named(name)),
                Quantifier::All => names.all(|name| named(name)),
                Quantifier::Count(count) => {
                    names.filter(|name| named(name)).count() as u64 >= *count
                }
            }
        }
    }
}

fn detection_holds(detection: &Detection, event: &Fields) -> bool {
    match detection {
        Detection::AllOf(items) => items.iter().all(|item| item_holds(item, event)),
        Detection::AnyOf(parts) => parts.iter().any(|part| detection_holds(part, event)),
        Detection::And(parts) => parts.iter().all(|part| detection_holds(part, event)),
        Detection::Keywords(values) => values.iter().any(|value| keyword_holds(value, &[], event)),
        other => panic!("not generated: {other:?}"),
    }
}

fn item_holds(item: &DetectionItem, event: &Fields) -> bool {
    let modifiers = &item.field.modifiers;
    let Some(field) = &item.field.name else {
        let mut each = item.values.iter().map(|value| keyword_holds(value, modifiers, event));
        return if modifiers.contains(&M::All) { each.all(|x| x) } else { each.any(|x| x) };
    };
    let seen: Vec<&Json> =
        event.iter().filter(|(name, _)| name == field).map(|(_, value)| value).collect();
    if modifiers.contains(&M::Exists) {
        return item.values[0] == SigmaValue::Bool(!seen.is_empty());
    }
    let one = |value: &SigmaValue| match value {
        SigmaValue::Null => seen.is_empty() || seen.iter().any(|seen| seen.is_null()),
        value => seen.iter().any(|seen| value_holds(value, modifiers, seen, event)),
    };
    let holds = match modifiers.contains(&M::All) {
        true => item.values.iter().all(one),
        false => item.values.iter().any(one),
    };
    if modifiers.contains(&M::Neq) { !seen.is_empty() && !holds } else { holds }
}

fn keyword_holds(value: &SigmaValue, modifiers: &[M], event: &Fields) -> bool {
    let mut modifiers = modifiers.to_vec();
    if !modifiers.iter().any(|m| matches!(m, M::Contains | M::StartsWith | M::EndsWith | M::Re)) {
        modifiers.push(M::Contains);
    }
    event.iter().any(|(_, seen)| value_holds(value, &modifiers, seen, event))
}

fn text_of(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn lower(text: &str) -> String {
    text.chars()
        .map(|c| match c.to_lowercase().collect::<Vec<_>>()[..] {
            [only] => only,
            _ => c,
        })
        .collect()
}

/// Whether a value that isn't null fits what the rule says of it.
fn value_holds(value: &SigmaValue, modifiers: &[M], seen: &Json, event: &Fields) -> bool {
    if seen.is_null() {
        return false;
    }
    let text = text_of(seen);
    let has = |modifier| modifiers.contains(&modifier);
    if has(M::Re) {
        let SigmaValue::String(string) = value else { panic!("not generated") };
        let flags: String = [(M::IgnoreCase, 'i'), (M::Multiline, 'm'), (M::DotAll, 's')]
            .into_iter()
            .filter(|(modifier, _)| has(*modifier))
            .map(|(_, flag)| flag)
            .collect();
        let source = if flags.is_empty() {
            string.original.clone()
        } else {
            format!("(?{flags}:{})", string.original)
        };
        return Regex::new(&source).unwrap().is_match(&text);
    }
    if has(M::Cidr) {
        let SigmaValue::String(string) = value else { panic!("not generated") };
        return in_network(&text, &string.original);
    }
    let comparison = modifiers.iter().find(|m| matches!(m, M::Lt | M::Lte | M::Gt | M::Gte));
    let compare = |seen: f64, asked: f64| match comparison {
        Some(M::Lt) => seen < asked,
        Some(M::Lte) => seen <= asked,
        Some(M::Gt) => seen > asked,
        Some(M::Gte) => seen >= asked,
        _ => seen == asked,
    };
    let asked = || match value {
        SigmaValue::Integer(whole) => *whole as f64,
        SigmaValue::Float(real) => *real,
        other => panic!("not generated: {other:?}"),
    };
    // yyyy-mm-ddThh:mm
    let part = [
        (M::Year, 0..4),
        (M::Month, 5..7),
        (M::Day, 8..10),
        (M::Hour, 11..13),
        (M::Minute, 14..16),
    ];
    if let Some((_, range)) = part.into_iter().find(|(modifier, _)| has(*modifier)) {
        let is_date = text.len() >= 16 && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T';
        return is_date && compare(text[range].parse().unwrap(), asked());
    }
    if comparison.is_some() {
        let number = match seen {
            Json::Number(number) => number.as_f64(),
            Json::String(text) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                text.parse().ok()
            }
            _ => None,
        };
        return number.is_some_and(|number| compare(number, asked()));
    }
    let fold = |text: &str| if has(M::Cased) { text.to_owned() } else { lower(text) };
    if has(M::FieldRef) {
        let SigmaValue::String(other) = value else { panic!("not generated") };
        let others =
            event.iter().filter(|(name, value)| *name == other.original && !value.is_null());
        return others.into_iter().any(|(_, other)| {
            let (text, other) = (fold(&text), fold(&text_of(other)));
            match () {
                () if has(M::Contains) => text.contains(&other),
                () if has(M::StartsWith) => text.starts_with(&other),
                () if has(M::EndsWith) => text.ends_with(&other),
                () => text == other,
            }
        });
    }
    patterns(value, modifiers).into_iter().any(|mut pattern| {
        if has(M::Contains) || has(M::EndsWith) {
            pattern.insert(0, Token::Run);
        }
        if has(M::Contains) || has(M::StartsWith) {
            pattern.push(Token::Run);
        }
        let folded: Vec<Token> = pattern
            .into_iter()
            .map(|token| match token {
                Token::Char(c) => Token::Char(fold(&c.to_string()).chars().next().unwrap()),
                other => other,
            })
            .collect();
        like(&folded, &fold(&text).chars().collect::<Vec<_>>())
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Char(char),
    One,
    Run,
}

fn like(pattern: &[Token], text: &[char]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(Token::Run), _) => {
            like(&pattern[1..], text) || (!text.is_empty() && like(pattern, &text[1..]))
        }
        (Some(Token::One), Some(_)) => like(&pattern[1..], &text[1..]),
        (Some(Token::Char(want)), Some(have)) => want == have && like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

/// The patterns that a value stands for: one, but for `windash` and `base64offset`.
fn patterns(value: &SigmaValue, modifiers: &[M]) -> Vec<Vec<Token>> {
    let mut tokens: Vec<Token> = match value {
        SigmaValue::String(string) => string
            .parts
            .iter()
            .flat_map(|part| match part {
                StringPart::Plain(text) => text.chars().map(Token::Char).collect(),
                StringPart::Special(SpecialChar::WildcardMulti) => vec![Token::Run],
                StringPart::Special(SpecialChar::WildcardSingle) => vec![Token::One],
            })
            .collect(),
        SigmaValue::Integer(whole) => whole.to_string().chars().map(Token::Char).collect(),
        SigmaValue::Float(real) => real.to_string().chars().map(Token::Char).collect(),
        SigmaValue::Bool(bool) => bool.to_string().chars().map(Token::Char).collect(),
        SigmaValue::Null => panic!("handled before"),
    };
    if modifiers.contains(&M::Wide) {
        tokens = tokens
            .into_iter()
            .flat_map(|token| match token {
                Token::Char(_) => vec![token, Token::Char('\0')],
                other => vec![other],
            })
            .collect();
    }
    let plain: String = tokens
        .iter()
        .filter_map(|t| if let Token::Char(c) = t { Some(*c) } else { None })
        .collect();
    if modifiers.contains(&M::Base64Offset) {
        // An encoding of the text with what comes before and after it unknown: keep what never changes.
        return (0..3)
            .map(|before| {
                let encoded = |first: u8, last: u8| {
                    let mut bytes = vec![first; before];
                    bytes.extend(plain.bytes());
                    let tail = (3 - bytes.len() % 3) % 3;
                    bytes.extend(vec![last; tail]);
                    base64(&bytes)
                };
                let (one, other) = (encoded(0, 0), encoded(0xff, 0xff));
                one.chars()
                    .zip(other.chars())
                    .filter(|(a, b)| a == b)
                    .map(|(a, _)| Token::Char(a))
                    .collect()
            })
            .filter(|pattern: &Vec<Token>| !pattern.is_empty())
            .collect();
    }
    if modifiers.contains(&M::Base64) {
        return vec![base64(plain.as_bytes()).chars().map(Token::Char).collect()];
    }
    if modifiers.contains(&M::WindAsh) {
        let is_word = |at: Option<&Token>| matches!(at, Some(Token::Char(c)) if c.is_alphanumeric() || *c == '_');
        let mut all = vec![Vec::new()];
        for (at, token) in tokens.iter().enumerate() {
            let is_dash = matches!(token, Token::Char('-' | '/' | '–' | '—' | '―'));
            let starts =
                is_dash && !(at > 0 && is_word(tokens.get(at - 1))) && is_word(tokens.get(at + 1));
            let forms = if starts {
                "-/–—―".chars().map(Token::Char).collect()
            } else {
                vec![*token]
            };
            all = all
                .into_iter()
                .flat_map(|head: Vec<Token>| {
                    forms.iter().map(move |form| [&head[..], &[*form]].concat())
                })
                .collect();
        }
        return all;
    }
    vec![tokens]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            match at <= chunk.len() {
                true => text.push(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char),
                false => text.push('='),
            }
        }
    }
    text
}

fn in_network(text: &str, network: &str) -> bool {
    let bits = |text: &str| -> Option<(u128, u32)> {
        match text.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(v4) => Some((u128::from(u32::from(v4)), 32)),
            std::net::IpAddr::V6(v6) => Some((u128::from(v6), 128)),
        }
    };
    let (base, length) = network.split_once('/').unwrap();
    let (Some((seen, width)), Some((base, base_width))) = (bits(text), bits(base)) else {
        return false;
    };
    let shift = base_width - length.parse::<u32>().unwrap();
    width == base_width && (shift == 128 || seen >> shift == base >> shift)
}
