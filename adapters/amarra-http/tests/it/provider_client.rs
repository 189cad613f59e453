//! What the provider's client says of a request that got no good answer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use amarra_conformance::Harness;
use amarra_core::{Class, Classify, Timestamp};
use amarra_http::provider::{HttpProvider, ProviderNode, Refused, router};
use amarra_http::{Config, Connect, HttpClient, Io, Spawn, serve_connection};
use amarra_shop::contract::{Currency, Money, OrderId};
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, Operation, PaymentProvider, ProviderError,
};
use amarra_shop::provider::{Provider, ProviderRequest, ProviderResponse};
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What becomes of the next connection.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is refused.
    Refuse,
    /// The provider serves it.
    Serve,
    /// The provider turns every request on it away.
    TurnAway,
    /// The request is carried out, and the connection ends without an answer.
    LoseAnswer,
    /// The request is carried out, and the answer is these bytes.
    Garble(&'static str),
}

/// The provider, the way to it, and the tasks at both ends.
#[derive(Clone)]
struct World {
    ledger: Arc<Mutex<Provider>>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    tasks: Arc<Mutex<Vec<Task>>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

impl World {
    fn new() -> Self {
        let ledger = Provider::new(amarra_shop::provider::Config::default()).unwrap();
        Self { ledger: Arc::new(Mutex::new(ledger)), fates: Arc::default(), tasks: Arc::default() }
    }

    /// Asks with a fresh client, and runs both ends until there is an answer.
    fn ask<T>(
        &self,
        fate: Fate,
        ask: impl AsyncFnOnce(&HttpProvider) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        self.fates.lock().unwrap().push_back(fate);
        let (harness, world) = (Harness::new(1), Arc::new(self.clone()));
        let env = harness.environment("payments");
        let client = HttpClient::new(world.clone(), world, env, Config::default());
        let provider = HttpProvider::new(Arc::new(client), "provider");
        let mut answer = Box::pin(ask(&provider));
        harness.block_on(poll_fn(|context| {
            let answered = answer.as_mut().poll(context);
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
            tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
            self.tasks.lock().unwrap().append(&mut tasks);
            if answered.is_pending() {
                context.waker().wake_by_ref();
            }
            answered
        }))
    }

    fn authorize(&self, fate: Fate) -> Result<String, Class> {
        let amount = Money::new(100, Currency::EUR);
        let (key, token) = ("k".to_owned(), "tok_ok".to_owned());
        let request = AuthorizeRequest { key, order_id: order(), amount, token };
        let answer = self.ask(fate, async |provider| provider.authorize(&request).await);
        answer.map(|answer| answer.psp_ref).map_err(|e| e.class())
    }

    fn operations(&self) -> Vec<Operation> {
        self.ask(Fate::Serve, async |provider| provider.status(order()).await).unwrap()
    }

    /// Reads one request off a raw stream, carries it out, and answers `bytes`.
    async fn answer_raw(self, mut stream: DuplexStream, bytes: &'static str) {
        let mut read = Vec::new();
        while !read.ends_with(b"}}") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the request was cut off");
            read.extend_from_slice(&buffer[..count]);
        }
        let body = String::from_utf8(read).unwrap();
        let (_, body) = body.split_once("\r\n\r\n").unwrap();
        let request = serde_json::from_str(body).unwrap();
        self.ledger.lock().unwrap().serve(&request, Timestamp::EPOCH);
        stream.write_all(bytes.as_bytes()).await.unwrap();
    }
}

fn order() -> OrderId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

impl Spawn for World {
    fn spawn(&self, task: Task) {
        self.tasks.lock().unwrap().push(task);
    }
}

#[async_trait]
impl Connect for World {
    async fn connect(&self, service: &str) -> std::io::Result<Box<dyn Io>> {
        assert_eq!(service, "provider");
        let fate = self.fates.lock().unwrap().pop_front().expect("one connection a call");
        let (near, far) = duplex(4096);
        let world = self.clone();
        let task: Task = match fate {
            Fate::Refuse => return Err(std::io::ErrorKind::ConnectionRefused.into()),
            Fate::Serve | Fate::TurnAway => {
                let desk = Desk { world, open: matches!(fate, Fate::Serve) };
                let router = router(Arc::new(desk));
                Box::pin(async move { drop(serve_connection(Box::new(far), router).await) })
            }
            Fate::LoseAnswer => Box::pin(world.answer_raw(far, "")),
            Fate::Garble(bytes) => Box::pin(world.answer_raw(far, bytes)),
        };
        self.spawn(task);
        Ok(Box::new(near))
    }
}

#[derive(Debug)]
struct Desk {
    world: World,
    open: bool,
}

#[async_trait]
impl ProviderNode for Desk {
    async fn serve(&self, request: ProviderRequest) -> Option<Result<ProviderResponse, Refused>> {
        let served = || self.world.ledger.lock().unwrap().serve(&request, Timestamp::EPOCH);
        Some(if self.open { Ok(served()) } else { Err(Refused) })
    }
}

/// PSP-3: each way to get no answer, and what the provider has on record after it.
#[test]
fn not_applied_is_said_only_of_what_surely_was_not() {
    let nothing: [(Fate, Class); 2] =
        [(Fate::Refuse, Class::Transient), (Fate::TurnAway, Class::Transient)];
    for (fate, class) in nothing {
        let world = World::new();
        assert_eq!(world.authorize(fate), Err(class), "{fate:?}");
        assert!(world.operations().is_empty(), "{fate:?} had an effect");
    }
    let applied = [
        Fate::LoseAnswer,
        Fate::Garble("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"cut"),
        Fate::Garble("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        Fate::Garble("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        Fate::Garble("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        Fate::Garble("no HTTP at all\r\n\r\n"),
    ];
    for fate in applied {
        let world = World::new();
        assert_eq!(world.authorize(fate), Err(Class::Unknown), "{fate:?}");
        assert_eq!(world.operations().len(), 1, "{fate:?} had no effect");
    }
}

/// PSP-1, PSP-2: asked again with the same key after a lost answer, it charges once.
#[test]
fn the_same_key_gets_the_answer_that_was_lost() {
    let world = World::new();
    assert_eq!(world.authorize(Fate::LoseAnswer), Err(Class::Unknown));
    let [operation] = <[_; 1]>::try_from(world.operations()).unwrap();
    let again = world.authorize(Fate::Serve).unwrap();
    assert!(format!("{operation:?}").contains(&again), "{operation:?}");
    assert_eq!(world.authorize(Fate::Serve), Ok(again));
    assert_eq!(world.operations(), [operation]);
}
