//! Ed25519 keys derived from configured seeds, each for one purpose, and the set that verifies.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::Signer;
use serde::{Deserialize, Serialize};

use super::{decode, encode};
use crate::contract::users::Secret;
use crate::ports::ConfigError;

/// What a key may sign. A signature for one purpose never verifies for another: the keys differ,
/// whatever the seeds are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Access tokens of Users.
    AccessToken,
    /// Price quotes of Catalog.
    Quote,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::AccessToken => "amarra 2026-11-24 ed25519 seed of access tokens",
            Self::Quote => "amarra 2026-11-24 ed25519 seed of price quotes",
        }
    }
}

/// Names a key, derived from its public half.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kid(Arc<str>);

impl Kid {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(public: &[u8; 32]) -> Self {
        let hash = blake3::derive_key("amarra 2026-11-24 key id", public);
        let (short, _) = hash.split_at(12);
        Self(encode(short).into())
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The seeds of a signer: one signs, and a second one may be live beside it during a rotation.
///
/// To rotate: deploy the new seed as `standby` until every verifier knows it, swap the two, and
/// drop the old one when its last token expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// The seed that signs: 32 bytes as base64url without padding.
    pub active: Secret,
    /// The seed that only verifies: the one before or the one to come. Same form.
    pub standby: Option<Secret>,
}

impl KeyConfig {
    /// Checks that the seeds decode and differ.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |field, seed: &Secret| match seed_of(seed) {
            Some(_) => Ok(()),
            None => Err(ConfigError { field, why: "must be 32 bytes as base64url".into() }),
        };
        check("keys.active", &self.active)?;
        if let Some(standby) = &self.standby {
            check("keys.standby", standby)?;
            if *standby == self.active {
                let why = "must differ from keys.active".into();
                return Err(ConfigError { field: "keys.standby", why });
            }
        }
        Ok(())
    }

    /// Derives the signing key of a purpose.
    ///
    /// # Errors
    /// [`ConfigError`], see [`KeyConfig::validate`].
    pub fn signing_key(&self, purpose: Purpose) -> Result<SigningKey, ConfigError> {
        self.validate()?;
        Ok(SigningKey::derive(purpose, &seed_of(&self.active).unwrap_or_default()))
    }

    /// Derives the keys that verify what this configuration signs.
    ///
    /// # Errors
    /// [`ConfigError`], see [`KeyConfig::validate`].
    pub fn key_set(&self, purpose: Purpose) -> Result<KeySet, ConfigError> {
        let active = self.signing_key(purpose)?.public();
        let standby = self.standby.as_ref().and_then(seed_of);
        let standby = standby.map(|seed| SigningKey::derive(purpose, &seed).public());
        Ok(KeySet { active, standby })
    }
}

fn seed_of(secret: &Secret) -> Option<[u8; 32]> {
    decode(secret.expose())?.try_into().ok()
}

/// A key that signs. `Debug` shows its id only.
#[derive(Clone)]
pub struct SigningKey {
    kid: Kid,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    fn derive(purpose: Purpose, seed: &[u8; 32]) -> Self {
        let own = blake3::derive_key(purpose.context(), seed);
        let key = ed25519_dalek::SigningKey::from_bytes(&own);
        Self { kid: Kid::of(key.verifying_key().as_bytes()), key }
    }

    /// Returns the key's id.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Returns the half that verifies.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { kid: self.kid.clone(), key: self.key.verifying_key() }
    }

    /// Signs: pure Ed25519, the same bytes for the same message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: Kid,
    key: ed25519_dalek::VerifyingKey,
}

impl PublicKey {
    /// Returns the key's id.
    #[must_use]
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// Tells whether `signature` is this key's over `message`; small-order keys and malleable
    /// encodings never verify.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The one or two keys that verify one purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    active: PublicKey,
    standby: Option<PublicKey>,
}

impl KeySet {
    /// Returns the live key of that id.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.iter().find(|key| key.kid.as_str() == kid)
    }

    /// Returns the keys, the signing one first.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(&self.active).chain(&self.standby)
    }

    /// Publishes the keys as a JSON Web Key Set.
    ///
    /// # Source
    /// RFC 7517; RFC 8037 for `OKP`.
    #[must_use]
    pub fn to_jwks(&self) -> Jwks {
        let jwk = |key: &PublicKey| Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: encode(key.key.as_bytes()),
            kid: key.kid.clone(),
            usage: "sig".into(),
            alg: "EdDSA".into(),
        };
        Jwks { keys: self.iter().map(jwk).collect() }
    }

    /// Reads a published set: one or two Ed25519 signing keys and nothing else.
    ///
    /// # Errors
    /// [`KeyError`] says what does not fit.
    pub fn from_jwks(jwks: &Jwks) -> Result<Self, KeyError> {
        match jwks.keys.as_slice() {
            [active] => Ok(Self { active: active.public_key()?, standby: None }),
            [active, standby] => {
                let standby = Some(standby.public_key()?);
                Ok(Self { active: active.public_key()?, standby })
            }
            other => Err(KeyError::Count(other.len())),
        }
    }
}

