//! What the signer knows of one machine, and what changes it: its orders, and the machine's own word.
//!
//! The one idea (law 11): an order takes a machine's place as soon as it is signed; it is given back when people
//! ordered to open the machine and the machine's own sealed word says that it is open, and by no word of the
//! hub's.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::guidance::{Bedside, Guidance};
use cordon_model::ids::{ApprovalId, MeasureId, OrderId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Authority, Instruction, Order};
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use super::codes::Codes;

/// Orders that are remembered per machine to answer a repeated proposal alike. The hub repeats only what
/// it has no answer to, and has one proposal at a time per machine and cause: 8 is ample.
pub const REMEMBERED_ORDERS: usize = 8;

/// Ids of older orders that are remembered per machine, so that none names a second one: under an id that was
/// used, what the machine once sealed of the older order would pass for the newer. 16 bytes each, 64 KB for
/// a machine that had them all. Beyond that nothing begins under an id up to the highest forgotten one: ids are in
/// order of time.
pub const REMEMBERED_IDS: usize = 4_096;

/// How far ahead of the signer's clock an id may be without being counted: an hour is a clock set to local time.
pub const ID_AHEAD_WITHIN: Duration = Duration::from_secs(3600);

/// How many of the remembered ids may be further ahead than that; one more is not taken. A stolen hub chooses ids: were
/// all that are remembered of the year 9999, so would be the highest forgotten one, and no honest id ever above it.
/// A quarter: the others have room for 3,072 orders.
pub const REMEMBERED_IDS_AHEAD: usize = REMEMBERED_IDS / 4;

/// Measures that are remembered per machine as begun without any person: as many as a hub shows of it.
pub const REMEMBERED_BY_ITSELF: usize = cordon_model::limits::STANDING_PER_MACHINE;

/// How long after a machine was last heard it still counts as one that works: 2 minutes. The hub tells of each
/// machine in contact every 30 s, so that three words may be lost.
pub const WORKS_FOR: Duration = Duration::from_secs(120);

/// What the signer knows of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    pub(super) assignment: Assignment,
    /// Of the last order.
    pub(super) sequence: u64,
    /// The last orders, newest last.
    pub(super) recent: VecDeque<Order>,
    /// The ids of the orders before those, each good for one order only.
    #[serde(default)]
    pub(super) used: BTreeSet<OrderId>,
    /// The highest of those that there was no room for: nothing begins under one up to it.
    #[serde(default)]
    pub(super) forgotten: Option<OrderId>,
    /// How far it is meant to be isolated, by the last order or by its own report.
    pub(super) intended: Option<Isolation>,
    /// Every isolation that may be acting on it: signed and not known to be over, or reported.
    pub(super) measures: BTreeSet<MeasureId>,
    /// Every other measure that may be.
    pub(super) acts: BTreeSet<MeasureId>,
    /// Those of either that began without any person: by the policy's order, or by the machine's own permit.
    #[serde(default)]
    pub(super) by_itself: BTreeSet<MeasureId>,
    /// A break-glass code opened it by this measure: until that is over only people isolate it again.
    #[serde(default)]
    pub(super) held_open: Option<MeasureId>,
    /// Its break-glass codes.
    #[serde(default)]
    pub(super) codes: Option<Codes>,
    /// What the organisation says of it for the person in front of it.
    #[serde(default)]
    pub(super) bedside: Bedside,
    /// What that person is told, as signed last.
    #[serde(default)]
    pub(super) guidance: Option<Guidance>,
    /// Those of them that the machine itself denies: no finding is left to them, and its place stays taken.
    #[serde(default)]
    pub(super) denied: BTreeSet<MeasureId>,
    /// Those of the last orders that will never begin anything.
    #[serde(default)]
    pub(super) dead: BTreeSet<OrderId>,
    /// The last order to release it, and what may have been acting on it then: the machine's own receipt of
    /// that order ends these.
    #[serde(default)]
    pub(super) to_release: Option<(OrderId, BTreeSet<MeasureId>)>,
    /// When (in the signer's running time) it was last said to be in contact.
    #[serde(default)]
    pub(super) heard: Option<Duration>,
    /// The questions about it that the hub told of, and when (in the signer's running time); newest last.
    #[serde(default)]
    pub(super) asked: VecDeque<(ApprovalId, Duration)>,
}

impl Known {
    /// A machine that nothing was ever ordered for.
    pub(super) fn new(assignment: Assignment) -> Self {
        Self {
            assignment,
            sequence: 0,
            recent: VecDeque::new(),
            used: BTreeSet::new(),
            forgotten: None,
            intended: None,
            measures: BTreeSet::new(),
            acts: BTreeSet::new(),
            by_itself: BTreeSet::new(),
            held_open: None,
            codes: None,
            bedside: Bedside::default(),
            guidance: None,
            denied: BTreeSet::new(),
            dead: BTreeSet::new(),
            heard: None,
            to_release: None,
            asked: VecDeque::new(),
        }
    }

