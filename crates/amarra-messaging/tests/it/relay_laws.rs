//! The relay engine's laws one by one, as scripts of actions and answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Monotonic, PartitionKey};
use amarra_messaging::message::{Epoch, Pos, Seq};
use amarra_messaging::outbox::{Chunk, Cursor, LogError, ParkedRow, Resumed, Row, Snapshot};
use amarra_messaging::relay::{Action, Engine, Event, RelayConfig, StopReason};
use amarra_messaging::transport::{Publish, PublishError};

use crate::relay_world::{SHARD, row};

const UNTIL: Monotonic = Monotonic::from_nanos(2_000_000_000);

fn start(resumed: Resumed) -> (Engine, Option<Action>) {
    start_with(resumed, Duration::ZERO)
}

fn start_with(resumed: Resumed, save_after: Duration) -> (Engine, Option<Action>) {
    let config = RelayConfig { chunk_rows_max: 4, save_after, ..RelayConfig::default() };
    let mut engine = Engine::new(config, "db-1".into(), SHARD, UNTIL, 1);
    assert_eq!(step(&mut engine, Event::Tick), Some(Action::Open));
    assert_eq!(step(&mut engine, Event::Opened(Ok(()))), Some(Action::Resume));
    let action = step(&mut engine, Event::Resumed(Ok(resumed)));
    (engine, action)
}

/// Starts, and takes the rows with these keys in; their sequence values count from 1.
fn reading(keys: &[&str], last: bool) -> (Engine, Option<Action>) {
    let (mut engine, action) = start(Resumed::default());
    assert_eq!(action, Some(Action::Read { cursor: Cursor::default(), limit: 4 }));
    let action = step(&mut engine, Event::Read(Ok(chunk(keys, last))));
    (engine, action)
}

/// The same, up to the point where the records are to be published.
fn publishing(keys: &[&str], last: bool) -> (Engine, Arc<[Publish]>) {
    let (mut engine, action) = reading(keys, last);
    assert!(matches!(action, Some(Action::Checkpoint(_))), "{action:?}");
    let action = step(&mut engine, Event::Checkpointed(Ok(())));
    let Some(Action::Publish { records, from: 0, .. }) = action else { panic!("{action:?}") };
    (engine, records)
}

fn step(engine: &mut Engine, event: Event) -> Option<Action> {
    engine.step(Monotonic::default(), event)
}

fn cur() -> Snapshot {
    Snapshot { xmin: 20, xmax: 20, xip: Vec::new() }
}

fn chunk(keys: &[&str], last: bool) -> Chunk {
    let rows = (1..).zip(keys);
    let rows = rows.map(|(seq, key)| row(seq, key));
    Chunk { cur: cur(), rows: rows.collect(), last }
}

fn parked_row(seq: u64, pos: u64, key: &str) -> ParkedRow {
    let Row { seq, topic, record, .. } = row(seq, key);
    ParkedRow { seq, pos: Pos(pos), topic, record, reason: "why".into() }
}

fn places(rows: &[ParkedRow]) -> Vec<(u64, u64)> {
    rows.iter().map(|row| (row.seq.0, row.pos.0)).collect()
}

fn positions(records: &[Publish]) -> Vec<String> {
    let text = |publish: &Publish| {
        let headers = &publish.record.headers;
        let pos = headers.get("outbox-pos").unwrap();
        String::from_utf8(pos.to_vec()).unwrap()
    };
    records.iter().map(text).collect()
}

fn fenced() -> LogError {
    LogError::Fenced { shard: SHARD, epoch: Epoch(1) }
}

fn down() -> LogError {
    LogError::Unavailable { why: "down".to_owned() }
}

#[test]
fn rly_1_the_cursor_with_both_snapshots_is_saved_before_the_publish() {
    let (_, action) = reading(&["a", "b"], true);
    let expect = Cursor { cur: Some(cur()), ..Cursor::default() };
    assert_eq!(action, Some(Action::Checkpoint(expect)));
}

#[test]
fn a_failed_save_is_repeated_and_nothing_is_published_meanwhile() {
    let (mut engine, action) = reading(&["a"], true);
    assert_eq!(step(&mut engine, Event::Checkpointed(Err(down()))), None);
    assert_eq!(step(&mut engine, Event::Changed), None, "backing off");
    let at = engine.wake_at().unwrap();
    assert!(at > Monotonic::default());
    assert_eq!(engine.step(at, Event::Tick), action);
}

