//! Events a second through SigmaHQ's Windows rules, beside `rsigma-eval` on the same events, one thread.
//!
//! `cargo run --release -p cordon-detect --example throughput -- RULES_DIR [EVENTS.ndjson]` prints, as
//! JSON lines, `name`, `value`, `unit`, `n`, `peer` and `ratio`. Without a file of flat JSON events it makes
//! its own from a fixed seed: process starts of which one in a hundred has what some rule looks for.
//! Both read the JSON text inside the measured time, ours by the product's intake, the other by `serde_json`
//! and with the log source given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark stops at the first thing that is wrong"
)]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cordon_detect::{Compiler, RuleSet};
use cordon_intake::{Item, Reading, read};
use cordon_model::event::Source;
use rsigma_eval::Engine;
use rsigma_eval::event::JsonEvent;
use rsigma_parser::LogSource;
use serde_json::{Value as Json, json};

/// How many events are made.
const EVENTS: usize = 20_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        eprintln!("usage: throughput RULES_DIR [EVENTS.ndjson]");
        std::process::exit(2);
    };
    let mut texts = Vec::new();
    read_rules(Path::new(&folder), &mut texts);
    let events: Vec<String> = match arguments.next() {
        Some(path) => std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect(),
        None => made_events(),
    };

    let before = cpu_time();
    let mut compiler = Compiler::new();
    for (path, text) in &texts {
        compiler.add_yaml(&path.display().to_string(), text);
    }
    let (rules, refusals) = compiler.compile();
    let load = cpu_time() - before;

    let before = cpu_time();
    let mut engine = Engine::new();
    let parsed: Vec<_> = texts
        .iter()
        .filter_map(|(_, text)| rsigma_parser::parse_sigma_yaml(text).ok())
        .flat_map(|collection| collection.rules)
        .collect();
    engine.add_rules(&parsed);
    let peer_load = cpu_time() - before;
    eprintln!("{} rules, {} refused, {} events", rules.rules().len(), refusals.len(), events.len());
    row(
        "detect_load",
        load.as_secs_f64(),
        "cpu s",
        rules.rules().len(),
        Some(peer_load.as_secs_f64()),
    );

    // One round to warm up, then the best of five: the machine may be busy.
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    let (mut our_hits, mut their_hits) = (0, 0);
    let lines = events.join("\n");
    for _ in 0..6 {
        let (time, hits) = run_ours(&rules, &lines);
        (ours, our_hits) = (ours.min(time), hits);
        let (time, hits) = run_theirs(&engine, &events);
        (theirs, their_hits) = (theirs.min(time), hits);
    }
    let parse = (0..3).map(|_| run_parse(&events)).min().unwrap_or_default();
    let rate = |time: Duration| events.len() as f64 / time.as_secs_f64();
    row("detect_events", rate(ours), "events/cpu s", events.len(), Some(rate(theirs)));
    let intake = (0..3).map(|_| run_intake(&rules, &lines)).min().unwrap_or_default();
    let matching = ours.saturating_sub(intake);
    row("intake_alone", rate(intake), "events/cpu s", events.len(), None);
    row("detect_matching_alone", rate(matching), "events/cpu s", events.len(), None);
    row("json_parse_alone", rate(parse), "events/cpu s", events.len(), None);
    row("detect_hits", our_hits as f64, "hits", events.len(), Some(their_hits as f64));
}

fn row(name: &str, value: f64, unit: &str, n: usize, peer: Option<f64>) {
    let ratio = peer.map(|peer| value / peer);
    println!(
        "{}",
        json!({"name": name, "value": value, "unit": unit, "n": n, "peer": peer, "ratio": ratio})
    );
}

