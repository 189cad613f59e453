//! I19: the events of one key are delivered in commit order, and one subject has one key.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::{AggregateId, EventId, InvariantId};
use amarra_memory::observer::Published;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Tx};

type Stream = (Arc<str>, Arc<str>);

/// Numbers the messages of each (topic, key) as they commit; records and admissions must come in
/// these numbers, each for the first time right after the one before it. Messages about one subject
/// share a key, or their order would be nobody's.
#[derive(Debug, Default)]
pub(crate) struct OrderPerKey {
    keys: BTreeMap<(Arc<str>, AggregateId), Arc<str>>,
    committed: BTreeMap<Stream, u64>,
    number: BTreeMap<EventId, (Stream, u64)>,
    published: BTreeMap<Stream, u64>,
    applied: BTreeMap<(Arc<str>, Stream), u64>,
}

impl Invariant for OrderPerKey {
    fn id(&self) -> InvariantId {
        InvariantId::I19
    }

    fn committed(&mut self, tx: &Tx<'_>, _facts: &Facts) -> Vec<Finding> {
        let mut found = Vec::new();
        for (_, message) in &tx.raw.messages {
            let envelope = &message.envelope;
            let (topic, key): Stream =
                (message.topic.as_str().into(), envelope.partition_key.as_str().into());
            let subject = (Arc::clone(&topic), envelope.subject.clone());
            let first = self.keys.entry(subject).or_insert_with(|| Arc::clone(&key));
            if *first != key {
                found.push(Finding::at(
                    format!(
                        "{} has key {key} in {topic}, an earlier message about {} had {first}",
                        envelope.kind, envelope.subject
                    ),
                    envelope.id,
                ));
            }
            let stream = (topic, key);
            let count = self.committed.entry(stream.clone()).or_default();
            *count += 1;
            self.number.insert(message.envelope.id, (stream, *count));
        }
        for row in &tx.raw.admitted {
            let Some((stream, number)) = self.number.get(&row.event) else { continue };
            let last = self.applied.entry((row.group.as_str().into(), stream.clone())).or_default();
            if *number != *last + 1 {
                found.push(Finding::at(
                    format!(
                        "group {} applied number {number} of key {} of {} after number {last}",
                        row.group, stream.1, stream.0
                    ),
                    row.event,
                ));
            }
            *last = (*last).max(*number);
        }
        found
    }

    fn published(&mut self, _record: &Published, event: Option<EventId>) -> Vec<Finding> {
        let Some(event) = event else { return Vec::new() };
        let Some((stream, number)) = self.number.get(&event) else { return Vec::new() };
        let last = self.published.entry(stream.clone()).or_default();
        // A re-publish repeats numbers; it never skips one.
        if *number > *last + 1 {
            return vec![Finding::at(
                format!(
                    "number {number} of key {} of {} was published after number {last}",
                    stream.1, stream.0
                ),
                event,
            )];
        }
        *last = (*last).max(*number);
        Vec::new()
    }
}
