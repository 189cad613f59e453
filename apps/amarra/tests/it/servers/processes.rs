//! Eight processes on two servers: orders, the inner door, deaths, and the books of operators.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use amarra_http::HttpClient;
use amarra_http::net::{TcpConnect, TlsConfig, TokioSpawn};
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use super::refused::a_record_too_large_waits_for_its_operator;
use super::shop::Shop;
use crate::front::{Ask, Front, PATIENCE, until};

const PROCESSES: [&str; 8] =
    ["users", "catalog", "orders", "inventory", "payments", "notifications", "gateway", "provider"];

const OVERRIDES: &str = "[users]\npassword_memory_kib = 8\n[orders]\nrepeat_after = \"3s\"\n";

#[test]
fn six_processes_confirm_orders_and_survive_deaths_until_their_supervisor_ends() {
    let shop = Shop::start("processes", OVERRIDES);
    let front = Front::new(&shop.gateway());
    let password = std::fs::read_to_string(shop.file("keys/admin.password")).unwrap();
    let staff = front.login("admin@amarra.local", password.trim());
    stock(&front, &staff, "MUG-1", "MUG-1");
    let token = front.customer("ana");
    until("the product is shown", || front.ask(&Ask::get("/v1/products/MUG-1")).0 == 200);
    let mut orders = Vec::new();
    for (number, victim) in ["orders", "payments", "provider"].into_iter().enumerate() {
        orders.push(front.order(&token, "MUG-1", &format!("order-{number}")));
        shop.kill(victim);
    }
    orders.iter().for_each(|order| front.until_order(&token, order, "confirmed"));
    the_inner_door_is_locked(&shop);
    until("everything is published", || books(&shop, &["outbox", "lag"])["waiting"] == 0);
    assert_eq!(books(&shop, &["outbox", "parked"])["parked"], 0);
    assert_eq!(books(&shop, &["audit", "verify"])["ok"], true);
    assert_eq!(books(&shop, &["ledger"])["orders"], 3);
    verbs_change_nothing_that_is_right(&shop);
    foreign_records_are_set_aside(&shop, &front, &token);
    a_record_too_large_waits_for_its_operator(&shop, &front, &staff);
    shop.stop();
}

/// A record that is no message of ours is parked by every group that meets it; the rest flows.
fn foreign_records_are_set_aside(shop: &Shop, front: &Front, token: &str) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", shop.kafka.bootstrap()).create().unwrap();
    let record = BaseRecord::to("orders.events").key("foreign").payload("whatever");
    producer.send(record).unwrap();
    producer.flush(PATIENCE).unwrap();
    let order = front.order(token, "MUG-1", "after");
    front.until_order(token, &order, "confirmed");
    until("four groups set it aside", || books(shop, &["inbox", "parked"])["parked"] == 4);
    let verb = |args: &[&str]| {
        let mut command = shop.command();
        command.args(args).arg("--json").arg("--config").arg(shop.file("amarra.toml"));
        let output = command.output().unwrap();
        let lines = output.stdout.lines().map(|l| serde_json::from_str(&l.unwrap()).unwrap());
        (output.status.code(), lines.collect::<Vec<Value>>())
    };
    let (code, lines) = verb(&["inbox", "parked", "--service", "inventory"]);
    assert_eq!(code, Some(0));
    assert_eq!((&lines[0]["group"], &lines[0]["key"]), (&json!("inventory"), &json!("foreign")));
    assert!(lines[0]["reason"].as_str().unwrap().contains("header"), "{}", lines[0]);
    assert!(!lines[0].to_string().contains("whatever"), "the payload is shown: {}", lines[0]);
    // It never decodes: it stays, and the verb says so.
    let (code, lines) = verb(&["inbox", "replay", "--key", "foreign"]);
    assert_eq!(code, Some(1), "{lines:?}");
    assert_eq!(lines.last().unwrap()["stopped"], 4, "{lines:?}");
    let (code, lines) = verb(&["inbox", "replay", "--key", "another"]);
    assert_eq!((code, &lines.last().unwrap()["applied"]), (Some(0), &json!(0)));
}

