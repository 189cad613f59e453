//! Serves one accepted connection.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

use crate::client::Io;

/// Serves requests of one connection until the peer closes it.
///
/// # Errors
/// What hyper says of a broken connection; there is nothing to do about it.
///
/// # Cancellation
/// A dropped future closes the connection; a request in flight gets no answer.
pub async fn serve_connection(io: Box<dyn Io>, router: Router) -> Result<(), hyper::Error> {
    http1::Builder::new().serve_connection(TokioIo::new(io), TowerToHyperService::new(router)).await
}
