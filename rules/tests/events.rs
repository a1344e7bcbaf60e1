//! Every rule against its own test events, through the intake and the engine that the product uses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

use cordon_detect::{Compiler, RuleSet};
use cordon_intake::{Item, Reading, read};
use cordon_model::event::Source;
use cordon_model::finding::Level;
use serde_json::Value as Json;

fn pack() -> RuleSet {
    let mut compiler = Compiler::new();
    for (origin, yaml) in cordon_rules::all() {
        compiler.add_yaml(origin, yaml);
    }
    let (rules, refusals) = compiler.compile();
    assert!(refusals.is_empty(), "{refusals:?}");
    assert_eq!(rules.rules().len(), cordon_rules::all().len());
    rules
}

/// Where a rule's test events come from. Windows events say it themselves.
fn assumed(rules: &RuleSet, origin: &str) -> Source<'static> {
    let rule = rules.rules().iter().find(|rule| &*rule.origin == origin).unwrap();
    if origin.starts_with("windows/") {
        return Source::default();
    }
    Source {
        product: rule.log_source.product.as_deref().map(|name| name.to_owned().into()),
        category: rule.log_source.category.as_deref().map(|name| name.to_owned().into()),
        ..Source::default()
    }
}

/// The rules, by origin, that match `event`.
fn matching(rules: &RuleSet, event: &Json, assumed: Source<'static>) -> BTreeSet<String> {
    let reading = Reading { fields: rules.fields(), every_value: false, assumed };
    let mut found = BTreeSet::new();
    let mut matcher = rules.matcher();
    let mut events = 0;
    read(Cursor::new(event.to_string()), false, &reading, &mut |item| {
        match item {
            Item::Record(record) => {
                events += 1;
                for index in matcher.matches(rules, &record.event) {
                    found.insert(rules.rule(*index).unwrap().origin.to_string());
                }
            }
            Item::Damage(damage) => panic!("{damage}"),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(events, 1, "{event}");
    found
}

/// Runs `judge` on every event of the pack: the rule's origin, the event, whether the rule is to match
/// it, and the rules that do.
fn for_each_event(mut judge: impl FnMut(&RuleSet, &str, &Json, bool, &BTreeSet<String>)) {
    let rules = pack();
    for (origin, _) in cordon_rules::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(origin.replace(".yml", ".test.json"));
        let test: Json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for (key, is_wanted) in [("matches", true), ("misses", false)] {
            for event in test[key].as_array().unwrap() {
                let found = matching(&rules, event, assumed(&rules, origin));
                judge(&rules, origin, event, is_wanted, &found);
            }
        }
    }
}

#[test]
fn every_rule_matches_what_it_must_and_misses_what_it_must() {
    let mut wrong = Vec::new();
    for_each_event(|_, origin, event, is_wanted, found| {
        if found.contains(origin) != is_wanted {
            wrong.push(format!(
                "{origin} should {}match {event}",
                if is_wanted { "" } else { "not " }
            ));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What stands among the misses is normal work: no rule whatever may have a machine cut off for it.
#[test]
fn normal_work_alarms_no_rule_that_may_isolate_a_machine() {
    let mut wrong = Vec::new();
    for_each_event(|rules, origin, event, is_wanted, found| {
        for rule in rules.rules().iter().filter(|rule| found.contains(&*rule.origin)) {
            if !is_wanted && rule.level >= Level::High {
                wrong.push(format!("{} matches what {origin} calls normal: {event}", rule.origin));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A worm that unpacks itself where anyone may write, under a kernel thread's name, is seen at its first
/// process start, before it has sent a packet; and again at its first connection.
#[test]
fn a_worm_is_seen_before_it_connects() {
    let rules = pack();
    let start = serde_json::json!({
        "Image": "/tmp/.cache-7f3a/kworker-u9", "CommandLine": "/tmp/.cache-7f3a/kworker-u9 10.77.0.0",
        "CurrentDirectory": "/", "User": "root", "ParentImage": "/usr/sbin/smbd", "ProcessId": 7
    });
    let found =
        matching(&rules, &start, assumed(&rules, "linux/worm/program_poses_as_kernel_thread.yml"));
    let expected = ["program_in_hidden_temporary_directory", "program_poses_as_kernel_thread"];
    assert_eq!(found, expected.map(|name| format!("linux/worm/{name}.yml")).into());

    let connection = serde_json::json!({
        "Image": "/tmp/.cache-7f3a/kworker-u9", "DestinationIp": "10.77.0.12", "DestinationPort": 445,
        "Protocol": "tcp", "Initiated": "true", "User": "root"
    });
    let found =
        matching(&rules, &connection, assumed(&rules, "linux/worm/smb_from_temporary_program.yml"));
    assert_eq!(found, [String::from("linux/worm/smb_from_temporary_program.yml")].into());
}
