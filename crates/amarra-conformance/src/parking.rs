//! The laws of `ParkingLot`: a key leaves in the order it was parked, and only with a commit.

use std::collections::BTreeSet;

use amarra_core::PartitionKey;
use amarra_messaging::message::Delivery;
use amarra_messaging::{Admit, Group, Incoming, Offset, Parked, Partition, Record, Topic, TxError};
use amarra_store::UnitOfWork;
use bytes::Bytes;

use crate::backend::StoreBackend;
use crate::check::{Must, begin, commit, incoming, may_repeat, transact, within};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `ParkingLot` for one `StoreBackend`.
    parking_laws in parking for StoreBackend {
        ParkingLot:
            "PRK-1" prk_1_a_key_leaves_in_the_order_it_was_parked,
            "PRK-1" prk_1_keys_do_not_wait_for_each_other,
            "PRK-1" prk_1_a_delivery_comes_back_untouched_with_its_reason,
            "PRK-2" prk_2_a_key_is_parked_until_its_last_message_left,
            "PRK-2" prk_2_parking_is_per_group_topic_and_key,
            "PRK-2" prk_2_a_parked_key_survives_a_crash,
            "PRK-3" prk_3_parking_is_seen_by_nobody_else_before_its_commit,
            "PRK-3" prk_3_parking_rolled_back_leaves_no_trace,
            "PRK-3" prk_3_a_removal_rolled_back_keeps_the_message,
            "PRK-3" prk_3_a_unit_sees_its_own_parking,
            "PRK-3" prk_3_so_does_one_that_admitted_messages_of_the_key,
            "PRK-3" prk_3_of_two_that_take_the_first_one_waits_or_fails;
    }
}

fn group() -> Group {
    Group::from("readers")
}

fn topic() -> Topic {
    Topic::from("things")
}

fn delivery(key: &str, offset: u64) -> Delivery {
    Delivery {
        topic: topic(),
        partition: Partition(2),
        offset: Offset(offset),
        record: Record {
            key: Bytes::copy_from_slice(key.as_bytes()),
            headers: [
                ("h", Bytes::from_static(&[0, 255])),
                ("h", Bytes::from(format!("{offset}"))),
            ]
            .into_iter()
            .collect(),
            value: Bytes::from(vec![0xff, 0x00, 0x7f]),
        },
    }
}

async fn park_all<B: StoreBackend>(b: &B, deliveries: &[Delivery]) {
    for delivery in deliveries {
        transact(&b.env(), b.store("a").as_ref(), async |unit| {
            unit.park(&group(), delivery, "poison").await
        })
        .await;
    }
}

async fn first(unit: &mut dyn UnitOfWork, key: &str) -> Result<Option<Parked>, TxError> {
    unit.first_parked(&group(), &topic(), &PartitionKey::from(key)).await
}

async fn is_parked(unit: &mut dyn UnitOfWork, key: &str) -> Result<bool, TxError> {
    let keys: BTreeSet<_> = [PartitionKey::from(key)].into();
    let parked = unit.parked_among(&group(), &topic(), &keys).await?;
    assert!(parked.is_subset(&keys), "parked_among answered keys not asked for");
    Ok(!parked.is_empty())
}

async fn committed_parked<B: StoreBackend>(b: &B, key: &str) -> bool {
    transact(&b.env(), b.store("observer").as_ref(), async |unit| is_parked(unit, key).await).await
}

/// Takes the messages of a key out, each in a transaction of its own.
async fn take_all<B: StoreBackend>(b: &B, key: &str) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while let Some(delivery) = transact(&b.env(), b.store("a").as_ref(), async |unit| {
        let Some(parked) = first(unit, key).await? else { return Ok(None) };
        unit.unpark(&group(), parked.ticket).await?;
        Ok(Some(parked.delivery))
    })
    .await
    {
        taken.push(delivery);
    }
    taken
}

/// First in, first out, over transactions and within one.
pub async fn prk_1_a_key_leaves_in_the_order_it_was_parked<B: StoreBackend>(b: B) {
    let deliveries: Vec<_> = [5, 3, 9, 1, 7].map(|offset| delivery("k", offset)).into();
    park_all(&b, &deliveries[..2]).await;
    transact(&b.env(), b.store("a").as_ref(), async |unit| {
        for delivery in &deliveries[2..] {
            unit.park(&group(), delivery, "poison").await?;
        }
        Ok(())
    })
    .await;
    assert_eq!(take_all(&b, "k").await, deliveries);
}

