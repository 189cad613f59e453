//! A table of attacks on access tokens, and what a verifier remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use amarra_core::{Clock, Monotonic, SeededEntropy, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::contract::users::Secret;
use crate::contract::{ApiError, Role};

const NOW: i64 = 1_700_000_000;

/// Holds microseconds.
#[derive(Debug)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_nanos(0)
    }
}

struct World {
    signer: TokenSigner,
    verifier: TokenVerifier,
    clock: Arc<ManualClock>,
    revocations: Arc<Revocations>,
}

fn keys(active: u8, standby: Option<u8>) -> KeyConfig {
    let seed = |byte| Secret::new(encode(&[byte; 32]));
    KeyConfig { active: seed(active), standby: standby.map(seed) }
}

fn world(cache_tokens_max: usize) -> World {
    let signer = TokenSigner::new(TokenConfig::new(keys(1, Some(2)))).unwrap();
    let clock = Arc::new(ManualClock(AtomicI64::new(NOW * 1_000_000)));
    let revocations = Arc::new(Revocations::default());
    let config = VerifierConfig { cache_tokens_max, ..VerifierConfig::default() };
    let verifier = TokenVerifier::new(
        config,
        signer.key_set().clone(),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::clone(&revocations),
    );
    World { verifier: verifier.unwrap(), signer, clock, revocations }
}

fn subject(version: u64) -> Subject {
    let roles = [Role::Customer, Role::Support].into();
    Subject { user_id: uuid::Uuid::from_u128(7).into(), roles, version }
}

impl World {
    fn issue(&self) -> String {
        let entropy = SeededEntropy::new(1, "tokens");
        self.signer.issue(&subject(4), self.clock.now(), &entropy).expose().to_owned()
    }

    fn at(&self, secs: i64) -> &Self {
        self.clock.0.store(secs * 1_000_000, Ordering::Relaxed);
        self
    }

