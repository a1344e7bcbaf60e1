//! Events a second through Sigma rules, beside `rsigma-eval` on the same events in the same process.
//!
//! Both sides read each event's JSON text, ours by the intake that the product has, the other by
//! `serde_json` and with the log source told. The rules are
//! SigmaHQ's Windows rules where they are beside the project (or `CORDON_SHARED` says where), else our own
//! pack; the events are made from a seed: process starts as a Windows machine at work has them, with one
//! attack in a thousand.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context as _, Result};
use cordon_detect::stored::Stored;
use cordon_detect::{Compiler, RuleSet};
use cordon_drill::worm::SplitMix;
use cordon_intake::{Item, Reading, read};
use cordon_model::event::Source;
use rsigma_eval::Engine;
use rsigma_eval::event::JsonEvent;
use serde_json::{Value as Json, json};

use crate::{Row, cpu_seconds, shared_data};

const EVENTS: usize = 50_000;

pub fn measure() -> Result<Vec<Row>> {
    let (texts, whose) = rules()?;
    println!("detection: {} rule files ({whose}), {EVENTS} events made from a seed", texts.len());
    let began = cpu_seconds();
    let mut compiler = Compiler::new();
    for (path, text) in &texts {
        compiler.add_yaml(path, text);
    }
    let (rules, refusals) = compiler.compile();
    let compile = cpu_seconds() - began;
    let began = cpu_seconds();
    let parsed: Vec<_> = texts
        .iter()
        .filter_map(|(_, text)| rsigma_parser::parse_sigma_yaml(text).ok())
        .flat_map(|collection| collection.rules)
        .collect();
    let mut engine = Engine::new();
    engine.add_rules(&parsed);
    let peer_compile = cpu_seconds() - began;

    let events: Vec<String> = events().collect();
    let lines = events.join("\n");
    let (own, own_count) = best(|| own_hits(&rules, &lines))?;
    let (peer, peer_count) = best(|| peer_hits(&engine, &events))?;
    let (parse, _) = best(|| parsed_by_serde(&events))?;
    println!("  matches: ours {own_count}, rsigma-eval {peer_count}");
    let n = EVENTS as u64;
    let rate = |seconds: f64| EVENTS as f64 / seconds;
    let mut rows = vec![
        Row::new(
            format!("events a CPU second, {whose}, JSON parse included"),
            rate(own),
            "events/s",
            n,
        )
        .beside(rate(peer)),
        Row::new("rules loaded and compiled", compile, "CPU s", rules.rules().len() as u64)
            .beside(peer_compile),
        Row::new("rules refused", refusals.len() as f64, "rules", texts.len() as u64),
        Row::new("matches, beside rsigma-eval's", own_count as f64, "matches", n)
            .beside(peer_count as f64),
        Row::new("the same events parsed by serde_json, no rule asked", rate(parse), "events/s", n),
    ];
    rows.extend(growth(&texts, rules, &lines)?);
    rows.extend(started()?);
    Ok(rows)
}

/// What more rules cost: a third of them (the mean of all three thirds, for one reads other fields than another),
/// all, and ten times as many, varied. All in turn, so that what else runs meanwhile is the same for each.
fn growth(texts: &[(String, String)], all: RuleSet, lines: &str) -> Result<Vec<Row>> {
    let compiling = |texts: &[(String, String)]| {
        let began = cpu_seconds();
        let rules = compiled(texts);
        (cpu_seconds() - began, rules)
    };
    let thirds = [0, 1, 2].map(|first| compiling(&third(texts, first)));
    let (many_compile, many) = compiling(&varied(texts, 10));
    let few_compile = thirds.iter().map(|(seconds, _)| seconds).sum::<f64>() / 3.0;
    let [(_, first), (_, second), (_, third)] = &thirds;
    let mut least = [f64::INFINITY; 5];
    for _ in 0..5 {
        for (least, rules) in least.iter_mut().zip([first, second, third, &all, &many]) {
            let began = cpu_seconds();
            own_hits(rules, lines)?;
            *least = least.min(cpu_seconds() - began);
        }
    }
    let [first_cost, second_cost, third_cost, all_cost, many_cost] = least;
    let few_cost = (first_cost + second_cost + third_cost) / 3.0;
    let count = |rules: &RuleSet| rules.rules().len() as u64;
    let n = EVENTS as u64;
    let cost = |more, less| format!("cost of an event with {more} rules, by that with {less}");
    Ok(vec![
        Row::new(cost(count(&all), count(first)), all_cost / few_cost, "times", n),
        Row::new(cost(count(&many), count(&all)), many_cost / all_cost, "times", n),
        Row::new("a third of the rules loaded and compiled", few_compile, "CPU s", count(first)),
        Row::new("ten times the rules loaded and compiled", many_compile, "CPU s", count(&many)),
    ])
}

