//! Proves addresses: a token is sent to each, by a durable timer, until it arrived.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Actor, Cause, Class, Classify, Environment, Timestamp, TraceParent};
use amarra_resilience::{Breaker, Bulkhead, CallOptions, ConfigError as ResilienceError, Pipeline};
use amarra_store::{Aggregate, Claim, DueHandler, HandlerError, Session};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::commands::ids;
use super::config::Config;
use super::model::User;
use super::service::Users;
use super::tokens::{Nonce, token_hash};
use crate::callee::Callee;
use crate::contract::UserId;
use crate::contract::users::Secret;
use crate::ports::ConfigError;

/// Names whoever carries the tokens, in figures.
const CARRIER: &str = "verification-sender";

/// Carries a verification token to its address.
///
/// A second `send` of the same token must be harmless: it is called again after an answer was lost.
#[async_trait]
pub trait VerificationSender: Send + Sync + fmt::Debug {
    /// Sends one token.
    ///
    /// # Errors
    /// [`SendError`]: `Rejected` gives up, anything else is tried again.
    async fn send(&self, user_id: UserId, email: &str, token: &Secret) -> Result<(), SendError>;
}

/// Why a token was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("verification token not sent: {why}")]
pub struct SendError {
    /// What may be done about it.
    pub class: Class,
    /// What happened, without the address.
    pub why: String,
}

impl Classify for SendError {
    fn class(&self) -> Class {
        self.class
    }
}

/// How far a verification got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The token is to be sent.
    Queued,
    /// It was sent.
    Sent,
    /// It was not, and will not be.
    GivenUp,
}

/// A proof of an address in progress. The token itself is not stored: it is derived when it is
/// sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whose.
    pub user_id: UserId,
    /// What the token is derived from.
    pub nonce: Nonce,
    /// The token's hash.
    pub token_hash: [u8; 32],
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// Whether it is under way.
    pub delivery: Delivery,
    /// How often its delivery was tried.
    pub attempts: u32,
}

impl Aggregate for Verification {
    const KIND: &'static str = "verification";
}

impl Verification {
    /// Tells whether `token` proves the address at `now`.
    #[must_use]
    pub fn proves(&self, token: &Secret, now: Timestamp) -> bool {
        now < self.expires_at && crate::auth::equal(&token_hash(token), &self.token_hash)
    }

    /// Notes how a delivery went; what is left to do is [`Delivery::Queued`].
    #[must_use]
    pub fn delivered(&self, outcome: &Result<(), SendError>, attempts_max: u32) -> Self {
        let attempts = self.attempts.saturating_add(1);
        let delivery = match outcome {
            Ok(()) => Delivery::Sent,
            Err(error) if error.class == Class::Rejected => Delivery::GivenUp,
            Err(_) if attempts >= attempts_max => Delivery::GivenUp,
            Err(_) => Delivery::Queued,
        };
        Self { delivery, attempts, ..self.clone() }
    }
}

/// Sends tokens whose timer is due.
#[derive(Debug)]
pub(super) struct Deliveries(pub(super) Arc<Users>);

/// What came of handing a token over.
enum Sent {
    /// It was tried.
    Tried(Result<(), SendError>),
    /// Nothing was sent, and nothing will be for so long.
    Not(Duration),
}

/// Puts the guards in front of whoever carries the tokens. A call makes one try: waiting for
/// another is the durable timer's part.
pub(super) fn guarded(
    sender: Arc<dyn VerificationSender>,
    env: &Environment,
    config: &Config,
) -> Result<Callee<dyn VerificationSender>, ConfigError> {
    let nested = |field| move |e: ResilienceError| ConfigError { field, why: e.to_string() };
    let breaker = Breaker::seeded(CARRIER, config.breaker, env.entropy.as_ref());
    let bulkhead = Bulkhead::new(config.bulkhead).map_err(nested("users.bulkhead"))?;
    let pipeline = Pipeline::builder(CARRIER)
        .deadline(config.send_timeout)
        .breaker(Arc::new(breaker.map_err(nested("users.breaker"))?))
        .bulkhead(Arc::new(bulkhead))
        .timeout(config.send_timeout)
        .map_err(nested("users.send_timeout"))?;
    Ok(Callee::new(sender, pipeline))
}

impl Deliveries {
    fn cause(&self, user_id: UserId) -> Cause {
        Cause {
            correlation: user_id.as_uuid().into(),
            causation: None,
            actor: Actor::Timer("users".into()),
            traceparent: TraceParent::root(self.0.env().entropy.as_ref()),
        }
    }

