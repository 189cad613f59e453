//! The worker: timeouts, local calls, fencing and recovery.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_core::{Actor, AggregateId, Class, Classify};
use amarra_saga::engine::Event;
use amarra_saga::{
    AppendConfig, End, Hooks, Input, LocalCall, LocalError, LocalStep, Op, Outcome, Progress,
    SagaId, SagaLog, SagaWorker, Sagas, Status, Transition,
};
use amarra_store::{Aggregate, Claim, DueHandler, HandlerError, Loaded, Session};
use async_trait::async_trait;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Fault, Order, Service, fork_saga, order_saga, run, slow_saga, trip_saga};

const KIND: &str = "saga";

fn service() -> Service {
    let sagas = Sagas::new("/orders").with(order_saga()).unwrap().with(trip_saga()).unwrap();
    let sagas = sagas.with(fork_saga()).unwrap().with(slow_saga()).unwrap();
    Service::new(sagas)
}

fn start(service: &Service, saga: &str) {
    service.start(saga, "o-1", &Order { sku: "apple".into(), total: 30 });
}

fn worker(service: &Service) -> SagaWorker {
    let store = Arc::new(service.store.clone());
    SagaWorker::new(store, service.env.clone(), "orders", service.sagas.clone())
}

fn id() -> AggregateId {
    SagaLog::aggregate_id("o-1")
}

/// Claims and acts until nothing is due.
fn drive(service: &Service, worker: &SagaWorker) {
    for _ in 0..100 {
        let Some(claim) = service.store.claim(KIND) else { return };
        run(worker.on_due(&claim)).unwrap();
    }
    panic!("a hot loop");
}

type Reaction = dyn Fn(&LocalCall) -> Result<Value, LocalError> + Send + Sync;

/// Answers by a function, and remembers its calls.
struct Local {
    calls: Mutex<Vec<String>>,
    react: Box<Reaction>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Local")
    }
}

impl Local {
    fn new(
        react: impl Fn(&LocalCall) -> Result<Value, LocalError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), react: Box::new(react) })
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl LocalStep for Local {
    async fn run(&self, call: &LocalCall) -> Result<Value, LocalError> {
        self.calls.lock().unwrap().push(format!("{}#{}", call.request, call.attempt));
        (self.react)(call)
    }
}

fn trip(service: &Service, hotel: &Arc<Local>, flight: &Arc<Local>) -> SagaWorker {
    worker(service).local("trip", "hotel", hotel.clone()).local("trip", "flight", flight.clone())
}

fn ok() -> Arc<Local> {
    Local::new(|_| Ok(json!(1)))
}

#[test]
fn a_step_that_times_out_is_undone_on_the_timers_behalf() {
    let service = service();
    start(&service, "order");
    assert_eq!(service.store.claim(KIND), None, "nothing is due yet");
    service.time.advance(Duration::from_secs(30));
    drive(&service, &worker(&service));
    assert_eq!(service.status("o-1"), Status::Compensating);
    let [first, release] = service.store.outbox().try_into().unwrap();
    assert_eq!(release.envelope.kind.as_ref(), "ReleaseStock");
    assert_eq!(release.envelope.actor, Actor::Timer("orders".into()));
    assert_eq!(release.envelope.correlation, first.envelope.correlation);
    let trace = |m: &amarra_messaging::Outgoing| m.envelope.traceparent.trace_id();
    assert_eq!(trace(&release), trace(&first), "one trace from the start on");
}

#[test]
fn the_deadline_undoes_a_saga_whose_pivot_was_not_sent() {
    let service = service();
    start(&service, "order");
    service.time.advance(Duration::from_secs(60));
    drive(&service, &worker(&service));
    let unwinding = service.log("o-1").events.into_iter().find_map(|event| match event {
        Event::Unwinding { cause } => Some(cause),
        _ => None,
    });
    assert_eq!(unwinding, Some(amarra_saga::Cause::Deadline));
}

