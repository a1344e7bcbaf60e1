//! Real logs and the public rules, when they are at hand: each rule fires on the log that was recorded for
//! it, and on every log where all published tools agree that it does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser as _;
use cordon_scan::{Looks, ScanArgs, scan};

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    scan: ScanArgs,
}

/// The folder of real data: `$CORDON_SHARED`, else `shared` beside the repository.
fn detection_data() -> Option<PathBuf> {
    let shared = std::env::var_os("CORDON_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let data = shared.join("data/detection");
    data.is_dir().then_some(data)
}

/// Rule id and the log's SHA-256, which is its name: how often.
type Pairs = BTreeMap<(String, String), u64>;

/// What the scan of all logs with all rules finds.
fn found(data: &Path) -> Pairs {
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (logs, rules) = (text(data.join("evtx")), text(data.join("sigma")));
    let cli = Cli::parse_from(["scan", &logs, "--rules", &rules, "--output", "ndjson"]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let looks = Looks { width: 100, has_colour: false, has_bar: false };
    let begun = Instant::now();
    scan(&cli.scan, looks, &mut out, &mut err).unwrap();
    let err = String::from_utf8(err).unwrap();
    let summary = err.lines().find(|line| line.starts_with("Read ")).unwrap();
    println!("{} {}; {:.1} s", err.lines().next().unwrap(), summary, begun.elapsed().as_secs_f64());
    let mut pairs = Pairs::new();
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let finding: serde_json::Value = serde_json::from_slice(line).unwrap();
        let file = Path::new(finding["file"].as_str().unwrap()).file_stem().unwrap();
        let pair =
            (finding["rule_id"].as_str().unwrap().to_owned(), file.to_str().unwrap().to_owned());
        *pairs.entry(pair).or_default() += 1;
    }
    pairs
}

/// The names of the logs that are at hand: some are kept elsewhere.
fn logs_at_hand(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            logs_at_hand(&path, into);
        } else {
            into.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// The pairs that a published tool, or all, report: rule, log, and after them what we don't need.
fn reported(file: &Path) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .filter_map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            Some((columns.next()?, columns.next()?))
        })
        .collect()
}

#[test]
fn every_rule_fires_where_it_is_known_to() {
    let Some(data) = detection_data() else {
        cordon_tests::cannot_be_had(
            "no real logs and rules beside the repository (set CORDON_SHARED)",
        );
        return;
    };
    let found = found(&data);
    let mut at_hand = BTreeSet::new();
    logs_at_hand(&data.join("evtx"), &mut at_hand);

    let expected = fs::read(data.join("hits/regression_expected.json")).unwrap();
    let expected: Vec<(String, String, Option<u64>)> = serde_json::from_slice(&expected).unwrap();
    let recorded: BTreeSet<_> = expected.into_iter().map(|(rule, log, _)| (rule, log)).collect();
    let agreed = reported(&data.join("hits/consensus_3of3_pairs.tsv"));
    for (name, pairs) in [("recorded for a rule", recorded), ("agreed on by all tools", agreed)] {
        let pairs: Vec<_> = pairs.into_iter().filter(|(_, log)| at_hand.contains(log)).collect();
        let missed: Vec<_> = pairs.iter().filter(|pair| !found.contains_key(*pair)).collect();
        println!("{name}: {} of {}", pairs.len() - missed.len(), pairs.len());
        assert!(missed.is_empty(), "{name}, but missed: {missed:#?}");
    }
    println!("all: {} pairs of rule and log", found.len());
}
