//! The face of Inventory: API operations, message handler and timer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Actor, AggregateId, Cause, Codec, Environment, Version};
use amarra_messaging::{Group, Incoming, Topic};
use amarra_store::unit::StoredState;
use amarra_store::{
    Aggregate, Attempts, Claim, DueHandler, Handler, HandlerError, IdempotencyKey, ReadModel,
    Session, Store, execute,
};
use async_trait::async_trait;

use super::commands::{self, ChangeStock, ExpireHold};
use super::model::{LedgerEntry, Movement};
use super::reservation::Reservation;
use super::stock;
use super::view::{self, ReservationView};
use crate::contract::api::{ApiError, Caller, Role};
use crate::contract::inventory::{
    AdjustStock, Availability, CommitReservation, CompensateInventory,
};
use crate::contract::orders::OrderCreated;
use crate::contract::{OrderId, Sku, topics};
use crate::ports::{ConfigError, ServicePorts};

/// How Inventory behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The longest time stock is held for an order, whatever the order asks for. A shorter one
    /// frees stock sooner when Orders is gone; a longer one lets slow payments finish.
    pub reserve_ttl_max: Duration,
    /// At most how many products one availability query may name; more is a bad request.
    pub skus_max: usize,
    /// At most how many ledger entries one page holds; more are cut off.
    pub ledger_page_max: usize,
    /// The longest reason for a correction, in characters.
    pub reason_chars_max: usize,
    /// How often a change is tried that lost a race in the database.
    pub attempts: Attempts,
}

impl Default for Config {
    /// An hour of holding, pages of a hundred, reasons of 200 characters.
    fn default() -> Self {
        Self {
            reserve_ttl_max: Duration::from_secs(3600),
            skus_max: 100,
            ledger_page_max: 100,
            reason_chars_max: 200,
            attempts: Attempts::default(),
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |holds: bool, field| {
            let why = || "must be above zero".to_owned();
            if holds { Ok(()) } else { Err(ConfigError { field, why: why() }) }
        };
        check(!self.reserve_ttl_max.is_zero(), "inventory.reserve_ttl_max")?;
        check(self.skus_max > 0, "inventory.skus_max")?;
        check(self.ledger_page_max > 0, "inventory.ledger_page_max")?;
        check(self.reason_chars_max > 0, "inventory.reason_chars_max")?;
        check(self.attempts.attempts_max > 0, "inventory.attempts.attempts_max")
    }
}

/// The stock of every product, and what is held of it for which order.
#[derive(Debug)]
pub struct Inventory {
    store: Arc<dyn Store>,
    views: Arc<dyn ReadModel>,
    env: Environment,
    config: Config,
}

impl Inventory {
    /// Names this service in envelopes.
    pub const SOURCE: &'static str = "/amarra/inventory";

    /// Makes the service.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(ports: ServicePorts, config: Config) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let ServicePorts { store, views, env } = ports;
        Ok(Arc::new(Self { store, views, env, config }))
    }

    /// Corrects the count of a product by `delta`; the first correction creates it.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without the role, `Unprocessable` for a delta of zero or a reason of
    /// the wrong length, `Conflict` when what is held would no longer be on the shelf.
    pub async fn adjust(
        &self,
        caller: &Caller,
        sku: &Sku,
        request: AdjustStock,
    ) -> Result<Availability, ApiError> {
        caller.principal.require(Role::InventoryAdmin)?;
        if request.delta == 0 {
            return Err(ApiError::Unprocessable("delta must not be zero".to_owned()));
        }
        self.change(caller, sku, Movement::Adjust(request.delta), &request).await
    }

