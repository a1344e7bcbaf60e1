//! What is known of every machine, in memory, for reading.
//!
//! The one idea: the store is the truth and [`work`](crate::work) changes it; the board mirrors it and
//! adds what only lives as long as a connection (who is linked, who was heard a second ago), so that a
//! page of machines costs no query and no lock is held for longer than a copy.
//!
//! Its size: about 1 KB a machine without lifelines; at the signer's limit of 100,000 machines 100 MB.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::holds::Holds;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::limits;
use cordon_model::measure::{Isolation, MeasureState, Origin};
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use cordon_model::wire::Status;
use cordon_respond::hub_core::WayWord;
use cordon_respond::signer_core::CodesRow;
use cordon_store::{Seen, StoredMeasure};
use ed25519_dalek::VerifyingKey;

use crate::attention::Standing;
use crate::guidance::Basis;
use crate::signer::{self, ClientError};
use crate::view::{
    Contact, EventCounts, LedgerStatus, Lowers, MachineRow, NameNow, Refused, ToConfirm,
};

/// A machine is silent when it was not heard for this long: agents speak every 2 s, so four times
/// nothing.
pub const SILENT_AFTER: Duration = Duration::from_secs(8);

/// How long after the signer refused a document as one too many people are told so: three minutes. What waits is asked
/// for again every minute.
const HELD_UP_FOR: Duration = Duration::from_secs(180);

/// Statuses after a receipt by which a measure is over that must say that it is held all the same: the first
/// may say what was so before. As the hub's mind counts (`respond::hub_core::truth`).
const SAID_AFTER_ITS_END: u8 = 2;

/// What is known of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub host: String,
    pub enrolled_at: UtcNanos,
    pub receipt_key: Option<VerifyingKey>,
    pub assignment: Option<Arc<Assignment>>,
    pub seen: Option<Seen>,
    /// What it said since it was last written to the store.
    pub is_unsaved: bool,
    pub link: Option<u64>,
    pub address: Option<IpAddr>,
    pub is_struck_off: bool,
    /// When something of it was last not seen that should have been.
    pub gap_at: Option<UtcNanos>,
    pub measures: BTreeMap<MeasureId, Known>,
    /// Measures of which a receipt shows that they are over, and how many statuses in a row have said since
    /// that they are held: those that the last status said, and what ended after it.
    pub ended: BTreeMap<MeasureId, u8>,
    /// How the names of its lifelines were when they were last looked up.
    pub names: Vec<NameNow>,
    /// How its break-glass codes are, as the signer last said.
    pub codes: Option<CodesRow>,
    /// Of which revision the hub has their hashes (0: none).
    pub codes_kept: u64,
    /// Which version of the protocol is written down of it (0: none).
    pub version_kept: u16,
    /// What it says of its way to the hub, as it is written down.
    pub way: WayWord,
    /// What the guidance that was signed last was made from, since the start.
    pub guided_by: Option<Basis>,
    /// Of which revision the hub has its guidance (0: none).
    pub guidance_kept: u64,
}

/// What is known of a measure that is not over.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub action: Action,
    pub state: MeasureState,
    /// Its machine says that it does not hold it.
    pub is_denied: bool,
    /// Since when it is in this state, by the hub's clock.
    pub since: UtcNanos,
    /// The number of the break-glass code that began it, and when by the machine's clock.
    pub opened_by: Option<(u8, UtcNanos)>,
}

impl Known {
    pub fn of(measure: &StoredMeasure) -> Self {
        let StoredMeasure { action, state, is_denied, since, receipt, .. } = measure.clone();
        let opened_by = receipt.and_then(|receipt| match receipt.origin {
            Origin::BreakGlass { code, .. } => Some((code, receipt.at)),
            Origin::Order(_) | Origin::Permit { .. } | Origin::LeaseEnd(_) => None,
        });
        Self { action, state, is_denied, since, opened_by }
    }

    /// Whether it may be changing its machine, and its machine does not deny it.
    pub fn is_acting(&self) -> bool {
        self.state.is_acting() && !self.is_denied
    }
}

