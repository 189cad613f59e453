//! What is refused at start: exit code 2, one clear line, nothing half done.

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use super::{Folder, Shop, amarra};

fn refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in parts {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_configuration_that_is_not_understood_is_refused_by_its_key() {
    let folder = Folder::new("config");
    let path = folder.path("amarra.toml");
    let check = |text: &str, parts: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", path.to_str().unwrap()];
        refused(&amarra(&args, Some(&folder.data())), parts);
        assert!(!folder.data().exists(), "something was made");
    };
    check("[gateway]\nadress_calls = 3\n", &["line 2", "adress_calls", "address_calls?"]);
    check("[gatway]\n", &["gatway", "gateway?"]);
    check("[services.order]\n", &["unknown service order", "orders?"]);
    check("[relay]\nlease = \"3 seconds\"\n", &["line 2", "duration"]);
    check("[users]\nadmin_email = \"nobody\"\n", &["users.admin_email"]);
    check("[process]\ndrain_timeout = \"0s\"\n", &["process.drain_timeout"]);
    check("[keys\n", &["line 1"]);
}

#[test]
fn a_value_out_of_range_is_refused_by_its_field() {
    let folder = Folder::new("range");
    let path = folder.path("amarra.toml");
    let check = |text: &str, parts: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let args = ["serve", "--listen", "127.0.0.1:0", "--config", path.to_str().unwrap()];
        refused(&amarra(&args, Some(&folder.data())), parts);
    };
    check("[relay]\nchunk_rows_max = 0\n", &["chunk_rows_max"]);
    check("[consumer]\nbatch_rows_max = 0\n", &["batch_rows_max"]);
    check("[worker]\nclaims_max = 0\n", &["claims_max"]);
    check("[orders]\nopen_orders_max = 0\n", &["orders.open_orders_max"]);
    check("[notifications]\nchannels = []\n", &["notifications.channels"]);
    check("[gateway]\naddress_calls = 0\n", &["gateway.address"]);
    check("[http]\nrequest_bytes_max = 0\n", &["request_bytes_max"]);
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let folder = Folder::new("port");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let output = amarra(&["serve", "--listen", &address], Some(&folder.data()));
    refused(&output, &[&address, "choose another address"]);
}

#[test]
fn an_address_that_others_reach_is_refused_without_tls() {
    let folder = Folder::new("plain");
    let output = amarra(&["serve", "--listen", "0.0.0.0:0"], Some(&folder.data()));
    refused(&output, &["plain HTTP", "plain_off_loopback"]);
}

#[test]
fn a_folder_in_use_is_refused_to_a_second_shop_and_to_operators() {
    let folder = Folder::new("locked");
    let shop = Shop::open(&folder, &[]);
    let output = amarra(&["serve", "--listen", "127.0.0.1:0"], Some(&folder.data()));
    refused(&output, &["in use by another process"]);
    for verb in [&["audit", "verify"][..], &["outbox", "status"], &["outbox", "replay"]] {
        refused(&amarra(verb, Some(&folder.data())), &["in use", "does not run"]);
    }
    shop.end();
}

#[test]
fn what_is_no_shop_is_refused_to_operators() {
    let folder = Folder::new("nothing");
    refused(&amarra(&["audit", "verify"], Some(&folder.data())), &["not the folder of a shop"]);
    let ledger = amarra(&["ledger"], Some(Path::new("/nowhere/at/all")));
    refused(&ledger, &["provider.journal"]);
    let service = ["outbox", "lag", "--service", "gateway"];
    refused(&amarra(&service, Some(&folder.data())), &["gateway has no database"]);
}

#[test]
fn one_service_needs_a_configuration() {
    let output = amarra(&["serve", "--service", "orders"], None);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config"));
}
