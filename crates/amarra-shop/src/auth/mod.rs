//! Signed access tokens and quotes: strict EdDSA only, with two live keys, over the `Clock` port.
//!
//! JWT libraries read the system clock and accept what they need not (absent audiences, padded
//! base64, unknown critical headers). The shop issues every token it accepts, so it can refuse
//! whatever it would not have written itself.

pub mod claims;
pub mod detached;
pub mod keys;
pub mod quote;
pub mod revocation;
pub mod signer;
pub mod verifier;

pub use claims::Claims;
pub use detached::{Detached, DetachedSigner, DetachedVerifier, SignatureRefused};
pub use keys::{Jwk, Jwks, KeyConfig, KeyError, KeySet, Kid, PublicKey, Purpose, SigningKey};
pub use quote::{QuoteError, QuoteSigner, QuoteVerifier};
pub use revocation::{RevocationFeed, Revocations};
pub use signer::{Subject, TokenConfig, TokenSigner};
pub use verifier::{TokenError, TokenVerifier, VerifierConfig, bearer};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Encodes bytes as base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url; padding, whitespace, other alphabets and unused bits that are set are
/// refused, so that one value has one text.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Compares two secrets of equal length without telling by its duration where they differ.
pub(crate) fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(*a) == blake3::Hash::from_bytes(*b)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests;
