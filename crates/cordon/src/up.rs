//! `cordon up`: every role of a hub and an agent on this machine, under one command.
//!
//! As root each role runs as a user of its own, senses this machine live and can contain it. Without root
//! everything runs as the caller, and it says what it can't see and that it can't contain. Nothing listens
//! beyond loopback unless an address is given.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_agent::contain::lookout;
use cordon_hub::view::{Contact, MachineRow};
use cordon_model::ids::OdsCode;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::accounts::Account;
use crate::cli::StateArg;
use crate::control::{Control, plain};
use crate::layout::Layout;
use crate::roles::{block_on, own_host_name};
use crate::supervise::{Kept, Role, keep};

/// What people call the role that senses.
const AGENT: &str = "agent";

/// The users of the roles, as root.
pub const HUB_USER: &str = "cordon-hub";
const SIGNER_USER: &str = "cordon-signer";
const AGENT_USER: &str = "cordon-agent";

/// Where the console is, unless another place is named.
pub const DEFAULT_CONSOLE: &str = "127.0.0.1:8440";

/// How long the hub may take to answer. The first start makes keys and tables.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long the sign-in link waits for the local agent, which links within a second.
const LINKED_WITHIN: Duration = Duration::from_secs(10);

/// The local agent enrols within seconds; its token is good for this long.
const TOKEN_GOOD_FOR: u32 = 600;

/// What to run.
#[derive(Debug, Clone, clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    state: StateArg,
    /// ODS code of the organisation.
    #[arg(long, default_value = "ZZ0", value_name = "CODE")]
    organisation: OdsCode,
    /// Name of the organisation.
    #[arg(long, default_value = "This machine")]
    name: String,
    /// Where the console is.
    #[arg(long, default_value = DEFAULT_CONSOLE, value_name = "ADDRESS")]
    console: SocketAddr,
    /// Where other machines' agents link; beyond loopback only if you say so.
    #[arg(long, default_value = "127.0.0.1:8441", value_name = "ADDRESS")]
    link: SocketAddr,
    /// Where other machines enrol; beyond loopback only if you say so.
    #[arg(long, default_value = "127.0.0.1:8442", value_name = "ADDRESS")]
    enrol: SocketAddr,
    /// Run the hub only.
    #[arg(long, conflicts_with = "only_agent")]
    no_agent: bool,
    /// Run the agent only, for a hub elsewhere.
    #[arg(long)]
    only_agent: bool,
    /// File with a one-time token to enrol the agent with (made on the hub by `cordon enrol-token`).
    #[arg(long, value_name = "FILE", requires = "only_agent")]
    enrol_with: Option<PathBuf>,
    /// The machine's name; its host name if not given.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Sigma rules for the agent instead of the built-in pack.
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// See only what happens in this network namespace, and not the whole machine. So it is anyway where
    /// the agent can tell that it has a network namespace of its own.
    #[arg(long)]
    own_network_only: bool,
    /// Do not look out for changes where something starts by itself on this machine or lets somebody in: who made
    /// them is not seen then, and what stood there before is not kept, so that no plan can put it back.
    #[arg(long, conflicts_with_all = ["own_network_only", "no_agent"])]
    no_look_out: bool,
    /// Do not use eBPF: process starts by the kernel's proc connector, and no connections.
    #[arg(long, conflicts_with = "no_agent")]
    no_ebpf: bool,
}

/// How far the roles go before ordinary work on the processor (`nice(2)`): three shares to one. A worm or an
/// encryptor on every core must not delay what sees it and decides; and a role that works hard leaves a fourth
/// to what care runs here.
const BEFORE_OTHERS: i32 = -5;

/// Runs everything until it is asked to stop.
pub fn run(args: &UpArgs) -> Result<()> {
    let args = args.clone();
    // Before there are other threads: each has its own place, and roles begin with that of who starts them.
    if nix::unistd::geteuid().is_root()
        && let Err(error) = rustix::process::nice(BEFORE_OTHERS)
    {
        tracing::warn!(%error, "the roles stand in line with all other programs");
    }
    block_on(2, async move |stop| up(args, stop).await)
}

