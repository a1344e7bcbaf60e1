//! What a machine is, and what holds: who may have it signed.
//!
//! The one idea: the same request means something else from the hub and from the keeper. What makes nothing
//! weaker is signed for either; all else for the keeper alone, who says it here first, and the hub then has the
//! same signed once more and brings it to the machines.

use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::guidance::Bedside;
use cordon_model::ids::MachineId;
use cordon_model::order::Approver;
use cordon_model::policy::Policy;
use cordon_respond::clock::Moment;
use cordon_respond::names::{self, Pin};
use cordon_respond::signer_core::Refusal;
use cordon_respond::weakening;
use serde_bytes::ByteArray;

use super::super::leave::{LONGEST_AHEAD, Leave, SaidAhead};
use super::super::limits::check_ceiling;
use super::super::protocol::{Answer, OTHER_WORDS, Peer, Refused};
use super::super::state::{Input, Outcome};
use super::{Broken, Desk, confused, is_name};

impl Desk {
    pub(super) fn assign(
        &mut self,
        peer: Peer,
        draft: Box<Assignment>,
        receipt_key: Option<ByteArray<32>>,
        by: Option<Approver>,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        let machine = draft.machine;
        let known = self.state.core.assignment(machine);
        let known_key = self.state.receipt_keys.get(&machine);
        let is_rekeyed =
            known_key.is_some() && receipt_key.is_some_and(|key| known_key != Some(&key));
        let is_same = known.is_some_and(|known| {
            *known == Assignment { revision: known.revision, ..(*draft).clone() }
        });
        if is_same && !is_rekeyed && (receipt_key.is_none() || known_key.is_some()) {
            // Said before: the same answer, and nothing for the disk.
            let known = known.cloned();
            return match known {
                Some(known) => Ok(Ok(Answer::Document(self.seal(&known)?))),
                None => Ok(Err(Refused::Rule(Refusal::UnknownMachine))),
            };
        }
        let mut weaker = weakening::of_assignment(known, &draft);
        if is_rekeyed {
            weaker.push("the machine's receipt key is another".to_owned());
        }
        match (weaker.first().cloned(), &by) {
            (Some(what), None) => return Ok(Err(Refused::NeedsPerson(what))),
            (_, Some(by)) if !is_name(&by.name) => return Ok(Err(Refused::BadName)),
            _ => {}
        }
        let ahead = match known {
            Some(_) => None,
            None => self.state.said_ahead(&draft, now),
        };
        let leave = match (peer, ahead) {
            (Peer::Keeper, _) => Leave::Keeper,
            // What it says for the person in front of the machine is to be taken with it.
            (Peer::Hub, Some(number)) => Leave::Ahead(number),
            (Peer::Hub, None) if weaker.is_empty() => Leave::Hub,
            (Peer::Hub, None) => return Ok(Err(Refused::NeedsKeeper(weaker.join("; ")))),
        };
        let input = Input::Assign { draft, receipt_key, by, leave };
        let outcome = match leave {
            // Root has said it, once for one machine: it waits behind nothing that the hub did.
            Leave::Ahead(_) => self.apply(input, now, false)?,
            Leave::Hub | Leave::Keeper => self.braked(peer, input, now, false)?,
        };
        match outcome {
            Ok(Outcome::Assignment(assignment)) => {
                Ok(Ok(Answer::Document(self.seal(&assignment)?)))
            }
            Ok(_) => Ok(Err(confused())),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Notes what a machine will be that is still to enrol.
    pub(super) fn say_ahead(
        &mut self,
        peer: Peer,
        said: Box<SaidAhead>,
        by: Approver,
        good_for_seconds: u32,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if peer != Peer::Keeper {
            let what = "what a machine is, said before it has enrolled".to_owned();
            return Ok(Err(Refused::NeedsKeeper(what)));
        }
        if !is_name(&by.name) {
            return Ok(Err(Refused::BadName));
        }
        let good_for = Duration::from_secs(good_for_seconds.min(LONGEST_AHEAD).into());
        let noted = self.apply(Input::SayAhead { said, by, good_for }, now, false)?;
        Ok(noted.map(|_| Answer::Done))
    }

    /// Whom people ring decides what they hear in the worst hour: no hub says it alone, in anybody's name.
    pub(super) fn set_bedside(
        &mut self,
        peer: Peer,
        machine: MachineId,
        bedside: Box<Bedside>,
        by: Approver,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if !is_name(&by.name) {
            return Ok(Err(Refused::BadName));
        }
        if peer == Peer::Hub {
            return Ok(match self.state.core.bedside(machine) {
                None => Err(Refused::Rule(Refusal::UnknownMachine)),
                Some(known) if *known == *bedside => Ok(Answer::Done),
                Some(_) => Err(Refused::NeedsKeeper(OTHER_WORDS.to_owned())),
            });
        }
        let noted = self.apply(Input::SetBedside { machine, bedside, by }, now, false)?;
        Ok(noted.map(|_| Answer::Done))
    }

    /// Its own look at it is the rules' ([`SignerCore::pin`](cordon_respond::signer_core::SignerCore::pin)).
    pub(super) fn pin(
        &mut self,
        peer: Peer,
        machine: MachineId,
        pin: Box<Pin>,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if pin.signed_off_by.as_ref().is_some_and(|name| !is_name(name)) {
            return Ok(Err(Refused::BadName));
        }
        let known = self.state.core.assignment(machine);
        if let Some(known) = known
            && names::pin(known, &pin).is_ok_and(|next| next == *known)
        {
            // Pinned before: the same answer, and nothing for the disk.
            let known = known.clone();
            return Ok(Ok(Answer::Document(self.seal(&known)?)));
        }
        let leave = match peer {
            Peer::Keeper => Leave::Keeper,
            Peer::Hub => Leave::Hub,
        };
        // A person's name goes further than what was signed; a stolen hub knows names.
        let unnamed = Pin { signed_off_by: None, ..(*pin).clone() };
        let is_bounded = known.is_none_or(|known| names::pin(known, &unnamed).is_ok());
        if leave == Leave::Hub && pin.signed_off_by.is_some() && !is_bounded {
            let what = format!("addresses of {} beyond the network that was signed", pin.host);
            return Ok(Err(Refused::NeedsKeeper(what)));
        }
        match self.braked(peer, Input::Pin { machine, pin, leave }, now, false)? {
            Ok(Outcome::Assignment(assignment)) => {
                Ok(Ok(Answer::Document(self.seal(&assignment)?)))
            }
            Ok(_) => Ok(Err(confused())),
            Err(refused) => Ok(Err(refused)),
        }
    }

    pub(super) fn set_policy(
        &mut self,
        peer: Peer,
        draft: Box<Policy>,
        by: Approver,
        now: &Moment,
    ) -> Result<Result<Answer, Refused>, Broken> {
        if !is_name(&by.name) {
            return Ok(Err(Refused::BadName));
        }
        if let Err(what) = check_ceiling(&draft) {
            return Ok(Err(Refused::Ceiling(what)));
        }
        let known = self.state.core.policy();
        let is_same = *known == Policy { revision: known.revision, ..(*draft).clone() };
        if is_same && peer == Peer::Hub {
            // Said at the signer's machine a moment ago, or long before: the same answer.
            let known = known.clone();
            return Ok(Ok(Answer::Document(self.seal(&known)?)));
        }
        let weaker = weakening::of_policy(known, &draft);
        let leave = match peer {
            Peer::Keeper => Leave::Keeper,
            Peer::Hub if weaker.is_empty() => Leave::Hub,
            Peer::Hub => return Ok(Err(Refused::NeedsKeeper(weaker.join("; ")))),
        };
        let ends = leave == Leave::Hub && weakening::ends_self_defence(known, &draft);
        let who = by.name.clone();
        match self.braked(peer, Input::SetPolicy { draft, by, leave }, now, false)? {
            Ok(Outcome::Policy(policy)) => {
                if ends {
                    // In the log of this process, which a stolen hub can't keep from root.
                    let ends = weakening::ENDS_SELF_DEFENCE;
                    let revision = policy.revision;
                    tracing::warn!(revision, who, "the hub alone set a policy: {ends}");
                }
                Ok(Ok(Answer::Document(self.seal(&policy)?)))
            }
            Ok(_) => Ok(Err(confused())),
            Err(refused) => Ok(Err(refused)),
        }
    }
}
