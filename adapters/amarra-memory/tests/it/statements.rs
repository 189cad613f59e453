//! Statements in transactions of their own: leases and bounds, and what each fault leaves behind.

use amarra_core::Version;
use amarra_memory::{BrokerConfig, ClientId, DatabaseConfig, Effect, MemoryStore};
use amarra_messaging::message::{Owner, Pos, Seq};
use amarra_messaging::outbox::{Cursor, LogError, ParkedRow};
use amarra_messaging::{OutboxLog, TxError};
use amarra_store::read_model::{PageQuery, ViewWrite};
use amarra_store::{Claim, DueQuery, ReadModel, Store};

use crate::world::{World, body, outgoing, secs, thing};

const FAULTS: [Effect; 4] =
    [Effect::Fail, Effect::LoseRequest, Effect::Serialization, Effect::LoseReply];

fn world() -> World {
    let config = DatabaseConfig { shards: 1, lease_max: secs(10), ..DatabaseConfig::default() };
    World::with(config, BrokerConfig::default())
}

fn store(world: &World) -> MemoryStore {
    world.database.connect(ClientId::new("a", 1))
}

async fn claim(store: &MemoryStore, lease: u64) -> Result<Vec<Claim>, TxError> {
    let (kind, owner) = ("thing".into(), Owner::from("one"));
    store.claim_due(&DueQuery { kind, owner, lease: secs(lease), limit: 9 }).await
}

async fn set_timer(store: &MemoryStore) {
    let mut unit = store.begin().await.unwrap();
    unit.schedule(&thing("k"), Some(secs(0))).await.unwrap();
    unit.commit().await.unwrap();
}

#[test]
fn no_lease_is_longer_than_its_bound() {
    let world = world();
    world.run(async {
        let store = store(&world);
        set_timer(&store).await;
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let lease = async |owner: &str| log.lease(&owner.into(), 1, secs(60)).await.unwrap().len();
        assert_eq!((claim(&store, 60).await.unwrap().len(), lease("one").await), (1, 1));
        world.env.sleep(secs(9)).await;
        assert_eq!((claim(&store, 60).await.unwrap().len(), lease("two").await), (0, 0));
        world.env.sleep(secs(1)).await;
        assert_eq!((claim(&store, 60).await.unwrap().len(), lease("two").await), (1, 1));
    });
}

#[test]
fn a_claim_whose_answer_was_lost_is_claimable_after_its_lease() {
    for effect in FAULTS {
        let world = world();
        world.run(async {
            let store = store(&world);
            set_timer(&store).await;
            world.script.strike("claim_due", effect);
            assert!(claim(&store, 5).await.is_err(), "{effect:?}");
            let at_once = claim(&store, 5).await.unwrap().len();
            assert_eq!(at_once, usize::from(effect != Effect::LoseReply), "{effect:?}");
            world.env.sleep(secs(5)).await;
            assert_eq!(claim(&store, 5).await.unwrap().len(), 1, "{effect:?}");
        });
    }
}

#[test]
fn a_fault_fails_begin_and_reads_and_leaves_nothing_behind() {
    for effect in FAULTS {
        let world = world();
        world.run(async {
            let store = store(&world);
            for operation in ["begin", "audit_rows", "read_view", "read_view"] {
                world.script.strike(operation, effect);
            }
            let query = PageQuery { view: "v".into(), prefix: "".into(), after: None, limit: 1 };
            assert!(store.begin().await.is_err(), "{effect:?}");
            assert!(store.audit_rows(0, 1).await.is_err(), "{effect:?}");
            assert!(store.get("v", "k").await.is_err(), "{effect:?}");
            assert!(store.page(&query).await.is_err(), "{effect:?}");
            assert!(store.begin().await.is_ok(), "one fault struck twice");
        });
    }
}

#[test]
fn a_checkpoint_whose_answer_was_lost_is_saved() {
    for effect in FAULTS {
        let world = world();
        world.run(async {
            let log = world.database.outbox_log(ClientId::new("relay", 1));
            let lease = log.lease(&"one".into(), 1, secs(9)).await.unwrap().pop().unwrap();
            let cursor = Cursor { last_seq: Seq(7), ..Cursor::default() };
            world.script.strike("log_checkpoint", effect);
            let answer = log.checkpoint(&lease, &cursor).await;
            assert!(matches!(answer, Err(LogError::Unavailable { .. })), "{effect:?}: {answer:?}");
            let saved = log.resume(&lease).await.unwrap().cursor;
            assert_eq!(saved == cursor, effect == Effect::LoseReply, "{effect:?}");
        });
    }
}

