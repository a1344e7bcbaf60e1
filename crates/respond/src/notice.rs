//! What a person in front of a machine is told, in their words.
//!
//! The one idea: [`compose`] is a pure function of what is really so (law 4: what the kernel was shown to
//! hold, and since when) and of what the organisation signed ahead. It uses no word of ours that a ward
//! does not use, and it knows nothing of patients.

use std::fmt::Write as _;

use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::guidance::{Contact, Guidance};
use cordon_model::measure::Isolation;

/// The longest notice: 4 KiB, so that a terminal takes it in one writing. Lifelines beyond that are counted.
pub const LONGEST: usize = 4 << 10;

/// Lifelines that are named; a person reads no more.
const MOST_NAMED: usize = 8;

/// How a machine is, for the person in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Situation {
    /// It is cut off.
    CutOff {
        /// How far: [`Isolation::Segment`] or [`Isolation::Full`].
        isolation: Isolation,
        /// Since when, as people there write it.
        since: String,
        /// Whether it was shown to be so; else it is being tried, or a look said otherwise.
        is_shown: bool,
    },
    /// It was cut off, and is open again.
    OpenAgain {
        /// Since when.
        since: String,
        /// By a code, typed at it.
        by_code: bool,
    },
}

/// What to tell. `has_codes`: somebody has codes that open it. `is_held_back`: whatever becomes of the network,
/// something else is stopped on this machine (a program, a file, an account, a peer).
#[must_use]
pub fn compose(
    situation: &Situation,
    assignment: Option<&Assignment>,
    guidance: Option<&Guidance>,
    has_codes: bool,
    is_held_back: bool,
) -> String {
    let mut text = String::new();
    let name = guidance.map(|guidance| &guidance.name);
    let name = name.or_else(|| assignment.map(|assignment| &assignment.name));
    let name = name.map_or_else(String::new, |name| format!(" ({})", clean(name)));
    // Writing to a string can't fail.
    let _ = match situation {
        Situation::CutOff { isolation, since, is_shown } => {
            let (cut, codes) = ((*isolation, *is_shown), has_codes);
            cut_off(&mut text, &name, cut, since, assignment, guidance, codes, is_held_back)
        }
        Situation::OpenAgain { since, by_code } => {
            open_again(&mut text, &name, since, *by_code, guidance, is_held_back)
        }
    };
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - 1));
        text.push('\n');
    }
    text
}

#[expect(clippy::too_many_arguments, reason = "they are the parts of one text")]
fn cut_off(
    text: &mut String,
    name: &str,
    (isolation, is_shown): (Isolation, bool),
    since: &str,
    assignment: Option<&Assignment>,
    guidance: Option<&Guidance>,
    has_codes: bool,
    is_held_back: bool,
) -> std::fmt::Result {
    if is_shown {
        writeln!(
            text,
            "THIS COMPUTER{name} WAS CUT OFF FROM THE NETWORK at {since}, as a precaution."
        )?;
    } else {
        writeln!(
            text,
            "THIS COMPUTER{name} IS BEING CUT OFF FROM THE NETWORK, as a precaution ({since})."
        )?;
        writeln!(text, "Whether that has worked is not certain: do not rely on anything below.")?;
    }
    writeln!(text, "Something on it looked like an attack. You need not do anything to it:")?;
    writeln!(text, "leave it switched on, do not restart it, do not plug anything in.\n")?;
    writeln!(text, "What still works:")?;
    if is_held_back {
        writeln!(text, "  - what is on this computer itself, but for what was stopped on purpose")?;
    } else {
        writeln!(text, "  - what is on this computer itself")?;
    }
    let lifelines = assignment.map_or(&[][..], |assignment| &assignment.lifelines);
    let mut names: Vec<String> = lifelines.iter().map(|line| clean(&line.name)).collect();
    names.dedup();
    for name in names.iter().take(MOST_NAMED) {
        writeln!(text, "  - {name}")?;
    }
    if names.len() > MOST_NAMED {
        writeln!(
            text,
            "  - and {} more connections that your hospital chose",
            names.len() - MOST_NAMED
        )?;
    }
    // A shared folder or a printer may be named above, as what still works.
    let other = if names.is_empty() { "" } else { "other " };
    if isolation == Isolation::Segment {
        writeln!(text, "  - web pages, e-mail and most programs")?;
        writeln!(text, "What does not:")?;
        writeln!(text, "  - {other}shared folders and network drives")?;
        writeln!(text, "  - {other}printers that another computer shares")?;
        writeln!(text, "  - remote help, and signing in to or from other computers")?;
    } else {
        writeln!(text, "What does not:")?;
        writeln!(
            text,
            "  - everything else on the network: web pages, e-mail, shared folders, printers,"
        )?;
        writeln!(text, "    and any hospital system that is not named above")?;
    }
    writeln!(text)?;
    nearest(text, guidance)?;
    ring(text, guidance.map_or(&[][..], |guidance| &guidance.ring))?;
    let is_clinical = assignment.is_none_or(|a| a.effective_tier() >= ClinicalTier::Supports);
    if has_codes && is_clinical {
        writeln!(
            text,
            "If a patient can't wait and this can't be ended: ask on the telephone for a"
        )?;
        writeln!(text, "break-glass code, and type  cordon break-glass  at this computer.")?;
    }
    Ok(())
}

