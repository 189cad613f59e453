#![doc = include_str!("../README.md")]

pub mod caller;
pub mod client;
pub mod config;
pub mod error;
pub mod gateway;
#[cfg(feature = "net")]
pub mod net;
pub mod peer;
pub mod provider;
pub mod respond;
pub mod server;
pub mod services;
pub mod upstream;
pub mod webhooks;

pub use client::{Connect, HttpClient, Io, Spawn};
pub use config::Config;
pub use error::HttpError;
pub use peer::Peer;
pub use server::serve_connection;
