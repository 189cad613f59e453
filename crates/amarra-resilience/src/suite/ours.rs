//! This crate as a subject of its own suite.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::{Answer, Call, Guard, Purse, Setup, Subject, start};
use crate::breaker::{Breaker, Config, Outcome, Window};
use crate::retry::{Budget, BudgetConfig};
use crate::{Monotonic, PerMille};

/// This crate, on a virtual clock.
#[derive(Debug, Default)]
pub struct Amarra {
    now: Rc<Cell<Monotonic>>,
}

struct Guarded {
    breaker: Breaker,
    now: Rc<Cell<Monotonic>>,
}

impl Guard for Guarded {
    fn start(&self) -> Option<Box<dyn Call + '_>> {
        start(|work| {
            Box::pin(async {
                let clock = || self.now.get();
                let judge = Outcome::of_result;
                match self.breaker.run(clock, judge, work).await {
                    Ok(_) => Answer::Done,
                    Err(_) => Answer::Refused,
                }
            })
        })
    }
}

struct Saved {
    budget: Budget,
    now: Rc<Cell<Monotonic>>,
}

impl Purse for Saved {
    fn deposit(&self) {
        self.budget.deposit();
    }

    fn withdraw(&self) -> bool {
        let retry = self.budget.reserve(self.now.get());
        retry.map(crate::retry::Reserved::spend).is_some()
    }
}

impl Subject for Amarra {
    fn name(&self) -> &str {
        "amarra"
    }

    fn breaker(&self, setup: Setup) -> Option<Box<dyn Guard>> {
        let config = Config {
            window: Window::Count { calls: u16::try_from(setup.window).ok()? },
            calls_min: setup.calls_min,
            half_open_permits: u16::try_from(setup.permits).ok()?,
            half_open_wait: setup.half_open_wait,
            open_wait: setup.open_wait,
            open_jitter: PerMille::new(0),
            ramp: Duration::ZERO,
            ..Config::default()
        };
        let breaker = Breaker::new("suite", config, 1).ok()?;
        Some(Box::new(Guarded { breaker, now: Rc::clone(&self.now) }))
    }

    fn purse(&self, percent: u8) -> Option<Box<dyn Purse>> {
        let per_call = PerMille::percent(percent);
        let config = BudgetConfig { per_call, per_second_milli: 0, tokens_max: 1000 };
        let purse = Saved { budget: Budget::new(config).ok()?, now: Rc::clone(&self.now) };
        while purse.withdraw() {}
        Some(Box::new(purse))
    }

    fn pass(&self, time: Duration) {
        self.warp(time);
    }

    fn warp(&self, time: Duration) {
        self.now.set(self.now.get().plus(time));
    }

    fn leaks(&self, work: &mut dyn FnMut()) -> Option<i64> {
        work();
        None
    }
}