#[test]
fn rly_2_positions_go_on_from_the_saved_one() {
    let cursor = Cursor { cur: Some(cur()), pos: Pos(41), ..Cursor::default() };
    let (mut engine, _) = start(Resumed { cursor, parked: BTreeSet::new() });
    step(&mut engine, Event::Read(Ok(chunk(&["a", "b"], true))));
    let action = step(&mut engine, Event::Checkpointed(Ok(())));
    let Some(Action::Publish { records, .. }) = action else { panic!("{action:?}") };
    assert_eq!(positions(&records), ["42", "43"]);
}

#[test]
fn rly_4_publishing_goes_on_at_the_first_unacknowledged_record() {
    let (mut engine, records) = publishing(&["a", "b", "c"], true);
    let error = PublishError::Unavailable { acked: 2, why: "down".to_owned() };
    assert_eq!(step(&mut engine, Event::Published(Err(error.clone()))), None);
    let at = engine.wake_at().unwrap();
    let again = engine.step(at, Event::Tick);
    let Some(Action::Publish { records: same, from, .. }) = again else { panic!("{again:?}") };
    assert_eq!((positions(&same), from), (positions(&records), 2));
    let nothing = PublishError::Unavailable { acked: 0, why: "down".to_owned() };
    assert_eq!(engine.step(at, Event::Published(Err(nothing))), None);
    let at = engine.wake_at().unwrap();
    let again = engine.step(at, Event::Tick);
    assert!(matches!(again, Some(Action::Publish { from: 2, .. })), "counts from the last index");
}

#[test]
fn rly_3_the_cursor_moves_to_the_last_row_of_a_chunk_and_over_the_batch_at_its_end() {
    let (mut engine, _) = publishing(&["a", "b"], false);
    let open =
        Cursor { cur: Some(cur()), last_seq: Seq(2), pos: Pos(2), prev: Snapshot::default() };
    let action = step(&mut engine, Event::Published(Ok(())));
    assert_eq!(action, Some(Action::Read { cursor: open.clone(), limit: 4 }));
    let rest = Chunk { cur: cur(), rows: Vec::new(), last: true };
    let closed = Cursor { prev: cur(), cur: None, last_seq: Seq(0), pos: Pos(2) };
    let action = step(&mut engine, Event::Read(Ok(rest)));
    assert_eq!(action, Some(Action::Read { cursor: closed, limit: 4 }), "a new batch begins");
}

#[test]
fn rly_7_an_idle_engine_saves_once_and_polls_ever_more_rarely() {
    let (mut engine, _) = publishing(&["a"], true);
    let closed = Cursor { prev: cur(), cur: None, last_seq: Seq(0), pos: Pos(1) };
    let action = step(&mut engine, Event::Published(Ok(())));
    assert_eq!(action, Some(Action::Checkpoint(closed)));
    assert_eq!(step(&mut engine, Event::Checkpointed(Ok(()))), None);
    let (mut now, mut waits) = (Monotonic::default(), Vec::new());
    for _ in 0..4 {
        let at = engine.wake_at().unwrap();
        waits.push(at.since(now).as_millis());
        now = at;
        engine.step(now, Event::Renewed(now.plus(Duration::from_secs(9))));
        let action = engine.step(now, Event::Tick);
        assert!(matches!(action, Some(Action::Read { .. })), "{action:?}");
        let nothing = Chunk { cur: cur(), rows: Vec::new(), last: true };
        assert_eq!(engine.step(now, Event::Read(Ok(nothing))), None, "nothing to save");
    }
    assert_eq!(waits, [250, 500, 1_000, 1_000]);
    engine.step(now, Event::Changed);
    engine.step(now, Event::Read(Ok(later(2, &["a"]))));
    engine.step(now, Event::Checkpointed(Ok(())));
    engine.step(now, Event::Published(Ok(())));
    engine.step(now, Event::Checkpointed(Ok(())));
    let wait = engine.wake_at().unwrap().since(now);
    assert_eq!(wait, RelayConfig::default().poll_min, "often again once rows came");
}

