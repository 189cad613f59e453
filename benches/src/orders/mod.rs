//! Orders through the whole shop: confirmed a second at saturation, and how long each takes.

mod shop;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::{Connection as _, PgConnection};

use self::shop::{Load, Shop};
use crate::Failure;
use crate::process::cpu_micros;
use crate::report::Report;
use crate::servers::Servers;

const CASE: &str = "orders";
/// How long a request to a server, or the last confirmations, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any shop confirms: the bound on orders under way is what holds the customers back.
const RATE_MAX: u32 = 10_000;

/// How the orders come.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary of the shop.
    pub(crate) program: PathBuf,
    /// Orders at saturation; a tenth as many warm the shop up, half as many come at half the rate.
    pub(crate) orders: u32,
    /// Orders being placed, or watched until they are confirmed, at once.
    pub(crate) in_flight: u32,
}

/// What was used so far.
struct Used {
    /// Processor time in microseconds, by process.
    cpu: BTreeMap<String, u64>,
    transactions: i64,
    flushes: i64,
    messages: i64,
}

/// Starts the shop on the servers, orders, and reports.
pub(crate) async fn run(
    servers: &Servers,
    report: Report,
    options: &Options,
) -> Result<(), Failure> {
    let shop = Shop::start(servers, &options.program)?;
    let load = |seed: u64, orders: u32, rate: u32, watch_every: u32| Load {
        seed,
        orders,
        rate,
        in_flight: options.in_flight,
        watch_every,
    };
    let orders = options.orders.max(20);
    let warm = orders / 10;
    report.say(&format!("{CASE}: warming up"));
    shop.order(&load(1, warm, RATE_MAX, 10))?.end()?;
    until_confirmed(servers, warm).await?;
    report.say(&format!("{CASE}: {orders} orders, {} at once", options.in_flight));
    let ordering = shop.order(&load(2, orders, RATE_MAX, 10))?;
    let opened = Instant::now();
    let began = used(servers, &shop, ordering.pid()).await?;
    // The customers look at all their orders in the end, which counts for nobody.
    until_confirmed(servers, warm + orders).await?;
    // Not by what the customers saw: those whom nobody watches are confirmed last.
    let seconds = opened.elapsed().as_secs_f64();
    let ended = used(servers, &shop, ordering.pid()).await?;
    let full = ordering.end()?;
    let per_second = f64::from(orders) / seconds;
    report.row(CASE, "confirmed_per_s", per_second);
    report.row(CASE, "p50_ms_saturated", full.confirm_p50_ms);
    report.row(CASE, "p99_ms_saturated", full.confirm_p99_ms);
    shares(report, orders, &began, &ended);
    let rate = (per_second / 2.0).max(1.0) as u32;
    report.say(&format!("{CASE}: {rate} orders a second"));
    let half = shop.order(&load(3, orders / 2, rate, 2))?.end()?;
    report.row(CASE, "p50_ms", half.confirm_p50_ms);
    report.row(CASE, "p99_ms", half.confirm_p99_ms);
    report.row(CASE, "place_p50_ms", half.place_p50_ms);
    report.row(CASE, "place_p99_ms", half.place_p99_ms);
    until_confirmed(servers, warm + orders + orders / 2).await?;
    shop.stop()
}

/// Waits until Orders shows so many orders as confirmed.
async fn until_confirmed(servers: &Servers, orders: u32) -> Result<(), Failure> {
    let mut conn = PgConnection::connect(&servers.url("amarra_orders")).await?;
    let begin = Instant::now();
    let mut last = (0, begin);
    loop {
        let count = "SELECT count(*) FROM order_view WHERE status = 'confirmed'";
        let confirmed: i64 = sqlx::query_scalar(count).fetch_one(&mut conn).await?;
        if confirmed >= i64::from(orders) {
            return Ok(());
        }
        if confirmed > last.0 {
            last = (confirmed, Instant::now());
        }
        if last.1.elapsed() > PATIENCE {
            return Err(format!("{confirmed} of {orders} orders are confirmed").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn used(servers: &Servers, shop: &Shop, load: u32) -> Result<Used, Failure> {
    let mut cpu: BTreeMap<String, u64> = shop.pids().into_iter().map(read).collect();
    let (postgres, kafka) = servers.cpu_micros();
    cpu.extend([("postgres".to_owned(), postgres), ("kafka".to_owned(), kafka)]);
    cpu.extend([read(("load".to_owned(), load))]);
    // Backends tell of what they did once a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut conn = PgConnection::connect(&servers.url("postgres")).await?;
    let transactions = "SELECT sum(xact_commit)::bigint FROM pg_stat_database \
                        WHERE datname LIKE 'amarra_%'";
    let transactions = sqlx::query_scalar(transactions).fetch_one(&mut conn).await?;
    let flushes = "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'";
    let flushes = sqlx::query_scalar(flushes).fetch_one(&mut conn).await?;
    conn.close().await?;
    Ok(Used { cpu, transactions, flushes, messages: messages(&servers.bootstrap())? })
}

fn read((name, pid): (String, u32)) -> (String, u64) {
    (name, cpu_micros(&pid.to_string()))
}

/// Counts the records of every topic of the shop.
fn messages(bootstrap: &str) -> Result<i64, Failure> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let metadata = consumer.fetch_metadata(None, PATIENCE)?;
    let shops = metadata.topics().iter().filter(|t| t.name().contains('.'));
    let mut sum = 0;
    for topic in shops {
        for partition in topic.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), PATIENCE)?;
            sum += high - low;
        }
    }
    Ok(sum)
}

/// Reports what one order costs whom.
fn shares(report: Report, orders: u32, began: &Used, ended: &Used) {
    let per_order = |begin: i64, end: i64| (end - begin) as f64 / f64::from(orders);
    let row = |metric, value| report.row(CASE, metric, value);
    row("transactions_per_order", per_order(began.transactions, ended.transactions));
    row("flushes_per_order", per_order(began.flushes, ended.flushes));
    row("messages_per_order", per_order(began.messages, ended.messages));
    for (name, end) in &ended.cpu {
        let begin = began.cpu.get(name).copied().unwrap_or(0);
        let micros = end.saturating_sub(begin) as f64 / f64::from(orders);
        report.row_of(name, CASE, "cpu_us_per_order", micros);
    }
}
