//! Proves addresses: a token is sent to each, by a durable timer, until it arrived.

use std::fmt;
use std::sync::Arc;

use amarra_core::{Actor, Cause, Class, Classify, TraceParent};
use amarra_store::{Aggregate, Claim, DueHandler, HandlerError, Session};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use amarra_core::Timestamp;

use super::model::User;
use super::service::Users;
use super::tokens::{Nonce, token_hash};
use crate::contract::UserId;
use crate::contract::users::Secret;

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
pub(super) struct Deliveries {
    pub(super) users: Arc<Users>,
    pub(super) sender: Arc<dyn VerificationSender>,
}

impl Deliveries {
    fn cause(&self, user_id: UserId) -> Cause {
        Cause {
            correlation: user_id.as_uuid().into(),
            causation: None,
            actor: Actor::Timer("users".into()),
            traceparent: TraceParent::root(self.users.env().entropy.as_ref()),
        }
    }

    /// Reads what is to be sent, none when nothing is.
    async fn read(&self, claim: &Claim) -> Result<Option<(Verification, User)>, HandlerError> {
        let mut unit = self.users.store().begin().await?;
        unit.verify(claim).await?;
        let Ok(uuid) = claim.id.id.parse::<uuid::Uuid>() else {
            return Err(HandlerError::Refused(format!("{} names no user", claim.id)));
        };
        let cause = self.cause(uuid.into());
        let mut session = Session::new(unit.as_mut(), self.users.env(), Users::SOURCE, cause);
        let user = session.load::<User>(&claim.id.id).await?.state;
        let verification = session.load::<Verification>(&claim.id.id).await?.state;
        let queued = verification.filter(|v| v.delivery == Delivery::Queued);
        Ok(queued.zip(user))
    }

    /// Notes the outcome and sets the next timer, or none.
    async fn note(
        &self,
        claim: &Claim,
        user_id: UserId,
        outcome: &Result<(), SendError>,
    ) -> Result<(), HandlerError> {
        let config = self.users.config();
        let mut unit = self.users.store().begin().await?;
        unit.verify(claim).await?;
        let cause = self.cause(user_id);
        let mut session = Session::new(unit.as_mut(), self.users.env(), Users::SOURCE, cause);
        let mut loaded = session.load::<Verification>(&claim.id.id).await?;
        if let Some(before) = loaded.state.clone().filter(|v| v.delivery == Delivery::Queued) {
            let after = before.delivered(outcome, config.verification_attempts_max);
            let shift = before.attempts.min(16);
            let wait = config.verification_backoff.saturating_mul(1_u32 << shift);
            let next = (after.delivery == Delivery::Queued).then_some(wait);
            session.save(&mut loaded, after, "deliver").await?;
            session.schedule(&claim.id, next).await?;
        } else {
            session.schedule(&claim.id, None).await?;
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
            let mut unit = self.users.store().begin().await?;
            unit.verify(claim).await?;
            unit.schedule(&claim.id, None).await?;
            unit.commit().await?;
            return Ok(());
        };
        let token = self.users.keys().verification(user.user_id, &verification.nonce);
        let send = self.sender.send(user.user_id, &user.email, &token);
        let sent = self.users.env().timeout(self.users.config().send_timeout, send).await;
        let outcome = sent.unwrap_or_else(|elapsed| {
            Err(SendError { class: Class::Unknown, why: elapsed.to_string() })
        });
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
