//! A small store, clock and saga for tests of the shell.

mod sagas;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use amarra_core::{
    Actor, Cause, Clock, CorrelationId, Environment, Monotonic, SeededEntropy, Timer, Timestamp,
    TraceParent,
};
use amarra_saga::{Input, Instance, Progress, SagaError, SagaLog, Sagas, Status};
use amarra_store::{Session, Store, TxError};
use async_trait::async_trait;
use futures_util::FutureExt;

pub use sagas::{Order, Reserve, fork_saga, order_saga, slow_saga, trip_saga};
pub use store::{Fault, TestStore};

/// Time that moves when somebody waits for it.
#[derive(Debug, Default)]
pub struct TestTime(AtomicI64);

impl TestTime {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        let micros = u64::try_from(self.0.load(Ordering::Relaxed)).unwrap();
        Monotonic::from_nanos(micros * 1000)
    }
}

#[async_trait]
impl Timer for TestTime {
    async fn sleep_until(&self, at: Monotonic) {
        self.advance(at.since(self.monotonic()));
    }
}

/// One service: its store, its time and its sagas.
#[derive(Debug, Clone)]
pub struct Service {
    pub time: Arc<TestTime>,
    pub env: Environment,
    pub store: TestStore,
    pub sagas: Arc<Sagas>,
}

impl Service {
    pub fn new(sagas: Sagas) -> Self {
        let time = Arc::new(TestTime(AtomicI64::new(1_000_000)));
        let env = Environment {
            clock: time.clone(),
            timer: time.clone(),
            entropy: Arc::new(SeededEntropy::new(1, "test")),
        };
        Self { store: TestStore::new(time.clone()), time, env, sagas: Arc::new(sagas) }
    }

    pub fn cause(&self) -> Cause {
        Cause {
            correlation: CorrelationId::from(uuid::Uuid::from_u128(7)),
            causation: None,
            actor: Actor::User("u-1".into()),
            traceparent: TraceParent::root(self.env.entropy.as_ref()),
        }
    }

    /// Runs work in a unit of its own and commits it.
    pub fn unit<T>(
        &self,
        work: impl FnOnce(&mut Session<'_>) -> Result<T, SagaError>,
    ) -> Result<T, SagaError> {
        let mut unit = run(self.store.begin())?;
        let mut session = Session::new(unit.as_mut(), &self.env, "/test", self.cause());
        let out = work(&mut session)?;
        run(unit.commit())?;
        Ok(out)
    }

    pub fn start(&self, saga: &str, id: &str, order: &Order) -> Progress {
        self.unit(|session| run(self.sagas.start(session, saga, &id.into(), order))).unwrap()
    }

    pub fn input(&self, id: &str, input: Input) -> Result<Progress, SagaError> {
        self.unit(|session| run(self.sagas.input(session, &id.into(), input)))
    }

    pub fn load(&self, id: &str) -> Instance {
        self.unit(|session| run(self.sagas.load(session, &id.into()))).unwrap()
    }

    pub fn status(&self, id: &str) -> Status {
        self.load(id).status()
    }

    pub fn log(&self, id: &str) -> SagaLog {
        self.load(id).log().clone()
    }
}

/// Runs a future that never really waits.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing in these tests waits")
}

pub fn tx(error: &SagaError) -> &TxError {
    match error {
        SagaError::Tx(error) => error,
        other => panic!("no transaction error: {other}"),
    }
}
