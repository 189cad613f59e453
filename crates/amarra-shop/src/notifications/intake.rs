//! Takes in the events of orders and makes a notification of each for each channel.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Actor, AggregateId, Cause, Codec, Envelope, PartitionKey};
use amarra_messaging::{Group, Incoming, Topic, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::{Aggregate, Draft, Handler, HandlerError, Loaded, Session};
use async_trait::async_trait;
use bytes::Bytes;

use super::config::Config;
use super::model::{Notification, Notified, Preference, Reason, Status, dedupe_key, rank};
use crate::contract::ids::{OrderId, UserId};
use crate::contract::notifications::{Channel, NotificationSent, NotificationSuppressed};
use crate::contract::orders::{
    EndReason, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated, OrderFulfilled,
    OrderRefunded, OrderRejected,
};
use crate::contract::topics;

/// The view of notifications: rows under `order/state/channel`.
pub(super) const VIEW: &str = "notifications";

/// The consumer of order events.
#[derive(Debug)]
pub(super) struct Intake {
    group: Group,
    topics: Vec<Topic>,
    channels: Vec<Channel>,
}

impl Intake {
    pub(super) fn new(config: &Config) -> Self {
        let mut channels = config.channels.clone();
        channels.sort_unstable();
        channels.dedup();
        Self {
            group: Group::from("notifications"),
            topics: vec![Topic::from(topics::ORDERS)],
            channels,
        }
    }
}

#[async_trait]
impl Handler for Intake {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        let Ok(Some(news)) = News::decode(&message.envelope) else { return Vec::new() };
        let mut ids: Vec<_> = self.channels.iter().map(|channel| news.id(*channel)).collect();
        ids.push(Notified::aggregate_id(&news.order_id.to_string()));
        ids.push(Preference::aggregate_id(&news.user_id.to_string()));
        ids
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let Some(news) = News::decode(&message.envelope)? else { return Ok(()) };
        let preference = session.load::<Preference>(&news.user_id.to_string()).await?;
        let preference = preference.state.unwrap_or_default();
        let mut loaded = session.load::<Notified>(&news.order_id.to_string()).await?;
        let mut notified = loaded.state.clone().unwrap_or_default();
        let is_news = notified.note(news.rank);
        for &channel in &self.channels {
            let status = match (is_news, preference.wants(channel)) {
                (false, _) => Status::Suppressed(Reason::Stale),
                (true, false) => Status::Suppressed(Reason::Preference),
                (true, true) => Status::Queued,
            };
            create(session, &news, (channel, status), &mut notified).await?;
        }
        if loaded.state.as_ref() != Some(&notified) {
            session.save(&mut loaded, notified, "note order state").await?;
        }
        Ok(())
    }
}

/// Creates one notification unless it exists: the same state is never told twice.
async fn create(
    session: &mut Session<'_>,
    news: &News,
    (channel, status): (Channel, Status),
    notified: &mut Notified,
) -> Result<(), HandlerError> {
    let id = dedupe_key(news.order_id, &news.state, channel);
    let mut loaded = session.load::<Notification>(&id).await?;
    if loaded.state.is_some() {
        return Ok(());
    }
    let notification = Notification {
        order_id: news.order_id,
        user_id: news.user_id,
        state: news.state.clone(),
        channel,
        text: news.text.clone(),
        status,
        attempts: 0,
        in_doubt: false,
        round: 0,
        cause: session.cause().clone(),
    };
    if status == Status::Queued && notified.enqueue(channel, &news.state) {
        session.schedule(&loaded.id, Some(Duration::ZERO)).await?;
    }
    let action = if status == Status::Queued { "queue" } else { "suppress" };
    record(session, &mut loaded, (notification, action)).await
}

