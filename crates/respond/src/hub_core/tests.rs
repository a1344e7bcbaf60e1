//! What the hub's mind makes of what a machine says that it holds, with the signer's mind beside it.

use cordon_model::action::{Action, ActionKind, Denied, Sha256Digest};
use cordon_model::asset::ClinicalTier;
use cordon_model::event::RawEvent;
use cordon_model::finding::{Level, RuleRef};
use cordon_model::ids::{FindingId, PermitId};
use cordon_model::measure::Proof;
use cordon_model::policy::Mode;
use cordon_model::signed::{Document, seal};
use cordon_model::time::{BootId, UtcNanos};
use ed25519_dalek::SigningKey;

use super::asking::Question;
use super::*;
use crate::clock::tests::moment;
use crate::signer_core::SignerCore;

fn verified<D: Document>(document: &D) -> Verified<D> {
    let key = SigningKey::from_bytes(&[1; 32]);
    seal(document, &key).unwrap().open(&key.verifying_key()).unwrap()
}

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn proof() -> Proof {
    Proof {
        table_handle: Some(1),
        is_read_back: true,
        probes: vec![],
        unproven: vec![],
        at: BootNanos(0),
    }
}

fn status(at_boot: BootNanos, holds: Holds) -> Status {
    Status { at_boot, holds, rules: 1, events: 0, lost: 0, break_glass: 0, guidance: 0 }
}

/// Machines 1, 2… (of one kind, if there are several), linked, in mode `act`; hub and signer hear each
/// other at once.
struct Bench {
    policy: Verified<Policy>,
    hub: HubCore,
    signer: SignerCore,
    rows: BTreeMap<MeasureId, Change>,
    outputs: Vec<Output>,
    seconds: u64,
    number: u64,
    dice: u8,
}

impl Bench {
    fn new(machines: u8) -> Self {
        Self::with(machines, |policy| policy.mode = Mode::Act)
    }

    fn with(machines: u8, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::default_for("RJ1".parse().unwrap());
        policy.budget.group_percent = 100;
        change(&mut policy);
        let signer = SignerCore::new(policy.clone(), &moment("hub", 0));
        let policy = verified(&policy);
        let mut bench = Self {
            hub: HubCore::new(&policy),
            policy,
            signer,
            rows: BTreeMap::new(),
            outputs: Vec::new(),
            seconds: 1,
            number: 0,
            dice: 0,
        };
        for number in 1..=machines {
            let draft = Assignment {
                organisation: "RJ1".parse().unwrap(),
                machine: machine(number),
                revision: 0,
                name: format!("m{number}"),
                tier: Some(ClinicalTier::None),
                kind: (machines > 1).then(|| "desk".into()),
                group: Some("ward".into()),
                lifelines: vec![],
                names: Vec::new(),
                protected: cordon_model::asset::Protected::default(),
                watched: Vec::new(),
                hub: vec![],
            };
            let assignment = verified(&bench.signer.assign(draft).unwrap());
            bench.hub.assigned(&assignment);
            bench.link(number, 1);
            let now = bench.now();
            bench.signer.heard(machine(number), Some(Isolation::Watch), &now);
        }
        bench
    }

    fn now(&self) -> Moment {
        let utc = UtcNanos::from_unix_nanos(0).plus(Duration::from_secs(self.seconds));
        Moment { utc, ..moment("hub", self.seconds) }
    }

    fn link(&mut self, number: u8, link: u64) {
        self.link_with(number, link, cordon_model::wire::VERSION, Vec::new());
    }

    fn link_as(&mut self, number: u8, link: u64, version: u16) {
        self.link_with(number, link, version, Vec::new());
    }

    fn link_saying(&mut self, number: u8, link: u64, coverage: Vec<Coverage>) {
        self.link_with(number, link, cordon_model::wire::VERSION, coverage);
    }

    fn link_with(&mut self, number: u8, link: u64, version: u16, coverage: Vec<Coverage>) {
        let hello = Hello {
            version,
            build: String::new(),
            host: String::new(),
            boot: BootId("m".into()),
            last_order: 0,
            assignment: 9,
            policy: 9,
            coverage,
        };
        let now = self.now();
        let outputs = self.hub.linked(machine(number), link, &hello, &now);
        self.carry(outputs);
    }

    fn covered(&mut self, id: MachineId, link: u64, coverage: &[Coverage]) {
        let now = self.now();
        let outputs = self.hub.covered(id, link, coverage, &now);
        self.carry(outputs);
    }

