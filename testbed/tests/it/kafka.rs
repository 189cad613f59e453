//! Kafka starts, answers, comes back after crashes, and can be talked to through a proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use testbed::{Direction, Kafka, KafkaOptions};

/// Asks a broker which versions of which requests it speaks; returns its error code.
fn api_versions(addr: SocketAddr) -> std::io::Result<i16> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    // Length, key 18, version 0, correlation id, no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 9, 0xff, 0xff])?;
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    assert_eq!(head[4..8], [0, 0, 0, 9], "the correlation id comes back");
    Ok(i16::from_be_bytes([head[8], head[9]]))
}

#[test]
fn one_node_answers_directly_and_through_its_proxy_and_after_a_crash() {
    let kafka = Kafka::start(KafkaOptions { proxied: true, ..KafkaOptions::default() }).unwrap();
    let addr = kafka.addrs()[0];
    assert_eq!(kafka.bootstrap(), addr.to_string());
    assert_eq!(api_versions(addr).unwrap(), 0);
    let proxy = kafka.proxy(1).unwrap();
    assert_eq!(kafka.proxied_bootstrap(), proxy.addr().to_string());
    assert_eq!(api_versions(proxy.addr()).unwrap(), 0);
    let pid = kafka.pid(1);
    kafka.crash().unwrap();
    assert_ne!(kafka.pid(1), pid);
    assert_eq!(kafka.addrs(), [addr]);
    assert_eq!(api_versions(addr).unwrap(), 0);
    proxy.stall(Direction::Up, true);
    proxy.cut_now();
    proxy.heal();
    assert_eq!(api_versions(proxy.addr()).unwrap(), 0);
}

#[test]
fn three_nodes_serve_while_one_is_dead_and_take_it_back() {
    let kafka = Kafka::start(KafkaOptions { nodes: 3, ..KafkaOptions::default() }).unwrap();
    let addrs = kafka.addrs();
    kafka.kill_node(2).unwrap();
    assert!(api_versions(addrs[1]).is_err());
    assert_eq!(api_versions(addrs[0]).unwrap(), 0);
    kafka.start_node(2).unwrap();
    assert_eq!(api_versions(addrs[1]).unwrap(), 0);
    kafka.pause_node(3).unwrap();
    kafka.resume_node(3).unwrap();
    assert_eq!(api_versions(addrs[2]).unwrap(), 0);
    kafka.stop_node(1).unwrap();
    assert_eq!(kafka.pid(1), None);
    assert!(kafka.pause_node(1).is_err());
    assert!(kafka.kill_node(4).unwrap_err().to_string().contains("no node 4"));
    kafka.start_all().unwrap();
    kafka.crash().unwrap();
    assert_eq!(api_versions(addrs[0]).unwrap(), 0);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let check = |options: KafkaOptions, field: &str| {
        assert!(Kafka::start(options).unwrap_err().to_string().contains(field));
    };
    check(KafkaOptions { nodes: 2, ..KafkaOptions::default() }, "nodes");
    check(KafkaOptions { heap_mib: 1, ..KafkaOptions::default() }, "heap_mib");
    let properties = vec![("a".to_owned(), "b\nc".to_owned())];
    check(KafkaOptions { properties, ..KafkaOptions::default() }, "properties");
}
