//! The tests of amarra-postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

mod backend;
mod bridge;
mod conformance;
mod differential;
mod full;
mod inbox;
mod kept;
mod litmus;
mod litmus_writers;
mod outbox_bed;
mod own;
mod restored;
mod roles;
mod start;
mod upkeep;