/// STP-1 and STP-2.
#[test]
fn a_pivot_without_an_answer_is_asked_again_under_the_same_request() {
    let service = service();
    start(&service, "order");
    service.input("o-1", Input::completed("reserve", json!(7))).unwrap();
    for _ in 0..4 {
        service.time.advance(Duration::from_secs(61));
        drive(&service, &worker(&service));
    }
    let captures: Vec<_> = service
        .store
        .outbox()
        .into_iter()
        .filter(|m| m.envelope.kind.as_ref() != "ReserveStock")
        .collect();
    assert!(captures.len() >= 3, "{captures:?}");
    assert!(captures.iter().all(|m| m.envelope.data == captures[0].envelope.data));
    assert_eq!(service.status("o-1"), Status::Running);
}

#[test]
fn local_calls_are_made_one_after_the_other_and_end_the_saga() {
    let service = service();
    let (hotel, flight) = (ok(), ok());
    start(&service, "trip");
    assert_eq!(service.store.due_in(&id()), Some(Duration::ZERO));
    drive(&service, &trip(&service, &hotel, &flight));
    assert_eq!(service.status("o-1"), Status::Completed);
    assert_eq!(hotel.calls(), ["o-1:hotel:action#1"]);
    assert_eq!(flight.calls(), ["o-1:flight:action#1"]);
    assert_eq!(service.store.due_in(&id()), None);
}

/// WRK-2 and WRK-3.
#[test]
fn a_local_call_is_made_outside_a_transaction_and_after_its_beginning_was_committed() {
    let service = service();
    let look = service.clone();
    let hotel = Local::new(move |_| {
        assert_eq!(look.store.open_units(), 0, "no transaction is open");
        let begun = look.log("o-1").events.iter().any(|e| matches!(e, Event::LocalStarted { .. }));
        assert!(begun, "its beginning is in the log");
        Ok(json!(1))
    });
    start(&service, "trip");
    drive(&service, &trip(&service, &hotel, &ok()));
    assert_eq!(hotel.calls().len(), 1);
}

#[test]
fn a_rejected_local_call_is_not_undone_and_what_was_before_it_is() {
    let service = service();
    let hotel = ok();
    let flight = Local::new(|_| Err(LocalError::new(Class::Rejected, "full")));
    start(&service, "trip");
    drive(&service, &trip(&service, &hotel, &flight));
    assert_eq!(service.status("o-1"), Status::Compensated);
    assert_eq!(hotel.calls(), ["o-1:hotel:action#1", "o-1:hotel:compensation#1"]);
    assert_eq!(flight.calls(), ["o-1:flight:action#1"]);
}

#[test]
fn a_local_compensation_is_given_what_the_action_brought() {
    let service = service();
    let hotel = Local::new(|call| match call.request.op {
        Op::Action => Ok(json!(42)),
        Op::Compensation => {
            assert_eq!(call.output, Some(json!(42)));
            Ok(Value::Null)
        }
    });
    let flight = Local::new(|_| Err(LocalError::new(Class::Rejected, "full")));
    start(&service, "trip");
    drive(&service, &trip(&service, &hotel, &flight));
    assert_eq!(hotel.calls().len(), 2);
}

#[test]
fn a_local_call_with_an_unknown_outcome_is_undone() {
    let service = service();
    let hotel = Local::new(|call| match call.request.op {
        Op::Action => Err(LocalError::new(Class::Unknown, "connection lost")),
        Op::Compensation => Ok(Value::Null),
    });
    start(&service, "trip");
    drive(&service, &trip(&service, &hotel, &ok()));
    assert_eq!(service.status("o-1"), Status::Compensated);
    assert_eq!(hotel.calls(), ["o-1:hotel:action#1", "o-1:hotel:compensation#1"]);
}

/// LOC-1: every attempt carries one request, so that who knows it again has one effect.
#[test]
fn a_local_call_is_tried_again_under_the_same_request() {
    let service = service();
    let cancelled = Arc::new(Mutex::new(BTreeSet::new()));
    let ledger = cancelled.clone();
    let hotel = Local::new(move |call| match call.request.op {
        Op::Action => Ok(json!(42)),
        Op::Compensation if ledger.lock().unwrap().insert(call.request.to_string()) => {
            Err(LocalError::new(Class::Unknown, "cancelled, and the answer was lost"))
        }
        Op::Compensation => Ok(Value::Null),
    });
    let flight = Local::new(|_| Err(LocalError::new(Class::Rejected, "full")));
    start(&service, "trip");
    let worker = trip(&service, &hotel, &flight);
    drive(&service, &worker);
    assert_eq!(service.status("o-1"), Status::Compensating);
    service.time.advance(Duration::from_secs(60));
    drive(&service, &worker);
    assert_eq!(service.status("o-1"), Status::Compensated);
    let (first, again) = ("o-1:hotel:compensation#1", "o-1:hotel:compensation#2");
    assert_eq!(hotel.calls()[1..], [first, again]);
    assert_eq!(cancelled.lock().unwrap().len(), 1, "one request, one effect");
}

