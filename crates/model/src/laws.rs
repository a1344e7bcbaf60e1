//! The laws, each as a pure function over what was seen.
//!
//! The one idea: what must always hold is written once, and the simulator, the tests and a running
//! system judge by the same function. A function takes what an outside observer can see (an effect in a
//! kernel, an order that was signed, an acknowledgement), never the inner state that it judges.
//!
//! | law | function | judged |
//! |---|---|---|
//! | Authority | [`authority`] | each time that a kernel begins to cut, and anything else begins |
//! | Authority | [`opened_by_code`], [`held_open`] | each time that a code opens a machine; each automatic isolation |
//! | Authority | [`newest`] | each document that a machine takes |
//! | Authority | [`agreed`] | each order signed in people's names |
//! | Authority | [`unanswered`] | each order signed because nobody answered |
//! | Lease | [`lease`], [`never_silently_open`] | while it cuts; each time that it opens |
//! | Lease | [`warned`] | each time that something steps down, or is taken back, at its lease's end |
//! | Lease | [`lease`], [`undone`], [`never_silently_undone`] | while anything else is in force; each time that it ends |
//! | Lifelines | [`lifelines`], [`last_of_kind`] | while it cuts |
//! | Lifelines | [`stopped`] | each time that anything else is ordered, and done |
//! | Truth | [`truth`], [`truth_besides`], [`shown`] | each receipt; what a hub shows of a machine that it hears |
//! | Budget | [`budget`], [`group_share`] | each order signed without people |
//! | Budget | [`by_people`] | each order signed in people's names |
//! | Autonomy | [`autonomy`], [`self_defence`] | each use of a permit; each serious finding with no hub |
//! | Nothing lost | [`nothing_lost`], [`kept`] | each acknowledgement; each report that was taken |
//! | Nothing lost | [`once`] | each proposal, order and report that comes again |
//! | Accountable | [`accountable`], [`on_record`] | each order sent; each document that a machine takes |
//! | Attention | [`attention`], [`asked`] | each serious finding that the hub has |
//! | Attention | [`left`], [`owned`] | what waits and what nobody has, each second |
//! | Attention | [`asked_again`], [`asked_after_no`] | each question; each no |
//! | Bad stays small | [`within`], [`goes_on`] | each message of a machine that floods; each message of reports |
//! | Distrust below | [`distrust`] | each change that a message made |
//! | No green without evidence | [`adds_up`], [`age`] | what a hub counts, each second |
//!
//! Beyond these, *Bad stays small* and *No green without evidence* are judged by the tests of each parser and
//! screen.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::action::Action;
use crate::asset::ClinicalTier;
use crate::break_glass::BreakGlass;
use crate::finding::Level;
use crate::ids::{IncidentId, MachineId, MeasureId, OdsCode};
use crate::measure::{Isolation, MeasureState};
use crate::order::{Approver, Authority, Instruction, Order, Permit};
use crate::policy::Budget;
use crate::signed::Verified;
use crate::time::UtcNanos;

mod besides;
mod people;

pub use besides::{asked, never_silently_undone, stopped, truth_besides, undone};
pub use people::{agreed, still_isolated, unanswered};

/// The twelve laws, by the names that people use for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// 1: no measure without a signed order, policy or permit that allows it.
    Authority,
    /// 2: every measure has an end, and outlives everything until then.
    Lease,
    /// 3: no declared flow is cut; clinical machines need people.
    Lifelines,
    /// 4: in force only when shown.
    Truth,
    /// 5: what is done without people is limited.
    Budget,
    /// 6: each tier goes on without the ones above it.
    Autonomy,
    /// 7: what is acknowledged is on disk.
    NothingLost,
    /// 8: bad input is refused, and the rest goes on.
    BadStaysSmall,
    /// 9: who did each thing is written down.
    Accountable,
    /// 10: nothing serious lies unread.
    Attention,
    /// 11: whoever sits lower is hostile until shown otherwise.
    DistrustBelow,
    /// 12: what was not assessed is not clean.
    NoGreenWithoutEvidence,
}

impl Law {
    /// The law's number, 1 to 12.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {} ({self:?})", self.number())
    }
}

