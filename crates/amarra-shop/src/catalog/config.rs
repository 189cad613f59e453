//! The configuration of Catalog.

use std::time::Duration;

use amarra_store::Attempts;

use crate::auth::KeyConfig;
use crate::contract::Currency;
use crate::ports::ConfigError;

/// How Catalog works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The keys that sign quotes.
    pub keys: KeyConfig,
    /// The currency of every price.
    pub currency: Currency,
    /// The highest price of one piece, in minor units. A quote's total then fits 64 bits, since
    /// lines and quantities are bounded too.
    pub price_minor_max: i64,
    /// How many prices of a product are remembered: at least 1. Older ones are forgotten.
    pub prices_kept_max: usize,
    /// How long a quote holds: above zero and at most a day.
    pub quote_ttl: Duration,
    /// How many lines a quote has at most: 1 to 20.
    pub quote_lines_max: usize,
    /// How many pieces of one product a quote has at most: at least 1.
    pub quote_qty_max: u32,
    /// How many products a page has at most: 1 to 1,000. More are not given, whatever is asked.
    pub page_max: usize,
    /// How many rows that are not shown (drafts, unknown stock) one page skips at most, in pages.
    pub page_scans_max: usize,
    /// How long a reader waits, at most, until the view has seen its own write.
    pub visible_wait: Duration,
    /// How often it looks meanwhile: above zero.
    pub visible_poll: Duration,
    /// How often a command is run again on contention.
    pub attempts: Attempts,
}

impl Config {
    /// Makes the usual configuration with these keys.
    #[must_use]
    pub fn new(keys: KeyConfig) -> Self {
        Self {
            keys,
            currency: Currency::EUR,
            price_minor_max: 100_000_000_000,
            prices_kept_max: 256,
            quote_ttl: Duration::from_secs(900),
            quote_lines_max: 20,
            quote_qty_max: 1_000,
            page_max: 100,
            page_scans_max: 8,
            visible_wait: Duration::from_secs(1),
            visible_poll: Duration::from_millis(25),
            attempts: Attempts { idempotent: true, ..Attempts::default() },
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds, field, why: &str| {
            if holds { Ok(()) } else { Err(ConfigError { field, why: why.into() }) }
        };
        self.keys.validate()?;
        let cheap = (1..=100_000_000_000_000).contains(&self.price_minor_max);
        check(cheap, "catalog.price_minor_max", "must be 1 to 100000000000000")?;
        check(self.prices_kept_max > 0, "catalog.prices_kept_max", "must be at least 1")?;
        let day = Duration::from_secs(86_400);
        let short = !self.quote_ttl.is_zero() && self.quote_ttl <= day;
        check(short, "catalog.quote_ttl", "must be above zero and at most a day")?;
        let lines = (1..=20).contains(&self.quote_lines_max);
        check(lines, "catalog.quote_lines_max", "must be 1 to 20")?;
        check(self.quote_qty_max > 0, "catalog.quote_qty_max", "must be at least 1")?;
        check(!self.visible_poll.is_zero(), "catalog.visible_poll", "must be above zero")?;
        check((1..=1000).contains(&self.page_max), "catalog.page_max", "must be 1 to 1000")?;
        check(self.page_scans_max > 0, "catalog.page_scans_max", "must be at least 1")
    }
}