    /// Takes note of what the machine says of a measure; `is_by_permit`: it began it by a permit of its own.
    pub(super) fn learn(&mut self, receipt: &Receipt, is_by_permit: bool) {
        if receipt.state == MeasureState::Released && self.was_released_by(receipt) {
            // Sealed by the machine under the order's own id, so it can't be of another day.
        } else if receipt.state.is_over() {
            self.ended_by_its_word(receipt.measure, &receipt.state);
        } else if receipt.state.is_acting() && receipt.action.isolation().is_none() {
            self.learn_who_began(receipt, is_by_permit);
            // A machine holds no more than this many, whatever it says.
            if self.acts.len() < cordon_model::limits::MEASURES_PER_MACHINE {
                self.acts.insert(receipt.measure);
            }
        } else if receipt.state.is_acting() {
            self.learn_who_began(receipt, is_by_permit);
            // Its place is taken by one of them as by many.
            if self.measures.len() < cordon_model::limits::STANDING_PER_MACHINE {
                self.measures.insert(receipt.measure);
            }
            self.denied.remove(&receipt.measure);
            if matches!(receipt.origin, Origin::BreakGlass { .. }) {
                // Nothing is cut any more, whatever was ordered before.
                self.intended = None;
                self.held_open = Some(receipt.measure);
            }
            // After a release was signed, what the machine began by itself is about to end too.
            if matches!(receipt.origin, Origin::Permit { .. } | Origin::LeaseEnd(_))
                && !self.is_released()
            {
                self.intended = self.intended.max(receipt.action.isolation());
            }
        }
    }

    /// Of what the machine began by its permit, and of what follows at a lease's end. It has no say in what was
    /// ordered: that is known already.
    fn learn_who_began(&mut self, receipt: &Receipt, is_by_permit: bool) {
        let is_known =
            self.measures.contains(&receipt.measure) || self.acts.contains(&receipt.measure);
        if is_known {
            return;
        }
        let is_by_itself = match receipt.origin {
            // What follows takes the place of what was before.
            Origin::LeaseEnd(before) => self.by_itself.remove(&before),
            Origin::Permit { .. } | Origin::Order(_) | Origin::BreakGlass { .. } => is_by_permit,
        };
        if is_by_itself {
            self.note_by_itself(receipt.measure);
        }
    }

    /// Kept beyond the measure's end, for what follows it, until it is taken back; the oldest is forgotten first, and
    /// then counts as people's.
    fn note_by_itself(&mut self, measure: MeasureId) {
        self.by_itself.insert(measure);
        if self.by_itself.len() > REMEMBERED_BY_ITSELF {
            self.by_itself.pop_first();
        }
    }

    /// Whether this takes back only what began without any person.
    pub(super) fn takes_back_only_its_own(&self, instruction: &Instruction) -> bool {
        match instruction {
            Instruction::Undo { measure } => self.by_itself.contains(measure),
            Instruction::Release => {
                !self.measures.is_empty() && self.measures.is_subset(&self.by_itself)
            }
            Instruction::Begin { .. } | Instruction::Renew { .. } => false,
        }
    }

    /// Whether it is, or may be, isolated for all that is known.
    pub(super) fn may_be_contained(&self) -> bool {
        self.intended.is_some() || !self.measures.is_empty()
    }

    /// Whether it was in contact of late.
    pub(super) fn was_heard(&self, running: Duration) -> bool {
        self.heard.is_some_and(|heard| running.saturating_sub(heard) <= WORKS_FOR)
    }

    /// Whether it was, and nothing is known that may isolate it.
    pub(super) fn surely_works(&self, running: Duration) -> bool {
        self.was_heard(running) && !self.may_be_contained()
    }

    /// Whether the newest order about its isolation that is not dead, renewals aside, is to end it.
    fn is_released(&self) -> bool {
        let living = self.recent.iter().rev().filter(|order| !self.dead.contains(&order.id));
        for order in living {
            match &order.instruction {
                Instruction::Release => return true,
                Instruction::Undo { measure } if self.measures.contains(measure) => return true,
                Instruction::Begin { action: Action::Isolate(_), .. } => return false,
                Instruction::Begin { .. }
                | Instruction::Undo { .. }
                | Instruction::Renew { .. } => {}
            }
        }
        false
    }

    /// Whether an older order has this id.
    pub(super) fn is_taken(&self, id: OrderId) -> bool {
        self.used.contains(&id)
    }

