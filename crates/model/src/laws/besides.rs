//! The laws of what is done besides isolating a machine: a process stopped, a file set aside, a program denied.
//!
//! The one idea: such a measure is judged as an isolation is. Who allowed it, on which tier, until when and
//! whether it is shown are the same questions; what differs is that there are many at once, and that each has
//! its own way back.

use std::time::Duration;

use super::{Law, Violation, by_enough_people, hold};
use crate::action::{Action, ActionKind, Denied, FilePath};
use crate::asset::ClinicalTier;
use crate::ids::{MachineId, MeasureId};
use crate::measure::MeasureState;
use crate::order::Approver;

/// Law 3: what may stop something on a clinical machine is done by people only, on tier 3 by two, one of them
/// clinical; and nobody stops a program that is declared as `needed` for care. `people` is empty for what was
/// done by itself.
///
/// # Errors
/// Who was missing, or what is needed.
pub fn stopped(
    machine: MachineId,
    tier: ClinicalTier,
    action: &Action,
    people: &[Approver],
    needed: &[FilePath],
) -> Result<(), Violation> {
    if !action.kind().stops_something() {
        return Ok(());
    }
    let program = program_of(action);
    let is_needed = program.is_some_and(|program| needed.iter().any(|it| it.as_bytes() == program));
    hold(Law::Lifelines, !is_needed, || {
        format!("{machine}: {action}, which is declared as needed for care")
    })?;
    by_enough_people(machine, tier, people, &action.to_string())
}

/// The program that it stops, if it is aimed at one.
fn program_of(action: &Action) -> Option<&[u8]> {
    match action {
        Action::Freeze(target) | Action::Kill(target) => Some(target.process.image.as_bytes()),
        Action::Quarantine(target) => Some(target.path.as_bytes()),
        Action::Deny(Denied::Path(path)) => Some(path.as_bytes()),
        Action::PutBack(target) => Some(target.path.as_bytes()),
        Action::Deny(Denied::Sha256(_))
        | Action::Isolate(_)
        | Action::Block(_)
        | Action::DisableAccount(_)
        | Action::Collect(_) => None,
    }
}

/// Law 2: what people took back, or what has to end for another reason, is gone, but for the `slack` that
/// waking up, crashes and power cuts allow. `ran`: for how long it had been to go when it was seen.
///
/// # Errors
/// That it is still there.
pub fn undone(
    machine: MachineId,
    measure: MeasureId,
    ran: Duration,
    slack: Duration,
) -> Result<(), Violation> {
    hold(Law::Lease, ran <= slack, || {
        format!("{machine}: measure {measure} was to be taken back, and is in force {ran:?} later")
    })
}

/// Law 2: what is in force ends only because people took it back, its lease ended where that takes it back, a
/// code opened the machine, or care needs what it stops.
///
/// # Errors
/// That it ended by itself.
pub fn never_silently_undone(
    machine: MachineId,
    action: &Action,
    is_due: bool,
) -> Result<(), Violation> {
    hold(Law::Lease, is_due, || format!("{machine}: {action} ended, and nobody took it back"))
}

/// Law 4: what an honest machine claims of a measure besides its isolation is so at that instant. `is_there`:
/// it is in force; `was_done`: it was done, of what is done at once.
///
/// # Errors
/// What was claimed.
pub fn truth_besides(
    machine: MachineId,
    action: &Action,
    claimed: &MeasureState,
    is_there: bool,
    was_done: bool,
) -> Result<(), Violation> {
    let holds = match claimed {
        MeasureState::Verified => is_there,
        MeasureState::Done if action.kind().is_done_at_once() => was_done,
        // Over is over: nothing of it is left that nobody would count any more.
        MeasureState::Released | MeasureState::Done | MeasureState::Failed { .. } => !is_there,
        MeasureState::Requested
        | MeasureState::Delivered
        | MeasureState::Applied
        | MeasureState::Unproven { .. }
        | MeasureState::SteppedDown
        | MeasureState::Superseded => true,
    };
    hold(Law::Truth, holds, || {
        let there = if is_there { "in force" } else { "not in force" };
        format!("{machine} claims {claimed:?} of {action}, which is {there}")
    })
}

