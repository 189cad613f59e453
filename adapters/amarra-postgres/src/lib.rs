#![doc = include_str!("../docs.md")]

pub mod config;
pub mod database;
pub mod error;
pub mod migrate;
pub mod outbox;
pub mod wake;

pub use config::{InboxMode, PgConfig};
pub use database::PgDatabase;
pub use error::PgError;
pub use migrate::Migrations;
