//! Turns envelopes into broker records and back: CloudEvents, Kafka binary mode.

use std::fmt::{self, Display};
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

/// What only readers of ours need: versions of subject and schema, cause and actor.
///
/// One header, because each costs the publisher, the broker and every reader more than its bytes.
const CONTEXT: &str = "ce_amarra";

/// Writes `subject version/schema version/causation/actor`; a message without a cause has `-`.
struct Context<'a>(&'a Envelope);

impl Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Envelope { subject_version, schema_version, causation, actor, .. } = self.0;
        write!(f, "{subject_version}/{schema_version}/")?;
        match causation {
            Some(causation) => write!(f, "{causation}/{actor}"),
            None => write!(f, "-/{actor}"),
        }
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
    put(&mut headers, "ce_subject", &envelope.subject);
    put(&mut headers, "ce_correlationid", envelope.correlation);
    put(&mut headers, CONTEXT, Context(envelope));
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

/// Returns when a record was published, by its publisher's clock; none for a foreign one.
#[must_use]
pub fn time(headers: &Headers) -> Option<Timestamp> {
    std::str::from_utf8(headers.get("ce_time")?).ok()?.parse().ok()
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
    let context = headers.text(CONTEXT)?;
    let mut parts = context.splitn(4, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (subject_version, schema_version) = (read(CONTEXT, part())?, read(CONTEXT, part())?);
    let causation = Some(part()).filter(|text| *text != "-");
    let key = std::str::from_utf8(&record.key);
    Ok(Envelope {
        id: headers.parse("ce_id")?,
        source: headers.text("ce_source")?.into(),
        kind: headers.text("ce_type")?.into(),
        schema_version,
        subject: AggregateId::new(kind, id),
        subject_version: Version::new(subject_version),
        partition_key: PartitionKey::new(key.map_err(|e| malformed("key", &e))?),
        correlation: headers.parse("ce_correlationid")?,
        causation: causation.map(|text| read(CONTEXT, text)).transpose()?,
        actor: read(CONTEXT, part())?,
        traceparent: headers.parse("traceparent")?,
        time: headers.parse("ce_time")?,
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
        std::str::from_utf8(value).map_err(|e| malformed(name, &e))
    }

    fn parse<T: FromStr<Err: ToString>>(&self, name: &'static str) -> Result<T, WireError> {
        read(name, self.text(name)?)
    }
}

fn read<T: FromStr<Err: ToString>>(name: &'static str, text: &str) -> Result<T, WireError> {
    text.parse().map_err(|e: T::Err| malformed(name, &e))
}

fn malformed(name: &'static str, why: &dyn ToString) -> WireError {
    WireError::Malformed { name, why: why.to_string() }
}
