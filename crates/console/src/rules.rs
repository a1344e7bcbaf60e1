//! What the rules of the built-in pack say to people.
//!
//! The one idea: a finding names its rule by id, and the text is our own, compiled into the program: a machine
//! that names a rule brings no text of its own here, and a rule that is not of the pack, or was changed, has
//! none.

use std::collections::HashMap;
use std::sync::LazyLock;

use cordon_detect::Compiler;
use cordon_model::finding::RuleRef;

/// What one rule says.
#[derive(Debug)]
pub struct Said {
    /// What it is about, and after "At 3 a.m.:" what to look at first: one text for each paragraph.
    pub description: Vec<String>,
    /// What else may look so.
    pub false_positives: Vec<String>,
    title: String,
}

/// By rule id: about 1 KB for each rule of the pack, read when the first finding is shown.
static PACK: LazyLock<HashMap<String, Said>> = LazyLock::new(|| {
    let mut compiler = Compiler::new();
    for (origin, yaml) in cordon_rules::all() {
        compiler.add_yaml(origin, yaml);
    }
    let (set, _) = compiler.compile();
    let said = set.rules().iter().map(|rule| {
        let description = rule.description.as_deref().map(paragraphs).unwrap_or_default();
        let (title, false_positives) = (rule.title.clone(), rule.false_positives.clone());
        (rule.id.clone(), Said { description, false_positives, title })
    });
    said.collect()
});

/// What the pack says of a rule, if it is one of its own.
pub fn said_of(rule: &RuleRef) -> Option<&'static Said> {
    PACK.get(&rule.id).filter(|said| said.title == rule.title)
}

/// Lines were broken for whoever writes rules; what to do at night is a paragraph of its own.
fn paragraphs(text: &str) -> Vec<String> {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.find("At 3 a.m.:") {
        Some(at @ 1..) => {
            let (before, after) = joined.split_at(at);
            vec![before.trim_end().to_owned(), after.to_owned()]
        }
        _ => vec![joined],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_pack_says_what_to_look_at_first() {
        assert_eq!(PACK.len(), cordon_rules::all().len());
        for (id, said) in PACK.iter() {
            let last = said.description.last();
            assert!(last.is_some_and(|text| text.starts_with("At 3 a.m.:")), "{id}: {last:?}");
        }
    }
}
