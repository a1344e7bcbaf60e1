//! What several tests need: real rules and events where they are beside the project, and flat JSON
//! events as the engine's own.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::{Path, PathBuf};

use cordon_detect::{Compiler, Interest, Matcher, RuleSet};
use cordon_model::event::{Event, FieldId, Source, Value};
use serde_json::Value as Json;

/// The folder of real inputs, if it is there.
pub fn shared() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("CORDON_SHARED").map_or(beside, PathBuf::from);
    let folder = folder.join("data/detection");
    if folder.is_dir() {
        return Some(folder);
    }
    let why = format!("no real inputs at {} (set CORDON_SHARED)", folder.display());
    cordon_tests::cannot_be_had(&why);
    None
}

/// Every rule file under `folder`, in order of path, with its text.
pub fn rule_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

/// The rules of one text, all of which must load.
pub fn compiled(text: &str) -> RuleSet {
    let mut compiler = Compiler::new();
    compiler.add_yaml("test.yml", text);
    let (rules, refusals) = compiler.compile();
    assert!(refusals.is_empty(), "{refusals:?}\n{text}");
    rules
}

/// A flat JSON object as an event of `source`. Lists are names that come more than once.
pub fn event_of<'a>(rules: &RuleSet, source: Source<'a>, json: &'a Json) -> Event<'a> {
    let all_values = rules.interest(&source) == Interest::AllValues;
    let mut fields = Vec::new();
    for (name, value) in json.as_object().unwrap() {
        let id = match rules.fields().find(name) {
            Some(id) => id,
            None if all_values => FieldId::UNREAD,
            None => continue,
        };
        match value {
            Json::Array(values) => fields.extend(values.iter().map(|value| (id, value_of(value)))),
            value => fields.push((id, value_of(value))),
        }
    }
    Event { source, fields, ..Event::default() }
}

fn value_of(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(whole)) => Value::Unsigned(whole),
            (None, None) => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(_) | Json::Object(_) => panic!("the event isn't flat: {json}"),
    }
}

/// The ids of the rules that match.
pub fn matched<'r>(matcher: &mut Matcher, rules: &'r RuleSet, event: &Event<'_>) -> Vec<&'r str> {
    let matched = matcher.matches(rules, event).to_vec();
    matched.into_iter().map(|index| rules.rule(index).unwrap().id.as_str()).collect()
}
