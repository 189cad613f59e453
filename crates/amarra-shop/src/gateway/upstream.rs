//! The port to the services, and what their answers say about their health.

use std::fmt;

use amarra_core::{Class, Classify};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::problem::OUTCOME;

/// Sends requests to services by name.
///
/// A request is sent at most once per call, since repeating it is the gateway's decision, and
/// [`UpstreamError::NotSent`] is answered only when the service surely saw nothing.
///
/// # Cancellation
/// A dropped future leaves it open whether the service acted.
#[async_trait]
pub trait Upstream: Send + Sync + fmt::Debug {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// [`UpstreamError`]; an answer with an error status is `Ok`.
    async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError>;
}

/// Why a service gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Nothing was sent. Class `Transient`.
    #[error("not sent: {why}")]
    NotSent {
        /// What the transport said.
        why: String,
    },
    /// It may have acted. Class `Unknown`.
    #[error("no answer: {why}")]
    Unknown {
        /// What the transport said.
        why: String,
    },
}

impl Classify for UpstreamError {
    fn class(&self) -> Class {
        match self {
            Self::NotSent { .. } => Class::Transient,
            Self::Unknown { .. } => Class::Unknown,
        }
    }
}

/// A try that did not give an answer to pass on at once.
#[derive(Debug)]
pub(super) enum Setback {
    /// No answer.
    Silence(UpstreamError),
    /// An answer that says the service is not well.
    Unwell(Box<Response<Bytes>>),
}

impl Setback {
    /// Sorts an answer: refusals of the request, 429 among them, say nothing against the service,
    /// or one client could close it to all.
    pub(super) fn of(
        result: Result<Response<Bytes>, UpstreamError>,
    ) -> Result<Response<Bytes>, Self> {
        match result {
            Ok(response) if response.status().is_server_error() => {
                Err(Self::Unwell(Box::new(response)))
            }
            Ok(response) => Ok(response),
            Err(error) => Err(Self::Silence(error)),
        }
    }
}

impl Classify for Setback {
    fn class(&self) -> Class {
        match self {
            Self::Silence(error) => error.class(),
            // A 503 says that nothing was done, unless it says that it does not know.
            Self::Unwell(response)
                if response.status() == http::StatusCode::SERVICE_UNAVAILABLE
                    && !response.headers().contains_key(OUTCOME) =>
            {
                Class::Transient
            }
            Self::Unwell(_) => Class::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_speaks_against_the_service_is_a_setback() {
        let check = |status: u16, outcome: bool, expect: Option<Class>| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status.try_into().unwrap();
            if outcome {
                response.headers_mut().insert(OUTCOME, "unknown".parse().unwrap());
            }
            let class = Setback::of(Ok(response)).err().map(|setback| setback.class());
            assert_eq!(class, expect, "{status}");
        };
        for status in [200, 201, 202, 204, 400, 401, 403, 404, 409, 422, 429] {
            check(status, false, None);
        }
        check(503, false, Some(Class::Transient));
        check(503, true, Some(Class::Unknown));
        check(500, false, Some(Class::Unknown));
        check(502, false, Some(Class::Unknown));
        check(504, false, Some(Class::Unknown));
    }
}