    /// Puts stock that arrived on the shelf.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without the role, `Unprocessable` for a delta that is not from 1 to
    /// `u32::MAX` or a reason of the wrong length.
    pub async fn receive(
        &self,
        caller: &Caller,
        sku: &Sku,
        request: AdjustStock,
    ) -> Result<Availability, ApiError> {
        caller.principal.require(Role::InventoryAdmin)?;
        let Some(count) = u32::try_from(request.delta).ok().filter(|&n| n > 0) else {
            let why = format!("delta must be from 1 to {}", u32::MAX);
            return Err(ApiError::Unprocessable(why));
        };
        self.change(caller, sku, Movement::Receive(count), &request).await
    }

    /// Returns what is left of some products; one that never had stock has none.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when more than `skus_max` products are named.
    pub async fn availability(&self, skus: &[Sku]) -> Result<Vec<Availability>, ApiError> {
        if skus.len() > self.config.skus_max {
            let why = format!("at most {} products per query", self.config.skus_max);
            return Err(ApiError::BadRequest(why));
        }
        let mut levels = Vec::with_capacity(skus.len());
        for sku in skus {
            let level = view::read(self.views.as_ref(), view::STOCK, sku.as_str()).await?;
            let none = Availability { sku: sku.clone(), available: 0, version: 0 };
            levels.push(level.unwrap_or(none));
        }
        Ok(levels)
    }

    /// Returns the reservation of an order.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without a role of the staff, `NotFound` when there is none.
    pub async fn reservation(
        &self,
        caller: &Caller,
        order_id: OrderId,
    ) -> Result<ReservationView, ApiError> {
        if !caller.principal.has(Role::Support) {
            caller.principal.require(Role::InventoryAdmin)?;
        }
        let key = order_id.to_string();
        let row = view::read(self.views.as_ref(), view::RESERVATIONS, &key).await?;
        row.ok_or(ApiError::NotFound)
    }

    /// Returns ledger entries of a product after version `after`, oldest first.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] without the role.
    pub async fn ledger(
        &self,
        caller: &Caller,
        sku: &Sku,
        (after, limit): (u64, usize),
    ) -> Result<Vec<LedgerEntry>, ApiError> {
        if !caller.principal.has(Role::Auditor) {
            caller.principal.require(Role::InventoryAdmin)?;
        }
        let level = view::read(self.views.as_ref(), view::STOCK, sku.as_str()).await?;
        let newest = level.map_or(0, |level: Availability| level.version);
        let limit = limit.min(self.config.ledger_page_max);
        let versions = (after.saturating_add(1)..=newest).take(limit);
        let ids: Vec<_> = versions
            .map(|version| LedgerEntry::aggregate_id(&LedgerEntry::id_of(sku, version)))
            .collect();
        let mut unit = self.store.begin().await?;
        let stored = unit.load(&ids).await?;
        let entries = stored.iter().map(|state| serde_json::from_slice(&state.body));
        entries.collect::<Result<_, _>>().map_err(|e| ApiError::Internal(e.to_string()))
    }

    /// Returns the consumer groups.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        vec![Arc::new(Orders {
            group: Group::from("inventory"),
            topics: vec![Topic::from(topics::ORDERS), Topic::from(topics::INVENTORY_COMMANDS)],
            codec: Codec::new(),
            reserve_ttl_max: self.config.reserve_ttl_max,
        })]
    }

    /// Returns the durable timers.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        vec![Arc::new(Holds(Arc::clone(self)))]
    }

    async fn change(
        &self,
        caller: &Caller,
        sku: &Sku,
        movement: Movement,
        request: &AdjustStock,
    ) -> Result<Availability, ApiError> {
        let length = request.reason.chars().count();
        if length == 0 || length > self.config.reason_chars_max {
            let why = format!("reason must have 1 to {} characters", self.config.reason_chars_max);
            return Err(ApiError::Unprocessable(why));
        }
        let route = movement.action();
        let idempotency = caller.idempotency_key.as_ref().map(|key| IdempotencyKey {
            principal: caller.principal.user_id.to_string().into(),
            route: format!("inventory.{route}").into(),
            key: Arc::clone(key),
            request_hash: request_hash(sku, request),
        });
        let attempts = Attempts { idempotent: idempotency.is_some(), ..self.config.attempts };
        let command = ChangeStock { sku, movement, reason: &request.reason, idempotency };
        let cause = caller.cause(self.env.new_id());
        execute(self.store.as_ref(), &self.env, Self::SOURCE, (&cause, attempts), &command).await
    }
}

