//! What the customers saw, and its summary.

use std::collections::BTreeMap;
use std::time::Duration;

use amarra_core::Monotonic;
use serde::Serialize;

use super::LoadArgs;
use crate::output;

/// Complaints and refusals kept of one run; the first ones matter.
const KEPT_MAX: usize = 20;

/// What is noted while the customers order.
#[derive(Debug, Default)]
pub(super) struct Seen {
    start: Option<Monotonic>,
    end: Option<Monotonic>,
    last_confirmed: Option<Monotonic>,
    late_max: Duration,
    refused: u64,
    refusals: Vec<String>,
    complaints: Vec<Complaint>,
    orders: Vec<(String, usize)>,
    place: Vec<Duration>,
    confirm: Vec<Duration>,
}

/// Something a customer saw that should not have been, with the invariant it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Complaint {
    /// The invariant's name.
    pub(super) invariant: &'static str,
    /// What was seen.
    pub(super) what: String,
}

impl Seen {
    /// Notes that an order began, so much later than it was due.
    pub(super) fn began(&mut self, start: Monotonic, late: Duration) {
        self.start = Some(start);
        self.late_max = self.late_max.max(late);
    }

    /// Notes that every errand is done.
    pub(super) fn ended(&mut self, now: Monotonic) {
        self.end = Some(now);
    }

    /// Notes an order that was placed, and how long it took.
    pub(super) fn placed(&mut self, order: String, customer: usize, took: Duration) {
        self.orders.push((order, customer));
        self.place.push(took);
    }

    /// Notes that a watched order left its first state, and how long that took.
    pub(super) fn confirmed(&mut self, took: Duration, now: Monotonic) {
        self.confirm.push(took);
        self.last_confirmed = Some(now);
    }

    /// Notes an order that was not placed.
    pub(super) fn refused(&mut self, why: String) {
        self.refused = self.refused.saturating_add(1);
        if self.refusals.len() < KEPT_MAX {
            self.refusals.push(why);
        }
    }

    /// Notes what breaks an invariant.
    pub(super) fn complain(&mut self, invariant: &'static str, what: String) {
        if self.complaints.len() < KEPT_MAX {
            self.complaints.push(Complaint { invariant, what });
        }
    }

    /// Returns the orders of each customer.
    pub(super) fn by_customer(&self) -> BTreeMap<usize, Vec<String>> {
        let mut map: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (id, customer) in &self.orders {
            map.entry(*customer).or_default().push(id.clone());
        }
        map
    }
}

/// The whole run in figures; times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    kind: &'static str,
    seed: u64,
    orders: u32,
    placed: usize,
    refused: u64,
    refusals: Vec<String>,
    /// From the first order that was due to the last watched one that was confirmed.
    seconds: f64,
    orders_per_s: f64,
    late_max_ms: u128,
    place_p50_ms: f64,
    place_p99_ms: f64,
    confirm_p50_ms: f64,
    confirm_p99_ms: f64,
    watched: usize,
    pub(super) complaints: Vec<Complaint>,
}

/// Sums a run up.
pub(super) fn summary(args: &LoadArgs, seen: &Seen) -> Summary {
    let end = seen.last_confirmed.max(seen.end);
    let took = match (seen.start, end) {
        (Some(start), Some(end)) => end.since(start),
        _ => Duration::ZERO,
    };
    Summary {
        kind: "load",
        seed: args.seed,
        orders: args.orders,
        placed: seen.orders.len(),
        refused: seen.refused,
        refusals: seen.refusals.clone(),
        seconds: took.as_secs_f64(),
        orders_per_s: per_second(seen.orders.len(), took),
        late_max_ms: seen.late_max.as_millis(),
        place_p50_ms: millis(&seen.place, 500),
        place_p99_ms: millis(&seen.place, 990),
        confirm_p50_ms: millis(&seen.confirm, 500),
        confirm_p99_ms: millis(&seen.confirm, 990),
        watched: seen.confirm.len(),
        complaints: seen.complaints.clone(),
    }
}

#[expect(clippy::float_arithmetic, reason = "a figure to be read, nothing is decided by it")]
fn per_second(count: usize, took: Duration) -> f64 {
    let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    count / took.as_secs_f64().max(0.001)
}

/// Returns a quantile, in thousandths, as milliseconds; zero of nothing.
#[expect(clippy::float_arithmetic, reason = "a figure to be read, nothing is decided by it")]
fn millis(times: &[Duration], thousandths: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = times.len().saturating_mul(thousandths) / 1000;
    let at = rank.min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Prints a line of JSON.
pub(super) fn say(line: &impl Serialize) {
    output::say(&serde_json::to_string(line).unwrap_or_default());
}

/// Prints the summary.
pub(super) fn print(summary: &Summary, json: bool) {
    if json {
        return say(summary);
    }
    output::say(&format!(
        "{} orders due, {} placed, {} refused, in {:.1} s: {:.0} a second",
        summary.orders, summary.placed, summary.refused, summary.seconds, summary.orders_per_s
    ));
    output::say(&format!(
        "placed within {:.1} ms (p50) and {:.1} ms (p99); confirmed within {:.1} and {:.1} ms, of \
         {} watched",
        summary.place_p50_ms,
        summary.place_p99_ms,
        summary.confirm_p50_ms,
        summary.confirm_p99_ms,
        summary.watched
    ));
    for why in &summary.refusals {
        output::say(&format!("refused: {why}"));
    }
    for complaint in &summary.complaints {
        output::say(&format!("{}: {}", complaint.invariant, complaint.what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert!((millis(&times, 500) - 51.0).abs() < 0.001);
        assert!((millis(&times, 990) - 100.0).abs() < 0.001);
        assert!(millis(&[], 990).abs() < 0.001);
    }
}
