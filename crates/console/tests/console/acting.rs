//! What people do, and that it is shown before and proven after.

use cordon_model::action::{Action, ActionKind};
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::{Level, ProcessRef};
use cordon_model::holds::Holds;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::order::Instruction;
use cordon_model::time::BootNanos;
use cordon_model::wire::{Coverage, FromAgent, HUB_LINK, Report, Status};
use cordon_store::Role;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::browser::{Browser, Served};
use super::support::{Machine, finding, found, until};

async fn attacked(served: &Served, host: &str, tier: Option<ClinicalTier>) -> (Machine, String) {
    let mut machine = served.site.machine_of(host, tier).await;
    machine.report(found(host, Level::High, 1)).await;
    let ann = served.person("looker", Role::Viewer).await;
    let list = ann.get("/").await;
    let path = list.body.split('"').find(|part| part.starts_with("/incidents/0")).unwrap();
    (machine, path.to_owned())
}

async fn says(browser: &Browser, path: &str, what: &str) {
    until(what, || async { browser.get(path).await.text().contains(what) }).await;
}

/// Its tunnel is no lifeline: what it says it would lose is not shown as what lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_full_isolation_cuts_is_shown_under_what_stops() {
    let served = Served::start().await;
    let (mut machine, _) = attacked(&served, "office-1", Some(ClinicalTier::None)).await;
    let gap = Some("this machine reaches its hub through tunnel wg0".to_owned());
    let way = vec![Coverage { what: HUB_LINK.into(), by: None, gap }];
    machine.say(&FromAgent::Coverage(way)).await;
    let ann = served.person("ann", Role::Responder).await;
    let here = format!("/machines/{}", machine.id());
    let full = format!("{here}/isolate?how=full");
    says(&ann, &full, "The agent’s link to this hub, too:").await;
    let text = ann.get(&full).await.text();
    assert_eq!(text.matches("The agent’s link to this hub").count(), 1, "{text}");
    // Whoever looks at the machine sees that this is its word, and what it does.
    let text = ann.get(&here).await.text();
    assert!(text.contains("Its own word lowers what the policy does by itself"), "{text}");
    let text = ann.get(&format!("{here}/isolate?how=segment")).await.text();
    assert!(text.contains("The agent’s link to this hub") && !text.contains("hub, too"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_how_many_of_the_kind_stay_and_which_would_be_the_last() {
    let served = Served::start().await;
    let boss = super::support::admin();
    let mut machines = Vec::new();
    for host in ["ct-1", "ct-2", "ct-3"] {
        machines.push(served.site.machine_of(host, None).await);
    }
    let ct = || cordon_hub::view::AssignmentDraft {
        tier: Some(ClinicalTier::Clinical),
        kind: Some("CT console".into()),
        ..Default::default()
    };
    let status = Status {
        at_boot: BootNanos(5),
        holds: Holds::NOTHING,
        break_glass: 0,
        guidance: 0,
        rules: 40,
        events: 1,
        lost: 0,
    };
    for machine in &mut machines {
        served.site.hub().assign(machine.id(), ct(), &boss).await.unwrap();
        machine.say(&FromAgent::Status(status.clone())).await;
    }
    let ann = served.person("ann", Role::Responder).await;
    let confirm = format!("/machines/{}/isolate?how=full", machines[0].id());
    says(&ann, &confirm, "2 of 2 others of its kind in contact and not isolated").await;
    assert!(!ann.get(&confirm).await.text().contains("it is the last"));
    machines[1].disconnect();
    says(&ann, &confirm, "1 of 2 others of its kind in contact and not isolated").await;
    machines[2].disconnect();
    says(&ann, &confirm, "0 of 2 others of its kind in contact and not isolated").await;
    let text = ann.get(&confirm).await.text();
    assert!(text.contains("o other machine of its kind is in contact and working: it is the last"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolation_is_shown_before_it_is_confirmed_and_is_as_true_as_its_proof() {
    let served = Served::start().await;
    let (mut machine, incident) = attacked(&served, "office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    let here = format!("/machines/{}", machine.id());
    let id = incident.rsplit('/').next().unwrap();

    // Looking changes nothing.
    let confirm = format!("{here}/isolate?how=segment&incident={id}");
    let text = ann.get(&confirm).await.text();
    assert!(
        text.contains("What will stop") && text.contains("TCP 445 (SMB, file sharing)"),
        "{text}"
    );
    assert!(text.contains("What lives") && text.contains("All other services"), "{text}");
    assert!(text.contains("No lifeline is declared"), "{text}");
    let text = ann.get(&format!("{here}/isolate?how=full")).await.text();
    assert!(text.contains("Everything else:"), "{text}");
    assert!(text.contains("The agent’s link to this hub"), "{text}");
    assert!(!text.contains("link to this hub, too"), "{text}");
    assert_eq!(served.site.hub().machines()[0].isolation, None);

    // A reason is needed.
    let act = format!("{here}/isolate");
    let none = [("how", "segment"), ("incident", id), ("reason", "  ")];
    assert_eq!(ann.act(&confirm, &act, &none).await.status, 422);

    let fields = [("how", "segment"), ("incident", id), ("reason", "worm seen\nby me")];
    let page = ann.act(&confirm, &act, &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!(page.header("location"), Some(format!("{incident}#measures").as_str()));
    let order = machine.order().await;
    assert_eq!(order.reason, "worm seen by me");
    assert!(matches!(
        order.instruction,
        Instruction::Begin { action: Action::Isolate(Isolation::Segment), .. }
    ));
    says(&ann, &incident, "Requested, not with the machine yet").await;
    assert!(!ann.get(&incident).await.text().contains("Verified"));

    machine.take(&order).await;
    says(&ann, &incident, "Delivered, not applied yet").await;
    machine.carry_out(&order).await;
    says(&ann, &incident, "Verified").await;
    let text = ann.get(&incident).await.text();
    assert!(text.contains("What stays unproven inbound read back, not probed by a peer"), "{text}");
    assert!(text.contains("ann: “worm seen by me”"), "{text}");

    // And released, for a reason.
    let confirm = format!("{here}/release?incident={id}");
    let text = ann.get(&confirm).await.text();
    assert!(text.contains("everything that was cut is open again"), "{text}");
    // The gate is closed: what is missing is said, and takes a word of its own.
    assert!(
        text.contains("The gate is closed") && text.contains("nobody has looked again"),
        "{text}"
    );
    let fields = [("incident", id), ("reason", "shown clean"), ("despite", " ")];
    let page = ann.act(&confirm, &format!("{here}/release"), &fields).await;
    assert_eq!(page.status, 409, "{}", page.text());
    assert!(page.text().contains("not ready to return to service"), "{}", page.text());
    let fields = [("incident", id), ("reason", "shown clean"), ("despite", "theatre\nneeds it")];
    let page = ann.act(&confirm, &format!("{here}/release"), &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert!(ann.get(&here).await.text().contains("theatre needs it"), "it is on the screen");
    let release = machine.order().await;
    assert_eq!(release.instruction, Instruction::Release);
    machine.take(&release).await;
    let released = machine.receipt(&order, MeasureState::Released);
    machine.report(cordon_model::wire::Report::Receipt(machine.sealed(&released))).await;
    // Until it says itself that it holds nothing, that is not known.
    let status = Status {
        at_boot: BootNanos(9),
        holds: Holds::NOTHING,
        break_glass: 0,
        guidance: 0,
        rules: 40,
        events: 1,
        lost: 0,
    };
    machine.say(&FromAgent::Status(status)).await;
    says(&ann, &here, "Not isolated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_cannot_be_judged_takes_neither_the_page_nor_the_release_from_anybody() {
    let served = Served::start().await;
    let (mut machine, _) = attacked(&served, "office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    let here = format!("/machines/{}", machine.id());
    let fields = [("how", "segment"), ("reason", "worm seen")];
    let page = ann.act("/", &format!("{here}/isolate"), &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    let order = machine.order().await;
    machine.carry_out(&order).await;
    says(&ann, &here, "Verified").await;
    damage_statements(&served, &machine).await;

    let page = ann.get(&here).await;
    let text = page.text();
    assert_eq!(page.status, 200, "{text}");
    assert!(text.contains("The gate can’t be judged a stored"), "with the reason: {text}");
    assert!(text.contains("Measures, newest first: 1"), "the rest of the page is there: {text}");
    let confirm = format!("{here}/release");
    assert!(page.body.contains(&format!("href=\"{confirm}\">release it despite")), "{}", page.body);

    let text = ann.get(&confirm).await.text();
    assert!(text.contains("Release now, despite what is missing"), "{text}");
    let fields = [("reason", "theatre"), ("despite", "the patient is on the table")];
    let page = ann.act(&confirm, &confirm, &fields).await;
    assert_eq!(page.status, 303, "{}", page.text());
    assert_eq!(machine.order().await.instruction, Instruction::Release);
}

/// What was said of the machine's return can't be read any more.
async fn damage_statements(served: &Served, machine: &Machine) {
    let file = served.site.directory.path().join("hub").join("state.db");
    let mut file = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("INSERT INTO statements VALUES ($1, $2, 0, $3)")
        .bind(served.site.organisation.as_str())
        .bind(machine.id().to_string())
        .bind(&b"no statement"[..])
        .execute(&mut file)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_look_can_do_nothing_and_is_told_so() {
    let served = Served::start().await;
    let (machine, incident) = attacked(&served, "office-1", Some(ClinicalTier::None)).await;
    let eve = served.person("eve", Role::Viewer).await;
    let here = format!("/machines/{}", machine.id());
    for (path, fields) in [
        (format!("{here}/isolate"), vec![("how", "full"), ("reason", "x")]),
        (format!("{here}/release"), vec![("reason", "x")]),
        (format!("{incident}/take"), vec![]),
        (format!("{incident}/close"), vec![("reason", "x")]),
        (format!("{incident}/comment"), vec![("comment", "x")]),
    ] {
        let page = eve.act("/", &path, &fields).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(page.text().contains("You may not do that"));
    }
    assert_eq!(served.site.hub().machines()[0].isolation, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_taken_commented_and_closed_with_a_reason() {
    let served = Served::start().await;
    let (_machine, incident) = attacked(&served, "office-1", Some(ClinicalTier::None)).await;
    let ann = served.person("ann", Role::Responder).await;
    assert!(ann.get(&incident).await.text().contains("Nobody has it"));
    ann.act(&incident, &format!("{incident}/take"), &[]).await;
    assert!(ann.get(&incident).await.text().contains("You have it."));
    let comment = [("comment", "called the ward: <b>no patients</b> on it")];
    ann.act(&incident, &format!("{incident}/comment"), &comment).await;
    let page = ann.get(&incident).await;
    assert!(page.body.contains("&lt;b&gt;no patients&lt;/b&gt;"), "{}", page.text());
    let empty = ann.act(&incident, &format!("{incident}/close"), &[("reason", "")]).await;
    assert_eq!(empty.status, 422);
    ann.act(&incident, &format!("{incident}/close"), &[("reason", "a test")]).await;
    let page = ann.get(&incident).await;
    let text = page.text();
    assert!(text.contains("It is closed"), "{text}");
    // What the policy asked in it does not vanish: it is withdrawn, and says why.
    let why = "Nobody has to answer it any more: its incident was closed by ann: a test";
    assert!(text.contains("Withdrawn") && text.contains(why), "{text}");
    assert!(ann.get("/incidents/closed").await.body.contains(&incident));
    assert!(!ann.get("/").await.body.contains(&incident));
    let ledger = ann.get("/ledger").await.text();
    assert!(ledger.contains("a test") && ledger.contains("By ann"), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_once_with_a_reason_that_is_kept() {
    let served = Served::start().await;
    let (mut machine, incident) = attacked(&served, "ward-3", Some(ClinicalTier::Clinical)).await;
    let ann = served.person("ann", Role::Responder).await;
    let page = ann.get(&incident).await;
    assert!(page.text().contains("Waits for an answer"), "{}", page.text());
    let question = page.body.split('"').find(|part| part.starts_with("/questions/")).unwrap();
    let shown = ann.get(question).await.text();
    assert!(shown.contains("What will stop") && shown.contains("one person"), "{shown}");
    assert!(!shown.contains("stand still"), "{shown}");
    let none = ann.act(question, question, &[("answer", "approve"), ("reason", "")]).await;
    assert_eq!(none.status, 422);
    let yes = [("answer", "approve"), ("reason", "worm")];
    assert_eq!(ann.act(question, question, &yes).await.status, 303);
    let order = machine.order().await;
    assert!(matches!(order.instruction, Instruction::Begin { .. }));
    let page = ann.get(&incident).await.text();
    assert!(page.contains("Answered: yes") && page.contains("worm (asked: "), "{page}");
    // A second answer comes too late, and is told so.
    let bob = served.person("bob", Role::Responder).await;
    let no = [("answer", "decline"), ("reason", "no")];
    assert_eq!(bob.act("/", question, &no).await.status, 409);
}

/// Whoever says yes to a freeze on a clinical machine has read what then hangs, and how it is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_shows_all_that_a_yes_does_and_what_that_means_for_care() {
    let served = Served::start().await;
    let hub = served.site.hub();
    let mut policy = (*hub.policy()).clone();
    for response in &mut policy.responses {
        response.also = vec![ActionKind::Freeze, ActionKind::Kill];
    }
    hub.set_policy(policy, &super::support::admin()).await.unwrap();
    let ann = served.person("ann", Role::Responder).await;
    let mut machine = served.site.machine_of("ct-1", Some(ClinicalTier::Clinical)).await;
    let mut report = async |event| {
        let mut finding = finding("ct-1", Level::High, event);
        let (pid, started) = (70 + u32::from(event), BootNanos(5));
        finding.process = Some(ProcessRef { pid, started, image: "/opt/viewer".into() });
        machine.report(Report::Finding(Box::new(finding))).await;
        let question = hub.approvals(true).await.unwrap().pop().unwrap();
        (ann.get(&format!("/questions/{}", question.id)).await.text(), question)
    };
    let freezes =
        ["stand still", "Whoever works with that program sees it hang", "it goes on where"];
    let kills = ["Whoever works with that program loses it at once", "started again by hand"];
    let protects = ["Nobody has named what care needs on this machine"];
    let all = |shown: &str, words: &[&str]| words.iter().all(|said| shown.contains(said));

    let (shown, question) = report(1).await;
    assert_eq!(question.also.len(), 2);
    assert!(shown.contains("What will stop"), "{shown}");
    assert!(all(&shown, &freezes) && all(&shown, &kills) && all(&shown, &protects), "{shown}");
    // Once it is isolated, the next process is asked about alone.
    hub.answer(question.id, true, "worm", &super::support::admin()).await.unwrap();
    let (shown, question) = report(2).await;
    assert_eq!(question.instruction.isolation(), None);
    assert!(!shown.contains("What will stop"), "{shown}");
    assert!(all(&shown, &freezes) && all(&shown, &kills) && all(&shown, &protects), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_may_cut_off_has_no_button_for_it() {
    let served = Served::start().await;
    let ann = served.person("ann", Role::Responder).await;
    let tiers = [(ClinicalTier::Clinical, true), (ClinicalTier::LifeSustaining, false)];
    for (number, (tier, has_button)) in tiers.into_iter().enumerate() {
        let machine = served.site.machine_of(&format!("icu-{number}"), Some(tier)).await;
        for how in ["segment", "full"] {
            let page = ann.get(&format!("/machines/{}/isolate?how={how}", machine.id())).await;
            assert_eq!(page.text().contains("Isolate now"), has_button, "{}", page.text());
            let is_told = page.text().contains("Ring the clinical lead");
            assert_eq!(is_told, !has_button, "{}", page.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_is_is_said_by_a_named_person_and_mistakes_are_given_back() {
    let served = Served::start().await;
    let machine = served.site.machine_of("host-9", None).await;
    let boss = served.person("boss", Role::Administrator).await;
    let form = format!("/machines/{}/assignment", machine.id());
    let typed = |lifelines: &'static str| {
        [
            ("name", "CT 2"),
            ("tier", "2"),
            ("kind", "CT workstation"),
            ("group", "Radiology"),
            ("lifelines", lifelines),
            ("protected", "unit | pacs-viewer.service\r\nprogram | /opt/pacs/viewer"),
            ("place", "ground floor, room 0.12"),
            ("instead", ""),
            ("ring", "Security operations | 5555"),
        ]
    };
    let wrong = boss.act(&form, &form, &typed("PACS | to | nowhere | tcp | 11112")).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("lifeline on line 1"), "{}", wrong.text());
    assert!(wrong.body.contains("PACS | to | nowhere"), "what was typed is not lost");
    let right = boss.act(&form, &form, &typed("PACS | to | 10.0.4.9 | tcp | 11112\r\n")).await;
    assert_eq!(right.status, 303, "{}", right.text());
    let text = boss.get(&format!("/machines/{}", machine.id())).await.text();
    assert!(text.contains("CT 2") && text.contains("Tier 2: clinical"), "{text}");
    assert!(text.contains("room 0.12") && text.contains("Security operations 5555"), "{text}");
    assert!(text.contains("Break-glass codes"), "{text}");
    assert!(text.contains("unit | pacs-viewer.service"), "{text}");
    let signed = served.site.hub().machine(machine.id()).await.unwrap().assignment.unwrap();
    assert_eq!(signed.protected.units, ["pacs-viewer.service"]);
    assert_eq!(signed.protected.executables[0].as_bytes(), b"/opt/pacs/viewer");
    // The form shows what is signed, so that who saves it as it is changes nothing; emptied, nothing is protected.
    assert!(boss.get(&form).await.body.contains("program | /opt/pacs/viewer\nunit | pacs-viewer"));
    let mut emptied = typed("PACS | to | 10.0.4.9 | tcp | 11112");
    emptied[5].1 = " ";
    assert_eq!(boss.act(&form, &form, &emptied).await.status, 303);
    let signed = served.site.hub().machine(machine.id()).await.unwrap().assignment.unwrap();
    assert_eq!(signed.protected, cordon_model::asset::Protected::default());
    assert!(text.contains("PACS: TCP 11112 to 10.0.4.9/32"), "{text}");
    let text = boss.get(&format!("/machines/{}/isolate?how=full", machine.id())).await.text();
    assert!(text.contains("PACS: TCP 11112"), "a lifeline is shown as what lives: {text}");
    let ann = served.person("ann", Role::Responder).await;
    assert_eq!(ann.act("/", &form, &typed("")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_changes_after_it_was_shown_and_not_behind_anybodys_back() {
    let served = Served::start().await;
    let boss = served.person("boss", Role::Administrator).await;
    let text = boss.get("/policy").await.text();
    assert!(text.contains("Mode: ask"), "{text}");
    let change = boss.get("/policy/change?mode=act").await;
    assert!(change.text().contains("Segment without asking, from level high"), "{}", change.text());
    let old = served.site.hub().policy().revision.to_string();
    let fields = [("mode", "act"), ("revision", old.as_str())];
    assert_eq!(boss.act("/policy", "/policy", &fields).await.status, 303);
    assert!(boss.get("/policy").await.text().contains("Mode: act"));
    // Just where no hub is in reach now it does not hold yet.
    let ask = boss.get("/policy/change?mode=ask").await.text();
    assert!(
        ask.contains("goes on by the policy that it holds, until this one reaches it"),
        "{ask}"
    );
    // A form that was shown before that is out of date.
    let late = [("mode", "observe"), ("revision", old.as_str())];
    assert_eq!(boss.act("/policy", "/policy", &late).await.status, 409);
}