/// A law was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{law} broken: {how}")]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// How, with what was seen.
    pub how: String,
}

fn hold(law: Law, holds: bool, how: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { law, how: how() }) }
}

/// What a measure began by.
#[derive(Debug, Clone, Copy)]
pub enum Grounds<'a> {
    /// An order, genuine by the pinned key, and the sequence that the machine had taken before.
    Order(&'a Verified<Order>, u64),
    /// A permit, genuine by the pinned key.
    Permit {
        /// The permit.
        permit: &'a Verified<Permit>,
        /// Of the finding that it is used for.
        level: Level,
        /// Whether it had been used before.
        was_used: bool,
    },
    /// The end of the lease of a measure that was in force.
    LeaseEnd,
    /// Nothing that anybody can show.
    Nothing,
}

/// A measure began: a kernel cuts, a process stands still.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    /// On which machine.
    pub machine: MachineId,
    /// Whose.
    pub organisation: &'a OdsCode,
    /// What is done.
    pub action: &'a Action,
    /// By what.
    pub grounds: Grounds<'a>,
    /// The machine's best knowledge of the time.
    pub at: UtcNanos,
}

/// Law 1: there is a genuine document for this very machine, in its time, not used before, that
/// allows this.
///
/// # Errors
/// What is wrong with the grounds.
pub fn authority(begun: &Begun<'_>) -> Result<(), Violation> {
    let judge = |holds, what: &str| {
        let (machine, action) = (begun.machine, begun.action);
        hold(Law::Authority, holds, || format!("{machine}: {action} began by {what}"))
    };
    match begun.grounds {
        Grounds::Order(order, sequence_before) => {
            judge(
                order.machine == begun.machine && order.organisation == *begun.organisation,
                "an order for another machine",
            )?;
            judge(order.sequence > sequence_before, "an order that was not newer")?;
            judge(
                order.deliver_until.is_none_or(|until| begun.at < until),
                "an order that came too late",
            )?;
            let Instruction::Begin { action, .. } = &order.instruction else {
                return judge(false, "an order that begins nothing");
            };
            judge(action == begun.action, "an order to do something else")
        }
        Grounds::Permit { permit, level, was_used } => {
            let is_mild = begun.action.isolation().is_some_and(|it| it <= Isolation::Segment);
            judge(is_mild, "a permit, which is for a segment and nothing else")?;
            judge(!was_used, "a permit that was used before")?;
            judge(
                permit.machine == begun.machine && permit.organisation == *begun.organisation,
                "a permit for another machine",
            )?;
            judge(begun.at < permit.expires_at, "a permit that had expired")?;
            judge(level >= permit.level_at_least, "a permit for more serious findings")
        }
        Grounds::LeaseEnd => Ok(()),
        Grounds::Nothing => judge(false, "nothing that anybody can show"),
    }
}

/// A code opened a machine with nobody in reach.
#[derive(Debug, Clone, Copy)]
pub struct OpenedByCode<'a> {
    /// Which machine.
    pub machine: MachineId,
    /// Whose.
    pub organisation: &'a OdsCode,
    /// What the signer had said ahead, genuine by the pinned key; `None`: nobody can show any.
    pub document: Option<&'a Verified<BreakGlass>>,
    /// The number of the code.
    pub code: u8,
    /// The numbers of that document's codes which were used before.
    pub used: &'a BTreeSet<u8>,
    /// The machine's best knowledge of the time.
    pub at: UtcNanos,
}

/// Law 1: there is a genuine document for this very machine, in its time, that has the code, and the code
/// was never used before.
///
/// # Errors
/// What is wrong with it.
pub fn opened_by_code(opened: &OpenedByCode<'_>) -> Result<(), Violation> {
    let judge = |holds, what: &str| {
        hold(Law::Authority, holds, || format!("{} opened by {what}", opened.machine))
    };
    let Some(document) = opened.document else {
        return judge(false, "a code that nobody signed");
    };
    judge(
        document.machine == opened.machine && document.organisation == *opened.organisation,
        "a code of another machine",
    )?;
    judge(
        (1..=document.codes.len()).contains(&usize::from(opened.code)),
        "a code that its document does not have",
    )?;
    judge(opened.at < document.expires_at, "a code that had expired")?;
    judge(!opened.used.contains(&opened.code), "a code that was used before")
}

