//! HTTP APIs of the services and the gateway on axum and hyper.
