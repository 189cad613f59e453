//! Orders: the order aggregate, the order saga and the refund saga, the views and the timeline.

mod commands;
mod config;
mod flow;
mod model;
mod reply;
mod service;
mod steps;
mod view;

pub use config::Config;
pub use model::{Decision, Driver, Duty, Emit, Entry, IllegalTransition, Order, Trigger, entry};
pub use service::{Accepted, OrderPage, Orders, QuoteCheck};
pub use view::{BY_USER, ORDER, TIMELINE};
