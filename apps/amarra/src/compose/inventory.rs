//! Puts Inventory together.

use amarra_http::services;
use amarra_shop::inventory::{self, Inventory};
use axum::Router;

use super::Host;
use crate::refusal::{Failure, Refuse};

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let inventory = Inventory::new(host.ports()?, inventory::Config::default()).refuse()?;
    host.drive(Inventory::SOURCE, inventory.handlers(), inventory.due_handlers()).await?;
    Ok(services::inventory::router(&host.api(inventory)?))
}
