//! One JSON object to one [`Event`]: which names mean what.
//!
//! The one idea: the usual forms differ only in where they put a value, so a small set of [`Scope`]s
//! says what a key at this place is called in a rule. Known forms:
//!
//! | form | event data | system fields |
//! |---|---|---|
//! | EVTX as JSON (this crate's own, `evtx_dump`, chainsaw) | `Event.EventData.X`, `Event.UserData.Y.X` → `X`, its blanks left out | `Event.System.X` → `X`; `X.#attributes.A` → `X_A` |
//! | Winlogbeat, ECS | `winlog.event_data.X`, `winlog.user_data.X` → `X` | `winlog.channel`, `event_id`, `provider_name`, `computer_name`, `record_id` |
//! | flat (Linux, NXLog, Mordor, our own) | `X` | the same names; `SourceName`, `Hostname` |
//! | anything else nested | `a.b.c` | |
//!
//! Keys that already hold the dots (`"winlog.event_data.X": …`) are read as if they were nested.

use std::borrow::Cow;
use std::ops::Range;

use cordon_model::event::{Event, FieldId, Source, Value};
use cordon_model::limits::NAME_BYTES;
use cordon_model::time::UtcNanos;

use super::text::{Cursor, Fault, Kind, Scalar};
use crate::Reading;

/// Values nested deeper than this are stepped over, not read. The deepest of some 32,000 Windows records
/// (certificate chains in CAPI2) is 12; the limit bounds the stack at a few hundred bytes a level.
pub const DEPTH: usize = 64;

/// The most values that are read of one event: 10,000, thirty times what the fullest of some 32,000 Windows
/// records has; 400 KiB. The others are counted and said to be left out.
pub const VALUES: usize = 10_000;

/// An event, and how it was read.
#[derive(Debug)]
pub(crate) struct Shaped<'a> {
    pub event: Event<'a>,
    /// How long its text is.
    pub length: usize,
    /// How many values are left out because there are more than [`VALUES`].
    pub left_out: u64,
}

/// Memory that is used again for event after event. Most Windows events have a dozen paths, each with
/// escapes: a text of its own for each costs more than looking it through.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What texts with escapes stand for, one after the other.
    unescaped: String,
    /// Which of the event's values they are, and where.
    places: Vec<(usize, Range<usize>)>,
    path: String,
    name: String,
}

/// Reads the JSON object that `bytes` starts with.
pub(crate) fn read_event<'a>(
    bytes: &'a [u8],
    reading: &Reading<'_>,
    scratch: &'a mut Scratch,
) -> Result<Shaped<'a>, Fault> {
    scratch.unescaped.clear();
    scratch.places.clear();
    scratch.path.clear();
    let mut shaper = Shaper {
        cursor: Cursor::new(bytes),
        reading,
        event: Event { fields: Vec::with_capacity(24), ..Event::default() },
        scratch: &mut *scratch,
        has_windows_signs: false,
        left_out: 0,
    };
    shaper.object(Scope::Root, 0)?;
    let Shaper { cursor, event, has_windows_signs, left_out, .. } = shaper;
    let mut event: Event<'a> = event;
    let Scratch { unescaped, places, .. } = &*scratch;
    for (at, range) in places {
        if let (Some((_, value)), Some(text)) =
            (event.fields.get_mut(*at), unescaped.get(range.clone()))
        {
            *value = Value::Text(Cow::Borrowed(text));
        }
    }
    if has_windows_signs {
        event.source.product = Some(Cow::Borrowed("windows"));
    } else {
        let Source { product, category, service, .. } = &reading.assumed;
        event.source.product.clone_from(product);
        event.source.category.clone_from(category);
        event.source.service.clone_from(service);
    }
    Ok(Shaped { event, length: cursor.at(), left_out })
}

