//! Real sockets: an accept loop, connections to services by name, and mutual TLS.

pub mod config;
pub mod connect;
pub mod error;
pub mod server;
pub mod tls;

pub use config::ListenConfig;
pub use connect::{TcpConnect, TokioSpawn};
pub use error::NetError;
pub use server::HttpServer;
pub use tls::{ClientTls, ServerTls, TlsConfig};
