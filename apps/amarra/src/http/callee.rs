//! Figures of the calls to one callee: how they ended, and what its breaker thinks.

use amarra_resilience::breaker::State;
use amarra_shop::{Ending, Guard};

use super::metrics::Text;

/// The states of a breaker, each with its name.
const STATES: [(State, &str); 6] = [
    (State::Closed, "closed"),
    (State::Open, "open"),
    (State::HalfOpen, "half_open"),
    (State::ForcedOpen, "forced_open"),
    (State::Disabled, "disabled"),
    (State::MetricsOnly, "metrics_only"),
];

/// Writes them.
pub(super) fn render(text: &mut Text, service: &str, guard: &Guard) {
    let labels = [("service", service), ("callee", guard.name())];
    let help = "Outgoing calls by how they ended.";
    for ending in Ending::ALL {
        let [service, callee] = labels;
        let labels = [service, callee, ("ending", ending.as_str())];
        let count = guard.ended(ending).to_string();
        text.value(("amarra_outgoing_calls_total", "counter", help), &labels, &count);
    }
    let help = "Tries of outgoing calls, those refused before they were sent apart.";
    let tries = guard.tries().to_string();
    text.value(("amarra_outgoing_tries_total", "counter", help), &labels, &tries);
    let help = "Outgoing calls that have not ended.";
    let in_flight = guard.in_flight().to_string();
    text.value(("amarra_outgoing_in_flight", "gauge", help), &labels, &in_flight);
    let Some(breaker) = guard.breaker() else { return };
    let seen = breaker.snapshot();
    let help = "The breaker's state as of the last call: 1 for the one it is in.";
    for (state, name) in STATES {
        let [service, callee] = labels;
        let labels = [service, callee, ("state", name)];
        let value = if state == seen.state { "1" } else { "0" };
        text.value(("amarra_breaker_state", "gauge", help), &labels, value);
    }
    let help = "Open periods of the breaker, one after another.";
    text.value(("amarra_breaker_trips", "gauge", help), &labels, &seen.trips.to_string());
    let help = "Answers that came after the breaker's period had ended.";
    let stale = seen.stale.to_string();
    text.value(("amarra_breaker_stale_total", "counter", help), &labels, &stale);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use amarra_resilience::breaker::{self, Breaker, Mode};
    use amarra_resilience::{CallOptions, Pipeline};
    use amarra_shop::Callee;
    use amarra_shop::gateway::UpstreamError;

    use super::*;

    #[tokio::test]
    async fn a_callee_shows_its_calls_and_its_breaker() {
        let env = amarra_tokio::environment();
        let breaker = Arc::new(Breaker::new("orders", breaker::Config::default(), 1).unwrap());
        let pipeline = Pipeline::builder("orders")
            .deadline(Duration::from_secs(5))
            .breaker(Arc::clone(&breaker))
            .timeout(Duration::from_secs(5));
        let callee = Callee::new(Arc::new(()), pipeline.unwrap());
        let call = || {
            callee.call(&env, CallOptions::default(), |_, _| async { Ok::<_, UpstreamError>(()) })
        };
        assert!(call().await.is_ok());
        breaker.set_mode(env.monotonic(), Mode::ForcedOpen);
        assert!(call().await.is_err());
        let mut text = Text::default();
        render(&mut text, "gateway", callee.guard());
        let text = text.finish();
        for (name, own, value) in [
            ("outgoing_calls_total", r#",ending="answered""#, 1),
            ("outgoing_calls_total", r#",ending="breaker_open""#, 1),
            ("outgoing_tries_total", "", 1),
            ("outgoing_in_flight", "", 0),
            ("breaker_state", r#",state="forced_open""#, 1),
            ("breaker_state", r#",state="closed""#, 0),
        ] {
            let of = r#"service="gateway",callee="orders""#;
            let line = format!("amarra_{name}{{{of}{own}}} {value}");
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
