//! The CloudEvents envelope around every event and command.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use crate::id::{AggregateId, CorrelationId, EventId, PartitionKey, Version};
use crate::time::Timestamp;

/// One event or command with the context CloudEvents asks for and the shop needs.
///
/// Cheap to clone: text and data are shared.
///
/// # Source
/// CloudEvents 1.0.2; `partitionkey` and `traceparent` are its documented extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unique for ever; a re-publish carries the same id.
    pub id: EventId,
    /// Who published it: `/amarra/orders`.
    pub source: Arc<str>,
    /// The published name of its type: `OrderCreated`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// The version of the type's schema; readers upcast older ones and refuse newer ones.
    pub schema_version: u16,
    /// The aggregate it speaks of.
    pub subject: AggregateId,
    /// The aggregate's version after the change, dense per aggregate and topic.
    pub subject_version: Version,
    /// Messages of one key are delivered in commit order.
    pub partition_key: PartitionKey,
    /// The order or saga it belongs to.
    pub correlation: CorrelationId,
    /// The message that caused it, none for one caused from outside.
    pub causation: Option<EventId>,
    /// On whose behalf it happened.
    pub actor: Actor,
    /// W3C trace context.
    pub traceparent: TraceParent,
    /// When the transaction that emitted it ran, by the publisher's database.
    pub time: Timestamp,
    /// The payload, JSON in this repository's contracts.
    pub data: Bytes,
}

impl Envelope {
    /// Returns the cause to give to what this message brings about.
    #[must_use]
    pub fn as_cause(&self) -> Cause {
        Cause {
            correlation: self.correlation,
            causation: Some(self.id),
            actor: self.actor.clone(),
            traceparent: self.traceparent.clone(),
        }
    }
}

/// Why a change happens: what every event, command and audit row is stamped with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The order or saga.
    pub correlation: CorrelationId,
    /// The message being handled, none for a request from outside or a timer.
    pub causation: Option<EventId>,
    /// On whose behalf.
    pub actor: Actor,
    /// W3C trace context.
    pub traceparent: TraceParent,
}

/// On whose behalf a change happens. Never empty: the audit log depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// A customer, by user id.
    User(Arc<str>),
    /// A person of the staff, by user id.
    Admin(Arc<str>),
    /// A service acting on its own identity; sagas run on it.
    Service(Arc<str>),
    /// A durable timer of the named service.
    Timer(Arc<str>),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Admin(id) => write!(f, "admin:{id}"),
            Self::Service(id) => write!(f, "service:{id}"),
            Self::Timer(id) => write!(f, "timer:{id}"),
        }
    }
}

/// Text that does not name an actor or trace context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must look like {expected}, got {got:?}")]
pub struct ParseError {
    what: &'static str,
    expected: &'static str,
    got: String,
}

impl FromStr for Actor {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError { what: "actor", expected: "kind:id", got: s.to_owned() };
        let (kind, id) = s.split_once(':').ok_or_else(error)?;
        if id.is_empty() {
            return Err(error());
        }
        match kind {
            "user" => Ok(Self::User(id.into())),
            "admin" => Ok(Self::Admin(id.into())),
            "service" => Ok(Self::Service(id.into())),
            "timer" => Ok(Self::Timer(id.into())),
            _ => Err(error()),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A W3C `traceparent`: one trace per order, across every service and the broker.
///
/// # Source
/// W3C Trace Context, level 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: u128,
    span: u64,
}

impl TraceParent {
    /// Starts a new trace.
    #[must_use]
    pub fn root(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self { trace: u128::from_be_bytes(bytes).max(1), span: entropy.next_u64().max(1) }
    }

    /// Starts a new span of the same trace.
    #[must_use]
    pub fn child(&self, entropy: &dyn Entropy) -> Self {
        Self { trace: self.trace, span: entropy.next_u64().max(1) }
    }

    /// Returns the trace's id, equal for every span of one order.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for TraceParent {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let error = || ParseError {
            what: "traceparent",
            expected: "00-<32 hex>-<16 hex>-<2 hex>",
            got: s.to_owned(),
        };
        let parts: Vec<_> = s.split('-').collect();
        let &[version, trace, span, flags] = parts.as_slice() else { return Err(error()) };
        let hex = |text: &str, len| {
            text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if version != "00" || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return Err(error());
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| error())?;
        let span = u64::from_str_radix(span, 16).map_err(|_| error())?;
        if trace == 0 || span == 0 {
            return Err(error());
        }
        Ok(Self { trace, span })
    }
}

impl TryFrom<String> for TraceParent {
    type Error = ParseError;

    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<TraceParent> for String {
    fn from(t: TraceParent) -> Self {
        t.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn actors_round_trip_and_refuse_empty_ids() {
        for text in ["user:7", "admin:a", "service:orders", "timer:inventory"] {
            assert_eq!(text.parse::<Actor>().unwrap().to_string(), text);
        }
        for text in ["user:", "user", "robot:1", ""] {
            assert!(text.parse::<Actor>().is_err(), "{text:?} was taken for an actor");
        }
    }

    #[test]
    fn traceparents_keep_their_trace_across_children() {
        let entropy = SeededEntropy::new(1, "trace");
        let root = TraceParent::root(&entropy);
        let child = root.child(&entropy);
        assert_eq!(root.trace_id(), child.trace_id());
        assert_ne!(root, child);
        assert_eq!(child.to_string().parse::<TraceParent>().unwrap(), child);
        for bad in ["00-0-0-01", "01-".repeat(4).as_str(), &format!("00-{:032x}-{:016x}-01", 0, 1)]
        {
            assert!(bad.parse::<TraceParent>().is_err());
        }
    }
}
