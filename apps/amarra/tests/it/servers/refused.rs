//! A record that the broker takes for too large: set aside with what follows of its key, released
//! when an operator raised the bound.

use std::time::Duration;

use amarra_shop::contract::topics;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::processes::{books, stock};
use super::shop::Shop;
use crate::front::{Ask, Front, PATIENCE, until};

const TOPIC: &str = topics::CATALOG;
/// What a batch of one record weighs besides its key, payload and headers, and a little more.
const MARGIN: usize = 260;
/// Four bytes each in UTF-8: the longest name is longer than the margin by far.
const LONG: &str = "\u{1F375}";

/// Every record of the topic: its key, what it is, and its bytes.
fn records(shop: &Shop) -> Vec<(String, String, usize)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shop.kafka.bootstrap()).set("group.id", "reads everything");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE).unwrap();
    let (mut all, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(TOPIC, partition.id(), Offset::Beginning).unwrap();
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition.id(), PATIENCE).unwrap();
        left += high - low;
    }
    consumer.assign(&all).unwrap();
    let mut found = Vec::new();
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        left -= 1;
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).into_owned();
        let headers: Vec<_> = message.headers().unwrap().iter().collect();
        let kind = headers.iter().find(|header| header.key == "ce_type").unwrap().value;
        let weight = |n: usize, header: &rdkafka::message::Header<'_, &[u8]>| {
            n + header.key.len() + header.value.map_or(0, <[u8]>::len) + 3
        };
        let bytes = message.payload_len() + message.key_len() + headers.iter().fold(0, weight);
        found.push((text(message.key()), text(kind), bytes));
    }
    found
}

/// Bounds the records of the topic.
fn bound(shop: &Shop, bytes: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shop.kafka.bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let bytes = bytes.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(TOPIC)).set("max.message.bytes", &bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let changed = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new()));
    assert!(changed.unwrap().iter().all(Result::is_ok));
}

/// Runs through it, on a shop that has sold nothing of these two products yet.
pub(super) fn a_record_too_large_waits_for_its_operator(shop: &Shop, front: &Front, staff: &str) {
    let largest = records(shop).iter().map(|(.., bytes)| *bytes).max().unwrap();
    bound(shop, largest + MARGIN);
    stock(front, staff, "LONG-1", &LONG.repeat(120));
    let (_, view) = front.ask(&Ask::get("/v1/products/LONG-1"));
    assert_ne!(view["published"], true, "its publication has not arrived: {view}");
    let parked = || books(shop, &["outbox", "parked", "--service", "catalog"])["parked"].clone();
    until("the broker has refused the record", || parked() == 1);
    // What follows of its key waits behind it; other keys go on.
    let again = json!({"price": {"minor": 700, "currency": "EUR"}, "expected_version": 3});
    let ask = Ask::put("/v1/products/LONG-1/price", again);
    front.until(&ask.by(staff).keyed("again-LONG-1"), 200);
    stock(front, staff, "SHORT-1", "short");
    until("the other product is shown", || front.ask(&Ask::get("/v1/products/SHORT-1")).0 == 200);
    until("the next of its key waits too", || parked() == 2);
    let lines = verb(shop, &["outbox", "parked", "--service", "catalog"]);
    assert_eq!((&lines[0]["topic"], &lines[0]["key"]), (&json!(TOPIC), &json!("LONG-1")));
    assert!(lines[0]["reason"].as_str().is_some_and(|why| !why.is_empty()), "{}", lines[0]);
    assert!(!lines[0].to_string().contains(LONG), "the payload is shown: {}", lines[0]);
    bound(shop, 1_048_588);
    let lines = verb(shop, &["outbox", "replay", "--service", "catalog", "--key", "LONG-1"]);
    assert_eq!(lines.last().unwrap()["released"], 2);
    until("nothing is set aside", || parked() == 0);
    until("the product is shown as it is now", || {
        let (status, view) = front.ask(&Ask::get("/v1/products/LONG-1"));
        status == 200 && view["price"]["minor"] == 700
    });
    let kinds = || {
        let all = records(shop).into_iter();
        all.filter(|(key, ..)| key == "LONG-1").map(|(_, kind, _)| kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), ["PriceChanged", "ProductPublished", "PriceChanged"]);
}

/// Runs an operator's verb and returns its lines.
fn verb(shop: &Shop, args: &[&str]) -> Vec<serde_json::Value> {
    let mut command = shop.command();
    command.args(args).arg("--json").arg("--config").arg(shop.file("amarra.toml"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
