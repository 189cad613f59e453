//! The relay's driver on virtual time: leases, wake-ups, timeouts and shutdown.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::{Environment, Monotonic, PartitionKey};
use amarra_messaging::message::{Epoch, Owner, Seq, Shard};
use amarra_messaging::outbox::{Chunk, Cursor, Lease, LogError, ParkedRow, Resumed, Row, Snapshot};
use amarra_messaging::relay::{
    Relay, RelayConfig, RelayEvent, RelayObserver, RelayStats, StopReason,
};
use amarra_messaging::transport::{Publish, PublishError};
use amarra_messaging::{OutboxLog, Session, Shutdown, Topic, Transport};
use async_trait::async_trait;
use futures_util::future::join;
use tokio::sync::Notify;

use crate::relay_world::row;
use crate::virtual_time::VirtualTime;

/// An outbox whose transactions commit at once, one id each, over two shards; and its broker.
#[derive(Debug)]
struct Fake {
    env: Environment,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    rows: Vec<(Shard, u64, Row)>,
    cursors: BTreeMap<Shard, Cursor>,
    leases: BTreeMap<Shard, (Owner, u64, Monotonic)>,
    reads: usize,
    lease_calls: usize,
    given_back: usize,
    down_until: Monotonic,
    broker: BTreeMap<Shard, u64>,
    stored: Vec<(Shard, u64)>,
    hang_publishes: usize,
    /// How many records of the next publish are stored before the connection breaks.
    breaks_after: Option<usize>,
    lease_takes: Duration,
    give_backs: usize,
    silent: bool,
    checkpoints: usize,
    /// Whether a read saves the cursor that opens its batch.
    opens: bool,
}

impl Fake {
    fn new(time: &Arc<VirtualTime>) -> Arc<Self> {
        let env = time.environment();
        Arc::new(Self { env, state: Mutex::default(), changed: Notify::new() })
    }

    fn commit(&self, shard: u16) {
        let mut state = self.state.lock().unwrap();
        let n = u64::try_from(state.rows.len()).unwrap() + 1;
        let row = row(n, "k");
        state.rows.push((Shard(shard), n, row));
        if !state.silent {
            self.changed.notify_one();
        }
    }

    fn up(&self) -> Result<std::sync::MutexGuard<'_, State>, LogError> {
        let state = self.state.lock().unwrap();
        if self.env.monotonic() < state.down_until {
            return Err(LogError::Unavailable { why: "down".to_owned() });
        }
        Ok(state)
    }

    fn owned(&self, lease: &Lease) -> Result<std::sync::MutexGuard<'_, State>, LogError> {
        let state = self.up()?;
        if state.leases.get(&lease.shard).is_none_or(|(_, epoch, _)| *epoch != lease.epoch.0) {
            return Err(LogError::Fenced { shard: lease.shard, epoch: lease.epoch });
        }
        Ok(state)
    }

    fn stored(&self) -> Vec<(u16, u64)> {
        let state = self.state.lock().unwrap();
        state.stored.iter().map(|(shard, seq)| (shard.0, *seq)).collect()
    }
}

#[async_trait]
impl OutboxLog for Fake {
    fn source(&self) -> Arc<str> {
        "fake".into()
    }

    async fn lease(
        &self,
        owner: &Owner,
        limit: usize,
        ttl: Duration,
    ) -> Result<Vec<Lease>, LogError> {
        let now = self.env.monotonic();
        let takes = self.state.lock().unwrap().lease_takes;
        self.env.sleep(takes).await;
        let mut state = self.up()?;
        state.lease_calls += 1;
        let mut leases = Vec::new();
        for shard in [Shard(0), Shard(1)].into_iter().take(limit) {
            let (holder, epoch, ends) =
                state.leases.entry(shard).or_insert_with(|| (owner.clone(), 1, now));
            if holder != owner && *ends <= now {
                (*holder, *epoch) = (owner.clone(), *epoch + 1);
            }
            if holder == owner {
                *ends = now.plus(ttl);
                leases.push(Lease { shard, epoch: Epoch(*epoch), owner: owner.clone() });
            }
        }
        Ok(leases)
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        let mut state = self.up()?;
        state.give_backs += 1;
        for lease in leases {
            if let Some((_, epoch, ends)) = state.leases.get_mut(&lease.shard)
                && *epoch == lease.epoch.0
            {
                *ends = Monotonic::default();
                state.given_back += 1;
            }
        }
        Ok(())
    }

