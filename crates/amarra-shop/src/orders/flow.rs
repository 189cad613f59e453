//! Brings an order and its sagas on together, in one unit of work.

use std::collections::VecDeque;
use std::sync::Arc;

use amarra_core::codec::Message;
use amarra_core::{Actor, AggregateId, Class, PartitionKey, Version};
use amarra_messaging::TxError;
use amarra_saga::engine::{Stage, Work};
use amarra_saga::{
    Cause, Definition, End, Hooks, Input, Op, Outcome, Progress, Request, SagaError, SagaId, Sagas,
    State, Transition, Verb,
};
use amarra_store::{Aggregate, Draft, HandlerError, Loaded, Session};
use async_trait::async_trait;

use super::config::Config;
use super::model::{Decision, Duty, Emit, Order, Trigger};
use super::reply::{Reply, Report};
use super::service::Orders;
use super::steps::{self, Subject};
use crate::contract::ids::OrderId;
use crate::contract::inventory::{CompensateInventory, CompensationCause};
use crate::contract::orders::{
    EndReason, OrderCancelRequested, OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated,
    OrderFulfilled, OrderRefunded, OrderRejected,
};
use crate::contract::topics;
use crate::ports::ConfigError;

/// The suffix that tells an order's refund saga from its order saga.
const REFUND_SUFFIX: &str = "/refund";

/// Names the saga that carries an order out.
pub(super) fn order_saga(id: OrderId) -> SagaId {
    SagaId::new(id.to_string())
}

/// Names the saga that gives an order's money and stock back.
pub(super) fn refund_saga(id: OrderId) -> SagaId {
    SagaId::new(format!("{id}{REFUND_SUFFIX}"))
}

/// Names the aggregates that something that happens to an order may change.
pub(super) fn touches(id: OrderId) -> Vec<AggregateId> {
    vec![
        Order::aggregate_id(&id.to_string()),
        Sagas::aggregate_id(&order_saga(id)),
        Sagas::aggregate_id(&refund_saga(id)),
    ]
}

/// The rules by which orders and sagas move each other.
///
/// The order's table decides what a trigger does to the order; the sagas decide which command comes
/// next. What happens to the one is a trigger of the other, until nothing is left to do.
#[derive(Debug)]
pub(super) struct Flow {
    config: Config,
    sagas: Arc<Sagas>,
}

