//! The retry budget: what bounds the load that retries add to a callee in trouble.

use std::sync::{Mutex, PoisonError};

use amarra_core::Monotonic;

use crate::config::{ConfigError, PerMille, check};
use crate::row::Tally;

/// What one retry costs, in thousandths of a token.
const RETRY: u64 = 1000;

/// How many retries are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Retries each sent call allows, as a share of one: 10 % adds one retry per ten calls, and no
    /// outage makes more. Default 10 %.
    pub per_call: PerMille,
    /// Retries allowed per second whatever the traffic, in thousandths, so that a quiet service can
    /// retry at all. Default 1000: one a second.
    pub per_second_milli: u32,
    /// The most retries saved up, at least 1; what is earned beyond is forgotten. It is also what a
    /// new budget starts with. Default 10.
    pub tokens_max: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { per_call: PerMille::percent(10), per_second_milli: 1000, tokens_max: 10 }
    }
}

impl BudgetConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(self.tokens_max > 0, "tokens_max", "must be at least 1")
    }
}

#[derive(Debug)]
struct Account {
    /// Thousandths of a token; at most `tokens_max`.
    milli: u64,
    /// Nanoseconds times thousandths per second that have not made a whole thousandth yet.
    rest: u128,
    at: Monotonic,
    /// Deposits that are in `milli` already.
    booked: u64,
}

/// A purse of retries shared by all calls to one callee.
///
/// # Laws
/// - BUD-1 over any period, retries sent are at most `tokens_max`, plus `per_call` of the calls
///   sent, plus `per_second_milli` of the time passed.
/// - BUD-2 a try that is never sent costs nothing, and earns nothing.
/// - BUD-3 its arithmetic is exact: no rounding grants or loses a retry, no idle time is replayed.
///
/// # Units
/// Thousandths of a token, in integers.
///
/// # Example
/// ```
/// use amarra_core::Monotonic;
/// use amarra_resilience::retry::{Budget, BudgetConfig};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = Budget::new(BudgetConfig { tokens_max: 1, ..BudgetConfig::default() })?;
/// let now = Monotonic::from_nanos(0);
/// let retry = budget.reserve(now).ok_or("the purse starts full")?;
/// assert!(budget.reserve(now).is_none());
/// drop(retry); // never sent
/// assert!(budget.reserve(now).is_some());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Budget {
    config: BudgetConfig,
    /// Deposits ever made. They are booked when somebody wants a retry: many calls pay in, few take
    /// out, and paying in must not make threads meet.
    deposits: Tally,
    account: Mutex<Account>,
}

impl Budget {
    /// Makes a full budget.
    ///
    /// # Errors
    /// [`ConfigError`] when a field of `config` is outside its range.
    pub fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let milli = max_milli(&config);
        let account = Account { milli, rest: 0, at: Monotonic::default(), booked: 0 };
        Ok(Self { config, deposits: Tally::default(), account: Mutex::new(account) })
    }

    /// Takes one retry out, to be spent when it is sent; `None` when there is none.
    #[must_use]
    pub fn reserve(&self, now: Monotonic) -> Option<Reserved<'_>> {
        self.change(Some(now), |account, _| {
            let left = account.milli.checked_sub(RETRY)?;
            account.milli = left;
            Some(Reserved { budget: self, spent: false })
        })
    }

    /// Notes that the first try of a call was sent, which earns a share of a retry.
    #[inline]
    pub fn deposit(&self) {
        self.deposits.add();
    }

    /// Returns how many whole retries are there.
    #[must_use]
    pub fn tokens(&self, now: Monotonic) -> u64 {
        self.change(Some(now), |account, _| account.milli / RETRY)
    }

    fn change<T>(&self, now: Option<Monotonic>, change: impl FnOnce(&mut Account, u64) -> T) -> T {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let most = max_milli(&self.config);
        account.book(self.deposits.sum(), self.config.per_call, most);
        if let Some(now) = now {
            account.refill(now, self.config.per_second_milli, most);
        }
        change(&mut account, most)
    }

    fn refund(&self) {
        self.change(None, |account, most| {
            account.milli = account.milli.saturating_add(RETRY).min(most);
        });
    }
}

