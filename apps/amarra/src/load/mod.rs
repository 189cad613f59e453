//! `amarra load`: customers who order through a gateway, at a rate, and what they saw.
//!
//! The same seed makes the same errands: how many lines of what, which card, who changes their
//! mind. The rate is open-loop: an order is due whether or not earlier ones were answered; when
//! `in_flight_max` of them are under way the next one waits, and that is reported as lateness.

mod errand;
mod front;
mod opening;
mod report;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amarra_core::{Environment, SeededEntropy};
use clap::Args;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::errand::Errand;
use self::front::Front;
use self::report::Seen;

/// What `amarra load` is asked to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// The gateway, as host:port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) gateway: String,
    /// The administrator's address, for products and stock.
    #[arg(long, default_value = "admin@shop.test")]
    pub(crate) admin: String,
    /// A file that holds the administrator's password.
    #[arg(long)]
    pub(crate) admin_password_file: PathBuf,
    /// Orders in all, 1 to 10,000,000.
    #[arg(long, default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) orders: u32,
    /// Orders due per second, 1 to 100,000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Orders under way at once, 1 to 10,000.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) in_flight_max: u32,
    /// Customers, 1 to 10,000; each keeps at most as many open orders as the shop allows.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) customers: u32,
    /// Pieces received of each product before the first order, 1 to 1,000,000,000.
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) stock: u32,
    /// Draws the errands.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Every order is wanted, payable and left alone: for measuring, not for finding faults.
    #[arg(long)]
    pub(crate) plain: bool,
    /// One order in so many is watched until it is confirmed, 1 to 1,000,000.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watch_every: u32,
    /// How long one request is tried, in seconds, 1 to 3,600.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) patience_s: u64,
    /// Prints JSON lines.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the customers share.
#[derive(Debug)]
struct State {
    front: Front,
    env: Environment,
    args: LoadArgs,
    seen: Mutex<Seen>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.args.patience_s)
    }
}

/// Opens the shop, orders, looks once more, and prints what was seen.
///
/// # Errors
/// What could not be opened; or that customers saw something that breaks an invariant.
pub(crate) async fn run(args: LoadArgs) -> Result<(), String> {
    let env = amarra_tokio::environment();
    let front = opening::open(&args, env.clone()).await?;
    let state = Arc::new(State { front, env, args, seen: Mutex::default() });
    if state.args.json {
        report::say(&serde_json::json!({"kind": "opened", "customers": state.args.customers}));
    }
    order(&state).await;
    errand::review(&state).await;
    let summary = report::summary(&state.args, &state.lock());
    report::print(&summary, state.args.json);
    match summary.complaints.len() {
        0 => Ok(()),
        n => Err(format!("{n} customers saw what must not be; see the complaints above")),
    }
}

async fn order(state: &Arc<State>) {
    let entropy = SeededEntropy::new(state.args.seed, "load");
    let places = Arc::new(Semaphore::new(usize::try_from(state.args.in_flight_max).unwrap_or(1)));
    let interval = Duration::from_secs(1).checked_div(state.args.rate).unwrap_or_default();
    let start = state.env.monotonic();
    let mut errands = JoinSet::new();
    for number in 0..state.args.orders {
        let due = start.plus(interval.saturating_mul(number));
        state.env.timer.sleep_until(due).await;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let now = state.env.monotonic();
        state.lock().began(start, now.since(due));
        let errand = Errand::draw(&entropy, number, &state.args);
        let state = Arc::clone(state);
        errands.spawn(async move {
            let _place = place;
            errand::run(&state, &errand).await;
        });
        // Those that have ended are let go of, so that a long run does not keep them all.
        while errands.try_join_next().is_some() {}
    }
    while errands.join_next().await.is_some() {}
    let now = state.env.monotonic();
    state.lock().ended(now);
}
