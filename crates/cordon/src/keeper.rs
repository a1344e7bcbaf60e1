//! What takes the keeper: said to the signer by root on its machine, and then to the hub.
//!
//! The one idea: the hub may be stolen, so the signer takes from it alone nothing that makes anything weaker
//! ([`weakening`]). Whoever is root says such a thing with the same commands as ever: they bring it to the
//! signer first, who knows root by the system, and then to the hub, which has the same signed and brings it to
//! the machines. The hub is asked before what it would have signed, for it knows what was said before and what
//! names answer; nothing of that is said in root's name that root did not say, but for addresses of names. Which
//! machine root meant is the signer's to say ([`meant()`]): a hub that answers for another one gets nothing signed.

mod meant;

use anyhow::{Context as _, Result, anyhow, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::signer::leave::SaidAhead;
use cordon_hub::signer::limits::check_ceiling;
use cordon_hub::signer::{Client, ClientError, OTHER_WORDS, Peer};
use cordon_hub::view::AssignmentDraft;
use cordon_model::asset::Assignment;
use cordon_model::guidance::Bedside;
use cordon_model::ids::MachineId;
use cordon_model::limits::NAME_BYTES;
use cordon_model::order::Approver;
use cordon_model::policy::{Mode, Policy};
use cordon_respond::names::Pin;
use cordon_respond::weakening;

use self::meant::{about_to_sign, agree, called, check_machine, known, meant};
use crate::control::{Control, unexpected};
use crate::layout::Layout;

/// What a machine is called at the signer after it was struck off, behind its name.
const STRUCK_OFF: &str = " (struck off)";

/// What is so when the signer has taken root's words for a policy, and then something failed.
const SIGNED_A_POLICY: &str = "the signer HAS signed this policy; the hub did not take it now, and will when it is started \
     next. Once it answers, run the same command again, or set back what held before if that is not meant";

/// The same, said ahead for a machine that is still to enrol.
const SAID_AHEAD: &str = "the signer HAS noted what that machine is to be, for as long as the token was to be good: the hub \
     gave no token for it. Say it again for one; what was noted is good for one machine all the same";

/// The same, for a machine.
const SIGNED_OF_A_MACHINE: &str = "the signer HAS signed it; the hub did not bring it to the machine now, and it may reach \
     the machine at any time. Run the same command again; if it is not meant, say again now what it was before";

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
    let ask = async |machine: String| {
        assigned(Control::at(layout).ask(Request::WouldAssign { machine, draft }).await?)
    };
    let Ok(signer) = Client::connect(&layout.signer_socket()).await else {
        return Ok(Preview { would: ask(machine.to_owned()).await?, weaker: None });
    };
    let machine = meant(&signer, &Control::at(layout), machine).await?;
    let would = ask(machine.to_string()).await?;
    check_machine(machine, &would)?;
    let known = known(&signer, machine).await.ok();
    let said = other_words(&signer, machine, bedside.as_ref()).await.unwrap_or_default();
    let weaker = known.map(|known| weakening::of_assignment(known.as_ref(), &would));
    let weaker = weaker.map(|weaker| weaker.into_iter().chain(said).collect());
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

/// That people at a machine would be told something else, if so. Of a machine that the signer does not know nothing
/// was said.
async fn other_words(
    signer: &Client,
    machine: MachineId,
    said: Option<&Bedside>,
) -> Result<Option<String>> {
    let before = match signer.bedside(machine).await {
        Ok(before) => before,
        Err(ClientError::Refused(_)) => Bedside::default(),
        Err(error) => {
            return Err(error).context("asking the signer what people at the machine are told");
        }
    };
    let is_other = said.is_some_and(|said| *said != before);
    Ok(is_other.then(|| OTHER_WORDS.to_owned()))
}

/// How far root has answered already what is asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answered {
    /// The hub's addresses may be others than were signed.
    pub hub_moved: bool,
    /// What is about to be signed was looked at before.
    pub yes: bool,
}

