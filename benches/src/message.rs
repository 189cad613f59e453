//! The messages of a run: what an order's event looks like, with a payload of 256 bytes.

use amarra_core::{AggregateId, Envelope, Timestamp, Version};
use amarra_messaging::{Outgoing, Topic};
use bytes::Bytes;
use uuid::Uuid;

use crate::Failure;

/// Bytes of a payload.
const PAYLOAD: usize = 256;
/// Keys, of which each has its turn.
const KEYS: u64 = 50_000;

/// Makes messages that differ in their number.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    topic: Topic,
    model: Envelope,
}

impl Maker {
    /// Makes messages for a topic.
    pub(crate) fn new(topic: &Topic) -> Result<Self, Failure> {
        let id = Uuid::from_u128(1);
        let model = Envelope {
            id: id.into(),
            source: "/amarra/orders".into(),
            kind: "OrderConfirmed".into(),
            schema_version: 1,
            subject: AggregateId::new("order", id.to_string()),
            subject_version: Version::new(3),
            partition_key: id.to_string().as_str().into(),
            correlation: id.into(),
            causation: Some(id.into()),
            actor: "service:orders".parse()?,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?,
            time: Timestamp::EPOCH,
            data: Bytes::new(),
        };
        Ok(Self { topic: topic.clone(), model })
    }

    /// Makes message `n`, which carries its number.
    pub(crate) fn make(&self, n: u64, time: Timestamp) -> Outgoing {
        // Spread over the keys as orders are, not one after the other.
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
        let order = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(key));
        let order = order.to_string();
        let mut data = format!("{{\"n\":{n},\"order\":\"{order}\",\"filler\":\"").into_bytes();
        fill(&mut data, n);
        data.extend_from_slice(b"\"}");
        let id = Uuid::from_u128(0x0190_1111_0000_7000_8000_0000_0000_0000 | u128::from(n));
        let envelope = Envelope {
            id: id.into(),
            subject: AggregateId::new("order", order.as_str()),
            partition_key: order.as_str().into(),
            time,
            data: data.into(),
            ..self.model.clone()
        };
        Outgoing { topic: self.topic.clone(), envelope }
    }
}

/// Fills a payload up with hexadecimal digits, which compress about as well as real ones do.
fn fill(data: &mut Vec<u8>, n: u64) {
    let mut state = n;
    while data.len() < PAYLOAD - 2 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        data.extend_from_slice(format!("{:08x}", state >> 32).as_bytes());
    }
    data.truncate(PAYLOAD - 2);
}

/// Reads the number of a message back.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(b"{\"n\":")?;
    let end = digits.iter().position(|b| *b == b',')?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_size_and_number() {
        let maker = Maker::new(&Topic::from("t")).unwrap();
        for n in [0, 7, 2_999_999] {
            let message = maker.make(n, Timestamp::EPOCH);
            assert_eq!(message.envelope.data.len(), PAYLOAD);
            assert_eq!(number(&message.envelope.data), Some(n));
        }
    }
}
