//! Signs and verifies what the provider tells on its own.

use std::time::Duration;

use amarra_core::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::contract::users::Secret;

/// A webhook as it travels: the header's text and the exact bytes it speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedWebhook {
    /// `t=<microseconds since the epoch>,v1=<64 hex digits>`.
    pub signature: String,
    /// The JSON of a [`WebhookEvent`](super::provider_port::WebhookEvent).
    pub body: Bytes,
}

/// Why a webhook is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSignature {
    /// The header is not of the documented form.
    #[error("webhook signature is malformed")]
    Malformed,
    /// The header speaks for other bytes, or was made with another secret.
    #[error("webhook signature does not match")]
    Mismatch,
    /// It was signed too long ago, or too far in the future.
    #[error("webhook signature is outside the replay window")]
    OutsideWindow,
}

/// The shared secret of the provider and Payments, as a key.
#[derive(Clone)]
pub struct WebhookKey([u8; 32]);

impl WebhookKey {
    /// Derives the key from the secret both sides configure.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(blake3::derive_key("amarra payment provider webhooks 1", secret.expose().as_bytes()))
    }

    /// Signs a body as sent at `now`. Each delivery is signed anew, so that one that was delayed
    /// by an outage is still inside the window.
    #[must_use]
    pub fn sign(&self, body: Bytes, now: Timestamp) -> SignedWebhook {
        let mac = self.mac(now.as_micros(), &body);
        SignedWebhook { signature: format!("t={},v1={}", now.as_micros(), mac.to_hex()), body }
    }

    /// Verifies a webhook received at `now`, which may be `window` before or after its signing.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        &self,
        webhook: &SignedWebhook,
        now: Timestamp,
        window: Duration,
    ) -> Result<(), BadSignature> {
        let (at, mac) = parse(&webhook.signature).ok_or(BadSignature::Malformed)?;
        // The comparison of blake3's hashes takes constant time.
        if self.mac(at, &webhook.body) != mac {
            return Err(BadSignature::Mismatch);
        }
        let signed = Timestamp::from_micros(at);
        if now.since(signed) > window || signed.since(now) > window {
            return Err(BadSignature::OutsideWindow);
        }
        Ok(())
    }

    fn mac(&self, at: i64, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&at.to_le_bytes());
        hasher.update(body);
        hasher.finalize()
    }
}

impl std::fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookKey([redacted])")
    }
}

fn parse(header: &str) -> Option<(i64, blake3::Hash)> {
    let (at, mac) = header.strip_prefix("t=")?.split_once(",v1=")?;
    Some((at.parse().ok()?, blake3::Hash::from_hex(mac).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn key(secret: &str) -> WebhookKey {
        WebhookKey::new(&Secret::new(secret))
    }

    #[test]
    fn only_the_signed_bytes_within_the_window_are_believed() {
        let sent = Timestamp::from_micros(1_000_000_000);
        let signed = key("s").sign(Bytes::from_static(b"{}"), sent);
        let check = |webhook: &SignedWebhook, now, expect| {
            assert_eq!(key("s").verify(webhook, now, WINDOW), expect);
        };
        check(&signed, sent, Ok(()));
        check(&signed, sent.plus(WINDOW), Ok(()));
        check(&signed, sent.minus(WINDOW), Ok(()));
        let beyond = WINDOW.saturating_add(Duration::from_micros(1));
        check(&signed, sent.plus(beyond), Err(BadSignature::OutsideWindow));
        check(&signed, sent.minus(beyond), Err(BadSignature::OutsideWindow));
        let other = SignedWebhook { body: Bytes::from_static(b"{ }"), ..signed.clone() };
        check(&other, sent, Err(BadSignature::Mismatch));
        let moved = signed.signature.replace("t=1000000000", "t=1000000001");
        check(
            &SignedWebhook { signature: moved, ..signed.clone() },
            sent,
            Err(BadSignature::Mismatch),
        );
        check(&key("other").sign(signed.body.clone(), sent), sent, Err(BadSignature::Mismatch));
        for bad in ["", "t=1", "t=x,v1=00", "v1=00,t=1", "t=1,v1=zz"] {
            let webhook = SignedWebhook { signature: bad.to_owned(), ..signed.clone() };
            check(&webhook, sent, Err(BadSignature::Malformed));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", key("s")), "WebhookKey([redacted])");
    }
}
