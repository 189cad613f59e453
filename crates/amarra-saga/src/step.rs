//! What a step's author writes: the action, the compensation and the policy.

use std::fmt;
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Codec, CodecError, PartitionKey};
use amarra_messaging::Topic;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::request::Request;

/// One step of a saga: what it needs, what it brings, and how it is asked for.
///
/// # Laws
/// - STP-1 `action` is a function of its arguments: it may be called again for every attempt.
/// - STP-2 the participant deduplicates by [`StepContext::request`]: every attempt carries it.
pub trait Step: Send + Sync + fmt::Debug + 'static {
    /// What it needs: the tuple of the outputs its edges bring, `()` for none.
    type In: DeserializeOwned;
    /// What its reply brings.
    type Out: Serialize + DeserializeOwned;

    /// Says how the step is done.
    ///
    /// # Errors
    /// [`CodecError`] when the command does not encode.
    fn action(&self, ctx: &StepContext, input: &Self::In) -> Result<Action<Self::Out>, CodecError>;

    /// Returns its timeouts and retries.
    fn policy(&self) -> Policy {
        Policy::default()
    }
}

/// A step that can be undone.
///
/// # Laws
/// - STP-3 `compensation` works from what was recorded, never from live state: `out` is none when
///   the action's outcome is unknown, and the compensation then undoes whatever may be there.
pub trait Compensate: Step {
    /// Says how the step is undone; `Action::Done(())` when there is nothing to undo.
    ///
    /// # Errors
    /// [`CodecError`] when the command does not encode.
    fn compensation(
        &self,
        ctx: &StepContext,
        input: &Self::In,
        out: Option<&Self::Out>,
    ) -> Result<Action<()>, CodecError>;
}

/// What a step may know of its saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepContext {
    /// The idempotency key to carry; it also names the saga.
    pub request: Request,
    /// Counts the attempts from 1.
    pub attempt: u32,
}

/// How a step's operation is done.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action<Out> {
    /// A command goes through the outbox; a reply is awaited.
    Command(CommandDraft),
    /// Something else already asked for it, such as the event that started the saga; a reply is
    /// awaited.
    Sent,
    /// The driver calls the [`LocalStep`](crate::LocalStep) registered for the step. Its timeout
    /// should be shorter than the lease of the worker's claims: an outcome that comes later is
    /// lost, and the step is tried again or undone once its timeout has passed.
    Local,
    /// It is done at once, in the same transaction.
    Done(Out),
}

impl<Out> Action<Out> {
    /// Makes a command of a message.
    ///
    /// # Errors
    /// [`CodecError`] when the message does not encode.
    pub fn command<M: Message>(topic: &str, key: &str, message: &M) -> Result<Self, CodecError> {
        CommandDraft::new(topic, key, message).map(Self::Command)
    }
}

/// A command about to be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandDraft {
    /// Where it goes.
    pub topic: Topic,
    /// Which messages it keeps its order among.
    pub key: PartitionKey,
    /// The published name of its type.
    pub kind: &'static str,
    /// The version of the type's schema.
    pub schema_version: u16,
    /// The encoded payload.
    pub data: Bytes,
}

impl CommandDraft {
    /// Encodes a message; its payload should carry [`StepContext::request`] for the reply to echo.
    ///
    /// # Errors
    /// [`CodecError`] when it does not encode.
    pub fn new<M: Message>(topic: &str, key: &str, message: &M) -> Result<Self, CodecError> {
        Ok(Self {
            topic: Topic::from(topic),
            key: PartitionKey::from(key),
            kind: M::KIND,
            schema_version: M::SCHEMA_VERSION,
            data: Codec::encode(message)?,
        })
    }
}

