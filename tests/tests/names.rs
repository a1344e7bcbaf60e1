//! Lifelines by name as their user says them: the hub's system resolves, by a real resolver's answers; what
//! is signed reaches the machine's packet filter; and a name that moves, fails or lies goes no further than a
//! person signed.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use cordon_tests::{Up, Where, eventually, lacks_root};

/// Set for the child below: the file with its zone.
const ZONE: &str = "CORDON_TEST_ZONE";

/// Not a test of its own: a tiny DNS server (RFC 1035 section 4.1), with a zone of `name address` lines that
/// is read anew for each question. Without its zone it answers nothing, as one that is down.
#[test]
fn child_dns() {
    let Some(zone) = std::env::var_os(ZONE).map(PathBuf::from) else { return };
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::fs::write(zone.with_extension("ready"), "").unwrap();
    let mut bytes = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut bytes) {
        if let Ok(zone) = std::fs::read_to_string(&zone) {
            let _ = socket.send_to(&answer(&bytes[..length], &zone), from);
        }
    }
}

fn answer(question: &[u8], zone: &str) -> Vec<u8> {
    let (mut name, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    let name = name.join(".");
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let records: Vec<Vec<u8>> = zone
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(of, _)| *of == name)
        .filter_map(|(_, address)| match address.parse().unwrap() {
            IpAddr::V4(v4) if kind == 1 => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if kind == 28 => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    let is_known = zone.lines().any(|line| line.split(' ').next() == Some(&name));
    let mut answer = question[..at + 5].to_vec();
    let count = u8::try_from(records.len()).unwrap();
    // NXDOMAIN for what is not in the zone.
    let code = if is_known { 0x80 } else { 0x83 };
    answer[2..12].copy_from_slice(&[0x81, code, 0, 1, 0, count, 0, 0, 0, 0]);
    for record in records {
        answer.extend_from_slice(&[0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 0, 1, 0]);
        answer.push(u8::try_from(record.len()).unwrap());
        answer.extend(record);
    }
    answer
}

/// A hospital's names, as a test changes them.
struct Zone {
    file: PathBuf,
    server: Option<Child>,
}

impl Drop for Zone {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Zone {
    /// What `cordon up` finds in its `/etc`.
    fn prepare(state: &Path) -> Self {
        let settings = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        std::fs::write(state.join("resolv.conf"), settings).unwrap();
        std::fs::write(state.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        std::fs::write(state.join("hosts"), "127.0.0.1 localhost\n192.0.2.77 intranet.test\n")
            .unwrap();
        Self { file: state.join("zone"), server: None }
    }

    fn serve(&mut self, up: &Up) {
        let mut command = up.inside(std::env::current_exe().unwrap());
        command.args(["--exact", "child_dns", "--nocapture"]).env(ZONE, &self.file);
        self.server = Some(command.stdout(Stdio::null()).spawn().unwrap());
        let ready = self.file.with_extension("ready");
        eventually("names are answered", || ready.exists().then_some(()));
    }

    fn says(&self, records: &[&str]) {
        // In one step: the server reads it at any time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, records.join("\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    fn is_down(&self) {
        std::fs::remove_file(&self.file).unwrap();
    }
}

struct Hospital {
    up: Up,
    zone: Zone,
    name: String,
}

impl Hospital {
    fn open() -> Self {
        let state = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(state.path(), open).unwrap();
        let mut zone = Zone::prepare(state.path());
        let up = Up::start_on(state, Where::OwnNames, &[]);
        zone.serve(&up);
        let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
        Self { up, zone, name }
    }

    fn assign(&self, lifelines: &[&str]) -> Result<String, String> {
        let mut words = vec!["assign", self.name.as_str(), "--tier", "0"];
        lifelines.iter().for_each(|lifeline| words.extend(["--lifeline", *lifeline]));
        self.up.cordon(&words)
    }

    fn look(&self) -> String {
        self.up.cordon(&["lifelines", "look", &self.name]).unwrap()
    }

    /// Whether the machine's packet filter keeps `service` at an address: an element of a set, or a line.
    fn keeps(&self, address: &str, port: u16) -> bool {
        let rules = self.up.packet_rules();
        let element = format!("{address} . tcp . {port}");
        rules.lines().any(|line| {
            line.contains(&element)
                || (line.contains(&format!("{address} "))
                    && line.contains(&format!("dport {port} ")))
        })
    }

    fn comes_to_keep(&self, address: &str, port: u16) {
        eventually(&format!("{address} port {port} is kept"), || {
            self.keeps(address, port).then_some(())
        });
    }

    fn to_confirm(&self) -> BTreeMap<String, String> {
        let machines = self.up.json(&["machines"]);
        let waits = machines[0]["to_confirm"].as_array().unwrap().iter();
        waits
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap().to_owned();
                (text("name"), text("command"))
            })
            .collect()
    }
}

#[test]
fn a_name_is_followed_within_what_was_signed_asked_about_beyond_it_and_never_forgotten() {
    if lacks_root("lifelines by name") {
        return;
    }
    let hospital = Hospital::open();
    let zone = &hospital.zone;
    zone.says(&[
        "pacs.test 192.0.2.9",
        "pacs.test 2001:db8::9",
        "files.test 192.0.2.5",
        "filtered.test 0.0.0.0",
    ]);
    let pacs = "pacs.test:104/tcp within 192.0.2.0/24";
    let files = "smb:files.test within 192.0.2.0/24 signed-off-by Dr A";

    // A name that does not resolve, or to nobody, can't be declared; nor can risk without a name for it.
    for (wrong, because) in [
        ("pasc.test:104/tcp", "can't be resolved at the hub"),
        ("filtered.test:104/tcp", "no address of another machine"),
        ("smb:files.test", "lateral-movement"),
    ] {
        let why = hospital.assign(&[wrong]).unwrap_err();
        assert!(why.contains(because), "{wrong}: {why}");
    }
    // …unless its addresses are given.
    let given = hospital.assign(&["pasc.test:104/tcp at 192.0.2.44"]).unwrap();
    assert!(given.contains("192.0.2.44"), "{given}");

    // The person sees the addresses before and after signing. The system's own hosts file counts.
    let words = ["assign", &hospital.name, "--preview", "--lifeline", pacs];
    let would = hospital.up.cordon(&words).unwrap();
    assert!(would.contains("would be") && would.contains("192.0.2.9"), "{would}");
    let signed = hospital.assign(&[pacs, files, "intranet.test:443/tcp"]).unwrap();
    for address in ["192.0.2.9/32", "2001:db8::9/128", "192.0.2.5/32", "192.0.2.77/32"] {
        assert!(signed.contains(address), "{signed}");
    }
    let isolate = ["isolate", &hospital.name, "--mode", "full", "--reason", "test"];
    hospital.up.cordon(&isolate).unwrap();
    hospital.comes_to_keep("192.0.2.9", 104);
    hospital.comes_to_keep("192.0.2.5", 445);
    assert!(hospital.to_confirm().is_empty());

    // All names move. What a person signed for is followed; the rest is for people, with the command.
    zone.says(&["pacs.test 192.0.2.10", "pacs.test 203.0.113.7", "files.test 192.0.2.6"]);
    let looked = hospital.look();
    assert!(looked.contains("TO CONFIRM      203.0.113.7"), "{looked}");
    hospital.comes_to_keep("192.0.2.10", 104);
    assert!(hospital.keeps("192.0.2.9", 104), "the old address stays");
    assert!(!hospital.keeps("192.0.2.6", 445) && !hospital.keeps("203.0.113.7", 104));
    let waits = hospital.to_confirm();
    assert_eq!(waits.keys().collect::<Vec<_>>(), ["files.test", "pacs.test"]);
    let listed = hospital.up.cordon(&["machines"]).unwrap();
    assert!(listed.contains("TO CONFIRM files.test is also 192.0.2.6"), "{listed}");
    assert!(listed.contains(&waits["files.test"]), "{listed}");

    // A resolver that is down, and one that has forgotten everything, take nothing away.
    zone.is_down();
    let looked = hospital.look();
    assert!(looked.contains("NO ANSWER"), "{looked}");
    zone.says(&["other.test 192.0.2.1"]);
    let looked = hospital.look();
    assert!(looked.contains("NO ANSWER"), "{looked}");
    for (address, port) in [("192.0.2.9", 104), ("192.0.2.10", 104), ("192.0.2.5", 445)] {
        assert!(hospital.keeps(address, port), "{address}");
    }
    // Said anew meanwhile, by a person: what is pinned for the name stays pinned.
    let signed = hospital.assign(&[pacs, files]).unwrap();
    assert!(signed.contains("192.0.2.9/32") && signed.contains("192.0.2.10/32"), "{signed}");

    // A person confirms by the command that was shown.
    let command = waits["files.test"].replace("'YOUR NAME'", "Osei");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    hospital.up.cordon(&words).unwrap();
    hospital.comes_to_keep("192.0.2.6", 445);
    assert!(hospital.keeps("192.0.2.5", 445));
    let drop = ["lifelines", "confirm", &hospital.name, "files.test", "--drop", "192.0.2.5"];
    hospital.up.cordon(&drop).unwrap();
    eventually("the dropped address is cut", || (!hospital.keeps("192.0.2.5", 445)).then_some(()));
    assert!(hospital.keeps("192.0.2.6", 445));
    zone.says(&["pacs.test 192.0.2.10", "files.test 192.0.2.6"]);
    hospital.look();
    assert!(hospital.to_confirm().is_empty());
}
