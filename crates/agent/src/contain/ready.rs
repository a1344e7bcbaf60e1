//! Telling whoever started the helper that everything is in force (`sd_notify(3)`).
//!
//! The one idea: at boot the network waits for the helper (`packaging/systemd/cordon-helper.service`), so a
//! service manager must not take "started" for "in force". It is told after what was on disk is in the
//! kernel again, and not before.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells the service manager, if one asked to be told.
///
/// # Errors
/// If it can't be told: then it takes this process for one that does not come up.
pub fn tell() -> io::Result<()> {
    std::env::var_os(SOCKET).map_or(Ok(()), |socket| tell_at(&socket))
}

fn tell_at(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("cordon-ready-{}", std::process::id());
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell_at(path.as_os_str()).unwrap();
        tell_at(OsStr::new(&format!("@{name}"))).unwrap();
        for listener in [by_path, by_name] {
            let mut word = [0; 16];
            let length = listener.recv(&mut word).unwrap();
            assert_eq!(&word[..length], b"READY=1");
        }
        assert!(tell_at(OsStr::new("/nowhere/at/all")).is_err());
    }
}
