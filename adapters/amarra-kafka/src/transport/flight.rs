//! The records of one call that are on their way, told by delivery reports.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as DriverError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;

use super::lock;
use crate::error::is_refusal;

/// Bits of a word of `acked`.
const BITS: usize = 64;

/// Counts what left and what arrived; a report takes no lock unless it is a failure.
#[derive(Debug)]
pub(super) struct Flight {
    /// One bit a record of the window.
    acked: Box<[AtomicU64]>,
    messages: AtomicUsize,
    failed: AtomicBool,
    failures: Mutex<Failures>,
    changed: Notify,
    /// Nothing is delivered any more.
    dead: AtomicBool,
    deadline: Mutex<Option<Instant>>,
}

/// What failed, by the index of the record.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    /// The first record that failed for whatever reason.
    pub(super) first: Option<(usize, DriverError)>,
    /// The first record that the broker refuses for what it is.
    pub(super) refused: Option<(usize, DriverError)>,
}

impl ClientContext for Flight {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: DriverError, _: &str) {}
}

impl ProducerContext for Flight {
    /// The index of the record in its window.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        match result {
            Ok(_) => self.acknowledge(index),
            Err((e, _)) => self.fail(index, e),
        }
        if self.messages.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.changed.notify_one();
        }
    }
}

impl Flight {
    /// Makes the bookkeeping of windows of at most `messages_max` records.
    pub(super) fn new(messages_max: usize) -> Self {
        let words = messages_max.div_ceil(BITS);
        Self {
            acked: (0..words).map(|_| AtomicU64::new(0)).collect(),
            messages: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            failures: Mutex::default(),
            changed: Notify::new(),
            dead: AtomicBool::new(false),
            deadline: Mutex::default(),
        }
    }

    /// Begins a window: nothing is on its way, and all of it has to arrive within `patience`.
    pub(super) fn begin(&self, patience: Duration) {
        self.acked.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.failed.store(false, Ordering::SeqCst);
        *lock(&self.failures) = Failures::default();
        *lock(&self.deadline) = Instant::now().checked_add(patience);
    }

    /// Counts a record that is about to leave.
    pub(super) fn take_off(&self) {
        self.messages.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a record back that could not leave.
    pub(super) fn never_left(&self, index: usize, e: &DriverError) {
        self.fail(index, e);
        self.messages.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until nothing is on its way.
    pub(super) async fn settled(&self) {
        while self.messages.load(Ordering::SeqCst) > 0 {
            self.changed.notified().await;
        }
    }

    /// The same, for as long as the window may take; `false` when something is too late.
    pub(super) async fn settled_in_time(&self) -> bool {
        let deadline = *lock(&self.deadline);
        match deadline {
            Some(at) => tokio::time::timeout_at(at.into(), self.settled()).await.is_ok(),
            None => {
                self.settled().await;
                true
            }
        }
    }

    /// Tells whether a record of the window failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Returns what failed.
    pub(super) fn failures(&self) -> Failures {
        lock(&self.failures).clone()
    }

    /// Returns how many of the window's records, from the first on, are stored.
    pub(super) fn acked_prefix(&self, of: usize) -> usize {
        let mut prefix = 0_usize;
        for word in &self.acked {
            let ones = word.load(Ordering::Relaxed).trailing_ones();
            prefix = prefix.saturating_add(usize::try_from(ones).unwrap_or(BITS));
            if ones < u64::BITS {
                break;
            }
        }
        prefix.min(of)
    }

    /// Tells whether the client is to end: it did already, or records are overdue.
    pub(super) fn is_over(&self) -> bool {
        let overdue = || lock(&self.deadline).is_some_and(|at| at <= Instant::now());
        let waiting = self.messages.load(Ordering::SeqCst) > 0;
        self.is_dead() || (waiting && overdue())
    }

    /// Says that nothing is delivered any more.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// Tells whether nothing is delivered any more.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn acknowledge(&self, index: usize) {
        let (word, bit) = (index / BITS, index % BITS);
        if let Some(word) = self.acked.get(word) {
            word.fetch_or(1 << bit, Ordering::Relaxed);
        }
    }

    fn fail(&self, index: usize, e: &DriverError) {
        let mut failures = lock(&self.failures);
        let sooner = |slot: &Option<(usize, DriverError)>| {
            slot.as_ref().is_none_or(|(first, _)| index < *first)
        };
        if is_refusal(e) && sooner(&failures.refused) {
            failures.refused = Some((index, e.clone()));
        }
        if sooner(&failures.first) {
            failures.first = Some((index, e.clone()));
        }
        drop(failures);
        self.failed.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::error::RDKafkaErrorCode as Code;

    fn error(code: Code) -> DriverError {
        DriverError::MessageProduction(code)
    }

    #[test]
    fn a_prefix_ends_at_the_first_record_that_is_not_stored() {
        let check = |stored: &[usize], expect: usize| {
            let flight = Flight::new(130);
            flight.begin(Duration::from_secs(1));
            stored.iter().for_each(|index| flight.acknowledge(*index));
            assert_eq!(flight.acked_prefix(130), expect, "{stored:?}");
        };
        check(&[], 0);
        check(&[1, 2], 0);
        check(&[1, 0, 3], 2);
        let all: Vec<usize> = (0..130).collect();
        check(&all, 130);
        check(&all[..64], 64);
        check(&[&all[..100], &all[101..]].concat(), 100);
    }

    #[test]
    fn the_first_of_each_kind_of_failure_is_kept() {
        let flight = Flight::new(10);
        flight.fail(7, &error(Code::PurgeQueue));
        flight.fail(5, &error(Code::InvalidRecord));
        flight.fail(3, &error(Code::PurgeQueue));
        flight.fail(6, &error(Code::MessageSizeTooLarge));
        let Failures { first, refused } = flight.failures();
        assert_eq!(first, Some((3, error(Code::PurgeQueue))));
        assert_eq!(refused, Some((5, error(Code::InvalidRecord))));
        flight.begin(Duration::from_secs(1));
        assert!(!flight.has_failed() && flight.failures().first.is_none());
    }
}
