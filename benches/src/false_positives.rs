//! How often rules fire on normal work: the real sensor beside builds, packages, backups, services, logins
//! and containers that really run, and every rule asked about what it saw.
//!
//! The work runs in a network namespace of its own, so that only its events are counted; the rest of the
//! machine is a matter for a recording of hours (`cargo run --release -p cordon-agent --example record`),
//! which is judged besides when `CORDON_BENIGN` names its folder. Our own Linux rules are asked, and
//! SigmaHQ's where they are beside the project. **There is no benign work of Windows here.**

mod work;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cordon_agent::sensor::{Recording, Sensor, SensorOptions};
use cordon_detect::{Compiler, RuleSet};
use cordon_intake::{Item, Reading, read};
use cordon_model::event::{Source, Value};
use cordon_model::finding::Level;
use nix::sched::{CloneFlags, unshare};

use crate::{Row, shared_data};

/// How long the work goes on, if `CORDON_BENIGN_MINUTES` does not say otherwise.
const MINUTES: u64 = 3;
/// No recording of a few minutes comes near it.
const BYTES: u64 = 1 << 30;
/// The kernel tells of the last ends and losses within a second.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub fn measure() -> Result<Vec<Row>> {
    if !nix::unistd::geteuid().is_root() {
        println!("false positives: skipped, as the sensor needs root");
        return Ok(Vec::new());
    }
    let minutes = std::env::var("CORDON_BENIGN_MINUTES").ok().and_then(|text| text.parse().ok());
    let lasting = Duration::from_secs(60 * minutes.unwrap_or(MINUTES));
    println!("false positives: {} s of normal work beside the sensor", lasting.as_secs());
    // A thread of its own: it goes into another network namespace, and must not take the others along.
    let recorded = std::thread::spawn(move || record(Path::new("target/bench/benign"), lasting));
    let (folder, lost) = recorded.join().map_err(|_| anyhow::anyhow!("the work panicked"))??;
    let packs = [own_pack(), sigma_hq()?];
    let mut rows =
        vec![Row::new("benign work: events lost by the sensor", lost as f64, "events", 1)];
    for pack in packs.iter().flatten() {
        rows.extend(judge(pack, &folder, "benign work")?);
    }
    if let Some(folder) = std::env::var_os("CORDON_BENIGN").map(PathBuf::from) {
        println!("  the recording in {}:", folder.display());
        for pack in packs.iter().flatten() {
            rows.extend(judge(pack, &folder, "the recording")?);
        }
    }
    Ok(rows)
}

/// Works for so long beside the sensor. Returns where the recording is, and how much the sensor lost.
fn record(folder: &Path, lasting: Duration) -> Result<(PathBuf, u64)> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("removing the recording of last time")?;
    }
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own")?;
    let here = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let sensor =
        Sensor::open(&SensorOptions { network_namespace: Some(here), ..SensorOptions::default() });
    let seen = sensor.coverage().iter().filter(|one| one.seen_by.is_some()).count();
    ensure!(seen > 0, "the sensor sees nothing here");
    let recording = Arc::new(Mutex::new(Recording::begin(folder, BYTES)?));
    let kept = Arc::clone(&recording);
    let running = sensor.start(move |event, _| {
        let mut recording = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = recording.keep(&event) {
            println!("  not kept: {error}");
        }
    })?;
    let count = || {
        let recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
        recording.counts()
    };
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < lasting {
        for work in work::ALL {
            let before = count();
            let outcome = work.run()?;
            if round == 0 {
                std::thread::sleep(LAST_WORDS);
                let events =
                    count().starts + count().connections - before.starts - before.connections;
                println!("  {:<12} {events:>5} events a round; {outcome}", work.name);
            }
        }
        round += 1;
    }
    std::thread::sleep(LAST_WORDS);
    drop(running);
    recording.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
    let counts = count();
    println!("  {round} rounds in {:.0} s: {counts:?}", began.elapsed().as_secs_f64());
    Ok((folder.to_path_buf(), counts.lost + counts.beyond_limit))
}

/// Rules, and whose they are.
struct Pack {
    whose: &'static str,
    rules: RuleSet,
}

fn own_pack() -> Option<Pack> {
    let linux = cordon_rules::all().filter(|(origin, _)| origin.starts_with("linux/"));
    Some(Pack { whose: "our own rules", rules: compiled(linux) })
}

