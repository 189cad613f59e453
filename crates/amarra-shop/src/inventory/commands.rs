//! What changes stock: replies to messages, the expiry of a hold, and corrections by the staff.

use std::time::Duration;

use amarra_core::PartitionKey;
use amarra_core::codec::Message;
use amarra_store::{
    Claim, Command, Draft, HandlerError, IdempotencyKey, Idempotent, Loaded, Session,
    StoredResponse,
};
use async_trait::async_trait;
use bytes::Bytes;

use super::model::{Movement, StockError};
use super::reservation::{self, Ask, Decision, Reply, Reservation, ReservationStatus, summed};
use super::{stock, view};
use crate::contract::inventory::{Availability, CommitReservation, CompensateInventory, StockLine};
use crate::contract::orders::OrderCreated;
use crate::contract::{ApiError, OrderId, Sku, topics};

/// Reserves what an order wants, all or nothing.
pub(super) async fn reserve(
    session: &mut Session<'_>,
    order: &OrderCreated,
    ttl_max: Duration,
) -> Result<(), HandlerError> {
    let wanted = order.lines.iter().map(|line| (line.sku.clone(), line.qty));
    let Some(lines) = summed(wanted) else {
        return Err(HandlerError::Refused(format!("order {} asks for nothing", order.order_id)));
    };
    let loaded = session.load::<Reservation>(&order.order_id.to_string()).await?;
    let mut shortages = Vec::new();
    if loaded.state.is_none() {
        session.lock(&stock::ids(lines.iter().map(|line| &line.sku))).await?;
        for line in &lines {
            let (_, item) = stock::load(session, &line.sku).await?;
            let missing = line.qty.saturating_sub(item.available());
            if missing > 0 {
                shortages.push(StockLine { sku: line.sku.clone(), qty: missing });
            }
        }
    }
    let ask = Ask::Reserve {
        reservation_id: session.env().new_id(),
        lines,
        shortages,
        ttl: order.policy.reserve_ttl.min(ttl_max),
    };
    answer(session, loaded, (order.order_id, &order.request), ask).await
}

/// Commits what is held for an order.
pub(super) async fn commit(
    session: &mut Session<'_>,
    command: &CommitReservation,
) -> Result<(), HandlerError> {
    let loaded = session.load::<Reservation>(&command.order_id.to_string()).await?;
    answer(session, loaded, (command.order_id, &command.request), Ask::Commit).await
}

/// Gives back what is held or was taken for an order, and holds nothing for it in future.
pub(super) async fn compensate(
    session: &mut Session<'_>,
    command: &CompensateInventory,
) -> Result<(), HandlerError> {
    let loaded = session.load::<Reservation>(&command.order_id.to_string()).await?;
    let ask = Ask::Compensate(command.cause);
    answer(session, loaded, (command.order_id, &command.request), ask).await
}

async fn answer(
    session: &mut Session<'_>,
    loaded: Loaded<Reservation>,
    (order_id, request): (OrderId, &str),
    ask: Ask,
) -> Result<(), HandlerError> {
    let (cause, now) = (session.cause().clone(), session.now());
    let decision =
        reservation::decide(loaded.state.as_ref(), order_id, ask, (request, &cause, now));
    carry_out(session, loaded, decision).await
}

/// Makes a decision's changes: stock, reservation, timer and reply, in this order.
async fn carry_out(
    session: &mut Session<'_>,
    mut loaded: Loaded<Reservation>,
    decision: Decision,
) -> Result<(), HandlerError> {
    let Decision { next, movements, reply } = decision;
    session.lock(&stock::ids(movements.iter().map(|(sku, _)| sku))).await?;
    for (sku, movement) in &movements {
        let moved = stock::apply(session, sku, *movement, &loaded.id.id).await?;
        // The reservation says what is held, so the stock has to agree.
        moved.map_err(|e| HandlerError::Refused(format!("stock of {sku}: {e}")))?;
    }
    if let Some(next) = next {
        let (action, row) = (action(next.status), next.clone());
        let version = session.save(&mut loaded, next, action).await?;
        let row = view::reservation(&row, version);
        session.write_view((view::RESERVATIONS, &loaded.id.id), version, &row).await?;
        let held = row.status == ReservationStatus::Held;
        let timer = held.then(|| row.expires_at.since(session.now()));
        session.schedule(&loaded.id, timer).await?;
    }
    match reply {
        Some(Reply::Reserved(event)) => emit(session, &loaded, &event).await,
        Some(Reply::Committed(event)) => emit(session, &loaded, &event).await,
        Some(Reply::Compensated(event)) => emit(session, &loaded, &event).await,
        None => Ok(()),
    }
}