    /// Reads what is to be sent, none when nothing is.
    async fn read(&self, claim: &Claim) -> Result<Option<(Verification, User)>, HandlerError> {
        let Ok(uuid) = claim.id.id.parse::<uuid::Uuid>() else {
            return Err(HandlerError::Refused(format!("{} names no user", claim.id)));
        };
        let mut unit = self.0.store().begin().await?;
        let cause = self.cause(uuid.into());
        let mut session = Session::new(unit.as_mut(), self.0.env(), Users::SOURCE, cause);
        // The user and the verification before its timer, as commands lock them.
        session.lock(&ids([User::KIND, Verification::KIND], &claim.id.id)).await?;
        session.unit().verify(claim).await?;
        let user = session.load::<User>(&claim.id.id).await?.state;
        let verification = session.load::<Verification>(&claim.id.id).await?.state;
        let queued = verification.filter(|v| v.delivery == Delivery::Queued);
        Ok(queued.zip(user))
    }

    async fn send(&self, user: &User, token: &Secret) -> Sent {
        let least = self.0.config().verification_backoff;
        // Without a sender nobody is to be told: users are verified at once.
        let Some(sender) = self.0.sender() else { return Sent::Not(least) };
        let (env, options) = (self.0.env(), CallOptions::idempotent());
        let (id, email) = (user.user_id, &user.email);
        match sender.call(env, options, |way, _| way.send(id, email, token)).await {
            Ok(()) => Sent::Tried(Ok(())),
            Err(failed) if !failed.error.was_sent() => {
                Sent::Not(failed.retry_after().unwrap_or_default().max(least))
            }
            Err(failed) => {
                let (class, told) = (failed.class(), failed.error.to_string());
                let why = failed.into_call().map_or(told, |error| error.why);
                Sent::Tried(Err(SendError { class, why }))
            }
        }
    }

    /// Notes the outcome and sets the next timer, or none.
    async fn note(
        &self,
        claim: &Claim,
        user_id: UserId,
        outcome: &Sent,
    ) -> Result<(), HandlerError> {
        let config = self.0.config();
        let mut unit = self.0.store().begin().await?;
        let cause = self.cause(user_id);
        let mut session = Session::new(unit.as_mut(), self.0.env(), Users::SOURCE, cause);
        let mut loaded = session.load::<Verification>(&claim.id.id).await?;
        session.unit().verify(claim).await?;
        let queued = loaded.state.clone().filter(|v| v.delivery == Delivery::Queued);
        match (queued, outcome) {
            (None, _) => session.schedule(&claim.id, None).await?,
            (Some(before), Sent::Not(wait)) if session.now() < before.expires_at => {
                session.schedule(&claim.id, Some(*wait)).await?;
            }
            (Some(before), Sent::Not(_)) => {
                let after = Verification { delivery: Delivery::GivenUp, ..before };
                session.save(&mut loaded, after, "deliver").await?;
                session.schedule(&claim.id, None).await?;
            }
            (Some(before), Sent::Tried(result)) => {
                let after = before.delivered(result, config.verification_attempts_max);
                let shift = before.attempts.min(16);
                let wait = config.verification_backoff.saturating_mul(1_u32 << shift);
                let next = (after.delivery == Delivery::Queued).then_some(wait);
                session.save(&mut loaded, after, "deliver").await?;
                session.schedule(&claim.id, next).await?;
            }
        }
        unit.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl DueHandler for Deliveries {
    fn kind(&self) -> &str {
        Verification::KIND
    }

    async fn on_due(&self, claim: &Claim) -> Result<(), HandlerError> {
        let Some((verification, user)) = self.read(claim).await? else {
            let mut unit = self.0.store().begin().await?;
            unit.verify(claim).await?;
            unit.schedule(&claim.id, None).await?;
            unit.commit().await?;
            return Ok(());
        };
        let token = self.0.keys().verification(user.user_id, &verification.nonce);
        let outcome = self.send(&user, &token).await;
        self.note(claim, user.user_id, &outcome).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_until_it_expires_and_no_other_does() {
        let token = Secret::new("right");
        let verification = Verification {
            user_id: uuid::Uuid::nil().into(),
            nonce: [0; 16],
            token_hash: token_hash(&token),
            expires_at: Timestamp::from_micros(10),
            delivery: Delivery::Sent,
            attempts: 1,
        };
        assert!(verification.proves(&token, Timestamp::from_micros(9)));
        assert!(!verification.proves(&token, Timestamp::from_micros(10)));
        assert!(!verification.proves(&Secret::new("wrong"), Timestamp::from_micros(9)));
    }

    #[test]
    fn a_delivery_is_tried_until_it_is_sent_refused_or_given_up() {
        let queued = Verification {
            user_id: uuid::Uuid::nil().into(),
            nonce: [0; 16],
            token_hash: [0; 32],
            expires_at: Timestamp::EPOCH,
            delivery: Delivery::Queued,
            attempts: 0,
        };
        let failed = |class| Err(SendError { class, why: String::new() });
        let check = |outcome, max, expect| {
            assert_eq!(queued.delivered(&outcome, max).delivery, expect);
        };
        check(Ok(()), 3, Delivery::Sent);
        check(failed(Class::Rejected), 3, Delivery::GivenUp);
        check(failed(Class::Transient), 3, Delivery::Queued);
        check(failed(Class::Unknown), 3, Delivery::Queued);
        check(failed(Class::Unknown), 1, Delivery::GivenUp);
    }
}