#[test]
fn rly_7_a_cursor_that_passed_its_batch_is_saved_with_the_next_one_or_after_a_while() {
    let after = Duration::from_millis(40);
    let (mut engine, _) = start_with(Resumed::default(), after);
    step(&mut engine, Event::Read(Ok(chunk(&["a"], true))));
    step(&mut engine, Event::Checkpointed(Ok(())));
    assert_eq!(step(&mut engine, Event::Published(Ok(()))), None, "not saved alone yet");
    assert_eq!(engine.wake_at(), Some(Monotonic::default().plus(after)));
    let action = step(&mut engine, Event::Changed);
    assert!(matches!(action, Some(Action::Read { .. })), "{action:?}");
    let cursor = Cursor { prev: cur(), cur: Some(cur()), last_seq: Seq(0), pos: Pos(1) };
    let action = step(&mut engine, Event::Read(Ok(later(2, &["a"]))));
    let Some(Action::Checkpoint(saved)) = action else { panic!("{action:?}") };
    assert_eq!((&saved.prev, saved.pos), (&cursor.prev, cursor.pos), "saved along");
    step(&mut engine, Event::Checkpointed(Ok(())));
    step(&mut engine, Event::Published(Ok(())));
    let at = engine.wake_at().unwrap();
    assert_eq!(at, Monotonic::default().plus(after));
    let action = engine.step(at, Event::Tick);
    assert!(matches!(action, Some(Action::Checkpoint(Cursor { cur: None, pos: Pos(2), .. }))));
    assert_eq!(engine.step(at, Event::Checkpointed(Ok(()))), None);
    assert!(engine.wake_at().unwrap() > at, "saved once");
}

#[test]
fn waits_grow_with_failures_in_a_row_and_start_over_after_a_success() {
    let (mut engine, _) = start(Resumed::default());
    let mut now = Monotonic::default();
    let fail = |engine: &mut Engine, now: &mut Monotonic| {
        assert_eq!(engine.step(*now, Event::Read(Err(down()))), None);
        let at = engine.wake_at().unwrap();
        let wait = at.since(*now);
        *now = at;
        engine.step(at, Event::Tick);
        wait
    };
    let first = fail(&mut engine, &mut now);
    let third = [0, 0].map(|_| fail(&mut engine, &mut now))[1];
    assert!(third >= 2 * first, "{first:?} {third:?}");
    engine.step(now, Event::Changed);
    engine.step(now, Event::Read(Ok(Chunk { cur: cur(), rows: Vec::new(), last: true })));
    let again = fail(&mut engine, &mut now);
    assert!(again <= Duration::from_millis(20), "{again:?}");
}

#[test]
fn a_batch_found_finished_after_a_restart_is_closed_and_saved() {
    let open =
        Cursor { cur: Some(cur()), last_seq: Seq(2), pos: Pos(2), prev: Snapshot::default() };
    let (mut engine, action) = start(Resumed { cursor: open.clone(), parked: BTreeSet::new() });
    assert_eq!(action, Some(Action::Read { cursor: open, limit: 4 }));
    let nothing = || Event::Read(Ok(Chunk { cur: cur(), rows: Vec::new(), last: true }));
    let closed = Cursor { prev: cur(), cur: None, last_seq: Seq(0), pos: Pos(2) };
    let action = step(&mut engine, nothing());
    assert_eq!(action, Some(Action::Read { cursor: closed.clone(), limit: 4 }));
    assert_eq!(step(&mut engine, nothing()), Some(Action::Checkpoint(closed)));
}

#[test]
fn released_rows_beyond_the_first_chunk_are_read_at_once() {
    let parked = BTreeSet::from([PartitionKey::new("a")]);
    let resumed = Resumed { cursor: Cursor::default(), parked };
    let (mut engine, action) = start(resumed.clone());
    assert_eq!(action, Some(Action::Released(4)));
    let rows = (1..=4).map(|n| parked_row(n, n, "a")).collect();
    step(&mut engine, Event::Released(Ok(rows)));
    step(&mut engine, Event::Published(Ok(())));
    step(&mut engine, Event::Settled(Ok(())));
    assert_eq!(step(&mut engine, Event::Resumed(Ok(resumed))), Some(Action::Released(4)));
}

#[test]
fn a_change_during_a_read_leads_to_another_read() {
    let (mut engine, _) = start(Resumed::default());
    assert_eq!(step(&mut engine, Event::Changed), None, "one action at a time");
    let nothing = Chunk { cur: cur(), rows: Vec::new(), last: true };
    let action = step(&mut engine, Event::Read(Ok(nothing)));
    assert!(matches!(action, Some(Action::Read { .. })), "{action:?}");
}

