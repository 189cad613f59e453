//! Prints figures: one JSON line each for programs, one line of text for people.

use serde_json::json;

/// Where figures go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) json: bool,
}

impl Report {
    /// Prints a figure of ours.
    pub(crate) fn row(self, case: &str, metric: &str, value: f64) {
        self.row_of("amarra", case, metric, value);
    }

    /// Prints a figure of anybody.
    pub(crate) fn row_of(self, subject: &str, case: &str, metric: &str, value: f64) {
        // Three digits behind the point are more than any of them is worth.
        let value = (value * 1000.0).round() / 1000.0;
        if self.json {
            let line = json!({"kind": "row", "subject": subject, "case": case,
                "metric": metric, "value": value});
            println!("{line}");
        } else {
            println!("{subject:8} {case:28} {metric:22} {value:>14}");
        }
    }

    /// Prints prose, never among the figures.
    pub(crate) fn say(self, text: &str) {
        eprintln!("{text}");
    }
}
