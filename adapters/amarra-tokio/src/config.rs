//! Bounds of a task group.

use std::time::Duration;

use amarra_messaging::ConfigError;

/// Bounds of one [`TaskGroup`](crate::TaskGroup).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskGroupConfig {
    /// How long tasks may take to end once a stop was requested; those that take longer are aborted
    /// and named in the end's report. Above zero. 20 s: longer than the longest request and the
    /// commit of a batch, shorter than the 30 s after which orchestrators kill.
    pub drain_timeout: Duration,
}

impl Default for TaskGroupConfig {
    /// 20 s to drain.
    fn default() -> Self {
        Self { drain_timeout: Duration::from_secs(20) }
    }
}

impl TaskGroupConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(!self.drain_timeout.is_zero(), "drain_timeout", "above zero")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_without_time_is_refused_by_name() {
        assert_eq!(TaskGroupConfig::default().validate(), Ok(()));
        let error = TaskGroupConfig { drain_timeout: Duration::ZERO }.validate().unwrap_err();
        assert!(error.to_string().contains("drain_timeout"));
    }
}
