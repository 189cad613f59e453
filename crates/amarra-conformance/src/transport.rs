//! The laws of `Transport` and `Session`: durable, in order, fenced, and where Kafka puts a key.

mod store;
mod takeover;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use amarra_core::{Class, Classify};
use amarra_messaging::message::Delivery;
use amarra_messaging::transport::Publish;
use amarra_messaging::{PublishError, Record, Session};
use bytes::Bytes;

use crate::backend::{BrokerBackend, PublishLoss};
use crate::broker::{SOURCE, lease, number, numbers, open, publish, publish_all, read_all, topic};
use crate::check::{Must, refusal};
use crate::law::suite;
use crate::partition::{GOLDEN, partition_of};

pub use store::*;
pub use takeover::*;
pub use whole::*;

suite! {
    ($)
    /// Expands to the laws of `Transport` and its sessions for one `BrokerBackend`.
    transport_laws in transport for BrokerBackend {
        Transport:
            "TRN-1" trn_1_a_newer_session_fences_the_older_one,
            "TRN-1" trn_1_an_older_epoch_does_not_open_any_more,
            "TRN-1" trn_1_shards_do_not_fence_each_other,
            "TRN-1" trn_1_outboxes_do_not_fence_each_other,
            "TRN-1" trn_1_the_holder_of_an_epoch_may_open_again,
            "TRN-1" trn_1_an_epoch_survives_a_crash,
            "TRN-1" trn_1_of_many_that_open_at_once_the_newest_remains,
            "TRN-1" trn_1_epochs_may_skip_numbers,
            "TRN-1" trn_1_a_dropped_session_leaves_its_fence;
        Session:
            "TRN-2" trn_2_an_acknowledged_record_is_readable_as_it_was_given,
            "TRN-2" trn_2_an_acknowledged_record_survives_a_crash,
            "TRN-2" trn_2_publishing_nothing_is_well,
            "TRN-2" trn_2_an_empty_value_is_stored,
            "TRN-2" trn_2_a_long_call_is_stored_to_its_end,
            "TRN-2" trn_2_a_call_of_records_at_the_bound_is_stored,
            "TRN-2" trn_2_a_call_to_several_topics_stores_in_each,
            "TRN-2" trn_2_sessions_side_by_side_store_everything,
            "TRN-2" trn_2_publishing_goes_on_after_a_crash,
            "TRN-3" trn_3_one_call_stores_each_key_in_order,
            "TRN-3" trn_3_calls_store_each_key_in_call_order,
            "TRN-3" trn_3_a_retry_inside_the_session_stores_nothing_twice,
            "TRN-3" trn_3_keys_of_several_topics_are_ordered_in_each,
            "TRN-3" trn_3_order_holds_over_takeovers_there_and_back,
            "TRN-4" trn_4_a_refused_record_is_named_and_those_before_it_are_stored,
            "TRN-4" trn_4_after_a_lost_request_publishing_again_completes_in_order,
            "TRN-4" trn_4_after_a_lost_answer_publishing_again_reorders_nothing,
            "TRN-4" trn_4_a_refused_first_record_stands_for_itself,
            "TRN-4" trn_4_one_loss_after_another_loses_and_reorders_nothing,
            "TRN-5" trn_5_a_fenced_session_stores_nothing,
            "TRN-5" trn_5_a_zombie_among_its_successors_calls_stores_nothing,
            "TRN-5" trn_5_nothing_of_a_zombie_follows_its_successors_records,
            "TRN-6" trn_6_keys_go_where_kafka_puts_them,
            "TRN-6" trn_6_equal_keys_of_two_sessions_meet_in_one_partition,
            "TRN-6" trn_6_equal_keys_of_two_topics_have_equal_partitions,
            "TRN-6" trn_6_a_key_keeps_its_partition_over_a_crash,
            "TRN-7" trn_7_a_call_whose_request_was_lost_is_readable_whole_or_not,
            "TRN-7" trn_7_a_call_whose_answer_was_lost_is_readable_whole_or_not,
            "TRN-7" trn_7_a_call_that_was_dropped_is_readable_whole_or_not;
    }
}

