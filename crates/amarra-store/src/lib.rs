#![doc = include_str!("../README.md")]

pub mod audit;
pub mod command;
pub mod handler;
pub mod idempotency;
pub mod processor;
pub mod read_model;
pub mod replay;
pub mod session;
pub mod timer;
pub mod unit;
pub mod worker;

pub use amarra_messaging::TxError;
pub use audit::{AuditDraft, AuditRow};
pub use command::{Attempts, Command, execute};
pub use handler::{DueHandler, Handler};
pub use idempotency::{IdempotencyKey, Idempotent, StoredResponse};
pub use processor::TransactionalProcessor;
pub use read_model::{Page, PageQuery, ReadModel, ViewName, ViewRow};
pub use replay::{Replay, Replayer};
pub use session::{Aggregate, Draft, HandlerError, Loaded, Session};
pub use timer::{Claim, Due, DueQuery};
pub use unit::{Store, UnitOfWork};
pub use worker::{Worker, WorkerConfig, WorkerStats};
