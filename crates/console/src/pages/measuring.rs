//! Doing less than isolating: what can be aimed at, what it would do, and taking it back.
//!
//! The one idea, as with an isolation: the page that confirms is the page that shows. What is confirmed is
//! the very action that was shown, and nothing that has changed since takes its place.

use cordon_hub::effect::{self, Effect};
use cordon_hub::view::MachineView;
use cordon_model::action::{Action, ActionKind};
use cordon_model::approval::Needs;
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::finding::Finding;
use cordon_model::ids::MachineId;
use cordon_model::look::SeenProcess;
use cordon_store::StoredMeasure;
use maud::{Markup, html};

use crate::measuring::Wanted;
use crate::page::{Frame, Place, Table, facts, reason_field, text_field};
use crate::text::{Shown, count};
use crate::words;

/// An address for something to aim at.
fn address(machine: MachineId, wanted: &Wanted) -> String {
    format!("/machines/{machine}/measure?{}", wanted.query())
}

fn link(machine: MachineId, wanted: &Wanted, word: &str, heard: &str) -> Markup {
    html! { a.act href=(address(machine, wanted)) { (word) "…" span.heard { " " (Shown(heard)) } } }
}

/// What may be done to a machine besides isolating it, as links to pages that show it first.
pub fn actions(machine: MachineId) -> Markup {
    let of = |kind, word: &str| link(machine, &Wanted::of(kind), word, "");
    html! {
        section aria-labelledby="less" {
            h2 #less { "Do less than isolate" }
            p.actions {
                a.act href={ "/machines/" (machine) "/processes" } { "Its processes: freeze, kill…" }
                (of(ActionKind::Quarantine, "Set a file aside"))
                (of(ActionKind::Deny, "Deny a program"))
                (of(ActionKind::Block, "Block a peer"))
                (of(ActionKind::DisableAccount, "Disable an account"))
                (of(ActionKind::Collect, "Collect evidence"))
            }
        }
    }
}

/// What may be aimed at the process of a finding, and at its program.
pub fn for_finding(machine: MachineId, finding: &Finding) -> Markup {
    let Some(process) = &finding.process else { return html! {} };
    let started = process.started.0;
    let aimed = |kind| Wanted {
        pid: process.pid.to_string(),
        started: started.to_string(),
        ..Wanted::of(kind)
    };
    let program = |kind| Wanted { path: process.image.clone(), ..Wanted::of(kind) };
    let whom = format!("process {}", process.pid);
    html! {
        p.actions {
            (link(machine, &aimed(ActionKind::Freeze), "Freeze it", &whom))
            (link(machine, &aimed(ActionKind::Kill), "Kill it", &whom))
            @if process.image.starts_with('/') {
                (link(machine, &program(ActionKind::Quarantine), "Set its program aside", &whom))
                (link(machine, &program(ActionKind::Deny), "Deny its program", &whom))
            }
        }
    }
}

/// A machine's processes, by its own word, the youngest first.
pub fn processes(
    frame: &Frame,
    machine: MachineId,
    name: &str,
    listed: &[SeenProcess],
    of: u32,
) -> Markup {
    let rows = listed.iter().map(|one| {
        let process = &one.process;
        let aimed = |kind| Wanted {
            pid: process.pid.to_string(),
            started: process.started.0.to_string(),
            ..Wanted::of(kind)
        };
        let inside = Wanted { memory: "yes".into(), ..aimed(ActionKind::Collect) };
        let whom = format!("process {}", process.pid);
        vec![
            html! { (process.pid) },
            html! { (Shown(&one.command)) },
            html! { (one.parent) },
            html! { (one.user) },
            html! {
                (link(machine, &aimed(ActionKind::Freeze), "Freeze", &whom)) " "
                (link(machine, &aimed(ActionKind::Kill), "Kill", &whom)) " "
                (link(machine, &inside, "Collect its memory", &whom))
            },
        ]
    });
    let main = html! {
        p { a.back href={ "/machines/" (machine) } { "Back to the machine" } }
        h1 { "Processes of " (Shown(name)) }
        p { "By the machine’s own word, when this page was made. Whoever owns the machine can hide some." }
        (Table {
            caption: html! { (listed.len()) " of " (of) " processes, the youngest first" },
            columns: &["Number", "Command", "Parent", "User", "Do"],
            rows: rows.collect(),
        })
    };
    frame.still(&format!("Processes of {name}"), Place::Machines, &main)
}

