//! The commit path under crashes, lost connections and killed processes.

use std::time::Duration;

use amarra_core::Version;
use amarra_memory::{BrokerConfig, ClientId, DatabaseConfig, Effect, Verdict};
use amarra_messaging::TxError;
use amarra_store::{IdempotencyKey, ReadModel, Store};

use crate::world::{Begun, World, body, group, incoming, outgoing, put, secs, thing, version};

/// A world where a flush takes 10 ms, and a commit of `thing/a` stands in the middle of it.
async fn in_flight(world: &World) -> Begun<Result<(), TxError>> {
    let store = world.store("a");
    let mut unit = store.begin().await.unwrap();
    unit.save(&thing("a"), Version::ABSENT, body("x")).await.unwrap();
    unit.enqueue(&[outgoing("a", 1)]).await.unwrap();
    let mut commit = Begun::new(unit.commit());
    assert!(commit.poll().is_none(), "the flush took no time");
    assert_eq!(version(world, "a"), 0, "visible before it was flushed");
    commit
}

fn slow_disk() -> World {
    let flush_latency = Duration::from_millis(10);
    let config = DatabaseConfig { flush_latency, ..DatabaseConfig::default() };
    World::with(config, BrokerConfig::default())
}

fn key() -> IdempotencyKey {
    let (principal, route, key) = ("ada".into(), "place".into(), "1".into());
    IdempotencyKey { principal, route, key, request_hash: [0; 32] }
}

fn in_progress(world: &World) -> usize {
    world.database.inspect(|i| i.snapshot().xip.len())
}

#[test]
fn no_transaction_is_in_progress_after_its_end() {
    let world = World::new();
    world.run(async {
        let store = world.store("a");
        for id in ["a", "b"] {
            put(store.as_ref(), id, 0).await.unwrap();
        }
        let mut dropped = store.begin().await.unwrap();
        dropped.load(&[thing("a")]).await.unwrap();
        let mut read_only = store.begin().await.unwrap();
        read_only.load(&[thing("b")]).await.unwrap();
        let mut appended = store.begin().await.unwrap();
        appended.enqueue(&[outgoing("k", 1)]).await.unwrap();
        let mut keyed = store.begin().await.unwrap();
        keyed.begin_idempotent(&key()).await.unwrap();
        put(store.as_ref(), "c", 0).await.unwrap();
        assert_eq!(in_progress(&world), 4, "an id is drawn at the first lock or write");
        drop((dropped, appended, keyed));
        assert_eq!(in_progress(&world), 1);
        read_only.commit().await.unwrap();
        assert_eq!(in_progress(&world), 0);
    });
}

#[test]
fn a_commit_is_visible_once_it_is_flushed_and_then_acknowledged() {
    let world = slow_disk();
    world.run(async {
        let commit = in_flight(&world).await;
        assert_eq!(commit.end().await, Ok(()));
        assert_eq!(version(&world, "a"), 1);
    });
}

#[test]
fn a_power_loss_before_the_flush_loses_the_commit() {
    let world = slow_disk();
    world.run(async {
        let mut commit = in_flight(&world).await;
        world.database.crash(true);
        world.database.restart();
        assert_eq!(commit.poll(), None, "the wait is the test's own");
        assert_eq!(commit.end().await, Err(TxError::OutcomeUnknown));
        assert_eq!(version(&world, "a"), 0);
        assert_eq!(world.database.inspect(|i| i.outbox().count()), 0);
        assert_eq!(put(world.store("b").as_ref(), "a", 0).await, Ok(()), "its locks are gone");
        assert_eq!(in_progress(&world), 0, "a lost transaction is in progress for ever");
    });
}

#[test]
fn a_crash_of_the_process_redoes_a_written_commit() {
    let world = slow_disk();
    world.run(async {
        let commit = in_flight(&world).await;
        world.database.crash(false);
        assert_eq!(version(&world, "a"), 0, "redo happens at the restart");
        world.database.restart();
        assert_eq!(version(&world, "a"), 1);
        assert_eq!(world.database.inspect(|i| i.outbox().count()), 1);
        assert_eq!(commit.end().await, Err(TxError::OutcomeUnknown));
        assert_eq!(world.recorder.committed.lock().unwrap().len(), 1);
    });
}

