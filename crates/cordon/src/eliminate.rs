//! `cordon eliminate`: the plan against what was found on a machine, ordered by its digest, and looked at
//! again.
//!
//! The one idea: without `--order` nothing is ordered. What is ordered is what was seen: the digest names the
//! plan, and a machine on which it is another by now is shown the new one, and left as it is.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::{PlanOrdered, PlanView, StepCame, StepOrdered};
use cordon_model::ids::IncidentId;
use cordon_respond::eliminate::{How, Step, StepStatus};
use serde_json::json;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, tell, unexpected};

/// `cordon eliminate`
#[derive(Debug, Clone, clap::Args)]
#[group(id = "act", multiple = false, args = ["order", "verify", "ours"])]
pub struct EliminateArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Only what this incident found; else all of the machine's open incidents, and those that its isolation
    /// answers.
    #[arg(long)]
    incident: Option<IncidentId>,
    /// Order the plan with this digest (it is printed below the plan), if it is still the same.
    #[arg(long, value_name = "DIGEST", requires = "reason")]
    order: Option<String>,
    /// Look again whether anything of the plan is left; the answer is kept for the gate.
    #[arg(long)]
    verify: bool,
    /// This step's thing may stay, or was dealt with by hand (may be given several times).
    #[arg(long, value_name = "STEP", requires = "reason")]
    ours: Vec<String>,
    /// Why, for whoever reads the record.
    #[arg(long)]
    reason: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows the plan, orders it, looks again, or accepts steps.
pub fn run(args: &EliminateArgs) -> Result<ExitCode> {
    let (machine, incident) = (args.machine.clone(), args.incident);
    let reason = args.reason.clone().unwrap_or_default();
    if let Some(digest) = args.order.clone() {
        return order(args, Request::OrderPlan { machine, incident, digest, reason });
    }
    if args.verify {
        return match ask_at(&args.state, Request::VerifyPlan { machine, incident })? {
            Answer::Verified { plan, is_clean } => verified(args, &plan, is_clean),
            other => unexpected(&other),
        };
    }
    let request = if args.ours.is_empty() {
        if args.reason.is_some() {
            bail!("a reason goes with --order DIGEST or --ours STEP: nothing was ordered");
        }
        Request::Plan { machine, incident }
    } else {
        Request::AcceptSteps { machine, incident, steps: args.ours.clone(), reason }
    };
    match ask_at(&args.state, request)? {
        Answer::Plan(view) if args.json => tell(&plan_json(&view, None)?)?,
        Answer::Plan(view) => tell(&(in_words(&view) + &what_next(args, &view)))?,
        other => return unexpected(&other),
    }
    Ok(ExitCode::SUCCESS)
}

fn order(args: &EliminateArgs, request: Request) -> Result<ExitCode> {
    match ask_at(&args.state, request)? {
        Answer::PlanOrdered(came) => match *came {
            PlanOrdered::Differs(view) => {
                tell(&format!(
                    "NOTHING IS ORDERED: looked at again, it is another plan. This is what is left now:\n\n\
                     {}{}",
                    in_words(&view),
                    what_next(args, &view)
                ))?;
                Ok(ExitCode::FAILURE)
            }
            PlanOrdered::Ordered(steps) if args.json => {
                tell(&(serde_json::to_string_pretty(&steps)? + "\n"))?;
                Ok(code(&steps))
            }
            PlanOrdered::Ordered(steps) => {
                let mut text: String = steps.iter().map(came_in_words).collect();
                writeln!(
                    text,
                    "ordered is not done: look again with `cordon eliminate {} --verify`",
                    plain(&args.machine)
                )?;
                tell(&text)?;
                Ok(code(&steps))
            }
        },
        other => unexpected(&other),
    }
}

