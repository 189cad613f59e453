//! Everything around one outgoing call, in the one order that works.

mod builder;
mod gates;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::time::timeout_at;
use amarra_core::{Class, Classify, Environment};

pub use crate::retry::Attempt;
pub use builder::{AtBreaker, AtDeadline, AtGates, AtRetry, Builder, MayTake, Start, Unusual};

use crate::breaker::{Breaker, Outcome};
use crate::deadline::Deadline;
use crate::error::{Error, Failed, Stop};
use crate::hedge::{Hedge, race};
use crate::retry::{Budget, Charge, Plan, Policy, Session};
use crate::shed::Priority;
use gates::{Entered, Gate, Gates};

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

/// The way to one callee: deadline, retry with budget, breaker, shedding, throttle, bulkhead,
/// adaptive limit and rate limiter, a timeout for each try, hedging, and then the call.
///
/// The order is not a matter of taste. A breaker outside of the retry would see one failure where
/// there were three; a bulkhead outside of it would be held while waiting to try again; a limiter
/// outside of the breaker would count calls that are never sent.
///
/// # Laws
/// - PIP-1 the order above, unless [`Builder::unusual_order`] was called; what one stage refuses,
///   the stages within it never see.
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
    gates: Gates,
    /// What the call passes once, before its first try; nothing in the usual order.
    outer: Vec<Gate>,
    /// What each try passes.
    inner: Vec<Gate>,
    hedge_after: Option<Duration>,
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
        call: impl FnMut(Attempt) -> Fut,
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
        let (mut session, charge) = Session::start(plan, now)?;
        if self.outer.is_empty() {
            return self.tries(env, (&mut session, charge, options), call).await;
        }
        let entered = self.enter(env, &session, (options.priority, &self.outer)).await;
        let outer = entered.map_err(|error| {
            let (stop, in_doubt) = (Stop::Refused, false);
            Failed { error, attempts: 0, stop, in_doubt }
        })?;
        let result = self.tries(env, (&mut session, charge, options), call).await;
        let outcome = match &result {
            // The last try may have been refused after another one was sent, and failed.
            Err(failed) if !failed.error.was_sent() && !session.was_sent() => Outcome::Ignore,
            Err(failed) => outcome_of_class(failed.class()),
            Ok(_) => Outcome::Ok,
        };
        outer.finish(env, outcome);
        result
    }

    /// Makes the first try and those that follow.
    async fn tries<'a, T, E, Fut>(
        &'a self,
        env: &Environment,
        (session, mut charge, options): (&mut Session<'a>, Charge<'a>, CallOptions),
        mut call: impl FnMut(Attempt) -> Fut,
    ) -> Result<T, Failed<E>>
    where
        E: Classify,
        Fut: Future<Output = Result<T, E>>,
    {
        loop {
            let error = match self.enter(env, session, (options.priority, &self.inner)).await {
                Err(refused) => refused,
                Ok(entered) => {
                    let sending = (entered, charge, options.idempotent);
                    match self.send(env, session, sending, &mut call).await {
                        Ok(out) => return Ok(out),
                        Err(error) => error,
                    }
                }
            };
            charge = session.again(env, error).await?;
        }
    }

    /// Passes `gates` one after the other; what was passed is given back when it is dropped, as
    /// when a later one refuses.
    async fn enter<E>(
        &self,
        env: &Environment,
        session: &Session<'_>,
        (priority, gates): (Priority, &[Gate]),
    ) -> Result<Entered<'_>, Error<E>> {
        let mut entered = Entered::default();
        for gate in gates {
            self.pass(env, session, (*gate, priority), &mut entered).await?;
        }
        let now = env.monotonic();
        if !session.fits(now) {
            return Err(Error::DeadlinePassed);
        }
        if let Some(permit) = &mut entered.permit {
            permit.begin(now).map_err(Error::BreakerOpen)?;
        }
        // Last of all: a place of the rate limit cannot be given back.
        if let Some(limiter) =
            self.gates.limiter.as_ref().filter(|_| gates.contains(&Gate::Limiter))
        {
            limiter
                .admit(now)
                .map_err(|limited| Error::RateLimited { retry_after: limited.retry_after })?;
        }
        entered.now = now;
        Ok(entered)
    }

    async fn pass<'a, E>(
        &'a self,
        env: &Environment,
        session: &Session<'_>,
        (gate, priority): (Gate, Priority),
        entered: &mut Entered<'a>,
    ) -> Result<(), Error<E>> {
        let gates = &self.gates;
        match gate {
            Gate::Breaker => {
                if let Some(breaker) = &self.breaker {
                    let permit = breaker.admit(|| env.monotonic()).map_err(Error::BreakerOpen)?;
                    entered.permit = Some(permit);
                }
            }
            Gate::Shed => {
                if gates.shed.is_some_and(|shed| !shed.admits(priority, gates.load())) {
                    return Err(Error::Shed);
                }
            }
            Gate::Throttle => {
                if let Some(throttle) = &gates.throttle {
                    let drawn = throttle.admit(env.monotonic(), env.entropy.as_ref());
                    drawn.map_err(|_| Error::Throttled)?;
                    entered.throttle = Some(throttle);
                }
            }
            Gate::Bulkhead => {
                if let Some(bulkhead) = &gates.bulkhead {
                    let until = session.attempt().deadline.at();
                    let slot = bulkhead.acquire(env, until).await;
                    entered.slot = Some(slot.map_err(|_| Error::BulkheadFull)?);
                }
            }
            Gate::Adaptive => {
                if let Some(adaptive) = &gates.adaptive {
                    let ticket = adaptive.admit(env.monotonic());
                    let ticket = ticket.map_err(|full| Error::AtLimit { limit: full.limit })?;
                    entered.ticket = Some(ticket);
                }
            }
            Gate::Limiter => {}
        }
        Ok(())
    }

    /// Sends one try, waits for its answer at most as long as a try may take, and reports it.
    async fn send<T, E, Fut>(
        &self,
        env: &Environment,
        session: &Session<'_>,
        (entered, charge, idempotent): (Entered<'_>, Charge<'_>, bool),
        call: &mut impl FnMut(Attempt) -> Fut,
    ) -> Result<T, Error<E>>
    where
        E: Classify,
        Fut: Future<Output = Result<T, E>>,
    {
        charge.spend();
        let now = entered.now;
        let Attempt { number, deadline } = session.attempt();
        let deadline = deadline.no_later_than(now.plus(self.timeout));
        let until = deadline.at();
        let attempt = Attempt { number, deadline };
        let hedged = self.hedge_after.filter(|_| idempotent).zip(self.budget.as_deref());
        let answer = match hedged {
            None => timeout_at(env.timer.as_ref(), until, call(attempt)).await,
            Some((after, budget)) => {
                let both = race(env, Hedge { after, budget }, |_| call(attempt));
                let answer = timeout_at(env.timer.as_ref(), until, both).await;
                answer.map(|answer| answer.map(|(out, _)| out))
            }
        };
        let result = match answer {
            Ok(answer) => answer.map_err(Error::Call),
            Err(_) => Err(Error::TimedOut { after: until.since(now) }),
        };
        entered.finish(env, outcome_of(&result));
        result
    }
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
