//! Who has to agree, and who may at night, with the real signer and store.

use cordon_hub::HubError;
use cordon_hub::people::Who;
use cordon_hub::view::Ordered;
use cordon_model::approval::{Needs, NeedsMore, Night};
use cordon_model::asset::ClinicalTier;
use cordon_model::measure::Isolation;
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use cordon_respond::approval::ApprovalState;
use cordon_store::{Person, Role, Session};

use super::support::{Site, admin};

const TIER: ClinicalTier = ClinicalTier::None;

/// Somebody who is signed in to the console.
fn person(name: &str) -> Who {
    let now = UtcNanos::now();
    let person = Person {
        name: name.into(),
        role: Role::Responder,
        is_clinical: false,
        is_active: true,
        password: None,
        created_at: now,
    };
    Who::of(&Session { person, begun_at: now, expires_at: now })
}

fn two_people(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.approval.needs = vec![NeedsMore { tiers: vec![TIER], needs: Needs::TwoPeople }];
    policy
}

fn night(policy: &Policy, people: &[&str]) -> Policy {
    let mut policy = policy.clone();
    policy.approval.night = Some(Night {
        from: "00:00".into(),
        until: "23:59".into(),
        time_zone: "Europe/London".into(),
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
    let Ordered::Asked { approval, needs: Needs::TwoPeople } = first else { panic!("{first:?}") };
    let again = hub.isolate(machine.id(), Isolation::Segment, "worm", None, &ann).await;
    assert!(matches!(again, Err(HubError::Answer(_))), "one person is one voice");
    let account = hub.answer(approval, true, "worm", &admin()).await.unwrap_err().to_string();
    assert!(account.contains("sign in"), "an account is no second person: {account}");
    let state = hub.answer(approval, true, "I saw it too", &bob).await.unwrap();
    assert_eq!(state, ApprovalState::Approved);
    assert_eq!(machine.order().await.authority.people().len(), 2);
    // Opening takes one.
    let released = hub.release(machine.id(), "clean", None, &ann).await.unwrap();
    assert!(matches!(released, Ordered::Signed { .. }));
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
    let Ordered::Asked { approval, .. } = wished else { panic!("{wished:?}") };
    let refused = hub.answer(approval, true, "worm", &ann).await.unwrap_err().to_string();
    assert!(refused.contains("rita"), "whom to wake: {refused}");
    let no = hub.answer(approval, false, "no worm", &ann).await.unwrap();
    assert_eq!(no, ApprovalState::Declined, "anybody may say no");
}
