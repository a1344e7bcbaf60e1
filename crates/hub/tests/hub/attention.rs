//! What people must see: what is so now, the same after a restart, and never more than is so.

use cordon_hub::Hub;
use cordon_model::action::{Action, ActionKind};
use cordon_model::finding::Level;
use cordon_model::holds::{Holding, Holds};
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, MeasureState, Origin, Receipt};
use cordon_model::time::{BootNanos, UtcNanos};
use cordon_model::wire::{FromAgent, Report, Status};
use cordon_respond::hub_core::Notice;

use super::support::{Machine, Site, admin, found, until};

/// Kind and machine of each line.
fn lines(hub: &Hub) -> Vec<(&'static str, String)> {
    let kind = |notice: &Notice| match notice {
        Notice::Asked(_) => "asked",
        Notice::NobodyHasIt(_) => "nobody's",
        Notice::OpenedByCode { code: 3, .. } => "opened by code 3",
        Notice::NotInForce { why, .. } if why == "445 answers" => "not in force",
        other => panic!("{other:?}"),
    };
    let said = hub.attention();
    said.iter().map(|one| (kind(&one.notice), one.machine.clone().unwrap().1)).collect()
}

fn receipt_of(machine: &Machine, origin: Origin, how: Isolation, state: MeasureState) -> Receipt {
    let number = if how == Isolation::Watch { [5; 10] } else { [6; 10] };
    Receipt {
        machine: machine.id(),
        measure: MeasureId::new(UtcNanos::now(), number),
        origin,
        action: Action::Isolate(how),
        state,
        proof: None,
        lease_ends: Some(BootNanos(u64::MAX)),
        boot: cordon_model::time::BootId("boot".into()),
        at_boot: BootNanos(2),
        at: UtcNanos::now(),
        sockets_cut: 0,
        done: Vec::new(),
        spared: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_must_see_is_what_is_so_before_and_after_a_restart() {
    let mut site = Site::start().await;
    let mut asked = site.machine("office-1").await;
    let mut opened = site.machine("office-2").await;
    let mut unproven = site.machine("office-3").await;
    asked.report(found("office-1", Level::High, 1)).await;
    let code = Origin::BreakGlass { revision: 1, code: 3 };
    let receipt = receipt_of(&opened, code, Isolation::Watch, MeasureState::Verified);
    opened.report(Report::Receipt(opened.sealed(&receipt))).await;
    let before = cordon_model::ids::OrderId::new(UtcNanos::now(), [6; 10]);
    let state = MeasureState::Unproven { why: "445 answers".into() };
    let receipt = receipt_of(&unproven, Origin::Order(before), Isolation::Segment, state);
    unproven.report(Report::Receipt(unproven.sealed(&receipt))).await;
    let all = [
        ("opened by code 3", "office-2".to_owned()),
        ("not in force", "office-3".to_owned()),
        ("asked", "office-1".to_owned()),
        ("nobody's", "office-1".to_owned()),
    ];
    assert_eq!(lines(site.hub()), all);
    let row = site.hub().machine(opened.id()).await.unwrap().row;
    assert_eq!((row.isolation, row.opened_by_code), (Some(Isolation::Watch), Some(3)));
    site.restart().await;
    assert_eq!(lines(site.hub()), all, "nothing is forgotten");
    // What people dealt with is gone; the rest is not.
    let hub = site.hub();
    let question = hub.approvals(true).await.unwrap()[0].clone();
    hub.take_incident(question.incident.unwrap(), &admin()).await.unwrap();
    assert_eq!(lines(hub), all[..3]);
    hub.answer(question.id, false, "a test", &admin()).await.unwrap();
    assert_eq!(lines(hub), all[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_does_not_outlive_an_order_of_the_same() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    let question = hub.approvals(true).await.unwrap()[0].clone();
    hub.isolate(machine.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    assert_eq!(hub.approvals(true).await.unwrap().len(), 1, "it is not in force yet");
    let order = machine.order().await;
    machine.carry_out(&order).await;
    until("it is asked no more", || async { hub.approvals(true).await.unwrap().is_empty() }).await;
    let late = hub.answer(question.id, true, "yes", &admin()).await.unwrap_err().to_string();
    assert!(late.contains("is in force since"), "{late}");
    assert!(lines(hub).iter().all(|(kind, _)| *kind != "asked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_before_does_not_show_what_was_released_as_in_force() {
    let site = Site::start().await;
    let hub = site.hub();
    let mut machine = site.machine("office-1").await;
    hub.isolate(machine.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    let says = |at_boot, measure| {
        let holding = Holding {
            measure,
            kind: ActionKind::Isolate,
            isolation: Some(Isolation::Segment),
            lease_ends: BootNanos(u64::MAX),
        };
        let holds = Holds::Measures(vec![holding]);
        let at_boot = BootNanos(at_boot);
        FromAgent::Status(Status {
            at_boot,
            holds,
            rules: 1,
            events: 0,
            lost: 0,
            break_glass: 0,
            guidance: 0,
        })
    };
    machine.say(&says(5, order.id.into())).await;
    until("it is heard", || async {
        hub.machine(machine.id()).await.unwrap().row.unknown.is_none()
    })
    .await;
    let released = machine.receipt(&order, MeasureState::Released);
    machine.report(Report::Receipt(machine.sealed(&released))).await;
    let row = hub.machine(machine.id()).await.unwrap().row;
    assert_eq!((row.isolation, row.truth), (None, None), "its receipt is the newer word");
    // What it says again and again counts for more than what it said once.
    for at_boot in [6, 7] {
        machine.say(&says(at_boot, order.id.into())).await;
    }
    until("it is believed", || async {
        hub.machine(machine.id()).await.unwrap().row.isolation == Some(Isolation::Segment)
    })
    .await;
}