    async fn resume(&self, lease: &Lease) -> Result<Resumed, LogError> {
        let state = self.owned(lease)?;
        let cursor = state.cursors.get(&lease.shard).cloned().unwrap_or_default();
        Ok(Resumed { cursor, ..Resumed::default() })
    }

    async fn next_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Chunk, LogError> {
        let mut state = self.owned(lease)?;
        state.reads += 1;
        let xmax = u64::try_from(state.rows.len()).unwrap() + 1;
        let cur = cursor.cur.clone().unwrap_or(Snapshot { xmin: xmax, xmax, xip: Vec::new() });
        let in_batch = |(shard, xid, row): &&(Shard, u64, Row)| {
            *shard == lease.shard
                && cur.sees(*xid)
                && !cursor.prev.sees(*xid)
                && row.seq > cursor.last_seq
        };
        let mut rows: Vec<_> =
            state.rows.iter().filter(in_batch).map(|(_, _, row)| row.clone()).collect();
        let last = rows.len() <= limit;
        rows.truncate(limit);
        Ok(Chunk { cur, rows, last })
    }

    async fn open_chunk(
        &self,
        lease: &Lease,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<(Chunk, bool), LogError> {
        let chunk = self.next_chunk(lease, cursor, limit).await?;
        let mut state = self.owned(lease)?;
        let saves = state.opens && cursor.cur.is_none() && !chunk.rows.is_empty();
        if saves {
            let opened = Cursor { cur: Some(chunk.cur.clone()), ..cursor.clone() };
            state.cursors.insert(lease.shard, opened);
        }
        Ok((chunk, saves))
    }

    async fn checkpoint(&self, lease: &Lease, cursor: &Cursor) -> Result<(), LogError> {
        let mut state = self.owned(lease)?;
        state.checkpoints += 1;
        state.cursors.insert(lease.shard, cursor.clone());
        Ok(())
    }

    async fn park(&self, _: &Lease, _: &[ParkedRow]) -> Result<(), LogError> {
        panic!("nothing is refused here")
    }

    async fn released(&self, _: &Lease, _: usize) -> Result<Vec<ParkedRow>, LogError> {
        Ok(Vec::new())
    }

    async fn settle(&self, _: &Lease, _: &[ParkedRow]) -> Result<(), LogError> {
        Ok(())
    }

    async fn parked(&self, _: Seq, _: usize) -> Result<Vec<ParkedRow>, LogError> {
        Ok(Vec::new())
    }

    async fn release(&self, _: &Topic, _: &PartitionKey) -> Result<(), LogError> {
        Ok(())
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[derive(Debug)]
struct FakeTransport(Arc<Fake>);

#[derive(Debug)]
struct FakeSession(Arc<Fake>, Lease);

#[async_trait]
impl Transport for FakeTransport {
    async fn open(&self, lease: &Lease) -> Result<Box<dyn Session>, PublishError> {
        let known = &mut self.0.state.lock().unwrap().broker;
        let newest = known.entry(lease.shard).or_default();
        *newest = lease.epoch.0.max(*newest);
        Ok(Box::new(FakeSession(Arc::clone(&self.0), lease.clone())))
    }
}

#[async_trait]
impl Session for FakeSession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let hang = {
            let mut state = self.0.state.lock().unwrap();
            let hang = state.hang_publishes > 0;
            state.hang_publishes = state.hang_publishes.saturating_sub(1);
            hang
        };
        if hang {
            std::future::pending::<()>().await;
        }
        self.0.env.sleep(Duration::from_millis(2)).await;
        let mut state = self.0.state.lock().unwrap();
        let (shard, epoch) = (self.1.shard, self.1.epoch);
        if state.broker.get(&shard).is_some_and(|newest| *newest > epoch.0) {
            return Err(PublishError::Fenced { shard, epoch });
        }
        let breaks_after = state.breaks_after.take();
        for publish in &records[..breaks_after.unwrap_or(records.len())] {
            let id = publish.record.headers.get("ce_id").unwrap();
            let id: uuid::Uuid = std::str::from_utf8(id).unwrap().parse().unwrap();
            state.stored.push((shard, u64::try_from(id.as_u128()).unwrap()));
        }
        match breaks_after {
            Some(acked) => Err(PublishError::Unavailable { acked, why: "broken".to_owned() }),
            None => Ok(()),
        }
    }
}

fn relay(fake: &Arc<Fake>, owner: &str) -> (Relay, Arc<RelayStats>) {
    let transport = Arc::new(FakeTransport(Arc::clone(fake)));
    let log: Arc<dyn OutboxLog> = Arc::clone(fake) as Arc<dyn OutboxLog>;
    let env = fake.env.clone();
    let relay = Relay::new(log, transport, env, Owner::from(owner), RelayConfig::default());
    let stats = Arc::new(RelayStats::default());
    (relay.unwrap().observed_by(Arc::clone(&stats) as Arc<_>), stats)
}

/// Runs a relay beside a script, which ends with a request to stop.
fn scripted(
    time: &Arc<VirtualTime>,
    fake: &Arc<Fake>,
    script: impl Future<Output = ()>,
) -> Arc<RelayStats> {
    let (relay, stats) = relay(fake, "relay-1");
    let (handle, shutdown) = Shutdown::new();
    time.run(join(relay.run(shutdown), async {
        script.await;
        handle.request();
    }));
    stats
}

#[test]
fn commits_are_published_at_once_and_leases_given_back_at_the_end() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let stats = scripted(&time, &fake, async {
        fake.env.sleep(Duration::from_millis(10)).await;
        for n in 0..3 {
            fake.commit(n % 2);
            fake.env.sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(fake.stored(), [(0, 1), (1, 2), (0, 3)]);
    assert_eq!(stats.published.load(Ordering::Relaxed), 3);
    let state = fake.state.lock().unwrap();
    assert_eq!(state.given_back, 2);
    assert!(state.cursors.values().all(|c| c.cur.is_none()), "the final cursors are saved");
    let pos: Vec<_> = state.cursors.values().map(|c| c.pos.0).collect();
    assert_eq!(pos, [2, 1]);
}

/// What a read saved is not saved again; what it did not save is, before anything is published.
#[test]
fn a_batch_that_is_saved_as_it_is_read_costs_no_checkpoint() {
    for (opens, checkpoints) in [(false, 3 + 1), (true, 1)] {
        let time = Arc::new(VirtualTime::default());
        let fake = Fake::new(&time);
        fake.state.lock().unwrap().opens = opens;
        scripted(&time, &fake, async {
            fake.env.sleep(Duration::from_millis(10)).await;
            for n in 1..=3_u64 {
                fake.commit(0);
                fake.env.sleep(Duration::from_millis(5)).await;
                let state = fake.state.lock().unwrap();
                let saved = &state.cursors[&Shard(0)];
                assert_eq!((saved.pos.0, saved.cur.is_some()), (n - 1, true), "before batch {n}");
            }
        });
        assert_eq!(fake.stored(), [(0, 1), (0, 2), (0, 3)]);
        // The last one is that of the end.
        assert_eq!(fake.state.lock().unwrap().checkpoints, checkpoints, "opens: {opens}");
        let state = fake.state.lock().unwrap();
        assert_eq!((state.cursors[&Shard(0)].pos.0, &state.cursors[&Shard(0)].cur), (3, &None));
    }
}

#[test]
fn an_outbox_that_tells_nothing_is_polled() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.state.lock().unwrap().silent = true;
    scripted(&time, &fake, async {
        fake.env.sleep(Duration::from_secs(5)).await;
        fake.commit(0);
        fake.env.sleep(RelayConfig::default().poll_max + Duration::from_millis(10)).await;
        assert_eq!(fake.stored(), [(0, 1)]);
    });
}

#[test]
fn an_idle_relay_costs_about_a_timer_a_second() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    scripted(&time, &fake, fake.env.sleep(Duration::from_secs(60)));
    let state = fake.state.lock().unwrap();
    assert!(state.reads <= 2 * 64, "{} reads of two shards", state.reads);
    assert!(state.lease_calls <= 62, "{} lease calls", state.lease_calls);
    assert!(time.timers_set() <= 200, "{} timers in 60 s", time.timers_set());
}

#[test]
fn a_publish_that_hangs_is_given_up_and_repeated() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.state.lock().unwrap().hang_publishes = 2;
    let stats = scripted(&time, &fake, async {
        fake.commit(0);
        fake.env.sleep(Duration::from_secs(3)).await;
    });
    assert_eq!(fake.stored(), [(0, 1)]);
    assert_eq!(stats.failures.load(Ordering::Relaxed), 2);
}