/// Where in the event a key stands, and so what it is called.
#[derive(Clone, Copy)]
enum Scope<'k> {
    /// The outermost object.
    Root,
    /// `Event` of an EVTX record.
    Event,
    /// `Event.System`.
    System,
    /// One element of `Event.System`, by name: holds `#text` and `#attributes`.
    SystemElement(&'k str),
    /// The attributes of one element of `Event.System`.
    SystemAttributes(&'k str),
    /// Event data: a key here is the field's own name, however deep.
    Data,
    /// An element of event data, by name: `#text` is its value.
    DataElement(&'k str),
    /// `winlog` of ECS.
    Winlog,
    /// Anything else: the field's name is the dotted path.
    Path,
}

/// What a value is for besides being a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Field,
    Channel,
    EventId,
    Computer,
    RecordId,
    Time,
    Provider,
    /// An attribute that says nothing about the event (`xmlns`, a `Data` element's own name).
    Nothing,
}

struct Shaper<'a, 'r> {
    cursor: Cursor<'a>,
    reading: &'r Reading<'r>,
    event: Event<'a>,
    /// `path` is the dotted path of the object being read, for [`Scope::Path`]; `name` a joined name.
    scratch: &'r mut Scratch,
    has_windows_signs: bool,
    left_out: u64,
}

impl<'a> Shaper<'a, '_> {
    fn object(&mut self, scope: Scope<'_>, depth: usize) -> Result<(), Fault> {
        self.cursor.take(b'{', "expected an object")?;
        let mut is_first = true;
        while let Some(key) = self.cursor.next_key(is_first)? {
            is_first = false;
            self.member(scope, &key, depth)?;
        }
        Ok(())
    }

    fn member(&mut self, scope: Scope<'_>, key: &str, depth: usize) -> Result<(), Fault> {
        match self.cursor.kind()? {
            Kind::Object if depth + 1 >= DEPTH => self.cursor.skip(),
            Kind::Object => self.nested(scope, key, depth + 1),
            Kind::Array => self.array(scope, key, depth + 1),
            Kind::Scalar => self.leaf(scope, key),
        }
    }

    fn array(&mut self, scope: Scope<'_>, key: &str, depth: usize) -> Result<(), Fault> {
        if depth >= DEPTH {
            return self.cursor.skip();
        }
        self.cursor.take(b'[', "expected an array")?;
        let mut is_first = true;
        while self.cursor.next_item(is_first)? {
            is_first = false;
            self.member(scope, key, depth)?;
        }
        Ok(())
    }

    /// An object under `key`: which scope it opens.
    fn nested(&mut self, scope: Scope<'_>, key: &str, depth: usize) -> Result<(), Fault> {
        let inner = match (scope, key) {
            (Scope::Root, "Event") => Scope::Event,
            (Scope::Root | Scope::Event, "System") => Scope::System,
            (Scope::Root | Scope::Event, "EventData" | "UserData") => Scope::Data,
            (Scope::Event, "ProcessingErrorData") => Scope::Data,
            (Scope::Root, "winlog") => Scope::Winlog,
            (Scope::Winlog, "event_data" | "user_data") => Scope::Data,
            (Scope::System, _) => Scope::SystemElement(key),
            (Scope::SystemElement(element), "#attributes") => Scope::SystemAttributes(element),
            (Scope::Event | Scope::Data | Scope::DataElement(_), "#attributes") => {
                return self.cursor.skip();
            }
            (Scope::Data | Scope::DataElement(_), _) => Scope::DataElement(key),
            _ => Scope::Path,
        };
        let path_length = self.scratch.path.len();
        if matches!(inner, Scope::Path | Scope::Winlog) {
            if !self.scratch.path.is_empty() {
                self.scratch.path.push('.');
            }
            // Past its limit the path names nothing; that it is past it is all that counts.
            self.scratch.path.push_str(key.get(..NAME_BYTES + 1).unwrap_or(key));
        }
        self.object(inner, depth)?;
        self.scratch.path.truncate(path_length);
        Ok(())
    }

    /// A scalar under `key`: what it is called, and what else it is for.
    fn leaf(&mut self, scope: Scope<'_>, key: &str) -> Result<(), Fault> {
        match scope {
            Scope::Root | Scope::Event => {
                let (name, used) = flat_name(key);
                self.value(name, used)
            }
            Scope::System => self.value(key, use_of_system(key)),
            Scope::SystemElement(element) => {
                if key == "#text" {
                    self.value(element, use_of_system(element))
                } else {
                    self.value(key, Use::Field)
                }
            }
            Scope::SystemAttributes(element) => match (element, key) {
                ("Provider", "Name") => self.value("Provider_Name", Use::Provider),
                ("TimeCreated", "SystemTime") => self.value("TimeCreated_SystemTime", Use::Time),
                _ => self.joined(element, '_', key, Use::Field),
            },
            Scope::Data => self.data(key),
            Scope::DataElement(element) => self.data(if key == "#text" { element } else { key }),
            Scope::Winlog => match winlog_name(key) {
                Some((name, used)) => self.value(name, used),
                None => self.joined("winlog", '.', key, Use::Field),
            },
            Scope::Path => {
                let path = std::mem::take(&mut self.scratch.path);
                let used = match (path.as_str(), key) {
                    ("host", "name" | "hostname") | ("agent", "hostname") => Use::Computer,
                    ("event", "code") => Use::EventId,
                    _ => Use::Field,
                };
                let done = self.joined(&path, '.', key, used);
                self.scratch.path = path;
                done
            }
        }
    }

    /// A field of event data. Defender and others write blanks into their names (`Threat Name`), rules
    /// leave them out. EVTX as JSON numbers a name that comes again (`LogonGuid`, `LogonGuid_1`), rules
    /// mean each of them.
    fn data(&mut self, name: &str) -> Result<(), Fault> {
        if self.reading.fields.find(name).is_some() {
            return self.value(name, Use::Field);
        }
        if let Some(first) = self.first_of_numbered(name) {
            return self.value(first, Use::Field);
        }
        if !name.contains(' ') {
            return self.value(name, Use::Field);
        }
        let mut joined = std::mem::take(&mut self.scratch.name);
        joined.clear();
        joined.extend(name.chars().filter(|letter| *letter != ' '));
        let done = self.value(&joined, Use::Field);
        self.scratch.name = joined;
        done
    }

    /// The name before its number, if a field of that name came before.
    fn first_of_numbered<'n>(&self, name: &'n str) -> Option<&'n str> {
        let first = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let first = if first.len() < name.len() { first.strip_suffix('_')? } else { return None };
        let field = self.reading.fields.find(first)?;
        self.event.first(field).map(|_| first)
    }

    fn joined(&mut self, left: &str, by: char, right: &str, used: Use) -> Result<(), Fault> {
        if left.len() + right.len() > NAME_BYTES {
            // No rule has such a name, and joining it for every value below a long key would be slow.
            return self.value("", used);
        }
        let mut name = std::mem::take(&mut self.scratch.name);
        name.clear();
        name.push_str(left);
        name.push(by);
        name.push_str(right);
        let done = self.value(&name, used);
        self.scratch.name = name;
        done
    }

    /// Takes the scalar that comes next as field `name`, or steps over it when nobody reads it.
    fn value(&mut self, name: &str, used: Use) -> Result<(), Fault> {
        if used == Use::Nothing {
            return self.cursor.skip();
        }
        let field = self.reading.fields.find(name);
        let field = match field {
            None if self.reading.every_value => Some(FieldId::UNREAD),
            found => found,
        };
        if field.is_none() && used == Use::Field {
            return self.cursor.skip();
        }
        let text = &mut self.scratch.unescaped;
        let (value, place) = match self.cursor.scalar_in(text)? {
            Scalar::Value(value) => (value, None),
            Scalar::Unescaped(place) if used == Use::Field => (Value::Null, Some(place)),
            // What the event is known by has to outlive the texts of its fields.
            Scalar::Unescaped(place) => {
                let own = text.get(place).unwrap_or_default().to_owned();
                (Value::Text(own.into()), None)
            }
        };
        self.put_to_use(used, &value);
        match field {
            Some(_) if self.event.fields.len() >= VALUES => self.left_out += 1,
            Some(field) => {
                if let Some(place) = place {
                    self.scratch.places.push((self.event.fields.len(), place));
                }
                self.event.fields.push((field, value));
            }
            None => {}
        }
        Ok(())
    }

    fn put_to_use(&mut self, used: Use, value: &Value<'a>) {
        let event = &mut self.event;
        match (used, value) {
            (Use::Field | Use::Nothing, _) => {}
            (Use::Channel, Value::Text(text)) => {
                self.has_windows_signs = true;
                event.source.channel = Some(text.clone());
            }
            (Use::EventId, _) => {
                let id = whole(value).and_then(|id| u32::try_from(id).ok());
                event.source.event_id = event.source.event_id.or(id);
            }
            (Use::Computer, Value::Text(text)) if event.host.is_none() => {
                event.host = Some(text.clone());
            }
            (Use::RecordId, _) => event.record_id = event.record_id.or(whole(value)),
            (Use::Time, Value::Text(text)) if event.time.is_none() => event.time = time(text),
            (Use::Provider, Value::Text(_)) => self.has_windows_signs = true,
            _ => {}
        }
    }
}

