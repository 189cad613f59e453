//! What the bus does beyond the laws: bounds, faults of the disk, deleting, handing over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amarra_messaging::consumer::TopicPartition;
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::outbox::Lease;
use amarra_messaging::transport::Publish;
use amarra_messaging::{
    Consumer, Headers, Offset, Partition, Polled, PublishError, Record, Session, Topic, Transport,
};
use amarra_sqlite::{BusConfig, MemberConfig, SqliteBus, SqliteConsumer, Synchronous, TopicConfig};
use futures_util::future::join_all;
use sqlx::{Connection, SqliteConnection};

use crate::scratch::{Scratch, runtime};

/// Rounds of a wait for something that is sure to happen.
const ROUNDS: usize = 2000;
const BRIEF: Duration = Duration::from_millis(20);

fn config(path: PathBuf) -> BusConfig {
    let topics = vec![TopicConfig { topic: "things".into(), partitions: 2 }];
    // The disk's speed is of no interest here.
    BusConfig { synchronous: Synchronous::Normal, ..BusConfig::new(path, topics) }
}

async fn open(config: BusConfig) -> SqliteBus {
    SqliteBus::open(config, amarra_tokio::environment()).await.expect("a bus")
}

async fn session(bus: &SqliteBus, shard: u16) -> Box<dyn Session> {
    let lease = Lease { shard: Shard(shard), epoch: Epoch(1), owner: "relay".into() };
    bus.transport("outbox").open(&lease).await.expect("a session")
}

fn member(bus: &SqliteBus, group: &str) -> SqliteConsumer {
    bus.consumer(group, &["things".into()], MemberConfig::default()).expect("a member")
}

fn publish(key: &str, bytes: usize) -> Publish {
    let (key, value) = (key.to_owned().into(), vec![b'x'; bytes].into());
    Publish { topic: Topic::from("things"), record: Record { key, headers: Headers::new(), value } }
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: "things".into(), partition: Partition(partition) }
}

/// Keys of one partition each.
const ZERO: &str = "k3";
const ONE: &str = "k2";

#[test]
fn the_keys_of_these_tests_are_of_two_partitions() {
    let partition = |key: &str| amarra_messaging::murmur2::choose(key.as_bytes(), 2);
    assert_eq!((partition(ZERO), partition(ONE)), (Some(0), Some(1)));
}

/// Polls until there is nothing, and returns how many records came and from where on.
async fn drain(consumer: &mut SqliteConsumer) -> (usize, Option<Offset>) {
    let (mut count, mut first) = (0, None);
    loop {
        match consumer.poll(1000, BRIEF).await.expect("polled") {
            Polled::Records(records) => {
                first = first.or(records.first().map(|delivery| delivery.offset));
                count += records.len();
            }
            Polled::Idle => return (count, first),
            _ => {}
        }
    }
}

/// Holds the right to write the file, as a tool that looks into it could.
async fn hold(path: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", path.display());
    let mut tool = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut tool).await.expect("the lock");
    tool
}

#[test]
fn what_waits_is_written_together_and_in_order() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let config = BusConfig { queue_max: 2, batch_max: 3, ..config(scratch.path("bus")) };
        let bus = open(config).await;
        let publishers = (0..10).map(|shard| {
            let bus = bus.clone();
            async move {
                let mut session = session(&bus, shard).await;
                for n in 0..20 {
                    session.publish(&[publish(ZERO, n)]).await.expect("published");
                }
            }
        });
        join_all(publishers).await;
        let mut reader = member(&bus, "readers");
        assert_eq!(drain(&mut reader).await, (200, Some(Offset(0))));
        bus.close().await;
    });
}

#[test]
fn a_writer_that_fails_answers_unavailable_and_then_goes_on() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("bus");
        let bus = open(BusConfig { busy_timeout: BRIEF, ..config(path.clone()) }).await;
        let mut session = session(&bus, 0).await;
        let mut reader = member(&bus, "readers");
        session.publish(&[publish(ZERO, 1), publish(ZERO, 2)]).await.expect("published");
        assert_eq!(drain(&mut reader).await.0, 2);
        reader.commit(&[(at(0), Offset(1))]).await.expect("committed");

        let tool = hold(&path).await;
        let refused = session.publish(&[publish(ZERO, 3)]).await;
        assert!(matches!(refused, Err(PublishError::Unavailable { acked: 0, .. })), "{refused:?}");
        assert!(reader.commit(&[(at(0), Offset(2))]).await.is_err(), "committed to a locked file");
        assert!(bus.transport("outbox").open(&lease(2)).await.is_err(), "a fence in a locked file");
        let declared = bus.declare(TopicConfig { topic: "more".into(), partitions: 1 }).await;
        assert!(declared.is_err(), "a topic in a locked file");
        tool.close().await.expect("closed");

        let fenced = session.publish(&[publish(ZERO, 3)]).await;
        assert!(matches!(fenced, Err(PublishError::Fenced { .. })), "{fenced:?}");
        let mut session = bus.transport("outbox").open(&lease(2)).await.expect("a session");
        session.publish(&[publish(ZERO, 3)]).await.expect("published");
        assert_eq!(drain(&mut reader).await, (1, Some(Offset(2))));
        drop(reader);
        let mut next = member(&bus, "readers");
        assert_eq!(drain(&mut next).await, (2, Some(Offset(1))), "the failed commit counts");
        bus.close().await;

        let bus = open(config(path)).await;
        assert!(bus.transport("outbox").open(&lease(1)).await.is_err(), "the fence was forgotten");
    });
}

