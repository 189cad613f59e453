//! Random commands, lost and late calls and shuffled webhooks: in the end both ledgers agree.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Authorize(usize, usize),
    Capture(usize),
    Void(usize),
    Refund(usize, i64),
    /// Makes the next call and hears its answer.
    Call,
    /// Makes the next call; the provider does it, the answer is lost.
    Lost,
    /// Sends the next call, which arrives at the provider at some later time, if ever.
    Delayed,
    /// The provider is down; surely nothing happens.
    Outage,
    /// A delayed request arrives.
    Arrive(usize),
    /// A webhook is delivered, and stays to be delivered again.
    Webhook(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..2, 0_usize..8).prop_map(|(r, t)| Step::Authorize(r, t)),
        2 => (0_usize..2).prop_map(Step::Capture),
        1 => (0_usize..2).prop_map(Step::Void),
        2 => (0_usize..3, 1_i64..100).prop_map(|(r, n)| Step::Refund(r, n)),
        6 => Just(Step::Call),
        2 => Just(Step::Lost),
        2 => Just(Step::Delayed),
        1 => Just(Step::Outage),
        2 => (0_usize..4).prop_map(Step::Arrive),
        3 => (0_usize..8).prop_map(Step::Webhook),
    ]
}

const TOKENS: [&str; 8] = [
    "tok_ok",
    "tok_ok",
    "tok_ok",
    "tok_decline",
    "tok_insufficient",
    "tok_nocapture",
    "tok_norefund",
    "tok_ok",
];

struct Run {
    world: World,
    delayed: Vec<Call>,
    sent: BTreeMap<String, usize>,
}

impl Run {
    fn play(&mut self, step: Step) {
        match step {
            Step::Authorize(r, token) => {
                let request = self.asked("a", r);
                self.world.authorize(&request, TOKENS[token]);
            }
            Step::Capture(r) => {
                let request = self.asked("c", r);
                self.world.capture(&request);
            }
            Step::Void(r) => {
                let request = self.asked("v", r);
                self.world.void(&request);
            }
            Step::Refund(r, minor) => {
                let request = self.asked("r", r);
                self.world.refund(&request, minor);
            }
            Step::Call => self.call(),
            Step::Lost | Step::Delayed => {
                let Some(call) = self.world.next() else { return };
                let Some(key) = call.key().map(str::to_owned) else { return };
                match step {
                    Step::Lost => drop(self.world.at_provider(&call)),
                    _ => self.delayed.push(call),
                }
                self.world.payment.doubt(&key);
            }
            Step::Outage => {}
            Step::Arrive(n) => {
                if n < self.delayed.len() {
                    let call = self.delayed.remove(n);
                    self.world.at_provider(&call);
                }
            }
            Step::Webhook(n) => {
                let webhooks = self.world.provider.pending_webhooks(99);
                if let Some(event) = webhooks.get(n) {
                    self.world.learn(&event.operation);
                }
            }
        }
    }

    fn asked(&mut self, kind: &str, n: usize) -> String {
        let request = format!("{kind}{n}");
        *self.sent.entry(request.clone()).or_default() += 1;
        request
    }

    fn call(&mut self) {
        if self.world.next().is_some() {
            self.world.step();
        }
    }

    /// Faults are over: what was delayed arrives, webhooks are delivered, the work is finished.
    fn drain(&mut self) {
        for call in std::mem::take(&mut self.delayed) {
            self.world.at_provider(&call);
        }
        for _ in 0..100 {
            for event in self.world.provider.pending_webhooks(99).iter().rev() {
                self.world.learn(&event.operation);
            }
            if self.world.next().is_none() {
                return;
            }
            self.call();
        }
        panic!("the payment never comes to rest: {:#?}", self.world.payment);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn both_ledgers_agree_in_the_end(steps in prop::collection::vec(step(), 0..40)) {
        let mut run = Run { world: World::new(), delayed: Vec::new(), sent: BTreeMap::new() };
        for step in steps {
            run.play(step);
            let truth = run.world.provider.truth(order_id(), Timestamp::EPOCH);
            prop_assert!(truth.captures <= 1, "captured twice");
            prop_assert!(truth.authorizations <= 1, "charged twice");
        }
        run.drain();
        let payment = &run.world.payment;
        let truth = run.world.provider.truth(order_id(), Timestamp::EPOCH);
        prop_assert!(!payment.is_open());
        prop_assert_eq!(payment.authorized(), truth.authorized);
        prop_assert_eq!(payment.captured(), truth.captured);
        prop_assert_eq!(payment.refunded(), truth.refunded);
        if payment.void.is_some() {
            prop_assert_eq!(truth.open, 0, "given up and still set aside");
        }
        let clearing: i64 = run.world.journal.iter()
            .map(|entry| entry.effect_on(crate::payments::Account::PspClearing)).sum();
        prop_assert_eq!(clearing, truth.captured - truth.refunded);
        prop_assert!(run.world.journal.iter().all(JournalEntry::is_balanced));
        let mut told = BTreeMap::<String, usize>::new();
        for event in &run.world.told {
            let event: Vec<String> = short(event).split(' ').take(2).map(str::to_owned).collect();
            *told.entry(event.join(" ")).or_default() += 1;
        }
        for (request, &times) in &run.sent {
            let answers = told.iter().filter(|(event, _)| event.ends_with(&format!(" {request}")));
            prop_assert!(answers.clone().count() >= 1, "{} was never answered", request);
            for (event, &count) in answers {
                prop_assert!(count <= times, "{event} told {count} times for {times} commands");
            }
        }
    }
}
