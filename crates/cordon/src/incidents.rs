//! `cordon incidents`: a list of them, one in full, and the work on it.

use std::fmt::Write as _;

use anyhow::Result;
use cordon_hub::control::{Answer, IncidentDetail, Request};
use cordon_hub::view::IncidentRow;
use cordon_model::ids::IncidentId;
use cordon_model::incident::IncidentState;
use cordon_model::time::UtcNanos;
use serde_json::json;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, tier_words, unexpected};
use crate::machines::{contact_words, isolation_words, machine_json, measure_words};
use crate::questions::in_words as question_words;

/// `cordon incidents`
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct IncidentsArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    what: Option<IncidentCommand>,
}

#[derive(Debug, Clone, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    state: StateArg,
    /// Closed ones too.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum IncidentCommand {
    /// Show one in full: its machines, what was done, what waits, what happened
    Show {
        #[command(flatten)]
        state: StateArg,
        /// The incident's id (`cordon incidents` shows them).
        incident: IncidentId,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take one: it is yours, and escalates no more
    Take {
        #[command(flatten)]
        state: StateArg,
        /// The incident's id.
        incident: IncidentId,
    },
    /// Write into its timeline, also of a closed one; no patient data, it goes into the ledger
    Comment {
        #[command(flatten)]
        state: StateArg,
        /// The incident's id.
        incident: IncidentId,
        /// What to write.
        text: String,
    },
    /// Close one: what the policy asked in it is withdrawn
    Close {
        #[command(flatten)]
        state: StateArg,
        /// The incident's id.
        incident: IncidentId,
        /// Why, for whoever reads the record.
        #[arg(long)]
        reason: String,
    },
}

/// Lists incidents, or shows one or works on it.
pub fn incidents(args: &IncidentsArgs) -> Result<()> {
    match &args.what {
        None => list(&args.list),
        Some(IncidentCommand::Show { state, incident, json }) => show(state, *incident, *json),
        Some(IncidentCommand::Take { state, incident }) => {
            done(state, Request::TakeIncident(*incident), "taken")
        }
        Some(IncidentCommand::Comment { state, incident, text }) => {
            let (incident, comment) = (*incident, text.clone());
            done(state, Request::CommentIncident { incident, comment }, "written into its timeline")
        }
        Some(IncidentCommand::Close { state, incident, reason }) => {
            let (incident, reason) = (*incident, reason.clone());
            let said = "closed: what is found from now on opens another. Nothing that is in force ends by it: \
                        `cordon release`, `cordon undo`";
            done(state, Request::CloseIncident { incident, reason }, said)
        }
    }
}

fn done(state: &StateArg, request: Request, said: &str) -> Result<()> {
    match ask_at(state, request)? {
        Answer::Done => tell(&format!("{said}\n")),
        other => unexpected(&other),
    }
}