#[test]
fn rly_6_a_refused_row_parks_its_key_and_the_others_go_on_in_order() {
    let (mut engine, _) = publishing(&["a", "b", "a", "c"], true);
    let error = PublishError::Refused { acked: 0, why: "too large".to_owned() };
    let action = step(&mut engine, Event::Published(Err(error)));
    let Some(Action::Park(rows)) = action else { panic!("{action:?}") };
    assert_eq!(places(&rows), [(1, 1), (3, 3)]);
    assert_eq!(rows[0].reason.as_ref(), "too large");
    assert_eq!(rows[1].reason.as_ref(), "queued behind a parked message");
    assert_eq!(step(&mut engine, Event::Parked(Err(down()))), None, "not before it is parked");
    let at = engine.wake_at().unwrap();
    assert_eq!(engine.step(at, Event::Tick), Some(Action::Park(rows)));
    let action = engine.step(at, Event::Parked(Ok(())));
    let Some(Action::Publish { records, from: 0, .. }) = action else { panic!("{action:?}") };
    assert_eq!(positions(&records), ["2", "4"], "their positions stay");
    let action = engine.step(at, Event::Published(Ok(())));
    let Some(Action::Checkpoint(Cursor { pos: Pos(4), .. })) = action else { panic!("{action:?}") };
    engine.step(at, Event::Checkpointed(Ok(())));
    assert!(matches!(engine.step(at, Event::Changed), Some(Action::Released(4))));
    engine.step(at, Event::Released(Ok(Vec::new())));
    let action = engine.step(at, Event::Read(Ok(Chunk { last: true, ..later(5, &["b", "a"]) })));
    assert!(matches!(action, Some(Action::Checkpoint(_))), "{action:?}");
    let action = engine.step(at, Event::Checkpointed(Ok(())));
    let Some(Action::Park(rows)) = action else { panic!("a parked key flows: {action:?}") };
    assert_eq!(places(&rows), [(6, 6)]);
}

fn later(first: u64, keys: &[&str]) -> Chunk {
    let rows = (first..).zip(keys);
    let rows = rows.map(|(seq, key)| row(seq, key));
    Chunk {
        cur: Snapshot { xmin: 30, xmax: 30, xip: Vec::new() },
        rows: rows.collect(),
        last: true,
    }
}

#[test]
fn released_rows_are_published_settled_and_only_then_does_their_key_flow() {
    let parked = BTreeSet::from([PartitionKey::new("a")]);
    let cursor = Cursor { pos: Pos(9), ..Cursor::default() };
    let (mut engine, action) = start(Resumed { cursor: cursor.clone(), parked });
    assert_eq!(action, Some(Action::Released(4)), "before any row behind them is read");
    let rows = vec![parked_row(3, 5, "a"), parked_row(4, 7, "a")];
    let action = step(&mut engine, Event::Released(Ok(rows.clone())));
    let Some(Action::Publish { records, from: 0, .. }) = action else { panic!("{action:?}") };
    assert_eq!(positions(&records), ["5", "7"]);
    let error = PublishError::Unavailable { acked: 1, why: "down".to_owned() };
    assert_eq!(step(&mut engine, Event::Published(Err(error))), None);
    let at = engine.wake_at().unwrap();
    assert!(matches!(engine.step(at, Event::Tick), Some(Action::Publish { from: 1, .. })));
    assert_eq!(engine.step(at, Event::Published(Ok(()))), Some(Action::Settle(rows)));
    assert_eq!(engine.step(at, Event::Settled(Ok(()))), Some(Action::Resume));
    let stale = Resumed { cursor: Cursor::default(), parked: BTreeSet::new() };
    let action = engine.step(at, Event::Resumed(Ok(stale)));
    assert_eq!(action, Some(Action::Read { cursor, limit: 4 }), "its own cursor stays");
    engine.step(at, Event::Read(Ok(later(9, &["a"]))));
    let action = engine.step(at, Event::Checkpointed(Ok(())));
    assert!(matches!(action, Some(Action::Publish { .. })), "{action:?}");
}

