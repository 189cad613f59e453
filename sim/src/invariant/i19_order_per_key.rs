//! I19: the events of one key are delivered in commit order.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::{EventId, InvariantId};
use amarra_memory::observer::Published;

use super::{Finding, Invariant};
use crate::oracle::{Facts, Tx};

type Stream = (Arc<str>, Arc<str>);

/// Numbers the messages of each (topic, key) as they commit; records and admissions must come in
/// these numbers, each for the first time right after the one before it.
#[derive(Debug, Default)]
pub(crate) struct OrderPerKey {
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
            let stream: Stream =
                (message.topic.as_str().into(), message.envelope.partition_key.as_str().into());
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

    fn published(&mut self, _record: &Published, event: &str) -> Vec<Finding> {
        let known = event.parse::<EventId>().ok().and_then(|id| self.number.get(&id));
        let Some((stream, number)) = known else { return Vec::new() };
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
