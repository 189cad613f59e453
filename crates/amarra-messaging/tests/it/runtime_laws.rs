//! The consumer engine's laws one by one, as scripts of events and actions.

use std::time::Duration;

use amarra_core::{Class, Monotonic};
use amarra_messaging::config::Backoff;
use amarra_messaging::consumer::{ConsumerError, TopicPartition};
use amarra_messaging::message::Offset;
use amarra_messaging::runtime::{Action, Engine, Event, ProcessError, RuntimeConfig, Token};

use crate::runtime_world::{config, delivery, error, place};

const T0: Monotonic = Monotonic::from_nanos(0);

fn assigned(partitions: u32) -> Engine {
    let mut engine = Engine::new(config());
    let places: Vec<_> = (0..partitions).map(place).collect();
    let resumed = places.iter().cloned().map(Action::Resume).collect::<Vec<_>>();
    assert_eq!(engine.step(T0, Event::Assigned(places)), resumed);
    engine
}

fn records(partition: u32, offsets: std::ops::Range<u64>) -> Event {
    Event::Records(offsets.map(|offset| delivery(partition, offset, "k")).collect())
}

/// The calls among `actions`: partition, token and offsets; parking is marked by its reason.
fn calls(actions: &[Action]) -> Vec<(u32, Token, Vec<u64>, Option<String>)> {
    let calls = actions.iter().filter_map(|action| match action {
        Action::Apply { partition, token, batch } => {
            let offsets = batch.iter().map(|d| d.offset.0).collect();
            Some((partition.partition.0, *token, offsets, None))
        }
        Action::Park { partition, token, delivery, reason } => {
            let offsets = vec![delivery.offset.0];
            Some((partition.partition.0, *token, offsets, Some(reason.clone())))
        }
        _ => None,
    });
    calls.collect()
}

fn only_call(actions: &[Action]) -> (Token, Vec<u64>, Option<String>) {
    let calls = calls(actions);
    let [(_, token, offsets, reason)] = calls.as_slice() else { panic!("{actions:?}") };
    (*token, offsets.clone(), reason.clone())
}

fn done(token: Token, result: Result<(), ProcessError>) -> Event {
    Event::Done { partition: place(0), token, result, draw: 0 }
}

fn commits(actions: &[Action]) -> Vec<(TopicPartition, Offset)> {
    let commits = actions.iter().filter_map(|action| match action {
        Action::Commit(offsets) => Some(offsets.clone()),
        _ => None,
    });
    commits.flatten().collect()
}

fn wake(engine: &Engine) -> Monotonic {
    engine.wake_at().expect("a timer")
}

#[test]
fn rtm_1_one_batch_of_a_partition_is_out_at_a_time_and_partitions_go_in_parallel() {
    let mut engine = assigned(2);
    let (token, offsets, _) = only_call(&engine.step(T0, records(0, 10..14)));
    assert_eq!(offsets, [10, 11, 12], "at most batch_rows_max");
    assert_eq!(calls(&engine.step(T0, records(1, 0..1))).len(), 1);
    let (_, offsets, _) = only_call(&engine.step(T0, done(token, Ok(()))));
    assert_eq!(offsets, [13]);
}

#[test]
fn rtm_2_an_offset_is_committed_after_the_effects_and_then_at_intervals() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 10..14)));
    let actions = engine.step(T0, done(token, Ok(())));
    assert_eq!(commits(&actions), [(place(0), Offset(13))], "only what was applied");
    let (token, ..) = only_call(&actions);
    assert_eq!(commits(&engine.step(T0, done(token, Ok(())))), [], "one commit at a time");
    let answer = Event::Committed { result: Ok(()), draw: 0 };
    assert_eq!(commits(&engine.step(T0, answer)), [], "not before commit_interval");
    assert_eq!(wake(&engine), T0.plus(config().commit_interval));
    let actions = engine.step(wake(&engine), Event::Tick);
    assert_eq!(commits(&actions), [(place(0), Offset(14))]);
}

#[test]
fn a_commit_that_may_have_been_lost_is_repeated_with_what_was_applied_since() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..4)));
    let (token, ..) = only_call(&engine.step(T0, done(token, Ok(()))));
    let lost = Err(ConsumerError::Unavailable { why: "down".to_owned() });
    assert_eq!(engine.step(T0, Event::Committed { result: lost, draw: 0 }), []);
    assert_eq!(engine.step(T0, done(token, Ok(()))), [], "backing off");
    let actions = engine.step(wake(&engine), Event::Tick);
    assert_eq!(commits(&actions), [(place(0), Offset(4))]);
}

