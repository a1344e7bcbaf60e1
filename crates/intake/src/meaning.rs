//! What the names in an event mean, by where they stand: pure tables, apart from the reading.
//!
//! The forms that are known are in the table of [`shape`](crate::json::shape).

use cordon_model::event::{FieldId, Value};
use cordon_model::limits::NAME_BYTES;
use cordon_model::time::UtcNanos;

use crate::Reading;

/// Where in the event a key stands, and so what it is called.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'k> {
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

/// A kind of object in which a key always means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The outermost one, or `Event`.
    Flat,
    System,
    Data,
    Winlog,
}

impl Scope<'_> {
    /// The kind of object, if a key always means the same there.
    pub(crate) fn place(self) -> Option<Place> {
        match self {
            Self::Root | Self::Event => Some(Place::Flat),
            Self::System => Some(Place::System),
            Self::Data => Some(Place::Data),
            Self::Winlog => Some(Place::Winlog),
            Self::SystemElement(_)
            | Self::SystemAttributes(_)
            | Self::DataElement(_)
            | Self::Path => None,
        }
    }
}

/// What a value is for besides being a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
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

/// What a scalar is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meaning {
    /// The field that it is a value of, if anybody reads that.
    pub field: Option<FieldId>,
    pub used: Use,
}

impl Meaning {
    /// Whether nobody wants the value.
    pub(crate) fn is_nothing(self) -> bool {
        self.field.is_none() && matches!(self.used, Use::Field | Use::Nothing)
    }
}

/// What a name means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    Known(Meaning),
    /// EVTX as JSON numbers a name that comes again: another value of `first`, if that came before.
    Numbered {
        first: FieldId,
        otherwise: Meaning,
    },
}

/// The scope inside an object under `key`. None for an object in which nothing is read.
pub(crate) fn inside<'k>(scope: Scope<'k>, key: &'k str) -> Option<Scope<'k>> {
    Some(match (scope, key) {
        (Scope::Root, "Event") => Scope::Event,
        (Scope::Root | Scope::Event, "System") => Scope::System,
        (Scope::Root | Scope::Event, "EventData" | "UserData") => Scope::Data,
        (Scope::Event, "ProcessingErrorData") => Scope::Data,
        (Scope::Root, "winlog") => Scope::Winlog,
        (Scope::Winlog, "event_data" | "user_data") => Scope::Data,
        (Scope::System, _) => Scope::SystemElement(key),
        (Scope::SystemElement(element), "#attributes") => Scope::SystemAttributes(element),
        (Scope::Event | Scope::Data | Scope::DataElement(_), "#attributes") => return None,
        (Scope::Data | Scope::DataElement(_), _) => Scope::DataElement(key),
        _ => Scope::Path,
    })
}

/// Finds out what names mean to one [`Reading`].
pub(crate) struct Names<'r> {
    pub reading: &'r Reading<'r>,
    /// A joined name, its memory used again.
    pub joined: String,
}

