//! Needs that people know by a word, as data: which services each is made of, and where that stands.
//!
//! The one idea: a proposal, never a permission. Whoever declares `logon:dc.trust.example` signs for exactly
//! these services at the addresses that are shown; ports that intruders move by still need a name.

use crate::asset::{PortRange, Transport};

/// One service of a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownService {
    /// Its transport.
    pub transport: Transport,
    /// Its ports.
    pub ports: PortRange,
    /// What it is, and where its port is said.
    pub source: &'static str,
}

/// A need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WellKnown {
    /// The word before the colon.
    pub word: &'static str,
    /// What people call it.
    pub called: &'static str,
    /// What it is made of.
    pub services: &'static [KnownService],
}

const fn tcp(port: u16, source: &'static str) -> KnownService {
    let ports = PortRange { first: port, last: port };
    KnownService { transport: Transport::Tcp, ports, source }
}

const fn udp(port: u16, source: &'static str) -> KnownService {
    let ports = PortRange { first: port, last: port };
    KnownService { transport: Transport::Udp, ports, source }
}

/// The needs. Resolving names is in none of them: under *full* it is a way out for data, and who needs it
/// declares the resolver by itself.
pub const WELL_KNOWN: &[WellKnown] = &[
    WellKnown {
        word: "smb",
        called: "file shares",
        services: &[tcp(445, "SMB over TCP: [MS-SMB2] section 2.1")],
    },
    WellKnown {
        word: "print",
        called: "printing",
        services: &[
            tcp(515, "LPD: RFC 1179 section 3.1"),
            tcp(631, "IPP: RFC 8010 section 4"),
            tcp(9100, "raw printing: IANA, pdl-datastream"),
        ],
    },
    WellKnown {
        word: "print-server",
        called: "printing by a Windows server",
        services: &[
            tcp(135, "RPC endpoint mapper: [MS-RPRN] section 2.1"),
            tcp(445, "SMB over TCP: [MS-SMB2] section 2.1"),
            KnownService {
                transport: Transport::Tcp,
                ports: PortRange { first: 49152, last: 65535 },
                source: "dynamic RPC: Microsoft, Service overview and network port requirements",
            },
        ],
    },
    WellKnown {
        word: "logon",
        called: "logon",
        services: &[
            tcp(88, "Kerberos: RFC 4120 section 7.2"),
            udp(88, "Kerberos: RFC 4120 section 7.2"),
            udp(123, "NTP, without which tickets expire: RFC 5905 section 7.2"),
            tcp(389, "LDAP: RFC 4511 section 5.2.1"),
            udp(389, "finding a controller: [MS-ADTS] section 6.3.3"),
            tcp(445, "SYSVOL, logon scripts: [MS-SMB2] section 2.1"),
            tcp(464, "changing a password: RFC 3244 section 2"),
            udp(464, "changing a password: RFC 3244 section 2"),
            tcp(636, "LDAP over TLS: IANA, ldaps"),
            KnownService {
                transport: Transport::Tcp,
                ports: PortRange { first: 3268, last: 3269 },
                source: "global catalogue: IANA, msft-gc and msft-gc-ssl",
            },
        ],
    },
    WellKnown {
        word: "citrix",
        called: "Citrix sessions",
        services: &[
            tcp(443, "StoreFront and gateway: Citrix, Communication Ports"),
            udp(443, "sessions through the gateway by UDP: Citrix, Communication Ports"),
            tcp(1494, "ICA: Citrix, Communication Ports"),
            udp(1494, "ICA by UDP: Citrix, Communication Ports"),
            tcp(2598, "session reliability: Citrix, Communication Ports"),
            udp(2598, "session reliability by UDP: Citrix, Communication Ports"),
        ],
    },
    WellKnown {
        word: "rds",
        called: "remote desktop sessions",
        services: &[
            tcp(443, "RD Gateway: [MS-TSGU] section 2.1"),
            tcp(3389, "RDP: [MS-RDPBCGR] section 2.1"),
            udp(3389, "RDP by UDP: [MS-RDPEUDP] section 2.1"),
            udp(
                3391,
                "RD Gateway by UDP: Microsoft, Service overview and network port requirements",
            ),
        ],
    },
];

/// The need that is known by `word`.
#[must_use]
pub fn well_known(word: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_is_one_need_and_every_service_says_where_it_stands() {
        let words: BTreeSet<&str> = WELL_KNOWN.iter().map(|known| known.word).collect();
        assert_eq!(words.len(), WELL_KNOWN.len());
        for known in WELL_KNOWN {
            assert!(!known.services.is_empty() && !known.word.contains(['.', ':', ' ']));
            let services: BTreeSet<_> = known
                .services
                .iter()
                .map(|service| (format!("{:?}", service.transport), service.ports.first))
                .collect();
            assert_eq!(services.len(), known.services.len(), "{}: one of them twice", known.word);
            assert!(known.services.iter().all(|service| service.source.contains(':')));
        }
    }

    #[test]
    fn no_need_opens_the_resolution_of_names() {
        let mut services = WELL_KNOWN.iter().flat_map(|known| known.services);
        assert!(services.all(|service| !service.ports.overlaps(PortRange::one(53))));
    }
}
