//! What takes the keeper: said to the signer by root on its machine, and then to the hub.
//!
//! The one idea: the hub may be stolen, so the signer takes from it alone nothing that makes anything weaker
//! ([`weakening`]). Whoever is root says such a thing with the same commands as ever: they bring it to the
//! signer first, who knows root by the system, and then to the hub, which has the same signed and brings it to
//! the machines. The hub is asked before what it would have signed, for it knows what was said before and what
//! names answer; nothing of that is said in root's name that root did not say, but for addresses of names.

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::signer::leave::SaidAhead;
use cordon_hub::signer::limits::check_ceiling;
use cordon_hub::signer::{Client, ClientError, OTHER_WORDS, Peer};
use cordon_hub::view::AssignmentDraft;
use cordon_model::asset::Assignment;
use cordon_model::guidance::Bedside;
use cordon_model::ids::MachineId;
use cordon_model::order::Approver;
use cordon_model::policy::{Mode, Policy};
use cordon_respond::names::Pin;
use cordon_respond::weakening;

use crate::control::{Control, unexpected};
use crate::layout::Layout;

/// What would be signed of a machine, and what of it takes the keeper.
pub(crate) struct Preview {
    /// What would be signed.
    pub would: Assignment,
    /// In words, what of it takes the keeper; `None`: the signer does not answer.
    pub weaker: Option<Vec<String>>,
}

/// Has the hub and the signer say what would become of a machine; nothing is done.
///
/// # Errors
/// When the hub refuses.
pub(crate) async fn preview(
    layout: &Layout,
    machine: &str,
    draft: AssignmentDraft,
) -> Result<Preview> {
    let bedside = draft.bedside.clone();
    let request = Request::WouldAssign { machine: machine.to_owned(), draft };
    let would = assigned(Control::at(layout).ask(request).await?)?;
    let weaker = match Client::connect(&layout.signer_socket()).await {
        Err(_) => None,
        Ok(signer) => {
            let before = signer.bedside(would.machine).await.unwrap_or_default();
            let is_other = bedside.is_some_and(|said| said != before);
            let said = is_other.then(|| OTHER_WORDS.to_owned());
            let known = known(&signer, would.machine).await.ok();
            let weaker = known.map(|known| weakening::of_assignment(known.as_ref(), &would));
            weaker.map(|weaker| weaker.into_iter().chain(said).collect())
        }
    };
    Ok(Preview { would, weaker })
}

/// What a preview says of whose leave it takes.
pub(crate) fn leave_words(weaker: Option<&[String]>) -> String {
    match weaker {
        None => {
            "whether it takes root on the hub's machine is not known: the signer does not answer\n"
                .into()
        }
        Some([]) => "nothing becomes weaker: no root on the hub's machine is needed\n".into(),
        Some(weaker) => {
            let lines = weaker.iter().map(|what| format!("  - {what}\n"));
            "takes root on the hub's machine (this command, as root there):\n".to_owned()
                + &lines.collect::<String>()
        }
    }
}

/// What was signed last of a machine.
async fn known(signer: &Client, machine: MachineId) -> Result<Option<Assignment>> {
    match signer.assignment(machine).await {
        Ok(known) => Ok(Some((*known).clone())),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error).context("asking the signer what it knows of the machine"),
    }
}

/// The way to the signer as its keeper.
struct Keeper {
    signer: Client,
    by: Approver,
}

impl Keeper {
    /// `None`: the signer is away, or takes whoever runs this for its hub. Then the hub alone is asked, and says
    /// what it may not have signed.
    async fn at(layout: &Layout) -> Option<Self> {
        let signer = Client::connect(&layout.signer_socket()).await.ok()?;
        if signer.peer().await.ok()? != Peer::Keeper {
            return None;
        }
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        let name = user.map_or_else(|| uid.to_string(), |user| user.name);
        let by = Approver { name: format!("{name} (command line)"), is_clinical: false };
        Some(Self { signer, by })
    }
}

