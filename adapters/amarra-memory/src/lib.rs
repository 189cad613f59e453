//! In-memory model of Postgres and Kafka semantics with a fault hook; the embedded bus.
