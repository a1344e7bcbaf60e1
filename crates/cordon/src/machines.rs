//! `cordon machines`: all of them in a list, or one in full.
//!
//! The one idea (laws 4 and 12): of what could be said of a machine the weakest truth is said, and what is
//! not known is said as that.

use std::fmt::Write as _;

use anyhow::Result;
use cordon_hub::control::{Answer, MachineDetail, MeasureLine, Request};
use cordon_hub::view::{Contact, EventCounts, MachineRow, SAID_ONLY};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::time::{UtcNanos, span};
use serde_json::json;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, tier_words, truth_word, unexpected};
use crate::tools::hex;
use crate::{lifelines, questions};

/// `cordon machines`
#[derive(Debug, Clone, clap::Args)]
pub struct MachinesArgs {
    #[command(flatten)]
    state: StateArg,
    /// Show this one in full: its name or id.
    machine: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lists machines, or shows one in full.
pub fn machines(args: &MachinesArgs) -> Result<()> {
    if let Some(machine) = &args.machine {
        return one(args, machine);
    }
    crate::alarms::tell(&args.state);
    let mut text = String::new();
    let (rows, total) = match ask_at(&args.state, Request::ListMachines)? {
        Answer::Machines { rows, total } => (rows, total),
        other => return unexpected(&other),
    };
    if args.json {
        let rows: Vec<_> = rows.iter().map(machine_json).collect();
        return tell(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    writeln!(
        text,
        "{:<24} {:<5} {:<18} {:<20} {:<22} contact",
        "machine", "tier", "group", "kind", "isolation"
    )?;
    for row in &rows {
        writeln!(
            text,
            "{:<24} {:<5} {:<18} {:<20} {:<22} {}",
            plain(&row.name),
            row.tier.map_or_else(|| "?".to_owned(), |tier| tier.number().to_string()),
            plain(row.group.as_deref().unwrap_or("-")),
            plain(row.kind.as_deref().unwrap_or("-")),
            isolation_words(row),
            contact_words(row.contact, UtcNanos::now()),
        )?;
        text += &missing(row);
    }
    writeln!(text, "{} of {total} machines", rows.len())?;
    tell(&text)
}

/// What of a machine is not known, waits for people, or is not seen.
fn missing(row: &MachineRow) -> String {
    let mut text = String::new();
    if let Some(why) = &row.unknown {
        text += &format!("    what is in force is not known: {}\n", plain(why));
    }
    for name in &row.to_confirm {
        text += &match name.addresses.first() {
            Some((address, why)) => format!(
                "    TO CONFIRM {} is also {address}: {why}\n      {}\n",
                name.host,
                plain(&name.command(row))
            ),
            None => format!("    TO CONFIRM {}: cordon lifelines show\n", name.host),
        };
    }
    for (extent, what) in crate::gaps::lines(&row.gaps) {
        text += &format!("    {extent} {what}\n");
    }
    if let Some(lowers) = row.lowers {
        text += &format!("    ITS WORD {}\n", lowers.in_words());
    }
    if let Some(EventCounts { seen, lost: lost @ 1.. }) = row.counts {
        text += &format!("    LOST {lost} events, beside {seen} seen since its agent started\n");
    }
    text
}

pub(crate) fn machine_json(row: &MachineRow) -> serde_json::Value {
    let (is_linked, heard) = match row.contact {
        Contact::Linked { heard } => (true, Some(heard)),
        Contact::Silent { heard } => (false, Some(heard)),
        Contact::Never => (false, None),
    };
    json!({
        "id": row.id,
        "name": row.name,
        "host": row.host,
        "tier": row.tier.map(ClinicalTier::number),
        "kind": row.kind,
        "group": row.group,
        "is_linked": is_linked,
        "heard_unix_ns": heard.map(UtcNanos::unix_nanos),
        "isolation": isolation_word(row),
        "truth": match &row.unknown {
            Some(_) => Some("unknown"),
            None => row.truth.as_ref().map(truth_word).or(row.isolation.map(|_| "not-shown")),
        },
        "opened_by_code": row.opened_by_code,
        "unknown": row.unknown,
        "gaps": row.gaps,
        "lowers": row.lowers.map(|lowers| json!({
            "since_unix_ns": lowers.since.unix_nanos(),
            "times": lowers.times,
        })),
        "to_confirm": row.to_confirm.iter().map(|name| json!({
            "name": name.host,
            "addresses": name.addresses.iter().map(|(address, _)| address).collect::<Vec<_>>(),
            "command": name.command(row),
        })).collect::<Vec<_>>(),
        "events": row.counts.map(|counts| counts.seen),
        "lost": row.counts.map(|counts| counts.lost),
    })
}

/// How far, or that nobody knows; `None` is said only of a machine that says that it holds nothing.
fn isolation_word(row: &MachineRow) -> Option<&'static str> {
    let unknown = row.unknown.as_ref().map(|_| "unknown");
    row.isolation.map(Isolation::as_str).or(unknown)
}

pub(crate) fn isolation_words(row: &MachineRow) -> String {
    let opened = row.opened_by_code.map(|code| format!(" (OPENED BY CODE {code})"));
    let words = match (row.isolation, &row.unknown, &row.truth) {
        (Some(isolation), Some(_), _) => format!("{isolation}, UNKNOWN now"),
        (None, Some(_), _) => "UNKNOWN".to_owned(),
        (Some(isolation), None, Some(truth)) => format!("{isolation}, {}", truth_word(truth)),
        (Some(isolation), None, None) => format!("{isolation}, {SAID_ONLY}"),
        (None, None, _) => "-".to_owned(),
    };
    words + &opened.unwrap_or_default()
}

pub(crate) fn contact_words(contact: Contact, now: UtcNanos) -> String {
    let ago = |heard: UtcNanos| format!("{} ago", span(now.since(heard)));
    match contact {
        Contact::Linked { heard } => format!("linked, heard {}", ago(heard)),
        Contact::Silent { heard } => format!("SILENT, heard {}", ago(heard)),
        Contact::Never => "never heard".to_owned(),
    }
}

fn one(args: &MachinesArgs, machine: &str) -> Result<()> {
    let request = Request::Machine { machine: machine.to_owned() };
    let detail = match ask_at(&args.state, request)? {
        Answer::Machine(detail) => detail,
        other => return unexpected(&other),
    };
    if args.json {
        return tell(&(serde_json::to_string_pretty(&detail_json(&detail))? + "\n"));
    }
    tell(&in_full(&detail, UtcNanos::now()))
}

/// The row's words, and what the list has no room for.
fn detail_json(detail: &MachineDetail) -> serde_json::Value {
    let mut value = machine_json(&detail.row);
    if let Some(fields) = value.as_object_mut() {
        let assignment = detail.assignment.as_ref();
        let questions: Vec<_> = detail.questions.iter().map(|row| &row.question).collect();
        for (name, more) in [
            ("policy_mode", json!(detail.mode)),
            ("enrolled_unix_ns", json!(detail.enrolled_at.unix_nanos())),
            ("build", json!(detail.build)),
            ("receipt_key", json!(detail.receipt_key.map(|key| hex(&key)))),
            ("revision", json!(assignment.map(|assignment| assignment.revision))),
            ("lifelines", json!(assignment.map(|assignment| &assignment.lifelines))),
            (
                "watched",
                json!(assignment.map(|assignment| {
                    assignment.watched.iter().map(ToString::to_string).collect::<Vec<_>>()
                })),
            ),
            ("protected", json!(assignment.map(|assignment| &assignment.protected))),
            ("protected_count", json!(detail.protected_count)),
            ("names", json!(detail.names)),
            ("codes", json!(detail.codes)),
            ("bedside", json!(detail.bedside)),
            ("measures", json!(detail.measures)),
            ("findings", json!(detail.findings)),
            ("finding_count", json!(detail.finding_count)),
            ("questions", json!(questions)),
            ("question_count", json!(detail.question_count)),
        ] {
            fields.insert(name.to_owned(), more);
        }
    }
    value
}

fn in_full(detail: &MachineDetail, now: UtcNanos) -> String {
    let row = &detail.row;
    let said = |what: &Option<String>| plain(what.as_deref().unwrap_or("not said"));
    let mut text = format!(
        "{}\n  id         {}\n  itself     {}\n  tier       {}\n  group      {}\n  kind       {}\n",
        plain(&row.name),
        row.id,
        plain(&row.host),
        tier_words(row.tier),
        said(&row.group),
        said(&row.kind),
    );
    text += &format!("  isolation  {}\n", isolation_words(row));
    text += &format!("  contact    {}\n", contact_words(row.contact, now));
    let mode = format!("{:?}", detail.mode).to_lowercase();
    text += &format!("  policy     mode {mode}\n");
    let build = detail.build.as_deref().map_or_else(|| "not heard yet".to_owned(), plain);
    text += &format!("  agent      {build}, enrolled {}\n", detail.enrolled_at);
    let key = detail.receipt_key.map_or_else(|| "not known".to_owned(), |key| hex(&key));
    text +=
        &format!("  signs by   {key} (its receipts and archives: cordon verify ARCHIVE --key)\n");
    match &detail.assignment {
        Some(assignment) => {
            text += &lifelines::in_words(assignment);
            match detail.protected_count.saturating_sub(assignment.protected.len()) {
                0 => {}
                more => text += &format!("  protected  and {more} more\n"),
            }
        }
        None => text += "  lifelines  nobody has said yet what it is\n",
    }
    text += &match &detail.codes {
        None => "  codes      not known now\n".to_owned(),
        Some(codes) => format!(
            "  codes      {} of {} not used, {}, {}\n",
            codes.unused,
            codes.of,
            if codes.are_held { "on the machine" } else { "NOT ON THE MACHINE" },
            codes.printed_at.map_or("never printed".to_owned(), |at| format!("printed {at}")),
        ),
    };
    if let Some(bedside) = &detail.bedside {
        text += &format!("  place      {}\n", said(&bedside.place));
        for ring in &bedside.ring {
            text += &format!("  ring       {} {}\n", plain(&ring.who), plain(&ring.number));
        }
    }
    text += &missing(row);
    text += &format!("  questions  {} open\n", detail.question_count);
    for question in &detail.questions {
        text += &questions::in_words(question, now);
    }
    text += &format!("  measures   {}, the newest first\n", detail.measures.len());
    for measure in &detail.measures {
        text += &measure_words(measure, now);
    }
    let shown = detail.findings.len();
    text += &format!("  findings   {shown} of {}, the newest first\n", detail.finding_count);
    for found in &detail.findings {
        text += &format!("    {}  {:<13} {}\n", found.at, found.level, plain(&found.title));
    }
    text
}

/// A measure on a line, and why it is as it is.
pub(crate) fn measure_words(measure: &MeasureLine, now: UtcNanos) -> String {
    let since = span(now.since(measure.since));
    let denied = if measure.is_denied { ", DENIED by the machine" } else { "" };
    let mut text = format!(
        "    {}  {:<12} {} on {}, for {since}{denied}\n",
        measure.measure,
        truth_word(&measure.state),
        plain(&measure.what),
        plain(&measure.machine),
    );
    if let MeasureState::Failed { why } | MeasureState::Unproven { why } = &measure.state {
        text += &format!("      {}\n", plain(why));
    }
    if let Some(reason) = measure.reason.as_deref().filter(|reason| !reason.is_empty()) {
        text += &format!("      ordered: {}\n", plain(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_hub::control::{CodesNow, FindingLine};
    use cordon_hub::view::Lowers;
    use cordon_model::finding::Level;
    use cordon_model::ids::{FindingId, MachineId, MeasureId};
    use cordon_model::policy::Mode;

    fn detail() -> MachineDetail {
        let at = UtcNanos::from_unix_nanos(0);
        let why = "445 answers".to_owned();
        MachineDetail {
            row: MachineRow {
                id: MachineId::new(at, [1; 10]),
                name: "ct-2".into(),
                host: "DESKTOP\u{1b}[2J".into(),
                tier: Some(ClinicalTier::Clinical),
                kind: None,
                group: Some("Radiology".into()),
                contact: Contact::Silent { heard: at },
                isolation: Some(Isolation::Full),
                truth: Some(MeasureState::Unproven { why: why.clone() }),
                opened_by_code: None,
                unknown: None,
                gaps: vec![],
                lowers: Some(Lowers { since: at, times: 3 }),
                to_confirm: vec![],
                counts: Some(EventCounts { seen: 9, lost: 2 }),
            },
            mode: Mode::Ask,
            assignment: None,
            protected_count: 0,
            enrolled_at: at,
            receipt_key: Some([0xab; 32]),
            build: None,
            names: vec![],
            codes: Some(CodesNow { are_held: false, unused: 5, of: 6, printed_at: None }),
            bedside: None,
            measures: vec![MeasureLine {
                measure: MeasureId::new(at, [2; 10]),
                machine: "ct-2".into(),
                what: "isolate (full) for 4 h".into(),
                state: MeasureState::Unproven { why },
                is_denied: true,
                since: at,
                reason: Some("a worm".into()),
            }],
            findings: vec![FindingLine {
                finding: FindingId::of("rule", "ct-2", &[0; 32]),
                title: "A worm spreads".into(),
                level: Level::High,
                at,
            }],
            finding_count: 7,
            questions: vec![],
            question_count: 0,
        }
    }

    #[test]
    fn one_machine_is_shown_by_its_weakest_truth_and_with_what_is_not_known_of_it() {
        let text = in_full(&detail(), UtcNanos::from_unix_nanos(3_600_000_000_000));
        for said in [
            "tier       tier 2: clinical",
            "group      Radiology",
            "kind       not said",
            "isolation  full, unproven",
            "contact    SILENT, heard 1 h ago",
            "policy     mode ask",
            "nobody has said yet what it is",
            "5 of 6 not used, NOT ON THE MACHINE, never printed",
            "LOST 2 events",
            "ITS WORD lowers what the policy does by itself",
            "3 times",
            "signs by   abababab",
            "questions  0 open",
            "isolate (full) for 4 h on ct-2, for 1 h, DENIED by the machine",
            "445 answers",
            "ordered: a worm",
            "1 of 7",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "a name drives no terminal");
        let json = detail_json(&detail());
        assert_eq!((&json["truth"], &json["policy_mode"]), (&json!("unproven"), &json!("ask")));
        assert_eq!((&json["finding_count"], &json["codes"]["unused"]), (&json!(7), &json!(5)));
    }
}
