//! Whom a block is of: addresses, or a name with the addresses that it had.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{ActionError, shortened};
use crate::asset::{Direction, PortRange, Transport};
use crate::limits;

/// A peer that can't be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blocked {
    /// Whom.
    pub peer: BlockedPeer,
    /// Over this transport only; `None`: any.
    pub transport: Option<Transport>,
    /// The service's ports only; `None`: all. Needs a transport.
    pub ports: Option<PortRange>,
    /// Who opens it; `None`: either.
    pub direction: Option<Direction>,
}

/// Who can't be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BlockedPeer {
    /// An address or a network.
    Network(IpNet),
    /// A name, and what the hub resolved it to: nothing is resolved on a suspect machine.
    Domain {
        /// The name, without a dot at its end.
        name: String,
        /// Its addresses, as the hub knows them.
        addresses: Vec<IpAddr>,
    },
}

impl Blocked {
    pub(super) fn check(&self) -> Result<(), ActionError> {
        if let Some(PortRange { first, last }) = self.ports
            && (first == 0 || first > last || self.transport.is_none())
        {
            return Err(ActionError::Ports { first, last });
        }
        match &self.peer {
            BlockedPeer::Network(network) if network.prefix_len() == 0 => {
                Err(ActionError::TooWide { network: *network })
            }
            BlockedPeer::Network(_) => Ok(()),
            BlockedPeer::Domain { name, addresses } => {
                let is_domain = name.len() <= 253
                    && name.contains('.')
                    && name.split('.').all(is_label)
                    && (1..=limits::ADDRESSES_PER_DOMAIN).contains(&addresses.len());
                if is_domain { Ok(()) } else { Err(ActionError::Domain { name: shortened(name) }) }
            }
        }
    }
}

/// RFC 1035 section 2.3.1, with the underscore that real names have.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            BlockedPeer::Network(network) => write!(f, "{network}")?,
            BlockedPeer::Domain { name, addresses } => {
                write!(f, "{name} ({} addresses)", addresses.len())?;
            }
        }
        match self.transport {
            Some(Transport::Tcp) => f.write_str(" tcp")?,
            Some(Transport::Udp) => f.write_str(" udp")?,
            None => {}
        }
        match self.ports {
            Some(PortRange { first, last }) if first == last => write!(f, " port {first}")?,
            Some(PortRange { first, last }) => write!(f, " ports {first}-{last}")?,
            None => {}
        }
        match self.direction {
            Some(Direction::Inbound) => f.write_str(", opened by it"),
            Some(Direction::Outbound) => f.write_str(", opened from here"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_stop_everything_is_no_block() {
        let block = |peer: &str, transport, ports| {
            let peer = BlockedPeer::Network(peer.parse().unwrap());
            Blocked { peer, transport, ports, direction: None }.check()
        };
        assert!(block("10.0.0.0/8", None, None).is_ok());
        assert!(block("0.0.0.0/0", None, None).is_err());
        assert!(block("10.0.0.1/32", None, Some(PortRange::one(445))).is_err(), "no transport");
        assert!(block("10.0.0.1/32", Some(Transport::Tcp), Some(PortRange::one(445))).is_ok());
    }

    #[test]
    fn a_domain_has_a_name_and_addresses() {
        let block = |name: &str, count: u8| {
            let addresses = (0..count).map(|last| IpAddr::from([10, 0, 0, last])).collect();
            let peer = BlockedPeer::Domain { name: name.into(), addresses };
            Blocked { peer, transport: None, ports: None, direction: None }.check()
        };
        assert!(block("c2.example", 1).is_ok());
        assert!(block("c2.example", 0).is_err());
        for bad in ["c2", "c2..example", "c2.example.", "c2.exa mple", "-".repeat(64).as_str()] {
            assert!(block(bad, 1).is_err(), "{bad}");
        }
    }
}
