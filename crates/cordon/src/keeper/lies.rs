//! What comes of root's words when the signer is the real one and a hub lies, or dies.

use std::sync::{Arc, Mutex, PoisonError};

use cordon_hub::signer::{SignerConfig, serve_until};
use cordon_link::frame;
use cordon_model::asset::{ClinicalTier, Direction, PortRange, Transport};
use cordon_model::guidance::Contact;
use cordon_model::limits::MESSAGE_BYTES;
use cordon_model::named::{NamedLifeline, Service};
use cordon_model::time::UtcNanos;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::*;

const OFFICE: u8 = 7;
const VENTILATOR: u8 = 3;

fn machine(number: u8) -> MachineId {
    MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
}

fn of(number: u8, name: &str, tier: ClinicalTier) -> Assignment {
    let service = Service {
        transport: Transport::Tcp,
        ports: PortRange::one(104),
        direction: Direction::Outbound,
        signed_off_by: None,
    };
    Assignment {
        tier: Some(tier),
        lifelines: vec![service.at("10.0.0.7".parse().unwrap(), "PACS")],
        names: vec![NamedLifeline {
            host: "pacs.test".parse().unwrap(),
            name: "PACS".into(),
            within: vec![],
        }],
        ..Assignment::of("RJ1".parse().unwrap(), machine(number), name)
    }
}

/// The signer with two machines that root spoke of, and a hub that answers as the test says.
struct Site {
    layout: Layout,
    signer: Client,
    /// What the hub was asked.
    asked: Arc<Mutex<Vec<Request>>>,
    _stop: oneshot::Sender<()>,
    _state: tempfile::TempDir,
}

impl Site {
    /// `hub`: what it answers; nothing: it hangs up.
    async fn with(hub: impl Fn(&Request) -> Option<Answer> + Send + 'static) -> Self {
        let state = tempfile::tempdir().unwrap();
        let layout = Layout::new(state.path());
        std::fs::create_dir_all(layout.signer()).unwrap();
        for socket in [layout.signer_socket(), layout.control_socket()] {
            std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        }
        let config = SignerConfig {
            directory: layout.signer(),
            socket: layout.signer_socket(),
            organisation: "RJ1".parse().unwrap(),
            // Nobody that runs tests: whoever runs this is the keeper.
            hub_uid: 65_534,
            user: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            serve_until(&config, async move { drop(stopped.await) }).await.unwrap();
        });
        let signer = loop {
            match Client::connect(&layout.signer_socket()).await {
                Ok(signer) => break signer,
                Err(_) => assert!(!serving.is_finished(), "the signer serves"),
            }
            tokio::task::yield_now().await;
        };
        for known in [
            of(OFFICE, "office-7", ClinicalTier::Clinical),
            of(VENTILATOR, "ventilator-3", ClinicalTier::LifeSustaining),
        ] {
            signer.assign(known, None, Some(root())).await.unwrap();
        }
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (listener, noted) =
            (UnixListener::bind(layout.control_socket()).unwrap(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = frame::read::<Request, _>(&mut stream, MESSAGE_BYTES).await;
                let request = request.unwrap().unwrap();
                let answer = hub(&request);
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                if let Some(answer) = answer {
                    frame::write(&mut stream, &answer, MESSAGE_BYTES).await.unwrap();
                }
            }
        });
        Self { layout, signer, asked, _stop: stop, _state: state }
    }

    async fn signed(&self, number: u8) -> Assignment {
        (*self.signer.assignment(machine(number)).await.unwrap()).clone()
    }

    async fn assign(&self, typed: &str, draft: AssignmentDraft) -> Result<Assignment> {
        assign(&self.layout, typed, draft, Answered { yes: true, ..Answered::default() }).await
    }

    fn was_asked(&self, is_it: impl Fn(&Request) -> bool) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(is_it)
    }
}

fn root() -> Approver {
    Approver { name: "root".into(), is_clinical: false }
}

fn pin() -> Pin {
    Pin {
        host: "pacs.test".parse().unwrap(),
        add: ["10.0.0.8".parse().unwrap()].into(),
        drop: [].into(),
        signed_off_by: None,
    }
}

/// That nothing depends on it, and whom to ring there.
fn tier_0() -> AssignmentDraft {
    let ring = vec![Contact { who: "Security operations".into(), number: "5555".into() }];
    AssignmentDraft {
        tier: Some(ClinicalTier::None),
        bedside: Some(Bedside { ring, ..Bedside::default() }),
        ..AssignmentDraft::default()
    }
}

