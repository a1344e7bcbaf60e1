//! The command line's half of the hub's control socket: words to requests, answers to words.
//!
//! Whoever may open the socket (root, or the hub's own user) administers the hub; what is done is written
//! in the ledger under the name of the system's user.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request, Status, ask};
use cordon_hub::view::{
    AssignmentDraft, Contact, EventCounts, IncidentRow, MachineRow, Ordered, Preview,
};
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::policy::Policy;
use cordon_model::time::UtcNanos;
use cordon_store::Role;
use serde_json::json;

use crate::cli::StateArg;
use crate::layout::Layout;

/// A sign-in link is good for this long.
const SIGN_IN_GOOD_FOR: u32 = 15 * 60;

/// The way to a hub on this machine.
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// The hub whose state is at `layout`.
    pub fn at(layout: &Layout) -> Self {
        Self { socket: layout.control_socket() }
    }

    /// Asks it one thing.
    ///
    /// # Errors
    /// If it does not answer, or refuses.
    pub async fn ask(&self, request: Request) -> Result<Answer> {
        let answer = ask(&self.socket, &request).await.with_context(|| {
            format!(
                "no hub answers at {}: is `cordon up` running, and are you root or the hub's user?",
                self.socket.display()
            )
        })?;
        match answer {
            Answer::Refused(why) => bail!("the hub refuses: {why}"),
            answer => Ok(answer),
        }
    }

    /// How the hub is.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&self) -> Result<Status> {
        match self.ask(Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => unexpected(&other),
        }
    }

    /// The machines, the first few hundred by name.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub async fn machines(&self) -> Result<Vec<MachineRow>> {
        match self.ask(Request::ListMachines).await? {
            Answer::Machines { rows, .. } => Ok(rows),
            other => unexpected(&other),
        }
    }

    /// A secret that signs `name` in to the console, once.
    ///
    /// # Errors
    /// If the hub does not make one.
    pub async fn sign_in(&self, name: &str, role: Option<Role>) -> Result<String> {
        let good_for_seconds = SIGN_IN_GOOD_FOR;
        let request = Request::CreateSignIn { name: name.to_owned(), role, good_for_seconds };
        secret(self.ask(request).await?)
    }

    /// A token that enrols one machine, once.
    ///
    /// # Errors
    /// If the hub does not make one.
    pub async fn enrol_token(
        &self,
        draft: AssignmentDraft,
        good_for_seconds: u32,
    ) -> Result<String> {
        secret(self.ask(Request::CreateEnrolToken { draft, good_for_seconds }).await?)
    }
}

fn secret(answer: Answer) -> Result<String> {
    match answer {
        Answer::Secret(secret) => Ok(secret),
        other => unexpected(&other),
    }
}

pub(crate) fn unexpected<T>(answer: &Answer) -> Result<T> {
    bail!("the hub is of another version: it answered {answer:?}")
}

pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

pub(crate) fn ask_at(state: &StateArg, request: Request) -> Result<Answer> {
    block_on(Control::at(&state.layout()).ask(request))
}

/// Whether a hub that runs here with its state in the usual place acts without asking.
pub fn own_hub_acts() -> bool {
    let layout = Layout::new(Layout::default_root());
    let status = block_on(async { Control::at(&layout).status().await });
    status.is_ok_and(|status| status.mode == cordon_model::policy::Mode::Act)
}