#[test]
fn a_call_that_was_asked_for_and_not_begun_when_a_sibling_is_refused_is_taken_back() {
    let service = service();
    let refused = Local::new(|_| Err(LocalError::new(Class::Rejected, "no")));
    let (a, c) = (ok(), ok());
    start(&service, "fork");
    let worker = worker(&service).local("fork", "a", a.clone()).local("fork", "b", refused);
    drive(&service, &worker.local("fork", "c", c.clone()));
    assert_eq!(service.status("o-1"), Status::Compensated);
    assert_eq!(a.calls(), ["o-1:a:action#1", "o-1:a:compensation#1"]);
    assert_eq!(c.calls(), Vec::<String>::new());
}

#[derive(Debug)]
struct HangsWhenUndone;

#[async_trait]
impl LocalStep for HangsWhenUndone {
    async fn run(&self, call: &LocalCall) -> Result<Value, LocalError> {
        match call.request.op {
            Op::Action => Err(LocalError::new(Class::Unknown, "lost")),
            Op::Compensation => std::future::pending().await,
        }
    }
}

#[test]
fn a_local_compensation_that_hangs_is_dropped_at_its_own_timeout() {
    let service = service();
    let worker = worker(&service).local("trip", "hotel", Arc::new(HangsWhenUndone));
    start(&service, "trip");
    let before = service.env.now();
    run(worker.on_due(&service.store.claim(KIND).unwrap())).unwrap();
    assert_eq!(service.env.now().since(before), Duration::from_secs(7));
}

#[derive(Debug)]
struct Hangs;

#[async_trait]
impl LocalStep for Hangs {
    async fn run(&self, call: &LocalCall) -> Result<Value, LocalError> {
        match call.request.op {
            Op::Action => std::future::pending().await,
            Op::Compensation => Ok(Value::Null),
        }
    }
}

#[test]
fn a_local_call_that_hangs_is_dropped_at_its_timeout_and_undone() {
    let service = service();
    let worker = worker(&service).local("trip", "hotel", Arc::new(Hangs));
    start(&service, "trip");
    let before = service.env.now();
    drive(&service, &worker);
    assert_eq!(service.status("o-1"), Status::Compensated);
    assert_eq!(service.env.now().since(before), Duration::from_secs(5), "the step's timeout");
}

#[test]
fn an_action_nobody_implements_is_undone_and_its_compensation_parks() {
    let service = service();
    start(&service, "trip");
    drive(&service, &worker(&service));
    assert_eq!(service.status("o-1"), Status::NeedsOperator);
    assert_eq!(service.store.due_in(&id()), None, "no hot loop");
}

/// WRK-1.
#[test]
fn an_executor_whose_claim_was_superseded_appends_nothing() {
    let service = service();
    let (inner, claims) = (service.clone(), Arc::new(Mutex::new(Vec::<Claim>::new())));
    let seen = claims.clone();
    // While the first executor makes its call, its lease ends and a second one takes over.
    let crawl = Local::new(move |_| {
        inner.time.advance(Duration::from_secs(11));
        let claim = inner.store.claim(KIND).expect("the lease has ended");
        seen.lock().unwrap().push(claim.clone());
        run(worker(&inner).on_due(&claim)).unwrap();
        Ok(json!(1))
    });
    start(&service, "slow");
    let first = service.store.claim(KIND).unwrap();
    run(worker(&service).local("slow", "crawl", crawl.clone()).on_due(&first)).unwrap();
    assert!(claims.lock().unwrap()[0].epoch > first.epoch);
    let events = service.log("o-1").events;
    let last = events.last().unwrap();
    assert!(matches!(last, Event::LocalStarted { .. }), "appended under an old claim: {last:?}");
    assert_eq!(crawl.calls().len(), 1, "nor did the second one make the call again");
    // The outcome is lost, so the call is made again once it counts as unknown.
    let again = ok();
    for _ in 0..2 {
        service.time.advance(Duration::from_secs(60));
        drive(&service, &worker(&service).local("slow", "crawl", again.clone()));
    }
    assert_eq!(again.calls(), ["o-1:crawl:action#2"]);
    assert_eq!(service.status("o-1"), Status::Completed);
}