impl Card {
    /// A machine that has enrolled and of which nothing else is known.
    pub fn new(host: String, enrolled_at: UtcNanos, receipt_key: Option<VerifyingKey>) -> Self {
        Self {
            host,
            enrolled_at,
            receipt_key,
            assignment: None,
            seen: None,
            is_unsaved: false,
            link: None,
            address: None,
            is_struck_off: false,
            gap_at: None,
            measures: BTreeMap::new(),
            ended: BTreeMap::new(),
            names: Vec::new(),
            codes: None,
            codes_kept: 0,
            version_kept: 0,
            way: WayWord::default(),
            guided_by: None,
            guidance_kept: 0,
        }
    }

    pub fn name(&self) -> &str {
        self.assignment.as_ref().map_or(&self.host, |assignment| &assignment.name)
    }

    pub fn contact(&self, now: UtcNanos) -> Contact {
        match (&self.seen, self.link) {
            (None, _) => Contact::Never,
            (Some(seen), Some(_)) if now.since(seen.at) <= SILENT_AFTER => {
                Contact::Linked { heard: seen.at }
            }
            (Some(seen), _) => Contact::Silent { heard: seen.at },
        }
    }

    /// What the machine last said that it holds, on its last link.
    pub fn holds(&self) -> Option<&Holds> {
        self.seen.as_ref()?.status.as_ref().map(|status| &status.holds)
    }

    /// The machine has said how it is.
    pub fn heard(&mut self, status: &Status) {
        self.ended.retain(|measure, _| status.holds.holding(*measure).is_some());
        self.ended.values_mut().for_each(|times| *times = times.saturating_add(1));
    }

    /// A measure is this now.
    pub fn take(&mut self, measure: &StoredMeasure) {
        if !measure.state.is_over() {
            self.measures.insert(measure.id, Known::of(measure));
            return;
        }
        self.measures.remove(&measure.id);
        if measure.receipt.as_ref().is_some_and(|receipt| receipt.state.is_over()) {
            if self.ended.len() >= limits::STANDING_PER_MACHINE {
                self.ended.pop_first();
            }
            self.ended.insert(measure.id, 0);
        }
    }

    /// The strongest isolation that is ordered or in force; watching cuts nothing.
    fn ordered(&self) -> Option<Isolation> {
        self.measures.values().filter_map(|known| known.action.isolation()).max()
    }

    /// The strongest isolation that the machine says it holds, but for what its own receipt has since shown
    /// to be over: that status is the older word.
    fn held(&self) -> Option<Isolation> {
        let is_older_word = |measure: MeasureId| {
            self.ended.get(&measure).is_some_and(|times| *times < SAID_AFTER_ITS_END)
        };
        let held = self.holds()?.known().iter();
        let held = held.filter(|holding| !is_older_word(holding.measure));
        held.filter_map(|holding| holding.isolation).max()
    }

    /// How far it says that it is isolated, where that is further than anything that was ordered or shown.
    pub fn held_further(&self) -> Option<Isolation> {
        self.held().filter(|held| Some(*held) > self.ordered())
    }

    /// The strongest isolation that is ordered or in force, or that the machine says it holds.
    pub fn isolation(&self) -> Option<Isolation> {
        self.ordered().max(self.held())
    }

    /// The weakest truth over its isolations that are not over; `None` where the strongest is the machine's
    /// word alone, for nothing has shown that.
    pub fn truth(&self) -> Option<MeasureState> {
        if self.held_further().is_some() {
            return None;
        }
        let isolations = self.measures.values().filter(|known| known.action.isolation().is_some());
        let states = isolations.map(|known| &known.state);
        states.min_by_key(|state| strength(state)).cloned()
    }

    /// By which code somebody opened it, and when by its own clock, while only people isolate it.
    pub fn opened_by(&self) -> Option<(u8, UtcNanos)> {
        self.measures.values().filter_map(|known| known.opened_by).max_by_key(|(_, at)| *at)
    }

    /// Why nobody knows what is in force on it now, if so.
    pub fn unknown(&self) -> Option<String> {
        match (&self.seen, self.holds()) {
            (None, _) => Some("it was never heard".to_owned()),
            (Some(_), None) => Some("it has not said since it connected".to_owned()),
            (Some(_), Some(holds)) => holds.unknown().map(str::to_owned),
        }
    }

    /// Whether an isolation acts on it, proven or not, for all that it says itself.
    pub fn is_cut_off(&self) -> bool {
        let cuts = |known: &Known| known.action.isolation() > Some(Isolation::Watch);
        self.measures.values().any(|known| cuts(known) && known.is_acting())
    }