    /// Whether there is place to remember this id: it is not far ahead, or few are.
    pub(super) fn has_place_for(&self, id: OrderId, now: UtcNanos) -> bool {
        let is_ahead = |id: &OrderId| id.made_at() > now.plus(ID_AHEAD_WITHIN);
        let ahead = || {
            let older = self.used.iter().rev().take_while(|id| is_ahead(id)).count();
            older + self.recent.iter().filter(|order| is_ahead(&order.id)).count()
        };
        !is_ahead(&id) || ahead() < REMEMBERED_IDS_AHEAD
    }

    /// Whether an older order may have had this id, which is forgotten by now.
    pub(super) fn may_be_taken(&self, id: OrderId) -> bool {
        Some(id) <= self.forgotten
    }

    /// Remembers an id for as long as there is room. The new one may be the lowest itself: where all others are ahead
    /// (the clock was set back), it is the one that is forgotten, and ids of now go on.
    fn remember(&mut self, id: OrderId) {
        if self.may_be_taken(id) {
            return;
        }
        self.used.insert(id);
        if self.used.len() > REMEMBERED_IDS {
            self.forgotten = self.used.pop_first().max(self.forgotten);
        }
    }

    /// Takes note of an order that is about to be signed.
    pub(super) fn note(&mut self, order: &Order) {
        match &order.instruction {
            Instruction::Begin { action, if_isolated, .. } => {
                if let Some(isolation) = action.isolation() {
                    // It isolates nothing that is open: there no finding is left to it.
                    self.intended = match if_isolated {
                        Some(_) => self.intended.min(Some(isolation)),
                        None => Some(isolation),
                    };
                    self.measures.insert(order.id.into());
                } else {
                    self.acts.insert(order.id.into());
                }
                if matches!(order.authority, Authority::Policy { .. }) {
                    self.note_by_itself(order.id.into());
                }
            }
            // What people have go on is theirs from then on.
            Instruction::Renew { measure, .. } => drop(self.by_itself.remove(measure)),
            // What is in force stays noted until the machine says that it is over.
            Instruction::Undo { measure } => {
                self.by_itself.remove(measure);
                if self.measures.contains(measure) {
                    self.intended = None;
                }
            }
            Instruction::Release => {
                self.intended = None;
                self.by_itself.retain(|measure| !self.measures.contains(measure));
                // What the machine sealed of an older order under this id would pass for its word of this one.
                if !self.may_be_taken(order.id) {
                    self.to_release = Some((order.id, self.measures.clone()));
                }
            }
        }
        if self.recent.len() >= REMEMBERED_ORDERS
            && let Some(forgotten) = self.recent.pop_front()
        {
            self.dead.remove(&forgotten.id);
            self.remember(forgotten.id);
        }
        self.recent.push_back(order.clone());
    }

    /// How far it is isolated or about to be, for all that a finding may be left to.
    pub(super) fn contained(&self) -> Option<Isolation> {
        let is_denied = !self.measures.is_empty() && self.measures.is_subset(&self.denied);
        self.intended.filter(|_| !is_denied)
    }

    /// A machine says that a measure is over. Its last one ends only where people released it and it says
    /// that it is released: else a machine that lies would free its own place, and could pass for a stand-in
    /// that works (law 11). What took its place, or what it claims did, counts for it; and where its lease
    /// ended something did, though a stolen hub may keep the word of it to itself, and the release too.
    fn ended_by_its_word(&mut self, measure: MeasureId, state: &MeasureState) {
        if self.held_open == Some(measure) {
            self.held_open = None;
        }
        let is_last = self.measures.len() == 1 && self.measures.contains(&measure);
        let is_free = *state == MeasureState::Released && self.is_released();
        if is_last && !is_free {
            self.denied.insert(measure);
        } else {
            self.end(measure);
        }
    }

    /// Whether this receipt shows that the last order to release it was carried out; then what had begun
    /// before that order is over.
    fn was_released_by(&mut self, receipt: &Receipt) -> bool {
        let shows = |order: &OrderId| {
            receipt.origin == Origin::Order(*order) && receipt.measure == (*order).into()
        };
        let Some((_, ended)) = self.to_release.take_if(|(order, _)| shows(order)) else {
            return false;
        };
        ended.into_iter().for_each(|measure| self.end(measure));
        true
    }

    fn end(&mut self, measure: MeasureId) {
        self.acts.remove(&measure);
        if self.held_open == Some(measure) {
            self.held_open = None;
        }
        self.denied.remove(&measure);
        if self.measures.remove(&measure) && self.measures.is_empty() {
            self.intended = None;
        }
    }
}
