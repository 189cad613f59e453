//! Two sagas: an order of commands, and a trip of local calls.

use std::time::Duration;

use amarra_core::CodecError;
use amarra_core::codec::Message;
use amarra_saga::{Action, Compensate, Op, Policy, Saga, Step, StepContext};
use serde::{Deserialize, Serialize};

/// The order saga's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub sku: String,
    pub total: i64,
}

/// What every command of these tests says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub request: String,
    pub what: String,
}

macro_rules! commands {
    ($($name:ident)+) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Ask);
        impl Message for $name {
            const KIND: &'static str = stringify!($name);
        }
    )+};
}

commands! { ReserveStock ReleaseStock CapturePayment NotifyUser }

fn ask(ctx: &StepContext, what: &str) -> Ask {
    Ask { request: ctx.request.to_string(), what: what.to_owned() }
}

#[derive(Debug)]
pub struct Reserve;

impl Step for Reserve {
    type In = Order;
    type Out = u32;

    fn action(&self, ctx: &StepContext, order: &Order) -> Result<Action<u32>, CodecError> {
        Action::command("inventory", &order.sku, &ReserveStock(ask(ctx, &order.sku)))
    }
}

impl Compensate for Reserve {
    fn compensation(
        &self,
        ctx: &StepContext,
        order: &Order,
        reservation: Option<&u32>,
    ) -> Result<Action<()>, CodecError> {
        let what = reservation.map_or("whatever".to_owned(), u32::to_string);
        Action::command("inventory", &order.sku, &ReleaseStock(ask(ctx, &what)))
    }
}

#[derive(Debug)]
pub struct Capture;

impl Step for Capture {
    type In = (Order, u32);
    type Out = String;

    fn action(
        &self,
        ctx: &StepContext,
        input: &(Order, u32),
    ) -> Result<Action<String>, CodecError> {
        let (order, reservation) = input;
        let what = format!("{} for {reservation}", order.total);
        Action::command("payments", &order.sku, &CapturePayment(ask(ctx, &what)))
    }
}

#[derive(Debug)]
pub struct Confirm;

impl Step for Confirm {
    type In = String;
    type Out = ();

    fn action(&self, _: &StepContext, _: &String) -> Result<Action<()>, CodecError> {
        Ok(Action::Done(()))
    }
}

#[derive(Debug)]
pub struct Notify;

impl Step for Notify {
    type In = ();
    type Out = ();

    fn action(&self, ctx: &StepContext, (): &()) -> Result<Action<()>, CodecError> {
        Action::command("notifications", "u-1", &NotifyUser(ask(ctx, "confirmed")))
    }
}

/// Reserve, capture (the pivot), then confirm at once and notify.
pub fn order_saga() -> Saga {
    let mut b = Saga::builder::<Order>("order", 1);
    b.deadline(Duration::from_secs(60));
    let order = b.input();
    let reserved = b.compensatable("reserve", &order, Reserve);
    let (mut b, captured) = b.pivot("capture", (&order, &reserved), Capture);
    let confirmed = b.retriable("confirm", &captured, Confirm);
    let notified = b.retriable("notify", (), Notify);
    b.order(&confirmed, &notified);
    b.build().unwrap()
}

/// A step whose action and compensation are local calls.
#[derive(Debug)]
pub struct Claimed;

impl Step for Claimed {
    type In = ();
    type Out = u32;

    fn action(&self, _: &StepContext, (): &()) -> Result<Action<u32>, CodecError> {
        Ok(Action::Local)
    }

    fn policy(&self) -> Policy {
        Policy {
            timeout: Duration::from_secs(5),
            compensation_timeout: Duration::from_secs(7),
            compensation_attempts_max: 2,
            ..Policy::default()
        }
    }
}

impl Compensate for Claimed {
    fn compensation(
        &self,
        ctx: &StepContext,
        (): &(),
        _: Option<&u32>,
    ) -> Result<Action<()>, CodecError> {
        assert_eq!(ctx.request.op, Op::Compensation);
        Ok(Action::Local)
    }
}

/// A local call that may take longer than a claim's lease.
#[derive(Debug)]
struct Slow;

impl Step for Slow {
    type In = ();
    type Out = u32;

    fn action(&self, _: &StepContext, (): &()) -> Result<Action<u32>, CodecError> {
        Ok(Action::Local)
    }

    fn policy(&self) -> Policy {
        Policy { timeout: Duration::from_secs(60), ..Policy::default() }
    }
}

/// One slow local call, `crawl`.
pub fn slow_saga() -> Saga {
    let mut b = Saga::forward_only::<Order>("slow", 1);
    b.retriable("crawl", (), Slow);
    b.build().unwrap()
}

/// `a` and `b` side by side, and `c` after `a`.
pub fn fork_saga() -> Saga {
    let mut b = Saga::builder::<Order>("fork", 1);
    let first = b.compensatable("a", (), Claimed);
    b.compensatable("b", (), Claimed);
    let second = b.compensatable("c", (), Claimed);
    b.order(&first, &second);
    b.build().unwrap()
}

/// Two local calls one after the other, `hotel` and `flight`.
pub fn trip_saga() -> Saga {
    let mut b = Saga::builder::<Order>("trip", 1);
    let hotel = b.compensatable("hotel", (), Claimed);
    let flight = b.compensatable("flight", (), Claimed);
    b.order(&hotel, &flight);
    b.build().unwrap()
}
