//! One customer's errand: a quote, an order, perhaps a change of mind, and a look at the result.

use std::time::Duration;

use amarra_core::{Entropy, SeededEntropy};
use serde_json::{Value, json};

use super::State;
use super::http::Ask;

/// What one order will be, drawn beforehand so that faults do not shift later draws.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    number: u32,
    customer: usize,
    lines: Vec<(usize, u64)>,
    token: &'static str,
    cancel_after: Option<Duration>,
    twice: bool,
    deliver: bool,
    regret: bool,
}

/// Products by how often they are wanted: one over the rank.
const ZIPF: &[u64] = &[840, 420, 280, 210, 168, 140];

/// How long a customer tries to get an order placed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Errand {
    /// Draws an errand.
    pub(crate) fn draw(entropy: &SeededEntropy, number: u32, customers: usize) -> Self {
        let below = |n: u64| entropy.below(n);
        let customer = usize::try_from(below(u64::try_from(customers).unwrap_or(1))).unwrap_or(0);
        let lines = (0..=below(3)).map(|_| (product(below(2058)), 1 + below(3))).collect();
        let token = match below(100) {
            0..=79 => "tok_ok",
            80..=88 => "tok_decline",
            89..=93 => "tok_insufficient",
            _ => "tok_nocapture",
        };
        let cancel_after = (below(100) < 14).then(|| Duration::from_millis(below(2500)));
        let (twice, deliver, regret) = (below(100) < 10, below(100) < 12, below(3) == 0);
        Self { number, customer, lines, token, cancel_after, twice, deliver, regret }
    }
}

fn product(mut draw: u64) -> usize {
    for (rank, weight) in ZIPF.iter().enumerate() {
        if draw < *weight {
            return rank;
        }
        draw -= weight;
    }
    0
}

/// Runs an errand to its end.
pub(crate) async fn run(state: &State, errand: &Errand) {
    let Some(token) = state.front.tokens.get(errand.customer) else { return };
    let Some((order, version)) = place(state, errand, token).await else {
        state.lock().refused += 1;
        return;
    };
    state.lock().placed.push((order.clone(), errand.customer));
    read_own_write(state, token, &order, version).await;
    foreign_look(state, errand, &order).await;
    if let Some(after) = errand.cancel_after {
        state.env.sleep(after).await;
        cancel(state, errand, token, &order).await;
    } else if errand.deliver {
        deliver(state, errand, token, &order).await;
    }
}

/// Quotes and places, with one key however often it takes; returns the order and its version.
async fn place(state: &State, errand: &Errand, token: &str) -> Option<(String, u64)> {
    let lines: Vec<Value> = errand
        .lines
        .iter()
        .filter_map(|(product, qty)| {
            Some(json!({"sku": state.front.skus.get(*product)?, "qty": qty}))
        })
        .collect();
    let quote = Ask::send("POST", "/v1/quotes", token, json!({"lines": lines}))
        .keyed(format!("quote-{}", errand.number));
    let (status, quote) = state.front.until_answered(&quote, PATIENCE).await;
    if status != 200 {
        return None;
    }
    let key = format!("order-{}", errand.number);
    let body = json!({"quote": quote, "payment_token": errand.token});
    let place = Ask::send("POST", "/v1/orders", token, body).keyed(key);
    let (status, placed) = state.front.until_answered(&place, PATIENCE).await;
    if status != 201 {
        return None;
    }
    let order = placed.get("order_id")?.as_str()?.to_owned();
    if errand.twice {
        let (status, again) = state.front.until_answered(&place, PATIENCE).await;
        if status == 201 && again != placed {
            let what = format!("one key was answered {placed} and then {again}");
            state.complain("I24", what);
        }
    }
    Some((order, placed.get("version")?.as_u64()?))
}

/// A query that brings the version of an answer must show at least that version; that the view is
/// still behind is an answer, that there is nothing is none.
async fn read_own_write(state: &State, token: &str, order: &str, version: u64) {
    let path = format!("/v1/orders/{order}?min_version={version}");
    let (status, view) = state.front.once(&Ask::get(path, token)).await;
    let seen = view.get("version").and_then(Value::as_u64).unwrap_or(0);
    if (status == 200 && seen < version) || status == 404 {
        let what = format!(
            "order {order} was shown at version {seen} ({status}) to the customer who had been \
             answered {version}"
        );
        state.complain("I17", what);
    }
}

