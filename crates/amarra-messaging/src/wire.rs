//! Turns envelopes into broker records and back: CloudEvents, Kafka binary mode.

use std::str::FromStr;
use std::sync::Arc;

use amarra_core::{AggregateId, Class, Classify, Envelope, PartitionKey, Timestamp, Version};
use bytes::Bytes;

use crate::message::{Delivery, Incoming, Pos, Position, Record, Shard};

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
    let mut headers = Vec::with_capacity(17);
    let mut put = |name: &str, value: String| headers.push((Arc::from(name), Bytes::from(value)));
    put("ce_specversion", "1.0".to_owned());
    put("ce_id", envelope.id.to_string());
    put("ce_source", envelope.source.to_string());
    put("ce_type", envelope.kind.to_string());
    put("ce_time", envelope.time.to_string());
    put("ce_timemicros", envelope.time.as_micros().to_string());
    put("ce_subject", envelope.subject.to_string());
    put("ce_subjectversion", envelope.subject_version.to_string());
    put("ce_schemaversion", envelope.schema_version.to_string());
    put("ce_partitionkey", envelope.partition_key.to_string());
    put("ce_correlationid", envelope.correlation.to_string());
    if let Some(causation) = envelope.causation {
        put("ce_causationid", causation.to_string());
    }
    put("ce_actor", envelope.actor.to_string());
    put("traceparent", envelope.traceparent.to_string());
    put("content-type", "application/json".to_owned());
    if let Some(position) = position {
        put("outbox-source", position.source.to_string());
        put("outbox-shard", position.shard.to_string());
        put("outbox-pos", position.pos.to_string());
    }
    Record {
        key: Bytes::copy_from_slice(envelope.partition_key.as_str().as_bytes()),
        headers,
        value: envelope.data.clone(),
    }
}

/// Decodes a delivery.
///
/// # Errors
/// [`WireError`] names the header; the payload is not looked at.
pub fn decode(delivery: &Delivery) -> Result<Incoming, WireError> {
    let headers = Headers(&delivery.record);
    let spec = headers.text("ce_specversion")?;
    if spec != "1.0" {
        return Err(WireError::SpecVersion(spec.to_owned()));
    }
    let subject = headers.text("ce_subject")?;
    let (kind, id) = subject.split_once('/').ok_or_else(|| WireError::Malformed {
        name: "ce_subject",
        why: format!("{subject:?} is not kind/id"),
    })?;
    let envelope = Envelope {
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
        data: delivery.record.value.clone(),
    };
    let position = match headers.find("outbox-source") {
        None => None,
        Some(_) => Some(Position {
            source: headers.text("outbox-source")?.into(),
            shard: Shard(headers.parse("outbox-shard")?),
            pos: Pos(headers.parse("outbox-pos")?),
        }),
    };
    Ok(Incoming {
        topic: delivery.topic.clone(),
        partition: delivery.partition,
        offset: delivery.offset,
        envelope,
        position,
    })
}

struct Headers<'a>(&'a Record);

impl<'a> Headers<'a> {
    fn find(&self, name: &str) -> Option<&'a Bytes> {
        self.0.headers.iter().find(|(n, _)| n.as_ref() == name).map(|(_, value)| value)
    }

    fn text(&self, name: &'static str) -> Result<&'a str, WireError> {
        let value = self.find(name).ok_or(WireError::Missing(name))?;
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
        self.find(name).map(|_| self.parse(name)).transpose()
    }
}