/// What a child of `Event.System` is for.
fn use_of_system(key: &str) -> Use {
    match key {
        "Channel" => Use::Channel,
        "EventID" => Use::EventId,
        "Computer" => Use::Computer,
        "EventRecordID" => Use::RecordId,
        _ => Use::Field,
    }
}

/// The rule's name for a key of ECS's `winlog` object.
fn winlog_name(key: &str) -> Option<(&'static str, Use)> {
    Some(match key {
        "channel" => ("Channel", Use::Channel),
        "event_id" => ("EventID", Use::EventId),
        "computer_name" => ("Computer", Use::Computer),
        "record_id" => ("EventRecordID", Use::RecordId),
        "provider_name" => ("Provider_Name", Use::Provider),
        "provider_guid" => ("Provider_Guid", Use::Field),
        "task" => ("Task", Use::Field),
        "opcode" => ("Opcode", Use::Field),
        "version" => ("Version", Use::Field),
        _ => return None,
    })
}

/// The rule's name for a key of the outermost object, which may hold its path in dots.
fn flat_name(key: &str) -> (&str, Use) {
    if key.contains('.') {
        for prefix in ["Event.EventData.", "EventData.", "winlog.event_data.", "winlog.user_data."]
        {
            if let Some(name) = key.strip_prefix(prefix) {
                return (name, Use::Field);
            }
        }
        for prefix in ["Event.System.", "System."] {
            if let Some(name) = key.strip_prefix(prefix) {
                return (name, use_of_system(name));
            }
        }
        if let Some(named) = key.strip_prefix("winlog.").and_then(winlog_name) {
            return named;
        }
    }
    let used = match key {
        "SourceName" | "ProviderName" | "Provider" => return ("Provider_Name", Use::Field),
        "Hostname" | "hostname" | "ComputerName" | "host.name" | "host" => Use::Computer,
        "@timestamp"
        | "timestamp"
        | "TimeCreated"
        | "TimeCreated_SystemTime"
        | "SystemTime"
        | "EventTime"
        | "time" => Use::Time,
        "RecordNumber" => Use::RecordId,
        "event.code" => Use::EventId,
        "xmlns" => Use::Nothing,
        _ => use_of_system(key),
    };
    (key, used)
}

