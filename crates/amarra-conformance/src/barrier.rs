//! The laws of the sub-transaction barrier, over any store: each operation once, late ones never.

use std::sync::Arc;

use amarra_core::{Actor, Cause, CorrelationId, TraceParent};
use amarra_messaging::TxError;
use amarra_saga::barrier::{Barrier, guard, refuse};
use amarra_saga::{Op, Request, SagaId};
use amarra_store::{Session, UnitOfWork};
use futures_util::future::join_all;

use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{Must, begin, bump, committed, jitter, thing, transact};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of the saga barrier for one `StoreBackend`.
    barrier_laws in barrier for StoreBackend {
        Barrier:
            "BAR-1" bar_1_an_action_proceeds_once,
            "BAR-1" bar_1_a_compensation_proceeds_once,
            "BAR-1" bar_1_of_many_at_once_one_proceeds,
            "BAR-1" bar_1_an_unknown_commit_proceeds_once,
            "BAR-1" bar_1_steps_and_sagas_are_told_apart,
            "BAR-2" bar_2_a_compensation_without_its_action_is_null,
            "BAR-2" bar_2_an_action_behind_its_compensation_is_late_ever_after,
            "BAR-2" bar_2_a_compensation_of_a_refused_action_is_null,
            "BAR-3" bar_3_a_unit_rolled_back_leaves_the_barrier_as_it_was,
            "BAR-3" bar_3_the_barrier_survives_a_crash;
    }
}

fn request(step: &str, op: Op) -> Request {
    Request::new(SagaId::from("saga"), step, op)
}

fn action() -> Request {
    request("reserve", Op::Action)
}

fn compensation() -> Request {
    request("reserve", Op::Compensation)
}

/// Passes an operation in a unit that is given, with the effect it allows.
async fn pass_in<B: StoreBackend>(
    b: &B,
    unit: &mut dyn UnitOfWork,
    request: &Request,
) -> Result<Barrier, TxError> {
    let env = b.env();
    let cause = Cause {
        correlation: env.new_id::<CorrelationId>(),
        causation: None,
        actor: Actor::Service("saga".into()),
        traceparent: TraceParent::root(env.entropy.as_ref()),
    };
    jitter(&env).await;
    let barrier = guard(&mut Session::new(unit, &env, "/amarra/laws", cause), request).await?;
    jitter(&env).await;
    if barrier.is_proceed() {
        bump(unit, &thing(&request.to_string()), "effect").await?;
    }
    Ok(barrier)
}

async fn pass<B: StoreBackend>(b: &B, request: &Request) -> Barrier {
    transact(&b.env(), b.store("a").as_ref(), async |unit| pass_in(b, unit, request).await).await
}

async fn effects<B: StoreBackend>(b: &B, request: &Request) -> u64 {
    committed(b, &thing(&request.to_string())).await.0.get()
}

/// The first time it proceeds, then it is a duplicate.
pub async fn bar_1_an_action_proceeds_once<B: StoreBackend>(b: B) {
    assert_eq!(pass(&b, &action()).await, Barrier::Proceed);
    for _ in 0..3 {
        assert_eq!(pass(&b, &action()).await, Barrier::Duplicate);
    }
    assert_eq!(effects(&b, &action()).await, 1);
}

/// So does its compensation; the action that comes again is a duplicate still.
pub async fn bar_1_a_compensation_proceeds_once<B: StoreBackend>(b: B) {
    pass(&b, &action()).await;
    assert_eq!(pass(&b, &compensation()).await, Barrier::Proceed);
    assert_eq!(pass(&b, &compensation()).await, Barrier::Duplicate);
    assert_eq!(pass(&b, &action()).await, Barrier::Duplicate);
    assert_eq!((effects(&b, &action()).await, effects(&b, &compensation()).await), (1, 1));
}

/// Eight deliveries of one command at once.
pub async fn bar_1_of_many_at_once_one_proceeds<B: StoreBackend>(b: B) {
    let passed = join_all((0..8).map(|n| {
        let b = &b;
        async move {
            let store = b.store(&format!("participant-{n}"));
            let work = async |unit: &mut dyn UnitOfWork| pass_in(b, unit, &action()).await;
            transact(&b.env(), store.as_ref(), work).await
        }
    }))
    .await;
    assert_eq!(passed.iter().filter(|barrier| barrier.is_proceed()).count(), 1, "{passed:?}");
    assert_eq!(effects(&b, &action()).await, 1);
}

