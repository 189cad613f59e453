//! Prints results: JSON Lines for programs, text for people.

use serde_json::Value;

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Prints JSON Lines when `json`, text otherwise.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells whether results are JSON Lines.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result both ways.
    pub(crate) fn result(self, line: &Value, text: &str) {
        if self.json {
            println!("{line}");
        } else {
            println!("{text}");
        }
    }

    /// Prints prose: never part of a result.
    pub(crate) fn say(self, text: &str) {
        if self.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}
