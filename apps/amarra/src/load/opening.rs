//! Opens the shop before the first order: products, prices, stock and accounts.

use std::time::Duration;

use amarra_core::Environment;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::LoadArgs;
use super::front::{Ask, Front};

/// Products and prices in minor units, the most wanted first.
const PRODUCTS: &[(&str, i64)] = &[
    ("LOAD-1", 1999),
    ("LOAD-2", 450),
    ("LOAD-3", 1250),
    ("LOAD-4", 3999),
    ("LOAD-5", 899),
    ("LOAD-6", 2500),
];

/// Accounts that are opened at once: each costs a password hash on either side.
const AT_ONCE: usize = 4;

/// Opens the shop and returns what the customers need; opening it again adds stock.
///
/// # Errors
/// The step that did not work, with its answer.
pub(super) async fn open(args: &LoadArgs, env: Environment) -> Result<Front, String> {
    let file = &args.admin_password_file;
    let password = std::fs::read_to_string(file)
        .map_err(|e| format!("{}: {e}; it must hold the password", file.display()))?;
    let patience = Duration::from_secs(args.patience_s);
    let mut front = Front::new(env, &args.gateway, args.in_flight_max)?;
    front.staff = login(&front, &args.admin, password.trim(), patience).await?;
    for (sku, price) in PRODUCTS {
        product(&front, sku, *price, args).await?;
        front.skus.push((*sku).to_owned());
    }
    let accounts = futures_util::stream::iter(0..args.customers).map(|number| {
        let front = &front;
        async move { account(front, number, args).await }
    });
    let tokens: Vec<String> = accounts.buffered(AT_ONCE).try_collect().await?;
    front.tokens = tokens;
    Ok(front)
}

async fn product(front: &Front, sku: &str, price: i64, args: &LoadArgs) -> Result<(), String> {
    let (staff, patience) = (front.staff.as_str(), Duration::from_secs(args.patience_s));
    let body = json!({"sku": sku, "name": format!("Product {sku}")});
    let create = Ask::send("POST", "/v1/products", staff, body).keyed(format!("create-{sku}"));
    let product = front.expect(&create, 201, patience).await?;
    let version = product.get("version").and_then(Value::as_u64).unwrap_or(1);
    let body = json!({"price": {"minor": price, "currency": "EUR"}, "expected_version": version});
    let path = format!("/v1/products/{sku}/price");
    let change = Ask::send("PUT", path, staff, body).keyed(format!("price-{sku}"));
    front.expect(&change, 200, patience).await?;
    let path = format!("/v1/products/{sku}/publish");
    let publish = Ask::send("POST", path, staff, json!({})).keyed(format!("publish-{sku}"));
    front.expect(&publish, 200, patience).await?;
    let body = json!({"delta": args.stock, "reason": "load"});
    let path = format!("/v1/stock/{sku}/receive");
    let key = format!("stock-{sku}-{}", args.seed);
    let receive = Ask::send("POST", path, staff, body).keyed(key);
    front.expect(&receive, 200, patience).await.map(drop)
}

async fn account(front: &Front, number: u32, args: &LoadArgs) -> Result<String, String> {
    let patience = Duration::from_secs(args.patience_s);
    let (email, password) =
        (format!("load{number}@shop.test"), format!("load of {number}, {number}!"));
    let body = json!({"email": email, "password": password});
    let register = Ask::guest("POST", "/v1/users", body).keyed(format!("register-load-{number}"));
    front.expect(&register, 201, patience).await?;
    let token = login(front, &email, &password, patience).await?;
    // Some customers want more than mail, so that the channels can be told apart.
    if number.is_multiple_of(3) {
        let body = json!({"email": true, "sms": number.is_multiple_of(2), "push": true});
        let wish = Ask::send("PUT", "/v1/preferences", &token, body);
        front.expect(&wish.keyed(format!("wish-load-{number}")), 200, patience).await?;
    }
    Ok(token)
}

async fn login(
    front: &Front,
    email: &str,
    password: &str,
    patience: Duration,
) -> Result<String, String> {
    let body = json!({"email": email, "password": password});
    let tokens = front.expect(&Ask::guest("POST", "/v1/sessions", body), 200, patience).await?;
    let token = tokens.get("access_token").and_then(Value::as_str);
    token.map(str::to_owned).ok_or_else(|| "the login answered no token".to_owned())
}
