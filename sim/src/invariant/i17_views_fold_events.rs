//! I17: read models equal the fold of the events; a reader sees its own writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::InvariantId;
use amarra_shop::contract::orders::{OrderStatus, OrderView};
use amarra_shop::orders::{BY_USER, ORDER};
use amarra_store::ViewRow;

use super::{Finding, Invariant, complaints};
use crate::oracle::{Facts, Settled};

/// Folds the published events once more, from their types alone, and compares.
#[derive(Debug)]
pub(crate) struct ViewsFoldEvents;

impl Invariant for ViewsFoldEvents {
    fn id(&self) -> InvariantId {
        InvariantId::I17
    }

    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let mut found = complaints(end, self.id());
        let Some(database) = end.cluster.databases.get("orders") else { return found };
        let views: BTreeMap<Arc<str>, OrderView> = database.inspect(|i| {
            let read = |row: &ViewRow| {
                Some((Arc::clone(&row.key), serde_json::from_slice(&row.body).ok()?))
            };
            i.view(ORDER).filter_map(read).collect()
        });
        for (order, events) in &end.facts.order_events {
            let view = views.get(order.to_string().as_str());
            let expected = fold(events.iter().map(AsRef::as_ref));
            if view.map(|v| v.status) != expected {
                found.push(Finding::new(format!(
                    "the view of order {order} is {:?}, its events say {expected:?}",
                    view.map(|v| v.status)
                )));
            }
        }
        let listed = database.inspect(|i| i.view(BY_USER).count());
        if listed != end.facts.order_events.len() {
            found.push(Finding::new(format!(
                "{listed} orders are listed by user, {} were created",
                end.facts.order_events.len()
            )));
        }
        found.extend(stock_in_catalog(end));
        found
    }
}

/// What the events of an order say of its state.
fn fold<'a>(events: impl Iterator<Item = &'a str>) -> Option<OrderStatus> {
    events.fold(None, |state, event| match event {
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

/// What Catalog shows as available is what Inventory has.
fn stock_in_catalog(end: &Settled<'_>) -> Vec<Finding> {
    let Facts { stock, .. } = end.facts;
    let Some(database) = end.cluster.databases.get("catalog") else { return Vec::new() };
    let shown = |sku: &str| {
        let body = database
            .inspect(|i| i.view("product").find(|r| *r.key == *sku).map(|r| r.body.clone()))?;
        let row: amarra_shop::catalog::ProductRow = serde_json::from_slice(&body).ok()?;
        Some(row.available)
    };
    let uneven = stock.values().filter(|item| {
        shown(item.sku.as_str()) != Some(Some(item.on_hand.saturating_sub(item.reserved)))
    });
    uneven
        .map(|item| {
            Finding::new(format!(
                "the catalog shows {:?} of {}, on the shelf are {} with {} reserved",
                shown(item.sku.as_str()),
                item.sku,
                item.on_hand,
                item.reserved
            ))
        })
        .collect()
}
