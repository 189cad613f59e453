//! Builds every refusal of an API as a problem document.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::contract::ApiError;

/// The header that says whether a failed change may have been made.
pub const OUTCOME: HeaderName = HeaderName::from_static("amarra-outcome");

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
}

/// Answers a refusal as `application/problem+json`; `instance` is the path of the request.
///
/// What only the log may say ([`ApiError::Internal`]) is left out.
///
/// # Source
/// RFC 9457.
#[must_use]
pub fn problem(error: &ApiError, instance: &str) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = document(status, &error.to_string(), instance);
    let headers = response.headers_mut();
    match error {
        ApiError::Unauthenticated(_) => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        ApiError::TooMany { retry_after: after }
        | ApiError::Unavailable { retry_after: after, .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(*after)));
        }
        _ => {}
    }
    let unknown = match error {
        ApiError::Unavailable { outcome_unknown, .. } => *outcome_unknown,
        ApiError::DeadlineExceeded => true,
        _ => false,
    };
    if unknown {
        headers.insert(OUTCOME, HeaderValue::from_static("unknown"));
    }
    response
}

/// Answers a problem document for a status that no [`ApiError`] stands for, such as 405.
#[must_use]
pub fn document(status: StatusCode, detail: &str, instance: &str) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Refused");
    let slug = title.to_ascii_lowercase().replace(' ', "-");
    let problem = Problem {
        kind: format!("/problems/{slug}"),
        title,
        status: status.as_u16(),
        detail,
        instance,
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Rounds up, since `Retry-After: 0` invites a retry at once.
fn whole_seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(part).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &ApiError, status: u16, headers: &[(&str, &str)], detail: &str) {
        let response = problem(error, "/v1/orders");
        assert_eq!(response.status(), status);
        let all = [("content-type", "application/problem+json"), ("cache-control", "no-store")];
        for (name, value) in all.iter().chain(headers) {
            assert_eq!(response.headers()[*name], *value, "{name}");
        }
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["status"], status);
        assert_eq!(body["instance"], "/v1/orders");
        assert_eq!(body["detail"], detail);
        let slug = body["type"].as_str().unwrap().strip_prefix("/problems/").unwrap();
        assert_eq!(slug.replace('-', " "), body["title"].as_str().unwrap().to_lowercase());
    }

    #[test]
    fn each_refusal_has_its_status_and_headers() {
        let retry_after = Duration::from_millis(1_200);
        let busy =
            |outcome_unknown| ApiError::Unavailable { why: "busy", retry_after, outcome_unknown };
        check(&ApiError::NotFound, 404, &[], "not found");
        check(&ApiError::Conflict("it \"is\" so".into()), 409, &[], "it \"is\" so");
        check(
            &ApiError::TooMany { retry_after },
            429,
            &[("retry-after", "2")],
            "too many requests",
        );
        check(&busy(false), 503, &[("retry-after", "2")], "temporarily unavailable: busy");
        check(&busy(true), 503, &[("amarra-outcome", "unknown")], "temporarily unavailable: busy");
        check(&ApiError::DeadlineExceeded, 504, &[("amarra-outcome", "unknown")], {
            "the deadline passed"
        });
        let bearer = [("www-authenticate", "Bearer")];
        check(&ApiError::Unauthenticated("no token"), 401, &bearer, {
            "authentication required: no token"
        });
        assert!(!problem(&busy(false), "/").headers().contains_key(OUTCOME));
    }

    #[test]
    fn what_went_wrong_inside_stays_inside() {
        let error = ApiError::Internal("stored order/7 is corrupt: secret".into());
        let response = problem(&error, "/v1/orders/7");
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(!body.contains("secret") && !body.contains("corrupt"), "{body}");
    }

    #[test]
    fn a_retry_is_never_asked_for_at_once() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
    }
}
