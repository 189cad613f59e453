//! Refresh and verification tokens, and the hash of an address: all keyed by one secret.

use amarra_core::Entropy;

use crate::auth::{decode, encode, equal};
use crate::contract::UserId;
use crate::contract::users::Secret;

/// Reads a configured key.
pub(crate) fn key_bytes(secret: &Secret) -> Option<[u8; 32]> {
    decode(secret.expose())?.try_into().ok()
}

/// Derives tokens and hashes from one configured key.
///
/// Tokens are derived, not stored: a copy of the database does not contain them, and the token of a
/// generation can be given again when its answer was lost.
pub struct TokenKeys {
    email: [u8; 32],
    refresh: [u8; 32],
    verification: [u8; 32],
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").finish_non_exhaustive()
    }
}

/// What a refresh token names once its text is read; it proves nothing until it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// Whose it claims to be.
    pub user_id: UserId,
    /// Of which family.
    pub family: [u8; 16],
    /// Of which generation.
    pub generation: u32,
    proof: [u8; 32],
}

impl TokenKeys {
    /// Derives the keys.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            email: blake3::derive_key("amarra 2026-11-24 users email hash", key),
            refresh: blake3::derive_key("amarra 2026-11-24 users refresh token", key),
            verification: blake3::derive_key("amarra 2026-11-24 users verification token", key),
        }
    }

    /// Hashes a normalised address: the unique key of an account, and all that leaves this service.
    #[must_use]
    pub fn email_hash(&self, email: &str) -> String {
        encode(blake3::keyed_hash(&self.email, email.as_bytes()).as_bytes())
    }

    /// Returns the refresh token of one generation.
    #[must_use]
    pub fn refresh(
        &self,
        user_id: UserId,
        (family, nonce): (&[u8; 16], &Nonce),
        generation: u32,
    ) -> Secret {
        let mut bytes = Vec::with_capacity(68);
        bytes.extend_from_slice(user_id.as_uuid().as_bytes());
        bytes.extend_from_slice(family);
        bytes.extend_from_slice(&generation.to_be_bytes());
        let proof = self.proof(&bytes, nonce);
        bytes.extend_from_slice(&proof);
        Secret::new(encode(&bytes))
    }

    /// Reads a refresh token.
    #[must_use]
    pub fn read(token: &Secret) -> Option<Presented> {
        if token.expose().len() > 128 {
            return None;
        }
        let bytes: [u8; 68] = decode(token.expose())?.try_into().ok()?;
        let (user, rest) = bytes.split_first_chunk::<16>()?;
        let (family, rest) = rest.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        Some(Presented {
            user_id: uuid::Uuid::from_bytes(*user).into(),
            family: *family,
            generation: u32::from_be_bytes(*generation),
            proof: rest.try_into().ok()?,
        })
    }

    /// Tells whether this service issued what was presented, in a family with that nonce.
    #[must_use]
    pub fn is_ours(&self, presented: &Presented, nonce: &Nonce) -> bool {
        let mut bytes = Vec::with_capacity(36);
        bytes.extend_from_slice(presented.user_id.as_uuid().as_bytes());
        bytes.extend_from_slice(&presented.family);
        bytes.extend_from_slice(&presented.generation.to_be_bytes());
        equal(&self.proof(&bytes, nonce), &presented.proof)
    }

    fn proof(&self, named: &[u8], nonce: &Nonce) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.refresh);
        hasher.update(nonce);
        hasher.update(named);
        *hasher.finalize().as_bytes()
    }

    /// Returns the verification token of a user.
    #[must_use]
    pub fn verification(&self, user_id: UserId, nonce: &Nonce) -> Secret {
        let mut hasher = blake3::Hasher::new_keyed(&self.verification);
        hasher.update(nonce);
        hasher.update(user_id.as_uuid().as_bytes());
        Secret::new(encode(hasher.finalize().as_bytes()))
    }
}

/// A random value that makes derived tokens unique.
pub type Nonce = [u8; 16];

/// Draws a nonce.
#[must_use]
pub fn nonce(entropy: &dyn Entropy) -> Nonce {
    let mut nonce = [0; 16];
    entropy.fill(&mut nonce);
    nonce
}

/// Hashes a token for storage.
#[must_use]
pub fn token_hash(token: &Secret) -> [u8; 32] {
    *blake3::hash(token.expose().as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: ([u8; 16], Nonce) = ([1; 16], [2; 16]);

    fn user() -> UserId {
        uuid::Uuid::from_u128(7).into()
    }

    #[test]
    fn a_refresh_token_proves_its_user_family_and_generation() {
        let keys = TokenKeys::new(&[9; 32]);
        let (family, nonce) = FAMILY;
        let token = keys.refresh(user(), (&family, &nonce), 3);
        let presented = TokenKeys::read(&token).unwrap();
        assert_eq!(
            (presented.user_id, presented.family, presented.generation),
            (user(), family, 3)
        );
        assert!(keys.is_ours(&presented, &nonce));
        assert!(!keys.is_ours(&presented, &[3; 16]));
        assert!(!TokenKeys::new(&[8; 32]).is_ours(&presented, &nonce));
        let other = uuid::Uuid::from_u128(8).into();
        assert!(!keys.is_ours(&Presented { user_id: other, ..presented }, &nonce));
        assert!(!keys.is_ours(&Presented { generation: 4, ..presented }, &nonce));
        assert!(!keys.is_ours(&Presented { family: [0; 16], ..presented }, &nonce));
    }

    #[test]
    fn text_that_is_no_token_is_nothing() {
        let token = TokenKeys::new(&[9; 32]).refresh(user(), (&FAMILY.0, &FAMILY.1), 3);
        let token = token.expose();
        for bad in ["", "x", &token[1..], &format!("{token}="), &"A".repeat(200)] {
            assert_eq!(TokenKeys::read(&Secret::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn hashes_of_different_purposes_never_meet() {
        let keys = TokenKeys::new(&[9; 32]);
        assert_ne!(keys.email_hash("a@b.example"), keys.email_hash("c@b.example"));
        let token = keys.verification(user(), &[1; 16]);
        assert_ne!(token, keys.verification(user(), &[2; 16]));
        assert_ne!(token_hash(&token), *blake3::hash(b"").as_bytes());
    }
}