fn code(steps: &[StepOrdered]) -> ExitCode {
    let is_refused = steps.iter().any(|one| matches!(one.came, StepCame::Refused(_)));
    if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn came_in_words(one: &StepOrdered) -> String {
    let came = match &one.came {
        StepCame::Signed { is_linked: true, .. } => "ordered, on its way".to_owned(),
        StepCame::Signed { is_linked: false, .. } => {
            "ordered; it waits: the machine is not in contact".to_owned()
        }
        StepCame::Asked { approval, needs } => {
            format!("NOT ORDERED YET: {needs} must agree; question {approval}")
        }
        StepCame::Refused(why) => format!("NOT ORDERED: {}", plain(why)),
    };
    format!("{}  {}: {came}\n", one.id, plain(&one.what))
}

fn verified(args: &EliminateArgs, view: &PlanView, is_clean: bool) -> Result<ExitCode> {
    let code = if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        tell(&plan_json(view, Some(is_clean))?)?;
        return Ok(code);
    }
    let mut text = in_words(view);
    let name = plain(&view.machine.name);
    match is_clean {
        true => {
            writeln!(text, "CLEAN: nothing of the plan is left on {name}, by what is said above")?
        }
        false => {
            let left = view.plan.left().count();
            writeln!(
                text,
                "NOT CLEAN: of {} steps {left} are left or not known",
                view.plan.steps.len()
            )?;
            text.push_str(&what_next(args, view));
        }
    }
    writeln!(text, "`cordon gate {name}` shows what else is needed before it returns to service")?;
    tell(&text)?;
    Ok(code)
}

/// The plan, as it is read from top to bottom.
fn in_words(view: &PlanView) -> String {
    let plan = &view.plan;
    let mut text = format!("plan for {}\n", plain(&view.machine.name));
    for caution in &plan.cautions {
        text.push_str(&format!("  FIRST  {}\n", plain(caution)));
    }
    for looked in &plan.looked_at {
        text.push_str(&format!("  seen   {}\n", plain(looked)));
    }
    if plan.incidents.is_empty() {
        text.push_str(
            "  seen   no incident of it is open, and no isolation answers one: name one with --incident\n",
        );
    }
    if let Some(since) = plan.since {
        text.push_str(&format!("  since  what came after {since} is suspect\n"));
    }
    for step in &plan.steps {
        text.push_str(&step_in_words(step));
    }
    if plan.steps.is_empty() {
        text.push_str("  nothing is to be done, by what was looked at\n");
    }
    text
}

fn step_in_words(step: &Step) -> String {
    let word = match (&step.status, &step.how) {
        (StepStatus::ToDo { .. }, How::Order { .. }) => "ORDER",
        (StepStatus::ToDo { .. }, How::ByHand { .. }) => "BY HAND",
        (StepStatus::Unknown { .. }, _) => "UNKNOWN",
        (StepStatus::Done { .. }, _) => "done",
        (StepStatus::Accepted { .. }, _) => "accepted",
    };
    let mut text = format!("{}  {word:<8} {}\n", step.id, plain(&step.what));
    for why in &step.why {
        text.push_str(&format!("             because {}\n", plain(why)));
    }
    if step.is_left() {
        match &step.how {
            How::Order { does, .. } => {
                text.push_str(&format!("             does    {}\n", plain(does)))
            }
            How::ByHand { todo, because } => {
                text.push_str(&format!("             to do   {}\n", plain(todo)));
                text.push_str(&format!("             by hand {}\n", plain(because)));
            }
        }
    }
    match &step.status {
        StepStatus::ToDo { last: Some(last) } => {
            text.push_str(&format!("             before  {}\n", plain(last)));
        }
        StepStatus::ToDo { last: None } => {}
        StepStatus::Unknown { why } => {
            text.push_str(&format!("             unknown {}\n", plain(why)));
        }
        StepStatus::Done { shown } => {
            text.push_str(&format!("             shown   {}\n", plain(shown)))
        }
        StepStatus::Accepted { by, why } => {
            text.push_str(&format!("             by      {}: {}\n", plain(by), plain(why)));
        }
    }
    text
}

