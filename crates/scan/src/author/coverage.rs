//! Which techniques of ATT&CK rules name, as a table and as a layer for the ATT&CK Navigator.
//!
//! A count of rules is not a measure of safety: it says what somebody thought of. So the layer carries the
//! rules themselves with each technique, and the words of `--help` say no more than that. Rules that their
//! authors withdrew are not counted: no scan and no agent uses them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use cordon_detect::RuleInfo;
use serde::Serialize;

use super::RulePaths;
use crate::ScanError;
use crate::tactic::{Tactic, tactics, technique_ids};
use crate::terminal::{Looks, Safe, count, counted, padded};

/// Rules that are named with a technique in the layer; the Navigator shows them in a hint.
const NAMED: usize = 50;

/// The command line of `cordon rules coverage`.
#[derive(Debug, Clone, clap::Args)]
pub struct CoverageArgs {
    #[command(flatten)]
    rules: RulePaths,

    /// Write the layer to this file, to be opened in the ATT&CK Navigator (`-`: to stdout, without the table)
    #[arg(long, value_name = "FILE")]
    layer: Option<PathBuf>,

    /// The layer's name
    #[arg(long, value_name = "TEXT", default_value = "Cordon")]
    name: String,
}

/// A layer, version 4.5 (github.com/mitre-attack/attack-navigator, layers/spec/v4.5). It names no version
/// of ATT&CK: rules don't say which they mean, and the Navigator takes the current one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer<'a> {
    name: &'a str,
    versions: Versions,
    domain: &'static str,
    description: String,
    /// 3: those with the most rules first.
    sorting: u8,
    layout: Layout,
    techniques: Vec<Technique<'a>>,
    gradient: Gradient,
}

/// Sub-techniques are shown where there is a rule for them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    layout: &'static str,
    expanded_subtechniques: &'static str,
}

#[derive(Debug, Serialize)]
struct Versions {
    navigator: &'static str,
    layer: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Technique<'a> {
    #[serde(rename = "techniqueID")]
    technique_id: String,
    score: u64,
    comment: String,
    metadata: Vec<Metadata<'a>>,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    name: String,
    value: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gradient {
    colors: [&'static str; 2],
    min_value: u64,
    max_value: u64,
}

/// Writes the table, and the layer where it was wished for.
pub(super) fn coverage(
    args: &CoverageArgs,
    looks: Looks,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<bool, ScanError> {
    let rules = args.rules.load_in_force(err)?;
    let by_technique = by_technique(rules.set().rules());
    match &args.layer {
        Some(path) if path.as_os_str() == "-" => {
            write_layer(&args.name, &by_technique, out)?;
            return Ok(true);
        }
        Some(path) => {
            let written = File::create(path).map(BufWriter::new).and_then(|mut file| {
                write_layer(&args.name, &by_technique, &mut file)?;
                file.flush()
            });
            written.map_err(|error| ScanError::Layer { path: path.clone(), error })?;
        }
        None => {}
    }
    table(rules.set().rules(), &by_technique, looks, out)?;
    if let Some(path) = &args.layer {
        writeln!(out, "The layer is in {}.", Safe(&path.to_string_lossy()))?;
    }
    Ok(true)
}

/// The rules of each technique, by its id.
fn by_technique(rules: &[RuleInfo]) -> BTreeMap<String, Vec<&RuleInfo>> {
    let mut by_technique: BTreeMap<String, Vec<&RuleInfo>> = BTreeMap::new();
    for rule in rules {
        for id in technique_ids(&rule.tags) {
            let rules = by_technique.entry(id).or_default();
            if rules.last().is_none_or(|last| last.id != rule.id) {
                rules.push(rule);
            }
        }
    }
    by_technique
}

fn table(
    rules: &[RuleInfo],
    by_technique: &BTreeMap<String, Vec<&RuleInfo>>,
    looks: Looks,
    out: &mut dyn Write,
) -> io::Result<()> {
    let untagged = rules.iter().filter(|rule| technique_ids(&rule.tags).next().is_none()).count();
    writeln!(
        out,
        "{}{}",
        looks.heading(&padded("Tactic", 24)),
        looks.heading("rules  techniques")
    )?;
    for tactic in tactics() {
        let own = |rule: &&RuleInfo| Tactic::all_of(&rule.tags).any(|named| named == tactic);
        let own: Vec<&RuleInfo> = rules.iter().filter(own).collect();
        let techniques = by_technique
            .values()
            .filter(|rules| rules.iter().any(|rule| own.iter().any(|own| own.id == rule.id)));
        let line =
            format!("{:>5}  {:>10}", count(own.len() as u64), count(techniques.count() as u64));
        writeln!(out, "{}{line}", padded(tactic.name(), 24))?;
    }
    writeln!(
        out,
        "\nNaming a technique: {} ({}); naming none: {}. A rule that is there is no proof that an attack is seen.",
        counted((rules.len() - untagged) as u64, "rule"),
        counted(by_technique.len() as u64, "technique"),
        count(untagged as u64)
    )
}

fn write_layer(
    name: &str,
    by_technique: &BTreeMap<String, Vec<&RuleInfo>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let most = by_technique.values().map(Vec::len).max().unwrap_or(0) as u64;
    let techniques = by_technique.iter().map(|(id, rules)| Technique {
        technique_id: id.clone(),
        score: rules.len() as u64,
        comment: counted(rules.len() as u64, "rule"),
        metadata: rules
            .iter()
            .take(NAMED)
            .map(|rule| Metadata { name: rule.level.to_string(), value: &rule.title })
            .collect(),
    });
    let layer = Layer {
        name,
        versions: Versions { navigator: "5.2.0", layer: "4.5" },
        domain: "enterprise-attack",
        description: "How many Sigma rules name each technique.".into(),
        sorting: 3,
        layout: Layout { layout: "side", expanded_subtechniques: "annotated" },
        techniques: techniques.collect(),
        gradient: Gradient {
            colors: ["#ffffff", "#1f6feb"],
            min_value: 0,
            // It must be above the other.
            max_value: most.max(1),
        },
    };
    serde_json::to_writer_pretty(&mut *out, &layer)?;
    writeln!(out)
}
