//! I18: each outbox row is published; each (consumer, event) is applied exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, InvariantId};
use amarra_memory::observer::Published;
use amarra_messaging::Outgoing;

use super::{Finding, Invariant};
use crate::fault::timeline::{FOREIGN, POISON_KEY};
use crate::oracle::{Facts, Settled, Tx};

/// What Inventory answers, every time: an admission without its answer lost its effects.
const ANSWERED: &[&str] = &["OrderCreated", "CommitReservation", "CompensateInventory"];

/// A message as it was emitted.
#[derive(Debug)]
struct Emitted {
    topic: Arc<str>,
    kind: Arc<str>,
}

/// Follows every message from its outbox to every group that subscribes to its topic.
#[derive(Debug, Default)]
pub(crate) struct PublishedAndAppliedOnce {
    emitted: BTreeMap<EventId, Emitted>,
    published: BTreeSet<EventId>,
    applied: BTreeSet<(Arc<str>, EventId)>,
    effects: BTreeSet<(Arc<str>, EventId, Arc<str>, AggregateId)>,
    poison: BTreeMap<String, Arc<str>>,
    parked: BTreeMap<(Arc<str>, Arc<str>), u32>,
}

impl Invariant for PublishedAndAppliedOnce {
    fn id(&self) -> InvariantId {
        InvariantId::I18
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for (_, message) in &tx.raw.messages {
            let envelope = &message.envelope;
            let (topic, kind) = (message.topic.as_str().into(), Arc::clone(&envelope.kind));
            if self.emitted.insert(envelope.id, Emitted { topic, kind }).is_some() {
                found.push(Finding::at(
                    format!("{} {} was emitted twice", envelope.kind, envelope.id),
                    envelope.id,
                ));
            }
            // One message has one effect of a kind on a subject, however often it is delivered. A
            // saga may repeat a command that was not answered: its receiver tells by the request.
            let Some(cause) = envelope.causation else { continue };
            if message.topic.as_str().ends_with(".commands") {
                continue;
            }
            let effect = (
                Arc::clone(&tx.raw.database),
                cause,
                Arc::clone(&envelope.kind),
                envelope.subject.clone(),
            );
            if !self.effects.insert(effect) {
                found.push(Finding::at(
                    format!(
                        "{} about {} was emitted twice because of one message {cause}",
                        envelope.kind, envelope.subject
                    ),
                    envelope.id,
                ));
            }
        }
        for row in &tx.raw.admitted {
            if !self.applied.insert((row.group.as_str().into(), row.event)) {
                found.push(Finding::at(
                    format!("group {} applied {} twice", row.group, row.event),
                    row.event,
                ));
            }
            let answers = |(_, m): &(_, Outgoing)| m.envelope.causation == Some(row.event);
            let kind = self.emitted.get(&row.event).map_or("", |e| e.kind.as_ref());
            let owes = row.group.as_str() == "inventory" && ANSWERED.contains(&kind);
            if owes && !tx.raw.messages.iter().any(answers) {
                found.push(Finding::at(
                    format!("group {} admitted {kind} without its effects", row.group),
                    row.event,
                ));
            }
        }
        for (group, parked) in &tx.raw.parked {
            let key = parked.delivery.key();
            if key.as_str().starts_with(POISON_KEY) {
                let of_group = (group.as_str().into(), key.as_str().into());
                *self.parked.entry(of_group).or_default() += 1;
                continue;
            }
            found.push(Finding::new(format!(
                "group {group} parked a message of {} that nobody poisoned: {}",
                parked.delivery.topic, parked.reason
            )));
        }
        found
    }

    fn published(&mut self, record: &Published, event: Option<EventId>) -> Vec<Finding> {
        let known = event.filter(|id| self.emitted.contains_key(id));
        self.published.extend(known);
        if known.is_some() {
            return Vec::new();
        }
        if record.source.as_ref() == FOREIGN {
            let key = String::from_utf8_lossy(&record.record.key).into_owned();
            self.poison.insert(key, record.topic.as_str().into());
            return Vec::new();
        }
        let detail = format!("{} has a record {event:?} that no transaction emitted", record.topic);
        vec![Finding { detail, event }]
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, Emitted { topic, .. }) in &self.emitted {
            if !self.published.contains(id) {
                found.push(Finding::at(format!("{id} was never published to {topic}"), *id));
                continue;
            }
            for (group, topics) in end.subscriptions {
                let subscribed = topics.iter().any(|t| **t == **topic);
                let applied = self.applied.contains(&(Arc::from(group.as_str()), *id));
                if subscribed && !applied {
                    found.push(Finding::at(format!("group {group} never applied {id}"), *id));
                }
            }
        }
        found.extend(self.unparked(end));
        found
    }
}

impl PublishedAndAppliedOnce {
    /// A record that nobody understands is set aside once by every group, and by nobody dropped.
    fn unparked(&self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (key, topic) in &self.poison {
            for (group, topics) in end.subscriptions {
                let of_group = (Arc::from(group.as_str()), Arc::from(key.as_str()));
                let times = self.parked.get(&of_group).copied().unwrap_or(0);
                if topics.iter().any(|t| **t == **topic) && times != 1 {
                    found.push(Finding::new(format!(
                        "group {group} parked the record {key} of {topic} {times} times"
                    )));
                }
            }
        }
        found
    }
}
