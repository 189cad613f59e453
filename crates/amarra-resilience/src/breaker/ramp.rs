//! The slow start after closing: a growing share of the calls, spread evenly over them.

use super::config::Config;
use super::settings::nanos;

/// What a ramp admits at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Thousandths of the calls.
    pub(super) thousandths: u64,
    /// Nanoseconds until the share grows.
    pub(super) grows_in: u64,
}

/// Returns what a ramp that began `passed` nanoseconds ago admits, `None` when it is over.
pub(super) fn share(config: &Config, passed: u64) -> Option<Share> {
    let length = nanos(config.ramp);
    if passed >= length {
        return None;
    }
    let steps = u64::from(config.ramp_steps.max(1));
    let step_length = length.checked_div(steps).unwrap_or(0).max(1);
    let step = passed.checked_div(step_length).unwrap_or(0).min(steps);
    let thousandths = step
        .saturating_add(1)
        .saturating_mul(1000)
        .checked_div(steps.saturating_add(1))
        .unwrap_or(1000);
    let grows_at = step_length.saturating_mul(step.saturating_add(1)).min(length);
    Some(Share { thousandths, grows_in: grows_at.saturating_sub(passed) })
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn the_share_grows_step_by_step_and_says_when() {
        let config = Config { ramp: Duration::from_secs(4), ramp_steps: 4, ..Config::default() };
        let check = |millis: u64, expect: Option<(u64, u64)>| {
            let got = share(&config, millis * 1_000_000);
            assert_eq!(got.map(|s| (s.thousandths, s.grows_in / 1_000_000)), expect, "{millis}");
        };
        check(0, Some((200, 1000)));
        check(999, Some((200, 1)));
        check(1000, Some((400, 1000)));
        check(1500, Some((400, 500)));
        check(3000, Some((800, 1000)));
        check(4000, None);
    }
}