/// A step's timeouts and retries. It is no part of the fingerprint: it may change while sagas are
/// in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// How long one attempt of the action waits for its outcome, above zero. Past it the attempt
    /// counts as unknown.
    pub timeout: Duration,
    /// Attempts of the action before its outcome is taken as unknown, at least 1. It bounds
    /// compensatable steps only: the pivot and what follows it are tried for ever.
    pub attempts_max: u32,
    /// How long one attempt of the compensation waits, above zero.
    pub compensation_timeout: Duration,
    /// Attempts of the compensation before it parks as needing an operator, at least 1.
    pub compensation_attempts_max: u32,
    /// The waits between attempts.
    pub backoff: Backoff,
}

impl Default for Policy {
    /// One attempt of 30 s for the action: a command through the outbox is not lost, so a second
    /// one would only queue behind the first. Twelve attempts of 30 s for the compensation.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            attempts_max: 1,
            compensation_timeout: Duration::from_secs(30),
            compensation_attempts_max: 12,
            backoff: Backoff::default(),
        }
    }
}

impl Policy {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The name of the first field out of its range, and what the range is.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.timeout.is_zero() {
            return Err("timeout must be above zero");
        }
        if self.attempts_max == 0 {
            return Err("attempts_max must be at least 1");
        }
        if self.compensation_timeout.is_zero() {
            return Err("compensation_timeout must be above zero");
        }
        if self.compensation_attempts_max == 0 {
            return Err("compensation_attempts_max must be at least 1");
        }
        // A zero wait would make a failing step a hot loop.
        if self.backoff.first.is_zero() {
            return Err("backoff.first must be above zero");
        }
        if self.backoff.max < self.backoff.first {
            return Err("backoff.max must not be below backoff.first");
        }
        Ok(())
    }
}

/// Waits that double from `first` to `max`, spread over their upper half.
///
/// The spread is a hash of the request and the attempt, so that the engine stays a function and
/// sagas that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Backoff {
    /// The longest wait after the first attempt, above zero.
    pub first: Duration,
    /// The longest wait of all, at least `first`.
    pub max: Duration,
}

impl Default for Backoff {
    /// From 200 ms to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// Returns the wait after `attempt` (from 1) of `request`.
    #[must_use]
    pub fn delay(&self, request: &Request, attempt: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = self.first.saturating_mul(doubled.max(1)).min(self.max);
        let half = longest.checked_div(2).unwrap_or_default();
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        let hash = blake3::hash(format!("{request}#{attempt}").as_bytes());
        let mut word = [0; 8];
        word.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        let wide = u128::from(u64::from_le_bytes(word)).saturating_mul(u128::from(micros));
        half.saturating_add(Duration::from_micros(u64::try_from(wide >> 64).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Op, SagaId};

    #[test]
    fn backoff_doubles_up_to_its_cap_and_never_below_half() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
        let request = Request::new(SagaId::from("s"), "a", Op::Action);
        for (attempt, longest) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (33, 10), (900, 10)] {
            let delay = backoff.delay(&request, attempt);
            let longest = Duration::from_secs(longest);
            assert!(delay >= longest / 2 && delay <= longest, "attempt {attempt}: {delay:?}");
        }
    }

    #[test]
    fn backoff_spreads_sagas_apart() {
        let backoff = Backoff::default();
        let of = |id| backoff.delay(&Request::new(SagaId::from(id), "a", Op::Action), 3);
        assert_ne!(of("s1"), of("s2"));
        assert_eq!(of("s1"), of("s1"));
    }

    #[test]
    fn every_bound_of_a_policy_is_checked_by_name() {
        let check = |change: fn(&mut Policy), field: &str| {
            let mut policy = Policy::default();
            change(&mut policy);
            let error = policy.validate().unwrap_err();
            assert!(error.starts_with(field), "{error}");
        };
        assert!(Policy::default().validate().is_ok());
        check(|p| p.timeout = Duration::ZERO, "timeout");
        check(|p| p.attempts_max = 0, "attempts_max");
        check(|p| p.compensation_timeout = Duration::ZERO, "compensation_timeout");
        check(|p| p.compensation_attempts_max = 0, "compensation_attempts_max");
        check(|p| p.backoff.first = Duration::ZERO, "backoff.first");
        check(|p| p.backoff.max = Duration::from_millis(1), "backoff.max");
    }
}
