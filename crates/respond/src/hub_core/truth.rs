//! What a machine says that it holds, against what is shown of it (law 4).
//!
//! The one idea: a receipt says what was shown once, a status what is held now. When two statuses in a row
//! contradict what is shown, the machine is believed about itself **where that is worse news**: the measure
//! is unproven, people are told, and no finding is left to it any more. It gains nothing by such words
//! (law 11): the signer goes on counting its place in groups, kinds and permits until people release it.
//!
//! | the machine | and | the measure is |
//! |---|---|---|
//! | does not hold it | it has an order that takes it back | released |
//! | does not hold it | it holds another isolation that goes as far | superseded |
//! | does not hold it | neither | unproven, and not counted on |
//! | holds it | it was not counted on | what its last receipt showed |

use super::*;

/// Statuses in a row that must say the same against what is shown: one may have been on its way already
/// when what it contradicts was reported.
const IN_A_ROW: u8 = 2;

/// What a status says of one measure, against what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    HeldAfterAll,
    Released,
    Superseded,
    Denied,
}

/// The same of several in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    word: Word,
    times: u8,
}

impl HubCore {
    /// How a machine says that it is.
    pub fn status(
        &mut self,
        id: MachineId,
        link: u64,
        status: Status,
        now: &Moment,
    ) -> Vec<Output> {
        if !self.is_present(id, link) {
            return Vec::new();
        }
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        // Boot time only goes on within one link: this one was heard already, or overtaken.
        if machine.status.as_ref().is_some_and(|last| status.at_boot <= last.at_boot) {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        if let Holds::Measures(held) = &status.holds {
            let within = status.holds.lease_ends().map(|ends| ends.since(status.at_boot));
            let warn_within = Duration::from_secs(self.policy.lease.warn_seconds.into());
            let is_near = within.is_some_and(|within| within <= warn_within);
            if let (true, false, Some(within)) = (is_near, machine.is_warned, within) {
                outputs.push(Output::Tell(Notice::LeaseEnds { machine: id, within }));
            }
            machine.is_warned = is_near;
            outputs.extend(self.compare(id, held, now));
            outputs.extend(self.tell_heard(id, held, now));
        }
        outputs.extend(self.send_what_it_lacks(id, link, &status));
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.status = Some(status);
        }
        outputs
    }