async fn up(args: UpArgs, mut stop: watch::Receiver<bool>) -> Result<()> {
    let ends_with_terminal = has_terminal() && !ignores_hangups();
    // First of all: from here on a hangup ends nothing by itself.
    let mut hangups = signal(SignalKind::hangup()).context("listening for signals")?;
    let layout = args.state.layout();
    let is_root = nix::unistd::geteuid().is_root();
    for (what, address) in [("--link", args.link), ("--enrol", args.enrol)] {
        if address.ip().is_unspecified() {
            bail!(
                "{what} {address}: machines are told this address, so name one that they can reach"
            );
        }
    }
    layout.make()?;
    // Held until the end: two sets of roles on one state would disturb each other.
    let _lock = layout.lock()?;
    println!("Cordon {}", env!("CARGO_PKG_VERSION"));
    println!("  state        {}", layout.root().display());
    if is_root {
        println!("  roles        each as a user of its own; the helper as root");
    } else {
        println!("  roles        all as you: started without root");
    }
    let mut kept: Vec<Kept> = Vec::new();
    let result = async {
        if !args.only_agent {
            start_hub(&args, &layout, &mut kept)?;
            say_hub(&args, &layout, &mut stop).await?;
        }
        if !args.no_agent && !*stop.borrow() {
            start_agent(&args, &layout, is_root, &mut kept).await?;
            say_lookout(&args, is_root);
            if !args.only_agent {
                say_agent(&args, &layout, &stop).await;
            }
        }
        if !args.only_agent && !*stop.borrow() {
            let control = Control::at(&layout);
            let secret =
                control.sign_in("administrator", Some(cordon_store::Role::Administrator)).await?;
            let link = cordon_console::sign_in_link(args.console, &secret);
            println!("\nOpen this once, within 15 minutes, to sign in:\n\n    {link}\n");
            println!(
                "Another link: {}. Stop: Ctrl-C (what is isolated stays isolated).",
                sign_in_command(&args)
            );
        }
        // Ends when asked to, and only then: each role is kept running.
        while !*stop.borrow() {
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                Some(()) = hangups.recv() => {
                    if ends_with_terminal && !has_terminal() {
                        break;
                    }
                    pass_on_hangup(&kept);
                }
            }
        }
        Ok(())
    }
    .await;
    // The last first: the hub outlives its agent, the signer its hub.
    while let Some(role) = kept.pop() {
        role.stop().await;
    }
    if result.is_ok() {
        // Whoever read this may be gone by the same Ctrl-C.
        let _ = writeln!(
            std::io::stdout(),
            "Stopped. What is isolated stays isolated: when a lease ends full becomes segment, and segment \
             goes on until a person releases it."
        );
    }
    result
}

/// New rules are the agent's to read; nobody else reads anything again.
fn pass_on_hangup(kept: &[Kept]) {
    match kept.iter().find(|role| role.name() == AGENT) {
        Some(agent) => agent.hang_up(),
        None => tracing::warn!("SIGHUP: there is no agent here that could read its rules again"),
    }
}

/// Whether a terminal controls this process. The kernel takes it away before it tells of a lost one by SIGHUP: so
/// that is told from a person's `kill -HUP`.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether SIGHUP is ignored, as by `nohup`: then this was meant to outlive its terminal.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored(&status, Signal::SIGHUP as i32)
}

/// Whether a signal is among those that a process's status says are ignored.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The command that makes another link for this very hub.
fn sign_in_command(args: &UpArgs) -> String {
    let mut command = format!("cordon sign-in{}", args.state.in_words());
    if args.console.to_string() != DEFAULT_CONSOLE {
        command += &format!(" --console {}", args.console);
    }
    command
}