    /// One call's outputs: rows are kept, the signer answers.
    fn carry(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            self.outputs.push(output.clone());
            match output {
                Output::Keep(Change::Measure(life)) => {
                    self.rows.insert(life.measure, Change::Measure(life));
                }
                Output::Signer(message) => self.tell_signer(message),
                _ => {}
            }
        }
    }

    fn tell_signer(&mut self, message: ForSigner) {
        let now = self.now();
        match message {
            ForSigner::Propose(proposal) => {
                self.dice += 1;
                let dice = self.dice;
                let answer = self.signer.sign(&proposal, &now, &mut || [dice; 16]);
                let answer = answer.map(|order| verified(&order));
                let id = proposal.id;
                // Two questions of one answer are two.
                let mut bytes = [dice; 16];
                let mut each = || {
                    bytes[0] = bytes[0].wrapping_add(1);
                    bytes
                };
                let outputs = self.hub.signer_answered(id, answer, &now, &mut each);
                self.carry(outputs);
            }
            ForSigner::Learn(receipt) => self.signer.learn(&receipt),
            ForSigner::NeverBegun(machine, order) => {
                self.signer.never_begun(machine, order);
            }
            ForSigner::Heard(machine, isolation) => self.signer.heard(machine, isolation, &now),
            ForSigner::NotInForce(machine, measure) => self.signer.not_in_force(machine, measure),
            ForSigner::Asked(machine, approval) => self.signer.asked(machine, approval, &now),
        }
    }

    fn report(&mut self, number: u8, report: Arrived) {
        let outputs = self.hears_of(number, report);
        self.carry(outputs);
    }

    /// What the hub does about a report, before the signer hears of it.
    fn hears_of(&mut self, number: u8, report: Arrived) -> Vec<Output> {
        self.hears_all(number, [report])
    }

    /// The same of several reports in one message.
    fn hears_all(&mut self, number: u8, reports: impl IntoIterator<Item = Arrived>) -> Vec<Output> {
        let numbered = reports.into_iter().map(|report| {
            self.number += 1;
            (self.number, report)
        });
        let reports = numbered.collect();
        let now = self.now();
        self.dice = self.dice.wrapping_add(1);
        let dice = self.dice;
        self.hub.arrived(machine(number), 1, reports, &now, &mut || [dice; 16])
    }

    fn find(&mut self, number: u8) {
        let finding = self.finding(number);
        self.report(number, Arrived::Finding(Box::new(finding), vec![]));
    }

    fn finding(&self, number: u8) -> Finding {
        let finding = self.number as u8;
        let raw_sha256 = [finding; 32];
        let rule =
            RuleRef { id: "rule".into(), title: "a rule".into(), level: Level::High, tags: vec![] };
        Finding {
            id: FindingId::of("rule", &format!("m{number}"), &raw_sha256),
            rule,
            host: format!("m{number}"),
            time: UtcNanos::from_unix_nanos(i64::from(finding) * 1_000_000),
            boot_time: None,
            process: None,
            matched: vec![],
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256,
        }
    }

    /// The machine's newest order.
    fn order(&self, number: u8) -> Option<Order> {
        let of = self.hub.orders().filter(|life| life.order.machine == machine(number));
        of.max_by_key(|life| life.order.sequence).map(|life| life.order.clone())
    }

    /// The machine takes its newest order.
    fn take(&mut self, number: u8) -> Order {
        let order = self.order(number).unwrap();
        let now = self.now();
        let outputs = self.hub.order_taken(machine(number), 1, order.id, &now);
        self.carry(outputs);
        order
    }

    fn receipt(&mut self, number: u8, measure: MeasureId, origin: Origin, state: MeasureState) {
        self.report(
            number,
            Arrived::Receipt(Receipt {
                machine: machine(number),
                measure,
                origin,
                action: Action::Isolate(Isolation::Segment),
                proof: (state == MeasureState::Verified).then(proof),
                state,
                lease_ends: None,
                boot: BootId("m".into()),
                at_boot: BootNanos(0),
                at: UtcNanos::from_unix_nanos(0),
                sockets_cut: 0,
                done: vec![],
                spared: Vec::new(),
            }),
        );
    }

    /// A finding, an order for it, and the machine shows that it is in force.
    fn isolated(&mut self, number: u8) -> MeasureId {
        self.find(number);
        let order = self.take(number);
        let measure = order.id.into();
        self.receipt(number, measure, Origin::Order(order.id), MeasureState::Verified);
        measure
    }

    fn release(&mut self, number: u8) {
        self.wish(number, Instruction::Release);
    }

    fn wish(&mut self, number: u8, instruction: Instruction) {
        self.wish_of("ann", number, instruction).unwrap();
    }

    fn wish_of(
        &mut self,
        name: &str,
        number: u8,
        instruction: Instruction,
    ) -> Result<Wished, AnswerRefused> {
        let wish = Wish {
            machine: machine(number),
            instruction,
            person: Approver { name: name.into(), is_clinical: false },
            identity: Identity::Session,
            incident: None,
            reason: "clean".into(),
        };
        let now = self.now();
        self.dice += 1;
        let dice = self.dice;
        let (wished, outputs) = self.hub.people_propose(wish, &now, &mut || [dice; 16])?;
        self.carry(outputs);
        Ok(wished)
    }

    fn says(&mut self, number: u8, holds: Holds) {
        self.seconds += 2;
        let at_boot = BootNanos(self.seconds * 1_000_000_000);
        self.hears(number, 1, status(at_boot, holds));
    }

    fn hears(&mut self, number: u8, link: u64, status: Status) {
        let now = self.now();
        let outputs = self.hub.status(machine(number), link, status, &now);
        self.carry(outputs);
    }

    fn holds(measure: MeasureId) -> Holds {
        Holds::Measures(vec![Holding {
            measure,
            kind: ActionKind::Isolate,
            isolation: Some(Isolation::Segment),
            lease_ends: BootNanos(u64::MAX),
        }])
    }

    fn state(&self, measure: MeasureId) -> MeasureState {
        self.hub.measure(measure).unwrap().state.clone()
    }

    fn contained(&self, number: u8) -> Option<Isolation> {
        self.signer.situation(machine(number), &self.now()).contained
    }

    fn told(&self, measure: MeasureId) -> usize {
        let is_it = |output: &&Output| matches!(output, Output::Tell(Notice::NotInForce { measure: of, .. }) if *of == measure);
        self.outputs.iter().filter(is_it).count()
    }
}

