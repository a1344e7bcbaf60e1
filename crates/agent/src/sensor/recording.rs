//! What the sensor saw, kept as lines that `cordon scan` reads: one file for each Sigma category.
//!
//! The one idea: an event is written with the names and values that the rules are asked by when it
//! happens, so that a rule says the same of the recording as it would have said on the machine. Command
//! lines hold passwords at times, so nobody but the owner may read the files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cordon_model::event::{FieldTable, Value};
use serde_json::{Map, Value as Json};

use super::event::SensorEvent;
use super::sigma::SensorFields;

/// A recording: what is kept of it, and what was counted.
#[derive(Debug)]
pub struct Recording {
    table: FieldTable,
    fields: SensorFields,
    starts: Kept,
    connections: Kept,
    bytes_left: u64,
    counts: RecordingCounts,
}

/// What a recording has in it, and what it lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingCounts {
    /// Programs that were started.
    pub starts: u64,
    /// TCP connections.
    pub connections: u64,
    /// Events of which no rule asks (ends of processes): counted, and not kept.
    pub without_rules: u64,
    /// Events that the sensor itself lost.
    pub lost: u64,
    /// Events that were not written, as the recording had reached its size.
    pub beyond_limit: u64,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Kept {
    fn open(folder: &Path, category: &str) -> io::Result<Self> {
        let path = folder.join(format!("{category}.ndjson"));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { path, file: BufWriter::new(file) })
    }
}

impl Recording {
    /// Begins one in `folder`, or goes on with the one that is there. It writes at most `bytes`.
    ///
    /// # Errors
    /// When the folder or a file in it can't be made.
    pub fn begin(folder: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (table, fields) = SensorFields::all();
        Ok(Self {
            table,
            fields,
            starts: Kept::open(folder, "process_creation")?,
            connections: Kept::open(folder, "network_connection")?,
            bytes_left: bytes,
            counts: RecordingCounts::default(),
        })
    }

    /// Keeps one event.
    ///
    /// # Errors
    /// When it can't be written (a full disk).
    pub fn keep(&mut self, event: &SensorEvent) -> io::Result<()> {
        let (kept, count) = match event {
            SensorEvent::ProcessStart(_) => (&mut self.starts, &mut self.counts.starts),
            SensorEvent::Connection(_) => (&mut self.connections, &mut self.counts.connections),
            SensorEvent::ProcessExit(_) => {
                self.counts.without_rules += 1;
                return Ok(());
            }
            SensorEvent::Loss(loss) => {
                self.counts.lost += loss.count;
                return Ok(());
            }
        };
        let mut line = in_sigmas_words(event, &self.table, &self.fields);
        line.push('\n');
        let Some(left) = self.bytes_left.checked_sub(line.len() as u64) else {
            self.counts.beyond_limit += 1;
            return Ok(());
        };
        kept.file.write_all(line.as_bytes())?;
        self.bytes_left = left;
        *count += 1;
        Ok(())
    }

    /// What it has in it by now.
    #[must_use]
    pub const fn counts(&self) -> RecordingCounts {
        self.counts
    }

    /// The files, each with the category of what is in it.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &Path); 2] {
        [("process_creation", &self.starts.path), ("network_connection", &self.connections.path)]
    }

    /// Hands what was kept to the system.
    ///
    /// # Errors
    /// When it can't be written (a full disk).
    pub fn flush(&mut self) -> io::Result<()> {
        self.starts.file.flush()?;
        self.connections.file.flush()
    }
}

/// The event as one flat JSON object: its time, and the fields that rules ask for.
fn in_sigmas_words(event: &SensorEvent, table: &FieldTable, fields: &SensorFields) -> String {
    let mut object = Map::new();
    if let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(event.time().unix_nanos())) {
        object.insert("@timestamp".into(), time.to_string().into());
    }
    for (id, value) in event.to_event(fields).fields {
        let Some(name) = table.name(id) else { continue };
        let value = match value {
            Value::Text(text) => Json::String(text.into_owned()),
            Value::Int(number) => number.into(),
            _ => continue,
        };
        object.insert(name.to_owned(), value);
    }
    Json::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use cordon_model::time::{BootNanos, UtcNanos};

    use super::super::event::{Connection, Direction, Endpoint, Loss, LossReason};
    use super::*;

    fn connection(port: u16) -> SensorEvent {
        SensorEvent::Connection(Connection {
            time: UtcNanos::from_unix_nanos(1_000_000_000),
            boot_time: BootNanos(1),
            direction: Direction::Outgoing,
            local: Endpoint { address: [192, 0, 2, 1].into(), port: 0 },
            remote: Endpoint { address: [192, 0, 2, 9].into(), port },
            process: None,
            image: Some("/usr/bin/nc".into()),
            command_line: None,
            short_name: "nc".into(),
            uid: 0,
            user: Some("root".into()),
            network_namespace: 1,
        })
    }

    fn lines(recording: &Recording, category: &str) -> Vec<Json> {
        let files = recording.files();
        let (_, path) = files.iter().find(|(name, _)| *name == category).unwrap();
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_recording_has_the_names_that_rules_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = Recording::begin(folder.path(), 1 << 20).unwrap();
        recording.keep(&connection(445)).unwrap();
        recording.flush().unwrap();
        let expected = serde_json::json!({
            "@timestamp": "1970-01-01T00:00:01Z", "Image": "/usr/bin/nc", "User": "root",
            "Protocol": "tcp", "Initiated": "true", "SourceIp": "192.0.2.1", "SourceIsIpv6": "false",
            "DestinationIp": "192.0.2.9", "DestinationPort": 445, "DestinationIsIpv6": "false",
        });
        assert_eq!(lines(&recording, "network_connection"), [expected]);
        assert_eq!(lines(&recording, "process_creation"), [] as [Json; 0]);
    }

    #[test]
    fn a_recording_stays_within_its_size_and_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = Recording::begin(folder.path(), 400).unwrap();
        for port in [1, 2, 3] {
            recording.keep(&connection(port)).unwrap();
        }
        let time = UtcNanos::from_unix_nanos(1);
        let lost = Loss { time, count: 7, reason: LossReason::BufferFull };
        recording.keep(&SensorEvent::Loss(lost)).unwrap();
        recording.flush().unwrap();
        let counts = recording.counts();
        assert_eq!(lines(&recording, "network_connection").len() as u64, counts.connections);
        assert_eq!((counts.connections, counts.beyond_limit, counts.lost), (1, 2, 7));
    }

    #[test]
    fn only_the_owner_reads_what_people_typed() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let recording = Recording::begin(folder.path(), 1 << 20).unwrap();
        for (_, path) in recording.files() {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
