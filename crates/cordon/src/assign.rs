//! What a machine is, said at the command line: for one that is known, one that is still to enrol, and one
//! that is no more.

use anyhow::Result;
use cordon_hub::view::AssignmentDraft;
use cordon_model::action::FilePath;
use cordon_model::asset::{Assignment, ClinicalTier, Lifeline, Protected};
use cordon_model::guidance::{Bedside, Contact as Ring, check_contacts};
use cordon_model::named::NamedDraft;

use crate::cli::StateArg;
use crate::control::{block_on, plain, tell};
use crate::keeper::{self, Answered, StruckOff};
use crate::lifelines::{Said, in_words, said};

/// An enrolment token is good for this long unless said otherwise, in seconds.
const TOKEN_GOOD_FOR: u32 = 24 * 3600;

/// What a machine is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DraftArgs {
    /// What people call it; if not given it keeps its name, and a new one is called as it calls itself.
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
    /// of ports `2000-2010`. By name: `pacs.trust.example:104/tcp`, or a need that is known by a word,
    /// `smb:`, `print:`, `print-server:`, `logon:`, `citrix:`, `rds:` and the name. The hub resolves it now and
    /// the addresses are signed; `at ADDRESS,…` gives them instead, `within NETWORK,…` lets further ones be
    /// followed. `signed-off-by NAME` at the end for a lateral-movement port. May be repeated.
    #[arg(long, value_parser = said)]
    lifeline: Vec<Said>,
    /// A program that care needs there, by its absolute path: no order stops it, and what it runs neither;
    /// people are asked. May be repeated; none of these four: as it was said before.
    #[arg(long, value_parser = program)]
    protect: Vec<FilePath>,
    /// The same for a unit of systemd: `pacs-viewer.service`.
    #[arg(long)]
    protect_unit: Vec<String>,
    /// The same for a control group and all below it: `/machine.slice/modality`.
    #[arg(long)]
    protect_cgroup: Vec<String>,
    /// Nothing there is protected any more.
    #[arg(long, conflicts_with_all = ["protect", "protect_unit", "protect_cgroup"])]
    protect_nothing: bool,
    /// A filesystem there, by its mount point (a data, home or scratch disk), on which every program is looked at
    /// before it starts while a content is denied: a copy under any name can't be started then. Never that of
    /// `/`, nor one that holds something that the machine needs. May be repeated; none: as it was said before.
    #[arg(long, value_name = "MOUNT_POINT")]
    watch_for_content: Vec<String>,
    /// No filesystem there is watched any more.
    #[arg(long, conflicts_with = "watch_for_content")]
    watch_nothing: bool,
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
            lifelines: self.pinned(),
            named: self.named(),
            names: Vec::new(),
            protected: self.protected(),
            watched: self.watched(),
            bedside: Some(Bedside {
                place: self.place.clone(),
                instead: self.instead.clone(),
                ring: self.ring.clone(),
            }),
        }
    }
}

impl DraftArgs {
    fn pinned(&self) -> Vec<Lifeline> {
        let pinned = self.lifeline.iter().filter_map(|said| match said {
            Said::Pinned(lifeline) => Some(lifeline.clone()),
            Said::Named(_) => None,
        });
        pinned.collect()
    }

    fn named(&self) -> Vec<NamedDraft> {
        let named = self.lifeline.iter().filter_map(|said| match said {
            Said::Named(named) => Some(named.clone()),
            Said::Pinned(_) => None,
        });
        named.collect()
    }

    /// What is needed for care, if anything was said of it.
    fn protected(&self) -> Option<Protected> {
        let protected = Protected {
            units: self.protect_unit.clone(),
            cgroups: self.protect_cgroup.clone(),
            executables: self.protect.clone(),
        };
        Some(protected).filter(|said| self.protect_nothing || *said != Protected::default())
    }

    /// The filesystems to watch, if anything was said of them.
    fn watched(&self) -> Option<Vec<FilePath>> {
        let watched = self.watch_for_content.iter().map(|path| FilePath::new(path.as_bytes()));
        Some(watched.collect()).filter(|said: &Vec<_>| self.watch_nothing || !said.is_empty())
    }
}