/// All rules that are at hand, loaded and compiled, and as a scan keeps them.
fn started() -> Result<Vec<Row>> {
    let mut texts = Vec::new();
    for folder in ["rules", "rules-emerging-threats", "rules-threat-hunting"] {
        let folder = shared_data().join("detection/sigma").join(folder);
        if folder.is_dir() {
            read_below(&folder, &mut texts)?;
        }
    }
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let n = texts.len() as u64;
    let began = cpu_seconds();
    let mut compiler = Compiler::new();
    for (path, text) in &texts {
        compiler.add_yaml(path, text);
    }
    let (set, refusals) = compiler.compile();
    let cold = cpu_seconds() - began;
    let bytes = Stored { set: &set, refusals: &refusals[..], withdrawn: 0 }.to_bytes();
    let bytes = bytes.context("the rules can't be stored")?;
    let (kept, _) =
        best(|| Ok(Stored::from_bytes(&bytes).context("not read")?.set.rules().len() as u64))?;
    Ok(vec![
        Row::new("all rules at hand, loaded and compiled", cold, "CPU s", n),
        Row::new("the same as they were kept", kept * 1e3, "CPU ms", n),
        Row::new("so many bytes are kept", bytes.len() as f64 / 1e6, "MB", n),
    ])
}

fn compiled(texts: &[(String, String)]) -> RuleSet {
    let mut compiler = Compiler::new();
    for (path, text) in texts {
        compiler.add_yaml(path, text);
    }
    compiler.compile().0
}

/// Every third rule from the one at `first` on.
fn third(texts: &[(String, String)], first: usize) -> Vec<(String, String)> {
    texts.iter().skip(first).step_by(3).cloned().collect()
}

/// The rules, and `times - 1` more of each that look for other texts in the same places.
fn varied(texts: &[(String, String)], times: usize) -> Vec<(String, String)> {
    let mut all = texts.to_vec();
    for number in 1..times {
        all.extend(
            texts.iter().map(|(path, text)| (format!("{path}#{number}"), variant(text, number))),
        );
    }
    all
}

