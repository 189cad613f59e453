//! The client says what is known of a request that got no answer, and reuses connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amarra_conformance::harness::Harness;
use amarra_core::{Class, Classify};
use amarra_http::{Config, Connect, HttpClient, HttpError, Io, Spawn, serve_connection};
use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::Request;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks when the test next looks.
#[derive(Default)]
struct Later(Mutex<Vec<Task>>);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}

impl Spawn for Later {
    fn spawn(&self, task: Task) {
        self.0.lock().unwrap().push(task);
    }
}

/// How the other end behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Peer {
    Serves,
    Refuses,
    HangsUp,
    NeverConnects,
}

#[derive(Debug)]
struct Wire {
    peer: Peer,
    tasks: Arc<Later>,
    connections: AtomicU32,
}

#[async_trait]
impl Connect for Wire {
    async fn connect(&self, _service: &str) -> std::io::Result<Box<dyn Io>> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (near, far) = tokio::io::duplex(4096);
        match self.peer {
            Peer::Refuses => Err(std::io::ErrorKind::ConnectionRefused.into()),
            Peer::NeverConnects => std::future::pending().await,
            Peer::HangsUp => {
                drop(far);
                Ok(Box::new(near))
            }
            Peer::Serves => {
                let router = Router::new()
                    .route("/", get(|| async { "hello" }))
                    .route("/big", get(|| async { "x".repeat(5000) }));
                self.tasks.spawn(Box::pin(async move {
                    serve_connection(Box::new(far), router).await.ok();
                }));
                Ok(Box::new(near))
            }
        }
    }
}

fn ask(peer: Peer, paths: &[&str]) -> (Vec<Result<Bytes, HttpError>>, u32) {
    let harness = Harness::new(1);
    let tasks = Arc::new(Later::default());
    let wire = Arc::new(Wire { peer, tasks: Arc::clone(&tasks), connections: AtomicU32::new(0) });
    let config = Config { response_bytes_max: 4096, ..Config::default() };
    let env = harness.environment("client");
    let client =
        HttpClient::new(Arc::clone(&wire) as _, Arc::clone(&tasks) as _, env.clone(), config);
    let answers = harness.block_on(async {
        let mut answers = Vec::new();
        for path in paths {
            let request = Request::get(*path).body(Bytes::new()).unwrap();
            let asking = std::pin::pin!(client.send("shop", request));
            let answer = drive(asking, &tasks, &env).await;
            answers.push(answer.map(|r| r.into_body()));
        }
        answers
    });
    (answers, wire.connections.load(Ordering::Relaxed))
}

/// Polls a future together with every task that was started meanwhile.
async fn drive<F: Future>(
    mut main: Pin<&mut F>,
    tasks: &Later,
    env: &amarra_core::Environment,
) -> F::Output {
    let mut running: Vec<Task> = Vec::new();
    let mut tick = Box::pin(env.sleep(Duration::from_millis(50)));
    std::future::poll_fn(move |cx| {
        for _ in 0..50 {
            if let std::task::Poll::Ready(out) = main.as_mut().poll(cx) {
                tasks.0.lock().unwrap().append(&mut running);
                return std::task::Poll::Ready(out);
            }
            running.append(&mut tasks.0.lock().unwrap());
            running.retain_mut(|task| task.as_mut().poll(cx).is_pending());
        }
        // The tasks of a spawner have no waker of their own here: look again soon.
        if tick.as_mut().poll(cx).is_ready() {
            tick = Box::pin(env.sleep(Duration::from_millis(50)));
            cx.waker().wake_by_ref();
        }
        std::task::Poll::Pending
    })
    .await
}

#[test]
fn one_connection_serves_many_requests() {
    let (answers, connections) = ask(Peer::Serves, &["/", "/", "/"]);
    assert!(answers.iter().all(|a| a.as_deref() == Ok(b"hello")), "{answers:?}");
    assert_eq!(connections, 1);
}

#[test]
fn a_refused_connection_means_not_sent() {
    let (answers, _) = ask(Peer::Refuses, &["/"]);
    let error = answers[0].clone().unwrap_err();
    assert!(matches!(error, HttpError::NotSent { .. }));
    assert_eq!(error.class(), Class::Transient);
}

#[test]
fn a_connection_that_is_never_made_means_not_sent() {
    let (answers, _) = ask(Peer::NeverConnects, &["/"]);
    assert!(matches!(answers[0], Err(HttpError::NotSent { .. })), "{answers:?}");
}

#[test]
fn a_connection_that_breaks_is_never_taken_for_an_answer() {
    let (answers, connections) = ask(Peer::HangsUp, &["/"]);
    let error = answers[0].clone().unwrap_err();
    assert_ne!(error.class(), Class::Rejected, "{error}");
    assert!(connections <= 2, "{connections} connections for one request");
}

#[test]
fn a_response_beyond_the_bound_is_an_error() {
    let (answers, _) = ask(Peer::Serves, &["/big"]);
    assert_eq!(answers[0], Err(HttpError::TooLarge { service: "shop".to_owned() }));
}