fn start_hub(args: &UpArgs, layout: &Layout, kept: &mut Vec<Kept>) -> Result<()> {
    let signer = Account::for_role(SIGNER_USER)?;
    let hub = Account::for_role(HUB_USER)?;
    layout.make_role_directory(&layout.signer(), &signer)?;
    layout.make_role_directory(&layout.hub(), &hub)?;
    layout.make_socket_directory("signer", &signer)?;
    layout.make_socket_directory("hub", &hub)?;
    kept.push(keep(Role {
        name: "signer",
        arguments: words([
            ("role", None),
            ("signer", None),
            ("--directory", Some(text(&layout.signer()))),
            ("--socket", Some(text(&layout.signer_socket()))),
            ("--organisation", Some(args.organisation.to_string())),
            ("--hub-uid", Some(hub.uid.to_string())),
            ("--user", Some(signer.name.clone())),
        ]),
        // Started as root: it leaves the network, then becomes its own user.
        user: None,
        hears_hangups: false,
    })?);
    kept.push(keep(Role {
        name: "hub",
        arguments: words([
            ("role", None),
            ("hub", None),
            ("--directory", Some(text(&layout.hub()))),
            ("--signer", Some(text(&layout.signer_socket()))),
            ("--control", Some(text(&layout.control_socket()))),
            ("--organisation", Some(args.organisation.to_string())),
            ("--name", Some(args.name.clone())),
            ("--link", Some(args.link.to_string())),
            ("--enrol", Some(args.enrol.to_string())),
            ("--console", Some(args.console.to_string())),
        ]),
        user: as_user(&hub),
        hears_hangups: false,
    })?);
    Ok(())
}

/// Waits for the hub, and says where it listens.
async fn say_hub(args: &UpArgs, layout: &Layout, stop: &mut watch::Receiver<bool>) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match Control::at(layout).status().await {
            Ok(_) => break,
            Err(_) if *stop.borrow() => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the hub did not get ready; its log is above");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    println!("  organisation {} ({})", args.name, args.organisation);
    println!("  console      http://{}", args.console);
    println!("  agents       link {}, enrol {}", args.link, args.enrol);
    for (what, address) in [("console", args.console), ("link", args.link), ("enrol", args.enrol)] {
        if !is_loopback(address.ip()) {
            println!("  NOTE         {what} listens beyond loopback, as you said: {address}");
        }
    }
    Ok(())
}

