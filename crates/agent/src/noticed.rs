//! Findings that no rule makes: what the helper noticed and only it can see.
//!
//! Each has a raw event of its own, so that the same thing told twice is one finding.

use cordon_model::event::RawEvent;
use cordon_model::finding::{Finding, Level, MatchedField, OPENED_BY_CODE, RuleRef};
use cordon_model::ids::FindingId;
use cordon_model::measure::{MeasureState, Origin, Receipt};
use cordon_model::time::{BootNanos, UtcNanos};
use sha2::{Digest as _, Sha256};

use crate::contain::protocol::{Unwatched, WrongCodes};

/// The rule by which changes of Cordon's tables are found.
const WIPED: &str = "7d9f2a54-2f52-4a53-9a63-0c6a4b9c1e11";

/// Somebody changed or removed Cordon's tables while no helper ran.
pub(crate) fn wiped_unwatched(unwatched: &Unwatched, host: &str) -> Finding {
    let event =
        serde_json::json!({ "type": "isolation_wiped_unwatched", "wiped": unwatched.total });
    let matched = MatchedField {
        field: "table".into(),
        value: format!("changed {} times so far while no helper ran", unwatched.total),
        pattern: "not as the helper left it".into(),
    };
    let time = unwatched.noticed.unwrap_or_else(UtcNanos::now);
    finding(host, wiped_rule(), &event, matched, time, None)
}

fn wiped_rule() -> RuleRef {
    RuleRef {
        id: WIPED.into(),
        title: "Cordon's packet rules were changed or removed by somebody else".into(),
        level: Level::High,
        tags: vec!["attack.defense-evasion".into(), "attack.t1562.004".into()],
    }
}

/// Somebody removed Cordon's table.
pub(crate) fn wiped(
    host: &str,
    pid: u32,
    name: &str,
    noticed: BootNanos,
    restored: Option<BootNanos>,
) -> Finding {
    let event = serde_json::json!({
        "type": "isolation_wiped",
        "pid": pid,
        "process": name,
        "noticed_boot_ns": noticed.0,
        "restored_boot_ns": restored.map(|at| at.0),
    });
    let matched = MatchedField {
        field: "process".into(),
        value: format!("{name} ({pid})"),
        pattern: "changed nftables last".into(),
    };
    finding(host, wiped_rule(), &event, matched, UtcNanos::now(), Some(noticed))
}

/// A one-time code opened this machine: what its receipt says, as a finding that opens an incident.
pub(crate) fn opened_by_code(receipt: &Receipt, host: &str) -> Option<Finding> {
    let Origin::BreakGlass { revision, code } = receipt.origin else { return None };
    if receipt.state != MeasureState::Verified {
        return None;
    }
    let rule = RuleRef {
        id: OPENED_BY_CODE.into(),
        title: "This machine was opened by a break-glass code".into(),
        level: Level::High,
        tags: Vec::new(),
    };
    // Nothing of when it was proven again: after a restart the same opening is the same finding.
    let event = serde_json::json!({
        "type": "opened_by_code",
        "revision": revision,
        "code": code,
        "measure": receipt.measure.to_string(),
    });
    let matched = MatchedField {
        field: "code".into(),
        value: format!("number {code} of revision {revision}"),
        pattern: "typed at the machine".into(),
    };
    Some(finding(host, rule, &event, matched, receipt.at, None))
}

/// Somebody typed a code that opens nothing.
pub(crate) fn wrong_code(wrong: &WrongCodes, host: &str) -> Finding {
    let is_held_up = wrong.pause_seconds > 0;
    let rule = RuleRef {
        id: "b1a7b2f0-52a6-4a0c-8a3b-4f9f4a1c2d77".into(),
        title: "Somebody types wrong break-glass codes at this machine".into(),
        level: if is_held_up { Level::High } else { Level::Medium },
        tags: vec!["attack.credential-access".into(), "attack.t1110.001".into()],
    };
    let user = wrong.user.map_or_else(|| "not known".to_owned(), |user| user.to_string());
    let event = serde_json::json!({
        "type": "wrong_break_glass_code",
        "wrong_codes": wrong.total,
        "user": user,
        "is_held_up": is_held_up,
    });
    let matched = MatchedField {
        field: "user".into(),
        value: user,
        pattern: format!("{} wrong codes so far", wrong.total),
    };
    finding(host, rule, &event, matched, UtcNanos::now(), None)
}

fn finding(
    host: &str,
    rule: RuleRef,
    event: &serde_json::Value,
    matched: MatchedField,
    time: UtcNanos,
    boot_time: Option<BootNanos>,
) -> Finding {
    let json = event.to_string();
    let raw_sha256: [u8; 32] = Sha256::digest(json.as_bytes()).into();
    Finding {
        id: FindingId::of(&rule.id, host, &raw_sha256),
        rule,
        host: host.to_owned(),
        time,
        boot_time,
        process: None,
        matched: vec![matched],
        raw: RawEvent { json, is_cut: false },
        raw_sha256,
    }
}
