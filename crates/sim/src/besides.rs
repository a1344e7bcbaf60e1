//! What a simulated machine does besides isolating itself: the hand that production's helper has in the agent.
//!
//! The one idea: as production's mechanisms it does a thing as often as it is told and finds it done, tells what
//! is gone from what is refused, and touches nothing that is declared as needed for care. What is in force is
//! kept apart from what the helper's mind believes, so that the observer can hold the one against the other.

use cordon_model::action::{
    AccountTarget, Action, Blocked, BlockedPeer, Collection, Denied, FilePath, FileTarget, Piece,
    ProcessTarget, PutBackTarget, Sha256Digest,
};
use cordon_model::finding::ProcessRef;
use cordon_model::ids::MeasureId;
use cordon_model::laws::Violation;
use cordon_model::measure::{Proof, Receipt};
use cordon_model::order::{Instruction, Lease};
use cordon_model::time::BootNanos;
use cordon_respond::clock::Moment;
use cordon_respond::helper_core::{Acted, Effect, TakenBack};

use crate::scenario::Sabotage;
use crate::world::World;

/// Whether an instruction begins something besides an isolation.
pub(crate) fn begins(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Begin { action, .. } if action.isolation().is_none())
}

/// Whether it is in a file or an account, and not in a process or the kernel.
pub(crate) fn outlives_a_power_cut(action: &Action) -> bool {
    matches!(action, Action::Quarantine(_) | Action::DisableAccount(_) | Action::PutBack(_))
}

/// The program that it is aimed at.
pub(crate) fn program_of(action: &Action) -> Option<&[u8]> {
    match action {
        Action::Freeze(target) | Action::Kill(target) => Some(target.process.image.as_bytes()),
        Action::Quarantine(target) => Some(target.path.as_bytes()),
        Action::Deny(Denied::Path(path)) => Some(path.as_bytes()),
        _ => None,
    }
}

fn process_of(action: &Action) -> Option<&ProcessTarget> {
    match action {
        Action::Freeze(target) | Action::Kill(target) => Some(target),
        _ => None,
    }
}

fn said_no() -> String {
    "the machine said no".into()
}

