//! Sensor events in Sigma's words (taxonomy for `linux`: `process_creation`, `network_connection`),
//! as the detection engine reads them.
//!
//! The one idea: which fields the rules read is asked once, when the rules are compiled
//! ([`SensorFields::new`]); per event no name is looked up and nothing is copied.

use std::borrow::Cow;

use cordon_model::event::{Event, FieldId, FieldTable, Source, Value};

use super::event::{Connection, Direction, Endpoint, ProcessStart, SensorEvent};

/// The numbers of the fields that the compiled rules read, of those that the sensor fills.
#[derive(Debug, Clone)]
pub struct SensorFields {
    names: [FieldId; Name::ALL.len()],
    keeps_unread: bool,
}

/// The fields that the sensor can fill, by Sigma's (that is, Sysmon's) names.
#[derive(Debug, Clone, Copy)]
enum Name {
    Image,
    CommandLine,
    CurrentDirectory,
    User,
    LogonId,
    ProcessId,
    ParentImage,
    ParentCommandLine,
    ParentProcessId,
    Protocol,
    Initiated,
    SourceIp,
    SourcePort,
    SourceIsIpv6,
    DestinationIp,
    DestinationPort,
    DestinationIsIpv6,
}

impl Name {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Image, "Image"),
        (Self::CommandLine, "CommandLine"),
        (Self::CurrentDirectory, "CurrentDirectory"),
        (Self::User, "User"),
        (Self::LogonId, "LogonId"),
        (Self::ProcessId, "ProcessId"),
        (Self::ParentImage, "ParentImage"),
        (Self::ParentCommandLine, "ParentCommandLine"),
        (Self::ParentProcessId, "ParentProcessId"),
        (Self::Protocol, "Protocol"),
        (Self::Initiated, "Initiated"),
        (Self::SourceIp, "SourceIp"),
        (Self::SourcePort, "SourcePort"),
        (Self::SourceIsIpv6, "SourceIsIpv6"),
        (Self::DestinationIp, "DestinationIp"),
        (Self::DestinationPort, "DestinationPort"),
        (Self::DestinationIsIpv6, "DestinationIsIpv6"),
    ];
}

impl SensorFields {
    /// The fields of `table`. `keeps_unread` if a keyword rule wants every value: those that no rule
    /// reads by name then come as [`FieldId::UNREAD`], else they are left out.
    #[must_use]
    pub fn new(table: &FieldTable, keeps_unread: bool) -> Self {
        let names = Name::ALL.map(|(_, name)| table.find(name).unwrap_or(FieldId::UNREAD));
        Self { names, keeps_unread }
    }

    /// All that the sensor can fill, in a table of its own.
    #[must_use]
    pub fn all() -> (FieldTable, Self) {
        let mut table = FieldTable::default();
        let names = Name::ALL.map(|(_, name)| table.intern(name));
        (table, Self { names, keeps_unread: false })
    }

    /// The number of `name`, if its value is wanted.
    fn wanted(&self, name: Name) -> Option<FieldId> {
        let id = self.names[name as usize];
        (id != FieldId::UNREAD || self.keeps_unread).then_some(id)
    }
}

/// An event that grows by the fields that are wanted.
struct Filling<'a, 'f> {
    event: Event<'a>,
    fields: &'f SensorFields,
}

impl<'a> Filling<'a, '_> {
    fn text(&mut self, name: Name, text: Option<&'a str>) {
        if let (Some(id), Some(text)) = (self.fields.wanted(name), text) {
            self.event.fields.push((id, Value::Text(Cow::Borrowed(text))));
        }
    }

    fn number(&mut self, name: Name, number: impl Into<i64>) {
        if let Some(id) = self.fields.wanted(name) {
            self.event.fields.push((id, Value::Int(number.into())));
        }
    }

    /// Sysmon writes truth as text, and so do the rules.
    fn truth(&mut self, name: Name, truth: bool) {
        self.text(name, Some(if truth { "true" } else { "false" }));
    }

    fn endpoint(&mut self, names: [Name; 3], endpoint: Endpoint) {
        let [address, port, is_ipv6] = names;
        if let Some(id) = self.fields.wanted(address) {
            let text = endpoint.address.to_string();
            self.event.fields.push((id, Value::Text(Cow::Owned(text))));
        }
        // 0 means "not chosen yet", and no packet has it: left out, so that no rule finds it small.
        if endpoint.port != 0 {
            self.number(port, endpoint.port);
        }
        self.truth(is_ipv6, endpoint.address.is_ipv6());
    }
}

impl SensorEvent {
    /// This event as rules read it. Ends of processes and losses have no fields that Sigma knows, and
    /// no category.
    #[must_use]
    pub fn to_event<'a>(&'a self, fields: &SensorFields) -> Event<'a> {
        let source = Source {
            product: Some(Cow::Borrowed("linux")),
            category: match self {
                Self::ProcessStart(_) => Some(Cow::Borrowed("process_creation")),
                Self::Connection(_) => Some(Cow::Borrowed("network_connection")),
                Self::ProcessExit(_) => Some(Cow::Borrowed("process_termination")),
                Self::Loss(_) => None,
            },
            ..Source::default()
        };
        let event = Event { source, time: Some(self.time()), ..Event::default() };
        let mut filling = Filling { event, fields };
        match self {
            Self::ProcessStart(start) => fill_start(&mut filling, start),
            Self::Connection(connection) => fill_connection(&mut filling, connection),
            Self::ProcessExit(exit) => filling.number(Name::ProcessId, exit.process.pid),
            Self::Loss(_) => {}
        }
        filling.event
    }
}

