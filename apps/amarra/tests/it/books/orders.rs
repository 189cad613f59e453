//! I12 to I14 and I17: how orders end, by which ways, for how much, and what readers see of them.

use std::collections::BTreeMap;

use amarra_shop::contract::OrderId;
use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::contract::topics;
use amarra_shop::orders::Order;
use amarra_store::Aggregate;

use super::money::Sums;
use super::{Books, Findings};

/// I12: every order has ended, or is confirmed or beyond.
pub(super) fn every_order_ends(books: &Books, found: &mut Findings<'_>) {
    for (id, order) in &books.orders {
        found
            .unless(is_at_rest(order.status), || format!("order {id} is still {:?}", order.status));
    }
}

/// Tells whether an order in this state needs nothing more to happen by itself.
pub(super) fn is_at_rest(status: OrderStatus) -> bool {
    status.is_terminal() || matches!(status, OrderStatus::Confirmed | OrderStatus::Fulfilling)
}

/// Where an audited action can lead from a state: the domain's table, written down once more.
fn leads(from: OrderStatus, action: &str) -> &'static [OrderStatus] {
    use OrderStatus as S;
    match (action, from) {
        ("note reserved stock", S::Pending) => &[S::Reserved],
        ("note shortage", S::Pending) => &[S::Rejected],
        ("note authorized payment", S::Reserved) => &[S::Committing],
        ("note failed payment", S::Pending | S::Reserved | S::Committing) => &[S::Compensating],
        ("note failed payment", S::Capturing) => &[S::Compensating, S::Refunding],
        ("note committed reservation", S::Committing) => &[S::Capturing],
        ("note committed reservation", S::Compensating) => &[S::Compensating],
        ("note expired reservation", S::Pending | S::Reserved | S::Committing) => {
            &[S::Compensating]
        }
        ("note captured payment", S::Capturing) => &[S::Confirmed, S::Refunding],
        ("note captured payment", S::Compensating | S::Cancelled | S::Rejected) => &[S::Refunding],
        ("cancel" | "give up", S::Pending | S::Reserved | S::Committing) => &[S::Compensating],
        ("cancel" | "give up", S::Capturing) => &[S::Capturing, S::Compensating],
        ("cancel", S::Confirmed) => &[S::Refunding],
        ("end compensation", S::Compensating) => &[S::Cancelled, S::Rejected],
        ("end refund", S::Refunding) => &[S::Refunded],
        ("ship", S::Confirmed) => &[S::Fulfilling],
        ("deliver", S::Fulfilling) => &[S::Completed],
        _ => &[],
    }
}

/// I13: the audited actions of each order are a way through the table, from its placing to the
/// state it is in; its events end it at most once.
pub(super) fn legal_transitions(books: &Books, found: &mut Findings<'_>) {
    let Some(database) = books.databases.get("orders") else { return };
    let mut actions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let audit = database.audit.iter().filter(|r| &*r.entry.aggregate.kind == Order::KIND);
    for row in audit {
        actions.entry(&row.entry.aggregate.id).or_default().push(&row.entry.action);
    }
    for (id, order) in &books.orders {
        let way = actions.remove(id.to_string().as_str()).unwrap_or_default();
        let mut at = match way.first() {
            Some(&"place") => vec![OrderStatus::Pending],
            _ => Vec::new(),
        };
        for action in way.iter().skip(1) {
            at = at.iter().flat_map(|from| leads(*from, action)).copied().collect();
            at.dedup();
        }
        found.unless(at.contains(&order.status), || {
            format!("order {id} is {:?} after {way:?}", order.status)
        });
    }
    for (order, events) in order_events(books) {
        let ends = events.iter().filter(|event| {
            matches!(**event, "OrderRejected" | "OrderCancelled" | "OrderCompleted")
        });
        let refunds = events.iter().filter(|event| **event == "OrderRefunded");
        let (ends, refunds) = (ends.count(), refunds.count());
        found
            .unless(ends <= 1 && refunds <= 1, || format!("order {order} ended twice: {events:?}"));
    }
}

/// I14: an order's total equals its lines and the amount set aside.
pub(super) fn totals(books: &Books, found: &mut Findings<'_>) {
    for (id, order) in &books.orders {
        let lines = order.lines.iter();
        let sum: i64 = lines.map(|line| line.unit_price.minor * i64::from(line.qty)).sum();
        found.unless(sum == order.total.minor && sum > 0, || {
            format!("order {id} has a total of {} and lines of {sum}", order.total)
        });
        let authorized = books.payments.get(id).map_or(0, |p| Sums::of(p).authorized);
        found.unless(authorized == 0 || authorized == order.total.minor, || {
            format!("order {id} has a total of {} and {authorized} set aside", order.total)
        });
        let truth = books.truths.get(id).map_or(0, |t| t.authorized);
        found.unless(truth == 0 || truth == order.total.minor, || {
            format!("order {id} has a total of {}, the provider set aside {truth}", order.total)
        });
    }
}

/// I17: what readers see is the fold of the events.
pub(super) fn views_fold_events(books: &Books, found: &mut Findings<'_>) {
    let events = order_events(books);
    for (order, events) in &events {
        let expected = fold(events);
        let shown = books.views.get(order.to_string().as_str()).map(|v| v.status);
        found.unless(shown == expected, || {
            format!("order {order} is shown as {shown:?}, its events say {expected:?}")
        });
    }
    found.unless(books.listed == events.len(), || {
        format!("{} orders are listed, {} were created", books.listed, events.len())
    });
    found.unless(books.orders.len() == events.len(), || {
        format!("{} orders are stored, {} were created", books.orders.len(), events.len())
    });
    for (sku, item) in &books.stock {
        let shown = books.products.get(sku.as_str()).and_then(|row| row.available);
        let there = item.on_hand.saturating_sub(item.reserved);
        found.unless(shown == Some(there), || {
            format!("the catalog shows {shown:?} of {sku}, on the shelf are {there}")
        });
    }
}

/// Lists the published types of each order's events, in the order of the outbox.
pub(super) fn order_events(books: &Books) -> BTreeMap<OrderId, Vec<&str>> {
    let mut events: BTreeMap<OrderId, Vec<&str>> = BTreeMap::new();
    let emitted = books.databases.get("orders").into_iter().flat_map(|d| &d.emitted);
    for row in emitted.filter(|row| &*row.topic == topics::ORDERS) {
        let order = OrderId::from(row.envelope.correlation.as_uuid());
        events.entry(order).or_default().push(&row.envelope.kind);
    }
    events
}

fn fold(events: &[&str]) -> Option<OrderStatus> {
    events.iter().fold(None, |state, event| match *event {
        "OrderCreated" => Some(OrderStatus::Pending),
        "OrderConfirmed" => Some(OrderStatus::Confirmed),
        "OrderCancelled" => Some(OrderStatus::Cancelled),
        "OrderRejected" => Some(OrderStatus::Rejected),
        "OrderRefunded" => Some(OrderStatus::Refunded),
        "OrderFulfilled" => Some(OrderStatus::Fulfilling),
        "OrderCompleted" => Some(OrderStatus::Completed),
        _ => state,
    })
}