fn open_again(
    text: &mut String,
    name: &str,
    since: &str,
    by_code: bool,
    guidance: Option<&Guidance>,
    is_held_back: bool,
) -> std::fmt::Result {
    writeln!(text, "This computer{name} is open again since {since}.")?;
    if by_code {
        writeln!(
            text,
            "It was opened by a code, and nobody has looked at it yet. Use it for what can't wait,"
        )?;
        writeln!(text, "open no attachments, and say on the telephone that it is in use.")?;
    } else {
        writeln!(text, "It was cut off from the network as a precaution.")?;
    }
    if is_held_back {
        writeln!(
            text,
            "Something on it is still stopped on purpose. If a program, a file, a sign-in or an"
        )?;
        writeln!(text, "address on the network does not work, that may be why: ring.")?;
    } else if !by_code {
        // No more than that: what was ended on it meanwhile is nobody's to promise.
        writeln!(text, "The network works as before.")?;
    }
    if by_code || is_held_back {
        ring(text, guidance.map_or(&[][..], |guidance| &guidance.ring))?;
    }
    Ok(())
}

fn nearest(text: &mut String, guidance: Option<&Guidance>) -> std::fmt::Result {
    let Some(guidance) = guidance else { return Ok(()) };
    match (&guidance.nearest, &guidance.instead) {
        (Some(nearest), _) => {
            let kind = guidance.kind.as_deref().map_or("computer of this kind".to_owned(), clean);
            let place: Vec<String> = [&nearest.group, &nearest.place]
                .into_iter()
                .flatten()
                .map(|part| clean(part))
                .collect();
            let place =
                if place.is_empty() { String::new() } else { format!(", {}", place.join(", ")) };
            writeln!(text, "Nearest {kind} that works: {}{place}", clean(&nearest.name))
        }
        (None, Some(instead)) => writeln!(text, "Go to: {}", clean(instead)),
        (None, None) if guidance.kind.is_some() => {
            writeln!(text, "No other computer of this kind is known to work now: ring first.")
        }
        (None, None) => Ok(()),
    }
}

fn ring(text: &mut String, ring: &[Contact]) -> std::fmt::Result {
    match ring {
        [] => writeln!(text, "Ring: your IT service desk, or your duty manager"),
        ring => {
            let ring = ring.iter().map(|one| format!("{} {}", clean(&one.who), clean(&one.number)));
            writeln!(text, "Ring: {}", ring.collect::<Vec<_>>().join("; or "))
        }
    }
}

