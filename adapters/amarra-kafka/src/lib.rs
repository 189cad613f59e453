#![doc = include_str!("../docs.md")]

pub mod admin;
mod client;
pub mod config;
pub mod consumer;
pub mod error;
mod fence;
pub mod transport;

pub use admin::{KafkaAdmin, TopicSpec};
pub use config::{KafkaConfig, Mode};
pub use consumer::{ConsumerConfig, KafkaConsumer, KafkaEnds, KafkaLag};
pub use error::KafkaError;
pub use transport::KafkaTransport;
