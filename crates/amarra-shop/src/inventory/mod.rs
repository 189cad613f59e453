//! Inventory: what is on the shelf, what is held of it, and for which order.

mod commands;
pub mod model;
pub mod reservation;
mod service;
mod stock;
pub mod view;

pub use model::{LedgerCause, LedgerEntry, Movement, StockError, StockItem};
pub use reservation::{Reservation, ReservationStatus};
pub use service::{Config, Inventory};
pub use view::ReservationView;
