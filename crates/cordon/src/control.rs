//! The command line's half of the hub's control socket: words to requests, answers to words.
//!
//! Whoever may open the socket (root, or the hub's own user) administers the hub; what is done is written
//! in the ledger under the name of the system's user.

use std::io::{BufRead, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request, Status, ask};
use cordon_hub::view::{AssignmentDraft, MachineRow, Ordered, Preview};
use cordon_model::approval::{Needs, NightGap};
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Transport};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_store::Role;

use crate::cli::StateArg;
use crate::layout::Layout;
use crate::shown::{PROOF_WITHIN, Wait, ordered};

/// How much of a typed answer is read.
const MOST_TYPED: u64 = 64;

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

/// Names come from machines: nothing in them may drive a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
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
    /// Order it without a typed yes, which is asked for on a terminal where the machine's tier is 2, 3 or not
    /// said.
    #[arg(long)]
    yes: bool,
    /// Do not wait for the machine's proof.
    #[arg(long)]
    no_wait: bool,
}

fn isolation(text: &str) -> Result<Isolation, String> {
    [Isolation::Watch, Isolation::Segment, Isolation::Full]
        .into_iter()
        .find(|isolation| isolation.as_str() == text)
        .ok_or_else(|| format!("{text:?} is no mode: use watch, segment or full"))
}

/// Cuts a machine off and waits for its proof, or shows what that would do.
pub fn isolate(args: &IsolateArgs) -> Result<ExitCode> {
    let control = Control::at(&args.state.layout());
    block_on(async {
        let (machine, isolation) = (args.machine.clone(), args.mode);
        let preview = Request::Preview { machine: machine.clone(), isolation };
        let preview = match control.ask(preview).await? {
            Answer::Preview(preview) => preview,
            other => return unexpected(&other),
        };
        say_preview(&preview);
        if args.preview {
            return Ok(ExitCode::SUCCESS);
        }
        if wants_a_yes(&preview) && !may_order(&preview.machine.name, args.yes)? {
            return Ok(ExitCode::FAILURE);
        }
        let needs = preview.needs;
        let wait = Wait::from_now(args.no_wait, PROOF_WITHIN);
        let request = Request::Isolate { machine, isolation, reason: args.reason.clone() };
        let answer = match control.ask(request).await {
            // The signer decides; what people can do then, they have to be told here.
            Err(refused) if needs == Needs::TwoKeysOneClinical => bail!(
                "{refused:#}. Nothing is cut. Ring the clinical lead and the network team, and act by hand \
                 (docs/3am.md)"
            ),
            answer => answer?,
        };
        ordered(&control, wait, &answer).await
    })
}

/// Whether whoever has read the preview is asked once more: everything is cut, or something is and care may
/// depend on the machine. A watch opens or only looks, and waits for nobody.
pub(crate) fn wants_a_yes(preview: &Preview) -> bool {
    let tier = preview.machine.tier.unwrap_or(ClinicalTier::WHEN_UNKNOWN);
    preview.cuts_everything_else || (tier.is_clinical() && preview.isolation > Isolation::Watch)
}

/// Asks, on a terminal, whoever has read what will stop. Without one nobody is there to be asked; who gave
/// `--yes` has answered before.
pub(crate) fn may_order(machine: &str, is_answered: bool) -> Result<bool> {
    if is_answered || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    print!("{}: type yes to order this: ", plain(machine));
    std::io::stdout().flush().context("writing to standard output: nothing is ordered")?;
    let is_so = is_a_yes(&mut std::io::stdin().lock())?;
    if !is_so {
        println!("nothing is ordered");
    }
    Ok(is_so)
}

/// Nothing but the whole word: a habit of pressing a key is no answer.
pub(crate) fn is_a_yes(answers: &mut impl BufRead) -> Result<bool> {
    let mut answer = String::new();
    answers
        .take(MOST_TYPED)
        .read_line(&mut answer)
        .context("reading the answer: nothing is ordered")?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
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

pub(crate) fn say_preview(preview: &Preview) {
    let tier = tier_words(preview.machine.tier);
    println!("{} of {} ({tier}):", preview.isolation, plain(&preview.machine.name));
    if preview.cuts_everything_else {
        println!("  stops  everything but what lives below");
    }
    for (transport, ports) in &preview.cut {
        println!("  stops  {}", service_words(*transport, *ports));
    }
    for lifeline in &preview.lifelines {
        println!("  lives  {}", plain(&lifeline_words(lifeline)));
    }
    println!("{}", hub_words(preview.loses_the_hub()));
    match &preview.open_now {
        Ok(open) => {
            if open.flows.is_empty() {
                println!("  now    no connection is open");
            }
            for flow in &open.flows {
                println!("  now    {}", plain(&flow.in_words()));
            }
            if open.listed < open.of {
                println!("  now    {} of {} connections were told", open.listed, open.of);
            }
            for what in &open.unseen {
                println!("  now    not known: {}", plain(what));
            }
        }
        Err(why) => println!("  now    what is open there is not known: {}", plain(why)),
    }
    match preview.needs {
        Needs::OnePerson => {}
        needs => println!("  needs  {needs}"),
    }
    for caution in &preview.cautions {
        println!("  NOTE   {}", plain(caution));
    }
}

/// What becomes of the link to the hub, and what lives in any case.
fn hub_words(is_lost: bool) -> &'static str {
    if is_lost {
        "  stops  the link to the hub: its tunnel is no lifeline, and no release reaches the machine\n  \
         lives  loopback, address configuration"
    } else {
        "  lives  loopback, address configuration, the link to the hub"
    }
}

