//! What a finding costs to keep.

use std::collections::BTreeSet;

use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, ProcessRef, ReceivedFinding, RuleRef};
use cordon_model::ids::FindingId;
use cordon_model::time::BootNanos;
use cordon_respond::grouping::{Grouping, Placed};

use super::*;

#[test]
fn of_several_writings_of_a_row_the_last_is_kept_at_the_place_of_the_first() {
    let row =
        |id: &str, byte: u8| Change::Row { kind: ORDER, id: id.into(), document: Some(vec![byte]) };
    let pending = [row("a", 1), row("b", 2), row("a", 3)].map(Pending::from);
    assert_eq!(folded(pending.into()).unwrap(), vec![row("a", 3), row("b", 2)]);
}

fn found(number: u16, event: u8) -> ReceivedFinding {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    let at = UtcNanos::from_unix_nanos(i64::from(event));
    let host = format!("pc-{number}");
    let raw_sha256 = [event; 32];
    let rule = RuleRef {
        id: "wrong".into(),
        title: "a wrong rule".into(),
        level: Level::High,
        tags: vec!["attack.execution".into()],
    };
    ReceivedFinding {
        machine: MachineId::new(at, bytes),
        received: at,
        finding: Finding {
            id: FindingId::of("wrong", &host, &raw_sha256),
            rule,
            host,
            time: at,
            boot_time: None,
            process: Some(ProcessRef { pid: 1, started: BootNanos(0), image: "/bin/x".into() }),
            matched: vec![],
            raw: RawEvent { json: "{}".into(), is_cut: false },
            raw_sha256,
        },
    }
}

/// The bytes of the rows that the last of findings on so many machines has kept: its story's, and its machine's.
fn kept_on(machines: u16) -> (usize, usize) {
    let mut grouping = Grouping::new("RJ1".parse().unwrap());
    let mut dice = 0;
    let mut place = |number| -> Placed {
        dice += 1;
        grouping.place(&found(number, 1), "bed 7", &[], &mut || [dice as u8; 16])
    };
    let placed = (0..machines).map(&mut place).last().unwrap();
    let story = grouping.story(placed.incident).unwrap();
    let machine = *story.incident.machines.last().unwrap();
    let seat = grouping.seat(placed.incident, machine).unwrap();
    (encode(story).unwrap().len(), encode(seat).unwrap().len())
}

/// As a version kept it that had all machines' in the story's own row: with two of each, up to 4,096.
fn kept_before(machines: u16) -> usize {
    let (now, _) = kept_on(machines);
    let seen: BTreeSet<u64> =
        (0..(2 * u64::from(machines)).min(4_096)).map(|n| u64::MAX - n).collect();
    let news = vec![1_u32; machines.into()];
    now + encode(&seen).unwrap().len() + encode(&news).unwrap().len()
}

#[test]
fn what_is_remembered_of_a_machine_costs_the_same_however_many_there_are() {
    let mut seats = Vec::new();
    for machines in [1, 100, 2_000, 5_000] {
        let (story, seat) = kept_on(machines);
        let before = kept_before(machines);
        println!("{machines} machines: story {before} bytes before, {story} now; machine {seat}");
        seats.push(seat);
    }
    assert!(seats.iter().all(|seat| *seat == seats[0] && *seat < 200), "{seats:?}");
}

#[test]
fn what_machines_brought_goes_with_their_story() {
    let mut grouping = Grouping::new("RJ1".parse().unwrap());
    let first = grouping.place(&found(1, 1), "bed 7", &[], &mut || [1; 16]).incident;
    grouping.place(&found(2, 1), "bed 7", &[], &mut || [1; 16]);
    let closed = grouping.close(first).unwrap();
    let changes = folded(vec![Pending::Story(closed.clone())]).unwrap();
    for machine in closed.incident.machines {
        let id = seat_id(first, machine);
        let gone = Change::Row { kind: SEAT, id, document: None };
        assert!(changes.contains(&gone), "{changes:?}");
    }
}