/// Says what a machine is. `hub_moved`: the hub's addresses may be others than were signed.
///
/// # Errors
/// When the hub or the signer refuses, or the hub would have something else signed than was said.
pub(crate) async fn assign(
    layout: &Layout,
    machine: &str,
    draft: AssignmentDraft,
    hub_moved: bool,
) -> Result<Assignment> {
    let control = Control::at(layout);
    let machine = machine.to_owned();
    let mut wanted = draft.clone();
    if let Some(keeper) = Keeper::at(layout).await {
        let request = Request::WouldAssign { machine: machine.clone(), draft: draft.clone() };
        let would = assigned(control.ask(request).await?)?;
        let known = known(&keeper.signer, would.machine).await?;
        check_said(&draft, &would, known.as_ref(), hub_moved)?;
        let says_more = draft.bedside.as_ref().is_some_and(|said| *said != Bedside::default());
        let is_weaker = !weakening::of_assignment(known.as_ref(), &would).is_empty();
        if is_weaker || known.is_none() && says_more {
            let said = keeper.signer.assign(would.clone(), None, Some(keeper.by.clone())).await;
            said.context("the signer refuses")?;
        }
        if let Some(bedside) = &draft.bedside {
            say_bedside(&keeper, would.machine, bedside).await?;
        }
        wanted = as_resolved(draft, would);
    }
    assigned(control.ask(Request::SetAssignment { machine, draft: wanted }).await?)
}

/// Says to the signer what people in front of a machine are told, where that is another word. Of one that it does
/// not know nothing was said.
async fn say_bedside(keeper: &Keeper, machine: MachineId, bedside: &Bedside) -> Result<()> {
    match keeper.signer.bedside(machine).await {
        Ok(known) if known == *bedside => Ok(()),
        Err(ClientError::Refused(_)) => Ok(()),
        Err(error) => Err(error).context("asking the signer what people at the machine are told"),
        Ok(_) => {
            let said = keeper.signer.set_bedside(machine, bedside.clone(), keeper.by.clone()).await;
            said.context("the signer refuses")
        }
    }
}

/// Makes a token that enrols one machine as `draft` says.
///
/// # Errors
/// As [`assign`].
pub(crate) async fn enrol_token(
    layout: &Layout,
    draft: AssignmentDraft,
    good_for_seconds: u32,
) -> Result<String> {
    let control = Control::at(layout);
    let mut wanted = draft.clone();
    if let Some(keeper) = Keeper::at(layout).await {
        let would = assigned(control.ask(Request::WouldEnrol { draft: draft.clone() }).await?)?;
        check_said(&draft, &would, None, true)?;
        // What people there are told, where anything is said of it.
        let bedside = draft.bedside.clone().filter(|said| *said != Bedside::default());
        if !weakening::of_assignment(None, &would).is_empty() || bedside.is_some() {
            let said = SaidAhead::of(would.clone(), draft.name.clone(), bedside);
            let said = keeper.signer.say_ahead(said, keeper.by, good_for_seconds).await;
            said.context("the signer refuses")?;
        }
        wanted = as_resolved(draft, would);
    }
    control.enrol_token(wanted, good_for_seconds).await
}

/// Confirms addresses of a name; `machine` as the hub knows it.
///
/// # Errors
/// When the hub or the signer refuses.
pub(crate) async fn confirm(layout: &Layout, machine: &str, pin: Pin) -> Result<Assignment> {
    let control = Control::at(layout);
    let mut pin = pin;
    if let Some(keeper) = Keeper::at(layout).await {
        let request = Request::Machine { machine: machine.to_owned() };
        let id = match control.ask(request).await? {
            Answer::Machine(detail) => detail.row.id,
            other => return unexpected(&other),
        };
        let by = pin.signed_off_by.take().unwrap_or(keeper.by.name);
        pin.signed_off_by = Some(by);
        keeper.signer.pin(id, pin.clone()).await.context("the signer refuses")?;
    }
    let machine = machine.to_owned();
    assigned(control.ask(Request::ConfirmAddresses { machine, pin }).await?)
}

/// What is to become of the policy.
pub(crate) enum Wish {
    /// This is to hold.
    Policy(Box<Policy>),
    /// Only the mode is to be another.
    Mode(Mode),
}

impl Wish {
    /// What is to hold, where `known` holds. Whose it is and its number are not said by whoever sets it.
    fn over(self, known: &Policy) -> Policy {
        match self {
            Self::Policy(draft) => Policy {
                organisation: known.organisation.clone(),
                revision: known.revision,
                ..*draft
            },
            Self::Mode(mode) => Policy { mode, ..known.clone() },
        }
    }
}

/// What would hold instead of what holds.
pub(crate) struct PolicyPreview {
    /// What holds.
    pub known: Policy,
    /// What would.
    pub would: Policy,
    /// In words, what of it takes the keeper; `None`: the signer does not answer.
    pub weaker: Option<Vec<String>>,
}

