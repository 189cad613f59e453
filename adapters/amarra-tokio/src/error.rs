//! Why a task group cannot be made.

use amarra_core::{Class, Classify};

/// A field of a configuration that cannot work. Class `Fatal`: correct the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task group configuration: {field} {rule}")]
pub struct BadConfig {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

impl Classify for BadConfig {
    fn class(&self) -> Class {
        Class::Fatal
    }
}
