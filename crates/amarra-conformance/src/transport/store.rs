//! What is stored of calls of many shapes, and where.

use std::collections::{BTreeMap, BTreeSet};

use amarra_core::{Class, Classify};
use amarra_messaging::PublishError;
use bytes::Bytes;
use futures_util::future::join_all;

use super::{assert_ascending, assert_last_and_first_ascend, publish_ok};
use crate::backend::{BrokerBackend, PublishLoss};
use crate::broker::{lease, number, numbers, open, publish, publish_all, read_all, topic};
use crate::check::{Must, refusal};

/// Nothing is not null.
pub async fn trn_2_an_empty_value_is_stored<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut empty = publish(&topic, "k", 1);
    empty.record.value = Bytes::new();
    let mut session = open(&b, "a", &lease(0, 1)).await;
    publish_ok(session.as_mut(), &[empty.clone(), publish(&topic, "k", 2)]).await;
    let read = read_all(&b, &topic, 2).await;
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].record, empty.record);
    assert_eq!(number(&read[1]), 2);
}

/// A call is as long as a relay's chunk.
pub async fn trn_2_a_long_call_is_stored_to_its_end<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let records: Vec<_> = (0..1000).map(|n| publish(&topic, &format!("k{}", n % 17), n)).collect();
    publish_ok(open(&b, "a", &lease(0, 1)).await.as_mut(), &records).await;
    let read = read_all(&b, &topic, 1000).await;
    let distinct: BTreeSet<u32> = read.iter().map(number).collect();
    assert_eq!(distinct.len(), 1000, "records are missing");
    assert_ascending(&read);
}

/// Whatever is buffered on the way, a call may be larger than it.
pub async fn trn_2_a_call_of_records_at_the_bound_is_stored<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let value = Bytes::from(vec![b'7'; b.record_bytes_max()]);
    let records: Vec<_> = (0..4)
        .map(|n| {
            let mut record = publish(&topic, "k", n);
            record.record.value = value.clone();
            record
        })
        .collect();
    publish_ok(open(&b, "a", &lease(0, 1)).await.as_mut(), &records).await;
    let read = read_all(&b, &topic, 4).await;
    let expect: Vec<_> = records.into_iter().map(|publish| publish.record).collect();
    assert_eq!(read.into_iter().map(|d| d.record).collect::<Vec<_>>(), expect);
}

/// Each record goes to the topic it names.
pub async fn trn_2_a_call_to_several_topics_stores_in_each<B: BrokerBackend>(b: B) {
    let (things, others) = (topic(&b, "things", 2).await, topic(&b, "others", 3).await);
    let records: Vec<_> = (0..12)
        .map(|n| publish(if n % 3 == 0 { &others } else { &things }, &format!("k{}", n % 2), n))
        .collect();
    publish_ok(open(&b, "a", &lease(0, 1)).await.as_mut(), &records).await;
    for (topic, expect) in
        [(&things, [1, 2, 4, 5, 7, 8, 10, 11].as_slice()), (&others, &[0, 3, 6, 9])]
    {
        let read = read_all(&b, topic, expect.len()).await;
        let mut all: Vec<u32> = read.iter().map(number).collect();
        all.sort_unstable();
        assert_eq!(all, expect, "records of {topic:?}");
        assert_ascending(&read);
    }
}

/// Shards are published side by side.
pub async fn trn_2_sessions_side_by_side_store_everything<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    join_all((0_u16..4).map(|shard| {
        let (b, topic) = (&b, &topic);
        async move {
            let mut session = open(b, &format!("relay-{shard}"), &lease(shard, 1)).await;
            for call in 0..5 {
                let base = u32::from(shard) * 1000 + call * 5;
                let records: Vec<_> = (base..base + 5)
                    .map(|n| publish(topic, &format!("k{shard}-{}", n % 2), n))
                    .collect();
                publish_ok(session.as_mut(), &records).await;
            }
        }
    }))
    .await;
    let read = read_all(&b, &topic, 100).await;
    assert_eq!(read.len(), 100);
    assert_ascending(&read);
}

