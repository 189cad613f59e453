//! The outbox log where order goes wrong elsewhere: late commits, early ids, taken-over leases.

use amarra_core::Version;
use amarra_memory::{ClientId, DatabaseConfig, MemoryOutboxLog};
use amarra_messaging::OutboxLog;
use amarra_messaging::message::{Owner, Seq};
use amarra_messaging::outbox::{Cursor, Lease, LogError};

use crate::world::{World, body, outgoing, put, secs, thing};

fn one_shard() -> World {
    let config = DatabaseConfig { shards: 1, ..DatabaseConfig::default() };
    World::with(config, amarra_memory::BrokerConfig::default())
}

async fn relay(world: &World) -> (MemoryOutboxLog, Lease, Cursor) {
    let log = world.database.outbox_log(ClientId::new("relay", 1));
    let lease = log.lease(&Owner::from("relay"), 1, secs(60)).await.unwrap().pop().unwrap();
    (log, lease, Cursor::default())
}

/// Reads one whole batch and returns the numbers of its messages.
async fn batch(log: &MemoryOutboxLog, lease: &Lease, cursor: &mut Cursor) -> Vec<u128> {
    let chunk = log.next_chunk(lease, cursor, 100).await.unwrap();
    assert!(chunk.last);
    cursor.prev = chunk.cur;
    chunk
        .rows
        .iter()
        .map(|row| amarra_messaging::wire::envelope(&row.record).unwrap().id.as_uuid().as_u128())
        .collect()
}

/// The unrelated early transaction of S2 holds `xmin` back; the first version committed behind it
/// must not wait for it while the second passes.
#[test]
fn a_later_version_never_overtakes_an_earlier_one_behind_an_open_transaction() {
    let world = one_shard();
    world.run(async {
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        let (log, lease, mut cursor) = relay(&world).await;
        // Draws its id first and locks the aggregate last.
        let mut early = world.store("early").begin().await.unwrap();
        early.save(&thing("unrelated"), Version::ABSENT, body("x")).await.unwrap();
        let mut first = world.store("b").begin().await.unwrap();
        first.save(&thing("k"), Version::new(1), body("x")).await.unwrap();
        first.enqueue(&[outgoing("k", 1)]).await.unwrap();
        first.commit().await.unwrap();
        early.load(&[thing("k")]).await.unwrap();
        early.save(&thing("k"), Version::new(2), body("x")).await.unwrap();
        early.enqueue(&[outgoing("k", 2)]).await.unwrap();
        early.commit().await.unwrap();
        assert_eq!(batch(&log, &lease, &mut cursor).await, [1, 2], "ordered by id, not sequence");
        assert_eq!(batch(&log, &lease, &mut cursor).await, [0_u128; 0]);
    });
}

#[test]
fn a_late_commit_of_a_low_sequence_value_is_read_exactly_once() {
    let world = one_shard();
    world.run(async {
        let (log, lease, mut cursor) = relay(&world).await;
        let mut late = world.store("late").begin().await.unwrap();
        late.enqueue(&[outgoing("slow", 1)]).await.unwrap();
        let mut fast = world.store("fast").begin().await.unwrap();
        fast.enqueue(&[outgoing("fast", 2)]).await.unwrap();
        fast.commit().await.unwrap();
        assert_eq!(batch(&log, &lease, &mut cursor).await, [2]);
        late.commit().await.unwrap();
        assert_eq!(batch(&log, &lease, &mut cursor).await, [1]);
        assert_eq!(batch(&log, &lease, &mut cursor).await, [0_u128; 0]);
    });
}

#[test]
fn a_batch_keeps_its_rows_however_often_and_in_whatever_pieces_it_is_read() {
    let world = one_shard();
    world.run(async {
        let (log, lease, mut cursor) = relay(&world).await;
        let mut open = world.store("open").begin().await.unwrap();
        open.enqueue(&[outgoing("o", 100)]).await.unwrap();
        let mut unit = world.store("a").begin().await.unwrap();
        let messages: Vec<_> = (0..5).map(|n| outgoing("k", n)).collect();
        unit.enqueue(&messages).await.unwrap();
        unit.commit().await.unwrap();
        let first = log.next_chunk(&lease, &cursor, 2).await.unwrap();
        assert!(!first.last);
        cursor.cur = Some(first.cur.clone());
        open.commit().await.unwrap();
        assert_eq!(log.next_chunk(&lease, &cursor, 2).await.unwrap(), first);
        cursor.last_seq = first.rows[1].seq;
        let rest = log.next_chunk(&lease, &cursor, 3).await.unwrap();
        assert!(rest.last, "exactly as many as asked for are left");
        assert_eq!(rest.rows.len(), 3, "a row committed after the snapshot came into its batch");
        let next = Cursor { prev: first.cur, ..Cursor::default() };
        assert_eq!(log.next_chunk(&lease, &next, 9).await.unwrap().rows.len(), 1);
    });
}

