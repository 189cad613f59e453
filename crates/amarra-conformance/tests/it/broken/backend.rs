//! The simulated servers behind the wrappers, with the defect the running test asked for.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use amarra_conformance::ledger::{Ledger, Note};
use amarra_conformance::{
    Backend, BrokerBackend, CommandBackend, CommitLoss, HandlerBackend, ProcessorBackend,
    PublishLoss, StoreBackend, ledger,
};
use amarra_core::{Actor, Cause, CorrelationId, Environment, TraceParent};
use amarra_messaging::message::Owner;
use amarra_messaging::runtime::Processor;
use amarra_messaging::{Consumer, Group, Incoming, OutboxLog, Topic, Transport};
use amarra_store::{
    Command, Handler, HandlerError, ReadModel, Session, Store, TransactionalProcessor,
};
use async_trait::async_trait;

use super::broker::{BrokenConsumer, BrokenTransport};
use super::log::{BrokenLog, Tickets};
use super::store::{BrokenReads, BrokenStore};
use super::{Defect, current};
use crate::memory::backend::Memory;

pub struct Broken {
    memory: Memory,
    defect: Defect,
    tickets: Arc<Tickets>,
    opened: Arc<AtomicU16>,
}

impl Backend for Broken {
    fn run<F: Future<Output = ()>>(law: impl FnOnce(Self) -> F) {
        let broken = |memory| Self {
            memory,
            defect: current(),
            tickets: Arc::default(),
            opened: Arc::default(),
        };
        Memory::block_on(broken, law);
    }

    fn env(&self) -> Environment {
        self.memory.env()
    }
}

#[async_trait]
impl StoreBackend for Broken {
    fn store(&self, client: &str) -> Arc<dyn Store> {
        Arc::new(BrokenStore {
            inner: self.memory.store(client),
            env: self.env(),
            defect: self.defect,
            tickets: self.tickets.clone(),
        })
    }

    fn outbox_log(&self) -> Arc<dyn OutboxLog> {
        Arc::new(BrokenLog {
            inner: self.memory.outbox_log(),
            defect: self.defect,
            tickets: self.tickets.clone(),
        })
    }

    fn read_model(&self) -> Arc<dyn ReadModel> {
        Arc::new(BrokenReads { inner: self.memory.read_model(), defect: self.defect })
    }

    fn outbox_bytes_max(&self) -> usize {
        self.memory.outbox_bytes_max()
    }

    async fn lose_commit(&self, client: &str, loss: CommitLoss) {
        self.memory.lose_commit(client, loss).await;
    }

    async fn crash(&self) {
        StoreBackend::crash(&self.memory).await;
    }
}

#[async_trait]
impl BrokerBackend for Broken {
    async fn create(&self, topic: &Topic, partitions: u32) {
        self.memory.create(topic, partitions).await;
    }

    fn transport(&self, client: &str, source: &str) -> Arc<dyn Transport> {
        let forgets = self.defect == Defect::SessionsForgetTheirOutbox;
        let source = if forgets { "all" } else { source };
        Arc::new(BrokenTransport {
            inner: self.memory.transport(client, source),
            defect: self.defect,
            opened: self.opened.clone(),
        })
    }

    async fn consumer(&self, topics: &[Topic], group: &Group, member: &Owner) -> Box<dyn Consumer> {
        Box::new(BrokenConsumer {
            inner: self.memory.consumer(topics, group, member).await,
            env: self.env(),
            defect: self.defect,
            skip: false,
            handed_out: 0,
        })
    }

    async fn lose_publish(&self, topic: &Topic, loss: PublishLoss) {
        self.memory.lose_publish(topic, loss).await;
    }

    fn record_bytes_max(&self) -> usize {
        self.memory.record_bytes_max()
    }

    fn transactional(&self) -> bool {
        self.memory.transactional()
    }

    fn session_timeout(&self) -> Duration {
        self.memory.session_timeout()
    }

    async fn crash(&self) {
        BrokerBackend::crash(&self.memory).await;
    }
}

impl ProcessorBackend for Broken {
    fn processor(&self, client: &str, handler: Arc<dyn Handler>) -> Arc<dyn Processor> {
        let store = self.store(client);
        Arc::new(TransactionalProcessor::new(store, handler, self.env(), "/amarra/ledger"))
    }
}

#[async_trait]
impl HandlerBackend for Broken {
    fn handler(&self) -> Arc<dyn Handler> {
        let store = self.store("beside");
        Arc::new(BrokenHandler { inner: Ledger::default(), store, defect: self.defect })
    }

    async fn message(&self) -> Incoming {
        ledger::message(&self.env(), "k")
    }
}

#[async_trait]
impl CommandBackend for Broken {
    type Command = BrokenCommand;

    async fn command(&self) -> BrokenCommand {
        let inner = Note { key: "k".into() };
        BrokenCommand { inner, store: self.store("beside"), defect: self.defect }
    }
}

#[derive(Debug)]
struct BrokenHandler {
    inner: Ledger,
    store: Arc<dyn Store>,
    defect: Defect,
}

#[async_trait]
impl Handler for BrokenHandler {
    fn group(&self) -> &Group {
        self.inner.group()
    }

    fn topics(&self) -> &[Topic] {
        self.inner.topics()
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let env = session.env();
        let cause = session.cause().clone();
        match self.defect {
            Defect::HandlerWorksBesideItsSession => {
                let mut unit = self.store.begin().await?;
                let mut beside = Session::new(unit.as_mut(), env, "/beside", cause);
                self.inner.handle(&mut beside, message).await?;
                drop(beside);
                Ok(unit.commit().await?)
            }
            Defect::HandlerForgetsTheCause => {
                let cause = Cause {
                    correlation: env.new_id::<CorrelationId>(),
                    causation: None,
                    actor: Actor::Service("nobody".into()),
                    traceparent: TraceParent::root(env.entropy.as_ref()),
                };
                let mut other = Session::new(session.unit(), env, "/other", cause);
                self.inner.handle(&mut other, message).await
            }
            Defect::HandlerRefusesUnknownTypes if &*message.envelope.kind != ledger::NOTED => {
                Err(HandlerError::Refused("unknown type".to_owned()))
            }
            _ => self.inner.handle(session, message).await,
        }
    }
}

#[derive(Debug)]
pub struct BrokenCommand {
    inner: Note,
    store: Arc<dyn Store>,
    defect: Defect,
}

#[async_trait]
impl Command for BrokenCommand {
    type Output = u64;
    type Error = HandlerError;

    async fn run(&self, session: &mut Session<'_>) -> Result<u64, HandlerError> {
        if self.defect != Defect::CommandWorksBesideItsSession {
            return self.inner.run(session).await;
        }
        let mut unit = self.store.begin().await?;
        let cause = session.cause().clone();
        let mut beside = Session::new(unit.as_mut(), session.env(), "/beside", cause);
        let answer = self.inner.run(&mut beside).await?;
        drop(beside);
        unit.commit().await?;
        Ok(answer)
    }
}
