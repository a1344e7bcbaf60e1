//! A notification on the desktop, as the signed-in user, over their own session bus.
//!
//! The one idea: two method calls are all that is needed (`Hello`, and `Notify` of the Desktop Notifications
//! Specification 1.2), so this writes the few bytes that the D-Bus Specification 0.43 asks for and reads
//! the answers with caps; a library for all of D-Bus would be a thousand times as much. It runs as the user
//! and never as root: a session bus belongs to its user, who may answer whatever they like.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// The largest message that is read: a reply to our calls has a few bytes.
const MESSAGE_BYTES: usize = 64 << 10;

/// How long the bus may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;

/// A connection to the session bus.
pub struct SessionBus {
    stream: UnixStream,
    serial: u32,
}

/// A message as it was read.
pub struct Message {
    /// 1: a call, 2: a return, 3: an error, 4: a signal.
    pub kind: u8,
    /// Which message it answers.
    pub reply_to: Option<u32>,
    /// Its arguments, as bytes.
    pub body: Vec<u8>,
}

/// Bytes of one message or its parts, aligned as D-Bus asks for.
#[derive(Default)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    fn align(&mut self, to: usize) {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
    }

    /// A `u32`.
    pub fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(0));
        self.0.extend_from_slice(signature.as_bytes());
        self.0.push(0);
    }

    /// An array of elements that are aligned to `to`.
    fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let head = self.0.len() - 4;
        self.align(to);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(0);
        self.0[head..head + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// One field of a header.
    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        if signature == "g" { self.signature(value) } else { self.text(value) }
    }
}