impl Flow {
    pub(super) fn new(config: Config) -> Result<Self, ConfigError> {
        let bad = |e: &dyn std::fmt::Display| ConfigError {
            field: "orders",
            why: format!("does not make a saga: {e}"),
        };
        let order = steps::order_saga(&config).map_err(|e| bad(&e))?;
        let refund = steps::refund_saga(&config).map_err(|e| bad(&e))?;
        let sagas = Sagas::new(Orders::SOURCE)
            .with(order)
            .and_then(|sagas| sagas.with(refund))
            .map_err(|e| bad(&e))?;
        Ok(Self { config, sagas: Arc::new(sagas) })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn sagas(&self) -> &Arc<Sagas> {
        &self.sagas
    }

    /// Saves a new order, publishes it and starts its saga.
    pub(super) async fn place(
        &self,
        session: &mut Session<'_>,
        order: Order,
    ) -> Result<Version, HandlerError> {
        let id = order.order_id;
        let mut loaded = session.load::<Order>(&id.to_string()).await?;
        let created = OrderCreated {
            order_id: id,
            user_id: order.user_id,
            lines: order.lines.clone(),
            total: order.total,
            quote_id: order.quote_id,
            payment_token: order.payment_token.clone(),
            policy: order.policy.clone(),
            placed_at: order.placed_at,
            request: Request::new(order_saga(id), steps::RESERVE, Op::Action).to_string(),
        };
        let subject = subject(&order);
        let published = loaded.version.next().get();
        let version = session.save(&mut loaded, Order { published, ..order }, "place").await?;
        emit(session, (topics::ORDERS, id), &loaded, &created).await?;
        self.sagas.start(session, steps::ORDER, &order_saga(id), &subject).await?;
        Ok(version)
    }

    /// Fires a trigger of a caller and returns the order afterwards; `note` is its free text.
    pub(super) async fn trigger(
        &self,
        session: &mut Session<'_>,
        loaded: Loaded<Order>,
        trigger: Trigger,
        note: &str,
    ) -> Result<Order, HandlerError> {
        let mut turn = Turn::new(self, session, loaded, note)?;
        turn.run([Job::Fire(trigger)].into()).await?;
        Ok(turn.order)
    }

    /// Asks again for every step of the order's sagas that waits for an operator; tells how many.
    pub(super) async fn retry_parked(
        &self,
        session: &mut Session<'_>,
        order: OrderId,
        (by, reason): (&Actor, &str),
    ) -> Result<usize, HandlerError> {
        session.lock(&touches(order)).await?;
        let mut retried = 0usize;
        for which in [Which::Order, Which::Refund] {
            let mut saga = match self.sagas.load(session, &which.id(order)).await {
                Ok(saga) => saga,
                Err(SagaError::NotFound(_)) => continue,
                Err(e) => return Err(e.into()),
            };
            for step in parked(saga.definition(), saga.state()) {
                let verb = Verb::Retry { step };
                let input = Input::Operator { by: by.clone(), reason: reason.into(), verb };
                let progress = saga.input(session, input).await?;
                let loaded = session.load::<Order>(&order.to_string()).await?;
                Turn::new(self, session, loaded, "")?.run(jobs(which, progress).into()).await?;
                retried = retried.saturating_add(1);
            }
        }
        Ok(retried)
    }

    /// Applies what Inventory or Payments says.
    pub(super) async fn reply(
        &self,
        session: &mut Session<'_>,
        reply: &Reply,
    ) -> Result<(), HandlerError> {
        let loaded = session.load::<Order>(&reply.order_id.to_string()).await?;
        let mut turn = Turn::new(self, session, loaded, "")?;
        let todo = match Answer::of(reply)? {
            Answer::Nothing => return Ok(()),
            Answer::Trigger(trigger) => vec![Job::Fire(trigger)],
            Answer::Input(which, input) => {
                let id = which.id(reply.order_id);
                let mut todo = jobs(which, self.sagas.input(turn.session, &id, input).await?);
                if reply.is_refused_void() {
                    // Before the saga's end makes the order rejected: it has to be refunded.
                    todo.insert(0, Job::Fire(Trigger::PaymentSucceeded));
                }
                todo
            }
        };
        turn.run(todo.into()).await
    }
}

#[async_trait]
impl Hooks for Flow {
    fn touches(&self, id: &SagaId) -> Vec<AggregateId> {
        parse(id).map_or_else(Vec::new, |(order, _)| touches(order))
    }

    async fn apply(
        &self,
        session: &mut Session<'_>,
        id: &SagaId,
        progress: &Progress,
    ) -> Result<(), HandlerError> {
        let Some((order, saga)) = parse(id) else {
            return Err(HandlerError::Refused(format!("{id} is no saga of an order")));
        };
        let loaded = session.load::<Order>(&order.to_string()).await?;
        let mut turn = Turn::new(self, session, loaded, "")?;
        turn.run(jobs(saga, progress.clone()).into()).await
    }
}

/// Which of an order's sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Order,
    Refund,
}

impl Which {
    fn id(self, order: OrderId) -> SagaId {
        match self {
            Self::Order => order_saga(order),
            Self::Refund => refund_saga(order),
        }
    }
}

fn parse(id: &SagaId) -> Option<(OrderId, Which)> {
    match id.as_str().strip_suffix(REFUND_SUFFIX) {
        Some(order) => Some((order.parse().ok()?, Which::Refund)),
        None => Some((id.as_str().parse().ok()?, Which::Order)),
    }
}

