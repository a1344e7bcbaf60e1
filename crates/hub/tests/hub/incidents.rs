//! From finding to measure, asked and by itself, and back.

use cordon_hub::view::{AssignmentDraft, Contact, Ordered};
use cordon_hub::{Hub, HubError};
use cordon_model::action::{Action, ActionKind};
use cordon_model::asset::{ClinicalTier, Transport};
use cordon_model::finding::{Level, ProcessRef, ReceivedFinding};
use cordon_model::holds::Holds;
use cordon_model::ids::IncidentId;
use cordon_model::incident::IncidentState;
use cordon_model::look::{IdleService, KnownBy, LookAt, OpenConnection, Seen};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Authority, Instruction};
use cordon_model::policy::Mode;
use cordon_model::record::Deed;
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_model::wire::{FromAgent, FromHub, Report, Status};
use cordon_respond::approval::ApprovalState;
use cordon_respond::grouping::Grouping;
use cordon_respond::signer_core::Refusal;
use cordon_store::{Change, IncidentFilter, Page, Role, SqliteState, State as _};
use std::time::Duration;

use super::support::{Site, admin, finding, found, until};

async fn only_incident(hub: &Hub) -> IncidentId {
    let listed = hub.incidents(IncidentFilter::Any, &Page::first(10)).await.unwrap();
    assert_eq!(listed.total, 1);
    listed.items[0].incident.id
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mode_ask_people_are_asked_and_their_yes_becomes_an_order() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    let incident = only_incident(hub).await;
    let questions = hub.approvals(true).await.unwrap();
    assert_eq!(questions.len(), 1);
    assert_eq!(questions[0].machine, machine.id());
    assert!(hub.machine(machine.id()).await.unwrap().measures.is_empty(), "nothing is done yet");

    let state = hub.answer(questions[0].id, true, "because", &admin()).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    let order = machine.order().await;
    assert!(matches!(order.authority, Authority::People { .. }));
    assert_eq!(order.incident, Some(incident));
    assert!(hub.approvals(true).await.unwrap().is_empty());
    let again = hub.answer(questions[0].id, false, "because", &admin()).await;
    assert!(matches!(again, Err(HubError::Answer(_))), "a question is answered once");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_mode_act_a_finding_becomes_a_proven_measure_and_a_release_takes_it_back() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    machine.send(found("office-1", Level::High, 1)).await;
    let order = machine.order().await;
    assert!(matches!(
        order.instruction,
        Instruction::Begin { action: Action::Isolate(Isolation::Segment), .. }
    ));
    assert!(matches!(order.authority, Authority::Policy { .. }));
    machine.carry_out(&order).await;
    let row = &hub.machines()[0];
    assert_eq!(row.isolation, Some(Isolation::Segment));
    assert_eq!(row.truth, Some(MeasureState::Verified));
    let incident = only_incident(hub).await;
    let view = hub.incident(incident, None).await.unwrap();
    assert_eq!(view.measures.len(), 1);
    assert_eq!(view.measures[0].receipts.len(), 2, "what it signed is kept as evidence");
    assert_eq!(view.measures[0].order.as_ref().unwrap().id, order.id);
    let has = |wanted: fn(&Deed) -> bool| view.timeline.iter().any(|e| wanted(&e.record.deed));
    assert!(has(|deed| matches!(deed, Deed::IncidentOpened)));
    assert!(has(|deed| matches!(deed, Deed::Ordered(_))));
    assert!(has(|deed| matches!(deed, Deed::Delivered(_))));
    assert!(has(|deed| matches!(deed, Deed::MeasureChanged(_))));
    let evidence = view.timeline.iter().find_map(|entry| entry.finding.as_ref()).unwrap();
    assert!(evidence.finding.raw.json.contains("/tmp/worm"), "with its raw event");

    // The gate of the return to service is another test's.
    let why = Some("a test");
    let released =
        hub.release(machine.id(), "cleaned", why, Some(incident), &admin()).await.unwrap();
    assert!(matches!(released, Ordered::Signed { is_linked: true, .. }));
    let release = machine.order().await;
    assert_eq!(release.instruction, Instruction::Release);
    assert!(release.sequence > order.sequence);
    machine.take(&release).await;
    let receipt = machine.receipt(&order, MeasureState::Released);
    machine.report(Report::Receipt(machine.sealed(&receipt))).await;
    assert_eq!(hub.machines()[0].isolation, None);
}