#[test]
fn a_power_loss_while_the_server_is_down_loses_what_was_only_written() {
    let world = slow_disk();
    world.run(async {
        let commit = in_flight(&world).await;
        world.database.crash(false);
        world.database.crash(true);
        world.database.restart();
        assert_eq!(version(&world, "a"), 0);
        drop(commit);
        assert_eq!(version(&world, "a"), 0, "a lost commit came back with its destructor");
    });
}

#[test]
fn an_acknowledged_commit_survives_every_crash() {
    let world = slow_disk();
    world.run(async {
        put(world.store("a").as_ref(), "a", 0).await.unwrap();
        world.database.crash(true);
        world.database.restart();
        assert_eq!(version(&world, "a"), 1);
    });
}

#[test]
fn open_units_die_with_the_server_and_everything_fails_while_it_is_down() {
    let world = World::new();
    world.run(async {
        let store = world.store("a");
        let mut unit = store.begin().await.unwrap();
        unit.save(&thing("a"), Version::ABSENT, body("x")).await.unwrap();
        world.database.crash(false);
        assert!(matches!(store.begin().await, Err(TxError::Connection { .. })));
        let model = world.database.connect(ClientId::new("a", 1));
        assert!(matches!(model.get("v", "k").await, Err(TxError::Connection { .. })));
        let log = world.database.outbox_log(ClientId::new("a", 1));
        assert!(amarra_messaging::OutboxLog::lease(&log, &"r".into(), 1, secs(1)).await.is_err());
        world.database.restart();
        let saved = unit.save(&thing("b"), Version::ABSENT, body("x")).await;
        assert!(matches!(saved, Err(TxError::Connection { .. })), "a unit outlived its server");
        assert!(matches!(unit.commit().await, Err(TxError::Connection { .. })));
        assert_eq!((version(&world, "a"), version(&world, "b")), (0, 0));
    });
}

#[test]
fn sequence_values_skip_over_a_crash_and_never_go_back() {
    let world = World::new();
    let seqs = world.run(async {
        for n in 0..2 {
            let mut unit = world.store("a").begin().await.unwrap();
            unit.enqueue(&[outgoing("k", n)]).await.unwrap();
            unit.commit().await.unwrap();
            world.database.crash(true);
            world.database.restart();
        }
        world.database.inspect(|i| i.outbox().map(|row| row.seq.0).collect::<Vec<_>>())
    });
    assert_eq!(seqs, [1, 34]);
}

#[test]
fn each_loss_of_a_commit_says_what_is_known_and_does_it() {
    let check = |effect, expect: Result<(), TxError>, applied: u64| {
        let world = World::new();
        world.script.strike("commit", effect);
        let answer = world.run(put(world.store("a").as_ref(), "a", 0));
        match (&answer, &expect) {
            (Err(TxError::Connection { .. }), Err(TxError::Connection { .. })) => {}
            _ => assert_eq!(answer, expect, "{effect:?}"),
        }
        assert_eq!(version(&world, "a"), applied, "{effect:?}");
        world.run(async {
            let again = put(world.store("b").as_ref(), "a", applied).await;
            assert_eq!(again, Ok(()), "a lock outlived its unit after {effect:?}");
        });
    };
    check(Effect::Proceed, Ok(()), 1);
    check(Effect::Fail, Err(TxError::Connection { why: String::new() }), 0);
    check(Effect::Serialization, Err(TxError::Serialization), 0);
    check(Effect::LoseRequest, Err(TxError::OutcomeUnknown), 0);
    check(Effect::LoseReply, Err(TxError::OutcomeUnknown), 1);
}

