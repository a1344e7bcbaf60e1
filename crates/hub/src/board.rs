//! What is known of every machine, in memory, for reading.
//!
//! The one idea: the store is the truth and [`work`](crate::work) changes it; the board mirrors it and
//! adds what only lives as long as a connection (who is linked, who was heard a second ago), so that a
//! page of machines costs no query and no lock is held for longer than a copy.
//!
//! Its size: about 1 KB a machine without lifelines; at the signer's limit of 100,000 machines 100 MB.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::holds::Holds;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use cordon_respond::signer_core::CodesRow;
use cordon_store::{Seen, StoredMeasure};
use ed25519_dalek::VerifyingKey;

use crate::guidance::Basis;
use crate::view::{Attention, Contact, EventCounts, LedgerStatus, MachineRow, Refused};

/// A machine is silent when it was not heard for this long: agents speak every 2 s, so four times
/// nothing.
pub const SILENT_AFTER: Duration = Duration::from_secs(8);

/// Things that people must see, kept in memory: 256 of about 200 bytes; the oldest give way. The
/// incidents themselves stay open, and are on disk.
const MOST_ATTENTION: usize = 256;

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
    pub measures: BTreeMap<MeasureId, Known>,
    /// How its break-glass codes are, as the signer last said.
    pub codes: Option<CodesRow>,
    /// Of which revision the hub has their hashes (0: none).
    pub codes_kept: u64,
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
}

impl Known {
    pub fn of(measure: &StoredMeasure) -> Self {
        let StoredMeasure { action, state, is_denied, .. } = measure.clone();
        Self { action, state, is_denied }
    }

    /// Whether it may be changing its machine, and its machine does not deny it.
    pub fn is_acting(&self) -> bool {
        self.state.is_acting() && !self.is_denied
    }
}

impl Card {
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
    fn holds(&self) -> Option<&Holds> {
        self.seen.as_ref()?.status.as_ref().map(|status| &status.holds)
    }

    /// The strongest isolation that is ordered or in force, or that the machine says it holds; watching
    /// cuts nothing.
    pub fn isolation(&self) -> Option<Isolation> {
        let known = self.measures.values().filter_map(|known| known.action.isolation()).max();
        known.max(self.holds().and_then(Holds::isolation))
    }

    /// The weakest truth over its isolations that are not over.
    pub fn truth(&self) -> Option<MeasureState> {
        let isolations = self.measures.values().filter(|known| known.action.isolation().is_some());
        let states = isolations.map(|known| &known.state);
        states.min_by_key(|state| strength(state)).cloned()
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
            unknown: self.unknown(),
            gaps: coverage.filter(|coverage| coverage.gap.is_some()).cloned().collect(),
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

/// Everything that is read often.
#[derive(Debug)]
pub(crate) struct Board {
    machines: RwLock<BTreeMap<MachineId, Card>>,
    policy: RwLock<Arc<Policy>>,
    attention: Mutex<VecDeque<Attention>>,
    signer_away: Mutex<Option<String>>,
    ledger_alarm: Mutex<Option<String>>,
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
            attention: Mutex::default(),
            signer_away: Mutex::default(),
            ledger_alarm: Mutex::default(),
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
        self.change(measure.machine, |card| {
            if measure.state.is_over() {
                card.measures.remove(&measure.id);
            } else {
                card.measures.insert(measure.id, Known::of(measure));
            }
        });
    }

    pub fn add_attention(&self, attention: Attention) {
        let mut list = lock(&self.attention);
        // Told again is the same news.
        list.retain(|known| known.notice != attention.notice);
        if let Some(machine) = attention.notice.machine() {
            // The same of the same machine again is the same news: no machine pushes others' out of sight.
            let kind = std::mem::discriminant(&attention.notice);
            list.retain(|known| {
                known.notice.machine() != Some(machine)
                    || std::mem::discriminant(&known.notice) != kind
            });
        }
        if list.len() >= MOST_ATTENTION {
            list.pop_front();
        }
        list.push_back(attention);
    }

    pub fn attention(&self) -> Vec<Attention> {
        lock(&self.attention).iter().rev().cloned().collect()
    }

    pub fn set_signer_away(&self, why: Option<String>) {
        *lock(&self.signer_away) = why;
    }

    pub fn signer_away(&self) -> Option<String> {
        lock(&self.signer_away).clone()
    }

    pub fn set_ledger_alarm(&self, why: Option<String>) {
        *lock(&self.ledger_alarm) = why;
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
mod tests {
    use super::*;
    use cordon_model::ids::MeasureId;
    use cordon_respond::hub_core::Notice;

    #[test]
    fn one_machine_does_not_push_the_others_out_of_sight() {
        let policy = Policy::default_for("RJ1".parse().unwrap());
        let board = Board::new(policy, BTreeMap::new());
        let at = UtcNanos::from_unix_nanos(0);
        let machine = |number| MachineId::new(at, [number; 10]);
        let code = Notice::OpenedByCode { machine: machine(1), code: 3, at };
        board.add_attention(Attention { at, notice: code.clone() });
        for number in 0..2 * MOST_ATTENTION {
            let measure = MeasureId::new(at, [u8::try_from(number % 256).unwrap(); 10]);
            let notice = Notice::NotInForce { machine: machine(2), measure, why: "again".into() };
            board.add_attention(Attention { at, notice });
        }
        let left: Vec<Notice> = board.attention().into_iter().map(|item| item.notice).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&code));
    }
}
