//! From a finding to the return to service: the plan is seen, ordered and looked at again; the gate says what
//! is missing; and it holds up nobody who says why.

use cordon_hub::view::{AssignmentDraft, Ordered, PlanOrdered, PlanView, StepCame};
use cordon_hub::{Hub, HubError, Who};
use cordon_model::action::{Action, FilePath, FileTarget};
use cordon_model::asset::ClinicalTier;
use cordon_model::change::Changes;
use cordon_model::finding::{Level, ProcessRef};
use cordon_model::gate::{MOST_LEFT, Need, ReturnTerms, Said};
use cordon_model::holds::Holds;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::look::{LookAt, Seen, SeenProcess};
use cordon_model::measure::{Isolation, MeasureState, Receipt};
use cordon_model::order::Instruction;
use cordon_model::policy::{Mode, Policy};
use cordon_model::record::Deed;
use cordon_model::survey::{FirstSeen, Survey, Thing, ThingKind};
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_model::wire::{Coverage, DROPPED, FromAgent, Hello, Report, Status, VERSION};
use cordon_respond::approval::ApprovalState;
use cordon_respond::eliminate::{Step, StepStatus};
use cordon_store::{Person, Role, Session};

use super::support::{Machine, Site, admin, finding, until};

const WORM: &str = "/tmp/worm";
const UNIT: &str = "/etc/systemd/system/evil.service";

fn person(name: &str) -> Who {
    signed_in(name, Role::Responder)
}

fn signed_in(name: &str, role: Role) -> Who {
    let now = UtcNanos::now();
    let person = Person {
        name: name.into(),
        role,
        is_clinical: false,
        is_active: true,
        password: None,
        created_at: now,
    };
    Who::of(&Session { person, begun_at: now, expires_at: now })
}

/// A machine on which a worm was found, linked, with sensors that see.
struct Attacked {
    machine: Machine,
    boot_time: u64,
}

impl Attacked {
    async fn new(site: &Site, tier: ClinicalTier) -> Self {
        let machine = site.machine_of("office-1", Some(tier)).await;
        let mut attacked = Self { machine, boot_time: 1_000_000_000 };
        attacked.connect().await;
        attacked.worm(1).await;
        attacked
    }

    async fn connect(&mut self) {
        self.connect_as(VERSION).await;
    }

    /// Over a link of this version.
    async fn connect_as(&mut self, version: u16) {
        self.machine.dial().await;
        let sees = |what: &str| Coverage { what: what.into(), by: Some("eBPF".into()), gap: None };
        let coverage = vec![sees("process starts"), sees("connections")];
        let hello = Hello { version, coverage, ..self.machine.hello() };
        self.machine.say(&FromAgent::Hello(hello)).await;
        self.status(Holds::NOTHING, 0).await;
    }

    async fn status(&mut self, holds: Holds, lost: u64) {
        self.boot_time += 1;
        let at_boot = BootNanos(self.boot_time);
        let status =
            Status { at_boot, holds, rules: 1, events: 9, lost, break_glass: 0, guidance: 0 };
        self.machine.say(&FromAgent::Status(status)).await;
    }

    /// A worm's process is seen.
    async fn worm(&mut self, event: u8) {
        let mut found = finding("office-1", Level::High, event);
        found.process = Some(worm());
        self.machine.report(Report::Finding(Box::new(found))).await;
    }

    async fn isolated(&mut self, hub: &Hub) {
        let id = self.machine.id();
        hub.isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
        let order = self.machine.order().await;
        self.machine.carry_out(&order).await;
        // What the machine says of itself agrees.
        let standing = hub.standing(id).unwrap();
        let held = standing.measures.iter().map(|one| cordon_model::holds::Holding {
            measure: one.measure,
            kind: cordon_model::action::ActionKind::Isolate,
            isolation: Some(Isolation::Segment),
            lease_ends: BootNanos(u64::MAX),
        });
        self.status(Holds::Measures(held.collect()), 0).await;
        until("the machine says what it holds", || async {
            hub.standing(id).unwrap().unknown.is_none()
        })
        .await;
    }

