//! Who may speak on a link.

use cordon_hub::view::Contact;
use cordon_model::finding::Level;
use cordon_model::limits;
use cordon_model::wire::{FromAgent, FromHub, Hello};
use tokio::io::AsyncReadExt as _;

use super::support::{Machine, Site, admin, found, open_without_certificate, until};

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
    site.hub().strike_off(machine.id(), "stolen", &admin()).await.unwrap();
    assert!(machine.goodbye().await.contains("struck off"));
    assert!(machine.connect().await.is_err());
    site.restart().await;
    assert!(machine.connect().await.is_err(), "also after a restart");
    assert!(site.hub().machines().is_empty());
    assert_eq!(site.hub().status().await.unwrap().counts.machines, 0);
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
    site.hub().strike_off(machine.id(), "stolen", &admin()).await.unwrap();
    assert!(machine.goodbye().await.contains("struck off"));
    let hello = cordon_link::frame::encode(&FromAgent::Hello(slow.hello()), limits::MESSAGE_BYTES);
    slow.say_bytes(&hello.unwrap()[1..]).await;
    assert!(slow.hear().await.is_err(), "not welcome");
    assert_eq!(site.hub().status().await.unwrap().linked, 0);
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
    let hello = Hello { version: 0, ..machine.hello() };
    machine.dial().await;
    machine.say(&FromAgent::Hello(hello)).await;
    assert!(machine.goodbye().await.contains("version 0"));
    // One from the future speaks as we do.
    let hello = Hello { version: 99, ..machine.hello() };
    machine.dial().await;
    machine.say(&FromAgent::Hello(hello)).await;
    assert!(matches!(machine.hear().await, Ok(FromHub::Welcome { version: 1, .. })));
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