#[test]
fn a_fenced_commit_drops_the_work_and_reads_on_where_the_effects_end() {
    let mut engine = assigned(1);
    let (first, ..) = only_call(&engine.step(T0, records(0, 0..5)));
    let (second, ..) = only_call(&engine.step(T0, done(first, Ok(()))));
    let fenced = Event::Committed { result: Err(ConsumerError::Fenced), draw: 0 };
    let actions = engine.step(T0, fenced);
    assert!(actions.contains(&Action::Seek(place(0), Offset(3))), "{actions:?}");
    assert_eq!(engine.rows(), 0);
    assert_eq!(calls(&engine.step(T0, done(second, Ok(())))), [], "a late result is ignored");
    assert_eq!(calls(&engine.step(T0, records(0, 4..5))), [], "3 has to come first");
    let (_, offsets, _) = only_call(&engine.step(T0, records(0, 3..5)));
    assert_eq!(offsets, [3, 4]);
}

#[test]
fn the_answer_to_a_commit_of_an_earlier_assignment_changes_nothing() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..3)));
    assert_eq!(commits(&engine.step(T0, done(token, Ok(())))), [(place(0), Offset(3))]);
    engine.step(T0, Event::Revoked(vec![place(0)]));
    engine.step(T0, Event::Assigned(vec![place(0)]));
    engine.step(T0, records(0, 0..3));
    let fenced = Event::Committed { result: Err(ConsumerError::Fenced), draw: 0 };
    assert_eq!(engine.step(T0, fenced), []);
    assert_eq!(engine.rows(), 3, "the work of the new assignment goes on");
}

#[test]
fn a_fenced_poll_drops_the_work_of_every_partition() {
    let mut engine = assigned(2);
    engine.step(T0, records(0, 7..9));
    engine.step(T0, records(1, 3..4));
    let seeks = engine.step(T0, Event::Fenced);
    let expect = [Action::Seek(place(0), Offset(7)), Action::Seek(place(1), Offset(3))];
    assert_eq!(seeks, expect);
    assert_eq!(engine.rows(), 0);
}

#[test]
fn rtm_3_the_work_of_a_revoked_partition_is_dropped_and_its_late_result_ignored() {
    let mut engine = assigned(1);
    let (old, ..) = only_call(&engine.step(T0, records(0, 0..4)));
    assert_eq!(engine.step(T0, Event::Revoked(vec![place(0)])), []);
    assert_eq!(engine.step(T0, done(old, Ok(()))), [], "nothing is committed");
    assert_eq!(calls(&engine.step(T0, records(0, 4..5))), [], "not this member's");
    engine.step(T0, Event::Assigned(vec![place(0)]));
    let (new, offsets, _) = only_call(&engine.step(T0, records(0, 2..4)));
    assert_eq!(offsets, [2, 3], "a new assignment begins where it is told to");
    assert_eq!(engine.step(T0, done(old, Ok(()))), [], "an old token decides nothing");
    let actions = engine.step(T0, done(new, Ok(())));
    assert_eq!(commits(&actions), [(place(0), Offset(4))]);
}

#[test]
fn a_new_assignment_replaces_an_old_one_that_was_never_revoked() {
    let mut engine = assigned(1);
    let (old, ..) = only_call(&engine.step(T0, records(0, 4..6)));
    engine.step(T0, Event::Assigned(vec![place(0)]));
    assert_eq!(engine.rows(), 0);
    let (_, offsets, _) = only_call(&engine.step(T0, records(0, 2..4)));
    assert_eq!(offsets, [2, 3], "from the committed offset on");
    assert_eq!(engine.step(T0, done(old, Ok(()))), []);
}

