//! Why a server or client over sockets cannot be made.

use std::net::SocketAddr;
use std::path::PathBuf;

use amarra_core::{Class, Classify};

/// Why a server or client over sockets cannot be made. All are of class `Fatal` but
/// [`NetError::Bind`]: correct the configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// A field is out of range.
    #[error("{field} {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The address cannot be listened on. Class `Transient`: another process may let it go.
    #[error("cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Plain HTTP was asked for on an address that other machines reach.
    #[error(
        "refusing plain HTTP on {address}: configure tls, listen on a loopback address, or set \
         plain_off_loopback"
    )]
    PlainOffLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key file cannot be used. Nothing of its content is shown.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate, key and authority do not make a TLS configuration.
    #[error("tls: {0}")]
    Tls(String),
    /// A service's address is not `host:port`.
    #[error("address {address:?} of service {service}: must be host:port")]
    Address {
        /// The service.
        service: String,
        /// The text.
        address: String,
    },
}

impl Classify for NetError {
    fn class(&self) -> Class {
        match self {
            Self::Bind { .. } => Class::Transient,
            _ => Class::Fatal,
        }
    }
}
