//! The tests of amarra-postgres-wal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

mod bed;
mod conformance;
mod lasting;
mod litmus;
#[path = "../../../amarra-postgres/tests/it/litmus_writers.rs"]
mod litmus_writers;
#[path = "../../../amarra-postgres/tests/it/outbox_bed.rs"]
mod outbox_bed;
mod own;
mod start;