impl Names<'_> {
    /// What a scalar under `key` means, `path` being the dotted path of its object.
    pub(crate) fn leaf(&mut self, scope: Scope<'_>, key: &str, path: &str) -> Naming {
        Naming::Known(match scope {
            Scope::Root | Scope::Event => return self.placed(Place::Flat, key),
            Scope::System => return self.placed(Place::System, key),
            Scope::Data => return self.placed(Place::Data, key),
            Scope::Winlog => return self.placed(Place::Winlog, key),
            Scope::SystemElement(element) => {
                if key == "#text" {
                    self.meaning(element, use_of_system(element))
                } else {
                    self.meaning(key, Use::Field)
                }
            }
            Scope::SystemAttributes(element) => match (element, key) {
                ("Provider", "Name") => self.meaning("Provider_Name", Use::Provider),
                ("TimeCreated", "SystemTime") => self.meaning("TimeCreated_SystemTime", Use::Time),
                _ => self.joined(element, '_', key, Use::Field),
            },
            Scope::DataElement(element) => {
                return self.placed(Place::Data, if key == "#text" { element } else { key });
            }
            Scope::Path => {
                let used = match (path, key) {
                    ("host", "name" | "hostname") | ("agent", "hostname") => Use::Computer,
                    ("event", "code") => Use::EventId,
                    _ => Use::Field,
                };
                self.joined(path, '.', key, used)
            }
        })
    }

    /// What a scalar under `key` means in an object in which a key always means the same.
    fn placed(&mut self, place: Place, key: &str) -> Naming {
        match self.at(place, key) {
            Some(meaning) => Naming::Known(meaning),
            None => self.numbered(key),
        }
    }

    /// What `key` means in every object of this kind. None if that depends on what came before it.
    pub(crate) fn at(&mut self, place: Place, key: &str) -> Option<Meaning> {
        match place {
            Place::Flat => {
                let (name, used) = flat_name(key);
                Some(self.meaning(name, used))
            }
            Place::System => Some(self.meaning(key, use_of_system(key))),
            Place::Winlog => Some(match winlog_name(key) {
                Some((name, used)) => self.meaning(name, used),
                None => self.joined("winlog", '.', key, Use::Field),
            }),
            Place::Data => self.in_data(key),
        }
    }

    /// A field of event data. Defender and others write blanks into their names (`Threat Name`), rules
    /// leave them out. EVTX as JSON numbers a name that comes again (`LogonGuid`, `LogonGuid_1`), rules
    /// mean each of them.
    fn in_data(&mut self, name: &str) -> Option<Meaning> {
        if self.reading.fields.find(name).is_some() {
            return Some(self.meaning(name, Use::Field));
        }
        if self.first_of_numbered(name).is_some() {
            return None;
        }
        if !name.contains(' ') {
            return Some(self.meaning(name, Use::Field));
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend(name.chars().filter(|letter| *letter != ' '));
        let meaning = self.meaning(&joined, Use::Field);
        self.joined = joined;
        Some(meaning)
    }

    /// The field of the name before its number.
    fn first_of_numbered(&self, name: &str) -> Option<FieldId> {
        let first = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let first = if first.len() < name.len() { first.strip_suffix('_')? } else { return None };
        self.reading.fields.find(first)
    }

    /// A name with a number: the same field's again, if that came before.
    fn numbered(&mut self, name: &str) -> Naming {
        let otherwise = self.meaning(&name.replace(' ', ""), Use::Field);
        match self.first_of_numbered(name) {
            Some(first) => Naming::Numbered { first, otherwise },
            None => Naming::Known(otherwise),
        }
    }

    fn joined(&mut self, left: &str, by: char, right: &str, used: Use) -> Meaning {
        if left.len() + right.len() > NAME_BYTES {
            // No rule has such a name, and joining it for every value below a long key would be slow.
            return self.meaning("", used);
        }
        let mut name = std::mem::take(&mut self.joined);
        name.clear();
        name.push_str(left);
        name.push(by);
        name.push_str(right);
        let meaning = self.meaning(&name, used);
        self.joined = name;
        meaning
    }

    fn meaning(&self, name: &str, used: Use) -> Meaning {
        let field = match self.reading.fields.find(name) {
            _ if used == Use::Nothing => None,
            None if self.reading.every_value => Some(FieldId::UNREAD),
            found => found,
        };
        Meaning { field, used }
    }
}

/// What a child of `Event.System` is for.
pub(crate) fn use_of_system(key: &str) -> Use {
    match key {
        "Channel" => Use::Channel,
        "EventID" => Use::EventId,
        "Computer" => Use::Computer,
        "EventRecordID" => Use::RecordId,
        _ => Use::Field,
    }
}

/// The rule's name for a key of ECS's `winlog` object.
pub(crate) fn winlog_name(key: &str) -> Option<(&'static str, Use)> {
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
pub(crate) fn flat_name(key: &str) -> (&str, Use) {
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

pub(crate) fn whole(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Unsigned(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A time as logs write it: RFC 3339; without a zone it is taken as UTC.
pub(crate) fn time(text: &str) -> Option<UtcNanos> {
    let text = text.trim();
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    i64::try_from(stamp.as_nanosecond()).ok().map(UtcNanos::from_unix_nanos)
}
