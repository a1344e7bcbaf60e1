//! What crosses the local socket: the command line's requests, and the hub's answers.

use cordon_model::action::Action;
use cordon_model::approval::NightGap;
use cordon_model::asset::{Assignment, ClinicalTier};
use cordon_model::ids::{ApprovalId, IncidentId, MachineId, MeasureId};
use cordon_model::look::Seen;
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::policy::{Mode, Policy};
use cordon_model::time::UtcNanos;
use cordon_respond::approval::{Approval, ApprovalState};
use cordon_respond::names::Pin;
use cordon_store::{Role, StoredMeasure};
use serde::{Deserialize, Serialize};

use super::detail::{IncidentDetail, MachineDetail};
use crate::view::{
    AssignmentDraft, GateView, IncidentRow, LedgerStatus, MachineRow, MeasurePreview, NameNow,
    Ordered, PlanOrdered, PlanView, Preview, Refused, StandingNow, Undone,
};

/// What the command line asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How is the hub?
    Status,
    /// A token that enrols one machine, once.
    CreateEnrolToken {
        /// What the machine is to be.
        draft: AssignmentDraft,
        /// For how long it is good.
        good_for_seconds: u32,
    },
    /// A secret that signs a person in, once.
    CreateSignIn {
        /// Who; made known if need be.
        name: String,
        /// What a new person may do; of one who is known it is only checked.
        role: Option<Role>,
        /// For how long it is good.
        good_for_seconds: u32,
    },
    /// Make a person known, or change what they may do.
    PutPerson {
        /// Sign-in name.
        name: String,
        /// What the person may do.
        role: Role,
        /// Whether the person may answer for patients' safety.
        is_clinical: bool,
    },
    /// Let a person sign in no more, and end the sessions that are open.
    BarPerson {
        /// Sign-in name.
        name: String,
    },
    /// Machines, by name.
    ListMachines,
    /// Incidents, newest first.
    ListIncidents {
        /// Only those that are not closed.
        only_open: bool,
    },
    /// One machine in full.
    Machine {
        /// Its id or name.
        machine: String,
    },
    /// One incident in full.
    Incident(IncidentId),
    /// Take an incident: somebody has it.
    TakeIncident(IncidentId),
    /// Write into an incident's timeline.
    CommentIncident {
        /// Which.
        incident: IncidentId,
        /// What.
        comment: String,
    },
    /// Close an incident.
    CloseIncident {
        /// Which.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// What an isolation would do.
    Preview {
        /// Its id or name.
        machine: String,
        /// How far.
        isolation: Isolation,
    },
    /// What a measure besides the isolation would do. Nothing is done.
    PreviewMeasure {
        /// Its id or name.
        machine: String,
        /// What would be done.
        action: Action,
    },
    /// Cut a machine off.
    Isolate {
        /// Its id or name.
        machine: String,
        /// How far.
        isolation: Isolation,
        /// Why.
        reason: String,
    },
    /// Begin a measure besides the isolation.
    Begin {
        /// Its id or name.
        machine: String,
        /// What is done.
        action: Action,
        /// Why.
        reason: String,
    },
    /// Take one measure back.
    Undo {
        /// Its id or name.
        machine: String,
        /// Which.
        measure: MeasureId,
        /// Why.
        reason: String,
    },
    /// The measures of a machine, the newest first.
    Measures {
        /// Its id or name.
        machine: String,
    },
    /// A machine's processes, by its own word.
    Processes {
        /// Its id or name.
        machine: String,
    },
    /// What starts by itself on a machine or lets somebody in, looked at now, and since when it is known.
    Survey {
        /// Its id or name.
        machine: String,
        /// Only what may have come at this time or later, or was gone since; `None`: all.
        since: Option<UtcNanos>,
    },
    /// Take every isolation of a machine back.
    Release {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
        /// Why all the same, if the gate of the return to service is closed.
        despite: Option<String>,
    },
    /// The plan against what was found on a machine.
    Plan {
        /// Its id or name.
        machine: String,
        /// Of this incident only.
        incident: Option<IncidentId>,
    },
    /// Order the plan, if it is still this one.
    OrderPlan {
        /// Its id or name.
        machine: String,
        /// Of this incident only.
        incident: Option<IncidentId>,
        /// The digest of the plan that was seen.
        digest: String,
        /// Why.
        reason: String,
    },
    /// Look anew whether anything of the plan is left, and keep the answer.
    VerifyPlan {
        /// Its id or name.
        machine: String,
        /// Of this incident only.
        incident: Option<IncidentId>,
    },
    /// Things of the plan may stay, or were dealt with by hand.
    AcceptSteps {
        /// Its id or name.
        machine: String,
        /// Of this incident only.
        incident: Option<IncidentId>,
        /// The steps' ids.
        steps: Vec<String>,
        /// Why.
        reason: String,
    },
    /// The gate of a machine's return to service.
    Gate {
        /// Its id or name.
        machine: String,
    },
    /// What let the intruder in is closed, by a person's word.
    SayPatched {
        /// Its id or name.
        machine: String,
        /// How, and how that is known.
        reason: String,
    },
    /// A person answers for a machine's return.
    SignOff {
        /// Its id or name.
        machine: String,
        /// On what ground.
        reason: String,
    },
    /// Take back everything that Cordon did by itself, to one machine or in one incident.
    UndoAll {
        /// A machine's id or name, or an incident's id.
        target: String,
        /// Why.
        reason: String,
    },
    /// The questions that wait for people.
    Questions,
    /// Answer one.
    Answer {
        /// Which.
        question: ApprovalId,
        /// Yes or no.
        is_approved: bool,
        /// Why.
        reason: String,
    },
    /// The measures on a machine that are not over.
    Standing(MachineId),
    /// What one measure of a machine is now.
    Measure {
        /// Which machine.
        machine: MachineId,
        /// Which measure.
        measure: MeasureId,
    },
    /// Extend the lease of a machine's measure in force.
    Renew {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Say what a machine is.
    SetAssignment {
        /// Its id or name.
        machine: String,
        /// What it is.
        draft: AssignmentDraft,
    },
    /// What would be signed of a machine, with the addresses that its names have now.
    WouldAssign {
        /// Its id or name.
        machine: String,
        /// What it is.
        draft: AssignmentDraft,
    },
    /// What would be signed of a machine that enrols with a token for it.
    WouldEnrol {
        /// What the machine is to be.
        draft: AssignmentDraft,
    },
    /// How the names of lifelines are: of one machine, or of all that have some.
    Names {
        /// Its id or name.
        machine: Option<String>,
        /// Whether they are looked up now.
        looks: bool,
    },
    /// Confirm addresses of a name.
    ConfirmAddresses {
        /// The machine's id or name.
        machine: String,
        /// Which addresses.
        pin: Pin,
    },
    /// Strike a machine off.
    StrikeOff {
        /// Its id or name.
        machine: String,
        /// What whoever says its id calls it, if the hub is to have no other machine that is called so and not struck
        /// off.
        called: Option<String>,
        /// Why.
        reason: String,
        /// Also if it is cut off, or may be, and nobody here can release it then.
        though_cut_off: bool,
    },
    /// Other break-glass codes for a machine.
    RenewCodes {
        /// Its id or name.
        machine: String,
        /// Why.
        reason: String,
    },
    /// Which machine has this id or name, and of which revision it holds break-glass codes.
    Codes {
        /// Its id or name.
        machine: String,
    },
    /// Set how much is done without asking.
    SetMode(Mode),
    /// The policy in force.
    Policy,
    /// Whether a policy could be put in force here: nothing is done.
    CheckPolicy(Box<Policy>),
    /// Put a policy in force; its organisation and revision are the hub's to give.
    SetPolicy(Box<Policy>),
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// A token or secret: shown once.
    Secret(String),
    /// Machines; `total` says of how many.
    Machines {
        /// The first rows.
        rows: Vec<MachineRow>,
        /// How many there are.
        total: usize,
    },
    /// To [`Request::Measures`].
    Measures(Vec<ListedMeasure>),
    /// To [`Request::Measure`]; `None`: the hub knows of none such.
    Measure(Option<MeasureState>),
    /// To [`Request::Processes`] and [`Request::Survey`].
    Seen(Box<Seen>),
    /// Incidents; `total` says of how many.
    Incidents {
        /// The first rows.
        rows: Vec<IncidentRow>,
        /// How many there are.
        total: u64,
        /// Ids of those among the first that can't be read, and why.
        unreadable: Vec<(String, String)>,
    },
    /// To [`Request::Machine`].
    Machine(Box<MachineDetail>),
    /// To [`Request::Incident`].
    Incident(Box<IncidentDetail>),
    /// To [`Request::Preview`].
    Preview(Box<Preview>),
    /// To [`Request::PreviewMeasure`].
    MeasurePreview(Box<MeasurePreview>),
    /// To [`Request::Plan`] and [`Request::AcceptSteps`].
    Plan(Box<PlanView>),
    /// To [`Request::OrderPlan`].
    PlanOrdered(Box<PlanOrdered>),
    /// To [`Request::VerifyPlan`].
    Verified {
        /// The plan, with where each step is.
        plan: Box<PlanView>,
        /// Whether nothing is left and everything could be looked at.
        is_clean: bool,
    },
    /// To [`Request::Gate`], and to what is said of it.
    Gate(Box<GateView>),
    /// To [`Request::SetAssignment`], [`Request::WouldAssign`] and [`Request::ConfirmAddresses`].
    Assigned(Box<Assignment>),
    /// To [`Request::Names`]: machines with the names of their lifelines.
    Names {
        /// The first, each with what people call it.
        rows: Vec<(String, Vec<NameNow>)>,
        /// How many machines there are that have some.
        total: usize,
    },
    /// To [`Request::Policy`].
    Policy(Box<Policy>),
    /// To [`Request::Codes`].
    Codes {
        /// Which machine.
        machine: MachineId,
        /// Of which revision it last said that it holds codes (0: of none); `None`: it was never heard.
        held: Option<u64>,
    },
    /// What came of a wish.
    Ordered {
        /// For which machine.
        machine: MachineId,
        /// An order, or a question to others.
        ordered: Ordered,
    },
    /// To [`Request::Release`].
    Released {
        /// For which machine.
        machine: MachineId,
        /// The order.
        ordered: Ordered,
        /// What stood on it before.
        before: Box<StandingNow>,
    },
    /// Questions that wait for people.
    Questions {
        /// The first.
        rows: Vec<QuestionRow>,
        /// How many there are.
        total: u64,
    },
    /// To [`Request::Answer`]: where the question is now, and until when a no to it holds.
    Answered(ApprovalState, Option<UtcNanos>),
    /// To [`Request::UndoAll`], for each machine on which there was something to take back.
    Undone(Vec<Undone>),
    /// To [`Request::Standing`].
    Standing(Box<StandingNow>),
    /// To what changes the policy: done.
    PolicySet {
        /// Its revision…
        revision: u64,
        /// …and mode.
        mode: Mode,
        /// What is missing at night now, if anything is.
        night: Option<NightGap>,
    },
    /// To what changes people: done.
    Kept {
        /// What is missing at night now, if anything is.
        night: Option<NightGap>,
    },
    /// To [`Request::StrikeOff`]: done.
    StruckOff {
        /// Which machine.
        machine: MachineId,
        /// It was struck off before.
        was: bool,
        /// What whoever did it has to know.
        said: Vec<String>,
    },
    /// Done.
    Done,
    /// No, and why.
    Refused(String),
}

/// One measure in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedMeasure {
    /// The measure.
    pub measure: StoredMeasure,
    /// A release is kept as a measure of its own; by its action alone it can't be told from a watch.
    pub is_release: bool,
}

