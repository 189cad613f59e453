//! What becomes of calls that the broker, the network or the process break off.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use amarra_core::{Class, Classify};
use amarra_kafka::{KafkaConfig, KafkaTransport, Mode};
use amarra_messaging::murmur2::choose;
use amarra_messaging::transport::Publish;
use amarra_messaging::{Headers, PublishError, Session, Topic, Transport};
use testbed::{CutAt, Direction, Kafka, KafkaOptions};

use crate::bed::{PATIENCE, bed, block_on, create, until};
use crate::reader::Reader;
use crate::records::{assert_complete, lease, numbers, record};

const MODES: [Mode; 2] = [Mode::Idempotent, Mode::Transactional];

/// A topic of one partition and the configuration to publish to it, through the proxy.
async fn stage(mode: Mode) -> (Topic, KafkaConfig) {
    let prefix = bed().prefix();
    let fence_topic = format!("{prefix}-fences");
    bed().create(&fence_topic, 1, &[("cleanup.policy", "compact")]).await;
    bed().create(&prefix, 1, &[]).await;
    (Topic::from(prefix.as_str()), KafkaConfig { mode, fence_topic, ..bed().proxied() })
}

async fn open(config: &KafkaConfig, source: &Topic, epoch: u64) -> Box<dyn Session> {
    let transport = KafkaTransport::new(config.clone(), source.as_str()).unwrap();
    transport.open(&lease(0, epoch)).await.expect("a session")
}

fn read(topic: &Topic, count: usize) -> Vec<amarra_messaging::message::Delivery> {
    let bootstrap = bed().kafka.bootstrap();
    tokio::task::block_in_place(|| {
        Reader::open(&bootstrap, std::slice::from_ref(topic)).read(count)
    })
}

/// Publishes records from the first that is not stored on, as the relay does: each call is given a
/// time, and dropped when it takes longer.
async fn relay(session: &mut dyn Session, records: &[Publish], patience: Duration) {
    let (started, mut from) = (std::time::Instant::now(), 0);
    loop {
        match tokio::time::timeout(patience, session.publish(&records[from..])).await {
            Ok(Ok(())) => return,
            Ok(Err(PublishError::Unavailable { acked, .. })) => from += acked,
            Ok(Err(e)) => panic!("{e}"),
            Err(_) => {}
        }
        assert!(started.elapsed() < PATIENCE, "never stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_stalled_connection_reorders_nothing_and_the_session_goes_on() {
    let _turn = bed().turn();
    for (mode, direction) in MODES
        .into_iter()
        .flat_map(|mode| [Direction::Up, Direction::Down].map(|direction| (mode, direction)))
    {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let records: Vec<_> = (0..200).map(|n| record(&topic, "k", n, 4_000)).collect();
            let mut session = open(&config, &topic, 1).await;
            relay(session.as_mut(), &records[..20], PATIENCE).await;
            bed().proxy().stall(direction, true);
            // Longer than a record may be on its way: the client ends as a whole.
            let e = session.publish(&records[20..120]).await.unwrap_err();
            assert_eq!(e.class(), Class::Unknown, "{mode:?} {direction:?}: {e}");
            let PublishError::Unavailable { acked, .. } = e else { panic!("{e}") };
            bed().proxy().heal();
            relay(session.as_mut(), &records[20 + acked..], PATIENCE).await;
            assert_complete(&numbers(&read(&topic, 200), "k"), 200);
        });
    }
}

#[test]
fn a_call_that_is_given_up_and_repeated_is_stored_once() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let config = KafkaConfig { delivery_timeout: Duration::from_secs(30), ..config };
            let records: Vec<_> = (0..50).map(|n| record(&topic, "k", n, 100)).collect();
            let mut session = open(&config, &topic, 1).await;
            relay(session.as_mut(), &records[..10], PATIENCE).await;
            // Everything is stored, and no answer comes in time.
            bed().proxy().stall(Direction::Down, true);
            let given_up = session.publish(&records[10..]);
            let given_up = tokio::time::timeout(Duration::from_millis(300), given_up).await;
            assert!(given_up.is_err(), "{mode:?}: {given_up:?}");
            bed().proxy().heal();
            relay(session.as_mut(), &records[10..], PATIENCE).await;
            let stored = numbers(&read(&topic, 50), "k");
            assert_eq!(stored, (0..50).collect::<Vec<_>>(), "{mode:?}");
        });
    }
}

