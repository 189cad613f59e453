//! I15: each (order, state, channel) is notified exactly once or suppressed with a reason.

use std::collections::BTreeMap;

use amarra_core::{AggregateId, InvariantId};
use amarra_shop::contract::notifications::Channel;
use amarra_shop::notifications::{Notification, Status};
use amarra_store::Aggregate;
use amarra_store::unit::StoredState;

use super::{Finding, Invariant};
use crate::node::CHANNELS;
use crate::oracle::Settled;

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

/// Compares what the senders took with the events that were published.
#[derive(Debug)]
pub(crate) struct NotifiedOnce;

/// Reads every notification as it is stored.
fn stored(end: &Settled<'_>) -> BTreeMap<String, Notification> {
    let Some(database) = end.cluster.databases.get("notifications") else { return BTreeMap::new() };
    database.inspect(|i| {
        let rows = i.aggregates(Notification::KIND);
        let read = |(id, stored): (&AggregateId, &StoredState)| {
            Some((id.id.to_string(), serde_json::from_slice(&stored.body).ok()?))
        };
        rows.filter_map(read).collect()
    })
}

impl Invariant for NotifiedOnce {
    fn id(&self) -> InvariantId {
        InvariantId::I15
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        let notifications = stored(end);
        let mut taken: BTreeMap<(String, Channel), u32> = BTreeMap::new();
        for delivered in end.cluster.mailbox.delivered() {
            *taken.entry((delivered.base_key, delivered.channel)).or_default() += 1;
        }
        for (order, events) in &end.facts.order_events {
            for state in events.iter().filter(|e| TOLD.contains(&e.as_ref())) {
                for &channel in CHANNELS {
                    let id = format!("{order}:{state}:{}", channel.as_str());
                    let sent = taken.remove(&(id.clone(), channel)).unwrap_or(0);
                    let notification = notifications.get(id.as_str());
                    let ok = match notification.map(|n| n.status) {
                        Some(Status::Sent) => sent == 1,
                        Some(Status::Suppressed(_)) => sent == 0,
                        Some(Status::DeadLettered) => sent <= 1,
                        _ => false,
                    };
                    if !ok {
                        found.push(Finding::new(format!(
                            "{id} is {:?} and was taken by the sender {sent} times",
                            notification.map(|n| n.status)
                        )));
                    }
                }
            }
        }
        found.extend(taken.into_iter().map(|((id, _), n)| {
            Finding::new(format!("{id} was sent {n} times although nothing of it was published"))
        }));
        found
    }
}