/// Prints; a reader that went away has what it wanted.
pub(crate) fn tell(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// `cordon machines`
#[derive(Debug, Clone, clap::Args)]
pub struct MachinesArgs {
    #[command(flatten)]
    state: StateArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lists machines.
pub fn machines(args: &MachinesArgs) -> Result<()> {
    let mut text = String::new();
    let (rows, total) = match ask_at(&args.state, Request::ListMachines)? {
        Answer::Machines { rows, total } => (rows, total),
        other => return unexpected(&other),
    };
    if args.json {
        let rows: Vec<_> = rows.iter().map(machine_json).collect();
        return tell(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    writeln!(
        text,
        "{:<24} {:<5} {:<18} {:<20} {:<22} contact",
        "machine", "tier", "group", "kind", "isolation"
    )?;
    for row in &rows {
        writeln!(
            text,
            "{:<24} {:<5} {:<18} {:<20} {:<22} {}",
            plain(&row.name),
            row.tier.map_or_else(|| "?".to_owned(), |tier| tier.number().to_string()),
            plain(row.group.as_deref().unwrap_or("-")),
            plain(row.kind.as_deref().unwrap_or("-")),
            isolation_words(row),
            contact_words(row.contact),
        )?;
        if let Some(why) = &row.unknown {
            writeln!(text, "    what is in force is not known: {}", plain(why))?;
        }
        for (extent, what) in crate::gaps::lines(&row.gaps) {
            writeln!(text, "    {extent} {what}")?;
        }
        if let Some(EventCounts { seen, lost: lost @ 1.. }) = row.counts {
            writeln!(text, "    LOST {lost} events, beside {seen} seen since its agent started")?;
        }
    }
    writeln!(text, "{} of {total} machines", rows.len())?;
    tell(&text)
}

fn machine_json(row: &MachineRow) -> serde_json::Value {
    let (is_linked, heard) = match row.contact {
        Contact::Linked { heard } => (true, Some(heard)),
        Contact::Silent { heard } => (false, Some(heard)),
        Contact::Never => (false, None),
    };
    json!({
        "id": row.id,
        "name": row.name,
        "host": row.host,
        "tier": row.tier.map(ClinicalTier::number),
        "kind": row.kind,
        "group": row.group,
        "is_linked": is_linked,
        "heard_unix_ns": heard.map(UtcNanos::unix_nanos),
        "isolation": isolation_word(row),
        "truth": match &row.unknown {
            Some(_) => Some("unknown"),
            None => row.truth.as_ref().map(truth_word),
        },
        "unknown": row.unknown,
        "gaps": row.gaps,
        "events": row.counts.map(|counts| counts.seen),
        "lost": row.counts.map(|counts| counts.lost),
    })
}

pub(crate) fn truth_word(state: &MeasureState) -> &'static str {
    match state {
        MeasureState::Requested => "requested",
        MeasureState::Delivered => "delivered",
        MeasureState::Applied => "applied",
        MeasureState::Verified => "verified",
        MeasureState::Unproven { .. } => "unproven",
        MeasureState::SteppedDown => "stepped-down",
        MeasureState::Superseded => "superseded",
        MeasureState::Released => "released",
        MeasureState::Done => "done",
        MeasureState::Failed { .. } => "failed",
    }
}

/// How far, or that nobody knows; `None` is said only of a machine that says that it holds nothing.
fn isolation_word(row: &MachineRow) -> Option<&'static str> {
    let unknown = row.unknown.as_ref().map(|_| "unknown");
    row.isolation.map(Isolation::as_str).or(unknown)
}

fn isolation_words(row: &MachineRow) -> String {
    match (row.isolation, &row.unknown, &row.truth) {
        (Some(isolation), Some(_), _) => format!("{isolation}, UNKNOWN now"),
        (None, Some(_), _) => "UNKNOWN".to_owned(),
        (Some(isolation), None, Some(truth)) => format!("{isolation}, {}", truth_word(truth)),
        (Some(isolation), None, None) => isolation.to_string(),
        (None, None, _) => "-".to_owned(),
    }
}

fn contact_words(contact: Contact) -> String {
    let ago = |heard: UtcNanos| format!("{} s ago", UtcNanos::now().since(heard).as_secs());
    match contact {
        Contact::Linked { heard } => format!("linked, heard {}", ago(heard)),
        Contact::Silent { heard } => format!("SILENT, heard {}", ago(heard)),
        Contact::Never => "never heard".to_owned(),
    }
}

/// Names come from machines: nothing in them may drive a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `cordon incidents`
#[derive(Debug, Clone, clap::Args)]
pub struct IncidentsArgs {
    #[command(flatten)]
    state: StateArg,
    /// Closed ones too.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Lists incidents.
pub fn incidents(args: &IncidentsArgs) -> Result<()> {
    let mut text = String::new();
    let request = Request::ListIncidents { only_open: !args.all };
    let (rows, total) = match ask_at(&args.state, request)? {
        Answer::Incidents { rows, total } => (rows, total),
        other => return unexpected(&other),
    };
    if args.json {
        let rows: Vec<_> = rows.iter().map(incident_json).collect();
        return tell(&(serde_json::to_string_pretty(&rows)? + "\n"));
    }
    for row in &rows {
        let incident = &row.incident;
        writeln!(
            text,
            "{:<13} {} ({} findings, {} isolated, {} questions; {})",
            incident.level,
            plain(&incident.title),
            incident.finding_count,
            row.isolated,
            row.questions,
            incident.owner.as_deref().map_or_else(|| "NOBODY HAS IT".to_owned(), plain),
        )?;
        writeln!(
            text,
            "              on {}   {}",
            plain(&row.machine_names.join(", ")),
            incident.id
        )?;
    }
    writeln!(text, "{} of {total} incidents", rows.len())?;
    tell(&text)
}

fn incident_json(row: &IncidentRow) -> serde_json::Value {
    json!({
        "id": row.incident.id,
        "title": row.incident.title,
        "level": row.incident.level,
        "state": row.incident.state,
        "owner": row.incident.owner,
        "findings": row.incident.finding_count,
        "machines": row.machine_names,
        "isolated": row.isolated,
        "questions": row.questions,
    })
}

/// `cordon isolate`
#[derive(Debug, Clone, clap::Args)]
pub struct IsolateArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// How far: watch, segment (lateral movement is cut) or full (all but lifelines).
    #[arg(long, default_value = "segment", value_parser = isolation)]
    mode: Isolation,
    /// Why, for whoever reads the record.
    #[arg(long)]
    reason: String,
    /// Only show what would stop and what would live.
    #[arg(long)]
    preview: bool,
}

fn isolation(text: &str) -> Result<Isolation, String> {
    [Isolation::Watch, Isolation::Segment, Isolation::Full]
        .into_iter()
        .find(|isolation| isolation.as_str() == text)
        .ok_or_else(|| format!("{text:?} is no mode: use watch, segment or full"))
}

/// Cuts a machine off, or shows what that would do.
pub fn isolate(args: &IsolateArgs) -> Result<()> {
    let (machine, isolation) = (args.machine.clone(), args.mode);
    let preview = Request::Preview { machine: machine.clone(), isolation };
    match ask_at(&args.state, preview)? {
        Answer::Preview(preview) => say_preview(&preview),
        other => return unexpected(&other),
    }
    if args.preview {
        return Ok(());
    }
    let request = Request::Isolate { machine, isolation, reason: args.reason.clone() };
    say_ordered(&ask_at(&args.state, request)?)
}

/// `cordon renew`
#[derive(Debug, Clone, clap::Args)]
pub struct RenewArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Why it has to go on.
    #[arg(long)]
    reason: String,
}

/// Extends the lease of a machine's isolation by the policy's length.
pub fn renew(args: &RenewArgs) -> Result<()> {
    let (machine, reason) = (args.machine.clone(), args.reason.clone());
    say_ordered(&ask_at(&args.state, Request::Renew { machine, reason })?)
}

fn say_preview(preview: &Preview) {
    println!("{} of {}:", preview.isolation, plain(&preview.machine.name));
    if preview.cuts_everything_else {
        println!("  stops  everything but what lives below");
    }
    for (transport, ports) in &preview.cut {
        println!("  stops  {}", service_words(*transport, *ports));
    }
    for lifeline in &preview.lifelines {
        println!("  lives  {}", plain(&lifeline_words(lifeline)));
    }
    println!("  lives  loopback, address configuration, the link to the hub");
    match &preview.open_now {
        Ok(open) if open.flows.is_empty() => println!("  now    no connection is open"),
        Ok(open) => {
            for flow in &open.flows {
                println!("  now    {}", plain(&flow.in_words()));
            }
            if open.listed < open.of {
                println!("  now    {} of {} connections were told", open.listed, open.of);
            }
        }
        Err(why) => println!("  now    what is open there is not known: {}", plain(why)),
    }
    for caution in &preview.cautions {
        println!("  NOTE   {}", plain(caution));
    }
}

fn service_words(transport: Transport, ports: PortRange) -> String {
    let transport = transport_word(transport);
    if ports.first == ports.last {
        format!("{transport} {}", ports.first)
    } else {
        format!("{transport} {}-{}", ports.first, ports.last)
    }
}

fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

pub(crate) fn lifeline_words(lifeline: &Lifeline) -> String {
    let way = match lifeline.direction {
        Direction::Inbound => "inbound from",
        Direction::Outbound => "outbound to",
    };
    let service = service_words(lifeline.transport, lifeline.ports);
    format!("{} ({service} {way} {})", lifeline.name, lifeline.peer)
}

/// Says that an order is signed, and whether it is on its way.
pub(crate) fn say_ordered(answer: &Answer) -> Result<()> {
    match answer {
        Answer::Ordered { ordered: Ordered::Signed { order, is_linked }, .. } => {
            let way =
                if *is_linked { "on its way" } else { "it waits: the machine is not in contact" };
            println!("order {order} is signed; {way}");
            Ok(())
        }
        Answer::Ordered { ordered: Ordered::Asked { approval, needs }, .. } => {
            println!(
                "not ordered yet: {needs} must agree who may at this hour. Question {approval}"
            );
            println!("waits for them: they sign in to the console and answer there");
            Ok(())
        }
        other => unexpected(other),
    }
}

/// `cordon policy`
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    what: PolicyCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum PolicyCommand {
    /// Print the policy in force, as TOML
    Show {
        #[command(flatten)]
        state: StateArg,
    },
    /// Put a policy in force, from a TOML file as `show` prints it (`-`: standard input)
    Apply {
        #[command(flatten)]
        state: StateArg,
        /// The file. Organisation and revision in it are ignored.
        file: PathBuf,
    },
    /// Set how much is done without asking: observe, ask or act
    Mode {
        #[command(flatten)]
        state: StateArg,
        /// The mode.
        mode: String,
    },
}

/// Shows or sets the policy.
pub fn policy(args: &PolicyArgs) -> Result<()> {
    match &args.what {
        PolicyCommand::Show { state } => tell(&toml::to_string_pretty(&current_policy(state)?)?),
        PolicyCommand::Apply { state, file } => {
            let mut text = String::new();
            if file.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
            } else {
                text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            }
            let policy: Policy =
                toml::from_str(&text).with_context(|| file.display().to_string())?;
            set_policy(state, policy)
        }
        PolicyCommand::Mode { state, mode } => {
            let mode = match mode.as_str() {
                "observe" => cordon_model::policy::Mode::Observe,
                "ask" => cordon_model::policy::Mode::Ask,
                "act" => cordon_model::policy::Mode::Act,
                other => bail!("{other:?} is no mode: use observe, ask or act"),
            };
            match ask_at(state, Request::SetMode(mode))? {
                Answer::Done => Ok(()),
                other => unexpected(&other),
            }
        }
    }
}

fn current_policy(state: &StateArg) -> Result<Policy> {
    match ask_at(state, Request::Policy)? {
        Answer::Policy(policy) => Ok(*policy),
        other => unexpected(&other),
    }
}

fn set_policy(state: &StateArg, policy: Policy) -> Result<()> {
    match ask_at(state, Request::SetPolicy(Box::new(policy)))? {
        Answer::Done => Ok(()),
        other => unexpected(&other),
    }
}