/// A tier, and what an unknown one counts as.
pub(crate) fn tier_words(tier: Option<ClinicalTier>) -> String {
    tier.map_or_else(|| "tier not said: treated as clinical".to_owned(), |tier| tier.to_string())
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
        Answer::Ordered { ordered, .. } => {
            say_order(ordered);
            Ok(())
        }
        other => unexpected(other),
    }
}

pub(crate) fn say_order(ordered: &Ordered) {
    match ordered {
        Ordered::Signed { order, is_linked: true } => {
            println!("order {order} is signed; on its way");
        }
        Ordered::Signed { order, is_linked: false } => println!(
            "order {order} is signed; it WAITS: the machine is not in contact, and nothing is done there \
             before it is back"
        ),
        Ordered::Asked { approval, needs, night } => {
            println!("not ordered yet: {needs} must agree. Question {approval} waits for them:");
            if let Some(people) = night {
                println!("at this hour only {} may say yes", plain(&people.join(", ")));
            }
            println!("they sign in to the console and answer there");
        }
    }
}

/// Says what is missing at night, after what was done.
pub fn tell_night(gap: Option<&NightGap>) -> Result<()> {
    match gap {
        None => Ok(()),
        Some(gap) => tell(&format!("WARNING: {}\n", plain(&gap.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_hub::view::Contact;
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    #[test]
    fn a_link_that_is_cut_is_said_to_stop() {
        let lines = |is_lost| hub_words(is_lost).lines().collect::<Vec<_>>();
        let lost = lines(true);
        assert!(lost[0].starts_with("  stops  the link to the hub"), "{lost:?}");
        assert_eq!(lost[1], "  lives  loopback, address configuration");
        assert!(lines(false)[0].starts_with("  lives") && lines(false)[0].contains("the hub"));
    }

    fn preview(tier: Option<ClinicalTier>, isolation: Isolation) -> Preview {
        let now = UtcNanos::from_unix_nanos(0);
        let machine = MachineRow {
            id: MachineId::new(now, [1; 10]),
            name: "ct-2".into(),
            host: "ct-2".into(),
            tier,
            kind: None,
            group: None,
            contact: Contact::Linked { heard: now },
            isolation: None,
            truth: None,
            unknown: None,
            opened_by_code: None,
            gaps: Vec::new(),
            lowers: None,
            to_confirm: Vec::new(),
            counts: None,
        };
        Preview {
            machine,
            isolation,
            lifelines: Vec::new(),
            cut: Vec::new(),
            cuts_everything_else: isolation == Isolation::Full,
            needs: Needs::OnePerson,
            night: None,
            stand_ins: None,
            cautions: Vec::new(),
            open_now: Err("a test".into()),
        }
    }

    #[test]
    fn who_cuts_off_what_care_may_depend_on_is_asked_once_more() {
        use ClinicalTier::{Clinical, LifeSustaining, None as Office, Supports};
        let wants = |tier, isolation| wants_a_yes(&preview(tier, isolation));
        for tier in [Some(Clinical), Some(LifeSustaining), None, Some(Office), Some(Supports)] {
            assert!(wants(tier, Isolation::Full));
            let is_clinical = tier != Some(Office) && tier != Some(Supports);
            assert_eq!(wants(tier, Isolation::Segment), is_clinical, "{tier:?}");
        }
        assert!(!wants_a_yes(&preview(Some(Clinical), Isolation::Watch)), "it waits for nobody");
    }

    #[test]
    fn only_the_whole_word_is_a_yes() {
        for (typed, is_yes) in
            [("yes\n", true), (" YES \n", true), ("y\n", false), ("\n", false), ("", false)]
        {
            assert_eq!(is_a_yes(&mut typed.as_bytes()).unwrap(), is_yes, "{typed:?}");
        }
        let endless = "yes".repeat(1_000);
        assert!(!is_a_yes(&mut endless.as_bytes()).unwrap());
    }
}
