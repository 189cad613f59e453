//! The timer worker on virtual time: claims, leases, bounds and shutdown.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::{Environment, Monotonic};
use amarra_memory::Effect;
use amarra_messaging::Shutdown;
use amarra_messaging::message::Owner;
use amarra_store::{
    Aggregate, Claim, DueHandler, HandlerError, Store, Worker, WorkerConfig, WorkerStats,
};
use async_trait::async_trait;
use futures_util::future::join;

use crate::ledger::{Account, World};

/// Notes what it acts on and unschedules it, unless told to fail or to take its time.
#[derive(Debug)]
struct Act {
    store: Arc<dyn Store>,
    env: Environment,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    takes: Duration,
    fail: VecDeque<bool>,
    acted: Vec<(String, u64)>,
    running: usize,
    running_max: usize,
}

#[async_trait]
impl DueHandler for Act {
    fn kind(&self) -> &str {
        Account::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let takes = {
            let mut state = self.state.lock().unwrap();
            state.running += 1;
            state.running_max = state.running.max(state.running_max);
            state.takes
        };
        let result = async {
            self.env.sleep(takes).await;
            if self.state.lock().unwrap().fail.pop_front().unwrap_or(false) {
                return Err(HandlerError::Refused("told to".to_owned()));
            }
            let mut unit = self.store.begin().await?;
            unit.verify(claim).await?;
            unit.schedule(&claim.id, None).await?;
            unit.commit().await?;
            let ms = self.env.monotonic().as_nanos() / 1_000_000;
            self.state.lock().unwrap().acted.push((claim.id.id.to_string(), ms));
            Ok(())
        };
        let result = result.await;
        self.state.lock().unwrap().running -= 1;
        result
    }
}

struct Bench {
    world: World,
    act: Arc<Act>,
    stats: Arc<WorkerStats>,
    env: Environment,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let env = world.time.environment();
        let store = world.store("handler");
        let act = Act { store, env: env.clone(), state: Mutex::default() };
        Self { world, act: Arc::new(act), stats: Arc::new(WorkerStats::default()), env }
    }

    async fn schedule(&self, ids: &[&str], after: Duration) {
        let mut unit = self.act.store.begin().await.unwrap();
        for id in ids {
            unit.schedule(&Account::aggregate_id(id), Some(after)).await.unwrap();
        }
        unit.commit().await.unwrap();
    }

    /// Runs a worker beside a script, which ends with a request to stop.
    fn run(&self, config: WorkerConfig, script: impl Future<Output = ()>) {
        let (handle, shutdown) = Shutdown::new();
        let worker = self.worker("worker-1", config);
        self.world.time.run(join(worker.run(shutdown), async {
            script.await;
            handle.request();
        }));
    }

    fn worker(&self, owner: &str, config: WorkerConfig) -> Worker {
        let handler = Arc::clone(&self.act) as Arc<dyn DueHandler>;
        let store = self.world.store(owner);
        let worker = Worker::new(store, handler, self.env.clone(), Owner::from(owner), config);
        worker.unwrap().observed_by(Arc::clone(&self.stats) as Arc<_>)
    }

    fn acted(&self) -> Vec<(String, u64)> {
        self.act.state.lock().unwrap().acted.clone()
    }

    fn ids(&self) -> Vec<String> {
        self.acted().into_iter().map(|(id, _)| id).collect()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn due_timers_are_acted_on_once_and_others_wait() {
    let bench = Bench::new();
    bench.run(WorkerConfig::default(), async {
        bench.env.sleep(ms(300)).await;
        bench.schedule(&["now"], Duration::ZERO).await;
        bench.schedule(&["soon"], ms(1_200)).await;
        bench.schedule(&["late"], Duration::from_secs(60)).await;
        bench.env.sleep(ms(5)).await;
        assert_eq!(bench.acted(), [("now".to_owned(), 300)], "woken by the change");
        bench.env.sleep(ms(4_000)).await;
    });
    assert_eq!(bench.ids(), ["now", "soon"]);
    let (_, at) = bench.acted()[1];
    assert!((1_500..2_600).contains(&at), "polled at {at}");
    assert_eq!(bench.stats.done.load(Ordering::Relaxed), 2);
}

#[test]
fn a_timer_is_looked_at_right_when_it_is_due() {
    let bench = Bench::new();
    bench.run(WorkerConfig::default(), async {
        bench.schedule(&["a"], ms(130)).await;
        bench.schedule(&["b"], ms(270)).await;
        bench.env.sleep(ms(2_000)).await;
    });
    assert_eq!(bench.acted(), [("a".to_owned(), 130), ("b".to_owned(), 270)]);
    let looks = bench.world.operations().iter().filter(|(name, _)| *name == "claim_due").count();
    assert!(looks <= 10, "{looks} looks");
}

#[test]
fn a_next_due_time_that_cannot_be_told_loses_no_claim() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.world.script.strike("next_due", Effect::Fail);
    }
    bench.run(WorkerConfig::default(), async {
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(50)).await;
    });
    assert_eq!(bench.ids(), ["a"]);
}

