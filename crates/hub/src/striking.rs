//! Striking a machine off: nobody here reaches it any more then, so what it holds stays as it is.
//!
//! The one idea (laws 4 and 12): what stands against it is not only what was shown. An isolation that is
//! ordered and not shown yet may be in force in a moment; one that the machine denies may be in force all
//! the same; and where the machine itself can't say, nobody knows.

use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::record::{Deed, Record};
use cordon_model::time::{UtcNanos, span};
use cordon_store::{Key, Role, StoreError};

use crate::assigning::text;
use crate::board::{Card, Known};
use crate::error::HubError;
use crate::handle::Hub;
use crate::keep;
use crate::people::Who;
use crate::view::Contact;

/// Whether a machine holds a permit, by which it may segment itself with no hub in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MaySegmentItself {
    No,
    Until(UtcNanos),
    /// A permit of it can't be read.
    NotKnown,
}

/// What of a machine is named before it is struck off: more is counted.
const MOST_NAMED: usize = 5;

impl Hub {
    /// Whether no other machine than `meant` is called so and not struck off. Else the one that is to be kept out may go
    /// on, and whoever struck off the other believes that it does not.
    ///
    /// # Errors
    /// [`HubError::Invalid`], with their ids.
    pub(crate) fn check_no_other(&self, meant: MachineId, name: &str) -> Result<(), HubError> {
        let machines = self.shared.board.machines();
        let others = machines
            .iter()
            .filter(|(id, card)| **id != meant && !card.is_struck_off && card.name() == name);
        let ids: Vec<String> = others.map(|(id, _)| id.to_string()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let more = match ids.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = ids.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let why = format!(
            "nothing was struck off: the signer calls {meant} so, and {named}{more} is called so here, and is not \
             struck off. Say by its id which you mean: `cordon strike-off {meant}` or `cordon strike-off {}`; both, if \
             you don't know",
            ids[0]
        );
        Err(HubError::Invalid { what: "striking off", why })
    }

    /// Strikes a machine off: its link ends at once, and its certificate opens nothing any more. Nobody here
    /// can take anything back on it then, so one that holds something, or may, is struck off only if that is
    /// said to be known. Answers with what whoever did it has to know.
    ///
    /// # Errors
    /// [`HubError::Missing`]; [`HubError::Invalid`] if something may be in force there and not
    /// `though_cut_off`.
    pub async fn strike_off(
        &self,
        machine: MachineId,
        reason: &str,
        though_cut_off: bool,
        who: &Who,
    ) -> Result<Vec<String>, HubError> {
        who.must(Role::Administrator)?;
        let reason = text("reason", reason)?;
        let now = UtcNanos::now();
        self.card(machine)?;
        let key = Key::new(&self.shared.organisation.code, machine);
        // A machine that may be stolen is kept out now, whatever can be read of it.
        let permit = match self.shared.store.permits(&key, now).await {
            Ok(permits) => match permits.iter().map(|permit| permit.expires_at).max() {
                Some(until) => MaySegmentItself::Until(until),
                None => MaySegmentItself::No,
            },
            Err(StoreError::Unreadable { .. }) => MaySegmentItself::NotKnown,
            Err(error) => return Err(error.into()),
        };
        let change = keep::struck_off(machine, &reason)?;
        let record = Record {
            machine: Some(machine),
            ..self.shared.record(who.actor(), Deed::StruckOff, reason)
        };
        let board = self.shared.board.clone();
        // Judged in the same step: an isolation that was signed meanwhile stands against it too.
        let said = self
            .deed(move |step| {
                let card = board.card(machine).ok_or(HubError::Missing { what: "machine" })?;
                let against = against(&card, step.core.proposed_for(machine));
                if !against.is_empty() && !though_cut_off {
                    return Err(refused(&card, &against));
                }
                board.change(machine, |card| card.is_struck_off = true);
                step.outputs = step.core.struck_off(machine);
                step.changes.push(change);
                step.record(record);
                // What is with the signer is given up; the rest stays.
                Ok(to_know(&card, &self::against(&card, std::iter::empty()), permit, now))
            })
            .await??;
        self.shared.links.end(machine, "this machine was struck off");
        Ok(said)
    }
}

fn refused(card: &Card, against: &[String]) -> HubError {
    let why = format!(
        "{}. That stays so, and nobody here can take it back then: {}. Release it first (`cordon \
         release`; other measures: `cordon measure undo`) and wait until that is shown, or say that \
         you know: --though-cut-off",
        against.join("; "),
        by_code(card)
    );
    HubError::Invalid { what: "striking off", why }
}

/// What is, or may be, in force on a machine and would stay so; `proposed`: what the signer has not signed yet.
fn against<'a>(card: &Card, proposed: impl Iterator<Item = &'a Instruction>) -> Vec<String> {
    let mut against: Vec<String> = Vec::new();
    // What cuts it off comes first.
    let mut known: Vec<&Known> = card.measures.values().filter(|known| holds(known)).collect();
    known.sort_by_key(|known| std::cmp::Reverse(known.action.isolation()));
    against.extend(known.iter().take(MOST_NAMED).map(|known| in_words(known)));
    if known.len() > MOST_NAMED {
        against.push(format!("and {} measures more", known.len() - MOST_NAMED));
    }
    let about_to_be = proposed.filter_map(Instruction::isolation).max();
    if let Some(how) = about_to_be.filter(|how| *how > Isolation::Watch) {
        against.push(format!("it is about to be cut off ({how}): that is with the signer"));
    }
    if let Some(how) = card.held_further().filter(|how| *how > Isolation::Watch) {
        against.push(format!("it says that it is isolated ({how}), which nothing has shown"));
    }
    if let Some(why) = card.holds().and_then(|holds| holds.unknown()) {
        against.push(format!("nobody knows what is in force on it: {why}"));
    }
    against
}