#[track_caller]
fn assert_fenced(answer: Result<(), PublishError>, what: &str) {
    let e = refusal(answer, what);
    assert!(matches!(e, PublishError::Fenced { .. }), "{what}: {e}");
    assert_eq!(e.class(), Class::Conflict);
}

async fn publish_ok(session: &mut dyn Session, records: &[Publish]) {
    session.publish(records).await.must("publish");
}

/// Opening is taking over: the older session finds out at its next call.
pub async fn trn_1_a_newer_session_fences_the_older_one<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 1)]).await;
    let mut new = open(&b, "new", &lease(0, 2)).await;
    assert_fenced(old.publish(&[publish(&topic, "k", 9)]).await, "an older session");
    publish_ok(new.as_mut(), &[publish(&topic, "k", 2)]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 2).await, "k"), [1, 2]);
}

/// A zombie that comes back with its old lease gets no session.
pub async fn trn_1_an_older_epoch_does_not_open_any_more<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut new = open(&b, "new", &lease(0, 7)).await;
    for epoch in [1, 6] {
        let opened = b.transport("old", SOURCE).open(&lease(0, epoch)).await;
        match opened {
            Err(e) => assert!(matches!(e, PublishError::Fenced { .. }), "epoch {epoch}: {e}"),
            // A broker that fences by its own counter may find out at the first call.
            Ok(mut session) => {
                assert_fenced(session.publish(&[publish(&topic, "k", 9)]).await, "an old epoch");
            }
        }
    }
    publish_ok(new.as_mut(), &[publish(&topic, "k", 1)]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 1).await, "k"), [1]);
}

/// A lease is on one shard, and so is its fence.
pub async fn trn_1_shards_do_not_fence_each_other<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut first = open(&b, "a", &lease(0, 1)).await;
    let mut second = open(&b, "a", &lease(1, 9)).await;
    publish_ok(first.as_mut(), &[publish(&topic, "k", 1)]).await;
    publish_ok(second.as_mut(), &[publish(&topic, "l", 2)]).await;
    publish_ok(first.as_mut(), &[publish(&topic, "k", 3)]).await;
    assert_eq!(read_all(&b, &topic, 3).await.len(), 3);
}

/// Shards of two outboxes have the same number and nothing else in common.
pub async fn trn_1_outboxes_do_not_fence_each_other<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut ours = open(&b, "a", &lease(0, 1)).await;
    let mut theirs = b.transport("c", "payments").open(&lease(0, 9)).await.must("open a session");
    publish_ok(ours.as_mut(), &[publish(&topic, "k", 1)]).await;
    publish_ok(theirs.as_mut(), &[publish(&topic, "k", 2)]).await;
    publish_ok(ours.as_mut(), &[publish(&topic, "k", 3)]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 3).await, "k"), [1, 2, 3]);
}

/// A relay that lost its connection, not its lease, goes on.
pub async fn trn_1_the_holder_of_an_epoch_may_open_again<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for number in 1..=3 {
        let mut session = open(&b, "a", &lease(0, 4)).await;
        publish_ok(session.as_mut(), &[publish(&topic, "k", number)]).await;
    }
    assert_eq!(numbers(&read_all(&b, &topic, 3).await, "k"), [1, 2, 3]);
}

/// A broker that comes back remembers whom it fenced.
pub async fn trn_1_an_epoch_survives_a_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 1)]).await;
    let new = open(&b, "new", &lease(0, 2)).await;
    b.crash().await;
    assert!(old.publish(&[publish(&topic, "k", 9)]).await.is_err(), "a zombie after a crash");
    if let Ok(mut session) = b.transport("old", SOURCE).open(&lease(0, 1)).await {
        assert!(session.publish(&[publish(&topic, "k", 9)]).await.is_err(), "a zombie came back");
    }
    drop(new);
    assert_eq!(numbers(&read_all(&b, &topic, 1).await, "k"), [1]);
}