fn fill_start<'a>(to: &mut Filling<'a, '_>, start: &'a ProcessStart) {
    to.text(Name::Image, start.image.as_deref());
    to.text(Name::CommandLine, Some(&start.command_line));
    to.text(Name::CurrentDirectory, start.directory.as_deref());
    to.text(Name::User, start.user.name.as_deref());
    // Sysmon for Linux puts the user id here.
    to.number(Name::LogonId, start.user.uid);
    to.number(Name::ProcessId, start.process.pid);
    if let Some(parent) = &start.parent {
        to.text(Name::ParentImage, parent.image.as_deref());
        to.text(Name::ParentCommandLine, parent.command_line.as_deref());
        to.number(Name::ParentProcessId, parent.process.pid);
    }
}

fn fill_connection<'a>(to: &mut Filling<'a, '_>, connection: &'a Connection) {
    let is_outgoing = connection.direction == Direction::Outgoing;
    // Source is who began it, on whichever machine.
    let (source, destination) = match connection.direction {
        Direction::Outgoing => (connection.local, connection.remote),
        Direction::Incoming => (connection.remote, connection.local),
    };
    to.text(Name::Image, connection.image.as_deref());
    to.text(Name::CommandLine, connection.command_line.as_deref());
    to.text(Name::User, connection.user.as_deref());
    if let Some(process) = connection.process {
        to.number(Name::ProcessId, process.pid);
    }
    to.text(Name::Protocol, Some("tcp"));
    to.truth(Name::Initiated, is_outgoing);
    to.endpoint([Name::SourceIp, Name::SourcePort, Name::SourceIsIpv6], source);
    to.endpoint([Name::DestinationIp, Name::DestinationPort, Name::DestinationIsIpv6], destination);
}

#[cfg(test)]
mod tests {
    use cordon_model::time::{BootNanos, UtcNanos};

    use super::super::event::{Parent, ProcessId, User};
    use super::*;

    fn start() -> SensorEvent {
        let process = |pid| ProcessId { pid, started: BootNanos(0) };
        SensorEvent::ProcessStart(ProcessStart {
            time: UtcNanos::from_unix_nanos(1),
            boot_time: BootNanos(1),
            process: process(5),
            image: Some("/usr/bin/nc".into()),
            image_is_deleted: false,
            image_is_claimed: false,
            image_is_cut: false,
            file_name: None,
            command_line: "nc -l".into(),
            arguments: vec!["nc".into(), "-l".into()],
            arguments_are_cut: false,
            directory: Some("/tmp".into()),
            short_name: "nc".into(),
            user: User {
                name: Some("root".into()),
                uid: 0,
                effective_uid: 0,
                gid: None,
                login_uid: None,
            },
            network_namespace: None,
            cgroup: None,
            parent: Some(Parent {
                process: process(4),
                image: Some("/usr/bin/bash".into()),
                command_line: None,
            }),
        })
    }

    #[test]
    fn every_name_has_its_own_place() {
        for (place, (name, _)) in Name::ALL.iter().enumerate() {
            assert_eq!(*name as usize, place);
        }
    }

    #[test]
    fn only_what_rules_read_is_filled() {
        let mut table = FieldTable::default();
        let image = table.intern("Image");
        let parent = table.intern("ParentProcessId");
        let start = start();
        let event = start.to_event(&SensorFields::new(&table, false));
        assert_eq!(event.source.category.as_deref(), Some("process_creation"));
        let expected = vec![(image, Value::Text("/usr/bin/nc".into())), (parent, Value::Int(4))];
        assert_eq!(event.fields, expected);
    }

    #[test]
    fn keyword_rules_see_every_value() {
        let start = start();
        let event = start.to_event(&SensorFields::new(&FieldTable::default(), true));
        assert!(event.fields.contains(&(FieldId::UNREAD, Value::Text("nc -l".into()))));
        assert!(event.fields.contains(&(FieldId::UNREAD, Value::Text("/usr/bin/bash".into()))));
    }

    #[test]
    fn the_source_of_an_incoming_connection_is_the_other_machine() {
        let mut table = FieldTable::default();
        let ids = ["SourceIp", "DestinationPort", "Initiated"].map(|name| table.intern(name));
        let connection = SensorEvent::Connection(Connection {
            time: UtcNanos::from_unix_nanos(1),
            boot_time: BootNanos(1),
            direction: Direction::Incoming,
            local: Endpoint { address: [192, 0, 2, 1].into(), port: 22 },
            remote: Endpoint { address: [192, 0, 2, 9].into(), port: 40_000 },
            process: None,
            image: None,
            command_line: None,
            short_name: String::new(),
            uid: 0,
            user: None,
            network_namespace: 1,
        });
        let event = connection.to_event(&SensorFields::new(&table, false));
        assert_eq!(event.first(ids[0]), Some(&Value::Text("192.0.2.9".into())));
        assert_eq!(event.first(ids[1]), Some(&Value::Int(22)));
        assert_eq!(event.first(ids[2]), Some(&Value::Text("false".into())));
    }
}
