//! Applies movements to stock items within a session: item, ledger, view and event together.

use amarra_core::{AggregateId, PartitionKey, Version};
use amarra_store::{Aggregate, Draft, HandlerError, Loaded, Session};

use super::model::{LedgerEntry, Movement, StockError, StockItem};
use super::view;
use crate::contract::Sku;
use crate::contract::inventory::StockAdjusted;
use crate::contract::topics;

/// Names the stock items of some products, in the order they are locked in.
pub(super) fn ids<'a>(skus: impl IntoIterator<Item = &'a Sku>) -> Vec<AggregateId> {
    let mut ids: Vec<_> = skus.into_iter().map(|s| StockItem::aggregate_id(s.as_str())).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Loads a product's stock, empty when it never had any.
pub(super) async fn load(
    session: &mut Session<'_>,
    sku: &Sku,
) -> Result<(Loaded<StockItem>, StockItem), HandlerError> {
    let loaded = session.load::<StockItem>(sku.as_str()).await?;
    let item = loaded.state.clone().unwrap_or_else(|| StockItem::empty(sku.clone()));
    Ok((loaded, item))
}

/// Applies one movement: saves the item and its ledger entry, and tells of the new level.
///
/// The inner error is a refusal of the model; nothing was changed then.
pub(super) async fn apply(
    session: &mut Session<'_>,
    sku: &Sku,
    movement: Movement,
    reference: &str,
) -> Result<Result<(StockItem, Version), StockError>, HandlerError> {
    let (mut loaded, item) = load(session, sku).await?;
    let next = match item.apply(movement) {
        Ok(next) => next,
        Err(refused) => return Ok(Err(refused)),
    };
    let version = session.save(&mut loaded, next.clone(), movement.action()).await?;
    record(session, (sku, version), movement, reference).await?;
    let row = view::availability(&next, version);
    session.write_view((view::STOCK, sku.as_str()), version, &row).await?;
    let message =
        StockAdjusted { sku: sku.clone(), on_hand: next.on_hand, reserved: next.reserved };
    let draft = Draft {
        topic: topics::STOCK,
        key: PartitionKey::new(sku.as_str()),
        subject: &loaded.id,
        version,
        message: &message,
    };
    session.emit(draft).await?;
    Ok(Ok((next, version)))
}

/// Appends to the ledger. The item is locked, so that nobody else can write this version's entry;
/// creating it a second time would be a conflict.
async fn record(
    session: &mut Session<'_>,
    (sku, version): (&Sku, Version),
    movement: Movement,
    reference: &str,
) -> Result<(), HandlerError> {
    let (delta_on_hand, delta_reserved) = movement.deltas();
    let entry = LedgerEntry {
        sku: sku.clone(),
        version: version.get(),
        delta_on_hand,
        delta_reserved,
        cause: movement.cause(),
        reference: reference.to_owned(),
    };
    let id = LedgerEntry::aggregate_id(&LedgerEntry::id_of(sku, version.get()));
    let mut fresh = Loaded { id, version: Version::ABSENT, state: None };
    session.save(&mut fresh, entry, "record").await?;
    Ok(())
}
