//! Everything around one outgoing call, in the one order that works.

mod builder;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::time::timeout_at;
use amarra_core::{Class, Classify, Environment, Monotonic};

pub use crate::retry::Attempt;
pub use builder::{AtBreaker, AtDeadline, AtGates, AtRetry, Builder, MayTake, Start};

use crate::breaker::{Breaker, Outcome, Permit};
use crate::bulkhead::{Bulkhead, Slot};
use crate::deadline::Deadline;
use crate::error::{Error, Failed};
use crate::limiter::Limiter;
use crate::retry::{Budget, Charge, Plan, Policy, Session};
use crate::shed::{Priority, Shed};

/// What the caller knows about one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// Whether a repeated call has the effect of one: it carries the same idempotency key, or only
    /// reads. False by default: a doubtful try is then never repeated.
    pub idempotent: bool,
    /// When the caller stops waiting; the pipeline's own patience may end before.
    pub deadline: Option<Deadline>,
    /// How much the call matters under load.
    pub priority: Priority,
}

impl CallOptions {
    /// The options of a call that carries an idempotency key or only reads.
    #[must_use]
    pub fn idempotent() -> Self {
        Self { idempotent: true, ..Self::default() }
    }

    /// Returns these options with `deadline`.
    #[must_use]
    pub fn by(self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Returns these options with `priority`.
    #[must_use]
    pub fn of_priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }
}

/// The way to one callee: deadline, retry with budget, breaker, shedding, bulkhead and rate
/// limiter, a timeout for each try, and then the call.
///
/// The order is not a matter of taste. A breaker outside of the retry would see one failure where
/// there were three; a bulkhead outside of it would be held while waiting to try again; a limiter
/// outside of the breaker would count calls that are never sent.
///
/// # Laws
/// - PIP-1 the order above; what one stage refuses, the stages within it never see.
/// - PIP-2 a try that was never sent is `Transient`, and neither the breaker nor the budget counts
///   it.
/// - PIP-3 a call that waited for its place is sent only if the breaker still agrees.
/// - PIP-4 `Rejected` and `Conflict` are answers and count for the callee; a timeout counts against
///   it; `Fatal` says nothing about its health.
/// - PIP-5 dropping the future at any moment leaves every permit, slot and reservation free.
///
/// # Example
/// See the crate's documentation.
#[derive(Debug, Clone)]
pub struct Pipeline {
    name: Arc<str>,
    patience: Duration,
    hops: u8,
    policy: Policy,
    budget: Option<Arc<Budget>>,
    breaker: Option<Arc<Breaker>>,
    shed: Option<Shed>,
    bulkhead: Option<Arc<Bulkhead>>,
    limiter: Option<Arc<Limiter>>,
    timeout: Duration,
}

impl Pipeline {
    /// Starts building the way to the callee called `name`.
    pub fn builder(name: impl Into<Arc<str>>) -> Builder<Start> {
        Builder::new(name.into())
    }

    /// Returns the callee's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the breaker, for an operator to set its mode or look at it.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_deref()
    }

    /// Makes the call, as often as it may and must be made.
    ///
    /// `call` is asked for a new future for each try, and given the deadline to send along.
    ///
    /// # Errors
    /// [`Failed`] with the last try's error; its class says what the caller may do.
    ///
    /// # Cancellation
    /// Dropping the future drops the try where it stands: whatever it asked for may have happened.
    /// The breaker counts it as cancelled; every other place it held is free.
    pub async fn call<T, E, Fut>(
        &self,
        env: &Environment,
        options: CallOptions,
        mut call: impl FnMut(Attempt) -> Fut,
    ) -> Result<T, Failed<E>>
    where
        E: Classify,
        Fut: Future<Output = Result<T, E>>,
    {
        let now = env.monotonic();
        let own = Deadline::after(now, self.patience, self.hops);
        let plan = Plan {
            policy: &self.policy,
            budget: self.budget.as_deref(),
            deadline: options.deadline.map_or(own, |given| given.no_later_than(own.at())),
            idempotent: options.idempotent,
        };
        let (mut session, mut charge) = Session::start(plan, now)?;
        loop {
            let error = match self.enter(env, &session, options.priority).await {
                Err(refused) => refused,
                Ok(entered) => match self.send(env, &session, (entered, charge), &mut call).await {
                    Ok(out) => return Ok(out),
                    Err(error) => error,
                },
            };
            charge = session.again(env, error).await?;
        }
    }

    /// Passes the breaker and the gates behind it; what was passed is given back when it is
    /// dropped, as when a later one refuses.
    async fn enter<E>(
        &self,
        env: &Environment,
        session: &Session<'_>,
        priority: Priority,
    ) -> Result<Entered<'_>, Error<E>> {
        let mut permit = match &self.breaker {
            Some(breaker) => Some(breaker.admit(env.monotonic()).map_err(Error::BreakerOpen)?),
            None => None,
        };
        if let (Some(shed), Some(bulkhead)) = (&self.shed, &self.bulkhead)
            && !shed.admits(priority, bulkhead.load())
        {
            return Err(Error::Shed);
        }
        let slot = match &self.bulkhead {
            Some(bulkhead) => {
                let until = session.attempt().deadline.at();
                Some(bulkhead.acquire(env, until).await.map_err(|_| Error::BulkheadFull)?)
            }
            None => None,
        };
        let now = env.monotonic();
        if !session.fits(now) {
            return Err(Error::DeadlinePassed);
        }
        if let Some(permit) = &mut permit {
            permit.begin(now).map_err(Error::BreakerOpen)?;
        }
        if let Some(limiter) = &self.limiter {
            limiter
                .admit(now)
                .map_err(|limited| Error::RateLimited { retry_after: limited.retry_after })?;
        }
        Ok(Entered { now, permit, _slot: slot })
    }

    /// Sends one try, waits for its answer at most as long as a try may take, and reports it.
    async fn send<T, E, Fut>(
        &self,
        env: &Environment,
        session: &Session<'_>,
        (entered, charge): (Entered<'_>, Charge<'_>),
        call: impl FnOnce(Attempt) -> Fut,
    ) -> Result<T, Error<E>>
    where
        E: Classify,
        Fut: Future<Output = Result<T, E>>,
    {
        let Entered { now, permit, _slot } = entered;
        charge.spend();
        let Attempt { number, deadline } = session.attempt();
        let deadline = deadline.no_later_than(now.plus(self.timeout));
        let until = deadline.at();
        let answer = call(Attempt { number, deadline });
        let result = match timeout_at(env.timer.as_ref(), until, answer).await {
            Ok(answer) => answer.map_err(Error::Call),
            Err(_) => Err(Error::TimedOut { after: until.since(now) }),
        };
        if let Some(permit) = permit {
            permit.finish(env.monotonic(), outcome_of(&result));
        }
        result
    }
}

/// The places one try holds.
struct Entered<'a> {
    now: Monotonic,
    permit: Option<Permit<'a>>,
    _slot: Option<Slot<'a>>,
}

fn outcome_of<T, E: Classify>(result: &Result<T, Error<E>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Ok,
        Err(error) if !error.was_sent() => Outcome::Ignore,
        Err(error) => outcome_of_class(error.class()),
    }
}

/// Returns what an error of `class` says about its callee's health.
#[must_use]
pub fn outcome_of_class(class: Class) -> Outcome {
    match class {
        Class::Rejected | Class::Conflict => Outcome::Ok,
        Class::Transient | Class::Unknown => Outcome::Fail,
        Class::Fatal => Outcome::Ignore,
    }
}
