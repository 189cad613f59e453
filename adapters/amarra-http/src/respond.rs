//! Turns results of the services into HTTP responses.

use amarra_shop::contract::ApiError;
use amarra_shop::problem;
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde::Serialize;

/// A service's answer before it becomes a response.
#[derive(Debug, Clone)]
pub struct Reply {
    status: StatusCode,
    body: Bytes,
    location: Option<String>,
}

/// What every route of a service returns.
pub type Outcome = Result<Reply, ApiError>;

impl Reply {
    /// Answers with a JSON body.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when the value does not serialize: a bug of ours.
    pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Outcome {
        let body = serde_json::to_vec(value).map_err(|e| ApiError::Internal(e.to_string()))?;
        Ok(Self { status, body: Bytes::from(body), location: None })
    }

    /// Answers 200 with a JSON body.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when the value does not serialize: a bug of ours.
    pub fn ok<T: Serialize>(value: &T) -> Outcome {
        Self::json(StatusCode::OK, value)
    }

    /// Answers 204 without a body.
    ///
    /// # Errors
    /// None; the type is that of the other answers.
    pub fn empty() -> Outcome {
        Ok(Self { status: StatusCode::NO_CONTENT, body: Bytes::new(), location: None })
    }

    /// Answers with a body that was stored for its idempotency key.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when the stored status is no status.
    pub fn stored(status: u16, body: Bytes) -> Outcome {
        let status = StatusCode::from_u16(status).map_err(|e| ApiError::Internal(e.to_string()))?;
        Ok(Self { status, body, location: None })
    }

    /// Names where the created thing is.
    #[must_use]
    pub fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        if let Some(value) = self.location.and_then(|l| l.try_into().ok()) {
            headers.insert(header::LOCATION, value);
        }
        response
    }
}

/// Turns an outcome into a response; `instance` is the path asked for.
pub(crate) fn respond(outcome: Outcome, instance: &str) -> Response<Body> {
    match outcome {
        Ok(reply) => reply.into_response(),
        Err(error) => problem::problem(&error, instance).map(Body::from),
    }
}

/// Answers an unknown path.
pub(crate) async fn not_found(request: axum::extract::Request) -> Response<Body> {
    respond(Err(ApiError::NotFound), request.uri().path())
}

/// Answers a known path asked with a verb it does not have.
pub(crate) async fn wrong_verb(request: axum::extract::Request) -> Response<Body> {
    let detail = "this path does not have that method";
    problem::document(StatusCode::METHOD_NOT_ALLOWED, detail, request.uri().path()).map(Body::from)
}