/// A rule with an id of its own, whose texts of four letters or more end in other ones.
fn variant(text: &str, number: usize) -> String {
    let mut in_detection = false;
    let mut lines = String::new();
    for line in text.lines() {
        let is_top = line.starts_with(|first: char| first.is_ascii_alphabetic());
        if is_top {
            in_detection = line.starts_with("detection:");
        }
        let is_value = in_detection && !line.trim_start().starts_with("condition:");
        let quoted = line.strip_suffix('\'').filter(|line| is_value && line.len() > 8);
        match quoted {
            Some(line) if line.ends_with(|last: char| last.is_ascii_alphabetic()) => {
                lines.push_str(&format!("{line}{number}x'\n"));
            }
            _ if is_top && line.starts_with("id:") => {
                let id = line.trim_start_matches("id:").trim();
                let tail = id.get(1..).unwrap_or_default();
                lines.push_str(&format!("id: {number:x}{tail}{number}\n"));
            }
            _ => {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    lines
}

/// The least of three tries: what else runs can only make it more.
fn best(mut work: impl FnMut() -> Result<u64>) -> Result<(f64, u64)> {
    let mut least = f64::INFINITY;
    let mut hits = 0;
    for _ in 0..3 {
        let began = cpu_seconds();
        hits = work()?;
        least = least.min(cpu_seconds() - began);
    }
    Ok((least, hits))
}

fn parsed_by_serde(events: &[String]) -> Result<u64> {
    let mut fields = 0;
    for text in events {
        let json: Json = serde_json::from_str(text)?;
        fields += json.as_object().map_or(0, |object| object.len() as u64);
    }
    Ok(fields)
}

fn own_hits(rules: &RuleSet, events: &str) -> Result<u64> {
    let mut matcher = rules.matcher();
    let reading = Reading {
        fields: rules.fields(),
        every_value: rules.has_keywords(),
        assumed: Source::default(),
    };
    let (mut hits, mut seen) = (0, 0);
    read(Cursor::new(events), false, &reading, &mut |item| {
        if let Item::Record(record) = item {
            seen += 1;
            hits += matcher.matches(rules, &record.event).len() as u64;
        }
        ControlFlow::Continue(())
    })?;
    anyhow::ensure!(seen == EVENTS, "{seen} of {EVENTS} events were read");
    Ok(hits)
}

fn peer_hits(engine: &Engine, events: &[String]) -> Result<u64> {
    let source = rsigma_parser::LogSource {
        product: Some("windows".into()),
        category: Some("process_creation".into()),
        ..rsigma_parser::LogSource::default()
    };
    let mut hits = 0;
    for text in events {
        let json: Json = serde_json::from_str(text)?;
        let found = engine.evaluate_with_logsource(&JsonEvent::borrow(&json), &source);
        hits += found.len() as u64;
    }
    Ok(hits)
}

/// Origin and text of each rule, and whose they are.
fn rules() -> Result<(Vec<(String, String)>, &'static str)> {
    let folder = shared_data().join("detection/sigma/rules/windows");
    if folder.is_dir() {
        let mut found = Vec::new();
        read_below(&folder, &mut found)?;
        found.sort();
        return Ok((found, "SigmaHQ's Windows rules"));
    }
    let own = cordon_rules::all().map(|(origin, text)| (origin.to_owned(), text.to_owned()));
    Ok((own.collect(), "our own rules"))
}

/// Adds every rule file below `folder`: its path and its text.
pub fn read_below(folder: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// A day's process starts: programs, arguments and users mixed by a seed.
fn events() -> impl Iterator<Item = String> {
    const PROGRAMS: [(&str, &str); 8] = [
        (r"C:\Windows\System32\svchost.exe", "-k netsvcs -p -s"),
        (r"C:\Program Files\Google\Chrome\Application\chrome.exe", "--type=renderer --lang=en-GB"),
        (r"C:\Windows\System32\conhost.exe", "0xffffffff -ForceV1"),
        (r"C:\Windows\System32\taskhostw.exe", ""),
        (r"C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE", "/recycle"),
        (r"C:\Windows\System32\wbem\WmiPrvSE.exe", "-secured -Embedding"),
        (r"C:\PACS\Viewer\viewer.exe", "--study 1.2.840.113619.2.55.3 --worklist radiology"),
        (r"C:\Windows\System32\cmd.exe", r"/c C:\Scripts\print-labels.cmd ward-7"),
    ];
    const PARENTS: [&str; 4] = [
        r"C:\Windows\System32\services.exe",
        r"C:\Windows\explorer.exe",
        r"C:\Windows\System32\svchost.exe",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    ];
    let mut random = SplitMix(7);
    (0..EVENTS).map(move |number| {
        let mut pick = |count: usize| usize::try_from(random.draw() % count as u64).unwrap_or(0);
        let (image, arguments) = if number % 1_000 == 999 {
            (r"C:\Windows\System32\vssadmin.exe", "delete shadows /all /quiet")
        } else {
            PROGRAMS[pick(PROGRAMS.len())]
        };
        let parent = PARENTS[pick(PARENTS.len())];
        let user = pick(4_000);
        json!({
            "EventID": "1",
            "Channel": "Microsoft-Windows-Sysmon/Operational",
            "Provider_Name": "Microsoft-Windows-Sysmon",
            "Computer": format!("WS{:04}.hospital.example", pick(3_000)),
            "UtcTime": format!("2026-03-02 08:{:02}:{:02}.{:03}", pick(60), pick(60), pick(1_000)),
            "ProcessGuid": format!("{{{:08x}-0000-0000-0000-000000000000}}", number),
            "ProcessId": pick(30_000).to_string(),
            "Image": image,
            "OriginalFileName": image.rsplit('\\').next().unwrap_or(image),
            "CommandLine": format!("\"{image}\" {arguments} {}", pick(100_000)),
            "CurrentDirectory": r"C:\Windows\system32\",
            "User": format!("HOSPITAL\\user{user}"),
            "IntegrityLevel": "Medium",
            "Hashes": format!("SHA256={:064x}", pick(1_000_000)),
            "ParentImage": parent,
            "ParentCommandLine": format!("\"{parent}\""),
            "ParentUser": format!("HOSPITAL\\user{user}"),
        })
        .to_string()
    })
}
