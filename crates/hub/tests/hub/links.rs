//! Who may speak on a link.

use cordon_hub::control::{Answer, Request, ask};
use cordon_hub::view::Contact;
use cordon_model::finding::Level;
use cordon_model::limits;
use cordon_model::measure::Isolation;
use cordon_model::order::Instruction;
use cordon_model::policy::Mode;
use cordon_model::record::Deed;
use cordon_model::time::UtcNanos;
use cordon_model::wire::{FromAgent, FromHub, Hello, VERSION};
use cordon_store::{IncidentFilter, Key, Orders as _, Page, SqliteState, State as _};
use tokio::io::AsyncReadExt as _;

use super::support::{Machine, Signer, Site, admin, found, open_without_certificate, until};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_gets_in() {
    let site = Site::start().await;
    let machine = site.machine("office-1").await;
    let opened = open_without_certificate(
        site.running().link,
        &machine.enrolled.authority,
        &machine.enrolled.hub_name,
    )
    .await;
    // With TLS 1.3 the client may finish first; the refusal comes at its first reading.
    if let Ok(mut stream) = opened {
        let mut byte = [0];
        assert!(stream.read(&mut byte).await.is_err());
    }
    until("the refusal is counted", || async {
        site.hub().status().await.unwrap().refused.links == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_organisation_opens_nothing() {
    let (here, there) = (Site::start().await, Site::of("RX9").await);
    let mut stranger = there.machine("stranger").await;
    let known = here.machine("known").await;
    // It trusts the hub here, and shows what it got there.
    stranger.enrolled.authority = known.enrolled.authority.clone();
    stranger.enrolled.link = known.enrolled.link.clone();
    assert!(stranger.connect().await.is_err());
    assert_eq!(here.hub().machines().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_struck_off_is_cut_off_at_once_and_never_comes_back() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    site.hub().strike_off(machine.id(), "stolen", false, &admin()).await.unwrap();
    assert!(machine.goodbye().await.contains("struck off"));
    assert!(machine.connect().await.is_err());
    site.restart().await;
    assert!(machine.connect().await.is_err(), "also after a restart");
    assert!(site.hub().machines().is_empty());
    assert_eq!(site.hub().status().await.unwrap().counts.machines, 0);
}

/// An order for it would be signed and die at once: whoever wishes for one is told so instead.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ordered_for_a_machine_that_is_struck_off() {
    let site = Site::start().await;
    let machine = site.machine("office-1").await;
    let (hub, id) = (site.hub(), machine.id());
    hub.isolate(id, Isolation::Segment, "worm", None, &admin()).await.unwrap();
    hub.strike_off(id, "stolen", true, &admin()).await.unwrap();
    let signed = hub.status().await.unwrap().counts;
    for refused in [
        hub.isolate(id, Isolation::Full, "worm", None, &admin()).await,
        hub.release(id, "clean", Some("care needs it"), None, &admin()).await,
        hub.isolate(id, Isolation::Watch, "clean", None, &admin()).await,
        hub.renew(id, "goes on", &admin()).await,
    ] {
        let why = refused.unwrap_err().to_string();
        assert!(why.starts_with("this machine was struck off"), "{why}");
    }
    let preview = hub.preview(id, Isolation::Full).unwrap();
    assert!(preview.cautions[0].contains("struck off"), "{:?}", preview.cautions);
    // The command line is told the same, also by the name that people know it by.
    for called in [id.to_string(), "office-1".to_owned()] {
        let (machine, reason) = (called, "worm".to_owned());
        let request = Request::Isolate { machine, isolation: Isolation::Full, reason };
        let answer = ask(&site.control(), &request).await.unwrap();
        let Answer::Refused(why) = &answer else { panic!("{answer:?}") };
        assert!(why.contains("was struck off"), "{why}");
    }
    assert_eq!(hub.status().await.unwrap().counts, signed, "nothing was signed or asked");
}

/// Nobody at the hub can open it then.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_cut_off_is_struck_off_only_by_somebody_who_says_that_they_know() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let hub = site.hub();
    hub.isolate(machine.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    let refused = hub.strike_off(machine.id(), "stolen", false, &admin()).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("cut off (segment)") && said.contains("break-glass"), "{said}");
    assert_eq!(hub.machines().len(), 1, "nothing is done");
    let said = hub.strike_off(machine.id(), "stolen", true, &admin()).await.unwrap().join("\n");
    assert!(said.contains("stays as it was") && said.contains("cut off (segment)"), "{said}");
    assert!(machine.goodbye().await.contains("struck off"));
}

/// A stolen machine is kept out now, whatever a disk did to what it may do.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_permit_cannot_be_read_is_struck_off_and_that_is_said() {
    let site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    let key = Key::new(&site.organisation, machine.id());
    until("it has a permit", || async {
        let store = SqliteState::open(&site.directory.path().join("hub")).await.unwrap();
        let permits = store.permits(&key, UtcNanos::now()).await.unwrap();
        store.close().await;
        !permits.is_empty()
    })
    .await;
    site.spoil("UPDATE permits SET envelope = X'00'").await;
    let said = site.hub().strike_off(machine.id(), "stolen", false, &admin()).await.unwrap();
    let said = said.join("\n");
    assert!(said.contains("may still segment itself") && said.contains("not known"), "{said}");
    assert!(machine.goodbye().await.contains("struck off"));
    assert!(site.hub().machines().is_empty());
}

/// What is only ordered may be in force a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_whose_isolation_is_ordered_and_not_shown_and_what_was_never_sent_never_is() {
    let site = Site::start().await;
    let machine = site.machine("office-1").await;
    let mut away = site.machine("office-2").await;
    let hub = site.hub();
    hub.isolate(machine.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let refused = hub.strike_off(machine.id(), "stolen", false, &admin()).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("about to be cut off (segment)"), "{said}");
    assert_eq!(hub.machines().len(), 2, "nothing is done");
    away.disconnect();
    until("it is away", || async { hub.status().await.unwrap().linked == 1 }).await;
    hub.isolate(away.id(), Isolation::Segment, "worm", None, &admin()).await.unwrap();
    let waiting = || async { hub.status().await.unwrap().counts.orders_waiting };
    let before = waiting().await;
    hub.strike_off(away.id(), "stolen", true, &admin()).await.unwrap();
    assert_eq!(waiting().await, before - 1);
}

