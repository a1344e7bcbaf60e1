//! Who has to agree, and who may at night, with the real signer and store.

use std::collections::BTreeSet;

use cordon_hub::HubError;
use cordon_hub::people::Who;
use cordon_hub::view::Ordered;
use cordon_model::action::{AccountTarget, Action};
use cordon_model::approval::{Needs, NeedsMore, Night, Unanswered};
use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, MachineId};
use cordon_model::measure::Isolation;
use cordon_model::order::Authority;
use cordon_model::policy::{Mode, Policy};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::ApprovalState;
use cordon_store::{Person, Role, Session};

use super::support::{Site, admin, found, until};

const TIER: ClinicalTier = ClinicalTier::None;

/// Somebody who is signed in to the console.
fn person(name: &str) -> Who {
    signed_in(name, false)
}

fn signed_in(name: &str, is_clinical: bool) -> Who {
    let now = UtcNanos::now();
    let person = Person {
        name: name.into(),
        role: Role::Responder,
        is_clinical,
        is_active: true,
        password: None,
        created_at: now,
    };
    Who::of(&Session { person, begun_at: now, expires_at: now })
}

fn needing(policy: &Policy, needs: Needs) -> Policy {
    let mut policy = policy.clone();
    policy.approval.needs = vec![NeedsMore { tiers: vec![TIER], needs }];
    policy
}

fn two_people(policy: &Policy) -> Policy {
    needing(policy, Needs::TwoPeople)
}