/// As a hub makes it of what was said, of the machine that it picks.
fn made_of(draft: &AssignmentDraft, number: u8, name: &str) -> Option<Answer> {
    Some(Answer::Assigned(Box::new(Assignment {
        name: draft.name.clone().unwrap_or_else(|| name.to_owned()),
        tier: draft.tier,
        lifelines: draft.lifelines.clone(),
        names: draft.names.clone(),
        ..Assignment::of("RJ1".parse().unwrap(), machine(number), "")
    })))
}

/// An honest hub of one machine.
fn honest(request: &Request) -> Option<Answer> {
    match request {
        Request::WouldAssign { draft, .. } | Request::SetAssignment { draft, .. } => {
            made_of(draft, OFFICE, "office-7")
        }
        Request::ConfirmAddresses { .. } => made_of(&AssignmentDraft::default(), OFFICE, ""),
        Request::CheckPolicy(_) => Some(Answer::Done),
        _ => None,
    }
}

#[tokio::test]
async fn what_root_says_of_a_machine_is_signed_of_that_one_alone_whatever_the_hub_answers() {
    let site = Site::with(|request| match request {
        Request::WouldAssign { draft, .. } | Request::SetAssignment { draft, .. } => {
            made_of(draft, VENTILATOR, "ventilator-3")
        }
        _ => None,
    })
    .await;
    let before = [site.signed(OFFICE).await, site.signed(VENTILATOR).await];
    let renamed = AssignmentDraft { name: Some("office-7".into()), ..tier_0() };
    let id = machine(OFFICE).to_string();
    for (typed, draft) in
        [("office-7", tier_0()), ("office-7", renamed.clone()), (&*id, tier_0()), (&*id, renamed)]
    {
        let refused = site.assign(typed, draft.clone()).await.unwrap_err().to_string();
        assert!(refused.contains("answers for another machine"), "{typed}: {refused}");
        let preview = preview(&site.layout, typed, draft).await;
        assert!(preview.is_err(), "{typed}: a preview is of no other machine");
    }
    assert_eq!([site.signed(OFFICE).await, site.signed(VENTILATOR).await], before);
    for number in [OFFICE, VENTILATOR] {
        let told = site.signer.bedside(machine(number)).await.unwrap();
        assert_eq!(told, Bedside::default(), "what people there are told");
    }
}

#[tokio::test]
async fn what_an_honest_hub_brings_is_signed_and_told() {
    let site = Site::with(honest).await;
    let told = site.assign("office-7", tier_0()).await.unwrap();
    assert_eq!((told.machine, told.tier), (machine(OFFICE), Some(ClinicalTier::None)));
    assert_eq!(site.signed(OFFICE).await.tier, Some(ClinicalTier::None));
    let told = site.signer.bedside(machine(OFFICE)).await.unwrap();
    assert_eq!(Some(told), tier_0().bedside);
    // The hub is told the id that the signer knows it by, and picks nothing.
    let id = machine(OFFICE).to_string();
    assert!(site.was_asked(
        |request| matches!(request, Request::SetAssignment { machine, .. } if *machine == id)
    ));
}

#[tokio::test]
async fn a_hub_that_tells_of_another_machine_afterwards_is_found_out() {
    let site = Site::with(|request| match request {
        Request::SetAssignment { draft, .. } => made_of(draft, VENTILATOR, "office-7"),
        request => honest(request),
    })
    .await;
    let refused = site.assign("office-7", tier_0()).await.unwrap_err();
    let words = format!("{refused:#}");
    for said in ["HAS signed", "answers for another machine"] {
        assert!(words.contains(said), "{said:?} is not in {words}");
    }
    assert_eq!(site.signed(VENTILATOR).await.tier, Some(ClinicalTier::LifeSustaining));
}

#[tokio::test]
async fn addresses_are_confirmed_for_the_machine_that_root_named_alone() {
    // It would have people take the ventilator for the office's machine, at every question.
    let site = Site::with(|_| made_of(&AssignmentDraft::default(), VENTILATOR, "office-7")).await;
    let before = site.signed(VENTILATOR).await;
    let refused = confirm(&site.layout, "office-7", pin(), true).await.unwrap_err();
    assert!(format!("{refused:#}").contains("answers for another machine"), "{refused:#}");
    assert_eq!(site.signed(VENTILATOR).await, before);
    let pinned = site.signed(OFFICE).await.lifelines;
    assert!(pinned.iter().any(|one| one.peer.addr() == *pin().add.first().unwrap()), "{pinned:?}");
    let unknown = confirm(&site.layout, "office-8", pin(), true).await.unwrap_err().to_string();
    assert!(unknown.contains("knows no machine that is called \"office-8\""), "{unknown}");
    assert_eq!(site.signed(VENTILATOR).await, before);
}

