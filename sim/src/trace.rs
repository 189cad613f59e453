//! The trace of a run: every event in order, hashed as it grows.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::EventId;
use amarra_shop::contract::OrderId;
use serde_json::json;

/// One thing that happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    /// Microseconds of simulated time.
    pub(crate) at_us: u64,
    /// On which node, or in which database.
    pub(crate) node: Arc<str>,
    /// What: a message's type, a state change, a fault.
    pub(crate) what: Arc<str>,
    /// The message's id, when it is a message.
    pub(crate) id: Option<EventId>,
    /// The id of what caused it.
    pub(crate) causation: Option<EventId>,
    /// The aggregate or thing it is about.
    pub(crate) subject: Arc<str>,
    /// The order it belongs to, when it belongs to one.
    pub(crate) order: Option<OrderId>,
    /// How it was seen: `emitted`, `published`, `delivered`, `saved`, `fault`, `request`.
    pub(crate) seen: &'static str,
}

impl Event {
    /// Writes it as a line of JSON.
    pub(crate) fn to_line(&self) -> String {
        json!({
            "kind": "event", "at_s": seconds(self.at_us), "node": self.node, "type": self.what,
            "id": self.id.map(|id| id.to_string()),
            "causation": self.causation.map(|id| id.to_string()),
            "subject": self.subject, "order": self.order.map(|id| id.to_string()),
            "seen": self.seen,
        })
        .to_string()
    }

    /// Writes it as a line for a person.
    pub(crate) fn to_text(&self) -> String {
        let mut line = format!(
            "{:>10.6}s {:<16} {:<9} {:<22} {}",
            seconds(self.at_us),
            self.node,
            self.seen,
            self.what,
            self.subject
        );
        if let Some(id) = self.id {
            // Writing to a string cannot fail.
            let _ = write!(line, " id {}", short(&id.to_string()));
        }
        if let Some(cause) = self.causation {
            let _ = write!(line, " because of {}", short(&cause.to_string()));
        }
        line
    }
}

/// The last characters of an id tell ids of one moment apart; the first are the time.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(12)..).unwrap_or(id)
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "simulated microseconds shown as seconds"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Collects events; shared by everything that sees any.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    /// What is not hashed yet: the hash is several times faster over long inputs.
    unhashed: Vec<u8>,
    hasher: blake3::Hasher,
}

/// Bytes that are hashed at once.
const HASHED_AT_ONCE: usize = 64 * 1024;

impl Trace {
    /// Appends an event.
    pub(crate) fn push(&self, event: Event) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { unhashed, hasher, .. } = &mut *inner;
        unhashed.extend_from_slice(&event.at_us.to_le_bytes());
        let texts = [event.node.as_ref(), event.what.as_ref(), event.subject.as_ref(), event.seen];
        for text in texts {
            unhashed.extend_from_slice(text.as_bytes());
            unhashed.push(0);
        }
        for id in [event.id, event.causation] {
            let bytes = id.map(|id| id.as_uuid().into_bytes()).unwrap_or_default();
            unhashed.extend_from_slice(&bytes);
        }
        if unhashed.len() >= HASHED_AT_ONCE {
            hasher.update(unhashed);
            unhashed.clear();
        }
        inner.events.push(event);
    }

    /// Returns the events and the hash over all of them.
    pub(crate) fn take(&self) -> (Vec<Event>, String) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = std::mem::take(&mut inner.unhashed);
        let digest = inner.hasher.update(&rest).finalize().to_hex().to_string();
        (std::mem::take(&mut inner.events), digest)
    }
}
