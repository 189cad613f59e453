//! One customer's errand: a quote, an order, perhaps a change of mind, and a look at the result.

use std::time::Duration;

use amarra_core::{Entropy, SeededEntropy};
use serde_json::{Value, json};

use super::front::Ask;
use super::{LoadArgs, State};

/// What one order will be, drawn beforehand so that faults do not shift later draws.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    number: u32,
    customer: usize,
    lines: Vec<(usize, u64)>,
    card: &'static str,
    cancel_after: Option<Duration>,
    twice: bool,
    deliver: bool,
    regret: bool,
    watched: bool,
}

/// Products by how often they are wanted: one over the rank.
const WANTED: &[u64] = &[840, 420, 280, 210, 168, 140];

impl Errand {
    /// Draws an errand.
    pub(super) fn draw(entropy: &SeededEntropy, number: u32, args: &LoadArgs) -> Self {
        let below = |n: u64| entropy.below(n);
        let customer = usize::try_from(below(u64::from(args.customers))).unwrap_or(0);
        let lines = (0..=below(3)).map(|_| (product(below(2058)), below(3).saturating_add(1)));
        let lines = lines.collect();
        let card = match below(100) {
            _ if args.plain => "tok_ok",
            0..=79 => "tok_ok",
            80..=88 => "tok_decline",
            89..=93 => "tok_insufficient",
            _ => "tok_nocapture",
        };
        let cancels = below(100) < 14 && !args.plain;
        let after = Duration::from_millis(below(2500));
        let (twice, deliver, regret) = (below(100) < 10, below(100) < 12, below(3) == 0);
        Self {
            number,
            customer,
            lines,
            card,
            cancel_after: cancels.then_some(after),
            twice: twice && !args.plain,
            deliver: deliver && !args.plain,
            regret,
            watched: number.is_multiple_of(args.watch_every),
        }
    }
}

fn product(mut draw: u64) -> usize {
    for (rank, weight) in WANTED.iter().enumerate() {
        if draw < *weight {
            return rank;
        }
        draw = draw.saturating_sub(*weight);
    }
    0
}

/// Runs an errand to its end.
pub(super) async fn run(state: &State, errand: &Errand) {
    let Some(token) = state.front.tokens.get(errand.customer) else { return };
    let asked = state.env.monotonic();
    let Some((order, version)) = place(state, errand, token).await else { return };
    let placed = state.env.monotonic();
    state.lock().placed(order.clone(), errand.customer, placed.since(asked));
    if errand.watched && state.args.plain {
        watch(state, token, &order).await;
        let now = state.env.monotonic();
        state.lock().confirmed(now.since(asked), now);
        return;
    }
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
    let key = |what: &str| format!("{what}-{}-{}", state.args.seed, errand.number);
    let quote = Ask::send("POST", "/v1/quotes", token, json!({"lines": lines}));
    let (status, quote) =
        state.front.until_answered(&quote.keyed(key("quote")), state.patience()).await;
    if status != 200 {
        state.lock().refused(format!("quote: {status} {quote}"));
        return None;
    }
    let body = json!({"quote": quote, "payment_token": errand.card});
    let place = Ask::send("POST", "/v1/orders", token, body).keyed(key("order"));
    let (status, placed) = state.front.until_answered(&place, state.patience()).await;
    if status != 201 {
        state.lock().refused(format!("order: {status} {placed}"));
        return None;
    }
    if errand.twice {
        let (status, again) = state.front.until_answered(&place, state.patience()).await;
        if status == 201 && again != placed {
            let what = format!("one key was answered {placed} and then {again}");
            state.lock().complain("I24", what);
        }
    }
    let order = placed.get("order_id").and_then(Value::as_str).map(str::to_owned);
    let version = placed.get("version").and_then(Value::as_u64);
    match (order, version) {
        (Some(order), Some(version)) => Some((order, version)),
        _ => {
            state.lock().complain("I24", format!("a placed order was answered {placed}"));
            None
        }
    }
}

/// Asks until the order is confirmed or has ended otherwise.
async fn watch(state: &State, token: &str, order: &str) {
    let give_up = state.env.monotonic().plus(state.patience());
    let mut wait = Duration::from_millis(20);
    while state.env.monotonic() < give_up {
        let (_, view) = state.front.once(&Ask::get(format!("/v1/orders/{order}"), token)).await;
        if !matches!(view.get("status").and_then(Value::as_str), None | Some("pending")) {
            return;
        }
        state.env.sleep(wait).await;
        wait =
            wait.saturating_mul(3).checked_div(2).unwrap_or(wait).min(Duration::from_millis(250));
    }
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
        state.lock().complain("I17", what);
    }
}

