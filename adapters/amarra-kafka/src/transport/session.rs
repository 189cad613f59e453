//! A session: what is published in a call, what of it is stored, and what becomes of its client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Headers, PublishError, Record, Session, Topic};
use async_trait::async_trait;
use rdkafka::error::{KafkaError as DriverError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use tokio::task::{JoinHandle, spawn_blocking};

use super::places::Places;
use super::producer::{Client, Native, Pace, batch_bytes};
use super::progress::Mark;
use super::{Opening, Shared, Unopened, lock};
use crate::config::Mode;
use crate::error::is_fenced;
use crate::fence::FenceError;

/// Bytes that a record takes beside key, headers and value: its batch, its lengths, and the copy
/// of its id.
const FRAMING: usize = 192;
/// Headers that a record of ours has, about.
const HEADERS: usize = 20;
/// How long a commit waits for librdkafka to forget what it has reported, at a time.
const FORGET: Duration = Duration::from_micros(50);

/// Records of a call from which on a bulk client suits it.
const LARGE: usize = 256;
/// Records of a call up to which a prompt client suits it.
const SMALL: usize = 32;
/// Calls in a row after which the client is replaced: another takes some milliseconds to make.
const UNSUITED_MAX: u32 = 3;

/// A publishing session of one lease.
pub(super) struct KafkaSession {
    shared: Arc<Shared>,
    lease: Lease,
    name: String,
    /// None until it is made, and after a failure: then the next call makes another.
    client: Option<Client>,
    pace: Pace,
    /// How many calls in a row the other pace would have suited better.
    unsuited: u32,
    /// Whether a call was made.
    began: bool,
    places: Places,
    fenced: bool,
    /// A client that a call did not wait for.
    opening: Option<Opening>,
    /// A commit that a call did not wait for.
    committing: Option<JoinHandle<Result<(), DriverError>>>,
    /// How many of a call's records, from the first on, were handed to the client; none once they
    /// are not handed over in order.
    handed: Option<usize>,
    /// The records of a call that nobody waited for, as far as they were handed over.
    given_up: Option<Vec<Publish>>,
}

/// Why not all records of a call are stored.
enum Trouble {
    /// The broker refuses one, perhaps for another in the same batch.
    Refused { acked: usize, at: usize },
    /// Anything else.
    Lost { acked: usize, why: Lost },
}

enum Lost {
    Driver(DriverError),
    Fenced,
    Said(String),
}

impl std::fmt::Debug for KafkaSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSession").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Drop for KafkaSession {
    fn drop(&mut self) {
        // An opening that was given up would begin from the start again, and never end where it
        // takes longer than it is given.
        if let Some(opening) = self.opening.take() {
            lock(&self.shared.left).insert(self.name.clone(), opening);
        }
    }
}

/// A call; when it is dropped before its end, the session remembers what it was about.
struct Call<'a> {
    session: &'a mut KafkaSession,
    records: &'a [Publish],
    ended: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.session.handed {
            Some(handed) => {
                let handed = self.records.get(..handed).unwrap_or_default();
                self.session.given_up = Some(handed.to_vec());
            }
            None => self.session.client = None,
        }
    }
}

#[async_trait]
impl Session for KafkaSession {
    async fn publish(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let stored = self.stored_of_a_call_given_up(records).await?;
        let records = records.get(stored..).unwrap_or_default();
        if records.is_empty() && !self.fenced {
            return Ok(());
        }
        self.handed = Some(0);
        let mut call = Call { session: self, records, ended: false };
        let published = call.session.publish_rest(records).await;
        call.ended = true;
        published.map_err(|e| behind(stored, e))
    }
}

/// Counts records that were stored before the call began.
fn behind(stored: usize, e: PublishError) -> PublishError {
    match e {
        PublishError::Refused { acked, why } => {
            PublishError::Refused { acked: acked.saturating_add(stored), why }
        }
        PublishError::Unavailable { acked, why } => {
            PublishError::Unavailable { acked: acked.saturating_add(stored), why }
        }
        other => other,
    }
}

