//! The laws of `Processor`: each message applied once, batches whole, followers behind a poison.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::{Class, Classify, PartitionKey};
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Group, Headers, Topic};
use bytes::Bytes;
use futures_util::future::join;

use crate::backend::{CommitLoss, ProcessorBackend, StoreBackend};
use crate::check::{Must, refusal, transact};
use crate::law::suite;
use crate::ledger::{Ledger, NOTED, POISON, delivery, event, events, noted};

suite! {
    ($)
    /// Expands to the laws of `Processor` for one `ProcessorBackend`.
    processor_laws in processor for ProcessorBackend {
        Processor:
            "PRC-1" prc_1_a_batch_is_applied_in_order,
            "PRC-1" prc_1_an_empty_batch_is_well,
            "PRC-1" prc_1_a_duplicate_within_a_batch_is_skipped,
            "PRC-1" prc_1_a_refused_message_is_named_and_its_batch_leaves_no_trace,
            "PRC-1" prc_1_an_undecodable_message_is_named_and_its_batch_leaves_no_trace,
            "PRC-1" prc_1_a_transient_failure_leaves_no_trace,
            "PRC-2" prc_2_applying_a_batch_again_changes_nothing,
            "PRC-2" prc_2_applying_an_overlapping_batch_applies_the_rest,
            "PRC-2" prc_2_applying_again_after_an_unknown_commit_applies_once,
            "PRC-2" prc_2_two_that_apply_one_batch_at_once_apply_it_once,
            "PRC-2" prc_2_a_crash_between_two_tries_changes_nothing,
            "PRC-3" prc_3_followers_of_a_parked_key_are_parked_behind_it,
            "PRC-3" prc_3_other_keys_of_the_batch_are_applied,
            "PRC-3" prc_3_parking_again_parks_once,
            "PRC-3" prc_3_a_parked_message_that_comes_again_is_not_applied,
            "PRC-3" prc_3_an_undecodable_message_parks_its_key;
    }
}

fn processor<B: ProcessorBackend>(b: &B, client: &str) -> Arc<dyn Processor> {
    b.processor(client, Arc::new(Ledger::default()))
}

fn batch<B: ProcessorBackend>(b: &B, key: &str, offsets: std::ops::Range<u64>) -> Vec<Delivery> {
    offsets.map(|offset| delivery(&b.env(), NOTED, key, offset)).collect()
}

async fn apply(processor: &dyn Processor, batch: &[Delivery]) {
    processor.apply(batch).await.must("apply");
}

/// Takes everything out of the parking lot of a key, in order.
async fn parked<B: StoreBackend>(b: &B, key: &PartitionKey) -> Vec<Delivery> {
    let (group, topic) = (Group::from("ledger"), Topic::from("things"));
    let mut all = Vec::new();
    while let Some(next) = transact(&b.env(), b.store("observer").as_ref(), async |unit| {
        let Some(parked) = unit.first_parked(&group, &topic, key).await? else { return Ok(None) };
        unit.unpark(&group, parked.ticket).await?;
        Ok(Some(parked.delivery))
    })
    .await
    {
        all.push(next);
    }
    all
}

/// Two keys in one batch, each in its order.
pub async fn prc_1_a_batch_is_applied_in_order<B: ProcessorBackend>(b: B) {
    let (x, y) = (batch(&b, "x", 0..3), batch(&b, "y", 3..6));
    let mixed: Vec<_> = x.iter().zip(&y).flat_map(|(x, y)| [x.clone(), y.clone()]).collect();
    apply(processor(&b, "a").as_ref(), &mixed).await;
    assert_eq!(noted(&b, "x").await, events(&x));
    assert_eq!(noted(&b, "y").await, events(&y));
}

/// Nothing to do is done.
pub async fn prc_1_an_empty_batch_is_well<B: ProcessorBackend>(b: B) {
    apply(processor(&b, "a").as_ref(), &[]).await;
}

/// The relay published a message twice, and both came in one poll.
pub async fn prc_1_a_duplicate_within_a_batch_is_skipped<B: ProcessorBackend>(b: B) {
    let mut twice = batch(&b, "k", 0..2);
    let again = Delivery { offset: amarra_messaging::Offset(2), ..twice[0].clone() };
    let expect = events(&twice);
    twice.push(again);
    apply(processor(&b, "a").as_ref(), &twice).await;
    assert_eq!(noted(&b, "k").await, expect);
}

