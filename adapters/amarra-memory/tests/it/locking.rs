//! Row locks and unique keys: who waits for whom, and how it ends.

use amarra_core::Version;
use amarra_memory::{BrokerConfig, DatabaseConfig};
use amarra_messaging::TxError;
use amarra_store::UnitOfWork;

use futures_util::future::join;

use crate::world::{Begun, World, begin_save, body, put, secs, thing, version};

type Unit = Box<dyn UnitOfWork>;

fn begin_load(mut unit: Unit, id: &'static str) -> Begun<(Unit, Result<u64, TxError>)> {
    Begun::new(async move {
        let loaded = unit.load(&[thing(id)]).await;
        (unit, loaded.map(|states| states[0].version.get()))
    })
}

async fn holding(world: &World, id: &str) -> Unit {
    let mut unit = world.store("holder").begin().await.unwrap();
    unit.load(&[thing(id)]).await.unwrap();
    unit
}

#[test]
fn a_second_load_waits_and_sees_what_the_first_committed() {
    let world = World::new();
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let mut first = holding(&world, "k").await;
        let mut second = begin_load(world.store("b").begin().await.unwrap(), "k");
        assert!(second.poll().is_none());
        first.save(&thing("k"), Version::new(1), body("y")).await.unwrap();
        assert!(second.poll().is_none());
        first.commit().await.unwrap();
        assert_eq!(second.poll().unwrap().1, Ok(2));
    });
}

#[test]
fn a_dropped_unit_hands_its_lock_to_who_waited_longest() {
    let world = World::new();
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let first = holding(&world, "k").await;
        let mut second = begin_load(world.store("b").begin().await.unwrap(), "k");
        let mut third = begin_load(world.store("c").begin().await.unwrap(), "k");
        assert!(second.poll().is_none() && third.poll().is_none());
        drop(first);
        assert!(third.poll().is_none(), "the third overtook the second");
        let (unit, loaded) = second.poll().unwrap();
        assert_eq!(loaded, Ok(1));
        drop(unit);
        assert_eq!(third.poll().unwrap().1, Ok(1));
    });
}

#[test]
fn a_waiter_that_is_cancelled_neither_blocks_nor_gets_the_lock() {
    let world = World::new();
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let first = holding(&world, "k").await;
        let mut unit = world.store("b").begin().await.unwrap();
        {
            let ids = [thing("k")];
            let load = unit.load(&ids);
            assert!(world.env.timeout(secs(1), load).await.is_err());
        }
        drop(first);
        put(world.store("c").as_ref(), "k", 1).await.unwrap();
        let answer = unit.load(&[thing("k")]).await;
        assert!(matches!(answer, Err(TxError::Connection { .. })), "{answer:?}");
    });
}

#[test]
fn waiting_ends_at_the_lock_timeout() {
    let config = DatabaseConfig { lock_timeout: secs(3), ..DatabaseConfig::default() };
    let world = World::with(config, BrokerConfig::default());
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let _first = holding(&world, "k").await;
        let start = world.env.monotonic();
        let second = begin_load(world.store("b").begin().await.unwrap(), "k");
        assert_eq!(second.end().await.1, Err(TxError::Serialization));
        assert_eq!(world.env.monotonic().since(start), secs(3));
    });
}

#[test]
fn a_deadlock_has_one_victim_and_the_other_goes_on() {
    let world = World::new();
    world.run(async {
        for id in ["x", "y"] {
            put(world.store("a").as_ref(), id, 0).await.unwrap();
        }
        let first = holding(&world, "x").await;
        let second = holding(&world, "y").await;
        let mut first = begin_load(first, "y");
        assert!(first.poll().is_none());
        let (victim, answer) = begin_load(second, "x").poll().unwrap();
        assert_eq!(answer, Err(TxError::Serialization));
        let (unit, answer) = first.poll().unwrap();
        assert_eq!(answer, Ok(1), "the victim's locks were not released");
        assert_eq!(victim.commit().await, Err(TxError::Serialization));
        assert_eq!(unit.commit().await, Ok(()));
    });
}

#[test]
fn one_load_call_locks_in_id_order_whatever_the_order_asked_for() {
    let world = World::new();
    world.run(async {
        for id in ["x", "y"] {
            put(world.store("a").as_ref(), id, 0).await.unwrap();
        }
        let blocker = holding(&world, "x").await;
        let mut unit = world.store("b").begin().await.unwrap();
        let mut both = Begun::new(async move {
            let loaded = unit.load(&[thing("y"), thing("x")]).await;
            (unit, loaded)
        });
        assert!(both.poll().is_none());
        let other = holding(&world, "y").await;
        drop((blocker, other));
        let versions: Vec<_> = both.poll().unwrap().1.unwrap();
        assert_eq!(versions.len(), 2);
    });
}

