//! The configuration of Orders.

use std::time::Duration;

use crate::contract::orders::Policy;
use crate::ports::ConfigError;

/// The bounds and waits of Orders.
///
/// Unknown fields cannot occur: it is built in code by the composition root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long Inventory holds stock for an order; above zero. Longer than `deadline`, or healthy
    /// orders are undone because their hold ended.
    pub reserve_ttl: Duration,
    /// How long after it was placed an order that has not sent its capture is undone; above zero.
    pub deadline: Duration,
    /// How long the reservation may take before the order is undone; above zero.
    pub reserve_timeout: Duration,
    /// How long the authorization may take before the order is undone; above zero.
    pub authorize_timeout: Duration,
    /// How long the commit of the reservation may take before the order is undone; above zero.
    pub commit_timeout: Duration,
    /// How long the capture may take before it is asked for again with the same key; above zero. It
    /// is asked for as often as needed: what became of the money has to be known.
    pub capture_timeout: Duration,
    /// How long a compensation or a refund step may take before it is asked for again; above zero.
    pub undo_timeout: Duration,
    /// How often a compensation is asked for before an operator has to look; at least 1.
    pub undo_attempts_max: u32,
    /// The longest wait after a first failed attempt; it doubles from there on. Above zero.
    pub backoff_first: Duration,
    /// What the doubling stops at; at least `backoff_first`.
    pub backoff_max: Duration,
    /// How many orders of one user may be neither confirmed nor ended; at least 1. At it placing
    /// another is refused with 429.
    pub open_orders_max: usize,
    /// Lines of one order at most; 1 to 20, the bound of the contract.
    pub lines_max: usize,
    /// Pieces of one line at most; at least 1.
    pub qty_max: u32,
    /// Rows of one page at most; at least 1. A larger limit is cut to it.
    pub page_max: usize,
    /// Entries of one timeline that are returned at most; at least 1.
    pub timeline_max: usize,
    /// How long a query that asks for a version waits for it; zero answers at once.
    pub visible_wait: Duration,
    /// How often such a query looks meanwhile; above zero.
    pub visible_poll: Duration,
}

impl Default for Config {
    /// Holds of 15 minutes, a deadline of 10, steps of 30 s, 20 open orders a user.
    fn default() -> Self {
        Self {
            reserve_ttl: Duration::from_secs(900),
            deadline: Duration::from_secs(600),
            reserve_timeout: Duration::from_secs(120),
            authorize_timeout: Duration::from_secs(120),
            commit_timeout: Duration::from_secs(120),
            capture_timeout: Duration::from_secs(30),
            undo_timeout: Duration::from_secs(30),
            undo_attempts_max: 1_000,
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            open_orders_max: 20,
            lines_max: 20,
            qty_max: 1_000,
            page_max: 100,
            timeline_max: 200,
            visible_wait: Duration::from_millis(500),
            visible_poll: Duration::from_millis(25),
        }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::unless;
        for (field, wait) in [
            ("orders.reserve_ttl", self.reserve_ttl),
            ("orders.deadline", self.deadline),
            ("orders.reserve_timeout", self.reserve_timeout),
            ("orders.authorize_timeout", self.authorize_timeout),
            ("orders.commit_timeout", self.commit_timeout),
            ("orders.capture_timeout", self.capture_timeout),
            ("orders.undo_timeout", self.undo_timeout),
            ("orders.backoff_first", self.backoff_first),
            ("orders.visible_poll", self.visible_poll),
        ] {
            check(!wait.is_zero(), field, "must be above zero")?;
        }
        let ordered = self.backoff_max >= self.backoff_first;
        check(ordered, "orders.backoff_max", "must be at least orders.backoff_first")?;
        check(self.undo_attempts_max > 0, "orders.undo_attempts_max", "must be at least 1")?;
        check(self.open_orders_max > 0, "orders.open_orders_max", "must be at least 1")?;
        check((1..=20).contains(&self.lines_max), "orders.lines_max", "must be 1 to 20")?;
        check(self.qty_max > 0, "orders.qty_max", "must be at least 1")?;
        check(self.page_max > 0, "orders.page_max", "must be at least 1")?;
        check(self.timeline_max > 0, "orders.timeline_max", "must be at least 1")
    }

    /// Returns the policy an order placed now carries.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { reserve_ttl: self.reserve_ttl, deadline: self.deadline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_names_the_field() {
        let check = |change: fn(&mut Config), field: &str| {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        assert_eq!(Config::default().validate(), Ok(()));
        check(|c| c.reserve_ttl = Duration::ZERO, "orders.reserve_ttl");
        check(|c| c.deadline = Duration::ZERO, "orders.deadline");
        check(|c| c.reserve_timeout = Duration::ZERO, "orders.reserve_timeout");
        check(|c| c.authorize_timeout = Duration::ZERO, "orders.authorize_timeout");
        check(|c| c.commit_timeout = Duration::ZERO, "orders.commit_timeout");
        check(|c| c.capture_timeout = Duration::ZERO, "orders.capture_timeout");
        check(|c| c.undo_timeout = Duration::ZERO, "orders.undo_timeout");
        check(|c| c.undo_attempts_max = 0, "orders.undo_attempts_max");
        check(|c| c.backoff_first = Duration::ZERO, "orders.backoff_first");
        check(|c| c.backoff_max = Duration::ZERO, "orders.backoff_max");
        check(|c| c.open_orders_max = 0, "orders.open_orders_max");
        check(|c| c.lines_max = 0, "orders.lines_max");
        check(|c| c.lines_max = 21, "orders.lines_max");
        check(|c| c.qty_max = 0, "orders.qty_max");
        check(|c| c.page_max = 0, "orders.page_max");
        check(|c| c.timeline_max = 0, "orders.timeline_max");
        check(|c| c.visible_poll = Duration::ZERO, "orders.visible_poll");
    }
}
