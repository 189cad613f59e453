//! Running commands again, and what a session stamps on everything.

use std::sync::Mutex;
use std::time::Duration;

use amarra_core::{Actor, Cause, Class, Classify, SeededEntropy, TraceParent, Version};
use amarra_memory::Effect;
use amarra_store::audit::verify_chain;
use amarra_store::{Aggregate, Attempts, Command, Draft, Loaded, Session, TxError, execute};
use async_trait::async_trait;
use futures_util::future::join;

use crate::ledger::{Account, Noted, SOURCE, World};

/// Notes a number on account `a`, and counts how often it was run.
struct Note {
    number: u64,
    runs: Mutex<u32>,
    fails: Option<TxError>,
}

impl Note {
    fn new(number: u64) -> Self {
        Self { number, runs: Mutex::new(0), fails: None }
    }

    fn runs(&self) -> u32 {
        *self.runs.lock().unwrap()
    }
}

#[async_trait]
impl Command for Note {
    type Output = Version;
    type Error = TxError;

    async fn run(&self, session: &mut Session<'_>) -> Result<Version, TxError> {
        *self.runs.lock().unwrap() += 1;
        let mut account = session.load::<Account>("a").await?;
        let mut state = account.state.take().unwrap_or_default();
        state.seen.push(self.number);
        let version = session.save(&mut account, state, "note").await?;
        let (key, number) = (amarra_core::PartitionKey::new("a"), self.number);
        let message = &Noted { number };
        let draft = Draft { topic: "notes", key, subject: &account.id, version, message };
        session.emit(draft).await?;
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => Ok(version),
        }
    }
}

fn cause() -> Cause {
    Cause {
        correlation: uuid::Uuid::from_u128(7).into(),
        causation: Some(uuid::Uuid::from_u128(8).into()),
        actor: Actor::User("u-1".into()),
        traceparent: TraceParent::root(&SeededEntropy::new(1, "trace")),
    }
}

fn run(world: &World, command: &Note, attempts: Attempts) -> Result<Version, TxError> {
    let (store, env) = (world.store("caller"), world.time.environment());
    world.time.run(execute(store.as_ref(), &env, SOURCE, (&cause(), attempts), command))
}

#[test]
fn cmd_1_a_command_is_run_again_after_a_rollback_and_leaves_one_effect() {
    for (operation, effect) in [
        ("begin", Effect::Fail),
        ("save", Effect::Serialization),
        ("commit", Effect::Serialization),
        ("commit", Effect::Fail),
    ] {
        let (world, note) = (World::new(), Note::new(1));
        world.script.strike(operation, effect);
        assert_eq!(run(&world, &note, Attempts::default()), Ok(Version::new(1)), "{operation}");
        assert_eq!(world.seen("a"), [1], "{operation}");
    }
}

#[test]
fn an_unknown_outcome_is_repeated_only_where_the_command_says_so() {
    let (world, note) = (World::new(), Note::new(1));
    world.script.strike("commit", Effect::LoseReply);
    assert_eq!(run(&world, &note, Attempts::default()), Err(TxError::OutcomeUnknown));
    assert_eq!((note.runs(), world.seen("a")), (1, vec![1]), "applied, and not again");

    let idempotent = Attempts { idempotent: true, ..Attempts::default() };
    let (world, note) = (World::new(), Note::new(1));
    world.script.strike("commit", Effect::LoseRequest);
    assert_eq!(run(&world, &note, idempotent), Ok(Version::new(1)));
    assert_eq!((note.runs(), world.seen("a")), (2, vec![1]));
}

#[test]
fn attempts_are_bounded_and_a_refusal_is_final() {
    let (world, note) = (World::new(), Note::new(1));
    for _ in 0..3 {
        world.script.strike("commit", Effect::Serialization);
    }
    let attempts = Attempts { attempts_max: 3, ..Attempts::default() };
    assert_eq!(run(&world, &note, attempts), Err(TxError::Serialization));
    assert_eq!((note.runs(), world.seen("a")), (3, vec![]));

    for error in [
        TxError::TooLarge { what: "x", bound: 1 },
        TxError::Corrupt { what: "x".to_owned(), why: "y".to_owned() },
    ] {
        let note = Note { fails: Some(error.clone()), ..Note::new(1) };
        assert!(matches!(error.class(), Class::Rejected | Class::Fatal));
        assert_eq!(run(&world, &note, Attempts::default()), Err(error));
        assert_eq!((note.runs(), world.seen("a")), (1, vec![]), "rolled back, once");
    }
}

