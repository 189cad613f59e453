//! The changes that callers ask Orders for.

use std::collections::BTreeSet;
use std::time::Duration;

use amarra_core::{Actor, Class, Classify, Timestamp};
use amarra_store::{
    Aggregate, Command, HandlerError, IdempotencyKey, Idempotent, Session, StoredResponse, TxError,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::flow::Flow;
use super::model::{Order, Trigger};
use super::service::{Accepted, QuoteCheck};
use crate::contract::api::{ApiError, Principal, Role};
use crate::contract::catalog::Quote;
use crate::contract::ids::{OrderId, UserId};
use crate::contract::money::Money;
use crate::contract::orders::{OrderStatus, PlaceOrder, Placed};

/// The status of the answer to a placed order.
const CREATED: u16 = 201;

/// The orders of one user that are neither confirmed nor ended.
///
/// Placing adds to it in the transaction that places; the projection takes away. So it never counts
/// too few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Buyer {
    pub(super) open: BTreeSet<OrderId>,
}

impl Aggregate for Buyer {
    const KIND: &'static str = "buyer";
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The transaction failed; its class decides whether it is run again.
    #[error(transparent)]
    Tx(#[from] TxError),
    /// A handler's error on the way.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// The caller gets this; running again would give the same.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl Classify for CommandError {
    fn class(&self) -> Class {
        match self {
            Self::Tx(e) => e.class(),
            Self::Handler(e) => e.class(),
            Self::Refused(_) => Class::Rejected,
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(e: CommandError) -> Self {
        match e {
            CommandError::Tx(e) => e.into(),
            CommandError::Handler(e) => e.into(),
            CommandError::Refused(e) => e,
        }
    }
}

/// Places an order from a signed quote.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) flow: &'a Flow,
    pub(super) quotes: &'a dyn QuoteCheck,
    pub(super) user: UserId,
    /// The id it gets, the same however often this runs.
    pub(super) order_id: OrderId,
    pub(super) key: IdempotencyKey,
    pub(super) request: &'a PlaceOrder,
}

#[async_trait]
impl Command for Place<'_> {
    type Output = Placed;
    type Error = CommandError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Placed, CommandError> {
        match session.unit().begin_idempotent(&self.key).await? {
            Idempotent::Fresh => {}
            Idempotent::Replay(stored) => {
                return serde_json::from_slice(&stored.body)
                    .map_err(|e| corrupt("stored response", &e).into());
            }
            Idempotent::Mismatch => {
                return Err(unprocessable("the idempotency key was used for another request"));
            }
            Idempotent::InFlight => {
                let why = "a request with this idempotency key is in progress";
                return Err(ApiError::Conflict(why.to_owned()).into());
            }
        }
        let order = self.order(session.now())?;
        self.open(session).await?;
        let version = self.flow.place(session, order).await?;
        let placed = Placed { order_id: self.order_id, version: version.get() };
        let body = serde_json::to_vec(&placed).map_err(|e| corrupt("response", &e))?;
        let response = StoredResponse { status: CREATED, body: Bytes::from(body) };
        session.unit().record_response(&self.key, &response).await?;
        Ok(placed)
    }
}

impl Place<'_> {
    /// Makes the order of the quote, if it holds.
    fn order(&self, now: Timestamp) -> Result<Order, CommandError> {
        let quote = self.quotes.check(&self.request.quote, self.user, now)?;
        let token = &self.request.payment_token;
        check_quote(&quote, self.user, now)?;
        check_lines(&quote, self.flow.config())?;
        check_token(token)?;
        Ok(Order {
            order_id: self.order_id,
            user_id: self.user,
            lines: quote.lines,
            total: quote.total,
            quote_id: quote.quote_id,
            payment_token: token.clone(),
            policy: self.flow.config().policy(),
            placed_at: now,
            status: OrderStatus::Pending,
            cancel_requested: false,
            end_reason: None,
            committed: false,
            tracking: None,
            published: 0,
        })
    }

    /// Counts the order among its buyer's open ones, up to the bound.
    async fn open(&self, session: &mut Session<'_>) -> Result<(), CommandError> {
        let mut loaded = session.load::<Buyer>(&self.user.to_string()).await?;
        let mut buyer = loaded.state.clone().unwrap_or_default();
        if buyer.open.len() >= self.flow.config().open_orders_max {
            return Err(ApiError::TooMany { retry_after: Duration::from_secs(30) }.into());
        }
        buyer.open.insert(self.order_id);
        session.save(&mut loaded, buyer, "open order").await?;
        Ok(())
    }
}