/// One question in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionRow {
    /// What people call its machine.
    pub machine: String,
    /// The machine's tier as people said it.
    pub tier: Option<ClinicalTier>,
    /// The question.
    pub question: Approval,
}

/// How the hub is, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The organisation's code.
    pub organisation: cordon_model::ids::OdsCode,
    /// Its name.
    pub name: String,
    /// How much is done without asking.
    pub mode: Mode,
    /// Machines enrolled…
    pub machines: u64,
    /// …of which are linked now…
    pub linked: u64,
    /// …of which were heard in the last seconds…
    pub heard: u64,
    /// …of which at least one acting measure is on.
    pub contained: u64,
    /// Incidents that are not closed…
    pub incidents_open: u64,
    /// …of which nobody has.
    pub incidents_unowned: u64,
    /// Questions that wait for people.
    pub questions: u64,
    /// Orders that no machine has taken yet.
    pub orders_waiting: u64,
    /// The ledger.
    pub ledger: LedgerStatus,
    /// Why the signer does not sign the ledger any more: an alarm.
    pub ledger_alarm: Option<String>,
    /// `None`: the signer answered last time.
    pub signer_away: Option<String>,
    /// Why documents wait for the signer's bound; `None`: they do not.
    #[serde(default)]
    pub held_up: Option<String>,
    /// Which rows could not be read at the start, and what to do.
    #[serde(default)]
    pub set_aside: Option<String>,
    /// What was refused since the start.
    pub refused: Refused,
}
