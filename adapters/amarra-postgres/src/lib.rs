//! The store, outbox, inbox and read models on PostgreSQL.
