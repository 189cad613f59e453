//! The gateway: who may do what, what is refused, and what reaches a service.

mod access;
mod bench;
mod forwarding;
mod limits;
mod refusals;
mod retries;
