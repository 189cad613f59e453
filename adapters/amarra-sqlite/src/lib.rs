#![doc = include_str!("../docs.md")]

pub mod bus;
mod clock;
pub mod config;
mod database;
pub mod error;
mod file;
mod inbox;
mod messaging;
mod outbox_log;
mod pairing;
mod read_model;
mod store;
mod timers;
mod unit;

pub use bus::{BusConfig, MemberConfig, SqliteBus, SqliteConsumer, SqliteTransport, TopicConfig};
pub use config::{DatabaseConfig, Synchronous};
pub use database::SqliteDatabase;
pub use error::OpenError;
pub use outbox_log::SqliteOutboxLog;
pub use read_model::SqliteReadModel;
pub use store::SqliteStore;