impl World<'_> {
    /// Carries out a measure besides the isolation.
    pub(crate) fn act_besides(&mut self, index: usize, effect: &Effect) -> Result<(), Violation> {
        let now = self.moment(index);
        match effect {
            Effect::Apply { measure, action } => {
                self.trace(|| format!("m{index}: {effect:?}"));
                let acted = if self.is_refused_by_the_machine(index, 30) {
                    Acted::Failed { why: said_no() }
                } else {
                    self.apply(index, *measure, action, &now)?
                };
                if self.dies_after_acting(index) {
                    return Ok(());
                }
                self.tell_acted(index, *measure, acted, &now)?;
                self.keep_helper(index);
                Ok(())
            }
            Effect::LookAgain { measure } => {
                let is_refused = self.is_refused_by_the_machine(index, 300);
                let acted = if is_refused {
                    Acted::Failed { why: said_no() }
                } else {
                    self.look_besides(index, *measure, &now)
                };
                self.tell_acted(index, *measure, acted, &now)
            }
            Effect::TakeBack { measure } => {
                if self.sabotaged(Sabotage::NeverTakesBack) {
                    return Ok(());
                }
                self.trace(|| format!("m{index}: {effect:?}"));
                let taken_back = if self.is_refused_by_the_machine(index, 30) {
                    TakenBack::Failed { why: said_no() }
                } else {
                    self.take_back(index, *measure, &now)?
                };
                if self.dies_after_acting(index) {
                    return Ok(());
                }
                let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
                let known = helper.unreported.len();
                helper.taken_back(*measure, taken_back, &now);
                self.judge_claims_besides(index, known)?;
                self.keep_helper(index);
                Ok(())
            }
            Effect::Enforce { .. } | Effect::Restore { .. } | Effect::Warn { .. } => Ok(()),
        }
    }

    fn tell_acted(
        &mut self,
        index: usize,
        measure: MeasureId,
        acted: Acted,
        now: &Moment,
    ) -> Result<(), Violation> {
        let Some(helper) = &mut self.machines[index].helper else { return Ok(()) };
        let known = helper.unreported.len();
        helper.acted(measure, acted, now);
        self.judge_claims_besides(index, known)
    }

    fn is_refused_by_the_machine(&mut self, index: usize, once_in: u64) -> bool {
        let is_refused = self.mishap(once_in);
        if is_refused {
            self.tally.count("refusals besides isolation");
            self.observer.allow(index, std::time::Duration::from_secs(2));
        }
        is_refused
    }

    fn dies_after_acting(&mut self, index: usize) -> bool {
        let dies = self.mishap(40);
        if dies {
            self.tally.count("helper crashes after acting besides isolation");
            self.helper_dies(index);
        }
        dies
    }

    /// Does it, or finds it done.
    fn apply(
        &mut self,
        index: usize,
        measure: MeasureId,
        action: &Action,
        now: &Moment,
    ) -> Result<Acted, Violation> {
        if let Some(not_done) = self.not_to_do(index, measure, action, now) {
            return Ok(not_done);
        }
        let is_done_at_once = action.kind().is_done_at_once();
        let machine = &self.machines[index];
        let is_done = machine.did.contains(&measure) || machine.acts.contains_key(&measure);
        if !is_done && !self.sabotaged(Sabotage::FalseProofBesides) {
            self.tally.count("acts besides isolation");
            if matches!(action, Action::PutBack(_)) {
                self.tally.count("things put back");
            }
            let machine = &mut self.machines[index];
            if is_done_at_once {
                machine.did.insert(measure);
                machine.ended.extend(process_of(action).map(|target| target.process.pid));
            } else {
                machine.acts.insert(measure, action.clone());
            }
            self.observer.acted(index, &self.machines[index], measure, action)?;
        }
        Ok(Acted::Done { proof: Some(self.seen(true, now)), done: Vec::new(), spared: Vec::new() })
    }

    /// Why it is not done, if it is not: its process has ended, or care needs what it is aimed at.
    fn not_to_do(
        &mut self,
        index: usize,
        measure: MeasureId,
        action: &Action,
        now: &Moment,
    ) -> Option<Acted> {
        let machine = &mut self.machines[index];
        let has_ended = |target: &ProcessTarget| {
            target.boot != now.boot || machine.ended.contains(&target.process.pid)
        };
        if process_of(action).is_some_and(has_ended) && !machine.did.contains(&measure) {
            // Nothing stands still any more.
            machine.acts.remove(&measure);
            return Some(Acted::Gone { why: "the process has ended".into() });
        }
        if matches!(action, Action::Quarantine(_)) && machine.acts.contains_key(&measure) {
            // A file that was set aside stays aside: somebody looks at it first.
            return None;
        }
        let stops_all = self.sabotaged(Sabotage::StopsWhatCareNeeds);
        let helper = self.machines[index].helper.as_ref()?;
        let needed = helper.assignment.iter().flat_map(|of| &of.protected.executables);
        let mut needed = needed.filter(|_| !stops_all);
        let program = program_of(action)?;
        needed.find(|path| path.as_bytes() == program)?;
        self.tally.count("acts refused for what care needs");
        Some(Acted::Refused { why: "it is declared as needed for care".into() })
    }

    /// Looks whether it still holds.
    fn look_besides(&mut self, index: usize, measure: MeasureId, now: &Moment) -> Acted {
        let machine = &self.machines[index];
        let meant = machine.helper.as_ref().and_then(|helper| helper.acting.get(&measure));
        let Some(action) = meant.map(|acting| acting.action.clone()) else {
            return Acted::Failed { why: said_no() };
        };
        if let Some(not_done) = self.not_to_do(index, measure, &action, now) {
            return not_done;
        }
        let machine = &self.machines[index];
        let is_there = machine.acts.contains_key(&measure) || machine.did.contains(&measure);
        Acted::Done { proof: Some(self.seen(is_there, now)), done: Vec::new(), spared: Vec::new() }
    }

    /// Takes it back. What was never begun leaves nothing to take back.
    fn take_back(
        &mut self,
        index: usize,
        measure: MeasureId,
        now: &Moment,
    ) -> Result<TakenBack, Violation> {
        if !self.sabotaged(Sabotage::FalseProofBesides)
            && let Some(action) = self.machines[index].acts.remove(&measure)
        {
            self.tally.count("acts taken back");
            if matches!(action, Action::PutBack(_)) {
                self.tally.count("put-backs undone");
            }
            self.observer.ended(index, &self.machines[index], measure, &action, self.now)?;
        }
        Ok(TakenBack::Done { proof: Some(self.seen(true, now)), done: Vec::new() })
    }

    fn seen(&self, is_read_back: bool, now: &Moment) -> Proof {
        Proof {
            table_handle: None,
            is_read_back: is_read_back || self.sabotaged(Sabotage::FalseProofBesides),
            probes: Vec::new(),
            unproven: Vec::new(),
            at: now.at,
        }
    }

    /// Judges what the helper has said of these measures since it had `known` receipts waiting.
    pub(crate) fn judge_claims_besides(
        &mut self,
        index: usize,
        known: usize,
    ) -> Result<(), Violation> {
        let machine = &self.machines[index];
        let Some(helper) = &machine.helper else { return Ok(()) };
        let claims: Vec<Receipt> = helper
            .unreported
            .iter()
            .skip(known)
            .filter(|receipt| receipt.action.isolation().is_none())
            .cloned()
            .collect();
        claims
            .iter()
            .try_for_each(|claim| self.observer.claimed_besides(index, machine, claim, self.now))
    }

    /// Nobody counts the lease of what is done besides the isolation.
    pub(crate) fn begin_leases_anew(&mut self, index: usize, now: &Moment) {
        let lease = Lease { seconds: 3_600, step_down_seconds: 3_600, warn_seconds: 1 };
        if let Some(helper) = &mut self.machines[index].helper {
            helper.acting.values_mut().for_each(|acting| acting.lease.renew(lease, now));
        }
    }

    /// Somebody with root lets a process go on, puts a file back, flushes a table.
    pub(crate) fn undo_by_hand(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let taken: Vec<MeasureId> = machine.acts.keys().copied().collect();
        if let Some(measure) = self.random.one_of(&taken).filter(|_| machine.is_on) {
            machine.acts.remove(measure);
            self.tally.count("acts undone by somebody");
            self.trace(|| format!("m{index}: somebody undoes {measure} by hand"));
        }
    }

    /// Something that may be ordered besides an isolation, aimed at what runs, or might, on a machine.
    pub(crate) fn any_act(&mut self, index: usize) -> Action {
        let program = self.random.below(5);
        let image = format!("/tmp/program-{program}");
        let path = || FilePath::new(image.as_bytes());
        let process = ProcessTarget {
            boot: self.moment(index).boot,
            process: ProcessRef {
                pid: self.machines[index].process_of(program),
                started: BootNanos(0),
                image: image.clone(),
            },
        };
        match self.random.below(11) {
            0 | 1 => Action::Freeze(process),
            2 => Action::Kill(process),
            3 => Action::Quarantine(FileTarget { path: path(), sha256: None }),
            4 | 5 => Action::Deny(Denied::Path(path())),
            6 => Action::Block(Blocked {
                peer: BlockedPeer::Network(std::net::IpAddr::from([10, 0, 1, 1]).into()),
                transport: None,
                ports: None,
                direction: None,
            }),
            7 => Action::DisableAccount(AccountTarget { name: "eve".into(), ends_sessions: false }),
            8 => evidence(Piece::Memory(process)),
            9 => Action::PutBack(PutBackTarget {
                path: FilePath::new(b"/etc/cron.d/job"),
                first: program,
                last: program + 1,
                found: None,
                wanted: Some(Sha256Digest([7; 32])),
                by: Vec::new(),
            }),
            _ => evidence(Piece::Processes),
        }
    }
}

fn evidence(piece: Piece) -> Action {
    Action::Collect(Collection { pieces: vec![piece], most_bytes: 1 << 20 })
}
