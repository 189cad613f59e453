//! The tests of amarra-kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

mod admin;
mod backend;
mod bed;
mod consumer;
mod faults;
mod reader;
mod records;
mod transport;
