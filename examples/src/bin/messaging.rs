//! amarra-messaging: an order and its event are committed together; the broker stores the event
//! twice, and it is applied once.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amarra_core::codec::Message;
use amarra_core::{Codec, PartitionKey};
use amarra_memory::observer::Published;
use amarra_memory::{Effect, Faults, Hooks, Observer, Operation, Site, Verdict};
use amarra_messaging::{Group, Incoming, Topic};
use amarra_store::{Aggregate, Draft, Handler, HandlerError, Session, Store};
use async_trait::async_trait;
use examples::{Fallible, Process, Service};
use serde::{Deserialize, Serialize};

const TOPIC: &str = "orders";

/// An order's state, and what its event says.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    sku: String,
}

impl Aggregate for Order {
    const KIND: &'static str = "order";
}

impl Message for Order {
    const KIND: &'static str = "OrderPlaced";
}

/// Saves an order and appends its event, in one transaction.
async fn place(orders: &Service, id: &str, sku: &str) -> Fallible {
    let mut unit = orders.store.begin().await?;
    let cause = orders.cause("ada");
    let mut session = Session::new(unit.as_mut(), &orders.env, "/example/orders", cause);
    let mut loaded = session.load::<Order>(id).await?;
    let version = session.save(&mut loaded, Order { sku: sku.into() }, "place").await?;
    let (key, message) = (PartitionKey::new(id), &Order { sku: sku.into() });
    session.emit(Draft { topic: TOPIC, key, subject: &loaded.id, version, message }).await?;
    unit.commit().await?;
    println!("orders:     {id} is saved, its event is in the outbox");
    Ok(())
}

/// Counts what was sold of each product.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sold(u32);

impl Aggregate for Sold {
    const KIND: &'static str = "sold";
}

#[derive(Debug)]
struct Statistics(Group, [Topic; 1]);

#[async_trait]
impl Handler for Statistics {
    fn group(&self) -> &Group {
        &self.0
    }
    fn topics(&self) -> &[Topic] {
        &self.1
    }

    async fn handle(&self, session: &mut Session<'_>, m: &Incoming) -> Result<(), HandlerError> {
        let placed: Order = Codec::new().decode(&m.envelope)?;
        let mut loaded = session.load::<Sold>(&placed.sku).await?;
        let sold = loaded.state.as_ref().map_or(0, |sold| sold.0).saturating_add(1);
        println!("statistics: {} of {} sold", sold, placed.sku);
        session.save(&mut loaded, Sold(sold), "count").await?;
        Ok(())
    }
}

/// Stores the first publish twice, as a retry after a lost answer may.
#[derive(Debug, Default)]
struct Network(AtomicBool);

impl Faults for Network {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let is_publish = matches!(site.operation, Operation::Publish { .. });
        let is_first = is_publish && !self.0.swap(true, Ordering::Relaxed);
        Verdict::of(if is_first { Effect::Duplicate } else { Effect::Proceed })
    }
}

impl Observer for Network {
    fn published(&self, p: &Published) {
        println!("broker:     stored at {}/{} offset {}", p.topic, p.partition, p.offset);
    }
}

fn main() -> Fallible {
    let network = Arc::new(Network::default());
    let hooks = Hooks::default().with_faults(network.clone()).with_observer(network);
    let process = Process::new(&[TOPIC], hooks)?;
    let (orders, statistics) = (process.service("orders")?, process.service("statistics")?);
    process.relay(&orders)?;
    let handler = Arc::new(Statistics(Group::from("statistics"), [TOPIC.into()]));
    process.consume(&statistics, "/example/statistics", handler)?;

    process.block_on(async {
        for (id, sku) in [("o-1", "tea"), ("o-2", "cup"), ("o-3", "tea")] {
            place(&orders, id, sku).await?;
        }
        // Enough for both copies of every event to arrive.
        statistics.env.sleep(Duration::from_secs(10)).await;
        let changes = |sku| {
            let id = Sold::aggregate_id(sku);
            statistics.database.inspect(|db| db.aggregate(&id).map_or(0, |s| s.version.get()))
        };
        println!("in the end: tea {} times, cup {} times", changes("tea"), changes("cup"));
        Ok(())
    })
}
