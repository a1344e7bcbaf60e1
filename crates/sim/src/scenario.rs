//! What a run is: its organisation, what goes wrong in it, and which control a test has turned off.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cordon_model::action::{ActionKind, FilePath};
use cordon_model::approval::{ApprovalTerms, Needs, NeedsMore, Night, Unanswered};
use cordon_model::asset::{
    Assignment, ClinicalTier, Direction, Lifeline, PortRange, Protected, Transport,
};
use cordon_model::break_glass::{Brake, BreakGlassTerms};
use cordon_model::finding::Level;
use cordon_model::ids::{MachineId, OdsCode};
use cordon_model::measure::Isolation;
use cordon_model::order::Lease;
use cordon_model::policy::{Budget, Mode, Policy, Response};
use cordon_model::time::UtcNanos;

use crate::machine::BEGINNING;
use crate::random::Random;

/// What happens in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scenario {
    /// Eight machines and everything that can go wrong, by chance of the seed.
    #[default]
    Everything,
    /// A wrong rule is let loose on a thousand machines, a fifth of which can't reach the hub.
    WrongRule,
    /// The hub's web tier is stolen from eight machines that have every other trouble too.
    StolenHub,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everything => "everything",
            Self::WrongRule => "wrong-rule",
            Self::StolenHub => "stolen-hub",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Everything, Self::WrongRule, Self::StolenHub]
            .into_iter()
            .find(|scenario| scenario.to_string() == text)
            .ok_or_else(|| {
                format!("{text:?} is no scenario: use everything, wrong-rule or stolen-hub")
            })
    }
}

impl Scenario {
    /// How many seeds are usually run: one hospital, or a thousand small ones.
    #[must_use]
    pub fn usual_seeds(self) -> u64 {
        match self {
            Self::Everything | Self::StolenHub => 1_000,
            Self::WrongRule => 1,
        }
    }

    pub(crate) fn machines(self) -> usize {
        match self {
            Self::Everything | Self::StolenHub => 8,
            Self::WrongRule => 1_000,
        }
    }

    /// How long things go wrong.
    pub(crate) fn trouble(self) -> Duration {
        match self {
            Self::Everything | Self::StolenHub => Duration::from_secs(240),
            Self::WrongRule => Duration::from_secs(60),
        }
    }

    /// How long it is calm afterwards, before the end is judged.
    pub(crate) fn calm(self) -> Duration {
        Duration::from_secs(60)
    }
}

