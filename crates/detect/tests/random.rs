//! Random rules against random events: the engine and a slow, obvious evaluator must always agree.
//!
//! A failure prints the seed; `CORDON_SEED=… CORDON_ROUNDS=1 cargo test -p cordon-detect --test random`
//! runs that round alone. `CORDON_ROUNDS` sets how many rounds there are (each is 10 rules × 12 events); what
//! they must come to is asserted at the end, and printed. `make soak` runs five million pairs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/reference.rs"]
mod reference;

mod support;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use cordon_detect::stored::Stored;
use cordon_detect::{Compiler, Matcher, RuleSet};
use cordon_model::event::Source;
use dice::Random;
use rsigma_parser::parse_sigma_yaml;
use serde_json::{Value as Json, json};
use support::{event_of, matched};

const FIELDS: [&str; 5] = ["A", "B", "C", "Ä x", "EventID"];

fn word(random: &mut Random) -> String {
    const PARTS: [&str; 22] = [
        "a", "b", "A", "B", "ab", "Ba", "é", "É", "-a", "/b", " -", "–a", "\\a", "\\", "1", "2",
        "K", "10", "$", ".", "x y", "ſ",
    ];
    (0..random.below(4)).map(|_| *random.pick(&PARTS)).collect()
}

/// A value as a rule author writes it: with wildcards and escapes.
fn pattern(random: &mut Random) -> String {
    const PARTS: [&str; 5] = ["*", "?", "\\*", "\\?", "\\\\"];
    let mut text = String::new();
    for _ in 0..1 + random.below(3) {
        text += &if random.one_in(3) { (*random.pick(&PARTS)).to_owned() } else { word(random) };
    }
    text
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn number(random: &mut Random) -> String {
    (*random.pick(&["1", "2", "10", "-1", "1.5", "12", "0"])).to_owned()
}

/// A line of a detection: key and values.
fn line(random: &mut Random, field: &str) -> (String, Vec<String>) {
    let count = 1 + random.below(3);
    let mut many = |make: &mut dyn FnMut(&mut Random) -> String| {
        (0..count).map(|_| make(random)).collect::<Vec<_>>()
    };
    let text = &mut |random: &mut Random| quoted(&pattern(random));
    let plain =
        &mut |random: &mut Random| quoted(&format!("a{}", word(random).replace(['\\'], "")));
    let ascii = &mut |random: &mut Random| {
        quoted(&format!(
            "ab{}",
            word(random).chars().filter(|c| c.is_ascii() && *c != '\\').collect::<String>()
        ))
    };
    let any = &mut |random: &mut Random| match random.below(9) {
        0 => "null".into(),
        1 => "''".into(),
        2 => "true".into(),
        3 | 4 => number(random),
        _ => quoted(&pattern(random)),
    };
    let place = |random: &mut Random| {
        *random.pick(&["contains", "startswith", "endswith", "contains", "contains"])
    };
    let kind = (many(&mut |random| random.below(22).to_string()))[0].parse::<usize>().unwrap();
    let (modifiers, values): (String, Vec<String>) = match kind {
        0..=3 => (String::new(), many(any)),
        4..=7 => {
            let values = many(text);
            let place = place(random);
            let all = if random.one_in(3) { "|all" } else { "" };
            let neq = if random.one_in(6) { "|neq" } else { "" };
            (format!("|{place}{all}{neq}"), values)
        }
        8 => {
            let values = many(text);
            (format!("|{}|cased", place(random)), values)
        }
        9 => ("|cased".into(), many(text)),
        10 | 11 => {
            let values = many(text);
            let dash = if random.one_in(2) { "|windash|contains" } else { "|contains|windash" };
            (dash.into(), values)
        }
        12 | 13 => {
            let regexes = [
                "a+b",
                "^a",
                "b$",
                "[ab]{2}",
                "(?:ab|ba|é)a?",
                "a.b",
                "^$",
                "(?i)aba",
                "k[ab]",
                "\\\\a",
                "ab[12]*a",
            ];
            let values = many(&mut |random| quoted(random.pick::<&str>(&regexes)));
            let flags = *random.pick(&["", "", "|i", "|i|s", "|m"]);
            (format!("|re{flags}"), values)
        }
        14 => {
            let nets =
                ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8", "::/0", "10.1.2.3/32"];
            ("|cidr".into(), many(&mut |random| quoted(random.pick::<&str>(&nets))))
        }
        15 => {
            let values = many(&mut number);
            (format!("|{}", random.pick(&["lt", "lte", "gt", "gte"])), values)
        }
        16 => {
            let values =
                many(&mut |random| (*random.pick(&["1", "5", "23", "59", "2024"])).to_owned());
            let part = *random.pick(&["minute", "hour", "day", "month", "year"]);
            let comparison = *random.pick(&["", "|gte", "|lt"]);
            (format!("|{part}{comparison}"), values)
        }
        17 => {
            ("|exists".into(), vec![if random.one_in(2) { "true".into() } else { "false".into() }])
        }
        18 => {
            let values = many(&mut |random| quoted(random.pick::<&str>(&FIELDS)));
            let more =
                *random.pick(&["", "|contains", "|startswith", "|endswith", "|neq", "|cased"]);
            (format!("|fieldref{more}"), values)
        }
        19 => {
            let values = many(plain);
            (
                format!(
                    "|{}",
                    random.pick(&["base64offset|contains", "base64|contains", "base64"])
                ),
                values,
            )
        }
        20 => {
            let values = many(ascii);
            (
                format!(
                    "|{}",
                    random.pick(&[
                        "wide|base64offset|contains",
                        "utf16le|contains",
                        "wide|base64|contains"
                    ])
                ),
                values,
            )
        }
        _ => ("|neq".into(), many(text)),
    };
    let values = values.into_iter().map(|value| {
        if modifiers.contains("base64") { value.replace(['*', '?'], "") } else { value }
    });
    (format!("{field}{modifiers}"), values.collect())
}

fn detection(random: &mut Random) -> String {
    match random.below(8) {
        0 => {
            // Keywords: a list, or all of a list.
            let words: Vec<String> = (0..1 + random.below(3))
                .map(|_| quoted(&format!("a{}", pattern(random))))
                .collect();
            match random.one_in(2) {
                true => format!("[{}]", words.join(", ")),
                false => format!("{{'|all': [{}]}}", words.join(", ")),
            }
        }
        1 => {
            let maps: Vec<String> = (0..1 + random.below(3)).map(|_| map(random)).collect();
            format!("[{}]", maps.join(", "))
        }
        _ => map(random),
    }
}

fn map(random: &mut Random) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..1 + random.below(2) {
        let field = *random.pick(&FIELDS[..4]);
        let (key, values) = line(random, field);
        if !keys.contains(&key) {
            lines.push(format!("{}: [{}]", quoted(&key), values.join(", ")));
            keys.push(key);
        }
    }
    if random.one_in(4) {
        let ids = ["[1]", "[1, 2]", "'2'", "10"];
        lines.push(format!("EventID: {}", random.pick(&ids)));
    }
    format!("{{{}}}", lines.join(", "))
}

