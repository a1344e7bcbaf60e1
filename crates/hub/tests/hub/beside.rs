//! What is found in one incident while people are asked in another: asked about over a restart as without one.

use cordon_hub::signer::Client;
use cordon_model::approval::{Needs, NeedsMore};
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, IncidentId};
use cordon_model::order::Approver;
use cordon_model::policy::{Mode, Policy};
use cordon_model::wire::Report;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_store::{Change, Incidents as _, Key, Page, Rows as _, SqliteState, State as _};

use super::support::{Machine, Site, admin, finding, found, until};

/// More than an hour: what is found then is of another story.
const HOURS: i64 = 2 * 3_600 * 1_000_000_000;

async fn store_of(site: &Site) -> SqliteState {
    SqliteState::open(&site.directory.path().join("hub")).await.unwrap()
}

/// People are asked about a machine, and hours later something else is found there.
struct Asked {
    site: Site,
    machine: Machine,
    question: ApprovalId,
    /// The question's own, and that of what came beside.
    incidents: [IncidentId; 2],
}

async fn asked(policy: impl FnOnce(&mut Policy)) -> Asked {
    let mut site = Site::start().await;
    let mut draft = (*site.hub().policy()).clone();
    policy(&mut draft);
    site.hub().set_policy(draft, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    machine.send(found("office-1", Level::High, 1)).await;
    until("it is asked", || async { site.hub().approvals(true).await.unwrap().len() == 1 }).await;
    site.stop().await;
    let store = store_of(&site).await;
    let rows = store.rows(&site.organisation).await.unwrap();
    let story = rows.into_iter().find(|row| row.kind == "story").unwrap();
    let mut document: ciborium::Value = ciborium::from_reader(&story.document[..]).unwrap();
    let entries = document.as_map_mut().unwrap();
    let (_, touched) =
        entries.iter_mut().find(|(key, _)| key.as_text() == Some("touched")).unwrap();
    let at: i64 = touched.as_integer().unwrap().try_into().unwrap();
    *touched = (at - HOURS).into();
    let mut older = Vec::new();
    ciborium::into_writer(&document, &mut older).unwrap();
    let change = Change::Row { kind: "story", id: story.id, document: Some(older) };
    store.commit(&site.organisation, &[change]).await.unwrap();
    store.close().await;
    site.start_again().await;
    machine.connect().await.unwrap();
    machine.report(found("office-1", Level::High, 2)).await;
    let came = || async {
        let [open] = &site.hub().approvals(true).await.unwrap()[..] else { return None };
        let came = open.since.first()?;
        Some((open.id, [open.incident?, came.incident?]))
    };
    until("it is noted", || async { came().await.is_some() }).await;
    let (question, incidents) = came().await.unwrap();
    assert_ne!(incidents[0], incidents[1]);
    Asked { site, machine, question, incidents }
}

impl Asked {
    async fn question(&self) -> Approval {
        self.site.hub().approval(self.question).await.unwrap()
    }

    /// The words of what is asked in the story of what came beside, once anything is.
    async fn asked_beside(&self) -> Vec<String> {
        let words = || async {
            let open = self.site.hub().approvals(true).await.unwrap();
            let its = open.into_iter().filter(|open| open.incident == Some(self.incidents[1]));
            its.map(|open| open.why).collect::<Vec<_>>()
        };
        until("it is asked", || async { !words().await.is_empty() }).await;
        words().await
    }

    /// Once all of it is asked, the question is read back no more.
    async fn nothing_is_left(mut self) {
        until("nothing is left", || async { self.question().await.since.is_empty() }).await;
        self.site.stop().await;
        let store = store_of(&self.site).await;
        let organisation = &self.site.organisation;
        let count = store.approvals_that_count(organisation, &Page::default()).await.unwrap();
        assert!(count.items.iter().all(|of| of.id != self.question), "{:?}", count.items);
    }
}

/// People said no and closed the incident while the signer was away, and it refuses what the policy had proposed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_on_a_question_of_a_closed_incident_is_asked_after_a_restart_as_without_one() {
    let mut words = Vec::new();
    for restarts in [false, true] {
        let mut asked = asked(|policy| {
            policy.mode = Mode::Act;
            policy.budget.count = 0;
        })
        .await;
        asked.site.signer.take().unwrap().stop().await;
        let mut third = finding("office-1", Level::High, 3);
        (third.rule.id, third.rule.title) = ("rule-3".into(), "Another one".into());
        asked.machine.report(Report::Finding(Box::new(third))).await;
        let hub = asked.site.hub();
        hub.answer(asked.question, false, "a test", &admin()).await.unwrap();
        hub.close_incident(asked.incidents[0], "a test", &admin()).await.unwrap();
        let left = asked.question().await;
        assert_eq!((left.state, left.since.len()), (ApprovalState::Declined, 1), "{left:?}");
        if restarts {
            asked.site.stop().await;
        }
        asked.site.start_signer().await;
        if restarts {
            asked.site.start_again().await;
        }
        words.push(asked.asked_beside().await);
        asked.nothing_is_left().await;
    }
    assert_eq!(words[0], words[1]);
    let [why] = &words[0][..] else { panic!("{words:?}") };
    assert!(why.contains("A worm spreads") && why.contains("Another one"), "{why}");
}

