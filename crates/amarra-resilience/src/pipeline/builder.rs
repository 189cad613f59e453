//! The builder whose types allow the stages in one order only.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use crate::breaker::Breaker;
use crate::bulkhead::Bulkhead;
use crate::config::{ConfigError, check};
use crate::limiter::Limiter;
use crate::retry::{Budget, Policy};
use crate::shed::Shed;

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
}

/// Tells that stage `Next` may follow this one.
pub trait MayTake<Next>: sealed::Sealed {}

impl MayTake<AtRetry> for AtDeadline {}
impl MayTake<AtBreaker> for AtDeadline {}
impl MayTake<AtGates> for AtDeadline {}
impl MayTake<AtBreaker> for AtRetry {}
impl MayTake<AtGates> for AtRetry {}
impl MayTake<AtGates> for AtBreaker {}
impl MayTake<AtGates> for AtGates {}

mod sealed {
    /// Closes the order: no other crate adds to it.
    pub trait Sealed {}
    impl Sealed for super::AtDeadline {}
    impl Sealed for super::AtRetry {}
    impl Sealed for super::AtBreaker {}
    impl Sealed for super::AtGates {}
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
            shed: None,
            bulkhead: None,
            limiter: None,
            timeout: Duration::MAX,
        };
        Self { built, stage: PhantomData }
    }

    /// Gives a call `patience` altogether, its tries and the waits between them included; a caller
    /// with less gets less.
    pub fn deadline(self, patience: Duration) -> Builder<AtDeadline> {
        self.with(|p| p.patience = patience)
    }
}

impl<S> Builder<S> {
    /// Repeats failed tries by `policy`, paid from `budget`; share one budget among all pipelines
    /// to one callee.
    pub fn retry(self, policy: Policy, budget: Arc<Budget>) -> Builder<AtRetry>
    where
        S: MayTake<AtRetry>,
    {
        self.with(|p| {
            p.policy = policy;
            p.budget = Some(budget);
        })
    }

    /// Refuses tries while the callee is believed ill.
    pub fn breaker(self, breaker: Arc<Breaker>) -> Builder<AtBreaker>
    where
        S: MayTake<AtBreaker>,
    {
        self.with(|p| p.breaker = Some(breaker))
    }

    /// Refuses the less important tries as the bulkhead fills; without one it does nothing.
    pub fn shed(self, shed: Shed) -> Builder<AtGates>
    where
        S: MayTake<AtGates>,
    {
        self.with(|p| p.shed = Some(shed))
    }

    /// Bounds how many tries run at once.
    pub fn bulkhead(self, bulkhead: Arc<Bulkhead>) -> Builder<AtGates>
    where
        S: MayTake<AtGates>,
    {
        self.with(|p| p.bulkhead = Some(bulkhead))
    }

    /// Bounds how many tries are sent per second.
    pub fn limiter(self, limiter: Arc<Limiter>) -> Builder<AtGates>
    where
        S: MayTake<AtGates>,
    {
        self.with(|p| p.limiter = Some(limiter))
    }

    /// Gives each try at most `timeout`, and ends the building.
    ///
    /// # Errors
    /// [`ConfigError`] when a policy or duration is outside its range, or when shedding is asked
    /// for without a bulkhead to measure the load.
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
        if let Some(shed) = &built.shed {
            shed.validate()?;
            check(built.bulkhead.is_some(), "shed", "needs a bulkhead to measure the load")?;
        }
        Ok(built)
    }

    fn with<Next>(mut self, set: impl FnOnce(&mut Pipeline)) -> Builder<Next> {
        set(&mut self.built);
        Builder { built: self.built, stage: PhantomData }
    }
}