/// Whether a measure that is not over may keep something from somebody.
fn holds(known: &Known) -> bool {
    let kind = known.action.kind();
    match known.action.isolation() {
        Some(how) => how > Isolation::Watch,
        None => kind.stops_something() && !kind.is_done_at_once(),
    }
}

fn in_words(known: &Known) -> String {
    let what = match known.action.isolation() {
        Some(how) => format!("cut off ({how})"),
        None => format!("under a measure ({})", known.action),
    };
    match &known.state {
        _ if known.is_denied => {
            format!("it was {what}, and says now that it is not: one of the two is so")
        }
        MeasureState::Requested | MeasureState::Delivered => {
            format!("it is about to be {what}: that is ordered, and not shown yet")
        }
        MeasureState::Unproven { .. } => format!("it is {what}, though not proven"),
        _ => format!("it is {what}"),
    }
}

/// What opens a machine that nobody here reaches.
fn by_code(card: &Card) -> &'static str {
    let codes = card.seen.as_ref().and_then(|seen| seen.status.as_ref());
    match codes.map(|status| status.break_glass) {
        Some(1..) => "only a break-glass code opens it",
        Some(0) => "it holds no break-glass codes, so nothing opens it but a hand at it",
        None => "only a break-glass code opens it, if it holds any",
    }
}

