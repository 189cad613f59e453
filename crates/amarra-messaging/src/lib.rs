#![doc = include_str!("../README.md")]

pub mod config;
pub mod consumer;
pub mod error;
pub mod headers;
pub mod inbox;
pub mod message;
pub mod murmur2;
pub mod outbox;
pub mod parking;
pub mod relay;
pub mod runtime;
pub mod shutdown;
pub mod signal;
pub mod transport;
pub mod wire;

pub use config::ConfigError;
pub use consumer::{Consumer, ConsumerError, Polled};
pub use error::TxError;
pub use headers::Headers;
pub use inbox::{Admit, Inbox};
pub use message::{Group, Incoming, Offset, Outgoing, Partition, Position, Record, Topic};
pub use outbox::{Outbox, OutboxLog};
pub use parking::{Parked, ParkingLot};
pub use shutdown::{Shutdown, ShutdownHandle};
pub use transport::{PublishError, Session, Transport};
