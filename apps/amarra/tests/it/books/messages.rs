//! I15, I16, I18 and I19: every change is audited, told, published and applied, once and in order.

use std::collections::{BTreeMap, BTreeSet};

use amarra_core::{AggregateId, EventId};
use amarra_shop::contract::notifications::Channel;
use amarra_shop::contract::topics;
use amarra_shop::notifications::Status;
use amarra_store::audit::verify_chain;

use super::orders::order_events;
use super::{Books, Emitted, Findings};

/// The events a customer is told of.
const TOLD: &[&str] = &[
    "OrderCreated",
    "OrderConfirmed",
    "OrderCancelled",
    "OrderRejected",
    "OrderRefunded",
    "OrderFulfilled",
    "OrderCompleted",
];

/// The channels the shop under test has.
const CHANNELS: &[Channel] = &[Channel::Email, Channel::Sms, Channel::Push];

/// Who reads what: group, the database it keeps its inbox in, and its topics.
pub(super) const SUBSCRIPTIONS: &[(&str, &str, &[&str])] = &[
    ("inventory", "inventory", &[topics::ORDERS, topics::INVENTORY_COMMANDS]),
    ("payments", "payments", &[topics::ORDERS, topics::PAYMENTS_COMMANDS]),
    ("orders", "orders", &[topics::INVENTORY, topics::PAYMENTS]),
    ("orders-view", "orders", &[topics::ORDERS, topics::INVENTORY, topics::PAYMENTS]),
    ("notifications", "notifications", &[topics::ORDERS]),
    ("catalog-view", "catalog", &[topics::CATALOG, topics::STOCK]),
];

/// I15: of each told state of an order each channel is sent once, or suppressed with a reason.
pub(super) fn notified_once(books: &Books, found: &mut Findings<'_>) {
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for (key, times) in &books.told {
        // A fourth part would count the staff's further rounds.
        let base: Vec<&str> = key.splitn(4, ':').take(3).collect();
        *told.entry(base.join(":")).or_default() += times;
    }
    for (order, events) in order_events(books) {
        for state in events.iter().filter(|event| TOLD.contains(event)) {
            for channel in CHANNELS {
                let id = format!("{order}:{state}:{}", channel.as_str());
                let sent = told.remove(&id).unwrap_or(0);
                let status = books.notifications.get(&id).map(|n| n.status);
                let holds = match status {
                    Some(Status::Sent) => sent == 1,
                    Some(Status::Suppressed(_)) => sent == 0,
                    Some(Status::DeadLettered) => sent <= 1,
                    _ => false,
                };
                found.unless(holds, || format!("{id} is {status:?} and was told {sent} times"));
            }
        }
    }
    for (id, sent) in told {
        found.unless(false, || format!("{id} was told {sent} times, nothing of it was published"));
    }
}

/// I16: each save has its audit row, with an actor, in an intact chain.
pub(super) fn audited(books: &Books, found: &mut Findings<'_>) {
    for (name, database) in &books.databases {
        let chain = verify_chain(0, [0; 32], &database.audit);
        found.unless(chain.is_ok(), || format!("audit chain of {name}: {chain:?}"));
        let mut rows: BTreeMap<&AggregateId, Vec<u64>> = BTreeMap::new();
        for row in &database.audit {
            rows.entry(&row.entry.aggregate).or_default().push(row.entry.version.get());
            found.unless(!row.entry.actor.to_string().is_empty(), || {
                format!("audit row {} of {name} has no actor", row.number)
            });
        }
        for (id, version) in &database.versions {
            let rows = rows.remove(id).unwrap_or_default();
            let dense = rows.iter().copied().eq(1..=version.get());
            found.unless(dense, || {
                format!("{id} of {name} is at version {version}, its audit rows are {rows:?}")
            });
        }
        for (id, versions) in rows {
            found.unless(false, || format!("{id} of {name} is audited at {versions:?}, not saved"));
        }
    }
}

