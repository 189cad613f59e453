//! A tier of an experiment: replicas that pass each request on through guards of their own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amarra_core::{Class, Classify, Environment};
use amarra_resilience::{CallOptions, Deadline, Pipeline};
use tokio::sync::oneshot;

use super::backend::{Backend, Trouble};

/// How long a message is on its way.
const WAY: Duration = Duration::from_millis(1);

/// What a tier calls.
#[derive(Debug)]
pub(crate) enum Below {
    /// Another tier.
    Tier(Arc<Tier>),
    /// The backend.
    Backend(Arc<Backend>),
}

/// One process of a tier.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Its clock, timer and randomness.
    pub(crate) env: Environment,
    /// Its guards.
    pub(crate) pipeline: Pipeline,
}

/// A tier.
#[derive(Debug)]
pub(crate) struct Tier {
    replicas: Vec<Replica>,
    turn: AtomicUsize,
    below: Below,
    sends_deadline: bool,
}

type Answer = Result<(), Trouble>;
type Handling = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Tier {
    /// Puts a tier in front of what is below.
    pub(crate) fn new(replicas: Vec<Replica>, below: Below, sends_deadline: bool) -> Arc<Self> {
        Arc::new(Self { replicas, turn: AtomicUsize::new(0), below, sends_deadline })
    }

    /// Sends a request to the next replica, which works on it whether or not the caller waits.
    pub(crate) fn ask(self: &Arc<Self>, deadline: Option<Deadline>) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let tier = Arc::clone(self);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.replicas.len().max(1);
        let handling: Handling = Box::pin(async move {
            if let Some(replica) = tier.replicas.get(turn) {
                replica.env.sleep(WAY).await;
                let answer = tier.serve(replica, deadline).await;
                replica.env.sleep(WAY).await;
                let _ = reply.send(answer);
            }
        });
        tokio::spawn(handling);
        answer
    }

    async fn serve(&self, replica: &Replica, deadline: Option<Deadline>) -> Answer {
        let options = CallOptions { deadline, ..CallOptions::idempotent() };
        let answer = replica.pipeline.call(&replica.env, options, |attempt| {
            let deadline = Some(attempt.deadline).filter(|_| self.sends_deadline);
            self.pass_on(replica, deadline)
        });
        answer.await.map_err(|failed| Trouble(failed.class()))
    }

    async fn pass_on(&self, replica: &Replica, deadline: Option<Deadline>) -> Answer {
        match &self.below {
            Below::Tier(tier) => tier.ask(deadline).await.unwrap_or(Err(Trouble(Class::Unknown))),
            Below::Backend(backend) => {
                replica.env.sleep(WAY).await;
                backend.ask(deadline).await
            }
        }
    }
}
