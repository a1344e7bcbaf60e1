//! The words for what the hub knows, and the marks that go with them.
//!
//! The one idea: a mark is a word in a frame. Its colour helps those who see it and says nothing that the
//! word does not.

use cordon_hub::view::{Contact, MachineRow};
use cordon_model::action::Action;
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::finding::Level;
use cordon_model::incident::IncidentState;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::policy::Mode;
use cordon_model::time::UtcNanos;
use maud::{Markup, html};

use crate::text::{Shown, age, span};

/// A framed word.
pub fn mark(colour: &str, word: &str) -> Markup {
    html! { strong class={ "nhsuk-tag nhsuk-tag--" (colour) } { (word) } }
}

/// How serious.
pub fn level(level: Level) -> Markup {
    let colour = match level {
        Level::Critical => "red",
        Level::High => "orange",
        Level::Medium => "yellow",
        Level::Low | Level::Informational => "grey",
    };
    let mut word = level.as_str().to_owned();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    mark(colour, &word)
}

/// A tier, or that nobody has said one.
pub fn tier(tier: Option<ClinicalTier>) -> String {
    tier.map_or_else(
        || "Tier not said: treated as clinical".into(),
        |tier| tier.to_string().replacen('t', "T", 1),
    )
}

/// Where people are with an incident.
pub fn incident_state(state: IncidentState) -> Markup {
    match state {
        IncidentState::New => mark("red", "Nobody has it"),
        IncidentState::Owned => mark("blue", "Owned"),
        IncidentState::Closed => mark("grey", "Closed"),
    }
}

/// Whether a machine is in contact.
pub fn contact(contact: Contact, now: UtcNanos) -> Markup {
    html! {
        @match contact {
            Contact::Linked { heard } => { (mark("green", "In contact")) " heard " (age(heard, now)) }
            Contact::Silent { heard } => { (mark("orange", "Silent")) " last heard " (age(heard, now)) }
            Contact::Never => { (mark("orange", "Never heard")) " enrolled only" }
        }
    }
}

/// How far a machine is cut off, and how sure that is: the weakest truth.
pub fn isolation(machine: &MachineRow) -> Markup {
    let MachineRow { isolation, truth, unknown, opened_by_code, .. } = machine;
    html! {
        @match (isolation, truth, unknown) {
            (Some(isolation), _, Some(why)) => {
                (isolation_word(*isolation)) " " (mark("orange", "Unknown now")) " " (Shown(why))
            }
            (None, _, Some(why)) => { (mark("orange", "Isolation unknown")) " " (Shown(why)) }
            (Some(isolation), Some(truth), None) => {
                (isolation_word(*isolation)) " " (measure_state(truth))
            }
            (Some(isolation), None, None) => {
                (isolation_word(*isolation)) " " (mark("orange", "As it last said, not shown"))
            }
            (None, _, None) => "Not isolated"
        }
        @if let Some(code) = opened_by_code { " " (mark("orange", &format!("Opened by code {code}"))) }
    }
}

/// An isolation as people say it.
pub fn isolation_word(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Watch => "Watched",
        Isolation::Segment => "Segment",
        Isolation::Full => "Full isolation",
    }
}

/// What a measure does, as its title.
pub fn action(action: &Action) -> Markup {
    match action {
        Action::Isolate(isolation) => html! { (isolation_word(*isolation)) },
        other => html! { (Shown(&capitalised(&other.to_string()))) },
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A measure's state as a mark.
pub fn measure_state(state: &MeasureState) -> Markup {
    match state {
        MeasureState::Requested => mark("yellow", "Requested, not with the machine yet"),
        MeasureState::Delivered => mark("yellow", "Delivered, not applied yet"),
        MeasureState::Applied => mark("yellow", "Applied, not proven yet"),
        MeasureState::Verified => mark("green", "Verified"),
        MeasureState::Unproven { .. } => mark("red", "Unproven"),
        MeasureState::SteppedDown => mark("grey", "Stepped down"),
        MeasureState::Superseded => mark("grey", "Superseded"),
        MeasureState::Released => mark("grey", "Released"),
        MeasureState::Done => mark("green", "Done"),
        MeasureState::Failed { .. } => mark("red", "Failed"),
    }
}

/// What a measure's state means, in a sentence.
pub fn measure_meaning(state: &MeasureState) -> Markup {
    html! {
        @match state {
            MeasureState::Requested => "The order is signed and waits for the machine's next contact. Nothing is cut yet.",
            MeasureState::Delivered => "The machine has the order. Nothing is known to be cut yet.",
            MeasureState::Applied => "The kernel took the rules. They are not proven yet.",
            MeasureState::Verified => "Read back from the kernel and probed: what must fail fails, what must live lives.",
            MeasureState::Unproven { why } => { "Applied, but a look at it says otherwise: " (Shown(why)) }
            MeasureState::SteppedDown => "Its lease ended; the milder measure that followed is in force.",
            MeasureState::Superseded => "A newer order's measure took its place in one step.",
            MeasureState::Released => "Taken back, as far as the machine found it to take back.",
            MeasureState::Done => "Done and shown; nothing of it stays in force.",
            MeasureState::Failed { why } => { "Not carried out, or not to its end: " (Shown(why)) }
        }
    }
}

/// An instruction for a machine, as a request.
pub fn instruction(instruction: &Instruction, machine: &str) -> String {
    let length = |seconds: u32| span(std::time::Duration::from_secs(seconds.into()));
    match instruction {
        Instruction::Begin { action: Action::Isolate(isolation), lease, if_isolated } => {
            let lasts = length(lease.seconds);
            let still =
                if if_isolated.is_some() { ", if it is still isolated further" } else { "" };
            match isolation {
                Isolation::Watch => {
                    format!("Only watch {machine} (nothing is cut) for {lasts}{still}")
                }
                Isolation::Segment | Isolation::Full => {
                    format!("Isolate {machine} ({isolation}) for {lasts}{still}")
                }
            }
        }
        Instruction::Begin { action, .. } if action.kind().is_done_at_once() => {
            format!("On {machine}: {action}")
        }
        Instruction::Begin { action, lease, .. } => {
            format!("On {machine}: {action}, for {}", length(lease.seconds))
        }
        Instruction::Renew { lease, .. } => {
            format!("Extend a measure on {machine} for {}", length(lease.seconds))
        }
        Instruction::Undo { .. } => format!("Take one measure on {machine} back"),
        Instruction::Release => format!("Release {machine}"),
    }
}

/// How much is done without asking.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Ask => "ask",
        Mode::Act => "act",
    }
}