/// Law 10, with law 3: where the policy would have done something about a serious finding on a clinical
/// machine, people are asked for it at once.
///
/// # Errors
/// What nobody was asked for.
pub fn asked(
    machine: MachineId,
    tier: ClinicalTier,
    kind: ActionKind,
    is_asked: bool,
) -> Result<(), Violation> {
    hold(Law::Attention, is_asked, || {
        format!("{machine} ({tier}): a finding calls to {kind}, and nobody was asked")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Collection, FileTarget, Piece};
    use crate::measure::Isolation;
    use crate::time::UtcNanos;

    const TIERS: [ClinicalTier; 4] = [
        ClinicalTier::None,
        ClinicalTier::Supports,
        ClinicalTier::Clinical,
        ClinicalTier::LifeSustaining,
    ];

    fn machine() -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10])
    }

    fn deny(path: &str) -> Action {
        Action::Deny(Denied::Path(FilePath::new(path)))
    }

    fn people(names: &[&str]) -> Vec<Approver> {
        let person =
            |name: &&str| Approver { name: (*name).into(), is_clinical: *name == "dr day" };
        names.iter().map(person).collect()
    }

    #[test]
    fn nothing_is_stopped_on_a_clinical_machine_with_nobody_asked() {
        let judge = |tier, names: &[&str]| {
            stopped(machine(), tier, &deny("/tmp/worm"), &people(names), &[]).is_ok()
        };
        assert_eq!(TIERS.map(|tier| judge(tier, &[])), [true, true, false, false]);
        assert_eq!(TIERS.map(|tier| judge(tier, &["ann"])), [true, true, true, false]);
        assert!(!judge(ClinicalTier::LifeSustaining, &["ann", "bob"]), "neither is clinical");
        assert!(judge(ClinicalTier::LifeSustaining, &["ann", "dr day"]));
        let looks =
            Action::Collect(Collection { pieces: vec![Piece::Network], most_bytes: 1 << 20 });
        assert!(stopped(machine(), ClinicalTier::Clinical, &looks, &[], &[]).is_ok());
    }

    #[test]
    fn nobody_stops_what_care_needs() {
        let needed = [FilePath::new("/opt/pacs")];
        let by_two = people(&["ann", "dr day"]);
        let judge = |action: &Action| {
            stopped(machine(), ClinicalTier::None, action, &by_two, &needed).is_ok()
        };
        assert!(judge(&deny("/tmp/worm")) && !judge(&deny("/opt/pacs")));
        let aside = FileTarget { path: FilePath::new("/opt/pacs"), sha256: None };
        assert!(!judge(&Action::Quarantine(aside)));
        assert!(judge(&Action::Isolate(Isolation::Full)), "an isolation is aimed at no program");
    }

    #[test]
    fn what_is_over_has_left_nothing() {
        let judge = |claimed, is_there| {
            truth_besides(machine(), &deny("/tmp/worm"), &claimed, is_there, false).is_ok()
        };
        assert!(judge(MeasureState::Verified, true) && !judge(MeasureState::Verified, false));
        for over in [
            MeasureState::Released,
            MeasureState::Done,
            MeasureState::Failed { why: "refused".into() },
        ] {
            assert!(judge(over.clone(), false) && !judge(over, true));
        }
        let unsure = || MeasureState::Unproven { why: "not looked at".into() };
        assert!(judge(unsure(), true) && judge(unsure(), false), "it claims nothing");
    }

    #[test]
    fn what_is_to_go_goes_and_what_is_not_stays() {
        let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [2; 10]);
        let seconds = Duration::from_secs;
        assert!(undone(machine(), measure, seconds(2), seconds(2)).is_ok());
        assert!(undone(machine(), measure, seconds(3), seconds(2)).is_err());
        assert!(never_silently_undone(machine(), &deny("/tmp/worm"), true).is_ok());
        assert!(never_silently_undone(machine(), &deny("/tmp/worm"), false).is_err());
        let judge = |is_asked| {
            asked(machine(), ClinicalTier::Clinical, ActionKind::Freeze, is_asked).is_ok()
        };
        assert!(judge(true) && !judge(false));
    }
}
