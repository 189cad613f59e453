//! The consumer runtime's driver on virtual time: polls, commits, retries and shutdown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::{Class, Environment};
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Delivery, Offset};
use amarra_messaging::runtime::{ProcessError, Processor, Runtime, RuntimeConfig, RuntimeStats};
use amarra_messaging::{Consumer, ConsumerError, Polled, Shutdown};
use async_trait::async_trait;
use futures_util::future::join;
use tokio::sync::Notify;

use crate::runtime_world::{delivery, place};
use crate::virtual_time::VirtualTime;

#[derive(Debug)]
struct Fake {
    env: Environment,
    state: Mutex<State>,
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    polled: VecDeque<Result<Polled, ConsumerError>>,
    polls: usize,
    polled_at: Vec<u64>,
    commits: Vec<(u32, u64)>,
    commit_takes: Duration,
    applied: Vec<(u32, Vec<u64>)>,
    parked: Vec<u64>,
    errors: VecDeque<ProcessError>,
    apply_takes: Duration,
    running: usize,
    running_max: usize,
    seeks: Vec<u64>,
    paused: BTreeMap<u32, usize>,
}

impl Fake {
    fn new(time: &Arc<VirtualTime>) -> Arc<Self> {
        let env = time.environment();
        Arc::new(Self { env, state: Mutex::default(), came: Notify::new() })
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.came.notify_one();
    }

    fn give(&self, polled: Polled) {
        self.with(|state| state.polled.push_back(Ok(polled)));
    }

    fn records(&self, partition: u32, offsets: std::ops::Range<u64>) {
        let records = offsets.map(|offset| delivery(partition, offset, "k")).collect();
        self.give(Polled::Records(records));
    }
}

#[derive(Debug)]
struct FakeConsumer(Arc<Fake>);

#[async_trait]
impl Consumer for FakeConsumer {
    async fn poll(&mut self, _: usize, wait: Duration) -> Result<Polled, ConsumerError> {
        {
            let mut state = self.0.state.lock().unwrap();
            state.polls += 1;
            state.polled_at.push(self.0.env.monotonic().as_nanos() / 1_000_000);
        }
        let next = async {
            loop {
                let next = self.0.state.lock().unwrap().polled.pop_front();
                match next {
                    Some(polled) => return polled,
                    None => self.0.came.notified().await,
                }
            }
        };
        self.0.env.timeout(wait, next).await.unwrap_or(Ok(Polled::Idle))
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), ConsumerError> {
        let takes = self.0.state.lock().unwrap().commit_takes;
        self.0.env.sleep(takes).await;
        let offsets = offsets.iter().map(|(p, offset)| (p.partition.0, offset.0));
        self.0.state.lock().unwrap().commits.extend(offsets);
        Ok(())
    }

    fn pause(&mut self, partition: &TopicPartition) {
        let paused = &mut self.0.state.lock().unwrap().paused;
        *paused.entry(partition.partition.0).or_default() += 1;
    }

    fn resume(&mut self, _: &TopicPartition) {}

    fn seek(&mut self, _: &TopicPartition, offset: Offset) {
        self.0.state.lock().unwrap().seeks.push(offset.0);
    }
}

#[async_trait]
impl Processor for Fake {
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError> {
        let (takes, error) = {
            let mut state = self.state.lock().unwrap();
            state.running += 1;
            state.running_max = state.running.max(state.running_max);
            (state.apply_takes, state.errors.pop_front())
        };
        self.env.sleep(takes).await;
        let mut state = self.state.lock().unwrap();
        state.running -= 1;
        match error {
            Some(error) => Err(error),
            None => {
                let offsets = batch.iter().map(|d| d.offset.0).collect();
                state.applied.push((batch[0].partition.0, offsets));
                Ok(())
            }
        }
    }

    async fn park(&self, delivery: &Delivery, _: &str) -> Result<(), ProcessError> {
        self.state.lock().unwrap().parked.push(delivery.offset.0);
        Ok(())
    }
}

fn runtime(fake: &Arc<Fake>) -> (Runtime, Arc<RuntimeStats>) {
    let consumer = Box::new(FakeConsumer(Arc::clone(fake)));
    let processor: Arc<dyn Processor> = Arc::clone(fake) as Arc<dyn Processor>;
    let config = RuntimeConfig::default();
    let runtime = Runtime::new(consumer, processor, fake.env.clone(), config).unwrap();
    let stats = Arc::new(RuntimeStats::default());
    (runtime.observed_by(Arc::clone(&stats) as Arc<_>), stats)
}