/// One that can never be met protects nothing, and nobody would notice.
fn program(text: &str) -> Result<FilePath, String> {
    let path = FilePath::new(text.as_bytes());
    path.check().map_err(|error| error.to_string())?;
    Ok(path)
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

/// `cordon assign`
#[derive(Debug, Clone, clap::Args)]
pub struct AssignArgs {
    #[command(flatten)]
    state: StateArg,
    /// The machine's name or id.
    machine: String,
    #[command(flatten)]
    draft: DraftArgs,
    /// Only show what would be signed, with the addresses that names have now, and whether it takes root.
    #[arg(long)]
    preview: bool,
    /// The hub has moved: its addresses, which every isolation keeps, are others than were signed.
    #[arg(long)]
    hub_moved: bool,
    /// Have it signed without a typed yes, which root is asked for on a terminal where it takes root.
    #[arg(long)]
    yes: bool,
}

/// Says what a machine is.
pub fn assign(args: &AssignArgs) -> Result<()> {
    let (layout, draft) = (args.state.layout(), args.draft.draft());
    if args.preview {
        let preview = block_on(keeper::preview(&layout, &args.machine, draft.clone()))?;
        let words = draft_words(&args.machine, "would be", &draft, &preview.would);
        return tell(&(words + &keeper::leave_words(preview.weaker.as_deref())));
    }
    let answered = Answered { hub_moved: args.hub_moved, yes: args.yes };
    let assigned = keeper::assign(&layout, &args.machine, draft.clone(), answered);
    let signed = block_on(assigned)?;
    // All of it, for what was not said again is gone.
    tell(&draft_words(&args.machine, "is now", &draft, &signed))
}

fn draft_words(machine: &str, verb: &str, draft: &AssignmentDraft, signed: &Assignment) -> String {
    let said = |what: &Option<String>| plain(what.as_deref().unwrap_or("not said"));
    let tier = draft.tier.map_or_else(
        || "not said: treated as clinical (2)".to_owned(),
        |tier| tier.number().to_string(),
    );
    let mut text = format!(
        "{} {verb}\n  id         {}\n  called     {}\n  tier       {tier}\n  group      {}\n  kind       {}\n",
        plain(machine),
        signed.machine,
        match (&draft.name, signed.name.as_str()) {
            (Some(name), _) => plain(name),
            (None, "") => "as it calls itself".to_owned(),
            (None, kept) => plain(kept),
        },
        said(&draft.group),
        said(&draft.kind),
    );
    text += &in_words(signed);
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
    let seconds = args.good_for.saturating_mul(3600);
    let layout = args.state.layout();
    let token = keeper::enrol_token(&layout, args.draft.draft(), seconds);
    println!("{}", block_on(token)?);
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
    /// Also if it is cut off, or may be, or another measure is in force on it: it stays so, and only a
    /// break-glass code opens it then.
    #[arg(long)]
    though_cut_off: bool,
}

/// Strikes a machine off: for one that is stolen, taken over or gone.
pub fn strike_off(args: &StrikeOffArgs) -> Result<()> {
    let StrikeOffArgs { state, machine, reason, though_cut_off } = args;
    let layout = state.layout();
    let struck = block_on(keeper::strike_off(&layout, machine, reason, *though_cut_off))?;
    tell(&struck_words(machine, &struck))
}

/// What is said of a machine that was struck off: its id too, where it was named otherwise.
fn struck_words(typed: &str, struck: &StruckOff) -> String {
    let (id, name) = (struck.machine.to_string(), plain(typed));
    let which = if name == id { id } else { format!("{name} ({id})") };
    let is = if struck.was { "was struck off already" } else { "is struck off" };
    let mut text =
        format!("{which} {is}: its link has ended, and its certificate opens nothing any more.\n");
    for line in &struck.said {
        text += &format!("  {}\n", plain(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use cordon_model::ids::MachineId;
    use cordon_model::time::UtcNanos;

    use super::*;

    #[test]
    fn whoever_strikes_a_machine_off_is_told_which_and_whether_it_was_so_already() {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [7; 10]);
        let of = |was, said: &[&str]| StruckOff {
            machine,
            was,
            said: said.iter().map(|line| (*line).to_owned()).collect(),
        };
        let ends = "its link has ended, and its certificate opens nothing any more.";
        assert_eq!(
            struck_words("office-7\u{7}", &of(false, &["its permit\u{1b}[2J"])),
            format!(
                "{} ({machine}) is struck off: {ends}\n  {}\n",
                plain("office-7\u{7}"),
                plain("its permit\u{1b}[2J")
            )
        );
        let by_id = struck_words(&machine.to_string(), &of(true, &[]));
        assert_eq!(by_id, format!("{machine} was struck off already: {ends}\n"));
        assert!(!struck_words("\u{1b}[2J", &of(false, &["\u{1b}"])).contains('\u{1b}'));
    }
}
