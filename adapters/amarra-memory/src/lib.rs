#![doc = include_str!("../README.md")]

pub mod broker;
pub mod client;
pub mod config;
pub mod database;
pub mod error;
pub mod faults;
pub mod hooks;
pub mod observer;

pub use broker::{MemoryBroker, MemoryConsumer, MemoryTransport};
pub use client::ClientId;
pub use config::{Assignor, BrokerConfig, DatabaseConfig, MemberOptions};
pub use database::{MemoryDatabase, MemoryOutboxLog, MemoryStore};
pub use error::ConfigError;
pub use faults::{Effect, Faults, Operation, Site, Verdict};
pub use hooks::Hooks;
pub use observer::Observer;
