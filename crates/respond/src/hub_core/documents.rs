//! Documents that the signer signed ahead: kept, and sent to whom they are for.

use super::*;

impl HubCore {
    /// The signer signed an assignment: a machine is new, or is now something else.
    pub fn assigned(&mut self, assignment: &Verified<Assignment>) -> Vec<Output> {
        let id = assignment.machine;
        if let Some(machine) = self.machines.get_mut(&id) {
            if machine.row.assignment.revision > assignment.revision {
                // Two were signed at about the same time, and the newer one was here first.
                return Vec::new();
            }
            machine.row.assignment = (**assignment).clone();
            machine.row.assignment_envelope = assignment.envelope().clone();
        } else {
            self.add_machine(MachineRow {
                assignment: (**assignment).clone(),
                assignment_envelope: assignment.envelope().clone(),
                permit: None,
                codes: None,
                guidance: None,
                inbox: Inbox::default(),
                version: 0,
                way: WayWord::default(),
            });
        }
        let mut outputs = self.keep_machine(id);
        outputs.extend(self.send(id, FromHub::Assignment(assignment.envelope().clone())));
        if let Some(permit) = self.early.remove(&id) {
            outputs.extend(self.permitted(&permit));
        }
        outputs
    }

    /// The signer signed a policy.
    pub fn policy_set(&mut self, policy: &Verified<Policy>) -> Vec<Output> {
        self.policy = (**policy).clone();
        self.policy_envelope = policy.envelope().clone();
        let kept = Change::Policy(self.policy.clone(), self.policy_envelope.clone());
        let mut outputs = vec![Output::Keep(kept)];
        let open = self.approvals.all().filter(|open| open.state == ApprovalState::Open);
        outputs.extend(open.filter_map(|open| self.for_the_signer(open)).map(Output::Signer));
        for machine in self.machines.keys() {
            outputs.extend(self.send(*machine, FromHub::Policy(self.policy_envelope.clone())));
        }
        outputs
    }

    /// The signer signed a permit.
    pub fn permitted(&mut self, permit: &Verified<Permit>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&permit.machine) else {
            self.early.insert(permit.machine, permit.clone());
            return Vec::new();
        };
        machine.row.permit = Some(permit.envelope().clone());
        let mut outputs = self.keep_machine(permit.machine);
        outputs.extend(self.send(permit.machine, FromHub::Permit(permit.envelope().clone())));
        outputs
    }

    /// The permit that came before its machine's assignment and waits for it.
    #[must_use]
    pub fn early_permit(&self, machine: MachineId) -> Option<&Verified<Permit>> {
        self.early.get(&machine)
    }

    /// The signer signed the hashes of a machine's break-glass codes.
    pub fn coded(&mut self, document: &Verified<BreakGlass>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&document.machine) else { return Vec::new() };
        let revision = document.revision;
        machine.row.codes = Some((revision, document.envelope().clone()));
        machine.codes_sent = machine.link.map(|link| (link, revision));
        let mut outputs = self.keep_machine(document.machine);
        let message = FromHub::BreakGlass(document.envelope().clone());
        outputs.extend(self.send(document.machine, message));
        outputs
    }

    /// The signer signed what people in front of a machine are told.
    pub fn guided(&mut self, guidance: &Verified<Guidance>) -> Vec<Output> {
        let Some(machine) = self.machines.get_mut(&guidance.machine) else { return Vec::new() };
        let revision = guidance.revision;
        if machine.row.guidance.as_ref().is_some_and(|(held, _)| *held >= revision) {
            return Vec::new();
        }
        machine.row.guidance = Some((revision, guidance.envelope().clone()));
        machine.guidance_sent = machine.link.map(|link| (link, revision));
        let mut outputs = self.keep_machine(guidance.machine);
        let message = FromHub::Guidance(guidance.envelope().clone());
        outputs.extend(self.send(guidance.machine, message));
        outputs
    }
}
