//! amarra-conformance: the laws of the inbox on amarra-memory, and a hasty timer that is caught.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::collections::BTreeMap;
use std::panic::{catch_unwind, set_hook};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amarra_conformance::{
    Backend, ClockBackend, CommitLoss, Harness, Law, ManualClock, StoreBackend, clock, inbox,
};
use amarra_core::{Clock, Environment, Monotonic, Timer};
use amarra_memory::{
    ClientId, DatabaseConfig, Effect, Faults, Hooks, MemoryDatabase, Operation, Site, Verdict,
};
use amarra_messaging::OutboxLog;
use amarra_store::{ReadModel, Store};
use async_trait::async_trait;

/// What the laws may do to a database in memory.
struct Memory {
    env: Environment,
    clock: Arc<ManualClock>,
    database: MemoryDatabase,
    losses: Arc<Losses>,
}

/// The commits to be lost, by client.
#[derive(Debug, Default)]
struct Losses(Mutex<BTreeMap<String, Effect>>);

impl Faults for Losses {
    fn at(&self, site: &Site<'_>) -> Verdict {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_commit = matches!(site.operation, Operation::Commit { .. });
        let loss = is_commit.then(|| losses.remove(site.client.node.as_ref())).flatten();
        Verdict::of(loss.unwrap_or(Effect::Proceed))
    }
}

impl Backend for Memory {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let (harness, losses) = (Harness::new(1), Arc::new(Losses::default()));
        let (env, config) = (harness.environment("test"), DatabaseConfig::default());
        let hooks = Hooks::default().with_faults(losses.clone());
        let Ok(database) = MemoryDatabase::new("db", config, env.clone(), hooks) else {
            unreachable!("the default configuration works")
        };
        harness.block_on(law(Self { env, clock: harness.clock(), database, losses }));
    }
    fn env(&self) -> Environment {
        self.env.clone()
    }
}

#[async_trait]
impl StoreBackend for Memory {
    fn store(&self, client: &str) -> Arc<dyn Store> {
        Arc::new(self.database.connect(ClientId::new(client, 1)))
    }
    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(self.database.outbox_log(ClientId::new("relay", 1)))
    }
    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(self.database.connect(ClientId::new("reader", 1)))
    }
    fn outbox_bytes_max(&self) -> usize {
        DatabaseConfig::default().message_bytes_max
    }
    async fn lose_commit(&self, client: &str, loss: CommitLoss) {
        let effect = match loss {
            CommitLoss::BeforeSend => Effect::Fail,
            CommitLoss::Request => Effect::LoseRequest,
            CommitLoss::Answer => Effect::LoseReply,
        };
        let mut lost = self.losses.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.insert(client.to_owned(), effect);
    }
    async fn crash(&self) {
        self.database.crash(true);
        self.database.restart();
    }
}

/// Wakes up a millisecond early.
#[derive(Debug)]
struct Hasty(Arc<ManualClock>);

#[async_trait]
impl Timer for Hasty {
    async fn sleep_until(&self, at: Monotonic) {
        let early = at.since(Monotonic::default()).saturating_sub(Duration::from_millis(1));
        self.0.sleep_until(Monotonic::default().plus(early)).await;
    }
}

impl ClockBackend for Memory {
    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }
    fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(Hasty(self.clock.clone()))
    }
    fn jump_wall(&self, micros: i64) {
        self.clock.jump_wall(micros);
    }
}

fn report(laws: &[Law], check: fn(&str) -> bool) {
    for Law { port, law, name } in laws {
        let holds = catch_unwind(|| check(name)).is_ok();
        println!("{:<6} {law:<5} {port:<5} {name}", if holds { "ok" } else { "BROKEN" });
    }
}

fn main() {
    set_hook(Box::new(|_| ()));
    report(inbox::LAWS, inbox::check::<Memory>);
    report(clock::LAWS, clock::check::<Memory>);
}
