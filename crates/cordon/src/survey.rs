//! `cordon survey`: what starts by itself on a machine or lets somebody in, which programs lie where anybody may write,
//! and since when that is known.
//!
//! An answer is the machine's own word. It says what could not be read, so that nobody takes what is not
//! listed for what is not there.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_model::look::Seen;
use cordon_model::survey::{FirstSeen, Survey, Thing};
use cordon_model::time::UtcNanos;
use serde_json::json;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, unexpected};

/// Whatever came or went at all.
const EVER: UtcNanos = UtcNanos::from_unix_nanos(0);

/// `cordon survey`
#[derive(Debug, Clone, clap::Args)]
pub struct SurveyArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Only what may have come, or was gone, since then: a time (2026-11-26T14:00Z, "2026-11-26 14:00" in
    /// UTC) or how long ago (90m, 2h, 3d).
    #[arg(long, value_parser = time, conflicts_with = "all")]
    since: Option<UtcNanos>,
    /// Everything, also what was there at the first look.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Has a machine looked at, and says what came or went.
pub fn survey(args: &SurveyArgs) -> Result<()> {
    let since = if args.all { None } else { Some(args.since.unwrap_or(EVER)) };
    let request = Request::Survey { machine: args.machine.clone(), since };
    let survey = match ask_at(&args.state, request)? {
        Answer::Seen(seen) => match *seen {
            Seen::Survey(survey) => survey,
            _ => bail!("the machine told something else"),
        },
        other => return unexpected(&other),
    };
    if args.json {
        return tell(&(serde_json::to_string_pretty(&as_json(&survey))? + "\n"));
    }
    tell(&in_words(&survey, since)?)
}

fn in_words(survey: &Survey, since: Option<UtcNanos>) -> Result<String> {
    let mut text = String::new();
    if !survey.things.is_empty() {
        let [absent, seen, gone] = ["not there at", "first seen at", "gone at"];
        let [technique, what, place] = ["technique", "what", "where"];
        writeln!(
            text,
            "{absent:<19}  {seen:<19}  {gone:<19}  {technique:<9}  {what:<27}  {place}"
        )?;
    }
    for thing in &survey.things {
        let (absent, seen) = match thing.first_seen {
            FirstSeen::AtTheFirstLook => ("-".to_owned(), "at the first look".to_owned()),
            FirstSeen::Between { absent_at, present_at } => (stamp(absent_at), stamp(present_at)),
        };
        let gone = thing.gone_at.map_or_else(|| "-".to_owned(), stamp);
        let (technique, kind) = (thing.kind.technique(), thing.kind);
        write!(text, "{absent:<19}  {seen:<19}  {gone:<19}  {technique:<9}  {kind:<27}  ")?;
        writeln!(text, "{}", place(thing))?;
    }
    let listed = survey.things.len();
    let what = match since {
        None => "things that start by themselves, let somebody in, or are programs where anybody may write"
            .to_owned(),
        Some(EVER) => "things that came or went since the first look".to_owned(),
        Some(since) => format!("things that may have come, or were gone, since {}", stamp(since)),
    };
    writeln!(text, "{listed} of {} {what}, by the machine's own word", survey.of)?;
    let (taken, known) = (stamp(survey.taken_at), stamp(survey.known_since));
    writeln!(text, "looked at {taken}, for the first time at {known} (UTC)")?;
    if since.is_some_and(|since| since != EVER && since < survey.known_since) {
        writeln!(
            text,
            "NOTE      what came before {known} is not told apart from what was always there: see --all"
        )?;
    }
    for unread in &survey.unread {
        writeln!(text, "NOT READ  {}: {}", plain(&unread.path.to_string()), plain(&unread.why))?;
    }
    Ok(text)
}

fn place(thing: &Thing) -> String {
    let path = plain(&thing.path.to_string());
    match &thing.line {
        None => path,
        Some(line) => format!("{path}: {}", plain(line)),
    }
}

fn as_json(survey: &Survey) -> serde_json::Value {
    let thing = |thing: &Thing| {
        let (absent, present) = match thing.first_seen {
            FirstSeen::AtTheFirstLook => (None, None),
            FirstSeen::Between { absent_at, present_at } => {
                (Some(absent_at.unix_nanos()), Some(present_at.unix_nanos()))
            }
        };
        json!({
            "kind": thing.kind,
            "technique": thing.kind.technique(),
            "path": thing.path.to_string(),
            "line": thing.line,
            "sha256": cordon_model::action::Sha256Digest(thing.sha256).to_string(),
            "owner": thing.owner,
            "absent_unix_ns": absent,
            "present_unix_ns": present,
            "gone_unix_ns": thing.gone_at.map(UtcNanos::unix_nanos),
        })
    };
    let unread = survey
        .unread
        .iter()
        .map(|unread| json!({ "path": unread.path.to_string(), "why": unread.why }));
    json!({
        "taken_unix_ns": survey.taken_at.unix_nanos(),
        "known_since_unix_ns": survey.known_since.unix_nanos(),
        "things": survey.things.iter().map(thing).collect::<Vec<_>>(),
        "of": survey.of,
        "unread": unread.collect::<Vec<_>>(),
    })
}

/// In UTC, to the second.
fn stamp(at: UtcNanos) -> String {
    jiff::Timestamp::from_nanosecond(at.unix_nanos().into())
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn time(text: &str) -> Result<UtcNanos> {
    time_seen_from(text, jiff::Timestamp::now())
}

/// A time, or how long before `now`.
fn time_seen_from(text: &str, now: jiff::Timestamp) -> Result<UtcNanos> {
    use jiff::tz::TimeZone;
    let at = if let Ok(at) = text.parse::<jiff::Timestamp>() {
        at
    } else if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        TimeZone::UTC.to_timestamp(at)?
    } else {
        let unfit = || format!("{text:?} is neither a time (2026-11-26T14:00Z) nor an age (2h)");
        let age: jiff::Span = text.parse().with_context(unfit)?;
        now.to_zoned_datetime(TimeZone::UTC).checked_sub(age.abs()).with_context(unfit)?.timestamp()
    };
    let nanos = i64::try_from(at.as_nanosecond()).context("that time is too far away")?;
    Ok(UtcNanos::from_unix_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::action::FilePath;
    use cordon_model::survey::{ThingKind, Unread};

    fn at(text: &str) -> UtcNanos {
        let now = "2026-11-26T15:00:00Z".parse().unwrap();
        time_seen_from(text, now).unwrap()
    }

    #[test]
    fn a_time_is_understood_as_people_say_it() {
        let expected = at("2026-11-26T13:00:00Z");
        for text in
            ["2026-11-26T13:00Z", "2026-11-26 13:00", "2026-11-26T14:00+01:00", "2h", "120m"]
        {
            assert_eq!(at(text), expected, "{text}");
        }
        assert_eq!(at("3d"), at("2026-11-23 15:00"));
        let now = jiff::Timestamp::now();
        for text in ["yesterday", "", "14:00x", "9999999d"] {
            assert!(time_seen_from(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_drives_no_terminal_and_says_what_is_not_known() {
        let thing = |path: &str, line: Option<&str>, first_seen| Thing {
            kind: ThingKind::CronLine,
            path: FilePath::new(path),
            line: line.map(Into::into),
            sha256: [7; 32],
            owner: 0,
            first_seen,
            gone_at: None,
        };
        let (absent_at, present_at) = (at("2h"), at("1h"));
        let survey = Survey {
            taken_at: at("2026-11-26 15:00"),
            known_since: at("1d"),
            things: vec![
                thing(
                    "/etc/cron.d/x",
                    Some("* * * * * root \u{1b}[2J"),
                    FirstSeen::Between { absent_at, present_at },
                ),
                thing("/etc/crontab", None, FirstSeen::AtTheFirstLook),
            ],
            of: 9,
            unread: vec![Unread { path: FilePath::new("/home"), why: "it is on nfs4".into() }],
        };
        let text = in_words(&survey, Some(at("2d"))).unwrap();
        println!("{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        for words in [
            "2026-11-26 13:00:00  2026-11-26 14:00:00  -                    T1053.003  line of a crontab",
            "/etc/cron.d/x: * * * * * root",
            "at the first look",
            "2 of 9 things that may have come, or were gone, since 2026-11-24 15:00:00",
            "NOTE      what came before 2026-11-25 15:00:00 is not told apart",
            "NOT READ  /home: it is on nfs4",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let json = as_json(&survey);
        assert_eq!(json["things"][0]["kind"], "cron-line");
        assert_eq!(json["things"][0]["sha256"], "07".repeat(32));
        assert!(json["things"][1]["present_unix_ns"].is_null());
    }
}
