//! How users look from outside.

use amarra_core::Timestamp;

use super::model::{Status, User};
use crate::contract::users::UserView;

/// Shows a user without anything personal.
#[must_use]
pub fn user_view(user: &User, now: Timestamp) -> UserView {
    let status = match user.status {
        Status::Pending => "pending_verification",
        Status::Locked { .. } if !user.may_log_in(now) => "locked",
        Status::Active | Status::Locked { .. } => "active",
    };
    UserView {
        user_id: user.user_id,
        status: status.to_owned(),
        roles: user.roles.iter().copied().collect(),
    }
}
