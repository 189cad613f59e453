//! The views of Orders: folded from events apart from the orders themselves, and queried by page.

use std::sync::Arc;

use amarra_core::codec::Message;
use amarra_core::{AggregateId, Codec, Envelope, Version};
use amarra_messaging::{Group, Incoming, Topic, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::{Aggregate, Handler, HandlerError, Session, ViewName};
use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::commands::Buyer;
use super::reply::{Reply, Report};
use crate::contract::ids::{OrderId, UserId};
use crate::contract::inventory::CompensationCause;
use crate::contract::orders::{
    OrderCancelRequested, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated,
    OrderFulfilled, OrderRefunded, OrderRejected, OrderStatus, OrderView, TimelineEntry,
};
use crate::contract::topics;

/// The view of orders by id: [`OrderView`] rows.
pub const ORDER: &str = "order";
/// The view of orders by owner, newest first: [`OrderView`] rows under `user/time/order`.
pub const BY_USER: &str = "orders-by-user";
/// The view of what happened to each order: [`TimelineEntry`] rows under `order/number`.
pub const TIMELINE: &str = "timeline";
/// What the projection remembers between two events of one order.
const FOLD: &str = "order-fold";

/// Folds the events of three topics into the views.
///
/// # Laws
/// - Events of Orders decide status and version; one that is not newer than the row is dropped.
/// - Events of the other topics only show how far a pending order has come, and only forward:
///   topics overtake each other.
#[derive(Debug)]
pub(super) struct Projection {
    group: Group,
    topics: Vec<Topic>,
}

impl Projection {
    pub(super) fn new() -> Self {
        Self {
            group: Group::from("orders-view"),
            topics: [topics::ORDERS, topics::INVENTORY, topics::PAYMENTS]
                .into_iter()
                .map(Topic::from)
                .collect(),
        }
    }
}

#[async_trait]
impl Handler for Projection {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        match News::decode(&message.envelope) {
            Ok(Some(News::Order(event))) if event.is_closing() => {
                vec![Buyer::aggregate_id(&event.user_id().to_string())]
            }
            _ => Vec::new(),
        }
    }

    fn views(&self, message: &Incoming) -> Vec<ViewName> {
        match News::decode(&message.envelope) {
            Ok(Some(news)) => vec![(FOLD.into(), news.order_id().to_string().into())],
            _ => Vec::new(),
        }
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let Some(news) = News::decode(&message.envelope)? else { return Ok(()) };
        let order_id = news.order_id();
        let mut fold: Fold = load(session, FOLD, &order_id.to_string()).await?.unwrap_or_default();
        write_entry(session, &order_id, fold.entries, &message.envelope).await?;
        fold.entries = fold.entries.saturating_add(1);
        let changed = match &news {
            News::Order(event) => fold.apply(event, message.envelope.subject_version),
            News::Reply(reply) => fold.hint(&reply.report),
        };
        if changed && let Some(view) = fold.shown() {
            write_order(session, &view).await?;
        }
        let position = fold.position();
        write(session, (FOLD, &order_id.to_string()), position, &fold).await?;
        match news {
            News::Order(event) if event.is_closing() => close(session, &event).await,
            _ => Ok(()),
        }
    }
}

/// Takes an order that is no longer open off its buyer's list.
async fn close(session: &mut Session<'_>, event: &OrderEvent) -> Result<(), HandlerError> {
    let mut loaded = session.load::<Buyer>(&event.user_id().to_string()).await?;
    let Some(mut buyer) = loaded.state.clone() else { return Ok(()) };
    if buyer.open.remove(&event.order_id()) {
        session.save(&mut loaded, buyer, "close order").await?;
    }
    Ok(())
}

/// A message of any of the three topics.
#[derive(Debug)]
enum News {
    Order(OrderEvent),
    Reply(Reply),
}

impl News {
    fn decode(envelope: &Envelope) -> Result<Option<Self>, HandlerError> {
        if let Some(event) = OrderEvent::decode(envelope)? {
            return Ok(Some(Self::Order(event)));
        }
        Ok(Reply::decode(envelope)?.map(Self::Reply))
    }

    fn order_id(&self) -> OrderId {
        match self {
            Self::Order(event) => event.order_id(),
            Self::Reply(reply) => reply.order_id,
        }
    }
}

macro_rules! order_event {
    ($($name:ident($message:ident)),+ $(,)?) => {
        /// An event of an order.
        #[derive(Debug)]
        enum OrderEvent {
            $($name(Box<$message>),)+
        }

        impl OrderEvent {
            fn decode(envelope: &Envelope) -> Result<Option<Self>, HandlerError> {
                match envelope.kind.as_ref() {
                    $($message::KIND => {
                        Ok(Some(Self::$name(Box::new(Codec::new().decode(envelope)?))))
                    })+
                    _ => Ok(None),
                }
            }

            fn order_id(&self) -> OrderId {
                match self { $(Self::$name(m) => m.order_id,)+ }
            }

            fn user_id(&self) -> UserId {
                match self { $(Self::$name(m) => m.user_id,)+ }
            }
        }
    };
}

order_event! {
    Created(OrderCreated),
    Confirmed(OrderConfirmed),
    CancelRequested(OrderCancelRequested),
    Cancelled(OrderCancelled),
    Rejected(OrderRejected),
    Refunded(OrderRefunded),
    Fulfilled(OrderFulfilled),
    Completed(OrderCompleted),
}

impl OrderEvent {
    /// Tells whether the order no longer counts among its buyer's open ones.
    fn is_closing(&self) -> bool {
        matches!(
            self,
            Self::Confirmed(_) | Self::Cancelled(_) | Self::Rejected(_) | Self::Refunded(_)
        )
    }
}

