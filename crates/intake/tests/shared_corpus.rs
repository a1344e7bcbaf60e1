//! Real logs, when they are at hand: every record that the `evtx` crate's own dump finds is read here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cordon_intake::{Item, Reader, Reading, read_file};
use cordon_model::event::{FieldTable, Source};
use evtx::{EvtxParser, ParserSettings};

/// The folder of real logs: `$CORDON_SHARED`, else `shared` beside the repository.
fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("CORDON_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let corpus = shared.join("data/detection/evtx");
    corpus.is_dir().then_some(corpus)
}

fn logs_under(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            logs_under(&path, into);
        } else if path.extension().is_some_and(|end| end == "evtx") {
            into.push(path);
        }
    }
}

#[test]
fn nothing_that_the_crates_own_dump_finds_is_missing() {
    let Some(corpus) = corpus() else {
        cordon_tests::cannot_be_had("no real logs beside the repository (set CORDON_SHARED)");
        return;
    };
    let mut logs = Vec::new();
    logs_under(&corpus, &mut logs);
    logs.sort();
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    let (mut records, mut more, mut damages, mut unreadable) = (0usize, 0usize, 0usize, 0usize);
    for log in &logs {
        let mut ours = BTreeMap::<Vec<u8>, usize>::new();
        let read = read_file(log, &reading, &mut |item| {
            match item {
                Item::Record(record) => *ours.entry(record.json().to_vec()).or_default() += 1,
                Item::Damage(damage) => {
                    damages += 1;
                    println!("{}: {damage}", log.display());
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = &read {
            unreadable += 1;
            println!("{}: {error}", log.display());
        }
        records += ours.values().sum::<usize>();
        let Ok(parser) = EvtxParser::from_path(log) else { continue };
        let settings = ParserSettings::new().indent(false).num_threads(1);
        for theirs in parser.with_configuration(settings).records_json_bytes().flatten() {
            let count = ours.get_mut(&theirs.data);
            let count = count.unwrap_or_else(|| {
                panic!("{}: {} is missing", log.display(), theirs.event_record_id)
            });
            *count = count.checked_sub(1).expect("as often as there");
        }
        more += ours.values().sum::<usize>();
    }
    println!(
        "{} logs: {records} records, {more} more than the dump finds, {damages} damages, {unreadable} unreadable",
        logs.len()
    );
    assert!(records > 0);
}

/// Names that rules read, of every kind: in every place of a record, and numbered.
const NAMES: [&str; 24] = [
    "EventID",
    "Channel",
    "Provider_Name",
    "Computer",
    "EventRecordID",
    "TimeCreated_SystemTime",
    "Execution_ProcessID",
    "Security_UserID",
    "Level",
    "Correlation",
    "CommandLine",
    "Image",
    "ParentImage",
    "Hashes",
    "LogonGuid",
    "TargetUserName",
    "SubjectUserName",
    "LogonType",
    "IpAddress",
    "Data",
    "ScriptBlockText",
    "ThreatName",
    "ServiceName",
    "param1",
];

#[test]
fn read_straight_every_record_is_what_its_text_says() {
    let Some(corpus) = corpus() else {
        cordon_tests::cannot_be_had("no real logs beside the repository (set CORDON_SHARED)");
        return;
    };
    let mut logs = Vec::new();
    logs_under(&corpus, &mut logs);
    logs.sort();
    let mut fields = FieldTable::default();
    for name in NAMES {
        fields.intern(name);
    }
    for every_value in [false, true] {
        let reading = Reading { fields: &fields, every_value, assumed: Source::default() };
        let (mut straight, mut by_text) = (Reader::new(&reading), Reader::by_text(&reading));
        let (mut records, straight_records) = (0, Cell::new(0));
        for log in &logs {
            let all = |reader: &mut Reader<'_>| {
                let mut all = Vec::new();
                let read = reader.read_file(log, &mut |item| {
                    all.push(match item {
                        Item::Record(record) => {
                            let is_straight = format!("{record:?}").contains("BinXml(Told");
                            straight_records.set(straight_records.get() + usize::from(is_straight));
                            let json = String::from_utf8_lossy(record.json()).into_owned();
                            (format!("{:?}", record.event), record.offset, json)
                        }
                        Item::Damage(damage) => (damage.to_string(), 0, String::new()),
                    });
                    ControlFlow::Continue(())
                });
                (all, format!("{read:?}"))
            };
            let ((straight, read), (by_text, as_read)) = (all(&mut straight), all(&mut by_text));
            for (straight, by_text) in straight.iter().zip(&by_text) {
                assert_eq!(straight, by_text, "{}", log.display());
            }
            assert_eq!((straight.len(), read), (by_text.len(), as_read), "{}", log.display());
            records += straight.len();
        }
        let straight = straight_records.get();
        println!("{} logs: {records} records and damages are the same", logs.len());
        assert!(straight * 10 > records * 9, "only {straight} of {records} were read straight");
    }
}
