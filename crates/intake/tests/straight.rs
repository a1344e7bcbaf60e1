//! Records read straight into events are what their text says: for any templates and values, and for logs with
//! bytes changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what it expects"
)]

mod support;

use std::cell::Cell;
use std::io::Cursor;
use std::ops::ControlFlow;

use cordon_intake::{Item, Reader, Reading};
use cordon_model::event::{FieldTable, Source};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::forms::{Content, Element, Node, Value, log_of};
use support::{CHUNK, HEADER, process_starts};

/// Names that rules read: in every place of a record, and numbered.
const FIELDS: [&str; 12] = [
    "EventID",
    "Provider_Name",
    "Channel",
    "Computer",
    "TimeCreated_SystemTime",
    "Execution_ProcessID",
    "Security_UserID",
    "Data",
    "Image",
    "ThreatName",
    "LogonGuid",
    "Correlation",
];

/// What each way of reading gives, one way after the other with what it learnt of `before`.
/// With how many records were read straight.
fn both(before: &[u8], bytes: &[u8], every_value: bool) -> [(Vec<String>, usize); 2] {
    let mut fields = FieldTable::default();
    for name in FIELDS {
        fields.intern(name);
    }
    let reading = Reading { fields: &fields, every_value, assumed: Source::default() };
    [Reader::new(&reading), Reader::by_text(&reading)].map(|mut reader| {
        let (mut all, mut straight) = (Vec::new(), 0);
        for bytes in [before, bytes] {
            let read = reader.read(Cursor::new(bytes), true, &mut |item| {
                all.push(match item {
                    Item::Record(record) => {
                        straight += usize::from(format!("{record:?}").contains("BinXml(Told"));
                        let json = String::from_utf8_lossy(record.json());
                        format!("{} {:?} {json}", record.offset, record.event)
                    }
                    Item::Damage(damage) => damage.to_string(),
                });
                ControlFlow::Continue(())
            });
            all.push(format!("{read:?}"));
        }
        (all, straight)
    })
}

#[test]
fn usual_records_are_read_straight() {
    let log = process_starts(2, 3).bytes();
    let [(_, straight), (_, by_text)] = both(&log, &log, false);
    assert_eq!((straight, by_text), (12, 0));
}

fn element(name: &'static str, content: Content) -> Element {
    let children = vec![Node::Content(content)];
    Element { name, dependency: None, attributes: Vec::new(), children }
}

/// `System` as Windows writes it, its values at 0 to 11.
fn system() -> Element {
    let depends =
        |name, slot| Element { dependency: Some(slot), ..element(name, Content::Slot(slot)) };
    let with =
        |name, attributes| Element { name, dependency: None, attributes, children: Vec::new() };
    let provider = vec![("Name", Content::Text("P \"1\"")), ("Guid", Content::Slot(7))];
    let event_id =
        Element { attributes: vec![("Qualifiers", Content::Slot(4))], ..depends("EventID", 3) };
    let execution = vec![("ProcessID", Content::Slot(8)), ("ThreadID", Content::Slot(9))];
    let all = vec![
        with("Provider", provider),
        event_id,
        depends("Version", 11),
        depends("Level", 0),
        with("TimeCreated", vec![("SystemTime", Content::Slot(6))]),
        depends("EventRecordID", 10),
        with("Correlation", vec![("ActivityID", Content::Slot(1))]),
        with("Execution", execution),
        element("Channel", Content::Text("Security")),
        element("Computer", Content::Slot(2)),
        with("Security", vec![("UserID", Content::Slot(5))]),
    ];
    Element { children: all.into_iter().map(Node::Element).collect(), ..with("System", Vec::new()) }
}

/// The first value that is free for what is beside `System`.
const FREE: u16 = 12;
/// Values of a record: some of those that templates name are missing.
const VALUES: usize = 20;

fn any_content() -> impl Strategy<Value = Content> + Clone {
    prop_oneof![
        4 => (FREE..VALUES as u16 + 2).prop_map(Content::Slot),
        1 => prop::sample::select(vec!["", "text", "a\\\"\n\u{1}é😀"]).prop_map(Content::Text),
    ]
}

fn any_element() -> impl Strategy<Value = Element> {
    let name = prop::sample::select(vec![
        "Data",
        "Data",
        "Data",
        "EventData",
        "UserData",
        "Image",
        "LogonGuid",
        "LogonGuid_1",
        "Binary",
        "EventXML",
        "ProcessingErrorData",
    ]);
    let attribute_name =
        prop::sample::select(vec!["Name", "Name", "Name", "xmlns", "ProcessID", "Image"]);
    let attribute_text = prop::sample::select(vec![
        "Image",
        "Image",
        "LogonGuid",
        "Threat Name",
        "",
        "x\"y",
        "Data",
        "LogonGuid_1",
    ]);
    let attribute = (attribute_name, any_content(), attribute_text, 0..4).prop_map(
        |(name, content, text, kind)| (name, if kind > 0 { Content::Text(text) } else { content }),
    );
    let dependency = prop::option::weighted(0.1, FREE..VALUES as u16 + 2);
    let parts = (name, dependency, prop::collection::vec(attribute, 0..3)).boxed();
    let leaf = (parts.clone(), prop::option::weighted(0.8, any_content())).prop_map(
        |((name, dependency, attributes), content)| Element {
            name,
            dependency,
            attributes,
            children: content.into_iter().map(Node::Content).collect(),
        },
    );
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let child = prop_oneof![
            30 => inner.prop_map(Node::Element),
            1 => any_content().prop_map(Node::Content),
        ];
        (parts.clone(), prop::collection::vec(child, 1..6)).prop_map(
            |((name, dependency, attributes), children)| Element {
                name,
                dependency,
                attributes,
                children,
            },
        )
    })
}

