//! What the process counts, as Prometheus reads it. Labels come from fixed lists only.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_core::{Environment, Monotonic};
use amarra_kafka::KafkaLag;
use amarra_messaging::OutboxLog;
use amarra_messaging::message::Seq;
use amarra_messaging::outbox::Backlog;
use amarra_postgres_wal::{WalOutboxLog, WalStatus};
use amarra_shop::Guard;
use amarra_shop::gateway::routes::{Match, ROUTES, find};
use amarra_store::WorkerStats;
use futures_util::future::join_all;
use http::{Method, StatusCode};

use super::callee;
use super::health::{MemberWatch, RelayWatch};

/// Parked rows that are counted at most: beyond, the figure is a lower bound.
const PARKED_ROWS_MAX: usize = 10_000;
/// How long the brokers may take to tell how far the groups are behind; what they do not tell is
/// left out.
const LAG_PATIENCE: Duration = Duration::from_secs(1);
/// Classes of status codes: `1xx` to `5xx`.
const CLASSES: usize = 5;

/// The figures of a process.
#[derive(Debug)]
pub(crate) struct Metrics {
    env: Environment,
    started: Monotonic,
    services: Mutex<Vec<Arc<Requests>>>,
    parts: Mutex<Vec<Part>>,
}

#[derive(Debug, Clone)]
enum Part {
    Relay(&'static str, Arc<RelayWatch>, Arc<dyn OutboxLog>),
    Followed(&'static str, Arc<WalOutboxLog>),
    Member { service: &'static str, group: String, watch: Arc<MemberWatch>, lag: Option<KafkaLag> },
    Worker { service: &'static str, kind: String, stats: Arc<WorkerStats> },
    Callee(&'static str, Arc<Guard>),
}

/// The requests of one service, by route; the last row is for what is no route.
#[derive(Debug)]
struct Requests {
    service: &'static str,
    routes: Vec<Row>,
}

#[derive(Debug, Default)]
struct Row {
    classes: [AtomicU64; CLASSES],
    micros: AtomicU64,
    /// Requests that nobody waited for to the end.
    dropped: AtomicU64,
}

/// Counts one request when it is answered, or given up.
#[derive(Debug)]
pub(crate) struct RequestTimer {
    requests: Arc<Requests>,
    route: usize,
    env: Environment,
    began: Monotonic,
    answered: bool,
}

impl RequestTimer {
    /// The request was answered.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.answered = true;
        let Some(row) = self.requests.routes.get(self.route) else { return };
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = row.classes.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let took = self.env.monotonic().since(self.began).as_micros();
        row.micros.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        if let Some(row) = self.requests.routes.get(self.route).filter(|_| !self.answered) {
            row.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Metrics {
    /// Starts to count.
    pub(crate) fn new(env: Environment) -> Self {
        let started = env.monotonic();
        Self { env, started, services: Mutex::default(), parts: Mutex::default() }
    }

    /// Begins to count a request of a service.
    pub(crate) fn request(
        &self,
        service: &'static str,
        method: &Method,
        path: &str,
    ) -> RequestTimer {
        let route = match find(method, path) {
            Match::Found(route) => ROUTES.iter().position(|r| std::ptr::eq(r, route)),
            Match::OtherVerbs(_) | Match::Nothing => None,
        };
        RequestTimer {
            requests: self.of(service),
            route: route.unwrap_or(ROUTES.len()),
            env: self.env.clone(),
            began: self.env.monotonic(),
            answered: false,
        }
    }

    fn of(&self, service: &'static str) -> Arc<Requests> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = services.iter().find(|known| known.service == service) {
            return Arc::clone(known);
        }
        let routes = (0..=ROUTES.len()).map(|_| Row::default()).collect();
        let new = Arc::new(Requests { service, routes });
        services.push(Arc::clone(&new));
        new
    }

    /// Shows a relay from now on.
    pub(crate) fn relay(
        &self,
        service: &'static str,
        watch: Arc<RelayWatch>,
        log: Arc<dyn OutboxLog>,
    ) {
        self.add(Part::Relay(service, watch, log));
    }

    /// Shows a relay's way along the write-ahead log from now on.
    pub(crate) fn followed(&self, service: &'static str, log: Arc<WalOutboxLog>) {
        self.add(Part::Followed(service, log));
    }

    /// Shows a group member from now on.
    pub(crate) fn member(
        &self,
        service: &'static str,
        group: &str,
        watch: Arc<MemberWatch>,
        lag: Option<KafkaLag>,
    ) {
        self.add(Part::Member { service, group: group.to_owned(), watch, lag });
    }

    /// Shows a worker from now on, through what it returns.
    pub(crate) fn worker(&self, service: &'static str, kind: &str) -> Arc<WorkerStats> {
        let stats = Arc::new(WorkerStats::default());
        let kind = kind.to_owned();
        self.add(Part::Worker { service, kind, stats: Arc::clone(&stats) });
        stats
    }

    /// Shows the calls to one callee from now on.
    pub(crate) fn callee(&self, service: &'static str, guard: Arc<Guard>) {
        self.add(Part::Callee(service, guard));
    }

    fn add(&self, part: Part) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    }

    /// Writes everything in Prometheus's text format.
    pub(crate) async fn render(&self) -> String {
        let mut text = Text::default();
        let uptime = self.env.monotonic().since(self.started);
        text.value(("amarra_uptime_seconds", "gauge", "Time since the start."), &[], &secs(uptime));
        self.requests(&mut text);
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lags(&mut text, &parts).await;
        for part in &parts {
            match part {
                Part::Relay(service, watch, log) => {
                    relay(&mut text, service, watch);
                    if let Ok(shards) = log.backlog().await {
                        backlog(&mut text, service, &shards);
                    }
                    if let Ok(parked) = log.parked(Seq(0), PARKED_ROWS_MAX).await {
                        let help = "Messages parked in the outbox, 10000 or more shown as that.";
                        let labels = [("service", *service)];
                        let n = parked.len().to_string();
                        text.value(("amarra_outbox_parked", "gauge", help), &labels, &n);
                    }
                }
                Part::Followed(service, log) => followed(&mut text, service, &log.status()),
                Part::Member { service, group, watch, .. } => {
                    member(&mut text, service, group, watch);
                }
                Part::Worker { service, kind, stats } => worker(&mut text, service, kind, stats),
                Part::Callee(service, guard) => callee::render(&mut text, service, guard),
            }
        }
        text.finish()
    }

    fn requests(&self, text: &mut Text) {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for requests in services {
            for (index, row) in requests.routes.iter().enumerate() {
                let route = ROUTES.get(index).map_or_else(
                    || "other".to_owned(),
                    |r| format!("{} {}", r.verb.as_str(), r.pattern),
                );
                requests_of(text, requests.service, &route, row);
            }
        }
    }
}

fn requests_of(text: &mut Text, service: &str, route: &str, row: &Row) {
    let mut answered = 0_u64;
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&row.classes) {
        let count = count.load(Ordering::Relaxed);
        answered = answered.saturating_add(count);
        if count > 0 {
            let labels = [("service", service), ("route", route), ("class", class)];
            let help = "Requests answered, by route and class of status.";
            text.value(
                ("amarra_http_requests_total", "counter", help),
                &labels,
                &count.to_string(),
            );
        }
    }
    let labels = [("service", service), ("route", route)];
    if answered > 0 {
        let took = secs(Duration::from_micros(row.micros.load(Ordering::Relaxed)));
        let help = "Time spent on answered requests, in all.";
        text.value(("amarra_http_seconds_total", "counter", help), &labels, &took);
    }
    let dropped = row.dropped.load(Ordering::Relaxed);
    if dropped > 0 {
        let help = "Requests whose client went away.";
        let name = "amarra_http_dropped_total";
        text.value((name, "counter", help), &labels, &dropped.to_string());
    }
}

fn backlog(text: &mut Text, service: &str, shards: &[Backlog]) {
    let labels = [("service", service)];
    let waiting = shards.iter().fold(0_u64, |sum, shard| sum.saturating_add(shard.waiting));
    let help = "Committed messages that are not acknowledged.";
    text.value(("amarra_outbox_waiting", "gauge", help), &labels, &waiting.to_string());
    let oldest = shards.iter().filter_map(|shard| shard.oldest).max().unwrap_or_default();
    let help = "Age of the oldest message that is not acknowledged.";
    text.value(("amarra_outbox_oldest_seconds", "gauge", help), &labels, &secs(oldest));
}

fn relay(text: &mut Text, service: &str, watch: &RelayWatch) {
    let labels = [("service", service)];
    let stats = &watch.stats;
    for (name, help, count) in [
        (
            "published_total",
            "Messages acknowledged by the broker, repeats included.",
            &stats.published,
        ),
        ("parked_total", "Messages parked since the start.", &stats.parked),
        ("fenced_total", "Shards lost to a newer owner.", &stats.fenced),
        ("failures_total", "Failed calls to the broker or the outbox.", &stats.failures),
    ] {
        let name = format!("amarra_relay_{name}");
        text.value((&name, "counter", help), &labels, &count.load(Ordering::Relaxed).to_string());
    }
    let age = Duration::from_micros(stats.backlog_age_micros.load(Ordering::Relaxed));
    let help = "Age of the oldest message when it was last read.";
    text.value(("amarra_relay_age_seconds", "gauge", help), &labels, &secs(age));
}

fn followed(text: &mut Text, service: &str, status: &WalStatus) {
    let labels = [("service", service)];
    let following = if status.following { "1" } else { "0" };
    let help = "1 while the write-ahead log is followed; otherwise the table is read.";
    text.value(("amarra_relay_wal_following", "gauge", help), &labels, following);
    let help = "Streams of the write-ahead log that began.";
    let name = "amarra_relay_wal_streams_total";
    text.value((name, "counter", help), &labels, &status.streams.to_string());
    let help = "Rows read by the relay, by where they came from.";
    for (from, count) in [("log", status.from_log), ("table", status.from_table)] {
        let labels = [("service", service), ("from", from)];
        let name = "amarra_relay_wal_rows_total";
        text.value((name, "counter", help), &labels, &count.to_string());
    }
}

fn member(text: &mut Text, service: &str, group: &str, watch: &MemberWatch) {
    let labels = [("service", service), ("group", group)];
    let stats = &watch.stats;
    for (name, help, count) in [
        ("applied_total", "Messages applied, skipped or parked behind their key.", &stats.applied),
        ("failed_total", "Batches that failed and were tried again.", &stats.failed),
        ("parked_total", "Messages parked as poison since the start.", &stats.parked),
        ("fenced_total", "Calls refused for an old generation.", &stats.fenced),
    ] {
        let name = format!("amarra_consumer_{name}");
        text.value((&name, "counter", help), &labels, &count.load(Ordering::Relaxed).to_string());
    }
    let help = "Age of the first message of the last batch when it was applied.";
    text.value(("amarra_consumer_age_seconds", "gauge", help), &labels, &secs(watch.age()));
    let help = "Partitions assigned.";
    let partitions = watch.partitions().to_string();
    text.value(("amarra_consumer_partitions", "gauge", help), &labels, &partitions);
}

/// Asks all at once: without a broker each of them takes all of its time.
async fn lags(text: &mut Text, parts: &[Part]) {
    let asked = parts.iter().filter_map(|part| match part {
        Part::Member { service, group, lag: Some(lag), .. } => Some(async move {
            let read = lag.read(LAG_PATIENCE).await;
            (*service, group, read.unwrap_or_default())
        }),
        _ => None,
    });
    for (service, group, partitions) in join_all(asked).await {
        for (at, messages) in partitions {
            let partition = at.partition.0.to_string();
            let labels = [
                ("service", service),
                ("group", group),
                ("topic", at.topic.as_str()),
                ("partition", &partition),
            ];
            let help = "Messages behind what the group committed, in the partitions assigned.";
            let name = "amarra_consumer_lag_messages";
            text.value((name, "gauge", help), &labels, &messages.to_string());
        }
    }
}

fn worker(text: &mut Text, service: &str, kind: &str, stats: &WorkerStats) {
    let labels = [("service", service), ("kind", kind)];
    for (name, help, count) in [
        ("claimed_total", "Due timers claimed.", &stats.claimed),
        ("done_total", "Claims acted on.", &stats.done),
        ("failed_total", "Claims left to their lease.", &stats.failed),
        ("claim_failures_total", "Failures to claim.", &stats.claim_failures),
    ] {
        let name = format!("amarra_worker_{name}");
        text.value((&name, "counter", help), &labels, &count.load(Ordering::Relaxed).to_string());
    }
}

/// Writes a duration as seconds.
fn secs(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

/// A family's name, kind and help.
pub(super) type Family<'a> = (&'a str, &'a str, &'a str);

/// Lines by family, each family with its help before its values.
#[derive(Debug, Default)]
pub(super) struct Text {
    families: std::collections::BTreeMap<String, (String, Vec<String>)>,
}

impl Text {
    pub(super) fn value(
        &mut self,
        (name, kind, help): Family<'_>,
        labels: &[(&str, &str)],
        value: &str,
    ) {
        let family = self.families.entry(name.to_owned()).or_insert_with(|| {
            (format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"), Vec::new())
        });
        let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> =
            labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        family.1.push(format!("{name}{labels} {value}\n"));
    }

    pub(super) fn finish(self) -> String {
        self.families.into_values().fold(String::new(), |mut text, (head, lines)| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{head}{}", lines.concat());
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_route_and_what_is_no_route_is_other() {
        let metrics = Metrics::new(amarra_tokio::environment());
        let ask = |method: Method, path: &str| metrics.request("orders", &method, path);
        ask(Method::POST, "/v1/orders").answered(StatusCode::CREATED);
        ask(Method::GET, "/etc/passwd?\"").answered(StatusCode::NOT_FOUND);
        drop(ask(Method::GET, "/v1/orders"));
        let text = metrics.render().await;
        for line in [
            r#"amarra_http_requests_total{service="orders",route="POST /v1/orders",class="2xx"} 1"#,
            r#"amarra_http_requests_total{service="orders",route="other",class="4xx"} 1"#,
            r#"amarra_http_dropped_total{service="orders",route="GET /v1/orders"} 1"#,
            "# TYPE amarra_uptime_seconds gauge",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("passwd"));
    }
}
