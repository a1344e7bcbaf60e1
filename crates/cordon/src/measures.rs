//! `cordon measure`: what can be done to a machine besides isolating it, and taken back again.
//!
//! A process is named by its number *and* what the machine says of it now, so that a number that has been
//! given to another process by then is refused there, and nothing else is stopped in its place.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_model::action::{
    AccountTarget, Action, Blocked, BlockedPeer, Collection, Denied, FilePath, FileTarget, Piece,
    ProcessTarget, Sha256Digest,
};
use cordon_model::asset::{Direction, PortRange, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::look::Seen;
use cordon_model::measure::MeasureState;
use cordon_store::StoredMeasure;

use crate::cli::StateArg;
use crate::control::{ask_at, plain, say_ordered, tell, truth_word, unexpected};

/// The most that an archive holds unless said otherwise: 256 MiB, what a slow disk writes in seconds.
const ARCHIVE_BYTES: u64 = 256 << 20;

/// `cordon measure`
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Measure {
    /// The measures of a machine, the newest first
    List(OfMachine),
    /// The processes of a machine, by its own word, the youngest first
    Processes(OfMachine),
    /// Have a process and all its descendants stand still
    Freeze(OnProcess),
    /// End a process and all its descendants; can't be taken back
    Kill(OnProcess),
    /// Set a file aside, encrypted and restorable
    Quarantine(Quarantine),
    /// Keep a program from being started
    Deny(Deny),
    /// Keep a machine from speaking to an address, a network or a name
    Block(Block),
    /// Keep a local account from signing in
    DisableAccount(DisableAccount),
    /// Gather evidence into a signed archive
    Collect(Collect),
    /// Take one measure back, exactly
    Undo(Undo),
}

#[derive(Debug, Clone, clap::Args)]
pub struct OfMachine {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
}

#[derive(Debug, Clone, clap::Args)]
pub struct On {
    #[command(flatten)]
    of: OfMachine,
    /// Why, for whoever reads the record.
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Clone, clap::Args)]
pub struct OnProcess {
    #[command(flatten)]
    on: On,
    /// The process's number (`cordon measure processes` shows them).
    #[arg(long)]
    pid: u32,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Quarantine {
    #[command(flatten)]
    on: On,
    /// The file, by its absolute path.
    path: String,
    /// What it must hold; any other file at that place is left alone.
    #[arg(long)]
    sha256: Option<Sha256Digest>,
}

#[derive(Debug, Clone, clap::Args)]
#[group(id = "program", required = true, multiple = false, args = ["path", "sha256"])]
pub struct Deny {
    #[command(flatten)]
    on: On,
    /// The program, by its absolute path.
    #[arg(long)]
    path: Option<String>,
    /// The program, by what it holds, wherever it is.
    #[arg(long)]
    sha256: Option<Sha256Digest>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Block {
    #[command(flatten)]
    on: On,
    /// An address, a network (10.0.0.0/24) or a domain name.
    peer: String,
    /// Addresses of the domain; what the hub's machine resolves it to now, if not given.
    #[arg(long = "address")]
    addresses: Vec<IpAddr>,
    /// Only this transport: tcp or udp.
    #[arg(long, value_parser = transport)]
    transport: Option<Transport>,
    /// Only this port or range (445, 5985-5986); needs --transport.
    #[arg(long, value_parser = ports, requires = "transport")]
    ports: Option<PortRange>,
    /// Only what is opened inbound or outbound.
    #[arg(long, value_parser = direction)]
    direction: Option<Direction>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct DisableAccount {
    #[command(flatten)]
    on: On,
    /// The account's name.
    account: String,
    /// End what runs as the account, too: that is not brought back.
    #[arg(long)]
    end_sessions: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Collect {
    #[command(flatten)]
    on: On,
    /// Files to take along, by their absolute paths.
    #[arg(long = "file")]
    files: Vec<String>,
    /// The most that the archive may hold, in bytes.
    #[arg(long, default_value_t = ARCHIVE_BYTES)]
    most_bytes: u64,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Undo {
    #[command(flatten)]
    on: On,
    /// The measure's id (`cordon measure list` shows them).
    measure: MeasureId,
}

/// Runs it.
pub fn run(measure: &Measure) -> Result<()> {
    match measure {
        Measure::List(of) => list(of),
        Measure::Processes(of) => processes(of),
        Measure::Freeze(one) => begin(&one.on, Action::Freeze(target(one)?)),
        Measure::Kill(one) => begin(&one.on, Action::Kill(target(one)?)),
        Measure::Quarantine(Quarantine { on, path, sha256 }) => {
            let path = FilePath::new(path.as_bytes());
            begin(on, Action::Quarantine(FileTarget { path, sha256: *sha256 }))
        }
        Measure::Deny(Deny { on, path, sha256 }) => {
            let denied = match (path, sha256) {
                (Some(path), _) => Denied::Path(FilePath::new(path.as_bytes())),
                (None, Some(digest)) => Denied::Sha256(*digest),
                (None, None) => bail!("name the program by --path or --sha256"),
            };
            begin(on, Action::Deny(denied))
        }
        Measure::Block(block) => begin(&block.on, Action::Block(blocked(block)?)),
        Measure::DisableAccount(DisableAccount { on, account, end_sessions }) => {
            let target = AccountTarget { name: account.clone(), ends_sessions: *end_sessions };
            begin(on, Action::DisableAccount(target))
        }
        Measure::Collect(Collect { on, files, most_bytes }) => {
            let mut pieces = vec![
                Piece::Processes,
                Piece::Network,
                Piece::Rules,
                Piece::Accounts,
                Piece::Persistence,
                Piece::Kernel,
            ];
            pieces.extend(files.iter().map(|path| Piece::File(FilePath::new(path.as_bytes()))));
            begin(on, Action::Collect(Collection { pieces, most_bytes: *most_bytes }))
        }
        Measure::Undo(Undo { on, measure }) => {
            let (machine, measure) = (on.of.machine.clone(), *measure);
            let request = Request::Undo { machine, measure, reason: on.reason.clone() };
            say_ordered(&ask_at(&on.of.state, request)?)
        }
    }
}

fn begin(on: &On, action: Action) -> Result<()> {
    action.check()?;
    let (machine, reason) = (on.of.machine.clone(), on.reason.clone());
    say_ordered(&ask_at(&on.of.state, Request::Begin { machine, action, reason })?)
}

fn seen(of: &OfMachine) -> Result<Seen> {
    match ask_at(&of.state, Request::Processes { machine: of.machine.clone() })? {
        Answer::Seen(seen) => Ok(*seen),
        other => unexpected(&other),
    }
}

/// The process as the machine says that it is now.
fn target(one: &OnProcess) -> Result<ProcessTarget> {
    let Seen::Processes { listed, boot, .. } = seen(&one.on.of)? else {
        bail!("the machine did not tell its processes");
    };
    let found = listed.into_iter().find(|listed| listed.process.pid == one.pid);
    let found = found.with_context(|| format!("the machine has no process {}", one.pid))?;
    println!("process {}: {}", one.pid, plain(&found.command));
    Ok(ProcessTarget { boot, process: found.process })
}

fn processes(of: &OfMachine) -> Result<()> {
    let Seen::Processes { listed, of: total, .. } = seen(of)? else {
        bail!("the machine did not tell its processes");
    };
    let mut text = format!("{:>8} {:>8} {:>6}  command\n", "pid", "parent", "user");
    for one in &listed {
        let (pid, command) = (one.process.pid, plain(&one.command));
        text.push_str(&format!("{pid:>8} {:>8} {:>6}  {command}\n", one.parent, one.user));
    }
    text.push_str(&format!("{} of {total} processes, by the machine's own word\n", listed.len()));
    tell(&text)
}

fn list(of: &OfMachine) -> Result<()> {
    let measures = match ask_at(&of.state, Request::Measures { machine: of.machine.clone() })? {
        Answer::Measures(measures) => measures,
        other => return unexpected(&other),
    };
    if measures.is_empty() {
        return tell("no measure was ever ordered for this machine\n");
    }
    tell(&measures.iter().map(in_words).collect::<String>())
}

fn in_words(measure: &StoredMeasure) -> String {
    let (id, state) = (measure.id, truth_word(&measure.state));
    let mut text = format!("{id}  {state:<12} {}\n", plain(&measure.action.to_string()));
    if let MeasureState::Failed { why } | MeasureState::Unproven { why } = &measure.state {
        text.push_str(&format!("    {}\n", plain(why)));
    }
    let done = measure.receipt.iter().flat_map(|receipt| &receipt.done);
    for line in done {
        text.push_str(&format!("    {}\n", plain(line)));
    }
    text
}

fn blocked(block: &Block) -> Result<Blocked> {
    let peer = match (block.peer.parse(), block.peer.parse::<IpAddr>()) {
        (Ok(network), _) => BlockedPeer::Network(network),
        (Err(_), Ok(address)) => BlockedPeer::Network(address.into()),
        (Err(_), Err(_)) => {
            let name = block.peer.trim_end_matches('.').to_owned();
            let addresses =
                if block.addresses.is_empty() { resolved(&name)? } else { block.addresses.clone() };
            BlockedPeer::Domain { name, addresses }
        }
    };
    let Block { transport, ports, direction, .. } = block;
    Ok(Blocked { peer, transport: *transport, ports: *ports, direction: *direction })
}

/// Here, at the hub: nothing is resolved on a suspect machine.
fn resolved(name: &str) -> Result<Vec<IpAddr>> {
    use std::net::ToSocketAddrs as _;
    let found = (name, 0).to_socket_addrs().with_context(|| {
        format!("{name:?} can't be resolved here: give its addresses with --address")
    })?;
    let mut addresses: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn transport(text: &str) -> Result<Transport, String> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        other => Err(format!("{other:?} is neither tcp nor udp")),
    }
}

fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "inbound" => Ok(Direction::Inbound),
        "outbound" => Ok(Direction::Outbound),
        other => Err(format!("{other:?} is neither inbound nor outbound")),
    }
}

fn ports(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port"));
    Ok(match text.split_once('-') {
        Some((first, last)) => PortRange { first: port(first)?, last: port(last)? },
        None => PortRange::one(port(text)?),
    })
}
