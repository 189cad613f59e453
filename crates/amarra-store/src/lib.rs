#![doc = include_str!("../README.md")]

pub mod audit;
pub mod command;
pub mod handler;
pub mod idempotency;
pub mod read_model;
pub mod session;
pub mod timer;
pub mod unit;

pub use amarra_messaging::TxError;
pub use audit::{AuditDraft, AuditRow};
pub use idempotency::{IdempotencyKey, Idempotent, StoredResponse};
pub use read_model::{Page, PageQuery, ReadModel, ViewRow};
pub use command::{Attempts, Command, execute};
pub use handler::{DueHandler, Handler};
pub use session::{Aggregate, Draft, HandlerError, Loaded, Session};
pub use timer::{Claim, DueQuery};
pub use unit::{Store, UnitOfWork};
