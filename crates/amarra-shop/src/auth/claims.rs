//! What an access token says.

use amarra_core::Timestamp;
use serde::{Deserialize, Serialize};

use crate::contract::{Principal, Role, UserId};

/// The claims of an access token: all required, none besides.
///
/// # Units
/// `exp`, `nbf` and `iat` are whole seconds since the Unix epoch.
///
/// # Source
/// RFC 7519; RFC 9068 for the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom it is.
    pub aud: String,
    /// Whom it speaks for.
    pub sub: UserId,
    /// The end of its life.
    pub exp: i64,
    /// The beginning of its life.
    pub nbf: i64,
    /// When it was issued.
    pub iat: i64,
    /// Its id, unique.
    pub jti: String,
    /// What the user may do.
    pub roles: Vec<Role>,
    /// The version of the user when it was issued: a later change of roles revokes it.
    pub ver: u64,
}

impl Claims {
    /// Returns the user it authenticates.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal { user_id: self.sub, roles: self.roles.iter().copied().collect() }
    }

    /// Returns the end of its life.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.exp.saturating_mul(1_000_000))
    }
}
