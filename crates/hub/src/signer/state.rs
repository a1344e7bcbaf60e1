//! All that the signer remembers, and how one input changes it.
//!
//! The one idea: [`SignerState::apply`] is deterministic. Time and randomness are part of the input, so
//! that the inputs on disk, applied again after a crash, give the same state: the same sequences, the
//! same budget spent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::guidance::{Bedside, Guidance};
use cordon_model::ids::{ApprovalId, MachineId, MeasureId, OrderId};
use cordon_model::measure::{Isolation, Receipt};
use cordon_model::order::{Approver, Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use cordon_respond::budget::Spending;
use cordon_respond::clock::{Moment, Randomness};
use cordon_respond::names::Pin;
use cordon_respond::peoples_brake::{self, Lately};
use cordon_respond::signer_core::{Proposal, Refusal, SignerCore};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::codes::{Asker, SHOWN_KEPT, Shown};
use super::leave::{Ahead, Leave, SAID_AHEAD, SaidAhead};

/// Something that changes what the signer knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// A policy.
    SetPolicy {
        /// What is to hold.
        draft: Box<Policy>,
        /// Who wants it.
        by: Approver,
        /// By whose leave it is signed.
        #[serde(default)]
        leave: Leave,
    },
    /// What a machine is.
    Assign {
        /// What is said.
        draft: Box<Assignment>,
        /// Its receipt key, if it is said.
        receipt_key: Option<ByteArray<32>>,
        /// Who says it.
        by: Option<Approver>,
        /// By whose leave it is signed.
        #[serde(default)]
        leave: Leave,
    },
    /// What a machine will be that is still to enrol.
    SayAhead {
        /// What is said.
        said: Box<SaidAhead>,
        /// Who says it.
        by: Approver,
        /// How long it can be used.
        good_for: Duration,
    },
    /// Addresses of a name.
    Pin {
        /// Of which machine.
        machine: MachineId,
        /// What is pinned.
        pin: Box<Pin>,
        /// By whose leave it is signed.
        #[serde(default)]
        leave: Leave,
    },
    /// An order.
    Sign(Box<Proposal>),
    /// Permits that are due.
    RenewPermits,
    /// A machine's receipt.
    Learn(Box<Receipt>),
    /// An order that will not begin anything.
    NeverBegun {
        /// For which machine it was.
        machine: MachineId,
        /// The order.
        order: OrderId,
    },
    /// A measure that its machine denies.
    NotInForce {
        /// Which machine.
        machine: MachineId,
        /// The measure.
        measure: MeasureId,
    },
    /// People are asked about a machine.
    Asked {
        /// Which machine.
        machine: MachineId,
        /// The question.
        approval: ApprovalId,
    },
    /// A machine in contact.
    Heard {
        /// Which.
        machine: MachineId,
        /// How far it is isolated.
        isolation: Option<Isolation>,
    },
    /// A checkpoint of the hub's ledger.
    Cosigned {
        /// How many records.
        size: u64,
        /// Its root.
        root: ByteArray<32>,
    },
    /// Break-glass codes that were made.
    CodesMade {
        /// Their hashes.
        document: Box<BreakGlass>,
        /// Who wanted others, if somebody did.
        by: Option<Asker>,
    },
    /// What the organisation says for the person in front of a machine.
    SetBedside {
        /// Which machine.
        machine: MachineId,
        /// What is said.
        bedside: Box<Bedside>,
        /// Who says it.
        by: Approver,
    },
    /// What people in front of a machine are told.
    Guide {
        /// Which machine.
        machine: MachineId,
        /// The next of its kind that works.
        nearest: Option<MachineId>,
    },
    /// Break-glass codes that are shown to somebody.
    CodesShown {
        /// Of which machine.
        machine: MachineId,
        /// Which is read out; `None`: all are printed.
        code: Option<u8>,
        /// To whom.
        by: Asker,
    },
}

impl Input {
    /// Which machine it is about, where it is about one.
    #[must_use]
    pub fn machine(&self) -> Option<MachineId> {
        match self {
            Self::Assign { draft, .. } => Some(draft.machine),
            Self::Sign(proposal) => Some(proposal.machine),
            Self::Learn(receipt) => Some(receipt.machine),
            Self::CodesMade { document, .. } => Some(document.machine),
            Self::Pin { machine, .. }
            | Self::NeverBegun { machine, .. }
            | Self::NotInForce { machine, .. }
            | Self::Asked { machine, .. }
            | Self::Heard { machine, .. }
            | Self::SetBedside { machine, .. }
            | Self::Guide { machine, .. }
            | Self::CodesShown { machine, .. } => Some(*machine),
            Self::SetPolicy { .. }
            | Self::SayAhead { .. }
            | Self::RenewPermits
            | Self::Cosigned { .. } => None,
        }
    }
}

/// What came of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A policy to sign.
    Policy(Policy),
    /// An assignment to sign.
    Assignment(Assignment),
    /// An order to sign.
    Order(Order),
    /// Permits to sign.
    Permits(Vec<Permit>),
    /// Break-glass codes to sign.
    Codes(BreakGlass),
    /// Guidance to sign.
    Guidance(Guidance),
    /// Noted, and it was not known before; nothing to sign.
    Noted,
    /// Noted.
    Nothing,
}