#[test]
fn a_fault_in_any_call_takes_the_whole_unit() {
    for effect in [Effect::Fail, Effect::Serialization, Effect::LoseReply, Effect::LoseRequest] {
        for operation in ["load", "save", "enqueue", "admit", "schedule"] {
            let world = World::new();
            world.script.strike(operation, effect);
            let failed = world.run(async {
                let mut unit = world.store("a").begin().await.unwrap();
                let calls = async {
                    unit.load(&[thing("a")]).await?;
                    unit.save(&thing("a"), Version::ABSENT, body("x")).await?;
                    unit.enqueue(&[outgoing("a", 1)]).await?;
                    unit.admit(&group(), &incoming(1)).await?;
                    unit.schedule(&thing("a"), Some(secs(1))).await
                };
                let error = calls.await.unwrap_err();
                assert_eq!(unit.commit().await, Err(error.clone()), "{operation} {effect:?}");
                error
            });
            assert_ne!(failed, TxError::OutcomeUnknown, "no commit was sent");
            assert_eq!(version(&world, "a"), 0, "{operation} {effect:?}");
            assert!(world.recorder.committed.lock().unwrap().is_empty());
        }
    }
}

#[test]
fn dropping_a_commit_on_its_way_leaves_it_to_the_server() {
    let world = slow_disk();
    world.run(async {
        drop(in_flight(&world).await);
        assert_eq!(version(&world, "a"), 1);
        assert_eq!(put(world.store("b").as_ref(), "a", 1).await, Ok(()));
    });
}

#[test]
fn a_killed_process_has_no_further_effect() {
    let world = World::new();
    world.run(async {
        let (old, other) = (world.store("a"), world.store("b"));
        let mut unit = old.begin().await.unwrap();
        unit.save(&thing("a"), Version::ABSENT, body("x")).await.unwrap();
        world.database.disconnect("a");
        assert_eq!(put(other.as_ref(), "a", 0).await, Ok(()), "its lock was not released");
        assert!(matches!(unit.commit().await, Err(TxError::Connection { .. })));
        assert!(matches!(old.begin().await, Err(TxError::Connection { .. })));
        let same = world.database.connect(ClientId::new("a", 1));
        assert!(same.begin().await.is_err(), "the old incarnation connected again");
        let new = world.database.connect(ClientId::new("a", 2));
        assert_eq!(put(&new, "a", 1).await, Ok(()));
        assert_eq!(version(&world, "a"), 2);
    });
}

#[test]
fn a_commit_in_flight_of_a_killed_process_is_finished_once() {
    let world = slow_disk();
    world.run(async {
        let commit = in_flight(&world).await;
        world.database.disconnect("a");
        assert_eq!(version(&world, "a"), 1);
        put(world.store("b").as_ref(), "a", 1).await.unwrap();
        drop(commit);
        assert_eq!(version(&world, "a"), 2);
        assert_eq!(world.recorder.committed.lock().unwrap().len(), 2);
    });
}

#[test]
fn reset_connections_break_units_but_not_the_client() {
    let world = slow_disk();
    world.run(async {
        let commit = in_flight(&world).await;
        let store = world.store("a");
        let mut unit = store.begin().await.unwrap();
        unit.load(&[thing("b")]).await.unwrap();
        world.database.reset_connections("a");
        assert_eq!(commit.end().await, Err(TxError::OutcomeUnknown));
        assert_eq!(version(&world, "a"), 1);
        assert!(matches!(unit.commit().await, Err(TxError::Connection { .. })));
        assert_eq!(put(store.as_ref(), "b", 0).await, Ok(()));
    });
}

#[test]
fn delays_pass_by_the_clock_and_only_when_asked_for() {
    let world = World::new();
    world.run(async {
        let start = world.env.monotonic();
        put(world.store("a").as_ref(), "a", 0).await.unwrap();
        assert_eq!(world.env.monotonic(), start, "a calm operation took time");
        world.script.put("save", Verdict::delayed(secs(1), secs(2)));
        world.script.put("flush", Verdict::delayed(secs(4), secs(8)));
        put(world.store("a").as_ref(), "a", 1).await.unwrap();
        assert_eq!(world.env.monotonic().since(start), secs(15));
    });
}