/// WRK-3.
#[test]
fn a_crash_during_a_local_call_is_healed_by_the_next_claim() {
    let service = service();
    start(&service, "trip");
    let claim = service.store.claim(KIND).unwrap();
    // The executor dies where it stands: its future is dropped while the call is pending.
    let dying = SagaWorker::new(
        Arc::new(service.store.clone()),
        amarra_core::Environment { timer: Arc::new(Never), ..service.env.clone() },
        "orders",
        service.sagas.clone(),
    )
    .local("trip", "hotel", Arc::new(Hangs));
    assert!(dying.on_due(&claim).now_or_never().is_none());
    assert_eq!(service.store.open_units(), 0);
    assert_eq!(service.store.claim(KIND), None, "the dead one's lease");
    service.time.advance(Duration::from_secs(11));
    let hotel = ok();
    drive(&service, &trip(&service, &hotel, &ok()));
    assert_eq!(service.status("o-1"), Status::Compensated);
    assert_eq!(hotel.calls(), ["o-1:hotel:compensation#1"], "the outcome is unknown");
}

#[derive(Debug)]
struct Never;

#[async_trait]
impl amarra_core::Timer for Never {
    async fn sleep_until(&self, _: amarra_core::Monotonic) {
        std::future::pending().await
    }
}

#[test]
fn an_outcome_survives_commits_that_fail() {
    for faults in
        [[Fault::Serialization, Fault::UnknownLost], [Fault::UnknownLost, Fault::Serialization]]
    {
        let service = service();
        let outer = service.clone();
        let hotel = Local::new(move |call| {
            if call.request.op == Op::Action {
                outer.store.fail_commits(&faults);
            }
            Ok(json!(1))
        });
        start(&service, "trip");
        drive(&service, &trip(&service, &hotel, &ok()));
        assert_eq!(hotel.calls(), ["o-1:hotel:action#1"]);
        assert_eq!(service.status("o-1"), Status::Completed);
    }
}

#[test]
fn a_commit_that_was_applied_after_all_is_not_repeated() {
    let service = service();
    let outer = service.clone();
    let flight = Local::new(move |_| {
        outer.store.fail_commits(&[Fault::UnknownApplied]);
        Ok(json!(1))
    });
    start(&service, "trip");
    drive(&service, &trip(&service, &ok(), &flight));
    assert_eq!(service.status("o-1"), Status::Completed);
    let completed = |e: &&Event| matches!(e, Event::Completed { .. });
    assert_eq!(service.log("o-1").events.iter().filter(completed).count(), 2);
}

#[test]
fn commits_that_keep_failing_are_reported_with_their_class() {
    let service = service();
    start(&service, "trip");
    let config = AppendConfig { append_attempts_max: 2, ..AppendConfig::default() };
    let none = AppendConfig { append_attempts_max: 0, ..config };
    assert!(trip(&service, &ok(), &ok()).configure(none).is_err());
    let worker = trip(&service, &ok(), &ok()).configure(config).unwrap();
    service.store.fail_commits(&[Fault::Serialization, Fault::Serialization]);
    let error = run(worker.on_due(&service.store.claim(KIND).unwrap())).unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(service.status("o-1"), Status::Running);
}

