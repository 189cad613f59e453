//! amarra-resilience: one breaker in front of a plain closure and of a tower service.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::cell::Cell;
use std::future::{Ready, poll_fn, ready};
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::Harness;
use amarra_resilience::breaker::{Breaker, Config, Outcome};
use amarra_resilience::tower::{BreakerLayer, Refused};
use amarra_resilience::{Monotonic, PerMille};
use examples::Fallible;
use tower::{Layer, Service, service_fn};

/// What both call: it is down until the third second.
fn quote(now: Monotonic) -> Result<u32, &'static str> {
    if now.since(Monotonic::default()) >= Duration::from_secs(3) { Ok(42) } else { Err("down") }
}

fn said(answer: &Result<u32, &'static str>) -> String {
    match answer {
        Ok(price) => format!("{price}"),
        Err(error) => (*error).to_owned(),
    }
}

fn main() -> Fallible<()> {
    Harness::new(7).block_on(run())
}

async fn run() -> Fallible<()> {
    let config = Config {
        calls_min: 2,
        half_open_permits: 1,
        open_jitter: PerMille::new(0),
        ramp: Duration::ZERO,
        ..Config::default()
    };
    let breaker = Arc::new(Breaker::new("quotes", config, 42)?);
    let now = Cell::new(Monotonic::default());
    let clock = || now.get();
    let inner = service_fn(|()| -> Ready<Result<u32, &'static str>> { ready(quote(now.get())) });
    let mut service = BreakerLayer::new(Arc::clone(&breaker), clock).layer(inner);
    for second in 0_u64..6 {
        now.set(Monotonic::default().plus(Duration::from_secs(second)));
        // The closure: the breaker is asked, then told what came of it.
        let closure = match breaker.call(clock, Outcome::of_result, || quote(now.get())) {
            Ok(answer) => said(&answer),
            Err(_) => "refused".to_owned(),
        };
        // The service: as long as the breaker refuses it is not even asked whether it is ready.
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(|_| "not ready")?;
        let service = match service.call(()).await {
            Ok(price) => format!("{price}"),
            Err(Refused::Inner(error)) => error.to_owned(),
            Err(Refused::Refused(_)) => "refused".to_owned(),
        };
        println!("{second}s  closure: {closure}, service: {service}");
    }
    println!("the breaker is {:?} at the end", breaker.snapshot().state);
    Ok(())
}
