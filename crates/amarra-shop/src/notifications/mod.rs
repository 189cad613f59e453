//! Notifications: one message per order, state and channel, in the order of the order's events.

mod config;
mod dispatch;
mod intake;
mod model;
mod service;

pub use config::Config;
pub use dispatch::{OutgoingNotification, SendError, Sender};
pub use model::{
    Begin, Finish, Notification, Notified, Preference, Reason, Status, UNDONE, dedupe_key, rank,
};
pub use service::Notifications;