/// Saves a notification, shows it and publishes what became of it.
pub(super) async fn record(
    session: &mut Session<'_>,
    loaded: &mut Loaded<Notification>,
    (notification, action): (Notification, &str),
) -> Result<(), HandlerError> {
    let (order_id, state) = (notification.order_id, notification.state.clone());
    let (channel, status) = (notification.channel, notification.status);
    let view = notification.view();
    let version = session.save(loaded, notification, action).await?;
    let body = serde_json::to_vec(&view)
        .map_err(|e| TxError::Corrupt { what: VIEW.to_owned(), why: e.to_string() })?;
    let key = Arc::from(format!("{order_id}/{state}/{}", channel.as_str()));
    let row =
        ViewWrite { view: Arc::from(VIEW), key, position: version, body: Some(Bytes::from(body)) };
    session.unit().write_view(row).await?;
    match status {
        Status::Sent => {
            publish(session, loaded, order_id, &NotificationSent { order_id, state, channel }).await
        }
        Status::Suppressed(reason) => {
            let reason = reason.as_str().to_owned();
            let message = NotificationSuppressed { order_id, state, channel, reason };
            publish(session, loaded, order_id, &message).await
        }
        Status::Queued | Status::Sending | Status::Failed | Status::DeadLettered => Ok(()),
    }
}

async fn publish<M: Message>(
    session: &mut Session<'_>,
    loaded: &Loaded<Notification>,
    order_id: OrderId,
    message: &M,
) -> Result<(), HandlerError> {
    let draft = Draft {
        topic: topics::NOTIFICATIONS,
        key: PartitionKey::new(order_id.to_string()),
        subject: &loaded.id,
        version: loaded.version,
        message,
    };
    session.emit(draft).await?;
    Ok(())
}

/// Returns the cause of what a timer does for a notification.
pub(super) fn timer_cause(cause: &Cause) -> Cause {
    Cause { actor: Actor::Timer("notifications".into()), ..cause.clone() }
}

/// An event of an order that its user is told of.
#[derive(Debug)]
struct News {
    order_id: OrderId,
    user_id: UserId,
    state: String,
    rank: u8,
    text: String,
}

impl News {
    /// Decodes an event and renders its text from it alone; none when nobody is told of it.
    fn decode(envelope: &Envelope) -> Result<Option<Self>, HandlerError> {
        let Some(rank) = rank(&envelope.kind) else { return Ok(None) };
        let (order_id, user_id, text) = render(envelope)?;
        let state = envelope.kind.as_ref().to_owned();
        Ok(Some(Self { order_id, user_id, state, rank, text }))
    }

    fn id(&self, channel: Channel) -> AggregateId {
        Notification::aggregate_id(&dedupe_key(self.order_id, &self.state, channel))
    }
}

/// Renders the text of an event: no name, no address, nothing but what the event says.
fn render(envelope: &Envelope) -> Result<(OrderId, UserId, String), HandlerError> {
    let codec = Codec::new();
    Ok(match envelope.kind.as_ref() {
        OrderCreated::KIND => {
            let m: OrderCreated = codec.decode(envelope)?;
            let items = m.lines.iter().fold(0u32, |sum, line| sum.saturating_add(line.qty));
            let text = format!("We have received your order {} of {items} item(s).", m.order_id);
            (m.order_id, m.user_id, text)
        }
        OrderConfirmed::KIND => {
            let m: OrderConfirmed = codec.decode(envelope)?;
            let text = format!("Your order {} is paid and confirmed.", m.order_id);
            (m.order_id, m.user_id, text)
        }
        OrderFulfilled::KIND => {
            let m: OrderFulfilled = codec.decode(envelope)?;
            let text = format!("Your order {} is on its way: {}.", m.order_id, m.tracking);
            (m.order_id, m.user_id, text)
        }
        OrderCompleted::KIND => {
            let m: OrderCompleted = codec.decode(envelope)?;
            let text = format!("Your order {} has arrived.", m.order_id);
            (m.order_id, m.user_id, text)
        }
        OrderCancelled::KIND => {
            let m: OrderCancelled = codec.decode(envelope)?;
            let text = format!("Your order {} was cancelled: {}.", m.order_id, why(m.reason));
            (m.order_id, m.user_id, text)
        }
        OrderRejected::KIND => {
            let m: OrderRejected = codec.decode(envelope)?;
            let text = format!("We cannot carry out your order {}: {}.", m.order_id, why(m.reason));
            (m.order_id, m.user_id, text)
        }
        _ => {
            let m: OrderRefunded = codec.decode(envelope)?;
            let text = format!("The payment of your order {} was refunded.", m.order_id);
            (m.order_id, m.user_id, text)
        }
    })
}

fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Shortage => "not enough is in stock",
        EndReason::PaymentFailed => "the payment was declined",
        EndReason::Cancelled => "as requested",
        EndReason::Deadline => "it took too long",
        EndReason::ReservationExpired => "it could not be held in stock any longer",
    }
}