fn whole(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Unsigned(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A time as logs write it: RFC 3339; without a zone it is taken as UTC.
fn time(text: &str) -> Option<UtcNanos> {
    let text = text.trim();
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    i64::try_from(stamp.as_nanosecond()).ok().map(UtcNanos::from_unix_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::event::FieldTable;

    fn fresh() -> &'static mut Scratch {
        Box::leak(Box::default())
    }

    fn fields_of(json: &str) -> Vec<(String, Value<'_>)> {
        let mut table = FieldTable::default();
        for name in NAMES {
            table.intern(name);
        }
        let reading = Reading { fields: &table, every_value: false, assumed: Source::default() };
        let Shaped { event, length, .. } = read_event(json.as_bytes(), &reading, fresh()).unwrap();
        assert_eq!(length, json.len());
        event
            .fields
            .into_iter()
            .map(|(id, value)| (table.name(id).unwrap().to_owned(), value))
            .collect()
    }

    const NAMES: [&str; 10] = [
        "EventID",
        "Channel",
        "Provider_Name",
        "CommandLine",
        "Data",
        "SubjectUserName",
        "winlog.task2",
        "process.command_line",
        "Execution_ProcessID",
        "Tags",
    ];

    fn text(value: &str) -> Value<'_> {
        Value::Text(value.into())
    }

    fn event_of(json: &str) -> Event<'_> {
        let table = FieldTable::default();
        let reading = Reading { fields: &table, every_value: false, assumed: Source::default() };
        read_event(json.as_bytes(), &reading, fresh()).unwrap().event
    }

    #[test]
    fn an_evtx_record_gives_its_data_by_name_and_its_system_fields() {
        let json = r##"{"Event":{"#attributes":{"xmlns":"x"},"System":{"Provider":{"#attributes":{"Name":"P","Guid":"G"}},"EventID":{"#attributes":{"Qualifiers":1},"#text":1},"Execution":{"#attributes":{"ProcessID":7}},"Channel":"C"},"EventData":{"CommandLine":"a \"b\"","Unread":"x"}}}"##;
        assert_eq!(
            fields_of(json),
            [
                ("Provider_Name".to_owned(), text("P")),
                ("EventID".to_owned(), Value::Int(1)),
                ("Execution_ProcessID".to_owned(), Value::Int(7)),
                ("Channel".to_owned(), text("C")),
                ("CommandLine".to_owned(), text("a \"b\"")),
            ]
        );
    }

    #[test]
    fn unnamed_data_is_a_list_under_data_and_user_data_is_flat() {
        let json = r##"{"Event":{"EventData":{"Data":{"#text":["a","b"]}},"UserData":{"LogFileCleared":{"#attributes":{"Data":"no"},"SubjectUserName":"u"}}}}"##;
        assert_eq!(
            fields_of(json),
            [
                ("Data".to_owned(), text("a")),
                ("Data".to_owned(), text("b")),
                ("SubjectUserName".to_owned(), text("u")),
            ]
        );
    }

    #[test]
    fn a_name_with_blanks_is_read_by_rules_without_them() {
        let json = r#"{"Event":{"EventData":{"Command Line":"a","CommandLine":"b"}}}"#;
        assert_eq!(
            fields_of(json),
            [("CommandLine".to_owned(), text("a")), ("CommandLine".to_owned(), text("b"))]
        );
    }

    #[test]
    fn a_name_that_comes_again_under_a_number_is_one_list() {
        let json = r#"{"Event":{"EventData":{"CommandLine_1":"a","CommandLine":"b","CommandLine_1":"c","CommandLine_x":"d"}}}"#;
        assert_eq!(
            fields_of(json),
            [("CommandLine".to_owned(), text("b")), ("CommandLine".to_owned(), text("c"))]
        );
    }

    #[test]
    fn what_an_event_says_of_its_source_is_not_overruled() {
        let table = FieldTable::default();
        let assumed = Source {
            product: Some("linux".into()),
            category: Some("process_creation".into()),
            ..Source::default()
        };
        let reading = Reading { fields: &table, every_value: false, assumed };
        let event =
            read_event(br#"{"Channel":"Security","EventID":1}"#, &reading, fresh()).unwrap().event;
        assert_eq!(event.source.product.as_deref(), Some("windows"));
        assert_eq!(event.source.category, None);
        let event = read_event(br#"{"SourceName":"x"}"#, &reading, fresh()).unwrap().event;
        assert_eq!(event.source.product.as_deref(), Some("linux"));
        assert_eq!(event.source.category.as_deref(), Some("process_creation"));
    }

    #[test]
    fn winlogbeat_nested_and_dotted_read_the_same() {
        let nested = r#"{"winlog":{"event_id":"1","channel":"C","provider_name":"P","event_data":{"CommandLine":"x"},"task2":3}}"#;
        let dotted = r#"{"winlog.event_id":"1","winlog.channel":"C","winlog.provider_name":"P","winlog.event_data.CommandLine":"x","winlog.task2":3}"#;
        assert_eq!(fields_of(nested), fields_of(dotted));
        assert_eq!(event_of(nested).source, event_of(dotted).source);
        assert_eq!(event_of(nested).source.event_id, Some(1));
        assert_eq!(event_of(nested).source.product.as_deref(), Some("windows"));
    }

    #[test]
    fn other_nesting_is_a_dotted_path_and_lists_repeat_the_name() {
        let json = r#"{"process":{"command_line":"x","parent":{"command_line":"y"}},"Tags":["a",null,true]}"#;
        assert_eq!(
            fields_of(json),
            [
                ("process.command_line".to_owned(), text("x")),
                ("Tags".to_owned(), text("a")),
                ("Tags".to_owned(), Value::Null),
                ("Tags".to_owned(), Value::Bool(true)),
            ]
        );
    }

    #[test]
    fn time_host_and_record_are_known_in_every_form() {
        for json in [
            r##"{"Event":{"System":{"TimeCreated":{"#attributes":{"SystemTime":"2020-01-02T03:04:05.5Z"}},"EventRecordID":9,"Computer":"h"}}}"##,
            r#"{"@timestamp":"2020-01-02T03:04:05.5Z","winlog":{"record_id":"9","computer_name":"h"}}"#,
            r#"{"EventTime":"2020-01-02 03:04:05.5","EventRecordID":9,"Hostname":"h"}"#,
            r#"{"@timestamp":"2020-01-02T03:04:05.500+00:00","RecordNumber":9,"host":{"name":"h"}}"#,
        ] {
            let event = event_of(json);
            assert_eq!(
                event.time,
                Some(UtcNanos::from_unix_nanos(1_577_934_245_500_000_000)),
                "{json}"
            );
            assert_eq!(event.record_id, Some(9), "{json}");
            assert_eq!(event.host.as_deref(), Some("h"), "{json}");
        }
    }

    #[test]
    fn values_deeper_than_the_limit_are_stepped_over() {
        let json = format!("{}{}{}", "{\"a\":".repeat(5000), "1", "}".repeat(5000));
        assert_eq!(event_of(&json).fields, []);
        let json = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(event_of(&json).fields, []);
    }

    #[test]
    fn keyword_rules_get_the_values_that_no_rule_reads_by_name() {
        let table = FieldTable::default();
        let reading = Reading { fields: &table, every_value: true, assumed: Source::default() };
        let event = read_event(br#"{"x":{"y":"mimikatz"}}"#, &reading, fresh()).unwrap().event;
        assert_eq!(event.fields, [(FieldId::UNREAD, text("mimikatz"))]);
    }

    #[test]
    fn an_event_of_too_many_values_is_cut_and_says_so() {
        let table = FieldTable::default();
        let reading = Reading { fields: &table, every_value: true, assumed: Source::default() };
        let json = format!("{{\"a\":[1{}],\"Channel\":\"C\"}}", ",1".repeat(VALUES + 6));
        let shaped = read_event(json.as_bytes(), &reading, fresh()).unwrap();
        assert_eq!((shaped.event.fields.len(), shaped.left_out), (VALUES, 8));
        assert_eq!(shaped.event.source.channel.as_deref(), Some("C"));
    }

    #[test]
    fn values_below_a_key_of_absurd_length_have_no_name() {
        let key = "é".repeat(1 << 16);
        let json = format!("{{\"{key}\":{{\"a\":1,\"b\":{{\"c\":2}}}},\"Tags\":\"x\"}}");
        assert_eq!(fields_of(&json), [("Tags".to_owned(), text("x"))]);
    }
}
