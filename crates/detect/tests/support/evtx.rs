//! Windows event logs as flat JSON events, by the `evtx` crate's own dump. The intake has its own reader;
//! here a plain one is wanted, to judge the engine alone.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;

use evtx::EvtxParser;
use serde_json::{Map, Value as Json, json};

/// One record.
pub struct Record {
    pub channel: String,
    pub event_id: u32,
    pub fields: Json,
}

/// The records of a file that can be read.
pub fn records(path: &Path) -> Vec<Record> {
    let Ok(mut parser) = EvtxParser::from_path(path) else { return Vec::new() };
    parser
        .records_json_value()
        .filter_map(|record| Some(flat(&record.ok()?.data["Event"])))
        .collect()
}

fn flat(event: &Json) -> Record {
    let mut fields = Map::new();
    let system = &event["System"];
    let event_id = text_or_value(&system["EventID"]);
    for (name, value) in system.as_object().into_iter().flatten() {
        match value {
            Json::Object(_) => {
                for (attribute, value) in value["#attributes"].as_object().into_iter().flatten() {
                    fields.insert(format!("{name}_{attribute}"), value.clone());
                }
            }
            value => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    fields.insert("EventID".into(), event_id.clone());
    data(&event["EventData"], &mut fields);
    for (_, inner) in event["UserData"].as_object().into_iter().flatten() {
        data(inner, &mut fields);
    }
    let number = event_id.as_u64().or_else(|| event_id.as_str()?.parse().ok()).unwrap_or(0);
    Record {
        channel: system["Channel"].as_str().unwrap_or_default().to_owned(),
        event_id: number as u32,
        fields: Json::Object(fields),
    }
}

fn text_or_value(value: &Json) -> Json {
    value.get("#text").cloned().unwrap_or_else(|| value.clone())
}

fn data(data: &Json, fields: &mut Map<String, Json>) {
    for (name, value) in data.as_object().into_iter().flatten() {
        if name == "#attributes" {
            continue;
        }
        let value = match text_or_value(value) {
            // An element without content is empty text in the log.
            Json::Null => json!(""),
            Json::Object(inner) => {
                let inner = inner.into_iter().filter(|(name, _)| name != "#attributes");
                for (name, value) in
                    inner.filter(|(_, value)| !value.is_object() && !value.is_array())
                {
                    fields.insert(name, value);
                }
                continue;
            }
            Json::Array(values) => Json::Array(
                values
                    .into_iter()
                    .filter(|value| !value.is_object() && !value.is_array())
                    .collect(),
            ),
            value => value,
        };
        fields.insert(name.clone(), value);
    }
}
