//! Turns envelopes into broker records and back: CloudEvents, Kafka binary mode.

use std::fmt::Display;
use std::io::Write;
use std::str::FromStr;

use amarra_core::{AggregateId, Class, Classify, Envelope, PartitionKey, Timestamp, Version};
use bytes::Bytes;

use crate::headers::{self, Headers};
use crate::message::{Delivery, Incoming, Pos, Position, Record, Shard, Turn};

/// Room for the headers of an ordinary envelope.
const HEADERS_BYTES: usize = 640;
/// Room for those of a position.
const POSITION_BYTES: usize = 96;

/// Why a record is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A required header is missing.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A header does not parse.
    #[error("header {name} does not parse: {why}")]
    Malformed {
        /// The header.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Another version of CloudEvents.
    #[error("specversion is {0:?}, only 1.0 is understood")]
    SpecVersion(String),
}

impl Classify for WireError {
    /// Always [`Class::Fatal`]: the same bytes never decode later.
    fn class(&self) -> Class {
        Class::Fatal
    }
}

/// Encodes an envelope as a record, with its outbox position when it has one.
#[must_use]
pub fn encode(envelope: &Envelope, position: Option<&Position>) -> Record {
    let mut headers = Vec::with_capacity(HEADERS_BYTES);
    put(&mut headers, "ce_specversion", "1.0");
    put(&mut headers, "ce_id", envelope.id);
    put(&mut headers, "ce_source", &envelope.source);
    put(&mut headers, "ce_type", &envelope.kind);
    put(&mut headers, "ce_time", envelope.time);
    put(&mut headers, "ce_timemicros", envelope.time.as_micros());
    put(&mut headers, "ce_subject", &envelope.subject);
    put(&mut headers, "ce_subjectversion", envelope.subject_version);
    put(&mut headers, "ce_schemaversion", envelope.schema_version);
    put(&mut headers, "ce_partitionkey", &envelope.partition_key);
    put(&mut headers, "ce_correlationid", envelope.correlation);
    if let Some(causation) = envelope.causation {
        put(&mut headers, "ce_causationid", causation);
    }
    put(&mut headers, "ce_actor", &envelope.actor);
    put(&mut headers, "traceparent", &envelope.traceparent);
    put(&mut headers, "content-type", "application/json");
    if let Some(Position { source, shard, pos }) = position {
        put_place(&mut headers, source, *shard);
        put(&mut headers, "outbox-pos", pos);
    }
    Record {
        key: Bytes::copy_from_slice(envelope.partition_key.as_str().as_bytes()),
        headers: Headers::from_written(headers),
        value: envelope.data.clone(),
    }
}

/// Returns headers that were encoded without a position, each with its own; all in one buffer,
/// because a relay has thousands of them at a time.
///
/// `released` marks records that come out of the parked set: their positions are older than those
/// of their neighbours.
pub(crate) fn positioned<'a, I>(all: I, source: &str, shard: Shard, released: bool) -> Vec<Headers>
where
    I: Iterator<Item = (&'a Headers, Pos)> + Clone,
{
    let room =
        |(headers, _): (&Headers, _)| headers.as_bytes().len().saturating_add(POSITION_BYTES);
    let mut buffer = Vec::with_capacity(all.clone().map(room).fold(0, usize::saturating_add));
    let mut ends = Vec::with_capacity(all.size_hint().0);
    let mut place = Vec::with_capacity(POSITION_BYTES);
    put_place(&mut place, source, shard);
    for (headers, pos) in all {
        buffer.extend_from_slice(headers.as_bytes());
        buffer.extend_from_slice(&place);
        put(&mut buffer, "outbox-pos", pos);
        if released {
            put(&mut buffer, RELEASED, "1");
        }
        ends.push(buffer.len());
    }
    headers::cut(buffer, &ends)
}

/// Marks a record that comes out of the parked set.
const RELEASED: &str = "outbox-released";

fn put_place(headers: &mut Vec<u8>, source: &str, shard: Shard) {
    put(headers, "outbox-source", source);
    put(headers, "outbox-shard", shard);
}

fn put(headers: &mut Vec<u8>, name: &str, value: impl Display) {
    // Writing to a vector cannot fail.
    headers::write(headers, name, |buffer| write!(buffer, "{value}").unwrap_or_default());
}

/// Decodes a delivery.
///
/// # Errors
/// [`WireError`] names the header; the payload is not looked at.
pub fn decode(delivery: &Delivery) -> Result<Incoming, WireError> {
    let headers = Found(&delivery.record.headers);
    Ok(Incoming {
        topic: delivery.topic.clone(),
        partition: delivery.partition,
        offset: delivery.offset,
        envelope: envelope(&delivery.record)?,
        position: headers.position()?,
        turn: headers.turn(),
    })
}

/// Decodes the envelope of a record.
///
/// # Errors
/// [`WireError`] names the header; the payload is not looked at.
pub fn envelope(record: &Record) -> Result<Envelope, WireError> {
    let headers = Found(&record.headers);
    let spec = headers.text("ce_specversion")?;
    if spec != "1.0" {
        return Err(WireError::SpecVersion(spec.to_owned()));
    }
    let subject = headers.text("ce_subject")?;
    let (kind, id) = subject.split_once('/').ok_or_else(|| WireError::Malformed {
        name: "ce_subject",
        why: format!("{subject:?} is not kind/id"),
    })?;
    Ok(Envelope {
        id: headers.parse("ce_id")?,
        source: headers.text("ce_source")?.into(),
        kind: headers.text("ce_type")?.into(),
        schema_version: headers.parse("ce_schemaversion")?,
        subject: AggregateId::new(kind, id),
        subject_version: Version::new(headers.parse("ce_subjectversion")?),
        partition_key: PartitionKey::new(headers.text("ce_partitionkey")?),
        correlation: headers.parse("ce_correlationid")?,
        causation: headers.optional("ce_causationid")?,
        actor: headers.parse("ce_actor")?,
        traceparent: headers.parse("traceparent")?,
        time: Timestamp::from_micros(headers.parse("ce_timemicros")?),
        data: record.value.clone(),
    })
}

struct Found<'a>(&'a Headers);

impl<'a> Found<'a> {
    fn turn(&self) -> Turn {
        if self.0.get(RELEASED).is_some() { Turn::Released } else { Turn::InOrder }
    }

    fn position(&self) -> Result<Option<Position>, WireError> {
        if self.0.get("outbox-source").is_none() {
            return Ok(None);
        }
        Ok(Some(Position {
            source: self.text("outbox-source")?.into(),
            shard: Shard(self.parse("outbox-shard")?),
            pos: Pos(self.parse("outbox-pos")?),
        }))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, WireError> {
        let value = self.0.get(name).ok_or(WireError::Missing(name))?;
        std::str::from_utf8(value).map_err(|e| WireError::Malformed { name, why: e.to_string() })
    }

    fn parse<T: FromStr<Err: ToString>>(&self, name: &'static str) -> Result<T, WireError> {
        let text = self.text(name)?;
        text.parse().map_err(|e: T::Err| WireError::Malformed { name, why: e.to_string() })
    }

    fn optional<T: FromStr<Err: ToString>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, WireError> {
        self.0.get(name).map(|_| self.parse(name)).transpose()
    }
}
