//! The life of an order and of a measure, as the hub sees them.
//!
//! The one idea: an order has a **delivery** (has the machine got it?), a measure has a **state** (what does
//! the machine show?), and neither ever goes back. A late or repeated message changes nothing; what is over
//! stays over; and while the hub can't know whether a machine took an order, it goes on asking. A receipt
//! shows what was once; what the machine says that it holds now may take the hub's trust in it away, and
//! give it back (law 4; [`hub_core`](crate::hub_core) decides which).

use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Authority, Instruction, Order};
use cordon_model::signed::Envelope;
use cordon_model::time::{BootNanos, UtcNanos};
use serde::{Deserialize, Serialize};

/// How long the hub waits for a machine that is in contact to say that it has an order, before it sends
/// it again: 2 s, some hundred times the usual answer.
pub const RETRY: Duration = Duration::from_secs(2);

/// Whether the machine has an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Delivery {
    /// Never sent: can be dropped without a trace.
    Waiting,
    /// Sent at least once. Only the machine can say whether it took it.
    Sent,
    /// The machine has it on its disk.
    Taken,
    /// It will never be taken.
    Dead {
        /// Why: superseded, too late, or the machine's refusal.
        why: String,
    },
}

/// A signed order on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderLife {
    /// The order.
    pub order: Order,
    /// As it was signed.
    pub envelope: Envelope,
    /// Where it is.
    pub delivery: Delivery,
    /// When it was last sent; forgotten at a restart, and then it is sent again.
    #[serde(skip)]
    pub last_sent: Option<BootNanos>,
}

impl OrderLife {
    /// An order fresh from the signer.
    #[must_use]
    pub fn new(order: Order, envelope: Envelope) -> Self {
        Self { order, envelope, delivery: Delivery::Waiting, last_sent: None }
    }

    /// Whether it has still to be brought to its machine.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.delivery, Delivery::Waiting | Delivery::Sent)
    }

    /// Whether it will never be taken.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.delivery, Delivery::Dead { .. })
    }

    /// Whether it is to be sent now.
    #[must_use]
    pub fn is_due(&self, now: BootNanos) -> bool {
        self.is_open() && self.last_sent.is_none_or(|sent| now.since(sent) >= RETRY)
    }

    /// Whether it says how far the machine is to be cut off, or that it is not.
    #[must_use]
    pub fn is_of_isolation(&self) -> bool {
        is_of_isolation(&self.order.instruction)
    }

    /// Whether an earlier order that was never sent need not be: the newest word on how far the machine is cut
    /// off counts, and what is taken back need not be begun.
    #[must_use]
    pub fn replaces(&self, earlier: &Order) -> bool {
        match &self.order.instruction {
            Instruction::Undo { measure } => MeasureId::from(earlier.id) == *measure,
            // Whoever needs the machine now waits for nothing that was still to be done to it.
            Instruction::Release => match &earlier.instruction {
                Instruction::Begin { action, .. } => action.kind().stops_something(),
                Instruction::Renew { .. } | Instruction::Release => true,
                Instruction::Undo { .. } => is_of_isolation(&earlier.instruction),
            },
            newest => is_of_isolation(newest) && is_of_isolation(&earlier.instruction),
        }
    }

    /// The machine has it. Whether that is news.
    pub fn taken(&mut self) -> bool {
        let is_news = self.is_open();
        if is_news {
            self.delivery = Delivery::Taken;
        }
        is_news
    }

    /// The machine refused it. Whether that is news; one that was taken can't be refused any more.
    pub fn refused(&mut self, why: &str) -> bool {
        let is_news = self.is_open();
        if is_news {
            self.delivery = Delivery::Dead { why: why.chars().take(256).collect() };
        }
        is_news
    }

    /// Drops it, sent or not, if it has a condition: its machine knows of none, and can't read it. Whether it
    /// was dropped.
    pub fn never_read(&mut self) -> bool {
        let has_one =
            matches!(self.order.instruction, Instruction::Begin { if_isolated: Some(_), .. });
        has_one
            && self.refused(
                "its machine runs an older version, which knows of no order with a condition",
            )
    }

    /// Drops it if it was never sent and is too late by now. Whether it was dropped.
    pub fn expire(&mut self, now: UtcNanos) -> bool {
        let is_late = self.order.deliver_until.is_some_and(|until| now >= until);
        self.drop_unsent(is_late, "too late: it could not be delivered in its time")
    }

    /// Drops it if it was never sent: its machine is reached by nobody any more. Whether it was dropped.
    pub fn struck_off(&mut self) -> bool {
        self.drop_unsent(true, "its machine was struck off before it was delivered")
    }

    /// Drops it if it was never sent, because a later one takes its place. Whether it was dropped.
    pub fn superseded(&mut self) -> bool {
        self.drop_unsent(true, "superseded before it was delivered")
    }

    /// Drops it if it was never sent and is the policy's, to isolate in full: its machine would lose its hub,
    /// which only people may order. Whether it was dropped.
    pub fn out_of_reach(&mut self) -> bool {
        let is_policys_full = matches!(self.order.authority, Authority::Policy { .. })
            && self.order.instruction.isolation() == Some(Isolation::Full);
        self.drop_unsent(is_policys_full, "isolated in full, its machine may lose its hub")
    }

    fn drop_unsent(&mut self, is_to_drop: bool, why: &str) -> bool {
        let drops = is_to_drop && self.delivery == Delivery::Waiting;
        if drops {
            self.delivery = Delivery::Dead { why: why.to_owned() };
        }
        drops
    }
}

