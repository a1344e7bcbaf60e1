//! The hub's web tier is stolen: in the place of its mind stands an adversary.
//!
//! The one idea: the thief has all that a hub has (its links, its seat at the signer, every document that was
//! ever signed, every receipt that machines sealed) and neither the command key nor any machine's. It
//! proposes anything in anybody's name, replays, withholds, misdirects, forges and lies about the time. What
//! must hold all the same is what the signer and the machines hold by themselves: laws 1 to 3, 5 and 6.
//! What a hub alone keeps (its disk, its ledger, people's attention) is the thief's.

use std::time::Duration;

use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, FindingId, MeasureId, OrderId};
use cordon_model::laws::Violation;
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::order::{Approver, Instruction, Lease, Order};
use cordon_model::signed::Verified;
use cordon_model::time::UtcNanos;
use cordon_model::wire::FromHub;
use cordon_respond::hub_core::ForSigner;
use cordon_respond::signer_core::{Basis, Proposal};

use crate::weaker;
use crate::world::{Event, Up, World};

impl World<'_> {
    pub(crate) fn hub_is_stolen(&mut self) -> Result<(), Violation> {
        self.trace(|| "the hub is stolen".into());
        self.tally.count("hubs stolen");
        self.hub_dies();
        self.is_stolen = true;
        self.is_patient = self.random.once_in(2);
        self.observer.stolen(self.now);
        self.theft()
    }

    /// What the thief does next.
    pub(crate) fn theft(&mut self) -> Result<(), Violation> {
        if self.is_calm {
            return Ok(());
        }
        let next = self.random.millis(20, 400);
        self.after(next, Event::Theft);
        let machine = self.any_machine();
        match self.random.below(22) {
            20 => self.thief_assigns(machine),
            21 => self.thief_sets_a_policy(),
            0..5 => self.thief_proposes(machine, false),
            5..9 => self.thief_proposes(machine, true),
            9..13 => self.thief_tells_the_signer(machine),
            13..17 => self.thief_sends_what_was_signed(machine),
            17 => self.forge_an_order(machine),
            18 => self.misdirect(machine),
            _ => self.thief_sends_its_documents(machine),
        }
    }

    fn any_machine(&mut self) -> usize {
        usize::try_from(self.random.below(self.machines.len() as u64)).unwrap_or(0)
    }

    /// A proposal of whatever kind, in the policy's name or in those of people who never said so.
    fn thief_proposes(&mut self, index: usize, is_in_names: bool) -> Result<(), Violation> {
        let lease = match self.random.below(3) {
            0 => Lease { seconds: 3_600, step_down_seconds: 3_600, warn_seconds: 1 },
            _ => self.hub.policy.lease,
        };
        let known = match self.any_order() {
            Some(order) => order.id,
            None => self.fresh_id(),
        };
        let measure = MeasureId::from(known);
        let action = self.any_act(index);
        let instruction = match self.random.below(11) {
            _ if self.is_patient && is_in_names => Instruction::Release,
            0 => Instruction::Release,
            1 => Instruction::Undo { measure },
            2 => Instruction::Renew { measure, lease },
            3 => Instruction::isolate(Isolation::Full, lease),
            4 => Instruction::isolate(Isolation::Watch, lease),
            5..8 => Instruction::begin(action, lease),
            _ => Instruction::isolate(Isolation::Segment, lease),
        };
        let level = if self.random.once_in(2) { Level::Critical } else { Level::High };
        let finding = FindingId::of("none", "none", &[0; 32]);
        let basis = if is_in_names {
            self.tally.count("proposals of a stolen hub in people's names");
            let names = [("ann", false), ("dr cole", true), ("dr day", true)];
            let from = usize::try_from(self.random.below(4)).unwrap_or(0);
            let people = names.iter().skip(from);
            let person = |(name, is_clinical): &(&str, bool)| Approver {
                name: (*name).to_owned(),
                is_clinical: *is_clinical,
            };
            Basis::People { approval: None, people: people.map(person).collect() }
        } else if self.random.once_in(3) {
            // Of a question that it told of long ago, a moment ago, or never, perhaps of another machine.
            self.tally.count("proposals of a stolen hub as nobody answered");
            let told = self.random.one_of(&self.invented).copied();
            let approval = match told {
                Some(approval) => approval,
                None => self.fresh_question(),
            };
            Basis::Unanswered { approval, finding, level }
        } else {
            self.tally.count("proposals of a stolen hub by the policy");
            Basis::Policy { finding, level }
        };
        // Sometimes under the id of an order that there was, perhaps of another machine.
        let id = if self.random.once_in(4) { known } else { self.fresh_id() };
        let (machine, reason) = (self.machines[index].id, "theft".into());
        let proposal = Proposal { id, machine, instruction, basis, incident: None, reason };
        self.signer_hears(ForSigner::Propose(proposal))
    }

    /// Says, in the name of somebody who never said so, that a machine is something else.
    fn thief_assigns(&mut self, index: usize) -> Result<(), Violation> {
        let signer = self.signer.core.as_ref();
        let Some(known) = signer.and_then(|signer| signer.assignment(self.machines[index].id))
        else {
            return Ok(());
        };
        let draft = weaker::assignment(self.random.below(weaker::ASSIGNMENTS), known);
        self.tally.count("assignments that a stolen hub wants signed");
        match self.hub_wants_assigned(index, draft)? {
            Some(envelope) => self.thief_sends(index, FromHub::Assignment(envelope)),
            None => Ok(()),
        }
    }

    /// The same of what holds for all.
    fn thief_sets_a_policy(&mut self) -> Result<(), Violation> {
        let draft = weaker::policy(self.random.below(weaker::POLICIES), &self.hub.policy);
        self.tally.count("policies that a stolen hub wants signed");
        self.hub_wants_policy(draft)
    }

    /// Receipts that were sealed once, or never; and words that nobody seals.
    fn thief_tells_the_signer(&mut self, index: usize) -> Result<(), Violation> {
        let machine = self.machines[index].id;
        let order = self.any_order().map(|order| order.id);
        let sealed = self.random.one_of(&self.machines[index].sealed).cloned();
        // The newest release that it had signed, and kept to itself: said to be carried out, it would free
        // the machine's place.
        let releases = self
            .orders
            .values()
            .filter(|order| order.machine == machine && order.instruction == Instruction::Release);
        let release = releases.max_by_key(|order| order.sequence).map(|order| order.id);
        let message = match (self.random.below(9), order, sealed) {
            (7.., ..) => {
                self.tally.count("questions that a stolen hub invents");
                let known = self.random.one_of(&self.invented).copied();
                let approval = match known.filter(|_| self.random.once_in(2)) {
                    Some(approval) => approval,
                    None => self.fresh_question(),
                };
                self.invented.push(approval);
                ForSigner::Asked(machine, approval)
            }
            (0, _, Some(receipt)) => {
                self.tally.count("receipts that a stolen hub replays");
                ForSigner::Learn(receipt)
            }
            (1 | 2, _, Some(receipt)) => {
                self.tally.count("receipts that a stolen hub forges");
                let (measure, origin) = match release {
                    Some(order) => (order.into(), Origin::Order(order)),
                    None => (receipt.measure, receipt.origin),
                };
                let state = MeasureState::Released;
                ForSigner::Learn(Receipt { measure, origin, state, ..receipt })
            }
            (3, Some(order), _) => ForSigner::NeverBegun(machine, order),
            (4, Some(order), _) => ForSigner::NotInForce(machine, order.into()),
            (5, ..) => ForSigner::Heard(machine, Some(Isolation::Watch)),
            _ => ForSigner::Heard(machine, None),
        };
        self.signer_hears(message)
    }

    /// An order that was signed: just now, long ago, or for another machine.
    fn thief_sends_what_was_signed(&mut self, index: usize) -> Result<(), Violation> {
        let Some(order) = self.any_order().filter(|order| !self.is_kept(order)) else {
            return Ok(());
        };
        let to = if self.random.once_in(4) { Some(index) } else { self.addressee(&order) };
        self.tally.count("orders that a stolen hub sends late or again");
        self.thief_sends(to.unwrap_or(index), FromHub::Order(order.envelope().clone()))
    }

    fn thief_sends_its_documents(&mut self, index: usize) -> Result<(), Violation> {
        let recorded = &self.machines[index].recorded;
        let permit = self.random.one_of(&recorded.permits).map(|of| of.envelope().clone());
        let assignment = self.random.one_of(&recorded.assignments).map(|of| of.envelope().clone());
        let codes = self.random.one_of(&recorded.codes).map(|of| of.envelope().clone());
        let documents = permit
            .map(FromHub::Permit)
            .into_iter()
            .chain(assignment.map(FromHub::Assignment))
            .chain(codes.map(FromHub::BreakGlass));
        for document in documents {
            self.tally.count("documents that a stolen hub sends late or again");
            self.thief_sends(index, document)?;
        }
        Ok(())
    }

    fn thief_sends(&mut self, index: usize, message: FromHub) -> Result<(), Violation> {
        let link = self.machines[index].link.unwrap_or(0);
        self.agent_hears(index, link, message)
    }

    /// The signer's answer comes to the thief: half of the orders it keeps for later.
    pub(crate) fn thief_has_signed(&mut self, order: &Verified<Order>) -> Result<(), Violation> {
        if self.is_kept(order) || self.random.once_in(2) {
            self.tally.count("orders that a stolen hub withholds");
            return Ok(());
        }
        let Some(index) = self.addressee(order) else { return Ok(()) };
        self.thief_sends(index, FromHub::Order(order.envelope().clone()))
    }

    /// Agents link to it as to their hub: it says any time, and takes everything and keeps nothing.
    pub(crate) fn thief_hears(&mut self, index: usize, link: u64, message: Up) {
        let id = self.machines[index].id;
        match message {
            Up::Hello(hello) => {
                let now = self.hub_moment().utc;
                let hours = Duration::from_secs(self.random.below(48) * 3_600);
                let lied = match self.random.below(3) {
                    0 => now,
                    1 => now.plus(hours),
                    _ => {
                        let back = i64::try_from(hours.as_nanos()).unwrap_or(0);
                        UtcNanos::from_unix_nanos(now.unix_nanos().saturating_sub(back))
                    }
                };
                let version = hello.version.min(cordon_model::wire::VERSION);
                self.send_down(id, link, FromHub::Welcome { version, now: lied });
            }
            Up::Reports(reports) => {
                self.tally.count("reports that a stolen hub throws away");
                if let Some((number, _)) = reports.last() {
                    self.send_down(id, link, FromHub::Acknowledged(*number));
                }
            }
            Up::OrderTaken(_) | Up::Status(_) => {}
        }
    }

    /// Whether a patient thief sends it never.
    fn is_kept(&self, order: &Order) -> bool {
        self.is_patient && order.instruction == Instruction::Release
    }

    fn addressee(&self, order: &Order) -> Option<usize> {
        self.index.get(&order.machine).copied()
    }

    /// Any order that was ever signed.
    fn any_order(&mut self) -> Option<Verified<Order>> {
        let count = self.orders.len() as u64;
        let at = usize::try_from(self.random.below(count)).unwrap_or(0);
        self.orders.values().nth(at).cloned()
    }

    fn fresh_id(&mut self) -> OrderId {
        let mut id = [0; 10];
        id.copy_from_slice(&self.random.bytes()[..10]);
        // An id is whatever its maker says: of now, or of the year 2262, so that all later ones are below it.
        let far = UtcNanos::from_unix_nanos(i64::MAX);
        let at = if self.random.once_in(6) { far } else { self.hub_moment().utc };
        OrderId::new(at, id)
    }

    fn fresh_question(&mut self) -> ApprovalId {
        let mut id = [0; 10];
        id.copy_from_slice(&self.random.bytes()[..10]);
        ApprovalId::new(self.hub_moment().utc, id)
    }

    /// Whether a machine sealed this receipt with its own key: what the signer's process checks of each.
    pub(crate) fn is_sealed(&self, receipt: &Receipt) -> bool {
        let of = self.index.get(&receipt.machine).map(|index| &self.machines[*index].sealed);
        of.is_some_and(|sealed| sealed.contains(receipt))
    }
}
