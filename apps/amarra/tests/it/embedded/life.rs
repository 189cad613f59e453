//! Orders, death, and an orderly end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use testbed::Process;

use super::{Folder, Shop, amarra, lines};
use crate::front::{Ask, until};

#[test]
fn an_order_is_confirmed_and_a_kill_loses_nothing() {
    let folder = Folder::new("kill");
    let mut shop = Shop::open(&folder, &[]);
    let token = shop.front.customer("ana");
    let first = shop.front.order(&token, "TEA-1", "first");
    shop.front.until_order(&token, &first, "confirmed");
    let quoted: Vec<_> = (0..8).map(|_| shop.front.quoted(&token, "CUP-2")).collect();
    let place = |shop: &Shop, n: usize| shop.front.place(&token, &quoted[n], &format!("order-{n}"));
    let placed: Vec<_> = (0..8).map(|n| place(&shop, n)).collect();
    // Whatever those orders are at.
    shop.kill();
    let mut shop = Shop::open(&folder, &[]);
    assert_eq!(place(&shop, 3), placed[3], "one key, two orders");
    shop.kill();
    let shop = Shop::open(&folder, &[]);
    for order in placed.iter().chain([&first]) {
        shop.front.until_order(&token, order, "confirmed");
    }
    let list = shop.front.until(&Ask::get("/v1/orders?limit=50").by(&token), 200);
    assert_eq!(list["orders"].as_array().unwrap().len(), 9);
    shop.end();
    at_rest(&folder, 9);
}

/// The books of a shop that stopped: chains whole, nothing waiting, every order paid once.
fn at_rest(folder: &Folder, orders: usize) {
    let data = folder.data();
    let chains = lines(&amarra(&["audit", "verify", "--json"], Some(&data)));
    assert_eq!(chains.iter().filter(|l| l["kind"] == "chain" && l["ok"] == true).count(), 6);
    let rows: u64 = chains.iter().filter_map(|l| l["rows"].as_u64()).sum();
    assert!(rows > 50, "only {rows} audit rows");
    let shards = lines(&amarra(&["outbox", "status", "--json"], Some(&data)));
    assert_eq!(shards.iter().filter(|l| l["kind"] == "shard" && l["owner"].is_null()).count(), 6);
    let waiting = lines(&amarra(&["outbox", "lag", "--json"], Some(&data)));
    assert_eq!(waiting.last().unwrap(), &json!({"kind": "summary", "waiting": 0}));
    let parked = lines(&amarra(&["outbox", "parked", "--json"], Some(&data)));
    assert_eq!(parked, [json!({"kind": "summary", "parked": 0})]);
    let truths = lines(&amarra(&["ledger", "--json"], Some(&data)));
    let once = |l: &&serde_json::Value| l["captures"] == 1 && l["captured"] == l["authorized"];
    assert_eq!(truths.iter().filter(once).count(), orders);
}

