//! Sockets, addresses, routes and neighbours, as the kernel's own tables in `/proc`, once for every network
//! namespace that a process lives in; and the packet filter's rules.
//!
//! The rules come as the kernel's netlink messages, byte for byte, which no program of the suspect machine
//! could touch, and, for people, as the machine's own `nft` prints them, with that program's hash.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::gather::{About, Gatherer, Sink};
use super::super::limits::{NAMESPACES, TABLE_BYTES};
use crate::contain::table::Tables;
use crate::sensor::proc_files;

const TABLES: [&str; 17] = [
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "udplite",
    "udplite6",
    "raw",
    "raw6",
    "icmp",
    "icmp6",
    "unix",
    "packet",
    "arp",
    "route",
    "ipv6_route",
    "dev",
    "if_inet6",
];
const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

/// All namespaces' tables.
pub(in super::super) fn all(gatherer: &mut Gatherer) {
    // One process of each namespace, the lowest number: the longest-lived.
    let mut namespaces: BTreeMap<u64, u32> = BTreeMap::new();
    let mut pids = proc_files::pids();
    pids.sort_unstable();
    for pid in pids {
        if let Some(namespace) = proc_files::network_namespace(pid) {
            namespaces.entry(namespace).or_insert(pid);
        }
    }
    let own = proc_files::own_network_namespace();
    let mut order: Vec<(u64, u32)> = namespaces.into_iter().collect();
    order.sort_by_key(|(namespace, pid)| (Some(*namespace) != own, *pid));
    if order.len() > NAMESPACES {
        let why = format!("{} network namespaces, and {NAMESPACES} are looked at", order.len());
        gatherer.lacks("network", b"/proc", &why);
        order.truncate(NAMESPACES);
    }
    for (namespace, pid) in order {
        let how = format!("read; network namespace {namespace}");
        for table in TABLES {
            let source = format!("/proc/{pid}/net/{table}");
            let about =
                About { kind: "network", source: source.as_bytes(), how: &how, most: TABLE_BYTES };
            let path = source.clone();
            gatherer.piece(
                about,
                Box::new(move |sink: &mut Sink| {
                    let mut file = File::open(&path).map_err(|error| error.to_string())?;
                    sink.copy(&mut file, TABLE_BYTES + 1)
                }),
            );
        }
    }
}

#[derive(Serialize)]
struct NetlinkRow {
    /// `NFT_MSG_*`.
    kind: u16,
    /// The message without its header, in hexadecimal.
    body: String,
}

/// The packet filter's rules in this network namespace.
pub(in super::super) fn rules(gatherer: &mut Gatherer) {
    let about = About {
        kind: "rules",
        source: b"nf_tables",
        how: "the kernel's netlink messages, a row of JSON for each",
        most: TABLE_BYTES,
    };
    gatherer.piece(
        about,
        Box::new(|sink: &mut Sink| {
            let mut tables = Tables::open().map_err(|error| error.to_string())?;
            for (kind, body) in tables.everything().map_err(|error| error.to_string())? {
                let body = body.iter().map(|byte| format!("{byte:02x}")).collect();
                sink.row(&NetlinkRow { kind, body })?;
            }
            Ok(())
        }),
    );
    let Some(program) = NFT.into_iter().find(|path| std::path::Path::new(path).exists()) else {
        return gatherer.lacks("rules", b"nft list ruleset", "this machine has no nft program");
    };
    let hash = File::open(program).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(64 << 20).read_to_end(&mut bytes)?;
        Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    });
    let how = format!("printed by {program}, SHA-256 {}", hash.unwrap_or_default());
    let about = About { kind: "rules", source: b"nft list ruleset", how: &how, most: TABLE_BYTES };
    gatherer.piece(
        about,
        Box::new(move |sink: &mut Sink| {
            let mut child = Command::new(program)
                .args(["-a", "list", "ruleset"])
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| error.to_string())?;
            let copied = match child.stdout.take() {
                Some(mut output) => sink.copy(&mut output, TABLE_BYTES + 1),
                None => Err("it has no output".into()),
            };
            let _ = child.kill();
            let _ = child.wait();
            copied
        }),
    );
}
