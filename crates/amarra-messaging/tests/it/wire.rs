//! Golden headers of version 1 of the wire, and what a reader says of broken ones.

use amarra_core::{
    Actor, AggregateId, Class, Classify, Envelope, PartitionKey, Timestamp, Version,
};
use amarra_messaging::message::{Delivery, Offset, Partition, Pos, Position, Shard, Turn};
use amarra_messaging::wire::{WireError, decode, encode};
use amarra_messaging::{Headers, Incoming, Record, Topic};
use bytes::Bytes;
use proptest::prelude::*;

const GOLDEN: &[(&str, &str)] = &[
    ("ce_specversion", "1.0"),
    ("ce_id", "018bcfe5-6800-7000-8000-000000000001"),
    ("ce_source", "/amarra/orders"),
    ("ce_type", "OrderCreated"),
    ("ce_time", "2023-11-14T22:13:20.000042Z"),
    ("ce_subject", "order/o-1"),
    ("ce_correlationid", "018bcfe5-6800-7000-8000-000000000002"),
    ("ce_amarra", "3/2/018bcfe5-6800-7000-8000-000000000003/user:u-7"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("content-type", "application/json"),
    ("outbox-source", "orders-db"),
    ("outbox-shard", "4"),
    ("outbox-pos", "99"),
];

fn envelope() -> Envelope {
    Envelope {
        id: "018bcfe5-6800-7000-8000-000000000001".parse().unwrap(),
        source: "/amarra/orders".into(),
        kind: "OrderCreated".into(),
        schema_version: 2,
        subject: AggregateId::new("order", "o-1"),
        subject_version: Version::new(3),
        partition_key: PartitionKey::new("o-1"),
        correlation: "018bcfe5-6800-7000-8000-000000000002".parse().unwrap(),
        causation: Some("018bcfe5-6800-7000-8000-000000000003".parse().unwrap()),
        actor: Actor::User("u-7".into()),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap(),
        time: Timestamp::from_micros(1_700_000_000_000_042),
        data: Bytes::from_static(br#"{"total":7}"#),
    }
}

fn position() -> Position {
    Position { source: "orders-db".into(), shard: Shard(4), pos: Pos(99) }
}

/// A record written by version 1, byte by byte.
fn golden() -> Record {
    Record {
        key: Bytes::from_static(b"o-1"),
        headers: GOLDEN.iter().copied().collect(),
        value: Bytes::from_static(br#"{"total":7}"#),
    }
}

/// The golden headers with another value in one place.
fn with(index: usize, value: &[u8]) -> Headers {
    let headers = GOLDEN.iter().enumerate();
    headers.map(|(i, (n, v))| (*n, if i == index { value } else { v.as_bytes() })).collect()
}

fn delivered(record: Record) -> Delivery {
    Delivery { topic: Topic::from("orders"), partition: Partition(2), offset: Offset(5), record }
}

fn incoming(envelope: Envelope, position: Option<Position>) -> Incoming {
    let (topic, partition, offset) = (Topic::from("orders"), Partition(2), Offset(5));
    Incoming { topic, partition, offset, envelope, position, turn: Turn::InOrder }
}

#[test]
fn version_1_is_written_as_ever() {
    assert_eq!(encode(&envelope(), Some(&position())), golden());
}

#[test]
fn version_1_is_read_as_ever() {
    assert_eq!(decode(&delivered(golden())), Ok(incoming(envelope(), Some(position()))));
}

#[test]
fn the_optional_headers_may_be_absent() {
    let mut plain = envelope();
    plain.causation = None;
    let record = encode(&plain, None);
    assert_eq!(record.headers.len(), GOLDEN.len() - 3);
    assert_eq!(decode(&delivered(record)), Ok(incoming(plain, None)));
}

#[test]
fn foreign_headers_and_their_order_do_not_matter() {
    let mut record = golden();
    record.headers = GOLDEN.iter().rev().copied().collect();
    record.headers.push("x-proxy", b"\xff");
    assert_eq!(decode(&delivered(record)), Ok(incoming(envelope(), Some(position()))));
}

#[test]
fn every_missing_header_is_named() {
    const OPTIONAL: [&str; 2] = ["content-type", "outbox-source"];
    for (index, (name, _)) in GOLDEN.iter().enumerate() {
        let mut record = golden();
        let kept = GOLDEN.iter().enumerate().filter(|(i, _)| *i != index);
        record.headers = kept.map(|(_, header)| *header).collect();
        let result = decode(&delivered(record));
        if OPTIONAL.contains(name) {
            assert!(result.is_ok(), "{name}: {result:?}");
        } else {
            assert_eq!(result, Err(WireError::Missing(name)));
        }
    }
}

#[test]
fn every_malformed_header_is_named() {
    const PARSED: [&str; 8] = [
        "ce_id",
        "ce_time",
        "ce_subject",
        "ce_correlationid",
        "ce_amarra",
        "traceparent",
        "outbox-shard",
        "outbox-pos",
    ];
    for (index, (name, _)) in GOLDEN.iter().enumerate() {
        let broken = |value: &'static [u8]| {
            let mut record = golden();
            record.headers = with(index, value);
            decode(&delivered(record))
        };
        if PARSED.contains(name) {
            let named =
                |result| matches!(result, Err(WireError::Malformed { name: n, .. }) if n == *name);
            assert!(named(broken(b"nonsense")), "{name}: {:?}", broken(b"nonsense"));
            assert!(named(broken(b"\xff\xfe")), "{name} that is not UTF-8");
        }
    }
}

#[test]
fn another_version_of_cloud_events_is_refused() {
    let mut record = golden();
    record.headers = with(0, b"2.0");
    let error = decode(&delivered(record)).unwrap_err();
    assert_eq!(error, WireError::SpecVersion("2.0".to_owned()));
    assert_eq!(error.class(), Class::Fatal);
}

proptest! {
    #[test]
    fn any_envelope_comes_back(
        ids in any::<[u128; 3]>(),
        (version, schema, micros) in (any::<u64>(), any::<u16>(), any::<i64>()),
        (kind, id, key) in ("[a-z]{1,8}", "\\PC{1,12}", "\\PC{0,12}"),
        data in proptest::collection::vec(any::<u8>(), 0..64),
        place in proptest::option::of((any::<u16>(), any::<u64>())),
    ) {
        let [a, b, c] = ids.map(uuid::Uuid::from_u128);
        let sent = Envelope {
            id: a.into(),
            schema_version: schema,
            subject: AggregateId::new(kind, id),
            subject_version: Version::new(version),
            partition_key: PartitionKey::new(key.clone()),
            correlation: b.into(),
            causation: Some(c.into()),
            time: Timestamp::from_micros(micros),
            data: data.into(),
            ..envelope()
        };
        let position = place.map(|(shard, pos)| Position {
            source: "db".into(),
            shard: Shard(shard),
            pos: Pos(pos),
        });
        let record = encode(&sent, position.as_ref());
        prop_assert_eq!(&record.key[..], key.as_bytes());
        prop_assert_eq!(decode(&delivered(record)), Ok(incoming(sent, position)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        headers in proptest::collection::vec(
            (proptest::sample::select(GOLDEN.iter().map(|(n, _)| *n).collect::<Vec<_>>()),
             proptest::collection::vec(any::<u8>(), 0..40)),
            0..24,
        ),
    ) {
        let headers = headers.into_iter().collect();
        let record = Record { key: Bytes::new(), headers, value: Bytes::new() };
        let _ = decode(&delivered(record));
    }
}