#[test]
fn a_relay_that_cannot_renew_stops_before_its_lease_ends_and_comes_back() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    scripted(&time, &fake, async {
        fake.env.sleep(Duration::from_millis(100)).await;
        let now = fake.env.monotonic();
        fake.state.lock().unwrap().down_until = now.plus(Duration::from_secs(10));
        fake.env.sleep(Duration::from_secs(9)).await;
        fake.commit(1);
        fake.env.sleep(Duration::from_secs(4)).await;
        assert_eq!(fake.stored(), [(1, 1)]);
    });
}

#[test]
fn publishing_goes_on_at_the_record_that_is_not_acknowledged() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.state.lock().unwrap().breaks_after = Some(2);
    (0..3).for_each(|_| fake.commit(0));
    scripted(&time, &fake, fake.env.sleep(Duration::from_secs(1)));
    assert_eq!(fake.stored(), [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn a_lease_call_that_fails_is_repeated_soon() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.state.lock().unwrap().down_until = Monotonic::from_nanos(50_000_000);
    scripted(&time, &fake, async {
        fake.commit(0);
        fake.env.sleep(Duration::from_millis(200)).await;
        assert_eq!(fake.stored(), [(0, 1)]);
    });
}

/// Notes when which shard stopped, and why.
#[derive(Debug)]
struct Stops(Environment, Mutex<Vec<(StopReason, u64)>>);

impl RelayObserver for Stops {
    fn observe(&self, event: &RelayEvent<'_>) {
        if let RelayEvent::Stopped(_, reason) = event {
            let ms = self.0.monotonic().as_nanos() / 1_000_000;
            self.1.lock().unwrap().push(((*reason).clone(), ms));
        }
    }
}

/// Runs a relay beside a script and returns its stops.
fn stops(
    time: &Arc<VirtualTime>,
    fake: &Arc<Fake>,
    script: impl Future<Output = ()>,
) -> Vec<(StopReason, u64)> {
    let stops = Arc::new(Stops(fake.env.clone(), Mutex::default()));
    let (relay, _) = relay(fake, "relay-1");
    let (handle, shutdown) = Shutdown::new();
    let relay = relay.observed_by(Arc::clone(&stops) as Arc<_>);
    time.run(join(relay.run(shutdown), async {
        script.await;
        handle.request();
    }));
    stops.1.lock().unwrap().clone()
}

#[test]
fn work_stops_at_two_thirds_of_a_lease_counted_from_the_request() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.state.lock().unwrap().lease_takes = Duration::from_millis(400);
    let stops = stops(&time, &fake, async {
        fake.env.sleep(Duration::from_millis(500)).await;
        fake.state.lock().unwrap().down_until = Monotonic::from_nanos(9_000_000_000);
        fake.env.sleep(Duration::from_secs(4)).await;
    });
    assert_eq!(stops, [(StopReason::LeaseEnds, 2_000), (StopReason::LeaseEnds, 2_000)]);
}

