//! Opens the shop before the first order: products, prices, stock and accounts.

use std::time::Duration;

use amarra_core::Environment;
use serde_json::{Value, json};

use super::http::{Ask, Shopfront};
use super::{CUSTOMERS, newcomer};
use crate::node::ADMIN;
use crate::node::mailbox::Mailbox;

/// Products and how many of each there are; the most wanted is the scarcest.
const PRODUCTS: &[(&str, i64, i64)] = &[
    ("HOT-1", 1999, 28),
    ("TEA-2", 450, 40),
    ("CUP-3", 1250, 60),
    ("POT-4", 3999, 60),
    ("MUG-5", 899, 90),
    ("BAG-6", 2500, 120),
];

/// Simulated time within which each step of the opening has to work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the shop and returns what the customers need.
///
/// # Errors
/// The step that did not work, with its answer.
pub(crate) async fn open(env: Environment, mailbox: &Mailbox) -> Result<Shopfront, String> {
    let mut front = Shopfront::new(env);
    front.staff = newcomer::login(&front, ADMIN.0, ADMIN.1).await?;
    for (sku, price, stock) in PRODUCTS {
        stock_product(&front, sku, *price, *stock).await?;
        front.skus.push((*sku).to_owned());
    }
    for number in 0..CUSTOMERS {
        let token = newcomer::join(&front, mailbox, &format!("c{number}@shop.test")).await?;
        // Some customers want more than mail: three channels have to be told apart.
        if number % 3 == 0 {
            let body = json!({"email": true, "sms": number % 2 == 0, "push": true});
            let wish = Ask::send("PUT", "/v1/preferences", &token, body);
            expect(&front, &wish.keyed(format!("wish-{number}")), 200).await?;
        }
        front.tokens.push(token);
    }
    Ok(front)
}

async fn stock_product(front: &Shopfront, sku: &str, price: i64, stock: i64) -> Result<(), String> {
    let staff = front.staff.as_str();
    let body = json!({"sku": sku, "name": format!("Product {sku}")});
    let create = Ask::send("POST", "/v1/products", staff, body).keyed(format!("create-{sku}"));
    let product = expect(front, &create, 201).await?;
    let version = product.get("version").and_then(Value::as_u64).unwrap_or(1);
    let body = json!({"price": {"minor": price, "currency": "EUR"}, "expected_version": version});
    let path = format!("/v1/products/{sku}/price");
    let change = Ask::send("PUT", path, staff, body).keyed(format!("price-{sku}"));
    expect(front, &change, 200).await?;
    let path = format!("/v1/products/{sku}/publish");
    let publish = Ask::send("POST", path, staff, json!({})).keyed(format!("publish-{sku}"));
    expect(front, &publish, 200).await?;
    let body = json!({"delta": stock, "reason": "opening"});
    let path = format!("/v1/stock/{sku}/receive");
    let receive = Ask::send("POST", path, staff, body).keyed(format!("stock-{sku}"));
    expect(front, &receive, 200).await.map(drop)
}

async fn expect(front: &Shopfront, ask: &Ask, status: u16) -> Result<Value, String> {
    let answer = front.until_answered(ask, PATIENCE).await;
    if answer.0 == status {
        return Ok(answer.1);
    }
    Err(format!("{} {} was answered {} {}", ask.method, ask.path, answer.0, answer.1))
}
