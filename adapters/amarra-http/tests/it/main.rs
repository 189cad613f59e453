//! Integration tests of the HTTP side; those in `net` use sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod bad_requests;
mod client;
mod net;
mod provider;
mod provider_client;