#[test]
fn a_call_that_was_given_up_before_it_left_is_not_taken_for_stored() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let config = KafkaConfig { delivery_timeout: Duration::from_secs(30), ..config };
            let records: Vec<_> = (0..50).map(|n| record(&topic, "k", n, 100)).collect();
            let mut session = open(&config, &topic, 1).await;
            // The number of partitions is asked for first, and does not come.
            bed().proxy().stall(Direction::Down, true);
            let given_up = session.publish(&records);
            let given_up = tokio::time::timeout(Duration::from_millis(300), given_up).await;
            assert!(given_up.is_err(), "{mode:?}: {given_up:?}");
            bed().proxy().heal();
            relay(session.as_mut(), &records, PATIENCE).await;
            let stored = numbers(&read(&topic, 50), "k");
            assert_eq!(stored, (0..50).collect::<Vec<_>>(), "{mode:?}");
        });
    }
}

#[test]
fn the_first_record_of_a_client_in_a_partition_is_stored_before_another_leaves() {
    let _turn = bed().turn();
    // In a transaction the partition is asked for first, whose answer does not come either.
    block_on(async {
        let (fences, config) = stage(Mode::Idempotent).await;
        let topic = Topic::from(format!("{fences}-two").as_str());
        bed().create(topic.as_str(), 2, &[]).await;
        let config = KafkaConfig { delivery_timeout: Duration::from_secs(30), ..config };
        let mut keys = ["a", "b", "c", "d", "e", "f"].into_iter();
        let of = |key: &str| choose(key.as_bytes(), 2).unwrap();
        let (other, key) = (keys.find(|k| of(k) == 0), keys.find(|k| of(k) == 1));
        let (other, key) = (other.unwrap(), key.unwrap());
        let records: Vec<_> = (0..50).map(|n| record(&topic, key, n, 100)).collect();
        let mut session = open(&config, &topic, 1).await;
        relay(session.as_mut(), &[record(&topic, other, 0, 100)], PATIENCE).await;
        // The other partition is met; of this one the broker stores what comes, unheard.
        bed().proxy().stall(Direction::Down, true);
        let given_up = session.publish(&records);
        let given_up = tokio::time::timeout(Duration::from_millis(300), given_up).await;
        assert!(given_up.is_err(), "{given_up:?}");
        let end = || bed().end_of(topic.as_str(), 1).filter(|end| *end > 0);
        let end = tokio::task::block_in_place(|| until("the first record is stored", end));
        assert_eq!(end, 1, "others left before the first was known to be stored");
        bed().proxy().heal();
        relay(session.as_mut(), &records, PATIENCE).await;
        let stored = numbers(&read(&topic, 51), key);
        assert_eq!(stored, (0..50).collect::<Vec<_>>());
    });
}

/// Rows of an outbox, numbered from `first` on, whose ids say which copy of the outbox it is.
fn rows(topic: &Topic, copy: &str, first: u32) -> Vec<Publish> {
    let row = |n: u32| {
        let mut publish = record(topic, "k", n, 10);
        publish.record.headers.push("ce_id", format!("{copy}-{n}").as_bytes());
        publish.record.headers.push("outbox-pos", n.to_string().as_bytes());
        publish
    };
    (first..first + 10).map(row).collect()
}

#[test]
fn what_a_dead_relay_committed_is_not_published_again_in_transactions() {
    let _turn = bed().turn();
    block_on(async {
        let (topic, config) = stage(Mode::Transactional).await;
        open(&config, &topic, 1).await.publish(&rows(&topic, "a", 0)).await.unwrap();
        // Its successor does not know, and publishes the chunk again, and the next.
        let mut successor = open(&config, &topic, 2).await;
        successor.publish(&rows(&topic, "a", 0)).await.unwrap();
        successor.publish(&rows(&topic, "a", 10)).await.unwrap();
        // A part of it, then more.
        let mut third = open(&config, &topic, 3).await;
        let overlapping: Vec<_> =
            rows(&topic, "a", 15).into_iter().take(5).chain(rows(&topic, "a", 20)).collect();
        third.publish(&overlapping).await.unwrap();
        // A row that was parked and is released has an old position, and is new.
        let mut released = rows(&topic, "a", 0);
        released.truncate(1);
        released[0].record.headers.push("outbox-released", b"1");
        third.publish(&released).await.unwrap();
        // Another outbox of the same name counts from the start again.
        open(&config, &topic, 4).await.publish(&rows(&topic, "b", 0)).await.unwrap();
        let stored = numbers(&read(&topic, 41), "k");
        let expect: Vec<u32> = (0..30).chain([0]).chain(0..10).collect();
        assert_eq!(stored, expect);
    });
}

