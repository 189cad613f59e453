#![doc = include_str!("../README.md")]

mod error;
mod guardian;
mod home;
mod install;
mod kafka;
mod patience;
mod port;
mod postgres;
mod process;
mod proxy;

pub use crate::error::Error;
pub use crate::home::Home;
pub use crate::install::{Part, install};
pub use crate::kafka::{Kafka, KafkaOptions};
pub use crate::postgres::{PgAuth, PgOptions, PgVersion, Postgres, Rows};
pub use crate::process::Process;
pub use crate::proxy::{CutAt, Direction, Proxy, ProxyOptions, Rule};
