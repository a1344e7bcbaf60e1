//! Measures from the console: shown before, ordered as shown, taken back.

use cordon_model::action::{Action, Denied, FilePath, Piece};
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::ProcessRef;
use cordon_model::ids::MachineId;
use cordon_model::look::{LookAt, Seen, SeenProcess};
use cordon_model::order::{Instruction, Order};
use cordon_model::time::{BootId, BootNanos};
use cordon_model::wire::FromAgent;
use cordon_store::Role;

use super::browser::{Browser, Page, Served};
use super::support::{Machine, until};

const WORM: &str = "/home/ann/inv<b>oice";

fn worm() -> SeenProcess {
    let process = ProcessRef { pid: 4711, started: BootNanos(5_000_000_000), image: WORM.into() };
    SeenProcess { process, parent: 1, user: 1000, command: format!("{WORM} --spread") }
}

/// Asks for a page that looks at the machine, which answers with `listed`.
async fn looks(
    browser: &Browser,
    machine: &mut Machine,
    path: &str,
    listed: &[SeenProcess],
) -> Page {
    let answer = async {
        let (number, at) = machine.asked_to_look().await;
        assert_eq!(at, LookAt::Processes);
        let (listed, boot) = (listed.to_vec(), BootId("boot".into()));
        let seen = Seen::Processes { of: u32::try_from(listed.len()).unwrap(), listed, boot };
        machine.say(&FromAgent::Looked { number, seen }).await;
    };
    tokio::join!(browser.get(path), answer).0
}