/// Law 1: a machine that a code opened is isolated again by people only, as long as its document says.
/// Judged each time that a machine isolates itself by an order of the policy or a permit.
///
/// # Errors
/// That it was.
pub fn held_open(machine: MachineId, is_held_open: bool) -> Result<(), Violation> {
    hold(Law::Authority, !is_held_open, || {
        format!("{machine} was isolated by itself while a code of people's held it open")
    })
}

/// Law 1: a machine that takes a document for itself has taken none of a higher revision before.
///
/// # Errors
/// Which it took.
pub fn newest(machine: MachineId, revision: u64, newest_before: u64) -> Result<(), Violation> {
    hold(Law::Authority, revision >= newest_before, || {
        format!("{machine} took revision {revision} of a document, after {newest_before}")
    })
}

/// Law 2: a measure whose lease of `granted` has run for `ran` is no longer in force as it was, but for
/// the `slack` that waking up and power cuts allow.
///
/// # Errors
/// By how much it overran.
pub fn lease(
    measure: MeasureId,
    granted: Duration,
    ran: Duration,
    slack: Duration,
) -> Result<(), Violation> {
    hold(Law::Lease, ran <= granted.saturating_add(slack), || {
        format!("measure {measure} of {granted:?} is in force after {ran:?} (slack {slack:?})")
    })
}

/// Law 2: before a lease ends, and what it was of steps down or is taken back, people are told: within its last
/// `warn`, by who holds it, if that was `at_work` there for longer than the `slack` that waking up allows. Time
/// in which a machine was off, or its holder dead, is no time to tell anything in. `told`: how long the lease had
/// left by the last warning since it began or was renewed; one that came too early warns nobody.
///
/// # Errors
/// That nobody was told in time.
pub fn warned(
    measure: MeasureId,
    warn: Duration,
    at_work: Duration,
    told: Option<Duration>,
    slack: Duration,
) -> Result<(), Violation> {
    let is_told = told.is_some_and(|left| left <= warn.saturating_add(slack));
    hold(Law::Lease, is_told || at_work <= slack, || {
        format!(
            "the lease of measure {measure} ended with no warning in its last {warn:?} (told: {told:?} before; \
             {at_work:?} to tell it in)"
        )
    })
}

/// Law 2: a machine that was cut is opened only by an order to release it, or by a code that
/// [may](opened_by_code).
///
/// # Errors
/// That it opened by itself.
pub fn never_silently_open(
    machine: MachineId,
    was_cut: bool,
    is_cut: bool,
    is_release_ordered: bool,
) -> Result<(), Violation> {
    hold(Law::Lease, !was_cut || is_cut || is_release_ordered, || {
        format!("{machine} is open, and nobody released it")
    })
}

/// Law 3, for one machine that is cut: every declared flow is kept; clinical tiers are cut by people
/// only, and tier 3 by two, one of them clinical. `people` is empty for what was done by itself.
///
/// # Errors
/// Which flow, or who was missing.
pub fn lifelines(
    machine: MachineId,
    tier: ClinicalTier,
    people: &[Approver],
    declared: &[String],
    kept: &[String],
) -> Result<(), Violation> {
    if let Some(cut) = declared.iter().find(|name| !kept.contains(name)) {
        return hold(Law::Lifelines, false, || format!("{machine}: the lifeline {cut:?} is cut"));
    }
    by_enough_people(machine, tier, people, "contained")
}

/// Law 3: on a clinical machine something is done by people only, on tier 3 by two, one of them clinical.
fn by_enough_people(
    machine: MachineId,
    tier: ClinicalTier,
    people: &[Approver],
    what: &str,
) -> Result<(), Violation> {
    hold(Law::Lifelines, !tier.is_clinical() || !people.is_empty(), || {
        format!("{machine} ({tier}): {what} with nobody asked")
    })?;
    let two = people.iter().any(|one| people.iter().any(|other| other.name != one.name));
    let is_clinical = people.iter().any(|person| person.is_clinical);
    hold(Law::Lifelines, tier != ClinicalTier::LifeSustaining || (two && is_clinical), || {
        format!("{machine} ({tier}): {what} without two people, one of them clinical")
    })
}

