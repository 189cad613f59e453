//! Runs a command in a unit of work of its own, again where its class allows.

use amarra_core::{Cause, Class, Classify, Environment};
use amarra_messaging::TxError;
use async_trait::async_trait;

use crate::session::Session;
use crate::unit::Store;

/// A change a service makes on request.
///
/// # Laws
/// - CMD-1 `run` changes nothing but through its session: it may be run again after a rollback.
#[async_trait]
pub trait Command: Send + Sync {
    /// What it answers.
    type Output: Send;
    /// Why it may fail.
    type Error: From<TxError> + Classify + Send;

    /// Makes the change.
    ///
    /// # Errors
    /// Its own; the unit is then rolled back.
    async fn run(&self, session: &mut Session<'_>) -> Result<Self::Output, Self::Error>;
}

/// How often a command is run before its error is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Runs in all, at least 1. Only `Transient` and `Conflict` are run again; `Unknown` is when
    /// `idempotent` says that the command records its idempotency key.
    pub attempts_max: u32,
    /// Whether a run after an unknown commit finds what the first one did.
    pub idempotent: bool,
    /// The wait before the second run; it doubles from there on, with full jitter.
    pub backoff: std::time::Duration,
}

impl Default for Attempts {
    /// Five runs from 2 ms on: contention on a hot aggregate resolves within that.
    fn default() -> Self {
        Self { attempts_max: 5, idempotent: false, backoff: std::time::Duration::from_millis(2) }
    }
}

/// Begins a unit, runs the command in it and commits; again where the error's class allows.
///
/// # Errors
/// The command's own, or a [`TxError`] turned into it.
///
/// # Cancellation
/// A dropped future rolls back, or leaves the outcome unknown when the commit was sent.
pub async fn execute<C: Command>(
    store: &dyn Store,
    env: &Environment,
    source: &str,
    (cause, attempts): (&Cause, Attempts),
    command: &C,
) -> Result<C::Output, C::Error> {
    let mut wait = attempts.backoff;
    let mut attempt = 1;
    loop {
        let error = match once(store, env, source, cause, command).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let again = match error.class() {
            Class::Transient | Class::Conflict => true,
            Class::Unknown => attempts.idempotent,
            Class::Rejected | Class::Fatal => false,
        };
        if !again || attempt >= attempts.attempts_max {
            return Err(error);
        }
        attempt = attempt.saturating_add(1);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        env.sleep(std::time::Duration::from_nanos(env.entropy.below(nanos.saturating_add(1))))
            .await;
        wait = wait.saturating_mul(2);
    }
}

async fn once<C: Command>(
    store: &dyn Store,
    env: &Environment,
    source: &str,
    cause: &Cause,
    command: &C,
) -> Result<C::Output, C::Error> {
    let mut unit = store.begin().await?;
    let output = {
        let mut session = Session::new(unit.as_mut(), env, source, cause.clone());
        command.run(&mut session).await?
    };
    unit.commit().await?;
    Ok(output)
}
