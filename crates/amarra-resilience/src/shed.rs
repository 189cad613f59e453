//! Load shedding by priority: under load the calls that matter least are refused first.

use crate::config::{ConfigError, PerMille, check};

/// How much a call matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Can be repeated or left out: browsing, prefetching.
    Sheddable,
    /// The usual.
    #[default]
    Normal,
    /// What the business lives from: checkout, capture. Never shed.
    Critical,
}

/// From which load on which priority is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// The load from which `Sheddable` calls are refused. Default 50 %.
    pub sheddable_from: PerMille,
    /// The load from which `Normal` calls are refused, at least `sheddable_from`. Default 80 %.
    pub normal_from: PerMille,
}

impl Default for Shed {
    fn default() -> Self {
        Self { sheddable_from: PerMille::percent(50), normal_from: PerMille::percent(80) }
    }
}

impl Shed {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first field outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ordered = self.normal_from >= self.sheddable_from;
        check(ordered, "normal_from", "must be at least sheddable_from")
    }

    /// Tells whether a call of `priority` is admitted at `load`.
    ///
    /// # Example
    /// ```
    /// use amarra_resilience::PerMille;
    /// use amarra_resilience::shed::{Priority, Shed};
    /// let shed = Shed::default();
    /// assert!(!shed.admits(Priority::Sheddable, PerMille::percent(60)));
    /// assert!(shed.admits(Priority::Critical, PerMille::ALL));
    /// ```
    #[must_use]
    pub fn admits(&self, priority: Priority, load: PerMille) -> bool {
        match priority {
            Priority::Critical => true,
            Priority::Normal => load < self.normal_from,
            Priority::Sheddable => load < self.sheddable_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_goes_first() {
        let shed = Shed::default();
        let check = |load, expect: [bool; 3]| {
            let got = [Priority::Sheddable, Priority::Normal, Priority::Critical]
                .map(|priority| shed.admits(priority, PerMille::percent(load)));
            assert_eq!(got, expect, "at {load} %");
        };
        check(49, [true, true, true]);
        check(50, [false, true, true]);
        check(79, [false, true, true]);
        check(80, [false, false, true]);
        check(100, [false, false, true]);
        let upside_down = Shed { normal_from: PerMille::percent(1), ..shed };
        assert_eq!(upside_down.validate().unwrap_err().field, "normal_from");
    }
}
