//! Bounds of the HTTP client and servers.

use std::time::Duration;

/// Bounds of one HTTP client and of the servers of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Largest request body a service reads, in bytes; a larger one is answered 413.
    pub request_bytes_max: usize,
    /// Largest response body a client reads, in bytes; a larger one is an error.
    pub response_bytes_max: usize,
    /// Idle connections kept per service; more are closed after use.
    pub idle_connections_max: usize,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
}

impl Default for Config {
    /// 64 KiB in, 1 MiB out, 8 idle connections, 1 s to connect.
    fn default() -> Self {
        Self {
            request_bytes_max: 64 * 1024,
            response_bytes_max: 1024 * 1024,
            idle_connections_max: 8,
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// A field of [`Config`] that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("http configuration: {field} must be above zero")]
pub struct BadConfig {
    field: &'static str,
}

impl Config {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`BadConfig`] names the field.
    pub fn validate(&self) -> Result<(), BadConfig> {
        let fields = [
            ("request_bytes_max", self.request_bytes_max == 0),
            ("response_bytes_max", self.response_bytes_max == 0),
            ("connect_timeout", self.connect_timeout.is_zero()),
        ];
        match fields.into_iter().find(|(_, bad)| *bad) {
            Some((field, _)) => Err(BadConfig { field }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_zero_is_refused_by_name() {
        assert_eq!(Config::default().validate(), Ok(()));
        let error = Config { request_bytes_max: 0, ..Config::default() }.validate().unwrap_err();
        assert!(error.to_string().contains("request_bytes_max"));
    }
}