/// What would become of the policy; nothing is done.
///
/// # Errors
/// When the hub would not take it.
pub(crate) async fn preview_policy(layout: &Layout, wish: Wish) -> Result<PolicyPreview> {
    let control = Control::at(layout);
    let signed = match Client::connect(&layout.signer_socket()).await {
        Ok(signer) => signer.policy().await.ok().map(|policy| (*policy).clone()),
        Err(_) => None,
    };
    let is_signers = signed.is_some();
    let known = match signed {
        Some(known) => known,
        None => match control.ask(Request::Policy).await? {
            Answer::Policy(known) => *known,
            other => return unexpected(&other),
        },
    };
    let would = wish.over(&known);
    if let Err(what) = check_ceiling(&would) {
        bail!("no signer would sign that, whoever says it: {what}");
    }
    control.ask(Request::CheckPolicy(Box::new(would.clone()))).await?;
    let weaker = is_signers.then(|| weakening::of_policy(&known, &would));
    Ok(PolicyPreview { known, would, weaker })
}

/// Puts a policy in force; the hub's answer.
///
/// # Errors
/// When the hub or the signer refuses.
pub(crate) async fn set_policy(layout: &Layout, wish: Wish) -> Result<Answer> {
    let control = Control::at(layout);
    let Some(keeper) = Keeper::at(layout).await else {
        return control
            .ask(match wish {
                Wish::Policy(draft) => Request::SetPolicy(draft),
                Wish::Mode(mode) => Request::SetMode(mode),
            })
            .await;
    };
    let known = keeper.signer.policy().await.context("asking the signer which policy holds")?;
    let draft = wish.over(&known);
    control.ask(Request::CheckPolicy(Box::new(draft.clone()))).await?;
    if !weakening::of_policy(&known, &draft).is_empty() {
        let said = keeper.signer.set_policy(draft.clone(), keeper.by).await;
        said.context("the signer refuses: nothing was changed")?;
    }
    control.ask(Request::SetPolicy(Box::new(draft))).await
}

fn assigned(answer: Answer) -> Result<Assignment> {
    match answer {
        Answer::Assigned(assignment) => Ok(*assignment),
        other => unexpected(&other),
    }
}

/// The same with what the hub made of it, so that it makes the same of it once more.
fn as_resolved(draft: AssignmentDraft, would: Assignment) -> AssignmentDraft {
    AssignmentDraft {
        lifelines: would.lifelines,
        named: Vec::new(),
        names: would.names,
        protected: Some(would.protected),
        watched: Some(would.watched),
        ..draft
    }
}

