//! I6 to I11: the journal, the provider's ledger, and what they mean for stock and orders.

use std::collections::BTreeMap;

use amarra_shop::contract::OrderId;
use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::inventory::ReservationStatus;
use amarra_shop::payments::model::{Leg, Progress};
use amarra_shop::payments::{EntryKind, Payment};
use amarra_shop::provider::Truth;

use super::{Books, Findings};

/// What a payment's own record says of the money, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    /// Set aside.
    pub(super) authorized: i64,
    /// Taken.
    pub(super) captured: i64,
    /// Given back.
    pub(super) refunded: i64,
}

impl Sums {
    /// Adds up what is known to be done.
    pub(super) fn of(payment: &Payment) -> Self {
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

/// I6: every entry balances per currency; refunded <= captured <= authorized; journal and payments
/// say the same.
pub(super) fn journal_balances(books: &Books, found: &mut Findings<'_>) {
    let mut written: BTreeMap<OrderId, (i64, i64)> = BTreeMap::new();
    for entry in &books.journal {
        let mut sums: BTreeMap<_, i64> = BTreeMap::new();
        for posting in &entry.postings {
            *sums.entry(posting.amount.currency).or_default() += posting.amount.minor;
        }
        found.unless(!entry.postings.is_empty() && sums.values().all(|sum| *sum == 0), || {
            format!("journal entry {} does not balance: {sums:?}", entry.id)
        });
        let written = written.entry(entry.order_id).or_default();
        match entry.kind {
            EntryKind::Capture => written.0 += entry.amount.minor,
            EntryKind::Refund => written.1 += entry.amount.minor,
        }
    }
    for (order, payment) in &books.payments {
        let sums = Sums::of(payment);
        let ordered = sums.refunded <= sums.captured && sums.captured <= sums.authorized;
        found.unless(ordered, || format!("payment of {order}: {sums:?}"));
        let written = written.remove(order).unwrap_or_default();
        found.unless(written == (sums.captured, sums.refunded), || {
            format!("payment of {order}: {sums:?}, the journal has {written:?}")
        });
    }
    for order in written.keys() {
        found.unless(false, || format!("the journal knows order {order}, which has no payment"));
    }
}

/// I7: our record of each order's money equals the provider's.
pub(super) fn provider_agrees(books: &Books, found: &mut Findings<'_>) {
    for (order, payment) in &books.payments {
        let ours = Sums::of(payment);
        let truth = truth(books, *order);
        found.unless((ours.captured, ours.refunded) == (truth.captured, truth.refunded), || {
            format!("order {order}: we have {ours:?}, the provider {truth:?}")
        });
    }
    for (order, truth) in &books.truths {
        found.unless(truth.captured == 0 || books.payments.contains_key(order), || {
            format!("the provider captured {} for {order}, unknown to us", truth.captured)
        });
    }
}

/// I8: an order is captured at most once.
pub(super) fn one_capture(books: &Books, found: &mut Findings<'_>) {
    for (order, truth) in &books.truths {
        found.unless(truth.captures <= 1 && truth.captured <= truth.authorized, || {
            format!("order {order} was captured {} times: {truth:?}", truth.captures)
        });
    }
}

/// I9: a captured order has its stock committed, unless the money was given back.
pub(super) fn captured_is_committed(books: &Books, found: &mut Findings<'_>) {
    for (order, payment) in &books.payments {
        let sums = Sums::of(payment);
        let reservation = books.reservations.get(order).map(|r| r.status);
        let kept = sums.captured > sums.refunded;
        found.unless(!kept || reservation == Some(ReservationStatus::Committed), || {
            format!("order {order} is captured and its reservation is {reservation:?}")
        });
    }
}

/// I10: a captured order is confirmed or beyond, or fully refunded.
pub(super) fn captured_is_delivered_or_refunded(books: &Books, found: &mut Findings<'_>) {
    let promised = |status| {
        matches!(status, OrderStatus::Confirmed | OrderStatus::Fulfilling | OrderStatus::Completed)
    };
    for (order, truth) in books.truths.iter().filter(|(_, t)| t.captured > 0) {
        let status = books.orders.get(order).map(|o| o.status);
        let refunded = truth.refunded == truth.captured;
        found.unless(status.is_some_and(promised) != refunded, || {
            format!("order {order} is {status:?} with {truth:?}")
        });
    }
    for (id, order) in books.orders.iter().filter(|(_, o)| promised(o.status)) {
        let captured = truth(books, *id).captured;
        found.unless(captured == order.total.minor, || {
            format!("order {id} is {:?} for {}, {captured} captured", order.status, order.total)
        });
    }
}

/// I11: an order that was undone moved no net money and no net stock.
pub(super) fn ended_moves_nothing(books: &Books, found: &mut Findings<'_>) {
    let undone = books.orders.iter().filter(|(_, o)| {
        matches!(o.status, OrderStatus::Cancelled | OrderStatus::Rejected | OrderStatus::Refunded)
    });
    for (id, order) in undone {
        let truth = truth(books, *id);
        let reservation = books.reservations.get(id).map(|r| r.status);
        let stock =
            matches!(reservation, Some(ReservationStatus::Held | ReservationStatus::Committed));
        found.unless(truth.captured == truth.refunded && truth.open == 0 && !stock, || {
            format!("order {id} is {:?} with {truth:?} and {reservation:?}", order.status)
        });
    }
}

fn truth(books: &Books, order: OrderId) -> Truth {
    books.truths.get(&order).copied().unwrap_or_default()
}