    /// Whether it surely works: it is in contact, and nothing that anybody knows of may be cutting it off.
    pub fn surely_works(&self, now: UtcNanos) -> bool {
        matches!(self.contact(now), Contact::Linked { .. })
            && self.unknown().is_none()
            && self.isolation().is_none_or(|isolation| isolation == Isolation::Watch)
    }

    /// Its word by which the policy does less to it, if it gave one.
    fn lowers(&self) -> Option<Lowers> {
        let WayWord { way, since, lowered, .. } = &self.way;
        let since = since.filter(|_| way.may_lose_the_hub())?;
        Some(Lowers { since, times: *lowered })
    }

    pub fn row(&self, id: MachineId, now: UtcNanos) -> MachineRow {
        let assignment = self.assignment.as_deref();
        let coverage = self.seen.iter().flat_map(|seen| &seen.coverage);
        MachineRow {
            id,
            name: self.name().to_owned(),
            host: self.host.clone(),
            tier: assignment.and_then(|assignment| assignment.tier),
            kind: assignment.and_then(|assignment| assignment.kind.clone()),
            group: assignment.and_then(|assignment| assignment.group.clone()),
            contact: self.contact(now),
            isolation: self.isolation(),
            truth: self.truth(),
            opened_by_code: self.opened_by().map(|(code, _)| code),
            unknown: self.unknown(),
            gaps: coverage.filter(|coverage| coverage.gap.is_some()).cloned().collect(),
            lowers: self.lowers(),
            to_confirm: self
                .names
                .iter()
                .filter(|name| !name.to_confirm.is_empty())
                .map(|name| ToConfirm {
                    host: name.host.clone(),
                    addresses: name.to_confirm.clone(),
                })
                .collect(),
            counts: self
                .seen
                .as_ref()
                .and_then(|seen| seen.status.as_ref())
                .map(|status| EventCounts { seen: status.events, lost: status.lost }),
        }
    }
}

/// How much a state proves; the least is said.
fn strength(state: &MeasureState) -> u8 {
    match state {
        MeasureState::Unproven { .. } => 0,
        MeasureState::Requested => 1,
        MeasureState::Delivered => 2,
        MeasureState::Applied => 3,
        MeasureState::Verified => 4,
        MeasureState::SteppedDown
        | MeasureState::Superseded
        | MeasureState::Released
        | MeasureState::Done
        | MeasureState::Failed { .. } => 5,
    }
}

/// Revisions of a machine's documents; 0: it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Revisions {
    pub assignment: u64,
    pub codes: u64,
    pub guidance: u64,
    pub version: u16,
    pub way: u64,
}

/// Everything that is read often.
#[derive(Debug)]
pub(crate) struct Board {
    machines: RwLock<BTreeMap<MachineId, Card>>,
    policy: RwLock<Arc<Policy>>,
    standing: Mutex<Standing>,
    signer_away: Mutex<Option<String>>,
    /// When the signer last refused a document of the hub's because there were too many, and its words.
    held_up: Mutex<Option<(UtcNanos, String)>>,
    ledger_alarm: Mutex<Option<String>>,
    set_aside: Mutex<Option<String>>,
    ledger: Mutex<LedgerStatus>,
    pub refused_enrolments: AtomicU64,
    pub refused_links: AtomicU64,
    pub refused_messages: AtomicU64,
    /// What the hub's mind did not take, of all that could be read.
    pub refused_words: AtomicU64,
}

impl Board {
    pub fn new(policy: Policy, machines: BTreeMap<MachineId, Card>) -> Self {
        Self {
            machines: RwLock::new(machines),
            policy: RwLock::new(Arc::new(policy)),
            standing: Mutex::default(),
            signer_away: Mutex::default(),
            held_up: Mutex::default(),
            ledger_alarm: Mutex::default(),
            set_aside: Mutex::default(),
            ledger: Mutex::default(),
            refused_enrolments: AtomicU64::new(0),
            refused_links: AtomicU64::new(0),
            refused_messages: AtomicU64::new(0),
            refused_words: AtomicU64::new(0),
        }
    }