/// Law 3, for all machines of one kind: if all are contained, people had a part in it. Each entry is a
/// machine's containment: `None` open, `Some(is_by_people)`.
///
/// # Errors
/// That the whole kind is gone by itself.
pub fn last_of_kind(kind: &str, machines: &[Option<bool>]) -> Result<(), Violation> {
    let all_contained = !machines.is_empty() && machines.iter().all(Option::is_some);
    hold(Law::Lifelines, !all_contained || machines.contains(&Some(true)), || {
        format!(
            "all {} machines of the kind {kind:?} were contained with nobody asked",
            machines.len()
        )
    })
}

/// Law 4: what an honest machine claims is what its kernel had at that instant.
///
/// # Errors
/// What was claimed, and what was there.
pub fn truth(
    machine: MachineId,
    claimed: &MeasureState,
    claimed_isolation: Isolation,
    in_kernel: Option<Isolation>,
) -> Result<(), Violation> {
    let holds = match claimed {
        MeasureState::Verified => in_kernel == Some(claimed_isolation),
        MeasureState::Released => in_kernel.is_none(),
        _ => true,
    };
    hold(Law::Truth, holds, || {
        format!("{machine} claims {claimed:?} ({claimed_isolation}), its kernel has {in_kernel:?}")
    })
}

/// Law 4: what a hub shows as in force on a machine that it hears, with nothing on its way, is in that
/// machine's kernel.
///
/// # Errors
/// What was shown, and what was there.
pub fn shown(
    machine: MachineId,
    measure: MeasureId,
    shown: &MeasureState,
    in_kernel: Option<MeasureId>,
) -> Result<(), Violation> {
    let is_shown = matches!(shown, MeasureState::Applied | MeasureState::Verified);
    hold(Law::Truth, !is_shown || in_kernel == Some(measure), || {
        format!("{measure} is shown as {shown:?}, and the kernel of {machine} has {in_kernel:?}")
    })
}

/// Law 5: of the running times at which something was ordered without people (an isolation or anything else,
/// in the organisation or on one machine), no more than the budget's count fall in any one window. `times` ascend, and the newest is judged.
///
/// # Errors
/// How many did.
pub fn budget(budget: &Budget, times: &[Duration]) -> Result<(), Violation> {
    let in_window = in_last_window(budget, times);
    hold(Law::Budget, in_window <= budget.count as usize, || {
        let (window, count) = (budget.window_seconds, budget.count);
        format!("{in_window} measures with nobody asked in {window} s, of {count} allowed")
    })
}

/// Law 5, against a stolen hub: the same of what was ordered in people's names, and of what was taken back in
/// them.
///
/// # Errors
/// How many were.
pub fn by_people(budget: &Budget, times: &[Duration]) -> Result<(), Violation> {
    let in_window = in_last_window(budget, times);
    hold(Law::Budget, in_window <= budget.count as usize, || {
        let (window, count) = (budget.window_seconds, budget.count);
        format!("{in_window} orders in people's names in {window} s, of {count} allowed")
    })
}

/// How many fall in the window that ends at the last.
fn in_last_window(budget: &Budget, times: &[Duration]) -> usize {
    let Some(newest) = times.last() else { return 0 };
    let window = Duration::from_secs(budget.window_seconds.into());
    times.iter().filter(|time| time.saturating_add(window) > *newest).count()
}

/// Law 5: of a group of `size`, no more than its share is isolated by orders that nobody was asked for.
///
/// # Errors
/// How many are.
pub fn group_share(
    budget: &Budget,
    group: &str,
    size: usize,
    automatic: usize,
) -> Result<(), Violation> {
    let allowed = (size * usize::from(budget.group_percent.min(100)) / 100).max(1);
    hold(Law::Budget, automatic <= allowed, || {
        format!(
            "{automatic} of {size} machines of group {group:?} isolated automatically, of {allowed}"
        )
    })
}

