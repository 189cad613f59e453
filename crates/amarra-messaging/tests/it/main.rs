//! Integration tests: the engines against naive models, the drivers on virtual time, the wire.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs,
    reason = "tests fail by panicking"
)]

mod classes;
mod inbox_window;
mod relay_driver;
mod relay_laws;
mod relay_model;
mod relay_world;
mod runtime_driver;
mod runtime_laws;
mod runtime_model;
mod runtime_world;
mod tape;
mod virtual_time;
mod wire;