#[tokio::test]
async fn a_name_that_is_the_hubs_word_alone_names_no_machine_and_an_id_does() {
    let site = Site::with(|request| match request {
        Request::WouldAssign { draft, .. } | Request::SetAssignment { draft, .. } => {
            made_of(draft, 9, "office-9")
        }
        _ => None,
    })
    .await;
    let refused = site.assign("office-9", tier_0()).await.unwrap_err().to_string();
    assert!(refused.contains("knows no machine that is called \"office-9\""), "{refused}");
    assert!(!site.was_asked(|_| true), "the hub has no say in it");
    assert!(site.signer.assignment(machine(9)).await.is_err(), "nothing was signed");
    site.assign(&machine(9).to_string(), tier_0()).await.unwrap();
    assert_eq!(site.signed(9).await.tier, Some(ClinicalTier::None));
}

#[tokio::test]
async fn of_two_machines_with_one_name_none_is_picked_for_root() {
    let site = Site::with(|request| match request {
        Request::WouldAssign { draft, .. } | Request::SetAssignment { draft, .. } => {
            made_of(draft, 9, "office-7")
        }
        _ => None,
    })
    .await;
    // As a hub may have it signed of a new machine, and call it as it likes.
    let twin = Assignment::of("RJ1".parse().unwrap(), machine(9), "office-7");
    site.signer.assign(twin.clone(), None, None).await.unwrap();
    let refused = site.assign("office-7", tier_0()).await.unwrap_err().to_string();
    for said in [
        "2 machines",
        &format!("{}: tier 2, as root said", machine(OFFICE)),
        &format!("{}: the hub's word alone", machine(9)),
    ] {
        assert!(refused.contains(said), "{said:?} is not in {refused}");
    }
    assert_eq!(site.signed(9).await, twin);
    // However many there are: the one that root spoke of is named first.
    for number in 10..60 {
        let twin = Assignment { machine: machine(number), ..twin.clone() };
        site.signer.assign(twin, None, None).await.unwrap();
    }
    for number in 0..OFFICE {
        let twin = Assignment { machine: machine(number), ..twin.clone() };
        if number != VENTILATOR {
            site.signer.assign(twin, None, None).await.unwrap();
        }
    }
    let refused = site.assign("office-7", tier_0()).await.unwrap_err().to_string();
    let first = refused.lines().nth(1).unwrap();
    assert_eq!(first.trim(), format!("{}: tier 2, as root said", machine(OFFICE)));
    assert!(refused.contains("and 54 more") && refused.len() < 1_000, "{refused}");
}

#[tokio::test]
async fn a_machine_that_root_strikes_off_leaves_its_name_to_the_next_and_keeps_its_codes() {
    let site = Site::with(|request| match request {
        Request::StrikeOff { machine, called, .. } => {
            let (machine, was) = (machine.parse().unwrap(), called.is_none());
            Some(Answer::StruckOff { machine, was, said: vec!["its permit".into()] })
        }
        Request::WouldAssign { draft, .. } | Request::SetAssignment { draft, .. } => {
            made_of(draft, 9, "office-7")
        }
        _ => None,
    })
    .await;
    let before = site.signed(OFFICE).await;
    let StruckOff { machine: struck, was, said } =
        strike_off(&site.layout, "office-7", "stolen", false).await.unwrap();
    assert_eq!((struck, was), (machine(OFFICE), false));
    assert!(said[0] == "its permit" && said[1].contains("office-7 (struck off)"), "{said:?}");
    let id = machine(OFFICE).to_string();
    // The hub is to have no other that is called so, but where the id itself was said.
    let by_name = |request: &Request| {
        matches!(request, Request::StrikeOff { machine, called, .. }
            if *machine == id && called.as_deref() == Some("office-7"))
    };
    assert!(site.was_asked(by_name));
    let after = site.signed(OFFICE).await;
    assert_eq!(after.name, "office-7 (struck off)");
    assert_eq!(
        Assignment { name: before.name.clone(), revision: before.revision, ..after },
        before
    );
    // Said again it stays so.
    let again = strike_off(&site.layout, &id, "stolen", false).await.unwrap();
    assert_eq!((again.was, again.said), (true, vec!["its permit".to_owned()]));
    // The next that is called so is the only one.
    let next = Assignment::of("RJ1".parse().unwrap(), machine(9), "office-7");
    site.signer.assign(next, None, None).await.unwrap();
    site.assign("office-7", tier_0()).await.unwrap();
    assert_eq!(site.signed(9).await.tier, Some(ClinicalTier::None));
}

