//! Real sockets on loopback: serving, draining, bounds, and who may talk to whom.

mod drain;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_http::net::{ClientTls, HttpServer, ListenConfig, ServerTls, TcpConnect, TokioSpawn};
use amarra_http::{Config, HttpClient};
use amarra_messaging::Shutdown;
use amarra_messaging::shutdown::ShutdownHandle;
use axum::Router;
use bytes::Bytes;
use http::Request;

/// Runs `work` on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn loopback() -> ListenConfig {
    ListenConfig::new(([127, 0, 0, 1], 0).into())
}

/// A server under way.
struct Running {
    address: String,
    stop: ShutdownHandle,
    done: tokio::task::JoinHandle<()>,
}

async fn start(config: ListenConfig, tls: Option<ServerTls>, router: Router) -> Running {
    let server = HttpServer::bind(config, tls).await.unwrap();
    let address = server.address().to_string();
    let (stop, shutdown) = Shutdown::new();
    Running { address, stop, done: tokio::spawn(server.serve(router, shutdown)) }
}

fn client(service: &str, address: &str, tls: Option<ClientTls>) -> HttpClient {
    let services = BTreeMap::from([(service.to_owned(), vec![address.to_owned()])]);
    let connect = TcpConnect::new(services, tls).unwrap();
    let env = amarra_tokio::environment();
    HttpClient::new(Arc::new(connect), Arc::new(TokioSpawn), env, Config::default())
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}