    /// Answers the three looks that a plan takes.
    async fn tells(&mut self, listed: Vec<SeenProcess>, things: Vec<Thing>) {
        for _ in 0..3 {
            let (number, at) = self.machine.asked_to_look().await;
            let of = u32::try_from(listed.len()).unwrap();
            let seen = match at {
                LookAt::Processes => {
                    Seen::Processes { listed: listed.clone(), of, boot: BootId("boot".into()) }
                }
                LookAt::Survey { .. } => Seen::Survey(Survey {
                    taken_at: UtcNanos::now(),
                    known_since: ago(24 * 3600),
                    of: u32::try_from(things.len()).unwrap(),
                    things: things.clone(),
                    unread: vec![],
                }),
                LookAt::Changes { .. } => Seen::Changes(Changes {
                    taken_at: UtcNanos::now(),
                    watched_since: ago(24 * 3600),
                    changes: vec![],
                    of: 0,
                    gaps: vec![],
                }),
                LookAt::Connections(_) | LookAt::Measure(_) => {
                    panic!("a plan needs no connections")
                }
            };
            self.machine.say(&FromAgent::Looked { number, seen }).await;
        }
    }

    async fn plan(&mut self, hub: &Hub, listed: &[SeenProcess], things: &[Thing]) -> PlanView {
        let (id, who) = (self.machine.id(), admin());
        let (plan, ()) = tokio::join!(
            hub.elimination(id, None, &who),
            self.tells(listed.to_vec(), things.to_vec())
        );
        plan.unwrap()
    }

    async fn verify(&mut self, hub: &Hub, listed: &[SeenProcess], things: &[Thing]) -> bool {
        let (id, who) = (self.machine.id(), admin());
        let (verified, ()) = tokio::join!(
            hub.verify_elimination(id, None, &who),
            self.tells(listed.to_vec(), things.to_vec())
        );
        verified.unwrap().1
    }

    /// Orders it, and carries each order out.
    async fn eliminated(&mut self, hub: &Hub, listed: &[SeenProcess], things: &[Thing]) {
        let digest = self.plan(hub, listed, things).await.digest;
        let (id, who) = (self.machine.id(), admin());
        let (came, ()) = tokio::join!(
            hub.order_elimination(id, None, &digest, "the worm", &who),
            self.tells(listed.to_vec(), things.to_vec())
        );
        let PlanOrdered::Ordered(steps) = came.unwrap() else { panic!("the same plan") };
        assert!(steps.iter().all(|one| matches!(one.came, StepCame::Signed { .. })), "{steps:?}");
        // The next comes when the one before is taken; receipts after that, as reading one answer skips others.
        let mut orders = Vec::with_capacity(steps.len());
        for _ in steps {
            let order = self.machine.order().await;
            self.machine.take(&order).await;
            orders.push(order);
        }
        for order in orders {
            let Instruction::Begin { action, .. } = &order.instruction else { panic!() };
            let is_kill = matches!(action, Action::Kill(_));
            let state = if is_kill { MeasureState::Done } else { MeasureState::Verified };
            let receipt = self.machine.receipt(&order, state);
            let sealed = self.machine.sealed(&receipt);
            self.machine.report(Report::Receipt(sealed)).await;
        }
    }
}

fn ago(seconds: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos(UtcNanos::now().unix_nanos() - seconds * 1_000_000_000)
}

fn worm() -> ProcessRef {
    ProcessRef { pid: 77, started: BootNanos(50_000_000), image: WORM.into() }
}

