//! What another product's console got wrong of isolated machines, over the real hub: each test is named after the
//! failure (kibana's issues), and `docs/lessons.md` names the test.

use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::holds::{Holding, Holds};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::{Instruction, Order};
use cordon_model::time::BootNanos;
use cordon_model::wire::{FromAgent, Numbered, Report, Status};
use cordon_store::Role;

use super::browser::{Browser, Served};
use super::support::{Machine, found, until};

async fn says(browser: &Browser, path: &str, what: &str) {
    until(what, || async { browser.get(path).await.text().contains(what) }).await;
}

/// A person's order for an office machine; where it is looked at.
async fn ordered(machine: &mut Machine, ann: &Browser) -> (Order, String) {
    let here = format!("/machines/{}", machine.id());
    let confirm = format!("{here}/isolate?how=segment");
    let fields = [("how", "segment"), ("reason", "a worm")];
    let page = ann.act(&confirm, &format!("{here}/isolate"), &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    ((*machine.order().await).clone(), here)
}

/// What the machine says of itself, at its `at`-th second.
fn status(at: u64, held: &[&Order]) -> FromAgent {
    let holding = |order: &&Order| Holding {
        measure: order.id.into(),
        kind: cordon_model::action::ActionKind::Isolate,
        isolation: Some(Isolation::Segment),
        lease_ends: BootNanos(u64::MAX),
    };
    FromAgent::Status(Status {
        at_boot: BootNanos(at * 1_000_000_000),
        holds: Holds::Measures(held.iter().map(holding).collect()),
        rules: 1,
        events: 0,
        lost: 0,
        break_glass: 0,
        guidance: 0,
    })
}

/// There the word of the machine that it was done was lost, and the console said "isolating" for ever. Here what
/// is not acknowledged is said again, and meanwhile the screen says how old its word is, and of what.
#[tokio::test(flavor = "multi_thread")]
async fn kibana_138151_a_machine_is_not_shown_as_isolating_for_ever_though_it_is_done() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    let (order, here) = ordered(&mut machine, &ann).await;
    says(&ann, &here, "Requested, not with the machine yet").await;

    // It takes the order and carries it out; all that it says of that is lost with the link.
    machine.disconnect();
    says(&ann, &here, "Silent").await;
    let text = ann.get(&here).await.text();
    assert!(text.contains("Requested") && !text.contains("Verified"), "no more is known: {text}");
    machine.connect().await.unwrap();
    let again = machine.order().await;
    assert_eq!((again.id, again.sequence), (order.id, order.sequence), "it is sent once more");
    machine.carry_out(&again).await;
    says(&ann, &here, "Verified").await;

    // The same of its release: the receipt is lost, and the machine's own word says that nothing holds it.
    let fields = [("reason", "clean"), ("despite", "a test")];
    let release = format!("{here}/release");
    assert_eq!(ann.act(&release, &release, &fields).await.status, 303);
    let order = machine.order().await;
    assert_eq!(order.instruction, Instruction::Release);
    machine.take(&order).await;
    machine.say(&status(1, &[])).await;
    machine.say(&status(3, &[])).await;
    says(&ann, &here, "Not isolated").await;
    let text = ann.get(&here).await.text();
    assert!(!text.contains("Releasing"), "{text}");
}

/// There a success was shown as a failure, because something later failed. Here only the machine's own proof of
/// this very measure says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn kibana_104375_a_success_is_not_shown_as_a_failure() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    let (order, here) = ordered(&mut machine, &ann).await;
    // It is in force, and shown; that the order was taken was never heard…
    let first = machine.next;
    let receipt =
        |machine: &Machine, state| Report::Receipt(machine.sealed(&machine.receipt(&order, state)));
    for state in [MeasureState::Applied, MeasureState::Verified] {
        machine.report(receipt(&machine, state)).await;
    }
    says(&ann, &here, "Verified").await;
    // …so it is sent twice, and the second is refused as old.
    let why = "its sequence 1 is not above 1".to_owned();
    machine.report(Report::OrderRefused { order: order.id, why }).await;
    // A receipt of before comes once more, too.
    let report = receipt(&machine, MeasureState::Applied);
    machine.say(&FromAgent::Reports(vec![Numbered { number: first, report }])).await;
    machine.say(&status(1, &[&order])).await;
    machine.say(&status(3, &[&order])).await;
    // Whatever was said before this is taken by the time that this is shown.
    machine.report(found("office-1", Level::High, 1)).await;
    let text = ann.get(&here).await.text();
    assert!(text.contains("Segment Verified"), "{text}");
    assert!(!text.contains("Failed") && !text.contains("Unproven"), "{text}");
}

/// There one exception that could not be carried out made the whole machine unhealthy, and isolation with it. Here
/// it is refused when it is said, with why; what was signed before goes on.
#[tokio::test(flavor = "multi_thread")]
async fn kibana_116114_one_bad_exception_does_not_make_the_machine_unhealthy() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let boss = served.person("boss", Role::Administrator).await;
    let here = format!("/machines/{}", machine.id());
    let form = format!("{here}/assignment");
    let typed = |lifelines: &'static str| {
        let rest = [("kind", ""), ("group", ""), ("protected", ""), ("place", ""), ("instead", "")];
        let said = [("name", "office-1"), ("tier", "0"), ("lifelines", lifelines), ("ring", "")];
        [&said[..], &rest].concat()
    };
    let good = "PACS | to | 10.0.4.9 | tcp | 11112";
    assert_eq!(boss.act(&form, &form, &typed(good)).await.status, 303);
    let signed = || async { served.site.hub().machine(machine.id()).await.unwrap().assignment };
    let before = signed().await;
    // What intruders move by, to a whole network, which nobody signed off; among others that are good.
    let bad = "PACS | to | 10.0.4.9 | tcp | 11112\r\nshares | to | 10.0.0.0/8 | tcp | 445\r\n";
    let refused = boss.act(&form, &form, &typed(bad)).await;
    assert!(refused.status == 422 || refused.status == 409, "{}", refused.text());
    assert!(refused.text().contains("shares"), "by its name: {}", refused.text());
    assert!(refused.body.contains("10.0.0.0/8"), "what was typed is not lost");
    assert_eq!(signed().await, before, "nothing of it is signed");

    let text = boss.get(&here).await.text();
    assert!(
        text.contains("In contact") && text.contains("PACS: TCP 11112 to 10.0.4.9/32"),
        "{text}"
    );
    let (order, here) = ordered(&mut machine, &boss).await;
    machine.carry_out(&order).await;
    machine.say(&status(1, &[&order])).await;
    says(&boss, &here, "Segment Verified").await;
}