/// A finding about a running process, in a site whose policy also freezes it and sets its program aside.
fn about_a_process(host: &str) -> Report {
    let mut finding = finding(host, Level::High, 1);
    let (pid, started, image) = (77, BootNanos(5), "/tmp/worm".to_owned());
    finding.process = Some(ProcessRef { pid, started, image });
    Report::Finding(Box::new(finding))
}

async fn freezes_too(hub: &Hub, mode: Mode) {
    let mut policy = (*hub.policy()).clone();
    policy.mode = mode;
    for response in &mut policy.responses {
        response.also = vec![ActionKind::Freeze, ActionKind::Quarantine];
    }
    hub.set_policy(policy, &admin()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_the_policy_does_is_done_to_what_the_finding_names() {
    let site = Site::start().await;
    let hub = site.hub();
    freezes_too(hub, Mode::Act).await;
    let mut machine = site.machine("office-1").await;
    machine.send(about_a_process("office-1")).await;
    let mut actions = Vec::new();
    for _ in 0..3 {
        let order = machine.order().await;
        assert!(matches!(order.authority, Authority::Policy { .. }));
        let Instruction::Begin { action, .. } = &order.instruction else { panic!("{order:?}") };
        actions.push(action.kind());
        machine.take(&order).await;
        machine.carry_out(&order).await;
    }
    actions.sort();
    assert_eq!(actions, [ActionKind::Isolate, ActionKind::Freeze, ActionKind::Quarantine]);
    let view = hub.machine(machine.id()).await.unwrap();
    assert_eq!(view.measures.len(), 3);
    assert_eq!(view.row.isolation, Some(Isolation::Segment));

    let frozen = view.measures.iter().map(|view| &view.measure);
    let frozen = frozen.clone().find(|m| m.action.kind() == ActionKind::Freeze).unwrap().id;
    hub.undo(machine.id(), frozen, "it was a backup", &admin()).await.unwrap();
    assert_eq!(machine.order().await.instruction, Instruction::Undo { measure: frozen });
    assert_eq!(hub.machines()[0].isolation, Some(Isolation::Segment), "one is undone, not all");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_asks_for_all_that_the_policy_would_do_on_a_clinical_machine() {
    let site = Site::start().await;
    let hub = site.hub();
    freezes_too(hub, Mode::Act).await;
    let mut scanner = site.machine_of("ct-1", Some(ClinicalTier::Clinical)).await;
    scanner.report(about_a_process("ct-1")).await;
    let questions = hub.approvals(true).await.unwrap();
    assert_eq!(questions.len(), 1);
    assert_eq!(
        (questions[0].also.len(), questions[0].instruction.isolation().is_some()),
        (2, true)
    );
    assert!(hub.machine(scanner.id()).await.unwrap().measures.is_empty(), "nothing is done yet");
    hub.answer(questions[0].id, true, "because", &admin()).await.unwrap();
    for _ in 0..3 {
        let order = scanner.order().await;
        assert!(matches!(order.authority, Authority::People { .. }));
        scanner.take(&order).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_is_open_on_the_machine_now_or_that_it_is_not_known() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    let (asking, id) = (hub.clone(), machine.id());
    let preview =
        tokio::spawn(
            async move { asking.preview_now(id, Isolation::Full, &admin()).await.unwrap() },
        );
    let (number, at) = machine.asked_to_look().await;
    assert_eq!(at, LookAt::Connections(Isolation::Full));
    let open = OpenConnection {
        transport: Transport::Tcp,
        local: "10.0.0.5:40000".parse().unwrap(),
        remote: "10.0.0.20:9100".parse().unwrap(),
        user: 1000,
        goes_on: false,
    };
    let queue = IdleService {
        known_by: KnownBy::PrintQueue("ward-7".into()),
        transport: Transport::Tcp,
        port: 631,
        peer: Some([10, 0, 0, 21].into()),
        goes_on: Some(false),
    };
    let unseen = vec!["folders: nobody knows".to_owned()];
    let (services, unseen_there) = (vec![queue], unseen.clone());
    let seen = Seen::Connections { listed: vec![open], of: 1, services, unseen: unseen_there };
    machine.say(&FromAgent::Looked { number, seen }).await;
    let open_now = preview.await.unwrap().open_now.unwrap();
    let words: Vec<String> = open_now.flows.iter().map(|flow| flow.in_words()).collect();
    let expected =
        ["1 connection to a printer stops (with one other)", "the print queue ward-7 stops"];
    assert_eq!((words, open_now.unseen), (expected.map(str::to_owned).to_vec(), unseen));

    drop(machine);
    until("the link is down", || async {
        !matches!(hub.machines()[0].contact, Contact::Linked { .. })
    })
    .await;
    let preview = hub.preview_now(id, Isolation::Full, &admin()).await.unwrap();
    assert!(preview.open_now.unwrap_err().contains("not in contact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clinical_machine_is_asked_for_even_in_mode_act() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.set_mode(Mode::Act, &admin()).await.unwrap();
    let mut scanner = site.machine_of("ct-1", Some(ClinicalTier::Clinical)).await;
    let mut unknown = site.machine_of("box", None).await;
    scanner.report(found("ct-1", Level::Critical, 1)).await;
    unknown.report(found("box", Level::Critical, 2)).await;
    assert_eq!(hub.approvals(true).await.unwrap().len(), 2);
    assert!(hub.machines().iter().all(|row| row.isolation.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_sustaining_machine_is_not_one_persons_to_cut_off() {
    let site = Site::start().await;
    let ventilator = site.machine_of("icu-gateway", Some(ClinicalTier::LifeSustaining)).await;
    let hub = site.hub();
    let refused = hub.isolate(ventilator.id(), Isolation::Segment, "worm", None, &admin()).await;
    assert!(
        matches!(
            refused,
            Err(HubError::Refused(
                Refusal::NotEnoughPeople { .. } | Refusal::NeedsStrongIdentity { .. }
            ))
        ),
        "{refused:?}"
    );
    assert!(hub.machines()[0].isolation.is_none());
    let preview = hub.preview(ventilator.id(), Isolation::Full).unwrap();
    assert!(preview.cuts_everything_else && !preview.cautions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_taken_commented_and_closed_by_name() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::Medium, 1)).await;
    let incident = only_incident(hub).await;
    hub.take_incident(incident, &admin()).await.unwrap();
    hub.comment_incident(incident, "looks like a scan", &admin()).await.unwrap();
    hub.close_incident(incident, "a drill", &admin()).await.unwrap();
    let view = hub.incident(incident, None).await.unwrap();
    assert_eq!(view.incident.state, IncidentState::Closed);
    assert!(view.timeline.iter().any(|entry| entry.record.detail.contains("looks like a scan")));
    assert!(hub.close_incident(incident, "again", &admin()).await.is_err());
    assert!(hub.comment_incident(incident, "\u{7}", &admin()).await.is_err());
}

/// Of more open incidents than the hub holds in memory, some are only on its disk.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_made_room_for_others_is_taken_commented_and_closed_all_the_same() {
    let site = Site::start().await;
    let hub = site.hub();
    let machine = site.machine("office-1").await;
    let received = ReceivedFinding {
        machine: machine.id(),
        received: UtcNanos::now(),
        finding: finding("office-1", Level::High, 1),
    };
    let mut grouping = Grouping::new(site.organisation.clone());
    let placed = grouping.place(&received, "office-1", &[], &mut || [7; 16]);
    let story = grouping.story(placed.incident).unwrap();
    let mut document = Vec::new();
    ciborium::into_writer(story, &mut document).unwrap();
    let (id, document) = (placed.incident.to_string(), Some(document));
    let row = Change::Row { kind: "story", id, document };
    let store = SqliteState::open(&site.directory.path().join("hub")).await.unwrap();
    let changes = [row, Change::Incident(story.incident.clone())];
    store.commit(&site.organisation, &changes).await.unwrap();

    let incident = only_incident(hub).await;
    hub.take_incident(incident, &admin()).await.unwrap();
    let view = hub.incident(incident, None).await.unwrap();
    assert_eq!(view.incident.state, IncidentState::Owned);
    assert_eq!(view.incident.owner.as_deref(), Some(admin().name()));
    hub.comment_incident(incident, "the quiet one", &admin()).await.unwrap();
    hub.close_incident(incident, "a drill", &admin()).await.unwrap();
    let view = hub.incident(incident, None).await.unwrap();
    assert_eq!(view.incident.state, IncidentState::Closed);
    let said: Vec<&str> = view.timeline.iter().map(|entry| entry.record.detail.as_str()).collect();
    assert_eq!(said, ["taken", "comment: the quiet one", "closed: a drill"]);
    assert!(hub.take_incident(incident, &admin()).await.is_err(), "it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_away_gets_its_order_at_the_next_contact() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    machine.disconnect();
    until("it is away", || async { hub.status().await.unwrap().linked == 0 }).await;
    let ordered = hub.isolate(machine.id(), Isolation::Full, "worm", None, &admin()).await.unwrap();
    assert_eq!(hub.status().await.unwrap().counts.orders_waiting, 1);
    machine.connect().await.unwrap();
    let order = machine.order().await;
    assert_eq!(Some(order.id), ordered.order());
    machine.take(&order).await;
    until("it is delivered", || async { hub.status().await.unwrap().counts.orders_waiting == 0 })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_is_and_the_policy_reach_it_signed() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let mut before = Vec::new();
    while before.len() < 2 {
        match machine.hear().await.unwrap() {
            FromHub::Assignment(_) => before.push("assignment"),
            FromHub::Policy(_) => before.push("policy"),
            _ => {}
        }
    }
    let draft = AssignmentDraft {
        name: Some("Front desk".into()),
        tier: Some(ClinicalTier::Supports),
        ..AssignmentDraft::default()
    };
    site.hub().assign(machine.id(), draft, &admin()).await.unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&machine.enrolled.command_key).unwrap();
    let assignment = loop {
        if let FromHub::Assignment(envelope) = machine.hear().await.unwrap() {
            break envelope.open::<cordon_model::asset::Assignment>(&key).unwrap();
        }
    };
    assert_eq!(assignment.name, "Front desk");
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let policy = loop {
        if let FromHub::Policy(envelope) = machine.hear().await.unwrap() {
            break envelope.open::<cordon_model::policy::Policy>(&key).unwrap();
        }
    };
    assert_eq!(policy.mode, Mode::Act);
    // In mode act a machine that may defend itself gets its permit ahead.
    loop {
        if let FromHub::Permit(envelope) = machine.hear().await.unwrap() {
            let permit = envelope.open::<cordon_model::order::Permit>(&key).unwrap();
            assert_eq!(permit.machine, machine.id());
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_machine_of_a_ward_that_enrols_at_once_gets_its_permit() {
    let site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut ward = Vec::new();
    for number in 0..5 {
        ward.push(site.machine(&format!("office-{number}")).await);
    }
    // The first renewal may come before most of them; none is left to the next minute.
    let all = async {
        for machine in &mut ward {
            while !matches!(machine.hear().await.unwrap(), FromHub::Permit(_)) {}
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_is_answered_with_what_is_on_disk() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::Low, 1)).await;
    let status = Status {
        at_boot: BootNanos(5),
        holds: Holds::NOTHING,
        rules: 40,
        events: 7,
        lost: 0,
        break_glass: 0,
        guidance: 0,
    };
    machine.say(&FromAgent::Status(status.clone())).await;
    machine.acknowledged(1).await;
    let view = site.hub().machine(machine.id()).await.unwrap();
    assert_eq!(view.status, Some(status));
    assert_eq!(view.finding_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_is_away_delays_and_loses_nothing() {
    let mut site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    site.signer.take().unwrap().stop().await;
    machine.report(found("office-1", Level::High, 1)).await;
    until("people see that the signer is away", || async {
        site.hub().status().await.unwrap().signer_away.is_some()
    })
    .await;
    site.signer =
        Some(super::support::Signer::start(site.directory.path(), site.organisation.clone()));
    let order = machine.order().await;
    assert!(matches!(order.authority, Authority::Policy { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_cosigned_and_sound() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::Low, 1)).await;
    until("the signer covers every record", || async {
        let ledger = site.hub().ledger();
        ledger.size > 5 && ledger.covered == ledger.size
    })
    .await;
    let socket = site.directory.path().join("signer.sock");
    let client = cordon_hub::signer::Client::connect(&socket).await.unwrap();
    let ledger = site.directory.path().join("hub/ledger");
    let report = cordon_evidence::verify(&ledger, client.ledger_key()).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_may_do_is_changed_for_sessions_that_are_open_too() {
    let site = Site::start().await;
    let hub = site.hub();
    let minute = Duration::from_secs(60);
    let by = admin();
    let link = |role| hub.create_sign_in("ann", role, minute, &by);
    assert!(link(None).await.is_err(), "a new person's role must be said");
    let first = link(Some(Role::Administrator)).await.unwrap();
    let session = hub.sign_in(&first.token.text()).await.unwrap().unwrap().secret.text();
    let lower = link(Some(Role::Viewer)).await;
    assert!(matches!(&lower, Err(HubError::Invalid { what: "role", .. })), "{lower:?}");
    let role = async || hub.session(&session).await.unwrap().map(|session| session.person.role);
    assert_eq!(role().await, Some(Role::Administrator));
    hub.admit("ann", Role::Viewer, true, &admin()).await.unwrap();
    assert_eq!(role().await, Some(Role::Viewer));
    let ann = cordon_hub::Who::of(&hub.session(&session).await.unwrap().unwrap());
    assert!(hub.admit("ann", Role::Administrator, true, &ann).await.is_err(), "not by herself");
    hub.bar("ann", &admin()).await.unwrap();
    assert_eq!(role().await, None, "the session is over");
    assert!(link(None).await.is_err(), "and none begins");
    hub.admit("ann", Role::Viewer, false, &admin()).await.unwrap();
    assert!(link(None).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_link_works_once_and_roles_hold() {
    let site = Site::start().await;
    let hub = site.hub();
    let minute = Duration::from_secs(60);
    let link = hub.create_sign_in("ann", Some(Role::Viewer), minute, &admin()).await.unwrap();
    let session = hub.sign_in(&link.token.text()).await.unwrap().unwrap();
    assert!(hub.sign_in(&link.token.text()).await.unwrap().is_none(), "once");
    assert!(hub.sign_in("nonsense").await.unwrap().is_none());
    let found = hub.session(&session.secret.text()).await.unwrap().unwrap();
    let ann = cordon_hub::Who::of(&found);
    let machine = site.machine("office-1").await;
    let refused = hub.isolate(machine.id(), Isolation::Full, "why not", None, &ann).await;
    assert!(matches!(refused, Err(HubError::NotAllowed { needs: Role::Responder })));
    assert!(hub.set_mode(Mode::Act, &ann).await.is_err());
    hub.sign_out(&session.secret.text()).await.unwrap();
    assert!(hub.session(&session.secret.text()).await.unwrap().is_none());
}
