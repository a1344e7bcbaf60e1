//! What a port is commonly used for: to name a flow that nobody declared, and for nothing else.

use crate::asset::Transport;

/// A service, in words that a ward uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Its transport.
    pub transport: Transport,
    /// Its port.
    pub port: u16,
    /// What it is for: `DICOM images`.
    pub name: &'static str,
    /// One connection of it: `DICOM association`.
    pub one: &'static str,
    /// Several.
    pub many: &'static str,
}

const fn tcp(port: u16, name: &'static str, one: &'static str, many: &'static str) -> Service {
    Service { transport: Transport::Tcp, port, name, one, many }
}

const fn udp(port: u16, name: &'static str, one: &'static str, many: &'static str) -> Service {
    Service { transport: Transport::Udp, port, name, one, many }
}

/// By port.
#[rustfmt::skip]
pub const COMMON: &[Service] = &[
    tcp(22, "SSH", "SSH session", "SSH sessions"),
    tcp(25, "mail", "mail connection", "mail connections"),
    tcp(53, "looking up names", "name lookup", "name lookups"),
    udp(53, "looking up names", "name lookup", "name lookups"),
    tcp(80, "web pages", "web connection", "web connections"),
    tcp(88, "signing in to the domain", "sign-in to the domain", "sign-ins to the domain"),
    tcp(104, "DICOM images", "DICOM association", "DICOM associations"),
    udp(123, "setting the clock", "request for the time", "requests for the time"),
    tcp(135, "Windows remote procedures", "Windows remote procedure", "Windows remote procedures"),
    tcp(139, "file shares", "connection to a file share", "connections to file shares"),
    tcp(389, "the directory", "connection to the directory", "connections to the directory"),
    tcp(443, "web pages", "web connection", "web connections"),
    udp(443, "web pages", "web connection", "web connections"),
    tcp(445, "file shares", "connection to a file share", "connections to file shares"),
    tcp(515, "printing", "connection to a printer", "connections to printers"),
    tcp(631, "printing", "connection to a printer", "connections to printers"),
    tcp(636, "the directory", "connection to the directory", "connections to the directory"),
    tcp(1433, "a database (SQL Server)", "database session", "database sessions"),
    tcp(1494, "Citrix sessions", "Citrix session", "Citrix sessions"),
    tcp(1521, "a database (Oracle)", "database session", "database sessions"),
    tcp(2049, "file shares (NFS)", "connection to a file share", "connections to file shares"),
    tcp(2575, "HL7 messages", "HL7 connection", "HL7 connections"),
    tcp(2598, "Citrix sessions", "Citrix session", "Citrix sessions"),
    tcp(2762, "DICOM images", "DICOM association", "DICOM associations"),
    tcp(3306, "a database (MySQL)", "database session", "database sessions"),
    tcp(3389, "remote desktops", "remote desktop", "remote desktops"),
    udp(3389, "remote desktops", "remote desktop", "remote desktops"),
    tcp(5432, "a database (PostgreSQL)", "database session", "database sessions"),
    tcp(5900, "screen sharing", "shared screen", "shared screens"),
    tcp(5985, "Windows remote management", "remote management session", "remote management sessions"),
    tcp(5986, "Windows remote management", "remote management session", "remote management sessions"),
    tcp(9100, "printing", "connection to a printer", "connections to printers"),
    tcp(11112, "DICOM images", "DICOM association", "DICOM associations"),
];

/// The service that commonly waits at a port.
#[must_use]
pub fn common(transport: Transport, port: u16) -> Option<&'static Service> {
    COMMON.iter().find(|known| known.transport == transport && known.port == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_once_and_in_order() {
        assert!(COMMON.is_sorted_by_key(|known| (known.port, known.transport)));
        let mut ports: Vec<_> = COMMON.iter().map(|known| (known.port, known.transport)).collect();
        ports.dedup();
        assert_eq!(ports.len(), COMMON.len());
    }
}