/// The first of one key is not held up by an older one of another.
pub async fn prk_1_keys_do_not_wait_for_each_other<B: StoreBackend>(b: B) {
    let all = [delivery("x", 0), delivery("y", 1), delivery("x", 2), delivery("y", 3)];
    park_all(&b, &all).await;
    assert_eq!(take_all(&b, "y").await, [all[1].clone(), all[3].clone()]);
    assert_eq!(take_all(&b, "x").await, [all[0].clone(), all[2].clone()]);
}

/// Key, headers, payload and place are kept byte for byte, with reason and time.
pub async fn prk_1_a_delivery_comes_back_untouched_with_its_reason<B: StoreBackend>(b: B) {
    let parked = delivery("käse", 4);
    let at = transact(&b.env(), b.store("a").as_ref(), async |unit| {
        unit.park(&group(), &parked, "does not decode: ☃").await?;
        Ok(unit.now())
    })
    .await;
    let found =
        transact(&b.env(), b.store("a").as_ref(), async |unit| first(unit, "käse").await).await;
    let found = found.must("the parked message is gone");
    assert_eq!(found.delivery, parked);
    assert_eq!(found.reason.as_ref(), "does not decode: ☃");
    assert_eq!(found.at, at);
}

/// As long as one message is left the key's followers must queue behind it.
pub async fn prk_2_a_key_is_parked_until_its_last_message_left<B: StoreBackend>(b: B) {
    assert!(!committed_parked(&b, "k").await);
    park_all(&b, &[delivery("k", 0), delivery("k", 1)]).await;
    for left in [2, 1] {
        assert!(committed_parked(&b, "k").await, "not parked with {left} messages");
        transact(&b.env(), b.store("a").as_ref(), async |unit| {
            let parked = first(unit, "k").await?.must("nothing is parked");
            unit.unpark(&group(), parked.ticket).await
        })
        .await;
    }
    assert!(!committed_parked(&b, "k").await, "parked without a message");
}

/// Other groups, topics and keys are not held up.
pub async fn prk_2_parking_is_per_group_topic_and_key<B: StoreBackend>(b: B) {
    park_all(&b, &[delivery("k", 0), delivery("l", 1)]).await;
    let keys: BTreeSet<_> = ["k", "l", "m"].map(PartitionKey::from).into();
    let [ours, other_group, other_topic] =
        transact(&b.env(), b.store("a").as_ref(), async |unit| {
            Ok([
                unit.parked_among(&group(), &topic(), &keys).await?,
                unit.parked_among(&Group::from("others"), &topic(), &keys).await?,
                unit.parked_among(&group(), &Topic::from("others"), &keys).await?,
            ])
        })
        .await;
    assert_eq!(ours, ["k", "l"].map(PartitionKey::from).into());
    assert_eq!(other_group, BTreeSet::new());
    assert_eq!(other_topic, BTreeSet::new());
}

/// A crash neither frees the key nor reorders its messages.
pub async fn prk_2_a_parked_key_survives_a_crash<B: StoreBackend>(b: B) {
    let deliveries = [delivery("k", 0), delivery("k", 1)];
    park_all(&b, &deliveries[..1]).await;
    b.crash().await;
    park_all(&b, &deliveries[1..]).await;
    assert!(committed_parked(&b, "k").await);
    assert_eq!(take_all(&b, "k").await, deliveries);
}

/// An open unit's parking is its own; everybody sees it once it committed.
pub async fn prk_3_parking_is_seen_by_nobody_else_before_its_commit<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.park(&group(), &delivery("k", 0), "poison").await.must("park");
    let observed = within(&b, Box::pin(committed_parked(&b, "k")).as_mut()).await;
    assert_ne!(observed, Some(true), "an open unit's parking was seen");
    commit(unit).await;
    assert!(committed_parked(&b, "k").await);
}

/// A dropped unit parked nothing.
pub async fn prk_3_parking_rolled_back_leaves_no_trace<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.park(&group(), &delivery("k", 0), "poison").await.must("park");
    drop(unit);
    assert!(!committed_parked(&b, "k").await);
    assert_eq!(take_all(&b, "k").await, []);
}