/// The form for what has to be typed; `problem` says what was wrong with it.
pub fn fill(frame: &Frame, view: &MachineView, wanted: &Wanted, problem: Option<&str>) -> Markup {
    let machine = view.row.id;
    let verb = effect::of(wanted.kind).verb;
    let title = format!("{verb}, on {}", view.row.name);
    let sha256 = "The SHA-256 that it must have, 64 letters and digits. Empty: whatever is there.";
    let main = html! {
        p { a.back href={ "/machines/" (machine) } { "Back to the machine" } }
        h1 { (verb) ", on " (Shown(&view.row.name)) }
        @if let Some(problem) = problem {
            div.notice.notice--bad role="alert" { h2 { "This can’t be taken" } p { (Shown(problem)) } }
        }
        p { (effect::of(wanted.kind).does) " The next page shows what it would do; nothing is done before you confirm there." }
        form method="get" action={ "/machines/" (machine) "/measure" } {
            input type="hidden" name="kind" value=(wanted.kind.as_str());
            @match wanted.kind {
                ActionKind::Quarantine => {
                    (text_field("path", "File", "By its whole path on the machine: /home/ann/invoice.sh", &wanted.path, 1))
                    (text_field("sha256", "What it must hold", sha256, &wanted.sha256, 1))
                }
                ActionKind::Deny => {
                    (text_field("path", "Program, by its path", "/home/ann/invoice. Or empty, and its contents below.", &wanted.path, 1))
                    (text_field("sha256", "Program, by what it holds", "Its SHA-256, wherever it is. Only if no path is given.", &wanted.sha256, 1))
                }
                ActionKind::Block => {
                    (text_field("peer", "Whom", "An address, a network (10.20.0.0/16) or a full name, which the hub resolves now.", &wanted.peer, 1))
                    (text_field("transport", "Only this transport", "tcp or udp. Empty: everything.", &wanted.transport, 1))
                    (text_field("ports", "Only these ports", "445 or 5985-5986; needs a transport. Empty: all.", &wanted.ports, 1))
                }
                ActionKind::DisableAccount => {
                    (text_field("account", "Account", "By its name on the machine.", &wanted.account, 1))
                    div.radio {
                        input type="checkbox" id="end_sessions" name="end_sessions" value="yes" checked[!wanted.end_sessions.is_empty()];
                        label for="end_sessions" { "End its sessions too: that is not brought back" }
                    }
                }
                ActionKind::PutBack => {}
                ActionKind::Isolate | ActionKind::Freeze | ActionKind::Kill | ActionKind::Collect => {
                    (text_field("pid", "Process", "Its number, as the machine’s list of processes says.", &wanted.pid, 1))
                }
            }
            div.choosing {
                button.nhsuk-button type="submit" { "Show what it would do" }
                a href={ "/machines/" (machine) } { "Do nothing" }
            }
        }
    };
    frame.still(&title, Place::Machines, &main)
}

/// What an action would do, and the form to confirm it. `sealed` is the action as the form carries it.
pub fn preview(
    frame: &Frame,
    view: &MachineView,
    action: &Action,
    needs: Needs,
    sealed: &str,
) -> Markup {
    let row = &view.row;
    let effect = effect::of(action.kind());
    let title = format!("{} on {}", effect.verb, row.name);
    let tier = tier_of(view);
    let main = html! {
        p { a.back href={ "/machines/" (row.id) } { "Back to the machine" } }
        h1 { (words::action(action)) ", on " (Shown(&row.name)) "?" }
        p { "Nothing is done before you confirm at the end of this page." }
        @if tier.is_clinical() { (ring_first(view)) }
        (does(view, action, "", &effect))
        (facts(&[
            ("Taken back", html! { (effect.way_back) }),
            ("At the end of its lease", html! { (effect::at_end(action, tier)) }),
            ("Tier", html! { (words::tier(row.tier)) }),
            ("Who has to agree", html! { (needs) }),
            ("Contact", words::contact(row.contact, frame.now)),
        ]))
        section aria-labelledby="confirm" {
            h2 #confirm { "Confirm" }
            @if needs != Needs::OnePerson {
                p { "Your confirmation makes a question, with your yes: it needs " (needs) "." }
            }
            (frame.form(&format!("/machines/{}/measure", row.id), &html! {
                input type="hidden" name="action" value=(sealed);
                (reason_field("Why"))
                div.choosing {
                    button.nhsuk-button.nhsuk-button--warning type="submit" { (effect.verb) " now" }
                    a href={ "/machines/" (row.id) } { "Do nothing" }
                }
            }))
        }
    };
    frame.still(&title, Place::Machines, &main)
}

