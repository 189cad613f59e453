//! What a member is told, and when.

use amarra_messaging::message::{Partition, Record};
use amarra_messaging::{Headers, Topic};
use bytes::Bytes;

use super::*;

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: Topic::from("t"), partition: Partition(partition) }
}

fn native(partition: i32) -> Partitions {
    vec![("t".to_owned(), partition)]
}

fn push(state: &mut State, partition: u32, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let record = Record { key: Bytes::new(), headers: Headers::new(), value: Bytes::new() };
        let (topic, offset) = (Topic::from("t"), Offset(offset));
        state.push(Delivery { topic, partition: Partition(partition), offset, record });
    }
}

/// Takes one poll's answer, records as (partition, offset).
fn take(state: &mut State, limit: usize) -> Vec<(u32, u64)> {
    match state.take(limit) {
        Ok(Some(Polled::Records(records))) => {
            records.iter().map(|d| (d.partition.0, d.offset.0)).collect()
        }
        Ok(None) => Vec::new(),
        other => panic!("not records: {other:?}"),
    }
}

/// Returns a member of partitions whose caller knows of them.
fn member(partitions: std::ops::Range<u32>) -> State {
    let mut state = State::new(Bounds { records: 4, bytes: 1_000 });
    state.assigned(partitions.map(at).collect());
    assert!(matches!(state.take(1), Ok(Some(Polled::Assigned(_)))));
    state
}

#[test]
fn the_library_hears_of_a_revocation_once_the_caller_did() {
    let mut state = member(0..2);
    push(&mut state, 0, 0..2);
    push(&mut state, 1, 0..2);
    state.revoked(&[at(0)], native(0));
    assert!(state.holds(&at(0)), "the caller may still commit what it has in flight");
    assert_eq!(state.orders(), []);
    assert_eq!(state.take(9), Ok(Some(Polled::Revoked(vec![at(0)]))));
    assert_eq!(state.orders(), [Order::Unassign(native(0))]);
    assert!(!state.holds(&at(0)) && state.holds(&at(1)));
    push(&mut state, 0, 2..3);
    assert_eq!(take(&mut state, 9), [(1, 0), (1, 1)]);
}

#[test]
fn a_partition_that_went_and_came_back_is_told_in_order_and_not_held_meanwhile() {
    let mut state = member(0..1);
    push(&mut state, 0, 5..7);
    state.lost();
    state.assigned(vec![at(0)]);
    assert!(!state.holds(&at(0)), "what the caller knows of is gone");
    push(&mut state, 0, 2..3);
    assert_eq!(state.take(9), Ok(Some(Polled::Revoked(vec![at(0)]))));
    assert!(!state.holds(&at(0)));
    assert_eq!(state.take(9), Ok(Some(Polled::Assigned(vec![at(0)]))));
    assert!(state.holds(&at(0)));
    assert_eq!(take(&mut state, 9), [(0, 2)]);
    assert_eq!(state.orders(), [], "the library forgot by itself");
}

#[test]
fn a_library_that_was_replaced_is_not_told_of_what_the_one_before_revoked() {
    let mut state = member(0..2);
    state.revoked(&[at(0)], native(0));
    state.lost();
    assert!(!state.holds(&at(0)) && !state.holds(&at(1)), "another member would commit");
    assert_eq!(state.take(9), Ok(Some(Polled::Revoked(vec![at(0)]))));
    assert_eq!(state.take(9), Ok(Some(Polled::Revoked(vec![at(1)]))));
    assert_eq!(state.orders(), []);
}

#[test]
fn a_busy_partition_does_not_starve_the_others() {
    let mut state = member(0..3);
    for partition in 0..3 {
        push(&mut state, partition, 0..4);
    }
    let mut firsts: Vec<_> = (0..3).map(|_| take(&mut state, 2)[0].0).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [0, 1, 2]);
}

#[test]
fn a_full_partition_stops_the_library_unless_its_caller_paused_it_and_waits() {
    let room =
        |records, hold: &[u32]| Room { records, hold: hold.iter().map(|p| at(*p)).collect() };
    let mut state = member(0..2);
    push(&mut state, 0, 0..4);
    push(&mut state, 1, 0..1);
    assert_eq!(state.room(true, false), room(0, &[]));
    state.pause(&at(0));
    assert_eq!(state.room(false, false), room(0, &[]));
    assert_eq!(state.room(true, false), room(3, &[0]));
    assert_eq!(state.room(true, false), room(3, &[]), "it is held already");
    assert_eq!(take(&mut state, 9), [(1, 0)]);
    state.resume(&at(0));
    assert_eq!(state.orders(), [], "it is full still");
    assert_eq!(take(&mut state, 2), [(0, 0), (0, 1)]);
    assert_eq!(state.orders(), [Order::Resume(at(0))]);
}

#[test]
fn an_overdue_library_is_polled_whatever_is_full() {
    let mut state = member(0..2);
    push(&mut state, 0, 0..4);
    assert_eq!(state.room(false, true), Room { records: 4, hold: vec![at(0)] });
    take(&mut state, 3);
    assert_eq!(state.orders(), [Order::Resume(at(0))]);
}

#[test]
fn a_seek_that_another_followed_ends_nothing() {
    let mut state = member(0..1);
    state.seek(&at(0), Offset(7));
    state.seek(&at(0), Offset(9));
    let numbers: Vec<_> = state
        .orders()
        .into_iter()
        .map(|order| match order {
            Order::Seek { number, .. } => number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(!state.is_seeking(&at(0), numbers[0]) && state.is_seeking(&at(0), numbers[1]));
    state.sought(&at(0), numbers[0]);
    push(&mut state, 0, 7..9);
    state.sought(&at(0), numbers[1]);
    push(&mut state, 0, 9..10);
    assert_eq!(take(&mut state, 9), [(0, 9)]);
}

#[test]
fn an_error_is_told_once_after_the_records_and_an_end_for_ever() {
    let mut state = member(0..1);
    push(&mut state, 0, 0..1);
    state.fail("away".to_owned());
    assert_eq!(take(&mut state, 9), [(0, 0)]);
    assert_eq!(state.take(9), Err("away".to_owned()));
    assert_eq!(take(&mut state, 9), []);
    state.end("over");
    state.end("again");
    assert_eq!((state.take(9), state.take(9)), (Err("over".to_owned()), Err("over".to_owned())));
}
