//! tower middleware: a breaker and a rate limiter around a `Service`.
//!
//! Both honour `poll_ready`: what refuses is asked before the inner service is, so a callee that is
//! down is not even polled, and the inner service is called exactly when it said it is ready.
//! Nothing is boxed and nothing is allocated; a refusal is a future that is ready with an error.

mod error;
mod future;
mod layer;
mod limit;
mod service;
mod shared;

pub use error::Refused;
pub use future::ResponseFuture;
pub use layer::{BreakerLayer, ByResult, Judge};
pub use limit::{LimitFuture, LimitLayer, LimitService};
pub use service::BreakerService;
pub use shared::{Handle, Lent, Shared};