/// Names the steps that wait for an operator.
fn parked(definition: &Definition, state: &State) -> Vec<Arc<str>> {
    let waits = |stage: &Stage| matches!(stage, Stage::Active(_, Work::Parked(_)));
    let steps = definition.steps().iter().zip(state.steps());
    steps.filter(|(_, step)| waits(&step.stage)).map(|(spec, _)| Arc::clone(&spec.name)).collect()
}

fn subject(order: &Order) -> Subject {
    Subject {
        order_id: order.order_id,
        total: order.total,
        payment_token: order.payment_token.clone(),
    }
}

/// What a reply is.
#[derive(Debug)]
enum Answer {
    /// The outcome of a step that one of the sagas asked for.
    Input(Which, Input),
    /// News that nobody asked for.
    Trigger(Trigger),
    /// Nothing to Orders.
    Nothing,
}

impl Answer {
    fn of(reply: &Reply) -> Result<Self, HandlerError> {
        if reply.request.is_empty() {
            return Ok(Self::unasked(&reply.report));
        }
        let refuse = |why: &str| HandlerError::Refused(format!("{}: {why}", reply.request));
        let request: Request = reply.request.parse().map_err(|_| refuse("is no request"))?;
        let Some((order, which)) = parse(&request.saga) else {
            return Err(refuse("is no request of an order"));
        };
        if order != reply.order_id {
            return Err(refuse("is a request of another order"));
        }
        let Some(result) = result(&request, &reply.report) else {
            return Err(refuse("is not answered by this event"));
        };
        let result = result.map(|()| serde_json::Value::Null);
        let input = Input::reply(&request, result.map_err(|why| (Class::Rejected, why.into())));
        Ok(Self::Input(which, input))
    }

    /// What nobody asked for: the hold ended, or the provider reports a capture by itself.
    fn unasked(report: &Report) -> Self {
        match report {
            Report::Returned(CompensationCause::Expired | CompensationCause::Manual) => {
                Self::Trigger(Trigger::ReservationExpired)
            }
            Report::Captured => {
                let done = Input::completed(steps::CAPTURE, serde_json::Value::Null);
                Self::Input(Which::Order, done)
            }
            _ => Self::Nothing,
        }
    }
}

/// Returns what a report says of the step whose request it answers: success, or a final refusal;
/// none when it cannot be an answer to it.
fn result(request: &Request, report: &Report) -> Option<Result<(), String>> {
    Some(match (request.step.as_ref(), request.op, report) {
        (steps::RESERVE, Op::Action, Report::Reserved)
        | (steps::RESERVE, Op::Compensation, Report::Returned(_))
        | (steps::AUTHORIZE, Op::Action, Report::Authorized)
        // Captured money cannot be voided: the refund that the capture triggers undoes it.
        | (steps::AUTHORIZE, Op::Compensation, Report::Voided | Report::Captured)
        | (steps::COMMIT, Op::Action, Report::Committed)
        | (steps::CAPTURE, Op::Action, Report::Captured)
        | (steps::RETURN_MONEY, Op::Action, Report::Refunded)
        | (steps::RESTOCK, Op::Action, Report::Returned(_)) => Ok(()),
        (steps::RESERVE | steps::COMMIT, Op::Action, Report::Returned(cause)) => {
            Err(format!("no stock: {cause:?}"))
        }
        (steps::AUTHORIZE | steps::CAPTURE, Op::Action, Report::Declined(why))
        | (steps::RETURN_MONEY, Op::Action, Report::RefundRefused(why)) => Err(why.clone()),
        _ => return None,
    })
}

/// Returns the trigger of the order that a step's outcome is: success, or a refusal.
fn trigger_of(step: &str, succeeded: bool) -> Option<Trigger> {
    Some(match (step, succeeded) {
        (steps::RESERVE, true) => Trigger::StockReserved,
        (steps::RESERVE, false) => Trigger::Shortage,
        (steps::AUTHORIZE, true) => Trigger::PaymentAuthorized,
        (steps::AUTHORIZE | steps::CAPTURE, false) => Trigger::PaymentFailed,
        (steps::COMMIT, true) => Trigger::ReservationCommitted,
        (steps::COMMIT, false) => Trigger::ReservationExpired,
        (steps::CAPTURE, true) => Trigger::PaymentSucceeded,
        _ => return None,
    })
}