/// A published set of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys, the signing one first.
    pub keys: Vec<Jwk>,
}

/// A published key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// The key type, `OKP`.
    pub kty: String,
    /// The curve, `Ed25519`.
    pub crv: String,
    /// The public key, 32 bytes as base64url.
    pub x: String,
    /// The key's id.
    pub kid: Kid,
    /// What it is for, `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The algorithm, `EdDSA`.
    pub alg: String,
}

impl Jwk {
    fn public_key(&self) -> Result<PublicKey, KeyError> {
        let fits = self.kty == "OKP" && self.crv == "Ed25519";
        if !fits || self.usage != "sig" || self.alg != "EdDSA" {
            return Err(KeyError::Kind);
        }
        let bytes: Option<[u8; 32]> = decode(&self.x).and_then(|b| b.try_into().ok());
        let bytes = bytes.ok_or(KeyError::Point)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Point)?;
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        if self.kid != Kid::of(&bytes) {
            return Err(KeyError::Kid);
        }
        Ok(PublicKey { kid: self.kid.clone(), key })
    }
}

/// Why a published key set is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// None, or more than two.
    #[error("a key set holds one or two keys, got {0}")]
    Count(usize),
    /// Another type, curve, algorithm or use.
    #[error("only Ed25519 signing keys are understood")]
    Kind,
    /// Not 32 bytes of a point of large order.
    #[error("x is not an Ed25519 public key")]
    Point,
    /// An id that is not derived from the key.
    #[error("kid is not the id of the key")]
    Kid,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(active: u8, standby: Option<u8>) -> KeyConfig {
        let seed = |byte| Secret::new(encode(&[byte; 32]));
        KeyConfig { active: seed(active), standby: standby.map(seed) }
    }

    #[test]
    fn keys_of_two_purposes_never_meet() {
        let config = config(1, None);
        let token = config.signing_key(Purpose::AccessToken).unwrap();
        let quote = config.signing_key(Purpose::Quote).unwrap();
        assert_ne!(token.kid(), quote.kid());
        assert!(!quote.public().verifies(b"m", &token.sign(b"m")));
        assert!(token.public().verifies(b"m", &token.sign(b"m")));
    }

    #[test]
    fn a_rotation_keeps_both_keys_live() {
        let before = config(1, Some(2)).key_set(Purpose::AccessToken).unwrap();
        let after = config(2, Some(1)).key_set(Purpose::AccessToken).unwrap();
        for key in before.iter() {
            assert_eq!(after.find(key.kid().as_str()), Some(key));
        }
        let done = config(2, None).key_set(Purpose::AccessToken).unwrap();
        assert!(done.find(before.active.kid().as_str()).is_none());
    }

    #[test]
    fn a_key_set_survives_its_json() {
        let keys = config(1, Some(2)).key_set(Purpose::Quote).unwrap();
        let json = serde_json::to_string(&keys.to_jwks()).unwrap();
        assert!(json.contains(r#""use":"sig","alg":"EdDSA""#), "{json}");
        let jwks: Jwks = serde_json::from_str(&json).unwrap();
        assert_eq!(KeySet::from_jwks(&jwks), Ok(keys));
    }

    #[test]
    fn every_kind_of_foreign_key_is_refused() {
        let check = |change: fn(&mut Jwks), expect| {
            let mut jwks = config(1, Some(2)).key_set(Purpose::Quote).unwrap().to_jwks();
            change(&mut jwks);
            assert_eq!(KeySet::from_jwks(&jwks), Err(expect));
        };
        check(|j| j.keys.clear(), KeyError::Count(0));
        check(|j| j.keys.extend(j.keys.clone()), KeyError::Count(4));
        check(|j| j.keys[0].kty = "RSA".into(), KeyError::Kind);
        check(|j| j.keys[1].alg = "HS256".into(), KeyError::Kind);
        check(|j| j.keys[0].usage = "enc".into(), KeyError::Kind);
        check(|j| j.keys[0].x.push('='), KeyError::Point);
        check(|j| j.keys[0].x = encode(&[0; 32]), KeyError::Point);
        check(|j| j.keys[0].kid = Kid("mine".into()), KeyError::Kid);
    }

    #[test]
    fn bad_seeds_are_named_and_never_shown() {
        let mut bad = config(1, Some(1));
        assert_eq!(bad.validate().unwrap_err().field, "keys.standby");
        bad.active = Secret::new("c2hvcnQ");
        let error = bad.validate().unwrap_err();
        assert_eq!(error.field, "keys.active");
        assert!(!format!("{error} {bad:?}").contains("c2hvcnQ"));
        let key = config(7, None).signing_key(Purpose::Quote).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ kid: {:?}, .. }}", key.kid()));
    }
}
