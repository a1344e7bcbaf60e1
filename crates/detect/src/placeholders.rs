//! What a place's placeholders stand for, said in data beside its rules.
//!
//! The one idea: the list of a place's domain controllers or administrators is its own, while the rules that ask
//! for it (`ComputerName|expand: '%domain_controllers%'`) are everybody's. So the list is a document of its own
//! among the rules, of the form that pySigma's processing pipelines have: `vars`, a mapping from each name to a
//! value or a list of values. A pipeline's other powers (renaming fields, changing conditions) are refused, not
//! passed over: whoever wrote them relies on them.

use std::collections::BTreeMap;

use yaml_serde::Value;

use crate::document::Document;

/// What a placeholder (`%name%`) stands for.
pub type Placeholders = BTreeMap<String, Vec<String>>;

/// The key of the mapping.
const VARS: &str = "vars";
/// What makes a document a rule, a correlation or a filter, whatever else it says.
const OF_RULES: [&str; 4] = ["detection", "correlation", "filter", "logsource"];
/// What a pipeline may do besides, and this engine doesn't.
const OTHER_POWERS: [&str; 3] = ["transformations", "postprocessing", "finalizers"];
/// The one transformation that is what `expand` does anyway.
const VALUE_PLACEHOLDERS: &str = "value_placeholders";

/// A fault: near which text of the document, and what is wrong.
pub(crate) type Wrong = (String, String);

/// Whether a document's text says what placeholders stand for, and is no rule. By its lines, before it is known to
/// be sound.
#[must_use]
pub fn tells_placeholders(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| is_key(line, key));
    has(VARS) && !OF_RULES.iter().any(|key| has(key))
}

fn is_key(line: &str, key: &str) -> bool {
    line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
}

/// The placeholders that `document` tells, and what is wrong with others of it: each stands or falls alone.
///
/// # Errors
/// What is wrong with it as a whole.
pub(crate) fn said_in(document: &Document<'_>) -> Result<(Placeholders, Vec<Wrong>), Wrong> {
    let whole = |reason: String| (VARS.to_owned(), reason);
    let said: Value = yaml_serde::from_str(document.text).map_err(|error| {
        let (_, reason) = document.parser_reason(&error.to_string());
        whole(reason)
    })?;
    for key in OTHER_POWERS {
        if said.get(key).is_some_and(|power| !does_nothing_else(power)) {
            return Err((
                key.to_owned(),
                format!(
                    "`{key}` of a pipeline are not applied here: keep `vars`, and write what they change into the rules"
                ),
            ));
        }
    }
    let Some(vars) = said.get(VARS).and_then(Value::as_mapping) else {
        return Err(whole(
            "`vars` must be a mapping from placeholders' names to their values".into(),
        ));
    };
    let (mut placeholders, mut wrong) = (Placeholders::new(), Vec::new());
    for (name, values) in vars {
        let Some(name) = name.as_str() else {
            wrong.push(whole("a placeholder's name must be text".into()));
            continue;
        };
        match values_of(name, values) {
            Ok(values) => drop(placeholders.insert(name.to_owned(), values)),
            Err(reason) => wrong.push((name.to_owned(), reason)),
        }
    }
    Ok((placeholders, wrong))
}

/// Whether all that is asked for happens anyway.
fn does_nothing_else(power: &Value) -> bool {
    let is_known = |step: &Value| {
        step.get("type").and_then(Value::as_str).is_some_and(|kind| kind == VALUE_PLACEHOLDERS)
    };
    power.is_null() || power.as_sequence().is_some_and(|steps| steps.iter().all(is_known))
}

fn values_of(name: &str, values: &Value) -> Result<Vec<String>, String> {
    if name.is_empty() || name.contains('%') {
        return Err("a placeholder's name has at least one character, and no percent sign".into());
    }
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(format!("each value of %{name}% must be a text or a number")),
    };
    let values = match values {
        Value::Sequence(values) => values.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        value => vec![one(value)?],
    };
    if values.is_empty() {
        return Err(format!("%{name}% has no values: give it one, or remove it"));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<(Placeholders, Vec<Wrong>), Wrong> {
        let document = Document { text, line: 1 };
        assert!(tells_placeholders(text));
        said_in(&document)
    }

    #[test]
    fn a_pipelines_vars_are_taken_one_by_one() {
        let (placeholders, wrong) = said(
            "name: ours\npriority: 10\nvars:\n  dcs: [dc1, 'dc2*']\n  port: 445\n  bad: {a: b}\n  none: []\n  'a%b': c\ntransformations:\n  - type: value_placeholders\n",
        )
        .unwrap();
        let expected = [("dcs", vec!["dc1", "dc2*"]), ("port", vec!["445"])];
        let expected = expected.map(|(name, values)| {
            (name.to_owned(), values.into_iter().map(str::to_owned).collect())
        });
        assert_eq!(placeholders, Placeholders::from(expected));
        let near: Vec<&str> = wrong.iter().map(|(near, _)| near.as_str()).collect();
        assert_eq!(near, ["bad", "none", "a%b"]);
    }

    #[test]
    fn other_powers_of_a_pipeline_are_refused() {
        for text in [
            "vars: {a: b}\ntransformations:\n  - type: field_name_mapping\n    mapping: {A: B}\n",
            "vars: {a: b}\nfinalizers: [{type: concat}]\n",
            "vars: [a]\n",
            "vars:\n  - a: b\n",
            "vars: {a\n",
        ] {
            assert!(said(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_stays_a_rule_whatever_it_says_besides() {
        let text = "title: a\nvars: {a: b}\ndetection:\n  s: {A: b}\n  condition: s\n";
        assert!(!tells_placeholders(text));
        assert!(!tells_placeholders("title: a\n  vars: {a: b}\n"));
    }
}