/// Key, headers in order with repeats, and value, whatever bytes they hold.
pub async fn trn_2_an_acknowledged_record_is_readable_as_it_was_given<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let record = Record {
        key: Bytes::from((1..=255).collect::<Vec<u8>>()),
        headers: [("b", b"1".as_slice()), ("a", b"".as_slice()), ("b", [0, 255, 10].as_slice())]
            .into_iter()
            .collect(),
        value: Bytes::from((0..=255).collect::<Vec<u8>>()),
    };
    let mut session = open(&b, "a", &lease(0, 1)).await;
    let call = [Publish { topic: topic.clone(), record: record.clone() }];
    publish_ok(session.as_mut(), &call).await;
    let read = read_all(&b, &topic, 1).await;
    assert_eq!(read.into_iter().map(|d| d.record).collect::<Vec<_>>(), [record]);
}

/// `Ok` is as durable as the broker promises.
pub async fn trn_2_an_acknowledged_record_survives_a_crash<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let records: Vec<_> = (0..9).map(|n| publish(&topic, &format!("k{}", n % 3), n)).collect();
    let mut session = open(&b, "a", &lease(0, 1)).await;
    publish_ok(session.as_mut(), &records).await;
    b.crash().await;
    let mut kept: Vec<_> = read_all(&b, &topic, 9).await.iter().map(number).collect();
    kept.sort_unstable();
    assert_eq!(kept, (0..9).collect::<Vec<_>>());
}

/// An empty call does nothing.
pub async fn trn_2_publishing_nothing_is_well<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 1).await;
    let mut session = open(&b, "a", &lease(0, 1)).await;
    publish_ok(session.as_mut(), &[]).await;
    publish_ok(session.as_mut(), &[publish(&topic, "k", 1)]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 1).await, "k"), [1]);
}

#[track_caller]
fn assert_ascending(read: &[Delivery]) {
    let mut last: BTreeMap<&Bytes, u32> = BTreeMap::new();
    for delivery in read {
        let number = number(delivery);
        let before = last.insert(&delivery.record.key, number);
        assert!(before.is_none_or(|n| n < number), "{number} of a key follows {before:?}");
    }
}

/// Thirty records of five keys in one call.
pub async fn trn_3_one_call_stores_each_key_in_order<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let records: Vec<_> = (0..30).map(|n| publish(&topic, &format!("k{}", n % 5), n)).collect();
    publish_ok(open(&b, "a", &lease(0, 1)).await.as_mut(), &records).await;
    let read = read_all(&b, &topic, 30).await;
    assert_eq!(read.len(), 30);
    assert_ascending(&read);
}

/// The same over calls of different sizes.
pub async fn trn_3_calls_store_each_key_in_call_order<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let records: Vec<_> = (0..30).map(|n| publish(&topic, &format!("k{}", n % 5), n)).collect();
    let mut session = open(&b, "a", &lease(0, 1)).await;
    for call in [&records[..1], &records[1..10], &records[10..12], &records[12..]] {
        publish_ok(session.as_mut(), call).await;
    }
    let read = read_all(&b, &topic, 30).await;
    assert_eq!(read.len(), 30);
    assert_ascending(&read);
}