/// What was provisioned and migrated may be again, under running services.
fn verbs_change_nothing_that_is_right(shop: &Shop) {
    let verb = |args: &[&str]| {
        let config = shop.file("amarra.toml");
        let mut command = shop.command();
        command.args(args).arg("--json").arg("--config").arg(config);
        let output = command.env("ADMIN_URL", shop.postgres.url("postgres")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
    };
    let (code, said, _) = verb(&["provision"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("postgres.admin is missing"), "{said}");
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let admin = format!("{text}\n[postgres.admin]\nenv = \"ADMIN_URL\"\n");
    std::fs::write(shop.file("amarra.toml"), admin).unwrap();
    for (args, lines) in [
        (&["provision"][..], 6),
        (&["migrate"], 7),
        (&["migrate", "--service", "orders"], 1),
        (&["outbox", "maintain"], 6),
        (&["outbox", "replay"], 1),
    ] {
        let (code, said, printed) = verb(args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        assert_eq!(printed.lines().count(), lines, "{args:?}");
    }
}

/// Makes a product that can be bought.
pub(super) fn stock(front: &Front, staff: &str, sku: &str, name: &str) {
    let ask = |ask: Ask<'_>, key: &str, status: u16| {
        front.until(&ask.by(staff).keyed(&format!("{key}-{sku}")), status)
    };
    let product = ask(Ask::post("/v1/products", json!({"sku": sku, "name": name})), "make", 201);
    let price = json!({"price": {"minor": 500, "currency": "EUR"},
        "expected_version": product["version"]});
    ask(Ask::put(&format!("/v1/products/{sku}/price"), price), "price", 200);
    ask(Ask::post(&format!("/v1/products/{sku}/publish"), json!({})), "publish", 200);
    let pieces = json!({"delta": 100, "reason": "test"});
    ask(Ask::post(&format!("/v1/stock/{sku}/receive"), pieces), "stock", 200);
}

/// Who does not come through the gateway is turned away, whatever token of a user they bring.
fn the_inner_door_is_locked(shop: &Shop) {
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    for service in ["users", "catalog", "orders", "inventory", "payments", "notifications"] {
        let direct = Front::new(config["services"][service]["listen"].as_str().unwrap());
        let (status, problem) = direct.ask(&Ask::get("/v1/me"));
        assert_eq!(status, 401, "{service}");
        assert!(problem["detail"].as_str().unwrap().contains("gateway"), "{service}: {problem}");
        assert_eq!(direct.ask(&Ask::get("/healthz")).0, 200, "{service}");
    }
}

/// Runs an operator's verb and returns its last line.
pub(super) fn books(shop: &Shop, verb: &[&str]) -> Value {
    let config = shop.file("amarra.toml");
    let output = shop.command().args(verb).arg("--json").arg("--config").arg(config).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&output.stdout.lines().last().unwrap().unwrap()).unwrap()
}

#[test]
fn what_a_service_needs_is_looked_at_before_it_starts() {
    let (authority, tls) = certificates("refusals-tls");
    let shop = Shop::start("refusals", &format!("{OVERRIDES}{tls}"));
    mutual_tls_is_asked_for(&shop, &authority);
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let refused = |config: &str, parts: &[&str]| {
        let path = shop.file("other.toml");
        std::fs::write(&path, config).unwrap();
        let mut serve = shop.command();
        serve.args(["serve", "--service", "orders", "--config"]).arg(&path);
        let output = serve.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        for part in parts {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
        let url = std::fs::read_to_string(shop.file("keys/orders.url")).unwrap();
        let password = url.split(['@', ':']).nth(2).unwrap();
        assert!(!said.contains(password), "the password is in {said}");
    };
    let url = std::fs::read_to_string(shop.file("keys/orders.url")).unwrap();
    let place = url.rsplit_once('@').unwrap().1;
    let with_url = |url: &str| {
        std::fs::write(shop.file("keys/other.url"), url).unwrap();
        text.replace("keys/orders.url", "keys/other.url")
    };
    refused(&text, &["cannot listen", "another address"]);
    refused(
        &with_url(&url.replace(place, "127.0.0.1:1/x\n")),
        &["services.orders.database", "does not answer"],
    );
    refused(&with_url(&format!("postgres://nobody:x@{place}")), &["refuses the login"]);
    let foreign = place.replace("amarra_orders", "amarra_payments");
    refused(&with_url(&url.replace(place, &foreign)), &["refuses the login"]);
    refused(&text.replace(&shop.kafka.bootstrap(), "127.0.0.1:1"), &["no broker answers"]);
    refused(&format!("{text}\n[kafka]\n"), &["duplicate"]);
    let more = text.replace("[kafka]\n", "[kafka]\npartitions = 5\n");
    refused(&more, &["partitions", "3", "wanted 5"]);
    another_number_of_shards_is_refused(&shop, &text);
    let open = &text[..text.find("[http.tls]").unwrap()];
    let rest = &text[text.find("[kafka]").unwrap()..];
    refused(&format!("{open}{rest}"), &["http.internal_token", "http.tls"]);
    let gone = authority.with_extension("gone");
    refused(
        &text.replace(authority.to_str().unwrap(), gone.to_str().unwrap()),
        &["http.tls", "gone"],
    );
    refused(&text.replace("keys/token.public", "keys/none"), &["keys.token_public", "keys/none"]);
    let sql = |sql: &str| shop.postgres.execute("amarra_orders", sql).unwrap();
    sql("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (1999, 'later', true, '', 0)");
    refused(&text, &["ahead", "1999", "newer binary"]);
    sql("DELETE FROM _sqlx_migrations WHERE version >= 1002");
    refused(&text, &["lacks migration 1002", "amarra migrate"]);
    ends_with_its_supervisor(shop);
}

/// An outbox keeps its shards: with another number nothing starts that could write to it.
fn another_number_of_shards_is_refused(shop: &Shop, text: &str) {
    let sql = |sql: &str| shop.postgres.execute("amarra_orders", sql).unwrap();
    sql("DO $$ BEGIN ASSERT (SELECT count(*) = 1 FROM outbox_shard); END $$");
    let more = shop.file("more.toml");
    std::fs::write(&more, text.replace("[kafka]\n", "[postgres]\nshards = 4\n[kafka]\n")).unwrap();
    for verb in [
        &["serve", "--service", "orders"][..],
        &["inbox", "replay", "--service", "orders"],
        &["outbox", "status", "--service", "orders"],
    ] {
        let output = shop.command().args(verb).arg("--config").arg(&more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb:?}: {said}");
        for part in ["services.orders.database", "1 shards", "postgres.shards is 4", "set it to 1"]
        {
            assert!(said.contains(part), "{verb:?}: {said:?} does not say {part:?}");
        }
    }
    sql("DO $$ BEGIN ASSERT (SELECT count(*) = 1 FROM outbox_shard); END $$");
}

/// Makes an authority and a certificate of it for every process; returns the authority's file and
/// the configuration.
fn certificates(name: &str) -> (PathBuf, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let authority = folder.join("authority.pem");
    std::fs::write(&authority, issuer.pem()).unwrap();
    for service in PROCESSES {
        let mut params = CertificateParams::new(vec![service.to_owned()]).unwrap();
        let uri = format!("spiffe://amarra/{service}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{service}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{service}.key")), key.serialize_pem()).unwrap();
    }
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("{service}.pem"), file("{service}.key"));
    let text = format!(
        "[http.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nauthority = \"{}\"\n",
        authority.display()
    );
    (authority, text)
}