impl KafkaSession {
    pub(super) fn new(shared: Arc<Shared>, lease: Lease) -> Self {
        Self {
            name: shared.name(&lease),
            shared,
            lease,
            client: None,
            pace: Pace::default(),
            unsuited: 0,
            began: false,
            places: Places::default(),
            fenced: false,
            opening: None,
            committing: None,
            handed: None,
            given_up: None,
        }
    }

    /// Lets the client go when calls have become much larger or smaller than suits it, or the first
    /// one is; nothing of it is on its way then.
    fn suit(&mut self, records: usize) {
        let pace = match records {
            LARGE.. => Pace::Bulk,
            ..=SMALL => Pace::Prompt,
            _ => self.pace,
        };
        self.unsuited = if pace == self.pace { 0 } else { self.unsuited.saturating_add(1) };
        let enough = if std::mem::replace(&mut self.began, true) { UNSUITED_MAX } else { 1 };
        if self.unsuited >= enough {
            (self.pace, self.unsuited, self.client) = (pace, 0, None);
        }
    }

    /// Makes the client, unless there is one.
    pub(super) async fn connect(&mut self) -> Result<(), PublishError> {
        if self.client.as_ref().is_some_and(|client| !client.flight().is_dead()) {
            return Ok(());
        }
        self.client = None;
        // Kept in the session: a call that is given up leaves it to the next one.
        let open = || self.shared.opening(&self.name, &self.lease, self.pace);
        let opened = (&mut self.opening.get_or_insert_with(open).client).await;
        self.opening = None;
        match opened {
            Ok(Ok(client)) => {
                self.client = Some(client);
                self.places.strange();
            }
            Ok(Err(Unopened::Fenced)) => return Err(self.fenced()),
            Ok(Err(Unopened::Unavailable(why))) => return Err(unavailable(0, why)),
            Err(e) => return Err(unavailable(0, e)),
        }
        Ok(())
    }

    /// Waits for what a call before this one left on its way; returns how many of these records it
    /// turned out to have stored.
    async fn stored_of_a_call_given_up(
        &mut self,
        records: &[Publish],
    ) -> Result<usize, PublishError> {
        let Some(client) = self.client.as_ref().filter(|_| self.given_up.is_some()) else {
            self.given_up = None;
            return Ok(0);
        };
        client.settled().await;
        let committed = match (&mut self.committing, self.shared.config.mode) {
            (Some(commit), _) => matches!(commit.await, Ok(Ok(()))),
            (None, mode) => mode == Mode::Idempotent && !client.flight().has_failed(),
        };
        self.committing = None;
        let given_up = self.given_up.take().unwrap_or_default();
        if committed && records.starts_with(&given_up) {
            return Ok(given_up.len());
        }
        // What is left of it must neither be committed with this call nor overtake it.
        self.client = None;
        Ok(0)
    }

    async fn publish_rest(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let epoch = self.lease.epoch.0;
        if self.fenced || self.shared.fences.is_newer_known(&self.name, epoch) {
            return Err(self.fenced());
        }
        self.suit(records.len());
        let committed = self.committed_of(records).await?;
        let rest = records.get(committed..).unwrap_or_default();
        self.handed = Some(committed);
        self.publish_new(rest).await.map_err(|e| behind(committed, e))
    }

    /// Counts the first of these records that a transaction committed whose end nobody saw: of a
    /// predecessor, or of a client that failed while it committed.
    async fn committed_of(&mut self, records: &[Publish]) -> Result<usize, PublishError> {
        if self.shared.config.mode == Mode::Idempotent {
            return Ok(0);
        }
        self.connect().await?;
        let progress = self.client.as_ref().and_then(|client| client.progress.as_ref());
        let last = progress.and_then(|progress| progress.last.as_ref());
        Ok(last.map_or(0, |mark| mark.covers(records)))
    }

