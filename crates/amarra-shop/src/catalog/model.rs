//! A product and its prices as a pure state machine.

use amarra_core::{Timestamp, Version};
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::contract::{ApiError, Money, Sku};

/// Whether a product can be bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not yet.
    Draft,
    /// Yes.
    Published,
    /// No more, or not for now; orders already placed are honoured.
    Discontinued,
}

/// A price and since when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of one piece.
    pub amount: Money,
    /// Since when, by the database's clock.
    pub from: Timestamp,
    /// The product's version that brought it.
    pub version: u64,
}

/// A product.
///
/// # State
/// `Draft -publish-> Published -discontinue-> Discontinued -publish-> Published`; a repeated
/// command changes nothing. Prices are ascending in time, and the last one is the price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub sku: Sku,
    /// Its name.
    pub name: String,
    /// Whether it can be bought.
    pub status: Status,
    /// Its prices, the oldest first.
    pub prices: Vec<Price>,
}

impl Aggregate for Product {
    const KIND: &'static str = "product";
}

/// Why a product stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The name is empty, too long or has control characters.
    #[error("name must have 1 to 120 characters and no control characters")]
    Name,
    /// Another product has the id.
    #[error("there is another product {0}")]
    Taken(Sku),
    /// A product without a price cannot be bought.
    #[error("the product has no price")]
    NoPrice,
    /// It was never published.
    #[error("the product was never published")]
    NeverPublished,
    /// The price is not above zero, or too high.
    #[error("price must be 1 to {max} minor units")]
    PriceRange {
        /// The highest.
        max: i64,
    },
    /// The shop sells in another currency.
    #[error("price must be in {0}")]
    Currency(crate::contract::Currency),
    /// The product changed since the caller looked.
    #[error("the product has version {0} now")]
    Version(Version),
}

impl From<Rejection> for ApiError {
    fn from(why: Rejection) -> Self {
        match why {
            Rejection::Name | Rejection::PriceRange { .. } | Rejection::Currency(_) => {
                Self::Unprocessable(why.to_string())
            }
            _ => Self::Conflict(why.to_string()),
        }
    }
}

impl Product {
    /// Makes a draft.
    ///
    /// # Errors
    /// [`Rejection::Name`].
    pub fn create(sku: Sku, name: &str) -> Result<Self, Rejection> {
        let length = name.chars().count();
        if !(1..=120).contains(&length) || name.chars().any(char::is_control) {
            return Err(Rejection::Name);
        }
        Ok(Self { sku, name: name.to_owned(), status: Status::Draft, prices: Vec::new() })
    }

    /// Lets it be bought; none when it can be already.
    ///
    /// # Errors
    /// [`Rejection::NoPrice`].
    pub fn publish(&self) -> Result<Option<Self>, Rejection> {
        match self.status {
            Status::Published => Ok(None),
            Status::Draft | Status::Discontinued if self.prices.is_empty() => {
                Err(Rejection::NoPrice)
            }
            Status::Draft | Status::Discontinued => {
                Ok(Some(Self { status: Status::Published, ..self.clone() }))
            }
        }
    }

    /// Lets it be bought no more; none when it cannot be already.
    ///
    /// # Errors
    /// [`Rejection::NeverPublished`].
    pub fn discontinue(&self) -> Result<Option<Self>, Rejection> {
        match self.status {
            Status::Draft => Err(Rejection::NeverPublished),
            Status::Published => Ok(Some(Self { status: Status::Discontinued, ..self.clone() })),
            Status::Discontinued => Ok(None),
        }
    }

    /// Changes the price of the product whose version is `version`; none when the very same change
    /// was made before, or changes nothing.
    ///
    /// # Errors
    /// [`Rejection`] of the price, or [`Rejection::Version`] when the caller decided on another
    /// one.
    pub fn change_price(
        &self,
        amount: Money,
        (version, expected): (Version, Version),
        now: Timestamp,
        config: &Config,
    ) -> Result<Option<Self>, Rejection> {
        if amount.currency != config.currency {
            return Err(Rejection::Currency(config.currency));
        }
        if !amount.is_positive() || amount.minor > config.price_minor_max {
            return Err(Rejection::PriceRange { max: config.price_minor_max });
        }
        let last = self.prices.last();
        if version != expected {
            let repeated =
                last.is_some_and(|p| p.amount == amount && p.version == expected.next().get());
            let newest = expected.next() == version;
            return if repeated && newest { Ok(None) } else { Err(Rejection::Version(version)) };
        }
        if last.is_some_and(|price| price.amount == amount) {
            return Ok(None);
        }
        // The database's clock may step back; the history must not.
        let from = last.map_or(now, |price| price.from.max(now));
        let mut prices = self.prices.clone();
        prices.push(Price { amount, from, version: version.next().get() });
        let surplus = prices.len().saturating_sub(config.prices_kept_max);
        prices.drain(..surplus);
        Ok(Some(Self { prices, ..self.clone() }))
    }

    /// Returns the price now.
    #[must_use]
    pub fn price(&self) -> Option<Money> {
        self.prices.last().map(|price| price.amount)
    }