/// One thing left to do in a turn.
#[derive(Debug)]
enum Job {
    /// A trigger of the order.
    Fire(Trigger),
    /// Something that happened to one of its sagas.
    Follow(Which, Transition),
}

/// One order being brought on.
struct Turn<'t, 'u> {
    flow: &'t Flow,
    session: &'t mut Session<'u>,
    loaded: Loaded<Order>,
    order: Order,
    note: &'t str,
}

impl<'t, 'u> Turn<'t, 'u> {
    fn new(
        flow: &'t Flow,
        session: &'t mut Session<'u>,
        loaded: Loaded<Order>,
        note: &'t str,
    ) -> Result<Self, HandlerError> {
        let Some(order) = loaded.state.clone() else {
            return Err(HandlerError::Refused(format!("there is no {}", loaded.id)));
        };
        Ok(Self { flow, session, loaded, order, note })
    }

    async fn run(&mut self, mut jobs: VecDeque<Job>) -> Result<(), HandlerError> {
        while let Some(job) = jobs.pop_front() {
            // What a job brings about comes before what followed it.
            let brought = match job {
                Job::Fire(trigger) => self.fire(trigger).await?,
                Job::Follow(which, transition) => self.follow(which, &transition).await?,
            };
            brought.into_iter().rev().for_each(|job| jobs.push_front(job));
        }
        Ok(())
    }

    async fn fire(&mut self, trigger: Trigger) -> Result<Vec<Job>, HandlerError> {
        let refused = |e: super::IllegalTransition| HandlerError::Refused(e.to_string());
        let (mut next, emit, duty) = match self.order.decide(trigger).map_err(refused)? {
            Decision::Ignore => return Ok(Vec::new()),
            Decision::Move { next, emit, duty } => (*next, emit, duty),
        };
        if trigger == Trigger::Shipped {
            next.tracking = Some(self.note.to_owned());
        }
        if emit.is_some() {
            next.published = self.loaded.version.next().get();
        }
        self.order = next.clone();
        self.session.save(&mut self.loaded, next, trigger.action()).await?;
        if let Some(emit) = emit {
            self.publish(emit).await?;
        }
        match duty {
            // A saga that failed by itself goes back already.
            Some(Duty::Compensate)
                if matches!(trigger, Trigger::Cancel | Trigger::ReservationExpired) =>
            {
                self.compensate(trigger).await
            }
            Some(Duty::Refund) => self.refund().await,
            Some(Duty::Compensate) | None => Ok(Vec::new()),
        }
    }

    async fn compensate(&mut self, trigger: Trigger) -> Result<Vec<Job>, HandlerError> {
        let id = order_saga(self.order.order_id);
        let input = Input::Cancel { reason: trigger.action().into() };
        let progress = self.flow.sagas.input(self.session, &id, input).await?;
        if progress.outcome == Outcome::TooLate {
            let why = "its saga has sent the capture, and the order does not know".to_owned();
            return Err(TxError::Corrupt { what: self.loaded.id.to_string(), why }.into());
        }
        Ok(jobs(Which::Order, progress))
    }

    async fn refund(&mut self) -> Result<Vec<Job>, HandlerError> {
        let (id, subject) = (refund_saga(self.order.order_id), subject(&self.order));
        let progress = self.flow.sagas.start(self.session, steps::REFUND, &id, &subject).await?;
        Ok(jobs(Which::Refund, progress))
    }