    async fn publish_new(&mut self, records: &[Publish]) -> Result<(), PublishError> {
        let unfit = records.iter().position(|publish| self.unfit(&publish.record).is_some());
        let fit = records.get(..unfit.unwrap_or(records.len())).unwrap_or_default();
        match self.store(fit).await {
            Ok(()) => {}
            Err(Trouble::Lost { acked, why }) => return Err(self.lost(acked, why).await),
            Err(Trouble::Refused { acked, at }) => return self.isolate(fit, acked, at).await,
        }
        let refused = unfit.and_then(|at| records.get(at)).and_then(|r| self.unfit(&r.record));
        refused.map_or(Ok(()), |why| Err(PublishError::Refused { acked: fit.len(), why }))
    }

    /// Says why a record cannot be published at all.
    fn unfit(&self, record: &Record) -> Option<String> {
        let max = self.shared.config.record_bytes_max;
        if record.key.is_empty() {
            return Some("its key is empty, which chooses the partition".to_owned());
        }
        let bytes = bytes(record);
        (bytes > max).then(|| format!("it has {bytes} bytes, record_bytes_max is {max}"))
    }

    /// Publishes what is before a refused record, then that one alone: what was refused with it in
    /// one batch need not be at fault, and is told apart this way.
    async fn isolate(
        &mut self,
        records: &[Publish],
        acked: usize,
        at: usize,
    ) -> Result<(), PublishError> {
        self.handed = None;
        let before = records.get(acked..at).unwrap_or_default();
        if let Err(Trouble::Refused { acked: more, .. } | Trouble::Lost { acked: more, .. }) =
            self.store(before).await
        {
            let why = "records before a refused one were not stored";
            return Err(unavailable(acked.saturating_add(more), why));
        }
        let alone = records.get(at..).and_then(|rest| rest.get(..1)).unwrap_or_default();
        match self.store(alone).await {
            Ok(()) => Err(unavailable(at.saturating_add(1), "refused in one batch with others")),
            Err(Trouble::Refused { .. }) => {
                let why = "the broker or the topic takes no such record".to_owned();
                Err(PublishError::Refused { acked: at, why })
            }
            Err(Trouble::Lost { why, .. }) => Err(self.lost(at, why).await),
        }
    }

    /// Stores records, or tells which are stored; after a failure there is no client.
    async fn store(&mut self, records: &[Publish]) -> Result<(), Trouble> {
        if records.is_empty() {
            return Ok(());
        }
        let stored = self.try_store(records).await;
        if stored.is_err() {
            self.client = None;
        }
        stored
    }

    async fn try_store(&mut self, records: &[Publish]) -> Result<(), Trouble> {
        let early = |why| Trouble::Lost { acked: 0, why };
        if let Err(e) = self.connect().await {
            let fenced = matches!(e, PublishError::Fenced { .. });
            let why = if fenced { Lost::Fenced } else { Lost::Said(told(e)) };
            return Err(early(why));
        }
        let mut known = None;
        for publish in records {
            if known != Some(&publish.topic) {
                self.learn(&publish.topic).await.map_err(early)?;
                known = Some(&publish.topic);
            }
        }
        if self.shared.config.mode == Mode::Idempotent {
            return self.send(records).await;
        }
        let native = self.native().ok_or_else(|| early(overdue()))?;
        native.begin_transaction().map_err(|e| early(self.driver(&e)))?;
        drop(native);
        self.send(records).await.map_err(|trouble| match trouble {
            Trouble::Refused { at, .. } => Trouble::Refused { acked: 0, at },
            Trouble::Lost { why, .. } => Trouble::Lost { acked: 0, why },
        })?;
        self.commit(Mark::of_last(records)).await.map_err(early)
    }

