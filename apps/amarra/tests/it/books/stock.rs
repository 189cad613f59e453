//! I1 to I5: what is on the shelf, what is held of it, and for whom.

use std::collections::BTreeMap;

use amarra_shop::contract::Sku;
use amarra_shop::inventory::{LedgerCause, Reservation, ReservationStatus};

use super::{Books, Findings};

/// I1: at every step of its ledger stock is neither negative nor held beyond what is there.
pub(super) fn within_bounds(books: &Books, found: &mut Findings<'_>) {
    for (sku, entries) in &books.ledger {
        let (mut on_hand, mut reserved) = (0, 0);
        for (version, entry) in entries {
            on_hand += entry.delta_on_hand;
            reserved += entry.delta_reserved;
            found.unless((0..=on_hand).contains(&reserved), || {
                format!("{sku} at version {version}: {reserved} reserved of {on_hand} on hand")
            });
        }
    }
}

/// I2: each row equals the fold of its ledger, and stock came by deliveries and left by orders.
pub(super) fn conserved(books: &Books, found: &mut Findings<'_>) {
    let mut taken: BTreeMap<&Sku, i64> = BTreeMap::new();
    for reservation in books.reservations.values() {
        if reservation.status == ReservationStatus::Committed {
            add(&mut taken, reservation);
        }
    }
    for (sku, item) in &books.stock {
        let entries = books.ledger.get(sku);
        let entries = || entries.into_iter().flat_map(BTreeMap::values);
        let dense = entries().zip(1..).all(|(entry, version)| entry.version == version);
        found.unless(dense, || format!("{sku}: the ledger has gaps"));
        let fold = entries().fold((0, 0), |(on_hand, reserved), entry| {
            (on_hand + entry.delta_on_hand, reserved + entry.delta_reserved)
        });
        let row = (i64::from(item.on_hand), i64::from(item.reserved));
        found.unless(fold == row, || format!("{sku}: the row is {row:?}, the ledger {fold:?}"));
        let received = received(books, sku);
        let taken = taken.get(sku).copied().unwrap_or_default();
        found.unless(received - taken == row.0, || {
            format!("{sku}: {received} received and {taken} taken, but {} on hand", row.0)
        });
    }
}

/// I3: what is held and committed never exceeds what ever was available.
pub(super) fn not_oversold(books: &Books, found: &mut Findings<'_>) {
    let mut claimed: BTreeMap<&Sku, i64> = BTreeMap::new();
    for (order, reservation) in books.reservations.iter().filter(|(_, r)| is_live(r)) {
        // By what was ordered, not by what the reservation says.
        match books.orders.get(order) {
            Some(order) => order.lines.iter().for_each(|line| {
                *claimed.entry(&line.sku).or_default() += i64::from(line.qty);
            }),
            None => add(&mut claimed, reservation),
        }
    }
    for (sku, claimed) in claimed {
        let available = received(books, sku);
        found.unless(claimed <= available, || {
            format!("{sku}: {claimed} held or committed of {available} ever available")
        });
    }
}

/// I4: nothing is held for an order that has ended, nor for none.
pub(super) fn no_orphan_holds(books: &Books, found: &mut Findings<'_>) {
    let held = books.reservations.iter().filter(|(_, r)| r.status == ReservationStatus::Held);
    for (order, _) in held {
        let status = books.orders.get(order).map(|o| o.status);
        found.unless(status.is_some_and(|s| !s.is_terminal()), || {
            format!("stock is held for order {order}, which is {status:?}")
        });
    }
}

/// I5: what is reserved of a product is what the one reservation of each order holds.
pub(super) fn one_reservation(books: &Books, found: &mut Findings<'_>) {
    let mut held: BTreeMap<&Sku, i64> = BTreeMap::new();
    for reservation in books.reservations.values() {
        if reservation.status == ReservationStatus::Held {
            add(&mut held, reservation);
        }
    }
    for (sku, item) in &books.stock {
        let held = held.get(sku).copied().unwrap_or_default();
        found.unless(held == i64::from(item.reserved), || {
            format!("{sku}: {} reserved, the reservations hold {held}", item.reserved)
        });
    }
}

fn is_live(reservation: &Reservation) -> bool {
    matches!(reservation.status, ReservationStatus::Held | ReservationStatus::Committed)
}

fn add<'a>(sums: &mut BTreeMap<&'a Sku, i64>, reservation: &'a Reservation) {
    for line in &reservation.lines {
        *sums.entry(&line.sku).or_default() += i64::from(line.qty);
    }
}

fn received(books: &Books, sku: &Sku) -> i64 {
    let entries = books.ledger.get(sku).into_iter().flat_map(BTreeMap::values);
    let arrived = entries
        .filter(|e| matches!(e.cause, LedgerCause::Received | LedgerCause::Adjusted))
        .map(|e| e.delta_on_hand);
    arrived.sum()
}
