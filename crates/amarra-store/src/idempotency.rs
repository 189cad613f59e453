//! Idempotency records: the same key gets the same response.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One command as its caller named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Who called; keys of two principals never meet.
    pub principal: Arc<str>,
    /// Which operation.
    pub route: Arc<str>,
    /// The caller's key.
    pub key: Arc<str>,
    /// A hash of the request, to catch a key used for another one.
    pub request_hash: [u8; 32],
}

/// How to go on with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotent {
    /// The first time: run it and record its response in the same unit.
    Fresh,
    /// It ran: answer this.
    Replay(StoredResponse),
    /// The key belongs to another request: answer 422.
    Mismatch,
    /// It is running: answer 409.
    InFlight,
}

/// A response that is replayed for its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}
