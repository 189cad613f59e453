//! Unique keys and single rows: admissions, idempotency keys, timers, views and parked messages.

use amarra_core::Version;
use amarra_memory::{BrokerConfig, DatabaseConfig};
use amarra_messaging::message::{Delivery, Owner};
use amarra_messaging::{Admit, Offset, Partition, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::{DueQuery, IdempotencyKey, Idempotent, StoredResponse};
use futures_util::future::join;

use crate::world::{Begun, World, body, group, incoming, publish, put, secs, thing};

#[test]
fn an_admission_waits_for_the_one_in_progress() {
    for commits in [true, false] {
        let world = World::new();
        world.run(async {
            let mut first = world.store("a").begin().await.unwrap();
            assert_eq!(first.admit(&group(), &incoming(1)).await, Ok(Admit::Fresh));
            assert_eq!(first.admit(&group(), &incoming(1)).await, Ok(Admit::Duplicate));
            assert_eq!(first.admit(&"others".into(), &incoming(1)).await, Ok(Admit::Fresh));
            let mut unit = world.store("b").begin().await.unwrap();
            let mut second = Begun::new(async move { unit.admit(&group(), &incoming(1)).await });
            assert!(second.poll().is_none());
            let expect = if commits {
                first.commit().await.unwrap();
                Admit::Duplicate
            } else {
                drop(first);
                Admit::Fresh
            };
            assert_eq!(second.poll(), Some(Ok(expect)));
        });
    }
}

#[test]
fn a_committed_admission_is_a_duplicate_without_waiting() {
    let world = World::new();
    world.run(async {
        let mut unit = world.store("a").begin().await.unwrap();
        unit.admit(&group(), &incoming(1)).await.unwrap();
        unit.commit().await.unwrap();
        let mut second = world.store("b").begin().await.unwrap();
        let mut third = world.store("c").begin().await.unwrap();
        assert_eq!(second.admit(&group(), &incoming(1)).await, Ok(Admit::Duplicate));
        assert_eq!(third.admit(&group(), &incoming(1)).await, Ok(Admit::Duplicate));
    });
}

fn key(hash: u8) -> IdempotencyKey {
    IdempotencyKey {
        principal: "ada".into(),
        route: "place".into(),
        key: "1".into(),
        request_hash: [hash; 32],
    }
}

#[test]
fn a_key_is_in_flight_until_its_unit_ends() {
    let world = World::new();
    world.run(async {
        let response = StoredResponse { status: 201, body: body("{}") };
        let mut first = world.store("a").begin().await.unwrap();
        assert_eq!(first.begin_idempotent(&key(1)).await, Ok(Idempotent::Fresh));
        let mut second = world.store("b").begin().await.unwrap();
        assert_eq!(second.begin_idempotent(&key(1)).await, Ok(Idempotent::InFlight));
        drop(first);
        assert_eq!(second.begin_idempotent(&key(1)).await, Ok(Idempotent::Fresh));
        second.record_response(&key(1), &response).await.unwrap();
        second.commit().await.unwrap();
        let mut third = world.store("c").begin().await.unwrap();
        let replay = Idempotent::Replay(response.clone());
        assert_eq!(third.begin_idempotent(&key(1)).await, Ok(replay));
        assert_eq!(third.begin_idempotent(&key(2)).await, Ok(Idempotent::Mismatch));
        let again = third.record_response(&key(1), &response).await;
        assert!(matches!(again, Err(TxError::Conflict { .. })), "{again:?}");
    });
}

#[test]
fn a_key_begun_without_a_response_leaves_no_trace() {
    let world = World::new();
    world.run(async {
        let mut unit = world.store("a").begin().await.unwrap();
        unit.begin_idempotent(&key(1)).await.unwrap();
        unit.save(&thing("k"), Version::ABSENT, body("x")).await.unwrap();
        unit.commit().await.unwrap();
        let mut unit = world.store("a").begin().await.unwrap();
        assert_eq!(unit.begin_idempotent(&key(2)).await, Ok(Idempotent::Fresh));
    });
}

#[test]
fn a_verified_claim_cannot_be_superseded_before_its_unit_ends() {
    let world = World::new();
    let query = |owner: &str| DueQuery {
        kind: "thing".into(),
        owner: Owner::from(owner),
        lease: secs(1),
        limit: 9,
    };
    world.run(async {
        let store = world.store("a");
        let mut unit = store.begin().await.unwrap();
        unit.schedule(&thing("k"), Some(secs(0))).await.unwrap();
        unit.commit().await.unwrap();
        let claim = store.claim_due(&query("one")).await.unwrap().pop().unwrap();
        let mut unit = store.begin().await.unwrap();
        unit.verify(&claim).await.unwrap();
        world.env.sleep(secs(5)).await;
        assert_eq!(store.claim_due(&query("two")).await, Ok(vec![]), "a locked claim was taken");
        unit.commit().await.unwrap();
        let newer = store.claim_due(&query("two")).await.unwrap().pop().unwrap();
        assert!(newer.epoch > claim.epoch);
        let fenced = store.begin().await.unwrap().verify(&claim).await;
        assert!(matches!(fenced, Err(TxError::Fenced { .. })), "{fenced:?}");
    });
}

#[test]
fn a_response_is_recorded_once_and_only_for_a_key_that_was_begun() {
    let world = World::new();
    let response = StoredResponse { status: 201, body: body("{}") };
    world.run(async {
        let mut stranger = world.store("a").begin().await.unwrap();
        let recorded = stranger.record_response(&key(1), &response).await;
        assert!(matches!(recorded, Err(TxError::Conflict { .. })), "{recorded:?}");
        let mut unit = world.store("a").begin().await.unwrap();
        unit.begin_idempotent(&key(1)).await.unwrap();
        unit.record_response(&key(1), &response).await.unwrap();
        let replay = unit.begin_idempotent(&key(1)).await;
        assert_eq!(replay, Ok(Idempotent::Replay(response.clone())), "its own response");
        let twice = unit.record_response(&key(1), &response).await;
        assert!(matches!(twice, Err(TxError::Conflict { .. })), "{twice:?}");
    });
}

#[test]
fn a_timer_is_set_by_one_unit_at_a_time_and_setting_it_ends_its_own_claim() {
    let world = World::new();
    world.run(async {
        let store = world.store("a");
        let mut first = store.begin().await.unwrap();
        first.schedule(&thing("k"), Some(secs(0))).await.unwrap();
        let mut unit = store.begin().await.unwrap();
        let mut second = Begun::new(async move {
            let set = unit.schedule(&thing("k"), Some(secs(9))).await;
            (unit, set)
        });
        assert!(second.poll().is_none(), "two units set one timer");
        first.commit().await.unwrap();
        let (unit, set) = second.poll().unwrap();
        assert_eq!(set, Ok(()));
        drop(unit);

        let kind = "thing".into();
        let query = DueQuery { kind, owner: Owner::from("one"), lease: secs(9), limit: 1 };
        let claim = store.claim_due(&query).await.unwrap().pop().unwrap();
        let mut unit = store.begin().await.unwrap();
        unit.verify(&claim).await.unwrap();
        unit.schedule(&thing("k"), None).await.unwrap();
        let fenced = unit.verify(&claim).await;
        assert!(matches!(fenced, Err(TxError::Fenced { .. })), "{fenced:?}");
    });
}

#[test]
fn everything_stored_is_bounded_by_the_field_its_error_names() {
    let config = DatabaseConfig { state_bytes_max: 4, ..DatabaseConfig::default() };
    let world = World::with(config, BrokerConfig::default());
    world.run(async {
        for large in [false, true] {
            let bytes = body(if large { "12345" } else { "1234" });
            let begin = || async { world.store("a").begin().await.unwrap() };
            let saved = begin().await.save(&thing("k"), Version::ABSENT, bytes.clone()).await;
            let response = StoredResponse { status: 200, body: bytes.clone() };
            let mut unit = begin().await;
            unit.begin_idempotent(&key(1)).await.unwrap();
            let recorded = unit.record_response(&key(1), &response).await;
            let write = ViewWrite {
                view: "v".into(),
                key: "k".into(),
                position: Version::new(1),
                body: Some(bytes),
            };
            let written = begin().await.write_view(write).await;
            for answer in [saved, recorded, written] {
                match (large, answer) {
                    (false, answer) => assert_eq!(answer, Ok(())),
                    (true, Err(TxError::TooLarge { what, bound: 4 })) => {
                        assert!(what.contains("state_bytes_max"), "{what}");
                    }
                    (true, answer) => panic!("{answer:?}"),
                }
            }
        }
    });
}

#[test]
fn a_view_row_is_locked_even_while_it_does_not_exist() {
    let world = World::new();
    let write = |n: u64| ViewWrite {
        view: "v".into(),
        key: "k".into(),
        position: Version::new(n),
        body: Some(body("row")),
    };
    world.run(async {
        let mut first = world.store("a").begin().await.unwrap();
        assert_eq!(first.load_view("v", "k").await, Ok(None));
        let mut reader = world.store("b").begin().await.unwrap();
        let mut reading = Begun::new(async move { reader.load_view("v", "k").await });
        let mut writer = world.store("c").begin().await.unwrap();
        let blind = write(9);
        let mut writing = Begun::new(async move { writer.write_view(blind).await });
        assert!(reading.poll().is_none() && writing.poll().is_none());
        first.write_view(write(1)).await.unwrap();
        let own = first.load_view("v", "k").await.unwrap().unwrap();
        assert_eq!(own.position, Version::new(1));
        first.commit().await.unwrap();
        let row = reading.poll().unwrap().unwrap().unwrap();
        assert_eq!(row.position, Version::new(1));
        drop(reading);
        assert_eq!(writing.poll(), Some(Ok(())));
    });
}

#[test]
fn messages_of_one_key_are_parked_and_taken_by_one_unit_at_a_time() {
    let world = World::new();
    let delivery = |n: u64| Delivery {
        topic: "t".into(),
        partition: Partition(0),
        offset: Offset(n),
        record: publish("t", "k", "poison").record,
    };
    world.run(async {
        let mut first = world.store("a").begin().await.unwrap();
        first.park(&group(), &delivery(1), "poison").await.unwrap();
        let mut unit = world.store("b").begin().await.unwrap();
        let mut second = Begun::new(async move {
            let parked = unit.park(&group(), &delivery(2), "behind").await;
            (unit, parked)
        });
        assert!(second.poll().is_none(), "a later ticket could commit first");
        first.commit().await.unwrap();
        second.poll().unwrap().0.commit().await.unwrap();

        let (topic, key) = ("t".into(), "k".into());
        let mut taker = world.store("a").begin().await.unwrap();
        for n in [1, 2] {
            let parked = taker.first_parked(&group(), &topic, &key).await.unwrap().unwrap();
            assert_eq!((parked.ticket, parked.delivery), (n, delivery(n)));
            taker.unpark(&group(), n).await.unwrap();
        }
        assert_eq!(taker.first_parked(&group(), &topic, &key).await, Ok(None));
        let keys = [key.clone()].into();
        let mut unit = world.store("b").begin().await.unwrap();
        assert_eq!(unit.parked_among(&group(), &topic, &keys).await, Ok(keys.clone()));
        assert_eq!(taker.parked_among(&group(), &topic, &keys).await, Ok([].into()));
        let mut other = Begun::new(async move { unit.unpark(&group(), 2).await });
        assert!(other.poll().is_none(), "a message was taken by two");
        taker.commit().await.unwrap();
        assert_eq!(other.poll(), Some(Ok(())));
        assert_eq!(world.database.inspect(|i| i.parked().count()), 0);
    });
}

#[test]
fn a_wait_for_timers_ends_with_a_commit_that_set_one() {
    let world = World::new();
    world.run(async {
        let store = world.store("a");
        put(store.as_ref(), "k", 0).await.unwrap();
        let wait = || world.env.timeout(secs(1), store.timers_changed());
        assert!(wait().await.is_err(), "no timer was set");
        let mut unit = store.begin().await.unwrap();
        unit.schedule(&thing("k"), Some(secs(5))).await.unwrap();
        assert!(wait().await.is_err(), "the unit is open");
        unit.commit().await.unwrap();
        assert!(wait().await.is_ok());
        assert!(wait().await.is_err(), "one change was told twice");
        let again = async {
            let mut unit = store.begin().await.unwrap();
            unit.schedule(&thing("k"), None).await.unwrap();
            unit.commit().await.unwrap();
        };
        let (one, (two, ())) = join(wait(), join(wait(), again)).await;
        assert!(one.is_ok() && two.is_ok(), "one waiter took the change from the other");
    });
}