    async fn follow(
        &mut self,
        which: Which,
        transition: &Transition,
    ) -> Result<Vec<Job>, HandlerError> {
        let fire = |trigger: Option<_>| Ok(trigger.into_iter().map(Job::Fire).collect());
        match (which, transition) {
            (Which::Order, Transition::Completed { step, .. }) => fire(trigger_of(step, true)),
            (Which::Order, Transition::Rejected { step, .. }) => fire(trigger_of(step, false)),
            (Which::Order, Transition::LateSuccess { step, .. }) => match step.as_ref() {
                steps::CAPTURE => fire(Some(Trigger::PaymentSucceeded)),
                steps::RESERVE | steps::COMMIT => self.give_stock_back().await,
                _ => Ok(Vec::new()),
            },
            // A refusal or a cancellation is a trigger of its own.
            (
                Which::Order,
                Transition::Unwinding {
                    cause: Cause::Deadline | Cause::Unknown(_) | Cause::Operator,
                },
            ) => fire(Some(Trigger::Deadline)),
            (Which::Order, Transition::Sent { step, op: Op::Compensation, .. })
                if step.as_ref() == steps::RESERVE =>
            {
                self.give_stock_back().await
            }
            (Which::Order, Transition::Ended(End::Compensated)) => fire(Some(Trigger::Compensated)),
            (Which::Refund, Transition::Ended(End::Completed)) => fire(Some(Trigger::RefundDone)),
            _ => Ok(Vec::new()),
        }
    }

    /// Sends the compensation of the reservation: the order knows why, the saga's step does not.
    async fn give_stock_back(&mut self) -> Result<Vec<Job>, HandlerError> {
        let order_id = self.order.order_id;
        let request = Request::new(order_saga(order_id), steps::RESERVE, Op::Compensation);
        let command = CompensateInventory {
            order_id,
            cause: self.order.compensation_cause(),
            request: request.to_string(),
        };
        let to = (topics::INVENTORY_COMMANDS, order_id);
        emit(self.session, to, &self.loaded, &command).await?;
        Ok(Vec::new())
    }

    async fn publish(&mut self, event: Emit) -> Result<(), HandlerError> {
        let (order_id, user_id) = (self.order.order_id, self.order.user_id);
        let reason = self.order.end_reason.unwrap_or(EndReason::Cancelled);
        let amount = self.order.total;
        let (loaded, to) = (&self.loaded, (topics::ORDERS, order_id));
        match event {
            Emit::Confirmed => {
                let event = OrderConfirmed { order_id, user_id, total: amount };
                emit(self.session, to, loaded, &event).await
            }
            Emit::CancelRequested => {
                let reason = self.note.to_owned();
                let event = OrderCancelRequested { order_id, user_id, reason };
                emit(self.session, to, loaded, &event).await
            }
            Emit::Cancelled => {
                let event = OrderCancelled { order_id, user_id, reason };
                emit(self.session, to, loaded, &event).await
            }
            Emit::Rejected => {
                let event = OrderRejected { order_id, user_id, reason };
                emit(self.session, to, loaded, &event).await
            }
            Emit::Refunded => {
                let event = OrderRefunded { order_id, user_id, amount };
                emit(self.session, to, loaded, &event).await
            }
            Emit::Fulfilled => {
                let tracking = self.order.tracking.clone().unwrap_or_default();
                let event = OrderFulfilled { order_id, user_id, tracking };
                emit(self.session, to, loaded, &event).await
            }
            Emit::Completed => {
                let event = OrderCompleted { order_id, user_id };
                emit(self.session, to, loaded, &event).await
            }
        }
    }
}

fn jobs(which: Which, progress: Progress) -> Vec<Job> {
    progress.transitions.into_iter().map(|t| Job::Follow(which, t)).collect()
}

async fn emit<M: Message>(
    session: &mut Session<'_>,
    (topic, order): (&str, OrderId),
    loaded: &Loaded<Order>,
    message: &M,
) -> Result<(), HandlerError> {
    let draft = Draft {
        topic,
        key: PartitionKey::new(order.to_string()),
        subject: &loaded.id,
        version: loaded.version,
        message,
    };
    session.emit(draft).await?;
    Ok(())
}
