//! `cordon measure`: what can be done to a machine besides isolating it, and taken back again.
//!
//! A process is named by its number *and* what the machine says of it now, so that a number that has been
//! given to another process by then is refused there, and nothing else is stopped in its place.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, ListedMeasure, Request};
use cordon_hub::effect;
use cordon_hub::view::{MeasurePreview, Ordered};
use cordon_model::action::{
    AccountTarget, Action, Blocked, BlockedPeer, Collection, Denied, FilePath, FileTarget, Piece,
    ProcessTarget, Sha256Digest,
};
use cordon_model::approval::Needs;
use cordon_model::asset::{ClinicalTier, Direction, PortRange, Transport};
use cordon_model::ids::MeasureId;
use cordon_model::look::Seen;
use cordon_model::measure::{Isolation, MeasureState, Receipt};

use crate::cli::StateArg;
use crate::control::{
    Control, ask_at, block_on, may_order, plain, say_ordered, tell, tier_words, truth_word,
    unexpected,
};
use crate::shown::{GATHERED_WITHIN, PROOF_WITHIN, Wait, Wanted, ordered, until_so};

/// The most that an archive holds unless said otherwise: 256 MiB, what a slow disk writes in seconds.
const ARCHIVE_BYTES: u64 = 256 << 20;

/// Names of what care needs that a preview tells.
const NAMED: usize = 12;

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
    #[arg(long, required_unless_present = "preview")]
    reason: Option<String>,
    /// Only show what it would stop, and what it would leave alone; nothing is done.
    #[arg(long)]
    preview: bool,
    /// Do not ask at the terminal, once it is shown what will stop.
    #[arg(long)]
    yes: bool,
    /// Do not wait for the machine's proof.
    #[arg(long)]
    no_wait: bool,
}

