//! Puts Catalog together.

use amarra_http::services;
use amarra_shop::catalog::{self, Catalog};
use axum::Router;

use super::Host;
use crate::refusal::{Failure, Refuse};

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let cx = host.cx;
    let keys = cx.seeds("keys.quote_seed", cx.config.keys.quote_seed.as_ref())?;
    let catalog = Catalog::new(host.ports()?, catalog::Config::new(keys)).refuse()?;
    host.drive(Catalog::SOURCE, catalog.handlers(), catalog.due_handlers()).await?;
    Ok(services::catalog::router(&host.api(catalog)?))
}