#[test]
fn a_measure_that_its_machine_denies_twice_is_unproven_and_the_next_finding_is_answered() {
    let mut bench = Bench::new(1);
    let measure = bench.isolated(1);
    let first = bench.order(1).unwrap();
    bench.find(1);
    assert_eq!(bench.order(1).unwrap().id, first.id, "it is left to what is in force");

    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.state(measure), MeasureState::Verified, "one may have been on its way");
    bench.says(1, Holds::NOTHING);
    assert!(bench.state(measure).is_unproven());
    assert_eq!(bench.told(measure), 1);
    let kept = bench.rows.get(&measure);
    assert!(matches!(kept, Some(Change::Measure(life)) if life.is_denied()), "{kept:?}");
    let in_ledger = bench.outputs.iter().any(|output| {
        matches!(output, Output::Record(record)
            if record.deed == Deed::MeasureChanged(measure) && record.detail.contains("not in force"))
    });
    assert!(in_ledger);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.told(measure), 1, "said once");

    bench.find(1);
    assert!(bench.order(1).unwrap().sequence > first.sequence, "answered anew");
}

#[test]
fn what_was_on_its_way_beside_a_receipt_harms_nothing() {
    let mut bench = Bench::new(1);
    bench.says(1, Holds::NOTHING);
    let measure = bench.isolated(1);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Bench::holds(measure));
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.state(measure), MeasureState::Verified, "never twice in a row");
    // A receipt is newer than what was said before it.
    bench.receipt(1, measure, Origin::LeaseEnd(measure), MeasureState::Applied);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.state(measure), MeasureState::Applied);
    // Nor is one on another link, nor the same one again.
    bench.link(1, 2);
    let at_boot = BootNanos(bench.seconds * 1_000_000_000 + 1);
    let said = status(at_boot, Holds::NOTHING);
    bench.hears(1, 1, said.clone());
    bench.hears(1, 2, said.clone());
    bench.hears(1, 2, said);
    assert_eq!(bench.state(measure), MeasureState::Applied);
}

#[test]
fn not_to_know_is_not_to_deny() {
    let mut bench = Bench::new(1);
    let measure = bench.isolated(1);
    for _ in 0..5 {
        bench.says(1, Holds::Unknown { why: "the helper does not answer".into() });
    }
    assert_eq!((bench.state(measure), bench.told(measure)), (MeasureState::Verified, 0));
    // Nor does it end a row: a helper that comes and goes hides nothing.
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::Unknown { why: "the helper does not answer".into() });
    bench.says(1, Holds::NOTHING);
    assert!(bench.state(measure).is_unproven());
}

