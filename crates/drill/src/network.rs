//! A hospital network on one kernel: one bridge, one namespace a machine, IPv4 and IPv6.
//!
//! The one idea: everything lives in namespaces with names of our own, so nothing that a drill does
//! can touch the network of the machine that it runs on, and dropping [`Network`] removes all of it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A namespace with one leg on the hospital's bridge.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its short name: `m07`, `hub`, `pacs`.
    pub name: String,
    /// Its namespace's name.
    pub namespace: String,
    /// Its address on the hospital's network (a /16).
    pub address: IpAddr,
}

impl Host {
    /// A command that will run inside this host's network (and on the real file system).
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command
    }
}

/// The hospital's network. Removed when dropped.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: Vec<Host>,
}

impl Network {
    /// Builds a bridge and a namespace for each of `names`, with addresses 10.91.0.2 upward; the
    /// namespaces' names begin with `prefix`.
    ///
    /// # Errors
    /// If not root, if `ip` is missing, or if the kernel refuses.
    pub fn build(prefix: &str, names: &[String]) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a drill builds network namespaces, which needs root: run it with sudo");
        }
        let prefix = prefix.to_owned();
        let bridge = format!("{prefix}-net");
        let mut namespaces = format!("netns add {bridge}\n");
        let mut cables =
            "link add br0 type bridge stp_state 0 forward_delay 0\nlink set br0 up\n".to_owned();
        let mut hosts = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let number = u16::try_from(index + 2).context("too many machines for one network")?;
            let [high, low] = number.to_be_bytes();
            let namespace = format!("{prefix}-{name}");
            namespaces.push_str(&format!("netns add {namespace}\n"));
            cables.push_str(&format!(
                "link add p{index} type veth peer name eth0 netns {namespace}\n\
                 link set p{index} master br0 up\n"
            ));
            let address = Ipv4Addr::new(10, 91, high, low).into();
            hosts.push(Host { name: name.clone(), namespace, address });
        }
        // Made before the first namespace, so that a failure half-way is cleaned up too.
        let network = Self { prefix, hosts };
        let building = "building the drill's network";
        network.ip(None, &namespaces).context(building)?;
        network.ip(Some(&bridge), &cables).context(building)?;
        for (index, host) in network.hosts.iter().enumerate() {
            let lines = format!(
                "link set lo up\naddr add {}/16 dev eth0\n\
                 addr add fd91::{:x}/64 dev eth0 nodad\nlink set eth0 up\n",
                host.address,
                index + 2
            );
            network.ip(Some(&host.namespace), &lines).context(building)?;
        }
        Ok(network)
    }

    /// All hosts, in the order in which they were named.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("no host {name:?} in the drill's network"))
    }

    /// Plugs the cable of `name` in, or pulls it.
    ///
    /// # Errors
    /// If there is no such host, or the kernel refuses.
    pub fn set_cable(&self, name: &str, is_in: bool) -> Result<()> {
        let index = self.hosts.iter().position(|host| host.name == name);
        let index = index.with_context(|| format!("no host {name:?} in the drill's network"))?;
        let state = if is_in { "up" } else { "down" };
        self.ip(Some(&format!("{}-net", self.prefix)), &format!("link set p{index} {state}\n"))
    }

    /// Runs lines of `ip` commands, in a namespace or in none.
    fn ip(&self, namespace: Option<&str>, lines: &str) -> Result<()> {
        let output = ip_batch(namespace, lines, false).context("running ip (install iproute2)")?;
        if !output.status.success() {
            bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove_all(&self.prefix);
    }
}

/// Names of the namespaces that begin with `prefix`.
pub fn namespaces(prefix: &str) -> impl Iterator<Item = String> {
    let prefix = format!("{prefix}-");
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(move |name| name.starts_with(&prefix))
}

/// Removes them.
pub fn remove_all(prefix: &str) {
    let lines: String = namespaces(prefix).map(|name| format!("netns del {name}\n")).collect();
    // Forced on past errors: what is half built must go too.
    let _ = ip_batch(None, &lines, true);
}

fn ip_batch(
    namespace: Option<&str>,
    lines: &str,
    is_forced: bool,
) -> std::io::Result<std::process::Output> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    if is_forced {
        command.arg("-force");
    }
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut to) = child.stdin.take() {
        to.write_all(lines.as_bytes())?;
    }
    child.wait_with_output()
}