/// A replay that failed leaves the message where it was.
pub async fn prk_3_a_removal_rolled_back_keeps_the_message<B: StoreBackend>(b: B) {
    let deliveries = [delivery("k", 0), delivery("k", 1)];
    park_all(&b, &deliveries).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    let parked = first(unit.as_mut(), "k").await.must("first").must("nothing is parked");
    unit.unpark(&group(), parked.ticket).await.must("unpark");
    drop(unit);
    assert_eq!(take_all(&b, "k").await, deliveries);
}

/// Within a batch, the second message of a poison key must find the key parked.
pub async fn prk_3_a_unit_sees_its_own_parking<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    let unit = unit.as_mut();
    assert!(!is_parked(unit, "k").await.must("parked_among"));
    unit.park(&group(), &delivery("k", 0), "poison").await.must("park");
    assert!(is_parked(unit, "k").await.must("parked_among"), "its own parking is hidden");
    let parked = first(unit, "k").await.must("first").must("its own message is hidden");
    unit.unpark(&group(), parked.ticket).await.must("unpark");
    assert!(!is_parked(unit, "k").await.must("parked_among"), "its own removal is hidden");
    assert_eq!(first(unit, "k").await, Ok(None));
}

/// Also when what is parked was read along with the admissions.
pub async fn prk_3_so_does_one_that_admitted_messages_of_the_key<B: StoreBackend>(b: B) {
    park_all(&b, &[delivery("parked", 0)]).await;
    let message = |key, offset| Incoming { topic: topic(), ..incoming(&b.env(), key, offset) };
    let batch = [message("parked", 1), message("k", 2)];
    let begun = b.store("a").begin_admitting(&group(), &batch).await;
    let (mut unit, answers) = begun.must("begin_admitting");
    assert_eq!(answers, [Admit::Fresh; 2]);
    let unit = unit.as_mut();
    assert!(is_parked(unit, "parked").await.must("parked_among"));
    assert!(!is_parked(unit, "k").await.must("parked_among"));
    assert!(!is_parked(unit, "other").await.must("parked_among"));
    let keys = ["parked", "k", "other"].map(PartitionKey::from).into();
    let others = Group::from("others");
    assert_eq!(unit.parked_among(&others, &topic(), &keys).await, Ok(BTreeSet::new()));
    unit.park(&group(), &delivery("k", 2), "poison").await.must("park");
    assert!(is_parked(unit, "k").await.must("parked_among"), "its own parking is hidden");
    let parked = first(unit, "parked").await.must("first").must("the parked one is hidden");
    unit.unpark(&group(), parked.ticket).await.must("unpark");
    assert!(!is_parked(unit, "parked").await.must("parked_among"), "its own removal is hidden");
    assert!(is_parked(unit, "k").await.must("parked_among"));
}

/// Two replays of one key do not both apply its first message.
pub async fn prk_3_of_two_that_take_the_first_one_waits_or_fails<B: StoreBackend>(b: B) {
    park_all(&b, &[delivery("k", 0), delivery("k", 1)]).await;
    let mut one = begin(b.store("a").as_ref()).await;
    let parked = first(one.as_mut(), "k").await.must("first").must("nothing is parked");
    let store = b.store("c");
    let mut two = Box::pin(async {
        let mut unit = store.begin().await?;
        first(unit.as_mut(), "k").await
    });
    let early = within(&b, two.as_mut()).await;
    match &early {
        None => {}
        Some(Err(e)) => assert!(may_repeat(e), "a message in use answered {e}"),
        Some(Ok(found)) => {
            let ticket = found.as_ref().map(|p| p.ticket);
            assert_ne!(ticket, Some(parked.ticket), "both hold the first message");
        }
    }
    one.unpark(&group(), parked.ticket).await.must("unpark");
    commit(one).await;
    if early.is_none() {
        match two.await {
            Ok(found) => assert_eq!(found.map(|p| p.delivery), Some(delivery("k", 1))),
            Err(e) => assert!(may_repeat(&e), "a wait for a message in use ended with {e}"),
        }
    } else {
        drop(two);
    }
    assert_eq!(take_all(&b, "k").await, [delivery("k", 1)]);
}
