//! Issues access tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use amarra_core::{Entropy, Timestamp, id::uuid_v7};
use serde::Serialize;

use super::claims::Claims;
use super::encode;
use super::keys::{KeyConfig, KeySet, Purpose, SigningKey};
use crate::contract::users::Secret;
use crate::contract::{Role, UserId};
use crate::ports::ConfigError;

/// The media type of access tokens, as their header names it.
pub(crate) const TYP: &str = "at+jwt";
/// The only algorithm.
pub(crate) const ALG: &str = "EdDSA";

/// How tokens are issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The issuer, as verifiers expect it.
    pub issuer: String,
    /// The audience, as verifiers expect it.
    pub audience: String,
    /// How long a token lives: whole seconds from 1 to 3600. A revoked role lives on for at most
    /// this long in a verifier that heard nothing of it, so it is short.
    pub ttl: Duration,
    /// The signing keys.
    pub keys: KeyConfig,
}

impl TokenConfig {
    /// Makes the configuration that the shop's verifiers expect, with these keys.
    #[must_use]
    pub fn new(keys: KeyConfig) -> Self {
        Self {
            issuer: "/amarra/users".into(),
            audience: "amarra".into(),
            ttl: Duration::from_secs(900),
            keys,
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=3600).contains(&self.ttl.as_secs()) || self.ttl.subsec_nanos() != 0 {
            let why = "must be whole seconds from 1 to 3600".into();
            return Err(ConfigError { field: "token.ttl", why });
        }
        for (field, text) in [("token.issuer", &self.issuer), ("token.audience", &self.audience)] {
            if text.is_empty() {
                return Err(ConfigError { field, why: "must not be empty".into() });
            }
        }
        self.keys.validate()
    }
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub user_id: UserId,
    /// The roles.
    pub roles: BTreeSet<Role>,
    /// The version of the user they are true of.
    pub version: u64,
}

/// Signs access tokens.
#[derive(Debug, Clone)]
pub struct TokenSigner {
    config: TokenConfig,
    key: SigningKey,
    keys: KeySet,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

impl TokenSigner {
    /// Derives the keys.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(config: TokenConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let key = config.keys.signing_key(Purpose::AccessToken)?;
        let keys = config.keys.key_set(Purpose::AccessToken)?;
        Ok(Self { config, key, keys })
    }

    /// Returns how long a token lives.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.config.ttl
    }

    /// Returns the keys that verify.
    #[must_use]
    pub fn key_set(&self) -> &KeySet {
        &self.keys
    }

    /// Issues a token that lives from `now` on.
    #[must_use]
    pub fn issue(&self, subject: &Subject, now: Timestamp, entropy: &dyn Entropy) -> Secret {
        let iat = now.as_secs();
        let ttl = i64::try_from(self.config.ttl.as_secs()).unwrap_or(i64::MAX);
        self.sign(&Claims {
            iss: self.config.issuer.clone(),
            aud: self.config.audience.clone(),
            sub: subject.user_id,
            exp: iat.saturating_add(ttl),
            nbf: iat,
            iat,
            jti: uuid_v7(now, entropy).to_string(),
            roles: subject.roles.iter().copied().collect(),
            ver: subject.version,
        })
    }

    /// Signs claims as they are.
    pub(crate) fn sign(&self, claims: &Claims) -> Secret {
        let header = Header { alg: ALG, typ: TYP, kid: self.key.kid().as_str() };
        Secret::new(self.sign_parts(&json(&header), &json(claims)))
    }

    /// Signs any two texts: tests forge tokens with it.
    pub(crate) fn sign_parts(&self, header: &[u8], claims: &[u8]) -> String {
        let mut token = encode(header);
        token.push('.');
        token.push_str(&encode(claims));
        let signature = self.key.sign(token.as_bytes());
        token.push('.');
        token.push_str(&encode(&signature));
        token
    }
}

/// Serializes a plain struct: it has no map with foreign keys and no failing writer.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
