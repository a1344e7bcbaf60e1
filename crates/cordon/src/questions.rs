//! `cordon questions`, `cordon answer`: what waits for people, and their yes or no.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use cordon_hub::control::{Answer, QuestionRow, Request};
use cordon_model::action::Action;
use cordon_model::ids::ApprovalId;
use cordon_model::order::Instruction;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::ApprovalState;

use crate::cli::StateArg;
use crate::control::{
    self, Control, ask_at, block_on, may_order, plain, say_preview, tell, tier_words, unexpected,
};
use crate::measures;

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
    /// Do not ask at the terminal, once it is shown what a yes would stop.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// Lists what waits for an answer, the oldest first.
pub fn questions(args: &QuestionsArgs) -> Result<()> {
    crate::alarms::tell(&args.state);
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
    for since in &question.since {
        text.push_str(&format!(
            "    found since it was asked: {} (a no leaves that open: it is asked about at once)\n",
            plain(&since.in_words())
        ));
    }
    let left = question.expires_at.since(now).as_secs() / 60;
    let lacks = if question.lacks_a_clinical_one() { ", and nobody clinical yet" } else { "" };
    text.push_str(&format!("    needs {}{lacks}; {left} min are left", question.needs));
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

/// Answers one: a yes only once it was shown what will stop.
pub fn answer(args: &AnswerArgs) -> Result<ExitCode> {
    let control = Control::at(&args.state.layout());
    let (question, is_approved) = (args.question, args.answer == YesNo::Yes);
    let answered = block_on(async {
        // A no stops nothing: it goes out whatever can be listed.
        let before = match questions_now(&control).await {
            Ok(before) => before,
            Err(_) if !is_approved => Vec::new(),
            Err(error) => return Err(error),
        };
        if is_approved && !is_meant(&control, args, &before).await? {
            return Ok(None);
        }
        let request = Request::Answer { question, is_approved, reason: args.reason.clone() };
        let (state, no_until) = match control.ask(request).await? {
            Answer::Answered(state, no_until) => (state, no_until),
            other => return unexpected(&other),
        };
        let left = match state {
            ApprovalState::Declined => left_after(question, &before, questions_now(&control).await),
            _ => String::new(),
        };
        Ok(Some((state, no_until, left)))
    })?;
    let Some((state, no_until, left)) = answered else { return Ok(ExitCode::FAILURE) };
    tell(match state {
        ApprovalState::Open => "noted; another person has to agree\n",
        ApprovalState::Approved => "approved, and the order is signed\n",
        ApprovalState::Declined => "declined: nothing is done\n",
        ApprovalState::Expired => "too late: its time is over\n",
    })?;
    if let Some(until) = no_until {
        let text = format!(
            "what you were asked is not asked again until {until}, however often it is found; anything new is asked\n"
        );
        tell(&text)?;
    }
    tell(&left)?;
    Ok(ExitCode::SUCCESS)
}

/// What waits about the machine still, once a no is taken. That it can't be listed makes the no no less taken.
fn left_after(
    declined: ApprovalId,
    before: &[QuestionRow],
    now: Result<Vec<QuestionRow>>,
) -> String {
    let is_known = before.iter().any(|row| row.question.id == declined);
    let why = match now {
        Ok(_) if !is_known => "it was not among the questions that could be listed".to_owned(),
        Err(error) => plain(&format!("{error:#}")),
        Ok(now) => {
            let left = asked_still(declined, before, now);
            let Some(first) = left.first() else { return String::new() };
            let machine = plain(&first.machine);
            let mut text = format!("what waits for an answer about {machine} still:\n");
            left.iter().for_each(|row| text.push_str(&in_words(row, UtcNanos::now())));
            return text;
        }
    };
    format!(
        "what else waits about that machine is not known ({why}): `cordon questions` lists it\n"
    )
}

async fn questions_now(control: &Control) -> Result<Vec<QuestionRow>> {
    match control.ask(Request::Questions).await? {
        Answer::Questions { rows, .. } => Ok(rows),
        other => unexpected(&other),
    }
}

/// What people are asked about a machine after a no: what was found while they were asked is asked at once.
fn asked_still(
    declined: ApprovalId,
    before: &[QuestionRow],
    now: Vec<QuestionRow>,
) -> Vec<QuestionRow> {
    let machine = before.iter().find(|row| row.question.id == declined);
    let machine = machine.map(|row| row.question.machine);
    now.into_iter().filter(|row| Some(row.question.machine) == machine).collect()
}

/// Shows what a yes to the question would stop now, and asks on a terminal as the order itself would.
async fn is_meant(control: &Control, args: &AnswerArgs, rows: &[QuestionRow]) -> Result<bool> {
    // One that is not among the first has no preview here; the hub knows whether there is such a one.
    let Some(row) = rows.iter().find(|row| row.question.id == args.question) else {
        tell(
            "what a yes would stop can't be shown: the question is not among the first that wait\n",
        )?;
        return Ok(true);
    };
    let machine = row.question.machine.to_string();
    let mut wants_a_yes = false;
    for instruction in std::iter::once(&row.question.instruction).chain(&row.question.also) {
        let Instruction::Begin { action, .. } = instruction.clone() else { continue };
        wants_a_yes |= match action {
            Action::Isolate(isolation) => {
                let machine = machine.clone();
                match control.ask(Request::Preview { machine, isolation }).await? {
                    Answer::Preview(preview) => {
                        say_preview(&preview);
                        control::wants_a_yes(&preview)
                    }
                    other => return unexpected(&other),
                }
            }
            action => {
                let preview = measures::preview(control, &machine, action).await?;
                tell(&measures::foretold(&preview))?;
                measures::wants_a_yes(&preview)
            }
        };
    }
    if wants_a_yes { may_order(&row.machine, args.yes) } else { Ok(true) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use clap::Parser as _;
    use cordon_link::frame;
    use cordon_model::limits::MESSAGE_BYTES;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        answer: AnswerArgs,
    }

    /// A hub that takes answers, and hangs up on whoever wants the list. It says what it was asked.
    fn hub_that_lists_nothing(socket: &std::path::Path, heard: mpsc::Sender<Request>) {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                while let Ok((mut stream, _)) = listener.accept().await {
                    let asked = frame::read::<Request, _>(&mut stream, MESSAGE_BYTES).await?;
                    let Some(asked) = asked else { continue };
                    if matches!(asked, Request::Answer { .. }) {
                        let taken = Answer::Answered(ApprovalState::Declined, None);
                        frame::write(&mut stream, &taken, MESSAGE_BYTES).await?;
                    }
                    let _ = heard.send(asked);
                }
                Ok(())
            })
        });
    }

    #[test]
    fn a_no_is_sent_and_said_to_be_taken_whatever_can_be_listed() {
        let directory = tempfile::tempdir().unwrap();
        let question = ApprovalId::new(UtcNanos::from_unix_nanos(0), [1; 10]).to_string();
        let state = directory.path().to_str().unwrap();
        let line = ["x", &question, "no", "--reason", "a test", "--state", state];
        let args = Line::parse_from(line).answer;
        let (heard, all) = mpsc::channel();
        hub_that_lists_nothing(&args.state.layout().control_socket(), heard);
        assert_eq!(answer(&args).unwrap(), ExitCode::SUCCESS);
        let is_no = |asked: Request| matches!(asked, Request::Answer { is_approved: false, .. });
        assert_eq!(all.try_iter().filter(|asked| is_no(asked.clone())).count(), 1);
        // A yes stops something: it waits for what can be shown.
        let line = ["x", &question, "yes", "--reason", "a test", "--state", state];
        assert!(answer(&Line::parse_from(line).answer).is_err());
        assert!(!all.try_iter().any(|asked| matches!(asked, Request::Answer { .. })));
    }

    #[test]
    fn that_nobody_can_list_what_else_waits_is_said_beside_the_no() {
        let question = ApprovalId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let said = left_after(question, &[], Err(anyhow::anyhow!("no hub answers")));
        assert!(said.contains("is not known (no hub answers)"), "{said}");
        assert!(left_after(question, &[], Ok(Vec::new())).contains("`cordon questions`"));
    }
}