fn lease(epoch: u64) -> Lease {
    Lease { shard: Shard(0), epoch: Epoch(epoch), owner: "relay".into() }
}

#[test]
fn others_read_on_while_a_partition_changes_hands() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let bus = open(config(scratch.path("bus"))).await;
        let mut one = member(&bus, "readers");
        let polled = one.poll(9, BRIEF).await.expect("polled");
        assert_eq!(polled, Polled::Assigned(vec![at(0), at(1)]));
        let mut two = member(&bus, "readers");
        assert_eq!(two.poll(9, BRIEF).await, Ok(Polled::Idle), "the first one holds both");
        let given_up = one.poll(9, BRIEF).await.expect("polled");
        let Polled::Revoked(given_up) = given_up else { panic!("{given_up:?}") };
        assert_eq!(given_up.len(), 1, "it keeps the other one");
        assert_eq!(two.poll(9, BRIEF).await, Ok(Polled::Assigned(given_up.clone())));
        assert_eq!(one.poll(9, BRIEF).await, Ok(Polled::Idle));
        drop(two);
        assert_eq!(one.poll(9, BRIEF).await, Ok(Polled::Assigned(given_up)), "it left at once");
        bus.close().await;
    });
}

#[test]
fn a_new_topic_reaches_members_that_wait_for_none_of_it() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let bus = open(config(scratch.path("bus"))).await;
        let mut session = session(&bus, 0).await;
        let mut other = publish(ZERO, 1);
        other.topic = "more".into();
        let refused =
            session.publish(&[publish(ZERO, 1), other.clone()]).await.expect_err("no topic");
        let PublishError::Refused { acked: 1, why } = refused else { panic!("{refused}") };
        assert!(why.contains("add it to the topics"), "{why}");
        for _ in 0..2 {
            let topic = TopicConfig { topic: "more".into(), partitions: 1 };
            bus.declare(topic).await.expect("declared");
        }
        session.publish(&[other]).await.expect("published");
        let topics = ["things".into(), "more".into()];
        let mut reader = bus.consumer("g", &topics, MemberConfig::default()).expect("a member");
        assert_eq!(drain(&mut reader).await.0, 2);
        bus.close().await;
    });
}

/// Publishes and reads until the first record kept is past offset 0.
#[test]
fn what_all_groups_read_is_deleted_when_it_is_old_and_nothing_else_is() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("bus");
        let brief = Duration::from_millis(1);
        let bus = open(BusConfig { retention: brief, prune_max: 2, ..config(path.clone()) }).await;
        let mut session = session(&bus, 0).await;
        let (mut fast, mut slow) = (member(&bus, "fast"), member(&bus, "slow"));
        drain(&mut slow).await;
        let records: Vec<_> = (0..7).map(|n| publish(ZERO, n)).collect();
        session.publish(&records).await.expect("published");
        assert_eq!(drain(&mut fast).await.0, 7);
        fast.commit(&[(at(0), Offset(7))]).await.expect("committed");
        let mut checker = member(&bus, "checker");
        assert_eq!(drain(&mut checker).await, (7, Some(Offset(0))), "a group has still to read it");
        drop(checker);
        bus.forget_group(&"checker".into()).await.expect("forgotten");
        slow.commit(&[(at(0), Offset(5))]).await.expect("committed");
        let mut first = Some(Offset(0));
        for round in 0..ROUNDS {
            let group = format!("checker-{round}");
            let mut checker = member(&bus, &group);
            first = drain(&mut checker).await.1;
            drop(checker);
            bus.forget_group(&group.as_str().into()).await.expect("forgotten");
            if first == Some(Offset(5)) {
                break;
            }
        }
        assert_eq!(first, Some(Offset(5)), "old records that all have read are kept");
        assert_eq!(drain(&mut slow).await, (2, Some(Offset(5))));
        slow.commit(&[(at(0), Offset(7))]).await.expect("committed");
        bus.close().await;

        let bus = open(config(path)).await;
        let mut session = session_again(&bus).await;
        session.publish(&[publish(ZERO, 1)]).await.expect("published");
        let mut slow = member(&bus, "slow");
        assert_eq!(drain(&mut slow).await, (1, Some(Offset(7))), "offsets begin again");
        bus.close().await;
    });
}

