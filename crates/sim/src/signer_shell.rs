//! What production's signer does around its mind: it writes its state down, then answers.

use std::collections::BTreeSet;
use std::time::Duration;

use cordon_model::action::{Action, Collection, Piece};
use cordon_model::approval::Unanswered;
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::break_glass::BreakGlass;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, OrderId, PermitId};
use cordon_model::laws::{self, Violation};
use cordon_model::measure::{Isolation, Origin};
use cordon_model::order::{Instruction, Order, Permit};
use cordon_model::policy::Policy;
use cordon_model::signed::{Envelope, Verified, seal};
use cordon_model::time::UtcNanos;
use cordon_respond::budget::Spending;
use cordon_respond::clock::Moment;
use cordon_respond::decision::AskReason;
use cordon_respond::hub_core::{ForSigner, HubCore};
use cordon_respond::peoples_brake::{self, Lately};
use cordon_respond::signer_core::{Basis, Proposal, Refusal, SignerCore};
use cordon_respond::weakening;

use crate::besides;
use crate::machine::BEGINNING;
use crate::scenario::{self, Sabotage};
use crate::weaker;
use crate::world::{Event, World};

/// The signer's process. It writes its state down at every change before it answers, so its disk is looked
/// at only when it dies.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) core: Option<SignerCore>,
    disk: Option<String>,
    /// What was ordered in people's names lately, and what was taken back: on its disk too.
    by_people: [Spending; 2],
    /// Signatures of the documents of which there is a line in its ledger.
    ledger: BTreeSet<[u8; 64]>,
    life: u64,
}

impl Signer {
    pub(crate) fn new(policy: &Policy, now: &Moment, sabotage: Option<Sabotage>) -> Self {
        let mut policy = policy.clone();
        match sabotage {
            Some(Sabotage::NoBudget) => {
                policy.budget.count = u32::MAX;
                policy.budget.group_percent = 100;
            }
            Some(Sabotage::NoGroupShare) => policy.budget.group_percent = 100,
            Some(Sabotage::PermitsForAll) => policy.permits = u32::MAX,
            Some(Sabotage::AnybodyAtAnyHour) => {
                policy.approval.needs.clear();
                policy.approval.night = None;
            }
            Some(Sabotage::AnswersForPeople) => {
                policy.approval.unanswered = Unanswered::Segment;
                // No question is ever open: one that nobody asked was open long enough.
                policy.approval.open_for_seconds = 0;
            }
            _ => {}
        }
        let by_people = [Spending::start(now), Spending::start(now)];
        Self {
            disk: None,
            core: Some(SignerCore::new(policy, now)),
            by_people,
            ledger: BTreeSet::new(),
            life: 0,
        }
    }
}