fn action(status: ReservationStatus) -> &'static str {
    match status {
        ReservationStatus::Held => "reserve",
        ReservationStatus::Committed => "commit",
        ReservationStatus::Released => "release",
        ReservationStatus::Expired => "expire",
        ReservationStatus::Returned => "restock",
        ReservationStatus::Tombstoned => "refuse",
    }
}

async fn emit<M: Message>(
    session: &mut Session<'_>,
    loaded: &Loaded<Reservation>,
    message: &M,
) -> Result<(), HandlerError> {
    let draft = Draft {
        topic: topics::INVENTORY,
        key: PartitionKey::new(loaded.id.id.clone()),
        subject: &loaded.id,
        version: loaded.version,
        message,
    };
    session.emit(draft).await?;
    Ok(())
}

/// Ends a hold whose time is over.
#[derive(Debug)]
pub(super) struct ExpireHold<'a> {
    pub(super) claim: &'a Claim,
}

#[async_trait]
impl Command for ExpireHold<'_> {
    type Output = ();
    type Error = HandlerError;

    async fn run(&self, session: &mut Session<'_>) -> Result<(), HandlerError> {
        // The reservation before its timer, as message handlers lock them.
        let loaded = session.load::<Reservation>(&self.claim.id.id).await?;
        session.unit().verify(self.claim).await?;
        let Some(state) = &loaded.state else {
            return Ok(session.schedule(&loaded.id, None).await?);
        };
        let decision = reservation::expire(state, session.now());
        if decision.next.is_some() {
            return carry_out(session, loaded, decision).await;
        }
        let held = state.status == ReservationStatus::Held;
        let left = held.then(|| state.expires_at.since(session.now()));
        Ok(session.schedule(&loaded.id, left).await?)
    }
}

/// Receives or corrects stock for the staff.
#[derive(Debug)]
pub(super) struct ChangeStock<'a> {
    pub(super) sku: &'a Sku,
    pub(super) movement: Movement,
    pub(super) reason: &'a str,
    pub(super) idempotency: Option<IdempotencyKey>,
}

#[async_trait]
impl Command for ChangeStock<'_> {
    type Output = Availability;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Availability, ApiError> {
        if let Some(key) = &self.idempotency {
            match session.unit().begin_idempotent(key).await? {
                Idempotent::Fresh => {}
                Idempotent::Replay(stored) => return replay(&stored),
                Idempotent::Mismatch => {
                    let why = "the idempotency key was used for another request";
                    return Err(ApiError::Unprocessable(why.to_owned()));
                }
                Idempotent::InFlight => {
                    let why = "a request with this idempotency key is in progress";
                    return Err(ApiError::Conflict(why.to_owned()));
                }
            }
        }
        let moved = stock::apply(session, self.sku, self.movement, self.reason).await?;
        let (item, version) = moved.map_err(refusal)?;
        let answer: Availability = view::availability(&item, version);
        if let Some(key) = &self.idempotency {
            let body = serde_json::to_vec(&answer).map_err(internal)?;
            let response = StoredResponse { status: 200, body: Bytes::from(body) };
            session.unit().record_response(key, &response).await?;
        }
        Ok(answer)
    }
}

fn replay(stored: &StoredResponse) -> Result<Availability, ApiError> {
    serde_json::from_slice(&stored.body).map_err(internal)
}

fn internal(error: serde_json::Error) -> ApiError {
    ApiError::Internal(error.to_string())
}

fn refusal(error: StockError) -> ApiError {
    match error {
        StockError::Overflow => ApiError::Unprocessable(error.to_string()),
        _ => ApiError::Conflict(error.to_string()),
    }
}
