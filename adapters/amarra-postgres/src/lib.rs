#![doc = include_str!("../docs.md")]

mod audit;
pub mod config;
pub mod database;
mod ending;
pub mod error;
mod idempotency;
pub mod inbox;
pub mod log;
pub mod migrate;
pub mod outbox;
mod parking;
pub mod partitions;
pub mod provision;
pub mod read_model;
mod sql;
pub mod store;
mod timers;
mod unit;
pub mod wake;

pub use config::PgConfig;
pub use database::PgDatabase;
pub use error::PgError;
pub use inbox::PgInbox;
pub use log::{PgLogConfig, PgOutboxLog};
pub use migrate::{Migrations, migrate};
pub use outbox::{OutboxRows, PgOutbox};
pub use partitions::{PartitionsConfig, PgPartitions, Upkeep};
pub use provision::{Provision, provision};
pub use read_model::PgReadModel;
pub use store::PgStore;
pub use wake::{BridgeConfig, PgWakeBridge, Touched, Wake};
