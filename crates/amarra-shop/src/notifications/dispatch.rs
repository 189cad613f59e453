//! Hands due notifications to their providers, between two transactions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{AggregateId, Class, Classify, Environment};
use amarra_messaging::TxError;
use amarra_resilience::{Breaker, Bulkhead, CallOptions, Pipeline};
use amarra_store::{Aggregate, Claim, DueHandler, HandlerError, Session, Store};
use async_trait::async_trait;

use super::config::{Config, nested};
use super::intake::{record, timer_cause};
use super::model::{Begin, Finish, Notification, Notified, dedupe_key};
use super::service::Notifications;
use crate::callee::{Callee, Guard};
use crate::contract::ids::UserId;
use crate::contract::notifications::Channel;
use crate::ports::ConfigError;

/// A message on its way to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingNotification {
    /// The provider's idempotency key: it tells the user once per key.
    pub dedupe_key: String,
    /// How the user is reached.
    pub channel: Channel,
    /// The user; the provider's adapter looks the address up.
    pub user_id: UserId,
    /// What it says.
    pub text: String,
}

/// Hands messages to the providers of mail, text messages and push.
///
/// # Laws
/// - SND-1 messages of one `dedupe_key` reach the user once, however often they are sent.
#[async_trait]
pub trait Sender: Send + Sync + fmt::Debug {
    /// Hands over one message.
    ///
    /// # Errors
    /// [`SendError`].
    ///
    /// # Cancellation
    /// A dropped future may have sent it.
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError>;
}

/// Why a provider did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It was not reached. Class `Transient`: send again.
    #[error("provider unavailable: {why}")]
    Unavailable {
        /// What the way to it said.
        why: String,
    },
    /// It may have taken the message. Class `Unknown`: send again with the same key.
    #[error("no answer from the provider")]
    NoAnswer,
    /// It will never take this message. Class `Rejected`: the staff has to look at it.
    #[error("provider refused: {why}")]
    Refused {
        /// What it said.
        why: String,
    },
}

impl Classify for SendError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } => Class::Transient,
            Self::NoAnswer => Class::Unknown,
            Self::Refused { .. } => Class::Rejected,
        }
    }
}

/// The consumer of due notifications.
#[derive(Debug)]
pub(super) struct Dispatch {
    store: Arc<dyn Store>,
    env: Environment,
    config: Config,
    senders: BTreeMap<Channel, Callee<dyn Sender>>,
}

impl Dispatch {
    pub(super) fn new(
        store: Arc<dyn Store>,
        env: Environment,
        config: Config,
        sender: Arc<dyn Sender>,
    ) -> Result<Self, ConfigError> {
        let mut senders = BTreeMap::new();
        for &channel in &config.channels {
            let pipeline = pipeline(channel, &config, &env)?;
            senders.insert(channel, Callee::new(Arc::clone(&sender), pipeline));
        }
        Ok(Self { store, env, config, senders })
    }

    pub(super) fn guards(&self) -> Vec<Arc<Guard>> {
        self.senders.values().map(|sender| Arc::clone(sender.guard())).collect()
    }

    /// Marks the notification as being sent and returns it, none when there is nothing to send.
    async fn begin(&self, claim: &Claim) -> Result<Option<Notification>, HandlerError> {
        let (mut unit, stored) = self.store.begin_claimed(claim, &touches(claim)).await?;
        let Some(stored) = stored.first().filter(|stored| !stored.body.is_empty()) else {
            unit.schedule(&claim.id, None).await?;
            unit.commit().await?;
            return Ok(None);
        };
        let notification: Notification = serde_json::from_slice(&stored.body)
            .map_err(|e| TxError::Corrupt { what: claim.id.to_string(), why: e.to_string() })?;
        let cause = timer_cause(&notification.cause);
        let sending = {
            let mut session = Session::new(unit.as_mut(), &self.env, Notifications::SOURCE, cause);
            self.start(&mut session, claim, &notification).await?
        };
        unit.commit().await?;
        Ok(sending)
    }

    async fn start(
        &self,
        session: &mut Session<'_>,
        claim: &Claim,
        notification: &Notification,
    ) -> Result<Option<Notification>, HandlerError> {
        let mut loaded = session.load::<Notification>(&claim.id.id).await?;
        let notified = session.load::<Notified>(&notification.order_id.to_string()).await?;
        let newest = notified.state.map_or(0, |notified| notified.newest);
        match notification.begin(newest, self.config.attempts_max) {
            Begin::Nothing => {
                session.schedule(&claim.id, None).await?;
                Ok(None)
            }
            Begin::Settle(settled) => {
                record(session, &mut loaded, (*settled.clone(), "settle")).await?;
                settle(session, &settled).await?;
                Ok(None)
            }
            // The timer stays: if this process dies now, the claim's lease brings it back.
            Begin::Send(sending) => {
                record(session, &mut loaded, (*sending.clone(), "send")).await?;
                Ok(Some(*sending))
            }
        }
    }