impl On {
    fn reason(&self) -> String {
        self.reason.clone().unwrap_or_default()
    }
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
    /// Processes whose memory is gathered too, by their numbers. It may hold patients' data and passwords:
    /// two people have to agree.
    #[arg(long = "memory", value_name = "PID")]
    memory_of: Vec<u32>,
    /// Processes whose environment is gathered too; two people have to agree.
    #[arg(long = "environment", value_name = "PID")]
    environment_of: Vec<u32>,
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

/// Runs it. What orders waits for the machine's proof, and ends with 0 if that was given.
pub fn run(measure: &Measure) -> Result<ExitCode> {
    match measure {
        Measure::List(of) => list(of).map(|()| ExitCode::SUCCESS),
        Measure::Processes(of) => processes(of).map(|()| ExitCode::SUCCESS),
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
        Measure::Collect(collect) => begin(&collect.on, collection(collect)?),
        Measure::Undo(Undo { on, measure }) => undo(on, *measure),
    }
}

fn begin(on: &On, action: Action) -> Result<ExitCode> {
    action.check()?;
    let within = match &action {
        Action::Collect(_) => GATHERED_WITHIN,
        _ => PROOF_WITHIN,
    };
    let control = Control::at(&on.of.state.layout());
    let (machine, reason) = (on.of.machine.clone(), on.reason());
    block_on(async {
        let preview = preview(&control, &machine, action.clone()).await?;
        if on.preview {
            tell(&(foretold(&preview) + "nothing is ordered: this was a preview\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        tell(&foretold(&preview))?;
        if wants_a_yes(&preview) && !may_order(&preview.machine.name, on.yes)? {
            return Ok(ExitCode::FAILURE);
        }
        let wait = Wait::from_now(on.no_wait, within);
        let answer = control.ask(Request::Begin { machine, action, reason }).await?;
        ordered(&control, wait, &answer).await
    })
}

/// What `action` would do to the machine now.
pub(crate) async fn preview(
    control: &Control,
    machine: &str,
    action: Action,
) -> Result<MeasurePreview> {
    let request = Request::PreviewMeasure { machine: machine.to_owned(), action };
    match control.ask(request).await? {
        Answer::MeasurePreview(preview) => Ok(*preview),
        other => unexpected(&other),
    }
}

/// Whether whoever has read the preview is asked once more: something stops, and either care may depend on the
/// machine or it is not brought back. What only gathers or looks waits for nobody.
pub(crate) fn wants_a_yes(preview: &MeasurePreview) -> bool {
    let tier = preview.machine.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
    match &preview.action {
        Action::Collect(_) | Action::Isolate(Isolation::Watch) => false,
        Action::Kill(_) | Action::DisableAccount(AccountTarget { ends_sessions: true, .. }) => true,
        _ => tier.is_clinical(),
    }
}

/// What it would do, in the words in which the console says it before its button.
pub(crate) fn foretold(preview: &MeasurePreview) -> String {
    let MeasurePreview { machine, action, protected, needs, night, cautions, would } = preview;
    let tier = machine.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
    let effect = effect::of(action.kind());
    let mut text = format!(
        "{} on {} ({}), if it is ordered:\n  does   {}\n  care   {}\n",
        plain(&action.to_string()),
        plain(&machine.name),
        tier_words(machine.tier),
        effect.does,
        effect.means_for_care,
    );
    let mut say = |word: &str, what: &str| text += &format!("  {word:<6} {}\n", plain(what));
    let listed = |lines: &[String], of: u32| {
        let more = (of as usize).saturating_sub(lines.len());
        let more = (more > 0).then(|| format!("and {more} more"));
        lines.iter().cloned().chain(more).collect::<Vec<String>>()
    };
    match would {
        Ok(would) => {
            if let Some(why) = &would.refused {
                say("REFUSED", &format!("by the machine, nothing is done: {why}"));
            }
            listed(&would.stops, would.of).iter().for_each(|line| say("stops", line));
            listed(&would.spares, would.spares_of).iter().for_each(|line| say("spares", line));
            would.notes.iter().for_each(|line| say("note", line));
        }
        Err(why) => say("now", &format!("what it would hit there is not known: {why}")),
    }
    let named: Vec<String> = protected.names().take(NAMED).collect();
    match protected.len() {
        0 => say(
            "care",
            "nobody has named what care needs on it: only what the machine needs is spared",
        ),
        of if of > named.len() => {
            say(
                "care",
                &format!("spared there: {} and {} more", named.join(", "), of - named.len()),
            );
        }
        _ => say("care", &format!("spared there: {}", named.join(", "))),
    }
    say("back", effect.way_back);
    say("ends", effect::at_end(action, tier));
    if *needs != Needs::OnePerson {
        say("needs", &needs.to_string());
    }
    if let Some(people) = night {
        say("needs", &format!("at this hour a yes of {}", people.join(", ")));
    }
    cautions.iter().for_each(|caution| say("NOTE", caution));
    text
}

fn undo(on: &On, measure: MeasureId) -> Result<ExitCode> {
    if on.preview {
        bail!("taking a measure back has no preview: nothing was done");
    }
    let began = Instant::now();
    let control = Control::at(&on.of.state.layout());
    let (machine, reason) = (on.of.machine.clone(), on.reason());
    block_on(async {
        let answer = control.ask(Request::Undo { machine, measure, reason }).await?;
        say_ordered(&answer)?;
        let (machine, is_linked) = match answer {
            Answer::Ordered { machine, ordered: Ordered::Signed { is_linked, .. } } => {
                (machine, is_linked)
            }
            Answer::Ordered { .. } => return Ok(ExitCode::FAILURE),
            other => return unexpected(&other),
        };
        if on.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        if !is_linked {
            return Ok(ExitCode::FAILURE);
        }
        let gone = [(machine, Wanted::Gone(vec![measure]))];
        Ok(until_so(&control, began, "TAKEN BACK", &gone).await)
    })
}

fn seen(of: &OfMachine) -> Result<Seen> {
    match ask_at(&of.state, Request::Processes { machine: of.machine.clone() })? {
        Answer::Seen(seen) => Ok(*seen),
        other => unexpected(&other),
    }
}

fn collection(collect: &Collect) -> Result<Action> {
    let Collect { on, files, memory_of, environment_of, most_bytes } = collect;
    let mut pieces = Piece::OF_ANY_MACHINE.to_vec();
    pieces.extend(files.iter().map(|path| Piece::File(FilePath::new(path.as_bytes()))));
    let memory = targets(&on.of, memory_of)?;
    pieces.extend(memory.into_iter().map(Piece::Memory));
    let environments = targets(&on.of, environment_of)?;
    pieces.extend(environments.into_iter().map(Piece::Environment));
    Ok(Action::Collect(Collection { pieces, most_bytes: *most_bytes }))
}

/// The process as the machine says that it is now.
fn target(one: &OnProcess) -> Result<ProcessTarget> {
    let mut found = targets(&one.on.of, &[one.pid])?;
    found.pop().with_context(|| format!("the machine has no process {}", one.pid))
}

/// Processes as the machine says that they are now. It is asked only if one is named.
fn targets(of: &OfMachine, pids: &[u32]) -> Result<Vec<ProcessTarget>> {
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let Seen::Processes { listed, boot, .. } = seen(of)? else {
        bail!("the machine did not tell its processes");
    };
    let mut targets = Vec::new();
    for pid in pids {
        let found = listed.iter().find(|listed| listed.process.pid == *pid);
        let found = found.with_context(|| format!("the machine has no process {pid}"))?;
        println!("process {pid}: {}", plain(&found.command));
        targets.push(ProcessTarget { boot: boot.clone(), process: found.process.clone() });
    }
    Ok(targets)
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

fn in_words(listed: &ListedMeasure) -> String {
    let measure = &listed.measure;
    let (id, state) = (measure.id, truth_word(&measure.state));
    let what = match listed.is_release {
        true => "release".to_owned(),
        false => plain(&measure.action.to_string()),
    };
    let mut text = format!("{id}  {state:<12} {what}\n");
    if let MeasureState::Failed { why } | MeasureState::Unproven { why } = &measure.state {
        text.push_str(&format!("    {}\n", plain(why)));
    }
    for line in measure.receipt.iter().flat_map(Receipt::told) {
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