/// Another customer must neither see the order nor change it.
async fn foreign_look(state: &State, errand: &Errand, order: &str) {
    if !errand.number.is_multiple_of(10) {
        return;
    }
    let other = (errand.customer + 1) % state.front.tokens.len().max(1);
    let Some(token) = state.front.tokens.get(other) else { return };
    let (status, _) = state.front.once(&Ask::get(format!("/v1/orders/{order}"), token)).await;
    if status == 200 {
        state.complain("I20", format!("order {order} was shown to another customer"));
    }
    let path = format!("/v1/orders/{order}/cancel");
    let body = json!({"reason": "it is not mine"});
    let ask = Ask::send("POST", path, token, body).keyed(format!("foreign-{}", errand.number));
    let (status, _) = state.front.once(&ask).await;
    if matches!(status, 200..300) {
        state.complain("I20", format!("order {order} was cancelled by another customer"));
    }
}

async fn cancel(state: &State, errand: &Errand, token: &str, order: &str) {
    let path = format!("/v1/orders/{order}/cancel");
    let body = json!({"reason": "changed my mind"});
    let ask = Ask::send("POST", path, token, body).keyed(format!("cancel-{}", errand.number));
    // A conflict is an answer here: the order went too far.
    let give_up = state.env.monotonic().plus(Duration::from_secs(20));
    while state.env.monotonic() < give_up {
        let (status, accepted) = state.front.once(&ask).await;
        if matches!(status, 200..300)
            && let Some(version) = accepted.get("version").and_then(Value::as_u64)
        {
            return read_own_write(state, token, order, version).await;
        }
        if !matches!(status, 0 | 401 | 429 | 500..) {
            return;
        }
        state.env.sleep(Duration::from_millis(400)).await;
    }
}

/// The staff ships and delivers once the order is confirmed.
async fn deliver(state: &State, errand: &Errand, token: &str, order: &str) {
    for _ in 0..40 {
        state.env.sleep(Duration::from_millis(700)).await;
        let (_, view) = state.front.once(&Ask::get(format!("/v1/orders/{order}"), token)).await;
        match view.get("status").and_then(Value::as_str) {
            Some("confirmed") => break,
            Some("cancelled" | "rejected" | "refunded" | "refunding") => return,
            _ => {}
        }
    }
    let staff = state.front.staff.as_str();
    let path = format!("/v1/orders/{order}/ship");
    let body = json!({"tracking": format!("T{}", errand.number)});
    let ship = Ask::send("POST", path, staff, body).keyed(format!("ship-{}", errand.number));
    let (status, _) = state.front.until_answered(&ship, Duration::from_secs(20)).await;
    if status == 200 {
        if errand.regret {
            // Too late: what is on its way is not taken back.
            cancel(state, errand, token, order).await;
        }
        let path = format!("/v1/orders/{order}/deliver");
        let ask = Ask::send("POST", path, staff, json!({}));
        let ask = ask.keyed(format!("deliver-{}", errand.number));
        state.front.until_answered(&ask, Duration::from_secs(20)).await;
    }
}

/// Once everything is at rest each customer's list holds exactly the orders placed.
pub(crate) async fn review(state: &State) {
    for (customer, mut orders) in state.by_customer() {
        let Some(token) = state.front.tokens.get(customer) else { continue };
        let mut listed = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/v1/orders?limit=20{after}");
            let (status, page) = state.front.until_answered(&Ask::get(path, token), PATIENCE).await;
            let rows = page.get("orders").and_then(Value::as_array).cloned().unwrap_or_default();
            if status != 200 {
                break;
            }
            let ids = rows.iter().filter_map(|o| o.get("order_id")?.as_str().map(str::to_owned));
            listed.extend(ids);
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        listed.sort();
        orders.sort();
        let doubled = listed.windows(2).any(|pair| pair.first() == pair.last());
        // An order whose answer never came is listed although the customer gave it up.
        if doubled || orders.iter().any(|order| !listed.contains(order)) {
            let what = format!(
                "customer {customer} placed {} orders and the list shows {}",
                orders.len(),
                listed.len()
            );
            state.complain("I17", what);
        }
    }
}
