//! Watches every commit and record, keeps the state of the shop, and asks every invariant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amarra_core::{AggregateId, Timestamp, Version};
use amarra_memory::observer::{
    CommittedTx, Deadlocked, Delivered, Observer, Published, Rebalanced,
};
use amarra_messaging::Record;
use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::contract::{OrderId, Sku};
use amarra_shop::inventory::{LedgerEntry, Reservation, StockItem};
use amarra_shop::orders::Order;
use amarra_shop::payments::model::{Leg, Progress};
use amarra_shop::payments::{JournalEntry, Payment};
use amarra_shop::provider::Truth;
use amarra_store::Aggregate;
use serde::de::DeserializeOwned;

use crate::invariant::{self, Finding, Invariant};
use crate::node::provider::Ledger;
use crate::trace::{Event, Trace};
use crate::workload::Complaint;
use crate::world::Cluster;

/// An aggregate as it was saved.
#[derive(Debug, Clone)]
pub(crate) enum Saved {
    /// The stock of a product.
    Stock(StockItem),
    /// An entry of its ledger.
    Ledger(LedgerEntry),
    /// What is held for an order.
    Reservation(Reservation),
    /// An order.
    Order(Box<Order>),
    /// A payment.
    Payment(Box<Payment>),
    /// An entry of the journal.
    Journal(JournalEntry),
    /// Anything else.
    Other,
}

/// One save of a transaction.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// Which aggregate.
    pub(crate) id: &'a AggregateId,
    /// Its version after it.
    pub(crate) version: Version,
    /// Its state after it.
    pub(crate) saved: Saved,
}

/// A committed transaction, decoded.
#[derive(Debug)]
pub(crate) struct Tx<'a> {
    /// As the database committed it.
    pub(crate) raw: &'a CommittedTx,
    /// Its saves.
    pub(crate) changes: Vec<Change<'a>>,
}

/// The newest committed state of everything.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Stock by product.
    pub(crate) stock: BTreeMap<Sku, StockItem>,
    /// Reservations by order.
    pub(crate) reservations: BTreeMap<OrderId, Reservation>,
    /// Orders.
    pub(crate) orders: BTreeMap<OrderId, Order>,
    /// Payments by order.
    pub(crate) payments: BTreeMap<OrderId, Payment>,
    /// The published events of each order, in commit order: their types.
    pub(crate) order_events: BTreeMap<OrderId, Vec<Arc<str>>>,
    ledger: Option<Ledger>,
}

/// Everything once it came to rest.
#[derive(Debug)]
pub(crate) struct Settled<'a> {
    /// The newest committed state.
    pub(crate) facts: &'a Facts,
    /// Nodes and servers.
    pub(crate) cluster: &'a Cluster,
    /// The provider's ledger, by order.
    pub(crate) truths: &'a BTreeMap<OrderId, Truth>,
    /// The groups and what each subscribes to.
    pub(crate) subscriptions: &'a BTreeMap<String, Vec<Arc<str>>>,
    /// Whether everything came to rest within the bound.
    pub(crate) in_time: bool,
    /// What did not.
    pub(crate) unsettled: &'a [String],
    /// What the customers saw that should not have been.
    pub(crate) complaints: &'a [Complaint],
}

/// A finding with its invariant.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    /// The invariant's name.
    pub(crate) invariant: &'static str,
    /// What was found.
    pub(crate) finding: Finding,
}

/// The observer of every server.
#[derive(Debug)]
pub(crate) struct Oracle {
    epoch: tokio::time::Instant,
    trace: Arc<Trace>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    facts: Facts,
    invariants: Vec<Box<dyn Invariant>>,
    found: Vec<Raw>,
    last_change: tokio::time::Instant,
}

/// The law of `Handler` by which units never wait for each other in a circle.
const LOCK_ORDER: &str = "HND-3";

/// Findings kept of one run; the first ones matter.
const FINDINGS_MAX: usize = 20;

impl Oracle {
    /// Starts with an empty shop.
    pub(crate) fn new(epoch: tokio::time::Instant, trace: Arc<Trace>, ledger: Ledger) -> Self {
        let inner = Inner {
            facts: Facts { ledger: Some(ledger), ..Facts::default() },
            invariants: invariant::all(),
            found: Vec::new(),
            last_change: epoch,
        };
        Self { epoch, trace, inner: Mutex::new(inner) }
    }

    /// Reads the newest state.
    pub(crate) fn facts<R>(&self, read: impl FnOnce(&Facts) -> R) -> R {
        read(&self.lock().facts)
    }

