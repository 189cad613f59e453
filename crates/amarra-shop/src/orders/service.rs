//! The face of Orders: place, cancel, ship, deliver, and the queries.

use std::fmt;
use std::sync::Arc;

use amarra_core::{AggregateId, CorrelationId, Environment, Timestamp};
use amarra_messaging::{Group, Incoming, Topic};
use amarra_saga::SagaWorker;
use amarra_store::{
    Attempts, DueHandler, Handler, HandlerError, IdempotencyKey, PageQuery, ReadModel, Session,
    Store, execute,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::commands::{Change, ChangeOrder, CommandError, Place, Reconcile};
use super::config::Config;
use super::flow::{self, Flow};
use super::reply::Reply;
use super::view::{self, BY_USER, ORDER, Projection, TIMELINE, decode};
use crate::auth::QuoteVerifier;
use crate::contract::api::{ApiError, Caller, Role};
use crate::contract::catalog::{Quote, SignedQuote};
use crate::contract::ids::{OrderId, UserId};
use crate::contract::orders::{
    CancelOrder, OrderStatus, OrderView, PlaceOrder, Placed, TimelineEntry,
};
use crate::contract::topics;
use crate::ports::{ConfigError, ServicePorts};

/// Tells whether Catalog signed a quote.
pub trait QuoteCheck: Send + Sync + fmt::Debug {
    /// Returns the quote when its signature verifies, it was made for `user` and holds at `now`.
    ///
    /// # Errors
    /// [`ApiError`] with what to do about it.
    fn check(&self, signed: &SignedQuote, user: UserId, now: Timestamp) -> Result<Quote, ApiError>;
}

impl QuoteCheck for QuoteVerifier {
    fn check(&self, signed: &SignedQuote, user: UserId, now: Timestamp) -> Result<Quote, ApiError> {
        Ok(self.verify(signed, user, now)?)
    }
}

/// Answers a change of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The order.
    pub order_id: OrderId,
    /// Its state now.
    pub status: OrderStatus,
    /// A query that asks for at least this version sees the change.
    pub version: u64,
    /// Whether a cancellation waits for the capture: it was accepted, and the order is refunded
    /// once the capture succeeded.
    pub cancel_requested: bool,
}

/// Some orders of one user, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<OrderView>,
    /// What to give as `after` for the next page, none when this is the last.
    pub next: Option<String>,
}

/// The order service.
#[derive(Debug)]
pub struct Orders {
    store: Arc<dyn Store>,
    views: Arc<dyn ReadModel>,
    env: Environment,
    quotes: Arc<dyn QuoteCheck>,
    flow: Arc<Flow>,
}

impl Orders {
    /// Names the service in envelopes.
    pub const SOURCE: &'static str = "/amarra/orders";
    /// The operation whose idempotency keys `place` takes.
    pub const PLACE_ROUTE: &'static str = "orders.place";

