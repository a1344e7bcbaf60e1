//! `cordon questions`, `cordon answer`: what waits for people, and their yes or no.

use std::fmt::Write as _;

use anyhow::Result;
use cordon_hub::control::{Answer, QuestionRow, Request};
use cordon_model::ids::ApprovalId;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::ApprovalState;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, tier_words, unexpected};

/// `cordon questions`
#[derive(Debug, Clone, clap::Args)]
pub struct QuestionsArgs {
    #[command(flatten)]
    state: StateArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `cordon answer`
#[derive(Debug, Clone, clap::Args)]
pub struct AnswerArgs {
    #[command(flatten)]
    state: StateArg,
    /// The question's id (`cordon questions` shows them).
    question: ApprovalId,
    /// Your answer.
    answer: YesNo,
    /// Why, for whoever reads the record.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// Lists what waits for an answer, the oldest first.
pub fn questions(args: &QuestionsArgs) -> Result<()> {
    let (rows, total) = match ask_at(&args.state, Request::Questions)? {
        Answer::Questions { rows, total } => (rows, total),
        other => return unexpected(&other),
    };
    if args.json {
        let rows: Vec<_> = rows.iter().map(|row| &row.question).collect();
        return tell(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    let mut text = String::new();
    for row in &rows {
        text.push_str(&in_words(row, UtcNanos::now()));
    }
    writeln!(text, "{} of {total} questions", rows.len())?;
    tell(&text)
}

pub(crate) fn in_words(row: &QuestionRow, now: UtcNanos) -> String {
    let (question, tier) = (&row.question, tier_words(row.tier));
    let what = plain(&question.instruction.to_string());
    let mut text = format!("{}  {} ({tier}): {what}", question.id, plain(&row.machine));
    for also in &question.also {
        text.push_str(&format!(", and {}", plain(&also.to_string())));
    }
    text.push_str(&format!("\n    {}\n", plain(&question.why)));
    let left = question.expires_at.since(now).as_secs() / 60;
    text.push_str(&format!("    needs {}; {left} min are left", question.needs));
    let said: Vec<String> = question
        .answers
        .iter()
        .map(|answer| {
            let says = if answer.is_approved { "yes" } else { "no" };
            format!("{} says {says}", plain(&answer.person.name))
        })
        .collect();
    if !said.is_empty() {
        text.push_str(&format!("; {}", said.join(", ")));
    }
    text.push('\n');
    text
}

/// Answers one.
pub fn answer(args: &AnswerArgs) -> Result<()> {
    let (question, reason) = (args.question, args.reason.clone());
    let request = Request::Answer { question, is_approved: args.answer == YesNo::Yes, reason };
    let state = match ask_at(&args.state, request)? {
        Answer::Answered(state) => state,
        other => return unexpected(&other),
    };
    tell(match state {
        ApprovalState::Open => "noted; another person has to agree\n",
        ApprovalState::Approved => "approved, and the order is signed\n",
        ApprovalState::Declined => "declined: nothing is done\n",
        ApprovalState::Expired => "too late: its time is over\n",
    })
}