/// All that the signer remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerState {
    /// The rules and their registry.
    pub core: SignerCore,
    /// What people had contained or renewed lately…
    contained_by_people: Spending,
    /// …and released. Apart: whoever spends the one can't keep honest people from the other.
    released_by_people: Spending,
    /// What machines sign receipts with.
    pub receipt_keys: BTreeMap<MachineId, ByteArray<32>>,
    /// Size and root of the hub's ledger as last signed.
    pub cosigned: (u64, ByteArray<32>),
    /// Break-glass codes that were shown to somebody, for the hub to write down too.
    #[serde(default)]
    pub shown: VecDeque<Shown>,
    /// How many of them there ever were.
    #[serde(default)]
    shown_ever: u64,
    /// What was said of machines that are still to enrol, the oldest first.
    #[serde(default)]
    ahead: VecDeque<Ahead>,
    /// How much of that there ever was.
    #[serde(default)]
    ahead_ever: u64,
}

impl SignerState {
    /// A signer that knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy, now: &Moment) -> Self {
        Self {
            core: SignerCore::new(policy, now),
            contained_by_people: Spending::start(now),
            released_by_people: Spending::start(now),
            receipt_keys: BTreeMap::new(),
            cosigned: (0, ByteArray::new(cordon_evidence::merkle::empty_root().0)),
            shown: VecDeque::new(),
            shown_ever: 0,
            ahead: VecDeque::new(),
            ahead_ever: 0,
        }
    }

    /// The number of what was said ahead that is just what `draft` says of a new machine.
    #[must_use]
    pub fn said_ahead(&self, draft: &Assignment, now: &Moment) -> Option<u64> {
        let is_it = |ahead: &&Ahead| now.utc < ahead.good_until && ahead.said.is_said_of(draft);
        self.ahead.iter().find(is_it).map(|ahead| ahead.number)
    }

    fn say_ahead(&mut self, said: &SaidAhead, by: &Approver, good_until: UtcNanos, now: &Moment) {
        self.ahead.retain(|ahead| now.utc < ahead.good_until);
        if self.ahead.len() >= SAID_AHEAD {
            self.ahead.pop_front();
        }
        self.ahead_ever = self.ahead_ever.saturating_add(1);
        let (number, by) = (self.ahead_ever, by.name.clone());
        self.ahead.push_back(Ahead { number, said: said.clone(), by, good_until });
    }

    /// Applies one input.
    ///
    /// # Errors
    /// [`Refusal`]; the state is then as it was.
    pub fn apply(
        &mut self,
        input: &Input,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<Outcome, Refusal> {
        match input {
            Input::SetPolicy { draft, .. } => {
                self.core.set_policy((**draft).clone()).map(Outcome::Policy)
            }
            Input::SayAhead { said, by, good_for } => {
                self.say_ahead(said, by, now.utc.plus(*good_for), now);
                Ok(Outcome::Nothing)
            }
            Input::Assign { draft, receipt_key, leave, .. } => {
                let assignment = self.core.assign((**draft).clone())?;
                if let Leave::Ahead(number) = leave {
                    let said = self.ahead.iter().find(|ahead| ahead.number == *number);
                    if let Some(bedside) = said.and_then(|ahead| ahead.said.bedside.clone()) {
                        self.core.set_bedside(assignment.machine, bedside)?;
                    }
                    // One token, one machine.
                    self.ahead.retain(|ahead| ahead.number != *number);
                }
                if let Some(key) = receipt_key {
                    self.receipt_keys.insert(assignment.machine, *key);
                }
                Ok(Outcome::Assignment(assignment))
            }
            Input::Pin { machine, pin, .. } => {
                self.core.pin(*machine, pin).map(Outcome::Assignment)
            }
            Input::Sign(proposal) => self.sign(proposal, now, randomness).map(Outcome::Order),
            Input::RenewPermits => Ok(Outcome::Permits(self.core.renew_permits(now, randomness))),
            Input::Learn(receipt) => {
                self.core.learn(receipt);
                Ok(Outcome::Nothing)
            }
            Input::NeverBegun { machine, order } => {
                let is_news = self.core.never_begun(*machine, *order);
                Ok(if is_news { Outcome::Noted } else { Outcome::Nothing })
            }
            Input::NotInForce { machine, measure } => {
                self.core.not_in_force(*machine, *measure);
                Ok(Outcome::Nothing)
            }
            Input::Asked { machine, approval } => {
                self.core.asked(*machine, *approval, now);
                Ok(Outcome::Nothing)
            }
            Input::Heard { machine, isolation } => {
                self.core.heard(*machine, *isolation, now);
                Ok(Outcome::Nothing)
            }
            Input::Cosigned { size, root } => {
                self.cosigned = (*size, *root);
                Ok(Outcome::Nothing)
            }
            Input::CodesMade { document, .. } => {
                self.core.codes_made((**document).clone()).map(Outcome::Codes)
            }
            Input::SetBedside { machine, bedside, .. } => {
                self.core.set_bedside(*machine, (**bedside).clone())?;
                Ok(Outcome::Nothing)
            }
            Input::Guide { machine, nearest } => {
                self.core.guide(*machine, *nearest, now).map(Outcome::Guidance)
            }
            Input::CodesShown { machine, code, by } => {
                self.core.codes_shown(*machine, code.as_slice(), now)?;
                self.shown_ever = self.shown_ever.saturating_add(1);
                if self.shown.len() >= SHOWN_KEPT {
                    self.shown.pop_front();
                }
                self.shown.push_back(Shown {
                    number: self.shown_ever,
                    machine: *machine,
                    code: *code,
                    by: by.clone(),
                    at: now.utc,
                });
                Ok(Outcome::Nothing)
            }
        }
    }

    fn sign(
        &mut self,
        proposal: &Proposal,
        now: &Moment,
        randomness: Randomness<'_>,
    ) -> Result<Order, Refusal> {
        let lately =
            Lately { closed: &mut self.contained_by_people, opened: &mut self.released_by_people };
        peoples_brake::sign(&mut self.core, lately, proposal, now, randomness)
    }
}