#[test]
fn a_lease_that_was_taken_over_is_dropped_and_not_given_back() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let stops = stops(&time, &fake, async {
        fake.env.sleep(Duration::from_millis(100)).await;
        let thief = (Owner::from("relay-2"), 9, Monotonic::from_nanos(u64::MAX));
        fake.state.lock().unwrap().leases.insert(Shard(0), thief);
        fake.commit(0);
        fake.env.sleep(Duration::from_millis(100)).await;
        assert_eq!(fake.state.lock().unwrap().give_backs, 0);
        assert_eq!(fake.stored(), [], "a fenced relay publishes nothing");
    });
    assert_eq!(stops, [(StopReason::Fenced, 100), (StopReason::Drained, 200)]);
}

#[test]
fn a_dead_relays_shards_are_taken_over() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let (handle, shutdown) = Shutdown::new();
    let (first, _) = relay(&fake, "relay-1");
    let (second, stats) = relay(&fake, "relay-2");
    let env = fake.env.clone();
    time.run(async {
        // The first is dropped where it stands, as a crash would.
        let _ = env
            .timeout(
                Duration::from_millis(101),
                join(first.run(shutdown.clone()), async {
                    env.sleep(Duration::from_millis(100)).await;
                    fake.commit(0);
                    env.sleep(Duration::from_secs(9)).await;
                }),
            )
            .await;
        join(second.run(shutdown), async {
            env.sleep(Duration::from_millis(3_500)).await;
            handle.request();
        })
        .await;
    });
    assert_eq!(fake.stored(), [(0, 1)], "published by the successor");
    assert_eq!(stats.published.load(Ordering::Relaxed), 1);
    let state = fake.state.lock().unwrap();
    assert_eq!(state.leases[&Shard(0)].1, 2, "under a newer epoch");
}