    /// Returns when something last changed.
    pub(crate) fn last_change(&self) -> tokio::time::Instant {
        self.lock().last_change
    }

    /// Asks every invariant once more, now that everything is at rest, and returns what was found.
    pub(crate) fn settle(
        &self,
        cluster: &Cluster,
        truths: &BTreeMap<OrderId, Truth>,
        (in_time, complaints): (bool, &[Complaint]),
    ) -> Vec<Raw> {
        // Asked before the lock is taken: the cluster asks this oracle about the orders.
        let unsettled = cluster.unsettled();
        let mut inner = self.lock();
        let Inner { facts, invariants, found, .. } = &mut *inner;
        let subscriptions = cluster.subscriptions();
        let end = Settled {
            facts,
            cluster,
            truths,
            subscriptions: &subscriptions,
            in_time,
            unsettled: &unsettled,
            complaints,
        };
        for invariant in invariants {
            let findings = invariant.settled(&end);
            keep(found, invariant.id().name(), findings);
        }
        std::mem::take(found)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, node: &Arc<str>, seen: &'static str) -> Event {
        Event {
            at_us: u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX),
            node: Arc::clone(node),
            seen,
            ..Event::default()
        }
    }

    fn trace(&self, tx: &CommittedTx, changes: &[Change<'_>]) {
        for admitted in &tx.admitted {
            self.trace.push(Event {
                what: admitted.group.as_str().into(),
                id: None,
                causation: Some(admitted.event),
                subject: format!("{}/{}@{}", admitted.topic, admitted.partition, admitted.offset)
                    .into(),
                ..self.event(&tx.client.node, "applied")
            });
        }
        for change in changes {
            let (what, order) = change.saved.describe();
            self.trace.push(Event {
                what,
                subject: format!("{} v{}", change.id, change.version).into(),
                order,
                ..self.event(&tx.client.node, "saved")
            });
        }
        for (_, message) in &tx.messages {
            let envelope = &message.envelope;
            self.trace.push(Event {
                what: Arc::clone(&envelope.kind),
                id: Some(envelope.id),
                causation: envelope.causation,
                subject: envelope.subject.to_string().into(),
                order: Some(envelope.correlation.as_uuid().into()),
                ..self.event(&tx.client.node, "emitted")
            });
        }
    }
}

impl Observer for Oracle {
    fn committed(&self, tx: &CommittedTx) {
        let changes: Vec<Change<'_>> = tx
            .saved
            .iter()
            .map(|(id, version, body)| Change { id, version: *version, saved: decode(id, body) })
            .collect();
        self.trace(tx, &changes);
        let mut inner = self.lock();
        inner.last_change = tokio::time::Instant::now();
        let Inner { facts, invariants, found, .. } = &mut *inner;
        facts.apply(tx, &changes);
        let tx = Tx { raw: tx, changes };
        for invariant in invariants {
            let findings = invariant.committed(&tx, facts);
            keep(found, invariant.id().name(), findings);
        }
    }

    fn deadlocked(&self, unit: &Deadlocked<'_>) {
        let Deadlocked { database, client, wanted } = *unit;
        let detail =
            format!("{client:?} at {database} was a deadlock's victim, asking for {wanted}");
        keep(&mut self.lock().found, LOCK_ORDER, vec![Finding::new(detail)]);
    }

    fn published(&self, record: &Published) {
        let id = header(&record.record, "ce_id").and_then(|id| id.parse().ok());
        self.trace.push(Event {
            what: header(&record.record, "ce_type").unwrap_or_default().into(),
            id,
            subject: format!("{}/{}@{}", record.topic, record.partition, record.offset).into(),
            order: header(&record.record, "ce_correlationid").and_then(|id| id.parse().ok()),
            ..self.event(&record.source, "published")
        });
        let mut inner = self.lock();
        inner.last_change = tokio::time::Instant::now();
        let Inner { invariants, found, .. } = &mut *inner;
        for invariant in invariants {
            let findings = invariant.published(record, id);
            keep(found, invariant.id().name(), findings);
        }
    }

    fn delivered(&self, delivered: &Delivered<'_>) {
        let Some(first) = delivered.deliveries.first() else { return };
        self.trace.push(Event {
            what: delivered.group.as_str().into(),
            subject: format!(
                "{} records from {}/{}@{}",
                delivered.deliveries.len(),
                first.topic,
                first.partition,
                first.offset
            )
            .into(),
            ..self.event(&delivered.client.node, "delivered")
        });
    }