fn running() -> Vec<SeenProcess> {
    let seen = |process: ProcessRef, parent, command: &str| SeenProcess {
        process,
        parent,
        user: 0,
        command: command.into(),
    };
    let child =
        ProcessRef { pid: 78, started: BootNanos(60_000_000), image: "/usr/bin/sleep".into() };
    vec![seen(child, 77, "sleep 5"), seen(worm(), 1, WORM)]
}

fn unit(gone_at: Option<UtcNanos>) -> Thing {
    Thing {
        kind: ThingKind::Unit,
        path: FilePath::new(UNIT),
        line: None,
        sha256: [7; 32],
        owner: 0,
        first_seen: FirstSeen::Between { absent_at: ago(120), present_at: ago(60) },
        gone_at,
    }
}

async fn missing(hub: &Hub, machine: MachineId) -> Vec<Need> {
    hub.gate(machine).await.unwrap().gate.missing().map(|asked| asked.need).collect()
}

async fn deeds(hub: &Hub) -> Vec<Deed> {
    let size = hub.ledger().size;
    let entries = hub.ledger_records(0..size).await.unwrap();
    entries.into_iter().map(|entry| entry.record.deed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_eliminated_looked_at_again_and_the_machine_returns_through_the_gate() {
    let mut site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let id = attacked.machine.id();
    let hub = site.hub().clone();
    attacked.isolated(&hub).await;
    let everything = [Need::Clean, Need::Patched, Need::SignedOff];
    assert_eq!(missing(&hub, id).await, everything);
    let closed = hub.release(id, "cleaned", None, None, &admin()).await.unwrap_err();
    let words = closed.to_string();
    assert!(matches!(closed, HubError::GateClosed { .. }));
    assert!(words.contains("cordon eliminate office-1 --verify"), "{words}");
    assert!(words.contains("--despite"), "{words}");

    // Seen first; looked at again, not clean.
    let things = [unit(None)];
    let view = attacked.plan(&hub, &running(), &things).await;
    let kinds: Vec<_> = view.plan.to_order().map(|(_, action)| action.kind().to_string()).collect();
    assert_eq!(kinds, ["quarantine", "quarantine", "kill"], "{:#?}", view.plan);
    assert!(!attacked.verify(&hub, &running(), &things).await);
    assert_eq!(missing(&hub, id).await, everything);

    attacked.eliminated(&hub, &running(), &things).await;
    let gone = [unit(Some(UtcNanos::now()))];
    assert!(attacked.verify(&hub, &[], &gone).await);
    assert_eq!(missing(&hub, id).await, [Need::Patched, Need::SignedOff]);
    hub.say_patched(id, "the share is closed", &admin()).await.unwrap();
    hub.sign_off(id, "seen by me", &admin()).await.unwrap();
    assert_eq!(missing(&hub, id).await, []);

    // Something new is found: the look and the sign-off no longer count, and the patch does.
    attacked.worm(2).await;
    assert_eq!(missing(&hub, id).await, [Need::Clean, Need::SignedOff]);
    assert!(hub.release(id, "cleaned", None, None, &admin()).await.is_err());
    assert!(attacked.verify(&hub, &[], &gone).await, "it runs no more, and its program is aside");
    hub.sign_off(id, "seen again", &admin()).await.unwrap();

    // What was said outlives the hub.
    drop(hub);
    site.restart().await;
    attacked.connect().await;
    let hub = site.hub();
    let standing = hub.standing(id).unwrap();
    let held = standing.measures.iter().map(|one| cordon_model::holds::Holding {
        measure: one.measure,
        kind: cordon_model::action::ActionKind::Isolate,
        isolation: Some(Isolation::Segment),
        lease_ends: BootNanos(u64::MAX),
    });
    attacked.status(Holds::Measures(held.collect()), 0).await;
    until("the gate is open", || async { hub.gate(id).await.unwrap().is_open }).await;
    let released = hub.release(id, "cleaned", None, None, &admin()).await.unwrap();
    assert!(matches!(released, Ordered::Signed { .. }));
    assert_eq!(attacked.machine.order().await.instruction, Instruction::Release);
    for deed in [
        Deed::EliminationOrdered,
        Deed::LookedAgain { is_clean: false },
        Deed::LookedAgain { is_clean: true },
        Deed::ReturnSaid,
        Deed::Returned { is_despite: false },
    ] {
        until("it is in the ledger", || async { deeds(hub).await.contains(&deed) }).await;
    }
}

/// A program that lies in `/dev/shm`, of the account that the worm runs as.
fn dropped(name: &str) -> Thing {
    Thing {
        kind: ThingKind::DroppedProgram,
        path: FilePath::new(format!("/dev/shm/{name}")),
        owner: 1000,
        ..unit(None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_agent_that_looks_for_no_dropped_programs_no_look_is_clean() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub().clone());
    attacked.isolated(&hub).await;
    attacked.eliminated(&hub, &running(), &[]).await;
    assert!(attacked.verify(&hub, &[], &[]).await, "one that looks there is clean");

    attacked.machine.disconnect();
    attacked.connect_as(DROPPED - 1).await;
    // When this is taken, what the hello said is, too.
    attacked.worm(2).await;
    let who = admin();
    let (verified, ()) = tokio::join!(
        hub.verify_elimination(id, None, &who),
        attacked.tells(vec![], vec![dropped("payload")])
    );
    let (view, is_clean) = verified.unwrap();
    assert!(!is_clean, "{view:#?}");
    let is_said = |step: &&Step| match &step.status {
        StepStatus::Unknown { why } => {
            step.what.starts_with("/tmp,") && why.contains("does not look there")
        }
        _ => false,
    };
    assert_eq!(view.plan.left().filter(is_said).count(), 1, "{view:#?}");
    // What it tells all the same is no word of one that looks there.
    assert!(!view.plan.steps.iter().any(|step| step.what.contains("payload")), "{view:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_ordered_but_for_what_was_dropped_since_it_was_seen() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub, who) = (attacked.machine.id(), site.hub(), admin());
    let mut listed = running();
    listed.iter_mut().for_each(|one| one.user = 1000);
    let digest = attacked.plan(hub, &listed, &[dropped("a")]).await.digest;
    let (came, ()) = tokio::join!(
        hub.order_elimination(id, None, &digest, "the worm", &who),
        attacked.tells(listed, vec![dropped("a"), dropped("b")])
    );
    let PlanOrdered::Ordered(steps) = came.unwrap() else { panic!("nothing was ordered") };
    let (refused, signed): (Vec<_>, Vec<_>) =
        steps.iter().partition(|one| matches!(one.came, StepCame::Refused(_)));
    assert!(
        refused.len() == 2 && refused.iter().all(|one| one.what.contains("/dev/shm/")),
        "{steps:#?}"
    );
    assert!(
        signed.len() == 2 && signed.iter().all(|one| !one.what.contains("/dev/shm/")),
        "{steps:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_ordered_only_as_it_was_seen() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub, who) = (attacked.machine.id(), site.hub(), admin());
    let digest = attacked.plan(hub, &running(), &[]).await.digest;
    let (came, ()) = tokio::join!(
        hub.order_elimination(id, None, &digest, "the worm", &who),
        attacked.tells(running(), vec![unit(None)])
    );
    let PlanOrdered::Differs(now) = came.unwrap() else { panic!("another plan was ordered") };
    assert!(now.plan.steps.iter().any(|step| step.what.contains(UNIT)), "what differs is shown");
    let measures = hub.machine(id).await.unwrap().measures;
    assert!(measures.is_empty(), "nothing is ordered");
    assert!(!deeds(hub).await.contains(&Deed::EliminationOrdered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clinical_machines_steps_are_asked_where_the_policy_needs_more_people() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut policy = (*hub.policy()).clone();
    policy.approval.needs = vec![cordon_model::approval::NeedsMore {
        tiers: vec![ClinicalTier::Clinical],
        needs: cordon_model::approval::Needs::TwoPeople,
    }];
    hub.set_policy(policy, &admin()).await.unwrap();
    let mut attacked = Attacked::new(&site, ClinicalTier::Clinical).await;
    let (id, who) = (attacked.machine.id(), person("ann"));
    let view = attacked.plan(hub, &running(), &[]).await;
    assert!(view.plan.cautions[0].starts_with("clinical"), "{:?}", view.plan.cautions);
    let (came, ()) = tokio::join!(
        hub.order_elimination(id, None, &view.digest, "the worm", &who),
        attacked.tells(running(), vec![])
    );
    let PlanOrdered::Ordered(steps) = came.unwrap() else { panic!() };
    assert!(steps.iter().all(|one| matches!(one.came, StepCame::Asked { .. })), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_looked_at_is_not_clean() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub());
    attacked.machine.disconnect();
    until("it is out of contact", || async {
        !hub.verify_elimination(id, None, &admin()).await.unwrap().1
    })
    .await;
    let (view, is_clean) = hub.verify_elimination(id, None, &admin()).await.unwrap();
    assert!(!is_clean);
    assert!(view.plan.looked_at.iter().any(|what| what.contains("NOT LOOKED AT")), "{view:?}");
    let said = hub.gate(id).await.unwrap().statements;
    assert!(
        matches!(&said[0].said, Said::Looked(looked) if !looked.is_clean && looked.left_of > 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_word_settles_a_step_and_is_kept_with_the_name() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub, ann) = (attacked.machine.id(), site.hub(), person("ann"));
    let things = [unit(None)];
    let view = attacked.plan(hub, &[], &things).await;
    let step = view.plan.left().find(|step| step.what.contains(UNIT)).unwrap().id.clone();
    // The step is looked for in a plan that is made anew, and the plan after it is shown.
    let steps = [step.clone()];
    let (after, ()) = tokio::join!(hub.accept_steps(id, None, &steps, "our own", &ann), async {
        attacked.tells(vec![], things.to_vec()).await;
        attacked.tells(vec![], things.to_vec()).await;
    });
    assert!(after.unwrap().plan.left().all(|left| left.id != step));
    let said = hub.gate(id).await.unwrap().statements;
    assert_eq!(said[0].who(), "ann");
    assert!(said[0].in_words().contains("our own"), "{}", said[0].in_words());
    let unknown = ["ffffffff".to_owned()];
    let (none, ()) = tokio::join!(
        hub.accept_steps(id, None, &unknown, "our own", &ann),
        attacked.tells(vec![], vec![])
    );
    assert!(matches!(none, Err(HubError::Missing { .. })), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_why_is_not_held_up_and_it_is_written_down() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub());
    attacked.isolated(hub).await;
    let ann = person("ann");
    for empty in ["", "  "] {
        let refused = hub.release(id, "theatre", Some(empty), None, &ann).await;
        assert!(
            matches!(refused, Err(HubError::Invalid { .. })),
            "a reason is needed: {refused:?}"
        );
    }
    hub.release(id, "theatre", Some("the patient is on the table"), None, &ann).await.unwrap();
    assert_eq!(attacked.machine.order().await.instruction, Instruction::Release);
    let gate = hub.gate(id).await.unwrap();
    let Said::Returned { despite: Some(despite), .. } = &gate.statements[0].said else {
        panic!("{:?}", gate.statements)
    };
    assert_eq!(despite.why, "the patient is on the table");
    assert!(despite.missing[0].starts_with("clean"), "{:?}", despite.missing);
    let deed = Deed::Returned { is_despite: true };
    until("it is in the ledger", || async { deeds(hub).await.contains(&deed) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_word_leads_around_the_gate_and_cordons_own_is_taken_back_at_once() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub());
    attacked.isolated(hub).await;
    let watch = hub.isolate(id, Isolation::Watch, "softly", None, &admin()).await;
    assert!(matches!(watch, Err(HubError::GateClosed { .. })), "{watch:?}");
    let measure = hub.standing(id).unwrap().measures[0].measure;
    let undone = hub.undo(id, measure, "softly", &admin()).await;
    assert!(matches!(undone, Err(HubError::GateClosed { .. })), "{undone:?}");
    // A stricter isolation closes, and is nobody's to hold up.
    hub.isolate(id, Isolation::Full, "worse", None, &admin()).await.unwrap();

    // What Cordon did by itself was never people's to answer for.
    let policy = Policy { mode: Mode::Act, ..(*hub.policy()).clone() };
    hub.set_policy(policy, &admin()).await.unwrap();
    let mut other = site.machine("office-2").await;
    // Of another group, so that the group's share lets it be cut off.
    let draft = AssignmentDraft {
        tier: Some(ClinicalTier::None),
        group: Some("ward 2".into()),
        ..AssignmentDraft::default()
    };
    hub.assign(other.id(), draft, &admin()).await.unwrap();
    other.report(Report::Finding(Box::new(finding("office-2", Level::High, 9)))).await;
    let order = other.order().await;
    other.carry_out(&order).await;
    let undone = hub.undo_all(&[other.id()], "a wrong rule", &admin()).await.unwrap();
    assert_eq!(undone[0].taken_back.len(), 1);
    assert_eq!(other.order().await.instruction, Instruction::Release);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_of_people_is_taken_back_by_one_command() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    hub.isolate(machine.id(), Isolation::Segment, "wrong name", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    let gate = hub.gate(machine.id()).await.unwrap();
    assert!(gate.is_open && gate.gate.nothing_asked.is_some(), "{gate:?}");
    hub.release(machine.id(), "the wrong one", None, None, &admin()).await.unwrap();
    assert_eq!(machine.order().await.instruction, Instruction::Release);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_a_machine_that_is_in_service() {
    let site = Site::start().await;
    let (hub, machine) = (site.hub(), site.machine("office-1").await);
    let said = hub.say_patched(machine.id(), "x", &admin()).await;
    assert!(matches!(said, Err(HubError::Missing { .. })), "{said:?}");
    let viewer = hub.sign_off(machine.id(), "x", &signed_in("vera", Role::Viewer)).await;
    assert!(matches!(viewer, Err(HubError::NotAllowed { .. })), "{viewer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gate_asks_is_the_policys_and_terms_that_cannot_be_kept_are_refused() {
    let site = Site::start().await;
    let hub = site.hub();
    let with = |terms: ReturnTerms| Policy { return_terms: terms, ..(*hub.policy()).clone() };
    let short = ReturnTerms { counts_for_seconds: 1, ..ReturnTerms::default() };
    assert!(hub.set_policy(with(short), &admin()).await.is_err());
    let twice = ReturnTerms { needs: vec![Need::Clean, Need::Clean], ..ReturnTerms::default() };
    assert!(hub.set_policy(with(twice), &admin()).await.is_err());
    let only = ReturnTerms { needs: vec![Need::SignedOff], ..ReturnTerms::default() };
    hub.set_policy(with(only), &admin()).await.unwrap();
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    attacked.isolated(hub).await;
    assert_eq!(missing(hub, attacked.machine.id()).await, [Need::SignedOff]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_to_a_watch_passes_the_gate_as_it_is_at_the_answer() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, ann, bob) = (attacked.machine.id(), person("ann"), person("bob"));
    attacked.isolated(hub).await;
    let mut policy = (*hub.policy()).clone();
    policy.return_terms.needs = vec![Need::SignedOff];
    policy.approval.needs = vec![cordon_model::approval::NeedsMore {
        tiers: vec![ClinicalTier::None],
        needs: cordon_model::approval::Needs::TwoPeople,
    }];
    hub.set_policy(policy, &admin()).await.unwrap();
    hub.sign_off(id, "seen by me", &ann).await.unwrap();
    let asked = hub.isolate(id, Isolation::Watch, "softly", None, &ann).await.unwrap();
    let Ordered::Asked { approval, .. } = asked else { panic!("{asked:?}") };

    // Something new is found before the second person answers: what held at asking holds no more.
    attacked.worm(2).await;
    assert_eq!(missing(hub, id).await, [Need::SignedOff]);
    let refused = hub.answer(approval, true, "softly", &bob).await;
    let Err(HubError::GateClosed { missing: said, .. }) = refused else { panic!("{refused:?}") };
    assert!(said.contains("signed off"), "with what is missing: {said}");
    let question = hub.approval(approval).await.unwrap();
    assert_eq!(question.answers.len(), 1, "it still waits, without that yes");

    hub.sign_off(id, "seen again", &ann).await.unwrap();
    let state = hub.answer(approval, true, "softly", &bob).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    let order = attacked.machine.order().await;
    assert_eq!(order.instruction.isolation(), Some(Isolation::Watch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_orders_twenty_steps_at_once_and_leaves_people_their_brake() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub, who) = (attacked.machine.id(), site.hub(), admin());
    let things: Vec<Thing> = (0..30)
        .map(|number| Thing {
            path: FilePath::new(format!("/etc/systemd/system/evil-{number}.service")),
            ..unit(None)
        })
        .collect();
    let view = attacked.plan(hub, &[], &things).await;
    let count = view.plan.to_order().count();
    assert!(count >= 30, "{count}");
    let (came, ()) = tokio::join!(
        hub.order_elimination(id, None, &view.digest, "the worm", &who),
        attacked.tells(vec![], things)
    );
    let PlanOrdered::Ordered(steps) = came.unwrap() else { panic!("the same plan") };
    let (signed, rest): (Vec<_>, Vec<_>) =
        steps.iter().partition(|one| matches!(one.came, StepCame::Signed { .. }));
    assert_eq!((signed.len(), rest.len()), (20, count - 20));
    for one in rest {
        assert!(
            matches!(&one.came, StepCame::Refused(why) if why.contains("look again, and order the rest")),
            "{one:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_in_the_words_of_a_measure_passes_the_gate_too() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub());
    attacked.isolated(hub).await;
    let watch = Action::Isolate(Isolation::Watch);
    let begun = hub.begin(id, watch, "softly", None, &admin()).await;
    assert!(matches!(begun, Err(HubError::GateClosed { .. })), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_long_words_make_no_long_gate_and_no_long_statement() {
    let site = Site::start().await;
    let mut attacked = Attacked::new(&site, ClinicalTier::None).await;
    let (id, hub) = (attacked.machine.id(), site.hub());
    attacked.isolated(hub).await;
    hub.isolate(id, Isolation::Full, "worse", None, &admin()).await.unwrap();
    let order = attacked.machine.order().await;
    for number in 0..30_u8 {
        let path = FilePath::new(format!("/tmp/{number}{}", "ä".repeat(2_000)));
        let receipt = Receipt {
            measure: MeasureId::new(UtcNanos::from_unix_nanos(0), [number + 1; 10]),
            action: Action::Quarantine(FileTarget { path, sha256: None }),
            proof: None,
            ..attacked.machine.receipt(&order, MeasureState::Applied)
        };
        let sealed = attacked.machine.sealed(&receipt);
        attacked.machine.report(Report::Receipt(sealed)).await;
    }
    let gate = hub.gate(id).await.unwrap().gate;
    let probed = gate.needs.iter().find(|asked| asked.need == Need::Probed).unwrap();
    assert!(!probed.is_met);
    assert_eq!(probed.because.matches("not proven: ").count(), MOST_LEFT);
    assert!(probed.because.chars().count() < MOST_LEFT * 220 + 200, "{}", probed.because.len());
}