fn list(args: &ListArgs) -> Result<()> {
    crate::alarms::tell(&args.state);
    let mut text = String::new();
    let request = Request::ListIncidents { only_open: !args.all };
    let (rows, total, unreadable) = match ask_at(&args.state, request)? {
        Answer::Incidents { rows, total, unreadable } => (rows, total, unreadable),
        other => return unexpected(&other),
    };
    // As what is wrong with the hub: a list and its JSON stay as they are.
    eprint!("{}", not_listed(&unreadable));
    if args.json {
        let rows: Vec<_> = rows.iter().map(incident_json).collect();
        return tell(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    for row in &rows {
        let incident = &row.incident;
        writeln!(
            text,
            "{:<13} {} ({} findings, {} isolated, {} questions; {})",
            incident.level,
            plain(&incident.title),
            incident.finding_count,
            row.isolated,
            row.questions,
            incident.owner.as_deref().map_or_else(|| "NOBODY HAS IT".to_owned(), plain),
        )?;
        writeln!(
            text,
            "              on {}   {}",
            plain(&row.machine_names.join(", ")),
            incident.id
        )?;
    }
    writeln!(text, "{} of {total} incidents", rows.len())?;
    tell(&text)
}

/// Incidents that are there and can't be shown.
fn not_listed(unreadable: &[(String, String)]) -> String {
    let line = |(id, why): &(String, String)| {
        format!(
            "AN INCIDENT CAN'T BE READ, and is not in this list: {}: {}\n",
            plain(id),
            plain(why)
        )
    };
    unreadable.iter().map(line).collect()
}

fn incident_json(row: &IncidentRow) -> serde_json::Value {
    json!({
        "id": row.incident.id,
        "title": row.incident.title,
        "level": row.incident.level,
        "state": row.incident.state,
        "owner": row.incident.owner,
        "findings": row.incident.finding_count,
        "machines": row.machine_names,
        "isolated": row.isolated,
        "questions": row.questions,
    })
}

fn show(state: &StateArg, incident: IncidentId, as_json: bool) -> Result<()> {
    let detail = match ask_at(state, Request::Incident(incident))? {
        Answer::Incident(detail) => detail,
        other => return unexpected(&other),
    };
    if as_json {
        return tell(&(serde_json::to_string_pretty(&detail_json(&detail))? + "\n"));
    }
    tell(&in_full(&detail, UtcNanos::now()))
}

/// The row's words, and what the list has no room for.
fn detail_json(detail: &IncidentDetail) -> serde_json::Value {
    let mut value = incident_json(&detail.row);
    if let Some(fields) = value.as_object_mut() {
        let incident = &detail.row.incident;
        let machines: Vec<_> = detail.machines.iter().map(machine_json).collect();
        let open: Vec<_> = detail.questions.iter().map(|row| &row.question).collect();
        for (name, more) in [
            ("risk", json!(incident.risk)),
            ("first_unix_ns", json!(incident.first.unix_nanos())),
            ("last_unix_ns", json!(incident.last.unix_nanos())),
            ("machines_now", json!(machines)),
            ("machine_count", json!(detail.machine_count)),
            ("measures", json!(detail.measures)),
            ("measure_count", json!(detail.measure_count)),
            ("questions_open", json!(open)),
            ("timeline", json!(detail.timeline)),
            ("timeline_count", json!(detail.timeline_count)),
        ] {
            fields.insert(name.to_owned(), more);
        }
    }
    value
}

fn in_full(detail: &IncidentDetail, now: UtcNanos) -> String {
    let IncidentDetail { row, machines, measures, questions, timeline, .. } = detail;
    let incident = &row.incident;
    let owner = incident.owner.as_deref().map_or_else(|| "nobody".to_owned(), plain);
    let state = match incident.state {
        IncidentState::New => "NOBODY HAS IT".to_owned(),
        IncidentState::Owned => format!("{owner} has it"),
        IncidentState::Closed => format!("closed; {owner} had it"),
    };
    let mut text = format!(
        "{} ({})\n  id         {}\n  state      {state}\n  risk       {} (grows with each new kind of \
         finding)\n  events     from {} to {}\n  findings   {}\n",
        plain(&incident.title),
        incident.level,
        incident.id,
        incident.risk,
        incident.first,
        incident.last,
        incident.finding_count,
    );
    let count = detail.machine_count;
    text += &format!("  machines   {} of {count}, {} isolated\n", machines.len(), row.isolated);
    for machine in machines {
        text += &format!(
            "    {} ({}): {}; {}\n",
            plain(&machine.name),
            tier_words(machine.tier),
            isolation_words(machine),
            contact_words(machine.contact, now)
        );
    }
    text += &format!("  questions  {} of {} open\n", questions.len(), detail.question_count);
    for question in questions {
        text += &question_words(question, now);
    }
    text += &format!("  measures   {} of {}\n", measures.len(), detail.measure_count);
    for measure in measures {
        text += &measure_words(measure, now);
    }
    let count = detail.timeline_count;
    text += &format!("  timeline   {} of {count}, the newest last\n", timeline.len());
    for line in timeline {
        let on = line.machine.as_deref().map_or_else(String::new, |on| format!(", {}", plain(on)));
        text += &format!("    {}  {}{on} (by {})\n", line.at, line.what, plain(&line.who));
        if !line.detail.is_empty() {
            text += &format!("      {}\n", plain(&line.detail));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_hub::control::TimelineLine;
    use cordon_model::finding::Level;
    use cordon_model::incident::Incident;

    fn detail() -> IncidentDetail {
        let at = UtcNanos::from_unix_nanos(0);
        let incident = Incident {
            id: IncidentId::new(at, [1; 10]),
            organisation: "RJ1".parse().unwrap(),
            title: "A worm spreads on ct-2".into(),
            state: IncidentState::Owned,
            owner: Some("ann".into()),
            level: Level::High,
            risk: 35,
            first: at,
            last: at,
            machines: vec![],
            findings: vec![],
            finding_count: 3,
        };
        let machine_names = vec!["ct-2".to_owned()];
        IncidentDetail {
            row: IncidentRow { incident, machine_names, isolated: 1, questions: 2 },
            machines: vec![],
            machine_count: 70,
            measures: vec![],
            measure_count: 0,
            questions: vec![],
            question_count: 2,
            timeline: vec![TimelineLine {
                at,
                who: "ann".into(),
                machine: Some("ct-2".into()),
                what: "Worked on".into(),
                detail: "comment: \u{1b}[2J a scan".into(),
            }],
            timeline_count: 900,
        }
    }

    #[test]
    fn one_incident_is_shown_with_who_has_it_what_happened_and_what_is_left_out() {
        let text = in_full(&detail(), UtcNanos::from_unix_nanos(0));
        for said in [
            "A worm spreads on ct-2 (high)",
            "state      ann has it",
            "findings   3",
            "machines   0 of 70, 1 isolated",
            "questions  0 of 2 open",
            "timeline   1 of 900, the newest last",
            "Worked on, ct-2 (by ann)",
            "a scan",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "what is written into it drives no terminal");
        let json = detail_json(&detail());
        assert_eq!((&json["state"], &json["owner"]), (&json!("owned"), &json!("ann")));
        assert_eq!((&json["machine_count"], &json["timeline_count"]), (&json!(70), &json!(900)));
    }

    #[test]
    fn an_incident_that_cannot_be_read_is_named() {
        assert_eq!(not_listed(&[]), "");
        let said = not_listed(&[("0190-7".into(), "no text\u{1b}".into())]);
        assert!(
            said.contains("CAN'T BE READ") && said.contains("0190-7: no text\u{fffd}"),
            "{said}"
        );
    }
}
