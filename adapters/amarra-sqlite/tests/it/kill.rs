//! A process that is killed with `kill -9` while it commits, or whose disk is full: what it was
//! told is done is there, and nothing is there in part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use amarra_core::{AggregateId, Class, Classify, Version};
use amarra_messaging::message::{Epoch, Owner, Shard};
use amarra_messaging::outbox::{Cursor, Lease};
use amarra_messaging::transport::Publish;
use amarra_messaging::{
    Consumer, Headers, OutboxLog, Outgoing, Polled, PublishError, Record, Topic, Transport, TxError,
};
use amarra_sqlite::{
    BusConfig, DatabaseConfig, MemberConfig, OpenError, SqliteBus, SqliteConsumer, SqliteDatabase,
    SqliteStore, TopicConfig,
};
use amarra_store::Store;

use crate::scratch::{Scratch, runtime};

/// Set for the copy of this program that is to be killed: its folder.
const FOLDER: &str = "AMARRA_SQLITE_VICTIM";
/// Set for the copy whose files may not grow past a bound: its folder.
const FULL_FOLDER: &str = "AMARRA_SQLITE_VICTIM_OF_THE_DISK";
const ROUNDS: u64 = 5;
const RECORDS_PER_CALL: u64 = 3;
const MESSAGES_PER_UNIT: usize = 2;
/// Bytes of a state and of a record.
const BODY: usize = 2000;

fn thing() -> AggregateId {
    AggregateId::new("thing", "1")
}

async fn database(folder: &Path) -> Result<SqliteDatabase, OpenError> {
    SqliteDatabase::open(folder.join("store"), DatabaseConfig::default()).await
}

async fn bus(folder: &Path) -> Result<SqliteBus, OpenError> {
    let topics = vec![TopicConfig { topic: "things".into(), partitions: 2 }];
    let config = BusConfig::new(folder.join("bus"), topics);
    SqliteBus::open(config, amarra_tokio::environment()).await
}

fn member(bus: &SqliteBus, group: &str) -> SqliteConsumer {
    bus.consumer(group, &["things".into()], MemberConfig::default()).expect("a member")
}

fn lease(epoch: u64) -> Lease {
    Lease { shard: Shard(0), epoch: Epoch(epoch), owner: "relay".into() }
}

/// Says what was answered, before anything else is asked for.
fn told(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{what} {number}").expect("a reader");
    out.flush().expect("a reader");
}

/// Commits without end, saying what was answered; does nothing unless told to.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    runtime().block_on(async {
        let folder = Path::new(&folder);
        let database = database(folder).await.expect("a database");
        let bus = bus(folder).await.expect("a bus");
        let ended = tokio::join!(units(&database), calls(&bus), offsets(&bus));
        panic!("it ended by itself: {ended:?}");
    });
}

/// Commits until the disk takes no more, then reads what it was told is done.
#[test]
fn victim_of_the_disk() {
    let Some(folder) = std::env::var_os(FULL_FOLDER) else { return };
    runtime().block_on(async {
        let folder = Path::new(&folder);
        let (database, bus) = (database(folder).await, bus(folder).await);
        let (database, bus) = (database.expect("a database"), bus.expect("a bus"));
        for _ in 0..3 {
            let failed = units(&database).await;
            assert_ne!(failed.class(), Class::Rejected, "{failed}");
            let failed = calls(&bus).await;
            assert_eq!(failed.class(), Class::Unknown, "{failed}");
        }
        let calls = read(&bus, "starter").await.len();
        told("read", u64::try_from(calls).expect("few"));
        bus.close().await;
        database.close().await;
    });
}

/// Makes units until one fails.
async fn units(database: &SqliteDatabase) -> TxError {
    let store = database.store();
    loop {
        match unit(&store).await {
            Ok(version) => told("units", version.get()),
            Err(failed) => return failed,
        }
    }
}