/// A control that is off, to show that its law's break is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The machine believes any key.
    AnyKey,
    /// The machine forgets which sequence it has taken.
    NoSequence,
    /// Nobody counts the lease.
    NoLeaseTimer,
    /// The helper loses what it holds at each start.
    ForgetsMeasures,
    /// The kernel's rules keep no lifelines.
    CutsLifelines,
    /// The registry calls every clinical machine tier 0.
    WrongTier,
    /// The registry knows no kinds.
    NoKinds,
    /// The kernel takes nothing, and the proof says that it did.
    FalseProof,
    /// The signer counts no budget.
    NoBudget,
    /// The signer counts no group's share, and all else.
    NoGroupShare,
    /// Signer, hub and helper take a life-sustaining machine for one that a single person may close.
    OnePersonOnTierThree,
    /// The same, and nobody looks at what the signer signs: what is left is what the machines do.
    OnePersonAtTheMachine,
    /// The helper tells nobody that a lease is about to end.
    NeverWarns,
    /// The same of what is done besides the isolation, and of nothing else.
    NeverWarnsBesides,
    /// The hub believes a finding about which machine it was found on.
    BelievesHosts,
    /// The signer gives a permit to everybody.
    PermitsForAll,
    /// The agent waits for the hub for ever.
    NoSelfDefence,
    /// The hub acknowledges before it has written.
    AcknowledgesEarly,
    /// The hub keeps no ledger.
    NoLedger,
    /// The signer writes down the orders that it signs, and nothing else.
    RecordsOrdersOnly,
    /// The hub tells nobody anything.
    TellsNobody,
    /// The hub believes a receipt about whom it is from.
    BelievesSenders,
    /// The machine forgets which codes were used.
    CodesTwice,
    /// The machine takes another machine's codes for its own.
    ForeignCodes,
    /// The machine does not remember that people opened it by a code.
    NoHoldOff,
    /// The machine passes over an order's condition.
    NoCondition,
    /// The hub does not listen to what machines say that they hold.
    IgnoresStatuses,
    /// The sequence of the last order is lost with the helper's memory.
    LosesTheFloor,
    /// Which permits were used is lost with it.
    ForgetsUsedPermits,
    /// Which codes were used is lost with it.
    ForgetsUsedCodes,
    /// Which revisions of its documents were taken is lost with it.
    ForgetsRevisions,
    /// The hub takes two machines' findings of one id for one.
    FoldsFindings,
    /// The hub tells nobody what the signer refused.
    HidesRefusals,
    /// The signer counts no orders in people's names.
    NoPeoplesBrake,
    /// The signer asks for one person, at any hour, whatever the policy says.
    AnybodyAtAnyHour,
    /// The signer believes that people were asked, and in vain.
    AnswersForPeople,
    /// The signer believes receipts that no machine sealed.
    AnyReceipt,
    /// The hub takes nothing more of a message once it has refused a part of it.
    ChokesOnBad,
    /// The hub keeps every measure that a machine claims.
    TakesEverything,
    /// The hub counts the machines that it has heard for all there are.
    CountsOnlyTheHeard,
    /// The hub shows what is linked as just heard.
    NothingIsOld,
    /// Signer and helper take every machine for tier 0 where the policy would do something besides isolating.
    StopsOnClinical,
    /// The signer takes every machine for tier 0 where the policy would isolate it.
    SignerForgetsTiers,
    /// Signer and helper do.
    IsolatesClinical,
    /// The machine's hand does not look what is declared as needed for care.
    StopsWhatCareNeeds,
    /// Nobody counts the lease of what is done besides the isolation.
    NoLeaseBesides,
    /// What is done besides the isolation is never taken back.
    NeverTakesBack,
    /// The helper loses what it does besides the isolation at each start.
    ForgetsActs,
    /// Nothing is done, or taken back, besides the isolation, and the proof says that it was.
    FalseProofBesides,
    /// The helper counts nothing that it does by itself besides the isolation.
    NoOwnBrake,
    /// The signer lets one person have the inside of a process looked into.
    LooksInsideForOne,
    /// The hub leaves out of its questions what is to be done besides the isolation.
    AsksForIsolationsOnly,
    /// The hub forgets at each start what people said no to.
    ForgetsNo,
    /// The hub asks nothing after a no of what came while people were asked.
    AsksNothingAfterNo,
    /// A no, once the hub has started again, is taken for one to whatever comes.
    NoSilencesAll,
    /// The hub takes a no to hold for ever.
    NoHoldsForEver,
    /// The hub escalates nothing that nobody has.
    NeverEscalates,
    /// The hub tells nobody of an order that came to nothing.
    HidesDeadOrders,
    /// The signer forgets which proposals it has answered.
    SignsTwice,
    /// The machine forgets which orders it has taken, but not their sequence.
    RefusesAgain,
    /// The hub takes reports that come again for new ones.
    TakesTwice,
    /// The helper knows no time below which it believes no clock.
    NoTimeFloor,
    /// The helper believes the highest that its clock ever said.
    BelievesItsClock,
    /// The signer has its hub's every word signed of what a machine is and what holds.
    BelievesTheHub,
}

const TIERS: &[ClinicalTier] = &[
    ClinicalTier::None,
    ClinicalTier::None,
    ClinicalTier::Supports,
    ClinicalTier::None,
    ClinicalTier::Supports,
    ClinicalTier::Clinical,
    ClinicalTier::LifeSustaining,
];

pub(crate) fn organisation() -> Option<OdsCode> {
    "RJ1".parse().ok()
}

