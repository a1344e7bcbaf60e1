//! A container: a namespace behind the machine, to which the machine is the router.

use std::net::SocketAddr;
use std::process::Command;

use super::{Namespace, World, run};

/// The container's addresses, and the machine's on its side.
pub const CONTAINER: &str = "172.31.7.2";
pub const CONTAINER6: &str = "fd31::2";
const ROUTER: &str = "172.31.7.1";
const ROUTER6: &str = "fd31::1";

pub struct Container {
    pub namespace: Namespace,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace.name]).status();
    }
}

impl Container {
    /// Behind `world`'s machine; the peer knows the way there.
    pub fn behind(world: &World) -> Self {
        let namespace = Namespace { name: format!("{}c", world.machine.name) };
        let machine = &world.machine;
        run("ip", &["netns", "add", &namespace.name]);
        let (ours, theirs) = (format!("{}a", namespace.name), format!("{}b", namespace.name));
        run(
            "ip",
            &[
                "link",
                "add",
                &ours,
                "netns",
                &machine.name,
                "type",
                "veth",
                "peer",
                "name",
                &theirs,
                "netns",
                &namespace.name,
            ],
        );
        for (on, link, address, address6) in
            [(machine, &ours, ROUTER, ROUTER6), (&namespace, &theirs, CONTAINER, CONTAINER6)]
        {
            on.run("ip", &["addr", "add", &format!("{address}/24"), "dev", link]);
            on.run("ip", &["addr", "add", &format!("{address6}/64"), "dev", link, "nodad"]);
            on.run("ip", &["link", "set", link, "up"]);
        }
        namespace.run("ip", &["link", "set", "lo", "up"]);
        namespace.run("ip", &["route", "add", "default", "via", ROUTER]);
        namespace.run("ip", &["-6", "route", "add", "default", "via", ROUTER6]);
        for switch in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            machine.run("sysctl", &["-qw", switch]);
        }
        world.peer.run("ip", &["route", "add", "172.31.7.0/24", "via", super::MACHINE]);
        world.peer.run("ip", &["-6", "route", "add", "fd31::/64", "via", super::MACHINE6]);
        // The new links settle their own addresses first, and until then routes may say no.
        for peer in [super::PEER, super::PEER6] {
            super::until(|| super::flow::answers_ping(&namespace, super::address(peer), true));
        }
        Self { namespace }
    }

    /// Publishes the container's port `inside` as the machine's `outside`, and hides the container
    /// behind the machine's address, as container engines do.
    pub fn publish(world: &World, outside: u16, inside: u16) {
        world.machine.nft(&format!(
            "table ip published {{
               chain pre {{ type nat hook prerouting priority dstnat;
                 fib daddr type local tcp dport {outside} dnat to {CONTAINER}:{inside}
               }}
               chain post {{ type nat hook postrouting priority srcnat;
                 ip saddr 172.31.7.0/24 masquerade
               }}
             }}
             table ip6 published {{
               chain pre {{ type nat hook prerouting priority dstnat;
                 fib daddr type local tcp dport {outside} dnat to [{CONTAINER6}]:{inside}
               }}
               chain post {{ type nat hook postrouting priority srcnat;
                 ip6 saddr fd31::/64 masquerade
               }}
             }}"
        ));
    }

    /// Dials from inside: patiently where it should be answered.
    pub fn dial(
        &self,
        address: &str,
        port: u16,
        should: bool,
    ) -> std::io::Result<std::net::TcpStream> {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let patience = std::time::Duration::from_millis(if should { 10_000 } else { 300 });
        self.namespace.inside(move || std::net::TcpStream::connect_timeout(&address, patience))
    }
}
