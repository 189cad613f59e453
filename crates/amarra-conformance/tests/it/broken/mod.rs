//! Backends with one defect each, and the laws that notice it.

mod ambient;
mod backend;
mod broker;
mod defect;
mod inbox;
mod litmus;
mod log;
mod noticed;
mod store;
mod unit;

pub use self::defect::{DEFECT, Defect, current};