    /// Documents that it says it has not, once over each link: one that can't keep them says so by its
    /// status, again and again.
    fn send_what_it_lacks(&mut self, id: MachineId, link: u64, status: &Status) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        let mut outputs = Vec::new();
        if let Some((revision, envelope)) = &machine.row.codes
            && status.break_glass < *revision
            && machine.codes_sent != Some((link, *revision))
        {
            machine.codes_sent = Some((link, *revision));
            outputs.push(Output::Send(id, link, FromHub::BreakGlass(envelope.clone())));
        }
        if let Some((revision, envelope)) = &machine.row.guidance
            && status.guidance < *revision
            && machine.guidance_sent != Some((link, *revision))
        {
            machine.guidance_sent = Some((link, *revision));
            outputs.push(Output::Send(id, link, FromHub::Guidance(envelope.clone())));
        }
        outputs
    }

    /// A machine has this order on its disk. If it takes something back, that is to end: what began before.
    pub(super) fn let_go(&mut self, order: &Order) -> Vec<Output> {
        if let Instruction::Begin { .. } | Instruction::Renew { .. } = order.instruction {
            return Vec::new();
        }
        let Some(machine) = self.machines.get_mut(&order.machine) else { return Vec::new() };
        // The next status may free the machine's place: the signer hears of it at once.
        machine.signer_told = None;
        let mut outputs = Vec::new();
        let measures: Vec<MeasureId> = self.measures.ids_of(order.machine).collect();
        for measure in measures {
            // Ordered later than this, so not what this takes back.
            let is_later = self
                .orders
                .of(order.machine)
                .any(|o| o.order.sequence > order.sequence && measure == o.order.id.into());
            let Some(life) = self.measures.get_mut(measure) else { continue };
            let is_taken_back = match &order.instruction {
                Instruction::Release => life.action.isolation().is_some(),
                Instruction::Undo { measure: of } => *of == measure,
                Instruction::Begin { .. } | Instruction::Renew { .. } => false,
            };
            if is_taken_back && !is_later && life.let_go() {
                outputs.push(Output::Keep(Change::Measure(life.clone())));
            }
        }
        outputs
    }

    /// Counts what the machine says against what is shown, and believes what it says for the second time.
    fn compare(&mut self, id: MachineId, held: &[Holding], now: &Moment) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&id) else { return Vec::new() };
        let mut believed = Vec::new();
        for life in self.measures.of(id) {
            let measure = life.measure;
            let Some(word) = word_of(life, held) else {
                machine.said.remove(&measure);
                continue;
            };
            let said = machine.said.entry(measure).or_insert(Said { word, times: 0 });
            said.times = if said.word == word { said.times.saturating_add(1) } else { 1 };
            said.word = word;
            if said.times >= IN_A_ROW {
                machine.said.remove(&measure);
                believed.push((measure, word));
            }
        }
        let mut outputs = Vec::new();
        for (measure, word) in believed {
            outputs.extend(self.believe(id, measure, word, held, now));
        }
        outputs
    }

    fn believe(
        &mut self,
        id: MachineId,
        measure: MeasureId,
        word: Word,
        held: &[Holding],
        now: &Moment,
    ) -> Vec<Output> {
        let Some(life) = self.measures.get_mut(measure) else { return Vec::new() };
        let mut told = Vec::new();
        let detail = match word {
            Word::HeldAfterAll => {
                life.held_after_all();
                told.extend(life.receipt.clone().map(|r| Output::Signer(ForSigner::Learn(r))));
                "the machine says that it is in force after all"
            }
            Word::Released => {
                life.gone(MeasureState::Released);
                "the machine has an order to take it back, and says that it is not in force"
            }
            Word::Superseded => {
                life.gone(MeasureState::Superseded);
                "the machine says that another is in force in its place"
            }
            Word::Denied => {
                let why = denial(life, held);
                life.denied(&why);
                told.push(Output::Signer(ForSigner::NotInForce(id, measure)));
                told.push(Output::Tell(Notice::NotInForce { machine: id, measure, why }));
                "the machine says that it is not in force, and nobody took it back"
            }
        };
        let (action, origin) = (life.action.to_string(), life.origin);
        let mut outputs = vec![Output::Keep(Change::Measure(life.clone()))];
        let (deed, incident) = (Deed::MeasureChanged(measure), self.incident_of(id, origin));
        let detail = format!("{action}: {detail}");
        outputs.push(self.record(Actor::Agent(id), deed, Some(id), incident, detail, now));
        outputs.extend(told);
        if let Some(machine) = self.machines.get_mut(&id) {
            // What is over may free the machine's place, if people released it: the signer hears at once.
            machine.signer_told = None;
        }
        outputs
    }

    /// Tells the signer now and then how a machine in contact is. That no isolation is in force is told
    /// only where none is shown either: it may free the machine's place.
    fn tell_heard(&mut self, id: MachineId, held: &[Holding], now: &Moment) -> Option<Output> {
        let machine = self.machines.get_mut(&id)?;
        let isolation = held.iter().filter_map(|holding| holding.isolation).max();
        let is_shown =
            |life: &MeasureLife| life.action.isolation().is_some() && !life.state.is_over();
        if isolation.is_none() && self.measures.of(id).any(is_shown) {
            return None;
        }
        if machine.signer_told.is_some_and(|told| now.at.since(told) < TELL_EVERY) {
            return None;
        }
        machine.signer_told = Some(now.at);
        Some(Output::Signer(ForSigner::Heard(id, isolation)))
    }
}

/// What a machine that holds these says of a measure, if that is against what is shown.
fn word_of(life: &MeasureLife, held: &[Holding]) -> Option<Word> {
    if held.iter().any(|holding| holding.measure == life.measure) {
        return life.is_denied().then_some(Word::HeldAfterAll);
    }
    // It need not know of an order that it has not said it has; and what is over is over.
    if life.state == MeasureState::Requested || life.state.is_over() {
        return None;
    }
    if life.is_let_go() {
        return Some(Word::Released);
    }
    let isolation = life.action.isolation();
    if isolation.is_some() && held.iter().any(|holding| holding.isolation >= isolation) {
        return Some(Word::Superseded);
    }
    (!life.is_denied()).then_some(Word::Denied)
}

fn denial(life: &MeasureLife, held: &[Holding]) -> String {
    let isolation = held.iter().filter_map(|holding| holding.isolation).max();
    match (life.action.isolation(), isolation) {
        (Some(_), Some(milder)) => format!("the machine says that only {milder} is in force on it"),
        (Some(_), None) => "the machine says that no isolation is in force on it".to_owned(),
        (None, _) => "the machine says that it is not in force".to_owned(),
    }
}