/// Makes one more version of an aggregate and appends messages about it.
async fn unit(store: &SqliteStore) -> Result<Version, TxError> {
    let mut unit = store.begin().await?;
    let version = unit.load(&[thing()]).await?[0].version;
    unit.save(&thing(), version, vec![b'x'; BODY].into()).await?;
    let envelope = amarra_conformance::ledger::message(&amarra_tokio::environment(), "k").envelope;
    let message = Outgoing { topic: "things".into(), envelope };
    unit.enqueue(&vec![message; MESSAGES_PER_UNIT]).await?;
    unit.commit().await?;
    Ok(version.next())
}

/// Makes calls until one fails; each publishes records with its number, of several keys.
async fn calls(bus: &SqliteBus) -> PublishError {
    let mut number = read(bus, "starter").await.keys().last().map_or(0, |last| last + 1);
    let mut session = match bus.transport("outbox").open(&lease(1)).await {
        Ok(session) => session,
        Err(failed) => return failed,
    };
    loop {
        let records: Vec<_> = (0..RECORDS_PER_CALL).map(|key| publish(key, number)).collect();
        if let Err(failed) = session.publish(&records).await {
            return failed;
        }
        number += 1;
        told("calls", number);
    }
}

fn publish(key: u64, number: u64) -> Publish {
    let (key, value) = (format!("key-{key}").into(), format!("{number:0BODY$}").into());
    Publish { topic: Topic::from("things"), record: Record { key, headers: Headers::new(), value } }
}

/// Reads in a group and commits as it goes; says the sum of what it committed.
async fn offsets(bus: &SqliteBus) {
    let mut reader = member(bus, "reader");
    let mut next = BTreeMap::new();
    loop {
        let polled = reader.poll(7, Duration::from_secs(1)).await.expect("polled");
        let Polled::Records(records) = polled else { continue };
        for delivery in records {
            let (topic, partition) = (delivery.topic, delivery.partition);
            let at = amarra_messaging::consumer::TopicPartition { topic, partition };
            next.insert(at, delivery.offset.next());
        }
        let offsets: Vec<_> = next.clone().into_iter().collect();
        reader.commit(&offsets).await.expect("committed");
        if next.len() == 2 {
            told("offsets", next.values().map(|next| next.0).sum());
        }
    }
}

/// Counts the records of each call that a group of its own reads.
async fn read(bus: &SqliteBus, group: &str) -> BTreeMap<u64, u64> {
    let mut reader = member(bus, group);
    let mut calls = BTreeMap::new();
    loop {
        match reader.poll(1000, Duration::from_millis(50)).await.expect("polled") {
            Polled::Records(records) => {
                for delivery in records {
                    let number = String::from_utf8_lossy(&delivery.record.value).parse();
                    *calls.entry(number.expect("a number")).or_default() += 1;
                }
            }
            Polled::Idle => return calls,
            _ => {}
        }
    }
}

/// Starts a victim and kills it after some answers; returns the last answer of each kind.
fn kill_after(folder: &Path, answers: u64, at_work: impl FnOnce()) -> Answers {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "kill::victim", "--nocapture"]).env(FOLDER, folder);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a victim");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut last = Answers::default();
    let mut seen = 0;
    let mut at_work = Some(at_work);
    while let Some(Ok(line)) = lines.next() {
        if last.hear(&line) {
            seen += 1;
            if seen == answers {
                at_work.take().expect("once")();
                child.kill().expect("killed");
            }
        }
    }
    assert!(seen >= answers, "the victim ended by itself after {seen} answers");
    child.wait().expect("it has ended");
    last
}

/// How many of each kind were answered.
#[derive(Debug, Default)]
struct Answers {
    units: u64,
    calls: u64,
    offsets: u64,
    read: u64,
}

impl Answers {
    /// Notes what a line of the victim says, if it says anything.
    fn hear(&mut self, line: &str) -> bool {
        let Some((what, number)) = line.split_once(' ') else { return false };
        let Ok(number) = number.parse::<u64>() else { return false };
        match what {
            "units" => self.units = number,
            "calls" => self.calls = number,
            "offsets" => self.offsets = number,
            "read" => self.read = number,
            _ => return false,
        }
        true
    }
}