/// When a call answers `Ok` although its answer was lost once, everything is there once.
pub async fn trn_3_a_retry_inside_the_session_stores_nothing_twice<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    for (loss, base) in [(PublishLoss::Answer, 0), (PublishLoss::Request, 100)] {
        let key = format!("{loss:?}");
        let records: Vec<_> = (base..base + 5).map(|n| publish(&topic, &key, n)).collect();
        let mut session = open(&b, "a", &lease(0, 1)).await;
        b.lose_publish(&topic, loss).await;
        let answer = session.publish(&records).await;
        if answer.is_ok() {
            let read = read_all(&b, &topic, 5).await;
            assert_eq!(numbers(&read, &key), (base..base + 5).collect::<Vec<_>>());
            continue;
        }
        let e = refusal(answer, "a publish with a lost message");
        let PublishError::Unavailable { acked, .. } = e else { None.must(&e.to_string()) };
        assert!(acked <= 5, "more records acknowledged than were published");
        // What the same session published once and again is still in order and complete.
        let again = session.publish(&records[acked..]).await;
        if again.is_err() {
            publish_all(&b, "a", &records[acked..]).await;
        }
        let read = numbers(&read_all(&b, &topic, 5).await, &key);
        assert_last_and_first_ascend(&read, base..base + 5);
    }
}

/// Those before it are stored, it is not, and those behind it may be published without it.
pub async fn trn_4_a_refused_record_is_named_and_those_before_it_are_stored<B: BrokerBackend>(
    b: B,
) {
    let topic = topic(&b, "things", 2).await;
    let mut records: Vec<_> = (0..5).map(|n| publish(&topic, "k", n)).collect();
    let too_large = vec![b'x'; b.record_bytes_max().saturating_add(65_536)];
    records[2].record.value = Bytes::from(too_large);
    let mut session = open(&b, "a", &lease(0, 1)).await;
    let e = refusal(session.publish(&records).await, "a record above the bound");
    assert_eq!(e.class(), Class::Rejected, "{e}");
    let PublishError::Refused { acked, .. } = e else { None.must(&e.to_string()) };
    assert_eq!(acked, 2, "the refused record is another one");
    assert_eq!(numbers(&read_all(&b, &topic, 2).await, "k"), [0, 1]);
    publish_ok(session.as_mut(), &records[3..]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 4).await, "k"), [0, 1, 3, 4]);
    let mut at_bound = publish(&topic, "at the bound", 0);
    at_bound.record.value = Bytes::from(vec![b'x'; b.record_bytes_max()]);
    publish_ok(session.as_mut(), &[at_bound]).await;
}

/// Nothing was stored; publishing from `acked` on stores everything, once and in order.
pub async fn trn_4_after_a_lost_request_publishing_again_completes_in_order<B: BrokerBackend>(
    b: B,
) {
    let read = lose_and_repeat(&b, PublishLoss::Request).await;
    assert_last_and_first_ascend(&read, 0..6);
}

/// Everything was stored; publishing again may show records twice, never in another order.
pub async fn trn_4_after_a_lost_answer_publishing_again_reorders_nothing<B: BrokerBackend>(b: B) {
    let read = lose_and_repeat(&b, PublishLoss::Answer).await;
    assert_last_and_first_ascend(&read, 0..6);
}

async fn lose_and_repeat<B: BrokerBackend>(b: &B, loss: PublishLoss) -> Vec<u32> {
    let topic = topic(b, "things", 2).await;
    let records: Vec<_> = (0..6).map(|n| publish(&topic, "k", n)).collect();
    let mut session = open(b, "a", &lease(0, 1)).await;
    publish_ok(session.as_mut(), &records[..1]).await;
    b.lose_publish(&topic, loss).await;
    match session.publish(&records[1..5]).await {
        Ok(()) => {}
        Err(PublishError::Unavailable { acked, .. }) => {
            publish_all(b, "a", &records[1 + acked..5]).await;
        }
        Err(e) => None.must(&format!("a lost message: {e}")),
    }
    publish_all(b, "a", &records[5..]).await;
    numbers(&read_all(b, &topic, 6).await, "k")
}