#[test]
fn an_opening_that_is_given_up_again_and_again_ends_nevertheless() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let transport = KafkaTransport::new(config, topic.as_str()).unwrap();
            // Each of its steps takes as long as an opening is given.
            bed().proxy().latency(Duration::from_millis(50));
            let mut tries = 0;
            let mut session = loop {
                tries += 1;
                assert!(tries < 300, "{mode:?}: never opened");
                let lease = lease(0, 1);
                let open = transport.open(&lease);
                match tokio::time::timeout(Duration::from_millis(100), open).await {
                    Ok(opened) => break opened.unwrap(),
                    Err(_) => continue,
                }
            };
            bed().proxy().heal();
            assert!(tries > 1, "{mode:?}: the opening was never given up");
            session.publish(&[record(&topic, "k", 0, 10)]).await.unwrap();
            assert_eq!(numbers(&read(&topic, 1), "k"), [0], "{mode:?}");
        });
    }
}

#[test]
fn a_lost_answer_and_a_lost_request_are_really_lost() {
    let _turn = bed().turn();
    for (mode, at) in
        MODES.into_iter().flat_map(|mode| [CutAt::Before, CutAt::Answer].map(|at| (mode, at)))
    {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let records: Vec<_> = (0..30).map(|n| record(&topic, "k", n, 100)).collect();
            let mut session = open(&config, &topic, 1).await;
            let rule = bed().proxy().cut_when(Direction::Up, b"number", at);
            relay(session.as_mut(), &records, PATIENCE).await;
            assert!(rule.hit(), "{mode:?} {at:?}: nothing was cut");
            let stored = numbers(&read(&topic, 30), "k");
            assert_eq!(stored, (0..30).collect::<Vec<_>>(), "{mode:?} {at:?}");
        });
    }
}

#[test]
fn a_record_that_the_topic_refuses_is_told_from_those_in_its_batch() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (_, config) = stage(mode).await;
            let topic = Topic::from(format!("{}-small", bed().prefix()).as_str());
            bed().create(topic.as_str(), 1, &[("max.message.bytes", "3000")]).await;
            let mut records: Vec<_> =
                (0..6).map(|n| record(&topic, &format!("k{}", n % 2), n, 10)).collect();
            records[3] = record(&topic, "k1", 3, 10_000);
            let mut session = open(&config, &topic, 1).await;
            // Some of the batch may have to be published alone before the culprit is known.
            let (mut from, mut calls) = (0, 0);
            loop {
                calls += 1;
                match session.publish(&records[from..]).await.unwrap_err() {
                    PublishError::Unavailable { acked, .. } => from += acked,
                    PublishError::Refused { acked, .. } => break from += acked,
                    e => panic!("{mode:?}: {e}"),
                }
                assert!(calls < 10, "{mode:?}: the refused record is never found");
            }
            assert_eq!(from, 3, "{mode:?}");
            session.publish(&records[4..]).await.unwrap();
            let read = read(&topic, 5);
            assert_eq!(numbers(&read, "k0"), [0, 2, 4], "{mode:?}");
            assert_eq!(numbers(&read, "k1"), [1, 5], "{mode:?}");
        });
    }
}

/// librdkafka asks for a transactional id again after half a second when a record of it failed.
#[test]
fn a_client_that_ended_does_not_fence_the_one_in_its_place() {
    let _turn = bed().turn();
    block_on(async {
        let (_, config) = stage(Mode::Transactional).await;
        let topic = Topic::from(format!("{}-small", bed().prefix()).as_str());
        bed().create(topic.as_str(), 1, &[("max.message.bytes", "3000")]).await;
        let mut session = open(&config, &topic, 1).await;
        for round in 0..3 {
            let e = session.publish(&[record(&topic, "large", 0, 10_000)]).await.unwrap_err();
            assert!(matches!(e, PublishError::Refused { acked: 0, .. }), "{e}");
            for n in 0..100 {
                session.publish(&[record(&topic, "k", round * 100 + n, 10)]).await.unwrap();
            }
        }
        assert_eq!(numbers(&read(&topic, 300), "k"), (0..300).collect::<Vec<_>>());
    });
}

