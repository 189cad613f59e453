//! The gateway without its transport: authentication, limits, breakers and routing of requests from
//! outside.

pub mod config;
pub mod forward;
pub mod refusal;
pub mod routes;
pub mod service;
pub mod upstream;

pub use config::Config;
pub use refusal::Refusal;
pub use routes::{Access, KeyRule, Match, ROUTES, Route, Verb};
pub use service::Gateway;
pub use upstream::{Upstream, UpstreamError};