#[test]
fn a_row_that_does_not_exist_is_locked_and_its_second_creator_finds_it() {
    let world = World::new();
    world.run(async {
        let mut first = world.store("a").begin().await.unwrap();
        assert_eq!(first.load(&[thing("k")]).await.unwrap()[0].version, Version::ABSENT);
        let mut second = world.store("b").begin().await.unwrap();
        let mut second = Begun::new(async move {
            let loaded = second.load(&[thing("k")]).await;
            (second, loaded)
        });
        assert!(second.poll().is_none(), "the second did not wait for the first's end");
        first.save(&thing("k"), Version::ABSENT, body("x")).await.unwrap();
        first.commit().await.unwrap();
        let (_, loaded) = second.poll().unwrap();
        assert_eq!(loaded.unwrap()[0].version, Version::new(1));
    });
}

#[test]
fn who_creates_without_a_load_waits_and_conflicts() {
    let world = World::new();
    world.run(async {
        let mut first = world.store("a").begin().await.unwrap();
        first.save(&thing("k"), Version::ABSENT, body("x")).await.unwrap();
        let mut second = begin_save(world.store("b").begin().await.unwrap(), "k", 0);
        assert!(second.poll().is_none(), "the second did not wait for the first's end");
        first.commit().await.unwrap();
        let (_, saved) = second.poll().unwrap();
        assert_eq!(saved, Err(TxError::Conflict { id: thing("k") }));
    });
}

#[test]
fn the_second_creator_proceeds_when_the_first_rolls_back() {
    let world = World::new();
    world.run(async {
        let mut first = world.store("a").begin().await.unwrap();
        first.save(&thing("k"), Version::ABSENT, body("x")).await.unwrap();
        let mut second = begin_save(world.store("b").begin().await.unwrap(), "k", 0);
        assert!(second.poll().is_none());
        drop(first);
        let (unit, saved) = second.poll().unwrap();
        assert_eq!(saved, Ok(()));
        unit.commit().await.unwrap();
        assert_eq!(version(&world, "k"), 1);
    });
}

#[test]
fn an_update_without_a_load_waits_and_checks_the_version_it_finds() {
    let world = World::new();
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let mut first = holding(&world, "k").await;
        first.save(&thing("k"), Version::new(1), body("x")).await.unwrap();
        let mut second = begin_save(world.store("b").begin().await.unwrap(), "k", 1);
        assert!(second.poll().is_none());
        first.commit().await.unwrap();
        let (_, saved) = second.poll().unwrap();
        assert_eq!(saved, Err(TxError::Conflict { id: thing("k") }));
        assert_eq!(version(&world, "k"), 2);
    });
}

#[test]
fn whoever_waits_learns_at_once_that_the_server_or_its_connection_is_gone() {
    for crash in [true, false] {
        let world = World::new();
        world.run(async {
            put(world.store("a").as_ref(), "k", 0).await.unwrap();
            let _holder = holding(&world, "k").await;
            let start = world.env.monotonic();
            let waiter = begin_load(world.store("b").begin().await.unwrap(), "k");
            let fault = async {
                world.env.sleep(secs(1)).await;
                if crash {
                    world.database.crash(false);
                } else {
                    world.database.reset_connections("b");
                }
            };
            let ((_, answer), ()) = join(waiter.end(), fault).await;
            assert!(matches!(answer, Err(TxError::Connection { .. })), "{answer:?}");
            assert_eq!(world.env.monotonic().since(start), secs(1));
        });
    }
}

#[test]
fn a_row_inserted_while_a_load_waits_is_among_its_rows() {
    let world = World::new();
    world.run(async {
        put(world.store("a").as_ref(), "a", 0).await.unwrap();
        let holder = holding(&world, "a").await;
        let mut unit = world.store("b").begin().await.unwrap();
        let mut both = Begun::new(async move {
            let loaded = unit.load(&[thing("a"), thing("b")]).await;
            (unit, loaded)
        });
        assert!(both.poll().is_none());
        put(world.store("c").as_ref(), "b", 0).await.unwrap();
        drop(holder);
        let (_, loaded) = both.poll().unwrap();
        let versions: Vec<_> = loaded.unwrap().iter().map(|state| state.version.get()).collect();
        assert_eq!(versions, [1, 1], "what is locked is read as it was committed last");
    });
}
