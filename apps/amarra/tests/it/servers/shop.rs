//! A supervised shop on servers of its own, as a test starts, breaks and looks at it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use amarra_shop::contract::OrderId;
use amarra_shop::provider::Truth;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use testbed::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres, Process};

use crate::books::Sources;

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_amarra");
/// Services with a database of their own.
const WITH_DATABASE: [&str; 6] =
    ["users", "catalog", "orders", "inventory", "payments", "notifications"];
/// How long a shop may take to be ready, on a machine that is busy otherwise.
const READY: Duration = Duration::from_secs(60);

/// Two servers and the eight processes of a shop on them.
pub(super) struct Shop {
    pub(super) postgres: Postgres,
    pub(super) kafka: Kafka,
    supervisor: Child,
    told: Arc<Mutex<Told>>,
    folder: PathBuf,
}

/// What the supervisor said.
#[derive(Debug, Default)]
struct Told {
    pids: BTreeMap<String, u32>,
    restarts: BTreeMap<String, u64>,
    url: Option<String>,
    ended: bool,
    /// The newest lines, for whoever asks why.
    lines: Vec<String>,
}

impl Told {
    fn note(&mut self, line: String) {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let service = event["service"].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("started") => {
                let pid = event["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
                self.pids.insert(service.clone(), pid.unwrap_or_default());
                self.restarts.insert(service, event["restarts"].as_u64().unwrap_or_default());
            }
            Some("ended") => drop(self.pids.remove(&service)),
            Some("all_ready") => self.url = event["url"].as_str().map(str::to_owned),
            Some("stopped") => self.ended = true,
            _ => {}
        }
        if self.lines.len() >= 400 {
            self.lines.drain(..200);
        }
        self.lines.push(line);
    }
}

impl Shop {
    /// Starts servers and shop; `overrides` is configuration that differs from the defaults.
    pub(super) fn start(name: &str, overrides: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let postgres = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
        let kafka = Kafka::start(KafkaOptions::default()).unwrap();
        let config = folder.join("overrides.toml");
        std::fs::write(&config, overrides).unwrap();
        let mut supervisor = Command::new(PROGRAM)
            .args(["supervise", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--config")
            .arg(config)
            .args(["--postgres", &postgres.url("postgres")])
            .args(["--kafka", &kafka.bootstrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        let into = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().note(line);
            }
        });
        let shop = Self { postgres, kafka, supervisor, told, folder };
        shop.until(READY, "the shop is ready", |told| told.url.is_some());
        shop
    }

    fn until(&self, patience: Duration, what: &str, done: impl Fn(&Told) -> bool) {
        let give_up = Instant::now() + patience;
        while !done(&self.told.lock().unwrap()) {
            assert!(
                Instant::now() < give_up,
                "waited {patience:?} in vain until {what}; the supervisor said:\n{}",
                self.told.lock().unwrap().lines.join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the gateway's `host:port`.
    pub(super) fn gateway(&self) -> String {
        let told = self.told.lock().unwrap();
        let url = told.url.as_deref().expect("ready");
        url.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// Returns a file of the shop's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    /// Makes a command of the binary under test.
    pub(super) fn command(&self) -> Command {
        Command::new(PROGRAM)
    }

    /// Kills the process of a service, and waits until another one was started in its place.
    pub(super) fn kill(&self, service: &str) {
        let (pid, restarts) = {
            let told = self.told.lock().unwrap();
            (told.pids.get(service).copied(), told.restarts.get(service).copied())
        };
        let pid = pid.unwrap_or_else(|| panic!("{service} is not running"));
        Process::of(pid).unwrap().signal("KILL").unwrap();
        self.until(READY, &format!("{service} runs again"), |told| {
            told.restarts.get(service).copied() > restarts && told.pids.contains_key(service)
        });
    }

    /// Returns the newest lines of the supervisor.
    pub(super) fn lines(&self) -> String {
        self.told.lock().unwrap().lines.join("\n")
    }

    /// Opens the books.
    pub(super) fn sources(&self) -> Sources {
        let pool = |service: &'static str| -> (&'static str, PgPool) {
            let url = self.postgres.url(&format!("amarra_{service}"));
            let options = PgConnectOptions::from_str(&url).unwrap();
            let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(READY);
            (service, pool.connect_lazy_with(options))
        };
        Sources {
            databases: WITH_DATABASE.into_iter().map(pool).collect(),
            bootstrap: self.kafka.bootstrap(),
        }
    }

    /// Reads what really happened to the money, by the provider's own ledger.
    pub(super) fn truths(&self) -> BTreeMap<OrderId, Truth> {
        let mut ledger = self.command();
        let printed =
            ledger.args(["ledger", "--json", "--data"]).arg(self.file("")).output().unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let lines = printed.stdout.lines().map_while(Result::ok);
        let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let money = |line: &Value, field: &str| line[field].as_i64().unwrap();
        let count =
            |line: &Value, field: &str| u32::try_from(line[field].as_u64().unwrap()).unwrap();
        lines
            .filter(|line| line["kind"] == "truth")
            .map(|line| {
                let truth = Truth {
                    authorized: money(&line, "authorized"),
                    open: money(&line, "open"),
                    captured: money(&line, "captured"),
                    refunded: money(&line, "refunded"),
                    authorizations: count(&line, "authorizations"),
                    captures: count(&line, "captures"),
                };
                (line["order"].as_str().unwrap().parse().unwrap(), truth)
            })
            .collect()
    }

    /// Reads what the customers were told: keys, and how often each is there.
    pub(super) fn told(&self) -> BTreeMap<String, u32> {
        let text = std::fs::read_to_string(self.file("sent")).unwrap();
        let mut told = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            *told.entry(line["key"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        told
    }

    /// Asks the supervisor to stop, and checks that it does, and cleanly.
    pub(super) fn stop(mut self) {
        Process::of(self.supervisor.id()).unwrap().signal("TERM").unwrap();
        self.until(READY, "the shop stopped", |told| told.ended);
        let status = self.supervisor.wait().unwrap();
        assert!(status.success(), "the supervisor ended with {status}:\n{}", self.lines());
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // The processes end with their supervisor.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}
