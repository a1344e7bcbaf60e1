//! The saved rules of an administrator, loaded, loaded again and flushed by the real `iptables-restore`, as
//! netfilter-persistent's plugins do it, over both of its interfaces to the kernel; and the unit
//! `nftables.service`, whose file begins with `flush ruleset`.
//!
//! netfilter-persistent itself can't be installed beside ufw. All that it does at start and reload is
//! `iptables-restore < rules.v4` and `ip6tables-restore < rules.v6`, and at flush the eight commands below.

use std::io::Write as _;
use std::process::Stdio;

use cordon_model::measure::Isolation;
use cordon_tests::lacks_programs;

use crate::contain_world::{Namespace, World};
use crate::programs::{rules_of_others, script};
use crate::siege::Siege;

/// All that is tried is allowed, before anything that might say otherwise.
const SAVED: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p udp -m udp --dport 137 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 445 -j ACCEPT
-A OUTPUT -p udp -m udp --dport 137 -j ACCEPT
COMMIT
";

/// `/etc/nftables.conf` as such files begin.
const CONFIGURATION: &str = "#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; policy accept; udp dport 137 accept; }
    chain forward { type filter hook forward priority filter; }
    chain output { type filter hook output priority filter; }
}
";

fn restore(machine: &Namespace, interface: &str) {
    for program in ["iptables", "ip6tables"] {
        let mut child = machine
            .command(&format!("{program}-{interface}-restore"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(SAVED.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// As netfilter-persistent's plugins flush.
fn flush(machine: &Namespace, interface: &str) {
    for program in ["iptables", "ip6tables"] {
        let text = format!(
            "i={program}-{interface}
             $i -F; $i -X; $i -t nat -F; $i -t nat -X; $i -t mangle -F; $i -t mangle -X
             for chain in INPUT FORWARD OUTPUT; do $i -P $chain ACCEPT; done"
        );
        script(machine, &text);
    }
}

/// Answers Defender for Endpoint: "any administrator's iptables change lifts it".
#[test]
fn no_administrators_iptables_change_lifts_it() {
    for (interface, isolation) in [
        ("nft", Isolation::Full),
        ("nft", Isolation::Segment),
        ("legacy", Isolation::Full),
        ("legacy", Isolation::Segment),
    ] {
        if lacks_programs(&[&format!("iptables-{interface}-restore")]) {
            return;
        }
        let Some(mut siege) = Siege::lay(isolation) else { return };
        let name = format!("iptables-{interface}");
        siege.withstands(&format!("{name}-restore"), |machine| restore(machine, interface));
        siege.withstands(&format!("{name}-restore again"), |machine| restore(machine, interface));
        siege.withstands(&format!("{name} -F"), |machine| flush(machine, interface));
        siege.withstands(&format!("{name}-restore at last"), |machine| restore(machine, interface));
        siege.lift();
        let alone = World::new().unwrap();
        restore(&alone.machine, interface);
        flush(&alone.machine, interface);
        restore(&alone.machine, interface);
        let rules = rules_of_others(&siege.bench.world.machine);
        assert!(rules.contains("137"), "{rules}");
        assert_eq!(rules, rules_of_others(&alone.machine), "{name}");
    }
}

/// The reload and the stop of `nftables.service` do remove every table in the kernel. Ours is put back at
/// once: what came through before that is counted and printed, and after it nothing does.
#[test]
fn nft_flush_ruleset_of_nftables_service_is_put_right() {
    if lacks_programs(&["nft"]) {
        return;
    }
    for isolation in [Isolation::Full, Isolation::Segment] {
        let Some(mut siege) = Siege::lay(isolation) else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), CONFIGURATION).unwrap();
        let path = file.path().to_str().unwrap();
        siege.recovers("nftables.service's start", |machine| {
            drop(machine.run("nft", &["-f", path]))
        });
        siege.recovers("its reload", |machine| drop(machine.run("nft", &["-f", path])));
        siege.recovers("its stop", |machine| drop(machine.run("nft", &["flush", "ruleset"])));
        siege.recovers("its start again", |machine| drop(machine.run("nft", &["-f", path])));
        siege.lift();
        let alone = World::new().unwrap();
        alone.machine.run("nft", &["-f", path]);
        assert_eq!(
            rules_of_others(&siege.bench.world.machine),
            rules_of_others(&alone.machine),
            "{isolation}"
        );
    }
}
