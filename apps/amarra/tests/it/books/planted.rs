//! Defects planted in books that were sound: a judge that misses one judges nothing.

use amarra_shop::contract::orders::OrderStatus;
use amarra_shop::inventory::ReservationStatus;
use amarra_shop::notifications::Status;

use super::{Applied, Books, judge};

/// Spoils the books; none where they have nothing that can be spoiled so.
type Plant = fn(&mut Books) -> Option<()>;

const PLANTED: &[(&str, &str, Plant)] = &[
    ("I1", "more is held than there is", |books| {
        let entries = books.ledger.values_mut().next()?;
        entries.values_mut().next()?.delta_reserved += 1_000_000_000;
        Some(())
    }),
    ("I2", "a piece is gone from the shelf", |books| {
        let item = books.stock.values_mut().find(|item| item.on_hand > item.reserved)?;
        item.on_hand -= 1;
        Some(())
    }),
    ("I3", "an order wants more than there ever was", |books| {
        let mut reservations = books.reservations.values();
        let id = reservations.find(|r| r.status == ReservationStatus::Committed)?.order_id;
        books.orders.get_mut(&id)?.lines.first_mut()?.qty = u32::MAX;
        Some(())
    }),
    ("I4", "stock is held for an order that has ended", |books| {
        let ended = books.orders.values().find(|o| o.status == OrderStatus::Cancelled)?.order_id;
        books.reservations.get_mut(&ended)?.status = ReservationStatus::Held;
        Some(())
    }),
    ("I5", "a piece is reserved for nobody", |books| {
        books.stock.values_mut().next()?.reserved += 1;
        Some(())
    }),
    ("I6", "an entry of the journal does not balance", |books| {
        books.journal.first_mut()?.postings.first_mut()?.amount.minor += 1;
        Some(())
    }),
    ("I7", "the provider took more than we know of", |books| {
        books.truths.values_mut().find(|t| t.captured > 0)?.captured += 1;
        Some(())
    }),
    ("I8", "an order is captured twice", |books| {
        books.truths.values_mut().find(|t| t.captures == 1)?.captures = 2;
        Some(())
    }),
    ("I9", "the stock of a paid order came back", |books| {
        let mut orders = books.orders.values();
        let id = orders.find(|o| o.status == OrderStatus::Confirmed)?.order_id;
        books.reservations.get_mut(&id)?.status = ReservationStatus::Released;
        Some(())
    }),
    ("I10", "a paid order is neither delivered nor refunded", |books| {
        let mut confirmed = books.orders.values_mut();
        confirmed.find(|o| o.status == OrderStatus::Confirmed)?.status = OrderStatus::Rejected;
        Some(())
    }),
    ("I11", "money is still set aside for a cancelled order", |books| {
        let ended = books.orders.values().find(|o| o.status == OrderStatus::Cancelled)?.order_id;
        books.truths.entry(ended).or_default().open = 1;
        Some(())
    }),
    ("I12", "an order never ends", |books| {
        books.orders.values_mut().next()?.status = OrderStatus::Capturing;
        Some(())
    }),
    ("I13", "an order is delivered before it is shipped", |books| {
        let audit = &mut books.databases.get_mut("orders")?.audit;
        let row = audit.iter_mut().find(|row| &*row.entry.action == "note reserved stock")?;
        row.entry.action = "deliver".into();
        Some(())
    }),
    ("I14", "an order costs more than its lines", |books| {
        books.orders.values_mut().next()?.total.minor += 1;
        Some(())
    }),
    ("I15", "a customer was not told", |books| {
        let sent = books.notifications.iter().find(|(_, n)| n.status == Status::Sent)?.0;
        books.told.remove(sent)?;
        Some(())
    }),
    ("I15", "a customer was told twice", |books| {
        *books.told.values_mut().next()? += 1;
        Some(())
    }),
    ("I16", "a change has no audit row", |books| {
        books.databases.get_mut("inventory")?.audit.pop()?;
        Some(())
    }),
    ("I16", "an audit row was changed", |books| {
        books.databases.get_mut("payments")?.audit.first_mut()?.entry.action = "else".into();
        Some(())
    }),
    ("I17", "a view is behind", |books| {
        let mut views = books.views.values_mut();
        views.find(|v| v.status == OrderStatus::Confirmed)?.status = OrderStatus::Pending;
        Some(())
    }),
    ("I17", "the catalog shows too much", |books| {
        let sku = books.stock.keys().next()?.to_string();
        let available = &mut books.products.get_mut(&sku)?.available;
        *available = available.map(|n| n + 1);
        Some(())
    }),
    ("I18", "a message was not published", |books| {
        books.records.pop()?;
        Some(())
    }),
    ("I18", "a message was applied twice", |books| {
        let applied = &mut books.databases.get_mut("payments")?.applied;
        let Applied { group, event, topic, offset } = applied.first()?.clone();
        applied.push(Applied { group, event, topic, offset: offset + 1 });
        Some(())
    }),
    ("I18", "a message was not applied", |books| {
        books.databases.get_mut("notifications")?.applied.pop()?;
        Some(())
    }),
    ("I18", "a message has its effect twice", |books| {
        let emitted = &mut books.databases.get_mut("inventory")?.emitted;
        let mut again = emitted.iter().find(|e| e.envelope.causation.is_some())?.clone();
        again.envelope.id = uuid::Uuid::from_u128(7).into();
        emitted.push(again);
        Some(())
    }),
    ("I19", "two messages of one key changed places", |books| {
        let emitted = &books.databases.get("orders")?.emitted;
        let of = |e: &super::Emitted| (e.topic.clone(), e.envelope.partition_key.clone());
        let pair = emitted.iter().enumerate().find_map(|(at, first)| {
            let mut later = emitted.iter().skip(at + 1);
            let second = later.find(|second| of(second) == of(first))?;
            Some((first.envelope.id, second.envelope.id))
        })?;
        for record in &mut books.records {
            if record.event == pair.0 {
                record.event = pair.1;
            } else if record.event == pair.1 {
                record.event = pair.0;
            }
        }
        Some(())
    }),
];

/// Names every planted defect that the judge misses, or that these books have no room for.
pub(crate) fn undetected(books: &Books) -> Vec<String> {
    let mut missed = Vec::new();
    for (invariant, what, plant) in PLANTED {
        let mut spoiled = books.clone();
        if plant(&mut spoiled).is_none() {
            missed.push(format!("{invariant}: the books have no room for: {what}"));
        } else if judge(&spoiled).iter().all(|finding| finding.invariant != *invariant) {
            missed.push(format!("{invariant}: {what}"));
        }
    }
    missed
}
