//! The engine by example.