async fn session_again(bus: &SqliteBus) -> Box<dyn Session> {
    bus.transport("outbox").open(&lease(1)).await.expect("a session")
}

#[test]
fn a_full_bus_says_who_holds_it_and_loses_nothing() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let config = BusConfig { file_bytes_max: 1 << 20, ..config(scratch.path("bus")) };
        let bus = open(config).await;
        let mut session = session(&bus, 0).await;
        let mut reader = member(&bus, "the-slow-one");
        drain(&mut reader).await;
        let mut published = 0;
        let why = loop {
            match session.publish(&[publish(ZERO, 64 << 10)]).await {
                Ok(()) => published += 1,
                Err(PublishError::Unavailable { acked: 0, why }) => break why,
                Err(e) => panic!("{e}"),
            }
            assert!(published < 100, "nothing bounds the file");
        };
        for part in ["file_bytes_max", "the-slow-one", "things", "start it, or forget it"] {
            assert!(why.contains(part), "{why:?} does not say {part:?}");
        }
        assert_eq!(drain(&mut reader).await.0, published);
        let next = Offset(u64::try_from(published).expect("few"));
        reader.commit(&[(at(0), next)]).await.expect("committed");
        // Many times the bound goes through a bus that is read.
        for ones in 1..=50 {
            publish_once_there_is_room(session.as_mut(), &publish(ONE, 64 << 10)).await;
            assert_eq!(drain(&mut reader).await.0, 1);
            reader.commit(&[(at(1), Offset(ones))]).await.expect("committed");
        }
        bus.close().await;
    });
}

async fn publish_once_there_is_room(session: &mut dyn Session, record: &Publish) {
    for _ in 0..ROUNDS {
        match session.publish(std::slice::from_ref(record)).await {
            Ok(()) => return,
            Err(PublishError::Unavailable { acked: 0, .. }) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("there is no room although everything is read");
}

#[test]
fn a_member_that_lags_reads_the_file_and_catches_up_with_memory() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let lagging = BusConfig {
            cache_bytes: 300,
            read_ahead: 5,
            read_ahead_bytes: 60,
            ..config(scratch.path("bus"))
        };
        let bus = open(lagging).await;
        let mut session = session(&bus, 0).await;
        let mut reader = member(&bus, "readers");
        let mut seen = BTreeSet::new();
        let mut published = 0;
        for round in 0..60_usize {
            let records: Vec<_> =
                (0..round % 7).map(|n| publish(if n % 2 == 0 { ZERO } else { ONE }, 20)).collect();
            published += records.len();
            session.publish(&records).await.expect("published");
            if let Polled::Records(records) = reader.poll(2, Duration::ZERO).await.expect("polled")
            {
                assert!(records.len() <= 2);
                seen.extend(records.into_iter().map(|d| (d.partition, d.offset)));
            }
        }
        while let Polled::Records(records) = reader.poll(2, BRIEF).await.expect("polled") {
            seen.extend(records.into_iter().map(|d| (d.partition, d.offset)));
        }
        assert_eq!(seen.len(), published);
        bus.close().await;
    });
}

#[test]
fn dropping_every_handle_closes_the_bus() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("bus");
        let bus = open(config(path.clone())).await;
        let (mut session, reader) = (session(&bus, 0).await, member(&bus, "readers"));
        drop(bus);
        session.publish(&[publish(ZERO, 1)]).await.expect("a session keeps the bus open");
        drop((session, reader));
        let env = amarra_tokio::environment();
        for _ in 0..ROUNDS {
            match SqliteBus::open(config(path.clone()), env.clone()).await {
                Ok(bus) => {
                    let mut reader = member(&bus, "readers");
                    assert_eq!(drain(&mut reader).await.0, 1);
                    return bus.close().await;
                }
                Err(_) => env.sleep(Duration::from_millis(1)).await,
            }
        }
        panic!("the file was never let go of");
    });
}

#[test]
fn a_bus_is_shared_by_tasks() {
    fn assert<T: Send + Sync + Clone + 'static>() {}
    fn assert_send<T: Send + 'static>() {}
    assert::<SqliteBus>();
    assert_send::<SqliteConsumer>();
    assert_send::<Arc<dyn Transport>>();
}
