//! Whether a call is stored as a whole, where the transport says so.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use amarra_messaging::message::Delivery;
use amarra_messaging::transport::Publish;
use amarra_messaging::{PublishError, Topic};
use futures_util::future::{Either, select};

use super::publish_ok;
use crate::backend::{BrokerBackend, PublishLoss};
use crate::broker::{lease, number, open, publish, read_all, topic};
use crate::check::{Must, jitter};

/// Nine records for three partitions.
fn call(topic: &Topic, base: u32) -> Vec<Publish> {
    (base..base + 9).map(|n| publish(topic, &format!("k{}", n % 6), n)).collect()
}

/// Asserts that of the call whose first number is `base` everything from `acked` on is there, or
/// nothing; and never twice, not even where a call may be stored in part.
#[track_caller]
fn assert_whole(transactional: bool, read: &[Delivery], (base, acked): (u32, usize)) {
    let from = base + u32::try_from(acked).unwrap_or(0);
    let numbers: Vec<u32> =
        read.iter().map(number).filter(|n| (from..base + 9).contains(n)).collect();
    let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
    assert_eq!(distinct.len(), numbers.len(), "stored twice: {numbers:?}");
    let all = (from..base + 9).len();
    let whole = numbers.is_empty() || numbers.len() == all;
    assert!(whole || !transactional, "a part of a call is readable: {numbers:?} of {all}");
}

async fn lose<B: BrokerBackend>(b: &B, loss: PublishLoss) {
    let topic = topic(b, "things", 3).await;
    let mut session = open(b, "a", &lease(0, 1)).await;
    publish_ok(session.as_mut(), &call(&topic, 0)).await;
    b.lose_publish(&topic, loss).await;
    let acked = match session.publish(&call(&topic, 100)).await {
        Ok(()) => 0,
        Err(PublishError::Unavailable { acked, .. }) => acked,
        Err(e) => None.must(&format!("a lost message: {e}")),
    };
    drop(session);
    // Whoever takes over ends what its predecessor left open.
    let mut next = open(b, "next", &lease(0, 2)).await;
    publish_ok(next.as_mut(), &call(&topic, 200)).await;
    let read = read_all(b, &topic, 18).await;
    for base in [0, 200] {
        let numbers = read.iter().map(number).filter(|n| (base..base + 9).contains(n));
        assert_eq!(numbers.count(), 9, "records of an acknowledged call are missing");
    }
    assert_whole(b.transactional(), &read, (100, acked));
}

/// Nothing came of it, in no partition.
pub async fn trn_7_a_call_whose_request_was_lost_is_readable_whole_or_not<B: BrokerBackend>(b: B) {
    lose(&b, PublishLoss::Request).await;
}

/// Nor a part of it.
pub async fn trn_7_a_call_whose_answer_was_lost_is_readable_whole_or_not<B: BrokerBackend>(b: B) {
    lose(&b, PublishLoss::Answer).await;
}

/// A relay that stops in the middle of a call leaves no half of it.
pub async fn trn_7_a_call_that_was_dropped_is_readable_whole_or_not<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    let env = b.env();
    for round in 0..4 {
        let (epoch, base) = (u64::from(round) * 2 + 1, round * 100);
        let mut session = open(&b, "a", &lease(0, epoch)).await;
        let records = call(&topic, base);
        {
            let mut publish = pin!(session.publish(&records));
            // At once in the first round, later at some moment.
            let answer = match poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await {
                Poll::Pending if round > 0 => match select(publish, pin!(jitter(&env))).await {
                    Either::Left((answer, _)) => Some(answer),
                    Either::Right(_) => None,
                },
                Poll::Pending => None,
                Poll::Ready(answer) => Some(answer),
            };
            if let Some(answer) = answer {
                answer.must("publish");
            }
        }
        drop(session);
        let mut next = open(&b, "next", &lease(0, epoch + 1)).await;
        publish_ok(next.as_mut(), &[publish(&topic, "mark", 10_000 + round)]).await;
    }
    let read = read_all(&b, &topic, 4).await;
    for round in 0..4 {
        assert_whole(b.transactional(), &read, (round * 100, 0));
    }
    assert_eq!(read.iter().map(number).filter(|n| *n >= 10_000).count(), 4);
}