#[test]
fn infrastructure_is_never_taken_for_poison() {
    for class in [Class::Transient, Class::Unknown, Class::Conflict] {
        let mut engine = assigned(1);
        let (mut token, ..) = only_call(&engine.step(T0, records(0, 0..1)));
        let (mut now, mut waits) = (T0, Vec::new());
        for _ in 0..6 {
            assert_eq!(engine.step(now, done(token, Err(error(class, Some(0))))), []);
            waits.push(wake(&engine).since(now).as_millis());
            now = wake(&engine);
            let (again, offsets, reason) = only_call(&engine.step(now, Event::Tick));
            assert_eq!((offsets, reason), (vec![0], None), "{class}");
            token = again;
        }
        assert_eq!(waits, [5, 10, 20, 40, 40, 40], "doubling up to the bound");
    }
}

#[test]
fn rtm_4_a_batch_with_poison_is_isolated_and_the_culprit_alone_is_parked() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..5)));
    let rejected = || Err(error(Class::Rejected, None));
    let (token, offsets, _) = only_call(&engine.step(T0, done(token, rejected())));
    assert_eq!(offsets, [0], "one by one, and at once: nothing says that waiting helps");
    let (token, offsets, _) = only_call(&engine.step(T0, done(token, Ok(()))));
    assert_eq!(offsets, [1]);
    assert_eq!(calls(&engine.step(T0, done(token, rejected()))), []);
    let (token, offsets, reason) = only_call(&engine.step(wake(&engine), Event::Tick));
    assert_eq!((offsets, reason), (vec![1], None), "tried poison_attempts_max times");
    let at = wake_or(&engine, T0);
    let (token, offsets, reason) = only_call(&engine.step(at, done(token, rejected())));
    assert_eq!((offsets, reason.as_deref()), (vec![1], Some("rejected")));
    let (token, offsets, reason) = only_call(&engine.step(at, done(token, Ok(()))));
    assert_eq!((offsets, reason), (vec![2], None), "the lane goes on");
    let (_, offsets, _) = only_call(&engine.step(at, done(token, Ok(()))));
    assert_eq!(offsets, [3, 4], "and in batches again after the isolated ones");
}

fn wake_or(engine: &Engine, or: Monotonic) -> Monotonic {
    engine.wake_at().unwrap_or(or)
}

#[test]
fn rows_behind_a_known_culprit_are_not_isolated() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..4)));
    let fatal = Err(error(Class::Fatal, Some(0)));
    let (token, offsets, _) = only_call(&engine.step(T0, done(token, fatal)));
    assert_eq!(offsets, [0]);
    let (_, offsets, _) = only_call(&engine.step(T0, done(token, Ok(()))));
    assert_eq!(offsets, [1, 2, 3]);
}

#[test]
fn attempts_count_per_message() {
    let mut engine = assigned(1);
    let (mut token, ..) = only_call(&engine.step(T0, records(0, 0..1)));
    let mut now = T0;
    engine.step(now, records(0, 1..2));
    for offset in [0, 1] {
        engine.step(now, done(token, Err(error(Class::Rejected, None))));
        now = now.plus(Duration::from_secs(1));
        let (again, offsets, reason) = only_call(&engine.step(now, Event::Tick));
        assert_eq!((offsets, reason), (vec![offset], None));
        token = again;
        if offset == 0 {
            token = only_call(&engine.step(now, done(token, Ok(())))).0;
        }
    }
}

#[test]
fn a_park_that_fails_is_repeated_for_ever() {
    let mut engine = assigned(1);
    let (mut token, ..) = only_call(&engine.step(T0, records(0, 0..1)));
    let mut now = T0;
    let poison = error(Class::Rejected, None);
    engine.step(now, done(token, Err(poison.clone())));
    now = wake(&engine);
    token = only_call(&engine.step(now, Event::Tick)).0;
    (token, ..) = only_call(&engine.step(now, done(token, Err(poison))));
    for class in [Class::Transient, Class::Rejected, Class::Fatal, Class::Unknown] {
        let failed = ProcessError { class, culprit: None, why: "no room".to_owned() };
        assert_eq!(engine.step(now, done(token, Err(failed))), [], "after a pause");
        now = wake(&engine);
        let (again, offsets, reason) = only_call(&engine.step(now, Event::Tick));
        assert_eq!(offsets, [0], "neither skipped nor lost");
        assert_eq!(reason.as_deref(), Some("rejected"), "the reason is the message's own error");
        token = again;
    }
}

