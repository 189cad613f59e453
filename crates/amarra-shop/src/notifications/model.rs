//! Preferences, notifications and their queue per order, as pure state machines.

use std::collections::{BTreeMap, VecDeque};

use amarra_core::codec::Message;
use amarra_core::{Cause, Class};
use amarra_store::Aggregate;
use serde::{Deserialize, Serialize};

use crate::contract::ids::{OrderId, UserId};
use crate::contract::notifications::{Channel, NotificationView, Preferences};
use crate::contract::orders::{
    OrderCancelled, OrderCompleted, OrderConfirmed, OrderCreated, OrderFulfilled, OrderRefunded,
    OrderRejected,
};

/// Which channels a user wants; stored under the user's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference(pub Preferences);

impl Aggregate for Preference {
    const KIND: &'static str = "preference";
}

impl Preference {
    /// Tells whether the user wants messages on `channel`.
    #[must_use]
    pub fn wants(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.0.email,
            Channel::Sms => self.0.sms,
            Channel::Push => self.0.push,
        }
    }
}

/// Returns how far along the state of an order is that an event of type `kind` tells of, none for
/// events nobody is told of.
///
/// From [`UNDONE`] on the order is taken back, and whatever was not told before is stale.
#[must_use]
pub fn rank(kind: &str) -> Option<u8> {
    match kind {
        OrderCreated::KIND => Some(1),
        OrderConfirmed::KIND => Some(2),
        OrderFulfilled::KIND => Some(3),
        OrderCompleted::KIND => Some(4),
        OrderCancelled::KIND | OrderRejected::KIND => Some(UNDONE),
        OrderRefunded::KIND => Some(6),
        _ => None,
    }
}

/// The rank from which on an order is taken back.
pub const UNDONE: u8 = 5;

/// Returns the id of a notification, which is also the provider's idempotency key.
#[must_use]
pub fn dedupe_key(order: OrderId, state: &str, channel: Channel) -> String {
    format!("{order}:{state}:{}", channel.as_str())
}

/// Why a user was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The user does not want messages on this channel.
    Preference,
    /// The order is past it.
    Stale,
}

impl Reason {
    /// Returns the name used in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preference => "preference",
            Self::Stale => "stale",
        }
    }
}

/// Where a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its turn.
    Queued,
    /// It is being handed to the provider; after a crash it may have been.
    Sending,
    /// The provider took it. Terminal.
    Sent,
    /// The user is not told. Terminal.
    Suppressed(Reason),
    /// A try failed; another one follows.
    Failed,
    /// No try is left, or the provider refused it; the staff can send it again.
    DeadLettered,
}

impl Status {
    /// Tells whether nothing more happens to it by itself.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Sent | Self::Suppressed(_) | Self::DeadLettered)
    }

    /// Returns the name that readers see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued | Self::Failed => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Suppressed(_) => "suppressed",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// One message to one user, stored under its [`dedupe_key`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The order.
    pub order_id: OrderId,
    /// The user.
    pub user_id: UserId,
    /// The state it tells of: the type of the order's event.
    pub state: String,
    /// How.
    pub channel: Channel,
    /// What it says.
    pub text: String,
    /// Where it is.
    pub status: Status,
    /// Tries that were handed to the provider, this round.
    pub attempts: u32,
    /// Whether a try may have reached the user unconfirmed.
    pub in_doubt: bool,
    /// How often the staff sent it again; each round has an idempotency key of its own.
    pub round: u32,
    /// What brought it about.
    pub cause: Cause,
}

impl Aggregate for Notification {
    const KIND: &'static str = "notification";
}

/// What to do with a notification whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Nothing: it is settled.
    Nothing,
    /// It is settled without another try.
    Settle(Box<Notification>),
    /// It is handed to the provider now.
    Send(Box<Notification>),
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The provider took it.
    Taken,
    /// It was never sent.
    NotSent,
    /// It failed, with what is known of it.
    Failed(Class),
}

impl Notification {
    /// Returns the provider's idempotency key.
    #[must_use]
    pub fn key(&self) -> String {
        let key = dedupe_key(self.order_id, &self.state, self.channel);
        if self.round == 0 { key } else { format!("{key}:{}", self.round) }
    }