#[test]
fn a_released_row_that_is_refused_again_is_not_settled() {
    let parked = BTreeSet::from([PartitionKey::new("a"), PartitionKey::new("b")]);
    let (mut engine, _) = start(Resumed { cursor: Cursor::default(), parked });
    let rows = vec![parked_row(1, 1, "b"), parked_row(3, 3, "a"), parked_row(4, 4, "a")];
    step(&mut engine, Event::Released(Ok(rows)));
    let error = PublishError::Refused { acked: 1, why: "still too large".to_owned() };
    let action = step(&mut engine, Event::Published(Err(error)));
    let Some(Action::Park(rows)) = action else { panic!("{action:?}") };
    assert_eq!(places(&rows), [(3, 3), (4, 4)]);
    let action = step(&mut engine, Event::Parked(Ok(())));
    let Some(Action::Settle(rows)) = action else { panic!("{action:?}") };
    assert_eq!(places(&rows), [(1, 1)]);
}

/// Makes the bad answer to a call.
type Answer = fn(LogError) -> Event;

/// Every kind of call, with the engine that waits for its answer.
fn waiting() -> Vec<(Engine, Action, Answer)> {
    let keys = || BTreeSet::from([PartitionKey::new("a")]);
    let opened = || {
        let config = RelayConfig::default();
        let mut engine = Engine::new(config, "db-1".into(), SHARD, UNTIL, 1);
        step(&mut engine, Event::Tick);
        let action = step(&mut engine, Event::Opened(Ok(())));
        (engine, action)
    };
    let parking = || {
        let (mut engine, _) = publishing(&["a"], true);
        let error = PublishError::Refused { acked: 0, why: "no".to_owned() };
        let action = step(&mut engine, Event::Published(Err(error)));
        (engine, action)
    };
    let released = || start(Resumed { cursor: Cursor::default(), parked: keys() });
    let settling = || {
        let (mut engine, _) = released();
        step(&mut engine, Event::Released(Ok(vec![parked_row(1, 1, "a")])));
        let action = step(&mut engine, Event::Published(Ok(())));
        (engine, action)
    };
    let with = |(engine, action): (Engine, Option<Action>), answer: Answer| {
        (engine, action.expect("a call"), answer)
    };
    vec![
        with(opened(), |e| Event::Resumed(Err(e))),
        with(start(Resumed::default()), |e| Event::Read(Err(e))),
        with(reading(&["a"], true), |e| Event::Checkpointed(Err(e))),
        with(parking(), |e| Event::Parked(Err(e))),
        with(released(), |e| Event::Released(Err(e))),
        with(settling(), |e| Event::Settled(Err(e))),
    ]
}

#[test]
fn rly_5_fencing_at_any_call_of_the_log_stops_for_good() {
    for (mut engine, _, answer) in waiting() {
        let action = step(&mut engine, answer(fenced()));
        assert_eq!(action, Some(Action::Stop(StopReason::Fenced)));
        for event in [Event::Tick, Event::Changed, Event::Renewed(UNTIL), Event::Drain] {
            assert_eq!(step(&mut engine, event), None);
        }
        assert_eq!(engine.wake_at(), None);
    }
}

#[test]
fn every_call_of_the_log_is_repeated_after_a_pause() {
    for (mut engine, call, answer) in waiting() {
        assert_eq!(step(&mut engine, answer(down())), None, "{engine:?}");
        let at = engine.wake_at().unwrap();
        assert!(at < Monotonic::from_nanos(100_000_000), "it waits for its retry");
        assert_eq!(engine.step(at, Event::Tick), Some(call));
    }
}

#[test]
fn fencing_at_the_broker_stops_for_good() {
    let error = || Err(PublishError::Fenced { shard: SHARD, epoch: Epoch(1) });
    let (mut engine, _) = publishing(&["a"], true);
    let action = step(&mut engine, Event::Published(error()));
    assert_eq!(action, Some(Action::Stop(StopReason::Fenced)));
    let mut engine = Engine::new(RelayConfig::default(), "db-1".into(), SHARD, UNTIL, 1);
    step(&mut engine, Event::Tick);
    let action = step(&mut engine, Event::Opened(error()));
    assert_eq!(action, Some(Action::Stop(StopReason::Fenced)));
}

