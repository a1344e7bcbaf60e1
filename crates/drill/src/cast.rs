//! Everybody who plays in a drill: hosts, hub, signer, agents, helpers; each a process of its own.
//!
//! The one idea: nothing here is special to the drill but where it runs. The roles are started with the
//! arguments that a package would start them with, and spoken to by the command line. Dropping [`Cast`]
//! ends them all, then the network goes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::journal::{self, Entry};
use cordon_model::asset::{Direction, Lifeline, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::time::BootNanos;

use crate::cleaner::{Cleaner, CleanerArgs};
use crate::hospital::{Machine, SMB};
use crate::network::{Host, Network};
use crate::report::{LifelineCount, NeighbourProbe};
use crate::worm::LogLine;

/// The organisation that the drill plays: `ZZ` codes are given to nobody.
const ORGANISATION: &str = "ZZ1";
/// Ports of the drill's hub.
const LINK_PORT: u16 = 7801;
const ENROL_PORT: u16 = 7802;
/// How long a role may take to be ready. On two cores twenty agents start in a few seconds.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// A neighbour's try: an isolated machine does not answer, and that must be waited for.
const PROBE_WAITS: Duration = Duration::from_millis(400);

/// The running drill.
pub struct Cast {
    // Fields are dropped in this order: processes first, the network after them.
    children: Vec<Child>,
    hosts: Vec<DrillHost>,
    network: Network,
    // Last: it takes away what the others leave.
    _cleaner: Cleaner,
    directory: PathBuf,
    worm: PathBuf,
    program: PathBuf,
    machines: Vec<Machine>,
    is_hub_in_reach: bool,
}

struct DrillHost {
    name: String,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<std::process::ChildStdout>,
}

impl Cast {
    /// Builds the network and starts the hospital's hosts from `program`, which is `cordon`: no Cordon on
    /// them yet.
    ///
    /// # Errors
    /// If anything of it can't be made.
    pub fn assemble(hospital: &[Machine], program: &Path) -> Result<Self> {
        let mut names = vec!["hub".to_owned(), "pacs".to_owned()];
        names.extend(hospital.iter().map(|machine| machine.name.clone()));
        let prefix = format!("cordon-drill-{}", std::process::id());
        // Names that nobody can have waiting for us: root works in these directories.
        let random = std::hash::RandomState::new().build_hasher().finish();
        let directory = std::env::temp_dir().join(format!("cordon-drill-{random:016x}"));
        let hiding_places = hiding_places(random);
        let mut leavings = hiding_places.clone();
        if std::env::var_os("CORDON_DRILL_KEEP").is_none() {
            leavings.push(directory.clone());
        }
        let cleaning = CleanerArgs { prefix: prefix.clone(), directory: leavings };
        let cleaner = Cleaner::start(program, &cleaning)?;
        let network = Network::build(&prefix, &names)?;
        make_new(&directory)?;
        make_new(&directory.join("log"))?;
        let program = program.to_owned();
        let worm = hide_worm(&program, &hiding_places)?;
        let mut cast = Self {
            children: Vec::new(),
            hosts: Vec::new(),
            network,
            _cleaner: cleaner,
            directory,
            worm,
            program,
            machines: hospital.to_vec(),
            is_hub_in_reach: true,
        };
        let pacs = cast.network.host("pacs")?.clone();
        cast.start_host(&pacs, &["--is-pacs".to_owned()])?;
        for machine in hospital {
            let host = cast.network.host(&machine.name)?.clone();
            let arguments = if machine.shows_images {
                vec!["--pacs".to_owned(), pacs.address.to_string()]
            } else {
                Vec::new()
            };
            cast.start_host(&host, &arguments)?;
        }
        Ok(cast)
    }

    fn start_host(&mut self, host: &Host, more: &[String]) -> Result<()> {
        let mut child = host
            .command(&self.program)
            .args(["drill-host", "--name", &host.name])
            .arg("--log")
            .arg(self.directory.join("log").join(&host.name))
            .arg("--worm")
            .arg(&self.worm)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting drill host {}", host.name))?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().context("a drill host without output")?);
        let mut host = DrillHost { name: host.name.clone(), child, to, from };
        host.expect_ready()?;
        self.hosts.push(host);
        Ok(())
    }

    /// Starts signer and hub in the hub's namespace.
    ///
    /// # Errors
    /// If they don't get ready.
    pub fn start_hub(&mut self) -> Result<()> {
        let hub = self.network.host("hub")?.clone();
        let state = self.directory.join("hub");
        let log = self.role_log("hub")?;
        let child = hub
            .command(&self.program)
            .args(["up", "--no-agent", "--organisation", ORGANISATION, "--name", "Drill hospital"])
            .arg("--state")
            .arg(&state)
            .args(["--link", &SocketAddr::new(hub.address, LINK_PORT).to_string()])
            .args(["--enrol", &SocketAddr::new(hub.address, ENROL_PORT).to_string()])
            .args(["--console", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the drill's hub")?;
        self.children.push(child);
        self.until("the hub", READY_WITHIN, |cast| Ok(cast.ask(&["machines", "--json"]).is_ok()))
    }

    /// Starts an agent and its helper on every machine, tells the hub what the machines are, and sets
    /// the policy to `act`.
    ///
    /// # Errors
    /// If one does not get ready.
    pub fn start_agents(&mut self, hospital: &[Machine], runs: u32) -> Result<()> {
        // The default budget is 5 in 10 minutes; a drill repeats outbreaks within them, so it is given
        // room for each run, and for one isolation in error each, and no more.
        let policy = self.ask(&["policy", "show"])?;
        let policy = policy
            .replace("mode = \"ask\"", "mode = \"act\"")
            .replace("count = 5", &format!("count = {}", (2 * runs).max(5)));
        let file = self.directory.join("policy.toml");
        std::fs::write(&file, policy)?;
        let file = file.to_string_lossy().into_owned();
        self.ask(&["policy", "apply", &file])?;
        for machine in hospital {
            self.start_agent(machine)?;
        }
        self.until("every agent to be linked", READY_WITHIN, |cast| {
            Ok(cast.hub_machines()?.iter().filter(|m| m["is_linked"] == true).count()
                == cast.machines.len())
        })?;
        self.wait_for_permits()
    }

    fn start_agent(&mut self, machine: &Machine) -> Result<()> {
        let host = self.network.host(&machine.name)?.clone();
        let mut words = vec![
            "enrol-token".to_owned(),
            "--tier".into(),
            machine.tier.number().to_string(),
            "--group".into(),
            machine.ward.into(),
            "--kind".into(),
            machine.kind.into(),
        ];
        for lifeline in machine.lifelines(self.network.host("pacs")?.address) {
            words.extend(["--lifeline".to_owned(), lifeline_words(&lifeline)]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let token = self.ask(&words)?;
        let state = self.state_of(&machine.name);
        std::fs::create_dir_all(&state)?;
        let token_file = state.join("token");
        std::fs::write(&token_file, token.trim())?;
        std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600))?;
        let log = self.role_log(&machine.name)?;
        let child = host
            .command(&self.program)
            .args(["up", "--only-agent", "--own-network-only", "--host", &machine.name])
            .arg("--state")
            .arg(&state)
            .arg("--enrol-with")
            .arg(&token_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting the agent of {}", machine.name))?;
        self.children.push(child);
        Ok(())
    }

    /// Waits until every machine knows policy and assignment, and those hold a permit that may: tiers 0
    /// and 1, all but two of each kind, so that no kind can be gone altogether.
    ///
    /// # Errors
    /// If one does not in time.
    pub fn wait_for_permits(&mut self) -> Result<()> {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| !machine.tier.is_clinical()) {
            *kinds.entry(machine.kind).or_default() += 1;
        }
        let permits: usize = kinds.values().map(|count| count.saturating_sub(2)).sum();
        self.until("policy, assignments and permits to be everywhere", READY_WITHIN, |cast| {
            let holds = |machine: &&Machine, what| cast.holds(&machine.name, what);
            let is_told =
                |machine: &&Machine| holds(machine, "assignment") && holds(machine, "policy");
            Ok(cast.machines.iter().filter(is_told).count() == cast.machines.len()
                && cast.permit_holders().len() >= permits)
        })
    }

    /// The machines that may segment themselves with no hub in reach.
    #[must_use]
    pub fn permit_holders(&self) -> Vec<String> {
        let names = self.machines.iter().map(|machine| machine.name.clone());
        names.filter(|name| self.holds(name, "permit")).collect()
    }

    fn holds(&self, name: &str, document: &str) -> bool {
        self.state_of(name).join("agent/documents").join(document).exists()
    }

    /// Makes `name` patient zero, and says when, just before.
    ///
    /// # Errors
    /// If the host is gone.
    pub fn infect(&mut self, name: &str, seed: u64, every: u64) -> Result<BootNanos> {
        let neighbours: Vec<String> = self
            .machines
            .iter()
            .map(|machine| self.network.host(&machine.name).map(|host| host.address.to_string()))
            .collect::<Result<_>>()?;
        let began = crate::worm::boot_now();
        let host = self.hosts.iter_mut().find(|host| host.name == name).context("no such host")?;
        host.say(&format!("infect {seed} {every} {}", neighbours.join(",")))?;
        Ok(began)
    }

    /// Starts programs on `name` as fast as the machine can for `seconds`, from two threads; how many.
    ///
    /// # Errors
    /// If that fails.
    pub fn start_processes(&self, name: &str, seconds: u32) -> Result<u64> {
        let host = self.network.host(name)?;
        let output = host
            .command(&self.program)
            .args(["drill-spawn", "--seconds", &seconds.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("starting processes")?;
        String::from_utf8_lossy(&output.stdout).trim().parse().context("counting processes")
    }

    /// The process id of the agent on `name`.
    ///
    /// # Errors
    /// If it does not run.
    pub fn agent_process(&self, name: &str) -> Result<u32> {
        let directory = self.state_of(name).join("agent");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("role agent") && line.contains(&*directory.to_string_lossy()) {
                return Ok(pid);
            }
        }
        bail!("no agent runs on {name}")
    }

    /// How many events the agent on `name` has seen and lost since its start, as the hub was last told.
    ///
    /// # Errors
    /// If the hub does not know.
    pub fn events_of(&self, name: &str) -> Result<(u64, u64)> {
        let machines = self.hub_machines()?;
        let machine = machines.iter().find(|machine| machine["host"] == name);
        let count = |what: &str| machine.and_then(|machine| machine[what].as_u64());
        count("events").zip(count("lost")).with_context(|| format!("{name} has not counted yet"))
    }

    /// What the hub knows of its machines, as `cordon machines --json` tells it.
    ///
    /// # Errors
    /// If the hub does not answer.
    fn hub_machines(&self) -> Result<Vec<serde_json::Value>> {
        Ok(serde_json::from_str(&self.ask(&["machines", "--json"])?)?)
    }

    /// Ends the worm everywhere and makes every host vulnerable again.
    ///
    /// # Errors
    /// If a host is gone.
    pub fn reset_hosts(&mut self) -> Result<()> {
        let pacs = "pacs";
        // Twice: a worm that ends last may have reached a host that was reset first.
        for _ in 0..2 {
            for host in self.hosts.iter_mut().filter(|host| host.name != pacs) {
                host.say("reset")?;
            }
            for host in self.hosts.iter_mut().filter(|host| host.name != pacs) {
                host.expect_ready()?;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// All that the hosts have logged.
    ///
    /// # Errors
    /// If a log can't be read.
    pub fn log_lines(&self) -> Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        for host in &self.hosts {
            let path = self.directory.join("log").join(&host.name);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            // A line that is being written has no end yet, and is read next time.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                lines.push(serde_json::from_str(line).with_context(|| path.display().to_string())?);
            }
        }
        Ok(lines)
    }

    /// The machines whose journal says that an isolation was verified after `since`, and when.
    ///
    /// # Errors
    /// If a journal can't be read.
    pub fn isolations_since(&self, since: BootNanos) -> Result<BTreeMap<String, BootNanos>> {
        let mut isolations = BTreeMap::new();
        for machine in &self.machines {
            for receipt in self.receipts_of(&machine.name)? {
                let is_isolated = receipt.state == MeasureState::Verified
                    && receipt.action.isolation() > Some(Isolation::Watch);
                let Some(proof) = receipt.proof.filter(|proof| is_isolated && proof.at >= since)
                else {
                    continue;
                };
                let first = isolations.entry(machine.name.clone()).or_insert(proof.at);
                *first = (*first).min(proof.at);
            }
        }
        Ok(isolations)
    }

    fn receipts_of(&self, name: &str) -> Result<Vec<cordon_model::measure::Receipt>> {
        let directory = self.state_of(name).join("agent");
        let entries =
            journal::read(&directory).with_context(|| format!("the journal of {name}"))?;
        Ok(entries
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Receipt(receipt) => Some(*receipt),
                _ => None,
            })
            .collect())
    }

    /// Tries every machine's lateral-movement port from the PACS' place in the network.
    ///
    /// # Errors
    /// If a try can't be made at all.
    pub fn probe_from_neighbours(
        &self,
        isolated: &BTreeSet<String>,
    ) -> Result<Vec<NeighbourProbe>> {
        let pacs = self.network.host("pacs")?;
        let addresses: Vec<String> = self
            .machines
            .iter()
            .map(|machine| self.network.host(&machine.name).map(|host| host.address.to_string()))
            .collect::<Result<_>>()?;
        let output = pacs
            .command(&self.program)
            .args(["drill-probe", "--addresses", &addresses.join(",")])
            .stdin(Stdio::null())
            .output()
            .context("probing from a neighbour")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let answered: BTreeSet<&str> = text.lines().collect();
        Ok(self
            .machines
            .iter()
            .zip(&addresses)
            .map(|(machine, address)| NeighbourProbe {
                machine: machine.name.clone(),
                is_isolated: isolated.contains(&machine.name),
                answered: answered.contains(address.as_str()),
            })
            .collect())
    }

    /// Releases whatever the hub says is isolated, and waits until the machines say so.
    ///
    /// # Errors
    /// If one is not released in time.
    pub fn release_all(&mut self) -> Result<()> {
        let is_isolated = |machine: &serde_json::Value| !machine["isolation"].is_null();
        // A machine that isolated itself with the hub cut off tells it when the hub is back.
        thread::sleep(Duration::from_millis(200));
        let mut asked = BTreeSet::new();
        self.until("every machine to be released", READY_WITHIN, |cast| {
            let machines = cast.hub_machines()?;
            for machine in machines.iter().filter(|machine| is_isolated(machine)) {
                let name = machine["name"].as_str().context("a machine without a name")?.to_owned();
                if asked.insert(name.clone()) {
                    let reason = "the drill's worm was ended";
                    // Whether the gate opens is not what the drill measures: its worm is harmless.
                    let why = "a drill: nothing was brought that has to be eliminated";
                    // All of them first; whether each is released is looked at below.
                    let release = ["release", &name, "--reason", reason, "--despite", why];
                    cast.ask(&[&release[..], &["--no-wait"]].concat())?;
                }
            }
            let in_kernel = cast.machines.iter().any(|machine| cast.has_table(&machine.name));
            Ok(!machines.iter().any(is_isolated) && !in_kernel)
        })
    }

    fn has_table(&self, name: &str) -> bool {
        self.network.host(name).is_ok_and(|host| {
            host.command(Path::new("nft"))
                .args(["list", "table", "inet", "cordon"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
    }

    /// Cuts the hub's cable, and waits until every agent knows.
    ///
    /// # Errors
    /// If the link can't be set down.
    pub fn cut_hub_off(&mut self) -> Result<()> {
        self.network.set_cable("hub", false)?;
        self.is_hub_in_reach = false;
        // An agent knows after its link has been silent for 6 s.
        thread::sleep(Duration::from_secs(9));
        Ok(())
    }

    /// Puts the cable back, and waits until every agent is linked.
    ///
    /// # Errors
    /// If one does not come back.
    pub fn bring_hub_back(&mut self) -> Result<()> {
        self.network.set_cable("hub", true)?;
        self.is_hub_in_reach = true;
        self.until("every agent to be linked again", READY_WITHIN, |cast| {
            Ok(cast.hub_machines()?.iter().filter(|m| m["is_linked"] == true).count()
                == cast.machines.len())
        })
    }

    /// Whether the hub's cable is in.
    #[must_use]
    pub fn is_hub_in_reach(&self) -> bool {
        self.is_hub_in_reach
    }

    /// What happened to the lifelines so far.
    ///
    /// # Errors
    /// If a log can't be read.
    pub fn lifelines(&self) -> Result<LifelineCount> {
        let mut echoes: BTreeMap<String, u64> = BTreeMap::new();
        let mut count = LifelineCount {
            sessions: self.machines.iter().filter(|machine| machine.shows_images).count(),
            ..LifelineCount::default()
        };
        for line in self.log_lines()? {
            match line {
                LogLine::LifelineBroken { .. } => count.broken += 1,
                LogLine::LifelineEchoes { host, answered, longest_wait_ms } => {
                    echoes.insert(host, answered);
                    count.longest_wait_ms = count.longest_wait_ms.max(longest_wait_ms);
                }
                LogLine::Infected { .. } => {}
            }
        }
        count.echoes = echoes.values().sum();
        // A session that never answered an echo was not in use, and proves nothing.
        count.broken += count.sessions.saturating_sub(echoes.len());
        Ok(count)
    }

    /// Runs one command line against the drill's hub.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(words)
            .arg("--state")
            .arg(self.directory.join("hub"))
            .stdin(Stdio::null())
            .output()
            .context("running this program")?;
        if !output.status.success() {
            bail!("cordon {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn state_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn role_log(&self, name: &str) -> Result<std::fs::File> {
        let path = self.directory.join("log").join(format!("{name}.role"));
        std::fs::File::create(&path).with_context(|| path.display().to_string())
    }

    fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut last = None;
        while Instant::now() < deadline {
            match is_so(self) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            thread::sleep(Duration::from_millis(100));
        }
        let why = last.map_or_else(String::new, |error| format!(": {error:#}"));
        bail!(
            "the drill waited {} s for {what}{why}; logs: {}",
            patience.as_secs(),
            self.directory.join("log").display()
        )
    }
}

impl DrillHost {
    fn say(&mut self, line: &str) -> Result<()> {
        let to = self.to.as_mut().context("a drill host that was ended")?;
        writeln!(to, "{line}").with_context(|| format!("speaking to drill host {}", self.name))
    }

    fn expect_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.from
            .read_line(&mut line)
            .with_context(|| format!("hearing drill host {}", self.name))?;
        if line.trim() == "ready" {
            Ok(())
        } else {
            bail!("drill host {} said {line:?}", self.name)
        }
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            host.to = None;
        }
        for child in &self.children {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGTERM,
                );
            }
        }
        for child in
            self.children.iter_mut().chain(self.hosts.iter_mut().map(|host| &mut host.child))
        {
            let _ = child.wait();
        }
    }
}

/// Starts `/bin/true` from two threads for `duration`, and says how often.
#[must_use]
pub fn spawn_for(duration: Duration) -> u64 {
    let end = Instant::now() + duration;
    let spawner = move || {
        let mut count = 0_u64;
        while Instant::now() < end {
            let ended = Command::new("/bin/true").stdin(Stdio::null()).status();
            count += u64::from(ended.is_ok());
        }
        count
    };
    let threads = [thread::spawn(spawner), thread::spawn(spawner)];
    threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
}

/// Tries the lateral-movement port of each address at once, and prints those that answered.
pub fn probe(addresses: &[IpAddr]) {
    let tries: Vec<_> = addresses
        .iter()
        .map(|address| {
            let target = SocketAddr::new(*address, SMB);
            thread::spawn(move || TcpStream::connect_timeout(&target, PROBE_WAITS).is_ok())
        })
        .collect();
    for (address, answered) in addresses.iter().zip(tries) {
        if answered.join().unwrap_or(false) {
            println!("{address}");
        }
    }
}

/// A lifeline as the command line takes it: `NAME=outbound tcp 10.0.0.1/32 11112`.
fn lifeline_words(lifeline: &Lifeline) -> String {
    let direction = match lifeline.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    };
    let transport = match lifeline.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("{}={direction} {transport} {} {}", lifeline.name, lifeline.peer, lifeline.ports.first)
}

/// Makes a directory that was not there, for all to enter and root to write.
fn make_new(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .with_context(|| format!("making {}", path.display()))
}

/// Where the worm may hide: a name of the kind that X11 leaves, and that can't be foreseen.
fn hiding_places(random: u64) -> Vec<PathBuf> {
    let name = format!(".X{random:016x}-unix");
    ["/dev/shm", "/var/tmp", "/tmp"].iter().map(|base| Path::new(base).join(&name)).collect()
}

/// Puts a copy of this program where malware puts its own: a hidden directory that everybody may write
/// to, under the name of a kernel thread.
fn hide_worm(program: &Path, hiding_places: &[PathBuf]) -> Result<PathBuf> {
    for directory in hiding_places {
        let worm = directory.join("kworkerd");
        let made = make_new(directory).is_ok() && std::fs::copy(program, &worm).is_ok();
        // Some systems mount these without execution.
        let runs = made
            && Command::new(&worm)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if runs {
            return Ok(worm);
        }
        let _ = std::fs::remove_dir_all(directory);
    }
    bail!("no directory that everybody may write to allows programs to be run from it")
}
