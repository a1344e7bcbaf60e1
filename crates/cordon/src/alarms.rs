//! What is wrong with the hub itself, said at the head of each list: whoever looks at a list at night has to know
//! before they trust it.

use std::fmt::Write as _;

use cordon_hub::control::{Answer, Request, Status};

use crate::cli::StateArg;
use crate::control::{ask_at, plain};

/// Says it on stderr, so that a list and its JSON stay as they are. A hub that can't say how it is has its list read
/// all the same.
pub fn tell(state: &StateArg) {
    match ask_at(state, Request::Status) {
        Ok(Answer::Status(status)) => eprint!("{}", in_words(&status)),
        Ok(_) => {}
        Err(error) => eprintln!("HOW THE HUB IS IS NOT KNOWN: {error:#}"),
    }
}

/// Each thing that is wrong: what, what it means, what to do, what was seen.
fn in_words(status: &Status) -> String {
    let all = [
        (
            "THE SIGNER DOES NOT ANSWER",
            "nothing can be isolated or released until it does; what is isolated stays so. As root on its machine: \
             `systemctl status cordon-signer`, or look at `cordon up`",
            &status.signer_away,
        ),
        (
            "THE LEDGER IS NOT WHAT WAS SIGNED",
            "it was altered, or put back from a backup. Leave the hub's disk as it is and have somebody find out: \
             `cordon verify`. Machines are isolated and released as ever",
            &status.ledger_alarm,
        ),
        (
            "DESCRIPTIONS, ADDRESSES, GUIDANCE AND CODES WAIT",
            "isolations and releases do not",
            &status.held_up,
        ),
        ("SOMETHING THAT WAS KEPT CAN'T BE READ", "the rest goes on", &status.set_aside),
    ];
    let mut text = String::new();
    for (what, so, seen) in all {
        if let Some(seen) = seen {
            let _ = writeln!(text, "{what}: {so}. What was seen: {}", plain(seen));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            organisation: "RJ1".parse().unwrap(),
            name: "Trust".into(),
            mode: cordon_model::policy::Mode::Ask,
            machines: 0,
            linked: 0,
            heard: 0,
            contained: 0,
            incidents_open: 0,
            incidents_unowned: 0,
            questions: 0,
            orders_waiting: 0,
            ledger: cordon_hub::view::LedgerStatus::default(),
            ledger_alarm: None,
            signer_away: None,
            held_up: None,
            set_aside: None,
            refused: cordon_hub::view::Refused::default(),
        }
    }

    #[test]
    fn what_is_wrong_with_the_hub_is_said_before_a_list_and_what_to_do_about_it() {
        assert_eq!(in_words(&status()), "");
        let wrong = Status {
            signer_away: Some("connection refused\u{1b}[2J".into()),
            ledger_alarm: Some("it does not begin with 7 records".into()),
            held_up: Some("more than 40000 at once".into()),
            set_aside: Some("the story 7".into()),
            ..status()
        };
        let said = in_words(&wrong);
        let heads: Vec<&str> = said.lines().filter_map(|line| line.split(':').next()).collect();
        let expected = [
            "THE SIGNER DOES NOT ANSWER",
            "THE LEDGER IS NOT WHAT WAS SIGNED",
            "DESCRIPTIONS, ADDRESSES, GUIDANCE AND CODES WAIT",
            "SOMETHING THAT WAS KEPT CAN'T BE READ",
        ];
        assert_eq!(heads, expected);
        assert!(said.contains("`cordon verify`") && said.contains("connection refused\u{fffd}"));
    }
}
