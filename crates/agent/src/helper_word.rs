//! What this machine tells the hub that it holds: the helper's word, or that it can't be had.

use std::future::{Future, pending};
use std::pin::Pin;

use cordon_model::holds::Holds;

use crate::contain::protocol::{Answer, Ask, Status};
use crate::helper_link::{Helper, HelperGone};

/// What the helper's answer says for the hub.
pub fn holds_of(status: &Status) -> Holds {
    if status.is_unaccounted_for {
        let why = "Cordon's table is in the kernel, and nothing on disk says by which measure";
        return Holds::Unknown { why: why.to_owned() };
    }
    Holds::Measures(status.holds.clone())
}

/// A question to the helper that is under way beside everything else: a helper that hangs must not hold up
/// a finding.
#[derive(Default)]
pub struct Asking {
    answer: Option<Pin<Box<dyn Future<Output = Said> + Send>>>,
    turn: u64,
}

/// What the helper said, or that it did not.
type Said = Result<Answer, HelperGone>;

impl Asking {
    /// Asks how things are. `turn` comes back with the answer.
    pub fn begin(&mut self, helper: &Helper, turn: u64) {
        let helper = helper.clone();
        self.turn = turn;
        self.answer = Some(Box::pin(async move { helper.ask(Ask::Status).await }));
    }

    /// Whether an answer is waited for.
    pub fn is_under_way(&self) -> bool {
        self.answer.is_some()
    }

    /// The turn and the answer, once; never, if nothing was asked.
    pub async fn answered(&mut self) -> (u64, Said) {
        let answer = match &mut self.answer {
            Some(answer) => answer.await,
            None => pending().await,
        };
        self.answer = None;
        (self.turn, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            pinned: None,
            last_order: 0,
            assignment: 0,
            in_force: None,
            holds: Vec::new(),
            break_glass: 0,
            guidance: 0,
            wrong_codes: crate::contain::protocol::WrongCodes::default(),
            is_unaccounted_for: false,
            wiped: 0,
            unwatched: crate::contain::protocol::Unwatched::default(),
        }
    }

    #[test]
    fn a_table_that_nobody_can_account_for_is_not_nothing() {
        assert!(holds_of(&status()).is_nothing());
        let lost = Status { is_unaccounted_for: true, ..status() };
        assert!(holds_of(&lost).unknown().is_some());
    }

    #[tokio::test]
    async fn nothing_is_answered_that_was_not_asked() {
        let mut asking = Asking::default();
        assert!(!asking.is_under_way());
        let silent = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(silent, asking.answered()).await.is_err());
    }
}
