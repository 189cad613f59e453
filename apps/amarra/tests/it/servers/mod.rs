//! The six services, the gateway and the provider as processes on real servers.

mod chaos;
mod processes;
mod refused;
mod shop;
mod wal;
