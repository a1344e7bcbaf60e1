//! Which print queues of this machine print elsewhere, as CUPS has them on its disk: a queue that nobody prints
//! to has no connection by which it could be seen.
//!
//! Only root reads that file, for an address in it may carry a password; no more than a queue's name, the
//! printer's host and its port leaves here. Nothing is asked of CUPS, of a printer or of a resolver.

use std::io;
use std::path::Path;

use cordon_model::look::SERVICE_BYTES;
use serde::{Deserialize, Serialize};

use super::action::plain;

/// Where CUPS keeps its queues (`printers.conf(5)`).
const FILE: &str = "etc/cups/printers.conf";
/// How much of it is read: a queue is about 500 bytes, so some 500 queues.
const FILE_BYTES: u64 = 256 << 10;
/// Queues that are told.
const QUEUES: usize = 128;
/// The longest name of a host (RFC 1035 section 2.3.4).
const HOST_BYTES: usize = 255;

/// A print queue whose printer is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrintQueue {
    /// Its name, as people choose it when they print.
    pub name: String,
    /// The printer or print server, as CUPS names it.
    pub host: String,
    /// The port there, TCP.
    pub port: u16,
}

/// The print queues of the machine whose files are below `root`. One without CUPS has none.
///
/// # Errors
/// When the file can't be read.
pub fn queues(root: &Path) -> io::Result<Vec<PrintQueue>> {
    let text = match plain::read(&root.join(FILE), FILE_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(read(&String::from_utf8_lossy(&text)))
}

/// `<Printer NAME>` or `<DefaultPrinter NAME>`, and within it `DeviceURI URI`.
fn read(text: &str) -> Vec<PrintQueue> {
    let (mut queues, mut name) = (Vec::new(), None);
    for line in text.lines().map(str::trim) {
        let begun = line.strip_prefix("<Printer ").or(line.strip_prefix("<DefaultPrinter "));
        if let Some(begun) = begun {
            name = Some(begun.trim_end_matches('>').trim());
        } else if line.starts_with("</") {
            name = None;
        } else if let (Some(name), Some(uri)) = (name, line.strip_prefix("DeviceURI "))
            && let Some((host, port)) = printer(uri.trim())
            && queues.len() < QUEUES
        {
            queues.push(PrintQueue { name: cut(name, SERVICE_BYTES), host, port });
        }
    }
    queues
}

/// Host and port of a printer that is reached over the network. What is found by its announcements alone
/// (`dnssd`, `implicitclass`) is reached by IPP in the end.
fn printer(uri: &str) -> Option<(String, u16)> {
    let (scheme, rest) = uri.split_once("://")?;
    let port = match scheme {
        "socket" => 9100,
        "ipp" | "ipps" | "dnssd" | "implicitclass" => 631,
        "http" => 80,
        "https" => 443,
        "lpd" => 515,
        "smb" => 445,
        _ => return None,
    };
    let authority = rest.split(['/', '?']).next()?;
    // After the last @: what is before it may be a password.
    let place = authority.rsplit('@').next()?;
    let (host, said) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let said = said.trim_start_matches(':').parse().ok();
    let host = cut(host, HOST_BYTES);
    (!host.is_empty()).then_some((host, said.unwrap_or(port)))
}

fn cut(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queues_are_read_by_name_host_and_port_and_nothing_else_of_them() {
        let text = "# Printer configuration file for CUPS\n\
            <DefaultPrinter ward-7>\n  UUID urn:uuid:1\n  DeviceURI socket://10.0.0.20:9101\n</DefaultPrinter>\n\
            <Printer labels>\n  DeviceURI lpd://labels.trust.example/queue\n</Printer>\n\
            <Printer office>\n  DeviceURI smb://DOM;user:s3cret@10.0.0.5/office\n</Printer>\n\
            <Printer six>\n  DeviceURI ipp://[fd00::20]:631/ipp/print\n</Printer>\n\
            <Printer here>\n  DeviceURI usb://HP/LaserJet?serial=1\n</Printer>\n\
            DeviceURI socket://10.9.9.9\n";
        let queue = |name: &str, host: &str, port| PrintQueue {
            name: name.into(),
            host: host.into(),
            port,
        };
        assert_eq!(
            read(text),
            [
                queue("ward-7", "10.0.0.20", 9101),
                queue("labels", "labels.trust.example", 515),
                queue("office", "10.0.0.5", 445),
                queue("six", "fd00::20", 631),
            ]
        );
    }

    #[test]
    fn a_machine_without_cups_has_none_and_what_cannot_be_read_is_said() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().canonicalize().unwrap();
        assert_eq!(queues(&at).unwrap(), []);
        std::fs::create_dir_all(at.join("etc/cups")).unwrap();
        std::fs::write(at.join(FILE), "<Printer a>\nDeviceURI ipp://10.0.0.20/\n</Printer>\n")
            .unwrap();
        assert_eq!(queues(&at).unwrap().len(), 1);
        std::fs::remove_file(at.join(FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at.join(FILE)).unwrap();
        assert!(queues(&at).is_err(), "no link is followed");
    }

    proptest! {
        #[test]
        fn any_file_is_read(text in "(<Printer [a-z]{0,200}>\n|DeviceURI .{0,300}\n|</Printer>\n|.{0,40}\n){0,40}") {
            let found = read(&text);
            prop_assert!(found.len() <= QUEUES);
            for queue in found {
                prop_assert!(queue.name.len() <= SERVICE_BYTES && queue.host.len() <= HOST_BYTES);
            }
        }
    }
}