/// What is known of one order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Fold {
    /// How many timeline entries it has.
    entries: u32,
    /// The fold of its own events, none before `OrderCreated` was seen.
    order: Option<OrderView>,
    /// How far the other services' events say it has come.
    progress: Option<OrderStatus>,
}

impl Fold {
    fn position(&self) -> Version {
        Version::new(self.order.as_ref().map_or(0, |order| order.version))
    }

    /// Folds in an event of the order and tells whether anything changed.
    fn apply(&mut self, event: &OrderEvent, version: Version) -> bool {
        if version <= self.position() {
            return false;
        }
        if let OrderEvent::Created(created) = event {
            self.order = Some(OrderView {
                order_id: created.order_id,
                user_id: created.user_id,
                status: OrderStatus::Pending,
                lines: created.lines.clone(),
                total: created.total,
                placed_at: created.placed_at,
                cancel_requested: false,
                end_reason: None,
                version: version.get(),
            });
            return true;
        }
        let Some(order) = &mut self.order else { return false };
        order.version = version.get();
        let waits = match event {
            OrderEvent::CancelRequested(_) if order.status == OrderStatus::Confirmed => {
                order.status = OrderStatus::Refunding;
                false
            }
            OrderEvent::CancelRequested(_) => true,
            _ => false,
        };
        order.cancel_requested = waits;
        match event {
            OrderEvent::Created(_) | OrderEvent::CancelRequested(_) => {}
            OrderEvent::Confirmed(_) => order.status = OrderStatus::Confirmed,
            OrderEvent::Cancelled(m) => {
                (order.status, order.end_reason) = (OrderStatus::Cancelled, Some(m.reason));
            }
            OrderEvent::Rejected(m) => {
                (order.status, order.end_reason) = (OrderStatus::Rejected, Some(m.reason));
            }
            OrderEvent::Refunded(_) => order.status = OrderStatus::Refunded,
            OrderEvent::Fulfilled(_) => order.status = OrderStatus::Fulfilling,
            OrderEvent::Completed(_) => order.status = OrderStatus::Completed,
        }
        true
    }

    /// Notes how far another service says the order has come, and tells whether that is news.
    fn hint(&mut self, report: &Report) -> bool {
        let reached = match report {
            Report::Reserved => OrderStatus::Reserved,
            Report::Authorized => OrderStatus::Committing,
            Report::Committed => OrderStatus::Capturing,
            Report::Declined(_) | Report::Voided => OrderStatus::Compensating,
            Report::Returned(CompensationCause::Shortage) => return false,
            Report::Returned(_) => OrderStatus::Compensating,
            Report::Captured | Report::Refunded | Report::RefundRefused(_) => return false,
        };
        if self.progress.is_some_and(|known| known >= reached) {
            return false;
        }
        self.progress = Some(reached);
        true
    }

    /// Returns the order as its readers see it.
    fn shown(&self) -> Option<OrderView> {
        let mut view = self.order.clone()?;
        if view.status == OrderStatus::Pending {
            view.status = self.progress.unwrap_or(OrderStatus::Pending);
        }
        Some(view)
    }
}

/// Returns the key of an order among its owner's: newer orders first.
fn by_user_key(view: &OrderView) -> String {
    let newest_first = i64::MAX.saturating_sub(view.placed_at.as_micros());
    format!("{}/{newest_first:019}/{}", view.user_id, view.order_id)
}

/// Tells whether text is the part of such a key after the owner.
pub(super) fn is_cursor(text: &str) -> bool {
    text.split_once('/').is_some_and(|(time, order)| {
        time.len() == 19
            && time.bytes().all(|b| b.is_ascii_digit())
            && order.parse::<OrderId>().is_ok()
    })
}

async fn write_order(session: &mut Session<'_>, view: &OrderView) -> Result<(), HandlerError> {
    let position = Version::new(view.version);
    write(session, (ORDER, &view.order_id.to_string()), position, view).await?;
    write(session, (BY_USER, &by_user_key(view)), position, view).await
}

async fn write_entry(
    session: &mut Session<'_>,
    order: &OrderId,
    number: u32,
    envelope: &Envelope,
) -> Result<(), HandlerError> {
    let entry = TimelineEntry {
        event: envelope.kind.as_ref().to_owned(),
        at: envelope.time,
        actor: envelope.actor.to_string(),
    };
    let key = format!("{order}/{number:05}");
    write(session, (TIMELINE, &key), envelope.subject_version, &entry).await
}

async fn load<T: DeserializeOwned>(
    session: &mut Session<'_>,
    view: &str,
    key: &str,
) -> Result<Option<T>, HandlerError> {
    let Some(row) = session.unit().load_view(view, key).await? else { return Ok(None) };
    Ok(Some(decode(view, &row.body)?))
}

async fn write<T: Serialize>(
    session: &mut Session<'_>,
    (view, key): (&str, &str),
    position: Version,
    row: &T,
) -> Result<(), HandlerError> {
    let body = serde_json::to_vec(row)
        .map_err(|e| TxError::Corrupt { what: view.to_owned(), why: e.to_string() })?;
    let (view, key) = (Arc::from(view), Arc::from(key));
    let write = ViewWrite { view, key, position, body: Some(Bytes::from(body)) };
    Ok(session.unit().write_view(write).await?)
}

/// Decodes a view row.
///
/// # Errors
/// [`TxError::Corrupt`].
pub(super) fn decode<T: DeserializeOwned>(view: &str, body: &[u8]) -> Result<T, TxError> {
    serde_json::from_slice(body)
        .map_err(|e| TxError::Corrupt { what: format!("row of view {view}"), why: e.to_string() })
}
