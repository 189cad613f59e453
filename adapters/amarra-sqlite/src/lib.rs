//! The embedded durable store and bus on SQLite.