impl SessionBus {
    /// Connects to the bus of this user's session.
    ///
    /// # Errors
    /// If there is none.
    pub fn connect(address: &str) -> io::Result<Self> {
        let mut stream = open(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let user: String =
            nix::unistd::geteuid().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the session bus says {answer:?}")));
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut bus = Self { stream, serial: 0 };
        let daemon = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        bus.call(daemon, "Hello", "", &Bytes::default())?;
        Ok(bus)
    }

    /// Calls a method of (destination, path, interface), and waits for its return.
    ///
    /// # Errors
    /// If the bus or the other side refuses.
    pub fn call(
        &mut self,
        (destination, path, interface): (&str, &str, &str),
        member: &str,
        signature: &str,
        body: &Bytes,
    ) -> io::Result<Vec<u8>> {
        self.serial += 1;
        let serial = self.serial;
        let mut message = Bytes(vec![b'l', METHOD_CALL, 0, 1]);
        message.number(u32::try_from(body.0.len()).unwrap_or(0));
        message.number(serial);
        message.array(8, |fields| {
            fields.field(1, "o", path);
            fields.field(2, "s", interface);
            fields.field(3, "s", member);
            fields.field(6, "s", destination);
            if !signature.is_empty() {
                fields.field(8, "g", signature);
            }
        });
        message.align(8);
        message.0.extend_from_slice(&body.0);
        self.stream.write_all(&message.0)?;
        loop {
            let message = self.read()?;
            if message.reply_to == Some(serial) {
                return if message.kind == METHOD_RETURN {
                    Ok(message.body)
                } else {
                    Err(io::Error::other(format!("{member} was refused on the session bus")))
                };
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// If the bus hangs up, is silent, or sends what is none.
    pub fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[at..at + 4]);
            // The bus passes messages on in their sender's byte order.
            if head[0] == b'B' { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (body, fields) = (number(4) as usize, number(12) as usize);
        let padded = fields.next_multiple_of(8);
        if body > MESSAGE_BYTES || padded > MESSAGE_BYTES {
            return Err(io::Error::other("a message on the session bus that is too long"));
        }
        let mut rest = vec![0; padded + body];
        self.stream.read_exact(&mut rest)?;
        let reply_to = reply_serial(&rest[..fields], head[0] == b'B');
        Ok(Message { kind: head[1], reply_to, body: rest.split_off(padded) })
    }

    /// Shows a notification in place of the last one (0: none yet); its number.
    ///
    /// # Errors
    /// If nobody shows notifications on this desktop.
    pub fn notify(&mut self, replaces: u32, summary: &str, text: &str) -> io::Result<u32> {
        let mut body = Bytes::default();
        body.text("Cordon");
        body.number(replaces);
        body.text("network-error");
        body.text(summary);
        body.text(&escaped(text));
        body.array(4, |_| {});
        body.array(8, |hints| {
            hints.align(8);
            hints.text("urgency");
            hints.signature("y");
            // Critical: it stays until it is closed.
            hints.0.push(2);
        });
        // Never expires by itself.
        body.number(0);
        let server = (
            "org.freedesktop.Notifications",
            "/org/freedesktop/Notifications",
            "org.freedesktop.Notifications",
        );
        let answer = self.call(server, "Notify", "susssasa{sv}i", &body)?;
        let number = answer.first_chunk::<4>().copied().unwrap_or_default();
        Ok(u32::from_le_bytes(number))
    }
}

/// `REPLY_SERIAL` (5) among the header's fields.
fn reply_serial(fields: &[u8], is_big: bool) -> Option<u32> {
    let number = |at: usize| {
        let bytes: [u8; 4] = fields.get(at..at + 4)?.try_into().ok()?;
        Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let mut at = 0_usize;
    while at < fields.len() {
        at = at.next_multiple_of(8);
        let code = *fields.get(at)?;
        let signature_length = usize::from(*fields.get(at + 1)?);
        let kind = *fields.get(at + 2)?;
        at += 3 + signature_length;
        at = match kind {
            b'u' | b'h' => {
                at = at.next_multiple_of(4);
                if code == 5 {
                    return number(at);
                }
                at + 4
            }
            b's' | b'o' => {
                at = at.next_multiple_of(4);
                at + 4 + number(at)? as usize + 1
            }
            b'g' => at + 1 + usize::from(*fields.get(at)?) + 1,
            _ => return None,
        };
    }
    None
}

/// `unix:path=…` or `unix:abstract=…`; of several addresses the first that opens.
fn open(addresses: &str) -> io::Result<UnixStream> {
    let mut failed = io::Error::other("no address of a session bus that is understood");
    for address in addresses.split(';') {
        let Some(pairs) = address.strip_prefix("unix:") else { continue };
        for pair in pairs.split(',') {
            let opened = match pair.split_once('=') {
                Some(("path", path)) => UnixStream::connect(path),
                Some(("abstract", name)) => SocketAddr::from_abstract_name(name)
                    .and_then(|address| UnixStream::connect_addr(&address)),
                _ => continue,
            };
            match opened {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
    }
    Err(failed)
}

/// One line of the handshake.
fn line(from: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if line.len() > 512 {
            return Err(io::Error::other("a line of the handshake that is too long"));
        }
        from.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The body of a notification may have markup; ours has none.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Where this user's session bus is, as the session says.
pub fn address() -> Option<String> {
    let said = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|said| !said.is_empty());
    said.or_else(|| {
        let folder = std::env::var("XDG_RUNTIME_DIR").ok()?;
        Some(format!("unix:path={folder}/bus"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};

    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A real bus; `None` where there is no such program.
    fn daemon() -> Option<(Daemon, String)> {
        if cordon_tests::lacks_programs(&["dbus-daemon"]) {
            return None;
        }
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some((Daemon(child), address.trim().to_owned()))
    }

    #[test]
    fn a_notification_reaches_whoever_shows_them_over_a_real_bus() {
        let Some((_daemon, address)) = daemon() else { return };
        let mut desktop = SessionBus::connect(&address).unwrap();
        let mut body = Bytes::default();
        body.text("org.freedesktop.Notifications");
        body.number(0);
        let bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
        desktop.call(bus, "RequestName", "su", &body).unwrap();
        let asker = std::thread::spawn(move || {
            let mut asker = SessionBus::connect(&address).unwrap();
            asker.notify(7, "Cut off", "a < b & c")
        });
        let called = loop {
            let message = desktop.read().unwrap();
            if message.kind == METHOD_CALL {
                break message;
            }
        };
        // The bus takes apart what it passes on: had a byte been wrong, it would have hung up.
        let says = |text: &str| called.body.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(says("Cut off") && says("a &lt; b &amp; c") && says("urgency"));
        drop(desktop);
        assert!(asker.join().unwrap().is_err(), "nobody shows it any more");
    }

    #[test]
    fn bytes_that_are_no_fields_have_no_reply() {
        for bytes in
            [&[][..], &[5], &[5, 1, b'u', 0], &[1, 1, b'o', 0, 255, 255, 255, 255], &[9; 64]]
        {
            assert_eq!(reply_serial(bytes, false), None);
        }
        assert_eq!(reply_serial(&[5, 1, b'u', 0, 9, 0, 0, 0], false), Some(9));
    }

    #[test]
    fn an_address_of_another_kind_is_refused_and_not_guessed() {
        for address in ["", "tcp:host=10.0.0.1,port=1", "unix:", "unix:path=/nowhere"] {
            assert!(open(address).is_err(), "{address}");
        }
    }
}