/// Law 6: a permit allows segment, on tiers 0 and 1; and no more machines of the organisation hold or
/// have used one than the policy says.
///
/// # Errors
/// Which bound was passed.
pub fn autonomy(
    machine: MachineId,
    tier: ClinicalTier,
    isolation: Isolation,
    by_permits: usize,
    permits: u32,
) -> Result<(), Violation> {
    hold(Law::Autonomy, isolation <= Isolation::Segment && !tier.is_clinical(), || {
        format!("{machine} ({tier}) cut itself off ({isolation})")
    })?;
    hold(Law::Autonomy, by_permits <= permits as usize, || {
        format!("{by_permits} machines segmented themselves, of {permits} that may")
    })
}

/// Law 6: a machine with a good permit, a serious finding and no hub in reach is cut.
///
/// # Errors
/// That it is not.
pub fn self_defence(
    machine: MachineId,
    is_called_for: bool,
    is_cut: bool,
) -> Result<(), Violation> {
    hold(Law::Autonomy, !is_called_for || is_cut, || {
        format!("{machine} had a permit, a serious finding and no hub, and did nothing")
    })
}

/// Law 7: what was acknowledged is on disk.
///
/// # Errors
/// What is missing.
pub fn nothing_lost(
    machine: MachineId,
    acknowledged: u64,
    highest_on_disk: u64,
) -> Result<(), Violation> {
    hold(Law::NothingLost, acknowledged <= highest_on_disk, || {
        format!("{machine}: {acknowledged} was acknowledged, and the disk has {highest_on_disk}")
    })
}

/// Law 7: a report whose number was taken is kept as that machine's.
///
/// # Errors
/// Which is not.
pub fn kept(machine: MachineId, number: u64, is_kept: bool) -> Result<(), Violation> {
    hold(Law::NothingLost, is_kept, || {
        format!("{machine}: its report {number} was taken, and is not kept as its own")
    })
}

/// Law 7: what comes again is worth nothing more: ids make it exactly once.
///
/// # Errors
/// What was not.
pub fn once(machine: MachineId, what: &str, is_worth_nothing: bool) -> Result<(), Violation> {
    hold(Law::NothingLost, is_worth_nothing, || {
        format!("{what} for or from {machine} came again, and was not taken as the same")
    })
}

/// Law 9: an order that is sent is in the ledger.
///
/// # Errors
/// Which is not.
pub fn accountable(order: &Order, is_recorded: bool) -> Result<(), Violation> {
    hold(Law::Accountable, is_recorded, || {
        let by = match &order.authority {
            Authority::Policy { revision, .. } => format!("policy {revision}"),
            Authority::People { people, .. } => format!("{} people", people.len()),
        };
        format!("order {} by {by} was sent, and the ledger does not know it", order.id)
    })
}

/// Law 9: a document that a machine takes is in the ledger of who signed it.
///
/// # Errors
/// Which is not.
pub fn on_record(machine: MachineId, what: &str, is_recorded: bool) -> Result<(), Violation> {
    hold(Law::Accountable, is_recorded, || {
        format!("{machine} took {what}, and the ledger of its signer does not know it")
    })
}

/// Law 10: a serious finding that the hub has is acted on, asked about, or shown to people.
///
/// # Errors
/// That it lies unread.
pub fn attention(machine: MachineId, level: Level, is_seen_to: bool) -> Result<(), Violation> {
    hold(Law::Attention, level < Level::High || is_seen_to, || {
        format!("a {level} finding on {machine} was neither acted on, nor asked about, nor shown")
    })
}

/// Law 10: what was found and left to something (an order, a question, people's yes) is in somebody's hands until it
/// is dealt with: where that comes to nothing, people are asked again or told.
///
/// # Errors
/// On which machine it is in nobody's.
pub fn left(machine: MachineId, is_in_hands: bool) -> Result<(), Violation> {
    hold(Law::Attention, is_in_hands, || {
        format!("what was found on {machine} was left to what came to nothing, and nobody was told")
    })
}

