//! The laws of replaying parked messages.

use std::sync::atomic::Ordering;
use std::time::Duration;

use amarra_core::{Class, PartitionKey};
use amarra_memory::Effect;
use amarra_messaging::Topic;
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::Processor;
use amarra_store::Replay;
use futures_util::future::join;

use crate::ledger::{World, delivery, garbage};

/// A world in which the bad message 1 and the good ones 2 and 3 are parked.
fn parked(flush: Duration) -> World {
    let world = World::with_flush(flush);
    let processor = world.processor();
    world.time.run(processor.park(&delivery(1, "a", "Bad"), "bad")).unwrap();
    let batch = [delivery(2, "a", "Good"), delivery(3, "a", "Good")];
    world.time.run(processor.apply(&batch)).unwrap();
    assert_eq!(world.parked(), [1, 2, 3]);
    world
}

fn replay(world: &World, limit: usize) -> Replay {
    let key = PartitionKey::new("a");
    world.time.run(world.replayer().replay(&Topic::from("orders"), &key, limit))
}

#[test]
fn a_mended_key_is_applied_in_order_and_flows_again() {
    let world = parked(Duration::ZERO);
    world.ledger.healed.store(true, Ordering::Relaxed);
    assert_eq!(replay(&world, 10), Replay { applied: 3, stopped: None });
    world.time.run(world.processor().apply(&[delivery(4, "a", "Good")])).unwrap();
    assert_eq!(world.seen("a"), [1, 2, 3, 4]);
    assert_eq!(world.parked(), [0; 0]);
    assert_eq!(replay(&world, 10), Replay { applied: 0, stopped: None });
}

#[test]
fn a_replay_stops_at_the_first_failure_and_says_why() {
    let world = parked(Duration::ZERO);
    let replayed = replay(&world, 10);
    let stopped = replayed.stopped.unwrap();
    assert_eq!((replayed.applied, stopped.class), (0, Class::Rejected));
    assert_eq!(stopped.why, "refused: bad");
    assert!(stopped.ticket.is_some());
    assert_eq!((world.seen("a"), world.parked()), (vec![], vec![1, 2, 3]));
}

#[test]
fn a_replay_handles_at_most_as_many_as_asked_for() {
    let world = parked(Duration::ZERO);
    world.ledger.healed.store(true, Ordering::Relaxed);
    assert_eq!(replay(&world, 2), Replay { applied: 2, stopped: None });
    assert_eq!((world.seen("a"), world.parked()), (vec![1, 2], vec![3]));
}

#[test]
fn a_replay_whose_commit_is_unknown_can_be_repeated() {
    for effect in [Effect::LoseReply, Effect::LoseRequest] {
        let world = parked(Duration::ZERO);
        world.ledger.healed.store(true, Ordering::Relaxed);
        world.script.strike("commit", effect);
        let stopped = replay(&world, 10).stopped.unwrap();
        assert_eq!(stopped.class, Class::Unknown);
        assert_eq!(replay(&world, 10).stopped, None);
        assert_eq!(world.seen("a"), [1, 2, 3], "{effect:?}");
    }
}

#[test]
fn two_replays_at_once_apply_each_message_once() {
    let world = parked(Duration::from_millis(3));
    world.ledger.healed.store(true, Ordering::Relaxed);
    let (first, second) = (world.replayer(), world.replayer());
    let (topic, key) = (Topic::from("orders"), PartitionKey::new("a"));
    let both = join(first.replay(&topic, &key, 10), second.replay(&topic, &key, 10));
    let (first, second) = world.time.run(both);
    assert_eq!(first.applied + second.applied, 3);
    assert_eq!((world.seen("a"), world.parked()), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_message_that_still_does_not_decode_stays_first() {
    let world = World::new();
    world.time.run(world.processor().park(&garbage(1, "a"), "garbage")).unwrap();
    let stopped = replay(&world, 10).stopped.unwrap();
    assert_eq!(stopped.class, Class::Fatal);
    assert!(stopped.why.contains("ce_specversion"), "{}", stopped.why);
    assert_eq!(world.parked(), [1]);
}

/// Replaces what is parked at the place of `with` by it, as if this code had learned to decode it.
fn mend(world: &World, with: &Delivery) {
    let group = amarra_messaging::Group::from("ledger");
    world.time.run(async {
        let mut unit = world.store("mender").begin().await.unwrap();
        let first = unit.first_parked(&group, &with.topic, &with.key()).await.unwrap().unwrap();
        assert_eq!(first.delivery.offset, with.offset);
        unit.unpark(&group, first.ticket).await.unwrap();
        unit.park(&group, with, "mended").await.unwrap();
        unit.commit().await.unwrap();
    });
}

#[test]
fn a_message_parked_undecodable_is_applied_once_when_it_decodes() {
    let world = World::new();
    world.time.run(world.processor().park(&garbage(1, "a"), "garbage")).unwrap();
    mend(&world, &delivery(1, "a", "Good"));
    assert_eq!(replay(&world, 10), Replay { applied: 1, stopped: None });
    assert_eq!(world.seen("a"), [1]);
    let mut again = delivery(1, "a", "Good");
    again.offset.0 = 9;
    world.time.run(world.processor().apply(&[again])).unwrap();
    assert_eq!(world.seen("a"), [1], "its real id is known now");
}

#[test]
fn a_message_parked_undecodable_is_not_applied_again_after_its_twin() {
    let world = World::new();
    world.time.run(world.processor().park(&garbage(1, "a"), "garbage")).unwrap();
    let (broken, mut twin) = (delivery(1, "a", "Good"), delivery(1, "b", "Good"));
    twin.offset.0 = 9;
    world.time.run(world.processor().apply(&[twin])).unwrap();
    mend(&world, &broken);
    assert_eq!(replay(&world, 10), Replay { applied: 1, stopped: None });
    assert_eq!((world.seen("a"), world.seen("b")), (vec![], vec![1]));
    assert_eq!(world.parked(), [0; 0]);
}
