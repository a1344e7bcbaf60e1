//! What people are asked and told, held against what was found (law 10).

use std::time::Duration;

use cordon_model::asset::ClinicalTier;
use cordon_model::finding::ReceivedFinding;
use cordon_model::ids::{ApprovalId, IncidentId, MachineId};
use cordon_model::incident::IncidentState;
use cordon_model::laws::{self, Violation};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::policy::Mode;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::decision::SERIOUS;
use cordon_respond::hub_core::{Change, HubCore, Notice};
use cordon_respond::order::MeasureLife;
use cordon_respond::signer_core::{Basis, Proposal};

use crate::besides;
use crate::declined::Said;
use crate::scenario::{self, Sabotage};
use crate::world::{Event, PEOPLE, World};

impl World<'_> {
    /// What the policy would do besides isolating about a finding on a clinical machine is asked at once.
    pub(crate) fn judge_what_is_asked(
        &self,
        received: &ReceivedFinding,
        incident: IncidentId,
        released: &[MeasureLife],
    ) -> Result<(), Violation> {
        let (id, finding, policy) = (received.machine, &received.finding, &self.hub.policy);
        let Some(index) = self.index.get(&id).copied() else { return Ok(()) };
        let tier = scenario::tier(self.options.scenario, index);
        let tier = tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        let level = finding.rule.level;
        let mut responses = policy.responses.iter();
        let response = responses.find(|of| level >= of.level_at_least && of.tiers.contains(&tier));
        let (Some(response), Some(process)) = (response, &finding.process) else { return Ok(()) };
        let is_told = self.hub.unread.was_told_that_nothing_is_blocked((id, incident));
        if !tier.is_clinical() || policy.mode == Mode::Observe || is_told {
            return Ok(());
        }
        let of_it = || self.hub.rows.approvals.values().filter(|question| question.machine == id);
        let is_no = |question: &Approval| {
            question.state == ApprovalState::Declined && question.incident == Some(incident)
        };
        for kind in &response.also {
            let is_it = |wish: &Instruction| match wish {
                Instruction::Begin { action, .. } => {
                    action.kind() == *kind
                        && besides::program_of(action) == Some(process.image.as_bytes())
                }
                _ => false,
            };
            let asks = |question: &Approval| {
                let mut wishes = std::iter::once(&question.instruction).chain(&question.also);
                question.state == ApprovalState::Open && wishes.any(is_it)
            };
            let does_it = |life: &MeasureLife| {
                let wish = Instruction::begin(life.action.clone(), policy.lease);
                life.machine == id && is_it(&wish)
            };
            // Of what is unproven people are told as it is shown to be.
            let is_told_of = |state: &MeasureState| {
                state.is_unproven() || matches!(state, MeasureState::Verified | MeasureState::Done)
            };
            // A receipt that came in the same message may show it in force, or that it was until after the
            // finding: nobody need be asked then.
            let is_shown = self
                .hub
                .core
                .iter()
                .flat_map(HubCore::measures)
                .any(|life| is_told_of(&life.state) && does_it(life))
                || released.iter().any(does_it);
            let is_asked = is_shown || of_it().any(|question| asks(question) || is_no(question));
            laws::asked(id, tier, *kind, is_asked)?;
        }
        Ok(())
    }

    /// Whether what this machine says of itself may be anything: it may take back, in the next word, the isolation that
    /// its finding was left to.
    pub(crate) fn lies(&self, machine: MachineId) -> bool {
        self.index.get(&machine).is_some_and(|index| self.machines[*index].lies)
    }

    /// Takes note of what the hub is about to keep: what is found waits, and what people say ends that.
    pub(crate) fn take_note(&mut self, change: &Change) -> Result<(), Violation> {
        let (holds, said) = (self.no_holds(), self.said());
        match change {
            Change::Finding(received, incident) => {
                let (machine, level) = (received.machine, received.finding.rule.level);
                let is_isolated = self.is_isolated_as_wanted(received);
                self.hub.declined.found(received, *incident, is_isolated);
                let news = self.hub.declined.news(machine, *incident);
                self.trace(|| {
                    let rule = &received.finding.rule.title;
                    format!("found on {machine}: {rule} ({level}), in {incident} (news {news})")
                });
                if level >= SERIOUS && !self.lies(machine) {
                    self.hub.unread.found((machine, *incident), level, news);
                }
            }
            Change::Approval(question) => {
                self.trace(|| in_words(question));
                let before = self.hub.rows.approvals.get(&question.id).map(|of| of.state);
                if before.is_none() {
                    self.tally.count("questions to people");
                }
                self.hub.declined.kept(question, holds, said)?;
                if before != Some(question.state) {
                    self.take_note_of_an_answer(question);
                }
            }
            Change::Story(story) if story.incident.state == IncidentState::Closed => {
                self.hub.unread.seen_to_in(story.incident.id);
            }
            Change::Proposed(proposal) => {
                self.trace(|| {
                    let Proposal { id, machine, instruction, reason, .. } = proposal;
                    format!("proposed for {machine}: {instruction} as {id}: {reason}")
                });
                match proposal.basis {
                    Basis::People { .. } => self.hub.unread.wished(proposal.id),
                    Basis::Policy { .. } | Basis::Unanswered { .. } => {
                        self.hub.declined.proposed(proposal);
                    }
                }
            }
            Change::Answered(order) => self.hub.declined.answered(*order),
            Change::Order(life) => {
                let order = &life.order;
                let opens = match &order.instruction {
                    Instruction::Release | Instruction::Undo { .. } => true,
                    wish => wish.isolation().is_some_and(|it| it < Isolation::Segment),
                };
                if opens {
                    self.hub.unread.opened(order.machine, order.id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take_note_of_an_answer(&mut self, question: &Approval) {
        let (machine, Some(incident)) = (question.machine, question.incident) else { return };
        let asked_with = self.hub.declined.asked_with(question.id);
        let of = (machine, incident);
        match question.state {
            ApprovalState::Declined if is_to_isolate(question) => {
                self.hub.unread.said_no(of, asked_with);
            }
            ApprovalState::Approved if is_to_isolate(question) && question.asked_by.is_none() => {
                let core = self.hub.core.iter();
                let is_open = core.flat_map(HubCore::incidents).any(|of| of.id == incident);
                if is_open && !self.lies(machine) {
                    let level = question.level.unwrap_or(SERIOUS);
                    self.hub.unread.said_yes(of, level, asked_with);
                }
            }
            _ => {}
        }
    }

    /// Whatever waits on a machine is in somebody's hands, or people said no to it and their no holds: by the hub's clock
    /// of now, which may have been set since it was found.
    pub(crate) fn judge_what_waits_on(&mut self, machine: MachineId) -> Result<(), Violation> {
        let (holds, now) = (self.no_holds(), self.said());
        for (incident, wait) in self.hub.unread.of(machine) {
            if self.hub.declined.is_about(machine, incident, wait.news, holds, now) {
                self.hub.unread.seen_to((machine, incident));
            }
        }
        let waits = self.hub.unread.of(machine);
        let Some(level) = waits.iter().map(|(_, wait)| wait.level).max() else { return Ok(()) };
        let is_in_hands = self.is_in_hands(machine);
        laws::attention(machine, level, is_in_hands)
    }

    /// The same of all machines, each second, and that people were told of what nobody has.
    pub(crate) fn judge_what_waits(&mut self) -> Result<(), Violation> {
        if self.hub.core.is_none() {
            return Ok(());
        }
        for machine in self.hub.unread.machines() {
            let is_in_hands = self.is_in_hands(machine);
            laws::left(machine, is_in_hands)?;
        }
        let utc = self.hub_moment().utc;
        let Some(core) = &self.hub.core else { return Ok(()) };
        for incident in core.incidents() {
            let is_unowned = incident.state == IncidentState::New && incident.level >= SERIOUS;
            let is_old = utc.since(incident.id.made_at()) >= OWNED_WITHIN;
            let is_told = self.hub.unread.was_told_that_nobody_has(incident.id);
            laws::owned(incident.id, is_unowned && is_old, is_told)?;
        }
        Ok(())
    }

    /// People said no, and what they were not asked about they are asked about now: else it lies unread until
    /// something is found again.
    pub(crate) fn judge_what_a_no_leaves(&mut self, question: ApprovalId) -> Result<(), Violation> {
        let said = self.hub.rows.approvals.get(&question);
        let Some(no) = said.filter(|of| of.state == ApprovalState::Declined) else { return Ok(()) };
        let (machine, Some(incident)) = (no.machine, no.incident) else { return Ok(()) };
        if no.asked_by.is_some() || self.hub.unread.waits((machine, incident)).is_none() {
            return Ok(());
        }
        self.tally.count("what a no does not cover");
        laws::asked_after_no(machine, self.is_in_hands(machine))
    }

    /// How long a no holds by the policy.
    pub(crate) fn no_holds(&self) -> Duration {
        Duration::from_secs(self.hub.policy.approval.no_holds_for_seconds.into())
    }

    pub(crate) fn said(&self) -> Said {
        Said { at: self.now, utc: self.hub_moment().utc }
    }

    /// Whether a finding's machine is isolated as far as the policy wants for it, or is going to be by an order that is
    /// signed, for all that the hub may know: by its database before or after the message that the finding came in. What
    /// is only proposed is none of that, nor what people's release is to end.
    fn is_isolated_as_wanted(&self, received: &ReceivedFinding) -> bool {
        let (machine, policy) = (received.machine, &self.hub.policy);
        let Some(index) = self.index.get(&machine).copied() else { return false };
        let tier = scenario::tier(self.options.scenario, index);
        let tier = tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
        let mut responses = policy.responses.iter();
        let level = received.finding.rule.level;
        let response = responses.find(|of| level >= of.level_at_least && of.tiers.contains(&tier));
        let Some(wanted) = response.map(|of| of.isolation) else { return false };
        let orders = self.hub.rows.orders.values();
        let last = orders
            .filter(|of| of.order.machine == machine && of.is_of_isolation() && !of.is_dead())
            .max_by_key(|of| of.order.sequence);
        if last.is_some_and(|of| of.order.instruction == Instruction::Release) {
            return false;
        }
        let after = self.hub.core.iter().flat_map(HubCore::measures);
        let mut measures = self.hub.rows.measures.values().chain(after);
        measures.any(|life| {
            life.machine == machine
                && life.may_be_counted_on()
                && life.action.isolation() >= Some(wanted)
        })
    }

    /// Whether something deals with what waits on a machine: it is being isolated, or people are asked whether to.
    fn is_in_hands(&mut self, machine: MachineId) -> bool {
        let Some(core) = &self.hub.core else { return true };
        let cuts = |isolation: Option<Isolation>| isolation >= Some(Isolation::Segment);
        let shown = core.measures().filter(|life| {
            life.machine == machine && cuts(life.action.isolation()) && life.may_be_counted_on()
        });
        let shown: Vec<&MeasureState> = shown.map(|life| &life.state).collect();
        if shown.contains(&&MeasureState::Verified) {
            self.hub.unread.seen_to_on(machine);
            return true;
        }
        let is_to_come = !shown.is_empty();
        let mut proposals = self.hub.rows.proposals.values();
        let is_proposed =
            proposals.any(|of| of.machine == machine && cuts(of.instruction.isolation()));
        let is_ordered = core.orders().any(|life| {
            life.order.machine == machine
                && life.is_open()
                && cuts(life.order.instruction.isolation())
        });
        let is_asked = |question: &Approval| {
            question.machine == machine
                && question.asked_by.is_none()
                && question.state == ApprovalState::Open
                && is_to_isolate(question)
        };
        let is_asked = !self.sabotaged(Sabotage::TellsNobody)
            && self.hub.rows.approvals.values().any(is_asked);
        // Its receipt is on its way.
        let in_kernel = self.index.get(&machine).map(|index| &self.machines[*index].kernel);
        let is_cut = in_kernel.and_then(Option::as_ref).is_some_and(|of| cuts(Some(of.isolation)));
        is_to_come || is_proposed || is_ordered || is_asked || is_cut
    }

    pub(crate) fn hub_tells(&mut self, notice: Notice) {
        if self.sabotaged(Sabotage::TellsNobody) {
            return;
        }
        self.trace(|| format!("people are told: {notice:?}"));
        if let Notice::NotBlocked { why, .. } = &notice
            && why.starts_with("the signer")
        {
            if self.sabotaged(Sabotage::HidesRefusals) {
                return;
            }
            self.tally.count("refused by the signer: people told");
        }
        match notice {
            Notice::Asked(approval) => {
                self.tally.count("people told of questions");
                self.people_look_at_the_list(approval);
            }
            Notice::Unanswered(_) => self.tally.count("questions that nobody answered"),
            Notice::NotBlocked { incident, machine, .. } => {
                self.tally.count("seen, not blocked: people told");
                self.hub.unread.told_that_nothing_is_blocked((machine, incident));
            }
            Notice::NotInForce { .. } if self.sabotaged(Sabotage::HidesDeadOrders) => {}
            Notice::NotInForce { machine, .. } => {
                self.tally.count("not in force: people told");
                self.hub.unread.seen_to_on(machine);
            }
            Notice::OpenedByCode { machine, .. } => {
                self.tally.count("openings by a code: people told");
                self.hub.unread.seen_to_on(machine);
            }
            Notice::NobodyHasIt(_) if self.sabotaged(Sabotage::NeverEscalates) => {}
            Notice::NobodyHasIt(incident) => {
                self.tally.count("incidents that nobody has: people told");
                self.hub.unread.told_that_nobody_has(incident);
            }
            // Names are looked up by the shell, and this one has none.
            Notice::NameMoved { .. } => {}
            Notice::LeaseEnds { .. } => self.tally.count("people told that a lease ends"),
        }
    }

    /// Who is told of one question finds all others of its story in the list.
    fn people_look_at_the_list(&mut self, told: ApprovalId) {
        let asked = self.hub.rows.approvals.get(&told).and_then(|question| question.incident);
        self.notes.told(asked);
        if self.options.scenario == scenario::Scenario::WrongRule {
            return;
        }
        let of_story = |question: &&Approval| {
            let is_of_it = question.incident.is_some() && question.incident == asked;
            question.id == told || (is_of_it && question.state == ApprovalState::Open)
        };
        let open = self.hub.rows.approvals.values().filter(of_story);
        let open: Vec<ApprovalId> = open.map(|question| question.id).collect();
        // Whoever is asked about everything answers less.
        let seldom = if self.hub.policy.mode == Mode::Ask { 8 } else { 3 };
        for approval in open {
            for person in 0..PEOPLE.len() {
                if self.random.once_in(seldom) {
                    let when = self.random.millis(500, 20_000);
                    self.after(when, Event::Answer { approval, person });
                }
            }
        }
    }
}

/// How long a serious incident may have no owner. Said here once more: what judges the hub does not ask it.
const OWNED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Whether a yes to it would cut its machine off.
fn is_to_isolate(question: &Approval) -> bool {
    let mut wishes = std::iter::once(&question.instruction).chain(&question.also);
    wishes.any(|wish| wish.isolation() >= Some(Isolation::Segment))
}

/// A question as it is kept now, for whoever reads a trace.
fn in_words(question: &Approval) -> String {
    let wishes = std::iter::once(&question.instruction).chain(&question.also);
    let wishes: Vec<String> = wishes.map(ToString::to_string).collect();
    let Approval { id, machine, state, incident, news, turn, since, why, .. } = question;
    let story = incident.map_or_else(|| "no story".to_owned(), |incident| incident.to_string());
    let since: Vec<String> = since
        .iter()
        .map(|came| format!("{} (news {}): {}", came.instruction, came.news, came.in_words()))
        .collect();
    format!(
        "{state:?}: {id} about {machine} in {story} (news {news}, turn {turn}): {}; {why}; since: {since:?}",
        wishes.join(" and ")
    )
}
