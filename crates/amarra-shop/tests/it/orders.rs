//! Orders: the saga case by case, the API, the views.

mod api;
pub(crate) mod bench;
pub(crate) mod play;
mod random;
mod saga;
mod timers;
mod views;
