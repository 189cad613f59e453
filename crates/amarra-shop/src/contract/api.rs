//! Who calls, what may be asked, and how a refusal looks (RFC 9457).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Actor, Cause, Class, Classify, CodecError, CorrelationId, TraceParent};
use amarra_store::{HandlerError, TxError};
use serde::{Deserialize, Serialize};

use super::ids::UserId;

/// What a user is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Buys.
    Customer,
    /// Helps customers: reads and cancels any order.
    Support,
    /// Keeps products and prices.
    CatalogAdmin,
    /// Keeps stock.
    InventoryAdmin,
    /// Keeps payments.
    PaymentsAdmin,
    /// Reads the audit log.
    Auditor,
    /// Gives roles, and may do everything else.
    Admin,
}

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub user_id: UserId,
    /// With which roles.
    pub roles: BTreeSet<Role>,
}

impl Principal {
    /// Tells whether the user has `role`, or is an admin.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }

    /// Returns `Ok` when the user has `role`.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`].
    pub fn require(&self, role: Role) -> Result<(), ApiError> {
        if self.has(role) { Ok(()) } else { Err(ApiError::Forbidden) }
    }

    /// Returns the actor for changes this user makes.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let id = Arc::from(self.user_id.to_string());
        if self.roles.iter().any(|r| *r != Role::Customer) {
            Actor::Admin(id)
        } else {
            Actor::User(id)
        }
    }
}

/// The context of one request, as the service sees it.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who asks.
    pub principal: Principal,
    /// The trace the request belongs to.
    pub traceparent: TraceParent,
    /// The caller's idempotency key, where the operation takes one.
    pub idempotency_key: Option<Arc<str>>,
}

impl Caller {
    /// Returns the cause of what this request changes in `correlation`.
    #[must_use]
    pub fn cause(&self, correlation: CorrelationId) -> Cause {
        Cause {
            correlation,
            causation: None,
            actor: self.principal.actor(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// A refusal, mapped to a status and a problem document by the HTTP adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// 400: the request is not well formed; the text says what to change.
    #[error("{0}")]
    BadRequest(String),
    /// 401: no valid token.
    #[error("authentication required: {0}")]
    Unauthenticated(&'static str),
    /// 403: the token does not allow this.
    #[error("not allowed")]
    Forbidden,
    /// 404: no such thing, or not this caller's.
    #[error("not found")]
    NotFound,
    /// 409: the state does not allow it now; the text says what the state is.
    #[error("{0}")]
    Conflict(String),
    /// 413: the body exceeds the bound.
    #[error("request body exceeds {bound_bytes} bytes")]
    TooLarge {
        /// The bound.
        bound_bytes: usize,
    },
    /// 422: the key was used for another request, or a field has a value that cannot be.
    #[error("{0}")]
    Unprocessable(String),
    /// 429: too many requests.
    #[error("too many requests")]
    TooMany {
        /// When to try again.
        retry_after: Duration,
    },
    /// 503: try again, with the same idempotency key.
    #[error("temporarily unavailable: {why}")]
    Unavailable {
        /// Why, in words that tell an outsider nothing.
        why: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// Whether the change may have been made.
        outcome_unknown: bool,
    },
    /// 504: the deadline passed.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// 500: a bug of ours; the text goes to the log, not to the caller.
    #[error("internal error")]
    Internal(String),
}

impl ApiError {
    /// Returns the HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict(_) => 409,
            Self::TooLarge { .. } => 413,
            Self::Unprocessable(_) => 422,
            Self::TooMany { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::DeadlineExceeded => 504,
            Self::Internal(_) => 500,
        }
    }
}

impl Classify for ApiError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { outcome_unknown: true, .. } | Self::DeadlineExceeded => {
                Class::Unknown
            }
            Self::Unavailable { .. } | Self::TooMany { .. } => Class::Transient,
            Self::Internal(_) => Class::Fatal,
            _ => Class::Rejected,
        }
    }
}

impl From<TxError> for ApiError {
    fn from(e: TxError) -> Self {
        let retry_after = Duration::from_secs(1);
        match e.class() {
            Class::Transient | Class::Conflict => {
                Self::Unavailable { why: "database busy", retry_after, outcome_unknown: false }
            }
            Class::Unknown => {
                Self::Unavailable { why: "database", retry_after, outcome_unknown: true }
            }
            Class::Rejected => Self::Unprocessable(e.to_string()),
            Class::Fatal => Self::Internal(e.to_string()),
        }
    }
}

impl From<CodecError> for ApiError {
    fn from(e: CodecError) -> Self {
        Self::Internal(e.to_string())
    }
}

impl From<HandlerError> for ApiError {
    fn from(e: HandlerError) -> Self {
        match e {
            HandlerError::Tx(e) => e.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}
