//! The law of `Command`: it may be run again after a rollback.

use amarra_core::{Actor, Cause, Classify, CorrelationId, TraceParent};
use amarra_store::{Attempts, Command, Session, UnitOfWork, execute};

use crate::backend::{CommandBackend, CommitLoss};
use crate::check::{Must, begin};
use crate::handler::trace;
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Command` for one `CommandBackend`.
    command_laws in command for CommandBackend {
        Command:
            "CMD-1" cmd_1_a_command_rolled_back_leaves_no_trace,
            "CMD-1" cmd_1_a_command_run_again_does_the_same_once,
            "CMD-1" cmd_1_a_command_survives_a_lost_connection;
    }
}

fn cause<B: CommandBackend>(b: &B) -> Cause {
    let env = b.env();
    Cause {
        correlation: env.new_id::<CorrelationId>(),
        causation: None,
        actor: Actor::User("ada".into()),
        traceparent: TraceParent::root(env.entropy.as_ref()),
    }
}

async fn run<B: CommandBackend>(b: &B, unit: &mut dyn UnitOfWork, command: &B::Command) {
    let env = b.env();
    let mut session = Session::new(unit, &env, "/amarra/conformance", cause(b));
    let answer = command.run(&mut session).await;
    answer.map(drop).map_err(|e| e.class()).must("run the command");
}

async fn execute_once<B: CommandBackend>(b: &B, command: &B::Command) {
    let (env, store) = (b.env(), b.store("a"));
    let cause = cause(b);
    let attempts = (&cause, Attempts::default());
    let answer = execute(store.as_ref(), &env, "/amarra/conformance", attempts, command).await;
    answer.map(drop).map_err(|e| e.class()).must("execute the command");
}

/// Run and dropped, it was never there.
pub async fn cmd_1_a_command_rolled_back_leaves_no_trace<B: CommandBackend>(b: B) {
    let command = b.command().await;
    let before = b.store("observer").audit_rows(0, 10_000).await.must("audit_rows");
    let mut unit = begin(b.store("a").as_ref()).await;
    run(&b, unit.as_mut(), &command).await;
    drop(unit);
    let after = b.store("observer").audit_rows(0, 10_000).await.must("audit_rows");
    assert_eq!(after, before);
}

/// Three runs that are rolled back count for nothing.
pub async fn cmd_1_a_command_run_again_does_the_same_once<B: CommandBackend>(b: B) {
    let command = b.command().await;
    for _ in 0..3 {
        let mut unit = begin(b.store("a").as_ref()).await;
        run(&b, unit.as_mut(), &command).await;
        drop(unit);
    }
    execute_once(&b, &command).await;
    let once = trace(&b).await;
    let distinct: std::collections::BTreeSet<_> = once.iter().collect();
    assert_eq!(distinct.len(), once.len(), "the same change stands there twice: {once:?}");
    assert!(!once.is_empty(), "the command changed nothing that could be seen");
}

/// A commit that surely was not applied is run again, and its change is made once.
pub async fn cmd_1_a_command_survives_a_lost_connection<B: CommandBackend>(b: B) {
    let command = b.command().await;
    b.lose_commit("a", CommitLoss::BeforeSend).await;
    execute_once(&b, &command).await;
    let once = trace(&b).await;
    let distinct: std::collections::BTreeSet<_> = once.iter().collect();
    assert_eq!(distinct.len(), once.len(), "the same change stands there twice: {once:?}");
    assert!(!once.is_empty(), "the command changed nothing that could be seen");
}