/// I18: each outbox row is published, each subscribed group applies it once, one message has one
/// effect of a kind on a subject, and nothing is set aside.
pub(super) fn published_and_applied_once(books: &Books, found: &mut Findings<'_>) {
    let published: BTreeSet<(&str, EventId)> =
        books.records.iter().map(|r| (&*r.topic, r.event)).collect();
    let mut applied: BTreeMap<(&str, EventId), u32> = BTreeMap::new();
    for (name, database) in &books.databases {
        found.unless(database.parked == 0, || format!("{name} set {} aside", database.parked));
        for row in &database.applied {
            *applied.entry((&row.group, row.event)).or_default() += 1;
        }
    }
    let mut emitted: BTreeSet<EventId> = BTreeSet::new();
    for (name, database) in &books.databases {
        let mut effects = BTreeSet::new();
        for Emitted { topic, envelope } in &database.emitted {
            let id = envelope.id;
            found.unless(emitted.insert(id), || format!("{id} was emitted twice"));
            found.unless(published.contains(&(&**topic, id)), || {
                format!("{} {id} of {name} was never published to {topic}", envelope.kind)
            });
            let readers = SUBSCRIPTIONS.iter().filter(|(_, _, topics)| topics.contains(&&**topic));
            for (group, ..) in readers {
                let times = applied.get(&(*group, id)).copied().unwrap_or(0);
                found.unless(times == 1, || format!("{group} applied {id} {times} times"));
            }
            // A saga may repeat a command that was not answered: its receiver tells by the request.
            if let Some(cause) = envelope.causation.filter(|_| !topic.ends_with(".commands")) {
                let first = effects.insert((cause, &envelope.kind, &envelope.subject));
                found.unless(first, || {
                    format!("{cause} caused {} about {} twice", envelope.kind, envelope.subject)
                });
            }
        }
    }
    for record in &books.records {
        found.unless(emitted.contains(&record.event), || {
            format!("{} has a record {} that nobody emitted", record.topic, record.event)
        });
    }
}

type Stream<'a> = (&'a str, &'a str);

/// I19: records of one key, each at its first time, come in commit order and in one partition, and
/// are applied in it.
pub(super) fn order_per_key(books: &Books, found: &mut Findings<'_>) {
    let mut number: BTreeMap<EventId, (Stream<'_>, u64)> = BTreeMap::new();
    let mut count: BTreeMap<Stream<'_>, u64> = BTreeMap::new();
    let mut keys: BTreeMap<(&str, &AggregateId), &str> = BTreeMap::new();
    for Emitted { topic, envelope } in books.databases.values().flat_map(|d| &d.emitted) {
        let stream: Stream<'_> = (topic, envelope.partition_key.as_str());
        let next = count.entry(stream).or_default();
        *next += 1;
        number.insert(envelope.id, (stream, *next));
        let key = *keys.entry((topic, &envelope.subject)).or_insert(stream.1);
        found.unless(key == stream.1, || {
            format!("{} has the keys {key} and {} in {topic}", envelope.subject, stream.1)
        });
    }
    let mut last: BTreeMap<Stream<'_>, (i32, u64)> = BTreeMap::new();
    for record in &books.records {
        let Some((stream, number)) = number.get(&record.event) else { continue };
        let (partition, last) = last.entry(*stream).or_insert((record.partition, 0));
        found.unless(*partition == record.partition, || {
            format!("{stream:?} is in the partitions {partition} and {}", record.partition)
        });
        found.unless(*number <= *last + 1, || {
            format!("number {number} of {stream:?} was published after {last}")
        });
        *last = (*last).max(*number);
    }
    for (name, database) in &books.databases {
        let mut by_group: BTreeMap<(&str, Stream<'_>), Vec<(u64, u64)>> = BTreeMap::new();
        for row in &database.applied {
            let Some((stream, number)) = number.get(&row.event) else { continue };
            by_group.entry((&row.group, *stream)).or_default().push((row.offset, *number));
        }
        for ((group, stream), mut applied) in by_group {
            applied.sort_unstable();
            let ordered = applied.iter().map(|(_, number)| *number).is_sorted();
            found.unless(ordered, || {
                format!("{group} of {name} applied {stream:?} in the order {applied:?}")
            });
        }
    }
}
