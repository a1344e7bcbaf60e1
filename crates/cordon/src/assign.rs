//! What a machine is, said at the command line: for one that is known, one that is still to enrol, and one
//! that is no more.

use anyhow::Result;
use cordon_hub::control::{Answer, Request};
use cordon_hub::view::AssignmentDraft;
use cordon_model::action::FilePath;
use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport};
use cordon_model::guidance::{Bedside, Contact as Ring, check_contacts};

use crate::cli::StateArg;
use crate::control::{Control, ask_at, block_on, lifeline_words, plain, tell, unexpected};

/// An enrolment token is good for this long unless said otherwise, in seconds.
const TOKEN_GOOD_FOR: u32 = 24 * 3600;

/// What a machine is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DraftArgs {
    /// What people call it; as it calls itself if not given.
    #[arg(long)]
    called: Option<String>,
    /// Clinical tier: 0 none, 1 supports care, 2 clinical, 3 life-sustaining. Unknown counts as 2.
    #[arg(long, value_parser = tier)]
    tier: Option<ClinicalTier>,
    /// Ward or department.
    #[arg(long)]
    group: Option<String>,
    /// What it is, where others of the same kind can stand in for it.
    #[arg(long)]
    kind: Option<String>,
    /// A flow that containment keeps: `NAME=outbound tcp 10.0.0.1/32 11112`, or `inbound`, `udp`, a range
    /// of ports `2000-2010`; `signed-off-by NAME` at the end for a lateral-movement port. May be repeated.
    #[arg(long, value_parser = lifeline)]
    lifeline: Vec<Lifeline>,
    /// A program that care needs there, by its absolute path: without people it is not stopped, and what it
    /// runs neither. May be repeated; none of these three: as it was said before.
    #[arg(long)]
    protect: Vec<String>,
    /// The same for a unit of systemd: `pacs-viewer.service`.
    #[arg(long)]
    protect_unit: Vec<String>,
    /// The same for a control group and all below it: `/machine.slice/modality`.
    #[arg(long)]
    protect_cgroup: Vec<String>,
    /// Where it stands, for people who are sent there: `Ward 7, bay 2`.
    #[arg(long)]
    place: Option<String>,
    /// Where the person in front of it is to go when no other of its kind is known to work.
    #[arg(long)]
    instead: Option<String>,
    /// Whom that person is to ring: `WHO=NUMBER`. May be repeated; none: as the policy says.
    #[arg(long, value_parser = contact)]
    ring: Vec<Ring>,
}

impl DraftArgs {
    fn draft(&self) -> AssignmentDraft {
        AssignmentDraft {
            name: self.called.clone(),
            tier: self.tier,
            kind: self.kind.clone(),
            group: self.group.clone(),
            lifelines: self.lifeline.clone(),
            protected: self.protected(),
            bedside: Some(Bedside {
                place: self.place.clone(),
                instead: self.instead.clone(),
                ring: self.ring.clone(),
            }),
        }
    }
}

impl DraftArgs {
    /// What is needed for care, if anything was said of it.
    fn protected(&self) -> Option<Protected> {
        let protected = Protected {
            units: self.protect_unit.clone(),
            cgroups: self.protect_cgroup.clone(),
            executables: self.protect.iter().map(|path| FilePath::new(path.as_bytes())).collect(),
        };
        Some(protected).filter(|protected| *protected != Protected::default())
    }
}

fn contact(text: &str) -> Result<Ring, String> {
    let (who, number) = text.split_once('=').ok_or("whom to ring is WHO=NUMBER")?;
    let contact = Ring { who: who.trim().to_owned(), number: number.trim().to_owned() };
    check_contacts(std::slice::from_ref(&contact)).map_err(|error| error.to_string())?;
    Ok(contact)
}

fn tier(text: &str) -> Result<ClinicalTier, String> {
    let number = text.parse().ok().and_then(ClinicalTier::from_number);
    number.ok_or_else(|| format!("{text:?} is no tier: use 0, 1, 2 or 3"))
}

fn lifeline(text: &str) -> Result<Lifeline, String> {
    const FORM: &str = "a lifeline is NAME=outbound tcp 10.0.0.1/32 11112";
    let (name, rest) = text.split_once('=').ok_or(FORM)?;
    let (flow, signed_off_by) = match rest.split_once(" signed-off-by ") {
        Some((flow, by)) => (flow, Some(by.to_owned())),
        None => (rest, None),
    };
    let words: Vec<&str> = flow.split_whitespace().collect();
    let [direction, transport, peer, ports] = words[..] else { return Err(FORM.into()) };
    let direction = match direction {
        "inbound" => Direction::Inbound,
        "outbound" => Direction::Outbound,
        other => return Err(format!("{other:?} is neither inbound nor outbound")),
    };
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        other => return Err(format!("{other:?} is neither tcp nor udp")),
    };
    let peer = match peer.parse() {
        Ok(network) => network,
        Err(_) => peer
            .parse::<std::net::IpAddr>()
            .map(ipnet::IpNet::from)
            .map_err(|_| format!("{peer:?} is neither an address nor a network"))?,
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port"));
    let ports = match ports.split_once('-') {
        Some((first, last)) => PortRange { first: port(first)?, last: port(last)? },
        None => PortRange::one(port(ports)?),
    };
    let lifeline =
        Lifeline { name: name.trim().to_owned(), peer, transport, ports, direction, signed_off_by };
    lifeline.check().map_err(|error| error.to_string())?;
    Ok(lifeline)
}

