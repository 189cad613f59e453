//! What an experiment is judged by: load on the backend, and what the customers get.

use std::time::Duration;

use amarra_core::Monotonic;
use serde_json::json;

use super::backend::Fault;
use super::{DOWN, END};

/// A request of a customer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// When it was sent.
    pub(crate) began: Monotonic,
    /// How long the customer waited.
    pub(crate) took: Duration,
    /// Whether the answer was a good one, and in time.
    pub(crate) good: bool,
}

/// The result of one experiment. Ratios are in hundredths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    fault: &'static str,
    policies: &'static str,
    /// Requests at the backend for each request of a customer, while the backend is down.
    amplification: u64,
    /// The same over the ten seconds after it is back.
    recovering: u64,
    /// The same in the worst single second from then on.
    peak: u64,
    /// From when on, after the fix, 95 % of the requests of each second are answered well.
    recovery_s: Option<u64>,
    /// The share of good answers after the fix, in percent.
    good_percent: u64,
    /// The median wait for a good answer, and the longest of the best 99 %.
    wait_ms: (u64, u64),
}

/// The share of requests of a second that have to be answered well, in percent.
const GOOD_PERCENT: u64 = 95;
/// How long after the fix the backend counts as recovering.
const RECOVERING: u64 = 10;

impl Row {
    /// Sums an experiment up.
    pub(crate) fn of(
        (fault, policies): (Fault, &'static str),
        asked: &[Asked],
        arrivals: &[Monotonic],
    ) -> Self {
        let offered = per_second(asked.iter().map(|a| a.began));
        let good = per_second(asked.iter().filter(|a| a.good).map(|a| a.began));
        let load = per_second(arrivals.iter().copied());
        let ratio =
            |span: std::ops::Range<u64>| hundredths(sum(&load, span.clone()), sum(&offered, span));
        // Over the whole run where nothing fails.
        let down = if fault == Fault::Late { 0..END } else { DOWN };
        let back = if fault == Fault::Late { 0..END } else { DOWN.end..END };
        let bad = |s: &u64| {
            let second = *s..*s + 1;
            sum(&good, second.clone()) * 100 < GOOD_PERCENT * sum(&offered, second)
        };
        let last_bad = (back.start..END).rev().find(bad);
        let recovered = last_bad.map_or(0, |s| s + 1 - back.start);
        let mut waits: Vec<Duration> = asked.iter().filter(|a| a.good).map(|a| a.took).collect();
        waits.sort_unstable();
        let wait = |percent: usize| {
            let index = waits.len().saturating_sub(1) * percent / 100;
            waits.get(index).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
        };
        Self {
            fault: fault.name(),
            policies,
            amplification: ratio(down),
            recovering: ratio(back.start..back.start + RECOVERING),
            peak: (back.start..END).map(|s| ratio(s..s + 1)).max().unwrap_or(0),
            recovery_s: Some(recovered).filter(|s| back.start + s < END),
            good_percent: hundredths(sum(&good, back.clone()), sum(&offered, back)),
            wait_ms: (wait(50), wait(99)),
        }
    }

    /// Prints it: a line of JSON, or of a table.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let line = json!({
                "kind": "row", "fault": self.fault, "policies": self.policies,
                "amplification": shown(self.amplification), "recovering": shown(self.recovering),
                "peak": shown(self.peak), "recovery_s": self.recovery_s,
                "good_percent": self.good_percent,
                "wait_p50_ms": self.wait_ms.0, "wait_p99_ms": self.wait_ms.1,
            });
            println!("{line}");
            return;
        }
        let recovery = self.recovery_s.map_or_else(|| "never".to_owned(), |s| format!("{s} s"));
        println!(
            "{:<40} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8}",
            self.policies,
            shown(self.amplification),
            shown(self.recovering),
            shown(self.peak),
            recovery,
            format!("{} %", self.good_percent),
            self.wait_ms.0,
            self.wait_ms.1,
        );
    }
}

/// Prints the head of a table.
pub(crate) fn heading(fault: Fault) {
    let what = match fault {
        Fault::Refuses => "the backend refuses everything for 20 s, and is cold after it",
        Fault::Stalls => "the backend takes requests and works on none for 20 s, and is cold then",
        Fault::Late => "nothing fails; one answer in fifty is late",
    };
    println!("\n{what}");
    println!(
        "{:<40} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8}",
        "policies of every tier",
        "outage",
        "10 s on",
        "peak",
        "recovery",
        "good",
        "p50 ms",
        "p99 ms"
    );
}

fn per_second(times: impl Iterator<Item = Monotonic>) -> Vec<u64> {
    let mut counts = Vec::new();
    for time in times {
        let second = usize::try_from(time.as_nanos() / 1_000_000_000).unwrap_or(0);
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        if let Some(count) = counts.get_mut(second) {
            *count += 1;
        }
    }
    counts
}

fn sum(counts: &[u64], span: std::ops::Range<u64>) -> u64 {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(counts.len());
    counts.get(at(span.start)..at(span.end)).map_or(0, |part| part.iter().sum())
}

fn hundredths(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

/// Writes hundredths as a decimal number.
fn shown(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
