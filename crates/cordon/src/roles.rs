//! Each role by itself: what `cordon up` starts, and what a package's services start.
//!
//! Order matters for what needs root: the agent opens its sensors first and gives its privileges up
//! before it reads a single byte from outside; the helper keeps them and speaks to the agent's user only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use cordon_agent::in_force::{RuleFiles, RulesFrom};
use cordon_agent::run::AgentConfig;
use cordon_agent::sensor::{Place, Sensor, SensorOptions, SourceChoice};
use cordon_console::{Console, ConsoleConfig};
use cordon_helper::user_number;
use cordon_hub::HubConfig;
use cordon_hub::signer::{SignerConfig, User};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::accounts::Account;

/// A role.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The organisation's hub, with its console
    Hub(HubArgs),
    /// The holder of the command key; no network
    Signer(SignerArgs),
    /// The machine's agent
    Agent(AgentArgs),
    /// Checks an archive of evidence for `cordon verify`, which starts it
    #[command(hide = true)]
    OpenEvidence(crate::evidence::OpenArgs),
    /// What stays root on a machine: in the words of the small program, which takes the same.
    #[command(flatten)]
    Root(cordon_helper::Role),
}

/// The hub's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct HubArgs {
    /// The hub's own directory.
    #[arg(long)]
    pub directory: PathBuf,
    /// The signer's socket.
    #[arg(long)]
    pub signer: PathBuf,
    /// The socket for the command line.
    #[arg(long)]
    pub control: PathBuf,
    /// ODS code of the organisation.
    #[arg(long)]
    pub organisation: cordon_model::ids::OdsCode,
    /// Its name.
    #[arg(long)]
    pub name: String,
    /// Where agents link.
    #[arg(long)]
    pub link: SocketAddr,
    /// Where machines enrol.
    #[arg(long)]
    pub enrol: SocketAddr,
    /// Where the console is.
    #[arg(long)]
    pub console: SocketAddr,
}

/// The signer's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct SignerArgs {
    /// The signer's own directory.
    #[arg(long)]
    pub directory: PathBuf,
    /// Its socket.
    #[arg(long)]
    pub socket: PathBuf,
    /// ODS code of the organisation.
    #[arg(long)]
    pub organisation: cordon_model::ids::OdsCode,
    /// The only user, besides root, that it speaks to: its number or its name.
    #[arg(long, value_parser = user_number)]
    pub hub_uid: u32,
    /// The user to become, once it has left the network (when started as root).
    #[arg(long)]
    pub user: Option<String>,
}

/// The agent's arguments.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArgs {
    /// The agent's own directory.
    #[arg(long)]
    pub directory: PathBuf,
    /// The helper's socket; without it nothing can be contained here.
    #[arg(long)]
    pub helper: Option<PathBuf>,
    /// The user to run as once the sensors are open (when started as root).
    #[arg(long)]
    pub user: Option<String>,
    /// The machine's name; its host name if not given.
    #[arg(long)]
    pub host: Option<String>,
    /// File with a one-time enrolment token.
    #[arg(long)]
    pub enrol_with: Option<PathBuf>,
    /// Where the hub's link is, if not where it was when the machine enrolled.
    #[arg(long)]
    pub hub_at: Option<SocketAddr>,
    /// Sigma rules instead of the built-in pack.
    #[arg(long)]
    pub rules: Option<PathBuf>,
    /// See only what happens in the agent's own network namespace, and not the whole machine.
    #[arg(long)]
    pub own_network_only: bool,
    /// Do not use eBPF: process starts by the kernel's proc connector, and no connections.
    #[arg(long)]
    pub no_ebpf: bool,
}

/// Runs a role until it is asked to stop.
pub fn run(role: Role) -> Result<()> {
    // What `ps` and `ss` call it: it was started as /proc/self/exe.
    let name = match role {
        Role::Hub(_) => Some(c"cordon-hub"),
        Role::Signer(_) => Some(c"cordon-signer"),
        Role::Agent(_) => Some(c"cordon-agent"),
        Role::OpenEvidence(_) => Some(c"cordon-evidence"),
        // These name themselves.
        Role::Root(_) => None,
    };
    if let Some(name) = name {
        let _ = nix::sys::prctl::set_name(name);
    }
    cordon_helper::speak_from_the_background().context("blocking a signal")?;
    match role {
        Role::Hub(args) => hub(args),
        Role::Signer(args) => signer(&args),
        Role::Agent(args) => agent(args),
        Role::OpenEvidence(args) => crate::evidence::open(&args),
        Role::Root(role) => root(role),
    }
}