#[tokio::test]
async fn whoever_sets_a_policy_is_told_where_machines_defend_themselves_less_by_it_and_only_then() {
    let site = Site::with(|request| match request {
        Request::SetPolicy(policy) => {
            Some(Answer::PolicySet { revision: 9, mode: policy.mode, night: None })
        }
        request => honest(request),
    })
    .await;
    let set = async |wish| set_policy(&site.layout, wish).await.unwrap().1;
    assert!(!set(Wish::Mode(Mode::Act)).await);
    let mut asks = (*site.signer.policy().await.unwrap()).clone();
    asks.responses.iter_mut().for_each(|response| response.by_itself = false);
    assert!(set(Wish::Policy(Box::new(asks))).await, "in mode act, and none by itself");
    for (mode, ends) in [(Mode::Act, true), (Mode::Ask, false), (Mode::Observe, false)] {
        let known = Policy { mode, ..Policy::default_for("RJ1".parse().unwrap()) };
        site.signer.set_policy(known, root()).await.unwrap();
        assert_eq!(set(Wish::Mode(Mode::Ask)).await, ends, "{mode:?}");
    }
}

#[tokio::test]
async fn what_was_signed_before_the_hub_failed_is_said_to_be() {
    let fails = |request: &Request| match request {
        Request::SetAssignment { .. }
        | Request::ConfirmAddresses { .. }
        | Request::SetPolicy(_)
        | Request::CreateEnrolToken { .. } => None,
        Request::WouldEnrol { draft } => made_of(draft, 0, ""),
        request => honest(request),
    };
    let site = Site::with(fails).await;
    let act = || set_policy(&site.layout, Wish::Mode(Mode::Act));
    let words = format!("{:#}", act().await.unwrap_err());
    assert!(words.contains("HAS signed this policy"), "{words}");
    assert!(words.contains("no hub answers"), "{words}");
    assert_eq!(site.signer.policy().await.unwrap().mode, Mode::Act);
    let words = format!("{:#}", act().await.unwrap_err());
    assert!(!words.contains("HAS signed"), "it was signed before, and not by this: {words}");

    let assign = || site.assign("office-7", tier_0());
    let words = format!("{:#}", assign().await.unwrap_err());
    assert!(words.contains("HAS signed it"), "{words}");
    // Its next link, the hub's next start or a name's next answer brings it.
    assert!(words.contains("may reach the machine at any time"), "{words}");
    assert_eq!(site.signed(OFFICE).await.tier, Some(ClinicalTier::None));
    let words = format!("{:#}", assign().await.unwrap_err());
    assert!(!words.contains("HAS signed"), "{words}");

    site.signer
        .assign(of(OFFICE, "office-7", ClinicalTier::None), None, Some(root()))
        .await
        .unwrap();
    let confirmed = confirm(&site.layout, "office-7", pin(), true).await;
    let words = format!("{:#}", confirmed.unwrap_err());
    assert!(words.contains("HAS signed it"), "{words}");

    let words = format!("{:#}", enrol_token(&site.layout, tier_0(), 60).await.unwrap_err());
    assert!(words.contains("HAS noted what that machine is to be"), "{words}");
}

#[test]
fn whoever_is_asked_sees_the_signers_own_words() {
    let known = of(VENTILATOR, "ventilator-3", ClinicalTier::LifeSustaining);
    let would =
        Assignment { name: "office-7".into(), tier: Some(ClinicalTier::None), ..known.clone() };
    let weaker = weakening::of_assignment(Some(&known), &would);
    let said = about_to_sign(machine(VENTILATOR), Some(&known), Some(&would), &weaker);
    for words in [
        &*machine(VENTILATOR).to_string(),
        "the signer calls it  ventilator-3\n",
        "it would be called   office-7\n",
        &ClinicalTier::LifeSustaining.to_string(),
        "tier 3 would become 0",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert!(!said.contains("NOTE"), "root spoke of it: {said}");
    let bare = Assignment::of("RJ1".parse().unwrap(), machine(9), "office-7");
    for known in [None, Some(&bare)] {
        let said = about_to_sign(machine(9), known, Some(&bare), &[]);
        assert!(said.contains("the hub's word alone"), "{said}");
    }
    let said = about_to_sign(machine(OFFICE), Some(&known), None, &in_lines(&pin()));
    assert!(said.contains("pacs.test is kept alive at 10.0.0.8 too"), "{said}");
}