/// Says what this machine's agent sees and can do, as soon as it is linked. One that is slow says it on
/// its machine's page only.
async fn say_agent(args: &UpArgs, layout: &Layout, stop: &watch::Receiver<bool>) {
    let host = args.host.clone().unwrap_or_else(own_host_name);
    let deadline = Instant::now() + LINKED_WITHIN;
    while Instant::now() < deadline && !*stop.borrow() {
        let machines = Control::at(layout).machines().await.unwrap_or_default();
        let is_linked =
            |row: &&MachineRow| row.host == host && matches!(row.contact, Contact::Linked { .. });
        if let Some(row) = machines.iter().find(is_linked) {
            println!("  machine      {}: its agent is linked", plain(&row.name));
            for (extent, what) in crate::gaps::lines(&row.gaps) {
                println!("  {extent:<12} {what}");
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("  machine      {}: its agent is not linked yet", plain(&host));
}

/// Says for which changes somebody looks out here and for which not, or why nobody does. The rest goes on without.
fn say_lookout(args: &UpArgs, is_root: bool) {
    let why_not = match () {
        () if args.no_look_out => Some("as you said".to_owned()),
        () if args.own_network_only => Some("it is for this network namespace only".to_owned()),
        () if !is_root => Some("started without root".to_owned()),
        () => lookout::can_look_out().err().map(|error| error.to_string()),
    };
    match why_not {
        None => {
            let (places, homes) = lookout::places_of(Path::new("/"));
            println!(
                "  looks out    for each change at {places} places where something starts by itself here or lets \
                 somebody in,\n{0}and in {homes} homes: what was there is kept, and can be put back (cordon eliminate)\n\
                 {0}not for other files, nor on network filesystems (docs/survey.md)",
                " ".repeat(15)
            );
        }
        Some(why) => println!(
            "  NOTE         nobody looks out for changes here ({why}): who makes them is not seen, and they can't be put \
             back"
        ),
    }
}

async fn start_agent(
    args: &UpArgs,
    layout: &Layout,
    is_root: bool,
    kept: &mut Vec<Kept>,
) -> Result<()> {
    let agent = Account::for_role(AGENT_USER)?;
    layout.make_role_directory(&layout.agent(), &agent)?;
    // In the state directory itself, where the agent's user can't put anything in its place.
    let token_file = layout.root().join("enrol-token");
    // What an earlier start left is of no use to anybody.
    let _ = std::fs::remove_file(&token_file);
    if !layout.agent().join("identity.cbor").exists() {
        let token = match &args.enrol_with {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("reading the token in {}", path.display()))?,
            None if args.only_agent => {
                bail!("this machine is not enrolled: give --enrol-with FILE")
            }
            None => {
                let draft = cordon_hub::view::AssignmentDraft::default();
                Control::at(layout).enrol_token(draft, TOKEN_GOOD_FOR).await?
            }
        };
        write_secret(&token_file, token.trim())?;
    }
    if is_root {
        let root = Account::own();
        layout.make_role_directory(&layout.helper(), &root)?;
        layout.make_socket_directory("helper", &root)?;
        layout.make_socket_directory("warden", &root)?;
        kept.push(keep(Role {
            name: "warden",
            arguments: words([
                ("role", None),
                ("warden", None),
                ("--socket", Some(text(&layout.warden_socket()))),
            ]),
            user: None,
            hears_hangups: false,
        })?);
        let mut told = words([("--notice", Some(text(&layout.notice_folder())))]);
        // One of several agents on one kernel does not speak for the machine, nor look at all of it.
        let whose = if args.own_network_only { "--no-survey" } else { "--tell-everybody" };
        told.push(whose.to_owned());
        if args.no_look_out {
            told.push("--no-look-out".to_owned());
        }
        let arguments = [
            words([
                ("role", None),
                ("helper", None),
                ("--directory", Some(text(&layout.helper()))),
                ("--socket", Some(text(&layout.helper_socket()))),
                ("--warden", Some(text(&layout.warden_socket()))),
                ("--door", Some(text(&layout.door_socket()))),
                ("--agent-uid", Some(agent.uid.to_string())),
            ]),
            told,
        ]
        .concat();
        kept.push(keep(Role { name: "helper", arguments, user: None, hears_hangups: false })?);
    }
    let mut arguments = words([
        ("role", None),
        ("agent", None),
        ("--directory", Some(text(&layout.agent()))),
        ("--enrol-with", Some(text(&token_file))),
    ]);
    if is_root {
        arguments.extend(words([
            ("--helper", Some(text(&layout.helper_socket()))),
            ("--user", Some(agent.name.clone())),
        ]));
    }
    if !args.only_agent {
        // This machine's own hub, wherever it listened when the machine enrolled.
        let at = args.link.to_string();
        arguments.extend(words([("--hub-at", Some(at))]));
    }
    if let Some(host) = &args.host {
        arguments.extend(words([("--host", Some(host.clone()))]));
    }
    if let Some(rules) = &args.rules {
        arguments.extend(words([("--rules", Some(text(rules)))]));
    }
    if args.own_network_only {
        arguments.push("--own-network-only".to_owned());
    }
    if args.no_ebpf {
        arguments.push("--no-ebpf".to_owned());
    }
    // Started as root: it opens its sensors, then becomes its own user.
    kept.push(keep(Role { name: AGENT, arguments, user: None, hears_hangups: true })?);
    Ok(())
}

fn as_user(account: &Account) -> Option<Account> {
    nix::unistd::geteuid().is_root().then(|| account.clone())
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words<const N: usize>(pairs: [(&str, Option<String>); N]) -> Vec<String> {
    pairs
        .into_iter()
        .flat_map(|(name, value)| std::iter::once(name.to_owned()).chain(value))
        .collect()
}

/// Writes a new file that only its owner reads.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let writing = || format!("writing {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(writing)?;
    file.write_all(text.as_bytes()).with_context(writing)
}

#[cfg(test)]
mod tests {
    use super::is_ignored;

    #[test]
    fn what_nohup_ignores_is_told_from_a_status() {
        assert!(is_ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n", 1));
        assert!(!is_ignored("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n", 1));
        assert!(!is_ignored("", 1));
    }
}