#[test]
fn two_relays_at_once_neither_lose_nor_reorder() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let (handle, shutdown) = Shutdown::new();
    let (first, _) = relay(&fake, "relay-1");
    let (second, _) = relay(&fake, "relay-2");
    let env = fake.env.clone();
    time.run(async {
        let script = async {
            for n in 0..200 {
                fake.commit(n % 2);
                env.sleep(Duration::from_millis(50)).await;
                if n == 100 {
                    let now = env.monotonic();
                    fake.state.lock().unwrap().down_until = now.plus(Duration::from_secs(4));
                }
            }
            env.sleep(Duration::from_secs(5)).await;
            handle.request();
        };
        join(join(first.run(shutdown.clone()), second.run(shutdown.clone())), script).await;
    });
    for shard in 0..2 {
        let mut seen: Vec<_> =
            fake.stored().iter().filter(|(s, _)| *s == shard).map(|(_, n)| *n).collect();
        let mut firsts = Vec::new();
        seen.retain(|n| {
            let first = !firsts.contains(n);
            firsts.push(*n);
            first
        });
        let expect: Vec<_> = (1..=200).filter(|n| (n + 1) % 2 == u64::from(shard)).collect();
        assert_eq!(seen, expect);
    }
}

#[test]
fn a_relays_future_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let time = Arc::new(VirtualTime::default());
    let (relay, _) = relay(&Fake::new(&time), "relay-1");
    is_send(&relay.run(Shutdown::new().1));
}
