//! What the tiers of an experiment are guarded by: the policies compared, and the guards they make.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;
use amarra_resilience::adaptive::AdaptiveConfig;
use amarra_resilience::breaker::Mode;
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_resilience::retry::BudgetConfig;
use amarra_resilience::throttle::ThrottleConfig;
use amarra_resilience::{
    Adaptive, Breaker, Budget, Bulkhead, ConfigError, PerMille, Pipeline, Policy, Throttle, breaker,
};

/// Tries that one tier makes of a call.
pub(crate) const ATTEMPTS: u32 = 3;
/// Retries a budget starts with.
pub(crate) const TOKENS: u32 = 10;
/// Retries a budget earns per hundred calls.
pub(crate) const BUDGET_PERCENT: u8 = 10;
/// How long a tier works on one request of its own accord.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest open period, for callees whose callers should not wait long once they are back.
pub(crate) const OPEN_WAIT_MAX: Duration = Duration::from_secs(4);
/// After how long a second call is raced against a late first one.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// One column of an experiment: which policies every tier has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Policies {
    /// Its name.
    pub(crate) name: &'static str,
    retry: bool,
    budget: bool,
    /// Whether the deadline is sent along.
    pub(crate) deadline: bool,
    breaker: bool,
    ramp: bool,
    throttle: bool,
    adaptive: bool,
    hedge: bool,
    /// Whether breaker and throttle are next to the backend alone, and not at every tier.
    last: bool,
}

const NONE: Policies = Policies {
    name: "none",
    retry: false,
    budget: false,
    deadline: false,
    breaker: false,
    ramp: false,
    throttle: false,
    adaptive: false,
    hedge: false,
    last: false,
};
const RETRY: Policies = Policies { name: "retry", retry: true, ..NONE };
const BREAKER: Policies = Policies { name: "retry+breaker", breaker: true, ..RETRY };
const BUDGET: Policies = Policies { name: "retry+budget", budget: true, ..RETRY };

/// What is compared in an outage.
pub(crate) const COMPARED: &[Policies] = &[
    NONE,
    RETRY,
    Policies { name: "retry+deadline", deadline: true, ..RETRY },
    BUDGET,
    BREAKER,
    Policies { name: "retry+breaker+ramp", ramp: true, ..BREAKER },
    Policies { name: "retry+breaker, last tier", last: true, ..BREAKER },
    Policies { name: "retry+breaker+ramp, last tier", ramp: true, last: true, ..BREAKER },
    Policies { name: "retry+throttle", throttle: true, ..RETRY },
    Policies { name: "retry+throttle, last tier", throttle: true, last: true, ..RETRY },
    Policies { name: "retry+adaptive", adaptive: true, ..RETRY },
    Policies { name: "retry+budget+hedge", hedge: true, ..BUDGET },
    Policies { name: "retry+budget+deadline", deadline: true, ..BUDGET },
    Policies {
        name: "budget+deadline+breaker+ramp",
        deadline: true,
        breaker: true,
        ramp: true,
        ..BUDGET
    },
    Policies {
        name: "budget+deadline+breaker+ramp, last tier",
        deadline: true,
        breaker: true,
        ramp: true,
        last: true,
        ..BUDGET
    },
    Policies { name: "budget+deadline+adaptive", deadline: true, adaptive: true, ..BUDGET },
];

/// What is compared where nothing fails and some answers are late.
pub(crate) const HEDGED: &[Policies] =
    &[BUDGET, Policies { name: "retry+budget+hedge", hedge: true, ..BUDGET }];

impl Policies {
    /// Makes the way of one replica to the tier below, which is given `timeout` for each try;
    /// `last` when that is the backend.
    ///
    /// # Errors
    /// [`ConfigError`] when a configuration here is wrong.
    pub(crate) fn pipeline(
        self,
        env: &Environment,
        timeout: Duration,
        last: bool,
    ) -> Result<Pipeline, ConfigError> {
        let policy = if self.retry {
            Policy { attempts_max: ATTEMPTS, ..Policy::default() }
        } else {
            Policy::once()
        };
        let budget = if self.budget {
            let per_call = PerMille::percent(BUDGET_PERCENT);
            BudgetConfig { per_call, per_second_milli: 0, tokens_max: TOKENS }
        } else {
            let most = u32::MAX;
            BudgetConfig { per_call: PerMille::ALL, per_second_milli: most, tokens_max: most }
        };
        let ramp = if self.ramp { breaker::Config::default().ramp } else { Duration::ZERO };
        let config = breaker::Config { ramp, open_wait_max: OPEN_WAIT_MAX, ..Default::default() };
        let breaker = Breaker::seeded("below", config, env.entropy.as_ref())?;
        let here = last || !self.last;
        if !self.breaker || !here {
            breaker.set_mode(env.monotonic(), Mode::Disabled);
        }
        let places = BulkheadConfig { concurrency_max: 1_000_000, ..BulkheadConfig::default() };
        let mut builder = Pipeline::builder("below")
            .deadline(PATIENCE)
            .retry(policy, Arc::new(Budget::new(budget)?))
            .breaker(Arc::new(breaker))
            .bulkhead(Arc::new(Bulkhead::new(places)?));
        if self.throttle && here {
            builder = builder.throttle(Arc::new(Throttle::new(ThrottleConfig::default())?));
        }
        if self.adaptive {
            builder = builder.adaptive(Arc::new(Adaptive::new(AdaptiveConfig::default())?));
        }
        if self.hedge {
            builder = builder.hedge(HEDGE_AFTER);
        }
        builder.timeout(timeout)
    }
}
