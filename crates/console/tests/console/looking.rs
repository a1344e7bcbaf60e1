//! What the pages say.

use cordon_model::asset::ClinicalTier;
use cordon_model::finding::{Level, MatchedField, ProcessRef};
use cordon_model::holds::Holds;
use cordon_model::policy::Mode;
use cordon_model::time::BootNanos;
use cordon_model::wire::{FromAgent, Report, Status};
use cordon_store::Role;

use super::browser::{Served, read_until};
use super::support::{Site, admin, copy, finding, found, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_console_says_that_nothing_is_watched_not_that_all_is_well() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Viewer).await;
    let text = ann.get("/").await.text();
    assert!(text.contains("No machine is enrolled: nothing is watched"), "{text}");
    for word in ["all clear", "All clear", "healthy", "no threats"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_say_of_how_many_and_how_old() {
    let served = Served::start().await;
    let _linked = served.site.machine("office-1").await;
    let token = served.site.token(None).await;
    super::support::Machine::enrol(&token, "never-heard").await.unwrap();
    let ann = served.person("ann", Role::Viewer).await;
    let text = ann.get("/machines").await.text();
    assert!(text.contains("1 of 2 machines heard in the last 8 s"), "{text}");
    assert!(text.contains("1 of 2 machines never heard"), "{text}");
    assert!(text.contains("Tier not said: treated as clinical"), "{text}");
    assert!(text.contains("Shown: 2 of 2 machines"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_lost_stands_beside_what_it_saw() {
    let served = Served::start().await;
    let mut machine = served.site.machine("office-1").await;
    let ann = served.person("ann", Role::Viewer).await;
    let path = format!("/machines/{}", machine.id());
    let text = ann.get(&path).await.text();
    assert!(text.contains("Not heard yet") && !text.contains("0 lost"), "{text}");
    for (lost, expected) in [(0, "7 seen, 0 lost since"), (3, "7 seen, 3 lost (no rule looked")] {
        machine.say(&FromAgent::Status(status(7, lost))).await;
        until("the page says so", || async { ann.get(&path).await.text().contains(expected) })
            .await;
    }
    let list = ann.get("/machines").await.text();
    assert!(list.contains("3 events lost"), "{list}");
}

fn status(events: u64, lost: u64) -> Status {
    let at_boot = BootNanos(5);
    Status { at_boot, holds: Holds::NOTHING, break_glass: 0, guidance: 0, rules: 40, events, lost }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_comes_first_and_the_most_serious_of_it_on_top() {
    let served = Served::start().await;
    let mut office = served.site.machine("office-1").await;
    let mut ward = served.site.machine_of("ward-3", Some(ClinicalTier::Clinical)).await;
    office.report(found("office-1", Level::Medium, 1)).await;
    ward.report(found("ward-3", Level::Critical, 2)).await;
    let ann = served.person("ann", Role::Responder).await;
    let page = ann.get("/").await;
    let text = page.text();
    assert!(text.contains("2 of 2 open incidents that nobody has"), "{text}");
    assert!(text.contains("Tier 2: clinical"), "{text}");
    assert!(text.find("Critical") < text.find("Medium"), "{text}");
    assert!(text.contains("0 of 1 isolated"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_shows_why_its_rule_matched_and_hostile_text_is_inert() {
    let served = Served::start().await;
    let mut machine = served.site.machine("office-1").await;
    let hostile = "</code><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}gpj.exe";
    let mut evil = finding("office-1", Level::High, 1);
    evil.rule.title = format!("Program {hostile}");
    evil.rule.tags = vec!["attack.t1021.002".into(), hostile.into()];
    evil.host = hostile.into();
    evil.process =
        Some(ProcessRef { pid: 7, started: BootNanos(1), image: format!("/tmp/{hostile}") });
    evil.matched = vec![MatchedField {
        field: "CommandLine".into(),
        value: hostile.into(),
        pattern: "contains gpj".into(),
    }];
    evil.raw.json = serde_json::json!({ "CommandLine": hostile }).to_string();
    machine.report(Report::Finding(Box::new(evil))).await;
    let ann = served.person("ann", Role::Viewer).await;
    let list = ann.get("/").await;
    let path = list.body.split('"').find(|part| part.starts_with("/incidents/0")).unwrap();
    let path = &path.to_owned();
    for page in [ann.get(path).await, ann.get(&format!("/machines/{}", machine.id())).await, list] {
        assert!(
            !page.body.contains("<script>alert") && !page.body.contains("<img"),
            "{}",
            page.body
        );
        assert!(!page.body.contains('\u{202e}'));
    }
    let text = ann.get(path).await.text();
    assert!(text.contains("Why it matched"), "{text}");
    assert!(text.contains("ATT&amp;CK T1021.002"), "{text}");
    assert!(text.contains("asked for: contains gpj"), "{text}");
    assert!(text.contains("U+202E"), "what turns text around is shown: {text}");
    assert!(text.contains("The event as it came"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_says_what_its_rule_means_and_what_to_look_at_first() {
    let served = Served::start().await;
    let mut machine = served.site.machine("office-1").await;
    let ann = served.person("ann", Role::Viewer).await;
    // A rule of somebody else has no text of ours, also under an id of ours.
    let mut foreign = finding("office-1", Level::High, 1);
    foreign.rule.id = "d2c1e573-5a23-4bb7-841e-2e1849c3c532".into();
    machine.report(Report::Finding(Box::new(foreign.clone()))).await;
    let path = format!("/machines/{}", machine.id());
    let text = ann.get(&path).await.text();
    assert!(text.contains("Why it matched") && !text.contains("At 3 a.m."), "{text}");
    let mut ours = finding("office-1", Level::High, 2);
    ours.rule.id = foreign.rule.id;
    ours.rule.title = "Debugger or tracer attached to a login service".into();
    machine.report(Report::Finding(Box::new(ours))).await;
    let text = ann.get(&path).await.text();
    let (means, night) = ("What it means A debugger, a tracer", "At 3 a.m.: who runs it?");
    let (why, else_) = ("Why it matched", "What else may look so");
    let places = [means, night, else_, why].map(|words| text.find(words));
    assert!(places[0].is_some() && places.is_sorted(), "{places:?}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_seen_names_its_machine_and_goes_with_its_reason() {
    let served = Served::start().await;
    let mut machine = served.site.machine("office-1").await;
    machine.report(found("office-1", Level::High, 1)).await;
    let ann = served.person("ann", Role::Responder).await;
    let page = ann.get("/").await;
    let text = page.text();
    assert!(text.contains("A question waits for an answer : office-1"), "{text}");
    assert!(text.contains("Serious, and nobody has it : office-1"), "{text}");
    assert!(page.body.contains(&format!("href=\"/machines/{}\"", machine.id())));
    let hub = served.site.hub();
    let question = hub.approvals(true).await.unwrap()[0].clone();
    hub.take_incident(question.incident.unwrap(), &super::support::admin()).await.unwrap();
    hub.answer(question.id, false, "a test", &super::support::admin()).await.unwrap();
    let text = ann.get("/").await.text();
    assert!(!text.contains("To be seen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_or_no_id_is_said_in_words() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Viewer).await;
    for path in [
        "/incidents/nonsense",
        "/incidents/01920000-0000-7000-8000-000000000000",
        "/machines/01920000-0000-7000-8000-000000000000",
        "/machines/01920000-0000-7000-8000-000000000000/isolate",
        "/questions/01920000-0000-7000-8000-000000000000",
        "/nowhere",
    ] {
        let page = ann.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(page.body.contains("<h1>"), "{path}");
    }
    assert_eq!(ann.get("/?unowned=nonsense").await.status, 200, "a false cursor harms nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn news_come_over_the_stream_and_say_nothing_but_that_there_are_some() {
    let served = Served::start().await;
    let mut machine = served.site.machine("office-1").await;
    let ann = served.person("ann", Role::Viewer).await;
    let mut stream = ann.live().await.unwrap();
    read_until(&mut stream, "event: alive\ndata: alive").await;
    machine.report(found("office-1", Level::High, 1)).await;
    read_until(&mut stream, "event: news\ndata: look").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_ledger_is_not_what_was_signed_stands_on_every_page() {
    let mut site = Site::start().await;
    let hub = site.directory.path().join("hub");
    let before = tempfile::tempdir().unwrap();
    site.stop().await;
    copy(&hub, before.path());
    site.start_again().await;
    let size = site.hub().ledger().size;
    site.hub().set_mode(Mode::Observe, &admin()).await.unwrap();
    until("what was done is in the ledger, and signed", || async {
        let ledger = site.hub().ledger();
        ledger.size > size && ledger.covered == ledger.size
    })
    .await;
    site.stop().await;
    std::fs::remove_dir_all(&hub).unwrap();
    copy(before.path(), &hub);
    site.start_again().await;

    let served = Served::over(site).await;
    let ann = served.person("ann", Role::Viewer).await;
    for path in ["/", "/machines", "/policy", "/ledger"] {
        until("the page says so", || async {
            ann.get(path).await.text().contains("The ledger is not what was signed")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_cannot_be_read_is_named_and_hides_no_other() {
    let served = Served::start().await;
    for number in 1..=2 {
        let mut machine = served.site.machine(&format!("office-{number}")).await;
        machine.report(found(&machine.host.clone(), Level::High, number)).await;
    }
    let listed =
        served.site.hub().incidents(Default::default(), &Default::default()).await.unwrap();
    let ids: Vec<_> = listed.items.iter().map(|row| row.incident.id).collect();
    assert_eq!(ids.len(), 2);
    let dim = format!("UPDATE incidents SET document = X'ff00' WHERE incident = '{}'", ids[0]);
    served.site.spoil(&dim).await;
    let ann = served.person("ann", Role::Viewer).await;
    let text = ann.get("/").await.text();
    assert!(text.contains("1 incident can’t be read"), "{text}");
    assert!(text.contains(&ids[0].to_string()), "{text}");
    assert!(text.contains("A worm spreads") && text.contains("Shown: 1 of 2 incidents"), "{text}");
}