/// People said yes and closed the incident while the signer was away. It lets one person do it no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_beside_a_yes_that_waits_is_asked_where_the_signer_refuses_after_a_restart() {
    let mut asked = asked(|policy| policy.mode = Mode::Ask).await;
    asked.site.signer.take().unwrap().stop().await;
    // Who says yes waits for the signer; nobody waits here.
    let (hub, question) = (asked.site.hub().clone(), asked.question);
    let waits = tokio::spawn(async move { hub.answer(question, true, "a test", &admin()).await });
    until("it is agreed", || async { asked.question().await.state == ApprovalState::Approved })
        .await;
    waits.abort();
    drop(waits.await);
    asked.site.hub().close_incident(asked.incidents[0], "a test", &admin()).await.unwrap();
    assert_eq!(asked.question().await.since.len(), 1);
    asked.site.stop().await;
    asked.site.start_signer().await;
    let client = Client::connect(&asked.site.directory.path().join("signer.sock")).await.unwrap();
    let mut policy = (*client.policy().await.unwrap()).clone();
    let tiers = vec![ClinicalTier::None];
    policy.approval.needs = vec![NeedsMore { tiers, needs: Needs::TwoPeople }];
    let root = Approver { name: "root".into(), is_clinical: false };
    client.set_policy(policy, root).await.unwrap();
    asked.site.start_again().await;
    let words = asked.asked_beside().await;
    assert!(words[0].contains("A worm spreads"), "{words:?}");
    asked.nothing_is_left().await;
}

/// As an earlier version kept it: nothing says that anything is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_on_a_question_is_asked() {
    let mut asked = asked(|policy| policy.mode = Mode::Ask).await;
    asked.site.stop().await;
    let (store, organisation) = (store_of(&asked.site).await, asked.site.organisation.clone());
    let mut kept = store.approval(&Key::new(&organisation, asked.question)).await.unwrap().unwrap();
    let mut question: Approval = ciborium::from_reader(&kept.document[..]).unwrap();
    question.state = ApprovalState::Expired;
    question.incident = Some(IncidentId::new(question.asked_at, [7; 10]));
    (kept.is_open, kept.incident, kept.document) = (false, question.incident, Vec::new());
    ciborium::into_writer(&question, &mut kept.document).unwrap();
    let name = "approvals-that-count".into();
    let changes = [Change::Approval(kept), Change::Setting { name, value: None }];
    store.commit(&organisation, &changes).await.unwrap();
    store.close().await;
    asked.site.start_again().await;
    let words = asked.asked_beside().await;
    assert!(words[0].contains("A worm spreads"), "{words:?}");
    asked.nothing_is_left().await;
}
