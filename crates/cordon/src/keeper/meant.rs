//! Which machine root means, by the signer's own knowledge, and root's yes to what is about to be signed of it.
//!
//! The one idea: a name is whose the signer says it is, and an id is nobody's word. What the hub answers is compared
//! with that, and no more than a hint besides.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use cordon_hub::control::{Answer, Request};
use cordon_hub::signer::{Client, ClientError};
use cordon_model::asset::Assignment;
use cordon_model::ids::MachineId;
use cordon_respond::weakening;

use crate::break_glass;
use crate::control::{Control, is_a_yes, plain, tier_words};

/// How many ids are named of machines with one name.
const NAMED_IDS: usize = 4;

/// Where a machine's id stands that is nobody's word but its own.
const WHERE_ITS_ID_IS: &str = "its own agent's log says it (`enrolled machine=…`)";

/// What was signed last of a machine.
pub(super) async fn known(signer: &Client, machine: MachineId) -> Result<Option<Assignment>> {
    match signer.assignment(machine).await {
        Ok(known) => Ok(Some((*known).clone())),
        Err(ClientError::Refused(_)) => Ok(None),
        Err(error) => Err(error).context("asking the signer what it knows of the machine"),
    }
}

/// Which machine root means: the one with this id, or the only one that the **signer** calls so.
///
/// A name that a machine has there is changed by root alone, so a stolen hub can't make one machine another's. An id
/// needs nobody's word, and is taken of a machine that the signer does not know, too.
pub(super) async fn meant(signer: &Client, hub: &Control, typed: &str) -> Result<MachineId> {
    if let Ok(id) = typed.parse() {
        return Ok(id);
    }
    match called(signer, typed).await?[..] {
        [id] => Ok(id),
        [] => bail!(
            "the signer knows no machine that is called {typed:?}, and does not take the hub's word for which one \
             is: nothing was signed. Give its id, as {WHERE_ITS_ID_IS}"
        ),
        ref ids => bail!(
            "the signer knows {} machines that are called {typed:?}: nothing was signed. Give the id of the one that \
             you mean, as {WHERE_ITS_ID_IS}\n{}",
            ids.len(),
            told_apart(signer, hub, ids).await?
        ),
    }
}

/// The machines that the signer calls so.
pub(super) async fn called(signer: &Client, name: &str) -> Result<Vec<MachineId>> {
    let rows = break_glass::rows(signer).await;
    let rows = rows.context("asking the signer which machine is called so")?;
    Ok(rows.iter().filter(|row| row.name == name).map(|row| row.machine).collect())
}

/// What tells machines of one name apart, a line each. Those that root spoke of come first: a stolen hub can have any
/// number of others signed, and call them as it likes.
async fn told_apart(signer: &Client, hub: &Control, ids: &[MachineId]) -> Result<String> {
    let mut machines = Vec::with_capacity(ids.len());
    for id in ids {
        machines.push((*id, known(signer, *id).await?));
    }
    machines.sort_by_key(|(_, known)| is_the_hubs_word(known.as_ref()));
    // Which are struck off is the hub's word, and no more than a hint. It lists no more than fit its answer.
    let listed = match hub.ask(Request::ListMachines).await {
        Ok(Answer::Machines { rows, total }) if rows.len() == total => Some(rows),
        Ok(_) | Err(_) => None,
    };
    let is_off = |id| listed.as_ref().is_some_and(|rows| rows.iter().all(|row| row.id != id));
    let mut lines: Vec<String> = Vec::new();
    for (id, known) in machines.iter().take(NAMED_IDS) {
        let tier = known.as_ref().and_then(|known| known.tier);
        let tier =
            tier.map_or("tier not said".to_owned(), |tier| format!("tier {}", tier.number()));
        let whose = match is_the_hubs_word(known.as_ref()) {
            true => "the hub's word alone".to_owned(),
            false => format!("{tier}, as root said"),
        };
        let off = if is_off(*id) { "; struck off, as the hub says" } else { "" };
        lines.push(format!("  {id}: {whose}{off}"));
    }
    if let Some(more @ 1..) = ids.len().checked_sub(NAMED_IDS) {
        lines.push(format!("  and {more} more"));
    }
    Ok(lines.join("\n"))
}

/// Whether nothing was said of a machine that takes root: a hub alone may have had it signed.
fn is_the_hubs_word(known: Option<&Assignment>) -> bool {
    known.is_none_or(|known| weakening::of_assignment(None, known).is_empty())
}

/// Whether the hub speaks of the machine that it was asked about.
pub(super) fn check_machine(meant: MachineId, would: &Assignment) -> Result<()> {
    if would.machine == meant {
        return Ok(());
    }
    bail!(
        "the hub answers for another machine ({}) than you named ({meant}), of which nothing was signed now. Take it \
         that somebody else has the hub in hand",
        would.machine
    )
}

/// What is about to be signed in root's name, by the signer's own knowledge.
pub(super) fn about_to_sign(
    machine: MachineId,
    known: Option<&Assignment>,
    would: Option<&Assignment>,
    what: &[String],
) -> String {
    let name =
        known.map_or_else(|| "not known to it so far".to_owned(), |known| plain(&known.name));
    let tier = tier_words(known.and_then(|known| known.tier));
    let mut text = format!(
        "about to be signed of the machine {machine}\n  the signer calls it  {name}\n  its tier there       {tier}\n"
    );
    if let Some(would) = would.filter(|would| known.is_none_or(|known| known.name != would.name)) {
        text += &format!("  it would be called   {}\n", plain(&would.name));
    }
    for what in what {
        text += &format!("  - {}\n", plain(what));
    }
    if is_the_hubs_word(known) {
        text += &format!(
            "  NOTE: nothing but a name was signed of it so far, and that may be the hub's word alone. Make sure that \
             this is its id: {WHERE_ITS_ID_IS}\n"
        );
    }
    text
}

/// Asks, on a terminal, whoever has read what is about to be signed. Without one nobody is there to be asked.
pub(super) fn agree(about: &str, is_answered: bool) -> Result<()> {
    if is_answered || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    print!("{about}type yes to have it signed: ");
    std::io::stdout().flush().context("writing to standard output: nothing was signed")?;
    match is_a_yes(&mut std::io::stdin().lock()).context("nothing was signed")? {
        true => Ok(()),
        false => bail!("nothing was signed"),
    }
}
