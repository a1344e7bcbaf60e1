//! What goes wrong, and what people and thieves do, as the seed says.

use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MeasureId, OrderId};
use cordon_model::laws::Violation;
use cordon_model::measure::Isolation;
use cordon_model::order::{Approver, Instruction, Lease, Order};
use cordon_model::signed::seal;
use cordon_model::wire::FromHub;
use cordon_respond::approval::{ApprovalState, Identity};
use cordon_respond::hub_core::{Change, HubCore, Output, Wish};
use ed25519_dalek::SigningKey;

use crate::machine::{BEGINNING, Machine};
use crate::scenario::Sabotage;
use crate::world::{Event, PEOPLE, World};

impl World<'_> {
    /// One thing after another goes wrong; findings and people's wishes among them.
    pub(crate) fn trouble(&mut self) -> Result<(), Violation> {
        if self.is_calm {
            return Ok(());
        }
        let next = self.random.millis(100, 2_500);
        self.after(next, Event::Trouble);
        let count = self.machines.len() as u64;
        let machine = usize::try_from(self.random.below(count)).unwrap_or(0);
        match self.random.below(42) {
            0..8 => {
                let level = match self.random.below(4) {
                    0 => Level::Medium,
                    1 | 2 => Level::High,
                    _ => Level::Critical,
                };
                let rule = self.random.below(4);
                self.find(machine, level, rule, rule)
            }
            8 => {
                // A rule that is wrong, or a worm: the same everywhere.
                self.tally.count("storms of findings");
                for machine in 0..self.machines.len() {
                    let when = self.random.millis(0, 1_500);
                    let (level, rule) = (Level::High, 9);
                    self.after(when, Event::Finding { machine, level, rule, program: rule });
                }
                Ok(())
            }
            9 => {
                self.tally.count("partitions");
                let until = self.now + self.random.millis(500, 40_000);
                self.trace(|| format!("m{machine} is cut off from the hub"));
                self.machines[machine].cut_off_until = until;
                Ok(())
            }
            10 => {
                self.tally.count("partitions of everything");
                let until = self.now + self.random.millis(500, 20_000);
                self.trace(|| "every machine is cut off from the hub".into());
                self.machines.iter_mut().for_each(|machine| machine.cut_off_until = until);
                Ok(())
            }
            11 => {
                self.power_cut(machine);
                Ok(())
            }
            12 => {
                self.helper_dies(machine);
                Ok(())
            }
            13 => {
                self.agent_dies(machine);
                Ok(())
            }
            14 => {
                if self.random.once_in(3) {
                    self.hub_loses_power();
                } else {
                    self.hub_dies();
                }
                Ok(())
            }
            15 => {
                self.signer_dies();
                Ok(())
            }
            16 => {
                self.set_clock(machine);
                Ok(())
            }
            17 if self.random.once_in(3) => {
                self.hub_clock_jumps();
                Ok(())
            }
            17 => {
                self.tally.count("hub clocks set wrong");
                let by = i64::try_from(self.random.below(60)).unwrap_or(0) - 30;
                self.hub.clock.wrong_by = by * 1_000_000_000;
                Ok(())
            }
            18 => self.forge_an_order(machine),
            19 => self.tell_a_lie(machine),
            20 => self.wipe_the_kernel(machine),
            21 => self.assign(machine, 1 + self.random.clone().below(2)),
            22 => self.rogue_proposal(machine),
            23 | 24 | 28 => self.person_types_code(machine),
            25 => {
                let machine = self.one_that_used_a_permit(machine);
                self.lose_memory_and_table(machine);
                Ok(())
            }
            26 | 27 => {
                let machine = self.one_that_used_a_permit(machine);
                self.old_documents_come_back(machine)
            }
            29 => self.misdirect(machine),
            30 => {
                self.undo_by_hand(machine);
                Ok(())
            }
            40 => self.person_takes_an_incident(),
            _ => self.person_wishes(machine),
        }
    }

    /// Somebody takes an incident, or closes it.
    fn person_takes_an_incident(&mut self) -> Result<(), Violation> {
        let incidents: Vec<IncidentId> =
            self.hub.core.iter().flat_map(HubCore::incidents).map(|of| of.id).collect();
        let Some(incident) = self.random.one_of(&incidents).copied() else { return Ok(()) };
        let closes = self.random.once_in(4);
        self.tally.count(if closes { "incidents closed" } else { "incidents taken" });
        self.trace(|| format!("ann takes {incident}, or closes it: {closes}"));
        self.hub_step(|core, now, randomness| match closes {
            true => core.close(incident, "ann", "because", now, randomness),
            false => core.own(incident, "ann", now),
        })
    }

    /// A machine's clock jumps: by up to a day, to where an empty battery begins, or to what is right.
    fn set_clock(&mut self, machine: usize) {
        let by = i64::try_from(self.random.below(200_000)).unwrap_or(0) - 100_000;
        let clock = &mut self.machines[machine].clock;
        clock.wrong_by = match self.random.below(4) {
            0 => 0,
            1 => -BEGINNING,
            _ => by * 1_000_000_000,
        };
        self.tally.count(match clock.wrong_by {
            0 => "clocks set right",
            _ => "clocks set wrong",
        });
    }

    fn person_wishes(&mut self, machine: usize) -> Result<(), Violation> {
        let lease = Lease { seconds: 30, step_down_seconds: 20, warn_seconds: 5 };
        let id = self.machines[machine].id;
        let acting = self.hub.core.iter().flat_map(|core| core.measures());
        let acting = acting.filter(|life| life.machine == id && life.state.is_acting());
        let (cut, others): (Vec<_>, Vec<_>) =
            acting.partition(|life| life.action.isolation().is_some());
        let cut = cut.last().map(|life| life.measure);
        let others: Vec<MeasureId> = others.iter().map(|life| life.measure).collect();
        let other = self.random.one_of(&others).copied();
        let action = self.any_act(machine);
        let instruction = match (self.random.below(12), cut, other) {
            (0..3, ..) => Instruction::Release,
            (3, Some(measure), _) | (4, _, Some(measure)) => Instruction::Renew { measure, lease },
            (5, ..) => Instruction::isolate(Isolation::Full, lease),
            (6, ..) => Instruction::isolate(Isolation::Watch, lease),
            (7 | 8, _, Some(measure)) => Instruction::Undo { measure },
            (9 | 10, ..) => Instruction::begin(action, lease),
            (11, ..) => return self.person_undoes_all(machine),
            _ => Instruction::isolate(Isolation::Segment, lease),
        };
        self.tally.count("wishes of people");
        self.person_wishes_for(machine, instruction)
    }

    /// As `cordon undo MACHINE` does: everything that was done to it by itself.
    fn person_undoes_all(&mut self, machine: usize) -> Result<(), Violation> {
        self.tally.count("wishes to undo all that was done by itself");
        let id = self.machines[machine].id;
        let undoing = self.hub.core.as_ref().map(|core| core.undoing(id)).unwrap_or_default();
        undoing
            .into_iter()
            .try_for_each(|(instruction, _)| self.person_wishes_for(machine, instruction))
    }

    fn person_wishes_for(
        &mut self,
        machine: usize,
        instruction: Instruction,
    ) -> Result<(), Violation> {
        let id = self.machines[machine].id;
        let (name, is_clinical) = *self.random.one_of(PEOPLE).unwrap_or(&("ann", false));
        self.trace(|| format!("{name} wishes for m{machine}: {instruction}"));
        self.hub_step(|core, now, dice| {
            let person = Approver { name: name.into(), is_clinical };
            let wish = Wish {
                machine: id,
                instruction,
                person,
                identity: Identity::Session,
                incident: None,
                reason: "because".into(),
            };
            core.people_propose(wish, now, dice).map(|(_, outputs)| outputs).unwrap_or_default()
        })
    }

    pub(crate) fn person_answers(
        &mut self,
        approval: ApprovalId,
        person: usize,
    ) -> Result<(), Violation> {
        let (name, is_clinical) = PEOPLE[person % PEOPLE.len()];
        let is_approved = !self.random.once_in(4);
        self.tally.count("answers of people");
        self.trace(|| format!("{name} answers {approval}: {is_approved}"));
        let asks_nothing = self.sabotaged(Sabotage::AsksNothingAfterNo) && !is_approved;
        let crashes = self.tally.of("hub crashes");
        let mut is_taken = false;
        self.hub_step(|core, now, dice| {
            let person = Approver { name: name.into(), is_clinical };
            let said = core.answer(
                approval,
                &person,
                Identity::Session,
                is_approved,
                "because",
                now,
                dice,
            );
            is_taken = said.is_ok();
            let mut outputs = said.unwrap_or_default();
            outputs.retain(|output| !asks_nothing || !is_new_question(output));
            outputs
        })?;
        if !is_taken || is_approved || crashes < self.tally.of("hub crashes") {
            return Ok(());
        }
        self.judge_what_a_no_leaves(approval)
    }

    /// A stolen hub sends a machine what was signed for its neighbour.
    pub(crate) fn misdirect(&mut self, machine: usize) -> Result<(), Violation> {
        let of = &self.machines[(machine + 1) % self.machines.len()].recorded;
        let permit = of.permits.last().map(|permit| FromHub::Permit(permit.envelope().clone()));
        let assignment = of.assignments.last().map(|a| FromHub::Assignment(a.envelope().clone()));
        let link = self.machines[machine].link.unwrap_or(0);
        for message in permit.into_iter().chain(assignment) {
            self.tally.count("documents of another machine sent");
            self.agent_hears(machine, link, message)?;
        }
        Ok(())
    }

    /// Permits are few: half of the time a machine is taken whose permit was used and is still young, if
    /// there is one; else `machine`.
    fn one_that_used_a_permit(&mut self, machine: usize) -> usize {
        let used = |m: &Machine| {
            let newest = m.recorded.permits.last();
            newest.is_some_and(|permit| m.floor.marks.used_permits.contains_key(&permit.id))
        };
        let one = self.machines.iter().position(used);
        let is_of_it = self.random.once_in(2);
        one.filter(|_| is_of_it).unwrap_or(machine)
    }

    /// Whoever took a machine's agent over gives its helper what was recorded on the way: genuine, and old.
    fn old_documents_come_back(&mut self, machine: usize) -> Result<(), Violation> {
        if !self.machines[machine].is_on {
            return Ok(());
        }
        let recorded = self.machines[machine].recorded.clone();
        match self.random.below(3) {
            0 => {
                // The newest ones, or one that has expired.
                let newest = recorded.permits.len().saturating_sub(2);
                let newest = if self.random.once_in(3) { 0 } else { newest };
                let Some(permit) = self.random.one_of(&recorded.permits[newest..]) else {
                    return Ok(());
                };
                self.tally.count("recorded permits tried");
                let finding = FindingId::of("none", "none", &[0; 32]);
                self.use_permit(machine, permit, finding, Level::Critical).map(|_| ())
            }
            1 => {
                let Some(codes) = self.random.one_of(&recorded.codes) else { return Ok(()) };
                self.tally.count("recorded codes tried");
                self.give_these_codes(machine, codes)
            }
            _ => {
                let Some(old) = self.random.one_of(&recorded.assignments) else { return Ok(()) };
                self.tally.count("recorded assignments tried");
                self.helper_assigned(machine, old)
            }
        }
    }

    /// Somebody without the command key sends an order.
    pub(crate) fn forge_an_order(&mut self, machine: usize) -> Result<(), Violation> {
        self.tally.count("forged orders");
        let lease = Lease { seconds: 600, step_down_seconds: 600, warn_seconds: 1 };
        let instruction = match self.random.once_in(2) {
            true => Instruction::isolate(Isolation::Full, lease),
            false => Instruction::begin(self.any_act(machine), lease),
        };
        let target = &self.machines[machine];
        let moment = target.clock.read(self.now);
        let order = Order {
            id: OrderId::new(moment.utc, [self.random.bytes()[0]; 10]),
            organisation: self.hub.policy.organisation.clone(),
            machine: target.id,
            sequence: 1_000_000,
            nonce: self.random.bytes(),
            issued_at: moment.utc,
            deliver_until: None,
            instruction,
            authority: cordon_model::order::Authority::People {
                approval: None,
                people: vec![Approver { name: "mallory".into(), is_clinical: true }],
            },
            incident: None,
            reason: "forged".into(),
        };
        let thief = SigningKey::from_bytes(&[66; 32]);
        let Ok(envelope) = seal(&order, &thief) else { return Ok(()) };
        let link = target.link.unwrap_or(0);
        self.agent_hears(machine, link, FromHub::Order(envelope))
    }
}

fn is_new_question(output: &Output) -> bool {
    matches!(output, Output::Keep(Change::Approval(question)) if question.state == ApprovalState::Open)
}
