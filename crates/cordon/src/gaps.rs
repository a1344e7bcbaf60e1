//! What an agent says that it can't see or do, as lines for a person: things that are missing for the same
//! reason stand together.

use cordon_model::wire::{Coverage, HUB_LINK};

/// How much is missing, and the word that says so.
fn extent(gap: &Coverage) -> &'static str {
    match (&gap.by, gap.what.as_str()) {
        (Some(_), _) => "IN PART",
        (None, "isolation") => "NOT POSSIBLE",
        (None, HUB_LINK) => "NOT KEPT",
        (None, _) => "NOT SEEN",
    }
}

/// One line for each reason, in the order in which the agent gave them: how much, what, and why.
pub fn lines(gaps: &[Coverage]) -> Vec<(&'static str, String)> {
    let mut reasons: Vec<(&'static str, &str, Vec<&str>)> = Vec::new();
    for gap in gaps {
        let (extent, why) = (extent(gap), gap.gap.as_deref().unwrap_or("no reason given"));
        match reasons.iter_mut().find(|reason| (reason.0, reason.1) == (extent, why)) {
            Some(reason) => reason.2.push(&gap.what),
            None => reasons.push((extent, why, vec![&gap.what])),
        }
    }
    let line = |(extent, why, what): (_, &str, Vec<&str>)| {
        // Machines say these: nothing in them may drive a terminal.
        (extent, crate::control::plain(&format!("{}: {why}", what.join(", "))))
    };
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(what: &str, by: Option<&str>, why: &str) -> Coverage {
        Coverage { what: what.into(), by: by.map(Into::into), gap: Some(why.into()) }
    }

    #[test]
    fn what_is_missing_for_one_reason_is_one_line() {
        let gaps = [
            gap("process starts", Some("eBPF"), "only here"),
            gap("outgoing TCP connections", None, "not root"),
            gap("incoming TCP connections", None, "not root"),
            gap("isolation", None, "not root\u{1b}[2J"),
        ];
        let expected = [
            ("IN PART", "process starts: only here".to_owned()),
            ("NOT SEEN", "outgoing TCP connections, incoming TCP connections: not root".to_owned()),
            ("NOT POSSIBLE", "isolation: not root\u{fffd}[2J".to_owned()),
        ];
        assert_eq!(lines(&gaps), expected);
    }
}
