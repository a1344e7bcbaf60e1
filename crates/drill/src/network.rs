//! A hospital network on one kernel: one bridge, one namespace a machine, IPv4 and IPv6.
//!
//! The one idea: everything lives in namespaces with names of our own, so nothing that a drill does
//! can touch the network of the machine that it runs on, and dropping [`Network`] removes all of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
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
    /// Builds a bridge and a namespace for each of `names`, with addresses 10.91.0.2 upward.
    ///
    /// # Errors
    /// If not root, if `ip` is missing, or if the kernel refuses.
    pub fn build(names: &[String]) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a drill builds network namespaces, which needs root: run it with sudo");
        }
        let prefix = format!("cordon-drill-{}", std::process::id());
        let mut hosts = Vec::new();
        let mut batch = String::new();
        let bridge = format!("{prefix}-net");
        batch.push_str(&format!("netns add {bridge}\n"));
        batch.push_str(&format!(
            "-n {bridge} link add br0 type bridge stp_state 0 forward_delay 0\n"
        ));
        batch.push_str(&format!("-n {bridge} link set br0 up\n"));
        for (index, name) in names.iter().enumerate() {
            let last = u16::try_from(index + 2).context("too many machines for one network")?;
            let [high, low] = last.to_be_bytes();
            let address = Ipv4Addr::new(10, 91, high, low);
            let namespace = format!("{prefix}-{name}");
            batch.push_str(&format!("netns add {namespace}\n"));
            batch.push_str(&format!(
                "-n {bridge} link add p{index} type veth peer name eth0 netns {namespace}\n"
            ));
            batch.push_str(&format!("-n {bridge} link set p{index} master br0 up\n"));
            batch.push_str(&format!("-n {namespace} link set lo up\n"));
            batch.push_str(&format!("-n {namespace} addr add {address}/16 dev eth0\n"));
            batch.push_str(&format!(
                "-n {namespace} -6 addr add fd91::{last:x}/64 dev eth0 nodad\n"
            ));
            batch.push_str(&format!("-n {namespace} link set eth0 up\n"));
            hosts.push(Host { name: name.clone(), namespace, address: address.into() });
        }
        // Made before the batch runs, so that a failure half-way is cleaned up too.
        let network = Self { prefix, hosts };
        network.ip_batch(&batch).context("building the drill's network")?;
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
        self.ip_batch(&format!("-n {}-net link set p{index} {state}\n", self.prefix))
    }

    fn ip_batch(&self, lines: &str) -> Result<()> {
        let file = std::env::temp_dir().join(format!("{}.batch", self.prefix));
        std::fs::write(&file, lines).with_context(|| format!("writing {}", file.display()))?;
        let output = Command::new("ip").arg("-batch").arg(&file).stdin(Stdio::null()).output();
        let _ = std::fs::remove_file(&file);
        let output = output.context("running ip (install iproute2)")?;
        if !output.status.success() {
            bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // One batch, forced on past errors: what is half built must go too.
        let mut lines: String =
            self.hosts.iter().map(|host| format!("netns del {}\n", host.namespace)).collect();
        lines.push_str(&format!("netns del {}-net\n", self.prefix));
        let file: PathBuf = std::env::temp_dir().join(format!("{}.batch", self.prefix));
        if std::fs::write(&file, lines).is_ok() {
            let _ = Command::new("ip")
                .args(["-force", "-batch"])
                .arg(&file)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = std::fs::remove_file(&file);
        }
    }
}