#[test]
fn an_order_that_its_machine_has_not_is_not_denied_and_one_that_was_lost_there_is() {
    let mut bench = Bench::new(1);
    bench.find(1);
    let order = bench.order(1).unwrap();
    for _ in 0..3 {
        bench.says(1, Holds::NOTHING);
    }
    assert_eq!(bench.state(order.id.into()), MeasureState::Requested);
    bench.take(1);
    for _ in 0..2 {
        bench.says(1, Holds::NOTHING);
    }
    assert!(bench.state(order.id.into()).is_unproven(), "it said that it has it");
}

#[test]
fn what_is_there_again_is_shown_and_counted_on_again() {
    for by_receipt in [true, false] {
        let mut bench = Bench::new(1);
        let measure = bench.isolated(1);
        let order = bench.order(1).unwrap();
        bench.says(1, Holds::NOTHING);
        bench.says(1, Holds::NOTHING);
        assert_eq!(bench.contained(1), None);
        if by_receipt {
            bench.receipt(1, measure, Origin::Order(order.id), MeasureState::Verified);
        } else {
            bench.says(1, Bench::holds(measure));
            assert!(bench.state(measure).is_unproven(), "once may be an accident");
            bench.says(1, Bench::holds(measure));
        }
        assert_eq!(bench.state(measure), MeasureState::Verified);
        assert_eq!(bench.contained(1), Some(Isolation::Segment));
        bench.find(1);
        assert_eq!(bench.order(1).unwrap().id, order.id, "left to it again");
    }
}

#[test]
fn a_machine_that_denies_frees_no_place_in_its_group_or_kind() {
    let mut bench = Bench::new(2);
    let measure = bench.isolated(1);
    let is_last = |bench: &Bench| bench.signer.situation(machine(2), &bench.now()).is_last_of_kind;
    assert!(is_last(&bench));
    // By its status, and then by a receipt too.
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.contained(1), None, "a finding on it would be answered");
    assert!(is_last(&bench), "and it is no stand-in all the same");
    bench.receipt(1, measure, Origin::LeaseEnd(measure), MeasureState::Released);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert!(is_last(&bench));
    // People release it, it takes that, and says that nothing is in force: now it is one.
    bench.release(1);
    assert!(is_last(&bench));
    let release = bench.take(1);
    bench.says(1, Holds::NOTHING);
    assert!(is_last(&bench), "that is the hub's word, and the hub may be stolen");
    bench.receipt(1, release.id.into(), Origin::Order(release.id), MeasureState::Released);
    assert!(!is_last(&bench));
}

#[test]
fn a_fiction_of_another_measure_frees_no_place_either() {
    let mut bench = Bench::new(2);
    // It was isolated and released before, honestly.
    let before = bench.isolated(1);
    bench.release(1);
    bench.take(1);
    bench.receipt(1, before, Origin::LeaseEnd(before), MeasureState::Released);
    let measure = bench.isolated(1);
    let fiction = MeasureId::new(UtcNanos::from_unix_nanos(0), [9; 10]);
    for invented in [fiction, before] {
        bench.receipt(1, invented, Origin::LeaseEnd(measure), MeasureState::Verified);
        bench.receipt(1, measure, Origin::LeaseEnd(measure), MeasureState::SteppedDown);
        bench.receipt(1, invented, Origin::LeaseEnd(measure), MeasureState::Released);
    }
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert!(bench.signer.situation(machine(2), &bench.now()).is_last_of_kind);
}

#[test]
fn a_release_ends_what_the_machine_has_lost() {
    let mut bench = Bench::new(1);
    let measure = bench.isolated(1);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    bench.release(1);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert!(bench.state(measure).is_unproven(), "it has not said that it has the order");
    bench.take(1);
    // There is nothing to take back, so no receipt comes.
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.state(measure), MeasureState::Released);
}

#[test]
fn one_measure_that_is_taken_back_ends_like_a_release() {
    let mut bench = Bench::new(2);
    let measure = bench.isolated(1);
    bench.wish(1, Instruction::Undo { measure });
    bench.take(1);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.state(measure), MeasureState::Released);
    let is_last = |bench: &Bench| bench.signer.situation(machine(2), &bench.now()).is_last_of_kind;
    assert!(is_last(&bench), "that is the hub's word, and the hub may be stolen");
    bench.receipt(1, measure, Origin::LeaseEnd(measure), MeasureState::Released);
    assert!(!is_last(&bench), "this is its own");
}