/// Law 10: of a serious incident that nobody has had for long people are told.
///
/// # Errors
/// Which they were not told of.
pub fn owned(incident: IncidentId, is_unowned: bool, is_told: bool) -> Result<(), Violation> {
    hold(Law::Attention, !is_unowned || is_told, || {
        format!("nobody has {incident}, which is serious and old, and nobody was told")
    })
}

/// Law 10: what people said no to is not asked of them again in the same story, unless something new was found
/// on the machine since: who is asked again and again reads no more.
///
/// # Errors
/// About which machine they are.
pub fn asked_again(machine: MachineId, was_declined: bool) -> Result<(), Violation> {
    hold(Law::Attention, !was_declined, || {
        format!(
            "people are asked again about {machine} what they said no to, and nothing new was found"
        )
    })
}

/// Law 10: what was found while people were asked, and what their no does not cover, is asked about at once after
/// it, or seen to otherwise: it would lie unread until something is found again.
///
/// # Errors
/// On which machine nobody is asked.
pub fn asked_after_no(machine: MachineId, is_asked: bool) -> Result<(), Violation> {
    hold(Law::Attention, is_asked, || {
        format!(
            "people said no about {machine}, and are not asked about what was found there since they were asked"
        )
    })
}

/// Law 11: a message of `from` changed only what is `of` it.
///
/// # Errors
/// Who spoke for whom.
pub fn distrust(from: MachineId, of: MachineId, has_changed: bool) -> Result<(), Violation> {
    hold(Law::DistrustBelow, from == of || !has_changed, || {
        format!("{from} changed what is known of {of}")
    })
}

/// Law 8: what is kept of one machine stays within its limit, whatever it sends.
///
/// # Errors
/// How much is kept.
pub fn within(machine: MachineId, what: &str, kept: usize, most: usize) -> Result<(), Violation> {
    hold(Law::BadStaysSmall, kept <= most, || {
        format!("{kept} {what} are kept for {machine}, of {most} at the most")
    })
}

/// Law 8: a part of a message that is refused stops nothing after it: of reports up to number `last` all
/// were taken, or (the message was not) none.
///
/// # Errors
/// Where it stopped.
pub fn goes_on(
    machine: MachineId,
    highest_before: u64,
    last: u64,
    highest: u64,
) -> Result<(), Violation> {
    hold(Law::BadStaysSmall, highest == highest_before || highest >= last, || {
        format!("of {machine}'s reports up to {last} those after {highest} were not taken")
    })
}

/// Law 12: what is shown as a total is what there is, and its parts add up to it.
///
/// # Errors
/// What does not.
pub fn adds_up(what: &str, shown: usize, parts: &[usize], of: usize) -> Result<(), Violation> {
    let sum: usize = parts.iter().sum();
    hold(Law::NoGreenWithoutEvidence, shown == of && sum == of, || {
        format!("{shown} {what} are shown, in parts of {parts:?}, and there are {of}")
    })
}

