//! The brake on what is done without asking (law 5): so many in a time, so great a share of a group.
//!
//! The one idea: whatever is wrong above (a bad rule, a stolen detector, a hub that lies), it can spend
//! the budget and no more. The state is small, is written to disk before what it allowed is done, and
//! counts [running time](crate::clock): neither a restart nor a clock set forward refills it. The signer
//! holds one [`Spending`] for the organisation, and each machine's helper one for itself.

use std::collections::VecDeque;
use std::time::Duration;

use cordon_model::ids::MachineId;
use cordon_model::policy::Budget;
use cordon_model::time::span;
use serde::{Deserialize, Serialize};

use crate::clock::{Moment, RunningClock};

/// The most automatic acts that are remembered: 10,000 × about 100 bytes = 1 MB. A policy that allows
/// more in one window is held to this.
pub const MOST_REMEMBERED: usize = 10_000;

/// Why nothing more may be done without asking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Exhausted {
    /// So many in the window already.
    #[error(
        "{spent} automatic isolations in {}, of {count} allowed",
        span(Duration::from_secs((*window_seconds).into()))
    )]
    Window {
        /// How many were done.
        spent: u32,
        /// How many are allowed…
        count: u32,
        /// …in so many seconds.
        window_seconds: u32,
    },
    /// So many of the group are isolated already.
    #[error(
        "{contained} of {size} machines of the group {group:?} are isolated, of {allowed} allowed"
    )]
    Group {
        /// Ward or department; empty: machines that belong to none.
        group: String,
        /// How many are, or may be, isolated.
        contained: u32,
        /// How many machines it has.
        size: u32,
        /// How many may be isolated automatically.
        allowed: u32,
    },
}

/// How much of a group is isolated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupShare {
    /// Ward or department; empty: machines that belong to none.
    pub group: String,
    /// How many machines it has.
    pub size: u32,
    /// How many are, or may be, isolated, whoever did it: what counts is the care that is lost.
    pub contained: u32,
}

/// How many machines of a group of `size` may be isolated automatically: the budget's share, at least
/// one (else small wards would be defenceless).
#[must_use]
pub fn group_allowance(budget: &Budget, size: u32) -> u32 {
    let share = u64::from(size) * u64::from(budget.group_percent.min(100)) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    /// On the ledger's clock.
    at: Duration,
    machine: MachineId,
}

/// What was done without asking, and when: durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spending {
    clock: RunningClock,
    spent: VecDeque<Spent>,
}

impl Spending {
    /// Nothing spent yet.
    #[must_use]
    pub fn start(now: &Moment) -> Self {
        Self { clock: RunningClock::start(now), spent: VecDeque::new() }
    }

    /// How many automatic acts fall in the window that ends at `now`.
    #[must_use]
    pub fn spent(&self, budget: &Budget, now: &Moment) -> u32 {
        let reading = self.clock.reading(now);
        let window = Duration::from_secs(budget.window_seconds.into());
        let in_window = self.spent.iter().filter(|spent| spent.at.saturating_add(window) > reading);
        u32::try_from(in_window.count()).unwrap_or(u32::MAX)
    }

    /// Whether the window has room for one more.
    ///
    /// # Errors
    /// [`Exhausted::Window`] when it has not.
    pub fn check(&self, budget: &Budget, now: &Moment) -> Result<(), Exhausted> {
        let spent = self.spent(budget, now);
        if spent < budget.count && self.spent.len() < MOST_REMEMBERED {
            Ok(())
        } else {
            Err(Exhausted::Window {
                spent,
                count: budget.count,
                window_seconds: budget.window_seconds,
            })
        }
    }

    /// Notes one automatic act, and forgets what has left the window.
    pub fn spend(&mut self, budget: &Budget, machine: MachineId, now: &Moment) {
        let at = self.clock.advance(now);
        let window = Duration::from_secs(budget.window_seconds.into());
        while self.spent.front().is_some_and(|spent| spent.at.saturating_add(window) <= at) {
            self.spent.pop_front();
        }
        self.spent.push_back(Spent { at, machine });
    }
}

impl GroupShare {
    /// Whether one more of the group may be isolated automatically.
    ///
    /// # Errors
    /// [`Exhausted::Group`] when not.
    pub fn check(&self, budget: &Budget) -> Result<(), Exhausted> {
        let allowed = group_allowance(budget, self.size);
        if self.contained < allowed {
            Ok(())
        } else {
            Err(Exhausted::Group {
                group: self.group.clone(),
                contained: self.contained,
                size: self.size,
                allowed,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::moment;
    use cordon_model::time::UtcNanos;

    const BUDGET: Budget = Budget { count: 2, window_seconds: 600, group_percent: 5 };

    fn machine(number: u8) -> MachineId {
        MachineId::new(UtcNanos::from_unix_nanos(0), [number; 10])
    }

    #[test]
    fn the_window_refills_with_running_time_only() {
        let mut spending = Spending::start(&moment("a", 0));
        spending.spend(&BUDGET, machine(1), &moment("a", 10));
        spending.spend(&BUDGET, machine(2), &moment("a", 20));
        let mut jumped = moment("a", 30);
        jumped.utc = UtcNanos::from_unix_nanos(i64::MAX);
        assert!(spending.check(&BUDGET, &jumped).is_err());
        assert!(spending.check(&BUDGET, &moment("a", 609)).is_err());
        assert!(spending.check(&BUDGET, &moment("a", 610)).is_ok());
    }

    #[test]
    fn a_restart_does_not_refill_the_budget() {
        let mut spending = Spending::start(&moment("a", 0));
        spending.spend(&BUDGET, machine(1), &moment("a", 10));
        spending.spend(&BUDGET, machine(2), &moment("a", 20));
        let kept = serde_json::to_string(&spending).unwrap();
        let spending: Spending = serde_json::from_str(&kept).unwrap();
        assert!(spending.check(&BUDGET, &moment("b", 1)).is_err());
        assert!(spending.check(&BUDGET, &moment("b", 600)).is_ok());
    }

    #[test]
    fn a_group_keeps_its_share_and_a_small_one_has_at_least_one() {
        let share = |size, contained| GroupShare { group: "ward".into(), size, contained };
        assert!(share(100, 4).check(&BUDGET).is_ok());
        assert!(share(100, 5).check(&BUDGET).is_err());
        assert!(share(3, 0).check(&BUDGET).is_ok());
        assert!(share(3, 1).check(&BUDGET).is_err());
        let everything = Budget { group_percent: 255, ..BUDGET };
        assert_eq!(group_allowance(&everything, 10), 10, "no more than the whole group");
    }
}
