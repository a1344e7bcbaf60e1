//! What a new answer of a name may change, and what no answer ever does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cordon_model::asset::{Assignment, Direction, PortRange, Transport};
use cordon_model::ids::MachineId;
use cordon_model::limits;
use cordon_model::named::{HostName, NamedLifeline, Service};
use cordon_model::time::UtcNanos;
use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn service(port: u16) -> Service {
    let is_risky = matches!(port, 445 | 3389 | 22);
    Service {
        transport: Transport::Tcp,
        ports: PortRange::one(port),
        direction: Direction::Outbound,
        signed_off_by: is_risky.then(|| "Dr A".to_owned()),
    }
}

/// A machine that is known to need `ports` at `name`, with `pinned` as its addresses.
fn needs(
    assignment: &mut Assignment,
    (name, host): (&str, HostName),
    ports: &[u16],
    within: &[&str],
    pinned: &BTreeSet<IpAddr>,
) {
    let within = within.iter().map(|network| network.parse().unwrap()).collect();
    assignment.names.push(NamedLifeline { name: name.to_owned(), host, within });
    for address in pinned {
        assignment.lifelines.extend(ports.iter().map(|port| service(*port).at(*address, name)));
    }
}

fn machine() -> Assignment {
    let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
    Assignment::of("RJ1".parse().unwrap(), machine, "ct-1")
}

fn pacs(ports: &[u16], within: &[&str], pinned: &[&str]) -> Assignment {
    let mut assignment = machine();
    needs(&mut assignment, ("PACS", host("pacs.test")), ports, within, &set(pinned));
    assignment.check().unwrap();
    assignment
}

fn by_itself(addresses: &BTreeSet<IpAddr>) -> Pin {
    Pin {
        host: host("pacs.test"),
        add: addresses.clone(),
        drop: BTreeSet::new(),
        signed_off_by: None,
    }
}

fn by(person: &str, add: &[&str], drop: &[&str]) -> Pin {
    let (add, drop) = (set(add), set(drop));
    Pin { host: host("pacs.test"), add, drop, signed_off_by: Some(person.into()) }
}

#[test]
fn within_what_a_person_signed_a_name_is_followed_and_the_old_address_stays() {
    let before = pacs(&[104], &["10.0.0.0/16"], &["10.0.0.1"]);
    let reading = read(&before, &host("pacs.test"), Some(&set(&["10.0.9.9"])));
    assert_eq!(reading.follow, set(&["10.0.9.9"]));
    assert!(reading.confirm.is_empty());
    assert_eq!(reading.unanswered, set(&["10.0.0.1"]));
    let after = pin(&before, &by_itself(&reading.follow)).unwrap();
    assert_eq!(after.names[0].pinned(&after), set(&["10.0.0.1", "10.0.9.9"]));
    assert_eq!(pin(&after, &by_itself(&reading.follow)).unwrap(), after, "once is enough");
}

#[test]
fn what_nobody_signed_for_waits_for_people_with_the_reason() {
    let answered = set(&["10.0.9.9"]);
    for (ports, within, why) in [
        (104, NONE, Why::NoBound),
        (104, &["10.1.0.0/16"][..], Why::OutsideTheBound),
        (445, &["10.0.0.0/16"][..], Why::LateralMovement),
    ] {
        let before = pacs(&[ports], within, &["10.0.0.1"]);
        let reading = read(&before, &host("pacs.test"), Some(&answered));
        assert!(reading.follow.is_empty());
        assert_eq!(
            reading.confirm.into_iter().collect::<Vec<_>>(),
            [(IpAddr::from([10, 0, 9, 9]), why)]
        );
        let refused = pin(&before, &by_itself(&answered)).unwrap_err();
        assert!(
            matches!(refused, PinRefused::NeedsPerson { why: of, .. } if of == why),
            "{refused}"
        );
    }
}