#[test]
fn the_waits_between_attempts_are_bounded_by_a_doubling_backoff() {
    let (world, note) = (World::new(), Note::new(1));
    for _ in 0..4 {
        world.script.strike("commit", Effect::Serialization);
    }
    let backoff = Duration::from_millis(10);
    run(&world, &note, Attempts { backoff, ..Attempts::default() }).unwrap();
    let waited = Duration::from_nanos(world.time.environment().monotonic().as_nanos());
    assert!(waited > Duration::ZERO && waited <= 15 * backoff, "{waited:?}");
}

#[test]
fn two_commands_at_once_both_take_effect() {
    let world = World::with_flush(Duration::from_millis(3));
    run(&world, &Note::new(0), Attempts::default()).unwrap();
    let (store, env) = (world.store("caller"), world.time.environment());
    let (cause, attempts) = (cause(), Attempts::default());
    let (one, two) = (Note::new(1), Note::new(2));
    let execute = |note| execute(store.as_ref(), &env, SOURCE, (&cause, attempts), note);
    let results = world.time.run(join(execute(&one), execute(&two)));
    assert_eq!(results, (Ok(Version::new(2)), Ok(Version::new(3))));
    assert_eq!(world.seen("a").len(), 3);
}

#[test]
fn two_commands_that_create_one_aggregate_both_take_effect() {
    let world = World::with_flush(Duration::from_millis(3));
    let (store, env) = (world.store("caller"), world.time.environment());
    let (cause, attempts) = (cause(), Attempts::default());
    let (one, two) = (Note::new(1), Note::new(2));
    let execute = |note| execute(store.as_ref(), &env, SOURCE, (&cause, attempts), note);
    let results = world.time.run(join(execute(&one), execute(&two)));
    assert_eq!(results, (Ok(Version::new(1)), Ok(Version::new(2))));
    assert_eq!(two.runs(), 1, "the second waited for the first, loaded its row and decided once");
    assert_eq!(world.seen("a"), [1, 2]);
}

#[test]
fn a_stale_state_is_not_saved() {
    let world = World::new();
    run(&world, &Note::new(1), Attempts::default()).unwrap();
    let env = world.time.environment();
    let error = world.time.run(async {
        let mut unit = world.store("stale").begin().await.unwrap();
        let mut session = Session::new(unit.as_mut(), &env, SOURCE, cause());
        let (id, version) = (Account::aggregate_id("a"), Version::ABSENT);
        let mut stale = Loaded { id, version, state: None };
        session.save(&mut stale, Account::default(), "overwrite").await.unwrap_err()
    });
    assert_eq!(error, TxError::Conflict { id: Account::aggregate_id("a") });
}

#[test]
fn a_session_stamps_the_cause_on_messages_and_audit_rows() {
    let world = World::new();
    run(&world, &Note::new(1), Attempts::default()).unwrap();
    run(&world, &Note::new(2), Attempts::default()).unwrap();
    let cause = cause();
    world.database.inspect(|db| {
        for row in db.outbox() {
            let envelope = &row.message.envelope;
            assert_eq!(
                (envelope.correlation, envelope.causation),
                (cause.correlation, cause.causation)
            );
            assert_eq!(envelope.actor, cause.actor);
            assert_eq!(envelope.traceparent.trace_id(), cause.traceparent.trace_id());
            assert_ne!(envelope.traceparent, cause.traceparent, "a span of its own");
            assert_eq!((&*envelope.source, &*envelope.kind), (SOURCE, "Noted"));
        }
        let rows = db.audit();
        assert!(verify_chain(0, [0; 32], rows).is_ok());
        let versions: Vec<_> = rows.iter().map(|row| row.entry.version.get()).collect();
        assert_eq!(versions, [1, 2], "a row a save");
        let stored = db.aggregate(&Account::aggregate_id("a")).unwrap();
        let last = &rows[1].entry;
        assert_eq!(last.state_hash, *blake3::hash(&stored.body).as_bytes());
        assert_eq!((&last.actor, &*last.action), (&cause.actor, "note"));
        assert_eq!(last.correlation, cause.correlation);
    });
}

#[test]
fn a_state_that_does_not_decode_is_corrupt() {
    let world = World::new();
    world.time.run(async {
        let mut unit = world.store("vandal").begin().await.unwrap();
        let id = Account::aggregate_id("a");
        unit.save(&id, Version::ABSENT, bytes::Bytes::from_static(b"not json")).await.unwrap();
        unit.commit().await.unwrap();
    });
    let error = run(&world, &Note::new(1), Attempts::default()).unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("account/a"), "{error}");
}