#[test]
fn a_failure_is_left_to_the_lease() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().fail.push_back(true);
    bench.run(WorkerConfig { lease: ms(2_000), ..WorkerConfig::default() }, async {
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(4_000)).await;
    });
    assert_eq!(bench.ids(), ["a"]);
    assert!(bench.acted()[0].1 >= 2_000, "not before the lease ended");
    assert_eq!(bench.stats.failed.load(Ordering::Relaxed), 1);
}

#[test]
fn no_more_claims_are_acted_on_at_once_than_configured() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().takes = ms(100);
    bench.run(WorkerConfig { claims_max: 3, ..WorkerConfig::default() }, async {
        bench.schedule(&["a", "b", "c", "d", "e", "f", "g"], Duration::ZERO).await;
        bench.env.sleep(ms(350)).await;
    });
    assert_eq!(bench.ids().len(), 7, "and the next are claimed as soon as slots are free");
    assert_eq!(bench.act.state.lock().unwrap().running_max, 3);
}

#[test]
fn slots_that_failures_free_are_filled_at_once() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().fail.extend([true; 7]);
    bench.run(WorkerConfig { claims_max: 3, ..WorkerConfig::default() }, async {
        bench.schedule(&["a", "b", "c", "d", "e", "f", "g"], Duration::ZERO).await;
        bench.env.sleep(ms(100)).await;
    });
    assert_eq!(bench.stats.failed.load(Ordering::Relaxed), 7);
}

#[test]
fn work_that_outlives_its_lease_is_dropped_and_its_slot_freed() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().takes = Duration::from_secs(3600);
    let config = WorkerConfig { claims_max: 1, lease: ms(1_000), ..WorkerConfig::default() };
    bench.run(config, async {
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(500)).await;
        bench.act.state.lock().unwrap().takes = Duration::ZERO;
        bench.env.sleep(ms(2_600)).await;
    });
    assert_eq!(bench.ids(), ["a"]);
    assert_eq!(bench.stats.failed.load(Ordering::Relaxed), 1);
}

#[test]
fn two_workers_share_the_timers_and_never_act_twice() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().takes = ms(10);
    let config = WorkerConfig { claims_max: 2, ..WorkerConfig::default() };
    let (handle, shutdown) = Shutdown::new();
    let (first, second) = (bench.worker("worker-1", config), bench.worker("worker-2", config));
    let ids: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    let script = async {
        bench.schedule(&ids.iter().map(String::as_str).collect::<Vec<_>>(), Duration::ZERO).await;
        bench.env.sleep(ms(900)).await;
        handle.request();
    };
    bench.world.time.run(join(join(first.run(shutdown.clone()), second.run(shutdown)), script));
    let mut acted = bench.ids();
    acted.sort();
    acted.dedup();
    assert_eq!((acted.len(), bench.ids().len()), (20, 20));
}

#[test]
fn a_database_that_does_not_answer_is_asked_again() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.world.script.strike("claim_due", Effect::Fail);
    }
    bench.run(WorkerConfig::default(), async {
        bench.env.sleep(ms(4_000)).await;
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(10)).await;
    });
    assert_eq!(bench.ids(), ["a"]);
    assert_eq!(bench.stats.claim_failures.load(Ordering::Relaxed), 3);
}

#[test]
fn a_shutdown_waits_for_what_is_being_acted_on() {
    let bench = Bench::new();
    bench.act.state.lock().unwrap().takes = ms(500);
    bench.run(WorkerConfig::default(), async {
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(10)).await;
    });
    assert_eq!(bench.ids(), ["a"]);

    let bench = Bench::new();
    bench.act.state.lock().unwrap().takes = Duration::from_secs(3600);
    let config = WorkerConfig { drain_timeout: ms(700), ..WorkerConfig::default() };
    bench.run(config, async {
        bench.schedule(&["a"], Duration::ZERO).await;
        bench.env.sleep(ms(10)).await;
    });
    assert!(bench.env.monotonic() < Monotonic::from_nanos(800_000_000), "but not for ever");
}

#[test]
fn an_idle_worker_costs_a_look_a_second() {
    let bench = Bench::new();
    bench.run(WorkerConfig::default(), bench.env.sleep(Duration::from_secs(60)));
    let operations = bench.world.operations();
    let looks = operations.iter().filter(|(name, _)| *name == "claim_due").count();
    assert!(looks <= 62, "{looks} looks in 60 s");
    assert!(bench.world.time.timers_set() <= 64, "{} timers", bench.world.time.timers_set());
}

#[test]
fn a_workers_future_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let bench = Bench::new();
    is_send(&bench.worker("worker-1", WorkerConfig::default()).run(Shutdown::new().1));
}

#[test]
fn configurations_that_cannot_work_name_their_field() {
    let check = |config: WorkerConfig, field| {
        assert_eq!(config.validate().map_err(|e| e.field), Err(field));
    };
    let good = WorkerConfig::default;
    assert_eq!(good().validate(), Ok(()));
    check(WorkerConfig { lease: Duration::ZERO, ..good() }, "lease");
    check(WorkerConfig { claims_max: 0, ..good() }, "claims_max");
    check(WorkerConfig { poll_min: Duration::ZERO, ..good() }, "poll_min");
    check(WorkerConfig { poll: Duration::ZERO, ..good() }, "poll");
}
