//! Verifies access tokens, and remembers the verified ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_core::{Class, Classify, Clock, Timestamp};
use serde::Deserialize;

use super::claims::Claims;
use super::decode;
use super::keys::KeySet;
use super::revocation::Revocations;
use super::signer::{ALG, TYP};
use crate::contract::{ApiError, Principal};
use crate::ports::ConfigError;

/// What a verifier accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierConfig {
    /// The only issuer.
    pub issuer: String,
    /// The only audience.
    pub audience: String,
    /// How far this process's clock and the issuer's may differ: at most 5 minutes.
    pub leeway: Duration,
    /// The longest life a token may claim, at most a day: longer ones were not issued by us.
    pub ttl_max: Duration,
    /// The longest token, in bytes: 64 to 65,536. Longer ones are refused unread.
    pub token_bytes_max: usize,
    /// How many verified tokens are remembered, so that the gateway and the services do not repeat
    /// the Ed25519 work on each request; zero remembers none. At the bound the oldest is forgotten.
    pub cache_tokens_max: usize,
}

impl Default for VerifierConfig {
    fn default() -> Self {
        Self {
            issuer: "/amarra/users".into(),
            audience: "amarra".into(),
            leeway: Duration::from_secs(60),
            ttl_max: Duration::from_secs(3600),
            token_bytes_max: 2048,
            cache_tokens_max: 10_000,
        }
    }
}

impl VerifierConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |field, why: &str| Err(ConfigError { field, why: why.into() });
        if self.issuer.is_empty() || self.audience.is_empty() {
            return error("verifier.issuer", "issuer and audience must not be empty");
        }
        if self.leeway > Duration::from_secs(300) {
            return error("verifier.leeway", "must be at most 5 minutes");
        }
        if self.ttl_max.is_zero() || self.ttl_max > Duration::from_secs(86_400) {
            return error("verifier.ttl_max", "must be above zero and at most a day");
        }
        if !(64..=65_536).contains(&self.token_bytes_max) {
            return error("verifier.token_bytes_max", "must be 64 to 65536");
        }
        Ok(())
    }
}

/// Verifies access tokens.
///
/// # Laws
/// - TOK-1 only what a live key signed under `alg` EdDSA, `typ` at+jwt and its `kid` is accepted:
///   no other algorithm, no `crit`, no further header or claim, no second base64 text of one value.
/// - TOK-2 issuer, audience, and the times within the leeway are checked on every call, remembered
///   or not, and so are revocations.
/// - TOK-3 a token is remembered only after it verified, and forgotten when the keys change.
pub struct TokenVerifier {
    config: VerifierConfig,
    clock: Arc<dyn Clock>,
    revocations: Arc<Revocations>,
    state: Mutex<State>,
}

struct State {
    keys: Arc<KeySet>,
    cache: Cache,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

impl TokenVerifier {
    /// Trusts `keys` until they are replaced.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(
        config: VerifierConfig,
        keys: KeySet,
        clock: Arc<dyn Clock>,
        revocations: Arc<Revocations>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let cache = Cache::new(config.cache_tokens_max);
        let state = Mutex::new(State { keys: Arc::new(keys), cache });
        Ok(Self { config, clock, revocations, state })
    }

    /// Trusts other keys from now on, and forgets every remembered token.
    pub fn replace_keys(&self, keys: KeySet) {
        let mut state = self.lock();
        state.cache = Cache::new(self.config.cache_tokens_max);
        state.keys = Arc::new(keys);
    }