/// A relay opens its sessions again once the broker is back, and goes on.
pub async fn trn_2_publishing_goes_on_after_a_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let records: Vec<_> = (0..10).map(|n| publish(&topic, "k", n)).collect();
    publish_all(&b, "a", &records[..5]).await;
    b.crash().await;
    publish_all(&b, "a", &records[5..]).await;
    assert_last_and_first_ascend(&numbers(&read_all(&b, &topic, 10).await, "k"), 0..10);
}

/// One key in two topics is two orders, each kept.
pub async fn trn_3_keys_of_several_topics_are_ordered_in_each<B: BrokerBackend>(b: B) {
    let topics = [topic(&b, "things", 2).await, topic(&b, "others", 2).await];
    let mut session = open(&b, "a", &lease(0, 1)).await;
    for call in 0..4 {
        let records: Vec<_> = (call * 10..call * 10 + 10)
            .map(|n| publish(&topics[usize::from(n % 3 == 0)], &format!("k{}", n % 2), n))
            .collect();
        publish_ok(session.as_mut(), &records).await;
    }
    let mut count = 0;
    for topic in &topics {
        let read = read_all(&b, topic, 1).await;
        count += read.len();
        assert_ascending(&read);
    }
    assert_eq!(count, 40);
}

/// There is nothing before it, and what is behind it may go.
pub async fn trn_4_a_refused_first_record_stands_for_itself<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut records: Vec<_> = (0..3).map(|n| publish(&topic, "k", n)).collect();
    let too_large = vec![b'x'; b.record_bytes_max().saturating_add(65_536)];
    records[0].record.value = Bytes::from(too_large);
    let mut session = open(&b, "a", &lease(0, 1)).await;
    for _ in 0..2 {
        let e = refusal(session.publish(&records).await, "a record above the bound");
        assert_eq!(e.class(), Class::Rejected, "{e}");
        assert!(matches!(e, PublishError::Refused { acked: 0, .. }), "{e}");
    }
    publish_ok(session.as_mut(), &records[1..]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 2).await, "k"), [1, 2]);
}

/// Requests and answers lost in turn, call after call.
pub async fn trn_4_one_loss_after_another_loses_and_reorders_nothing<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let losses = [PublishLoss::Answer, PublishLoss::Request, PublishLoss::Answer];
    let records: Vec<_> = (0..12).map(|n| publish(&topic, "k", n)).collect();
    for (call, loss) in records.chunks(4).zip(losses) {
        let mut session = open(&b, "a", &lease(0, 1)).await;
        b.lose_publish(&topic, loss).await;
        match session.publish(call).await {
            Ok(()) => {}
            Err(PublishError::Unavailable { acked, .. }) => {
                publish_all(&b, "a", &call[acked..]).await;
            }
            Err(e) => None.must(&format!("a lost message: {e}")),
        }
    }
    assert_last_and_first_ascend(&numbers(&read_all(&b, &topic, 12).await, "k"), 0..12);
}

/// What is keyed alike in two topics of one size can be read side by side.
pub async fn trn_6_equal_keys_of_two_topics_have_equal_partitions<B: BrokerBackend>(b: B) {
    let mut places: Vec<BTreeMap<Bytes, u32>> = Vec::new();
    for name in ["things", "others"] {
        let topic = topic(&b, name, 4).await;
        let records: Vec<_> = (0..16).map(|n| publish(&topic, &format!("key-{n}"), n)).collect();
        publish_ok(open(&b, "a", &lease(0, 1)).await.as_mut(), &records).await;
        let read = read_all(&b, &topic, 16).await;
        places.push(read.into_iter().map(|d| (d.record.key, d.partition.0)).collect());
    }
    assert_eq!(places[0].len(), 16);
    assert_eq!(places[0], places[1]);
}

/// Before and after.
pub async fn trn_6_a_key_keeps_its_partition_over_a_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 4).await;
    let records: Vec<_> = (0..8).map(|n| publish(&topic, &format!("key-{n}"), n)).collect();
    publish_all(&b, "a", &records).await;
    b.crash().await;
    publish_all(&b, "a", &records).await;
    let mut places: BTreeMap<Bytes, BTreeSet<u32>> = BTreeMap::new();
    for delivery in read_all(&b, &topic, 16).await {
        places.entry(delivery.record.key).or_default().insert(delivery.partition.0);
    }
    assert!(places.values().all(|of| of.len() == 1), "a key has two partitions: {places:?}");
    assert_eq!(places.len(), 8);
}