fn is_of_isolation(instruction: &Instruction) -> bool {
    *instruction == Instruction::Release || instruction.isolation().is_some()
}

/// A measure, as its machine's receipts show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureLife {
    /// Its id.
    pub measure: MeasureId,
    /// On which machine.
    pub machine: MachineId,
    /// What it does.
    pub action: Action,
    /// What began it.
    pub origin: Origin,
    /// Nobody was asked: the policy or a permit began it, or it followed on one that they began, and nobody
    /// has renewed it since.
    #[serde(default)]
    pub is_by_itself: bool,
    /// The weakest truth that is known.
    pub state: MeasureState,
    /// The receipt that showed it.
    pub receipt: Option<Receipt>,
    /// That receipt's number among its machine's reports.
    number: u64,
    /// Its machine says that it does not hold it, against what is shown: nobody may count on it.
    #[serde(default)]
    is_denied: bool,
    /// Its machine has an order on its disk that ends it.
    #[serde(default)]
    is_let_go: bool,
}

impl MeasureLife {
    /// The number of its last receipt among its machine's reports; 0: none came.
    #[must_use]
    pub fn reported_as(&self) -> u64 {
        self.number
    }

    /// The measure that an order is to begin.
    #[must_use]
    pub fn requested(order: &Order) -> Option<Self> {
        let Instruction::Begin { action, .. } = &order.instruction else { return None };
        Some(Self {
            measure: order.id.into(),
            machine: order.machine,
            action: action.clone(),
            origin: Origin::Order(order.id),
            is_by_itself: matches!(order.authority, Authority::Policy { .. }),
            state: MeasureState::Requested,
            receipt: None,
            number: 0,
            is_denied: false,
            is_let_go: false,
        })
    }

    /// A measure that the hub first hears of by its receipt; `follows_itself`: it follows on a measure that
    /// nobody was asked about.
    #[must_use]
    pub fn reported(number: u64, receipt: Receipt, follows_itself: bool) -> Self {
        Self {
            measure: receipt.measure,
            machine: receipt.machine,
            action: receipt.action.clone(),
            origin: receipt.origin,
            is_by_itself: match receipt.origin {
                Origin::Permit { .. } => true,
                Origin::LeaseEnd(_) => follows_itself,
                // An order that this hub does not know may have been people's.
                Origin::Order(_) | Origin::BreakGlass { .. } => false,
            },
            state: shown_by(&receipt),
            receipt: Some(receipt),
            number,
            is_denied: false,
            is_let_go: false,
        }
    }

    /// Whether a finding on its machine may be left to it: it is not over, and its machine does not deny it.
    #[must_use]
    pub fn may_be_counted_on(&self) -> bool {
        !self.state.is_over() && !self.is_denied
    }

