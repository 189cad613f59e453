//! A producer with a thread of its own that delivers reports, and ends it when it has to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError as DriverError;
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use super::flight::Flight;
use super::progress::Progress;
use crate::client::{client, whole};
use crate::config::{KafkaConfig, Mode};

/// How long the thread delivers reports, each at once, before it looks whether it is to end. The
/// wrapper delivers until the time is over and counts whole milliseconds, so after a report it
/// spins for what is left of the last one: at most a millisecond in each of these.
const LOOK: Duration = whole(1_000);
/// The same where a client has a transactional id: one that ended and is still there asks for its
/// id again after half a second, and would fence the one that was made in its place.
const LOOK_WITH_ID: Duration = whole(50);
/// The same, once it is to end and others still use the producer.
const LAST_LOOK: Duration = whole(5);
/// Room that librdkafka is given beyond ours: it counts its own framing.
const FRAMING: usize = 64 << 10;
/// How long a transaction may be open, at least, in milliseconds: brokers look every ten seconds.
const OPEN_MIN: u128 = 10_000;
/// Bytes of a batch at the most; a topic takes a little more by default.
const BATCH_MAX: usize = 1_000_000;

/// How long librdkafka waits for a batch to fill where calls are large, in milliseconds. Without,
/// a call's first records leave alone, and its thread looks over and over whether the others may
/// follow, because one batch of a partition is on its way at a time.
const FILL: &str = "3";

/// How librdkafka compresses where calls are large: the headers of neighbours are alike, and what
/// is not sent is neither copied nor stored. Without, a backlog costs the broker half as much
/// again.
const COMPRESSION: &str = "lz4";

/// What a client is best at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pace {
    /// Small calls: a record leaves at once.
    #[default]
    Prompt,
    /// Large ones: a batch fills first, at half the cost a record.
    Bulk,
}

pub(super) type Native = BaseProducer<Flight>;

/// A client of the broker that publishes; dropping it ends it, without waiting for that.
///
/// # State
/// Whoever waits for its records ends it when they are overdue. Its thread does so in place of a
/// call that was dropped, and lets go of the connections, within a second, or a twentieth of it
/// where it has a transactional id.
#[derive(Debug)]
pub(super) struct Client {
    slot: Arc<Slot>,
    flight: Arc<Flight>,
    /// How far the shard is committed; none where nothing is.
    pub(super) progress: Option<Progress>,
}

/// The producer until it ends.
struct Slot(Mutex<Option<Arc<Native>>>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slot")
    }
}

impl Client {
    /// Makes a client, which connects on its own.
    pub(super) fn start(
        config: &KafkaConfig,
        transactional_id: &str,
        pace: Pace,
    ) -> Result<Self, DriverError> {
        let flight = Flight::new(config.messages_max);
        let properties = properties(config, transactional_id, pace);
        let native: Native = properties.create_with_context(flight)?;
        let flight = Arc::clone(native.context());
        let native = Arc::new(native);
        let slot = Arc::new(Slot(Mutex::new(Some(Arc::clone(&native)))));
        let (own, reports) = (Arc::clone(&slot), Arc::clone(&flight));
        let thread = std::thread::Builder::new().name("kafka reports".to_owned());
        let look = match config.mode {
            Mode::Idempotent => LOOK,
            Mode::Transactional => LOOK_WITH_ID,
        };
        let spawned = thread.spawn(move || serve(native, look, &own, &reports));
        spawned.map_err(|e| DriverError::ClientCreation(e.to_string()))?;
        Ok(Self { slot, flight, progress: None })
    }

    /// Returns the producer, to be let go of soon; none once it has ended.
    pub(super) fn native(&self) -> Option<Arc<Native>> {
        self.slot.get()
    }

    /// Returns what is on its way.
    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Waits until nothing is on its way; ends the client when something is too late.
    pub(super) async fn settled(&self) {
        if !self.flight.settled_in_time().await {
            end(&self.slot, &self.flight);
            self.flight.settled().await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        end(&self.slot, &self.flight);
    }
}

impl Slot {
    fn get(&self) -> Option<Arc<Native>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends a client: nothing of it is sent any more, and its thread hears of all that was on its way.
fn end(slot: &Slot, flight: &Flight) {
    flight.die();
    let native = slot.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(native) = native {
        // Everything at once: a part of it that went out later would be out of order. The threads
        // of the brokers are told and not waited for.
        native.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

/// Delivers reports until the client is over, then lets go of it.
fn serve(native: Arc<Native>, look: Duration, slot: &Slot, flight: &Flight) {
    while !flight.is_over() {
        native.poll(look);
    }
    end(slot, flight);
    let mut native = native;
    loop {
        // Ending waits for the client's threads, so nobody else must be the last to let go.
        match Arc::try_unwrap(native) {
            Ok(last) => return drop(last),
            Err(shared) => {
                shared.poll(LAST_LOOK);
                native = shared;
            }
        }
    }
}

/// Returns how large a batch of one partition may be, in bytes.
pub(super) fn batch_bytes(config: &KafkaConfig) -> usize {
    config.record_bytes_max.min(BATCH_MAX)
}

/// The properties of a producer; the transactional id counts in one mode only.
pub(super) fn properties(config: &KafkaConfig, transactional_id: &str, pace: Pace) -> ClientConfig {
    let mut properties = client(config);
    if !config.extra.contains_key("linger.ms") {
        let linger = if pace == Pace::Bulk { FILL } else { "0" };
        properties.set("linger.ms", linger);
    }
    let chosen = |key: &str| config.extra.contains_key(key);
    if pace == Pace::Bulk && !chosen("compression.type") && !chosen("compression.codec") {
        properties.set("compression.type", COMPRESSION);
    }
    let ack = config.delivery_timeout.as_millis();
    // Our own credit bounds the queue: librdkafka's would count what was reported already.
    let kbytes = (config.bytes_max.saturating_mul(4) >> 10).clamp(1 << 16, 1 << 30);
    properties
        .set("enable.idempotence", "true")
        // A record that timed out alone would let later ones pass it; the whole client ends.
        .set("message.timeout.ms", "0")
        .set("request.timeout.ms", ack.to_string())
        .set("socket.timeout.ms", ack.to_string())
        .set("message.max.bytes", config.record_bytes_max.saturating_add(FRAMING).to_string())
        .set("batch.size", batch_bytes(config).to_string())
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", kbytes.to_string())
        .set("retry.backoff.ms", "20")
        .set("retry.backoff.max.ms", "200");
    match config.mode {
        // A refused batch must not let later ones pass it either.
        Mode::Idempotent => properties.set("enable.gapless.guarantee", "true"),
        Mode::Transactional => {
            let open = ack.saturating_mul(2).max(OPEN_MIN);
            properties.set("transactional.id", transactional_id);
            properties.set("transaction.timeout.ms", open.to_string())
        }
    };
    properties
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// How long the calling thread has run, waiting apart.
    fn ran() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn an_idle_producer_is_waited_for_and_not_looked_at() {
        let native: Native = ClientConfig::new().create_with_context(Flight::new(1)).unwrap();
        // It complains of having no broker first.
        native.poll(whole(10));
        let before = ran();
        for _ in 0..50 {
            native.poll(whole(10));
        }
        let each = (ran() - before) / 50;
        // One that spins runs for nearly a millisecond each time.
        assert!(each < Duration::from_micros(250), "{each:?}");
    }
}