/// One line, and nothing that drives a terminal: signed texts are checked, and still this is the last hand
/// before a screen.
fn clean(text: &str) -> String {
    let shown = |c: char| {
        // Besides controls: what turns the direction of text round, or is not seen (UAX #9).
        !(c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'))
    };
    text.chars().filter(|c| shown(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::asset::{Direction, Lifeline, PortRange, Transport};
    use cordon_model::guidance::Nearest;
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    fn assignment(names: &[&str]) -> Assignment {
        Assignment {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "ct-2".into(),
            tier: Some(ClinicalTier::Clinical),
            kind: Some("CT console".into()),
            group: Some("Radiology".into()),
            lifelines: names
                .iter()
                .map(|name| Lifeline {
                    name: (*name).into(),
                    peer: "10.0.4.9/32".parse().unwrap(),
                    transport: Transport::Tcp,
                    ports: PortRange::one(11_112),
                    direction: Direction::Outbound,
                    signed_off_by: None,
                })
                .collect(),
            names: Vec::new(),
            protected: cordon_model::asset::Protected::default(),
            watched: Vec::new(),
            hub: vec![],
        }
    }

    fn guidance() -> Guidance {
        Guidance {
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]),
            revision: 1,
            name: "CT 2".into(),
            kind: Some("CT console".into()),
            nearest: Some(Nearest {
                name: "CT 1".into(),
                group: Some("Radiology".into()),
                place: Some("ground floor, room 0.14".into()),
            }),
            instead: None,
            ring: vec![
                Contact { who: "Security operations".into(), number: "5555".into() },
                Contact { who: "Duty manager".into(), number: "020 7946 0000".into() },
            ],
            issued_at: UtcNanos::from_unix_nanos(0),
        }
    }

    fn cut_off(isolation: Isolation) -> Situation {
        Situation::CutOff { isolation, since: "03:12".into(), is_shown: true }
    }

    #[test]
    fn a_person_reads_what_works_what_does_not_where_to_go_and_whom_to_ring() {
        let told = compose(
            &cut_off(Isolation::Segment),
            Some(&assignment(&["DICOM to the PACS"])),
            Some(&guidance()),
            true,
            false,
        );
        let expected = "\
THIS COMPUTER (CT 2) WAS CUT OFF FROM THE NETWORK at 03:12, as a precaution.
Something on it looked like an attack. You need not do anything to it:
leave it switched on, do not restart it, do not plug anything in.

What still works:
  - what is on this computer itself
  - DICOM to the PACS
  - web pages, e-mail and most programs
What does not:
  - other shared folders and network drives
  - other printers that another computer shares
  - remote help, and signing in to or from other computers

Nearest CT console that works: CT 1, Radiology, ground floor, room 0.14
Ring: Security operations 5555; or Duty manager 020 7946 0000
If a patient can't wait and this can't be ended: ask on the telephone for a
break-glass code, and type  cordon break-glass  at this computer.
";
        assert_eq!(told, expected);
        let told = compose(&cut_off(Isolation::Full), None, None, false, false);
        assert!(
            told.contains("everything else on the network")
                && !told.contains("web pages, e-mail and most")
        );
        assert!(told.contains("Ring: your IT service desk"));
    }

    #[test]
    fn what_is_not_certain_is_not_said_to_be_so() {
        let trying = Situation::CutOff {
            isolation: Isolation::Full,
            since: "03:12".into(),
            is_shown: false,
        };
        let told = compose(&trying, Some(&assignment(&[])), Some(&guidance()), false, false);
        assert!(told.contains("not certain") && !told.contains("WAS CUT OFF"), "{told}");
    }

    #[test]
    fn a_person_is_told_that_it_is_open_again_and_whether_anybody_looked() {
        let open = |by_code| Situation::OpenAgain { since: "04:40".into(), by_code };
        let told = compose(&open(false), None, Some(&guidance()), true, false);
        assert!(told.contains("open again since 04:40") && told.contains("as before"));
        let told = compose(&open(true), None, Some(&guidance()), true, false);
        assert!(told.contains("nobody has looked at it yet") && told.contains("5555"), "{told}");
    }

    #[test]
    fn while_something_else_is_stopped_nobody_is_told_that_all_is_as_before() {
        for by_code in [false, true] {
            let open = Situation::OpenAgain { since: "04:40".into(), by_code };
            let told = compose(&open, None, Some(&guidance()), true, true);
            assert!(!told.contains("as before"), "{told}");
            assert!(told.contains("still stopped on purpose") && told.contains("5555"), "{told}");
        }
        let told = compose(&cut_off(Isolation::Full), None, None, false, true);
        assert!(told.contains("itself, but for what was stopped"), "{told}");
    }

    #[test]
    fn nobody_is_sent_to_a_machine_that_nobody_knows_to_work() {
        let none = Guidance { nearest: None, ..guidance() };
        let told = compose(&cut_off(Isolation::Segment), None, Some(&none), false, false);
        assert!(told.contains("No other computer of this kind is known to work"), "{told}");
        let instead = Guidance { instead: Some("A&E's CT, ring 1234".into()), ..none };
        let told = compose(&cut_off(Isolation::Segment), None, Some(&instead), false, false);
        assert!(told.contains("Go to: A&E's CT, ring 1234"), "{told}");
    }

    #[test]
    fn no_words_of_ours_are_used_on_a_ward() {
        for isolation in [Isolation::Segment, Isolation::Full] {
            let told = compose(
                &cut_off(isolation),
                Some(&assignment(&["a"])),
                Some(&guidance()),
                true,
                false,
            );
            for word in ["isolat", "segment", "lifeline", "measure", "lease", "hub", "tier", "SMB"]
            {
                assert!(!told.to_lowercase().contains(&word.to_lowercase()), "{word}: {told}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_texts_are_no_screen_is_driven_and_it_stays_short(
            names in proptest::collection::vec(".{0,300}", 0..30), place in ".{0,300}",
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut guidance = guidance();
            guidance.nearest = Some(Nearest { name: place.clone(), group: Some(place.clone()), place: None });
            guidance.ring[0].who = place;
            let told = compose(&cut_off(Isolation::Full), Some(&assignment(&names)), Some(&guidance), true, false);
            proptest::prop_assert!(told.len() <= LONGEST);
            proptest::prop_assert!(told.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