/// Asserts that all numbers are there, and that whoever keeps the first or the last of each
/// number's records reads them in order.
#[track_caller]
fn assert_last_and_first_ascend(read: &[u32], expect: std::ops::Range<u32>) {
    let distinct: BTreeSet<_> = read.iter().copied().collect();
    assert_eq!(distinct, expect.collect(), "records are missing");
    for reversed in [false, true] {
        let mut seen = BTreeSet::new();
        let mut order: Vec<_> =
            if reversed { read.iter().rev().collect() } else { read.iter().collect() };
        order.retain(|number| seen.insert(**number));
        if reversed {
            order.reverse();
        }
        assert!(order.is_sorted(), "reordered: {read:?}");
    }
}

/// Not even a part of a zombie's call is stored.
pub async fn trn_5_a_fenced_session_stores_nothing<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 0)]).await;
    let _new = open(&b, "new", &lease(0, 2)).await;
    let records: Vec<_> = (1..10).map(|n| publish(&topic, &format!("k{n}"), n)).collect();
    assert_fenced(old.publish(&records).await, "a fenced session");
    assert_fenced(old.publish(&records).await, "a fenced session that tries again");
    let read = read_all(&b, &topic, 1).await;
    assert_eq!(read.iter().map(number).collect::<Vec<_>>(), [0]);
}

/// A paused relay that wakes up between two calls of its successor does not get in between.
pub async fn trn_5_a_zombie_among_its_successors_calls_stores_nothing<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 0)]).await;
    let mut new = open(&b, "new", &lease(0, 2)).await;
    for n in 1..=4 {
        publish_ok(new.as_mut(), &[publish(&topic, "k", n)]).await;
        assert_fenced(old.publish(&[publish(&topic, "k", 100 + n)]).await, "a zombie");
    }
    assert_eq!(numbers(&read_all(&b, &topic, 5).await, "k"), [0, 1, 2, 3, 4]);
}

/// Kafka's own test vectors, and keys of many lengths, over several numbers of partitions.
pub async fn trn_6_keys_go_where_kafka_puts_them<B: BrokerBackend>(b: B) {
    let mut keys: Vec<String> = GOLDEN.iter().map(|(key, _)| (*key).to_owned()).collect();
    keys.extend((1..20).map(|n| "käse☃".repeat(n)));
    keys.extend((0..20).map(|n| format!("order-{n}")));
    let mut session = open(&b, "a", &lease(0, 1)).await;
    for partitions in [1, 2, 3, 7, 12] {
        let topic = topic(&b, &format!("things-{partitions}"), partitions).await;
        let records: Vec<_> =
            keys.iter().zip(0..).map(|(key, n)| publish(&topic, key, n)).collect();
        publish_ok(session.as_mut(), &records).await;
        let read = read_all(&b, &topic, keys.len()).await;
        assert_eq!(read.len(), keys.len());
        for delivery in read {
            let expect = partition_of(&delivery.record.key, partitions);
            let key = &delivery.record.key;
            assert_eq!(delivery.partition.0, expect, "{key:?} of {partitions} partitions");
        }
    }
}

/// Whoever publishes a key, it has one partition.
pub async fn trn_6_equal_keys_of_two_sessions_meet_in_one_partition<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 5).await;
    for shard in 0..3 {
        let mut session = open(&b, &format!("relay-{shard}"), &lease(shard, 1)).await;
        let records: Vec<_> =
            (0..8).map(|n| publish(&topic, &format!("key-{n}"), u32::from(shard))).collect();
        publish_ok(session.as_mut(), &records).await;
    }
    let mut partitions: BTreeMap<Bytes, BTreeSet<u32>> = BTreeMap::new();
    for delivery in read_all(&b, &topic, 24).await {
        partitions.entry(delivery.record.key).or_default().insert(delivery.partition.0);
    }
    assert!(partitions.values().all(|of| of.len() == 1), "a key has two: {partitions:?}");
    let used: BTreeSet<_> = partitions.into_values().flatten().collect();
    assert!(used.len() > 1, "eight keys share one partition of five");
}
