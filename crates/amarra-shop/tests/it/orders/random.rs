//! Random neighbours: whatever they answer, lose, repeat and delay, money and stock come out right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amarra_core::Codec;
use amarra_messaging::message::Outgoing;
use amarra_shop::contract::ids::OrderId;
use amarra_shop::contract::inventory::{CommitReservation, CompensateInventory, CompensationCause};
use amarra_shop::contract::orders::{OrderCreated, OrderStatus as S};
use amarra_shop::contract::payments::{
    AuthorizePayment, CapturePayment, RefundPayment, VoidPayment,
};
use proptest::prelude::*;

use super::bench::Bench;
use super::play;
use super::saga::cancel;

/// What Inventory holds of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stock {
    None,
    Held,
    Taken,
    /// Given back, or never to be given.
    Closed,
}

/// What Payments has of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Money {
    None,
    Authorized,
    Captured,
    Voided,
    Declined,
    Refunded,
}

/// An answer on its way to Orders.
type Answer = Box<dyn Fn(&Bench, OrderId)>;

/// Inventory and Payments as they have to be, with the fortune a script gives them.
struct Neighbours {
    stock: Stock,
    money: Money,
    /// Answers given before, by request: asked again, they say the same again.
    given: BTreeMap<String, usize>,
    answers: Vec<std::rc::Rc<Answer>>,
}

/// How a command fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fortune {
    Fine,
    Refused,
    /// It is done, and the answer does not arrive before the faults heal.
    Silent,
    /// It is done, and the answer arrives twice.
    Twice,
}

fn fortune() -> impl Strategy<Value = Fortune> {
    prop_oneof![
        5 => Just(Fortune::Fine),
        1 => Just(Fortune::Refused),
        1 => Just(Fortune::Silent),
        1 => Just(Fortune::Twice),
    ]
}

impl Neighbours {
    fn new() -> Self {
        Self { stock: Stock::None, money: Money::None, given: BTreeMap::new(), answers: Vec::new() }
    }

    /// Does what a message asks for, once per request, and returns which answer belongs to it.
    fn answer(&mut self, message: &Outgoing, fortune: Fortune) -> Option<usize> {
        let (request, answer) = self.act(message, fortune)?;
        if let Some(given) = self.given.get(&request) {
            return Some(*given);
        }
        self.answers.push(std::rc::Rc::new(answer));
        let index = self.answers.len() - 1;
        self.given.insert(request, index);
        Some(index)
    }

    fn act(&mut self, message: &Outgoing, fortune: Fortune) -> Option<(String, Answer)> {
        let codec = Codec::new();
        let envelope = &message.envelope;
        let refused = fortune == Fortune::Refused;
        let known = |request: &str| self.given.contains_key(request);
        Some(match envelope.kind.as_ref() {
            "OrderCreated" => {
                let r = codec.decode::<OrderCreated>(envelope).unwrap().request;
                if known(&r) {
                    return Some((r, Box::new(|_, _| {})));
                }
                if self.stock == Stock::None && !refused {
                    self.stock = Stock::Held;
                    (r.clone(), Box::new(move |b, id| b.say(id, &play::reserved(id, &r)).unwrap()))
                } else {
                    self.stock = Stock::Closed;
                    let cause = CompensationCause::Shortage;
                    (r.clone(), returned(cause, r))
                }
            }
            "CommitReservation" => {
                let r = codec.decode::<CommitReservation>(envelope).unwrap().request;
                if known(&r) {
                    return Some((r, Box::new(|_, _| {})));
                }
                if self.stock == Stock::Held && !refused {
                    self.stock = Stock::Taken;
                    (r.clone(), Box::new(move |b, id| b.say(id, &play::committed(id, &r)).unwrap()))
                } else {
                    self.stock = Stock::Closed;
                    (r.clone(), returned(CompensationCause::Expired, r))
                }
            }
            "CompensateInventory" => {
                let command: CompensateInventory = codec.decode(envelope).unwrap();
                self.stock = Stock::Closed;
                (command.request.clone(), returned(command.cause, command.request))
            }
            _ => self.pay(message, refused)?,
        })
    }

