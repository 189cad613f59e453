//! The thread of a member, which alone serves the client library.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amarra_messaging::Topic;
use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::Partition;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::{Client, Context, Happening, Partitions, unassign};
use super::record::delivery;
use super::shared::Shared;
use super::state::Order;
use crate::error::unmakeable;

/// Records that are handed over at once.
const BATCH: usize = 128;
/// How long a step that the library does by itself, without the broker, may take.
const STEP: Duration = Duration::from_secs(1);
/// The pause before a refused step is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// The pause before a consumer of the library that broke is replaced.
const REPLACE: Duration = Duration::from_secs(1);

/// What a member is made of, and made of again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: ClientConfig,
    /// What to go on with where the broker does not know the group protocol of `config`.
    pub(super) fallback: Option<ClientConfig>,
    pub(super) topics: Vec<Topic>,
    pub(super) batch_bytes: usize,
    /// After how long without a poll the library is polled though there is no room.
    pub(super) overdue: Duration,
}

impl Plan {
    /// Makes a consumer of the library, which wakes the thread `waker` when there is something.
    pub(super) fn client(&self) -> KafkaResult<Client> {
        self.config.create_with_context(Context::default())
    }
}

/// The thread's own state.
pub(super) struct Member {
    shared: Arc<Shared>,
    plan: Plan,
    client: Option<Arc<Client>>,
    subscribed: bool,
    /// When the library's consumer is to be replaced.
    replace_at: Option<Instant>,
    /// Orders that the library refused for now.
    later: Vec<Order>,
    /// What the library waits for to be given up.
    revoked: Option<Partitions>,
    polled_at: Instant,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>, plan: Plan) -> Self {
        let (client, subscribed) = (None, false);
        let (later, revoked) = (Vec::new(), None);
        let polled_at = Instant::now();
        Self { shared, plan, client, subscribed, replace_at: None, later, revoked, polled_at }
    }

    /// Serves the library as long as somebody wants it, beginning with `client`.
    pub(super) fn run(mut self, client: Client) {
        let _ended = Ended(Arc::clone(&self.shared));
        self.install(client);
        loop {
            let mut work = self.shared.work();
            if work.stop {
                return self.replace(None);
            }
            if self.replace_at.is_some_and(|at| at <= Instant::now()) {
                self.renew();
            }
            work.orders.append(&mut self.later);
            work.orders.into_iter().for_each(|order| self.obey(order));
            if work.serve {
                self.serve();
            }
            let now = Instant::now();
            let replace = self.replace_at.map(|at| at.saturating_duration_since(now));
            let again = (!self.later.is_empty()).then_some(AGAIN);
            let sleep = replace.into_iter().chain(again).fold(work.sleep, Duration::min);
            thread::park_timeout(sleep);
        }
    }

    fn install(&mut self, mut client: Client) {
        let thread = thread::current();
        client.set_nonempty_callback(move || thread.unpark());
        let client = Arc::new(client);
        self.subscribed = false;
        self.client = Some(Arc::clone(&client));
        self.shared.replace(Some(client));
    }

    /// Leaves the group, and goes on with `client`.
    fn replace(&mut self, client: Option<Client>) {
        self.replace_at = None;
        self.later.clear();
        self.shared.replace(None);
        if let Some(before) = self.client.take() {
            before.context().close();
            if let Some(partitions) = self.revoked.take() {
                // It does not close before; whether it refuses says nothing any more.
                let _ = unassign(&before, &partitions);
            }
            // A commit that is on its way owns it too, and then closes it instead.
            drop(before);
        }
        if let Some(client) = client {
            self.install(client);
        }
    }

    fn renew(&mut self) {
        match self.plan.client() {
            Ok(client) => self.replace(Some(client)),
            Err(e) => {
                self.fail(unmakeable(&e).to_string());
                self.replace_at = Instant::now().checked_add(REPLACE);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        let Some(client) = &self.client else { return };
        let done = match &order {
            Order::Seek { partition, offset, number } => {
                if !self.shared.is_seeking(partition, *number) {
                    return;
                }
                let to = Offset::Offset(i64::try_from(offset.0).unwrap_or(i64::MAX));
                let at = i32::try_from(partition.partition.0).unwrap_or(i32::MAX);
                let done = client.seek(partition.topic.as_str(), at, to, STEP);
                if done.is_ok() {
                    self.shared.tell_caller(|state| state.sought(partition, *number));
                }
                done
            }
            Order::Resume(partition) => {
                // Refused when it was revoked meanwhile; a later assignment is not held.
                let _ = client.resume(&native([partition]));
                return;
            }
            Order::Unassign(partitions) => {
                self.revoked = None;
                unassign(client, partitions)
            }
        };
        match (done, order) {
            (Ok(()), _) => {}
            (Err(e), Order::Unassign(_)) => self.broken(&e.to_string()),
            (Err(_), order) => self.later.push(order),
        }
    }

    /// Takes from the library what there is, as far as there is room.
    fn serve(&mut self) {
        let Some(client) = self.client.clone() else { return };
        if !self.subscribed {
            let topics: Vec<_> = self.plan.topics.iter().map(Topic::as_str).collect();
            match client.subscribe(&topics) {
                Ok(()) => self.subscribed = true,
                Err(e) => return self.broken(&e.to_string()),
            }
        }
        loop {
            let room = self.shared.room(self.polled_at.elapsed() >= self.plan.overdue);
            if !room.hold.is_empty() {
                // Refused when it was revoked meanwhile.
                let _ = client.pause(&native(&room.hold));
            }
            if room.records == 0 || !self.fill(&client, room.records.min(BATCH)) {
                return;
            }
        }
    }

    /// Takes up to `limit` records; `true` when there may be more.
    fn fill(&mut self, client: &Client, limit: usize) -> bool {
        self.polled_at = Instant::now();
        let mut batch = Vec::new();
        let mut size = 0_usize;
        let mut more = true;
        while more && batch.len() < limit && size < self.plan.batch_bytes {
            let served = client.context().served();
            let polled = client.poll(Duration::ZERO);
            more = polled.is_some() || client.context().served() != served;
            let happened = client.context().take();
            if !happened.is_empty() {
                // What came before a rebalance is of before it.
                self.hand_over(&mut batch);
                happened.into_iter().for_each(|happening| self.happened(happening));
            }
            match polled {
                Some(Ok(message)) => {
                    let topic = self.plan.topics.iter().find(|t| t.as_str() == message.topic());
                    let Some(topic) = topic else { continue };
                    let delivery = delivery(&message, topic.clone());
                    size = size.saturating_add(delivery.record.bytes());
                    batch.push(delivery);
                }
                Some(Err(e)) => self.failed(client, &e),
                None => {}
            }
        }
        self.hand_over(&mut batch);
        more && self.replace_at.is_none()
    }

    fn hand_over(&self, batch: &mut Vec<amarra_messaging::message::Delivery>) {
        if !batch.is_empty() {
            let batch = std::mem::take(batch);
            self.shared.tell_caller(|state| batch.into_iter().for_each(|d| state.push(d)));
        }
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Assigned(partitions) => {
                let named = self.named(&partitions);
                if let Some(client) = &self.client {
                    // The library remembers what it was told not to fetch beyond an assignment.
                    let _ = client.resume(&native(&named));
                }
                self.shared.tell_caller(|state| state.assigned(named));
            }
            Happening::Revoked(partitions) => {
                self.revoked = Some(partitions.clone());
                let named = self.named(&partitions);
                self.shared.tell_caller(|state| state.revoked(&named, partitions));
            }
            Happening::Stuck(why) => self.broken(&why),
        }
    }

    fn named(&self, partitions: &Partitions) -> Vec<TopicPartition> {
        let named = |(topic, partition): &(String, i32)| TopicPartition {
            topic: Topic::from(topic.as_str()),
            partition: Partition(u32::try_from(*partition).unwrap_or_default()),
        };
        partitions.iter().map(named).collect()
    }

    fn failed(&mut self, client: &Client, e: &KafkaError) {
        use RDKafkaErrorCode as Code;
        let reason = client.context().reason();
        let why = if reason.is_empty() { e.to_string() } else { format!("{e}: {reason}") };
        if let Some((code, why)) = client.client().fatal_error() {
            match (code, self.plan.fallback.take()) {
                (Code::FencedInstanceId, _) => {
                    let why = format!("another member took this instance id: {why}");
                    self.shared.tell_caller(|state| state.end(&why));
                    self.replace(None);
                }
                (Code::UnsupportedFeature | Code::UnsupportedVersion, Some(config)) => {
                    self.plan.config = config;
                    self.replace_at = Some(Instant::now());
                }
                (_, fallback) => {
                    self.plan.fallback = fallback;
                    self.broken(&why);
                }
            }
            return;
        }
        match e.rdkafka_error_code() {
            // One connection of several, which is made again; and what a revocation tells anyway.
            Some(Code::BrokerTransportFailure | Code::PollExceeded | Code::PartitionEOF) => {}
            _ => self.fail(why),
        }
    }

    fn fail(&self, why: String) {
        self.shared.tell_caller(|state| state.fail(why));
    }

    fn broken(&mut self, why: &str) {
        self.fail(why.to_owned());
        if self.replace_at.is_none() {
            self.replace_at = Instant::now().checked_add(REPLACE);
        }
    }
}

/// Tells the caller when the thread ends, however it does.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.tell_caller(|state| state.end("the member's thread ended: make another member"));
        self.0.left.send_replace(true);
    }
}

fn native<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut tpl = TopicPartitionList::new();
    for TopicPartition { topic, partition } in partitions {
        tpl.add_partition(topic.as_str(), i32::try_from(partition.0).unwrap_or(i32::MAX));
    }
    tpl
}
