//! Random orders, commands, corrections and waits against a naive model of the shelf.

use std::collections::BTreeMap;
use std::time::Duration;

use amarra_shop::contract::OrderId;
use amarra_shop::contract::inventory::CompensationCause;
use proptest::prelude::*;

use super::{Shelf, TTL};

const SKUS: [&str; 3] = ["A", "B", "C"];

#[derive(Debug, Clone)]
enum Step {
    Order(usize, Vec<(usize, u32)>),
    Commit(usize),
    Compensate(usize),
    Adjust(usize, i64),
    Wait(u64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let lines = prop::collection::vec((0_usize..3, 1_u32..4), 1..4);
    prop_oneof![
        4 => (0_usize..5, lines).prop_map(|(order, lines)| Step::Order(order, lines)),
        3 => (0_usize..5).prop_map(Step::Commit),
        3 => (0_usize..5).prop_map(Step::Compensate),
        2 => (0_usize..3, -4_i64..5).prop_map(|(sku, delta)| Step::Adjust(sku, delta)),
        2 => (0_u64..80).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

/// What is so of one order, by the naive model: its lines, and until when they are held.
#[derive(Debug, Clone)]
enum Order {
    Held(BTreeMap<usize, u32>, u64),
    Sold(BTreeMap<usize, u32>),
    Over,
}

#[derive(Debug, Default)]
struct Model {
    on_hand: [i64; 3],
    orders: BTreeMap<usize, Order>,
    now: u64,
}

impl Model {
    fn held(&self, sku: usize) -> i64 {
        let held = self.orders.values().map(|order| match order {
            Order::Held(lines, _) => i64::from(lines.get(&sku).copied().unwrap_or(0)),
            _ => 0,
        });
        held.sum()
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Order(n, lines) if !self.orders.contains_key(n) => {
                let mut wanted = BTreeMap::<usize, u32>::new();
                for (sku, qty) in lines {
                    *wanted.entry(*sku).or_default() += qty;
                }
                let fits = |(&sku, &qty): (&usize, &u32)| {
                    i64::from(qty) <= self.on_hand[sku] - self.held(sku)
                };
                let held = Order::Held(wanted.clone(), self.now + TTL.as_secs());
                let order = if wanted.iter().all(fits) { held } else { Order::Over };
                self.orders.insert(*n, order);
            }
            Step::Order(..) => {}
            Step::Commit(n) => {
                let next = match self.orders.get(n) {
                    Some(Order::Held(lines, until)) if self.now < *until => {
                        lines.iter().for_each(|(&s, &q)| self.on_hand[s] -= i64::from(q));
                        Order::Sold(lines.clone())
                    }
                    Some(Order::Sold(lines)) => Order::Sold(lines.clone()),
                    _ => Order::Over,
                };
                self.orders.insert(*n, next);
            }
            Step::Compensate(n) => {
                if let Some(Order::Sold(lines)) = self.orders.insert(*n, Order::Over) {
                    lines.iter().for_each(|(&s, &q)| self.on_hand[s] += i64::from(q));
                }
            }
            Step::Adjust(sku, delta) => {
                let next = self.on_hand[*sku] + delta;
                if next >= self.held(*sku) {
                    self.on_hand[*sku] = next;
                }
            }
            Step::Wait(secs) => self.now += secs,
            Step::Expire => {
                for order in self.orders.values_mut() {
                    if matches!(order, Order::Held(_, until) if self.now >= *until) {
                        *order = Order::Over;
                    }
                }
            }
        }
    }
}

fn play(shelf: &Shelf, orders: &[OrderId], step: &Step) {
    match step {
        Step::Order(n, lines) => {
            let lines: Vec<_> = lines.iter().map(|&(sku, qty)| (SKUS[sku], qty)).collect();
            shelf.hear(&shelf.order(orders[*n], &lines)).unwrap();
        }
        Step::Commit(n) => shelf.commit(orders[*n], "commit"),
        Step::Compensate(n) => {
            shelf.compensate(orders[*n], CompensationCause::OrderCancelled, "undo");
        }
        Step::Adjust(sku, delta) => drop(shelf.adjust(SKUS[*sku], *delta)),
        Step::Wait(secs) => shelf.single.clock.advance(Duration::from_secs(*secs)),
        Step::Expire => shelf.expire(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_shelf_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 0..40)) {
        let shelf = Shelf::new(&[("A", 6), ("B", 6), ("C", 6)]);
        let orders: Vec<_> = (0..5).map(|_| shelf.single.new_order()).collect();
        let mut model = Model { on_hand: [6; 3], ..Model::default() };
        for step in &steps {
            play(&shelf, &orders, step);
            model.play(step);
            for (n, sku) in SKUS.iter().enumerate() {
                let (on_hand, reserved) = shelf.levels(sku);
                let expect = (model.on_hand[n], model.held(n));
                prop_assert_eq!((i64::from(on_hand), i64::from(reserved)), expect, "{:?}", step);
            }
        }
        shelf.check();
    }
}
