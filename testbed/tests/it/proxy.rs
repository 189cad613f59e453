//! Every fault of the proxy does what it says, and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use testbed::{CutAt, Direction, Proxy, ProxyOptions};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server that echoes, and tells what it received.
struct Echo {
    addr: std::net::SocketAddr,
    received: Receiver<Vec<u8>>,
}

fn echo() -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let _ = sender.send(buffer[..n].to_vec());
                    let _ = stream.write_all(&buffer[..n]);
                }
            });
        }
    });
    Echo { addr, received }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    let mut buffer = vec![0; text.len()];
    stream.read_exact(&mut buffer)?;
    Ok(String::from_utf8(buffer).unwrap())
}

fn is_cut(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn without_faults_it_forwards_both_ways_and_half_closes() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "hello").unwrap(), "hello");
    assert_eq!(proxy.connections(), 1);
    client.write_all(b"last").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
}

#[test]
fn latency_delays_each_way() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let mut client = connect(&proxy);
    let delay = Duration::from_millis(50);
    proxy.latency(delay);
    // A lower bound only: a busy machine may take longer, never shorter.
    let started = Instant::now();
    assert_eq!(ask(&mut client, "slow").unwrap(), "slow");
    assert!(started.elapsed() >= delay * 2);
}

#[test]
fn refused_connections_are_refused_and_open_ones_go_on() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let mut open = connect(&proxy);
    assert_eq!(ask(&mut open, "a").unwrap(), "a");
    proxy.refuse(true).unwrap();
    let refused = TcpStream::connect(proxy.addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open, "b").unwrap(), "b");
    proxy.refuse(false).unwrap();
    assert_eq!(ask(&mut connect(&proxy), "c").unwrap(), "c");
}

#[test]
fn a_stalled_direction_holds_back_and_loses_nothing() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let mut client = connect(&proxy);
    proxy.stall(Direction::Down, true);
    client.write_all(b"held").unwrap();
    assert_eq!(server.received.recv_timeout(PATIENCE).unwrap(), b"held");
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let waited = client.read(&mut [0; 8]).unwrap_err();
    assert!(matches!(waited.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.stall(Direction::Down, false);
    let mut held = [0; 4];
    client.read_exact(&mut held).unwrap();
    assert_eq!(&held, b"held");
}

#[test]
fn a_cut_ends_open_connections_and_lets_new_ones_in() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "a").unwrap(), "a");
    proxy.stall(Direction::Up, true);
    proxy.cut_now();
    assert!(is_cut(&mut client));
    proxy.heal();
    assert_eq!(ask(&mut connect(&proxy), "b").unwrap(), "b");
}

#[test]
fn a_cut_before_the_pattern_keeps_it_from_the_server() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let rule = proxy.cut_when(Direction::Up, b"COMMIT", CutAt::Before);
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "BEGIN").unwrap(), "BEGIN");
    assert_eq!(server.received.recv_timeout(PATIENCE).unwrap(), b"BEGIN");
    assert!(!rule.hit());
    client.write_all(b"COMMIT").unwrap();
    assert!(rule.wait(PATIENCE));
    assert!(is_cut(&mut client));
    // It happens once: the next one reaches the server, as the first thing since.
    assert_eq!(ask(&mut connect(&proxy), "COMMIT").unwrap(), "COMMIT");
    assert_eq!(server.received.recv_timeout(PATIENCE).unwrap(), b"COMMIT");
    assert!(server.received.try_recv().is_err());
}

#[test]
fn a_cut_after_the_pattern_or_at_the_answer_lets_the_server_have_it() {
    for at in [CutAt::After, CutAt::Answer] {
        let server = echo();
        let proxy = Proxy::start(server.addr).unwrap();
        let rule = proxy.cut_when(Direction::Up, b"COMMIT", at);
        let mut client = connect(&proxy);
        client.write_all(b"COM").unwrap();
        let mut start = [0; 3];
        client.read_exact(&mut start).unwrap();
        client.write_all(b"MIT").unwrap();
        assert!(rule.wait(PATIENCE));
        assert!(is_cut(&mut client), "the answer passed");
        assert_eq!(server.received.recv_timeout(PATIENCE).unwrap(), b"COM");
        assert_eq!(server.received.recv_timeout(PATIENCE).unwrap(), b"MIT");
    }
}

#[test]
fn an_answer_can_be_kept_from_the_client() {
    let server = echo();
    let proxy = Proxy::start(server.addr).unwrap();
    let rule = proxy.cut_when(Direction::Down, b"done", CutAt::Before);
    let mut client = connect(&proxy);
    client.write_all(b"done").unwrap();
    assert!(is_cut(&mut client));
    assert!(rule.wait(PATIENCE));
}

#[test]
fn a_connection_beyond_the_bound_is_closed() {
    let server = echo();
    let options = ProxyOptions { connections_max: 1 };
    let proxy = Proxy::start_with(server.addr, options).unwrap();
    let mut first = connect(&proxy);
    assert_eq!(ask(&mut first, "a").unwrap(), "a");
    assert!(is_cut(&mut connect(&proxy)));
    assert_eq!(ask(&mut first, "b").unwrap(), "b");
    let wrong = Proxy::start_with(server.addr, ProxyOptions { connections_max: 0 });
    assert!(wrong.unwrap_err().to_string().contains("connections_max"));
}
