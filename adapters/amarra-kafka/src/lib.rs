//! Publishing on Apache Kafka; what the port promises and the broker cannot is in `transport`.

pub mod config;
pub mod consumer;
pub mod transport;

pub use config::{KafkaConfig, Mode};
pub use consumer::{ConsumerConfig, KafkaConsumer};
pub use transport::KafkaTransport;
