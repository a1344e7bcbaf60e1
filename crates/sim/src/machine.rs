//! A simulated machine: its kernel, its disk, its clocks, and the production minds of helper and agent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::Assignment;
use cordon_model::break_glass::BreakGlass;
use cordon_model::ids::{MachineId, MeasureId};
use cordon_model::measure::{Isolation, Receipt};
use cordon_model::order::Permit;
use cordon_model::policy::Policy;
use cordon_model::signed::Verified;
use cordon_model::time::{BootId, BootNanos, UtcNanos};
use cordon_respond::agent_core::AgentCore;
use cordon_respond::clock::Moment;
use cordon_respond::delivery::Spool;
use cordon_respond::helper_core::{Floor, HelperCore};
use cordon_respond::hub_core::Arrived;

/// When every simulation begins, in UTC: a fixed day, so that runs replay.
pub(crate) const BEGINNING: i64 = 1_800_000_000_000_000_000;

/// What the kernel cuts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InKernel {
    pub(crate) measure: MeasureId,
    pub(crate) isolation: Isolation,
    /// Names of the flows that live.
    pub(crate) kept: Vec<String>,
}

/// A clock that a process can read.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    pub(crate) boots: u32,
    pub(crate) booted: Duration,
    /// By how much its wall clock is wrong.
    pub(crate) wrong_by: i64,
    /// The hub's time, and the boot time when it was learned.
    pub(crate) trusted: Option<(UtcNanos, BootNanos)>,
    name: String,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Clock {
    pub(crate) fn new(name: String) -> Self {
        Self { boots: 1, booted: Duration::ZERO, wrong_by: 0, trusted: None, name }
    }

    /// As a helper and a signer read it: nobody vouches for any time.
    pub(crate) fn read(&self, now: Duration) -> Moment {
        let at = BootNanos(nanos(now.saturating_sub(self.booted)));
        let right = BEGINNING.saturating_add(i64::try_from(nanos(now)).unwrap_or(i64::MAX));
        Moment {
            boot: BootId(format!("{}-{}", self.name, self.boots)),
            at,
            utc: UtcNanos::from_unix_nanos(right.saturating_add(self.wrong_by)),
            trusted_utc: None,
        }
    }

    /// As an agent reads it, which knows what its hub's clock said.
    pub(crate) fn read_as_agent(&self, now: Duration) -> Moment {
        let moment = self.read(now);
        let trusted_utc = self.trusted.map(|(utc, then)| utc.plus(moment.at.since(then)));
        Moment { trusted_utc, ..moment }
    }

    pub(crate) fn reboot(&mut self, now: Duration) {
        self.boots += 1;
        self.booted = now;
        self.trusted = None;
    }
}

/// The documents that an agent keeps on its disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Documents {
    pub(crate) policy: Option<Verified<Policy>>,
    pub(crate) assignment: Option<Verified<Assignment>>,
    pub(crate) permit: Option<Verified<Permit>>,
    pub(crate) permit_since: Duration,
    pub(crate) codes: Option<Verified<BreakGlass>>,
}

/// Genuine documents of one machine, old ones too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) assignments: Vec<Verified<Assignment>>,
    pub(crate) permits: Vec<Verified<Permit>>,
    pub(crate) codes: Vec<Verified<BreakGlass>>,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) clock: Clock,
    pub(crate) is_on: bool,
    pub(crate) kernel: Option<InKernel>,
    /// What is in force besides the isolation: what stands still, is set aside, denied or blocked.
    pub(crate) acts: BTreeMap<MeasureId, Action>,
    /// Measures that were done at once.
    pub(crate) did: BTreeSet<MeasureId>,
    /// Numbers of processes that were ended in this boot.
    pub(crate) ended: BTreeSet<u32>,
    pub(crate) helper: Option<HelperCore>,
    /// What the helper has written and synced: always before it acts.
    pub(crate) helper_disk: Option<HelperCore>,
    /// What it keeps beside that, so that it outlives it.
    pub(crate) floor: Floor,
    pub(crate) agent: Option<AgentCore>,
    pub(crate) documents: Documents,
    /// When it last said something that reaches the hub.
    pub(crate) said_at: Option<Duration>,
    /// Every receipt that its agent sealed.
    pub(crate) sealed: Vec<Receipt>,
    /// What was ever signed for it, as somebody on the way has recorded it.
    pub(crate) recorded: Recorded,
    /// What the agent has written; a crash of the agent loses none of it.
    pub(crate) spool: Spool<Arrived>,
    /// From this number on it is not synced yet: a power cut loses it.
    pub(crate) spool_synced: u64,
    /// Counts up at each start, so that wake-ups meant for an earlier life are dropped.
    pub(crate) life: u64,
    /// The same for its helper alone.
    pub(crate) helper_life: u64,
    /// When its helper wakes up next.
    pub(crate) wakes_at: Duration,
    /// And for its agent alone.
    pub(crate) agent_life: u64,
    /// The link that the agent believes to be up, or is opening.
    pub(crate) link: Option<u64>,
    pub(crate) is_welcome: bool,
    /// Cut off from the hub until then.
    pub(crate) cut_off_until: Duration,
    /// Its agent is hostile: what it says is not to be believed.
    pub(crate) lies: bool,
    /// Findings whose reports were lost with the power, before anything was acknowledged.
    pub(crate) findings: u64,
}

impl Machine {
    /// The number of the process that runs this program: one that was ended is started again under another.
    pub(crate) fn process_of(&self, program: u64) -> u32 {
        let first = 100 + 32 * u32::try_from(program).unwrap_or(0);
        (first..).find(|pid| !self.ended.contains(pid)).unwrap_or(first)
    }

    /// Keeps a permit, and notes when it came.
    pub(crate) fn keep_permit(&mut self, permit: Verified<Permit>, now: Duration) {
        self.documents.permit = Some(permit);
        self.documents.permit_since = now;
    }

    /// Whether its permit is not near its end by anybody's clock.
    pub(crate) fn permit_is_young(&self, now: Duration) -> bool {
        let good_for = self
            .documents
            .permit
            .as_ref()
            .map_or(Duration::ZERO, |permit| permit.expires_at.since(permit.issued_at));
        now.saturating_sub(self.documents.permit_since) + Duration::from_secs(1) < good_for
    }
}