impl World<'_> {
    /// The organisation says what a machine is.
    pub(crate) fn assign(&mut self, index: usize, revision: u64) -> Result<(), Violation> {
        let mut draft = {
            let organisation = self.hub.policy.organisation.clone();
            scenario::assignment(self.options.scenario, index, organisation, revision)
        };
        if self.sabotaged(Sabotage::WrongTier) && draft.effective_tier().is_clinical() {
            draft.tier = Some(ClinicalTier::None);
        }
        let forgets_the_second = self.sabotaged(Sabotage::OnePersonOnTierThree)
            || self.sabotaged(Sabotage::OnePersonAtTheMachine);
        if forgets_the_second && draft.tier == Some(ClinicalTier::LifeSustaining) {
            draft.tier = Some(ClinicalTier::Clinical);
        }
        if self.sabotaged(Sabotage::NoKinds) {
            draft.kind = None;
        }
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        let Ok(assignment) = signer.assign(draft) else { return Ok(()) };
        let Some(sealed) = seal(&assignment, &self.key).ok() else { return Ok(()) };
        let Ok(sealed) = sealed.open::<Assignment>(&self.pinned) else { return Ok(()) };
        self.signer_writes_down(sealed.envelope());
        self.machines[index].recorded.assignments.push(sealed.clone());
        self.hub_step(|core, _, _| core.assigned(&sealed))
    }

    /// What production's signer answers its hub that wants an assignment signed: what makes nothing weaker
    /// is signed, all else takes root on its machine.
    pub(crate) fn hub_wants_assigned(
        &mut self,
        index: usize,
        draft: Assignment,
    ) -> Result<Option<Envelope>, Violation> {
        let believes = self.sabotaged(Sabotage::BelievesTheHub);
        let Some(signer) = &mut self.signer.core else { return Ok(None) };
        let Some(known) = signer.assignment(draft.machine).cloned() else { return Ok(None) };
        if !believes && !weakening::of_assignment(Some(&known), &draft).is_empty() {
            self.tally.count("weaker documents refused to a stolen hub");
            return Ok(None);
        }
        let Ok(assignment) = signer.assign(draft) else { return Ok(None) };
        weaker::judge_assignment(&known, &assignment)?;
        let sealed = seal(&assignment, &self.key).and_then(|e| e.open::<Assignment>(&self.pinned));
        let Ok(sealed) = sealed else { return Ok(None) };
        self.signer_writes_down(sealed.envelope());
        self.machines[index].recorded.assignments.push(sealed.clone());
        Ok(Some(sealed.envelope().clone()))
    }

    /// The same of a policy.
    pub(crate) fn hub_wants_policy(&mut self, draft: Policy) -> Result<(), Violation> {
        let believes = self.sabotaged(Sabotage::BelievesTheHub);
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        let known = signer.policy().clone();
        if !believes && !weakening::of_policy(&known, &draft).is_empty() {
            self.tally.count("weaker documents refused to a stolen hub");
            return Ok(());
        }
        match signer.set_policy(draft) {
            Ok(signed) => weaker::judge_policy(&known, &signed),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn signer_hears(&mut self, message: ForSigner) -> Result<(), Violation> {
        let now = self.hub_moment();
        let forgets = self.sabotaged(Sabotage::NoHoldOff);
        if let ForSigner::Learn(receipt) = &message
            && !self.is_sealed(receipt)
            && !self.sabotaged(Sabotage::AnyReceipt)
        {
            self.tally.count("receipts that no machine sealed refused");
            return Ok(());
        }
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        match message {
            ForSigner::Propose(proposal) => return self.sign(&proposal, &now),
            ForSigner::Learn(receipt)
                if forgets && matches!(receipt.origin, Origin::BreakGlass { .. }) => {}
            ForSigner::Learn(receipt) => signer.learn(&receipt),
            ForSigner::NeverBegun(machine, order) => {
                signer.never_begun(machine, order);
            }
            ForSigner::NotInForce(machine, measure) => signer.not_in_force(machine, measure),
            ForSigner::Heard(machine, isolation) => signer.heard(machine, isolation, &now),
            ForSigner::Asked(machine, approval) => {
                signer.asked(machine, approval, &now);
                self.observer.asked(machine, approval, self.now);
            }
        }
        Ok(())
    }

    fn sign(&mut self, proposal: &Proposal, now: &Moment) -> Result<(), Violation> {
        if self.signer.core.is_some() && self.mishap(60) {
            // It dies after it made up its mind and before it wrote that down: as if it never had.
            self.tally.count("signer crashes before it wrote");
            self.signer_dies();
            return Ok(());
        }
        if self.sabotaged(Sabotage::SignsTwice) {
            self.signer_forgets_what_it_signed();
        }
        let is_unbraked = self.sabotaged(Sabotage::NoPeoplesBrake);
        let is_policys = !matches!(proposal.basis, Basis::People { .. });
        let forgets_tier = is_policys
            && if besides::begins(&proposal.instruction) {
                self.sabotaged(Sabotage::StopsOnClinical)
            } else {
                self.sabotaged(Sabotage::SignerForgetsTiers)
                    || self.sabotaged(Sabotage::IsolatesClinical)
            };
        let looks_away = self.sabotaged(Sabotage::LooksInsideForOne);
        let dice = &mut self.random;
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        let told = signer.assignment(proposal.machine).cloned().filter(|_| forgets_tier);
        if let Some(assignment) = told.clone() {
            let tier = Some(ClinicalTier::None);
            let _ = signer.assign(Assignment { tier, ..assignment });
        }
        let seen = if looks_away { unseen_inside(proposal) } else { None };
        let [closed, opened] = &mut self.signer.by_people;
        let mut answer = if is_unbraked {
            signer.sign(proposal, now, &mut || dice.bytes())
        } else {
            let lately = Lately { closed, opened };
            let proposal = seen.as_ref().unwrap_or(proposal);
            peoples_brake::sign(signer, lately, proposal, now, &mut || dice.bytes())
        };
        if let (true, Ok(order)) = (looks_away, &mut answer) {
            // Its slip is the same each time: what it signed once it says again.
            let is_it = |of: &&Verified<Order>| of.id == order.id && of.machine == order.machine;
            match self.orders.values().find(is_it) {
                Some(before) => *order = (**before).clone(),
                None if seen.is_some() => order.instruction = proposal.instruction.clone(),
                None => {}
            }
        }
        if let Some(assignment) = told {
            let _ = signer.assign(assignment);
        }
        if let Ok(order) = &answer {
            self.observer.decided(order.machine, order.id, self.now);
        }
        if self.mishap(60) {
            self.tally.count("signer crashes after it wrote, before it answered");
            self.signer_dies();
            return Ok(());
        }
        let answer = match answer {
            Ok(order) => {
                self.trace(|| {
                    format!(
                        "signed {} for {}: {}",
                        order.sequence, order.machine, order.instruction
                    )
                });
                let opened = seal(&order, &self.key).and_then(|e| e.open::<Order>(&self.pinned));
                let Ok(order) = opened else { return Ok(()) };
                self.signer.ledger.insert(order.envelope().signature);
                self.orders.insert(order.envelope().signature, order.clone());
                if !self.observer.is_signed(order.machine, order.id) {
                    if besides::begins(&order.instruction) {
                        self.tally.count(match proposal.basis {
                            Basis::People { .. } => "acts besides isolation signed for people",
                            _ => "acts besides isolation signed by policy",
                        });
                    }
                    self.tally.count(match proposal.basis {
                        Basis::Policy { .. } => "orders signed by policy",
                        Basis::Unanswered { .. } => "orders signed as nobody answered",
                        Basis::People { .. } => "orders signed for people",
                    });
                }
                if let Some(index) = self.index.get(&order.machine) {
                    let judged = self.observer.signed(*index, &proposal.basis, &order, self.now);
                    if !self.sabotaged(Sabotage::OnePersonAtTheMachine) {
                        judged?;
                    }
                }
                Ok(order)
            }
            Err(refusal) => {
                self.trace(|| format!("not signed for {}: {refusal}", proposal.machine));
                let is_braked =
                    matches!(refusal, Refusal::Ask { why: AskReason::BudgetSpent(_), .. });
                if is_braked {
                    self.notes.braked(self.now);
                }
                self.tally.count(match refusal {
                    Refusal::Ask { .. } if is_braked => "proposals stopped by the budget",
                    Refusal::Ask { .. } => "proposals that people must be asked for",
                    Refusal::PeoplesBudget(_) => "proposals stopped by people's brake",
                    _ => "other proposals refused",
                });
                Err(refusal)
            }
        };
        let (proposal, answer) = (proposal.id, Box::new(answer));
        if self.mishap(15) {
            self.tally.count("answers of the signer repeated");
            let again = self.random.millis(1, 3_000);
            self.after(again, Event::FromSigner { proposal, answer: answer.clone() });
        }
        let when = self.random.millis(1, 5);
        self.after(when, Event::FromSigner { proposal, answer });
        Ok(())
    }

    /// Its ledger has a line of a document, besides orders, before anybody has it.
    pub(crate) fn signer_writes_down(&mut self, envelope: &Envelope) {
        if !self.sabotaged(Sabotage::RecordsOrdersOnly) {
            self.signer.ledger.insert(envelope.signature);
        }
    }

    /// Law 9, of a document that a machine takes.
    pub(crate) fn judge_the_account(
        &mut self,
        index: usize,
        what: &'static str,
        envelope: &Envelope,
    ) -> Result<(), Violation> {
        let is_recorded = self.signer.ledger.contains(&envelope.signature);
        laws::on_record(self.machines[index].id, what, is_recorded)
    }

    /// As no code of it ever does.
    fn signer_forgets_what_it_signed(&mut self) {
        let Some(signer) = &mut self.signer.core else { return };
        let Ok(mut state) = serde_json::to_value(&*signer) else { return };
        for known in state["machines"].as_object_mut().into_iter().flat_map(|all| all.values_mut())
        {
            known["recent"] = serde_json::json!([]);
            known["used"] = serde_json::json!([]);
            known["forgotten"] = serde_json::Value::Null;
        }
        if let Ok(forgetful) = serde_json::from_value(state) {
            *signer = forgetful;
        }
    }

    pub(crate) fn signer_round(&mut self, life: u64) -> Result<(), Violation> {
        if self.signer.life != life {
            return Ok(());
        }
        self.after(Duration::from_secs(5), Event::SignerRound { life });
        let now = self.hub_moment();
        let dice = &mut self.random;
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        let permits = signer.renew_permits(&now, &mut || dice.bytes());
        for permit in permits {
            let opened = seal(&permit, &self.key).and_then(|e| e.open::<Permit>(&self.pinned));
            let Ok(permit) = opened else { continue };
            self.signer_writes_down(permit.envelope());
            self.permits.insert(permit.envelope().signature, permit.clone());
            self.tally.count("permits signed");
            self.observer.permitted(&permit);
            if let Some(index) = self.index.get(&permit.machine) {
                self.machines[*index].recorded.permits.push(permit.clone());
            }
            self.hub_step(|core, _, _| core.permitted(&permit))?;
        }
        if self.options.scenario != scenario::Scenario::WrongRule {
            for index in 0..self.machines.len() {
                self.make_codes(index, false)?;
            }
        }
        Ok(())
    }

    /// A permit of the day before, which had its time before anything begins: somebody has recorded it.
    pub(crate) fn yesterdays_permit(&mut self, index: usize) {
        let (day, machine) = (24 * 3_600, self.machines[index].id);
        let issued_at = BEGINNING - day * 1_000_000_000;
        let policy = &self.hub.policy;
        let mut bytes = [0xee; 10];
        bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
        let permit = Permit {
            id: PermitId::new(UtcNanos::from_unix_nanos(issued_at), bytes),
            organisation: policy.organisation.clone(),
            machine,
            level_at_least: Level::High,
            lease: policy.lease,
            issued_at: UtcNanos::from_unix_nanos(issued_at),
            expires_at: UtcNanos::from_unix_nanos(issued_at)
                .plus(Duration::from_secs(policy.permit_seconds.into())),
        };
        let opened = seal(&permit, &self.key).and_then(|e| e.open::<Permit>(&self.pinned));
        let Ok(permit) = opened else { return };
        self.signer_writes_down(permit.envelope());
        self.permits.insert(permit.envelope().signature, permit.clone());
        self.observer.permitted(&permit);
        self.machines[index].recorded.permits.push(permit);
    }

    /// Codes for a machine that has none, or whose codes are used up; others if somebody wants them.
    pub(crate) fn make_codes(&mut self, index: usize, wants_new: bool) -> Result<(), Violation> {
        let (now, machine) = (self.hub_moment(), self.machines[index].id);
        let Some(signer) = &mut self.signer.core else { return Ok(()) };
        let Ok(Some(to_make)) = signer.codes_to_make(machine, wants_new, &now) else {
            return Ok(());
        };
        let mut document = to_make.document([0; 16]);
        let hash = |number| scenario::code_hash(machine, to_make.revision, number).into();
        document.codes = (1..=to_make.terms.codes).map(hash).collect();
        let Ok(document) = signer.codes_made(document) else { return Ok(()) };
        let opened = seal(&document, &self.key).and_then(|e| e.open::<BreakGlass>(&self.pinned));
        let Ok(document) = opened else { return Ok(()) };
        self.tally.count("sets of break-glass codes signed");
        self.signer_writes_down(document.envelope());
        self.observer.coded(&document);
        self.machines[index].recorded.codes.push(document.clone());
        self.hub_step(|core, _, _| core.coded(&document))
    }

    pub(crate) fn signer_dies(&mut self) {
        let Some(core) = self.signer.core.take() else { return };
        // Through text and back, so that a field which is not kept would be missed.
        self.signer.disk = serde_json::to_string(&core).ok();
        self.tally.count("signer crashes");
        self.trace(|| "the signer dies".into());
        self.signer.life += 1;
        let back = self.random.millis(50, 3_000);
        self.after(back, Event::SignerStart);
    }

    pub(crate) fn signer_starts(&mut self) {
        if self.signer.core.is_some() {
            return;
        }
        let disk = self.signer.disk.take();
        self.signer.core = disk.and_then(|text| serde_json::from_str(&text).ok());
        let life = self.signer.life;
        self.after(Duration::from_millis(100), Event::SignerRound { life });
        // Its socket came back: the hub tells it again what it may have missed.
        let told_again = self.hub.core.as_ref().map(HubCore::for_a_new_signer).unwrap_or_default();
        for message in told_again {
            self.after(Duration::from_millis(2), Event::ToSigner(Box::new(message)));
        }
    }

    /// Whoever stole the hub's web tier proposes what it likes in the policy's name.
    pub(crate) fn rogue_proposal(&mut self, index: usize) -> Result<(), Violation> {
        self.tally.count("proposals by a thief");
        let now = self.hub_moment();
        let lease = self.hub.policy.lease;
        let isolation = if self.random.once_in(2) { Isolation::Full } else { Isolation::Segment };
        let instruction = match self.random.once_in(2) {
            true => Instruction::isolate(isolation, lease),
            false => Instruction::begin(self.any_act(index), lease),
        };
        let bytes = self.random.bytes();
        let mut id = [0; 10];
        id.copy_from_slice(&bytes[..10]);
        let machine = self.machines[index].id;
        let level = if isolation == Isolation::Full { Level::Critical } else { Level::High };
        let proposal = Proposal {
            id: OrderId::new(now.utc, id),
            machine,
            instruction,
            basis: Basis::Policy { finding: FindingId::of("none", "none", &[0; 32]), level },
            incident: None,
            reason: "theft".into(),
        };
        self.signer_hears(ForSigner::Propose(proposal))
    }
}

/// The same proposal as a signer reads it that does not see what is to be looked into, if anything is.
fn unseen_inside(proposal: &Proposal) -> Option<Proposal> {
    let Instruction::Begin { action, lease, .. } = &proposal.instruction else { return None };
    if !action.looks_into_a_process() {
        return None;
    }
    let outside = Collection { pieces: vec![Piece::Processes], most_bytes: 1 << 20 };
    let instruction = Instruction::begin(Action::Collect(outside), *lease);
    Some(Proposal { instruction, ..proposal.clone() })
}
