//! Orders by the thousand, while each service and each server is killed once on the way.
//!
//! `AMARRA_CHAOS_ORDERS=10000 cargo test -p amarra --test it chaos -- --nocapture` is the long run;
//! `AMARRA_CHAOS_SEED` draws other errands and another order of kills. Where the shop comes to no
//! rest, `AMARRA_CHAOS_HOLD_S` keeps it up for so many seconds, to be looked at.

use std::process::Stdio;
use std::time::{Duration, Instant};

use amarra_core::{Entropy, SeededEntropy};
use serde_json::Value;

use super::shop::Shop;
use crate::books::{Sources, collect, judge, undetected, unsettled};

/// The seed: of the errands, and of the order in which things are killed.
const SEED: u64 = 20_261_124;
/// Orders that are placed where nothing else is asked for.
const ORDERS: u32 = 1_000;
/// How long the customers may take.
const ORDERING: Duration = Duration::from_secs(1_500);
/// How long the shop may take to come to rest after the last errand.
const SETTLING: Duration = Duration::from_secs(240);
/// Everything that is killed.
const VICTIMS: [&str; 10] = [
    "users",
    "catalog",
    "orders",
    "inventory",
    "payments",
    "notifications",
    "gateway",
    "provider",
    "postgres",
    "kafka",
];

/// Bounds that let one machine act for many customers, and faults be noticed within the test.
const OVERRIDES: &str = r#"
[gateway]
address_calls = 100000
address_burst = 100000
credentials_calls = 10000
credentials_burst = 10000
principal_calls = 10000
principal_burst = 10000

[users]
admin_email = "admin@shop.test"
password_memory_kib = 8
hashes_in_flight_max = 64

[orders]
open_orders_max = 1000
reserve_ttl = "200s"
deadline = "180s"
step_timeout = "60s"
repeat_after = "5s"

[payments]
backoff_max = "2s"

[notifications]
channels = ["email", "sms", "push"]
"#;

/// Reads a number from the environment, for runs that are longer, shorter or other.
fn chosen(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => otherwise,
    }
}

fn victims(seed: u64) -> Vec<&'static str> {
    let entropy = SeededEntropy::new(seed, "victims");
    let mut left = VICTIMS.to_vec();
    let mut drawn = Vec::new();
    while !left.is_empty() {
        let at = entropy.below(u64::try_from(left.len()).unwrap());
        drawn.push(left.remove(usize::try_from(at).unwrap()));
    }
    drawn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_outlive_the_death_of_every_service_and_server() {
    let seed = chosen("AMARRA_CHAOS_SEED", SEED);
    let orders = u32::try_from(chosen("AMARRA_CHAOS_ORDERS", ORDERS.into())).unwrap();
    let victims = victims(seed);
    // So much that the most wanted product runs out near the end.
    let stock = (orders.saturating_mul(3) / 2).to_string();
    println!("seed {seed}, {orders} orders; killed in this order: {}", victims.join(", "));
    let shop = Shop::start("chaos", OVERRIDES);
    let sources = shop.sources();
    let began = Instant::now();
    let mut load = shop
        .command()
        .args(["load", "--json", "--customers", "200", "--in-flight-max", "256"])
        .args(["--orders", &orders.to_string(), "--rate", "150", "--seed", &seed.to_string()])
        .args(["--stock", &stock, "--patience-s", "180", "--gateway", &shop.gateway()])
        .arg("--admin-password-file")
        .arg(shop.file("keys/admin.password"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for (number, victim) in (1..).zip(&victims) {
        let due = u64::from(orders) * number / u64::try_from(victims.len() + 1).unwrap();
        let placed = until_placed(&sources, due, began).await;
        println!("{:>6.1?}: {placed} orders, killing {victim}", began.elapsed());
        match *victim {
            "postgres" => shop.postgres.crash().unwrap(),
            "kafka" => shop.kafka.crash().unwrap(),
            service => shop.kill(service),
        }
    }
    let ended = loop {
        if let Some(status) = load.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < ORDERING, "the customers are not done:\n{}", shop.lines());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let printed = std::io::read_to_string(load.stdout.take().unwrap()).unwrap();
    println!("{:>6.1?}: {printed}", began.elapsed());
    assert!(ended.success(), "{printed}\n{}", shop.lines());
    let summary: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let refused = summary["refused"].as_u64().unwrap();
    assert_eq!(refused, 0, "the shop gave customers up: {}", summary["refusals"]);
    settle(&shop, &sources).await;
    println!("{:>6.1?}: at rest", began.elapsed());
    assert_eq!(deadlocks(&sources).await, [], "batches waited for each other in circles");
    let books = collect(&sources, shop.truths(), shop.told()).await.unwrap();
    assert_eq!(books.orders.len(), usize::try_from(orders).unwrap());
    let found = judge(&books);
    assert!(found.is_empty(), "seed {seed}, {} findings: {found:#?}", found.len());
    let missed = undetected(&books);
    assert!(missed.is_empty(), "planted in these books and not seen: {missed:#?}");
    shop.stop();
}

/// Names the databases in which a transaction was the victim of a deadlock since the server was
/// killed last, with how many.
async fn deadlocks(sources: &Sources) -> Vec<(String, i64)> {
    let sql = "SELECT datname::text, deadlocks FROM pg_stat_database WHERE deadlocks > 0";
    sqlx::query_as(sql).fetch_all(&sources.databases["orders"]).await.unwrap()
}

/// Waits until so many orders are placed; returns how many are.
async fn until_placed(sources: &Sources, due: u64, began: Instant) -> u64 {
    loop {
        let sql = "SELECT count(*) FROM aggregate WHERE kind = 'order'";
        let counted = sqlx::query_scalar::<_, i64>(sql).fetch_one(&sources.databases["orders"]);
        // A server that was just killed does not answer; it will.
        let placed = counted.await.map_or(0, |n| u64::try_from(n).unwrap());
        if placed >= due {
            return placed;
        }
        assert!(began.elapsed() < ORDERING, "only {placed} of {due} orders were placed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn settle(shop: &Shop, sources: &Sources) {
    let give_up = Instant::now() + SETTLING;
    loop {
        let left = unsettled(sources).await;
        if left.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        if Instant::now() >= give_up {
            eprintln!("no rest: {left:?}\n{}", shop.lines());
            tokio::time::sleep(Duration::from_secs(chosen("AMARRA_CHAOS_HOLD_S", 0))).await;
            panic!("no rest: {left:?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
