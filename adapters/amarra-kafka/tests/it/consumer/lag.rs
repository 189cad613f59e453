//! How far a group is behind.

use amarra_kafka::consumer::Protocol;
use amarra_kafka::{KafkaEnds, KafkaLag};
use amarra_messaging::{Consumer, ConsumerError, Offset};

use super::reading::{Reading, at, fill, topic};
use super::server::{quick, shared};
use crate::bed::PATIENCE;

async fn messages(lag: &KafkaLag) -> Vec<(u32, u64)> {
    let read = lag.read(PATIENCE).await.expect("a lag");
    let mut of: Vec<_> = read.into_iter().map(|(at, count)| (at.partition.0, count)).collect();
    of.sort_unstable();
    of
}

#[test]
fn the_lag_is_what_was_not_committed_of_the_partitions_assigned() {
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        shared(async |server| {
            let topic = topic(server, 2).await;
            let (first, second) = (at(&topic, 0), at(&topic, 1));
            fill(server, &first, 0..10).await;
            let mut member = Reading::join(&server.config(), &topic, &topic, quick(protocol));
            let lag = member.consumer.lag(&KafkaEnds::new(&server.config()).expect("a client"));
            assert_eq!(messages(&lag).await, [], "nothing is assigned before the first poll");
            member.until(2, 10).await;
            assert_eq!(messages(&lag).await, [(0, 10), (1, 0)], "read is not applied");
            member.consumer.commit(&[(first.clone(), Offset(7))]).await.expect("a commit");
            assert_eq!(messages(&lag).await, [(0, 3), (1, 0)]);
            fill(server, &second, 0..5).await;
            member.until(2, 15).await;
            assert_eq!(messages(&lag).await, [(0, 3), (1, 5)]);
            member.consumer.commit(&[(first, Offset(10)), (second, Offset(5))]).await.unwrap();
            assert_eq!(messages(&lag).await, [(0, 0), (1, 0)]);
        });
    }
}

#[test]
fn a_lag_that_no_broker_tells_is_an_error_and_not_nothing() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let mut member = Reading::join(&server.config(), &topic, &topic, quick(Protocol::Classic));
        member.until(1, 0).await;
        let nowhere = amarra_kafka::KafkaConfig::new("127.0.0.1:1");
        let lag = member.consumer.lag(&KafkaEnds::new(&nowhere).expect("a client"));
        let read = lag.read(std::time::Duration::from_millis(200)).await;
        assert!(matches!(read, Err(ConsumerError::Unavailable { .. })), "{read:?}");
    });
}
