//! Messages and request shapes of Catalog.

use amarra_core::{Timestamp, codec::Message};
use serde::{Deserialize, Serialize};

use super::ids::{QuoteId, Sku, UserId};
use super::inventory::StockLine;
use super::money::Money;
use super::orders::Line;

/// A product can be bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPublished {
    /// The product.
    pub sku: Sku,
    /// Its name.
    pub name: String,
}

/// A product can no longer be bought; orders already placed are honoured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDiscontinued {
    /// The product.
    pub sku: Sku,
}

/// A product has another price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceChanged {
    /// The product.
    pub sku: Sku,
    /// The price before, none at first.
    pub old: Option<Money>,
    /// The price from now on.
    pub new: Money,
}

impl Message for ProductPublished {
    const KIND: &'static str = "ProductPublished";
}

impl Message for ProductDiscontinued {
    const KIND: &'static str = "ProductDiscontinued";
}

impl Message for PriceChanged {
    const KIND: &'static str = "PriceChanged";
}

/// Asks to create a product as a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateProduct {
    /// Its id.
    pub sku: Sku,
    /// Its name, 1 to 120 characters.
    pub name: String,
}

/// Asks to change a price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangePrice {
    /// The new price, above zero.
    pub price: Money,
    /// The product's version this change was decided on; another one is a conflict.
    pub expected_version: u64,
}

/// A product as its readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductView {
    /// Its id.
    pub sku: Sku,
    /// Its name.
    pub name: String,
    /// Its price, none before the first.
    pub price: Option<Money>,
    /// Whether it can be bought.
    pub published: bool,
    /// How many could be ordered when Inventory last said so, none before it did.
    pub available: Option<u32>,
    /// The version of the product.
    pub version: u64,
}

/// Asks for the price of some products.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoteRequest {
    /// What is wanted: 1 to 20 lines.
    pub lines: Vec<StockLine>,
}

/// A price that holds until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// Its id.
    pub quote_id: QuoteId,
    /// For whom.
    pub user_id: UserId,
    /// What it covers.
    pub lines: Vec<Line>,
    /// The sum.
    pub total: Money,
    /// Until when it holds, by the clock of Catalog's database.
    pub expires_at: Timestamp,
}

/// A quote with the signature of Catalog over its exact JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedQuote {
    /// The quote as compact JSON text.
    pub quote: String,
    /// The signature, base64url without padding.
    pub signature: String,
    /// The signing key's id.
    pub kid: String,
}