/// The action that a page's form carries, as it stands in the page.
fn carried(page: &Page) -> String {
    let (_, after) = page.body.split_once("name=\"action\" value=\"").expect("a form to confirm");
    let value = after.split('"').next().unwrap();
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

async fn confirms(browser: &Browser, machine: MachineId, page: &Page, reason: &str) -> Page {
    let (csrf, action) = (page.csrf(), carried(page));
    let fields = [("csrf", csrf.as_str()), ("action", &action), ("reason", reason)];
    browser.post(&format!("/machines/{machine}/measure"), &fields).await
}

fn begun(order: &Order) -> &Action {
    match &order.instruction {
        Instruction::Begin { action, .. } => action,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_shown_then_frozen_as_it_was_shown_and_taken_back() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    let here = format!("/machines/{}", machine.id());

    let list = looks(&ann, &mut machine, &format!("{here}/processes"), &[worm()]).await;
    assert_eq!(list.status, 200);
    assert!(list.text().contains("By the machine’s own word"), "{}", list.text());
    assert!(!list.body.contains("<b>"), "a name is text, not markup");
    let freeze = list.body.split('"').find(|part| part.contains("kind=freeze")).unwrap();
    let freeze = freeze.replace("&amp;", "&");

    // Looking changes nothing, and says what it would do before the button.
    let page = looks(&ann, &mut machine, &freeze, &[worm()]).await;
    let text = page.text();
    for said in [
        "Nothing is done before you confirm",
        "What it does",
        "stand still",
        "What it means for care",
        "Nobody has named what care needs",
        "Exactly: it goes on where it stood",
        "one person",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // A number that is another process's by now, or nobody's, is not offered.
    let other = ProcessRef { started: BootNanos(9_000_000_000), ..worm().process };
    let other = SeenProcess { process: other, ..worm() };
    for now in [vec![other], vec![]] {
        let gone = looks(&ann, &mut machine, &freeze, &now).await;
        assert!(gone.text().contains("has ended, or is another by now"), "{}", gone.text());
        assert!(!gone.body.contains("name=\"action\""));
    }
    assert_eq!(confirms(&ann, machine.id(), &page, " ").await.status, 422, "a reason is needed");
    let done = confirms(&ann, machine.id(), &page, "it spreads").await;
    assert_eq!(done.status, 303, "{}", done.text());
    let order = machine.order().await;
    let Action::Freeze(target) = begun(&order) else { panic!("{order:?}") };
    assert_eq!((&target.process, &target.boot), (&worm().process, &BootId("boot".into())));
    assert_eq!(order.reason, "it spreads");

    machine.take(&order).await;
    machine.carry_out(&order).await;
    until("it is shown as verified", || async { ann.get(&here).await.text().contains("Verified") })
        .await;
    let card = ann.get(&here).await;
    let undo = card.body.split('"').find(|part| part.ends_with("/undo")).unwrap().to_owned();
    let text = ann.get(&undo).await.text();
    assert!(text.contains("Take back:") && text.contains("the intruder’s too"), "{text}");
    assert_eq!(ann.act(&undo, &undo, &[("reason", "a backup")]).await.status, 303);
    let undone = machine.order().await;
    assert_eq!(undone.instruction, Instruction::Undo { measure: order.id.into() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_typed_is_asked_for_and_what_is_wrong_is_said() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("ct-1", None).await;
    let ann = served.person("ann", Role::Responder).await;
    let here = machine.id();
    let at = |query: &str| format!("/machines/{here}/measure?{query}");

    let empty = ann.get(&at("kind=deny")).await;
    assert!(empty.status == 200 && empty.text().contains("Program, by its path"));
    for (query, why) in [
        ("kind=deny&path=tmp%2Fx", "must be absolute"),
        ("kind=quarantine&path=%2Ftmp%2Fx&sha256=ab", "64 hexadecimal digits"),
        ("kind=block&peer=nonsense", "no full name"),
        ("kind=block&peer=10.0.0.1&ports=445", "have no transport"),
        ("kind=disable-account&account=a%20b", "no account name"),
        ("kind=freeze&pid=x", "a process is a number"),
    ] {
        let page = ann.get(&at(query)).await;
        assert!(page.text().contains("This can’t be taken"), "{query}: {}", page.text());
        assert!(page.text().contains(why), "{query}: {}", page.text());
        assert!(!page.body.contains("name=\"action\""), "{query}");
    }
    // Nobody has said how care depends on it.
    let page = ann.get(&at("kind=deny&path=%2Fhome%2Fann%2Fx")).await;
    let text = page.text();
    assert!(
        text.contains("treated as clinical") && text.contains("Ring whoever is at it"),
        "{text}"
    );
    assert!(text.contains("It is taken back by itself"), "at the end of its lease: {text}");
    assert_eq!(confirms(&ann, machine.id(), &page, "dropper").await.status, 303);
    let order = machine.order().await;
    assert_eq!(*begun(&order), Action::Deny(Denied::Path(FilePath::new(&b"/home/ann/x"[..]))));
    // An isolation is not begun by this way: its own page shows what it would do.
    assert_eq!(ann.get(&at("kind=isolate")).await.status, 404);
    let csrf = page.csrf();
    let sneaky = [("csrf", csrf.as_str()), ("action", r#"{"isolate":"full"}"#), ("reason", "x")];
    let path = format!("/machines/{}/measure", machine.id());
    assert_eq!(ann.post(&path, &sneaky).await.status, 404);
    let forged = [("csrf", "no"), ("action", "{}"), ("reason", "x")];
    assert_eq!(ann.post(&path, &forged).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_inside_a_process_becomes_a_question_that_says_so() {
    let served = Served::start().await;
    let mut machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let (ann, bob) =
        (served.person("ann", Role::Responder).await, served.person("bob", Role::Responder).await);
    let path = format!("/machines/{}/measure?kind=collect&pid=4711&memory=yes", machine.id());
    let page = looks(&ann, &mut machine, &path, &[worm()]).await;
    assert!(page.text().contains("It takes two people"), "{}", page.text());
    let asked = confirms(&ann, machine.id(), &page, "what does it hold?").await;
    let question = asked.header("location").unwrap().to_owned();
    assert!(question.starts_with("/questions/"), "{}", asked.text());
    let text = bob.get(&question).await.text();
    assert!(text.contains("MEMORY of process 4711") && text.contains("ann said yes"), "{text}");
    let fields = [("answer", "approve"), ("reason", "I want to know too")];
    assert_eq!(bob.act(&question, &question, &fields).await.status, 303);
    let order = machine.order().await;
    assert_eq!(order.authority.people().len(), 2);
    let Action::Collect(collection) = begun(&order) else { panic!("{order:?}") };
    assert!(
        collection
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Memory(of) if of.process.pid == 4711))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_begins_no_measure() {
    let served = Served::start().await;
    let machine = served.site.machine_of("office-1", Some(ClinicalTier::None)).await;
    let eve = served.person("eve", Role::Viewer).await;
    let path = format!("/machines/{}/measure?kind=deny&path=%2Ftmp%2Fx", machine.id());
    let page = eve.get(&path).await;
    assert_eq!(confirms(&eve, machine.id(), &page, "x").await.status, 403);
    assert_eq!(eve.get(&format!("/machines/{}/processes", machine.id())).await.status, 403);
}