#[test]
fn probes_tell_and_a_stop_answers_what_is_in_flight() {
    let folder = Folder::new("probes");
    let config = folder.path("amarra.toml");
    // Long enough to be seen by whoever polls.
    std::fs::write(&config, "[process]\nstop_grace = \"5s\"\n").unwrap();
    let shop = Shop::open(&folder, &["--config", config.to_str().unwrap()]);
    let front = shop.front.clone();
    assert_eq!(front.ask(&Ask::get("/healthz")).0, 200);
    assert_eq!(front.ask(&Ask::get("/readyz")), (200, json!({"ready": true, "missing": []})));
    let token = front.customer("ana");
    let order = front.order(&token, "TEA-1", "order");
    front.until_order(&token, &order, "confirmed");
    let (status, text) = front.text(&Ask::get("/metrics")).unwrap();
    assert_eq!(status, 200);
    for part in [
        r#"amarra_http_requests_total{service="gateway",route="POST /v1/orders",class="2xx"} 1"#,
        r#"amarra_outbox_waiting{service="orders"}"#,
        r#"amarra_relay_published_total{service="payments"}"#,
        r#"amarra_consumer_partitions{service="inventory",group="inventory"} 6"#,
        r#"amarra_worker_done_total{service="notifications",kind="notification"}"#,
        r#"amarra_outgoing_tries_total{service="payments",callee="payment-provider"}"#,
        r#"amarra_breaker_state{service="gateway",callee="orders",state="closed"} 1"#,
        r#"amarra_breaker_state{service="provider",callee="merchant",state="closed"} 1"#,
        r#"amarra_breaker_state{service="notifications",callee="email",state="closed"} 1"#,
        "amarra_uptime_seconds",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    secrets_stay(&folder, &[text]);
    // A request whose body is still to come when the stop is asked for.
    let url = format!("{front:?}");
    let address = url.split('"').nth(1).unwrap().to_owned();
    let mut slow = TcpStream::connect(&address).unwrap();
    let body = json!({"lines": [{"sku": "TEA-1", "qty": 1}]}).to_string();
    let head = format!(
        "POST /v1/quotes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    Process::of(shop.process.id()).unwrap().signal("TERM").unwrap();
    until("/readyz tells of the stop", || front.ask(&Ask::get("/readyz")).0 == 503);
    until("the door closes", || front.ask(&Ask::get("/healthz")).0 == 0);
    slow.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shop.end_of_wait();
}

impl Shop {
    /// Waits for the end of a shop that was asked to stop.
    fn end_of_wait(mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// What the shop drew for itself is readable by its owner alone, and said nowhere.
fn secrets_stay(folder: &Folder, said: &[String]) {
    let keys = folder.data().join("keys");
    for name in ["token.seed", "quote.seed", "users.hash", "webhook", "admin.password"] {
        let path = keys.join(name);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let secret = std::fs::read_to_string(&path).unwrap();
        assert!(secret.trim().len() >= 43);
        assert!(said.iter().all(|text| !text.contains(secret.trim())), "{name} was said");
    }
    let mode = std::fs::metadata(keys).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new("twice");
    let config = folder.path("amarra.toml");
    std::fs::write(&config, "[process]\nstop_grace = \"10m\"\n").unwrap();
    let mut shop = Shop::open(&folder, &["--config", config.to_str().unwrap()]);
    let process = Process::of(shop.process.id()).unwrap();
    process.signal("TERM").unwrap();
    until("/readyz tells of the stop", || shop.front.ask(&Ask::get("/readyz")).0 == 503);
    process.signal("INT").unwrap();
    assert_eq!(shop.process.wait().unwrap().code(), Some(130));
}

#[test]
fn an_address_is_proved_by_the_token_that_was_written_for_it() {
    let folder = Folder::new("verify");
    let config = folder.path("amarra.toml");
    std::fs::write(&config, "[users]\nauto_verify = false\nverification_log = \"proofs\"\n")
        .unwrap();
    let shop = Shop::open(&folder, &["--config", config.to_str().unwrap()]);
    let account = json!({"email": "eve@example.org", "password": "a long password"});
    let user = shop.front.until(&Ask::post("/v1/users", account.clone()), 201);
    assert_eq!(shop.front.ask(&Ask::post("/v1/sessions", account.clone())).0, 403);
    let mut written = String::new();
    until("the token is written", || {
        written = std::fs::read_to_string(folder.path("proofs")).unwrap_or_default();
        written.ends_with('\n')
    });
    let written: serde_json::Value = serde_json::from_str(written.trim_end()).unwrap();
    assert_eq!(written["user_id"], user["user_id"]);
    let path = format!("/v1/users/{}/verify", user["user_id"].as_str().unwrap());
    let proof = |token: &serde_json::Value| json!({"user_id": user["user_id"], "token": token});
    let forged = proof(&json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    assert_eq!(shop.front.ask(&Ask::post(&path, forged)).0, 422);
    shop.front.until(&Ask::post(&path, proof(&written["token"])), 204);
    shop.front.until(&Ask::post("/v1/sessions", account), 200);
    shop.end();
}