/// The poison is named, its class is final, and the good ones before it are rolled back too.
pub async fn prc_1_a_refused_message_is_named_and_its_batch_leaves_no_trace<B: ProcessorBackend>(
    b: B,
) {
    let mut with_poison = batch(&b, "k", 0..4);
    with_poison[2] = delivery(&b.env(), POISON, "k", 2);
    let processor = processor(&b, "a");
    let e = refusal(processor.apply(&with_poison).await, "a batch with poison in it");
    assert_eq!((e.class(), e.culprit), (Class::Rejected, Some(2)), "{e}");
    assert_eq!(noted(&b, "k").await, []);
    with_poison.remove(2);
    apply(processor.as_ref(), &with_poison).await;
    assert_eq!(noted(&b, "k").await, events(&with_poison));
}

/// The same for bytes that are no message of ours.
pub async fn prc_1_an_undecodable_message_is_named_and_its_batch_leaves_no_trace<
    B: ProcessorBackend,
>(
    b: B,
) {
    let mut garbled = batch(&b, "k", 0..3);
    garbled[1].record.headers = Headers::new();
    let e = refusal(processor(&b, "a").apply(&garbled).await, "a batch with garbage in it");
    assert_eq!((e.class(), e.culprit), (Class::Fatal, Some(1)), "{e}");
    assert_eq!(noted(&b, "k").await, []);
}

/// Surely not applied: the runtime applies the batch again.
pub async fn prc_1_a_transient_failure_leaves_no_trace<B: ProcessorBackend>(b: B) {
    let batch = batch(&b, "k", 0..3);
    let processor = processor(&b, "a");
    b.lose_commit("a", CommitLoss::BeforeSend).await;
    let e = refusal(processor.apply(&batch).await, "a commit whose connection was lost");
    assert_eq!(e.class(), Class::Transient, "{e}");
    assert_eq!(noted(&b, "k").await, []);
    apply(processor.as_ref(), &batch).await;
    assert_eq!(noted(&b, "k").await, events(&batch));
}

/// Redelivery of everything.
pub async fn prc_2_applying_a_batch_again_changes_nothing<B: ProcessorBackend>(b: B) {
    let batch = batch(&b, "k", 0..3);
    for client in ["a", "a", "c"] {
        apply(processor(&b, client).as_ref(), &batch).await;
        assert_eq!(noted(&b, "k").await, events(&batch));
    }
}

/// Redelivery from an offset committed too early.
pub async fn prc_2_applying_an_overlapping_batch_applies_the_rest<B: ProcessorBackend>(b: B) {
    let all = batch(&b, "k", 0..6);
    let processor = processor(&b, "a");
    for range in [0..3, 1..4, 0..2, 2..6] {
        apply(processor.as_ref(), &all[range]).await;
    }
    assert_eq!(noted(&b, "k").await, events(&all));
}

/// Whether the commit happened or not, the second try makes it happen once.
pub async fn prc_2_applying_again_after_an_unknown_commit_applies_once<B: ProcessorBackend>(b: B) {
    for (key, loss) in [("x", CommitLoss::Request), ("y", CommitLoss::Answer)] {
        let batch = batch(&b, key, 0..3);
        let processor = processor(&b, "a");
        b.lose_commit("a", loss).await;
        let e = refusal(processor.apply(&batch).await, "a commit whose connection was lost");
        assert_eq!(e.class(), Class::Unknown, "{e}");
        apply(processor.as_ref(), &batch).await;
        assert_eq!(noted(&b, key).await, events(&batch), "after {loss:?}");
    }
}

/// The old and new owner of a partition, across a rebalance.
pub async fn prc_2_two_that_apply_one_batch_at_once_apply_it_once<B: ProcessorBackend>(b: B) {
    let batch = batch(&b, "k", 0..4);
    let until_done = |client: &'static str| {
        let (b, batch) = (&b, &batch);
        async move {
            let processor = processor(b, client);
            for _ in 0..50 {
                match processor.apply(batch).await {
                    Ok(()) => return,
                    Err(e) => assert!(e.class().is_retryable_with_key(), "{e}"),
                }
                b.env().sleep(std::time::Duration::from_millis(1)).await;
            }
            None.must("a batch was never applied")
        }
    };
    join(until_done("a"), until_done("c")).await;
    assert_eq!(noted(&b, "k").await, events(&batch));
}