    /// Begins a try, given the rank of the newest state of the order.
    ///
    /// A message that the order has overtaken is dropped, unless it may have reached the user
    /// already: then the provider has to say.
    #[must_use]
    pub fn begin(&self, newest: u8, attempts_max: u32) -> Begin {
        if self.status.is_settled() {
            return Begin::Nothing;
        }
        let in_doubt = self.in_doubt || self.status == Status::Sending;
        let overtaken = newest >= UNDONE && rank(&self.state).is_none_or(|own| own < newest);
        let next = |status, attempts| Box::new(Self { status, attempts, in_doubt, ..self.clone() });
        if overtaken && !in_doubt {
            return Begin::Settle(next(Status::Suppressed(Reason::Stale), self.attempts));
        }
        if self.attempts >= attempts_max {
            return Begin::Settle(next(Status::DeadLettered, self.attempts));
        }
        Begin::Send(next(Status::Sending, self.attempts.saturating_add(1)))
    }

    /// Ends a try; none when no try is under way.
    #[must_use]
    pub fn finish(&self, how: Finish, attempts_max: u32) -> Option<Self> {
        if self.status != Status::Sending {
            return None;
        }
        let again = self.attempts < attempts_max;
        let (status, attempts, in_doubt) = match how {
            Finish::Taken => (Status::Sent, self.attempts, false),
            Finish::NotSent => (Status::Failed, self.attempts.saturating_sub(1), self.in_doubt),
            Finish::Failed(Class::Rejected | Class::Fatal) => {
                (Status::DeadLettered, self.attempts, self.in_doubt)
            }
            Finish::Failed(class) => {
                let status = if again { Status::Failed } else { Status::DeadLettered };
                (status, self.attempts, self.in_doubt || class == Class::Unknown)
            }
        };
        Some(Self { status, attempts, in_doubt, ..self.clone() })
    }

    /// Puts a message that was set aside back in line, as a new one to the provider.
    #[must_use]
    pub fn resend(&self) -> Option<Self> {
        (self.status == Status::DeadLettered).then(|| Self {
            status: Status::Queued,
            attempts: 0,
            in_doubt: false,
            round: self.round.saturating_add(1),
            ..self.clone()
        })
    }

    /// Returns it as support sees it.
    #[must_use]
    pub fn view(&self) -> NotificationView {
        NotificationView {
            order_id: self.order_id,
            user_id: self.user_id,
            state: self.state.clone(),
            channel: self.channel,
            status: self.status.as_str().to_owned(),
        }
    }
}

/// What an order's user was told so far, and what waits per channel; stored under the order's id.
///
/// Only the first of each queue has a timer: messages of one order and channel are sent in the
/// order of its events, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The rank of the newest state.
    pub newest: u8,
    /// The states that wait to be told, oldest first.
    pub queues: BTreeMap<Channel, VecDeque<String>>,
}

impl Aggregate for Notified {
    const KIND: &'static str = "notified";
}

impl Notified {
    /// Notes a state of the order and tells whether it is newer than all before.
    pub fn note(&mut self, rank: u8) -> bool {
        let news = rank >= self.newest;
        self.newest = self.newest.max(rank);
        news
    }

    /// Puts a state in line and tells whether it is the first.
    pub fn enqueue(&mut self, channel: Channel, state: &str) -> bool {
        let queue = self.queues.entry(channel).or_default();
        queue.push_back(state.to_owned());
        queue.len() == 1
    }

    /// Takes a settled state out of the line and returns the next one when it was the first.
    pub fn settle(&mut self, channel: Channel, state: &str) -> Option<String> {
        let queue = self.queues.get_mut(&channel)?;
        let was_first = queue.front().is_some_and(|first| first == state);
        queue.retain(|waiting| waiting != state);
        let next = queue.front().cloned();
        if queue.is_empty() {
            self.queues.remove(&channel);
        }
        next.filter(|_| was_first)
    }
}

#[cfg(test)]
mod tests;
