//! The conversation with whoever stands in front of a machine that is cut off.
//!
//! Every line is for somebody who knows nothing of Cordon, has a patient waiting and perhaps gloves on: what
//! is so, what to do next, whom to ring.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cordon_agent::contain::door::{DoorAnswer, DoorAsk, Opened, Seen, Unopened, ask};
use cordon_code::{Code, NoCode};
use cordon_model::guidance::Contact;
use cordon_model::measure::Isolation;
use zeroize::Zeroizing;

use crate::control::plain;

/// Slips of the finger that are borne before the person is sent away to ask anew.
const SLIPS: usize = 5;

/// The longest line that is read: a code, and a paste gone wrong.
const LONGEST_LINE: u64 = 256;

/// Opens this machine by a code from standard input.
pub fn open(door: &Path) -> Result<ExitCode> {
    let seen = match ask(door, &DoorAsk::Look) {
        Ok(DoorAnswer::Seen(seen)) => seen,
        Ok(_) => anyhow::bail!("the program and the service on this computer are of two versions"),
        Err(error) => {
            println!("The service that guards this computer does not answer ({error}).");
            println!("Nothing was changed. Only an administrator at this computer can help now.");
            println!("{}", whom_to_ring(&[]));
            return Ok(ExitCode::FAILURE);
        }
    };
    println!("{}", greeting(&seen));
    if let Some(said) = no_code_is_taken(&seen) {
        println!("{said}");
        let is_open = seen.isolation <= Some(Isolation::Watch);
        return Ok(if is_open { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("{}", whom_to_ring(&seen.ring));
    let Some(code) = code_from_input()? else { return Ok(ExitCode::FAILURE) };
    println!("The code is well-formed. Trying it; this takes a second or two…");
    match ask(door, &DoorAsk::Code(code.characters().to_string())) {
        Ok(DoorAnswer::Opened(opened)) => {
            println!("{}", opened_words(&opened));
            Ok(ExitCode::SUCCESS)
        }
        Ok(DoorAnswer::Unopened(unopened)) => {
            println!("{}", unopened_words(&unopened));
            Ok(ExitCode::FAILURE)
        }
        Ok(DoorAnswer::Seen(_)) => anyhow::bail!("the service answered something else"),
        Err(error) => {
            println!(
                "No answer came ({error}). Run the same command again: it says how things are."
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

fn greeting(seen: &Seen) -> String {
    let name = seen.name.as_deref().map_or_else(String::new, |name| format!(" ({})", plain(name)));
    match seen.isolation {
        None => format!("This computer{name} is not cut off from the network by Cordon."),
        Some(Isolation::Watch) => {
            format!("This computer{name} is watched by Cordon, and nothing on it is cut off.")
        }
        Some(Isolation::Segment | Isolation::Full) => {
            format!("This computer{name} is cut off from the network by Cordon.")
        }
    }
}

/// Why no code is asked for.
fn no_code_is_taken(seen: &Seen) -> Option<String> {
    if seen.isolation <= Some(Isolation::Watch) {
        return Some(format!(
            "No code is needed, and none is used up. If the network does not work, the reason is another: \
             ring {}.",
            numbers(&seen.ring, "your IT service desk")
        ));
    }
    let can_help = || {
        format!(
            "so no code opens it. An order from the security team can, or an administrator at this \
             computer: ring {}.",
            numbers(&seen.ring, "your IT service desk")
        )
    };
    match seen.unused_codes {
        None => Some(format!("It was never given any codes, {}", can_help())),
        Some(0) => Some(format!("All its codes were used, {}", can_help())),
        Some(_) if seen.pause_seconds > 0 && !nix::unistd::geteuid().is_root() => Some(format!(
            "Too many wrong codes were typed here. Wait {}, then run this again. If it can't wait, an \
             administrator (root) at this computer need not.",
            span(seen.pause_seconds)
        )),
        Some(_) => None,
    }
}

fn whom_to_ring(ring: &[Contact]) -> String {
    let unsigned =
        "your duty manager, or whoever holds the sealed codes, or the security team's phone";
    format!("Ring {}.", numbers(ring, unsigned))
}

/// Whom the organisation signed to be rung, with their numbers; `unsigned`: where it named nobody.
fn numbers(ring: &[Contact], unsigned: &str) -> String {
    if ring.is_empty() {
        return unsigned.to_owned();
    }
    let named = ring.iter().map(|one| format!("{} {}", plain(&one.who), plain(&one.number)));
    named.collect::<Vec<_>>().join(", or ")
}

/// A well-formed code, or none if the person gave up.
fn code_from_input() -> Result<Option<Code>> {
    let is_person = std::io::stdin().is_terminal();
    if is_person {
        println!("Ask for one code for this very computer. It has four groups of four characters.");
        println!("There is no letter O, I or L in it, no zero and no one. Small letters will do.");
    }
    for _ in 0..SLIPS {
        if is_person {
            print!("Code: ");
            std::io::stdout().flush()?;
        }
        let mut line = Zeroizing::new(String::new());
        let mut input = std::io::Read::take(std::io::stdin().lock(), LONGEST_LINE);
        if input.read_line(&mut line)? == 0 {
            println!("No code was typed. Nothing was changed.");
            return Ok(None);
        }
        match Code::parse(&line) {
            Ok(code) => return Ok(Some(code)),
            Err(NoCode::Length(0)) => {}
            Err(slip) => println!("Not taken, and not counted as a try: {slip}."),
        }
    }
    println!("Nothing was changed. Ask for the whole code again, slowly, group by group.");
    Ok(None)
}

fn opened_words(opened: &Opened) -> String {
    let proof = if opened.is_proven {
        "THIS COMPUTER IS OPEN AGAIN: the rules that cut it off are gone, and that was checked."
    } else {
        "The code was right, and the rules that cut this computer off are being taken away; that could not \
         be checked yet. Run this command again in a minute: it says how things are."
    };
    format!(
        "{proof}\n\
         Code number {} is used up: have it crossed out on the sheet.\n\
         For {} Cordon does not cut this computer off by itself; the security team can.\n\
         It was cut off because something on it looked like an attack. Use it for what can't wait, and \
         ring whoever gave you the code: say that it worked, and that somebody must look at this computer.\n\
         The security team sees all this by itself as soon as the link to it is back.",
        opened.code,
        span(opened.hold_off_seconds.into()),
    )
}

fn unopened_words(unopened: &Unopened) -> String {
    let again = match unopened.wait_seconds {
        Some(_) => "",
        None => {
            "\nIs the code for this very computer? Is it crossed out on the sheet? Ask for the next one."
        }
    };
    format!("Nothing was opened: {}.{again}", unopened.why)
}

/// A length of time in words, rounded up: nobody is to come too early.
fn span(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} seconds"),
        91..=5_400 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            name: Some("ct-2\u{1b}[2J".into()),
            isolation: Some(Isolation::Full),
            unused_codes: Some(6),
            pause_seconds: 0,
            ring: Vec::new(),
        }
    }

    #[test]
    fn a_code_is_asked_for_only_where_one_can_help() {
        assert_eq!(no_code_is_taken(&seen()), None);
        for isolation in [None, Some(Isolation::Watch)] {
            let said = no_code_is_taken(&Seen { isolation, ..seen() }).unwrap();
            assert!(said.contains("No code is needed"));
        }
        for unused_codes in [None, Some(0)] {
            let said = no_code_is_taken(&Seen { unused_codes, ..seen() }).unwrap();
            assert!(said.contains("no code opens it"), "{said}");
        }
    }

    #[test]
    fn the_numbers_that_were_signed_are_named_and_else_who_holds_the_codes() {
        assert!(whom_to_ring(&[]).contains("sealed codes"));
        let contact = |who: &str, number: &str| Contact { who: who.into(), number: number.into() };
        let ring = vec![contact("Security\u{7}", "5555"), contact("Duty manager", "020 7946 0000")];
        let said = whom_to_ring(&ring);
        assert_eq!(said, "Ring Security\u{fffd} 5555, or Duty manager 020 7946 0000.");
        for (isolation, unused_codes) in
            [(None, Some(6)), (Some(Isolation::Full), None), (Some(Isolation::Full), Some(0))]
        {
            let seen = Seen { isolation, unused_codes, ring: ring.clone(), ..seen() };
            let said = no_code_is_taken(&seen).unwrap();
            assert!(said.contains("020 7946 0000") && !said.contains("service desk"), "{said}");
        }
    }

    #[test]
    fn a_name_drives_no_terminal() {
        assert!(!greeting(&seen()).contains('\u{1b}'));
    }

    #[test]
    fn what_was_not_checked_is_not_called_open() {
        let opened = Opened { code: 3, is_proven: false, hold_off_seconds: 14_400 };
        assert!(!opened_words(&opened).contains("IS OPEN"));
        let proven = opened_words(&Opened { is_proven: true, ..opened });
        assert!(proven.contains("IS OPEN AGAIN") && proven.contains("4 hours"));
    }

    #[test]
    fn nobody_is_told_to_come_too_early() {
        assert_eq!(
            [span(1), span(91), span(3_600), span(5_401)],
            ["1 seconds", "2 minutes", "60 minutes", "2 hours"]
        );
    }
}
