//! The tests of amarra-sqlite.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod backend;
mod bus;
mod bus_backend;
mod differential;
mod kill;
mod opening;
mod reference;
mod scratch;
mod sqlite;
mod uncached;
mod unit;