#[test]
fn of_one_server_the_harmless_service_is_followed_and_the_other_waits() {
    let before = pacs(&[443, 445], &["10.0.0.0/16"], &["10.0.0.1"]);
    let reading = read(&before, &host("pacs.test"), Some(&set(&["10.0.0.2"])));
    assert_eq!(reading.follow, set(&["10.0.0.2"]));
    assert_eq!(reading.confirm.values().collect::<Vec<_>>(), [&Why::LateralMovement]);
    let after = pin(&before, &by_itself(&reading.follow)).unwrap();
    let new: Vec<u16> = after.lifelines[2..].iter().map(|line| line.ports.first).collect();
    assert_eq!(new, [443]);
    // A person signs the other off, with their name.
    let after = pin(&after, &by("Dr Osei", &["10.0.0.2"], &[])).unwrap();
    let last = after.lifelines.last().unwrap();
    assert_eq!((last.ports.first, last.signed_off_by.as_deref()), (445, Some("Dr Osei")));
    assert!(read(&after, &host("pacs.test"), Some(&set(&["10.0.0.2"]))).confirm.is_empty());
}

#[test]
fn only_a_person_drops_an_address_and_never_the_last() {
    let before = pacs(&[104], &["10.0.0.0/16"], &["10.0.0.1", "10.0.0.2"]);
    let drop = Pin { drop: set(&["10.0.0.1"]), ..by_itself(&BTreeSet::new()) };
    assert_eq!(pin(&before, &drop), Err(PinRefused::DropNeedsPerson));
    let after = pin(&before, &by("ada", &[], &["10.0.0.1"])).unwrap();
    assert_eq!(after.names[0].pinned(&after), set(&["10.0.0.2"]));
    assert!(
        pin(&after, &by("ada", &[], &["10.0.0.2"])).is_err(),
        "a name alone keeps nothing alive"
    );
    let moved = pin(&after, &by("ada", &["10.0.0.3"], &["10.0.0.2"])).unwrap();
    assert_eq!(moved.names[0].pinned(&moved), set(&["10.0.0.3"]));
}

#[test]
fn a_name_that_grows_without_end_is_followed_to_its_limit_and_then_asked_about() {
    let before = pacs(&[104], &["10.0.0.0/16"], &["10.0.0.1"]);
    let many: BTreeSet<IpAddr> = (2..40).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let reading = read(&before, &host("pacs.test"), Some(&many));
    assert_eq!(reading.follow.len(), limits::ADDRESSES_PER_NAME - 1);
    assert!(reading.confirm.values().all(|why| *why == Why::NoRoom) && !reading.confirm.is_empty());
    let refused = pin(&before, &by_itself(&many)).unwrap_err();
    assert!(matches!(refused, PinRefused::NeedsPerson { why: Why::NoRoom, .. }), "{refused}");
    let endless: BTreeSet<IpAddr> = (0..=255).map(|last| IpAddr::from([10, 0, 7, last])).collect();
    assert_eq!(pin(&before, &by_itself(&endless)), Err(PinRefused::TooMany));
    let full = pin(&before, &by_itself(&reading.follow)).unwrap();
    assert!(pin(&full, &by_itself(&set(&["10.0.0.200"]))).is_err());
}

#[test]
fn a_name_that_is_not_declared_pins_nothing() {
    let before = pacs(&[104], &["10.0.0.0/8"], &["10.0.0.1"]);
    let other = Pin { host: host("c2.example"), ..by_itself(&set(&["10.0.0.2"])) };
    assert!(matches!(pin(&before, &other), Err(PinRefused::UnknownName { .. })));
    for nobody in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::"] {
        let reading = read(&before, &host("pacs.test"), Some(&set(&[nobody])));
        assert!(reading.follow.is_empty() && reading.confirm.is_empty(), "{nobody}");
        assert!(pin(&before, &by_itself(&set(&[nobody]))).is_err(), "{nobody}");
    }
}

fn addresses(most: usize) -> impl Strategy<Value = BTreeSet<IpAddr>> {
    let small = (0u8..3, 0u8..3, any::<u8>()).prop_map(|(b, c, d)| IpAddr::from([10, b, c, d]));
    let any_v4 = any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits)));
    let any_v6 = any::<u128>().prop_map(|bits| IpAddr::from(std::net::Ipv6Addr::from(bits)));
    let near_v6 = any::<u16>().prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]));
    let one = prop_oneof![4 => small, 1 => any_v4, 1 => any_v6, 2 => near_v6];
    proptest::collection::btree_set(one, 0..most)
}