    /// Returns the claims of a token that is valid now.
    ///
    /// # Errors
    /// [`TokenError`] says why not.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > self.config.token_bytes_max {
            return Err(TokenError::TooLong);
        }
        let digest = *blake3::hash(token.as_bytes()).as_bytes();
        let (known, keys) = {
            let state = self.lock();
            (state.cache.get(&digest), Arc::clone(&state.keys))
        };
        if let Some(claims) = known {
            return match self.check(&claims) {
                Ok(()) => Ok(claims),
                Err(error) => {
                    self.lock().cache.remove(&digest);
                    Err(error)
                }
            };
        }
        // Ed25519 runs outside the lock, so the keys may be others by now.
        let claims = Arc::new(authenticate(token, &keys)?);
        self.check(&claims)?;
        let mut state = self.lock();
        if Arc::ptr_eq(&state.keys, &keys) {
            state.cache.insert(digest, Arc::clone(&claims));
        }
        Ok(claims)
    }

    /// Returns the user of an `Authorization` header's value.
    ///
    /// # Errors
    /// [`TokenError`] says why not.
    pub fn authenticate(&self, authorization: &str) -> Result<Principal, TokenError> {
        Ok(self.verify(bearer(authorization)?)?.principal())
    }

    fn check(&self, claims: &Claims) -> Result<(), TokenError> {
        if claims.iss != self.config.issuer {
            return Err(TokenError::Issuer);
        }
        if claims.aud != self.config.audience {
            return Err(TokenError::Audience);
        }
        let ttl_max = i64::try_from(self.config.ttl_max.as_secs()).unwrap_or(i64::MAX);
        let life = claims.exp.saturating_sub(claims.iat);
        if !(1..=ttl_max).contains(&life) || claims.nbf < claims.iat || claims.nbf >= claims.exp {
            return Err(TokenError::Lifetime);
        }
        let now = self.clock.now();
        if now >= claims.expires_at().plus(self.config.leeway) {
            return Err(TokenError::Expired);
        }
        let begins = Timestamp::from_micros(claims.nbf.saturating_mul(1_000_000));
        if now.plus(self.config.leeway) < begins {
            return Err(TokenError::NotYetValid);
        }
        if claims.ver < self.revocations.version_min(claims.sub) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.lock().cache.claims.len()
    }

    #[cfg(test)]
    pub(crate) fn live_keys(&self) -> KeySet {
        self.lock().keys.as_ref().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Checks form, header and signature; the claims are parsed only after the signature held.
fn authenticate(token: &str, keys: &KeySet) -> Result<Claims, TokenError> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    let parsed: Header = parse(header)?;
    if parsed.alg != ALG {
        return Err(TokenError::Algorithm);
    }
    if parsed.typ != TYP {
        return Err(TokenError::Type);
    }
    let key = keys.find(&parsed.kid).ok_or(TokenError::UnknownKey)?;
    let signature = decode(signature).ok_or(TokenError::Malformed)?;
    let signature: [u8; 64] = signature.try_into().map_err(|_| TokenError::Signature)?;
    let signed = header.len().saturating_add(claims.len()).saturating_add(1);
    let signed = token.get(..signed).ok_or(TokenError::Malformed)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    parse(claims)
}

fn parse<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = decode(part).ok_or(TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// Returns the token of an `Authorization` header's value.
///
/// # Errors
/// [`TokenError::Malformed`] when the scheme is another one or the token has foreign characters.
///
/// # Source
/// RFC 6750, section 2.1: the token in the header, never in the URL.
pub fn bearer(authorization: &str) -> Result<&str, TokenError> {
    let (scheme, token) = authorization.split_once(' ').ok_or(TokenError::Malformed)?;
    let fits = token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || !fits {
        return Err(TokenError::Malformed);
    }
    Ok(token)
}

/// Remembers verified tokens by their hash; the oldest leaves first.
struct Cache {
    bound: usize,
    claims: BTreeMap<[u8; 32], Arc<Claims>>,
    order: VecDeque<[u8; 32]>,
}

impl Cache {
    fn new(bound: usize) -> Self {
        Self { bound, claims: BTreeMap::new(), order: VecDeque::new() }
    }

    fn get(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        self.claims.get(digest).cloned()
    }

    fn insert(&mut self, digest: [u8; 32], claims: Arc<Claims>) {
        if self.bound == 0 {
            return;
        }
        // The order may name tokens that were removed: they leave it here, in their turn.
        while self.order.len() >= self.bound {
            let Some(oldest) = self.order.pop_front() else { break };
            self.claims.remove(&oldest);
        }
        if self.claims.insert(digest, claims).is_none() {
            self.order.push_back(digest);
        }
    }

    fn remove(&mut self, digest: &[u8; 32]) {
        self.claims.remove(digest);
        self.order.retain(|known| known != digest);
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than the bound.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of strict base64url, or not the JSON we write.
    #[error("the token is malformed")]
    Malformed,
    /// Another algorithm than EdDSA, `none` among them.
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    /// Not an access token.
    #[error("the token is not an access token")]
    Type,
    /// Signed by a key that is not live.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// Not signed by the key it names.
    #[error("the token's signature does not verify")]
    Signature,
    /// Issued by somebody else.
    #[error("the token's issuer is not trusted")]
    Issuer,
    /// Issued for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It claims a life that no token of ours has.
    #[error("the token's lifetime is not allowed")]
    Lifetime,
    /// Its life is over: refresh it.
    #[error("the token expired")]
    Expired,
    /// Its life has not begun: the clocks differ by more than the leeway.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The user's roles or sessions changed since: refresh it, or log in again.
    #[error("the token was revoked")]
    Revoked,
}

impl Classify for TokenError {
    fn class(&self) -> Class {
        Class::Rejected
    }
}

impl From<TokenError> for ApiError {
    /// Tells the holder of a once valid token what to do, and a forger nothing.
    fn from(error: TokenError) -> Self {
        Self::Unauthenticated(match error {
            TokenError::Expired => "the access token expired",
            TokenError::NotYetValid => "the access token is not valid yet",
            TokenError::Revoked => "the access token was revoked",
            _ => "the access token is not valid",
        })
    }
}
