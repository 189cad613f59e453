//! The face of Notifications: preferences, deliveries of an order, sending again.

use std::sync::Arc;

use amarra_core::{CorrelationId, Environment};
use amarra_store::{
    Aggregate, Attempts, Command, DueHandler, Handler, HandlerError, PageQuery, ReadModel, Session,
    Store, TxError, execute,
};
use async_trait::async_trait;

use super::config::Config;
use super::dispatch::{Dispatch, Sender};
use super::intake::{Intake, VIEW, record};
use super::model::{Notification, Notified, Preference, dedupe_key};
use crate::callee::Guard;
use crate::contract::api::{ApiError, Caller, Role};
use crate::contract::ids::OrderId;
use crate::contract::notifications::{Channel, NotificationView, Preferences};
use crate::ports::{ConfigError, ServicePorts};

/// The notification service.
#[derive(Debug)]
pub struct Notifications {
    store: Arc<dyn Store>,
    views: Arc<dyn ReadModel>,
    env: Environment,
    config: Config,
    dispatch: Arc<Dispatch>,
}

impl Notifications {
    /// Names the service in envelopes.
    pub const SOURCE: &'static str = "/amarra/notifications";

    /// Puts the service together; `sender` reaches the providers.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field out of its range.
    pub fn new(
        ports: ServicePorts,
        sender: Arc<dyn Sender>,
        config: Config,
    ) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let ServicePorts { store, views, env } = ports;
        let dispatch =
            Arc::new(Dispatch::new(Arc::clone(&store), env.clone(), config.clone(), sender)?);
        Ok(Arc::new(Self { store, views, env, config, dispatch }))
    }

    /// Returns the guards of this service's calls, to be looked at.
    #[must_use]
    pub fn guards(&self) -> Vec<Arc<Guard>> {
        self.dispatch.guards()
    }

    /// Returns the consumer group `notifications` on the events of orders.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        vec![Arc::new(Intake::new(&self.config))]
    }

    /// Returns the sender of due notifications.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        vec![Arc::clone(&self.dispatch) as Arc<dyn DueHandler>]
    }

    /// Sets which channels the caller wants. Notifications already in line are still sent.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`].
    pub async fn set_preferences(
        &self,
        caller: &Caller,
        preferences: Preferences,
    ) -> Result<Preferences, ApiError> {
        let user = caller.principal.user_id;
        let cause = caller.cause(CorrelationId::from(user.as_uuid()));
        let attempts = Attempts { idempotent: true, ..Attempts::default() };
        let command = SetPreferences { user: user.to_string(), preferences };
        execute(self.store.as_ref(), &self.env, Self::SOURCE, (&cause, attempts), &command)
            .await
            .map_err(ApiError::from)
    }

    /// Returns which channels the caller wants.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`].
    pub async fn preferences(&self, caller: &Caller) -> Result<Preferences, ApiError> {
        let mut unit = self.store.begin().await?;
        let cause = caller.cause(CorrelationId::from(caller.principal.user_id.as_uuid()));
        let mut session = Session::new(unit.as_mut(), &self.env, Self::SOURCE, cause);
        let id = caller.principal.user_id.to_string();
        let loaded = session.load::<Preference>(&id).await?;
        Ok(loaded.state.unwrap_or_default().0)
    }

    /// Returns the notifications of one order, to its owner or to support.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for an order that is not the caller's or has none.
    pub async fn by_order(
        &self,
        caller: &Caller,
        order: OrderId,
    ) -> Result<Vec<NotificationView>, ApiError> {
        let query = PageQuery {
            view: Arc::from(VIEW),
            prefix: Arc::from(format!("{order}/")),
            after: None,
            limit: self.config.page_max,
        };
        let mut found = Vec::new();
        for row in self.views.page(&query).await?.rows {
            let view: NotificationView = serde_json::from_slice(&row.body)
                .map_err(|e| TxError::Corrupt { what: VIEW.to_owned(), why: e.to_string() })?;
            if view.user_id == caller.principal.user_id || caller.principal.has(Role::Support) {
                found.push(view);
            }
        }
        if found.is_empty() { Err(ApiError::NotFound) } else { Ok(found) }
    }

    /// Puts a notification that was set aside back in line, under a new key.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] unless support asks, [`ApiError::NotFound`], and
    /// [`ApiError::Conflict`] for one that was not set aside.
    pub async fn resend(
        &self,
        caller: &Caller,
        order: OrderId,
        state: &str,
        channel: Channel,
    ) -> Result<NotificationView, ApiError> {
        caller.principal.require(Role::Support)?;
        let cause = caller.cause(CorrelationId::from(order.as_uuid()));
        let command = Resend { order, state: state.to_owned(), channel };
        let attempts = Attempts::default();
        execute(self.store.as_ref(), &self.env, Self::SOURCE, (&cause, attempts), &command).await
    }
}

#[derive(Debug)]
struct SetPreferences {
    user: String,
    preferences: Preferences,
}

#[async_trait]
impl Command for SetPreferences {
    type Output = Preferences;
    type Error = TxError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Preferences, TxError> {
        let mut loaded = session.load::<Preference>(&self.user).await?;
        if loaded.state.as_ref().is_none_or(|known| known.0 != self.preferences) {
            let next = Preference(self.preferences.clone());
            session.save(&mut loaded, next, "set preferences").await?;
        }
        Ok(self.preferences.clone())
    }
}

#[derive(Debug)]
struct Resend {
    order: OrderId,
    state: String,
    channel: Channel,
}

#[async_trait]
impl Command for Resend {
    type Output = NotificationView;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<NotificationView, ApiError> {
        let id = dedupe_key(self.order, &self.state, self.channel);
        let order = self.order.to_string();
        session.lock(&[Notification::aggregate_id(&id), Notified::aggregate_id(&order)]).await?;
        let mut loaded = session.load::<Notification>(&id).await?;
        let notification = loaded.state.clone().ok_or(ApiError::NotFound)?;
        let next = notification.resend().ok_or_else(|| {
            ApiError::Conflict(format!("the notification is {}", notification.status.as_str()))
        })?;
        let view = next.view();
        let mut queue = session.load::<Notified>(&order).await?;
        let mut notified = queue.state.clone().unwrap_or_default();
        if notified.enqueue(self.channel, &self.state) {
            session.schedule(&loaded.id, Some(std::time::Duration::ZERO)).await?;
        }
        session.save(&mut queue, notified, "queue again").await?;
        record(session, &mut loaded, (next, "send again")).await.map_err(handler_error)?;
        Ok(view)
    }
}

fn handler_error(e: HandlerError) -> ApiError {
    e.into()
}
