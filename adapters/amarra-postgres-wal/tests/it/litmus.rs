//! The ordering litmus: writers that contend, a relay of each kind that fight and crash, a stream
//! that breaks, and nothing may be lost, doubled or reordered. `AMARRA_LITMUS_SECONDS` says how
//! long, 8 by default.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amarra_core::{Entropy, PartitionKey, SeededEntropy};
use amarra_messaging::OutboxLog;
use amarra_messaging::message::{Owner, Seq};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError};
use amarra_postgres::{PgDatabase, PgOutbox};
use amarra_postgres_wal::WalConfig;
use testbed::{PgVersion, Proxy};

use crate::bed::{database, message, server, table, wal, wal_config};

const WRITERS: u64 = 6;
const KEYS: u64 = 20;
const LEASE: Duration = Duration::from_millis(300);

/// What the writers committed and what a broker that fences old epochs holds.
#[derive(Default)]
struct World {
    committed: BTreeMap<String, u64>,
    /// By shard and position: key and version.
    stored: BTreeMap<(u16, u64), (String, u64)>,
    epochs: BTreeMap<u16, u64>,
    appended: u64,
    repeated: u64,
    fenced: u64,
}

#[derive(Default)]
struct Run {
    world: Mutex<World>,
    writing: AtomicBool,
    stop: AtomicBool,
    crashes: AtomicU64,
}

