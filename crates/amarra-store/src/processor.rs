//! Applies batches of messages through a handler, each batch in one unit of work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{Actor, AggregateId, Classify, Environment};
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::{ProcessError, Processor};
use amarra_messaging::{Incoming, TxError, wire};
use async_trait::async_trait;

use crate::handler::Handler;
use crate::session::Session;
use crate::unit::{Store, StoredState, UnitOfWork};

/// A service's consumer: admits, handles and commits a batch in one transaction.
///
/// Every batch first admits its messages, then asks which keys are parked, then locks every
/// aggregate and every row of a view they touch, and only then handles them. Two members that were
/// handed the same messages across a rebalance therefore meet at the first admission, before
/// either holds an aggregate: the later one finds what the earlier one applied or parked, and they
/// cannot deadlock.
#[derive(Debug, Clone)]
pub struct TransactionalProcessor {
    store: Arc<dyn Store>,
    handler: Arc<dyn Handler>,
    env: Environment,
    source: Arc<str>,
}

impl TransactionalProcessor {
    /// Puts a consumer together; `source` names the service in the envelopes it emits, and its last
    /// path segment is the actor of what it changes.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        handler: Arc<dyn Handler>,
        env: Environment,
        source: impl Into<Arc<str>>,
    ) -> Self {
        Self { store, handler, env, source: source.into() }
    }

    /// Returns the parked keys among `fresh`. Asked after the admissions: whoever parked one of
    /// these messages admitted it first, so its parking is committed by now.
    async fn parked(
        &self,
        unit: &mut dyn UnitOfWork,
        batch: &[Delivery],
        fresh: &[(usize, &Incoming)],
    ) -> Result<BTreeSet<usize>, ProcessError> {
        let topics: BTreeSet<_> = fresh.iter().map(|(_, message)| &message.topic).collect();
        let mut parked = BTreeSet::new();
        for topic in topics {
            let of_topic = || {
                let fresh = fresh.iter().filter(move |(_, message)| message.topic == *topic);
                fresh.filter_map(|(index, _)| Some((*index, batch.get(*index)?.key())))
            };
            let keys = of_topic().map(|(_, key)| key).collect();
            let group = self.handler.group();
            let keys = unit.parked_among(group, topic, &keys).await.map_err(at(None))?;
            parked.extend(of_topic().filter(|(_, key)| keys.contains(key)).map(|(index, _)| index));
        }
        Ok(parked)
    }

    /// Locks everything the messages name, in the order of law HND-3.
    async fn lock(&self, unit: &mut dyn UnitOfWork, messages: &[&Incoming]) -> Result<(), TxError> {
        let each = messages.iter();
        let touched: BTreeSet<_> = each.clone().flat_map(|m| self.handler.touches(m)).collect();
        let states = load(unit, touched).await?;
        let further = each.clone().flat_map(|m| self.handler.touches_further(m, &states));
        let further: BTreeSet<_> = further.collect();
        load(unit, further).await?;
        let views: BTreeSet<_> = each.flat_map(|m| self.handler.views(m)).collect();
        if !views.is_empty() {
            unit.load_views(&views.into_iter().collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn apply_fresh(
        &self,
        unit: &mut dyn UnitOfWork,
        batch: &[Delivery],
        fresh: &[(usize, &Incoming)],
    ) -> Result<(), ProcessError> {
        let parked = self.parked(unit, batch, fresh).await?;
        let to_handle = fresh.iter().filter(|(index, _)| !parked.contains(index));
        let to_handle: Vec<&Incoming> = to_handle.map(|(_, message)| *message).collect();
        self.lock(unit, &to_handle).await.map_err(at(None))?;
        for &(index, message) in fresh {
            match batch.get(index).filter(|_| parked.contains(&index)) {
                Some(delivery) => {
                    unit.park(self.handler.group(), delivery, "queued behind a parked message")
                        .await
                        .map_err(at(Some(index)))?;
                }
                None => handle(self.handler.as_ref(), unit, (&self.env, &self.source), message)
                    .await
                    .map_err(at(Some(index)))?,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Processor for TransactionalProcessor {
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError> {
        let mut messages = Vec::with_capacity(batch.len());
        for (index, delivery) in batch.iter().enumerate() {
            messages.push(wire::decode(delivery).map_err(at(Some(index)))?);
        }
        let begun = self.store.begin_admitting(self.handler.group(), &messages).await;
        let (mut unit, answers) = begun.map_err(at(None))?;
        let fresh = messages.iter().enumerate().zip(answers);
        let fresh = fresh.filter(|(_, admit)| admit.applies()).map(|(message, _)| message);
        self.apply_fresh(unit.as_mut(), batch, &fresh.collect::<Vec<_>>()).await?;
        unit.commit().await.map_err(at(None))
    }

    async fn park(&self, delivery: &Delivery, reason: &str) -> Result<(), ProcessError> {
        let message = wire::decode(delivery).unwrap_or_else(|_| stand_in(delivery));
        let work = async {
            let mut unit = self.store.begin().await?;
            if unit.admit(self.handler.group(), &message).await?.applies() {
                unit.park(self.handler.group(), delivery, reason).await?;
                unit.commit().await?;
            }
            // Else an earlier try whose outcome was unknown parked it, or another member did.
            Ok(())
        };
        work.await.map_err(|error: TxError| at(Some(0))(error))
    }
}

async fn load(
    unit: &mut dyn UnitOfWork,
    ids: BTreeSet<AggregateId>,
) -> Result<BTreeMap<AggregateId, StoredState>, TxError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<_> = ids.into_iter().collect();
    let states = unit.load(&ids).await?;
    Ok(ids.into_iter().zip(states).collect())
}

/// Handles one admitted message in a session of its own.
pub(crate) async fn handle(
    handler: &dyn Handler,
    unit: &mut dyn UnitOfWork,
    (env, source): (&Environment, &str),
    message: &Incoming,
) -> Result<(), crate::HandlerError> {
    let mut cause = message.envelope.as_cause();
    // The user stands behind the message that was sent; reacting to it is the service's own doing.
    cause.actor = Actor::Service(source.rsplit('/').next().unwrap_or(source).into());
    handler.handle(&mut Session::new(unit, env, source, cause), message).await
}

/// Makes the message under which a delivery that does not decode is admitted.
///
/// Its id is a hash of the delivery's place, so parking it twice is noticed.
pub(crate) fn stand_in(delivery: &Delivery) -> Incoming {
    use amarra_core::{Envelope, PartitionKey, Timestamp, TraceParent, Version};

    let place = format!("{}/{}/{}", delivery.topic, delivery.partition, delivery.offset);
    let hash = blake3::hash(place.as_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    let id = uuid::Builder::from_custom_bytes(id).into_uuid();
    Incoming {
        topic: delivery.topic.clone(),
        partition: delivery.partition,
        offset: delivery.offset,
        envelope: Envelope {
            id: id.into(),
            source: "/amarra/undecodable".into(),
            kind: "Undecodable".into(),
            schema_version: 1,
            subject: AggregateId::new("delivery", place),
            subject_version: Version::ABSENT,
            partition_key: PartitionKey::new(delivery.key().as_str()),
            correlation: id.into(),
            causation: None,
            actor: Actor::Service("undecodable".into()),
            traceparent: TraceParent::root(&amarra_core::SeededEntropy::new(0, "undecodable")),
            time: Timestamp::EPOCH,
            data: delivery.record.value.clone(),
        },
        position: None,
        turn: amarra_messaging::message::Turn::InOrder,
    }
}

fn at<E: Classify + std::fmt::Display>(culprit: Option<usize>) -> impl FnOnce(E) -> ProcessError {
    move |error| ProcessError { class: error.class(), culprit, why: error.to_string() }
}
