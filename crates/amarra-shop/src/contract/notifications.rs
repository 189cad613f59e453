//! Messages and request shapes of Notifications.

use amarra_core::codec::Message;
use serde::{Deserialize, Serialize};

use super::ids::{OrderId, UserId};

/// How a user is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// By email.
    Email,
    /// By text message.
    Sms,
    /// On a device.
    Push,
}

impl Channel {
    /// Returns the name used in keys and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Push => "push",
        }
    }
}

/// A user was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationSent {
    /// The order.
    pub order_id: OrderId,
    /// The state it tells of: the type of the order's event.
    pub state: String,
    /// How.
    pub channel: Channel,
}

/// A user was not told, for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationSuppressed {
    /// The order.
    pub order_id: OrderId,
    /// The state it would have told of.
    pub state: String,
    /// How.
    pub channel: Channel,
    /// Why not: `preference` or `stale`.
    pub reason: String,
}

impl Message for NotificationSent {
    const KIND: &'static str = "NotificationSent";
}

impl Message for NotificationSuppressed {
    const KIND: &'static str = "NotificationSuppressed";
}

/// Which channels a user wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// By email.
    pub email: bool,
    /// By text message.
    pub sms: bool,
    /// On a device.
    pub push: bool,
}

impl Default for Preferences {
    /// Email only, until the user says otherwise.
    fn default() -> Self {
        Self { email: true, sms: false, push: false }
    }
}

/// One notification as support sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationView {
    /// The order.
    pub order_id: OrderId,
    /// The user.
    pub user_id: UserId,
    /// The state it tells of.
    pub state: String,
    /// How.
    pub channel: Channel,
    /// What became of it: `queued`, `sent`, `suppressed`, `dead_lettered`.
    pub status: String,
}
