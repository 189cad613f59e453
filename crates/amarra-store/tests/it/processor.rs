//! The laws of the transactional processor.

use std::sync::atomic::Ordering;
use std::time::Duration;

use amarra_core::{Actor, Class};
use amarra_memory::Effect;
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::Processor;
use futures_util::future::join;

use crate::ledger::{World, delivery, envelope, garbage};

fn good(number: u64, key: &str) -> Delivery {
    delivery(number, key, "Good")
}

#[test]
fn a_batch_is_applied_with_its_effects_in_one_transaction() {
    let world = World::new();
    let batch = [good(1, "a"), good(2, "b"), good(3, "a")];
    world.time.run(world.processor().apply(&batch)).unwrap();
    assert_eq!((world.seen("a"), world.seen("b")), (vec![1, 3], vec![2]));
    assert_eq!(world.admitted(), 3);
    let commits = world.operations().iter().filter(|(name, _)| *name == "commit").count();
    assert_eq!(commits, 1);
}

#[test]
fn what_a_message_brings_about_is_traced_back_to_it() {
    let world = World::new();
    world.time.run(world.processor().apply(&[good(1, "a")])).unwrap();
    let cause = envelope(1, "a", "Good");
    world.database.inspect(|db| {
        let row = db.outbox().next().expect("a message was emitted");
        let emitted = &row.message.envelope;
        assert_eq!(emitted.causation, Some(cause.id));
        assert_eq!(emitted.correlation, cause.correlation);
        assert_eq!(emitted.traceparent.trace_id(), cause.traceparent.trace_id());
        assert_eq!(emitted.actor, Actor::Service("ledger".into()), "not the user's doing");
        assert_eq!(&*emitted.source, "/amarra/ledger");
        assert_eq!(db.audit()[0].entry.actor, Actor::Service("ledger".into()));
    });
}

#[test]
fn prc_2_a_message_is_applied_once_however_often_it_comes() {
    let world = World::new();
    let processor = world.processor();
    world.time.run(processor.apply(&[good(1, "a"), good(1, "a")])).unwrap();
    world.time.run(processor.apply(&[good(1, "a"), good(2, "a")])).unwrap();
    assert_eq!(world.seen("a"), [1, 2]);
}

#[test]
fn prc_1_a_refused_message_takes_its_batch_back_and_is_named() {
    let world = World::new();
    let batch = [good(1, "a"), delivery(2, "b", "Bad"), good(3, "c")];
    let error = world.time.run(world.processor().apply(&batch)).unwrap_err();
    assert_eq!((error.class, error.culprit), (Class::Rejected, Some(1)));
    assert_eq!(world.admitted(), 0);
    assert_eq!(world.seen("a"), [0; 0]);
}

#[test]
fn a_message_that_does_not_decode_is_named() {
    let world = World::new();
    let error = world.time.run(world.processor().apply(&[good(1, "a"), garbage(2, "a")]));
    let error = error.unwrap_err();
    assert_eq!((error.class, error.culprit), (Class::Fatal, Some(1)));
    assert!(error.why.contains("ce_specversion"), "{}", error.why);
    assert_eq!(world.operations(), [], "the database was not bothered");
}

#[test]
fn hnd_1_a_handler_is_run_again_after_a_rollback_whose_class_is_told() {
    let check = |operation, effect, class| {
        let world = World::new();
        world.script.strike(operation, effect);
        let error = world.time.run(world.processor().apply(&[good(1, "a")])).unwrap_err();
        assert_eq!(error.class, class, "{operation} {effect:?}");
        world.time.run(world.processor().apply(&[good(1, "a")])).unwrap();
        assert_eq!(world.seen("a"), [1], "applied once after {operation} {effect:?}");
    };
    check("begin", Effect::Fail, Class::Transient);
    check("admit", Effect::Fail, Class::Transient);
    check("park", Effect::Serialization, Class::Transient);
    check("save", Effect::Serialization, Class::Transient);
    check("commit", Effect::Serialization, Class::Transient);
    check("commit", Effect::LoseRequest, Class::Unknown);
    check("commit", Effect::LoseReply, Class::Unknown);
}

#[test]
fn hnd_2_a_message_of_another_type_is_admitted_and_passed_over() {
    let world = World::new();
    world.time.run(world.processor().apply(&[delivery(1, "a", "Unheard")])).unwrap();
    assert_eq!((world.seen("a"), world.admitted()), (vec![], 1));
}

#[test]
fn a_parked_message_is_admitted_and_parked_once() {
    let world = World::new();
    let processor = world.processor();
    for message in [delivery(4, "a", "Bad"), garbage(5, "a")] {
        world.script.strike("commit", Effect::LoseReply);
        let error = world.time.run(processor.park(&message, "bad")).unwrap_err();
        assert_eq!(error.class, Class::Unknown);
        world.time.run(processor.park(&message, "bad")).unwrap();
    }
    assert_eq!(world.parked(), [4, 5]);
    assert_eq!(world.admitted(), 2);
    world.database.inspect(|db| {
        assert!(
            db.parked().all(
                |(group, parked)| group.as_str() == "ledger" && parked.reason.as_ref() == "bad"
            )
        );
    });
}

