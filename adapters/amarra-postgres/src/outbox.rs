//! The outbox port: appends rows inside the caller's transaction.
