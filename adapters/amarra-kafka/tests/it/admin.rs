//! Topics are made once and checked; what is wrong is named with what to do about it.

use std::net::TcpListener;
use std::time::Duration;

use amarra_core::{Class, Classify};
use amarra_kafka::{KafkaAdmin, KafkaConfig, KafkaError, KafkaTransport, Mode, TopicSpec};
use amarra_messaging::{PublishError, Transport};

use crate::bed::{bed, block_on};
use crate::records::lease;

fn differs(e: KafkaError, setting: &str) {
    assert_eq!(e.class(), Class::Fatal);
    let KafkaError::Differs { setting: of, found, wanted, .. } = &e else { panic!("{e}") };
    assert_eq!(*of, setting);
    for part in [found, wanted, setting] {
        assert!(e.to_string().contains(part), "{e}");
    }
}

#[test]
fn missing_topics_are_made_as_specified_and_found_again() {
    block_on(async {
        let (bed, admin) = (bed(), KafkaAdmin::new(bed().direct()).unwrap());
        let name = format!("{}-things", bed.prefix());
        let spec = TopicSpec {
            retention: Some(Duration::from_secs(3_600)),
            in_sync_min: Some(1),
            replicas: Some(1),
            ..TopicSpec::new(&name, 5)
        };
        let config = KafkaConfig { fence_topic: format!("{name}-fences"), ..bed.direct() };
        let topics = [spec.clone(), TopicSpec::fences(&config)];
        let missing = admin.check(&topics).await.unwrap_err();
        assert!(matches!(&missing, KafkaError::Missing { topic } if *topic == name), "{missing}");
        admin.ensure(&topics).await.unwrap();
        admin.ensure(&topics).await.unwrap();
        admin.check(&topics).await.unwrap();
    });
}

#[test]
fn two_processes_may_make_the_same_topics_at_once() {
    block_on(async {
        let (bed, name) = (bed(), bed().prefix());
        let admins = [(); 2].map(|()| KafkaAdmin::new(bed.direct()).unwrap());
        let topics = [TopicSpec::new(&name, 3)];
        let (a, b) = tokio::join!(admins[0].ensure(&topics), admins[1].ensure(&topics));
        a.unwrap();
        b.unwrap();
    });
}

#[test]
fn a_topic_that_is_not_as_it_has_to_be_is_refused_by_setting() {
    block_on(async {
        let (bed, admin) = (bed(), KafkaAdmin::new(bed().direct()).unwrap());
        let prefix = bed.prefix();
        let [compact, small] = ["compact", "small"].map(|name| format!("{prefix}-{name}"));
        bed.create(&compact, 2, &[("cleanup.policy", "compact")]).await;
        bed.create(&small, 2, &[("max.message.bytes", "5000")]).await;
        differs(admin.ensure(&[TopicSpec::new(&compact, 3)]).await.unwrap_err(), "partitions");
        differs(admin.ensure(&[TopicSpec::new(&compact, 2)]).await.unwrap_err(), "cleanup.policy");
        differs(admin.ensure(&[TopicSpec::new(&small, 2)]).await.unwrap_err(), "max.message.bytes");
        let safe =
            TopicSpec { in_sync_min: Some(2), compacted: true, ..TopicSpec::new(&compact, 2) };
        differs(admin.ensure(&[safe]).await.unwrap_err(), "min.insync.replicas");
        let config = KafkaConfig { record_bytes_max: 5_000, ..bed.direct() };
        let modest = KafkaAdmin::new(config).unwrap();
        modest.ensure(&[TopicSpec::new(&small, 2)]).await.unwrap();
    });
}

#[test]
fn more_replicas_than_brokers_are_refused_by_the_cluster() {
    block_on(async {
        let admin = KafkaAdmin::new(bed().direct()).unwrap();
        let spec = TopicSpec { replicas: Some(3), ..TopicSpec::new(&bed().prefix(), 1) };
        let e = admin.ensure(std::slice::from_ref(&spec)).await.unwrap_err();
        assert!(matches!(e, KafkaError::Refused { .. }), "{e}");
        assert!(e.to_string().contains(spec.name.as_str()), "{e}");
    });
}

/// A port that nobody listens on.
fn nowhere() -> KafkaConfig {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request_timeout = Duration::from_millis(300);
    KafkaConfig { request_timeout, ..KafkaConfig::new(&addr.to_string()) }
}

#[test]
fn an_unreachable_cluster_is_named_by_the_admin_and_by_a_session() {
    block_on(async {
        let config = nowhere();
        let admin = KafkaAdmin::new(config.clone()).unwrap();
        let e = admin.ensure(&[TopicSpec::new("things", 1)]).await.unwrap_err();
        assert!(matches!(e, KafkaError::Unreachable { .. }), "{e}");
        assert_eq!(e.class(), Class::Transient);
        assert!(e.to_string().contains(&config.bootstrap), "{e}");
        for mode in [Mode::Idempotent, Mode::Transactional] {
            let transport = KafkaTransport::new(KafkaConfig { mode, ..config.clone() }, "orders");
            let e = transport.unwrap().open(&lease(0, 1)).await.unwrap_err();
            assert!(matches!(e, PublishError::Unavailable { acked: 0, .. }), "{e}");
            assert!(e.to_string().contains(&config.bootstrap), "{e}");
        }
    });
}

#[test]
fn a_property_that_librdkafka_does_not_take_is_named_without_its_value() {
    let mut config = bed().direct();
    config.extra.insert("sasl.pasword".into(), "hunter2".into());
    let e = KafkaAdmin::new(config.clone()).unwrap_err();
    assert!(matches!(e, KafkaError::Client { .. }), "{e}");
    assert!(e.to_string().contains("sasl.pasword") && !e.to_string().contains("hunter2"), "{e}");
    assert_eq!(KafkaTransport::new(config, "orders").unwrap_err().field, "extra");
}

#[test]
fn a_session_says_which_topic_is_missing() {
    block_on(async {
        let fences = format!("{}-fences", bed().prefix());
        let config = KafkaConfig { fence_topic: fences.clone(), ..bed().direct() };
        let transport = KafkaTransport::new(config, "orders").unwrap();
        let e = transport.open(&lease(0, 1)).await.unwrap_err();
        assert!(e.to_string().contains(&fences) && e.to_string().contains("create it"), "{e}");
        assert_eq!(e.class(), Class::Unknown);
    });
}