    /// Forges a token with the right key from the good header and claims, changed.
    fn forge(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let token = self.issue();
        let parts: Vec<_> = token.split('.').collect();
        let value = |part: &str| serde_json::from_slice(&decode(part).unwrap()).unwrap();
        let (mut header, mut claims): (Value, Value) = (value(parts[0]), value(parts[1]));
        change(&mut header, &mut claims);
        self.signer.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    fn error(&self, token: &str) -> TokenError {
        self.verifier.verify(token).unwrap_err()
    }
}

#[test]
fn a_good_token_authenticates_its_user() {
    let world = world(4);
    let principal = world.verifier.authenticate(&format!("Bearer {}", world.issue())).unwrap();
    assert_eq!(principal.user_id, subject(4).user_id);
    assert_eq!(principal.roles, subject(4).roles);
    assert_eq!(world.forge(|_, _| ()).split('.').count(), 3);
    assert!(world.verifier.verify(&world.forge(|_, _| ())).is_ok(), "the forge itself is sound");
}

#[test]
fn tok_1_headers_we_would_not_write_are_refused() {
    let world = world(4);
    let check = |change: fn(&mut Value), expect| {
        assert_eq!(world.error(&world.forge(|header, _| change(header))), expect);
    };
    check(|h| h["alg"] = json!("none"), TokenError::Algorithm);
    check(|h| h["alg"] = json!("NONE"), TokenError::Algorithm);
    check(|h| h["alg"] = json!("HS256"), TokenError::Algorithm);
    check(|h| h["alg"] = json!("RS256"), TokenError::Algorithm);
    check(|h| h["alg"] = json!("eddsa"), TokenError::Algorithm);
    check(|h| h["alg"] = json!("Ed25519"), TokenError::Algorithm);
    check(|h| h["alg"] = json!(["EdDSA"]), TokenError::Malformed);
    check(|h| h["typ"] = json!("JWT"), TokenError::Type);
    check(|h| h["typ"] = json!("application/at+jwt"), TokenError::Type);
    check(|h| h["kid"] = json!("../../dev/null"), TokenError::UnknownKey);
    check(|h| h["kid"] = json!(""), TokenError::UnknownKey);
    check(|h| h["crit"] = json!(["exp"]), TokenError::Malformed);
    check(|h| h["crit"] = json!([]), TokenError::Malformed);
    check(|h| h["b64"] = json!(false), TokenError::Malformed);
    check(|h| h["jwk"] = json!({"kty": "OKP"}), TokenError::Malformed);
    check(|h| h["jku"] = json!("https://keys.example"), TokenError::Malformed);
    check(|h| h["x5c"] = json!([]), TokenError::Malformed);
    for name in ["alg", "typ", "kid"] {
        let token = world.forge(|header, _| drop(header.as_object_mut().unwrap().remove(name)));
        assert_eq!(world.error(&token), TokenError::Malformed, "{name} is required");
    }
}

#[test]
fn tok_1_claims_we_would_not_make_are_refused() {
    let world = world(4);
    let check = |change: fn(&mut Value), expect| {
        assert_eq!(world.error(&world.forge(|_, claims| change(claims))), expect);
    };
    check(|c| c["iss"] = json!("/amarra/other"), TokenError::Issuer);
    check(|c| c["aud"] = json!("other"), TokenError::Audience);
    check(|c| c["aud"] = json!(["amarra"]), TokenError::Malformed);
    check(|c| c["exp"] = json!(NOW + 3601), TokenError::Lifetime);
    check(|c| c["exp"] = json!(NOW), TokenError::Lifetime);
    check(|c| c["exp"] = json!(i64::MAX), TokenError::Lifetime);
    check(|c| c["exp"] = json!("never"), TokenError::Malformed);
    check(|c| c["exp"] = json!(1.7e9), TokenError::Malformed);
    check(|c| c["nbf"] = json!(NOW - 1), TokenError::Lifetime);
    check(|c| c["nbf"] = json!(NOW + 900), TokenError::Lifetime);
    check(|c| c["nbf"] = json!(NOW + 61), TokenError::NotYetValid);
    check(|c| c["sub"] = json!("admin"), TokenError::Malformed);
    check(|c| c["roles"] = json!(["root"]), TokenError::Malformed);
    check(|c| c["roles"] = json!("admin"), TokenError::Malformed);
    check(|c| c["ver"] = json!(-1), TokenError::Malformed);
    check(|c| c["admin"] = json!(true), TokenError::Malformed);
    for name in ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "roles", "ver"] {
        let token = world.forge(|_, claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert_eq!(world.error(&token), TokenError::Malformed, "{name} is required");
    }
}

#[test]
fn tok_1_no_second_text_of_a_token_is_accepted() {
    let world = world(4);
    let token = world.issue();
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let (header, claims, signature) = (&parts[0], &parts[1], &parts[2]);
    let check = |token: String, expect| assert_eq!(world.error(&token), expect, "{token}");
    check(format!("{header}.{claims}."), TokenError::Signature);
    check(format!("{header}.{claims}"), TokenError::Malformed);
    check(format!("{token}."), TokenError::Malformed);
    check(format!("{token}.{signature}"), TokenError::Malformed);
    check(format!("{token}=="), TokenError::Malformed);
    check(format!("{token}\n"), TokenError::Malformed);
    check(format!(" {token}"), TokenError::Malformed);
    check(format!("{header}..{signature}"), TokenError::Signature);
    check(format!(".{claims}.{signature}"), TokenError::Malformed);
    check(String::new(), TokenError::Malformed);
    check("..".into(), TokenError::Malformed);
    check("x".repeat(2049), TokenError::TooLong);
    check(format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")), {
        let changed = signature.contains(['-', '_']);
        if changed { TokenError::Malformed } else { unreachable!("seed gives both alphabets") }
    });
    // The last character of 64 bytes carries four unused bits: setting one must not pass.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let twin = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let twin = format!("{header}.{claims}.{}{twin}", &signature[..signature.len() - 1]);
    check(twin, TokenError::Malformed);
}