/// What is with the signer may be signed a moment later, and what is signed after it was struck off is sent to
/// nobody.
#[tokio::test(flavor = "multi_thread")]
async fn so_is_one_whose_isolation_is_still_to_be_signed() {
    let mut site = Site::start().await;
    site.hub().set_mode(Mode::Act, &admin()).await.unwrap();
    let mut machine = site.machine("office-1").await;
    site.signer.take().unwrap().stop().await;
    machine.report(found("office-1", Level::High, 1)).await;
    let refused = site.hub().strike_off(machine.id(), "stolen", false, &admin()).await.unwrap_err();
    assert!(refused.to_string().contains("that is with the signer"), "{refused}");
    assert_eq!(site.hub().machines().len(), 1, "nothing is done");
    site.hub().strike_off(machine.id(), "stolen", true, &admin()).await.unwrap();
    assert!(machine.goodbye().await.contains("struck off"));
    // Also by a hub that has started since.
    site.stop().await;
    site.signer = Some(Signer::start(site.directory.path(), site.organisation.clone()));
    site.start_again().await;
    let incident = site.hub().incidents(IncidentFilter::Any, &Page::first(10)).await.unwrap();
    let incident = incident.items[0].incident.id;
    until("it was signed", || async {
        let shown = site.hub().incident(incident, None).await.unwrap();
        shown.timeline.iter().any(|entry| matches!(entry.record.deed, Deed::Ordered(_)))
    })
    .await;
    assert_eq!(site.hub().status().await.unwrap().counts.orders_waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_struck_off_while_it_holds_its_hello_back_is_not_let_in() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let mut slow = machine.same_again();
    slow.dial().await;
    // The hub has checked its certificate by the time that it reads a first byte of it.
    slow.say_bytes(&[0]).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    site.hub().strike_off(machine.id(), "stolen", false, &admin()).await.unwrap();
    assert!(machine.goodbye().await.contains("struck off"));
    let hello = cordon_link::frame::encode(&FromAgent::Hello(slow.hello()), limits::MESSAGE_BYTES);
    slow.say_bytes(&hello.unwrap()[1..]).await;
    assert!(slow.hear().await.is_err(), "not welcome");
    assert_eq!(site.hub().status().await.unwrap().linked, 0);
}

/// It is away since the hub has started: which orders it can read is known from before.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_starts_again_knows_that_a_machine_reads_conditions() {
    let mut site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let id = machine.id();
    site.hub().isolate(id, Isolation::Full, "worm", None, &admin()).await.unwrap();
    let order = machine.order().await;
    machine.carry_out(&order).await;
    machine.disconnect();
    site.restart().await;
    site.hub().isolate(id, Isolation::Segment, "less will do", None, &admin()).await.unwrap();
    machine.connect().await.unwrap();
    let order = machine.order().await;
    assert!(
        matches!(order.instruction, Instruction::Begin { if_isolated: Some(Isolation::Full), .. }),
        "{}",
        order.instruction
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_the_same_machine_takes_the_place_of_the_first() {
    let site = Site::start().await;
    let mut old = site.machine("office-1").await;
    let mut again = old.same_again();
    again.connect().await.unwrap();
    assert!(old.goodbye().await.contains("took its place"));
    again.report(found("office-1", Level::Low, 1)).await;
    assert_eq!(site.hub().status().await.unwrap().linked, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_spoken_is_refused_by_name() {
    let site = Site::start().await;
    let token = site.token(None).await;
    let mut machine = Machine::enrol(&token, "old").await.unwrap();
    for version in [0, VERSION - 2] {
        let hello = Hello { version, ..machine.hello() };
        machine.dial().await;
        machine.say(&FromAgent::Hello(hello)).await;
        assert!(machine.goodbye().await.contains(&format!("version {version}")));
    }
    // One from the future speaks as we do, and to the one before we speak as it does.
    for (its, spoken) in [(99, VERSION), (VERSION - 1, VERSION - 1)] {
        let hello = Hello { version: its, ..machine.hello() };
        machine.dial().await;
        machine.say(&FromAgent::Hello(hello)).await;
        let heard = machine.hear().await;
        assert!(matches!(heard, Ok(FromHub::Welcome { version, .. }) if version == spoken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_went_away_is_shown_as_silent() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    until("it is shown as linked", || async {
        matches!(site.hub().machines()[0].contact, Contact::Linked { .. })
    })
    .await;
    machine.disconnect();
    until("it is shown as silent", || async {
        matches!(site.hub().machines()[0].contact, Contact::Silent { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_only_connect_keep_no_machine_out() {
    let site = Site::start().await;
    let mut machine = site.machine("office-1").await;
    let mut strangers = Vec::new();
    for _ in 0..400 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        strangers.push(socket.connect(site.running().link).await.unwrap());
    }
    until("most of them were turned away at the door", || async {
        site.hub().status().await.unwrap().refused.links > 100
    })
    .await;
    // Another address is another sender; and who turns out to be a machine has spent nothing.
    for _ in 0..250 {
        machine.connect().await.unwrap();
    }
    machine.report(found("office-1", Level::Low, 1)).await;
    drop(strangers);
}