impl Account {
    /// Adds what the deposits since the last look earned. What the purse cannot hold is lost, as it
    /// would have been one by one: nothing was taken out meanwhile.
    fn book(&mut self, deposits: u64, per_call: PerMille, most: u64) {
        let new = deposits.wrapping_sub(self.booked);
        self.booked = deposits;
        let earned = new.saturating_mul(u64::from(per_call.get()));
        self.milli = self.milli.saturating_add(earned).min(most);
    }

    /// Adds what the time since the last look earned, by one multiplication however long it was.
    fn refill(&mut self, now: Monotonic, per_second_milli: u32, most: u64) {
        const SECOND: u128 = 1_000_000_000;
        let passed = now.since(self.at).as_nanos();
        self.at = self.at.max(now);
        let earned = passed.saturating_mul(u128::from(per_second_milli)).saturating_add(self.rest);
        self.rest = earned % SECOND;
        let whole = u64::try_from(earned / SECOND).unwrap_or(u64::MAX);
        self.milli = self.milli.saturating_add(whole).min(most);
        if self.milli == most {
            self.rest = 0;
        }
    }
}

fn max_milli(config: &BudgetConfig) -> u64 {
    u64::from(config.tokens_max).saturating_mul(RETRY)
}

/// One retry taken out of a budget.
///
/// # Cancellation
/// Dropped unspent it goes back: the try was never sent.
#[derive(Debug)]
#[must_use = "a reservation dropped at once goes back"]
pub struct Reserved<'a> {
    budget: &'a Budget,
    spent: bool,
}

impl Reserved<'_> {
    /// Keeps the retry: it is about to be sent.
    pub fn spend(mut self) {
        self.spent = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.spent {
            self.budget.refund();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drained(config: BudgetConfig) -> Budget {
        let budget = Budget::new(config).unwrap();
        let now = Monotonic::default();
        let all = (0..=config.tokens_max).map_while(|_| budget.reserve(now));
        assert_eq!(all.map(Reserved::spend).count(), config.tokens_max as usize);
        budget
    }

    #[test]
    fn every_ratio_allows_exactly_its_share() {
        for ratio in [0, 1, 100, 333, 400, 600, 750, 900, 1000] {
            let per_call = PerMille::new(ratio);
            let budget =
                drained(BudgetConfig { per_call, per_second_milli: 0, ..BudgetConfig::default() });
            let (now, mut retries) = (Monotonic::default(), 0);
            for _ in 0..10_000 {
                budget.deposit();
                if let Some(retry) = budget.reserve(now) {
                    retry.spend();
                    retries += 1;
                }
            }
            assert_eq!(retries, u64::from(ratio) * 10, "{per_call}");
        }
    }

    #[test]
    fn time_refills_without_losing_a_fraction() {
        let config = BudgetConfig { per_second_milli: 7, ..BudgetConfig::default() };
        let budget = drained(config);
        let mut now = Monotonic::default();
        for _ in 0..1_000_000 / 7 {
            now = now.plus(Duration::from_millis(1));
            let _ = budget.tokens(now);
        }
        assert_eq!(budget.tokens(now), 0);
        assert_eq!(budget.tokens(now.plus(Duration::from_millis(6))), 1);
    }

    #[test]
    fn no_more_is_saved_up_than_the_maximum() {
        let budget = Budget::new(BudgetConfig::default()).unwrap();
        let now = Monotonic::default();
        let reserved = budget.reserve(now).unwrap();
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(budget.tokens(now), 10);
        drop(reserved);
        assert_eq!(budget.tokens(now), 10);
    }

    #[test]
    fn the_same_second_is_earned_once() {
        let budget = drained(BudgetConfig::default());
        let (start, later) = (Monotonic::default(), Monotonic::from_nanos(1_000_000_000));
        for now in [later, start, later, start, later] {
            assert_eq!(budget.tokens(now), 1);
        }
    }

    #[test]
    fn an_empty_purse_is_refused() {
        let config = BudgetConfig { tokens_max: 0, ..BudgetConfig::default() };
        assert_eq!(Budget::new(config).unwrap_err().field, "tokens_max");
    }
}
