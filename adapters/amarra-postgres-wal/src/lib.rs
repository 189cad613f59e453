#![doc = include_str!("../docs.md")]

pub mod config;
mod decode;
pub mod error;
pub mod log;
mod place;
pub mod setup;
mod shelf;
pub mod stream;

pub use config::WalConfig;
pub use error::WalError;
pub use log::{WalOutboxLog, WalStatus};
pub use setup::{admit, publish};
pub use stream::WalStream;
