//! Addresses that the kernel takes away unless they are renewed: real servers and clients of DHCP and
//! DHCPv6, and router advertisements, through a full isolation several lifetimes long.
//!
//! Each address is given to the kernel with its lifetime, as the clients' own scripts do; that it does
//! vanish when its renewal is dropped is shown first.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cordon_model::asset::ClinicalTier;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_tests::lacks_programs;

use crate::contain_world::bench::Bench;
use crate::contain_world::wiretap::Wiretap;
use crate::contain_world::{Namespace, PEER, World, address, until};
use crate::programs::Daemon;

/// How long an address lasts, in seconds: renewed after half of it, so that a client has as long as that to be
/// late on a busy machine.
const LIFETIME: u64 = 12;
/// busybox's client takes no lease for shorter than this.
const BUSYBOX_LIFETIME: u64 = 16;

/// For busybox's client and ISC's, over both families: the address goes to the kernel with its lifetime.
const SCRIPT: &str = r#"#!/bin/sh
# udhcpc says what happened by its first word, dhclient by $reason.
case "$1$reason" in
bound | renew) ip addr replace "$ip/24" dev "$interface" valid_lft "$lease" preferred_lft "$lease" ;;
BOUND | RENEW | REBIND) ip addr replace "$new_ip_address/24" dev "$interface" \
    valid_lft "$new_dhcp_lease_time" preferred_lft "$new_dhcp_lease_time" ;;
BOUND6 | RENEW6 | REBIND6) ip addr replace "$new_ip6_address/128" dev "$interface" nodad \
    valid_lft "$new_max_life" preferred_lft "$new_preferred_life" ;;
esac
exit 0
"#;

/// Where the programs keep their files, and the programs themselves: a system's profiles (AppArmor) would
/// let those under their usual names use their usual files only.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let files = Self(tempfile::tempdir().unwrap());
        files.write("script", SCRIPT);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(files.path("script"), mode).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.at(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn start(&self, namespace: &Namespace, program: &str, words: &[&str], log: &str) -> Daemon {
        let copy = self.path(program);
        if !copy.exists() {
            let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
            let found =
                found.map(|at| Path::new(at).join(program)).into_iter().find(|at| at.exists());
            cordon_tests::copy_program(found.unwrap(), &copy);
        }
        let mut command = namespace.command(copy.to_str().unwrap());
        Daemon::start(command.args(words), &self.path(log))
    }

    /// ISC's server on the peer's end of the cable.
    fn serve(&self, world: &World, family: &str, lifetime: u64) -> Daemon {
        let common = format!("default-lease-time {lifetime}; max-lease-time {lifetime};");
        let text = if family == "-4" {
            format!(
                "authoritative; min-lease-time 1; {common}
                 subnet 10.77.0.0 netmask 255.255.255.0 {{ range 10.77.0.100 10.77.0.109; }}"
            )
        } else {
            let (renew, preferred) = (lifetime / 2, lifetime - 1);
            format!(
                "authoritative; {common} preferred-lifetime {preferred};
                 option dhcp-renewal-time {renew}; option dhcp-rebinding-time {preferred};
                 subnet6 fd77::/64 {{ range6 fd77::100 fd77::109; }}"
            )
        };
        let configuration = self.write(&format!("server{family}.conf"), &text);
        let leases = self.write(&format!("server{family}.leases"), "");
        let pid = self.at(&format!("server{family}.pid"));
        let link = world.far_link();
        let words = [family, "-f", "-d", "-cf", &configuration, "-lf", &leases, "-pf", &pid, &link];
        self.start(&world.peer, "dhcpd", &words, &format!("server{family}.log"))
    }

    fn dhclient(&self, world: &World, family: &str) -> Daemon {
        let configuration = self.write("client.conf", "");
        let leases = self.at(&format!("client{family}.leases"));
        let pid = self.at(&format!("client{family}.pid"));
        let words = [
            family,
            "-d",
            "-cf",
            &configuration,
            "-lf",
            &leases,
            "-pf",
            &pid,
            "-sf",
            &self.at("script"),
            &world.link(),
        ];
        self.start(&world.machine, "dhclient", &words, &format!("client{family}.log"))
    }

    fn udhcpc(&self, world: &World) -> Daemon {
        let words =
            ["udhcpc", "-f", "-i", &world.link(), "-s", &self.at("script"), "-t", "20", "-T", "1"];
        self.start(&world.machine, "busybox", &words, "client.log")
    }
}

/// Seconds that the address which begins with `prefix` has left, if the machine has it.
fn left(world: &World, prefix: &str) -> Option<u64> {
    let addresses = world.machine.run("ip", &["-o", "addr", "show", "dev", &world.link()]);
    let line = addresses.lines().find(|line| line.contains(&format!(" {prefix}")))?;
    let words = line.split_whitespace().skip_while(|word| *word != "valid_lft").nth(1)?;
    words.trim_end_matches("sec").parse().ok()
}