/// The commands that follow from what is left.
fn what_next(args: &EliminateArgs, view: &PlanView) -> String {
    let name = plain(&view.machine.name);
    let of = args.incident.map_or_else(String::new, |incident| format!(" --incident {incident}"));
    let mut text = format!("digest {}\n", view.digest);
    let to_order = view.plan.to_order().count();
    if to_order > 0 {
        text.push_str(&format!(
            "nothing is done yet. To order its {to_order} steps: cordon eliminate {name}{of} --order {} \
             --reason \"...\"\n",
            view.digest
        ));
    }
    let by_hand = view.plan.left().find(|step| step.to_order().is_none());
    if let Some(step) = by_hand {
        text.push_str(&format!(
            "what is yours, or was dealt with by hand: cordon eliminate {name}{of} --ours {} --reason \
             \"...\"\n",
            step.id
        ));
    }
    // What is gone can't be set aside, however often it is ordered: somebody has to look, and say so.
    for step in view.plan.left().filter(|step| was_tried(step)) {
        text.push_str(&format!(
            "{} was tried, and is left. Gone already? Accept it: cordon eliminate {name}{of} --ours {} \
             --reason \"gone: looked at by hand\"\n",
            plain(&step.what),
            step.id
        ));
    }
    text
}

fn was_tried(step: &Step) -> bool {
    step.to_order().is_some() && matches!(step.status, StepStatus::ToDo { last: Some(_) })
}

fn plan_json(view: &PlanView, is_clean: Option<bool>) -> Result<String> {
    let steps: Vec<_> = view
        .plan
        .steps
        .iter()
        .map(|step| {
            let (how, does, because) = match &step.how {
                How::Order { action, does } => (action.kind().to_string(), does, None),
                How::ByHand { todo, because } => ("by-hand".to_owned(), todo, Some(because)),
            };
            let (status, detail) = match &step.status {
                StepStatus::ToDo { last } => ("to-do", last.clone()),
                StepStatus::Done { shown } => ("done", Some(shown.clone())),
                StepStatus::Unknown { why } => ("unknown", Some(why.clone())),
                StepStatus::Accepted { by, why } => ("accepted", Some(format!("{by}: {why}"))),
            };
            json!({
                "id": step.id, "what": step.what, "why": step.why, "how": how, "does": does,
                "because": because, "status": status, "detail": detail,
            })
        })
        .collect();
    let plan = json!({
        "machine": view.machine.name,
        "digest": view.digest,
        "is_clean": is_clean,
        "incidents": view.plan.incidents,
        "since_unix_ns": view.plan.since.map(cordon_model::time::UtcNanos::unix_nanos),
        "cautions": view.plan.cautions,
        "looked_at": view.plan.looked_at,
        "steps": steps,
    });
    Ok(serde_json::to_string_pretty(&plan)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::action::{Action, FilePath, FileTarget};

    fn step(id: &str, last: Option<&str>) -> Step {
        let path = FilePath::new(b"/tmp/worm");
        Step {
            id: id.to_owned(),
            what: "the program /tmp/worm".to_owned(),
            why: Vec::new(),
            how: How::Order {
                action: Action::Quarantine(FileTarget { path, sha256: None }),
                does: String::new(),
            },
            status: StepStatus::ToDo { last: last.map(str::to_owned) },
            named: cordon_respond::eliminate::Named::Always,
        }
    }

    #[test]
    fn only_what_was_tried_and_is_left_may_be_gone_already() {
        assert!(was_tried(&step("1", Some("the last try failed: the folder /tmp is not there"))));
        assert!(!was_tried(&step("2", None)));
        let by_hand = How::ByHand { todo: "look".into(), because: "a link".into() };
        assert!(!was_tried(&Step { how: by_hand, ..step("3", Some("it failed")) }));
    }
}
