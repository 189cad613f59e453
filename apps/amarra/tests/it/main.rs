//! Tests of the binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking"
)]

#[expect(dead_code, unused_imports, reason = "the test that reads the books is not here yet")]
mod books;