    /// Whether its machine says that it does not hold it, against what was shown.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.is_denied
    }

    /// Whether its machine has an order on its disk that ends it.
    #[must_use]
    pub fn is_let_go(&self) -> bool {
        self.is_let_go
    }

    /// Takes a receipt of this measure. Whether anything changed: an older one, one after the end, or
    /// one from another machine changes nothing.
    pub fn take(&mut self, number: u64, receipt: &Receipt) -> bool {
        let is_of_this = receipt.machine == self.machine && receipt.measure == self.measure;
        // What its machine's status alone has ended may still be shown to be over.
        let is_shown_over = self.receipt.as_ref().is_some_and(|shown| shown.state.is_over());
        let is_closed = self.state.is_over() && (is_shown_over || !receipt.state.is_over());
        if !is_of_this || number <= self.number || is_closed {
            return false;
        }
        self.number = number;
        self.state = shown_by(receipt);
        self.receipt = Some(receipt.clone());
        self.is_denied = false;
        true
    }

    /// Its machine says that it does not hold it, `why`. What it showed before stays with it.
    pub fn denied(&mut self, why: &str) {
        self.is_denied = true;
        self.state = MeasureState::Unproven { why: why.to_owned() };
    }

    /// Its machine holds it after all: it is what the last receipt showed.
    pub fn held_after_all(&mut self) {
        self.is_denied = false;
        let shown = self.receipt.as_ref().map(shown_by);
        self.state = shown.unwrap_or(MeasureState::Delivered);
    }

    /// Its machine has an order on its disk that ends it. Whether that is news.
    pub fn let_go(&mut self) -> bool {
        let is_news = !self.is_let_go && !self.state.is_over();
        self.is_let_go |= is_news;
        is_news
    }

    /// Its machine says that it does not hold it, and there is a reason why it should not: it is over.
    pub fn gone(&mut self, state: MeasureState) {
        self.is_denied = false;
        self.state = state;
    }

    /// Its order is on the machine's disk. Whether that is news.
    pub fn delivered(&mut self) -> bool {
        let is_news = self.state == MeasureState::Requested;
        if is_news {
            self.state = MeasureState::Delivered;
        }
        is_news
    }

    /// Its order will never be taken. Whether that is news.
    pub fn never_begun(&mut self, why: &str) -> bool {
        let is_news = matches!(self.state, MeasureState::Requested | MeasureState::Delivered);
        if is_news {
            self.state = MeasureState::Failed { why: why.to_owned() };
        }
        is_news
    }
}

