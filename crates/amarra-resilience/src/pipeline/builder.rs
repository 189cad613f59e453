//! The builder whose types allow the stages in one order only.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use super::gates::{Gate, Gates};
use crate::adaptive::Adaptive;
use crate::breaker::Breaker;
use crate::bulkhead::Bulkhead;
use crate::config::{ConfigError, check};
use crate::limiter::Limiter;
use crate::retry::{Budget, Policy};
use crate::shed::Shed;
use crate::throttle::Throttle;

macro_rules! stages {
    ($($(#[$meta:meta])* $name:ident)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;
    )+};
}

stages! {
    /// Nothing is set yet; the deadline comes first.
    Start
    /// The deadline is set; retry, breaker, gates or the timeout may follow.
    AtDeadline
    /// Retry is set; breaker, gates or the timeout may follow.
    AtRetry
    /// The breaker is set; gates or the timeout may follow.
    AtBreaker
    /// At least one gate is set; more gates or the timeout may follow.
    AtGates
    /// The caller answers for the order: anything may follow.
    Unusual
}

/// Tells that stage `Next` may follow this one.
pub trait MayTake<Next>: sealed::Sealed {
    /// The stage of the builder then.
    type Then;
}

macro_rules! may_take {
    ($($from:ident -> $next:ident = $then:ident)+) => {$(
        impl MayTake<$next> for $from {
            type Then = $then;
        }
    )+};
}

may_take! {
    AtDeadline -> AtRetry = AtRetry
    AtDeadline -> AtBreaker = AtBreaker
    AtDeadline -> AtGates = AtGates
    AtRetry -> AtBreaker = AtBreaker
    AtRetry -> AtGates = AtGates
    AtBreaker -> AtGates = AtGates
    AtGates -> AtGates = AtGates
    Unusual -> AtRetry = Unusual
    Unusual -> AtBreaker = Unusual
    Unusual -> AtGates = Unusual
}

mod sealed {
    /// Closes the order: no other crate adds to it.
    pub trait Sealed {}
    impl Sealed for super::AtDeadline {}
    impl Sealed for super::AtRetry {}
    impl Sealed for super::AtBreaker {}
    impl Sealed for super::AtGates {}
    impl Sealed for super::Unusual {}
}

/// The services a request may go through when its caller set no bound.
const HOPS: u8 = 16;

/// Builds a [`Pipeline`], from the outermost stage to the innermost.
///
/// A stage left out is not there; a stage out of order does not compile:
///
/// ```compile_fail
/// # use std::{sync::Arc, time::Duration};
/// # use amarra_resilience::{Breaker, Budget, Pipeline, Policy, breaker, retry};
/// # let breaker = Arc::new(Breaker::new("b", breaker::Config::default(), 1).unwrap());
/// # let budget = Arc::new(Budget::new(retry::BudgetConfig::default()).unwrap());
/// let retry_inside_of_breaker = Pipeline::builder("provider")
///     .deadline(Duration::from_secs(5))
///     .breaker(breaker)
///     .retry(Policy::default(), budget);
/// ```
///
/// The same stages the other way round do:
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use amarra_resilience::{Breaker, Budget, Pipeline, Policy, breaker, retry};
/// # let breaker = Arc::new(Breaker::new("b", breaker::Config::default(), 1).unwrap());
/// # let budget = Arc::new(Budget::new(retry::BudgetConfig::default()).unwrap());
/// let pipeline = Pipeline::builder("provider")
///     .deadline(Duration::from_secs(5))
///     .retry(Policy::default(), budget)
///     .breaker(breaker)
///     .timeout(Duration::from_secs(1));
/// assert!(pipeline.is_ok());
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder<Stage> {
    built: Pipeline,
    /// Whether gates run in the order in which they are added, and not in the usual one.
    unusual: bool,
    stage: PhantomData<Stage>,
}

impl Builder<Start> {
    pub(super) fn new(name: Arc<str>) -> Self {
        let built = Pipeline {
            name,
            patience: Duration::MAX,
            hops: HOPS,
            policy: Policy::once(),
            budget: None,
            breaker: None,
            gates: Gates::default(),
            outer: Vec::new(),
            inner: Vec::new(),
            hedge_after: None,
            timeout: Duration::MAX,
        };
        Self { built, unusual: false, stage: PhantomData }
    }

    /// Gives a call `patience` altogether, its tries and the waits between them included; a caller
    /// with less gets less.
    pub fn deadline(self, patience: Duration) -> Builder<AtDeadline> {
        self.with(|p| p.patience = patience)
    }
}

impl Builder<AtDeadline> {
    /// Lets the stages come in any order: each runs outside of those added after it. What is added
    /// before the retry sees the call once, and not each try.
    ///
    /// The usual order is the one that works; this is for those who know why theirs does. A breaker
    /// outside of the retry, for one, hides failures that a later try made good.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use amarra_resilience::{Breaker, Budget, Pipeline, Policy, breaker, retry};
    /// # let breaker = Arc::new(Breaker::new("b", breaker::Config::default(), 1).unwrap());
    /// # let budget = Arc::new(Budget::new(retry::BudgetConfig::default()).unwrap());
    /// let pipeline = Pipeline::builder("provider")
    ///     .deadline(Duration::from_secs(5))
    ///     .unusual_order()
    ///     .breaker(breaker)
    ///     .retry(Policy::default(), budget)
    ///     .timeout(Duration::from_secs(1));
    /// assert!(pipeline.is_ok());
    /// ```
    pub fn unusual_order(self) -> Builder<Unusual> {
        Builder { unusual: true, ..self.with(|_| {}) }
    }
}

impl<S> Builder<S> {
    /// Repeats failed tries by `policy`, paid from `budget`; share one budget among all pipelines
    /// to one callee.
    pub fn retry(self, policy: Policy, budget: Arc<Budget>) -> Builder<S::Then>
    where
        S: MayTake<AtRetry>,
    {
        self.with(|p| {
            p.policy = policy;
            p.budget = Some(budget);
            // What came before it is outside of it.
            p.outer.append(&mut p.inner);
        })
    }

    /// Refuses tries while the callee is believed ill.
    pub fn breaker(self, breaker: Arc<Breaker>) -> Builder<S::Then>
    where
        S: MayTake<AtBreaker>,
    {
        self.gate(Gate::Breaker, |p| p.breaker = Some(breaker))
    }

    /// Refuses the less important tries as the bulkhead, or else the adaptive limit, fills; without
    /// either it does nothing.
    pub fn shed(self, shed: Shed) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.gate(Gate::Shed, |p| p.gates.shed = Some(shed))
    }

    /// Refuses a share of the tries while the callee accepts too few of them.
    pub fn throttle(self, throttle: Arc<Throttle>) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.gate(Gate::Throttle, |p| p.gates.throttle = Some(throttle))
    }

    /// Bounds how many tries run at once.
    pub fn bulkhead(self, bulkhead: Arc<Bulkhead>) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.gate(Gate::Bulkhead, |p| p.gates.bulkhead = Some(bulkhead))
    }

    /// Bounds how many tries run at once by what the callee is seen to bear.
    pub fn adaptive(self, adaptive: Arc<Adaptive>) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.gate(Gate::Adaptive, |p| p.gates.adaptive = Some(adaptive))
    }

    /// Bounds how many tries are sent per second.
    pub fn limiter(self, limiter: Arc<Limiter>) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.gate(Gate::Limiter, |p| p.gates.limiter = Some(limiter))
    }

    /// Races a second call against one that has not answered `after` it was sent, for calls that
    /// are idempotent; it is paid from the retry's budget.
    pub fn hedge(self, after: Duration) -> Builder<S::Then>
    where
        S: MayTake<AtGates>,
    {
        self.with(|p| p.hedge_after = Some(after))
    }

    /// Gives each try at most `timeout`, and ends the building.
    ///
    /// # Errors
    /// [`ConfigError`] when a policy or duration is outside its range, when shedding is asked for
    /// without a bulkhead or an adaptive limit to measure the load, or hedging without a budget.
    pub fn timeout(self, timeout: Duration) -> Result<Pipeline, ConfigError>
    where
        S: MayTake<AtGates>,
    {
        let built = Pipeline { timeout, ..self.built };
        check(!timeout.is_zero(), "timeout", "must be above zero")?;
        check(!built.patience.is_zero(), "deadline", "must be above zero")?;
        let reachable = built.patience >= built.policy.attempt_min;
        check(reachable, "deadline", "must be at least attempt_min, or no try is ever made")?;
        built.policy.validate()?;
        if let Some(shed) = &built.gates.shed {
            shed.validate()?;
            let measured = built.gates.bulkhead.is_some() || built.gates.adaptive.is_some();
            check(measured, "shed", "needs a bulkhead to measure the load")?;
        }
        let paid = built.hedge_after.is_none() || built.budget.is_some();
        check(paid, "hedge", "needs the retry's budget")?;
        Ok(built)
    }

    fn gate<Next>(self, gate: Gate, set: impl FnOnce(&mut Pipeline)) -> Builder<Next> {
        let unusual = self.unusual;
        self.with(|p| {
            set(p);
            p.inner.retain(|other| *other != gate);
            p.inner.push(gate);
            if !unusual {
                p.inner.sort_unstable();
            }
        })
    }

    fn with<Next>(mut self, set: impl FnOnce(&mut Pipeline)) -> Builder<Next> {
        set(&mut self.built);
        Builder { built: self.built, unusual: self.unusual, stage: PhantomData }
    }
}
