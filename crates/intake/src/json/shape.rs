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

use cordon_model::event::Event;
use cordon_model::limits::NAME_BYTES;

use super::keys::Keys;
use super::text::{Cursor, Fault, Kind};
use crate::Reading;
use crate::gathered::{Found, Gathered};
use crate::meaning::{Meaning, Names, Naming, Place, Scope, inside};

/// Values nested deeper than this are stepped over, not read. The deepest of some 32,000 Windows records
/// (certificate chains in CAPI2) is 12; the limit bounds the stack at a few hundred bytes a level.
pub const DEPTH: usize = 64;

/// An event, and how it was read.
#[derive(Debug)]
pub(crate) struct Shaped<'a> {
    pub event: Event<'a>,
    /// How long its text is.
    pub length: usize,
    /// How many values are left out because there are more than [`VALUES`].
    pub left_out: u64,
}

/// What is used again for event after event: memory, and what is known of keys.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    gathered: Gathered,
    path: String,
    name: String,
    /// Of one [`Reading`].
    keys: Keys<Place, Meaning>,
}

/// Reads the JSON object that `bytes` starts with. A [`Scratch`] belongs to one [`Reading`].
pub(crate) fn read_event<'a>(
    bytes: &[u8],
    reading: &Reading<'_>,
    scratch: &'a mut Scratch,
) -> Result<Shaped<'a>, Fault> {
    scratch.gathered.begin();
    scratch.path.clear();
    scratch.keys.begin();
    let names = Names { reading, joined: std::mem::take(&mut scratch.name) };
    let mut shaper = Shaper { cursor: Cursor::new(bytes), names, scratch: &mut *scratch };
    let done = shaper.object(Scope::Root, 0);
    let Shaper { cursor, names, .. } = shaper;
    scratch.name = names.joined;
    done?;
    let gathered = &scratch.gathered;
    let event = gathered.event(reading);
    Ok(Shaped { event, length: cursor.at(), left_out: gathered.left_out })
}

struct Shaper<'b, 'r> {
    cursor: Cursor<'b>,
    names: Names<'r>,
    /// `path` is the dotted path of the object being read, for [`Scope::Path`].
    scratch: &'r mut Scratch,
}

impl Shaper<'_, '_> {
    fn object(&mut self, scope: Scope<'_>, depth: usize) -> Result<(), Fault> {
        self.cursor.take(b'{', "expected an object")?;
        let place = scope.place();
        let mut is_first = true;
        loop {
            if let Some(place) = place
                && let Some((meaning, length)) =
                    self.scratch.keys.expected(place, is_first, self.cursor.rest())
            {
                self.cursor.pass(length);
                self.take(meaning)?;
                is_first = false;
                continue;
            }
            let start = self.cursor.at();
            let Some(key) = self.cursor.next_key(is_first)? else { return Ok(()) };
            if let Some(place) = place
                && self.cursor.kind()? == Kind::Scalar
                && let Some(meaning) = self.names.at(place, &key)
            {
                self.scratch.keys.learn(place, is_first, self.cursor.since(start), meaning);
                self.take(meaning)?;
            } else {
                self.member(scope, &key, depth)?;
            }
            is_first = false;
        }
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
        let Some(inner) = inside(scope, key) else { return self.cursor.skip() };
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

    /// A scalar under `key`.
    fn leaf(&mut self, scope: Scope<'_>, key: &str) -> Result<(), Fault> {
        let naming = self.names.leaf(scope, key, &self.scratch.path);
        let meaning = match naming {
            Naming::Known(meaning) => meaning,
            Naming::Numbered { .. } => self.scratch.gathered.settle(naming),
        };
        self.take(meaning)
    }

    /// Takes the scalar that comes next, or steps over it when nobody reads it.
    fn take(&mut self, meaning: Meaning) -> Result<(), Fault> {
        if meaning.is_nothing() {
            return self.cursor.skip();
        }
        let gathered = &mut self.scratch.gathered;
        let found = match self.cursor.is_at_text()? {
            true => Found::Text(self.cursor.text_into(&mut gathered.arena)?),
            false => Found::Plain(self.cursor.plain()?),
        };
        gathered.put(meaning, found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gathered::VALUES;
    use cordon_model::event::{FieldId, FieldTable, Source, Value};
    use cordon_model::time::UtcNanos;

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
    fn bytes_that_are_no_text_spoil_their_own_value_only() {
        let mut table = FieldTable::default();
        let (a, b) = (table.intern("a"), table.intern("b"));
        let reading = Reading { fields: &table, every_value: false, assumed: Source::default() };
        let json = b"{\"a\":\"x\xe2\x82\\ny\",\"b\":\"\xc3\xa9\"}";
        let event = read_event(json, &reading, fresh()).unwrap().event;
        assert_eq!(event.fields, [(a, text("x\u{fffd}\ny")), (b, text("é"))]);
    }

    #[test]
    fn values_below_a_key_of_absurd_length_have_no_name() {
        let key = "é".repeat(1 << 16);
        let json = format!("{{\"{key}\":{{\"a\":1,\"b\":{{\"c\":2}}}},\"Tags\":\"x\"}}");
        assert_eq!(fields_of(&json), [("Tags".to_owned(), text("x"))]);
    }
}
