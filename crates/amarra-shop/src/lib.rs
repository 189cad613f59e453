#![doc = include_str!("../README.md")]

pub mod auth;
pub mod callee;
pub mod catalog;
pub mod contract;
pub mod gateway;
pub mod inventory;
pub mod keyed;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod ports;
pub mod problem;
pub mod provider;
pub mod users;

pub use callee::{Callee, Ending, Guard};
pub use ports::{ConfigError, ServicePorts};
