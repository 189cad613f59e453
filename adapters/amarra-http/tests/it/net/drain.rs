//! A server answers what is in flight before it ends, and keeps its bounds.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify};
use amarra_http::Peer;
use amarra_http::net::{HttpServer, ListenConfig, NetError, TcpConnect};
use axum::Router;
use axum::extract::Request;
use axum::routing::get as on_get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{block_on, client, get, loopback, start};

#[test]
fn a_request_in_flight_is_answered_before_the_end() {
    block_on(async {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (inside, may_leave) = (Arc::clone(&entered), Arc::clone(&leave));
        let slow = move || async move {
            inside.notify_one();
            may_leave.notified().await;
            "done"
        };
        let router = Router::new().route("/", on_get(slow));
        let server = start(loopback(), None, router).await;
        let client = Arc::new(client("s", &server.address, None));
        let asking = Arc::clone(&client);
        let answer = tokio::spawn(async move { asking.send("s", get("/")).await });
        entered.notified().await;
        server.stop.request();
        leave.notify_one();
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.body().as_ref(), b"done");
        server.done.await.unwrap();
        let late = client.send("s", get("/")).await.unwrap_err();
        assert_eq!(late.class(), Class::Transient, "{late}");
    });
}

#[test]
fn idle_connections_end_with_the_server() {
    block_on(async {
        let server = start(loopback(), None, Router::new().route("/", on_get(|| async {}))).await;
        let mut idle = TcpStream::connect(&server.address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: s\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        server.stop.request();
        server.done.await.unwrap();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
    });
}

#[test]
fn a_head_that_never_ends_closes_the_connection() {
    block_on(async {
        let config = ListenConfig { head_timeout: Duration::from_millis(50), ..loopback() };
        let server = start(config, None, Router::new()).await;
        let mut slow = TcpStream::connect(&server.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let mut rest = Vec::new();
        // It returns at all: the server hung up.
        slow.read_to_end(&mut rest).await.unwrap();
    });
}

#[test]
fn connections_beyond_the_bound_wait_for_room() {
    block_on(async {
        let config = ListenConfig { connections_max: 1, ..loopback() };
        let server = start(config, None, Router::new().route("/", on_get(|| async {}))).await;
        let ask = b"GET / HTTP/1.1\r\nhost: s\r\n\r\n";
        let mut first = TcpStream::connect(&server.address).await.unwrap();
        first.write_all(ask).await.unwrap();
        first.read_exact(&mut [0; 12]).await.unwrap();
        let mut second = TcpStream::connect(&server.address).await.unwrap();
        second.write_all(ask).await.unwrap();
        let mut answered = [0; 12];
        let early = second.read_exact(&mut answered);
        assert!(tokio::time::timeout(Duration::from_millis(50), early).await.is_err());
        drop(first);
        second.read_exact(&mut answered).await.unwrap();
        assert_eq!(&answered, b"HTTP/1.1 200");
    });
}

#[test]
fn handlers_see_the_address_of_their_peer() {
    block_on(async {
        let tell = |request: Request| async move {
            let peer = request.extensions().get::<Peer>().cloned();
            peer.map(|p| format!("{} {:?}", p.address.ip(), p.identity)).unwrap_or_default()
        };
        let server = start(loopback(), None, Router::new().route("/", on_get(tell))).await;
        let answer = client("s", &server.address, None).send("s", get("/")).await.unwrap();
        assert_eq!(answer.body().as_ref(), b"127.0.0.1 None");
    });
}

#[test]
fn plain_http_stays_on_this_machine_unless_told() {
    block_on(async {
        let open = ListenConfig::new(([0, 0, 0, 0], 0).into());
        let refused = HttpServer::bind(open, None).await.unwrap_err();
        assert!(matches!(refused, NetError::PlainOffLoopback { .. }), "{refused}");
        let told = ListenConfig { plain_off_loopback: true, ..open };
        HttpServer::bind(told, None).await.unwrap();
    });
}

#[test]
fn an_address_in_use_says_so() {
    block_on(async {
        let first = HttpServer::bind(loopback(), None).await.unwrap();
        let again = HttpServer::bind(ListenConfig::new(first.address()), None).await.unwrap_err();
        assert!(again.to_string().contains("cannot listen on"), "{again}");
    });
}

#[test]
fn a_bound_of_zero_and_a_bad_address_are_refused_by_name() {
    let zero = ListenConfig { connections_max: 0, ..loopback() };
    assert!(zero.validate().unwrap_err().to_string().contains("connections_max"));
    let services = [("orders".to_owned(), vec!["nowhere".to_owned()])].into();
    let refused = TcpConnect::new(services, None).unwrap_err();
    assert!(refused.to_string().contains("orders"), "{refused}");
}
