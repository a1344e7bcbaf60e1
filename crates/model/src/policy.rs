//! What is done by itself, and what is asked: data that the signer signs and every agent can check.

use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::approval::ApprovalTerms;
use crate::asset::ClinicalTier;
use crate::break_glass::BreakGlassTerms;
use crate::finding::Level;
use crate::gate::ReturnTerms;
use crate::guidance::Contact;
use crate::ids::OdsCode;
use crate::measure::Isolation;
use crate::order::Lease;
use crate::signed::Document;

/// How much Cordon does without asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only look and tell.
    Observe,
    /// Propose every measure to people.
    #[default]
    Ask,
    /// Do what the policy allows, ask for the rest.
    Act,
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The least serious finding that it is for.
    pub level_at_least: Level,
    /// The tiers that it is for.
    pub tiers: Vec<ClinicalTier>,
    /// The measure.
    pub isolation: Isolation,
    /// What else is done about the process that the finding names: `freeze`, `kill`, `quarantine` (its
    /// program), `deny` (starting it again). Under the same conditions as the isolation.
    #[serde(default)]
    pub also: Vec<ActionKind>,
    /// Whether it may be done without asking in [`Mode::Act`]. Tiers 2 and 3 are asked whatever this
    /// says (laws 3 and 6).
    pub by_itself: bool,
}

/// The limit on what is done without asking (law 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// At most so many automatic isolations in the organisation…
    pub count: u32,
    /// …in so many seconds…
    pub window_seconds: u32,
    /// …and at most this share of a group isolated at once, in per cent; at least one machine.
    pub group_percent: u8,
}

/// An organisation's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whose.
    pub organisation: OdsCode,
    /// Counts up; an older one is refused.
    pub revision: u64,
    /// How much is done without asking.
    pub mode: Mode,
    /// The first that fits a finding and its machine is taken; none: watch.
    pub responses: Vec<Response>,
    /// The limit on what is done without asking.
    pub budget: Budget,
    /// Who is asked, for how long, and what follows when nobody answers.
    #[serde(default)]
    pub approval: ApprovalTerms,
    /// How long an isolation lasts.
    pub lease: Lease,
    /// Seconds that an order may wait for delivery; `None`: until superseded.
    pub deliver_within_seconds: Option<u32>,
    /// Seconds that a permit is good for; it is renewed at half of that.
    pub permit_seconds: u32,
    /// How many machines of the organisation hold a permit at once.
    pub permits: u32,
    /// The one-time codes that open a machine with hub and network gone.
    #[serde(default)]
    pub break_glass: BreakGlassTerms,
    /// Whom people ring about a machine that is cut off, where nobody else is named for it; the first first.
    // Left out where it is empty, so that whoever adds `[[ring]]` to what is printed has no key twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ring: Vec<Contact>,
    /// What an isolated machine needs before it returns to service.
    #[serde(rename = "return", default)]
    pub return_terms: ReturnTerms,
}

impl Document for Policy {
    const TYPE: &'static str = "application/vnd.cordon.policy.v1+cbor";
}

impl Policy {
    /// What a new organisation starts with: everything is asked; if it is set to [`Mode::Act`],
    /// serious findings on machines that no care depends on directly are segmented by themselves, at
    /// most 5 in 10 minutes and 5 % of a group.
    #[must_use]
    pub fn default_for(organisation: OdsCode) -> Self {
        use ClinicalTier::{Clinical, LifeSustaining, None, Supports};
        let lease = Lease { seconds: 4 * 3600, step_down_seconds: 4 * 3600, warn_seconds: 1800 };
        Self {
            organisation,
            revision: 1,
            mode: Mode::Ask,
            responses: vec![
                Response {
                    level_at_least: Level::High,
                    tiers: vec![None, Supports],
                    isolation: Isolation::Segment,
                    also: Vec::new(),
                    by_itself: true,
                },
                Response {
                    level_at_least: Level::High,
                    tiers: vec![Clinical, LifeSustaining],
                    isolation: Isolation::Segment,
                    also: Vec::new(),
                    by_itself: false,
                },
            ],
            budget: Budget { count: 5, window_seconds: 600, group_percent: 5 },
            approval: ApprovalTerms::default(),
            lease,
            deliver_within_seconds: Option::None,
            permit_seconds: 24 * 3600,
            permits: 100,
            break_glass: BreakGlassTerms::default(),
            ring: Vec::new(),
            return_terms: ReturnTerms::default(),
        }
    }
}