    /// Puts the service together; `quotes` verifies signed quotes.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field out of its range.
    pub fn new(
        ports: ServicePorts,
        quotes: Arc<dyn QuoteCheck>,
        config: Config,
    ) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let ServicePorts { store, views, env } = ports;
        Ok(Arc::new(Self { store, views, env, quotes, flow: Arc::new(Flow::new(config)?) }))
    }

    /// Returns the consumer groups: `orders` for the replies of Inventory and Payments, and
    /// `orders-view` for the views.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        vec![Arc::new(Replies::new(Arc::clone(&self.flow))), Arc::new(Projection::new())]
    }

    /// Returns the worker that acts on the sagas' timeouts, retries and deadlines.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        let (store, sagas) = (Arc::clone(&self.store), Arc::clone(self.flow.sagas()));
        let worker = SagaWorker::new(store, self.env.clone(), Self::SOURCE, sagas);
        let hooks: Arc<Flow> = Arc::clone(&self.flow);
        vec![Arc::new(worker.hooks(hooks))]
    }

    /// Places an order; the same idempotency key gives the same answer for ever.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] without a key, [`ApiError::Unprocessable`] for a key of another
    /// request or a quote that does not hold, [`ApiError::Conflict`] while the key is in use,
    /// [`ApiError::TooMany`] at the bound of open orders.
    pub async fn place(&self, caller: &Caller, request: PlaceOrder) -> Result<Placed, ApiError> {
        let key = self.idempotency_key(caller, &request)?;
        let order_id: OrderId = self.env.new_id();
        let command = Place {
            flow: &self.flow,
            quotes: self.quotes.as_ref(),
            user: caller.principal.user_id,
            order_id,
            key,
            request: &request,
        };
        self.execute(caller, order_id, &command).await
    }

    fn idempotency_key(
        &self,
        caller: &Caller,
        request: &PlaceOrder,
    ) -> Result<IdempotencyKey, ApiError> {
        let bad = |why: &str| ApiError::BadRequest(why.to_owned());
        let key = caller.idempotency_key.clone();
        let key = key.ok_or_else(|| bad("an idempotency key is required"))?;
        if key.is_empty() || key.len() > 128 {
            return Err(bad("the idempotency key must have 1 to 128 characters"));
        }
        let body = serde_json::to_vec(request).map_err(|e| ApiError::Internal(e.to_string()))?;
        Ok(IdempotencyKey {
            principal: Arc::from(caller.principal.user_id.to_string()),
            route: Arc::from(Self::PLACE_ROUTE),
            key,
            request_hash: *blake3::hash(&body).as_bytes(),
        })
    }

    /// Cancels an order of the caller's, or any order for support. After the capture was sent the
    /// cancellation is noted, and the order is refunded once it is captured.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for another's order, [`ApiError::Conflict`] once it was shipped or
    /// rejected, [`ApiError::BadRequest`] for a reason over 200 characters.
    pub async fn cancel(
        &self,
        caller: &Caller,
        order: OrderId,
        request: CancelOrder,
    ) -> Result<Accepted, ApiError> {
        bounded("reason", &request.reason)?;
        self.change(caller, order, Change::Cancel(request.reason)).await
    }

    /// Notes that a confirmed order was handed to the carrier.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] unless the caller keeps stock or is support, [`ApiError::NotFound`],
    /// and [`ApiError::Conflict`] for an order that is not confirmed.
    pub async fn ship(
        &self,
        caller: &Caller,
        order: OrderId,
        tracking: &str,
    ) -> Result<Accepted, ApiError> {
        staff(caller)?;
        bounded("tracking", tracking)?;
        self.change(caller, order, Change::Ship(tracking.to_owned())).await
    }

    /// Notes that a shipped order arrived.
    ///
    /// # Errors
    /// As [`Orders::ship`], with [`ApiError::Conflict`] for an order that was not shipped.
    pub async fn deliver(&self, caller: &Caller, order: OrderId) -> Result<Accepted, ApiError> {
        staff(caller)?;
        self.change(caller, order, Change::Deliver).await
    }

    /// Asks again for every step of an order's sagas that was given up and waits for an operator,
    /// such as a refund that the provider refused; tells how many there were.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] unless the caller is an admin, [`ApiError::NotFound`], and
    /// [`ApiError::BadRequest`] for a reason over 200 characters.
    pub async fn reconcile(
        &self,
        caller: &Caller,
        order_id: OrderId,
        reason: &str,
    ) -> Result<usize, ApiError> {
        caller.principal.require(Role::Admin)?;
        bounded("reason", reason)?;
        let by = caller.principal.actor();
        let command = Reconcile { flow: &self.flow, order_id, by, reason };
        self.execute(caller, order_id, &command).await
    }

    async fn change(
        &self,
        caller: &Caller,
        order_id: OrderId,
        change: Change,
    ) -> Result<Accepted, ApiError> {
        let command =
            ChangeOrder { flow: &self.flow, principal: &caller.principal, order_id, change };
        self.execute(caller, order_id, &command).await
    }

    async fn execute<C>(
        &self,
        caller: &Caller,
        order: OrderId,
        command: &C,
    ) -> Result<C::Output, ApiError>
    where
        C: amarra_store::Command<Error = CommandError>,
    {
        let cause = caller.cause(CorrelationId::from(order.as_uuid()));
        // A second run after an unknown commit finds the recorded response, or the state reached.
        let attempts = Attempts { idempotent: true, ..Attempts::default() };
        execute(self.store.as_ref(), &self.env, Self::SOURCE, (&cause, attempts), command)
            .await
            .map_err(ApiError::from)
    }

    /// Returns an order of the caller's, or any order for support, once the view has reached
    /// `min_version`.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for another's order or none, and [`ApiError::Conflict`] when the view
    /// is still behind after [`Config::visible_wait`].
    pub async fn get(
        &self,
        caller: &Caller,
        order: OrderId,
        min_version: Option<u64>,
    ) -> Result<OrderView, ApiError> {
        let wanted = min_version.unwrap_or(0);
        let config = self.flow.config();
        let give_up = self.env.monotonic().plus(config.visible_wait);
        loop {
            let found = self.find(caller, order).await?;
            match found {
                Some(view) if view.version >= wanted => return Ok(view),
                None if wanted == 0 => return Err(ApiError::NotFound),
                _ => {}
            }
            if self.env.monotonic() >= give_up {
                return Err(ApiError::Conflict("not yet visible: ask again".to_owned()));
            }
            self.env.sleep(config.visible_poll).await;
        }
    }

    /// Reads an order as far as the caller may see it.
    async fn find(&self, caller: &Caller, order: OrderId) -> Result<Option<OrderView>, ApiError> {
        let Some(row) = self.views.get(ORDER, &order.to_string()).await? else { return Ok(None) };
        let view: OrderView = decode(ORDER, &row.body)?;
        let own = view.user_id == caller.principal.user_id;
        if !own && !caller.principal.has(Role::Support) {
            return Err(ApiError::NotFound);
        }
        Ok(Some(view))
    }

    /// Returns the caller's own orders, newest first, at most `limit`, from after the cursor of the
    /// page before.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for a limit of zero or a cursor this service did not give out.
    pub async fn list(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: usize,
    ) -> Result<OrderPage, ApiError> {
        if limit == 0 {
            return Err(ApiError::BadRequest("limit must be at least 1".to_owned()));
        }
        let prefix = format!("{}/", caller.principal.user_id);
        if after.is_some_and(|after| !view::is_cursor(after)) {
            return Err(ApiError::BadRequest("after is no cursor of this list".to_owned()));
        }
        let query = PageQuery {
            view: Arc::from(BY_USER),
            // The cursor never holds the owner: nobody can ask for another's page.
            after: after.map(|after| Arc::from(format!("{prefix}{after}"))),
            prefix: Arc::from(prefix.as_str()),
            limit: limit.min(self.flow.config().page_max),
        };
        let page = self.views.page(&query).await?;
        let orders: Result<_, _> = page.rows.iter().map(|r| decode(BY_USER, &r.body)).collect();
        let next = page.next.and_then(|key| key.strip_prefix(&prefix).map(str::to_owned));
        Ok(OrderPage { orders: orders?, next })
    }

    /// Returns what happened to an order of the caller's, or any order for support, oldest first.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for another's order or none.
    pub async fn timeline(
        &self,
        caller: &Caller,
        order: OrderId,
    ) -> Result<Vec<TimelineEntry>, ApiError> {
        self.find(caller, order).await?.ok_or(ApiError::NotFound)?;
        let query = PageQuery {
            view: Arc::from(TIMELINE),
            prefix: Arc::from(format!("{order}/")),
            after: None,
            limit: self.flow.config().timeline_max,
        };
        let page = self.views.page(&query).await?;
        let entries: Result<_, _> = page.rows.iter().map(|r| decode(TIMELINE, &r.body)).collect();
        Ok(entries?)
    }
}

fn staff(caller: &Caller) -> Result<(), ApiError> {
    let principal = &caller.principal;
    if principal.has(Role::InventoryAdmin) { Ok(()) } else { principal.require(Role::Support) }
}

fn bounded(field: &str, text: &str) -> Result<(), ApiError> {
    if text.chars().count() <= 200 {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("{field} must have at most 200 characters")))
}

/// The consumer of what Inventory and Payments answer.
#[derive(Debug)]
struct Replies {
    flow: Arc<Flow>,
    group: Group,
    topics: Vec<Topic>,
}

impl Replies {
    fn new(flow: Arc<Flow>) -> Self {
        Self {
            flow,
            group: Group::from("orders"),
            topics: vec![Topic::from(topics::INVENTORY), Topic::from(topics::PAYMENTS)],
        }
    }
}

#[async_trait]
impl Handler for Replies {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        match Reply::decode(&message.envelope) {
            Ok(Some(reply)) => flow::touches(reply.order_id),
            _ => Vec::new(),
        }
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        match Reply::decode(&message.envelope)? {
            Some(reply) => self.flow.reply(session, &reply).await,
            None => Ok(()),
        }
    }
}