/// What whoever struck it off has to know.
fn to_know(
    card: &Card,
    against: &[String],
    permit: MaySegmentItself,
    now: UtcNanos,
) -> Vec<String> {
    let mut said = Vec::new();
    if !against.is_empty() {
        said.push(format!("it stays as it was: {}", against.join("; ")));
        said.push(
            "full becomes segment when its lease ends, and segment goes on until somebody opens it"
                .to_owned(),
        );
    }
    match permit {
        MaySegmentItself::No => {}
        MaySegmentItself::Until(until) => said.push(format!(
            "it may still segment itself by the permit that it holds, until {until}: with no hub in reach \
             nobody is asked"
        )),
        MaySegmentItself::NotKnown => said.push(
            "it may still segment itself by a permit, and until when is not known, for what is kept of that here \
             can't be read: with no hub in reach nobody is asked"
                .to_owned(),
        ),
    }
    if !against.is_empty() || permit != MaySegmentItself::No {
        said.push(by_code(card).to_owned());
    }
    if let Contact::Silent { heard } = card.contact(now) {
        // A silence is said to the second only while it is short.
        let ago = span(Duration::from_secs(now.since(heard).as_secs()));
        said.push(format!("it was last heard {ago} ago: what it did since nobody here knows"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::{by_order, card, measure, says, says_nobody_knows};

    fn with(how: Isolation, state: MeasureState) -> Card {
        let mut card = card();
        card.take(&measure(1, how, by_order(), state));
        card
    }

    fn against_it(card: &Card) -> Vec<String> {
        against(card, std::iter::empty())
    }

    #[test]
    fn what_is_with_the_signer_stands_against_it_too() {
        let lease = cordon_model::policy::Policy::default_for("RJ1".parse().unwrap()).lease;
        let of = |how| against(&card(), [Instruction::isolate(how, lease)].iter());
        assert_eq!(
            of(Isolation::Full),
            ["it is about to be cut off (full): that is with the signer"]
        );
        assert!(of(Isolation::Watch).is_empty());
        assert!(against(&card(), [Instruction::Release].iter()).is_empty());
    }

    #[test]
    fn whatever_may_cut_a_machine_off_stands_against_striking_it_off() {
        assert_eq!(against_it(&card()), [""; 0], "never heard, and nothing was ordered");
        let why = || "no answer".to_owned();
        for (state, said) in [
            (MeasureState::Verified, "it is cut off (segment)"),
            (MeasureState::Requested, "it is about to be cut off (segment)"),
            (MeasureState::Delivered, "not shown yet"),
            (MeasureState::Unproven { why: why() }, "though not proven"),
        ] {
            let against = against_it(&with(Isolation::Segment, state.clone()));
            assert!(against.len() == 1 && against[0].contains(said), "{state:?}: {against:?}");
        }
        // A watch cuts nothing.
        assert!(against_it(&with(Isolation::Watch, MeasureState::Verified)).is_empty());
        assert!(against_it(&with(Isolation::Full, MeasureState::Released)).is_empty());

        let mut denied = measure(1, Isolation::Full, by_order(), MeasureState::Verified);
        denied.is_denied = true;
        let mut contradicted = card();
        contradicted.take(&denied);
        let said = against_it(&contradicted);
        assert!(said[0].contains("was cut off (full)") && said[0].contains("one of the two"));

        let mut by_its_word = card();
        says(&mut by_its_word, &[(2, Isolation::Full)]);
        assert!(against_it(&by_its_word)[0].contains("says that it is isolated (full)"));
        let mut unknown = card();
        says_nobody_knows(&mut unknown, "the helper does not answer");
        assert!(against_it(&unknown)[0].contains("nobody knows"), "{:?}", against_it(&unknown));
    }

    #[test]
    fn so_does_what_holds_something_else_back_on_it() {
        use cordon_model::action::{AccountTarget, Action};
        let stored = |action| cordon_store::StoredMeasure {
            action,
            ..measure(1, Isolation::Full, by_order(), MeasureState::Verified)
        };
        let disabled = AccountTarget { name: "eve".into(), ends_sessions: false };
        let mut card = card();
        card.take(&stored(Action::DisableAccount(disabled)));
        assert!(against_it(&card)[0].contains("under a measure ("), "{:?}", against_it(&card));
    }

    #[test]
    fn who_struck_it_off_is_told_what_it_may_still_do_and_what_opens_it() {
        let now = UtcNanos::from_unix_nanos(3_600_000_000_000);
        let mut heard = card();
        says(&mut heard, &[]);
        let said = to_know(&heard, &[], MaySegmentItself::No, now);
        assert_eq!(said, ["it was last heard 1 h ago: what it did since nobody here knows"]);
        let said = to_know(&heard, &[], MaySegmentItself::Until(now), now).join("\n");
        assert!(said.contains("segment itself") && said.contains("no break-glass codes"), "{said}");
        let said = to_know(&card(), &["it is cut off (full)".into()], MaySegmentItself::No, now)
            .join("\n");
        assert!(said.contains("stays as it was: it is cut off (full)"), "{said}");
        assert!(said.contains("full becomes segment") && said.contains("break-glass"), "{said}");
    }
}