    /// Returns the price at a time, none before the first one that is remembered.
    #[must_use]
    pub fn price_at(&self, at: Timestamp) -> Option<Money> {
        self.prices.iter().rev().find(|price| price.from <= at).map(|price| price.amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::KeyConfig;
    use crate::contract::Currency;
    use crate::contract::users::Secret;
    use proptest::prelude::*;

    fn config() -> Config {
        let keys = KeyConfig { active: Secret::new(""), standby: None };
        Config { prices_kept_max: 3, price_minor_max: 1_000, ..Config::new(keys) }
    }

    fn euro(minor: i64) -> Money {
        Money::new(minor, Currency::EUR)
    }

    fn draft() -> Product {
        Product::create("A-1".parse().unwrap(), "A thing").unwrap()
    }

    fn priced(minor: i64) -> Product {
        let versions = (Version::new(1), Version::new(1));
        draft().change_price(euro(minor), versions, at(0), &config()).unwrap().unwrap()
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn the_state_table_is_total() {
        let in_state = |status| Product { status, ..priced(5) };
        let (d, p, x) = (Status::Draft, Status::Published, Status::Discontinued);
        let check = |status, publish: Result<_, _>, discontinue: Result<_, _>| {
            let product = in_state(status);
            assert_eq!(product.publish().map(|next| next.map(|n| n.status)), publish);
            assert_eq!(product.discontinue().map(|next| next.map(|n| n.status)), discontinue);
        };
        check(d, Ok(Some(p)), Err(Rejection::NeverPublished));
        check(p, Ok(None), Ok(Some(x)));
        check(x, Ok(Some(p)), Ok(None));
        assert_eq!(draft().publish(), Err(Rejection::NoPrice));
    }

    #[test]
    fn names_are_bounded() {
        let make = |name: &str| Product::create("A".parse().unwrap(), name).map(|p| p.name);
        assert_eq!(make(&"ä".repeat(120)), Ok("ä".repeat(120)));
        for bad in ["", "a\nb", "a\0", &"ä".repeat(121)] {
            assert_eq!(make(bad), Err(Rejection::Name), "{bad:?}");
        }
    }

    #[test]
    fn prices_are_positive_bounded_and_in_the_shops_currency() {
        let check = |amount, expect| {
            let versions = (Version::new(1), Version::new(1));
            assert_eq!(draft().change_price(amount, versions, at(0), &config()), Err(expect));
        };
        check(euro(0), Rejection::PriceRange { max: 1_000 });
        check(euro(-5), Rejection::PriceRange { max: 1_000 });
        check(euro(1_001), Rejection::PriceRange { max: 1_000 });
        check(euro(i64::MAX), Rejection::PriceRange { max: 1_000 });
        let dollars = Money::new(5, "USD".parse().unwrap());
        check(dollars, Rejection::Currency(Currency::EUR));
    }

    #[test]
    fn a_price_decided_on_an_old_version_is_refused_unless_it_is_the_very_same_change() {
        let product = priced(5); // at version 2
        let change = |minor, version, expected| {
            let versions = (Version::new(version), Version::new(expected));
            product.change_price(euro(minor), versions, at(9), &config()).map(|n| n.is_some())
        };
        assert_eq!(change(6, 2, 2), Ok(true));
        assert_eq!(change(5, 2, 2), Ok(false), "the price it has");
        assert_eq!(change(5, 2, 1), Ok(false), "the retry of the last change");
        assert_eq!(change(6, 2, 1), Err(Rejection::Version(Version::new(2))));
        assert_eq!(change(6, 2, 3), Err(Rejection::Version(Version::new(2))));
        assert_eq!(change(5, 3, 1), Err(Rejection::Version(Version::new(3))), "changed since");
    }

    #[test]
    fn the_price_of_a_time_is_the_last_one_before_it() {
        let mut product = draft();
        for (minor, time) in [(1, 10), (2, 20), (3, 15), (4, 40)] {
            let version = Version::new(u64::try_from(minor).unwrap());
            let next = product.change_price(euro(minor), (version, version), at(time), &config());
            product = next.unwrap().unwrap();
        }
        let check = |time, expect: Option<i64>| {
            assert_eq!(product.price_at(at(time)), expect.map(euro), "at {time}");
        };
        check(19, None); // the first one was forgotten
        check(20, Some(3)); // a clock that stepped back does not reorder the history
        check(39, Some(3));
        check(40, Some(4));
        assert_eq!(product.price(), Some(euro(4)));
        assert_eq!(product.prices.len(), 3);
    }

    proptest! {
        /// Whatever is asked, prices stay positive and ascending, and only a published product with
        /// a price can be bought.
        #[test]
        fn products_keep_their_invariants(
            moves in proptest::collection::vec((0_u8..3, -5_i64..2_000, 0_u64..6, 0_i64..9), 0..40),
        ) {
            let (mut product, mut version) = (draft(), Version::new(1));
            for (command, minor, expected, time) in moves {
                let next = match command {
                    0 => product.publish(),
                    1 => product.discontinue(),
                    _ => {
                        let versions = (version, Version::new(expected));
                        product.change_price(euro(minor), versions, at(time), &config())
                    }
                };
                if let Ok(Some(next)) = next {
                    prop_assert!(command != 2 || expected == version.get());
                    (product, version) = (next, version.next());
                }
                prop_assert!(product.status != Status::Published || product.price().is_some());
                prop_assert!(product.prices.iter().all(|p| (1..=1_000).contains(&p.amount.minor)));
                prop_assert!(product.prices.is_sorted_by_key(|p| (p.from, p.version)));
            }
        }
    }
}
