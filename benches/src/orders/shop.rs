//! A supervised shop on the servers of a run, and the customers who order there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use testbed::Process;

use crate::Failure;
use crate::servers::Servers;

/// Bounds that let one machine act for many customers; nothing that an order costs is changed.
const OVERRIDES: &str = r#"
[gateway]
address_calls = 100000
address_burst = 100000
credentials_calls = 10000
credentials_burst = 10000
principal_calls = 10000
principal_burst = 10000
in_flight_max = 512
queue_max = 4096

[users]
admin_email = "admin@shop.test"
password_memory_kib = 8
hashes_in_flight_max = 64

[orders]
open_orders_max = 100000
"#;
/// Customers who take turns.
const CUSTOMERS: &str = "50";

/// The processes of a shop; they end with this value.
#[derive(Debug)]
pub(super) struct Shop {
    program: PathBuf,
    supervisor: Child,
    folder: PathBuf,
    pids: BTreeMap<String, u32>,
    gateway: String,
}

/// How customers order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) seed: u64,
    pub(super) orders: u32,
    /// Orders a second.
    pub(super) rate: u32,
    pub(super) in_flight: u32,
    /// One order in so many is watched until it is confirmed.
    pub(super) watch_every: u32,
}

/// Customers who are ordering.
#[derive(Debug)]
pub(super) struct Ordering {
    customers: Child,
    lines: Lines<BufReader<ChildStdout>>,
    orders: u32,
}

/// What the customers report, as far as it is of interest.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Summary {
    placed: u32,
    refused: u64,
    /// Shown where it is not empty.
    #[expect(dead_code, reason = "printed with the rest when something was refused")]
    refusals: Vec<String>,
    pub(super) place_p50_ms: f64,
    pub(super) place_p99_ms: f64,
    pub(super) confirm_p50_ms: f64,
    pub(super) confirm_p99_ms: f64,
}

impl Shop {
    /// Starts one, and waits until it is ready.
    pub(super) fn start(servers: &Servers, program: &Path) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("amarra-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let overrides = folder.join("overrides.toml");
        std::fs::write(&overrides, OVERRIDES)?;
        let mut command = Command::new(program);
        command.args(["supervise", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data"));
        command.arg("--config").arg(overrides);
        command.args(["--postgres", &servers.url("postgres")]);
        command.args(["--kafka", &servers.bootstrap()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut supervisor = command.spawn().map_err(|e| {
            format!(
                "cannot start {}: {e}; build it with `cargo build --release -p amarra`",
                program.display()
            )
        })?;
        let mut lines = lines(&mut supervisor)?;
        let (pids, gateway, program) = (BTreeMap::new(), String::new(), program.to_owned());
        let mut shop = Self { program, supervisor, folder, pids, gateway };
        while shop.gateway.is_empty() {
            let line = lines.next().ok_or("the shop did not start")??;
            shop.note(&serde_json::from_str(&line)?);
        }
        // What it says from now on is read, so that it never waits to say it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(shop)
    }

    fn note(&mut self, event: &Value) {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("event") {
            "started" => {
                let pid = event.get("pid").and_then(Value::as_u64);
                let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
                self.pids.insert(text("service").to_owned(), pid);
            }
            "all_ready" => {
                let url = text("url").trim_start_matches("http://").trim_end_matches('/');
                self.gateway = url.to_owned();
            }
            _ => {}
        }
    }

    /// Returns the process of each service.
    pub(super) fn pids(&self) -> BTreeMap<String, u32> {
        self.pids.clone()
    }

    /// Lets customers order; returns once the shop is open for them.
    pub(super) fn order(&self, load: &Load) -> Result<Ordering, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["load", "--json", "--plain", "--customers", CUSTOMERS]);
        command.args(["--stock", "1000000", "--gateway", &self.gateway]);
        command.args(["--orders", &load.orders.to_string(), "--rate", &load.rate.to_string()]);
        command.args(["--in-flight-max", &load.in_flight.to_string()]);
        command.args(["--seed", &load.seed.to_string()]);
        command.args(["--watch-every", &load.watch_every.to_string()]);
        command.arg("--admin-password-file").arg(self.folder.join("data/keys/admin.password"));
        let mut customers = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = lines(&mut customers)?;
        lines.next().ok_or("the customers found no shop")??;
        Ok(Ordering { customers, lines, orders: load.orders })
    }

    /// Stops it in order.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        Process::of(self.supervisor.id())?.signal("TERM")?;
        let status = self.supervisor.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the shop ended with {status}").into()) }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Its processes end with it; it may have ended by itself.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Ordering {
    /// Returns the customers' process.
    pub(super) fn pid(&self) -> u32 {
        self.customers.id()
    }

    /// Waits for the last of them, and returns what they saw.
    pub(super) fn end(mut self) -> Result<Summary, Failure> {
        let line = self.lines.next().ok_or("the customers said nothing")??;
        let summary: Summary = serde_json::from_str(&line)?;
        let status = self.customers.wait()?;
        if !status.success() || summary.placed != self.orders || summary.refused > 0 {
            return Err(format!("the customers ended with {status}: {summary:?}").into());
        }
        Ok(summary)
    }
}

impl Drop for Ordering {
    fn drop(&mut self) {
        // They may have ended by themselves.
        let _ = self.customers.kill();
        let _ = self.customers.wait();
    }
}

fn lines(child: &mut Child) -> Result<Lines<BufReader<ChildStdout>>, Failure> {
    let out = child.stdout.take().ok_or("it has no output")?;
    Ok(BufReader::new(out).lines())
}
