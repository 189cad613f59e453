//! Servers die with the process that started them, however it dies.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testbed::{Kafka, KafkaOptions, PgOptions, PgVersion, Postgres};

/// Set for the copy of this program that is to be killed.
const ROLE: &str = "TESTBED_STARTER";
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts servers, says where, and waits to be killed; does nothing unless told to.
#[test]
fn starter() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let running = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
    let paused = Postgres::start(PgVersion::V18, PgOptions::default()).unwrap();
    paused.pause().unwrap();
    let kafka = Kafka::start(KafkaOptions::default()).unwrap();
    for pg in [&running, &paused] {
        println!("\nserver {} {}", pg.addr(), pg.folder().display());
    }
    println!("\nserver {} {}\nready", kafka.addrs()[0], kafka.folders()[0].display());
    // Ends when the one who waits for us has died.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn kill_9_of_the_starter_stops_its_servers_and_removes_their_data() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "death::starter", "--nocapture"]).env(ROLE, "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut servers: Vec<(SocketAddr, PathBuf)> = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        if line == "ready" {
            break;
        }
        if let Some(server) = line.strip_prefix("server ") {
            let (addr, folder) = server.split_once(' ').unwrap();
            servers.push((addr.parse().unwrap(), folder.into()));
        }
    }
    assert_eq!(servers.len(), 3);
    assert!(servers.iter().all(|(_, folder)| folder.is_dir()));
    child.kill().unwrap();
    child.wait().unwrap();
    let started = Instant::now();
    let lives = |(addr, folder): &(SocketAddr, PathBuf)| {
        folder.exists() || TcpStream::connect(addr).is_ok()
    };
    while servers.iter().any(lives) {
        assert!(started.elapsed() < PATIENCE, "a server outlived its starter");
        std::thread::yield_now();
    }
}
