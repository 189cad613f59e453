//! Who may publish for a shard as relays take over from each other.

use std::collections::BTreeSet;

use amarra_messaging::{PublishError, Session};
use futures_util::future::{join, join_all};

use super::{assert_fenced, publish_ok};
use crate::backend::BrokerBackend;
use crate::broker::{SOURCE, lease, number, numbers, open, publish, read_all, topic};
use crate::check::{Must, jitter};

/// However the openings interleave, the newest epoch is the one that remains.
pub async fn trn_1_of_many_that_open_at_once_the_newest_remains<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let env = b.env();
    let sessions = join_all((1..=5).map(|epoch| {
        let (b, env) = (&b, &env);
        async move {
            jitter(env).await;
            let transport = b.transport(&format!("relay-{epoch}"), SOURCE);
            transport.open(&lease(0, epoch)).await.ok()
        }
    }))
    .await;
    let mut newest = open(&b, "relay-5", &lease(0, 5)).await;
    publish_ok(newest.as_mut(), &[publish(&topic, "k", 0)]).await;
    for mut session in sessions.into_iter().take(4).flatten() {
        assert_fenced(session.publish(&[publish(&topic, "k", 9)]).await, "an older epoch");
    }
    publish_ok(newest.as_mut(), &[publish(&topic, "k", 1)]).await;
    assert_eq!(numbers(&read_all(&b, &topic, 2).await, "k"), [0, 1]);
}

/// Leases are renewed and given back between takeovers, so epochs are not dense.
pub async fn trn_1_epochs_may_skip_numbers<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut old: Option<Box<dyn Session>> = None;
    for (epoch, n) in [1, 40, 70_000, 5_000_000_000].into_iter().zip(0..) {
        let mut new = open(&b, &format!("relay-{epoch}"), &lease(0, epoch)).await;
        publish_ok(new.as_mut(), &[publish(&topic, "k", n)]).await;
        if let Some(mut old) = old.replace(new) {
            assert_fenced(old.publish(&[publish(&topic, "k", 100)]).await, "an older epoch");
        }
    }
    assert_eq!(numbers(&read_all(&b, &topic, 4).await, "k"), [0, 1, 2, 3]);
}

/// The fence is the epoch's, not the session's: it stays when the session has gone.
pub async fn trn_1_a_dropped_session_leaves_its_fence<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 0)]).await;
    drop(open(&b, "new", &lease(0, 2)).await);
    assert_fenced(old.publish(&[publish(&topic, "k", 9)]).await, "a session before a dropped one");
    assert_eq!(numbers(&read_all(&b, &topic, 1).await, "k"), [0]);
}

/// A shard goes from one relay to another and back, and each key stays in order.
pub async fn trn_3_order_holds_over_takeovers_there_and_back<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 3).await;
    for (epoch, client) in (1_u32..=5).zip(["a", "c", "a", "c", "a"]) {
        let mut session = open(&b, client, &lease(0, u64::from(epoch))).await;
        let first = epoch * 6;
        let records: Vec<_> =
            (first..first + 6).map(|n| publish(&topic, &format!("k{}", n % 2), n)).collect();
        publish_ok(session.as_mut(), &records).await;
    }
    let read = read_all(&b, &topic, 30).await;
    for key in ["k0", "k1"] {
        let numbers = numbers(&read, key);
        assert_eq!(numbers.len(), 15, "records of {key}");
        assert!(numbers.is_sorted(), "{key} was reordered: {numbers:?}");
    }
}

/// A relay that is overtaken while it publishes: what it still gets in stands before everything of
/// its successor.
pub async fn trn_5_nothing_of_a_zombie_follows_its_successors_records<B: BrokerBackend>(b: B) {
    let topic = topic(&b, "things", 2).await;
    let env = b.env();
    let mut old = open(&b, "old", &lease(0, 1)).await;
    publish_ok(old.as_mut(), &[publish(&topic, "k", 0)]).await;
    let zombie = async {
        for n in 1..40 {
            jitter(&env).await;
            match old.publish(&[publish(&topic, "k", n)]).await {
                Ok(()) | Err(PublishError::Unavailable { .. }) => {}
                Err(e) => {
                    assert!(matches!(e, PublishError::Fenced { .. }), "a zombie: {e}");
                    return;
                }
            }
        }
    };
    let successor = async {
        for _ in 0..3 {
            jitter(&env).await;
        }
        let mut new = open(&b, "new", &lease(0, 2)).await;
        for n in 1000..1005 {
            publish_ok(new.as_mut(), &[publish(&topic, "k", n)]).await;
        }
    };
    join(zombie, successor).await;
    assert_fenced(old.publish(&[publish(&topic, "k", 99)]).await, "the zombie at last");
    let read: Vec<u32> = read_all(&b, &topic, 6).await.iter().map(number).collect();
    let first = read.iter().position(|n| *n >= 1000).must("the successor published nothing");
    assert_eq!(read[first..], [1000, 1001, 1002, 1003, 1004], "a zombie came in between");
    let distinct: BTreeSet<_> = read.iter().collect();
    assert_eq!(distinct.len(), read.len(), "a record is there twice: {read:?}");
}