/// By the intake that the product has.
fn run_ours(rules: &RuleSet, events: &str) -> (Duration, usize) {
    let mut matcher = rules.matcher();
    let before = cpu_time();
    let mut hits = 0;
    let reading = Reading {
        fields: rules.fields(),
        every_value: rules.has_keywords(),
        assumed: Source::default(),
    };
    read(Cursor::new(events), false, &reading, &mut |item| {
        if let Item::Record(record) = item {
            hits += matcher.matches(rules, &record.event).len();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    (cpu_time() - before, hits)
}

/// The intake alone.
fn run_intake(rules: &RuleSet, events: &str) -> Duration {
    let before = cpu_time();
    let reading = Reading {
        fields: rules.fields(),
        every_value: rules.has_keywords(),
        assumed: Source::default(),
    };
    read(Cursor::new(events), false, &reading, &mut |item| {
        std::hint::black_box(item);
        ControlFlow::Continue(())
    })
    .unwrap();
    cpu_time() - before
}

fn run_theirs(engine: &Engine, events: &[String]) -> (Duration, usize) {
    let source = LogSource {
        product: Some("windows".into()),
        category: Some("process_creation".into()),
        ..LogSource::default()
    };
    let before = cpu_time();
    let mut hits = 0;
    for text in events {
        let json: Json = serde_json::from_str(text).unwrap();
        hits += engine.evaluate_with_logsource(&JsonEvent::borrow(&json), &source).len();
    }
    (cpu_time() - before, hits)
}

fn run_parse(events: &[String]) -> Duration {
    let before = cpu_time();
    for text in events {
        std::hint::black_box(serde_json::from_str::<Json>(text).unwrap());
    }
    cpu_time() - before
}

/// CPU time of this thread so far, as the scheduler counts it: wall time on a busy machine says little.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

fn read_rules(folder: &Path, texts: &mut Vec<(PathBuf, String)>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_rules(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            let text = std::fs::read_to_string(&path).unwrap();
            texts.push((path, text));
        }
    }
}

fn made_events() -> Vec<String> {
    let mut state = 1u64;
    let mut below = |end: usize| {
        // A linear congruential generator (Knuth's MMIX constants): enough to vary events.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let images = [
        "svchost",
        "chrome",
        "cmd",
        "powershell",
        "backup",
        "msiexec",
        "dicomviewer",
        "hl7engine",
        "rundll32",
    ];
    let folders = [
        r"C:\Windows\System32",
        r"C:\Program Files\Vendor\App",
        r"C:\Users\nurse\AppData\Local\App",
    ];
    let arguments = [
        "-k netsvcs -p -s Schedule",
        "--type=renderer --lang=en-GB",
        "/c dir",
        "/q /update",
        "-store 11112",
    ];
    let odd = [
        "vssadmin delete shadows /all /quiet",
        "powershell -enc SQBFAFgA",
        "net user /add x",
        "certutil -urlcache -f http://x",
    ];
    (0..EVENTS)
        .map(|number| {
            let (image, parent) = (images[below(images.len())], images[below(images.len())]);
            let folder = folders[below(folders.len())];
            let argument = if below(100) == 0 { odd[below(odd.len())] } else { arguments[below(arguments.len())] };
            json!({
                "EventID": 1,
                "Provider_Name": "Microsoft-Windows-Sysmon",
                "Channel": "Microsoft-Windows-Sysmon/Operational",
                "Computer": format!("ward-{}.hospital.example", below(40)),
                "UtcTime": "2024-05-01 07:00:00.000",
                "ProcessGuid": format!("{{{number:08x}-0000-0000-0000-000000000000}}"),
                "ProcessId": below(60_000),
                "Image": format!(r"{folder}\{image}.exe"),
                "OriginalFileName": format!("{image}.exe"),
                "Description": "A program of the hospital",
                "Company": "Vendor",
                "CommandLine": format!(r#""{folder}\{image}.exe" {argument} --session {number}"#),
                "CurrentDirectory": r"C:\Windows\system32\",
                "User": r"HOSPITAL\nurse",
                "IntegrityLevel": "Medium",
                "Hashes": format!("SHA256={:064x},IMPHASH={:032x}", number * 7919, number),
                "ParentProcessId": below(60_000),
                "ParentImage": format!(r"{folder}\{parent}.exe"),
                "ParentCommandLine": format!(r"{folder}\{parent}.exe {}", arguments[below(arguments.len())]),
                "ParentUser": r"HOSPITAL\nurse",
            })
            .to_string()
        })
        .collect()
}
