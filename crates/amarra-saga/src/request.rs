//! The names of sagas and the idempotency keys of their requests.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names one saga instance; the id of its aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SagaId(Arc<str>);

impl SagaId {
    /// Wraps a name, unique within the service's database: often an order's id.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SagaId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which of a step's two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The step itself.
    Action,
    /// What undoes it.
    Compensation,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Action => "action",
            Self::Compensation => "compensation",
        })
    }
}

/// The idempotency key of one operation of one step: `saga:step:action` or
/// `saga:step:compensation`.
///
/// Every attempt carries the same one, a participant deduplicates by it, and a reply echoes it:
/// that is how the reply finds its step.
///
/// # Example
/// ```
/// use amarra_saga::{Op, Request, SagaId};
/// let request = Request::new(SagaId::from("o-7"), "reserve", Op::Action);
/// assert_eq!(request.to_string(), "o-7:reserve:action");
/// assert_eq!("o-7:reserve:action".parse::<Request>().unwrap(), request);
/// assert!("o-7:reserve".parse::<Request>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Request {
    /// The saga.
    pub saga: SagaId,
    /// The step's name; it holds no colon.
    pub step: Arc<str>,
    /// The operation.
    pub op: Op,
}

impl Request {
    /// Names an operation of a step of a saga.
    #[must_use]
    pub fn new(saga: SagaId, step: impl Into<Arc<str>>, op: Op) -> Self {
        Self { saga, step: step.into(), op }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.saga, self.step, self.op)
    }
}

/// Text that is not a request's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a request must look like saga:step:action or saga:step:compensation, got {0:?}")]
pub struct MalformedRequest(String);

impl FromStr for Request {
    type Err = MalformedRequest;

    fn from_str(s: &str) -> Result<Self, MalformedRequest> {
        let malformed = || MalformedRequest(s.to_owned());
        let (rest, op) = s.rsplit_once(':').ok_or_else(malformed)?;
        let (saga, step) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let op = match op {
            "action" => Op::Action,
            "compensation" => Op::Compensation,
            _ => return Err(malformed()),
        };
        if saga.is_empty() || step.is_empty() {
            return Err(malformed());
        }
        Ok(Self::new(SagaId::from(saga), step, op))
    }
}

impl TryFrom<String> for Request {
    type Error = MalformedRequest;

    fn try_from(s: String) -> Result<Self, MalformedRequest> {
        s.parse()
    }
}

impl From<Request> for String {
    fn from(request: Request) -> Self {
        request.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused() {
        for text in ["", "a", "a:b", ":b:action", "a::action", "a:b:undo", "a:b:ACTION"] {
            assert_eq!(text.parse::<Request>(), Err(MalformedRequest(text.to_owned())));
        }
    }
}
