//! What every service is given at construction.

use std::sync::Arc;

use amarra_core::Environment;
use amarra_store::{ReadModel, Store};

/// The ports of one service: its own database and the ambient ports.
#[derive(Debug, Clone)]
pub struct ServicePorts {
    /// The service's database.
    pub store: Arc<dyn Store>,
    /// The read models in it.
    pub views: Arc<dyn ReadModel>,
    /// Clock, timer and entropy of the process.
    pub env: Environment,
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration field {field}: {why}")]
pub struct ConfigError {
    /// The field, with its path.
    pub field: &'static str,
    /// What is wrong with it and what would do.
    pub why: String,
}

impl ConfigError {
    /// Returns an error about `field` unless its condition holds.
    ///
    /// # Errors
    /// The error, with `why`.
    pub fn unless(holds: bool, field: &'static str, why: &str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { field, why: why.to_owned() }) }
    }
}