    fn pay(&mut self, message: &Outgoing, refused: bool) -> Option<(String, Answer)> {
        let codec = Codec::new();
        let envelope = &message.envelope;
        let decline = |r: String| -> (String, Answer) {
            (r.clone(), Box::new(move |b, id| b.say(id, &play::declined(id, &r)).unwrap()))
        };
        Some(match envelope.kind.as_ref() {
            "AuthorizePayment" => {
                let r = codec.decode::<AuthorizePayment>(envelope).unwrap().request;
                if self.money == Money::None && !refused {
                    self.money = Money::Authorized;
                } else if self.money == Money::None {
                    self.money = Money::Declined;
                }
                if self.money == Money::Declined || self.money == Money::Voided {
                    return Some(decline(r));
                }
                (r.clone(), Box::new(move |b, id| b.say(id, &play::authorized(id, &r)).unwrap()))
            }
            "CapturePayment" => {
                let r = codec.decode::<CapturePayment>(envelope).unwrap().request;
                assert_eq!(self.stock, Stock::Taken, "captured before the stock was committed");
                if self.money == Money::Authorized {
                    self.money = if refused { Money::Declined } else { Money::Captured };
                }
                if self.money == Money::Declined {
                    return Some(decline(r));
                }
                (r.clone(), Box::new(move |b, id| b.say(id, &play::captured(id, &r)).unwrap()))
            }
            "VoidPayment" => {
                let r = codec.decode::<VoidPayment>(envelope).unwrap().request;
                assert_ne!(self.money, Money::Captured, "voided what was captured");
                if self.money != Money::Declined {
                    self.money = Money::Voided;
                }
                (r.clone(), Box::new(move |b, id| b.say(id, &play::voided(id, &r)).unwrap()))
            }
            "RefundPayment" => {
                let r = codec.decode::<RefundPayment>(envelope).unwrap().request;
                assert!(matches!(self.money, Money::Captured | Money::Refunded));
                self.money = Money::Refunded;
                (r.clone(), Box::new(move |b, id| b.say(id, &play::refunded(id, &r)).unwrap()))
            }
            _ => return None,
        })
    }
}

fn returned(cause: CompensationCause, r: String) -> Answer {
    Box::new(move |b, id| b.say(id, &play::returned(id, cause, &r)).unwrap())
}

/// Checks what must hold at every step, and says whether the order has come to rest.
fn check(bench: &Bench, id: OrderId, n: &Neighbours) -> bool {
    let status = bench.status(id);
    if n.money == Money::Captured {
        let safe = [S::Capturing, S::Confirmed, S::Refunding];
        assert!(safe.contains(&status), "captured, and the order is {status:?}");
        let kept = n.stock == Stock::Taken || status == S::Refunding;
        assert!(kept, "captured without stock while {status:?}");
    }
    status.is_terminal() || status == S::Confirmed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn orders_end_well(
        fortunes in proptest::collection::vec(fortune(), 12),
        cancel_after in proptest::option::of(0usize..10),
        order_of_delivery in proptest::collection::vec(0usize..4, 40),
    ) {
        let bench = Bench::new();
        let mut n = Neighbours::new();
        let id = bench.place_with("k");
        let mut on_the_way: Vec<usize> = Vec::new();
        let mut fortunes = fortunes.into_iter();
        let mut picks = order_of_delivery.into_iter();
        let mut published = BTreeSet::new();
        for round in 0..60 {
            if cancel_after == Some(round) && bench.status(id) != S::Rejected {
                cancel(&bench, id);
            }
            for message in bench.fresh() {
                let kind = message.envelope.kind.to_string();
                if matches!(kind.as_str(), "OrderConfirmed" | "OrderCancelled" | "OrderRefunded") {
                    prop_assert!(published.insert(kind.clone()), "{} twice", kind);
                }
                // Once the script is told, every fault has healed.
                let fortune = fortunes.next().unwrap_or(Fortune::Fine);
                let Some(answer) = n.answer(&message, fortune) else { continue };
                match fortune {
                    Fortune::Silent => {}
                    Fortune::Twice => on_the_way.extend([answer, answer]),
                    Fortune::Fine | Fortune::Refused => on_the_way.push(answer),
                }
            }
            let rests = check(&bench, id, &n);
            if on_the_way.is_empty() {
                if rests && cancel_after.is_none_or(|at| at < round) {
                    break;
                }
                bench.pass(Duration::from_secs(125));
                continue;
            }
            let pick = picks.next().unwrap_or(0) % on_the_way.len();
            let answer = std::rc::Rc::clone(&n.answers[on_the_way.remove(pick)]);
            (*answer)(&bench, id);
            check(&bench, id, &n);
        }
        let status = bench.status(id);
        match status {
            S::Confirmed => {
                prop_assert_eq!((n.money, n.stock), (Money::Captured, Stock::Taken));
            }
            S::Cancelled | S::Rejected => {
                let none = [Money::None, Money::Voided, Money::Declined];
                prop_assert!(none.contains(&n.money), "{:?} with {:?}", status, n.money);
                prop_assert!(matches!(n.stock, Stock::Closed | Stock::None));
            }
            S::Refunded => {
                prop_assert_eq!((n.money, n.stock), (Money::Refunded, Stock::Closed));
            }
            other => prop_assert!(false, "the order is left {:?} with {:?}", other, n.money),
        }
        prop_assert!(bench.db.inspect(|db| db.timers().count()) == 0, "a timer is left");
    }
}