/// What a mode means.
pub fn mode_meaning(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "Only look and tell. Nothing is isolated, whatever is found.",
        Mode::Ask => {
            "Propose every isolation to people, and wait for their answer. A machine that has this policy does not \
             segment itself where no hub is in reach; one that has none in reach now goes on by the policy that it \
             holds, until this one reaches it or its permit ends."
        }
        Mode::Act => {
            "Isolate what the policy allows without asking, within the budget; ask for the rest. \
             Clinical machines (tiers 2 and 3, or unknown) are always asked for."
        }
    }
}

/// A service: `TCP 445 (SMB, Windows file sharing)`.
pub fn service(transport: Transport, ports: PortRange) -> String {
    let name = match (transport, ports.first) {
        (Transport::Tcp, 22) => " (SSH)",
        (Transport::Tcp, 135) => " (RPC)",
        (Transport::Tcp, 139) | (Transport::Udp, 137) => " (NetBIOS)",
        (Transport::Tcp, 445) => " (SMB, file sharing)",
        (_, 3389) => " (RDP, remote desktop)",
        (Transport::Tcp, 5900) => " (VNC)",
        (Transport::Tcp, 5985) => " (WinRM)",
        _ => "",
    };
    format!("{}{name}", ports_text(transport, ports))
}

/// `TCP 445`, `UDP 137–138`.
pub fn ports_text(transport: Transport, ports: PortRange) -> String {
    let transport = match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    if ports.first == ports.last {
        format!("{transport} {}", ports.first)
    } else {
        format!("{transport} {}–{}", ports.first, ports.last)
    }
}

/// A lifeline on a line.
pub fn lifeline(lifeline: &Lifeline) -> Markup {
    let direction = match lifeline.direction {
        Direction::Inbound => "from",
        Direction::Outbound => "to",
    };
    html! {
        (Shown(&lifeline.name)) ": " (ports_text(lifeline.transport, lifeline.ports))
        " " (direction) " " (lifeline.peer)
        @if let Some(person) = &lifeline.signed_off_by { ", signed off by " (Shown(person)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(how: Option<Isolation>, truth: Option<MeasureState>, unknown: Option<&str>) -> String {
        let machine = MachineRow {
            id: cordon_model::ids::MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            name: "m".into(),
            host: "m".into(),
            tier: None,
            kind: None,
            group: None,
            contact: Contact::Never,
            isolation: how,
            truth,
            opened_by_code: None,
            unknown: unknown.map(Into::into),
            gaps: vec![],
            lowers: None,
            to_confirm: vec![],
            counts: None,
        };
        isolation(&machine).into_string()
    }

    #[test]
    fn only_what_was_verified_is_said_to_be_in_force() {
        for state in [
            MeasureState::Requested,
            MeasureState::Delivered,
            MeasureState::Applied,
            MeasureState::Unproven { why: "445 answers".into() },
        ] {
            let text = shown(Some(Isolation::Full), Some(state), None);
            assert!(!text.contains("Verified") && !text.contains("green"), "{text}");
        }
        let text = shown(Some(Isolation::Full), Some(MeasureState::Verified), None);
        assert!(text.contains("Verified"));
        assert_eq!(shown(None, None, None), "Not isolated");
        // And what nothing has shown says so.
        let text = shown(Some(Isolation::Segment), None, None);
        assert!(text.contains("not shown") && !text.contains("green"), "{text}");
    }

    #[test]
    fn what_nobody_can_say_is_shown_as_unknown_and_never_as_open_or_in_force() {
        let why = Some("the helper does not answer");
        let text = shown(None, None, why);
        assert!(text.contains("unknown") && text.contains("does not answer"), "{text}");
        assert!(!text.contains("Not isolated"), "{text}");
        let text = shown(Some(Isolation::Segment), Some(MeasureState::Verified), why);
        assert!(text.contains("Segment") && text.contains("Unknown now"), "{text}");
        assert!(!text.contains("Verified") && !text.contains("green"), "{text}");
    }

    #[test]
    fn a_request_says_what_is_cut_and_for_how_long() {
        let policy = cordon_model::policy::Policy::default_for("RJ1".parse().unwrap());
        let said = |asked: &Instruction| instruction(asked, "ct-2");
        let segment = Instruction::isolate(Isolation::Segment, policy.lease);
        assert_eq!(said(&segment), "Isolate ct-2 (segment) for 4 h");
        let watch = Instruction::ease(Isolation::Watch, policy.lease);
        let words = "Only watch ct-2 (nothing is cut) for 4 h, if it is still isolated further";
        assert_eq!(said(&watch), words);
    }

    #[test]
    fn a_tier_that_nobody_said_is_not_shown_as_harmless() {
        assert!(tier(None).contains("treated as clinical"));
        assert_eq!(tier(Some(ClinicalTier::Clinical)), "Tier 2: clinical");
    }
}
