//! Connections between services of one process: no socket, the same HTTP.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use amarra_http::{Connect, Io, serve_connection};
use async_trait::async_trait;
use axum::Router;

/// Bytes on their way in one direction of a connection.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connects to the routers of this process by the name of their service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    routers: Arc<Mutex<BTreeMap<&'static str, Router>>>,
}

impl Local {
    /// Opens a service to the others.
    pub(crate) fn open(&self, service: &'static str, router: Router) {
        let mut routers = self.routers.lock().unwrap_or_else(PoisonError::into_inner);
        routers.insert(service, router);
    }
}

#[async_trait]
impl Connect for Local {
    async fn connect(&self, service: &str) -> io::Result<Box<dyn Io>> {
        let found = {
            let routers = self.routers.lock().unwrap_or_else(PoisonError::into_inner);
            routers.get(service).cloned()
        };
        let why =
            || io::Error::new(io::ErrorKind::NotFound, format!("{service} does not run here"));
        let router = found.ok_or_else(why)?;
        let (client, server) = tokio::io::duplex(BUFFER_BYTES);
        tokio::spawn(async move {
            // A connection that breaks is told to whoever waits for its answer.
            let _ = serve_connection(Box::new(server), router).await;
        });
        Ok(Box::new(client))
    }
}