#[test]
fn waits_start_over_after_a_success() {
    let mut engine = assigned(1);
    let (mut token, ..) = only_call(&engine.step(T0, records(0, 0..1)));
    let mut now = T0;
    for _ in 0..3 {
        engine.step(now, done(token, Err(error(Class::Transient, None))));
        now = wake(&engine);
        token = only_call(&engine.step(now, Event::Tick)).0;
    }
    engine.step(now, done(token, Ok(())));
    engine.step(now, Event::Committed { result: Ok(()), draw: 0 });
    let (token, ..) = only_call(&engine.step(now, records(0, 1..2)));
    engine.step(now, done(token, Err(error(Class::Transient, None))));
    assert_eq!(wake(&engine).since(now), config().backoff.wait(1, 0));
}

#[test]
fn rtm_5_a_full_partition_is_paused_and_resumed_at_half() {
    let mut engine = assigned(2);
    let actions = engine.step(T0, records(0, 0..6));
    let (token, ..) = only_call(&actions);
    assert_eq!(engine.rows(), 5);
    let seek = Action::Seek(place(0), Offset(5));
    assert!(actions.contains(&seek), "the sixth is turned away, not lost: {actions:?}");
    assert!(
        actions.contains(&Action::Pause(place(0))) && !actions.contains(&Action::Pause(place(1)))
    );
    let actions = engine.step(T0, done(token, Ok(())));
    assert!(actions.contains(&Action::Resume(place(0))), "{actions:?}");
}

#[test]
fn every_partition_is_paused_when_the_total_is_reached() {
    let mut engine = assigned(3);
    engine.step(T0, records(0, 0..4));
    let actions = engine.step(T0, records(1, 0..4));
    for partition in 0..3 {
        assert!(actions.contains(&Action::Pause(place(partition))), "{actions:?}");
    }
    let actions = engine.step(T0, records(2, 0..1));
    assert_eq!(actions, [Action::Seek(place(2), Offset(0))]);
    assert_eq!(engine.rows(), 8);
}

#[test]
fn a_row_turned_away_is_taken_before_any_behind_it() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..6)));
    engine.step(T0, done(token, Ok(())));
    let actions = engine.step(T0, records(0, 6..7));
    assert_eq!(actions, [Action::Seek(place(0), Offset(5))]);
    engine.step(T0, records(0, 5..7));
    assert_eq!(engine.rows(), 4);
}

#[test]
fn records_seen_before_are_not_queued_again() {
    let mut engine = assigned(1);
    engine.step(T0, records(0, 0..3));
    engine.step(T0, records(0, 1..4));
    assert_eq!(engine.rows(), 4);
}

#[test]
fn a_drained_engine_starts_nothing_and_commits_at_once() {
    let mut engine = assigned(1);
    let (token, ..) = only_call(&engine.step(T0, records(0, 0..5)));
    let actions = engine.step(T0, done(token, Ok(())));
    let (token, ..) = only_call(&actions);
    engine.step(T0, Event::Committed { result: Ok(()), draw: 0 });
    assert_eq!(engine.step(T0, Event::Drain), []);
    let actions = engine.step(T0, done(token, Ok(())));
    assert_eq!(commits(&actions), [(place(0), Offset(5))], "commit_interval does not matter now");
    assert_eq!(calls(&engine.step(T0, records(0, 5..6))), []);
}

#[test]
fn configurations_that_cannot_work_name_their_field() {
    let check = |config: RuntimeConfig, field| {
        assert_eq!(config.validate().map_err(|e| e.field), Err(field));
    };
    let good = RuntimeConfig::default;
    assert_eq!(good().validate(), Ok(()));
    check(RuntimeConfig { batch_rows_max: 0, ..good() }, "batch_rows_max");
    check(RuntimeConfig { partition_rows_max: 1, ..good() }, "partition_rows_max");
    check(RuntimeConfig { total_rows_max: 1, ..good() }, "total_rows_max");
    check(RuntimeConfig { poll_rows_max: 0, ..good() }, "poll_rows_max");
    check(RuntimeConfig { poll_wait: Duration::ZERO, ..good() }, "poll_wait");
    check(RuntimeConfig { poison_attempts_max: 0, ..good() }, "poison_attempts_max");
    let twisted = Backoff { min: Duration::from_secs(2), max: Duration::from_secs(1) };
    check(RuntimeConfig { backoff: twisted, ..good() }, "backoff");
}