/// What stays root goes on as the small program beside this one, or here.
fn root(role: cordon_helper::Role) -> Result<()> {
    use cordon_helper::Role;
    match role {
        Role::Helper(_) | Role::Warden(_) => {
            let why = cordon_helper::beside::go_on();
            tracing::info!("this role runs within cordon: {why}");
        }
        // Started by a helper as its own program: where that is this one, there was no other to go on as.
        Role::Collect(_) | Role::Survey(_) | Role::Lookout(_) | Role::Changes(_) => {}
    }
    cordon_helper::run(role)
}

/// Files that a hub needs open beside its links: its store, ledger, sockets and sign-ins.
const FILES_BESIDE_LINKS: u64 = 256;

/// Each link is an open file, and services start with 1,024 of them (systemd's default, for programs that
/// use select): a hub takes as many as the system allows, or its 1,000th machine would find a closed door.
fn open_as_many_files_as_allowed() -> Result<()> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context("raising the limit of open files")?;
    }
    tracing::info!("{} machines can be linked at most", hard.saturating_sub(FILES_BESIDE_LINKS));
    Ok(())
}

fn hub(args: HubArgs) -> Result<()> {
    open_as_many_files_as_allowed()?;
    block_on(2, async move |mut stop| {
        let config = ConsoleConfig {
            address: args.console,
            // Whoever names an address beyond loopback has said so; `cordon up` says it back.
            may_leave_loopback: true,
            ..ConsoleConfig::loopback(args.console.port())
        };
        // Before anything answers: nobody else may sit where a sign-in link will point.
        let listener = Console::take_address(&config).await.context("the console")?;
        let running = cordon_hub::start(HubConfig {
            directory: args.directory,
            organisation: args.organisation,
            name: args.name,
            link: args.link,
            enrol: args.enrol,
            link_seen_as: Vec::new(),
            enrol_seen_as: Vec::new(),
            signer: args.signer,
            control: Some(args.control),
        })
        .await
        .context("starting the hub")?;
        let console = Console::on(listener, running.hub.clone(), config).context("the console")?;
        let mut console_stop = stop.clone();
        let console = tokio::spawn(console.serve(async move {
            while !*console_stop.borrow() && console_stop.changed().await.is_ok() {}
        }));
        let asked_to_stop = async { while !*stop.borrow() && stop.changed().await.is_ok() {} };
        let ended = running.until(asked_to_stop).await.context("the hub");
        // It stops by itself when asked to; a hub that failed needs no console.
        console.abort();
        ended
    })
}

fn signer(args: &SignerArgs) -> Result<()> {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    let is_root = nix::unistd::geteuid().is_root();
    let account = args.user.as_deref().filter(|_| is_root).map(Account::for_role).transpose()?;
    let user = account.map(|account| User { uid: account.uid.as_raw(), gid: account.gid.as_raw() });
    let config = SignerConfig {
        directory: args.directory.clone(),
        socket: args.socket.clone(),
        organisation: args.organisation.clone(),
        hub_uid: args.hub_uid,
        user,
    };
    cordon_hub::signer::serve(&config).context("the signer")
}

