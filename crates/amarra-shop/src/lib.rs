#![doc = include_str!("../README.md")]

pub mod contract;
pub mod ports;

pub use ports::{ConfigError, ServicePorts};