    fn rebalanced(&self, rebalanced: &Rebalanced) {
        self.trace.push(Event {
            what: rebalanced.group.as_str().into(),
            subject: format!("generation {}", rebalanced.generation).into(),
            ..self.event(&Arc::from("broker"), "rebalanced")
        });
    }
}

impl Facts {
    /// Takes a transaction in.
    fn apply(&mut self, tx: &CommittedTx, changes: &[Change<'_>]) {
        for change in changes {
            match &change.saved {
                Saved::Stock(item) => drop(self.stock.insert(item.sku.clone(), item.clone())),
                Saved::Reservation(r) => drop(self.reservations.insert(r.order_id, r.clone())),
                Saved::Payment(p) => drop(self.payments.insert(p.order_id, p.as_ref().clone())),
                Saved::Order(o) => drop(self.orders.insert(o.order_id, o.as_ref().clone())),
                Saved::Ledger(_) | Saved::Journal(_) | Saved::Other => {}
            }
        }
        for (_, message) in &tx.messages {
            if message.topic.as_str() == amarra_shop::contract::topics::ORDERS {
                let order = OrderId::from(message.envelope.correlation.as_uuid());
                let kind = Arc::clone(&message.envelope.kind);
                self.order_events.entry(order).or_default().push(kind);
            }
        }
    }

    /// Returns what really happened to the money of an order so far.
    pub(crate) fn truth(&self, order: OrderId) -> Truth {
        let ledger = self.ledger.as_ref();
        ledger.map_or_else(Truth::default, |ledger| {
            let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.truth(order, Timestamp::EPOCH)
        })
    }

    /// Tells whether an order needs nothing more to happen to it by itself.
    pub(crate) fn is_at_rest(order: &Order) -> bool {
        order.status.is_terminal()
            || matches!(order.status, OrderStatus::Confirmed | OrderStatus::Fulfilling)
    }
}

impl Saved {
    fn describe(&self) -> (Arc<str>, Option<OrderId>) {
        match self {
            Self::Stock(item) => (format!("stock {}-{}", item.on_hand, item.reserved).into(), None),
            Self::Ledger(entry) => (format!("{:?}", entry.cause).into(), None),
            Self::Reservation(r) => (format!("{:?}", r.status).into(), Some(r.order_id)),
            Self::Order(order) => (format!("{:?}", order.status).into(), Some(order.order_id)),
            Self::Payment(p) => (format!("{:?}", p.status()).into(), Some(p.order_id)),
            Self::Journal(entry) => (format!("{:?}", entry.kind).into(), Some(entry.order_id)),
            Self::Other => ("saved".into(), None),
        }
    }
}

/// What a payment's own record says of the money, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    /// Set aside.
    pub(crate) authorized: i64,
    /// Taken.
    pub(crate) captured: i64,
    /// Given back.
    pub(crate) refunded: i64,
}

impl Sums {
    /// Adds up what is known to be done.
    pub(crate) fn of(payment: &Payment) -> Self {
        let done = |leg: &Leg| matches!(leg.progress, Progress::Done { .. });
        let attempts = payment.attempts.iter().filter(|a| done(&a.leg));
        let captures = payment.capture.iter().filter(|c| done(&c.leg));
        let refunds = payment.refunds.iter().filter(|r| done(&r.leg));
        Self {
            authorized: attempts.map(|a| a.amount.minor).sum(),
            captured: captures.map(|c| c.amount.minor).sum(),
            refunded: refunds.map(|r| r.amount.minor).sum(),
        }
    }
}

fn keep(found: &mut Vec<Raw>, invariant: &'static str, findings: Vec<Finding>) {
    for finding in findings {
        if found.len() < FINDINGS_MAX {
            found.push(Raw { invariant, finding });
        }
    }
}

fn decode(id: &AggregateId, body: &[u8]) -> Saved {
    fn of<A: Aggregate + DeserializeOwned>(body: &[u8], wrap: fn(A) -> Saved) -> Saved {
        serde_json::from_slice(body).map_or(Saved::Other, wrap)
    }
    match id.kind.as_ref() {
        StockItem::KIND => of(body, Saved::Stock),
        LedgerEntry::KIND => of(body, Saved::Ledger),
        Reservation::KIND => of(body, Saved::Reservation),
        Order::KIND => of::<Order>(body, |o| Saved::Order(Box::new(o))),
        Payment::KIND => of::<Payment>(body, |p| Saved::Payment(Box::new(p))),
        JournalEntry::KIND => of(body, Saved::Journal),
        _ => Saved::Other,
    }
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    std::str::from_utf8(record.headers.get(name)?).ok()
}