#[test]
fn an_applied_message_is_not_parked_any_more() {
    let world = World::new();
    let processor = world.processor();
    world.time.run(processor.apply(&[good(1, "a")])).unwrap();
    world.time.run(processor.park(&good(1, "a"), "late")).unwrap();
    assert_eq!(world.parked(), [0; 0]);
}

#[test]
fn prc_3_later_messages_of_a_parked_key_queue_behind_it_and_others_flow() {
    let world = World::new();
    let processor = world.processor();
    world.time.run(processor.park(&delivery(1, "a", "Bad"), "bad")).unwrap();
    let batch = [good(2, "b"), good(3, "a"), good(4, "b"), good(5, "a")];
    world.time.run(processor.apply(&batch)).unwrap();
    assert_eq!((world.seen("a"), world.seen("b")), (vec![], vec![2, 4]));
    assert_eq!(world.parked(), [1, 3, 5]);
    world.time.run(processor.apply(&batch)).unwrap();
    assert_eq!(world.parked(), [1, 3, 5], "not twice");
}

#[test]
fn a_message_parked_by_another_member_holds_the_ones_behind_it() {
    let world = World::with_flush(Duration::from_millis(5));
    let (first, second) = (world.processor(), world.processor());
    let batch = [good(1, "a"), good(2, "a")];
    let (parked, applied) =
        world.time.run(join(first.park(&batch[0], "bad"), second.apply(&batch)));
    assert_eq!((parked, applied), (Ok(()), Ok(())));
    assert_eq!(world.seen("a"), [0; 0], "2 must not overtake the parked 1");
    assert_eq!(world.parked(), [1, 2]);
}

#[test]
fn two_members_with_the_same_batch_apply_it_once() {
    let world = World::with_flush(Duration::from_millis(5));
    let batch = [good(1, "a"), good(2, "b"), good(3, "a")];
    let (first, second) = (world.processor(), world.processor());
    let (first, second) = world.time.run(join(first.apply(&batch), second.apply(&batch)));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!((world.seen("a"), world.seen("b")), (vec![1, 3], vec![2]));
}

#[test]
fn admissions_come_first_and_all_aggregates_are_locked_at_once_in_order() {
    let world = World::new();
    let processor = world.processor();
    world.time.run(processor.apply(&[good(1, "d")])).unwrap();
    world.time.run(processor.park(&delivery(2, "c", "Bad"), "bad")).unwrap();
    world.script.operations.lock().unwrap().clear();
    let batch = [good(3, "b"), good(1, "d"), good(4, "c"), good(5, "a"), good(6, "b")];
    world.time.run(processor.apply(&batch)).unwrap();
    let operations = world.operations();
    let names: Vec<_> = operations.iter().map(|(name, _)| *name).take(9).collect();
    let expect =
        ["begin", "admit", "admit", "admit", "admit", "admit", "park", "load", "load_view"];
    assert_eq!(names, expect);
    assert_eq!(operations[7].1, ["account/a", "account/b"], "neither the duplicate's nor c");
    assert_eq!(operations[8].1, ["counts/a", "counts/b"]);
}

#[test]
fn hnd_3_what_only_states_tell_of_is_locked_at_once_behind_them() {
    let world = World::new();
    let processor = world.processor();
    world.time.run(processor.apply(&[good(1, "a"), good(2, "b"), good(4, "c")])).unwrap();
    world.script.operations.lock().unwrap().clear();
    let batch = [good(5, "b"), good(6, "c"), good(7, "a"), good(8, "d")];
    world.time.run(processor.apply(&batch)).unwrap();
    let loads = world.operations().into_iter().filter(|(name, _)| *name == "load");
    let loads: Vec<_> = loads.map(|(_, ids)| ids).take(2).collect();
    assert_eq!(loads[0], ["account/a", "account/b", "account/c", "account/d"]);
    assert_eq!(loads[1], ["pool/even", "pool/odd"], "nothing for d, which is new");
}

#[test]
fn hnd_3_two_batches_whose_states_cross_do_not_deadlock() {
    let world = World::with_flush(Duration::from_millis(5));
    let (first, second) = (world.processor(), world.processor());
    for (number, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (11, "a"), (12, "b")] {
        world.time.run(first.apply(&[good(number, key)])).unwrap();
    }
    world.script.far.store(true, Ordering::Relaxed);
    let (odd_first, even_first) = ([good(5, "a"), good(6, "b")], [good(7, "d"), good(8, "c")]);
    let results = world.time.run(join(first.apply(&odd_first), second.apply(&even_first)));
    assert_eq!(results, (Ok(()), Ok(())));
}

#[test]
fn two_members_with_crossing_batches_do_not_deadlock() {
    let world = World::with_flush(Duration::from_millis(5));
    let (first, second) = (world.processor(), world.processor());
    for (number, key) in [(1, "a"), (2, "b")] {
        world.time.run(first.apply(&[good(number, key)])).unwrap();
    }
    world.script.far.store(true, Ordering::Relaxed);
    let (ab, ba) = ([good(3, "a"), good(4, "b")], [good(5, "b"), good(6, "a")]);
    let results = world.time.run(join(first.apply(&ab), second.apply(&ba)));
    assert_eq!(results, (Ok(()), Ok(())));
}