/// What a part of a question would do, the number of it on its page: as [`preview`] shows it before it is ordered.
pub fn consequences(view: &MachineView, action: &Action, number: usize) -> Markup {
    let effect = effect::of(action.kind());
    let tier = tier_of(view);
    let id = format!("part-{number}");
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (words::action(action)) }
            @if tier.is_clinical() && action.kind().stops_something() { (ring_first(view)) }
            (does(view, action, &id, &effect))
            (facts(&[
                ("Taken back", html! { (effect.way_back) }),
                ("At the end of its lease", html! { (effect::at_end(action, tier)) }),
            ]))
        }
    }
}

fn tier_of(view: &MachineView) -> ClinicalTier {
    view.assignment.as_ref().map_or(ClinicalTier::WHEN_UNKNOWN, Assignment::effective_tier)
}

fn ring_first(view: &MachineView) -> Markup {
    html! {
        div.notice.notice--warn {
            h2 { "Know first" }
            p {
                @if view.row.tier.is_none() {
                    "Nobody has said how care depends on this machine: it is treated as clinical. "
                } @else {
                    "This machine is clinical. "
                }
                "Ring whoever is at it: what is it doing now?"
            }
        }
    }
}

/// What an action does and what that means for care; `of`: of which part of a page, so that each heading has an id of its
/// own.
fn does(view: &MachineView, action: &Action, of: &str, effect: &Effect) -> Markup {
    let [does, care] = ["does", "care"].map(|what| format!("{what}{of}"));
    html! {
        div.beside {
            section.card aria-labelledby=(does) { h2 id=(does) { "What it does" } p { (effect.does) } }
            section.card aria-labelledby=(care) {
                h2 id=(care) { "What it means for care" }
                p { (effect.means_for_care) }
                @if action.looks_into_a_process() {
                    p { strong { "What is inside a process may be patients’ data and passwords." } " It takes two people." }
                }
                @if action.kind().stops_something() {
                    p { (left_alone(view.assignment.as_ref())) }
                }
            }
        }
    }
}

fn left_alone(assignment: Option<&Assignment>) -> Markup {
    let protected = assignment.map(|assignment| &assignment.protected);
    let named = protected.map_or(0, |protected| {
        protected.units.len() + protected.cgroups.len() + protected.executables.len()
    });
    html! {
        @if named == 0 {
            strong { "Nobody has named what care needs on this machine." }
            " Only what the machine itself needs is left alone."
        } @else {
            "What your organisation named as needed for care is left alone: " (count(named, "name")) "."
        }
    }
}

/// What taking a measure back would do, and the form to confirm it.
pub fn undo(frame: &Frame, view: &MachineView, measure: &StoredMeasure) -> Markup {
    let row = &view.row;
    let effect = effect::of(measure.action.kind());
    let here = format!("/machines/{}/measures/{}/undo", row.id, measure.id);
    let main = html! {
        p { a.back href={ "/machines/" (row.id) } { "Back to the machine" } }
        h1 { "Take back: " (words::action(&measure.action)) ", on " (Shown(&row.name)) "?" }
        p { "Nothing is done before you confirm at the end of this page." }
        (facts(&[
            ("Now", words::measure_state(&measure.state)),
            ("Taken back", html! { (effect.way_back) }),
            ("Know first", html! {
                "What was stopped goes on, the intruder’s too: take it back when it was wrong, or when care needs "
                "it more."
            }),
            ("Contact", words::contact(row.contact, frame.now)),
        ]))
        section aria-labelledby="confirm" {
            h2 #confirm { "Confirm" }
            (frame.form(&here, &html! {
                (reason_field("Why it may be taken back"))
                div.choosing {
                    button.nhsuk-button.nhsuk-button--warning type="submit" { "Take it back now" }
                    a href={ "/machines/" (row.id) } { "Do nothing" }
                }
            }))
        }
    };
    frame.still(&format!("Take back on {}", row.name), Place::Machines, &main)
}