fn check_quote(quote: &Quote, user: UserId, now: Timestamp) -> Result<(), CommandError> {
    if quote.user_id != user {
        return Err(unprocessable("the quote was made for another user"));
    }
    if quote.expires_at <= now {
        return Err(unprocessable("the quote has expired: ask for a new one"));
    }
    Ok(())
}

/// Checks what an order promises of its lines: each is within bounds, and the total is their sum.
fn check_lines(quote: &Quote, config: &Config) -> Result<(), CommandError> {
    if quote.lines.is_empty() || quote.lines.len() > config.lines_max {
        return Err(unprocessable(&format!("an order has 1 to {} lines", config.lines_max)));
    }
    let mut sum = Money::zero(quote.total.currency);
    for line in &quote.lines {
        if line.qty == 0 || line.qty > config.qty_max {
            return Err(unprocessable(&format!("a line has 1 to {} pieces", config.qty_max)));
        }
        if !line.unit_price.is_positive() {
            return Err(unprocessable("a price must be above zero"));
        }
        sum = line
            .unit_price
            .times(line.qty)
            .and_then(|price| sum.plus(price))
            .map_err(|e| unprocessable(&e.to_string()))?;
    }
    if sum != quote.total {
        return Err(unprocessable("the total of the quote is not the sum of its lines"));
    }
    Ok(())
}

/// Refuses what is no token: above all a card number, which must never be stored.
fn check_token(token: &str) -> Result<(), CommandError> {
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    let only_digits = token.bytes().all(|b| b.is_ascii_digit() || b == b' ' || b == b'-');
    if only_digits && (12..=19).contains(&digits) {
        return Err(unprocessable("payment_token looks like a card number: send the token"));
    }
    if token.is_empty() || token.len() > 200 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unprocessable("payment_token must have 1 to 200 visible ASCII characters"));
    }
    Ok(())
}

fn unprocessable(why: &str) -> CommandError {
    ApiError::Unprocessable(why.to_owned()).into()
}

/// What a caller does to an order that exists.
#[derive(Debug)]
pub(super) enum Change {
    /// Cancels it, for the reason given.
    Cancel(String),
    /// Hands it to the carrier, with its reference.
    Ship(String),
    /// Notes that it arrived.
    Deliver,
}

/// Changes an order on behalf of a caller.
#[derive(Debug)]
pub(super) struct ChangeOrder<'a> {
    pub(super) flow: &'a Flow,
    pub(super) principal: &'a Principal,
    pub(super) order_id: OrderId,
    pub(super) change: Change,
}

#[async_trait]
impl Command for ChangeOrder<'_> {
    type Output = Accepted;
    type Error = CommandError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Accepted, CommandError> {
        let loaded = session.load::<Order>(&self.order_id.to_string()).await?;
        let order = loaded.state.as_ref().ok_or(ApiError::NotFound)?;
        // Customers only ever learn of their own orders, even that others exist.
        if order.user_id != self.principal.user_id && !self.is_staff() {
            return Err(ApiError::NotFound.into());
        }
        let (trigger, note) = match &self.change {
            Change::Cancel(reason) => (Trigger::Cancel, reason),
            Change::Ship(tracking) => (Trigger::Shipped, tracking),
            Change::Deliver => (Trigger::Delivered, &String::new()),
        };
        if let Err(illegal) = order.decide(trigger) {
            return Err(ApiError::Conflict(illegal.to_string()).into());
        }
        let order = self.flow.trigger(session, loaded, trigger, note).await?;
        Ok(Accepted {
            order_id: order.order_id,
            status: order.status,
            version: order.published,
            cancel_requested: order.cancel_requested,
        })
    }
}

impl ChangeOrder<'_> {
    fn is_staff(&self) -> bool {
        self.principal.has(Role::Support)
            || (!matches!(self.change, Change::Cancel(_))
                && self.principal.has(Role::InventoryAdmin))
    }
}

/// Asks again for whatever of an order waits for an operator.
#[derive(Debug)]
pub(super) struct Reconcile<'a> {
    pub(super) flow: &'a Flow,
    pub(super) order_id: OrderId,
    pub(super) by: Actor,
    pub(super) reason: &'a str,
}

#[async_trait]
impl Command for Reconcile<'_> {
    type Output = usize;
    type Error = CommandError;

    async fn run(&self, session: &mut Session<'_>) -> Result<usize, CommandError> {
        let loaded = session.load::<Order>(&self.order_id.to_string()).await?;
        loaded.state.ok_or(ApiError::NotFound)?;
        let operator = (&self.by, self.reason);
        Ok(self.flow.retry_parked(session, self.order_id, operator).await?)
    }
}

fn corrupt(what: &str, why: &serde_json::Error) -> TxError {
    TxError::Corrupt { what: what.to_owned(), why: why.to_string() }
}