/// The weakest truth that a receipt allows (law 4): what it calls verified is so only by the proof in it.
fn shown_by(receipt: &Receipt) -> MeasureState {
    match (&receipt.state, &receipt.proof) {
        (MeasureState::Verified, None) => MeasureState::Applied,
        (MeasureState::Verified, Some(proof)) if !proof.holds() => MeasureState::Unproven {
            why: "the machine calls it verified, and its own proof says otherwise".to_owned(),
        },
        (state, _) => state.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::action::{AccountTarget, Collection};
    use cordon_model::ids::OrderId;
    use cordon_model::measure::{Isolation, Proof};
    use cordon_model::order::Lease;
    use cordon_model::signed::seal;
    use cordon_model::time::BootId;
    use ed25519_dalek::SigningKey;

    fn proof(is_read_back: bool) -> Proof {
        Proof {
            table_handle: Some(1),
            is_read_back,
            probes: Vec::new(),
            unproven: Vec::new(),
            at: BootNanos(0),
        }
    }

    fn receipt(state: MeasureState) -> Receipt {
        let at = UtcNanos::from_unix_nanos(0);
        let order = OrderId::new(at, [1; 10]);
        Receipt {
            machine: MachineId::new(at, [2; 10]),
            measure: order.into(),
            origin: Origin::Order(order),
            action: Action::Isolate(Isolation::Segment),
            proof: (state == MeasureState::Verified).then(|| proof(true)),
            state,
            lease_ends: None,
            boot: BootId("a".into()),
            at_boot: BootNanos(0),
            at,
            sockets_cut: 0,
            done: Vec::new(),
            spared: Vec::new(),
        }
    }

    #[test]
    fn a_release_waits_for_nothing_that_stops_something_and_was_not_sent_yet() {
        let at = UtcNanos::from_unix_nanos(0);
        let lease = Lease { seconds: 600, step_down_seconds: 600, warn_seconds: 60 };
        let order = |instruction| Order {
            id: OrderId::new(at, [1; 10]),
            organisation: "RJ1".parse().unwrap(),
            machine: MachineId::new(at, [2; 10]),
            sequence: 1,
            nonce: [0; 16],
            issued_at: at,
            deliver_until: None,
            instruction,
            authority: Authority::People { approval: None, people: vec![] },
            incident: None,
            reason: String::new(),
        };
        let begin = |action| order(Instruction::begin(action, lease));
        let life = |instruction| {
            let order = order(instruction);
            let envelope = seal(&order, &SigningKey::from_bytes(&[1; 32])).unwrap();
            OrderLife::new(order, envelope)
        };
        let account =
            || Action::DisableAccount(AccountTarget { name: "eve".into(), ends_sessions: false });
        let release = life(Instruction::Release);
        let measure = OrderId::new(at, [3; 10]).into();
        assert!(release.replaces(&begin(account())));
        assert!(release.replaces(&begin(Action::Isolate(Isolation::Full))));
        assert!(release.replaces(&order(Instruction::Renew { measure, lease })));
        // What stops nothing, or opens something itself, is still to be done.
        let evidence = Collection { pieces: vec![], most_bytes: 1 };
        assert!(!release.replaces(&begin(Action::Collect(evidence))));
        assert!(!release.replaces(&order(Instruction::Undo { measure })));
        // And what is no release replaces no step of a plan.
        let full = life(Instruction::isolate(Isolation::Full, lease));
        assert!(!full.replaces(&begin(account())));
    }

    #[test]
    fn a_late_receipt_cannot_resurrect_what_is_over() {
        let mut life = MeasureLife::reported(1, receipt(MeasureState::Applied), false);
        assert!(life.take(3, &receipt(MeasureState::Released)));
        assert!(!life.take(2, &receipt(MeasureState::Verified)), "older");
        assert!(!life.take(4, &receipt(MeasureState::Verified)), "after the end");
        assert_eq!(life.state, MeasureState::Released);
    }

    #[test]
    fn what_a_machine_calls_verified_is_so_only_by_its_proof() {
        let bare = Receipt { proof: None, ..receipt(MeasureState::Verified) };
        assert_eq!(MeasureLife::reported(1, bare.clone(), false).state, MeasureState::Applied);
        let mut life = MeasureLife::reported(1, receipt(MeasureState::Applied), false);
        assert!(life.take(2, &bare));
        assert_eq!(life.state, MeasureState::Applied);
        let failed = Receipt { proof: Some(proof(false)), ..bare };
        assert!(life.take(3, &failed));
        assert!(life.state.is_unproven(), "{:?}", life.state);
        life.held_after_all();
        assert!(life.state.is_unproven(), "that it holds it proves no more: {:?}", life.state);
        assert!(life.take(4, &receipt(MeasureState::Verified)));
        assert_eq!(life.state, MeasureState::Verified);
    }

    #[test]
    fn what_is_denied_is_not_counted_on_until_it_is_shown_again() {
        let mut life = MeasureLife::reported(1, receipt(MeasureState::Verified), false);
        life.denied("nothing is in force");
        assert!(!life.may_be_counted_on() && life.state.is_unproven());
        let mut again = life.clone();
        again.held_after_all();
        assert_eq!((again.may_be_counted_on(), again.state), (true, MeasureState::Verified));
        assert!(life.take(2, &receipt(MeasureState::Verified)));
        assert!(life.may_be_counted_on());
    }

    #[test]
    fn the_same_receipt_twice_is_one() {
        let mut life = MeasureLife::reported(1, receipt(MeasureState::Applied), false);
        assert!(life.take(2, &receipt(MeasureState::Verified)));
        assert!(!life.take(2, &receipt(MeasureState::Verified)));
    }

    #[test]
    fn a_machine_cannot_speak_for_the_measure_of_another() {
        let mut life = MeasureLife::reported(1, receipt(MeasureState::Applied), false);
        let mut lie = receipt(MeasureState::Released);
        lie.machine = MachineId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
        assert!(!life.take(2, &lie));
    }
}