/// Another customer must neither see the order nor change it.
async fn foreign_look(state: &State, errand: &Errand, order: &str) {
    let customers = state.front.tokens.len();
    if !errand.number.is_multiple_of(10) || customers < 2 {
        return;
    }
    let other = errand.customer.saturating_add(1).checked_rem(customers).unwrap_or(0);
    let Some(token) = state.front.tokens.get(other) else { return };
    let (status, _) = state.front.once(&Ask::get(format!("/v1/orders/{order}"), token)).await;
    if status == 200 {
        state.lock().complain("I20", format!("order {order} was shown to another customer"));
    }
    let path = format!("/v1/orders/{order}/cancel");
    let key = format!("foreign-{}-{}", state.args.seed, errand.number);
    let ask = Ask::send("POST", path, token, json!({"reason": "it is not mine"})).keyed(key);
    let (status, _) = state.front.once(&ask).await;
    if matches!(status, 200..300) {
        state.lock().complain("I20", format!("order {order} was cancelled by another customer"));
    }
}

async fn cancel(state: &State, errand: &Errand, token: &str, order: &str) {
    let path = format!("/v1/orders/{order}/cancel");
    let key = format!("cancel-{}-{}", state.args.seed, errand.number);
    let ask = Ask::send("POST", path, token, json!({"reason": "changed my mind"})).keyed(key);
    // A conflict is an answer here: the order went too far.
    let give_up = state.env.monotonic().plus(state.patience());
    while state.env.monotonic() < give_up {
        let (status, accepted) = state.front.once(&ask).await;
        if matches!(status, 200..300)
            && let Some(version) = accepted.get("version").and_then(Value::as_u64)
        {
            return read_own_write(state, token, order, version).await;
        }
        if !matches!(status, 0 | 429 | 500..) {
            return;
        }
        state.env.sleep(Duration::from_millis(400)).await;
    }
}

/// The staff ships and delivers once the order is confirmed.
async fn deliver(state: &State, errand: &Errand, token: &str, order: &str) {
    if !is_confirmed(state, token, order).await {
        return;
    }
    let staff = state.front.staff.as_str();
    let key = |what: &str| format!("{what}-{}-{}", state.args.seed, errand.number);
    let path = format!("/v1/orders/{order}/ship");
    let body = json!({"tracking": format!("T{}", errand.number)});
    let ship = Ask::send("POST", path, staff, body).keyed(key("ship"));
    let (status, _) = state.front.until_answered(&ship, state.patience()).await;
    if status == 200 {
        if errand.regret {
            // Too late: what is on its way is not taken back.
            cancel(state, errand, token, order).await;
        }
        let path = format!("/v1/orders/{order}/deliver");
        let ask = Ask::send("POST", path, staff, json!({})).keyed(key("deliver"));
        state.front.until_answered(&ask, state.patience()).await;
    }
}

/// Waits until the order is confirmed; tells whether it is, or came to another end.
async fn is_confirmed(state: &State, token: &str, order: &str) -> bool {
    let give_up = state.env.monotonic().plus(state.patience());
    while state.env.monotonic() < give_up {
        state.env.sleep(Duration::from_millis(700)).await;
        let (_, view) = state.front.once(&Ask::get(format!("/v1/orders/{order}"), token)).await;
        match view.get("status").and_then(Value::as_str) {
            Some("confirmed") => return true,
            Some("cancelled" | "rejected" | "refunded" | "refunding") => return false,
            _ => {}
        }
    }
    false
}

/// Once every errand is done each customer's list holds every order placed, none of them twice.
pub(super) async fn review(state: &State) {
    let by_customer = state.lock().by_customer();
    for (customer, orders) in by_customer {
        let Some(token) = state.front.tokens.get(customer) else { continue };
        let give_up = state.env.monotonic().plus(state.patience());
        // The list follows the events: it may be a moment behind.
        loop {
            let Some(mut listed) = list(state, token).await else { break };
            let before = listed.len();
            listed.sort();
            listed.dedup();
            let doubled = listed.len() != before;
            let missing = orders.iter().filter(|o| listed.binary_search(o).is_err()).count();
            if !doubled && missing == 0 {
                break;
            }
            if doubled || state.env.monotonic() >= give_up {
                let what = format!(
                    "customer {customer} placed {} orders; the list lacks {missing}, doubled: \
                     {doubled}",
                    orders.len()
                );
                state.lock().complain("I17", what);
                break;
            }
            state.env.sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn list(state: &State, token: &str) -> Option<Vec<String>> {
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let ask = Ask::get(format!("/v1/orders?limit=50{after}"), token);
        let (status, page) = state.front.until_answered(&ask, state.patience()).await;
        if status != 200 {
            state.lock().refused(format!("list: {status} {page}"));
            return None;
        }
        let rows = page.get("orders").and_then(Value::as_array).cloned().unwrap_or_default();
        listed.extend(rows.iter().filter_map(|o| o.get("order_id")?.as_str().map(str::to_owned)));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={next}"),
            None => return Some(listed),
        }
    }
}
