//! Read models of Inventory: stock levels and reservations, written with the change itself.

use amarra_core::{Timestamp, Version};
use amarra_store::{ReadModel, TxError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::model::StockItem;
use super::reservation::{Reservation, ReservationStatus};
use crate::contract::inventory::{Availability, CompensationCause, StockLine};
use crate::contract::{OrderId, ReservationId};

/// The view of stock levels, by product.
pub const STOCK: &str = "stock";
/// The view of reservations, by order.
pub const RESERVATIONS: &str = "reservations";

/// A reservation as the staff sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationView {
    /// The order.
    pub order_id: OrderId,
    /// The reservation, none when nothing was ever held.
    pub reservation_id: Option<ReservationId>,
    /// What is or was held, one line a product.
    pub lines: Vec<StockLine>,
    /// Where it stands.
    pub status: ReservationStatus,
    /// When the hold ends or ended by itself.
    pub expires_at: Timestamp,
    /// Why nothing is held any more.
    pub cause: Option<CompensationCause>,
    /// The version of the reservation.
    pub version: u64,
}

/// Returns what is left of a product.
#[must_use]
pub fn availability(item: &StockItem, version: Version) -> Availability {
    Availability { sku: item.sku.clone(), available: item.available(), version: version.get() }
}

/// Returns the reservation as the staff sees it.
#[must_use]
pub fn reservation(state: &Reservation, version: Version) -> ReservationView {
    ReservationView {
        order_id: state.order_id,
        reservation_id: state.reservation_id,
        lines: state.lines.clone(),
        status: state.status,
        expires_at: state.expires_at,
        cause: state.cause,
        version: version.get(),
    }
}

/// Reads a row, none when there is none.
///
/// # Errors
/// [`TxError::Corrupt`] when it does not decode, and any other [`TxError`].
pub(super) async fn read<T: DeserializeOwned>(
    views: &dyn ReadModel,
    view: &str,
    key: &str,
) -> Result<Option<T>, TxError> {
    let Some(row) = views.get(view, key).await? else { return Ok(None) };
    serde_json::from_slice(&row.body)
        .map(Some)
        .map_err(|e| TxError::Corrupt { what: format!("{view}/{key}"), why: e.to_string() })
}
