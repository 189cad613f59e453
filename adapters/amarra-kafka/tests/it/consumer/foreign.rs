//! Records of producers that know nothing of ours: never a panic, parked with a reason.

use amarra_conformance::ledger;
use amarra_kafka::consumer::Protocol;
use amarra_messaging::wire;

use super::raw::{RawRecord, publish};
use super::reading::{Reading, topic};
use super::server::{Server, quick, shared};
use super::work::Workshop;
use crate::bed::PATIENCE;

const NOT_UTF8: &[u8] = &[0xff, 0xfe, 0xc3, 0x28];

/// Publishes one of each kind of poison, and then a record of ours.
fn poison(server: &Server, topic: &str, ours: &amarra_messaging::Record) -> u64 {
    let broker = *server.kafka.addrs().first().expect("a node");
    let ce: Vec<_> = ours.headers.iter().map(|(n, v)| (n.as_bytes(), Some(v))).collect();
    let mut odd = ce.clone();
    odd.push((NOT_UTF8, Some(b"1")));
    let kinds = [
        RawRecord::default(),
        RawRecord { value: Some(b"no key, no header"), ..RawRecord::default() },
        RawRecord { key: Some(b"a tombstone"), ..RawRecord::default() },
        RawRecord { key: Some(NOT_UTF8), value: Some(NOT_UTF8), ..RawRecord::default() },
        RawRecord {
            key: Some(b"odd headers"),
            value: Some(b"{}"),
            headers: &[
                (NOT_UTF8, Some(b"1")),
                (b"", None),
                (b"ce_id", Some(NOT_UTF8)),
                (b"a", None),
            ],
        },
        // A foreign header among ours is nothing that we read.
        RawRecord { key: Some(b"k"), value: Some(&ours.value), headers: &odd },
        RawRecord { key: Some(b"k"), value: Some(&ours.value), headers: &ce[..1] },
    ];
    for kind in &kinds {
        publish(broker, topic, kind);
    }
    u64::try_from(kinds.len()).unwrap()
}

#[test]
fn every_record_comes_as_bytes() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let env = amarra_tokio::environment();
        let ours = wire::encode(&ledger::message(&env, "k").envelope, None);
        let count = tokio::task::block_in_place(|| poison(server, &topic, &ours));
        let mut member = Reading::join(&server.config(), &topic, &topic, quick(Protocol::Classic));
        member.until(1, usize::try_from(count).unwrap()).await;
        let record = |n: usize| &member.seen[n].record;
        assert!(record(0).key.is_empty() && record(0).value.is_empty());
        assert!(record(2).value.is_empty() && record(2).headers.is_empty());
        assert_eq!((&record(3).key[..], &record(3).value[..]), (NOT_UTF8, NOT_UTF8));
        let headers: Vec<_> = record(4).headers.iter().collect();
        let unreadable = ("amarra-unreadable-header", b"0".as_slice());
        assert_eq!(headers, [("", b"".as_slice()), ("ce_id", NOT_UTF8), ("a", b""), unreadable]);
        assert!(wire::envelope(record(5)).is_ok(), "a foreign header hides ours");
    });
}

#[test]
fn poison_is_parked_with_a_reason_and_the_rest_applied() {
    shared(async |server| {
        let topic = topic(server, 1).await;
        let workshop = Workshop::new(server, &topic);
        let message = ledger::message(&workshop.env, "k");
        let ours = wire::encode(&message.envelope, None);
        let count = tokio::task::block_in_place(|| poison(server, &topic, &ours));
        let good = ledger::message(&workshop.env, "good");
        workshop.publish(0, &good).await;
        let worker = workshop.work();
        let noted = || workshop.noted("good").len() + workshop.noted("k").len();
        let parked = || workshop.parked();
        // The sixth is ours with a foreign header; every other of the poison is parked.
        let started = std::time::Instant::now();
        while noted() < 2 || parked().len() < usize::try_from(count - 1).unwrap() {
            let now = (noted(), parked());
            assert!(started.elapsed() < PATIENCE, "applied and parked: {now:?}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        worker.stop().await;
        assert_eq!(workshop.noted("good"), [good.envelope.id]);
        assert_eq!(workshop.noted("k"), [message.envelope.id]);
        for (offset, reason) in parked() {
            assert!(reason.contains("header"), "{offset}: {reason}");
        }
        let offsets: Vec<_> = parked().into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 6]);
    });
}