/// `cordon assign`
#[derive(Debug, Clone, clap::Args)]
pub struct AssignArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    #[command(flatten)]
    draft: DraftArgs,
}

/// Says what a machine is.
pub fn assign(args: &AssignArgs) -> Result<()> {
    let draft = args.draft.draft();
    let request = Request::SetAssignment { machine: args.machine.clone(), draft: draft.clone() };
    match ask_at(&args.state, request)? {
        // All of it, for what was not said again is gone.
        Answer::Done => tell(&draft_words(&args.machine, &draft)),
        other => unexpected(&other),
    }
}

fn draft_words(machine: &str, draft: &AssignmentDraft) -> String {
    let said = |what: &Option<String>| plain(what.as_deref().unwrap_or("not said"));
    let tier = draft.tier.map_or_else(
        || "not said: treated as clinical (2)".to_owned(),
        |tier| tier.number().to_string(),
    );
    let mut text = format!(
        "{} is now\n  called     {}\n  tier       {tier}\n  group      {}\n  kind       {}\n",
        plain(machine),
        plain(draft.name.as_deref().unwrap_or("as it calls itself")),
        said(&draft.group),
        said(&draft.kind),
    );
    for lifeline in &draft.lifelines {
        text += &format!("  lifeline   {}\n", plain(&lifeline_words(lifeline)));
    }
    if draft.lifelines.is_empty() {
        text += "  lifelines  none\n";
    }
    match &draft.protected {
        None => text += "  protected  as it was said before\n",
        Some(protected) => {
            let programs = protected.executables.iter().map(ToString::to_string);
            for what in protected.units.iter().chain(&protected.cgroups).cloned().chain(programs) {
                text += &format!("  protected  {}\n", plain(&what));
            }
        }
    }
    let bedside = draft.bedside.as_ref();
    for (what, said) in [
        ("place     ", bedside.and_then(|bedside| bedside.place.as_deref())),
        ("instead   ", bedside.and_then(|bedside| bedside.instead.as_deref())),
    ] {
        text += &format!("  {what} {}\n", plain(said.unwrap_or("not said")));
    }
    for ring in bedside.map_or(&[][..], |bedside| &bedside.ring) {
        text += &format!("  ring       {} {}\n", plain(&ring.who), plain(&ring.number));
    }
    text
}

/// `cordon enrol-token`
#[derive(Debug, Clone, clap::Args)]
pub struct EnrolTokenArgs {
    #[command(flatten)]
    state: StateArg,
    #[command(flatten)]
    draft: DraftArgs,
    /// Hours that the token is good for.
    #[arg(long, value_name = "HOURS", default_value_t = TOKEN_GOOD_FOR / 3600)]
    good_for: u32,
}

/// Makes an enrolment token.
pub fn enrol_token(args: &EnrolTokenArgs) -> Result<()> {
    let control = Control::at(&args.state.layout());
    let seconds = args.good_for.saturating_mul(3600);
    println!("{}", block_on(control.enrol_token(args.draft.draft(), seconds))?);
    Ok(())
}

/// `cordon strike-off`
#[derive(Debug, Clone, clap::Args)]
pub struct StrikeOffArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    /// Why; it stands in the ledger.
    #[arg(long)]
    reason: String,
}

/// Strikes a machine off: for one that is stolen, taken over or gone.
pub fn strike_off(args: &StrikeOffArgs) -> Result<()> {
    let (machine, reason) = (args.machine.clone(), args.reason.clone());
    match ask_at(&args.state, Request::StrikeOff { machine, reason })? {
        Answer::Done => tell(&format!(
            "{} is struck off: its link has ended, and its certificate opens nothing any more.\n\
             What is in force on it stays until its lease ends.\n",
            plain(&args.machine)
        )),
        other => unexpected(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifeline_is_written_in_words() {
        let dicom = lifeline("DICOM to the PACS=outbound tcp 10.0.0.1 11112").unwrap();
        assert_eq!(dicom.peer, "10.0.0.1/32".parse().unwrap());
        assert_eq!(lifeline_words(&dicom), "DICOM to the PACS (tcp 11112 outbound to 10.0.0.1/32)");
        assert!(lifeline("files=outbound tcp 10.0.0.0/8 445").is_err());
        assert!(lifeline("files=outbound tcp 10.0.0.1 445 signed-off-by Dr A").is_ok());
        assert!(lifeline("nonsense").is_err());
    }
}