pub(crate) fn machine_id(index: usize) -> MachineId {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
    MachineId::new(UtcNanos::from_unix_nanos(BEGINNING), bytes)
}

/// The organisation's policy in this run. Short leases and windows, so that a run of minutes sees their
/// ends many times.
pub(crate) fn policy(scenario: Scenario, organisation: OdsCode, random: &mut Random) -> Policy {
    let tiers = vec![ClinicalTier::None, ClinicalTier::Supports];
    let clinical = vec![ClinicalTier::Clinical, ClinicalTier::LifeSustaining];
    let response = |level_at_least, tiers, isolation, also: &[ActionKind], by_itself| Response {
        level_at_least,
        tiers,
        isolation,
        also: also.to_vec(),
        by_itself,
    };
    let mode = match (scenario, random.below(10)) {
        (Scenario::WrongRule, _) | (_, 0..7) => Mode::Act,
        (_, 7..9) => Mode::Ask,
        _ => Mode::Observe,
    };
    // Narrow in half of the runs; in a quarter so wide that only the machines' own brakes are left.
    let width = if scenario == Scenario::WrongRule { 0 } else { random.below(4) };
    let also = also(scenario, random);
    Policy {
        organisation,
        revision: 1,
        mode,
        responses: vec![
            response(Level::Critical, tiers.clone(), Isolation::Full, also, true),
            response(Level::High, tiers, Isolation::Segment, also, true),
            // By itself, says a careless policy; nothing may obey it.
            response(Level::High, clinical, Isolation::Segment, also, true),
        ],
        budget: match scenario {
            Scenario::Everything | Scenario::StolenHub => Budget {
                count: [3, 3, 8, 200][usize::try_from(width).unwrap_or(0)],
                window_seconds: 60,
                group_percent: if width > 1 { 100 } else { 34 },
            },
            Scenario::WrongRule => Budget { count: 5, window_seconds: 600, group_percent: 5 },
        },
        approval: approval(scenario, random),
        lease: match scenario {
            Scenario::Everything | Scenario::StolenHub => {
                Lease { seconds: 40, step_down_seconds: 25, warn_seconds: 10 }
            }
            Scenario::WrongRule => {
                Lease { seconds: 4 * 3600, step_down_seconds: 4 * 3600, warn_seconds: 1800 }
            }
        },
        deliver_within_seconds: random.once_in(2).then_some(30),
        permit_seconds: match scenario {
            Scenario::Everything | Scenario::StolenHub => 50,
            Scenario::WrongRule => 24 * 3600,
        },
        permits: match scenario {
            Scenario::Everything | Scenario::StolenHub => 2,
            Scenario::WrongRule => 20,
        },
        break_glass: BreakGlassTerms {
            codes: 4,
            hold_off_seconds: 20,
            brake: Brake {
                tries: 3,
                window_seconds: 30,
                pause_seconds: 5,
                longest_pause_seconds: 15,
            },
            ..BreakGlassTerms::default()
        },
        ring: Vec::new(),
        return_terms: cordon_model::gate::ReturnTerms::default(),
    }
}

/// What else the policy does about what a finding names: in a quarter of the runs nothing.
fn also(scenario: Scenario, random: &mut Random) -> &'static [ActionKind] {
    use ActionKind::{Deny, Freeze, Kill, Quarantine};
    if scenario == Scenario::WrongRule {
        return if random.below(128) < 64 { &[] } else { &[Freeze, Quarantine, Deny] };
    }
    match random.below(4) {
        0 => &[],
        1 => &[Freeze, Deny],
        2 => &[Kill, Deny],
        _ => &[Freeze, Kill, Quarantine, Deny],
    }
}