impl Run {
    fn with<R>(&self, work: impl FnOnce(&mut World) -> R) -> R {
        work(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes rows; an epoch below the newest is refused.
    fn publish(&self, lease: &Lease, chunk: &Chunk, from: u64) -> bool {
        self.with(|world| {
            let newest = world.epochs.entry(lease.shard.0).or_default();
            if lease.epoch.0 < *newest {
                world.fenced += 1;
                return false;
            }
            *newest = lease.epoch.0;
            for (row, pos) in chunk.rows.iter().zip(from + 1..) {
                let envelope = amarra_messaging::wire::envelope(&row.record).unwrap();
                let what =
                    (envelope.partition_key.as_str().to_owned(), envelope.subject_version.get());
                world.appended += 1;
                let before = world.stored.insert((lease.shard.0, pos), what.clone());
                if let Some(before) = before {
                    assert_eq!(before, what, "a re-publish differs at {} {pos}", lease.shard);
                    world.repeated += 1;
                }
            }
            true
        })
    }
}

/// One business transaction: it may take its id early, then changes a key and says so.
async fn transaction(
    run: &Run,
    db: &PgDatabase,
    entropy: &SeededEntropy,
    pause: Duration,
    key: &str,
) -> Result<(), sqlx::Error> {
    let mut tx = db.pool().begin().await?;
    if entropy.below(3) == 0 {
        sqlx::query("SELECT pg_current_xact_id()").execute(&mut *tx).await?;
        tokio::time::sleep(Duration::from_micros(entropy.below(4000))).await;
    }
    let change = "INSERT INTO aggregate AS a (kind, id, version, body) VALUES ('k', $1, 1, '') \
                  ON CONFLICT (kind, id) DO UPDATE SET version = a.version + 1 RETURNING version";
    let version: i64 = sqlx::query_scalar(change).bind(key).fetch_one(&mut *tx).await?;
    let version = version.cast_unsigned();
    let outgoing = message(entropy, key, version);
    PgOutbox::new(db.config()).enqueue(&mut tx, &[outgoing]).await.expect("enqueue");
    tokio::time::sleep(pause).await;
    if entropy.below(10) == 0 {
        return tx.rollback().await;
    }
    tx.commit().await?;
    db.wake().outbox_committed();
    run.with(|world| {
        let known = world.committed.entry(key.to_owned()).or_default();
        *known = version.max(*known);
    });
    Ok(())
}

async fn writer(run: Arc<Run>, db: PgDatabase, n: u64) {
    let entropy = SeededEntropy::new(n, "writer");
    while run.writing.load(Ordering::Acquire) {
        let pause = Duration::from_micros(entropy.below(1500));
        let key = format!("key-{}", entropy.below(KEYS));
        transaction(&run, &db, &entropy, pause, &key).await.expect("transaction");
    }
}

/// A transaction that stays open for long, again and again, on a key of its own.
async fn background(run: Arc<Run>, db: PgDatabase) {
    let entropy = SeededEntropy::new(99, "background");
    while run.writing.load(Ordering::Acquire) {
        let pause = Duration::from_millis(700);
        transaction(&run, &db, &entropy, pause, "background").await.expect("transaction");
    }
}

/// A relay that crashes at every point, some of the time, and comes back under its name.
async fn relay(run: Arc<Run>, log: Arc<dyn OutboxLog>, n: u64) {
    let entropy = SeededEntropy::new(n, "relay");
    let owner = Owner::from(format!("relay-{n}").as_str());
    while !run.stop.load(Ordering::Acquire) {
        let leases = log.lease(&owner, 3, LEASE).await.expect("lease");
        let held = Instant::now();
        for lease in &leases {
            let rounds = 1 + entropy.below(30);
            match serve(&run, log.as_ref(), lease, &entropy, (rounds, held)).await {
                Ok(()) | Err(LogError::Fenced { .. }) => {}
                Err(e) => panic!("relay-{n}: {e}"),
            }
        }
        if entropy.below(3) == 0 {
            log.give_back(&leases).await.expect("give back");
        }
        tokio::time::sleep(Duration::from_millis(entropy.below(20))).await;
    }
}

async fn serve(
    run: &Run,
    log: &dyn OutboxLog,
    lease: &Lease,
    entropy: &SeededEntropy,
    (rounds, held): (u64, Instant),
) -> Result<(), LogError> {
    let mut cursor = log.resume(lease).await?.cursor;
    for _ in 0..rounds {
        // Most stop in time; a zombie goes on.
        if held.elapsed() > LEASE * 2 / 3 && entropy.below(4) != 0 {
            return Ok(());
        }
        let limit = usize::try_from(1 + entropy.below(40)).unwrap();
        let chunk = log.next_chunk(lease, &cursor, limit).await?;
        if chunk.rows.is_empty() {
            cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
            log.checkpoint(lease, &cursor).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        cursor.cur = Some(chunk.cur.clone());
        log.checkpoint(lease, &cursor).await?;
        if entropy.below(40) == 0 {
            run.crashes.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if entropy.below(60) == 0 {
            // A pause long enough to lose the lease: what follows comes from a zombie.
            tokio::time::sleep(LEASE + LEASE / 2).await;
        }
        if !run.publish(lease, &chunk, cursor.pos.0) {
            return Ok(());
        }
        if entropy.below(40) == 0 {
            run.crashes.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        cursor.pos.0 += chunk.rows.len() as u64;
        cursor.last_seq = chunk.rows.last().expect("rows").seq;
        if chunk.last {
            cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
        }
        log.checkpoint(lease, &cursor).await?;
    }
    Ok(())
}

/// Runs the litmus for `duration` and asserts its claims.
pub(crate) async fn litmus(version: PgVersion, duration: Duration) {
    let db = database(version).await;
    let run = Arc::new(Run::default());
    run.writing.store(true, Ordering::Release);
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        writers.push(tokio::spawn(writer(Arc::clone(&run), db.clone(), n)));
    }
    writers.push(tokio::spawn(background(Arc::clone(&run), db.clone())));
    let mut relays = Vec::new();
    // One of each kind, so that each goes on where the other was; both may fight for a shard.
    let proxy = Arc::new(Proxy::start(server(version).addr()).expect("a proxy"));
    let short = Duration::from_millis(20);
    let config = WalConfig { catch_up: short, ..wal_config(&db, proxy.addr()) };
    let wal = wal(&db, config).await;
    relays.push(tokio::spawn(relay(Arc::clone(&run), wal.log.clone(), 0)));
    relays.push(tokio::spawn(relay(Arc::clone(&run), table(&db).await, 1)));
    let cuts = tokio::spawn(cut(Arc::clone(&run), proxy));
    tokio::time::sleep(duration).await;
    run.writing.store(false, Ordering::Release);
    for task in writers {
        task.await.expect("a writer");
    }
    let patience = Instant::now() + Duration::from_secs(60);
    let expect: u64 = run.with(|world| world.committed.values().sum());
    while run.with(|world| world.stored.len() as u64) < expect && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Whatever is published twice under another position would come about now.
    tokio::time::sleep(LEASE * 2).await;
    run.stop.store(true, Ordering::Release);
    for task in relays {
        task.await.expect("a relay");
    }
    cuts.await.expect("the one who cuts");
    let status = wal.log.status();
    eprint!("{version:?}, {} streams, {} rows of the log: ", status.streams, status.from_log);
    assert!(status.streams > 1 && status.from_log > 0, "{status:?}");
    verify(&run, expect);
    db.close().await;
}

/// Breaks the stream now and then.
async fn cut(run: Arc<Run>, proxy: Arc<Proxy>) {
    let entropy = SeededEntropy::new(5, "cut");
    while run.writing.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(700 + entropy.below(1500))).await;
        proxy.cut_now();
    }
}

fn verify(run: &Run, expect: u64) {
    let crashes = run.crashes.load(Ordering::Relaxed);
    run.with(|world| {
        eprintln!(
            "{expect} committed, {} published, {} repeated at their position, {crashes} crashes, \
             {} fenced by the broker",
            world.appended, world.repeated, world.fenced
        );
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        let mut seen: BTreeMap<PartitionKey, u64> = BTreeMap::new();
        for (&(shard, pos), (key, version)) in &world.stored {
            let dense = next.entry(shard).or_insert(1);
            assert_eq!(pos, *dense, "positions of shard {shard} are not dense");
            *dense += 1;
            let last = seen.entry(PartitionKey::from(key.as_str())).or_default();
            assert_eq!(*version, *last + 1, "{key}: version {version} follows {last}");
            *last = *version;
        }
        for (key, version) in &world.committed {
            let got = seen.get(&PartitionKey::from(key.as_str())).copied().unwrap_or(0);
            assert_eq!(got, *version, "{key}: versions were lost");
        }
        assert_eq!(world.stored.len() as u64, expect, "a row was doubled under another position");
        assert!(expect > 0);
    });
}

fn duration() -> Duration {
    let seconds = std::env::var("AMARRA_LITMUS_SECONDS").ok();
    Duration::from_secs(seconds.map_or(8, |s| s.parse().expect("AMARRA_LITMUS_SECONDS")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_on_18() {
    litmus(PgVersion::V18, duration()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_on_15() {
    litmus(PgVersion::V15, duration()).await;
}