fn request_hash(sku: &Sku, request: &AdjustStock) -> [u8; 32] {
    let text = format!("{sku}\n{}\n{}", request.delta, request.reason);
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Reserves, commits and compensates what Orders asks for.
#[derive(Debug)]
struct Orders {
    group: Group,
    topics: Vec<Topic>,
    codec: Codec,
    reserve_ttl_max: Duration,
}

#[async_trait]
impl Handler for Orders {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn touches(&self, message: &Incoming) -> Vec<AggregateId> {
        let envelope = &message.envelope;
        match envelope.kind.as_ref() {
            OrderCreated::KIND | CommitReservation::KIND | CompensateInventory::KIND => {
                vec![Reservation::aggregate_id(envelope.partition_key.as_str())]
            }
            _ => Vec::new(),
        }
    }

    /// The stock: of a new order by its lines, of any other by those of its reservation.
    fn touches_further(
        &self,
        message: &Incoming,
        states: &BTreeMap<AggregateId, StoredState>,
    ) -> Vec<AggregateId> {
        let envelope = &message.envelope;
        let id = Reservation::aggregate_id(envelope.partition_key.as_str());
        let stored = states.get(&id).filter(|stored| stored.version != Version::ABSENT);
        match (stored, envelope.kind.as_ref()) {
            (None, OrderCreated::KIND) => {
                let order = self.codec.decode::<OrderCreated>(envelope);
                order.map_or_else(|_| Vec::new(), |o| stock::ids(o.lines.iter().map(|l| &l.sku)))
            }
            (Some(stored), _) => {
                let held = serde_json::from_slice::<Reservation>(&stored.body);
                held.map_or_else(|_| Vec::new(), |r| stock::ids(r.lines.iter().map(|l| &l.sku)))
            }
            (None, _) => Vec::new(),
        }
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let envelope = &message.envelope;
        match envelope.kind.as_ref() {
            OrderCreated::KIND => {
                let order = self.codec.decode(envelope)?;
                commands::reserve(session, &order, self.reserve_ttl_max).await
            }
            CommitReservation::KIND => {
                commands::commit(session, &self.codec.decode(envelope)?).await
            }
            CompensateInventory::KIND => {
                commands::compensate(session, &self.codec.decode(envelope)?).await
            }
            _ => Ok(()),
        }
    }
}

/// Ends holds whose time is over.
#[derive(Debug)]
struct Holds(Arc<Inventory>);

#[async_trait]
impl DueHandler for Holds {
    fn kind(&self) -> &str {
        Reservation::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let inventory = self.0.as_ref();
        let origin = {
            let mut unit = inventory.store.begin().await?;
            let stored = unit.load(std::slice::from_ref(&claim.id)).await?;
            let body = stored.first().map(|s| s.body.clone()).unwrap_or_default();
            serde_json::from_slice::<Reservation>(&body).ok().map(|state| state.origin)
        };
        let cause = origin.map_or_else(
            || timer_cause(&inventory.env),
            |origin| Cause { actor: Actor::Timer("inventory".into()), ..origin },
        );
        let attempts = Attempts { idempotent: true, ..inventory.config.attempts };
        let command = ExpireHold { claim };
        let store = inventory.store.as_ref();
        execute(store, &inventory.env, Inventory::SOURCE, (&cause, attempts), &command).await
    }
}

/// The cause of a timer whose reservation cannot be read: a correlation of its own.
fn timer_cause(env: &Environment) -> Cause {
    Cause {
        correlation: env.new_id(),
        causation: None,
        actor: Actor::Timer("inventory".into()),
        traceparent: amarra_core::TraceParent::root(env.entropy.as_ref()),
    }
}
