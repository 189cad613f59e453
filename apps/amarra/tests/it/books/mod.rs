//! The books of a shop at rest, as databases, topics and providers keep them, and what they must
//! show: the invariants I1 to I19, each judged without asking the code that keeps it.

mod collect;
mod messages;
mod money;
mod orders;
mod planted;
mod stock;

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::{AggregateId, Envelope, EventId, Version};
use amarra_shop::catalog::ProductRow;
use amarra_shop::contract::orders::OrderView;
use amarra_shop::contract::{OrderId, Sku};
use amarra_shop::inventory::{LedgerEntry, Reservation, StockItem};
use amarra_shop::notifications::Notification;
use amarra_shop::orders::Order;
use amarra_shop::payments::{JournalEntry, Payment};
use amarra_shop::provider::Truth;
use amarra_store::AuditRow;

pub(crate) use collect::{Sources, collect, unsettled};
pub(crate) use planted::undetected;

/// Everything that is kept, read once all is at rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    /// Stock by product.
    pub(crate) stock: BTreeMap<Sku, StockItem>,
    /// The ledger of each product, by version of its stock.
    pub(crate) ledger: BTreeMap<Sku, BTreeMap<u64, LedgerEntry>>,
    /// Reservations by order.
    pub(crate) reservations: BTreeMap<OrderId, Reservation>,
    /// Orders.
    pub(crate) orders: BTreeMap<OrderId, Order>,
    /// Payments by order.
    pub(crate) payments: BTreeMap<OrderId, Payment>,
    /// The journal.
    pub(crate) journal: Vec<JournalEntry>,
    /// Notifications by their key.
    pub(crate) notifications: BTreeMap<String, Notification>,
    /// What Orders shows of each order.
    pub(crate) views: BTreeMap<String, OrderView>,
    /// How many orders the lists of all customers have.
    pub(crate) listed: usize,
    /// What the catalog shows.
    pub(crate) products: BTreeMap<String, ProductRow>,
    /// What each database keeps besides, by service.
    pub(crate) databases: BTreeMap<&'static str, Database>,
    /// Every record of the topics, ascending by offset within a partition.
    pub(crate) records: Vec<Record>,
    /// What really happened to the money, by order.
    pub(crate) truths: BTreeMap<OrderId, Truth>,
    /// What the senders took: the key of each message and how often it was told.
    pub(crate) told: BTreeMap<String, u32>,
}

/// The common tables of one service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    /// Every aggregate's version.
    pub(crate) versions: BTreeMap<AggregateId, Version>,
    /// The audit chain.
    pub(crate) audit: Vec<AuditRow>,
    /// The outbox, in the order of its sequence.
    pub(crate) emitted: Vec<Emitted>,
    /// The inbox.
    pub(crate) applied: Vec<Applied>,
    /// Messages that are set aside, inbox and outbox together.
    pub(crate) parked: u64,
}

/// A row of an outbox.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    /// Where it goes.
    pub(crate) topic: Arc<str>,
    /// What it says.
    pub(crate) envelope: Envelope,
}

/// A row of an inbox.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// Who applied it.
    pub(crate) group: Arc<str>,
    /// What.
    pub(crate) event: EventId,
    /// From where.
    pub(crate) topic: Arc<str>,
    /// The offset there.
    pub(crate) offset: u64,
}

/// A record of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The topic.
    pub(crate) topic: Arc<str>,
    /// The partition.
    pub(crate) partition: i32,
    /// The offset.
    pub(crate) offset: i64,
    /// What it carries.
    pub(crate) event: EventId,
}

/// A law that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The invariant's name.
    pub(crate) invariant: &'static str,
    /// What was found.
    pub(crate) detail: String,
}

/// Collects the findings of one invariant.
#[derive(Debug)]
struct Findings<'a> {
    invariant: &'static str,
    into: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    /// Notes a finding unless `holds`.
    fn unless(&mut self, holds: bool, detail: impl FnOnce() -> String) {
        if !holds {
            self.into.push(Finding { invariant: self.invariant, detail: detail() });
        }
    }
}

type Check = fn(&Books, &mut Findings<'_>);

const CHECKS: &[(&str, Check)] = &[
    ("I1", stock::within_bounds),
    ("I2", stock::conserved),
    ("I3", stock::not_oversold),
    ("I4", stock::no_orphan_holds),
    ("I5", stock::one_reservation),
    ("I6", money::journal_balances),
    ("I7", money::provider_agrees),
    ("I8", money::one_capture),
    ("I9", money::captured_is_committed),
    ("I10", money::captured_is_delivered_or_refunded),
    ("I11", money::ended_moves_nothing),
    ("I12", orders::every_order_ends),
    ("I13", orders::legal_transitions),
    ("I14", orders::totals),
    ("I15", messages::notified_once),
    ("I16", messages::audited),
    ("I17", orders::views_fold_events),
    ("I18", messages::published_and_applied_once),
    ("I19", messages::order_per_key),
];

/// Judges the books by every invariant.
pub(crate) fn judge(books: &Books) -> Vec<Finding> {
    let mut found = Vec::new();
    for (invariant, check) in CHECKS {
        check(books, &mut Findings { invariant, into: &mut found });
    }
    found
}