    pub fn machines(&self) -> RwLockReadGuard<'_, BTreeMap<MachineId, Card>> {
        self.machines.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn machines_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<MachineId, Card>> {
        self.machines.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of which revisions a machine's documents are on disk.
    pub fn revisions(&self, id: MachineId) -> Revisions {
        self.machines().get(&id).map_or(Revisions::default(), |card| Revisions {
            assignment: card.assignment.as_ref().map_or(0, |assignment| assignment.revision),
            codes: card.codes_kept,
            guidance: card.guidance_kept,
            version: card.version_kept,
            way: card.way.revision,
        })
    }

    pub fn card(&self, id: MachineId) -> Option<Card> {
        self.machines().get(&id).cloned()
    }

    pub fn change(&self, id: MachineId, change: impl FnOnce(&mut Card)) {
        if let Some(card) = self.machines_mut().get_mut(&id) {
            change(card);
        }
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// A measure is this now.
    pub fn measure(&self, measure: &StoredMeasure) {
        self.change(measure.machine, |card| card.take(measure));
    }

    /// What stands and waits for people: questions, incidents that nobody has.
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        lock(&self.standing)
    }

    pub fn set_signer_away(&self, why: Option<String>) {
        *lock(&self.signer_away) = why;
    }

    pub fn signer_away(&self) -> Option<String> {
        lock(&self.signer_away).clone()
    }

    /// Takes note that the signer signed so many documents that this one waits.
    pub fn note_held_up(&self, error: &ClientError, now: UtcNanos) {
        if let ClientError::Refused(why @ signer::Refused::TooMany(_)) = error {
            *lock(&self.held_up) = Some((now, why.to_string()));
        }
    }

    /// Why documents wait, where the signer has said so of late.
    pub fn held_up(&self, now: UtcNanos) -> Option<String> {
        let (at, why) = lock(&self.held_up).clone()?;
        (now.since(at) <= HELD_UP_FOR).then_some(why)
    }

    pub fn set_ledger_alarm(&self, why: Option<String>) {
        *lock(&self.ledger_alarm) = why;
    }

    /// Which rows could not be read at the start, in words.
    pub fn set_set_aside(&self, what: Option<String>) {
        *lock(&self.set_aside) = what;
    }

    pub fn set_aside(&self) -> Option<String> {
        lock(&self.set_aside).clone()
    }

    pub fn ledger_alarm(&self) -> Option<String> {
        lock(&self.ledger_alarm).clone()
    }

    pub fn set_ledger(&self, status: LedgerStatus) {
        *lock(&self.ledger) = status;
    }

    pub fn ledger(&self) -> LedgerStatus {
        *lock(&self.ledger)
    }

    pub fn refused(&self) -> Refused {
        Refused {
            enrolments: self.refused_enrolments.load(Ordering::Relaxed),
            links: self.refused_links.load(Ordering::Relaxed),
            messages: self
                .refused_messages
                .load(Ordering::Relaxed)
                .saturating_add(self.refused_words.load(Ordering::Relaxed)),
        }
    }

    /// Which machines have these addresses; an address that several share (behind one translator) names
    /// none.
    pub fn machines_at(&self, addresses: &[IpAddr]) -> Vec<MachineId> {
        if addresses.is_empty() {
            return Vec::new();
        }
        let machines = self.machines();
        let mut found: HashMap<IpAddr, Option<MachineId>> = HashMap::new();
        for (id, card) in machines.iter() {
            if let Some(address) = card.address.filter(|address| addresses.contains(address)) {
                found.entry(address).and_modify(|who| *who = None).or_insert(Some(*id));
            }
        }
        found.into_values().flatten().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cordon_model::action::ActionKind;
    use cordon_model::holds::Holding;
    use cordon_model::measure::{Proof, Receipt};
    use cordon_model::time::{BootId, BootNanos};

    pub(crate) fn card() -> Card {
        let nothing = Card::new("DESKTOP-4F2K".into(), UtcNanos::from_unix_nanos(0), None);
        Card { link: Some(1), ..nothing }
    }

    pub(crate) fn measure(
        number: u8,
        how: Isolation,
        origin: Origin,
        state: MeasureState,
    ) -> StoredMeasure {
        let at = UtcNanos::from_unix_nanos(0);
        let (id, machine) = (MeasureId::new(at, [number; 10]), MachineId::new(at, [1; 10]));
        let proof = state.is_acting().then(|| Proof {
            table_handle: Some(1),
            is_read_back: true,
            probes: vec![],
            unproven: vec![],
            at: BootNanos(1),
        });
        let receipt = Receipt {
            machine,
            measure: id,
            origin,
            action: Action::Isolate(how),
            state: state.clone(),
            proof,
            lease_ends: None,
            boot: BootId("boot".into()),
            at_boot: BootNanos(1),
            at,
            sockets_cut: 0,
            done: vec![],
            spared: Vec::new(),
        };
        let action = Action::Isolate(how);
        StoredMeasure {
            id,
            machine,
            action,
            state,
            is_denied: false,
            since: at,
            receipt: Some(receipt),
        }
    }

    pub(crate) fn by_order() -> Origin {
        Origin::Order(cordon_model::ids::OrderId::new(UtcNanos::from_unix_nanos(0), [9; 10]))
    }

    pub(crate) fn says(card: &mut Card, held: &[(u8, Isolation)]) {
        let at = UtcNanos::from_unix_nanos(0);
        let holding = |(number, isolation): &(u8, Isolation)| Holding {
            measure: MeasureId::new(at, [*number; 10]),
            kind: ActionKind::Isolate,
            isolation: Some(*isolation),
            lease_ends: BootNanos(u64::MAX),
        };
        says_that(card, Holds::Measures(held.iter().map(holding).collect()));
    }

    pub(crate) fn says_nobody_knows(card: &mut Card, why: &str) {
        says_that(card, Holds::Unknown { why: why.to_owned() });
    }

    fn says_that(card: &mut Card, holds: Holds) {
        let at = UtcNanos::from_unix_nanos(0);
        let at_boot = BootNanos(5);
        let status =
            Status { at_boot, holds, rules: 1, events: 0, lost: 0, break_glass: 0, guidance: 0 };
        card.heard(&status);
        card.seen = Some(Seen {
            at,
            boot: BootId("boot".into()),
            build: String::new(),
            coverage: vec![],
            status: Some(status),
        });
    }

    #[test]
    fn what_a_receipt_shows_to_be_over_is_not_shown_by_the_status_of_before() {
        let mut card = card();
        let segment = |state| measure(1, Isolation::Segment, by_order(), state);
        card.take(&segment(MeasureState::Verified));
        says(&mut card, &[(1, Isolation::Segment)]);
        assert_eq!(card.isolation(), Some(Isolation::Segment));
        assert_eq!(card.truth(), Some(MeasureState::Verified));
        card.take(&segment(MeasureState::Released));
        assert_eq!((card.isolation(), card.truth()), (None, None), "the status is the older word");
        // One more may have been on its way, or repeat what was so before.
        says(&mut card, &[(1, Isolation::Segment)]);
        assert_eq!(card.isolation(), None);
        // But what the machine goes on saying counts: it is no better off than it says.
        says(&mut card, &[(1, Isolation::Segment)]);
        assert_eq!((card.isolation(), card.truth()), (Some(Isolation::Segment), None));
        says(&mut card, &[]);
        assert_eq!((card.isolation(), card.ended.len()), (None, 0));
        // The end of one hides no other.
        card.take(&segment(MeasureState::Released));
        says(&mut card, &[(2, Isolation::Full)]);
        assert_eq!(card.isolation(), Some(Isolation::Full));
    }

    #[test]
    fn that_documents_wait_is_said_while_the_signer_refuses_them_and_not_for_ever() {
        let board = Board::new(Policy::default_for("RJ1".parse().unwrap()), BTreeMap::new());
        let at = |seconds: i64| UtcNanos::from_unix_nanos(seconds * 1_000_000_000);
        let other = ClientError::Refused(signer::Refused::BadName);
        board.note_held_up(&other, at(0));
        assert_eq!(board.held_up(at(0)), None);
        let too_many = signer::Refused::TooMany("more than 60 at once".into());
        board.note_held_up(&ClientError::Refused(too_many), at(1));
        assert!(board.held_up(at(60)).unwrap().contains("root frees it at once"));
        assert_eq!(board.held_up(at(300)), None);
    }

    #[test]
    fn what_the_machine_alone_says_has_not_the_truth_of_a_milder_measure() {
        let mut card = card();
        card.take(&measure(1, Isolation::Segment, by_order(), MeasureState::Verified));
        says(&mut card, &[(1, Isolation::Segment), (2, Isolation::Full)]);
        assert_eq!((card.isolation(), card.truth()), (Some(Isolation::Full), None));
    }
}
