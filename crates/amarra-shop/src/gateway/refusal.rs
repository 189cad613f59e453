//! What the gateway refuses on its own, as problem documents.

use std::time::Duration;

use amarra_core::{Class, Classify};
use amarra_resilience::{Error, Failed};
use bytes::Bytes;
use http::header::{ALLOW, HeaderValue};
use http::{Response, StatusCode};

use super::routes::Verb;
use super::upstream::Setback;
use crate::auth::TokenError;
use crate::contract::ApiError;
use crate::problem::{document, problem};

/// A request that was not answered by a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// What services refuse too.
    Api(ApiError),
    /// 405: the path has other methods.
    Method(Vec<Verb>),
    /// 414: the target is too long.
    Target,
    /// 415: the body is not JSON.
    MediaType,
}

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

impl Refusal {
    /// Answers it.
    #[must_use]
    pub fn into_response(self, instance: &str) -> Response<Bytes> {
        match self {
            Self::Api(error) => problem(&error, instance),
            Self::Method(verbs) => {
                let allow = verbs.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
                let detail = format!("use {allow}");
                let mut response = document(StatusCode::METHOD_NOT_ALLOWED, &detail, instance);
                if let Ok(allow) = HeaderValue::from_str(&allow) {
                    response.headers_mut().insert(ALLOW, allow);
                }
                response
            }
            Self::Target => {
                document(StatusCode::URI_TOO_LONG, "the request target is too long", instance)
            }
            Self::MediaType => {
                let detail = "send the body as application/json";
                document(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail, instance)
            }
        }
    }

    pub(super) fn limited(retry_after: Duration) -> Self {
        Self::Api(ApiError::TooMany { retry_after })
    }
}

/// Turns the failure of a whole call into what the client is told.
pub(super) fn of_failure(failed: &Failed<Setback>, retry_after: Duration) -> ApiError {
    let wait = failed.retry_after().unwrap_or(retry_after).max(retry_after);
    let outcome_unknown = failed.class() == Class::Unknown;
    let unavailable = |why| ApiError::Unavailable { why, retry_after: wait, outcome_unknown };
    match &failed.error {
        Error::TimedOut { .. } => ApiError::DeadlineExceeded,
        Error::DeadlinePassed if outcome_unknown => ApiError::DeadlineExceeded,
        Error::DeadlinePassed => unavailable("no time left"),
        Error::BreakerOpen(_) => unavailable("the service is recovering"),
        Error::BulkheadFull | Error::Shed | Error::RateLimited { .. } => unavailable("overload"),
        Error::HopsExhausted => ApiError::Internal("hop budget used up at the gateway".into()),
        _ => unavailable("the service does not answer"),
    }
}

/// Says in the log's words why a token was refused; the client learns less.
pub(super) fn of_token(error: TokenError) -> Refusal {
    Refusal::Api(error.into())
}