    /// Commits the open transaction, which ends with `mark`.
    async fn commit(&mut self, mark: Option<Mark>) -> Result<(), Lost> {
        let native = self.native().ok_or_else(overdue)?;
        let timeout = self.shared.config.request_timeout;
        let progress = self.client.as_ref().and_then(|client| client.progress.as_ref());
        let carried = match (progress, &mark) {
            (Some(progress), Some(mark)) => Some(progress.carry(mark).map_err(Lost::Driver)?),
            _ => None,
        };
        let commit = move || {
            if let Some((offsets, group)) = carried {
                native.send_offsets_to_transaction(&offsets, &group, timeout)?;
            }
            // The wrapper's commit waits a tenth of a second when a report was not put away yet.
            let started = Instant::now();
            while native.in_flight_count() > 0 && started.elapsed() < timeout {
                std::thread::sleep(FORGET);
            }
            native.commit_transaction(timeout)
        };
        // Kept in the session: a call that is given up leaves it to the next one.
        let committing = self.committing.insert(spawn_blocking(commit));
        let committed = committing.await;
        self.committing = None;
        match committed {
            Ok(Ok(())) => {
                let client = self.client.as_mut();
                if let Some(progress) = client.and_then(|client| client.progress.as_mut()) {
                    progress.last = mark.or(progress.last.take());
                }
                Ok(())
            }
            Ok(Err(e)) => Err(self.driver(&e)),
            Err(e) => Err(Lost::Said(e.to_string())),
        }
    }

    fn native(&self) -> Option<Arc<Native>> {
        self.client.as_ref().and_then(Client::native)
    }

    /// Learns how many partitions a topic has.
    async fn learn(&mut self, topic: &Topic) -> Result<(), Lost> {
        if self.places.knows(topic) {
            return Ok(());
        }
        let native = self.native().ok_or_else(overdue)?;
        let (name, timeout) = (topic.to_string(), self.shared.config.request_timeout);
        let fetched = spawn_blocking(move || {
            let metadata = native.client().fetch_metadata(Some(&name), timeout)?;
            Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
        });
        let count = match fetched.await {
            Ok(Ok(count)) => count,
            Ok(Err(e)) => return Err(Lost::Driver(e)),
            Err(e) => return Err(Lost::Said(e.to_string())),
        };
        if count == 0 {
            return Err(Lost::Said(format!("topic {topic} does not exist: create it")));
        }
        self.places.learn(topic, count);
        Ok(())
    }

    /// Sends records, window by window, and waits for their reports.
    async fn send(&mut self, records: &[Publish]) -> Result<(), Trouble> {
        let mut acked = 0_usize;
        while let Some(rest) = records.get(acked..).filter(|rest| !rest.is_empty()) {
            let window = self.window(rest);
            self.send_window(window).await.map_err(|trouble| match trouble {
                Trouble::Refused { acked: more, at } => Trouble::Refused {
                    acked: acked.saturating_add(more),
                    at: acked.saturating_add(at),
                },
                Trouble::Lost { acked: more, why } => {
                    Trouble::Lost { acked: acked.saturating_add(more), why }
                }
            })?;
            acked = acked.saturating_add(window.len());
        }
        Ok(())
    }