/// A database that died after the first try still knows of it.
pub async fn prc_2_a_crash_between_two_tries_changes_nothing<B: ProcessorBackend>(b: B) {
    let batch = batch(&b, "k", 0..3);
    apply(processor(&b, "a").as_ref(), &batch).await;
    b.crash().await;
    apply(processor(&b, "a").as_ref(), &batch).await;
    assert_eq!(noted(&b, "k").await, events(&batch));
}

/// What comes later for the key waits in the lot, in order, and none of it is applied.
pub async fn prc_3_followers_of_a_parked_key_are_parked_behind_it<B: ProcessorBackend>(b: B) {
    let poison = delivery(&b.env(), POISON, "k", 0);
    let followers = batch(&b, "k", 1..5);
    let processor = processor(&b, "a");
    processor.park(&poison, "poison").await.must("park");
    apply(processor.as_ref(), &followers[..2]).await;
    apply(processor.as_ref(), &followers[2..]).await;
    assert_eq!(noted(&b, "k").await, [], "a follower overtook its poison");
    let mut expect = vec![poison];
    expect.extend(followers);
    assert_eq!(parked(&b, &PartitionKey::from("k")).await, expect);
}

/// One key waits, its neighbours in the batch do not.
pub async fn prc_3_other_keys_of_the_batch_are_applied<B: ProcessorBackend>(b: B) {
    let processor = processor(&b, "a");
    processor.park(&delivery(&b.env(), POISON, "k", 0), "poison").await.must("park");
    let (mine, others) = (batch(&b, "k", 1..3), batch(&b, "other", 3..5));
    apply(processor.as_ref(), &[&mine[..], &others[..]].concat()).await;
    assert_eq!(noted(&b, "other").await, events(&others));
    assert_eq!(noted(&b, "k").await, []);
}

/// After an unknown commit the runtime parks again.
pub async fn prc_3_parking_again_parks_once<B: ProcessorBackend>(b: B) {
    let poison = delivery(&b.env(), POISON, "k", 0);
    let processor = processor(&b, "a");
    b.lose_commit("a", CommitLoss::Answer).await;
    let first = processor.park(&poison, "poison").await;
    assert_eq!(refusal(first, "a commit whose connection was lost").class(), Class::Unknown);
    processor.park(&poison, "poison").await.must("park again");
    assert_eq!(parked(&b, &PartitionKey::from("k")).await, [poison]);
}

/// Parked is dealt with: a redelivery neither applies the message nor parks it twice.
pub async fn prc_3_a_parked_message_that_comes_again_is_not_applied<B: ProcessorBackend>(b: B) {
    let message = delivery(&b.env(), NOTED, "k", 0);
    let processor = processor(&b, "a");
    processor.park(&message, "failed too often").await.must("park");
    apply(processor.as_ref(), std::slice::from_ref(&message)).await;
    assert_eq!(noted(&b, "k").await, []);
    let lot = parked(&b, &PartitionKey::from("k")).await;
    assert_eq!(lot, std::slice::from_ref(&message));
    apply(processor.as_ref(), std::slice::from_ref(&message)).await;
    assert_eq!(noted(&b, "k").await, [], "a message taken out by an operator was applied");
    assert!(event(&message) != event(&delivery(&b.env(), NOTED, "k", 1)));
}

/// Garbage has a key too, and its followers wait behind it.
pub async fn prc_3_an_undecodable_message_parks_its_key<B: ProcessorBackend>(b: B) {
    let mut garbage = delivery(&b.env(), NOTED, "k", 0);
    garbage.record.headers = Headers::new();
    garbage.record.value = Bytes::from_static(&[0xff, 0xfe]);
    let follower = delivery(&b.env(), NOTED, "k", 1);
    let processor = processor(&b, "a");
    for _ in 0..2 {
        processor.park(&garbage, "does not decode").await.must("park");
    }
    apply(processor.as_ref(), std::slice::from_ref(&follower)).await;
    let lot: Vec<_> = parked(&b, &garbage.key()).await;
    assert_eq!(lot, [garbage, follower]);
    let keys: BTreeSet<_> = lot.iter().map(Delivery::key).collect();
    assert_eq!(keys.len(), 1);
}
