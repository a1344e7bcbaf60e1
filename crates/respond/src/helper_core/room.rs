//! What a receipt has room for.
//!
//! The one idea: what a machine says comes from paths, names and errors, and whoever chooses those must not
//! choose how long a receipt is. What comes back from carrying out is cut here before it is kept, and what was
//! left out is counted.

use cordon_model::limits;
use cordon_model::measure::{MeasureState, Probe, Proof};

use super::{Acted, Outcome, TakenBack};

impl Outcome {
    pub(super) fn bounded(self) -> Self {
        match self {
            Self::Done { proof, sockets_cut } => {
                Self::Done { proof: proof.map(bounded_proof), sockets_cut }
            }
            Self::Failed { why } => Self::Failed { why: bounded_why(why) },
        }
    }
}

impl Acted {
    pub(super) fn bounded(self) -> Self {
        match self {
            Self::Done { proof, done, spared } => Self::Done {
                proof: proof.map(bounded_proof),
                done: bounded(done),
                spared: bounded(spared),
            },
            Self::Gone { why } => Self::Gone { why: bounded_why(why) },
            Self::Refused { why } => Self::Refused { why: bounded_why(why) },
            Self::Failed { why } => Self::Failed { why: bounded_why(why) },
        }
    }
}

impl TakenBack {
    pub(super) fn bounded(self) -> Self {
        match self {
            Self::Done { proof, done } => {
                Self::Done { proof: proof.map(bounded_proof), done: bounded(done) }
            }
            Self::Failed { why } => Self::Failed { why: bounded_why(why) },
        }
    }
}

/// Lines of what was done; the newest matter most.
pub(super) fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let over = lines.len().saturating_sub(limits::DONE_LINES);
    lines.drain(..over);
    lines.iter_mut().for_each(|line| shorten(line, limits::DONE_LINE_BYTES));
    lines
}

/// Tries that came out wrong are kept before others: they say what is the matter.
pub(super) fn bounded_proof(mut proof: Proof) -> Proof {
    let untold = proof.probes.len().saturating_sub(limits::PROBES);
    if untold > 0 {
        let is_wrong = |probe: &Probe| probe.did_pass.is_some_and(|did| did != probe.should_pass);
        proof.probes.sort_by_key(|probe| !is_wrong(probe));
        proof.probes.truncate(limits::PROBES);
        proof.unproven.insert(0, format!("{untold} more tries are left out here"));
    }
    for probe in &mut proof.probes {
        shorten(&mut probe.tried, limits::DONE_LINE_BYTES);
    }
    if proof.unproven.len() > limits::DONE_LINES {
        let kept = limits::DONE_LINES - 1;
        let over = proof.unproven.len() - kept;
        proof.unproven.truncate(kept);
        proof.unproven.push(format!("{over} more of these are left out here"));
    }
    proof.unproven.iter_mut().for_each(|line| shorten(line, limits::DONE_LINE_BYTES));
    proof
}

pub(super) fn bounded_state(state: MeasureState) -> MeasureState {
    match state {
        MeasureState::Unproven { why } => MeasureState::Unproven { why: bounded_why(why) },
        MeasureState::Failed { why } => MeasureState::Failed { why: bounded_why(why) },
        MeasureState::Requested
        | MeasureState::Delivered
        | MeasureState::Applied
        | MeasureState::Verified
        | MeasureState::SteppedDown
        | MeasureState::Superseded
        | MeasureState::Released
        | MeasureState::Done => state,
    }
}

fn bounded_why(mut why: String) -> String {
    /// Room for the words that say what was left out.
    const SAYING: usize = 40;
    if why.len() > limits::WHY_BYTES {
        let length = why.len();
        shorten(&mut why, limits::WHY_BYTES - SAYING);
        why.push_str(&format!(" … ({} bytes more)", length - why.len()));
    }
    why
}

fn shorten(line: &mut String, most: usize) {
    let mut end = most.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_model::time::BootNanos;

    #[test]
    fn what_shows_a_measure_is_bounded_and_says_how_much_was_left_out() {
        let probe = |number: usize| Probe {
            tried: format!("{number} {}", "é".repeat(4_000)),
            should_pass: false,
            did_pass: Some(number == 900),
        };
        let proof = Proof {
            table_handle: None,
            is_read_back: true,
            probes: (0..1_000).map(probe).collect(),
            unproven: (0..1_000).map(|at| format!("{at} {}", "x".repeat(4_096))).collect(),
            at: BootNanos(0),
        };
        let cut = bounded_proof(proof);
        assert!(!cut.holds(), "the one that came out wrong is told");
        assert_eq!(cut.probes.len(), limits::PROBES);
        assert_eq!(cut.unproven.len(), limits::DONE_LINES);
        assert!(cut.unproven[0].starts_with("936 more"), "{}", cut.unproven[0]);
        assert!(cut.unproven[31].starts_with("970 more"), "{}", cut.unproven[31]);
        let lines = cut.unproven.iter().chain(cut.probes.iter().map(|probe| &probe.tried));
        assert!(lines.clone().all(|line| line.len() <= limits::DONE_LINE_BYTES));
        assert_eq!(bounded_proof(cut.clone()), cut, "once is enough");
    }

    #[test]
    fn a_reason_is_bounded_and_says_how_much_was_left_out() {
        let long = MeasureState::Failed { why: "ü".repeat(100_000) };
        let MeasureState::Failed { why } = bounded_state(long) else { panic!() };
        assert!(why.len() <= limits::WHY_BYTES && why.ends_with(" bytes more)"), "{why}");
        assert_eq!(bounded_why(why.clone()), why);
        let Acted::Failed { why } = (Acted::Failed { why: "x".repeat(5_000) }).bounded() else {
            panic!()
        };
        assert!(why.len() <= limits::WHY_BYTES);
    }
}
