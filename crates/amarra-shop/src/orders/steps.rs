//! The two sagas of an order as definitions: the order itself, and its refund.

use std::time::Duration;

use amarra_core::CodecError;
use amarra_saga::{Action, Backoff, Compensate, DefinitionError, Policy, Saga, Step, StepContext};
use serde::{Deserialize, Serialize};

use super::config::Config;
use crate::contract::ids::OrderId;
use crate::contract::inventory::{CommitReservation, CompensateInventory, CompensationCause};
use crate::contract::money::Money;
use crate::contract::payments::{AuthorizePayment, CapturePayment, RefundPayment, VoidPayment};
use crate::contract::topics;

/// The name of the saga that carries an order out.
pub(super) const ORDER: &str = "order";
/// The name of the saga that gives everything back.
pub(super) const REFUND: &str = "refund";

/// Stock is held: `OrderCreated` asks for it.
pub(super) const RESERVE: &str = "reserve";
/// Money is set aside.
pub(super) const AUTHORIZE: &str = "authorize";
/// Stock leaves the shelf.
pub(super) const COMMIT: &str = "commit";
/// Money is taken: the pivot.
pub(super) const CAPTURE: &str = "capture";
/// The order is confirmed.
pub(super) const CONFIRM: &str = "confirm";
/// Money is given back.
pub(super) const RETURN_MONEY: &str = "refund";
/// Stock is given back.
pub(super) const RESTOCK: &str = "restock";

/// What both sagas are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) order_id: OrderId,
    pub(super) total: Money,
    pub(super) payment_token: String,
}

/// Defines the saga that carries an order out: reserve, authorize, commit, capture, confirm.
///
/// Stock is committed before money is captured, so that whoever has paid has the goods. Giving the
/// stock back is one command whether it was held or taken: the commit has nothing of its own to
/// undo.
pub(super) fn order_saga(config: &Config) -> Result<Saga, DefinitionError> {
    let mut b = Saga::builder::<Subject>(ORDER, 1);
    b.deadline(config.deadline);
    let order = b.input();
    let reserve = b.compensatable(RESERVE, &order, Reserve(policy(config, config.reserve_timeout)));
    let authorize =
        b.compensatable(AUTHORIZE, &order, Authorize(policy(config, config.authorize_timeout)));
    let commit = b.compensatable(COMMIT, &order, Commit(policy(config, config.commit_timeout)));
    b.order(&reserve, &authorize).order(&authorize, &commit);
    let (mut b, capture) =
        b.pivot(CAPTURE, &order, Capture(policy(config, config.capture_timeout)));
    b.order(&commit, &capture);
    let confirm = b.retriable(CONFIRM, &order, Confirm);
    b.order(&capture, &confirm);
    b.build()
}

/// Defines the saga that gives everything back: money and stock side by side, until both are.
pub(super) fn refund_saga(config: &Config) -> Result<Saga, DefinitionError> {
    let mut b = Saga::forward_only::<Subject>(REFUND, 1);
    let order = b.input();
    b.retriable(RETURN_MONEY, &order, ReturnMoney(policy(config, config.undo_timeout)));
    b.retriable(RESTOCK, &order, Restock(policy(config, config.undo_timeout)));
    b.build()
}

fn policy(config: &Config, timeout: Duration) -> Policy {
    Policy {
        timeout,
        // A command through the outbox is not lost: a second one would queue behind the first.
        attempts_max: 1,
        compensation_timeout: config.undo_timeout,
        compensation_attempts_max: config.undo_attempts_max,
        backoff: Backoff { first: config.backoff_first, max: config.backoff_max },
    }
}

macro_rules! steps {
    ($($name:ident: |$ctx:ident, $order:ident| $action:expr;)+) => {$(
        #[derive(Debug)]
        struct $name(Policy);

        impl Step for $name {
            type In = Subject;
            type Out = ();

            fn action(
                &self,
                $ctx: &StepContext,
                $order: &Subject,
            ) -> Result<Action<()>, CodecError> {
                $action
            }

            fn policy(&self) -> Policy {
                self.0
            }
        }
    )+};
}

steps! {
    Reserve: |_ctx, _order| Ok(Action::Sent);
    Authorize: |ctx, order| payments(order, &AuthorizePayment {
        order_id: order.order_id,
        amount: order.total,
        payment_token: order.payment_token.clone(),
        request: ctx.request.to_string(),
    });
    Commit: |ctx, order| inventory(order, &CommitReservation {
        order_id: order.order_id,
        request: ctx.request.to_string(),
    });
    Capture: |ctx, order| payments(order, &CapturePayment {
        order_id: order.order_id,
        amount: order.total,
        request: ctx.request.to_string(),
    });
    ReturnMoney: |ctx, order| payments(order, &RefundPayment {
        order_id: order.order_id,
        amount: order.total,
        request: ctx.request.to_string(),
    });
    Restock: |ctx, order| inventory(order, &CompensateInventory {
        order_id: order.order_id,
        cause: CompensationCause::Restock,
        request: ctx.request.to_string(),
    });
}

/// The saga's last word: the order's own transition has published `OrderConfirmed`.
#[derive(Debug)]
struct Confirm;

impl Step for Confirm {
    type In = Subject;
    type Out = ();

    fn action(&self, _: &StepContext, _: &Subject) -> Result<Action<()>, CodecError> {
        Ok(Action::Done(()))
    }
}

impl Compensate for Reserve {
    fn compensation(
        &self,
        _: &StepContext,
        _: &Subject,
        _: Option<&()>,
    ) -> Result<Action<()>, CodecError> {
        // The order sends it as soon as the saga asks: its cause is the order's to tell.
        Ok(Action::Sent)
    }
}

impl Compensate for Authorize {
    fn compensation(
        &self,
        ctx: &StepContext,
        order: &Subject,
        _: Option<&()>,
    ) -> Result<Action<()>, CodecError> {
        let (order_id, request) = (order.order_id, ctx.request.to_string());
        payments(order, &VoidPayment { order_id, request })
    }
}

impl Compensate for Commit {
    fn compensation(
        &self,
        _: &StepContext,
        _: &Subject,
        _: Option<&()>,
    ) -> Result<Action<()>, CodecError> {
        Ok(Action::Done(()))
    }
}

fn inventory<M: amarra_core::codec::Message>(
    order: &Subject,
    message: &M,
) -> Result<Action<()>, CodecError> {
    Action::command(topics::INVENTORY_COMMANDS, &order.order_id.to_string(), message)
}

fn payments<M: amarra_core::codec::Message>(
    order: &Subject,
    message: &M,
) -> Result<Action<()>, CodecError> {
    Action::command(topics::PAYMENTS_COMMANDS, &order.order_id.to_string(), message)
}
