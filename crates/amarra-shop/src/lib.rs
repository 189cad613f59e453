#![doc = include_str!("../README.md")]

pub mod auth;
pub mod contract;
pub mod inventory;
pub mod payments;
pub mod problem;
pub mod provider;
pub mod ports;

pub use ports::{ConfigError, ServicePorts};
