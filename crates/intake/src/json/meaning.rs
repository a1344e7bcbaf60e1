//! What the names in an event mean, by where they stand: pure tables, apart from the reading.
//!
//! The forms that are known are in the table of [`shape`](super::shape).

use cordon_model::event::Value;
use cordon_model::time::UtcNanos;

/// Where in the event a key stands, and so what it is called.
#[derive(Clone, Copy)]
pub(super) enum Scope<'k> {
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
pub(super) enum Place {
    /// The outermost one, or `Event`.
    Flat,
    System,
    Data,
    Winlog,
}

impl Scope<'_> {
    /// The kind of object, if a key always means the same there.
    pub(super) fn place(self) -> Option<Place> {
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
pub(super) enum Use {
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

/// What a child of `Event.System` is for.
pub(super) fn use_of_system(key: &str) -> Use {
    match key {
        "Channel" => Use::Channel,
        "EventID" => Use::EventId,
        "Computer" => Use::Computer,
        "EventRecordID" => Use::RecordId,
        _ => Use::Field,
    }
}

/// The rule's name for a key of ECS's `winlog` object.
pub(super) fn winlog_name(key: &str) -> Option<(&'static str, Use)> {
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
pub(super) fn flat_name(key: &str) -> (&str, Use) {
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

pub(super) fn whole(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Unsigned(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A time as logs write it: RFC 3339; without a zone it is taken as UTC.
pub(super) fn time(text: &str) -> Option<UtcNanos> {
    let text = text.trim();
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    i64::try_from(stamp.as_nanosecond()).ok().map(UtcNanos::from_unix_nanos)
}