fn sigma_hq() -> Result<Option<Pack>> {
    let folder = shared_data().join("detection/sigma/rules/linux");
    if !folder.is_dir() {
        println!("  SigmaHQ's rules are not beside the project ({})", folder.display());
        return Ok(None);
    }
    let mut texts = Vec::new();
    crate::detection::read_below(&folder, &mut texts)?;
    texts.sort();
    let rules = compiled(texts.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    Ok(Some(Pack { whose: "SigmaHQ's Linux rules", rules }))
}

fn compiled<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> RuleSet {
    let mut compiler = Compiler::new();
    for (path, text) in texts {
        compiler.add_yaml(path, text);
    }
    compiler.compile().0
}

/// What one rule did.
#[derive(Default)]
struct Fired {
    times: u64,
    example: String,
}

/// Asks the pack about a recording; prints each rule that fired, and returns the sums.
fn judge(pack: &Pack, folder: &Path, of_what: &str) -> Result<Vec<Row>> {
    let rules = &pack.rules;
    let mut matcher = rules.matcher();
    let mut fired: BTreeMap<u32, Fired> = BTreeMap::new();
    let (mut events, mut unread) = (0_u64, 0_u64);
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for category in ["process_creation", "network_connection"] {
        let source = Source {
            product: Some("linux".into()),
            category: Some(category.into()),
            ..Source::default()
        };
        let reading =
            Reading { fields: rules.fields(), every_value: rules.has_keywords(), assumed: source };
        let path = folder.join(format!("{category}.ndjson"));
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        read(BufReader::new(file), false, &reading, &mut |item| {
            let Item::Record(record) = item else {
                unread += 1;
                return ControlFlow::Continue(());
            };
            events += 1;
            if let Some(time) = record.event.time {
                first = first.min(time.unix_nanos());
                last = last.max(time.unix_nanos());
            }
            for index in matcher.matches(rules, &record.event) {
                let one = fired.entry(index.0).or_default();
                one.times += 1;
                if one.example.is_empty() {
                    one.example = example(rules, &record.event);
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    ensure!(events > 0, "there is nothing in {}", folder.display());
    let hours = Duration::from_nanos(u64::try_from(last.saturating_sub(first)).unwrap_or(0))
        .as_secs_f64()
        / 3600.0;
    println!(
        "  {} on {of_what}: {events} events in {hours:.2} hours ({unread} lines unreadable), {} rules",
        pack.whose,
        rules.rules().len()
    );
    let mut told: Vec<(Level, &str, &Fired)> = Vec::new();
    for (index, one) in &fired {
        if let Some(rule) = rules.rules().get(*index as usize) {
            told.push((rule.level, &rule.title, one));
        }
    }
    told.sort_by_key(|(level, _, one)| (std::cmp::Reverse(*level), std::cmp::Reverse(one.times)));
    for (level, title, one) in &told {
        println!(
            "    {:<13} {:>6} times, {:>8.1} an hour, {:>8.1} in 100,000 events  {title}\n        such as: {}",
            level.to_string(),
            one.times,
            one.times as f64 / hours,
            one.times as f64 * 100_000.0 / events as f64,
            one.example
        );
    }
    let all: u64 = told.iter().map(|(_, _, one)| one.times).sum();
    let grave: u64 =
        told.iter().filter(|(level, ..)| *level >= Level::High).map(|(_, _, one)| one.times).sum();
    let name = |what: &str| format!("{of_what}, {}: {what}", pack.whose);
    Ok(vec![
        Row::new(name("findings an hour"), all as f64 / hours, "findings", events),
        Row::new(name("findings, high or critical"), grave as f64, "findings", events),
        Row::new(name("rules that fired"), told.len() as f64, "rules", rules.rules().len() as u64),
        Row::new(name("hours"), hours, "h", events),
    ])
}

/// What the event was, in one line of at most so many characters.
fn example(rules: &RuleSet, event: &cordon_model::event::Event<'_>) -> String {
    const CHARACTERS: usize = 160;
    let field = |name: &str| {
        let value = rules.fields().find(name).and_then(|id| event.first(id));
        match value {
            Some(Value::Text(text)) => text.to_string(),
            Some(Value::Int(number)) => number.to_string(),
            _ => String::new(),
        }
    };
    let destination = match field("DestinationPort").as_str() {
        "" => String::new(),
        port => format!(" to {} port {port}", field("DestinationIp")),
    };
    let line = format!(
        "{} [{}]{destination} < {}",
        field("CommandLine").replace(['\n', '\t'], " "),
        field("Image"),
        field("ParentImage")
    );
    line.chars().take(CHARACTERS).collect()
}