/// The gateway proves itself to the services; who proves nothing, or is another service, is not
/// served, and probes have a listener of their own.
fn mutual_tls_is_asked_for(shop: &Shop, authority: &Path) {
    let front = Front::new(&shop.gateway());
    front.customer("ana");
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let orders = &config["services"]["orders"];
    let listen = orders["listen"].as_str().unwrap();
    assert_eq!(Front::new(listen).ask(&Ask::get("/v1/me")).0, 0, "plain HTTP was answered");
    let admin = Front::new(orders["admin"].as_str().unwrap());
    assert_eq!(admin.ask(&Ask::get("/readyz")).0, 200);
    assert_eq!(admin.ask(&Ask::get("/v1/me")).0, 404, "the API is on the operators' listener");
    let ask = |name: &str| {
        let tls = TlsConfig {
            certificate: authority.with_file_name(format!("{name}.pem")),
            key: authority.with_file_name(format!("{name}.key")),
            authority: authority.to_owned(),
        };
        let services = BTreeMap::from([("orders".to_owned(), vec![listen.to_owned()])]);
        let connect = TcpConnect::new(services, Some(tls.client().unwrap())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let env = amarra_tokio::environment();
            let config = amarra_http::Config::default();
            let client =
                HttpClient::new(Arc::new(connect), Arc::new(TokioSpawn), env.clone(), config);
            let request = http::Request::get("/v1/orders").body(Bytes::new()).unwrap();
            let answer = env.timeout(PATIENCE, client.send("orders", request)).await;
            let answer = answer.unwrap().unwrap();
            String::from_utf8_lossy(answer.body()).into_owned()
        })
    };
    assert!(ask("gateway").contains("access token"), "the door is shut to the gateway");
    assert!(ask("payments").contains("the gateway only"), "the door is open to a service");
}

/// However the supervisor dies, nothing of it is left.
fn ends_with_its_supervisor(shop: Shop) {
    let mut second = shop.command();
    second.args(["supervise", "--config"]).arg(shop.file("amarra.toml"));
    // The ports are taken: the first process that is refused ends all of them.
    let output = second.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("refused to start"), "{said}");
    let text = std::fs::read_to_string(shop.file("amarra.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let services = config["services"].as_table().unwrap();
    let probed = |s: &toml::Value| s.get("admin").unwrap_or(&s["listen"]).as_str().map(Front::new);
    let fronts: Vec<Front> = services.values().map(|s| probed(s).unwrap()).collect();
    assert_eq!(fronts.len(), 8);
    assert!(fronts.iter().all(|front| front.ask(&Ask::get("/healthz")).0 == 200));
    // It is killed, and told nothing before.
    drop(shop);
    until("every process ended", || {
        fronts.iter().all(|front| front.ask(&Ask::get("/healthz")).0 == 0)
    });
}