/// Watches the addresses for more than two lifetimes: none is gone at any look, and each was renewed.
fn outlive(world: &World, prefixes: &[&str], lifetime: u64, while_what: &str) {
    let began = Instant::now();
    let mut renewals = vec![0; prefixes.len()];
    let mut before = vec![0; prefixes.len()];
    while began.elapsed() < Duration::from_secs(lifetime * 9 / 4) {
        for (at, prefix) in prefixes.iter().enumerate() {
            let now = left(world, prefix);
            let now = now.unwrap_or_else(|| panic!("{prefix} is gone, {while_what}"));
            renewals[at] += u32::from(now > before[at]);
            before[at] = now;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{prefixes:?} renewed {renewals:?} times, {while_what}");
    assert!(renewals.iter().all(|times| *times >= 3), "{renewals:?}");
}

/// Through a full isolation; and when the server is gone, so is the address, in time.
fn renews(client: &str, lifetime: u64) {
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let files = Files::new();
    let server = files.serve(&bench.world, "-4", lifetime);
    let _client = match client {
        "udhcpc" => files.udhcpc(&bench.world),
        _ => files.dhclient(&bench.world, "-4"),
    };
    until(|| left(&bench.world, "10.77.0.10").is_some());
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    let mut tap = Wiretap::on(&bench.world);
    outlive(&bench.world, &["10.77.0.10"], lifetime, client);
    // A client that has an address asks by an ordinary socket, which the rules judge; its packet socket,
    // by which it got the address, they would not stop.
    let seen = tap.settle();
    let asked = seen.iter().filter(|frame| {
        frame.at_port(67).is_some_and(|packet| packet.destination == address(PEER))
    });
    let asked = asked.count();
    eprintln!("{client} asked {asked} times by a socket of its own");
    assert!(asked >= 2, "{seen:?}");
    let given = files.log("server-4.log").matches("DHCPACK").count();
    assert!(given >= 3, "the server says so too: {}", files.log("server-4.log"));
    drop(server);
    until(|| left(&bench.world, "10.77.0.10").is_none());
}

/// Answers Velociraptor on Linux: "loopback and DHCP renewal dropped".
#[test]
fn dhcp_renewal_of_iscs_client_is_not_dropped() {
    if !lacks_programs(&["dhcpd", "dhclient"]) {
        renews("dhclient", LIFETIME);
    }
}

/// The same, by the client of small and embedded systems.
#[test]
fn dhcp_renewal_of_busyboxs_client_is_not_dropped() {
    if !lacks_programs(&["dhcpd", "busybox"]) {
        renews("udhcpc", BUSYBOX_LIFETIME);
    }
}

/// Answers Velociraptor (IPv6 unfinished) and Elastic (all IPv6 dropped): an address and a way that the
/// router advertises, and an address by DHCPv6, outlive their lifetimes under full isolation.
#[test]
fn router_advertisements_and_dhcpv6_are_not_dropped() {
    if lacks_programs(&["dhcpd", "dhclient", "radvd"]) {
        return;
    }
    let Some(mut bench) = Bench::new(ClinicalTier::None) else { return };
    let files = Files::new();
    let world = &bench.world;
    let [ours, theirs] = [world.link(), world.far_link()];
    for (namespace, switch) in [
        (&world.peer, "net.ipv6.conf.all.forwarding=1".to_owned()),
        (&world.machine, format!("net.ipv6.conf.{ours}.accept_ra=1")),
        (&world.machine, format!("net.ipv6.conf.{ours}.autoconf=1")),
    ] {
        namespace.run("sysctl", &["-qw", &switch]);
    }
    let text = format!(
        "interface {theirs} {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
         AdvDefaultLifetime {LIFETIME};
         prefix fd78::/64 {{ AdvValidLifetime {LIFETIME}; AdvPreferredLifetime {LIFETIME}; }}; }};"
    );
    let configuration = files.write("radvd.conf", &text);
    let pid = files.at("radvd.pid");
    let words = ["-n", "-C", &configuration, "-p", &pid, "-m", "stderr"];
    let _router = files.start(&world.peer, "radvd", &words, "radvd.log");
    let _server = files.serve(world, "-6", LIFETIME);
    // ISC's client wants a link-local address that is settled.
    until(|| {
        let addresses = world.machine.run("ip", &["-6", "-o", "addr", "show", "dev", &ours]);
        addresses.contains("fe80") && !addresses.contains("tentative")
    });
    let _client = files.dhclient(world, "-6");
    let addresses = ["fd77::10", "fd78:"];
    until(|| addresses.iter().all(|prefix| left(world, prefix).is_some()));
    assert_eq!(bench.isolate(Isolation::Full).state, MeasureState::Verified);
    outlive(&bench.world, &addresses, LIFETIME, "by advertisements and DHCPv6");
    let ways = bench.world.machine.run("ip", &["-6", "route", "show", "default"]);
    assert!(ways.contains("proto ra"), "the way too: {ways}");
}