#[test]
fn a_release_wakes_the_relay() {
    let world = world();
    world.run(async {
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let lease = log.lease(&"one".into(), 1, secs(9)).await.unwrap().pop().unwrap();
        let message = outgoing("k", 1);
        let row = parked(&message);
        log.park(&lease, &[row]).await.unwrap();
        assert!(world.env.timeout(secs(1), log.changed()).await.is_err());
        log.release(&"things".into(), &"k".into()).await.unwrap();
        assert!(world.env.timeout(secs(1), log.changed()).await.is_ok());
        assert_eq!(log.released(&lease, 9).await.unwrap().len(), 1);
    });
}

#[test]
fn a_released_row_is_its_own_shards_work() {
    let world = World::new();
    world.run(async {
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let leases = log.lease(&"one".into(), 4, secs(9)).await.unwrap();
        let message = outgoing("k", 1);
        let row = parked(&message);
        log.park(&leases[2], &[row]).await.unwrap();
        log.release(&"things".into(), &"k".into()).await.unwrap();
        let mut released = Vec::new();
        for lease in &leases {
            released.push(log.released(lease, 9).await.unwrap().len());
        }
        assert_eq!(released, [0, 0, 1, 0]);
    });
}

#[test]
fn an_unknown_shard_is_a_clear_error() {
    let world = world();
    world.run(async {
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let lease = log.lease(&"one".into(), 1, secs(9)).await.unwrap().pop().unwrap();
        let strange =
            amarra_messaging::outbox::Lease { shard: amarra_messaging::message::Shard(7), ..lease };
        let answer = log.next_chunk(&strange, &Cursor::default(), 1).await;
        assert!(answer.unwrap_err().to_string().contains("no shard 7"));
        assert!(log.resume(&strange).await.is_err());
        assert!(log.checkpoint(&strange, &Cursor::default()).await.is_err());
    });
}

#[test]
fn a_page_stays_within_its_prefix_and_names_the_next_one_only_if_there_is_one() {
    let world = world();
    world.run(async {
        let store = store(&world);
        let mut unit = store.begin().await.unwrap();
        for key in ["a/1", "a/2", "a/3", "b/1"] {
            let (view, key) = ("v".into(), key.into());
            let (position, body) = (Version::new(1), Some(body("row")));
            unit.write_view(ViewWrite { view, key, position, body }).await.unwrap();
        }
        unit.commit().await.unwrap();
        let page = async |prefix: &str, after: Option<&str>, limit| {
            let (view, prefix) = ("v".into(), prefix.into());
            let after = after.map(Into::into);
            let page = store.page(&PageQuery { view, prefix, after, limit }).await.unwrap();
            let keys: Vec<_> = page.rows.iter().map(|row| row.key.to_string()).collect();
            (keys.join(" "), page.next.map(|next| next.to_string()))
        };
        let next = |key: &str| Some(key.to_owned());
        assert_eq!(page("a/", None, 2).await, ("a/1 a/2".to_owned(), next("a/2")));
        assert_eq!(page("a/", Some("a/2"), 2).await, ("a/3".to_owned(), None));
        assert_eq!(page("a/", None, 3).await, ("a/1 a/2 a/3".to_owned(), None));
        assert_eq!(page("a/", Some("a"), 1).await, ("a/1".to_owned(), next("a/1")));
        assert_eq!(page("b/", Some("a/2"), 9).await, ("b/1".to_owned(), None));
        assert_eq!(page("", None, 9).await.0, "a/1 a/2 a/3 b/1");
        assert_eq!(page("c", None, 9).await, (String::new(), None));
    });
}

fn parked(message: &amarra_messaging::Outgoing) -> ParkedRow {
    let record = amarra_messaging::wire::encode(&message.envelope, None);
    let topic = message.topic.clone();
    ParkedRow { seq: Seq(1), pos: Pos(1), topic, record, reason: "refused".into() }
}