/// Says what a machine is.
///
/// # Errors
/// When the hub or the signer refuses, or the hub would have something else signed than was said.
pub(crate) async fn assign(
    layout: &Layout,
    machine: &str,
    draft: AssignmentDraft,
    answered: Answered,
) -> Result<Assignment> {
    let control = Control::at(layout);
    let Some(keeper) = Keeper::at(layout).await else {
        let request = Request::SetAssignment { machine: machine.to_owned(), draft };
        return assigned(control.ask(request).await?);
    };
    let machine = meant(&keeper.signer, &control, machine).await?;
    let request = Request::WouldAssign { machine: machine.to_string(), draft: draft.clone() };
    let would = assigned(control.ask(request).await?)?;
    check_machine(machine, &would)?;
    let known = known(&keeper.signer, machine).await?;
    check_said(&draft, &would, known.as_ref(), answered.hub_moved)?;
    let mut takes_root = weakening::of_assignment(known.as_ref(), &would);
    let is_weaker = !takes_root.is_empty();
    let words = other_words(&keeper.signer, machine, draft.bedside.as_ref()).await?;
    let says_more = words.is_some();
    takes_root.extend(words);
    if !takes_root.is_empty() {
        agree(&about_to_sign(machine, known.as_ref(), Some(&would), &takes_root), answered.yes)?;
    }
    let mut is_signed = is_weaker || known.is_none() && says_more;
    if is_signed {
        let said = keeper.signer.assign(would.clone(), None, Some(keeper.by.clone())).await;
        said.context("the signer refuses")?;
    }
    if let Some(bedside) = &draft.bedside {
        let said = say_bedside(&keeper, machine, bedside).await;
        is_signed |= after_signing(said, is_signed, SIGNED_OF_A_MACHINE)?;
    }
    let draft = as_resolved(draft, would.clone());
    let request = Request::SetAssignment { machine: machine.to_string(), draft };
    let brought = control.ask(request).await.and_then(assigned);
    let brought = brought.and_then(|told| check_machine(machine, &told).map(|()| told.revision));
    let revision = after_signing(brought, is_signed, SIGNED_OF_A_MACHINE)?;
    // What was compared with what was said, and not what the hub says of it now.
    Ok(Assignment { revision, ..would })
}

/// A failure after root's words were taken: nobody may read it as nothing done.
fn after_signing<T>(result: Result<T>, is_signed: bool, what: &'static str) -> Result<T> {
    if is_signed { result.context(what) } else { result }
}

/// What came of striking a machine off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StruckOff {
    /// Which machine it was.
    pub machine: MachineId,
    /// It was struck off before.
    pub was: bool,
    /// What whoever did it has to know.
    pub said: Vec<String>,
}