/// Who is asked, for how long, and what follows: in half of the runs the policy answers in the end.
fn approval(scenario: Scenario, random: &mut Random) -> ApprovalTerms {
    let people = ["ann", "dr cole"].map(String::from).to_vec();
    let night = Night {
        from: "00:00".into(),
        until: "23:59".into(),
        time_zone: "Europe/London".into(),
        tiers: vec![ClinicalTier::Supports, ClinicalTier::Clinical],
        people,
    };
    let more = NeedsMore { tiers: vec![ClinicalTier::Supports], needs: Needs::TwoPeople };
    match scenario {
        Scenario::Everything | Scenario::StolenHub => ApprovalTerms {
            open_for_seconds: 60,
            remind_seconds: 60,
            unanswered: match random.once_in(2) {
                true => Unanswered::Segment,
                false => Unanswered::AskAgain,
            },
            no_holds_for_seconds: if random.once_in(2) { 40 } else { 12 * 3600 },
            needs: random.once_in(3).then_some(more).into_iter().collect(),
            night: random.once_in(4).then_some(night),
        },
        Scenario::WrongRule => ApprovalTerms::default(),
    }
}

/// The hash of a code. Production's is slow and keyed; here it has only to be nobody else's.
pub(crate) fn code_hash(machine: MachineId, revision: u64, number: u8) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(machine.as_bytes());
    hash[16..24].copy_from_slice(&revision.to_be_bytes());
    hash[24] = number;
    hash
}

/// Machines of one ward, where a wrong rule is let loose.
pub(crate) const WARD: usize = 50;

/// Of so many wards one can't reach the hub there.
pub(crate) const SITE_AWAY_EVERY: usize = 5;

/// The tier of machine `index`; `None`: nobody has said.
pub(crate) fn tier(scenario: Scenario, index: usize) -> Option<ClinicalTier> {
    match scenario {
        Scenario::Everything | Scenario::StolenHub => TIERS.get(index % 8).copied(),
        // Our guess at a hospital, of 50: most are office machines and desks, 12 % clinical, 4 % keep
        // somebody alive, and of 2 % nobody has said what they are.
        Scenario::WrongRule => match index % WARD {
            0..27 => Some(ClinicalTier::None),
            27..41 => Some(ClinicalTier::Supports),
            41..47 => Some(ClinicalTier::Clinical),
            47..49 => Some(ClinicalTier::LifeSustaining),
            _ => None,
        },
    }
}

/// Machines that stand in for each other: three of a hospital of eight, so that the last of it is often in
/// question; the two booking desks, the two analysers and the two gateways of each ward.
fn kind(scenario: Scenario, index: usize) -> Option<String> {
    match scenario {
        Scenario::Everything | Scenario::StolenHub => {
            (index % 8 < 3).then(|| format!("booking desk {}", index / 80))
        }
        Scenario::WrongRule => {
            let kind = match index % WARD {
                27..29 => "booking desk",
                41..43 => "analyser",
                47..49 => "monitoring gateway",
                _ => return None,
            };
            Some(format!("{kind} of ward {}", index / WARD))
        }
    }
}

/// What machine `index` is.
pub(crate) fn assignment(
    scenario: Scenario,
    index: usize,
    organisation: OdsCode,
    revision: u64,
) -> Assignment {
    let tier = tier(scenario, index);
    let ward = match scenario {
        Scenario::Everything | Scenario::StolenHub => (index % 2) + 2 * (index / 100),
        Scenario::WrongRule => index / WARD,
    };
    Assignment {
        organisation,
        machine: machine_id(index),
        revision: 0,
        name: format!("m{index}"),
        tier,
        kind: kind(scenario, index),
        group: Some(format!("ward {ward}")),
        lifelines: (0..=revision % 2)
            .map(|number| Lifeline {
                name: format!("flow {number}"),
                peer: std::net::IpAddr::from([10, 0, 0, 9]).into(),
                transport: Transport::Tcp,
                ports: PortRange::one(11_112),
                direction: Direction::Outbound,
                signed_off_by: None,
            })
            .collect(),
        names: Vec::new(),
        protected: Protected {
            // Care came to need it, and does not any more: as the organisation says.
            executables: (revision == 2)
                .then(|| FilePath::new("/tmp/program-1"))
                .into_iter()
                .collect(),
            ..Protected::default()
        },
        watched: Vec::new(),
        hub: Vec::new(),
    }
}
