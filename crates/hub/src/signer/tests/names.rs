//! Lifelines by name, at a signer whose hub is honest, and at one whose hub is stolen.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cordon_model::named::{HostName, NamedLifeline, Service};
use cordon_respond::names::Pin;

use super::*;

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// A machine that needs its PACS and its files, by name; only of the PACS a bound is signed.
fn named(number: u8) -> Assignment {
    let service = |port, signed_off_by: Option<&str>| Service {
        transport: Transport::Tcp,
        ports: PortRange::one(port),
        direction: Direction::Outbound,
        signed_off_by: signed_off_by.map(Into::into),
    };
    let name = |name: &str, of: &str| NamedLifeline {
        name: name.into(),
        host: host(of),
        within: vec!["10.0.0.0/16".parse().unwrap()],
    };
    let here: IpAddr = "10.0.0.1".parse().unwrap();
    Assignment {
        names: vec![name("PACS", "pacs.test"), name("files", "files.test")],
        lifelines: vec![
            service(104, None).at(here, "PACS"),
            service(445, Some("Dr A")).at(here, "files"),
        ],
        ..assignment(number, Some(ClinicalTier::Clinical))
    }
}

fn by_itself(of: &str, add: &[&str]) -> Pin {
    Pin { host: host(of), add: set(add), drop: BTreeSet::new(), signed_off_by: None }
}

fn refused_pin(result: Result<Verified<Assignment>, ClientError>) -> String {
    match result {
        Err(ClientError::Refused(Refused::Rule(Refusal::Pin(why)))) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stolen_hub_gets_no_further_than_the_bound_that_a_person_signed() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    let signed = client.assign(named(1), None, Some(ada())).await.unwrap();
    for (pin, because) in [
        (by_itself("pacs.test", &["203.0.113.7"]), "outside the network"),
        (by_itself("pacs.test", &["10.0.0.2", "203.0.113.7"]), "outside the network"),
        (by_itself("files.test", &["10.0.0.2"]), "intruders move by"),
        (by_itself("c2.example", &["10.0.0.2"]), "no lifeline"),
        (by_itself("pacs.test", &["127.0.0.1"]), "no other machine"),
        (Pin { drop: set(&["10.0.0.1"]), ..by_itself("pacs.test", &[]) }, "by people only"),
        (
            Pin { drop: set(&["10.0.0.1"]), ..by_itself("pacs.test", &["10.0.0.2"]) },
            "by people only",
        ),
    ] {
        let why = refused_pin(client.pin(machine(1), pin.clone()).await);
        assert!(why.contains(because), "{pin:?}: {why}");
    }
    // Nor by the way that people's assignments take, without a person's name.
    let mut wider = named(1);
    wider.names[0].within = vec!["192.0.0.0/8".parse().unwrap()];
    let result = client.assign(wider, None, None).await;
    assert!(matches!(result, Err(ClientError::Refused(Refused::NeedsPerson(_)))), "{result:?}");
    let unknown = client.pin(machine(9), by_itself("pacs.test", &["10.0.0.2"])).await;
    assert!(matches!(unknown, Err(ClientError::Refused(Refused::Rule(Refusal::UnknownMachine)))));
    assert_eq!(*client.assignment(machine(1)).await.unwrap(), *signed, "nothing has changed");
    // However often it asks, it gets addresses of the bound, and only so many.
    let mut last = (*signed).clone();
    for third in 0..40 {
        let next =
            client.pin(machine(1), by_itself("pacs.test", &[&format!("10.0.{third}.9")])).await;
        let Ok(next) = next else { continue };
        assert!(next.lifelines.starts_with(&last.lifelines), "nothing is dropped");
        last = (*next).clone();
    }
    let pinned = last.names[0].pinned(&last);
    assert_eq!(pinned.len(), cordon_model::limits::ADDRESSES_PER_NAME);
    assert_eq!(last.names[1].pinned(&last), set(&["10.0.0.1"]));
    signer.stop().await;
    let records = own_records(directory.path());
    let refusals = records.iter().filter(|record| record.deed == Deed::OrderRefused);
    assert!(refusals.count() >= 7, "each is written down");
}

#[tokio::test]
async fn what_is_pinned_is_counted_up_written_down_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    client.assign(named(1), None, Some(ada())).await.unwrap();
    let followed = client.pin(machine(1), by_itself("pacs.test", &["10.0.7.7"])).await.unwrap();
    assert_eq!(followed.revision, 2);
    let again = client.pin(machine(1), by_itself("pacs.test", &["10.0.7.7"])).await.unwrap();
    assert_eq!(again.revision, 2, "pinned before: nothing changes");
    let by_person = Pin {
        drop: set(&["10.0.0.1"]),
        signed_off_by: Some("Dr Osei".into()),
        ..by_itself("files.test", &["10.0.0.2"])
    };
    let confirmed = client.pin(machine(1), by_person.clone()).await.unwrap();
    let files = confirmed.lifelines.iter().find(|line| line.name == "files").unwrap();
    assert_eq!(files.signed_off_by.as_deref(), Some("Dr Osei"));
    assert_eq!(confirmed.names[1].pinned(&confirmed), set(&["10.0.0.2"]));
    let nameless = Pin { signed_off_by: Some(String::new()), ..by_person };
    let result = client.pin(machine(1), nameless).await;
    assert!(matches!(result, Err(ClientError::Refused(Refused::BadName))));
    signer.stop().await;
    let (signer, client) = Running::start(directory.path()).await;
    assert_eq!(*client.assignment(machine(1)).await.unwrap(), *confirmed);
    signer.stop().await;
    let records = own_records(directory.path());
    let said = |words: &str| {
        records.iter().any(|one| one.deed == Deed::Assigned && one.detail.contains(words))
    };
    assert!(said("pacs.test, pinned too: 10.0.7.7; within what was signed before"));
    assert!(said("pinned too: 10.0.0.2, kept no more: 10.0.0.1; signed off by Dr Osei"));
}