    async fn send(&self, notification: &Notification) -> (Finish, Option<Duration>) {
        let message = OutgoingNotification {
            dedupe_key: notification.key(),
            channel: notification.channel,
            user_id: notification.user_id,
            text: notification.text.clone(),
        };
        let Some(sender) = self.senders.get(&notification.channel) else {
            return (Finish::NotSent, None);
        };
        let options = CallOptions::idempotent();
        match sender.call(&self.env, options, |way, _| way.send(&message)).await {
            Ok(()) => (Finish::Taken, None),
            Err(failed) if !failed.error.was_sent() => (Finish::NotSent, failed.retry_after()),
            Err(failed) => (Finish::Failed(failed.class()), failed.retry_after()),
        }
    }

    async fn finish(
        &self,
        claim: &Claim,
        sent: &Notification,
        (how, retry_after): (Finish, Option<Duration>),
    ) -> Result<(), HandlerError> {
        let (mut unit, _) = self.store.begin_claimed(claim, &touches(claim)).await?;
        {
            let cause = timer_cause(&sent.cause);
            let mut session = Session::new(unit.as_mut(), &self.env, Notifications::SOURCE, cause);
            let mut loaded = session.load::<Notification>(&claim.id.id).await?;
            let now = loaded.state.clone();
            let Some(next) = now.and_then(|n| n.finish(how, self.config.attempts_max)) else {
                return Ok(());
            };
            record(&mut session, &mut loaded, (next.clone(), "note outcome")).await?;
            if next.status.is_settled() {
                settle(&mut session, &next).await?;
            } else {
                let wait = self.backoff(next.attempts).max(retry_after.unwrap_or_default());
                session.schedule(&claim.id, Some(wait)).await?;
            }
        }
        Ok(unit.commit().await?)
    }

    /// Returns a wait between half of the doubled backoff and all of it.
    fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let longest = self.config.backoff_first.saturating_mul(doubled);
        let half = longest.min(self.config.backoff_max).checked_div(2).unwrap_or_default();
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half.saturating_add(Duration::from_micros(self.env.entropy.below(micros)))
    }
}

#[async_trait]
impl DueHandler for Dispatch {
    fn kind(&self) -> &str {
        Notification::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let Some(sending) = self.begin(claim).await? else { return Ok(()) };
        let outcome = self.send(&sending).await;
        self.finish(claim, &sending, outcome).await
    }
}

/// Names what acting on a claim changes, to be locked before the claim is verified.
fn touches(claim: &Claim) -> [AggregateId; 2] {
    let order = claim.id.id.split(':').next().unwrap_or_default();
    [claim.id.clone(), Notified::aggregate_id(order)]
}

/// Ends a notification's timer and starts that of the next one in its line.
pub(super) async fn settle(
    session: &mut Session<'_>,
    settled: &Notification,
) -> Result<(), HandlerError> {
    let own = dedupe_key(settled.order_id, &settled.state, settled.channel);
    session.schedule(&Notification::aggregate_id(&own), None).await?;
    let mut loaded = session.load::<Notified>(&settled.order_id.to_string()).await?;
    let Some(mut notified) = loaded.state.clone() else { return Ok(()) };
    if let Some(next) = notified.settle(settled.channel, &settled.state) {
        let id = dedupe_key(settled.order_id, &next, settled.channel);
        session.schedule(&Notification::aggregate_id(&id), Some(Duration::ZERO)).await?;
    }
    if loaded.state.as_ref() != Some(&notified) {
        session.save(&mut loaded, notified, "settle notification").await?;
    }
    Ok(())
}

/// Builds the way to one channel's provider. It makes one try: waiting for another is the durable
/// timer's part.
fn pipeline(channel: Channel, config: &Config, env: &Environment) -> Result<Pipeline, ConfigError> {
    let name = channel.as_str();
    let breaker = Breaker::seeded(name, config.breaker, env.entropy.as_ref())
        .map_err(|e| nested("notifications.breaker", e))?;
    let bulkhead =
        Bulkhead::new(config.bulkhead).map_err(|e| nested("notifications.bulkhead", e))?;
    Pipeline::builder(name)
        .deadline(config.send_timeout)
        .breaker(Arc::new(breaker))
        .bulkhead(Arc::new(bulkhead))
        .timeout(config.send_timeout)
        .map_err(|e| nested("notifications.send_timeout", e))
}
