//! Catalog: products, prices, signed quotes, and availability as Inventory last said.

pub mod commands;
pub mod config;
pub mod model;
pub mod quote;
pub mod service;
pub mod view;

pub use config::Config;
pub use model::{Price, Product, Rejection, Status};
pub use service::Catalog;
pub use view::{ProductPage, ProductRow};
