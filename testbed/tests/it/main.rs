//! The tests of testbed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that is surprised fails"
)]

mod death;
mod kafka;
mod postgres;
mod process;
mod proxy;
