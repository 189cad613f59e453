//! Makes quotes from products: the only place where a price becomes a promise.

use std::collections::BTreeMap;

use amarra_core::Timestamp;

use super::config::Config;
use super::model::{Product, Status};
use crate::contract::catalog::{Quote, QuoteRequest};
use crate::contract::orders::Line;
use crate::contract::{ApiError, Money, QuoteId, Sku, UserId};

/// Sums the quantities of each product and checks the bounds.
///
/// # Errors
/// [`ApiError::Unprocessable`] names the bound.
pub fn wanted(request: &QuoteRequest, config: &Config) -> Result<BTreeMap<Sku, u32>, ApiError> {
    let refuse = |why: String| Err(ApiError::Unprocessable(why));
    if !(1..=config.quote_lines_max).contains(&request.lines.len()) {
        return refuse(format!("lines must be 1 to {}", config.quote_lines_max));
    }
    let mut sums = BTreeMap::new();
    for line in &request.lines {
        let sum: &mut u32 = sums.entry(line.sku.clone()).or_default();
        *sum = sum.saturating_add(line.qty);
        if line.qty == 0 || *sum > config.quote_qty_max {
            return refuse(format!("qty of {} must be 1 to {}", line.sku, config.quote_qty_max));
        }
    }
    Ok(sums)
}

/// Prices what is wanted from the products as they are.
///
/// # Errors
/// [`ApiError::Unprocessable`] for a product that is unknown or cannot be bought: the same for
/// both, so that drafts stay private.
pub fn price(
    (quote_id, user_id): (QuoteId, UserId),
    wanted: &BTreeMap<Sku, u32>,
    products: &[Option<Product>],
    now: Timestamp,
    config: &Config,
) -> Result<Quote, ApiError> {
    let refuse = |why: String| ApiError::Unprocessable(why);
    let mut total = Money::zero(config.currency);
    let mut lines = Vec::with_capacity(wanted.len());
    for ((sku, qty), product) in wanted.iter().zip(products) {
        let offered = product.as_ref().filter(|p| p.sku == *sku && p.status == Status::Published);
        let priced = offered.and_then(|product| product.price().map(|price| (product, price)));
        let (product, unit_price) =
            priced.ok_or_else(|| refuse(format!("{sku} cannot be bought")))?;
        let sum = unit_price.times(*qty).and_then(|amount| total.plus(amount));
        total = sum.map_err(|e| refuse(e.to_string()))?;
        lines.push(Line { sku: sku.clone(), name: product.name.clone(), unit_price, qty: *qty });
    }
    let expires_at = now.plus(config.quote_ttl);
    Ok(Quote { quote_id, user_id, lines, total, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::KeyConfig;
    use crate::catalog::model::Price;
    use crate::contract::Currency;
    use crate::contract::inventory::StockLine;
    use crate::contract::users::Secret;

    fn config() -> Config {
        let keys = KeyConfig { active: Secret::new(""), standby: None };
        Config { quote_lines_max: 3, quote_qty_max: 10, ..Config::new(keys) }
    }

    fn request(lines: &[(&str, u32)]) -> QuoteRequest {
        let line = |(sku, qty): &(&str, u32)| StockLine { sku: sku.parse().unwrap(), qty: *qty };
        QuoteRequest { lines: lines.iter().map(line).collect() }
    }

    fn product(sku: &str, minor: Option<i64>, status: Status) -> Option<Product> {
        let price = |minor| Price {
            amount: Money::new(minor, Currency::EUR),
            from: Timestamp::EPOCH,
            version: 2,
        };
        let prices = minor.map(price).into_iter().collect();
        Some(Product { sku: sku.parse().unwrap(), name: sku.into(), status, prices })
    }

    fn quote(lines: &[(&str, u32)], products: &[Option<Product>]) -> Result<Quote, ApiError> {
        let ids = (uuid::Uuid::nil().into(), uuid::Uuid::nil().into());
        price(ids, &wanted(&request(lines), &config())?, products, Timestamp::EPOCH, &config())
    }

    #[test]
    fn lines_of_one_product_are_summed_before_they_are_priced() {
        let products =
            [product("A", Some(5), Status::Published), product("B", Some(7), Status::Published)];
        let quote = quote(&[("B", 1), ("A", 2), ("B", 3)], &products).unwrap();
        let lines: Vec<_> = quote.lines.iter().map(|l| (l.sku.as_str(), l.qty)).collect();
        assert_eq!(lines, [("A", 2), ("B", 4)]);
        assert_eq!(quote.total.minor, 38);
        assert_eq!(quote.expires_at, Timestamp::EPOCH.plus(config().quote_ttl));
    }

    #[test]
    fn bounds_hold_for_the_sum_too() {
        let refused = |lines: &[(&str, u32)]| {
            let error = wanted(&request(lines), &config()).unwrap_err();
            assert_eq!(error.status(), 422, "{lines:?}");
        };
        refused(&[]);
        refused(&[("A", 1), ("B", 1), ("C", 1), ("D", 1)]);
        refused(&[("A", 0)]);
        refused(&[("A", 11)]);
        refused(&[("A", 6), ("A", 5)]);
        refused(&[("A", 10), ("A", u32::MAX)]);
    }

    #[test]
    fn what_cannot_be_bought_is_not_quoted() {
        let refused =
            |product| assert_eq!(quote(&[("A", 1)], &[product]).unwrap_err().status(), 422);
        refused(None);
        refused(product("A", Some(5), Status::Draft));
        refused(product("A", Some(5), Status::Discontinued));
        refused(product("A", None, Status::Published));
        refused(product("B", Some(5), Status::Published));
    }

    #[test]
    fn a_total_that_does_not_fit_is_refused() {
        let products = [product("A", Some(i64::MAX), Status::Published)];
        assert_eq!(quote(&[("A", 2)], &products).unwrap_err().status(), 422);
    }
}