/// Whether the hub would have just that signed which was said, and what was said before where nothing was.
fn check_said(
    draft: &AssignmentDraft,
    would: &Assignment,
    known: Option<&Assignment>,
    hub_moved: bool,
) -> Result<()> {
    let other = |what: &str| -> Result<()> {
        bail!(
            "the hub would have {what} signed that you did not say: nothing was signed. If nobody else changes \
             this machine just now, take it that somebody else has the hub in hand"
        )
    };
    let is_typed = |lifeline| {
        draft.lifelines.contains(lifeline)
            || draft.named.iter().any(|said| {
                let address = lifeline.peer.addr();
                let is_given = said.at.is_empty() || said.at.contains(&address);
                let mut services = said.services.iter();
                is_given && services.any(|one| one.at(address, &said.named.name) == *lifeline)
            })
    };
    let name = draft.name.as_ref().or(known.map(|known| &known.name));
    if name.is_some_and(|name| *name != would.name)
        || (draft.tier, &draft.kind, &draft.group) != (would.tier, &would.kind, &would.group)
    {
        return other("a name, tier, kind or group");
    }
    if !would.lifelines.iter().all(is_typed)
        || !draft.lifelines.iter().all(|lifeline| would.lifelines.contains(lifeline))
        || would.names.iter().ne(draft.named.iter().map(|said| &said.named))
    {
        return other("lifelines");
    }
    let before = known.map(|known| known.protected.clone()).unwrap_or_default();
    if would.protected != draft.protected.clone().unwrap_or(before) {
        return other("protected programs");
    }
    let before = known.map(|known| known.watched.clone()).unwrap_or_default();
    if would.watched != draft.watched.clone().unwrap_or(before) {
        return other("watched filesystems");
    }
    if let Some(known) = known
        && known.hub != would.hub
        && !hub_moved
    {
        let list =
            |of: &Assignment| of.hub.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        bail!(
            "the hub says that it is at {} by now, and an isolation keeps {}: nothing was signed. If it has moved, \
             say so with --hub-moved; if it has not, somebody else has it in hand",
            list(would),
            list(known)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::asset::{ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport};
    use cordon_model::named::{NamedDraft, NamedLifeline, Service};
    use cordon_model::time::UtcNanos;

    fn service() -> Service {
        Service {
            transport: Transport::Tcp,
            ports: PortRange::one(104),
            direction: Direction::Outbound,
            signed_off_by: None,
        }
    }

    fn draft() -> AssignmentDraft {
        AssignmentDraft {
            tier: Some(ClinicalTier::Supports),
            lifelines: vec![service().at("10.0.0.7".parse().unwrap(), "logon")],
            named: vec![NamedDraft {
                named: NamedLifeline {
                    host: "pacs.test".parse().unwrap(),
                    name: "PACS".into(),
                    within: vec![],
                },
                at: vec![],
                services: vec![service()],
            }],
            ..AssignmentDraft::default()
        }
    }

    /// As an honest hub resolves [`draft`].
    fn would() -> Assignment {
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let draft = draft();
        let mut lifelines = draft.lifelines;
        lifelines.push(service().at("10.0.0.8".parse().unwrap(), "PACS"));
        Assignment {
            tier: draft.tier,
            lifelines,
            names: draft.named.into_iter().map(|said| said.named).collect(),
            hub: vec!["10.0.0.1:7443".parse().unwrap()],
            ..Assignment::of("RJ1".parse().unwrap(), machine, "ct-1")
        }
    }

    #[test]
    fn a_preview_says_whose_leave_it_takes() {
        assert!(leave_words(None).contains("not known"));
        assert!(leave_words(Some(&[])).contains("no root on the hub's machine is needed"));
        let said = leave_words(Some(&["tier 2 would become 0".into(), "other permits".into()]));
        assert!(said.starts_with("takes root on the hub's machine"), "{said}");
        assert!(said.ends_with("  - tier 2 would become 0\n  - other permits\n"), "{said}");
    }

    #[test]
    fn what_an_honest_hub_makes_of_it_is_what_was_said() {
        check_said(&draft(), &would(), None, false).unwrap();
        check_said(&draft(), &would(), Some(&would()), false).unwrap();
        let protected = Protected { units: vec!["pacs.service".into()], ..Protected::default() };
        let before = Assignment { protected, ..would() };
        check_said(&draft(), &before, Some(&before), false).unwrap();
    }

    #[test]
    fn nothing_is_said_in_roots_name_that_a_stolen_hub_slips_in() {
        let (at_ours, foreign) = ("10.0.0.8".parse().unwrap(), "203.0.113.9".parse().unwrap());
        let with = |lifeline: Lifeline| {
            let mut would = would();
            would.lifelines.push(lifeline);
            would
        };
        let other_port = Service { ports: PortRange::one(445), ..service() };
        let slipped = [
            Assignment { name: "ct-2".into(), ..would() },
            Assignment { tier: Some(ClinicalTier::None), ..would() },
            Assignment { kind: Some("CT".into()), ..would() },
            Assignment { group: Some("ward".into()), ..would() },
            with(service().at(foreign, "update server")),
            with(other_port.at(at_ours, "PACS")),
            Assignment { lifelines: would().lifelines.split_off(1), ..would() },
            Assignment { names: vec![], ..would() },
            Assignment {
                protected: Protected { units: vec!["evil.service".into()], ..Protected::default() },
                ..would()
            },
            Assignment { watched: vec![cordon_model::action::FilePath::new(b"/srv")], ..would() },
        ];
        for slipped in slipped {
            assert!(check_said(&draft(), &slipped, Some(&would()), true).is_err(), "{slipped:?}");
        }
        let mut given = draft();
        given.named[0].at = vec![foreign];
        assert!(
            check_said(&given, &would(), None, true).is_err(),
            "another address than was given"
        );
        let moved = Assignment { hub: vec!["203.0.113.9:7443".parse().unwrap()], ..would() };
        let refused = check_said(&draft(), &moved, Some(&would()), false).unwrap_err();
        assert!(refused.to_string().contains("--hub-moved"), "{refused}");
        check_said(&draft(), &moved, Some(&would()), true).unwrap();
    }
}
