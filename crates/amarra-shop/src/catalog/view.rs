//! The view of products, folded from the events of Catalog and of stock.

use std::sync::Arc;

use amarra_core::codec::Message;
use amarra_core::{Codec, Envelope, Version};
use amarra_messaging::{Group, Incoming, Topic};
use amarra_store::read_model::ViewWrite;
use amarra_store::{Handler, HandlerError, Session, ViewName};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::contract::catalog::{PriceChanged, ProductDiscontinued, ProductPublished, ProductView};
use crate::contract::inventory::StockAdjusted;
use crate::contract::{Money, Sku, topics};

/// The view's name; its rows are keyed by SKU.
pub const PRODUCT: &str = "product";

/// Some products, and where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPage {
    /// The products that can be bought, ascending by SKU.
    pub products: Vec<ProductView>,
    /// What to give as `after` for the next page, none when this is the last. A page may be short,
    /// or empty, and still have one.
    pub next: Option<String>,
}

/// A row of the view, each part with the version it is true of: a late or repeated event of one
/// source never sets back what another one said, nor what it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProductRow {
    /// The name, none before the product was first published.
    pub name: Option<String>,
    /// The product's version of it.
    pub name_version: u64,
    /// Whether it can be bought.
    pub published: bool,
    /// The product's version of it.
    pub status_version: u64,
    /// The price, none before the first.
    pub price: Option<Money>,
    /// The product's version of it.
    pub price_version: u64,
    /// How many could be ordered, none before Inventory said so.
    pub available: Option<u32>,
    /// The stock item's version of it.
    pub stock_version: u64,
}

/// What an event changes in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It can be bought, under this name.
    Published(String),
    /// It can be bought no more.
    Discontinued,
    /// It has this price.
    Priced(Money),
    /// So many can be ordered.
    Stock(u32),
}

impl Change {
    /// Reads an event, none for one that says nothing about products.
    ///
    /// # Errors
    /// The codec's, for a known event that does not decode.
    pub fn of(envelope: &Envelope) -> Result<Option<(Sku, Self)>, amarra_core::CodecError> {
        let codec = Codec::new();
        Ok(Some(match envelope.kind.as_ref() {
            ProductPublished::KIND => {
                let event: ProductPublished = codec.decode(envelope)?;
                (event.sku, Self::Published(event.name))
            }
            ProductDiscontinued::KIND => {
                let event: ProductDiscontinued = codec.decode(envelope)?;
                (event.sku, Self::Discontinued)
            }
            PriceChanged::KIND => {
                let event: PriceChanged = codec.decode(envelope)?;
                (event.sku, Self::Priced(event.new))
            }
            StockAdjusted::KIND => {
                let event: StockAdjusted = codec.decode(envelope)?;
                (event.sku, Self::Stock(event.on_hand.saturating_sub(event.reserved)))
            }
            _ => return Ok(None),
        }))
    }
}

impl ProductRow {
    /// Folds in a change of version `version` of its source; none when it is stale.
    #[must_use]
    pub fn apply(&self, change: &Change, version: u64) -> Option<Self> {
        let mut next = self.clone();
        if let Change::Published(name) = change
            && version > self.name_version
        {
            (next.name, next.name_version) = (Some(name.clone()), version);
        }
        match change {
            Change::Published(_) | Change::Discontinued if version > self.status_version => {
                next.published = matches!(change, Change::Published(_));
                next.status_version = version;
            }
            Change::Priced(price) if version > self.price_version => {
                (next.price, next.price_version) = (Some(*price), version);
            }
            Change::Stock(left) if version > self.stock_version => {
                (next.available, next.stock_version) = (Some(*left), version);
            }
            _ => {}
        }
        (next != *self).then_some(next)
    }

    /// Returns the newest version of the product folded in, whatever the stock's is.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.status_version.max(self.price_version)
    }

    /// Shows the row, none while the product was never published.
    #[must_use]
    pub fn show(&self, sku: &Sku) -> Option<ProductView> {
        Some(ProductView {
            sku: sku.clone(),
            name: self.name.clone()?,
            price: self.price,
            published: self.published,
            available: self.available,
            version: self.position(),
        })
    }
}

/// Projects events into the view.
#[derive(Debug)]
pub(super) struct Projection {
    group: Group,
    topics: [Topic; 2],
}

impl Projection {
    pub(super) fn new() -> Self {
        let topics = [Topic::from(topics::CATALOG), Topic::from(topics::STOCK)];
        Self { group: Group::from("catalog-view"), topics }
    }
}

#[async_trait]
impl Handler for Projection {
    fn group(&self) -> &Group {
        &self.group
    }

    fn topics(&self) -> &[Topic] {
        &self.topics
    }

