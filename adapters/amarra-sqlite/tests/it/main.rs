//! The tests of amarra-sqlite.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]

mod backend;
mod sqlite;
mod unit;