/// Gives each place of a value a value of its own, as Windows does, from `next` on.
fn number(element: &mut Element, next: &mut u16) {
    let mut take = |content: &mut Content| {
        if let Content::Slot(slot) = content {
            *slot = *next;
            *next += 1;
        }
    };
    element.attributes.iter_mut().for_each(|(_, content)| take(content));
    for node in &mut element.children {
        match node {
            Node::Content(content) => take(content),
            Node::Element(_) => {}
        }
    }
    for node in &mut element.children {
        if let Node::Element(child) = node {
            number(child, next);
        }
    }
}

/// An element; seldom with a value in two places.
fn any_numbered() -> impl Strategy<Value = Element> {
    (any_element(), 0..8).prop_map(|(mut element, kind)| {
        if kind > 0 {
            number(&mut element, &mut { FREE });
        }
        element
    })
}

/// A whole record's template: `System`, and something beside it or a place for it.
fn any_whole() -> impl Strategy<Value = Element> {
    let beside = prop_oneof![
        6 => (any_numbered(), prop::sample::select(vec!["EventData", "EventData", "UserData"]))
            .prop_map(|(element, name)| Node::Element(Element { name, ..element })),
        1 => (FREE..VALUES as u16).prop_map(|slot| Node::Content(Content::Slot(slot))),
        1 => (FREE..VALUES as u16).prop_map(|slot| {
            let dependency = Some(slot);
            Node::Element(Element { dependency, ..element("UserData", Content::Slot(slot)) })
        }),
    ];
    beside.prop_map(|beside| Element {
        name: "Event",
        dependency: None,
        attributes: vec![("xmlns", Content::Text("http://schemas.example/event"))],
        children: vec![Node::Element(system()), beside],
    })
}

/// A value of a type that is read straight, of the length that it has to be.
fn any_fit() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(vec![
        "",
        "\0x",
        "plain",
        "C:\\Windows\\System32\\svchost.exe -k netsvcs",
        "a\"b\\c\td\r\n\u{1}\u{7f}",
        "é",
        "longer than eight, then ü",
        "😀",
        "\u{ffff}",
        "longer than eight\0and more",
    ]);
    let text =
        texts.prop_map(|text| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let any_of = |length: usize| prop::collection::vec(any::<u8>(), length);
    let sized = move |kind: u8, length: usize| {
        any_of(length).prop_map(move |bytes| Value::Plain(kind, bytes))
    };
    let times =
        prop_oneof![any::<u64>(), 0..2_700_000_000_000_000_000u64, Just(0), Just(u64::MAX >> 1)];
    let fields = (1590..2100u16, 0..14u16, 0..33u16, 0..25u16, 0..61u16, 0..1001u16);
    let calendar = fields.prop_map(|(year, month, day, hour, minute, millis)| {
        let fields = [year, month, 1, day, hour, minute, 59, millis];
        Value::Plain(0x12, fields.into_iter().flat_map(u16::to_le_bytes).collect())
    });
    let sid = (0u8..4, any_of(24)).prop_map(|(parts, mut bytes)| {
        bytes[1] = parts;
        bytes.truncate(8 + 4 * usize::from(parts));
        Value::Plain(0x13, bytes)
    });
    let small = prop_oneof![Just(0u32), Just(1), any::<u32>()];
    prop_oneof![
        6 => text.prop_map(|bytes| Value::Plain(0x01, bytes)),
        1 => any_of(5).prop_map(|bytes| Value::Plain(0x01, bytes[..4].to_vec())),
        2 => Just(Value::Plain(0x00, Vec::new())),
        1 => prop::sample::select(vec!["", "ansi", "\0", "a\"\0b"]).prop_map(|text| Value::Plain(0x02, text.into())),
        1 => (3u8..5).prop_flat_map(move |kind| sized(kind, 1)),
        1 => (5u8..7).prop_flat_map(move |kind| sized(kind, 2)),
        1 => (7u8..9).prop_flat_map(move |kind| sized(kind, 4)),
        1 => (9u8..11).prop_flat_map(move |kind| sized(kind, 8)),
        1 => small.prop_map(|number| Value::Plain(0x0d, number.to_le_bytes().into())),
        1 => (0usize..9).prop_flat_map(move |length| sized(0x0e, length)),
        1 => sized(0x0f, 16),
        1 => prop::sample::select(vec![4usize, 8]).prop_flat_map(move |length| sized(0x10, length)),
        1 => times.prop_map(|time| Value::Plain(0x11, time.to_le_bytes().into())),
        1 => calendar,
        1 => sid,
        1 => sized(0x14, 4),
        1 => sized(0x15, 8),
    ]
    .boxed()
}