fn scripted(
    time: &Arc<VirtualTime>,
    fake: &Arc<Fake>,
    script: impl Future<Output = ()>,
) -> Arc<RuntimeStats> {
    let (runtime, stats) = runtime(fake);
    let (handle, shutdown) = Shutdown::new();
    fake.give(Polled::Assigned(vec![place(0), place(1)]));
    time.run(join(runtime.run(shutdown), async {
        script.await;
        handle.request();
    }));
    stats
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn records_are_applied_per_partition_in_parallel_and_committed_once_done() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.with(|state| state.apply_takes = ms(10));
    scripted(&time, &fake, async {
        fake.records(0, 0..70);
        fake.records(1, 5..6);
        fake.env.sleep(ms(300)).await;
    });
    let state = fake.state.lock().unwrap();
    let sizes: Vec<_> = state.applied.iter().map(|(p, rows)| (*p, rows.len())).collect();
    assert_eq!(sizes, [(0, 64), (1, 1), (0, 6)]);
    assert_eq!(state.running_max, 2);
    assert!(state.commits.contains(&(0, 70)), "{:?}", state.commits);
    assert!(state.commits.contains(&(1, 6)), "{:?}", state.commits);
}

#[test]
fn a_slow_commit_does_not_stall_the_batches_in_flight() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.with(|state| (state.commit_takes, state.apply_takes) = (ms(500), ms(1)));
    scripted(&time, &fake, async {
        fake.records(0, 0..1);
        fake.records(1, 0..1);
        fake.env.sleep(ms(100)).await;
        let state = fake.state.lock().unwrap();
        assert_eq!((state.applied.len(), state.commits.len()), (2, 0));
    });
}

#[test]
fn failures_are_retried_and_the_poison_parked() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let error = |class| ProcessError { class, culprit: None, why: "no".to_owned() };
    let classes =
        [Class::Transient, Class::Unknown, Class::Rejected, Class::Rejected, Class::Fatal];
    fake.with(|state| state.errors.extend(classes.map(error)));
    let stats = scripted(&time, &fake, async {
        fake.records(0, 3..4);
        fake.env.sleep(ms(1_000)).await;
        fake.records(0, 4..5);
        fake.env.sleep(ms(200)).await;
    });
    let state = fake.state.lock().unwrap();
    assert_eq!((&state.parked[..], &state.applied[..]), (&[3][..], &[(0, vec![4])][..]));
    assert_eq!(state.commits, [(0, 4), (0, 5)]);
    assert_eq!(stats.parked.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_failed_poll_is_repeated_after_a_pause() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    let down = || Err(ConsumerError::Unavailable { why: "down".to_owned() });
    fake.with(|state| state.polled.extend([down(), down(), down()]));
    scripted(&time, &fake, async {
        fake.records(0, 0..1);
        fake.env.sleep(ms(400)).await;
    });
    let state = fake.state.lock().unwrap();
    assert_eq!(state.applied, [(0, vec![0])]);
    let waits: Vec<_> = state.polled_at.windows(2).map(|w| w[1] - w[0]).take(3).collect();
    let long_enough = waits.iter().zip([10, 20, 40]).all(|(&wait, least)| wait >= least);
    assert!(long_enough, "waits of {waits:?} ms");
}

#[test]
fn a_fenced_poll_makes_it_read_again() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.with(|state| state.apply_takes = ms(50));
    scripted(&time, &fake, async {
        fake.records(0, 0..1);
        fake.env.sleep(ms(10)).await;
        fake.with(|state| state.polled.push_back(Err(ConsumerError::Fenced)));
        fake.env.sleep(ms(10)).await;
        assert_eq!(fake.state.lock().unwrap().seeks, [0]);
    });
    assert_eq!(fake.state.lock().unwrap().commits, [], "a late result commits nothing");
}

#[test]
fn a_shutdown_waits_for_the_batch_in_flight_and_commits_it() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.with(|state| state.apply_takes = ms(700));
    scripted(&time, &fake, async {
        fake.records(0, 0..65);
        fake.env.sleep(ms(10)).await;
    });
    let state = fake.state.lock().unwrap();
    assert_eq!(state.applied.len(), 1, "nothing new is started");
    assert_eq!(state.commits, [(0, 64)]);
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    fake.with(|state| state.apply_takes = Duration::from_secs(3600));
    scripted(&time, &fake, async {
        fake.records(0, 0..1);
        fake.env.sleep(ms(10)).await;
    });
    assert!(time.environment().monotonic().as_nanos() < 6_000_000_000);
    assert_eq!(fake.state.lock().unwrap().commits, []);
}

#[test]
fn an_idle_runtime_costs_a_poll_a_second() {
    let time = Arc::new(VirtualTime::default());
    let fake = Fake::new(&time);
    scripted(&time, &fake, fake.env.sleep(Duration::from_secs(60)));
    assert!(fake.state.lock().unwrap().polls <= 63);
    assert!(time.timers_set() <= 65, "{} timers", time.timers_set());
}

#[test]
fn a_runtimes_future_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let time = Arc::new(VirtualTime::default());
    let (runtime, _) = runtime(&Fake::new(&time));
    is_send(&runtime.run(Shutdown::new().1));
}