#[test]
fn work_stops_when_the_lease_is_not_renewed_in_time() {
    let (mut engine, action) = publishing(&["a", "b"], true);
    drop(action);
    let error = PublishError::Unavailable { acked: 1, why: "down".to_owned() };
    step(&mut engine, Event::Published(Err(error.clone())));
    let action = engine.step(UNTIL, Event::Tick);
    assert_eq!(action, Some(Action::Stop(StopReason::LeaseEnds)));

    let (mut engine, _) = publishing(&["a", "b"], true);
    let longer = UNTIL.plus(Duration::from_secs(1));
    assert_eq!(step(&mut engine, Event::Renewed(longer)), None);
    assert_eq!(step(&mut engine, Event::Renewed(UNTIL)), None, "never shortened");
    step(&mut engine, Event::Published(Err(error)));
    let Some(Action::Publish { deadline, .. }) = engine.step(UNTIL, Event::Tick) else { panic!() };
    assert_eq!(deadline, longer, "no publish outlives the lease");
}

#[test]
fn an_idle_engine_wakes_up_at_the_end_of_its_lease() {
    let (mut engine, _) = start(Resumed::default());
    let nothing = Chunk { cur: cur(), rows: Vec::new(), last: true };
    let late = Monotonic::from_nanos(1_900_000_000);
    assert_eq!(engine.step(late, Event::Read(Ok(nothing))), None);
    assert_eq!(engine.wake_at(), Some(UNTIL));
    assert_eq!(engine.step(UNTIL, Event::Tick), Some(Action::Stop(StopReason::LeaseEnds)));
}

#[test]
fn a_drained_engine_finishes_its_chunk_and_saves() {
    let (mut engine, _) = publishing(&["a"], true);
    assert_eq!(step(&mut engine, Event::Drain), None);
    let action = step(&mut engine, Event::Published(Ok(())));
    assert!(matches!(action, Some(Action::Checkpoint(Cursor { pos: Pos(1), cur: None, .. }))));
    let action = step(&mut engine, Event::Checkpointed(Ok(())));
    assert_eq!(action, Some(Action::Stop(StopReason::Drained)));
}

#[test]
fn a_drained_engine_does_not_wait_for_a_retry() {
    let (mut engine, _) = publishing(&["a"], true);
    let error = PublishError::Unavailable { acked: 0, why: "down".to_owned() };
    step(&mut engine, Event::Published(Err(error)));
    assert_eq!(step(&mut engine, Event::Drain), Some(Action::Stop(StopReason::Drained)));
}

#[test]
fn answers_that_would_break_the_order_stop_the_shard() {
    let check = |cursor: Cursor, chunk: Chunk| {
        let (mut engine, _) = start(Resumed { cursor, parked: BTreeSet::new() });
        let action = step(&mut engine, Event::Read(Ok(chunk)));
        assert!(matches!(action, Some(Action::Stop(StopReason::Corrupt(_)))), "{action:?}");
    };
    let other = Snapshot { xmin: 7, xmax: 7, xip: Vec::new() };
    check(Cursor { cur: Some(other), ..Cursor::default() }, chunk(&["a"], true));
    check(Cursor { last_seq: Seq(1), ..Cursor::default() }, chunk(&["a"], true));
    let mut twisted = chunk(&["a", "b"], true);
    twisted.rows.swap(0, 1);
    check(Cursor::default(), twisted);
    check(Cursor::default(), chunk(&[], false));
}

#[test]
fn configurations_that_cannot_work_name_their_field() {
    let check = |config: RelayConfig, field| {
        assert_eq!(config.validate().map_err(|e| e.field), Err(field));
    };
    let good = RelayConfig::default;
    assert_eq!(good().validate(), Ok(()));
    check(RelayConfig { shards_max: 0, ..good() }, "shards_max");
    check(RelayConfig { lease: Duration::ZERO, ..good() }, "lease");
    check(RelayConfig { chunk_rows_max: 0, ..good() }, "chunk_rows_max");
    check(RelayConfig { poll_min: Duration::ZERO, ..good() }, "poll_min");
    check(RelayConfig { poll_max: Duration::from_millis(1), ..good() }, "poll_max");
    check(RelayConfig { publish_timeout: good().lease, ..good() }, "publish_timeout");
    let backoff = amarra_messaging::config::Backoff { min: Duration::ZERO, max: Duration::ZERO };
    check(RelayConfig { backoff, ..good() }, "backoff");
}