#[test]
fn kill_9_loses_nothing_that_was_answered_and_leaves_nothing_in_part() {
    let scratch = Scratch::new();
    let folder = scratch.folder();
    let entropy = amarra_tokio::environment().entropy;
    let runtime = runtime();
    let mut before = Answers::default();
    for round in 0..ROUNDS {
        let last = kill_after(folder, 3 + entropy.below(60), || {
            let opened = runtime.block_on(database(folder));
            let locked = opened.expect_err("opened while another process has it");
            assert!(matches!(locked, OpenError::Locked { .. }), "{locked}");
            let opened = runtime.block_on(bus(folder));
            assert!(matches!(opened, Err(OpenError::Locked { .. })), "{opened:?}");
        });
        // What was found once is there for ever, answered or not.
        before = Answers {
            units: last.units.max(before.units),
            calls: last.calls.max(before.calls),
            offsets: last.offsets.max(before.offsets),
            read: 0,
        };
        runtime.block_on(async {
            check_store(folder, &mut before).await;
            check_bus(folder, round, &mut before).await;
        });
    }
}

#[test]
fn a_disk_that_takes_no_more_loses_nothing_that_was_answered() {
    let scratch = Scratch::new();
    let folder = scratch.folder();
    let mut command = Command::new("sh");
    // Files of 1 MiB at most; a write past it fails instead of killing the process.
    command.args(["-c", r#"trap "" XFSZ; ulimit -f 2048; exec "$@""#, "sh"]);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "kill::victim_of_the_disk", "--nocapture"]).env(FULL_FOLDER, folder);
    let output = command.output().expect("a victim");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut last = Answers::default();
    for line in said.lines() {
        last.hear(line);
    }
    assert!(last.units > 0 && last.calls > 0, "the disk was full at once: {last:?}");
    assert_eq!(last.read, last.calls, "records are missing, or some in part");
    runtime().block_on(async {
        check_store(folder, &mut last).await;
        check_bus(folder, 0, &mut last).await;
    });
}

/// At most the one commit under way is there without having been answered.
async fn check_store(folder: &Path, answered: &mut Answers) {
    let database = database(folder).await.expect("a database");
    let mut unit = database.store().begin().await.expect("a unit");
    let version = unit.load(&[thing()]).await.expect("loaded")[0].version;
    drop(unit);
    let version = version.get();
    let answer = answered.units;
    assert!((answer..=answer + 1).contains(&version), "version {version}, answered {answer}");
    answered.units = version;
    let log = database.outbox_log();
    let leases = log.lease(&Owner::from("relay"), 1, Duration::from_secs(60)).await;
    let lease = leases.expect("a lease: its holder is dead").remove(0);
    let rows = usize::try_from(version).expect("few") * MESSAGES_PER_UNIT;
    let chunk = log.next_chunk(&lease, &Cursor::default(), rows + 1).await.expect("a chunk");
    assert_eq!(chunk.rows.len(), rows, "messages of {version} units");
    database.close().await;
}

async fn check_bus(folder: &Path, round: u64, answered: &mut Answers) {
    let bus = bus(folder).await.expect("a bus");
    let calls = read(&bus, &format!("checker-{round}")).await;
    let count = u64::try_from(calls.len()).expect("few");
    assert!(calls.values().all(|&records| records == RECORDS_PER_CALL), "in part: {calls:?}");
    assert!(calls.keys().copied().eq(0..count), "a call is missing: {calls:?}");
    let answer = answered.calls;
    assert!((answer..=answer + 1).contains(&count), "{count} calls, answered {answer}");
    answered.calls = count;
    let unread: u64 = read(&bus, "reader").await.values().sum();
    let committed = count * RECORDS_PER_CALL - unread;
    assert!(committed >= answered.offsets, "{committed} committed, answered {}", answered.offsets);
    answered.offsets = committed;
    // The session of the process that died is no more: its epoch is free for its successor.
    bus.transport("outbox").open(&lease(1)).await.expect("a session");
    bus.close().await;
}
