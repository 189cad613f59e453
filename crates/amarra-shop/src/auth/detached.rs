//! Signatures beside their bytes, for documents that stay readable.

use serde::{Deserialize, Serialize};

use super::keys::{KeyConfig, KeySet, Kid, Purpose, SigningKey};
use super::{decode, encode};
use crate::ports::ConfigError;

/// A signature and the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The signature, base64url without padding.
    pub signature: String,
    /// The key's id.
    pub kid: Kid,
}

/// Signs bytes for one purpose.
#[derive(Debug, Clone)]
pub struct DetachedSigner {
    key: SigningKey,
    keys: KeySet,
}

impl DetachedSigner {
    /// Derives the keys.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(purpose: Purpose, config: &KeyConfig) -> Result<Self, ConfigError> {
        Ok(Self { key: config.signing_key(purpose)?, keys: config.key_set(purpose)? })
    }

    /// Signs exactly these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Detached {
        Detached { signature: encode(&self.key.sign(bytes)), kid: self.key.kid().clone() }
    }

    /// Returns the keys that verify.
    #[must_use]
    pub fn key_set(&self) -> &KeySet {
        &self.keys
    }
}

/// Verifies what a [`DetachedSigner`] of the same keys signed.
#[derive(Debug, Clone)]
pub struct DetachedVerifier {
    keys: KeySet,
}

impl DetachedVerifier {
    /// Trusts these keys.
    #[must_use]
    pub fn new(keys: KeySet) -> Self {
        Self { keys }
    }

    /// Checks that a live key signed exactly these bytes.
    ///
    /// # Errors
    /// [`SignatureRefused`], the same whatever is wrong with it.
    pub fn verify(&self, bytes: &[u8], signature: &str, kid: &str) -> Result<(), SignatureRefused> {
        let key = self.keys.find(kid).ok_or(SignatureRefused)?;
        let signature = decode(signature).ok_or(SignatureRefused)?;
        let signature: [u8; 64] = signature.try_into().map_err(|_| SignatureRefused)?;
        if key.verifies(bytes, &signature) { Ok(()) } else { Err(SignatureRefused) }
    }
}

/// The signature is not one of a live key over these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature refused")]
pub struct SignatureRefused;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::users::Secret;

    #[test]
    fn only_the_exact_bytes_and_key_verify() {
        let config = |byte| KeyConfig { active: Secret::new(encode(&[byte; 32])), standby: None };
        let signer = DetachedSigner::new(Purpose::Quote, &config(1)).unwrap();
        let verifier = DetachedVerifier::new(signer.key_set().clone());
        let made = signer.sign(b"{}");
        assert_eq!(signer.sign(b"{}"), made, "signatures are deterministic");
        let kid = made.kid.as_str();
        assert_eq!(verifier.verify(b"{}", &made.signature, kid), Ok(()));
        assert_eq!(verifier.verify(b"{} ", &made.signature, kid), Err(SignatureRefused));
        assert_eq!(verifier.verify(b"{}", "", kid), Err(SignatureRefused));
        assert_eq!(verifier.verify(b"{}", &made.signature, "other"), Err(SignatureRefused));
        let padded = format!("{}==", made.signature);
        assert_eq!(verifier.verify(b"{}", &padded, kid), Err(SignatureRefused));
        let other = DetachedSigner::new(Purpose::Quote, &config(2)).unwrap().sign(b"{}");
        assert_eq!(verifier.verify(b"{}", &other.signature, kid), Err(SignatureRefused));
    }
}