    fn views(&self, message: &Incoming) -> Vec<ViewName> {
        match Change::of(&message.envelope) {
            Ok(Some((sku, _))) => vec![(PRODUCT.into(), sku.as_str().into())],
            _ => Vec::new(),
        }
    }

    async fn handle(
        &self,
        session: &mut Session<'_>,
        message: &Incoming,
    ) -> Result<(), HandlerError> {
        let Some((sku, change)) = Change::of(&message.envelope)? else { return Ok(()) };
        let stored = session.unit().load_view(PRODUCT, sku.as_str()).await?;
        let row: ProductRow = match stored {
            None => ProductRow::default(),
            Some(row) => serde_json::from_slice(&row.body)
                .map_err(|e| HandlerError::Refused(format!("row {sku} is corrupt: {e}")))?,
        };
        let version = message.envelope.subject_version.get();
        let Some(next) = row.apply(&change, version) else { return Ok(()) };
        let body = serde_json::to_vec(&next)
            .map_err(|e| HandlerError::Refused(format!("row {sku} does not encode: {e}")))?;
        let write = ViewWrite {
            view: PRODUCT.into(),
            key: Arc::from(sku.as_str()),
            position: Version::new(next.position()),
            body: Some(body.into()),
        };
        session.unit().write_view(write).await?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::contract::Currency;
    use proptest::prelude::*;

    fn euro(minor: i64) -> Money {
        Money::new(minor, Currency::EUR)
    }

    fn fold<'a>(events: impl IntoIterator<Item = &'a (Change, u64)>) -> ProductRow {
        events.into_iter().fold(ProductRow::default(), |row, (change, version)| {
            row.apply(change, *version).unwrap_or(row)
        })
    }

    #[test]
    fn a_late_price_does_not_regress_and_a_late_status_is_not_lost() {
        let newer = (Change::Priced(euro(7)), 5);
        let older = (Change::Priced(euro(5)), 2);
        let published = (Change::Published("A".into()), 3);
        let row = fold([&newer, &published, &older]);
        assert_eq!((row.price, row.price_version), (Some(euro(7)), 5));
        assert!(row.published, "version 3 of the status is news after version 5 of the price");
        assert_eq!(row.position(), 5);
    }

    #[test]
    fn stock_versions_are_apart_from_product_versions() {
        let row = fold([&(Change::Stock(9), 40), &(Change::Published("A".into()), 1)]);
        assert!(row.published);
        assert_eq!(row.position(), 1);
        assert_eq!(row.apply(&Change::Stock(3), 40), None);
        assert_eq!(row.apply(&Change::Stock(3), 39), None);
        assert_eq!(row.apply(&Change::Stock(3), 41).unwrap().available, Some(3));
    }

    #[test]
    fn a_product_shows_once_it_was_published_and_stays() {
        let sku: Sku = "A".parse().unwrap();
        let draft = fold([&(Change::Priced(euro(1)), 2), &(Change::Stock(1), 1)]);
        assert_eq!(draft.show(&sku), None);
        let gone = draft.apply(&Change::Published("A".into()), 3).unwrap();
        let gone = gone.apply(&Change::Discontinued, 4).unwrap();
        let shown = gone.show(&sku).unwrap();
        assert!(!shown.published && shown.version == 4);
    }

    fn changes() -> impl Strategy<Value = Vec<(Change, u64)>> {
        let change = prop_oneof![
            Just(Change::Published("A".into())),
            Just(Change::Discontinued),
            (1_i64..100).prop_map(|minor| Change::Priced(euro(minor))),
            (0_u32..50).prop_map(Change::Stock),
        ];
        // Versions are unique within a source: the product's, and the stock item's.
        proptest::collection::vec(change, 0..12).prop_map(|changes| {
            let (mut product, mut stock) = (0, 0);
            let version = |change: &Change| {
                let counter =
                    if matches!(change, Change::Stock(_)) { &mut stock } else { &mut product };
                *counter += 1;
                *counter
            };
            let versions: Vec<u64> = changes.iter().map(version).collect();
            changes.into_iter().zip(versions).collect()
        })
    }

    proptest! {
        /// Any order and any number of repetitions fold to the same row.
        #[test]
        fn the_fold_ignores_order_and_repetition(
            (events, picks) in changes().prop_flat_map(|events| {
                let count = events.len();
                let picks = proptest::collection::vec(0..count.max(1), 0..30);
                (Just(events).prop_shuffle(), picks)
            }),
        ) {
            let mut in_order = events.clone();
            in_order.sort_by_key(|(_, version)| *version);
            let repeated = picks.iter().filter_map(|pick| events.get(*pick));
            prop_assert_eq!(fold(repeated.chain(&events)), fold(&in_order));
        }
    }
}