/// A night that it is now, and for hours on both sides, whenever the test runs.
fn night(policy: &Policy, people: &[&str]) -> Policy {
    let mut policy = policy.clone();
    let hour = UtcNanos::now().unix_nanos() / 3_600_000_000_000 % 24;
    policy.approval.night = Some(Night {
        from: format!("{:02}:00", (hour + 18) % 24),
        until: format!("{:02}:00", (hour + 6) % 24),
        time_zone: "UTC".into(),
        tiers: vec![TIER],
        people: people.iter().map(|name| (*name).to_owned()).collect(),
    });
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_people_makes_the_order() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.set_policy(two_people(&hub.policy()), &admin()).await.unwrap();
    let mut machine = site.machine_of("office-1", Some(TIER)).await;
    let (ann, bob) = (person("ann"), person("bob"));
    let first = hub.isolate(machine.id(), Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, needs: Needs::TwoPeople, night: None } = first else {
        panic!("{first:?}")
    };
    let again = hub.isolate(machine.id(), Isolation::Segment, "worm", None, &ann).await;
    assert!(matches!(again, Err(HubError::Answer(_))), "one person is one voice");
    let account = hub.answer(approval, true, "worm", &admin()).await.unwrap_err().to_string();
    assert!(account.contains("sign in"), "an account is no second person: {account}");
    let state = hub.answer(approval, true, "I saw it too", &bob).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    assert_eq!(machine.order().await.authority.people().len(), 2);
    // Opening takes one.
    let released = hub.release(machine.id(), "clean", None, None, &ann).await.unwrap();
    assert!(matches!(released, Ordered::Signed { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_people_one_is_clinical_where_the_policy_says_so() {
    let site = Site::start().await;
    let hub = site.hub();
    let needs = Needs::TwoPeopleOneClinical;
    hub.set_policy(needing(&hub.policy(), needs), &admin()).await.unwrap();
    let mut machine = site.machine_of("office-1", Some(TIER)).await;
    let (ann, nora) = (person("ann"), signed_in("nora", true));
    let wished = hub.isolate(machine.id(), Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, needs: asked, .. } = wished else { panic!("{wished:?}") };
    assert_eq!(asked, needs);
    let state = hub.answer(approval, true, "I saw it", &person("bob")).await.unwrap();
    assert_eq!(state, ApprovalState::Open, "two, and nobody clinical");
    assert!(hub.approvals(true).await.unwrap()[0].lacks_a_clinical_one());
    let state = hub.answer(approval, true, "it may go", &nora).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    // The signer has judged it by its own policy, and says who they were.
    let order = machine.order().await;
    let people = order.authority.people();
    assert!(people.iter().any(|one| one.name == "nora" && one.is_clinical), "{people:?}");
    // No clinical one alone is two.
    let other = site.machine_of("office-2", Some(TIER)).await;
    let asked = hub.isolate(other.id(), Isolation::Segment, "worm", None, &nora).await.unwrap();
    assert!(matches!(asked, Ordered::Asked { .. }), "{asked:?}");
    let released = hub.release(machine.id(), "clean", None, None, &ann).await.unwrap();
    assert!(matches!(released, Ordered::Signed { .. }), "opening takes one: {released:?}");
}

/// What is asked now: of which machine, and which question.
async fn asked_about(site: &Site) -> BTreeSet<(MachineId, ApprovalId)> {
    let open = site.hub().approvals(true).await.unwrap();
    open.into_iter().map(|question| (question.machine, question.id)).collect()
}

/// Nobody answers for as long as a question is open, and the hub is started again meanwhile: by the policy a
/// machine that no patient depends on is segmented, and about any other people are asked again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_says_follows_when_nobody_answers() {
    let mut site = Site::start().await;
    let mut policy = (*site.hub().policy()).clone();
    policy.mode = Mode::Ask;
    // The shortest that is taken.
    policy.approval.open_for_seconds = 60;
    policy.approval.unanswered = Unanswered::Segment;
    site.hub().set_policy(policy, &admin()).await.unwrap();
    let mut office = site.machine_of("office-1", Some(TIER)).await;
    let mut ward = site.machine_of("ward-1", Some(ClinicalTier::Clinical)).await;
    office.report(found("office-1", Level::High, 1)).await;
    ward.report(found("ward-1", Level::High, 2)).await;
    until("both are asked about", async || asked_about(&site).await.len() == 2).await;
    let asked = asked_about(&site).await;
    site.restart().await;
    assert_eq!(asked_about(&site).await, asked);
    let is_asked_again = async || {
        let now = asked_about(&site).await;
        now.len() == 1
            && now.iter().all(|(machine, _)| *machine == ward.id())
            && asked.is_disjoint(&now)
    };
    until("people are asked again about the ward's", is_asked_again).await;
    office.connect().await.unwrap();
    let order = office.order().await;
    assert!(matches!(order.authority, Authority::Policy { .. }), "{:?}", order.authority);
    assert_eq!(order.instruction.isolation(), Some(Isolation::Segment));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_names_people_who_can_answer_or_is_refused() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.admit("vera", Role::Viewer, false, &admin()).await.unwrap();
    hub.admit("rita", Role::Responder, false, &admin()).await.unwrap();
    for nobody in ["mallory", "vera"] {
        let refused = hub.set_policy(night(&hub.policy(), &[nobody]), &admin()).await;
        assert!(matches!(refused, Err(HubError::Invalid { .. })), "{refused:?}");
    }
    hub.set_policy(night(&hub.policy(), &["rita"]), &admin()).await.unwrap();
    let machine = site.machine_of("office-1", Some(TIER)).await;
    let ann = person("ann");
    let wished = hub.isolate(machine.id(), Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, night, .. } = wished else { panic!("{wished:?}") };
    assert_eq!(night, Some(vec!["rita".to_owned()]), "whom to wake");
    let refused = hub.answer(approval, true, "worm", &ann).await.unwrap_err().to_string();
    assert!(refused.contains("rita"), "whom to wake: {refused}");
    let no = hub.answer(approval, false, "no worm", &ann).await.unwrap();
    assert_eq!(no, ApprovalState::Declined, "anybody may say no");
}

#[tokio::test(flavor = "multi_thread")]
async fn barring_the_last_of_the_night_is_said_and_leaves_the_policy_free_to_change() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.admit("rita", Role::Responder, false, &admin()).await.unwrap();
    hub.set_policy(night(&hub.policy(), &["rita"]), &admin()).await.unwrap();
    assert_eq!(hub.night_gap().await.unwrap(), None);
    hub.bar("rita", &admin()).await.unwrap();
    let gap = hub.night_gap().await.unwrap().unwrap();
    assert_eq!((gap.able.len(), gap.unable), (0, vec!["rita".to_owned()]));
    // Whoever needs another mode at night gets it; a name that is new must still be somebody.
    hub.set_mode(Mode::Observe, &admin()).await.unwrap();
    assert!(hub.set_policy(night(&hub.policy(), &["rita", "nobody"]), &admin()).await.is_err());
    hub.admit("rita", Role::Viewer, false, &admin()).await.unwrap();
    assert!(hub.night_gap().await.unwrap().is_some(), "who may only look can't say yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_yes_of_somebody_who_was_barred_meanwhile_does_not_count() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.admit("ann", Role::Responder, false, &admin()).await.unwrap();
    hub.admit("rob", Role::Responder, false, &admin()).await.unwrap();
    hub.set_policy(two_people(&hub.policy()), &admin()).await.unwrap();
    let mut machine = site.machine_of("office-1", Some(TIER)).await;
    let (id, ann, rob) = (machine.id(), person("ann"), person("rob"));
    let asked = hub.isolate(id, Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, .. } = asked else { panic!("{asked:?}") };
    hub.bar("ann", &admin()).await.unwrap();
    // Two said yes, and one of them is nobody who may, by now.
    let state = hub.answer(approval, true, "I saw it", &rob).await.unwrap();
    assert_eq!(state, ApprovalState::Open);
    hub.admit("rob", Role::Viewer, false, &admin()).await.unwrap();
    let state = hub.answer(approval, true, "I saw it", &person("bob")).await.unwrap();
    assert_eq!(state, ApprovalState::Open, "nor who may only look by now");
    let state = hub.answer(approval, true, "I too", &person("cat")).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    let order = machine.order().await;
    let names: Vec<&str> = order.authority.people().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["bob", "cat"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_needed_and_who_may_is_judged_again_at_each_answer() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.admit("rita", Role::Responder, false, &admin()).await.unwrap();
    hub.set_policy(two_people(&hub.policy()), &admin()).await.unwrap();
    let mut machine = site.machine_of("office-1", Some(TIER)).await;
    let (id, ann) = (machine.id(), person("ann"));
    let asked = hub.isolate(id, Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, night: None, .. } = asked else { panic!("{asked:?}") };
    // It has become night, and only rita counts: neither bob's yes nor ann's of before.
    let mut one = night(&hub.policy(), &["rita"]);
    one.approval.needs = vec![];
    hub.set_policy(one, &admin()).await.unwrap();
    let refused = hub.answer(approval, true, "I saw it", &person("bob")).await.unwrap_err();
    assert!(refused.to_string().contains("rita"), "{refused}");
    let state = hub.answer(approval, true, "go", &person("rita")).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    assert!(machine.order().await.authority.people().iter().any(|one| one.name == "rita"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_about_a_machine_is_shown_however_many_wait_about_others() {
    let site = Site::start().await;
    let hub = site.hub();
    hub.set_policy(two_people(&hub.policy()), &admin()).await.unwrap();
    let (noisy, quiet) = (site.machine("noisy").await, site.machine("quiet").await);
    // More than the store lists at once, all before the one that is looked for.
    for number in 0..=cordon_store::PAGE_ROWS as usize {
        let who =
            person(&format!("person {}", number / cordon_model::limits::QUESTIONS_PER_PERSON));
        let name = format!("user{number}");
        let action = Action::DisableAccount(AccountTarget { name, ends_sessions: false });
        let asked = hub.begin(noisy.id(), action, "a wrong rule", None, &who).await.unwrap();
        assert!(matches!(asked, Ordered::Asked { .. }), "{asked:?}");
    }
    let ann = person("ann");
    let asked = hub.isolate(quiet.id(), Isolation::Segment, "worm", None, &ann).await.unwrap();
    let Ordered::Asked { approval, .. } = asked else { panic!("{asked:?}") };
    let shown = hub.machine(quiet.id()).await.unwrap().questions;
    assert_eq!(shown.iter().map(|one| one.id).collect::<Vec<_>>(), [approval]);
    let of_noisy = hub.machine(noisy.id()).await.unwrap().questions.len();
    assert_eq!(of_noisy, cordon_store::PAGE_ROWS as usize + 1);
}
