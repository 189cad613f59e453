//! The providers of mail, text messages and push: they tell a user once per key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Entropy, SeededEntropy};
use amarra_shop::contract::UserId;
use amarra_shop::contract::notifications::Channel;
use amarra_shop::contract::users::Secret;
use amarra_shop::notifications::{OutgoingNotification, SendError, Sender};
use amarra_shop::users::{self, VerificationSender};
use async_trait::async_trait;

/// A message that reached a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// `<order>:<state>:<channel>`.
    pub(crate) base_key: String,
    /// How.
    pub(crate) channel: Channel,
}

/// What the providers took; it survives every node of ours.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// By idempotency key.
    taken: Mutex<BTreeMap<String, Told>>,
    /// By address.
    tokens: Mutex<BTreeMap<String, String>>,
}

impl Mailbox {
    /// Lists what reached a user.
    pub(crate) fn delivered(&self) -> Vec<Told> {
        self.lock().values().cloned().collect()
    }

    /// Returns the verification token that reached an address.
    pub(crate) fn token(&self, email: &str) -> Option<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(email).cloned()
    }

    fn arrived(&self, email: &str, token: &Secret) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(email.to_owned(), token.expose().to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way from one node to the providers.
#[derive(Debug)]
pub(crate) struct SimSender {
    mailbox: Arc<Mailbox>,
    entropy: SeededEntropy,
}

impl SimSender {
    /// Reaches the providers; `entropy` decides how long it takes.
    pub(crate) fn new(mailbox: Arc<Mailbox>, entropy: SeededEntropy) -> Self {
        Self { mailbox, entropy }
    }
}

#[async_trait]
impl Sender for SimSender {
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError> {
        tokio::time::sleep(Duration::from_micros(500 + self.entropy.below(4000))).await;
        // The first three parts of the key: a further one counts the staff's rounds.
        let parts: Vec<&str> = message.dedupe_key.splitn(4, ':').take(3).collect();
        let told = Told { base_key: parts.join(":"), channel: message.channel };
        self.mailbox.lock().entry(message.dedupe_key.clone()).or_insert(told);
        tokio::time::sleep(Duration::from_micros(500 + self.entropy.below(4000))).await;
        Ok(())
    }
}

#[async_trait]
impl VerificationSender for SimSender {
    async fn send(
        &self,
        _user_id: UserId,
        email: &str,
        token: &Secret,
    ) -> Result<(), users::SendError> {
        tokio::time::sleep(Duration::from_micros(500 + self.entropy.below(4000))).await;
        self.mailbox.arrived(email, token);
        tokio::time::sleep(Duration::from_micros(500 + self.entropy.below(4000))).await;
        Ok(())
    }
}
