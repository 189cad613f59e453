//! Relays that follow the write-ahead log, and how far consumers are behind, as operators see it.

use std::path::Path;
use std::process::{Command, Stdio};

use testbed::{PgOptions, PgVersion, Postgres};

use super::processes::{books, stock};
use super::shop::Shop;
use crate::front::{Ask, Front, until};

const OVERRIDES: &str = "[users]\npassword_memory_kib = 8\n[relay]\nsource = \"wal\"\n";

/// Reads the figures of a service.
fn figures(shop: &Shop, service: &str) -> String {
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let front = Front::new(config["services"][service]["listen"].as_str().unwrap());
    let (status, text) = front.text(&Ask::get("/metrics")).unwrap();
    assert_eq!(status, 200);
    text
}

/// Adds up the values of every line that starts so.
fn sum(figures: &str, start: &str) -> Option<u64> {
    let lines = figures.lines().filter(|line| line.starts_with(start));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    values.reduce(|a, b| a + b)
}

#[test]
fn a_shop_relays_out_of_the_write_ahead_log() {
    let shop = Shop::start("wal", OVERRIDES);
    for service in ["catalog", "orders", "inventory", "payments"] {
        until("the log is followed", || {
            figures(&shop, service).contains("amarra_relay_wal_following{service=")
                && sum(&figures(&shop, service), "amarra_relay_wal_following{") == Some(1)
        });
    }
    let front = Front::new(&shop.gateway());
    let password = std::fs::read_to_string(shop.file("keys/admin.password")).unwrap();
    let staff = front.login("admin@amarra.local", password.trim());
    stock(&front, &staff, "MUG-1", "MUG-1");
    let token = front.customer("ana");
    until("the product is shown", || front.ask(&Ask::get("/v1/products/MUG-1")).0 == 200);
    let order = front.order(&token, "MUG-1", "order");
    front.until_order(&token, &order, "confirmed");
    until("everything is published", || books(&shop, &["outbox", "lag"])["waiting"] == 0);
    let figures_of = |service| figures(&shop, service);
    for service in ["orders", "inventory", "payments"] {
        let rows = sum(&figures_of(service), "amarra_relay_wal_rows_total{");
        let from_log = format!("amarra_relay_wal_rows_total{{service=\"{service}\",from=\"log\"}}");
        let from_log = sum(&figures_of(service), &from_log);
        assert!(from_log.is_some_and(|rows| rows > 0), "{service}: {from_log:?} of {rows:?}");
    }
    consumers_have_caught_up(&shop);
    shop.stop();
}

/// Every partition has a figure, and none is behind once everything was applied.
fn consumers_have_caught_up(shop: &Shop) {
    for (service, topic) in [("payments", "payments.commands"), ("orders", "inventory.events")] {
        let of = |partition: u32| {
            format!(
                "amarra_consumer_lag_messages{{service=\"{service}\",group=\"{service}\",\
                 topic=\"{topic}\",partition=\"{partition}\"}} 0"
            )
        };
        until("every partition is read to its end", || {
            let figures = figures(shop, service);
            (0..3).all(|partition| figures.lines().any(|line| line == of(partition)))
        });
    }
}

#[test]
fn a_server_that_writes_too_little_into_its_log_is_named() {
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let options = PgOptions { settings, ..PgOptions::default() };
    let postgres = Postgres::start(PgVersion::V18, options).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wal-replica");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("overrides.toml");
    std::fs::write(&config, OVERRIDES).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_amarra"))
        .args(["supervise", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:1"])
        .args(["--postgres", &postgres.url("postgres")])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["services.users.wal", "wal_level is replica", "set it to logical"] {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}