/// Whether the first commit was applied or not, there is one effect after the second.
pub async fn bar_1_an_unknown_commit_proceeds_once<B: StoreBackend>(b: B) {
    let cases = [
        ("a", CommitLoss::Request, Barrier::Proceed),
        ("b", CommitLoss::Answer, Barrier::Duplicate),
    ];
    for (step, loss, second) in cases {
        let request = request(step, Op::Action);
        let mut unit = begin(b.store("a").as_ref()).await;
        pass_in(&b, unit.as_mut(), &request).await.must("pass");
        b.lose_commit("a", loss).await;
        assert_eq!(unit.commit().await, Err(TxError::OutcomeUnknown));
        assert_eq!(pass(&b, &request).await, second, "after {loss:?}");
        assert_eq!(effects(&b, &request).await, 1);
    }
}

/// Another step or saga has a barrier of its own.
pub async fn bar_1_steps_and_sagas_are_told_apart<B: StoreBackend>(b: B) {
    let others = [
        action(),
        request("charge", Op::Action),
        Request::new(SagaId::from("other"), Arc::from("reserve"), Op::Action),
    ];
    for request in &others {
        assert_eq!(pass(&b, request).await, Barrier::Proceed, "{request}");
    }
}

/// There is nothing to undo, and nothing is undone.
pub async fn bar_2_a_compensation_without_its_action_is_null<B: StoreBackend>(b: B) {
    assert_eq!(pass(&b, &compensation()).await, Barrier::NullCompensation);
    assert_eq!(pass(&b, &compensation()).await, Barrier::Duplicate);
    assert_eq!(effects(&b, &compensation()).await, 0);
}

/// An action that was on the way for long has no effect nobody would undo.
pub async fn bar_2_an_action_behind_its_compensation_is_late_ever_after<B: StoreBackend>(b: B) {
    pass(&b, &compensation()).await;
    for _ in 0..3 {
        assert_eq!(pass(&b, &action()).await, Barrier::Late);
    }
    assert_eq!(effects(&b, &action()).await, 0);
}

/// What said no has nothing to undo.
pub async fn bar_2_a_compensation_of_a_refused_action_is_null<B: StoreBackend>(b: B) {
    let env = b.env();
    transact(&env, b.store("a").as_ref(), async |unit| {
        let cause = Cause {
            correlation: env.new_id::<CorrelationId>(),
            causation: None,
            actor: Actor::Service("saga".into()),
            traceparent: TraceParent::root(env.entropy.as_ref()),
        };
        let mut session = Session::new(unit, &env, "/amarra/laws", cause);
        assert_eq!(guard(&mut session, &action()).await?, Barrier::Proceed);
        refuse(&mut session, &action()).await
    })
    .await;
    assert_eq!(pass(&b, &compensation()).await, Barrier::NullCompensation);
    assert_eq!(effects(&b, &compensation()).await, 0);
}

/// A try that is rolled back was none.
pub async fn bar_3_a_unit_rolled_back_leaves_the_barrier_as_it_was<B: StoreBackend>(b: B) {
    for request in [action(), compensation()] {
        let mut unit = begin(b.store("a").as_ref()).await;
        assert_eq!(pass_in(&b, unit.as_mut(), &request).await, Ok(Barrier::Proceed));
        drop(unit);
        assert_eq!(pass(&b, &request).await, Barrier::Proceed);
    }
}

/// What passed is remembered, and what was null too.
pub async fn bar_3_the_barrier_survives_a_crash<B: StoreBackend>(b: B) {
    pass(&b, &action()).await;
    let undone = request("charge", Op::Compensation);
    pass(&b, &undone).await;
    b.crash().await;
    assert_eq!(pass(&b, &action()).await, Barrier::Duplicate);
    assert_eq!(pass(&b, &request("charge", Op::Action)).await, Barrier::Late);
}
