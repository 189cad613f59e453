//! The loop that runs the consumer engine against a consumer and a processor.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use amarra_core::{Environment, Monotonic};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::config::RuntimeConfig;
use super::engine::{Action, Engine, Event, Token};
use super::events::{RuntimeEvent, RuntimeObserver, RuntimeStats};
use super::processor::{ProcessError, Processor};
use crate::config::ConfigError;
use crate::consumer::{Consumer, ConsumerError, Polled, TopicPartition};
use crate::message::Offset;
use crate::shutdown::Shutdown;

/// One member of a consumer group at work: it applies what it is delivered, exactly once in effect.
///
/// It spawns nothing: `run` is one future, to be polled by whatever task the caller likes.
#[derive(Debug)]
pub struct Runtime {
    consumer: Box<dyn Consumer>,
    processor: Arc<dyn Processor>,
    env: Environment,
    config: RuntimeConfig,
    observer: Arc<dyn RuntimeObserver>,
    engine: Engine,
    poll_at: Option<Monotonic>,
    poll_failures: u32,
}

type Calls<'a> = FuturesUnordered<BoxFuture<'a, Finished>>;

/// A call that ended: what it was on, how it ended, and what to tell the observer of it.
#[derive(Debug)]
struct Finished {
    partition: TopicPartition,
    token: Token,
    result: Result<(), ProcessError>,
    rows: usize,
    parked: Option<Offset>,
}

impl Runtime {
    /// Puts a member together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of range.
    pub fn new(
        consumer: Box<dyn Consumer>,
        processor: Arc<dyn Processor>,
        env: Environment,
        config: RuntimeConfig,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let observer = Arc::new(RuntimeStats::default());
        let engine = Engine::new(config);
        let (poll_at, poll_failures) = (None, 0);
        Ok(Self { consumer, processor, env, config, observer, engine, poll_at, poll_failures })
    }

    /// Tells everything to `observer` from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn RuntimeObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Consumes until a stop is requested; then waits for batches in flight, at most
    /// `drain_timeout`, and commits what was applied.
    ///
    /// # Cancellation
    /// Batches in flight are dropped, so rolled back or of unknown outcome; nothing is committed
    /// for them, and whoever is assigned the partitions next gets them again.
    pub async fn run(mut self, shutdown: Shutdown) {
        let processor = Arc::clone(&self.processor);
        let mut calls = FuturesUnordered::new();
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                event = self.next_event(&mut calls) => event,
            };
            if let Some(event) = event {
                self.handle(event, &processor, &mut calls).await;
            }
        }
        let (env, drain_timeout) = (self.env.clone(), self.config.drain_timeout);
        let drain = async {
            self.handle(Event::Drain, &processor, &mut calls).await;
            while let Some(finished) = calls.next().await {
                let event = self.finished(finished);
                self.handle(event, &processor, &mut calls).await;
            }
        };
        let _ = env.timeout(drain_timeout, drain).await;
    }

    async fn next_event(&mut self, calls: &mut Calls<'_>) -> Option<Event> {
        let wake_at = self.engine.wake_at().into_iter().chain(self.poll_at).min();
        let timer = Arc::clone(&self.env.timer);
        tokio::select! {
            biased;
            Some(finished) = calls.next(), if !calls.is_empty() => Some(self.finished(finished)),
            () = timer.sleep_until(wake_at.unwrap_or_default()), if wake_at.is_some() => {
                self.poll_at = self.poll_at.filter(|&at| at > self.env.monotonic());
                Some(Event::Tick)
            }
            polled = self.consumer.poll(self.config.poll_rows_max, self.config.poll_wait),
                if self.poll_at.is_none() => self.polled(polled),
        }
    }

    fn polled(&mut self, polled: Result<Polled, ConsumerError>) -> Option<Event> {
        let error = match polled {
            Ok(polled) => {
                self.poll_failures = 0;
                return match polled {
                    Polled::Records(records) => Some(Event::Records(records)),
                    Polled::Assigned(partitions) => {
                        self.observer.observe(&RuntimeEvent::Assigned(&partitions));
                        Some(Event::Assigned(partitions))
                    }
                    Polled::Revoked(partitions) => {
                        self.observer.observe(&RuntimeEvent::Revoked(&partitions));
                        Some(Event::Revoked(partitions))
                    }
                    Polled::Idle => None,
                };
            }
            Err(error) => error,
        };
        self.observer.observe(&RuntimeEvent::Consumer(&error));
        self.poll_failures = self.poll_failures.saturating_add(1);
        let wait = self.config.backoff.wait(self.poll_failures, self.env.entropy.next_u64());
        self.poll_at = Some(self.env.monotonic().plus(wait));
        (error == ConsumerError::Fenced).then_some(Event::Fenced)
    }

    fn finished(&self, finished: Finished) -> Event {
        let Finished { partition, token, result, rows, parked } = finished;
        let (event, draw) = match (&result, parked) {
            (Ok(()), None) => (RuntimeEvent::Applied { partition: &partition, rows }, 0),
            (Ok(()), Some(offset)) => (RuntimeEvent::Parked { partition: &partition, offset }, 0),
            (Err(e), _) => (
                RuntimeEvent::Failed { partition: &partition, class: e.class, why: &e.why },
                self.env.entropy.next_u64(),
            ),
        };
        self.observer.observe(&event);
        Event::Done { partition, token, result, draw }
    }

    async fn handle<'p>(
        &mut self,
        event: Event,
        processor: &'p Arc<dyn Processor>,
        calls: &mut Calls<'p>,
    ) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.engine.step(self.env.monotonic(), event) {
                match action {
                    Action::Pause(partition) => self.consumer.pause(&partition),
                    Action::Resume(partition) => self.consumer.resume(&partition),
                    Action::Seek(partition, offset) => self.consumer.seek(&partition, offset),
                    Action::Commit(offsets) => self.commit(&offsets, calls, &mut events).await,
                    Action::Apply { partition, token, batch } => calls.push(Box::pin(async move {
                        let result = processor.apply(&batch).await;
                        Finished { partition, token, result, rows: batch.len(), parked: None }
                    })),
                    Action::Park { partition, token, delivery, reason } => {
                        calls.push(Box::pin(async move {
                            let result = processor.park(&delivery, &reason).await;
                            let parked = Some(delivery.offset);
                            Finished { partition, token, result, rows: 1, parked }
                        }));
                    }
                }
            }
        }
    }

    /// Commits while the calls in flight go on: a slow broker must not stall the database.
    async fn commit(
        &mut self,
        offsets: &[(TopicPartition, Offset)],
        calls: &mut Calls<'_>,
        events: &mut VecDeque<Event>,
    ) {
        let mut done = Vec::new();
        let result = {
            let mut commit = pin!(self.consumer.commit(offsets));
            loop {
                tokio::select! {
                    biased;
                    result = &mut commit => break result,
                    Some(finished) = calls.next(), if !calls.is_empty() => done.push(finished),
                }
            }
        };
        events.extend(done.into_iter().map(|finished| self.finished(finished)));
        let draw = match &result {
            Ok(()) => {
                self.observer.observe(&RuntimeEvent::Committed(offsets));
                0
            }
            Err(error) => {
                self.observer.observe(&RuntimeEvent::Consumer(error));
                self.env.entropy.next_u64()
            }
        };
        events.push_back(Event::Committed { result, draw });
    }
}
