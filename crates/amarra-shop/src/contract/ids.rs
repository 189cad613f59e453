//! The ids of the shop's aggregates.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

amarra_core::uuid_ids! {
    /// Names a user.
    UserId,
    /// Names an order; it is the correlation of everything that happens to it.
    OrderId,
    /// Names a reservation.
    ReservationId,
    /// Names a payment.
    PaymentId,
    /// Names a refund.
    RefundId,
    /// Names a price quote.
    QuoteId,
}

/// Names a product: 1 to 32 characters of `A-Z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sku(Arc<str>);

impl Sku {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is not a SKU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sku must be 1 to 32 characters of A-Z, 0-9 and '-', got {0:?}")]
pub struct BadSku(String);

impl FromStr for Sku {
    type Err = BadSku;

    fn from_str(s: &str) -> Result<Self, BadSku> {
        let fits = (1..=32).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(s.into())) } else { Err(BadSku(s.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for Sku {
    type Error = BadSku;

    fn try_from(s: String) -> Result<Self, BadSku> {
        s.parse()
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> Self {
        sku.0.as_ref().to_owned()
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
