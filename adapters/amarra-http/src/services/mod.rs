//! A router per service: paths and bodies here, decisions in the shop.

pub mod catalog;
pub mod inventory;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod users;

use axum::Router;

use crate::respond;

/// Adds what every router has: problem documents for unknown paths and verbs.
fn finish(router: Router) -> Router {
    router.method_not_allowed_fallback(respond::wrong_verb).fallback(respond::not_found)
}

/// The bound of a page when the caller names none.
const PAGE: usize = 50;
