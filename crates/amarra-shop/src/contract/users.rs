//! Messages and request shapes of Users.

use std::fmt;

use amarra_core::codec::Message;
use serde::{Deserialize, Serialize};

use super::api::Role;
use super::ids::UserId;

/// A password or token: `Debug` never shows it, and it does not serialize by accident in a message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself: call it where it is used, and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A user registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegistered {
    /// The user.
    pub user_id: UserId,
    /// A keyed hash of the address, never the address.
    pub email_hash: String,
}

/// A user proved the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserVerified {
    /// The user.
    pub user_id: UserId,
}

/// A user is locked out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLocked {
    /// The user.
    pub user_id: UserId,
    /// Why.
    pub reason: String,
}

/// A user has other roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolesChanged {
    /// The user.
    pub user_id: UserId,
    /// The roles given.
    pub added: Vec<Role>,
    /// The roles taken.
    pub removed: Vec<Role>,
}

/// A family of refresh tokens was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRevoked {
    /// The user.
    pub user_id: UserId,
    /// The family.
    pub family_id: String,
    /// Why.
    pub cause: String,
}

/// A refresh token was used a second time: its family is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshReuseDetected {
    /// The user.
    pub user_id: UserId,
    /// The family.
    pub family_id: String,
}

macro_rules! messages {
    ($($name:ident),+) => {$(
        impl Message for $name {
            const KIND: &'static str = stringify!($name);
        }
    )+};
}

messages!(
    UserRegistered,
    UserVerified,
    UserLocked,
    RolesChanged,
    SessionRevoked,
    RefreshReuseDetected
);

/// Asks for an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The address, the login name.
    pub email: String,
    /// The password, 10 to 128 characters.
    pub password: Secret,
}

/// Answers a registration; the same whether or not the address was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The user.
    pub user_id: UserId,
}

/// Proves an address with the token that was sent to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyEmail {
    /// The user.
    pub user_id: UserId,
    /// The token.
    pub token: Secret,
}

/// Logs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address.
    pub email: String,
    /// The password.
    pub password: Secret,
}

/// Asks for new tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The refresh token, good for one use.
    pub refresh_token: Secret,
}

/// Answers a login or refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The access token, a JWT.
    pub access_token: Secret,
    /// The refresh token.
    pub refresh_token: Secret,
    /// How many seconds the access token lives.
    pub expires_in: u64,
    /// Always `Bearer`.
    pub token_type: String,
}

/// Gives or takes a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRole {
    /// The role.
    pub role: Role,
    /// True to give it, false to take it.
    pub grant: bool,
}

/// A user as seen by the user and by support.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The user.
    pub user_id: UserId,
    /// The state, `active` for one who may log in.
    pub status: String,
    /// The roles.
    pub roles: Vec<Role>,
}