const NONE: &[&str] = &[];

fn assignments() -> impl Strategy<Value = Assignment> {
    let bounds = prop_oneof![
        Just(NONE),
        Just(&["10.0.0.0/16"][..]),
        Just(&["10.1.1.0/24", "fd00::/64"][..]),
        Just(&["10.0.0.0/8", "fd00::/120"][..]),
    ];
    let ports = prop_oneof![
        Just(&[104u16][..]),
        Just(&[443u16, 445][..]),
        Just(&[445u16][..]),
        Just(&[443u16, 104, 3389][..]),
    ];
    let one = (bounds, ports, addresses(limits::ADDRESSES_PER_NAME), 0u8..2);
    proptest::collection::vec(one, 1..12).prop_filter_map("none that is signed", |all| {
        let mut assignment = machine();
        for (index, (within, ports, pinned, which)) in all.into_iter().enumerate() {
            let of = if which == 0 { "pacs.test" } else { "files.test" };
            let name = format!("need {index}");
            needs(&mut assignment, (&name, host(of)), ports, within, &pinned);
        }
        assignment.check().is_ok().then_some(assignment)
    })
}

proptest! {
    /// Whatever a name answers, and however often: by itself nothing is dropped, nothing else of the
    /// assignment changes, what is new is within the bound that was signed and over no port that intruders
    /// move by, and it stays within the limits.
    #[test]
    fn by_itself_nothing_is_dropped_or_widened_beyond_what_was_signed(
        first in assignments(), answers in proptest::collection::vec(addresses(40), 1..5),
    ) {
        let mut now = first.clone();
        for answer in &answers {
            let reading = read(&now, &host("pacs.test"), Some(answer));
            let next = pin(&now, &by_itself(&reading.follow));
            let next = match next {
                Ok(next) => next,
                // Nothing to follow, and perhaps no such name.
                Err(error) => {
                    prop_assert!(matches!(error, PinRefused::UnknownName { .. }), "{error}");
                    continue;
                }
            };
            prop_assert_eq!(&next.lifelines[..now.lifelines.len()], &now.lifelines[..], "never drops");
            now = next;
        }
        prop_assert!(now.check().is_ok());
        prop_assert_eq!(&now.names, &first.names);
        for line in &now.lifelines[first.lifelines.len()..] {
            let named = now.names.iter().find(|named| named.name == line.name).unwrap();
            prop_assert_eq!(named.host.as_str(), "pacs.test");
            prop_assert!(named.within.iter().any(|network| network.contains(&line.peer.addr())));
            prop_assert!(!line.covers_lateral_movement());
            prop_assert_eq!(line.peer.prefix_len(), line.peer.max_prefix_len());
            prop_assert!(answers.iter().flatten().any(|one| one.to_canonical() == line.peer.addr()));
        }
        let same = Assignment { lifelines: first.lifelines.clone(), ..now };
        prop_assert_eq!(same, first);
    }

    /// The signer's own look at it: whatever a hub asks for without a person, what it gets is what it may have.
    #[test]
    fn whatever_is_asked_without_a_person_the_signer_pins_no_more(
        first in assignments(), add in addresses(20), drop in addresses(3),
    ) {
        let asked = Pin { drop: drop.clone(), ..by_itself(&add) };
        if let Ok(next) = pin(&first, &asked) {
            prop_assert!(drop.is_empty());
            prop_assert_eq!(&next.lifelines[..first.lifelines.len()], &first.lifelines[..]);
            for line in &next.lifelines[first.lifelines.len()..] {
                let named = next.names.iter().find(|named| named.name == line.name).unwrap();
                prop_assert!(named.reaches(line.peer.addr()) && !line.covers_lateral_movement());
            }
        }
    }

    #[test]
    fn no_answer_changes_nothing(first in assignments()) {
        for answered in [None, Some(BTreeSet::new())] {
            prop_assert_eq!(read(&first, &host("pacs.test"), answered.as_ref()), Reading::default());
        }
        prop_assert_eq!(pin(&first, &by_itself(&BTreeSet::new())).unwrap_or(first.clone()), first);
    }
}
