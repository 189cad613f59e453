//! Publishing on Apache Kafka; what the port promises and the broker cannot is in `transport`.

pub mod config;
pub mod transport;

pub use config::{KafkaConfig, Mode};
pub use transport::KafkaTransport;