/// Law 12: nothing is shown as newer than it is, but for the time that a word is on its way.
///
/// # Errors
/// How old it is said to be, and is.
pub fn age(
    machine: MachineId,
    shown: Duration,
    is: Duration,
    on_its_way: Duration,
) -> Result<(), Violation> {
    hold(Law::NoGreenWithoutEvidence, shown.saturating_add(on_its_way) >= is, || {
        format!("the last word of {machine} is shown as {shown:?} old, and is {is:?} old")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10])
    }

    fn person(name: &str, is_clinical: bool) -> Approver {
        Approver { name: name.into(), is_clinical }
    }

    #[test]
    fn the_laws_are_numbered_as_people_know_them() {
        assert_eq!(Law::Authority.number(), 1);
        assert_eq!(Law::NoGreenWithoutEvidence.number(), 12);
        assert_eq!(Law::Lease.to_string(), "law 2 (Lease)");
    }

    #[test]
    fn a_life_sustaining_machine_needs_two_people_one_of_them_clinical() {
        let judge = |people: &[Approver]| {
            lifelines(machine(), ClinicalTier::LifeSustaining, people, &[], &[]).is_ok()
        };
        assert!(!judge(&[]));
        assert!(!judge(&[person("ann", true)]));
        assert!(!judge(&[person("ann", true), person("ann", true)]));
        assert!(!judge(&[person("ann", false), person("bob", false)]));
        assert!(judge(&[person("ann", false), person("bob", true)]));
    }

    #[test]
    fn people_are_told_before_a_lease_ends_if_anybody_could() {
        let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [2; 10]);
        let seconds = Duration::from_secs;
        let judge = |at_work, told: Option<u64>| {
            let told = told.map(seconds);
            warned(measure, seconds(10), seconds(at_work), told, seconds(1)).is_ok()
        };
        assert!(judge(10, Some(10)) && judge(10, Some(2)));
        assert!(!judge(10, None) && !judge(2, None));
        assert!(!judge(10, Some(30)), "too early warns nobody");
        assert!(judge(1, None) && judge(0, None), "its holder was dead, or its lease shorter");
    }

    #[test]
    fn a_whole_kind_may_go_only_with_people() {
        assert!(last_of_kind("CT", &[Some(false), None]).is_ok());
        assert!(last_of_kind("CT", &[Some(false), Some(true)]).is_ok());
        assert!(last_of_kind("CT", &[Some(false), Some(false)]).is_err());
        assert!(last_of_kind("CT", &[]).is_ok());
    }

    #[test]
    fn the_budget_is_judged_in_every_window() {
        let limit = Budget { count: 2, window_seconds: 10, group_percent: 5 };
        let at = |seconds: &[u64]| -> Vec<Duration> {
            seconds.iter().map(|second| Duration::from_secs(*second)).collect()
        };
        assert!(budget(&limit, &at(&[0, 1, 11])).is_ok());
        assert!(budget(&limit, &at(&[0, 1, 9])).is_err());
        assert!(group_share(&limit, "ward", 100, 5).is_ok());
        assert!(group_share(&limit, "ward", 100, 6).is_err());
        assert!(group_share(&limit, "ward", 3, 1).is_ok());
    }

    #[test]
    fn what_a_flood_leaves_is_judged_by_limit_and_what_is_refused_stops_nothing() {
        assert!(within(machine(), "measures", 132, 132).is_ok());
        assert!(within(machine(), "measures", 133, 132).is_err());
        assert!(goes_on(machine(), 3, 9, 3).is_ok(), "nothing was taken");
        assert!(goes_on(machine(), 3, 9, 9).is_ok() && goes_on(machine(), 3, 9, 12).is_ok());
        assert!(goes_on(machine(), 3, 9, 5).is_err());
    }

    #[test]
    fn a_count_says_of_how_many_and_how_old() {
        assert!(adds_up("machines", 8, &[5, 2, 1], 8).is_ok());
        assert!(adds_up("machines", 7, &[5, 2], 8).is_err(), "one was left out");
        assert!(adds_up("machines", 8, &[5, 2], 8).is_err(), "one is in no part");
        let seconds = Duration::from_secs;
        assert!(age(machine(), seconds(10), seconds(12), seconds(5)).is_ok());
        assert!(age(machine(), seconds(0), seconds(12), seconds(5)).is_err());
        assert!(age(machine(), seconds(60), seconds(12), seconds(5)).is_ok(), "older is no lie");
    }

    #[test]
    fn what_is_claimed_is_what_the_kernel_has() {
        let judge = |state, kernel| truth(machine(), &state, Isolation::Segment, kernel).is_ok();
        assert!(judge(MeasureState::Verified, Some(Isolation::Segment)));
        assert!(!judge(MeasureState::Verified, None));
        assert!(!judge(MeasureState::Released, Some(Isolation::Segment)));
        assert!(judge(MeasureState::Applied, None), "applied claims no proof");
    }

    #[test]
    fn what_is_shown_as_in_force_is_in_the_kernel_and_what_is_said_to_be_unproven_need_not_be() {
        let measure = MeasureId::new(UtcNanos::from_unix_nanos(0), [2; 10]);
        let judge = |state, kernel| shown(machine(), measure, &state, kernel).is_ok();
        assert!(judge(MeasureState::Verified, Some(measure)));
        assert!(!judge(MeasureState::Verified, None) && !judge(MeasureState::Applied, None));
        assert!(judge(MeasureState::Unproven { why: "it says that it has none".into() }, None));
    }
}