    /// Takes as many records as may be on their way at once, at least one.
    fn window<'r>(&mut self, records: &'r [Publish]) -> &'r [Publish] {
        let (config, places) = (&self.shared.config, &mut self.places);
        let (mut left, batch) = (config.bytes_max, batch_bytes(config));
        places.begin();
        let fits = |publish: &&Publish| {
            let bytes = bytes(&publish.record);
            let less = left.checked_sub(bytes);
            left = less.unwrap_or(0);
            less.is_some() && places.fits(publish, bytes, batch)
        };
        let count = records.iter().take(config.messages_max).take_while(fits).count().max(1);
        records.get(..count).unwrap_or(records)
    }

    async fn send_window(&mut self, window: &[Publish]) -> Result<(), Trouble> {
        let gone = || Trouble::Lost { acked: 0, why: overdue() };
        let client = self.client.as_ref().ok_or_else(gone)?;
        let (native, flight) = (client.native().ok_or_else(gone)?, client.flight());
        flight.begin(self.shared.config.delivery_timeout);
        let now = Instant::now();
        for (index, publish) in window.iter().enumerate() {
            let (partition, met) = self.places.of(publish, now);
            if !met {
                client.settled().await;
                if flight.has_failed() {
                    break;
                }
            }
            flight.take_off();
            // What followed an end would be stored before what it threw away.
            let over = flight.is_dead().then_some(Err(DriverError::Canceled));
            let sent = over.unwrap_or_else(|| enqueue(&native, publish, partition, index));
            if let Err(e) = sent {
                flight.never_left(index, &e);
                break;
            }
            self.handed = self.handed.map(|handed| handed.saturating_add(1));
            if !met {
                client.settled().await;
                if flight.has_failed() {
                    break;
                }
                self.places.meet(&publish.topic, partition);
            }
        }
        drop(native);
        client.settled().await;
        if !flight.has_failed() {
            return Ok(());
        }
        let (acked, failures) = (flight.acked_prefix(window.len()), flight.failures());
        if let Some((at, _)) = failures.refused.filter(|(at, _)| *at >= acked) {
            return Err(Trouble::Refused { acked, at });
        }
        let why = failures.first.map_or_else(overdue, |(_, e)| self.driver(&e));
        if matches!(&why, Lost::Driver(e) if is_unknown_topic(e)) {
            self.places.forget();
        }
        Err(Trouble::Lost { acked, why })
    }

    /// Says what a failure of the driver means: a fatal one of the client explains the others.
    fn driver(&self, e: &DriverError) -> Lost {
        let native = self.client.as_ref().and_then(Client::native);
        let fatal = native.and_then(|native| native.client().fatal_error()).map(|(code, _)| code);
        let code = e.rdkafka_error_code();
        if code.into_iter().chain(fatal).any(is_fenced) {
            return Lost::Fenced;
        }
        if matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) {
            return overdue();
        }
        Lost::Driver(e.clone())
    }

    fn fenced(&mut self) -> PublishError {
        self.fenced = true;
        self.client = None;
        PublishError::Fenced { shard: self.lease.shard, epoch: self.lease.epoch }
    }

    /// Answers a failure; somebody who took the transactional id is a successor only if the fence
    /// topic says so, and a zombie otherwise.
    async fn lost(&mut self, acked: usize, why: Lost) -> PublishError {
        let why = match why {
            Lost::Said(why) => why,
            Lost::Driver(e) => e.to_string(),
            Lost::Fenced => {
                let (shared, name) = (Arc::clone(&self.shared), self.name.clone());
                let epoch = self.lease.epoch.0;
                let checked = spawn_blocking(move || shared.fences.check(&name, epoch)).await;
                match checked {
                    Ok(Err(FenceError::Newer)) => return self.fenced(),
                    Ok(Err(FenceError::Unavailable(why))) => why,
                    Ok(Ok(())) => {
                        "an older session took the transactional id, or it timed out".to_owned()
                    }
                    Err(e) => e.to_string(),
                }
            }
        };
        unavailable(acked, why)
    }
}

fn enqueue(
    native: &Native,
    publish: &Publish,
    partition: u32,
    index: usize,
) -> Result<(), DriverError> {
    let record = &publish.record;
    let message = BaseRecord::with_opaque_to(publish.topic.as_str(), index)
        .partition(i32::try_from(partition).unwrap_or(0))
        .key(record.key.as_ref())
        .payload(record.value.as_ref());
    let message = BaseRecord { headers: native_headers(&record.headers), ..message };
    native.send(message).map_err(|(e, _)| e)
}

/// The bytes of a record on the wire, at the most.
fn bytes(record: &Record) -> usize {
    record.bytes().saturating_add(FRAMING)
}

/// Adds Debezium's `id`, equal to `ce_id`, behind ours.
fn native_headers(headers: &Headers) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let mut id = None;
    let mut into = OwnedHeaders::new_with_capacity(HEADERS);
    for (key, value) in headers {
        if key == "ce_id" {
            id = id.or(Some(value));
        }
        into = into.insert(Header { key, value: Some(value) });
    }
    Some(match id {
        Some(value) => into.insert(Header { key: "id", value: Some(value) }),
        None => into,
    })
}

fn is_unknown_topic(e: &DriverError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    let code = e.rdkafka_error_code();
    matches!(code, Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

fn overdue() -> Lost {
    Lost::Said("delivery_timeout passed before all was stored".to_owned())
}

fn told(e: PublishError) -> String {
    match e {
        PublishError::Unavailable { why, .. } => why,
        other => other.to_string(),
    }
}

fn unavailable(acked: usize, why: impl ToString) -> PublishError {
    PublishError::Unavailable { acked, why: why.to_string() }
}