/// Texts in a row.
fn any_list() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["", "one", "a\"b", "longer than eight"]);
    prop::collection::vec(text, 0..4).prop_map(|texts| {
        let text =
            |text: &str| format!("{text}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
        Value::Plain(0x81, texts.into_iter().map(text).collect::<Vec<Vec<u8>>>().concat())
    })
}

/// Any value, most of them such as are left to the crate, or wrong.
fn any_plain() -> impl Strategy<Value = Value> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    (0u8..0x98, bytes).prop_map(|(kind, bytes)| Value::Plain(kind, bytes))
}

/// Values for a template that names them up to [`VALUES`]: mostly such as are read straight, with a list or
/// another template's record at most in one place.
fn any_values() -> impl Strategy<Value = Vec<Value>> {
    let inner = prop::collection::vec(any_fit(), VALUES);
    let inner = (2usize..4, inner).prop_map(|(template, values)| Value::Inner(template, values));
    let special = prop_oneof![2 => inner, 1 => any_list(), 1 => any_plain()];
    let special = prop::option::weighted(0.25, (usize::from(FREE)..VALUES, special));
    (prop::collection::vec(any_fit(), VALUES), special).prop_map(|(mut values, special)| {
        if let Some((place, value)) = special {
            values[place] = value;
        }
        values
    })
}

#[test]
fn any_record_is_what_its_text_says() {
    let templates = (any_whole(), any_whole(), any_numbered(), any_numbered())
        .prop_map(|(first, second, inner, other)| vec![first, second, inner, other]);
    let records = prop::collection::vec((0usize..2, any_values()), 1..5);
    let (read, read_straight) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() };
    let all = (templates, records, any::<bool>());
    let compared = TestRunner::new(config).run(&all, |(templates, records, every_value)| {
        let log = log_of(&templates, &records);
        // Once more, when its templates are known; and with them at other places.
        let moved: Vec<_> = records.iter().rev().cloned().collect();
        let [straight, by_text] = both(&log, &log_of(&templates, &moved), every_value);
        read.set(read.get() + 2 * records.len());
        read_straight.set(read_straight.get() + straight.1);
        prop_assert_eq!(straight.0, by_text.0);
        Ok(())
    });
    compared.unwrap();
    let (read, read_straight) = (read.get(), read_straight.get());
    assert!(read_straight * 100 > read, "only {read_straight} of {read} were read straight");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_log_with_bytes_changed_is_what_its_text_says(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut: prop::sample::Index,
    ) {
        let log = process_starts(2, 4);
        let whole = log.bytes();
        let mut bytes = whole.clone();
        let used: Vec<usize> =
            (HEADER..log.place_of(4).1).chain(HEADER + CHUNK..log.place_of(8).1).collect();
        for (at, to) in changes {
            bytes[used[at.index(used.len())]] = to;
        }
        let [straight, by_text] = both(&whole, &bytes, true);
        prop_assert_eq!(straight.0, by_text.0);
        let cut = HEADER + cut.index(bytes.len() - HEADER + 1);
        let [straight, by_text] = both(&whole, &bytes[..cut], true);
        prop_assert_eq!(straight.0, by_text.0);
    }
}

/// Templates that hold each other as nobody's do: each is left to the crate, and none is followed for ever.
#[test]
fn a_record_in_a_record_in_a_record_is_read_as_its_text_says() {
    let whole = |content| Element {
        name: "Event",
        dependency: None,
        attributes: Vec::new(),
        children: vec![Node::Element(system()), content],
    };
    for name in ["UserData", "EventData"] {
        let templates = [
            whole(Node::Content(Content::Slot(FREE))),
            element(name, Content::Slot(0)),
            element("Deepest", Content::Slot(0)),
            whole(Node::Element(element(name, Content::Slot(FREE)))),
        ];
        let nothing = || vec![Value::Plain(0, Vec::new()); usize::from(FREE)];
        let third = Value::Inner(2, vec![Value::Plain(4, vec![7])]);
        let second = Value::Inner(1, vec![third.clone()]);
        let itself = Value::Inner(1, vec![second.clone()]);
        for (outer, held, is_straight) in
            [(3, third, true), (0, second.clone(), false), (0, itself, false), (3, second, false)]
        {
            let values = [nothing(), vec![held]].concat();
            let bytes = log_of(&templates, &[(outer, values)]);
            let [(straight, many), (text, _)] = both(&[], &bytes, true);
            assert_eq!(straight, text, "{name} {outer}");
            assert_eq!(many == 1, is_straight, "{name} {outer}: {straight:?}");
        }
    }
}