fn condition(random: &mut Random, names: &[String]) -> String {
    match random.below(9) {
        0 => "1 of them".into(),
        1 => "all of s*".into(),
        2 => "2 of s*".into(),
        3 => format!("not {}", random.pick(names)),
        4 => format!("{} and not {}", random.pick(names), random.pick(names)),
        5 => {
            format!("({} or {}) and {}", random.pick(names), random.pick(names), random.pick(names))
        }
        6 => format!("{} or not 1 of s*", random.pick(names)),
        _ => random.pick(names).clone(),
    }
}

const LOG_SOURCES: [&str; 4] = [
    "{product: windows, service: security}",
    "{product: windows}",
    "{category: thing}",
    "{product: windows, category: thing}",
];

fn rule(random: &mut Random, number: usize) -> String {
    let names: Vec<String> = (0..2 + random.below(2)).map(|n| format!("s{n}")).collect();
    let detections: String =
        names.iter().map(|name| format!("    {name}: {}\n", detection(random))).collect();
    let conditions = match random.one_in(6) {
        true => format!("['{}', '{}']", condition(random, &names), condition(random, &names)),
        false => format!("'{}'", condition(random, &names)),
    };
    let source = random.pick(&LOG_SOURCES);
    format!(
        "title: r{number}\nid: r{number}\nlogsource: {source}\ndetection:\n{detections}    condition: {conditions}\n"
    )
}

