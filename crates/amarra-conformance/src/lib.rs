#![doc = include_str!("../README.md")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a law fails by panicking; it runs in tests only"
)]

mod backend;
pub mod barrier;
mod broker;
mod check;
pub mod clock;
pub mod codec;
pub mod command;
pub mod consumer;
pub mod differential;
pub mod entropy;
pub mod handler;
pub mod harness;
pub mod inbox;
pub mod inbox_offset;
pub mod inbox_window;
mod law;
pub mod ledger;
pub mod litmus;
pub mod log;
pub mod outbox;
pub mod parking;
mod partition;
pub mod processor;
pub mod read_model;
mod reader;
pub mod timer;
pub mod transport;
pub mod unit;

pub use backend::{
    Backend, BrokerBackend, ClockBackend, CodecBackend, CommandBackend, CommitLoss, EntropyBackend,
    Golden, HandlerBackend, ProcessorBackend, PublishLoss, StoreBackend,
};
pub use harness::{Harness, ManualClock};
pub use law::Law;

/// Returns every behaviour of every suite.
///
/// # Example
/// ```
/// let laws: Vec<_> = amarra_conformance::laws().collect();
/// assert!(laws.iter().any(|law| law.law == "OBL-3" && law.port == "OutboxLog"));
/// ```
pub fn laws() -> impl Iterator<Item = &'static Law> {
    [
        clock::LAWS,
        entropy::LAWS,
        codec::LAWS,
        outbox::LAWS,
        log::LAWS,
        transport::LAWS,
        consumer::LAWS,
        inbox::LAWS,
        inbox_window::LAWS,
        inbox_offset::LAWS,
        parking::LAWS,
        processor::LAWS,
        unit::LAWS,
        timer::LAWS,
        read_model::LAWS,
        barrier::LAWS,
        handler::LAWS,
        command::LAWS,
    ]
    .into_iter()
    .flatten()
}
