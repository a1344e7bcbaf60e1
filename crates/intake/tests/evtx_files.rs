//! What is read of Windows event logs, whole and torn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

mod support;

use std::io::Cursor;
use std::ops::ControlFlow;

use cordon_intake::{Damage, Form, Item, Lost, Reading, Unreadable, read, read_file};
use cordon_model::event::{FieldTable, Source, Value};
use cordon_model::time::UtcNanos;
use proptest::prelude::*;
use support::{CHUNK, FIRST_RECORD, HEADER, process_starts};

/// The numbers of the records that were read, and the damages.
fn read_all(bytes: &[u8]) -> (Vec<u64>, Vec<Damage>) {
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    let (mut ids, mut damages) = (Vec::new(), Vec::new());
    read(Cursor::new(bytes), true, &reading, &mut |item| {
        match item {
            Item::Record(record) => ids.push(record.event.record_id.unwrap()),
            Item::Damage(damage) => damages.push(damage),
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    (ids, damages)
}

fn error_of(bytes: &[u8], is_named_evtx: bool) -> Unreadable {
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    read(Cursor::new(bytes), is_named_evtx, &reading, &mut |_| ControlFlow::Continue(()))
        .unwrap_err()
}

#[test]
fn a_whole_log_gives_every_record_with_its_fields_time_and_source() {
    let log = process_starts(2, 3);
    let mut fields = FieldTable::default();
    let [image, provider, id] =
        ["Image", "Provider_Name", "EventID"].map(|name| fields.intern(name));
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    let mut seconds = Vec::new();
    let form = read(Cursor::new(log.bytes()), true, &reading, &mut |item| {
        let Item::Record(record) = item else { panic!("{item:?}") };
        let event = &record.event;
        assert_eq!(
            event.first(image),
            Some(&Value::Text("C:\\Windows\\System32\\vssadmin.exe".into()))
        );
        assert_eq!(event.first(provider), Some(&Value::Text("Microsoft-Windows-Sysmon".into())));
        assert_eq!(event.first(id), Some(&Value::Int(1)));
        assert_eq!(event.source.product.as_deref(), Some("windows"));
        assert_eq!(event.source.channel.as_deref(), Some("Microsoft-Windows-Sysmon/Operational"));
        assert_eq!(event.source.event_id, Some(1));
        assert_eq!(event.host.as_deref(), Some("WARD-7.hospital.example"));
        assert_eq!(record.offset, log.place_of(event.record_id.unwrap()).0 as u64);
        let raw = record.raw();
        assert!(!raw.is_cut);
        let json: serde_json::Value = serde_json::from_str(&raw.json).unwrap();
        assert_eq!(json["Event"]["EventData"]["User"], "WARD-7\\nurse");
        seconds.push(event.time.unwrap());
        ControlFlow::Continue(())
    });
    assert_eq!(form.unwrap(), Form::Evtx);
    let expected =
        (0..6).map(|second| UtcNanos::from_unix_nanos((1_700_000_000 + second) * 1_000_000_000));
    assert_eq!(seconds, expected.collect::<Vec<_>>());
}

#[test]
fn a_reader_that_says_stop_is_given_no_more() {
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    let mut seen = 0;
    read(Cursor::new(process_starts(2, 3).bytes()), true, &reading, &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn a_record_with_a_torn_header_is_lost_alone_and_named() {
    let log = process_starts(2, 3);
    let mut bytes = log.bytes();
    let (begins, ends) = log.place_of(2);
    bytes[begins] = b'X';
    let (ids, damages) = read_all(&bytes);
    assert_eq!(ids, [1, 3, 4, 5, 6]);
    assert_eq!(damages.len(), 2, "{damages:?}"); // the checksum, and the record
    assert_eq!(damages[0].lost, Lost::Nothing);
    assert_eq!(damages[1].offset, begins as u64);
    assert_eq!(damages[1].lost, Lost::Records { ids: Some((2, 2)), bytes: (ends - begins) as u64 });
}

#[test]
fn a_record_with_torn_content_is_lost_alone_and_named() {
    let log = process_starts(1, 3);
    let mut bytes = log.bytes();
    let (begins, ends) = log.place_of(2);
    bytes[begins + 24] = 0x7f; // no BinXML token
    let (ids, damages) = read_all(&bytes);
    assert_eq!(ids, [1, 3]);
    assert_eq!(damages[1].offset, begins as u64);
    assert_eq!(damages[1].lost, Lost::Record { id: 2, bytes: (ends - begins) as u64 });
}

#[test]
fn a_chunk_without_its_magic_gives_its_records_all_the_same() {
    let log = process_starts(3, 3);
    let mut bytes = log.bytes();
    let chunk = HEADER + CHUNK;
    bytes[chunk..chunk + 8].fill(0xee);
    let (mut ids, damages) = read_all(&bytes);
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert_eq!(damages[0].offset, chunk as u64);
    assert_eq!(damages[0].lost, Lost::Chunk { number: 1, of: 3, bytes: CHUNK as u64, salvaged: 3 });
}

#[test]
fn a_chunk_of_rubbish_is_lost_alone() {
    let log = process_starts(3, 3);
    let mut bytes = log.bytes();
    bytes[HEADER + CHUNK..HEADER + 2 * CHUNK].fill(0xee);
    let (ids, damages) = read_all(&bytes);
    assert_eq!(ids, [1, 2, 3, 7, 8, 9]);
    assert_eq!(
        damages[0].to_string(),
        "at byte 69632: the chunk does not begin as one; lost chunk 1 of 3 (65536 bytes)"
    );
}

#[test]
fn a_damaged_table_of_names_costs_nothing() {
    let log = process_starts(1, 3);
    let mut bytes = log.bytes();
    bytes[HEADER + 128..HEADER + 132].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let (ids, damages) = read_all(&bytes);
    assert_eq!(ids, [1, 2, 3]);
    assert!(damages.iter().all(|damage| damage.lost == Lost::Nothing), "{damages:?}");
}

#[test]
fn a_file_header_without_its_magic_costs_nothing() {
    let mut bytes = process_starts(1, 3).bytes();
    bytes[..128].fill(0);
    let (ids, damages) = read_all(&bytes);
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!((damages.len(), &damages[0].lost), (1, &Lost::Nothing));
}

#[test]
fn a_log_that_wrapped_around_is_read_from_its_oldest_record() {
    let bytes = process_starts(3, 2).bytes();
    let mut wrapped = bytes[..HEADER].to_vec();
    wrapped.extend(&bytes[HEADER + 2 * CHUNK..]);
    wrapped.extend(&bytes[HEADER..HEADER + 2 * CHUNK]);
    assert_eq!(read_all(&wrapped), (vec![1, 2, 3, 4, 5, 6], vec![]));
}

#[test]
fn a_log_cut_inside_its_last_chunk_says_which_records_are_lost() {
    let log = process_starts(2, 3);
    let (begins, _) = log.place_of(6);
    let cut = begins + 40;
    let (ids, damages) = read_all(&log.bytes()[..cut]);
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let last = damages.last().unwrap();
    assert_eq!(
        (last.offset, &last.lost),
        (begins as u64, &Lost::Records { ids: Some((6, 6)), bytes: 40 }),
        "{damages:?}"
    );
}

#[test]
fn what_is_no_log_is_refused_with_its_reason() {
    let log = process_starts(1, 1).bytes();
    assert!(matches!(error_of(b"", true), Unreadable::Empty));
    assert!(matches!(error_of(&log[..100], true), Unreadable::CutHeader { bytes: 100 }));
    assert!(matches!(error_of(b"{\"a\":1}", true), Unreadable::NotEvtx));
    assert!(matches!(error_of(&[0; 70000], true), Unreadable::NotEvtx));
    assert!(matches!(error_of(b"\x1f\x8b\x08", false), Unreadable::Compressed("gzip")));
    assert!(matches!(error_of(b"\x30\0\0\0LfLe", false), Unreadable::OldEventLog));
    assert!(matches!(error_of(b"\xff\xfe{\0", false), Unreadable::Utf16));
    assert!(matches!(error_of(b"Jan  1 host sshd[1]: x", false), Unreadable::Unknown));
}

#[test]
fn a_log_named_json_is_known_by_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("security.json");
    std::fs::write(&path, process_starts(1, 1).bytes()).unwrap();
    let fields = FieldTable::default();
    let reading = Reading { fields: &fields, every_value: false, assumed: Source::default() };
    let form = read_file(&path, &reading, &mut |_| ControlFlow::Continue(()));
    assert_eq!(form.unwrap(), Form::Evtx);
}

#[test]
fn every_header_byte_changed_at_random_loses_at_most_what_it_describes() {
    let bytes = process_starts(2, 3).bytes();
    for at in (0..128).chain(HEADER..HEADER + FIRST_RECORD) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xff;
        let (ids, damages) = read_all(&bytes);
        assert!(ids.ends_with(&[4, 5, 6]) || ids.starts_with(&[4, 5, 6]), "byte {at}: {ids:?}");
        assert!(ids.len() == 6 || !damages.is_empty(), "byte {at}: {ids:?} {damages:?}");
    }
}

proptest! {
    #[test]
    fn a_log_with_bytes_changed_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut: prop::sample::Index,
    ) {
        // Only the used part of each chunk is worth changing.
        let log = process_starts(2, 4);
        let mut bytes = log.bytes();
        let used: Vec<usize> = (0..128)
            .chain(HEADER..log.place_of(4).1)
            .chain(HEADER + CHUNK..log.place_of(8).1)
            .collect();
        for (at, to) in changes {
            bytes[used[at.index(used.len())]] = to;
        }
        let cut = HEADER + cut.index(bytes.len() - HEADER + 1);
        let fields = FieldTable::default();
        let reading = Reading { fields: &fields, every_value: true, assumed: Source::default() };
        for bytes in [&bytes[..], &bytes[..cut]] {
            let _ = read(Cursor::new(bytes), true, &reading, &mut |_| ControlFlow::Continue(()));
        }
    }

    #[test]
    fn arbitrary_bytes_after_the_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut bytes = process_starts(1, 1).bytes();
        bytes.truncate(HEADER + 8);
        bytes.extend(tail);
        let fields = FieldTable::default();
        let reading = Reading { fields: &fields, every_value: true, assumed: Source::default() };
        let _ = read(Cursor::new(&bytes), false, &reading, &mut |_| ControlFlow::Continue(()));
    }
}