fn agent(args: AgentArgs) -> Result<()> {
    // Held back until the agent listens for it: a reload that comes early must not end it.
    SigSet::from_iter([Signal::SIGHUP]).thread_block().context("holding SIGHUP back")?;
    // As root, first of all: the sensors. What it could not contain, it does not look at.
    let place = Place::of_this_process();
    let network_namespace = if args.own_network_only {
        Some(place.network.context("/proc does not tell this process's network namespace")?)
    } else {
        place.own_network()
    };
    let choice = if args.no_ebpf { SourceChoice::ProcConnector } else { SourceChoice::Best };
    let sensor =
        Sensor::open(&SensorOptions { network_namespace, choice, ..SensorOptions::default() });
    let token = args.enrol_with.as_deref().map(read_token).transpose()?.flatten();
    if let Some(user) = &args.user {
        become_user(&Account::for_role(user)?)?;
    }
    let rules = match args.rules {
        Some(path) => RulesFrom::Folder(Arc::new(move || {
            rules_below(&path).map_err(|error| format!("{error:#}"))
        })),
        None => {
            let pack = cordon_rules::all().map(|(o, y)| (o.to_owned(), y.to_owned()));
            RulesFrom::Program(pack.collect())
        }
    };
    let helper = args.helper.ok_or_else(|| {
        "nothing can be contained on this machine: Cordon was started without root".to_owned()
    });
    let host = match args.host {
        Some(host) => host,
        None => own_host_name(),
    };
    let config =
        AgentConfig { directory: args.directory, helper, host, hub_at: args.hub_at, token, rules };
    block_on(1, async |stop| Ok(cordon_agent::run::run(config, sensor, stop).await?))
}

/// The name that the system has for this machine.
pub fn own_host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unnamed".into())
}

fn become_user(account: &Account) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let doing = || format!("becoming user {}", account.name);
    nix::unistd::setgroups(&[]).with_context(doing)?;
    nix::unistd::setgid(account.gid).with_context(doing)?;
    nix::unistd::setuid(account.uid).with_context(doing)?;
    if nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_ok() {
        bail!("root could be taken back after {}", doing());
    }
    nix::sys::prctl::set_no_new_privs().with_context(doing)
}

/// A token file that is gone was used before: the agent then has an identity, or says that it has none.
fn read_token(path: &Path) -> Result<Option<cordon_link::token::EnrolToken>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.parse().with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// All YAML files below `path`, which may itself be a link to where they are; and those that can't be read.
///
/// # Errors
/// When the folder can't be read, or has none that can be: an agent that sees nothing must not look like one that
/// sees.
fn rules_below(path: &Path) -> Result<RuleFiles> {
    let start = std::fs::canonicalize(path);
    let start = start.with_context(|| format!("reading rules from {}", path.display()))?;
    let mut found = RuleFiles { folder: start.clone(), ..RuleFiles::default() };
    let mut waiting = vec![start];
    while let Some(path) = waiting.pop() {
        let reading = || format!("reading rules from {}", path.display());
        if std::fs::symlink_metadata(&path).with_context(reading)?.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(reading)? {
                waiting.push(entry.with_context(reading)?.path());
            }
        } else if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
            let origin = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => found.texts.push((origin, text)),
                Err(error) => found.unread.push((origin, error.to_string())),
            }
        }
    }
    if found.texts.is_empty() {
        bail!("no rule (.yml or .yaml) that can be read is in {}", path.display());
    }
    found.texts.sort();
    found.unread.sort();
    Ok(found)
}

/// Runs `role` on a runtime of `threads`, with a signal that says when to stop.
pub fn block_on<F>(threads: usize, role: F) -> Result<()>
where
    F: AsyncFnOnce(watch::Receiver<bool>) -> Result<()>,
{
    // If whoever supervises this dies, this ends too; what is in the kernel stays.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    let mut builder = if threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for signals")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            let _ = stop.send(true);
        });
        role(stopped).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_through_a_link_and_without_what_cannot_be_read_and_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("v12");
        std::fs::create_dir(&rules).unwrap();
        assert!(rules_below(&rules).is_err(), "none");
        std::fs::write(rules.join("a.yml"), "title: a").unwrap();
        std::fs::write(rules.join("b.yml"), [0xff, 0xfe]).unwrap();
        std::os::unix::fs::symlink("nowhere", rules.join("c.yml")).unwrap();
        let current = folder.path().join("current");
        std::os::unix::fs::symlink(&rules, &current).unwrap();
        let found = rules_below(&current).unwrap();
        let texts: Vec<&str> = found.texts.iter().map(|(_, text)| text.as_str()).collect();
        let unread: Vec<_> =
            found.unread.iter().map(|(origin, _)| origin.rsplit('/').next()).collect();
        assert_eq!((texts, unread), (vec!["title: a"], vec![Some("b.yml"), Some("c.yml")]));
        assert!(rules_below(&folder.path().join("gone")).is_err());
    }
}
