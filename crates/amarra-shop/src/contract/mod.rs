//! What services know of each other: ids, money, topics, messages, and the shapes of requests.

pub mod api;
pub mod catalog;
pub mod ids;
pub mod inventory;
pub mod money;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod topics;
pub mod users;

pub use api::{ApiError, Caller, Principal, Role};
pub use ids::{OrderId, PaymentId, QuoteId, RefundId, ReservationId, Sku, UserId};
pub use money::{Currency, Money, MoneyError};