#[test]
fn what_is_about_to_be_taken_back_answers_no_finding() {
    let mut bench = Bench::new(1);
    let measure = bench.isolated(1);
    bench.wish(1, Instruction::Undo { measure });
    let undo = bench.order(1).unwrap();
    bench.find(1);
    let anew = bench.order(1).unwrap();
    assert!(anew.sequence > undo.sequence && anew.instruction.isolation().is_some());
}

#[test]
fn a_measure_besides_the_isolation_is_denied_by_itself() {
    let mut bench = Bench::new(1);
    let isolated = bench.isolated(1);
    let deny = Action::Deny(Denied::Sha256(Sha256Digest([7; 32])));
    let lease = bench.policy.lease;
    bench.wish(1, Instruction::begin(deny, lease));
    let denied: MeasureId = bench.take(1).id.into();
    bench.says(1, Bench::holds(isolated));
    bench.says(1, Bench::holds(isolated));
    assert_eq!(bench.told(denied), 1);
    assert!(bench.state(denied).is_unproven());
    assert_eq!(bench.state(isolated), MeasureState::Verified, "it is no other isolation");
    assert_eq!(bench.contained(1), Some(Isolation::Segment));
}

#[test]
fn what_a_machine_says_that_it_holds_answers_a_finding_before_its_receipt_comes() {
    let mut bench = Bench::new(1);
    let permit = PermitId::new(UtcNanos::from_unix_nanos(0), [7; 10]);
    bench.says(1, Bench::holds(permit.into()));
    bench.find(1);
    assert!(bench.order(1).is_none());
}

#[test]
fn what_was_isolated_anew_takes_the_place_of_what_was_lost() {
    let mut bench = Bench::new(1);
    let lost = bench.isolated(1);
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    let anew = bench.isolated(1);
    assert_ne!(lost, anew);
    bench.says(1, Bench::holds(anew));
    bench.says(1, Bench::holds(anew));
    assert_eq!(bench.state(lost), MeasureState::Superseded);
    assert_eq!(bench.state(anew), MeasureState::Verified);
}

#[test]
fn a_restart_of_hub_or_signer_does_not_revive_what_is_denied() {
    let mut bench = Bench::new(1);
    // Begun by a permit: no order, and nothing that could be called never begun.
    let permit = PermitId::new(UtcNanos::from_unix_nanos(0), [7; 10]);
    let origin = Origin::Permit { permit, finding: FindingId::of("r", "h", &[0; 32]) };
    let measure = permit.into();
    bench.receipt(1, measure, origin, MeasureState::Verified);
    assert_eq!(bench.contained(1), Some(Isolation::Segment));
    bench.says(1, Holds::NOTHING);
    bench.says(1, Holds::NOTHING);
    assert_eq!(bench.contained(1), None);
    // The signer was away, and hears everything again.
    for message in bench.hub.for_a_new_signer() {
        bench.tell_signer(message);
    }
    assert_eq!(bench.contained(1), None);
    let rows = bench.rows.values().cloned().collect();
    let (hub, told) = HubCore::restore(&bench.policy, rows);
    assert!(hub.measure(measure).unwrap().is_denied());
    bench.hub = hub;
    bench.carry(told);
    assert_eq!(bench.contained(1), None);
}

#[test]
fn a_permit_that_comes_before_its_machines_assignment_is_not_lost() {
    let mut bench = Bench::new(0);
    let draft = Assignment {
        organisation: "RJ1".parse().unwrap(),
        machine: machine(1),
        revision: 0,
        name: "m1".into(),
        tier: Some(ClinicalTier::None),
        kind: None,
        group: None,
        lifelines: vec![],
        names: Vec::new(),
        protected: cordon_model::asset::Protected::default(),
        watched: Vec::new(),
        hub: vec![],
    };
    let assignment = verified(&bench.signer.assign(draft).unwrap());
    let mut dice = || [7; 16];
    let permits = bench.signer.renew_permits(&moment("hub", 1), &mut dice);
    assert_eq!(permits.len(), 1);
    assert!(
        bench.hub.permitted(&verified(&permits[0])).is_empty(),
        "the hub knows no such machine"
    );
    let outputs = bench.hub.assigned(&assignment);
    let kept = outputs
        .iter()
        .any(|output| matches!(output, Output::Keep(Change::Machine(row)) if row.permit.is_some()));
    assert!(kept, "{outputs:?}");
}

mod again;
mod asking;
mod distrust;
mod easing;
mod left;
mod out_of_reach;
mod spared;