#[test]
fn a_message_during_a_local_call_leaves_the_claim_alone() {
    let service = service();
    let inner = service.clone();
    let hotel = Local::new(move |call| {
        if call.request.op == Op::Action {
            let cancel = Input::Cancel { reason: "changed my mind".into() };
            assert_eq!(inner.input("o-1", cancel).unwrap().outcome, Outcome::Applied);
        }
        Ok(json!(1))
    });
    start(&service, "trip");
    let claim = service.store.claim(KIND).unwrap();
    run(trip(&service, &hotel, &ok()).on_due(&claim)).unwrap();
    let events = service.log("o-1").events;
    assert!(events.iter().any(|e| matches!(e, Event::Completed { .. })), "{events:#?}");
    // Undone only once its outcome was known: a local call has no barrier.
    assert_eq!(hotel.calls(), ["o-1:hotel:action#1", "o-1:hotel:compensation#1"]);
    assert_eq!(service.status("o-1"), Status::Compensated);
}

#[test]
fn a_message_that_changes_nothing_leaves_the_claim_alone() {
    let service = service();
    start(&service, "order");
    service.time.advance(Duration::from_secs(30));
    let claim = service.store.claim(KIND).unwrap();
    let stale = service.input("o-1", Input::undone("reserve")).unwrap();
    assert_eq!(stale.outcome, Outcome::Stale);
    run(worker(&service).on_due(&claim)).unwrap();
    assert_eq!(service.status("o-1"), Status::Compensating);
}

/// The owner's own aggregate.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Owner(Vec<String>);

impl Aggregate for Owner {
    const KIND: &'static str = "owner";
}

#[derive(Debug)]
struct Mirror {
    fails: bool,
}

#[async_trait]
impl Hooks for Mirror {
    fn touches(&self, id: &SagaId) -> Vec<AggregateId> {
        vec![Owner::aggregate_id(id.as_str())]
    }

    async fn apply(
        &self,
        session: &mut Session<'_>,
        id: &SagaId,
        progress: &Progress,
    ) -> Result<(), HandlerError> {
        let mut loaded: Loaded<Owner> = session.load(id.as_str()).await?;
        let mut owner = loaded.state.clone().unwrap_or_default();
        owner.0.extend(progress.transitions.iter().filter_map(|t| match t {
            Transition::Unknown { step, .. } => Some(format!("{step} unknown")),
            Transition::Ended(End::Completed) => Some("completed".into()),
            _ => None,
        }));
        session.save(&mut loaded, owner, "mirror").await?;
        if self.fails {
            return Err(HandlerError::Refused("no".into()));
        }
        Ok(())
    }
}

#[test]
fn the_owners_aggregate_changes_in_the_same_unit() {
    let service = service();
    start(&service, "trip");
    drive(&service, &trip(&service, &ok(), &ok()).hooks(Arc::new(Mirror { fails: false })));
    let owner = service.unit(|session| Ok(run(session.load::<Owner>("o-1"))?.state)).unwrap();
    assert_eq!(owner, Some(Owner(vec!["completed".into()])));
    let together = vec![Owner::aggregate_id("o-1"), id()];
    assert!(service.store.loads().contains(&together), "locked in one call, in id order");
}

#[test]
fn a_hook_that_fails_takes_the_saga_back_with_it() {
    let service = service();
    start(&service, "order");
    service.time.advance(Duration::from_secs(30));
    let worker = worker(&service).hooks(Arc::new(Mirror { fails: true }));
    let error = run(worker.on_due(&service.store.claim(KIND).unwrap())).unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert_eq!(service.status("o-1"), Status::Running);
    assert_eq!(service.store.sent(), ["ReserveStock"]);
    assert!(!service.store.has(&Owner::aggregate_id("o-1")));
}

#[test]
fn a_saga_without_a_definition_is_left_to_its_lease() {
    let service = service();
    start(&service, "trip");
    let other = Service { sagas: Arc::new(Sagas::new("/orders")), ..service.clone() };
    let claim = service.store.claim(KIND).unwrap();
    let error = run(worker(&other).on_due(&claim)).unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!(service.status("o-1"), Status::Running);
}

#[test]
fn the_timer_of_a_saga_that_is_gone_is_removed() {
    let service = service();
    service.unit(|session| Ok(run(session.schedule(&id(), Some(Duration::ZERO)))?)).unwrap();
    run(worker(&service).on_due(&service.store.claim(KIND).unwrap())).unwrap();
    assert_eq!(service.store.due_in(&id()), None);
}