#[test]
fn keys_are_spread_over_shards_and_a_key_stays_in_its_own() {
    let world = World::new();
    world.run(async {
        for n in 0..32 {
            let mut unit = world.store("a").begin().await.unwrap();
            unit.enqueue(&[outgoing(&format!("k{}", n % 16), n)]).await.unwrap();
            unit.commit().await.unwrap();
        }
    });
    let mut shard_of = std::collections::BTreeMap::new();
    world.database.inspect(|i| {
        for row in i.outbox() {
            let key = row.message.envelope.partition_key.clone();
            assert_eq!(*shard_of.entry(key).or_insert(row.shard), row.shard);
            assert!(!row.acknowledged && !row.parked);
        }
    });
    let used: std::collections::BTreeSet<_> = shard_of.values().collect();
    assert_eq!(used.len(), 4);
}

#[test]
fn a_lease_passes_on_by_the_database_clock_and_fences_its_old_holder() {
    let world = one_shard();
    world.run(async {
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let take = |owner: &'static str| log.lease_of(owner);
        let old = take("one").await.pop().unwrap();
        assert_eq!(take("two").await, vec![], "a live lease was taken");
        world.env.sleep(secs(9)).await;
        assert_eq!(take("one").await, vec![old.clone()], "a renewal changes no epoch");
        world.env.sleep(secs(9)).await;
        assert_eq!(take("two").await, vec![], "the renewal did not count");
        world.env.sleep(secs(1)).await;
        let new = take("two").await.pop().unwrap();
        assert!(new.epoch > old.epoch);
        let cursor = Cursor { last_seq: Seq(9), ..Cursor::default() };
        let fenced = Err(LogError::Fenced { shard: old.shard, epoch: old.epoch });
        assert_eq!(log.checkpoint(&old, &cursor).await, fenced);
        log.give_back(&[old]).await.unwrap();
        assert_eq!(take("three").await, vec![], "an old lease gave the new one back");
        log.give_back(&[new]).await.unwrap();
        assert_eq!(take("three").await.len(), 1);
    });
}

#[test]
fn a_lease_that_ran_out_is_taken_anew_even_by_its_holder() {
    let world = one_shard();
    world.run(async {
        let log = world.database.outbox_log(ClientId::new("relay", 1));
        let old = log.lease_of("one").await.pop().unwrap();
        world.env.sleep(secs(10)).await;
        let new = log.lease_of("one").await.pop().unwrap();
        assert!(new.epoch > old.epoch);
    });
}

trait LeaseOf {
    async fn lease_of(&self, owner: &str) -> Vec<Lease>;
}

impl LeaseOf for MemoryOutboxLog {
    async fn lease_of(&self, owner: &str) -> Vec<Lease> {
        self.lease(&Owner::from(owner), 1, secs(10)).await.unwrap()
    }
}

#[test]
fn a_checkpoint_marks_rows_as_acknowledged_up_to_its_sequence() {
    let world = one_shard();
    world.run(async {
        let (log, lease, mut cursor) = relay(&world).await;
        let mut unit = world.store("a").begin().await.unwrap();
        unit.enqueue(&[outgoing("k", 1), outgoing("k", 2)]).await.unwrap();
        unit.commit().await.unwrap();
        let chunk = log.next_chunk(&lease, &cursor, 9).await.unwrap();
        cursor.cur = Some(chunk.cur.clone());
        cursor.last_seq = chunk.rows[0].seq;
        log.checkpoint(&lease, &cursor).await.unwrap();
        let acknowledged =
            || world.database.inspect(|i| i.outbox().map(|r| r.acknowledged).collect::<Vec<_>>());
        assert_eq!(acknowledged(), [true, false]);
        let closed = Cursor { prev: chunk.cur, ..Cursor::default() };
        log.checkpoint(&lease, &closed).await.unwrap();
        assert_eq!(acknowledged(), [true, true]);
    });
}

#[test]
fn a_wait_for_changes_ends_with_a_commit_that_appended() {
    let world = one_shard();
    world.run(async {
        let (log, ..) = relay(&world).await;
        assert!(world.env.timeout(secs(1), log.changed()).await.is_err());
        put(world.store("a").as_ref(), "k", 0).await.unwrap();
        assert!(world.env.timeout(secs(1), log.changed()).await.is_err(), "nothing was appended");
        let mut unit = world.store("a").begin().await.unwrap();
        unit.enqueue(&[outgoing("k", 1)]).await.unwrap();
        unit.commit().await.unwrap();
        assert!(world.env.timeout(secs(1), log.changed()).await.is_ok(), "a change was missed");
        let commit = async {
            world.env.sleep(secs(1)).await;
            let mut unit = world.store("a").begin().await.unwrap();
            unit.enqueue(&[outgoing("k", 2)]).await.unwrap();
            unit.commit().await.unwrap();
        };
        let wait = world.env.timeout(secs(9), log.changed());
        let start = world.env.monotonic();
        assert!(futures_util::future::join(commit, wait).await.1.is_ok());
        assert_eq!(world.env.monotonic().since(start), secs(1));
    });
}
