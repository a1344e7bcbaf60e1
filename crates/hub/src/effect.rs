//! What each measure does, what that means for care, and how it is taken back: in words, before the button.
//!
//! The one idea: said once for each kind of action, as data, so that no form and no command forgets it. The long form is the
//! guide's page on measures.

use cordon_model::action::{Action, ActionKind, AtEnd};
use cordon_model::asset::ClinicalTier;

/// What a person is told before they confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// What people press: `Freeze`.
    pub verb: &'static str,
    /// What happens on the machine.
    pub does: &'static str,
    /// What may stop that somebody works with.
    pub means_for_care: &'static str,
    /// How it is taken back.
    pub way_back: &'static str,
}

/// What an action of `kind` does.
#[must_use]
pub fn of(kind: ActionKind) -> Effect {
    match kind {
        ActionKind::Isolate => Effect {
            verb: "Isolate",
            does: "The machine is cut off from the network, but for what is declared as a lifeline.",
            means_for_care: "Whatever care does over the network from this machine stops, but for its lifelines.",
            way_back: "Exactly, by a release.",
        },
        ActionKind::Freeze => Effect {
            verb: "Freeze",
            does: "The process and all that came from it stand still, from now on and whatever they start.",
            means_for_care: "Whoever works with that program sees it hang. What it was writing or sending waits; \
                             connections of it time out at the other side.",
            way_back: "Exactly: it goes on where it stood.",
        },
        ActionKind::Kill => Effect {
            verb: "Kill",
            does: "The process and all that came from it stand still first, then end.",
            means_for_care: "Whoever works with that program loses it at once, with what was not saved: an open \
                             report, a study that is being acquired. Ask them first, or freeze it instead.",
            way_back: "Not at all. Its service has to be started again by hand.",
        },
        ActionKind::Quarantine => Effect {
            verb: "Set aside",
            does: "The file is moved into an encrypted vault on the machine, with all that is needed to put it back.",
            means_for_care: "A program that needs the file does not start, or misses a document, until it is put \
                             back. What runs from it already goes on.",
            way_back: "Exactly, with owner, times and rights; unless something else is at its place by then.",
        },
        ActionKind::Deny => Effect {
            verb: "Deny",
            does: "The program can’t be started any more. What runs already goes on.",
            means_for_care: "Whoever starts that program is refused: at the next log-on, restart or shift.",
            way_back: "Exactly.",
        },
        ActionKind::Block => Effect {
            verb: "Block",
            does: "The machine and the peer can’t speak to each other. Open connections to it are closed.",
            means_for_care: "If care uses a server at that address, it stops here; other names at the same \
                             addresses are blocked too. What is a lifeline is refused, by its name.",
            way_back: "Exactly. Closed connections are opened anew by their programs.",
        },
        ActionKind::DisableAccount => Effect {
            verb: "Disable",
            does: "The local account can’t sign in, by password or key. Its sessions go on, unless they are ended too.",
            means_for_care: "Whoever signs in by that account can’t, and if its sessions are ended loses what is \
                             open. A shared account of a ward is everybody’s on it.",
            way_back: "Exactly; sessions that were ended are not brought back.",
        },
        ActionKind::Collect => Effect {
            verb: "Collect",
            does: "Evidence is gathered into an archive on the machine, behind everything else that it does.",
            means_for_care: "Nothing is stopped. The archive may hold patients’ data: treat it as a record.",
            way_back: "Nothing is changed that had to be taken back.",
        },
        ActionKind::PutBack => Effect {
            verb: "Put back",
            does: "What stood at that place before it was changed is there again; what is there now is kept, encrypted.",
            means_for_care: "What was started, or let in, by the changed file is so no more: at the next log-on, \
                             restart or hour. What runs already goes on.",
            way_back: "Exactly: the changed file is put there again, unless somebody changed it since.",
        },
    }
}

/// What follows at the end of its lease on a machine of `tier`.
#[must_use]
pub fn at_end(action: &Action, tier: ClinicalTier) -> &'static str {
    match action.kind().at_end(tier) {
        AtEnd::StepDown => "It goes on, again and again, until somebody takes it back.",
        AtEnd::TakeBack => "It is taken back by itself, and people are told.",
        AtEnd::Over => "It is over when it is done.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ActionKind; 9] = [
        ActionKind::Isolate,
        ActionKind::Freeze,
        ActionKind::Kill,
        ActionKind::Quarantine,
        ActionKind::Deny,
        ActionKind::Block,
        ActionKind::DisableAccount,
        ActionKind::Collect,
        ActionKind::PutBack,
    ];

    #[test]
    fn what_can_t_be_taken_back_says_so_and_everything_says_what_it_means_for_care() {
        for kind in ALL {
            let effect = of(kind);
            assert!(!effect.means_for_care.is_empty() && !effect.does.is_empty(), "{kind}");
            assert_eq!(
                effect.way_back.starts_with("Not at all"),
                kind == ActionKind::Kill,
                "{kind}"
            );
            assert_eq!(
                effect.means_for_care.starts_with("Nothing is stopped"),
                !kind.stops_something()
            );
        }
    }
}