/// Strikes a machine off at the hub. Where root does, the signer frees its name for
/// another: that takes the keeper, for a stolen hub could have people's words go to another machine. Where the signer and
/// the hub know different machines by a name, it is refused: the one that is to be kept out could go on.
///
/// # Errors
/// When the hub refuses.
pub(crate) async fn strike_off(
    layout: &Layout,
    machine: &str,
    reason: &str,
    though_cut_off: bool,
) -> Result<StruckOff> {
    let control = Control::at(layout);
    let keeper = Keeper::at(layout).await;
    // A machine that may be stolen is kept out, whatever the signer says of its name.
    let named = match (&keeper, machine.parse()) {
        (_, Ok(id)) => Ok(vec![id]),
        (Some(keeper), Err(_)) => called(&keeper.signer, machine).await,
        (None, Err(_)) => Ok(Vec::new()),
    };
    let (typed, by_id) = (machine.to_owned(), machine.parse::<MachineId>().is_ok());
    let (machine, called) = match named.as_deref() {
        Ok([id]) => (id.to_string(), (!by_id).then_some(typed)),
        Ok(_) | Err(_) => (typed, None),
    };
    let request = Request::StrikeOff { machine, called, reason: reason.to_owned(), though_cut_off };
    let (machine, was, mut said) = match control.ask(request).await? {
        Answer::StruckOff { machine, was, said } => (machine, was, said),
        other => return unexpected(&other),
    };
    let Some(keeper) = keeper else { return Ok(StruckOff { machine, was, said }) };
    let freed = match named.as_deref() {
        Ok([id]) => free_the_name(&keeper, *id).await,
        Ok([]) => Ok(None),
        Ok(ids) => Err(anyhow!("{} machines are called so there", ids.len())),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    match freed {
        Ok(Some(name)) => said.push(format!(
            "the signer calls it {name} from now on, so that another may have its name; its codes are found by that"
        )),
        Ok(None) => {}
        Err(error) => said.push(format!(
            "its name is not free at the signer: another machine that is called so is named by its id. What was \
             seen: {error:#}"
        )),
    }
    Ok(StruckOff { machine, was, said })
}

/// Has the signer call a machine that was struck off otherwise; `None`: it knows none such, or does so already.
async fn free_the_name(keeper: &Keeper, machine: MachineId) -> Result<Option<String>> {
    let Some(known) = known(&keeper.signer, machine).await? else { return Ok(None) };
    if known.name.ends_with(STRUCK_OFF) {
        return Ok(None);
    }
    let most = NAME_BYTES.saturating_sub(STRUCK_OFF.len());
    let kept = &known.name[..known.name.floor_char_boundary(most)];
    let name = format!("{kept}{STRUCK_OFF}");
    let other = Assignment { name: name.clone(), ..known };
    let said = keeper.signer.assign(other, None, Some(keeper.by.clone())).await;
    said.context("the signer refuses").map(|_| Some(name))
}

/// Says to the signer what people in front of a machine are told, where that is another word. Of one that it does
/// not know nothing was said. Whether it was told something.
async fn say_bedside(keeper: &Keeper, machine: MachineId, bedside: &Bedside) -> Result<bool> {
    match keeper.signer.bedside(machine).await {
        Ok(known) if known == *bedside => Ok(false),
        Err(ClientError::Refused(_)) => Ok(false),
        Err(error) => Err(error).context("asking the signer what people at the machine are told"),
        Ok(_) => {
            let said = keeper.signer.set_bedside(machine, bedside.clone(), keeper.by.clone()).await;
            said.context("the signer refuses").map(|()| true)
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
    let (mut wanted, mut is_said) = (draft.clone(), false);
    if let Some(keeper) = Keeper::at(layout).await {
        let would = assigned(control.ask(Request::WouldEnrol { draft: draft.clone() }).await?)?;
        check_said(&draft, &would, None, true)?;
        // What people there are told, where anything is said of it.
        let bedside = draft.bedside.clone().filter(|said| *said != Bedside::default());
        if !weakening::of_assignment(None, &would).is_empty() || bedside.is_some() {
            let said = SaidAhead::of(would.clone(), draft.name.clone(), bedside);
            let said = keeper.signer.say_ahead(said, keeper.by, good_for_seconds).await;
            said.context("the signer refuses")?;
            is_said = true;
        }
        wanted = as_resolved(draft, would);
    }
    let token = control.enrol_token(wanted, good_for_seconds).await;
    after_signing(token, is_said, SAID_AHEAD)
}

/// Confirms addresses of a name; `machine` by its id, or as the signer calls it.
///
/// # Errors
/// When the hub or the signer refuses.
pub(crate) async fn confirm(
    layout: &Layout,
    machine: &str,
    pin: Pin,
    is_answered: bool,
) -> Result<Assignment> {
    let control = Control::at(layout);
    let mut pin = pin;
    let Some(keeper) = Keeper::at(layout).await else {
        let machine = machine.to_owned();
        return assigned(control.ask(Request::ConfirmAddresses { machine, pin }).await?);
    };
    let machine = meant(&keeper.signer, &control, machine).await?;
    let known = known(&keeper.signer, machine).await?;
    agree(&about_to_sign(machine, known.as_ref(), None, &in_lines(&pin)), is_answered)?;
    let by = pin.signed_off_by.take().unwrap_or(keeper.by.name);
    pin.signed_off_by = Some(by);
    let signed = keeper.signer.pin(machine, pin.clone()).await.context("the signer refuses")?;
    let request = Request::ConfirmAddresses { machine: machine.to_string(), pin };
    let brought = control.ask(request).await.and_then(assigned);
    let brought = brought.and_then(|told| check_machine(machine, &told));
    after_signing(brought, true, SIGNED_OF_A_MACHINE)?;
    Ok((*signed).clone())
}

/// What becomes of a name's addresses.
fn in_lines(pin: &Pin) -> Vec<String> {
    let kept = pin.add.iter().map(|address| format!("{} is kept alive at {address} too", pin.host));
    let dropped = pin.drop.iter().map(|address| format!("{} no more at {address}", pin.host));
    kept.chain(dropped).collect()
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

/// Puts a policy in force; the hub's answer, and whether it [ends self-defence](weakening::ends_self_defence).
///
/// # Errors
/// When the hub or the signer refuses.
pub(crate) async fn set_policy(layout: &Layout, wish: Wish) -> Result<(Answer, bool)> {
    let control = Control::at(layout);
    let Some(keeper) = Keeper::at(layout).await else {
        let known = match control.ask(Request::Policy).await? {
            Answer::Policy(known) => known,
            other => return unexpected(&other),
        };
        let (request, draft) = match wish {
            Wish::Policy(draft) => (Request::SetPolicy(draft.clone()), Wish::Policy(draft)),
            Wish::Mode(mode) => (Request::SetMode(mode), Wish::Mode(mode)),
        };
        let ends = weakening::ends_self_defence(&known, &draft.over(&known));
        return Ok((control.ask(request).await?, ends));
    };
    let known = keeper.signer.policy().await.context("asking the signer which policy holds")?;
    let draft = wish.over(&known);
    control.ask(Request::CheckPolicy(Box::new(draft.clone()))).await?;
    let is_signed = !weakening::of_policy(&known, &draft).is_empty();
    let ends = weakening::ends_self_defence(&known, &draft);
    if is_signed {
        let said = keeper.signer.set_policy(draft.clone(), keeper.by).await;
        said.context("the signer refuses: nothing was changed")?;
    }
    let set = control.ask(Request::SetPolicy(Box::new(draft))).await;
    Ok((after_signing(set, is_signed, SIGNED_A_POLICY)?, ends))
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
mod lies;

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
