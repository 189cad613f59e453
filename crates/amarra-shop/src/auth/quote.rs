//! Signs quotes in Catalog and verifies them in Orders, which never asks Catalog for a price.

use amarra_core::{Class, Classify, Timestamp};

use super::detached::{DetachedSigner, DetachedVerifier};
use super::keys::{KeyConfig, KeySet, Purpose};
use crate::contract::catalog::{Quote, SignedQuote};
use crate::contract::{ApiError, Money, UserId};
use crate::ports::ConfigError;

/// Signs quotes.
#[derive(Debug, Clone)]
pub struct QuoteSigner {
    signer: DetachedSigner,
}

impl QuoteSigner {
    /// Derives the keys.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(keys: &KeyConfig) -> Result<Self, ConfigError> {
        Ok(Self { signer: DetachedSigner::new(Purpose::Quote, keys)? })
    }

    /// Signs the quote's compact JSON.
    ///
    /// # Errors
    /// The serializer's: a bug of ours.
    pub fn sign(&self, quote: &Quote) -> Result<SignedQuote, serde_json::Error> {
        let quote = serde_json::to_string(quote)?;
        let made = self.signer.sign(quote.as_bytes());
        Ok(SignedQuote { quote, signature: made.signature, kid: made.kid.as_str().to_owned() })
    }

    /// Returns the keys that verify.
    #[must_use]
    pub fn key_set(&self) -> &KeySet {
        self.signer.key_set()
    }
}

/// Verifies quotes.
///
/// # Laws
/// - QUO-1 a quote is accepted only byte by byte as Catalog signed it, from the user it was made
///   for, before it expires.
/// - QUO-2 an accepted quote has at least one line, no product twice, positive prices and
///   quantities in one currency, and a total that is the sum of its lines.
#[derive(Debug, Clone)]
pub struct QuoteVerifier {
    verifier: DetachedVerifier,
}

/// The longest quote read, in bytes: 20 lines of the longest names fit four times over.
const QUOTE_BYTES_MAX: usize = 32_768;

impl QuoteVerifier {
    /// Trusts these keys.
    #[must_use]
    pub fn new(keys: KeySet) -> Self {
        Self { verifier: DetachedVerifier::new(keys) }
    }

    /// Returns the quote that `user` may order from at `now`.
    ///
    /// # Errors
    /// [`QuoteError`] says why not.
    pub fn verify(
        &self,
        signed: &SignedQuote,
        user: UserId,
        now: Timestamp,
    ) -> Result<Quote, QuoteError> {
        if signed.quote.len() > QUOTE_BYTES_MAX {
            return Err(QuoteError::Malformed);
        }
        self.verifier
            .verify(signed.quote.as_bytes(), &signed.signature, &signed.kid)
            .map_err(|_| QuoteError::Signature)?;
        let quote: Quote =
            serde_json::from_str(&signed.quote).map_err(|_| QuoteError::Malformed)?;
        if quote.user_id != user {
            return Err(QuoteError::OtherUser);
        }
        if now >= quote.expires_at {
            return Err(QuoteError::Expired);
        }
        if total(&quote) != Some(quote.total) {
            return Err(QuoteError::Sum);
        }
        Ok(quote)
    }
}

/// Sums a quote's lines, none when a line cannot be.
fn total(quote: &Quote) -> Option<Money> {
    let mut seen = std::collections::BTreeSet::new();
    let mut sum = Money::zero(quote.lines.first()?.unit_price.currency);
    for line in &quote.lines {
        if line.qty == 0 || !line.unit_price.is_positive() || !seen.insert(&line.sku) {
            return None;
        }
        sum = sum.plus(line.unit_price.times(line.qty).ok()?).ok()?;
    }
    Some(sum)
}

/// Why a quote is not accepted. Class `Rejected`: ask for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// Not signed by Catalog, or changed since.
    #[error("the quote's signature does not verify")]
    Signature,
    /// Not a quote.
    #[error("the quote is malformed")]
    Malformed,
    /// Made for another user.
    #[error("the quote was made for another user")]
    OtherUser,
    /// It no longer holds.
    #[error("the quote expired: ask for another one")]
    Expired,
    /// Its lines do not add up.
    #[error("the quote's total is not the sum of its lines")]
    Sum,
}

impl Classify for QuoteError {
    fn class(&self) -> Class {
        Class::Rejected
    }
}

impl From<QuoteError> for ApiError {
    fn from(error: QuoteError) -> Self {
        Self::Unprocessable(error.to_string())
    }
}

#[cfg(test)]
mod tests;
