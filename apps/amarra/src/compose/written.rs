//! Mail, text messages and push as lines of a file, until real ones are bound.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amarra_core::Class;
use amarra_shop::contract::UserId;
use amarra_shop::contract::notifications::Channel;
use amarra_shop::contract::users::Secret;
use amarra_shop::notifications::{OutgoingNotification, SendError, Sender};
use amarra_shop::users::{self, VerificationSender};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::journal::{Journal, Unwritten};
use crate::refusal::Failure;

/// A message as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// `<order>:<state>:<channel>`, and a number from the staff's second round on.
    pub(crate) key: String,
    /// How.
    pub(crate) channel: Channel,
    /// To whom.
    pub(crate) user_id: UserId,
    /// What.
    pub(crate) text: String,
}

/// Writes notifications to a file; a key that is in it is not written again.
#[derive(Debug)]
pub(super) struct WrittenMessages {
    journal: Journal<Written, ()>,
    keys: Arc<Mutex<Keys>>,
}

#[derive(Debug)]
struct Keys {
    bound: usize,
    known: BTreeSet<String>,
    order: VecDeque<String>,
    /// Keys on their way to the file.
    pending: BTreeSet<String>,
}

struct Pending<'a> {
    keys: &'a Mutex<Keys>,
    key: &'a str,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        lock(self.keys).pending.remove(self.key);
    }
}

impl Keys {
    fn add(&mut self, key: &str) {
        if !self.known.insert(key.to_owned()) {
            return;
        }
        self.order.push_back(key.to_owned());
        if self.order.len() > self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl WrittenMessages {
    /// Opens the file.
    pub(super) fn open(path: &Path, bound: usize) -> Result<Self, Failure> {
        if bound == 0 {
            return Err(Failure::refused("notifications.keys_max must be at least 1"));
        }
        let keys = Keys {
            bound,
            known: BTreeSet::new(),
            order: VecDeque::new(),
            pending: BTreeSet::new(),
        };
        let keys = Arc::new(Mutex::new(keys));
        let journal = Journal::open(path, {
            let keys = Arc::clone(&keys);
            move |written: &Written| lock(&keys).add(&written.key)
        })?;
        Ok(Self { journal, keys })
    }
}

fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Sender for WrittenMessages {
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError> {
        let key = &message.dedupe_key;
        {
            let mut keys = lock(&self.keys);
            if keys.known.contains(key) {
                return Ok(());
            }
            if !keys.pending.insert(key.clone()) {
                return Err(SendError::NoAnswer);
            }
        }
        // Dropped with this future as well: what it wrote is known by then, or never will be.
        let _pending = Pending { keys: &self.keys, key };
        let written = Written {
            key: key.clone(),
            channel: message.channel,
            user_id: message.user_id,
            text: message.text.clone(),
        };
        let unavailable = |e: Unwritten| SendError::Unavailable { why: e.to_string() };
        self.journal.append(written).await.map_err(unavailable)
    }
}

/// A token that proves an address, as it stands in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WrittenToken {
    user_id: UserId,
    email: String,
    token: Secret,
}

/// Writes tokens that prove addresses to a file only its owner reads.
#[derive(Debug)]
pub(super) struct WrittenTokens {
    journal: Journal<WrittenToken, ()>,
}

impl WrittenTokens {
    /// Opens the file.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { journal: Journal::open(path, |_| ())? })
    }
}

#[async_trait]
impl VerificationSender for WrittenTokens {
    async fn send(
        &self,
        user_id: UserId,
        email: &str,
        token: &Secret,
    ) -> Result<(), users::SendError> {
        let written = WrittenToken { user_id, email: email.to_owned(), token: token.clone() };
        let failed =
            |e: Unwritten| users::SendError { class: Class::Transient, why: e.to_string() };
        self.journal.append(written).await.map_err(failed)
    }
}

/// Sends nothing: where no service runs, nobody is to be told anything.
#[derive(Debug)]
pub(super) struct Nobody;

#[async_trait]
impl Sender for Nobody {
    async fn send(&self, _message: &OutgoingNotification) -> Result<(), SendError> {
        Err(SendError::Unavailable { why: "the service does not run here".to_owned() })
    }
}

#[async_trait]
impl VerificationSender for Nobody {
    async fn send(
        &self,
        _user_id: UserId,
        _email: &str,
        _token: &Secret,
    ) -> Result<(), users::SendError> {
        let why = "the service does not run here".to_owned();
        Err(users::SendError { class: Class::Transient, why })
    }
}
