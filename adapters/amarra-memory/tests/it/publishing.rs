//! Sessions: what is stored, once or twice or not at all, and what the caller is told.

use amarra_memory::{BrokerConfig, ClientId, DatabaseConfig, Effect, Verdict};
use amarra_messaging::transport::Publish;
use amarra_messaging::{Partition, PublishError, Session, Transport};

use crate::world::{Begun, World, lease, partition, publish, secs};

fn world() -> World {
    topics(World::new())
}

fn topics(world: World) -> World {
    world.broker.create_topic("t", 1).unwrap();
    world
}

async fn open(world: &World, epoch: u64) -> Box<dyn Session> {
    let transport = world.broker.transport(ClientId::new("relay", 1), "orders");
    transport.open(&lease(epoch)).await.unwrap()
}

fn batch(values: &[&str]) -> Vec<Publish> {
    values.iter().map(|value| publish("t", "k", value)).collect()
}

fn stored(world: &World) -> Vec<String> {
    world.broker.inspect(|i| {
        let records = i.records(&partition("t", 0));
        records.map(|r| String::from_utf8_lossy(&r.value).into_owned()).collect()
    })
}

#[test]
fn each_fault_stores_and_tells_what_it_says() {
    let check = |effect, acked: Option<usize>, expect: &[&str], after_retry: &[&str]| {
        let world = world();
        world.script.strike("publish", effect);
        world.run(async {
            let mut session = open(&world, 1).await;
            let records = batch(&["a", "b", "c"]);
            match session.publish(&records).await {
                Ok(()) => assert_eq!(acked, None, "{effect:?}"),
                Err(PublishError::Unavailable { acked: told, .. }) => {
                    assert_eq!(Some(told), acked, "{effect:?}");
                    assert_eq!(stored(&world), expect, "{effect:?}");
                    session.publish(&records[told..]).await.unwrap();
                }
                Err(e) => panic!("{effect:?}: {e}"),
            }
            assert_eq!(stored(&world), after_retry, "{effect:?}");
        });
    };
    let all = ["a", "b", "c"];
    check(Effect::Proceed, None, &all, &all);
    check(Effect::Fail, Some(0), &[], &all);
    check(Effect::LoseRequest, Some(0), &[], &all);
    check(Effect::LoseReply, Some(0), &all, &all);
    check(Effect::FailPartway(2), Some(2), &["a", "b"], &all);
    check(Effect::FailPartway(9), Some(3), &all, &all);
    check(Effect::Duplicate, None, &[], &["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn a_retry_is_stored_once_even_when_it_goes_on_with_more() {
    let world = world();
    world.run(async {
        let mut session = open(&world, 1).await;
        for _ in 0..2 {
            world.script.strike("publish", Effect::LoseReply);
            assert!(session.publish(&batch(&["a", "b"])).await.is_err());
        }
        session.publish(&batch(&["a", "b", "c"])).await.unwrap();
        session.publish(&batch(&["a"])).await.unwrap();
    });
    assert_eq!(stored(&world), ["a", "b", "c", "a"], "a new record was taken for a retry");
}

#[test]
fn what_the_caller_gives_up_on_is_not_taken_for_stored_later() {
    let world = world();
    world.run(async {
        let mut session = open(&world, 1).await;
        world.script.strike("publish", Effect::Fail);
        assert!(session.publish(&batch(&["a", "b"])).await.is_err());
        session.publish(&batch(&["x", "b"])).await.unwrap();
    });
    assert_eq!(stored(&world), ["x", "b"]);
}

#[test]
fn another_session_does_not_know_what_the_first_one_stored() {
    let world = world();
    world.run(async {
        let mut session = open(&world, 1).await;
        world.script.strike("publish", Effect::LoseReply);
        assert!(session.publish(&batch(&["a"])).await.is_err());
        open(&world, 1).await.publish(&batch(&["a"])).await.unwrap();
    });
    assert_eq!(stored(&world), ["a", "a"]);
}

#[test]
fn a_newer_session_fences_the_older_one_of_its_shard_only() {
    let world = world();
    world.run(async {
        let mut old = open(&world, 1).await;
        let elsewhere = world.broker.transport(ClientId::new("relay", 1), "payments");
        let mut other = elsewhere.open(&lease(1)).await.unwrap();
        let mut new = open(&world, 2).await;
        let fenced = old.publish(&batch(&["zombie"])).await.unwrap_err();
        assert_eq!(fenced, PublishError::Fenced { shard: lease(1).shard, epoch: lease(1).epoch });
        new.publish(&batch(&["new"])).await.unwrap();
        other.publish(&batch(&["other"])).await.unwrap();
        let transport = world.broker.transport(ClientId::new("relay", 1), "orders");
        let late = transport.open(&lease(1)).await;
        assert!(matches!(late, Err(PublishError::Fenced { .. })), "an old epoch opened again");
        new.publish(&batch(&["still"])).await.unwrap();
    });
    assert_eq!(stored(&world), ["new", "other", "still"]);
}

#[test]
fn a_session_fenced_while_its_request_travels_stores_nothing() {
    let world = world();
    world.run(async {
        let mut old = open(&world, 1).await;
        world.script.put("publish", Verdict::delayed(secs(1), secs(0)));
        let mut late = Begun::new(async move { old.publish(&batch(&["zombie"])).await });
        assert!(late.poll().is_none());
        open(&world, 2).await;
        assert!(matches!(late.end().await, Err(PublishError::Fenced { .. })));
    });
    assert!(stored(&world).is_empty());
}

#[test]
fn a_refused_record_stops_the_batch_where_it_stands() {
    let config = BrokerConfig { record_bytes_max: 10, ..BrokerConfig::default() };
    let world = topics(World::with(DatabaseConfig::default(), config));
    let check = |bad: Publish, why: &str| {
        world.run(async {
            let before = stored(&world).len();
            let records = [publish("t", "k", "fits"), bad, publish("t", "k", "after")];
            match open(&world, 1).await.publish(&records).await {
                Err(PublishError::Refused { acked: 1, why: told }) => {
                    assert!(told.contains(why), "{told}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(stored(&world).len(), before + 1);
        });
    };
    check(publish("t", "k", "0123456789"), "record_bytes_max");
    check(publish("t", "", "v"), "key");
    check(publish("nowhere", "k", "v"), "nowhere");
}

#[test]
fn equal_keys_share_the_partition_that_kafka_gives_them() {
    let world = World::new();
    world.broker.create_topic("t", 3).unwrap();
    world.run(async {
        let mut session = open(&world, 1).await;
        let keys = ["21", "foobar", "abc", "21", "foobar"];
        let records: Vec<_> = keys.iter().map(|key| publish("t", key, key)).collect();
        session.publish(&records).await.unwrap();
    });
    let places: Vec<(u32, String)> = world.broker.inspect(|i| {
        let records = i.topic_records(&"t".into());
        records.map(|(p, _, r)| (p.0, String::from_utf8_lossy(&r.key).into_owned())).collect()
    });
    // murmur2 with the sign cleared, modulo three: 1173551340, 1357151166 and 479470107.
    let expect = [(0, "21"), (0, "foobar"), (0, "abc"), (0, "21"), (0, "foobar")];
    assert_eq!(places.len(), expect.len());
    for (key, number) in [("21", 1_173_551_340), ("foobar", 1_357_151_166), ("abc", 479_470_107)] {
        let at: Vec<_> = places.iter().filter(|(_, k)| k == key).map(|(p, _)| *p).collect();
        assert!(at.iter().all(|&p| p == number % 3), "{key} went to {at:?}");
    }
}

#[test]
fn a_change_of_leader_loses_what_was_not_acknowledged_and_the_retry_stores_it() {
    let config = BrokerConfig { replication_latency: secs(1), ..BrokerConfig::default() };
    let world = topics(World::with(DatabaseConfig::default(), config));
    world.run(async {
        let mut session = open(&world, 1).await;
        session.publish(&batch(&["a"])).await.unwrap();
        let mut publish = Begun::new(async move {
            let answer = session.publish(&batch(&["b"])).await;
            (session, answer)
        });
        assert!(publish.poll().is_none());
        assert_eq!(stored(&world), ["a"], "readable before it was replicated");
        world.broker.fail_leader(&"t".into(), Partition(0));
        let (mut session, answer) = publish.end().await;
        assert!(matches!(answer, Err(PublishError::Unavailable { acked: 0, .. })), "{answer:?}");
        assert_eq!(stored(&world), ["a"]);
        session.publish(&batch(&["b", "c"])).await.unwrap();
        assert_eq!(stored(&world), ["a", "b", "c"]);
    });
}

#[test]
fn acknowledged_records_survive_a_crash_of_the_broker_and_nothing_works_meanwhile() {
    let world = world();
    world.run(async {
        let mut session = open(&world, 1).await;
        session.publish(&batch(&["a"])).await.unwrap();
        world.broker.crash();
        assert!(!world.broker.inspect(|i| i.is_running()));
        let down = session.publish(&batch(&["b"])).await;
        assert!(matches!(down, Err(PublishError::Unavailable { acked: 0, .. })));
        let transport = world.broker.transport(ClientId::new("relay", 1), "orders");
        assert!(matches!(transport.open(&lease(2)).await, Err(PublishError::Unavailable { .. })));
        world.broker.restart();
        session.publish(&batch(&["b"])).await.unwrap();
        assert_eq!(stored(&world), ["a", "b"]);
    });
}

#[test]
fn replication_goes_on_without_the_publisher() {
    let config = BrokerConfig { replication_latency: secs(1), ..BrokerConfig::default() };
    let world = topics(World::with(DatabaseConfig::default(), config));
    world.run(async {
        let mut session = open(&world, 1).await;
        let mut publish = Begun::new(async move { session.publish(&batch(&["a"])).await });
        assert!(publish.poll().is_none());
        drop(publish);
    });
    assert_eq!(stored(&world), ["a"]);
}

#[test]
fn a_killed_process_publishes_nothing_more() {
    let world = world();
    world.run(async {
        let mut session = open(&world, 1).await;
        world.broker.disconnect("relay");
        let answer = session.publish(&batch(&["zombie"])).await;
        assert!(matches!(answer, Err(PublishError::Unavailable { acked: 0, .. })), "{answer:?}");
        let next = world.broker.transport(ClientId::new("relay", 2), "orders");
        next.open(&lease(1)).await.unwrap().publish(&batch(&["next"])).await.unwrap();
    });
    assert_eq!(stored(&world), ["next"]);
}

#[test]
fn a_topic_keeps_its_number_of_partitions() {
    let world = world();
    world.broker.create_topic("t", 1).unwrap();
    let more = world.broker.create_topic("t", 2).unwrap_err().to_string();
    assert!(more.contains("topic t"), "{more}");
    assert!(world.broker.create_topic("u", 0).unwrap_err().to_string().contains("partitions"));
}