#[test]
fn an_empty_key_is_refused_and_its_neighbours_are_not() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (topic, config) = stage(mode).await;
            let mut records: Vec<_> = (0..3).map(|n| record(&topic, "k", n, 10)).collect();
            records[1] = record(&topic, "", 1, 10);
            let mut session = open(&config, &topic, 1).await;
            let e = session.publish(&records).await.unwrap_err();
            assert!(matches!(e, PublishError::Refused { acked: 1, .. }), "{mode:?}: {e}");
            session.publish(&records[2..]).await.unwrap();
            assert_eq!(numbers(&read(&topic, 2), "k"), [0, 2], "{mode:?}");
        });
    }
}

#[test]
fn a_missing_topic_is_named_and_published_to_once_it_is_there() {
    let _turn = bed().turn();
    for mode in MODES {
        block_on(async {
            let (_, config) = stage(mode).await;
            let topic = Topic::from(format!("{}-late", bed().prefix()).as_str());
            let mut session = open(&config, &topic, 1).await;
            let call = [record(&topic, "k", 0, 10)];
            let e = session.publish(&call).await.unwrap_err();
            assert!(matches!(e, PublishError::Unavailable { acked: 0, .. }), "{mode:?}: {e}");
            assert!(e.to_string().contains(topic.as_str()), "{mode:?}: {e}");
            bed().create(topic.as_str(), 1, &[]).await;
            relay(session.as_mut(), &call, PATIENCE).await;
            assert_eq!(numbers(&read(&topic, 1), "k"), [0], "{mode:?}");
        });
    }
}

#[test]
fn an_id_follows_the_headers_of_an_event_and_foreign_headers_stay_as_they_are() {
    let _turn = bed().turn();
    block_on(async {
        let (topic, config) = stage(Mode::Idempotent).await;
        let mut records: Vec<_> = (0..2).map(|n| record(&topic, "k", n, 10)).collect();
        let event: Headers = [("ce_id", "e-1"), ("ce_source", "orders")].into_iter().collect();
        let foreign: Headers = [("x", ""), ("id", "own"), ("x", "\u{1f984}")].into_iter().collect();
        records[0].record.headers = event.clone();
        records[1].record.headers = foreign.clone();
        open(&config, &topic, 1).await.publish(&records).await.unwrap();
        let read = read(&topic, 2);
        let found: Vec<_> = read[0].record.headers.iter().collect();
        let mut expect: Vec<_> = event.iter().collect();
        expect.push(("id", b"e-1".as_slice()));
        assert_eq!(found, expect);
        assert_eq!(read[1].record.headers, foreign);
    });
}

#[test]
fn a_zombie_that_took_the_id_makes_nobody_lose_the_lease() {
    let _turn = bed().turn();
    block_on(async {
        let (topic, config) = stage(Mode::Transactional).await;
        let mut owner = open(&config, &topic, 7).await;
        owner.publish(&[record(&topic, "k", 0, 10)]).await.unwrap();
        // A client that knows nothing of fences takes the transactional id of the shard.
        let mut thief = rdkafka::ClientConfig::new();
        thief
            .set("bootstrap.servers", bed().kafka.bootstrap())
            .set("transactional.id", format!("{topic}-0"));
        let thief: rdkafka::producer::BaseProducer = thief.create().unwrap();
        tokio::task::block_in_place(|| {
            rdkafka::producer::Producer::init_transactions(&thief, PATIENCE).unwrap();
        });
        let call = [record(&topic, "k", 1, 10)];
        let e = owner.publish(&call).await.unwrap_err();
        assert!(matches!(e, PublishError::Unavailable { acked: 0, .. }), "{e}");
        relay(owner.as_mut(), &call, PATIENCE).await;
        assert_eq!(numbers(&read(&topic, 2), "k"), [0, 1]);
    });
}

