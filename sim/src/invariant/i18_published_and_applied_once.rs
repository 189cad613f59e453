//! I18: each outbox row is published; each (consumer, event) is applied exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, InvariantId};
use amarra_memory::observer::Published;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Settled, Tx};

/// Follows every message from its outbox to every group that subscribes to its topic.
#[derive(Debug, Default)]
pub(crate) struct PublishedAndAppliedOnce {
    emitted: BTreeMap<EventId, Arc<str>>,
    published: BTreeSet<String>,
    applied: BTreeSet<(Arc<str>, EventId)>,
    effects: BTreeSet<(Arc<str>, EventId, Arc<str>, AggregateId)>,
}

impl Invariant for PublishedAndAppliedOnce {
    fn id(&self) -> InvariantId {
        InvariantId::I18
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for (_, message) in &tx.raw.messages {
            let envelope = &message.envelope;
            if self.emitted.insert(envelope.id, message.topic.as_str().into()).is_some() {
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
        }
        for (group, parked) in &tx.raw.parked {
            found.push(Finding::new(format!(
                "group {group} parked a message of {} that nobody poisoned: {}",
                parked.delivery.topic, parked.reason
            )));
        }
        found
    }

    fn published(&mut self, record: &Published, event: &str) -> Vec<Finding> {
        self.published.insert(event.to_owned());
        let known = event.parse::<EventId>().is_ok_and(|id| self.emitted.contains_key(&id));
        if known {
            return Vec::new();
        }
        vec![Finding::at(
            format!("{} has a record {event} that no committed transaction emitted", record.topic),
            event,
        )]
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, topic) in &self.emitted {
            if !self.published.contains(&id.to_string()) {
                found.push(Finding::at(format!("{id} was never published to {topic}"), id));
                continue;
            }
            for (group, topics) in end.subscriptions {
                let subscribed = topics.iter().any(|t| **t == **topic);
                let applied = self.applied.contains(&(Arc::from(group.as_str()), *id));
                if subscribed && !applied {
                    found.push(Finding::at(format!("group {group} never applied {id}"), id));
                }
            }
        }
        found
    }
}
