//! SigmaHQ's rules over real Windows logs, where they are beside the project.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

#[path = "support/evtx.rs"]
mod evtx_records;

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cordon_detect::taxonomy::{Origin, Reach, Taxonomy};
use cordon_detect::{Compiler, Refusal, RuleSet};
use cordon_model::event::Source;
use rsigma_eval::Engine;
use rsigma_eval::event::JsonEvent;
use support::{event_of, matched, rule_files, shared};

fn compile(files: &[(PathBuf, String)]) -> (RuleSet, Vec<Refusal>) {
    let mut compiler = Compiler::new();
    for (path, text) in files {
        let added = compiler.add_yaml(&path.display().to_string(), text);
        assert_eq!(added.rules + added.refused, 1, "{}: {added:?}", path.display());
    }
    compiler.compile()
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "evtx"))
        .collect();
    files.sort();
    files
}

fn source(record: &evtx_records::Record) -> Source<'_> {
    Source {
        channel: Some(record.channel.as_str().into()),
        event_id: Some(record.event_id),
        ..Source::default()
    }
}

#[test]
fn every_rule_of_sigmahq_is_loaded_or_refused_with_a_reason() {
    let Some(shared) = shared() else { return };
    let files = rule_files(&shared.join("sigma"));
    let (rules, refusals) = compile(&files);
    assert_eq!(files.len(), 3754);
    // Two need the site's own list of hosts.
    assert_eq!(refusals.len(), 2, "{refusals:#?}");
    assert!(
        refusals.iter().all(|refusal| refusal.reason.contains("%known_cdc") && refusal.line > 1),
        "{refusals:#?}"
    );
    assert_eq!(rules.rules().len(), 3752);
}

#[test]
fn every_windows_service_and_category_of_sigmahq_is_in_the_taxonomy() {
    let Some(shared) = shared() else { return };
    let (rules, _) = compile(&rule_files(&shared.join("sigma")));
    let mut unknown = BTreeSet::new();
    for rule in rules.rules() {
        let source = &rule.log_source;
        if source.product.as_deref() != Some("windows") {
            continue;
        }
        if let Some(service) = source.service.as_deref()
            && !Taxonomy::windows().knows_service(service)
        {
            unknown.insert(service.to_owned());
        }
        if let Some(category) = source.category.as_deref()
            && !Taxonomy::windows().knows_category(category)
        {
            unknown.insert(category.to_owned());
        }
    }
    // These come from kernel tracing, which no event log holds: a sensor must say the category itself.
    let by_sensor_only: BTreeSet<String> = ["file_access", "file_rename"].map(String::from).into();
    assert_eq!(unknown, by_sensor_only);
}

#[test]
fn each_rule_of_sigmahqs_regression_set_fires_on_its_log() {
    let Some(shared) = shared() else { return };
    let (rules, _) = compile(&rule_files(&shared.join("sigma")));
    let text = std::fs::read_to_string(shared.join("hits/regression_expected.json")).unwrap();
    let expected: Vec<(String, String, Option<u64>)> = serde_json::from_str(&text).unwrap();
    let mut matcher = rules.matcher();
    let mut wrong = Vec::new();
    let mut judged = 0;
    for (rule, file, count) in &expected {
        let path = shared.join(format!("evtx/regression/{file}.evtx"));
        if !path.is_file() {
            continue;
        }
        judged += 1;
        let mut hits = 0;
        for record in evtx_records::records(&path) {
            let event = event_of(&rules, source(&record), &record.fields);
            hits += u64::from(matched(&mut matcher, &rules, &event).contains(&rule.as_str()));
        }
        // The counts there are of alerts, which fold several records: only that it fires is judged.
        if hits == 0 {
            wrong.push(format!("{rule} on {file}: no hit, expected {count:?}"));
        }
    }
    println!("{judged} of {} logs are here; {} right", expected.len(), judged - wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where the other engine differs, and why ours is right.
const DIFFERENCES: [(&str, &str); 3] = [
    (
        "4a0b2c7e-7cb2-495d-8b63-5f268e7bfd67",
        "`windash` is about `/` too; there only `-` is replaced",
    ),
    (
        "ab6bffca-beff-4baa-af11-6733f296d57a",
        "`endswith` with a `?`: there it is tried on the whole value",
    ),
    (
        "f6de9536-0441-4b3f-a646-f4e00f300ffd",
        "`endswith` with a `?`: there it is tried on the whole value",
    ),
];

/// On real events, every rule that is about them is put to `rsigma-eval` too.
#[test]
fn rsigma_agrees_on_real_events() {
    let Some(shared) = shared() else { return };
    let files = rule_files(&shared.join("sigma"));
    let (rules, _) = compile(&files);
    let mut engine = Engine::new();
    let parsed: Vec<_> = files
        .iter()
        .flat_map(|(_, text)| rsigma_parser::parse_sigma_yaml(text).unwrap().rules)
        .collect();
    let errors = engine.add_rules(&parsed);
    assert!(errors.is_empty(), "{errors:?}");
    let by_id: BTreeMap<&str, _> =
        rules.rules().iter().map(|rule| (rule.id.as_str(), &rule.log_source)).collect();
    let mut matcher = rules.matcher();
    let mut differences: BTreeMap<String, u32> = BTreeMap::new();
    let (mut events, mut hits) = (0, 0);
    // Unoptimised, each event takes milliseconds: then a part must do.
    let step = if cfg!(debug_assertions) { 5 } else { 1 };
    let all_logs =
        [logs(&shared.join("evtx/attack")), logs(&shared.join("evtx/regression"))].concat();
    for path in all_logs.iter().step_by(step) {
        for record in evtx_records::records(path) {
            let origin = Origin {
                channel: Some(record.channel.to_lowercase()),
                event_id: Some(record.event_id),
                ..Origin::default()
            };
            // Where a log has its own field names the other engine has no mapping.
            let is_direct = |id: &&str| {
                by_id.get(id).is_some_and(|asked| {
                    Taxonomy::windows().reach(asked, &origin) == Some(Reach::Direct)
                })
            };
            let event = event_of(&rules, source(&record), &record.fields);
            let ours: BTreeSet<&str> =
                matched(&mut matcher, &rules, &event).into_iter().filter(is_direct).collect();
            let results = engine.evaluate(&JsonEvent::borrow(&record.fields));
            let theirs: BTreeSet<&str> = results
                .iter()
                .filter_map(|result| result.header.rule_id.as_deref())
                .filter(is_direct)
                .collect();
            events += 1;
            hits += ours.len();
            for id in ours.symmetric_difference(&theirs) {
                if DIFFERENCES.iter().any(|(known, _)| known == id) && ours.contains(id) {
                    continue;
                }
                let side = if ours.contains(id) { "only ours" } else { "only theirs" };
                *differences
                    .entry(format!("{side}: {id} on {} {}", record.channel, record.event_id))
                    .or_default() += 1;
            }
        }
    }
    println!("{events} events, {hits} hits, differences: {differences:#?}");
    assert!(hits > 100, "too few hits to judge by: {hits}");
    assert!(differences.is_empty());
}