fn value(random: &mut Random) -> Json {
    use base64::Engine as _;
    match random.below(16) {
        0 => Json::Null,
        1 => json!(""),
        2 => json!(random.one_in(2)),
        3 => json!(*random.pick(&[1, 2, 10, -1, 12])),
        4 => json!(1.5),
        5 => json!(*random.pick(&["10.1.2.3", "10.2.0.1", "fd00::1", "192.0.2.1"])),
        6 => json!(*random.pick(&["2024-05-01T23:59:01Z", "2023-01-23T05:01:59.5Z"])),
        7 => {
            let text = format!("{}a{}", word(random), word(random));
            json!(base64::engine::general_purpose::STANDARD.encode(text))
        }
        8 => {
            let text: String =
                word(random).chars().filter(char::is_ascii).flat_map(|c| [c, '\0']).collect();
            let text = format!("a\0b\0{text}");
            if random.one_in(2) {
                json!(text)
            } else {
                json!(base64::engine::general_purpose::STANDARD.encode(text))
            }
        }
        _ => json!(format!("{}{}", word(random), word(random))),
    }
}

fn event(random: &mut Random) -> Json {
    let mut fields = serde_json::Map::new();
    for name in FIELDS.iter().chain(&["Unread"]) {
        match random.below(5) {
            _ if *name == "EventID" => {
                fields.insert((*name).into(), json!(*random.pick(&[1, 2, 10])));
            }
            0 => {}
            1 => {
                let values: Vec<Json> = (0..random.below(3)).map(|_| value(random)).collect();
                fields.insert((*name).into(), Json::Array(values));
            }
            _ => {
                fields.insert((*name).into(), value(random));
            }
        }
    }
    Json::Object(fields)
}

fn reference_fields(event: &Json) -> reference::Fields {
    let mut fields = Vec::new();
    for (name, value) in event.as_object().unwrap() {
        match value {
            Json::Array(values) => {
                fields.extend(values.iter().map(|value| (name.clone(), value.clone())))
            }
            value => fields.push((name.clone(), value.clone())),
        }
    }
    fields
}