#[test]
fn an_idempotent_session_finds_out_by_the_fence_topic() {
    let _turn = bed().turn();
    block_on(async {
        let (topic, config) = stage(Mode::Idempotent).await;
        let mut old = open(&config, &topic, 1).await;
        old.publish(&[record(&topic, "k", 0, 10)]).await.unwrap();
        let _new = open(&config, &topic, 2).await;
        let started = std::time::Instant::now();
        while let Ok(()) = old.publish(&[record(&topic, "zombie", 0, 10)]).await {
            assert!(started.elapsed() < PATIENCE, "a zombie never finds out");
        }
        let e = old.publish(&[record(&topic, "k", 9, 10)]).await.unwrap_err();
        assert!(matches!(e, PublishError::Fenced { .. }), "{e}");
        assert_eq!(numbers(&read(&topic, 1), "k"), [0]);
    });
}

/// Set for the copy of this program that is to be killed: what to publish to.
const VICTIM: &str = "AMARRA_KAFKA_VICTIM";

/// Leaves a transaction open and waits to be killed; does nothing unless told to.
#[test]
fn victim() {
    let Ok(place) = std::env::var(VICTIM) else { return };
    let [bootstrap, topic, fences] = place.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{place}")
    };
    block_on(async {
        let config = KafkaConfig {
            mode: Mode::Transactional,
            fence_topic: fences.to_owned(),
            delivery_timeout: Duration::from_secs(60),
            ..KafkaConfig::new(bootstrap)
        };
        let topic = Topic::from(topic);
        let mut session = open(&config, &topic, 1).await;
        session.publish(&[record(&topic, "k", 0, 10)]).await.unwrap();
        println!("\nready");
        let rest: Vec<_> = (1..=20_000).map(|n| record(&topic, "k", n, 1_000)).collect();
        for call in rest.chunks(2_000).cycle() {
            session.publish(call).await.unwrap();
        }
    });
}

#[test]
fn what_a_killed_process_did_not_commit_is_never_read() {
    let _turn = bed().turn();
    block_on(async {
        let (topic, config) = stage(Mode::Transactional).await;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "faults::victim", "--nocapture"]);
        let place = format!("{} {topic} {}", bed().kafka.bootstrap(), config.fence_topic);
        command.env(VICTIM, place).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"), "the victim never published");
        // Somewhere in the middle of a call: it does nothing else.
        tokio::time::sleep(Duration::from_millis(150)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let mut successor = open(&config, &topic, 2).await;
        successor.publish(&[record(&topic, "mark", 7, 10)]).await.unwrap();
        let read = read(&topic, 2);
        assert_eq!(numbers(&read, "mark"), [7]);
        let stored = numbers(&read, "k");
        assert_eq!(stored[0], 0);
        assert_eq!((stored.len() - 1) % 2_000, 0, "a part of a call is readable");
        let calls = stored[1..].chunks(2_000);
        for call in calls {
            let first = call[0];
            assert!(call.iter().copied().eq(first..first + 2_000), "a call is out of order");
        }
        assert_eq!(read.last().unwrap().record.key.as_ref(), b"mark");
    });
}

#[test]
fn a_leader_killed_while_publishing_costs_nothing_and_reorders_nothing() {
    let options = KafkaOptions { nodes: 3, ..KafkaOptions::default() };
    let kafka = Kafka::start(options).expect("three nodes");
    let bootstrap = kafka.bootstrap();
    for (mode, victim) in MODES.into_iter().zip([1, 2]) {
        block_on(async {
            let name = format!("things-{victim}");
            let fence_topic = format!("fences-{victim}");
            create(&bootstrap, &fence_topic, (1, 3), &[("cleanup.policy", "compact")]).await;
            create(&bootstrap, &name, (6, 3), &[("min.insync.replicas", "2")]).await;
            let (topic, mut killed) = (Topic::from(name.as_str()), false);
            let config = KafkaConfig { mode, fence_topic, ..KafkaConfig::new(&bootstrap) };
            let mut session = open(&config, &topic, 1).await;
            for call in 0..40 {
                if call == 10 {
                    tokio::task::block_in_place(|| kafka.kill_node(victim)).unwrap();
                    killed = true;
                }
                let records: Vec<_> = (0..50)
                    .map(|n| record(&topic, &format!("k{}", n % 10), call * 5 + n / 10, 200))
                    .collect();
                relay(session.as_mut(), &records, Duration::from_secs(1)).await;
            }
            assert!(killed);
            let read = tokio::task::block_in_place(|| {
                kafka.start_node(victim).unwrap();
                Reader::open(&bootstrap, std::slice::from_ref(&topic)).read(2_000)
            });
            for key in 0..10 {
                assert_complete(&numbers(&read, &format!("k{key}")), 200);
            }
        });
    }
}