#[test]
fn a_duplicate_field_is_refused() {
    let world = world(4);
    let token = world.issue();
    let claims = decode(token.split('.').nth(1).unwrap()).unwrap();
    let kid = world.verifier.live_keys().iter().next().unwrap().kid().clone();
    let header = format!(r#"{{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
    let forged = world.signer.sign_parts(header.as_bytes(), &claims);
    assert_eq!(world.error(&forged), TokenError::Malformed);
}

#[test]
fn tok_1_signatures_of_other_keys_and_purposes_are_refused() {
    let world = world(4);
    let token = world.issue();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let quote = DetachedSigner::new(Purpose::Quote, &keys(1, None)).unwrap();
    let forged = format!("{signed}.{}", quote.sign(signed.as_bytes()).signature);
    assert_eq!(world.error(&forged), TokenError::Signature);
    // HMAC with the public key as its secret, as confused verifiers accept it.
    let public = world.verifier.live_keys().iter().next().unwrap().clone();
    let mac = blake3::hash(format!("{public:?}{signed}").as_bytes());
    assert_eq!(world.error(&format!("{signed}.{}", encode(mac.as_bytes()))), TokenError::Signature);
    let mut flipped = decode(signature).unwrap();
    for bit in [0, 255, 256, 511] {
        flipped[bit / 8] ^= 1 << (bit % 8);
        let forged = format!("{signed}.{}", encode(&flipped));
        assert_eq!(world.error(&forged), TokenError::Signature, "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    let foreign = TokenSigner::new(TokenConfig::new(keys(3, None))).unwrap();
    let entropy = SeededEntropy::new(1, "tokens");
    let foreign = foreign.issue(&subject(4), world.clock.now(), &entropy);
    assert_eq!(world.error(foreign.expose()), TokenError::UnknownKey);
}

#[test]
fn tok_2_a_token_lives_from_its_start_to_its_end_give_or_take_the_leeway() {
    for cache in [0, 4] {
        let world = world(cache);
        let token = world.issue();
        let check = |secs: i64, expect: Option<TokenError>| {
            assert_eq!(world.at(secs).verifier.verify(&token).err(), expect, "at {secs}");
        };
        check(NOW, None);
        check(NOW - 60, None);
        check(NOW - 61, Some(TokenError::NotYetValid));
        check(NOW + 959, None);
        check(NOW + 960, Some(TokenError::Expired));
        check(NOW + 959, None);
    }
}

#[test]
fn tok_2_a_revocation_beats_the_cache() {
    for cache in [0, 4] {
        let world = world(cache);
        let token = world.issue();
        let user = subject(4).user_id;
        assert!(world.verifier.verify(&token).is_ok());
        world.revocations.revoke_below(user, 4);
        assert!(world.verifier.verify(&token).is_ok(), "issued of that very version");
        world.revocations.revoke_below(user, 5);
        assert_eq!(world.error(&token), TokenError::Revoked);
        assert_eq!(world.error(&token), TokenError::Revoked);
    }
}

#[test]
fn tok_3_a_rotation_accepts_both_keys_and_then_only_the_new_one() {
    let world = world(4);
    let old = world.issue();
    let config = TokenConfig::new(keys(2, Some(1)));
    let next = TokenSigner::new(config).unwrap();
    let entropy = SeededEntropy::new(2, "tokens");
    let new = next.issue(&subject(4), world.clock.now(), &entropy);
    assert!(world.verifier.verify(&old).is_ok());
    assert!(world.verifier.verify(new.expose()).is_ok());
    world.verifier.replace_keys(keys(2, None).key_set(Purpose::AccessToken).unwrap());
    assert!(world.verifier.verify(new.expose()).is_ok());
    assert_eq!(world.error(&old), TokenError::UnknownKey, "remembered tokens of a dead key die");
}

#[test]
fn tok_3_the_cache_keeps_to_its_bound_and_never_remembers_a_refused_token() {
    let world = world(2);
    let entropy = SeededEntropy::new(3, "tokens");
    for _ in 0..5 {
        let token = world.signer.issue(&subject(4), world.clock.now(), &entropy);
        assert!(world.verifier.verify(token.expose()).is_ok());
        assert!(world.verifier.verify(token.expose()).is_ok());
    }
    assert_eq!(world.verifier.remembered(), 2);
    let forged = world.forge(|_, claims| claims["aud"] = json!("other"));
    assert_eq!(world.error(&forged), TokenError::Audience);
    assert_eq!(world.verifier.remembered(), 2);
    world.at(NOW + 2000);
    assert_eq!(world.error(&world.forge(|_, claims| claims["exp"] = json!(NOW))), {
        TokenError::Lifetime
    });
}

#[test]
fn the_header_value_is_read_strictly() {
    assert_eq!(bearer("Bearer a.b.c"), Ok("a.b.c"));
    assert_eq!(bearer("bearer a"), Ok("a"));
    for bad in
        ["", "Bearer", "Bearer ", "Basic a", "Bearer  a", "Bearer a b", "Bearer a,", "Bearera"]
    {
        assert_eq!(bearer(bad), Err(TokenError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_forger_learns_nothing_from_the_answer() {
    let texts: std::collections::BTreeSet<_> = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::UnknownKey,
        TokenError::Signature,
        TokenError::Audience,
    ]
    .map(|error| ApiError::from(error).to_string())
    .into();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn unusable_configurations_are_named() {
    let check = |change: fn(&mut VerifierConfig), field| {
        let mut config = VerifierConfig::default();
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().field, field);
    };
    check(|c| c.leeway = Duration::from_secs(301), "verifier.leeway");
    check(|c| c.ttl_max = Duration::ZERO, "verifier.ttl_max");
    check(|c| c.token_bytes_max = 10, "verifier.token_bytes_max");
    check(|c| c.audience.clear(), "verifier.issuer");
    let mut config = TokenConfig::new(keys(1, None));
    config.ttl = Duration::from_millis(1500);
    assert_eq!(TokenSigner::new(config).unwrap_err().field, "token.ttl");
}