/// The same events and others made of their fields, in other orders, by a matcher that remembers them; and by
/// other numbers of the same rules in between, and by the rules as they were stored. What was right the first
/// time stays right.
fn again(
    random: &mut Random,
    rules: &RuleSet,
    texts: &[String],
    matcher: &mut Matcher,
    seen: &[(Source<'static>, Json, Vec<String>)],
    seed: u64,
) {
    let mut compiler = Compiler::new();
    for text in texts.iter().rev() {
        compiler.add_yaml("random.yml", text);
    }
    let (reloaded, _) = compiler.compile();
    let bytes = Stored { set: rules, refusals: &[][..], withdrawn: 0 }.to_bytes().unwrap();
    let stored = Stored::from_bytes(&bytes).unwrap().set;
    for round in 0..5 {
        let rules = match round {
            1 => &stored,
            3 => &reloaded,
            _ => rules,
        };
        for _ in 0..seen.len() {
            let (source, json, first) = random.pick(seen);
            let event = event_of(rules, source.clone(), json);
            let mut first = first.clone();
            let mut now = matched(matcher, rules, &event);
            first.sort_unstable();
            now.sort_unstable();
            assert_eq!(now, first, "seed {seed}, round {round}:\n{texts:#?}\n{json:#}");
            if random.below(3) > 0 {
                continue;
            }
            // Half of the fields of another event: by a matcher that remembers nothing.
            let (_, other, _) = random.pick(seen);
            let mut mixed = json.clone();
            for (name, value) in other.as_object().unwrap().iter().filter(|_| random.one_in(2)) {
                mixed[name] = value.clone();
            }
            let event = event_of(rules, source.clone(), &mixed);
            let known = matched(matcher, rules, &event);
            let fresh = matched(&mut rules.matcher(), rules, &event);
            assert_eq!(known, fresh, "seed {seed}, round {round}:\n{texts:#?}\n{mixed:#}");
        }
    }
}

/// Rounds of a usual run: 126,000 pairs of 10,500 rules.
const ROUNDS: u64 = 1_050;

/// What rounds came to.
#[derive(Default)]
struct Tally {
    pairs: u64,
    matching: u64,
    /// A hash of each rule's text, its number left out.
    rules: HashSet<u64>,
}

#[test]
fn the_engine_agrees_with_the_slow_evaluator_on_random_rules_and_events() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, rounds) =
        (number("CORDON_SEED").unwrap_or(1), number("CORDON_ROUNDS").unwrap_or(ROUNDS));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let run = |thread| {
            scope.spawn(move || {
                let mut tally = Tally::default();
                for seed in (first..first + rounds).filter(|seed| seed % threads == thread) {
                    round(seed, &mut tally);
                }
                tally
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let mut tally = Tally::default();
    for one in tallies {
        tally.pairs += one.pairs;
        tally.matching += one.matching;
        tally.rules.extend(one.rules);
    }
    let Tally { pairs, matching, rules } = &tally;
    println!("{pairs} pairs of {} distinct rules, {matching} pairs matching", rules.len());
    if rounds < ROUNDS {
        return;
    }
    assert!(*pairs >= 100_000, "only {pairs} pairs");
    assert!(rules.len() >= 10_000, "only {} distinct rules", rules.len());
    assert!(matching * 5 >= *pairs, "too few of the pairs match: {matching} of {pairs}");
}

fn round(seed: u64, tally: &mut Tally) {
    let mut random = Random(seed);
    let texts: Vec<String> = (0..10).map(|number| rule(&mut random, number)).collect();
    let mut compiler = Compiler::new();
    for (number, text) in texts.iter().enumerate() {
        let added = compiler.add_yaml("random.yml", text);
        assert!(added.rules + added.refused == 1, "seed {seed}: {added:?}\n{text}");
        let mut hasher = DefaultHasher::new();
        text.replace(&format!("r{number}\n"), "").hash(&mut hasher);
        tally.rules.insert(hasher.finish());
    }
    let (rules, refusals) = compiler.compile();
    assert!(refusals.is_empty(), "seed {seed}: {refusals:#?}\n{texts:#?}");
    let parsed: Vec<_> =
        texts.iter().map(|text| parse_sigma_yaml(text).unwrap().rules.remove(0)).collect();
    let mut matcher = rules.matcher();
    let mut seen = Vec::new();
    for _ in 0..12 {
        let json = event(&mut random);
        let source = Source {
            channel: Some("Security".into()),
            category: Some("thing".into()),
            event_id: random.one_in(2).then(|| json["EventID"].as_u64().unwrap() as u32),
            ..Source::default()
        };
        let event = event_of(&rules, source.clone(), &json);
        let ours = matched(&mut matcher, &rules, &event);
        let fields = reference_fields(&json);
        for (index, (rule, text)) in
            (0..).map(cordon_detect::RuleIndex).zip(parsed.iter().zip(&texts))
        {
            let ours = ours.contains(&rule.id.as_deref().unwrap());
            let theirs = reference::matches(rule, &fields);
            assert_eq!(ours, theirs, "seed {seed}, ours first:\n{text}\n{json:#}");
            let explanation = matcher.explain(&rules, &event, index).unwrap();
            assert_eq!(explanation.is_match(), ours, "seed {seed}, explained:\n{text}\n{json:#}");
            tally.pairs += 1;
            tally.matching += u64::from(ours);
        }
        let ours = ours.into_iter().map(str::to_owned).collect::<Vec<_>>();
        seen.push((source, json, ours));
    }
    again(&mut random, &rules, &texts, &mut matcher, &seen, seed);
}
