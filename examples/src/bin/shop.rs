//! amarra-shop: six services in one process; the first order is confirmed, the second finds the
//! shelf empty and is rejected.
#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::sync::Arc;
use std::time::Duration;

use amarra_core::TraceParent;
use amarra_memory::Hooks;
use amarra_shop::auth::{KeyConfig, Purpose, QuoteVerifier};
use amarra_shop::catalog::{self, Catalog};
use amarra_shop::contract::catalog::{ChangePrice, CreateProduct, QuoteRequest};
use amarra_shop::contract::inventory::{AdjustStock, StockLine};
use amarra_shop::contract::orders::PlaceOrder;
use amarra_shop::contract::users::{Register, Secret};
use amarra_shop::contract::{Currency, Money, Role, Sku, topics};
use amarra_shop::inventory::{self, Inventory};
use amarra_shop::notifications::{self, Notifications};
use amarra_shop::orders::{self, Orders};
use amarra_shop::payments::{self, Payments};
use amarra_shop::provider::{self, Provider};
use amarra_shop::users::{self, Guest, Users};
use examples::neighbours::{Bank, Post};
use examples::{Fallible, Process, Service};

struct Shop {
    desk: Service,
    users: Arc<Users>,
    catalog: Arc<Catalog>,
    inventory: Arc<Inventory>,
    orders: Arc<Orders>,
    post: Arc<Post>,
}

/// Keys that sign nothing outside an example.
fn keys(letter: &str) -> KeyConfig {
    KeyConfig { active: Secret::new(letter.repeat(42) + "A"), standby: None }
}

/// Makes a service over its own database and starts what drives it.
macro_rules! serve {
    ($process:ident, $Service:ident, $name:literal, |$ports:ident| $make:expr) => {{
        let service = $process.service($name)?;
        let $ports = service.ports();
        let served = $make?;
        $process.drive(&service, $Service::SOURCE, served.handlers(), served.due_handlers())?;
        served
    }};
}

fn open(process: &Process) -> Fallible<Shop> {
    let (desk, post) = (process.service("desk")?, Arc::new(Post::default()));
    let bank = Arc::new(Bank::new(Provider::new(provider::Config::default())?, desk.env.clone()));
    let users =
        users::Config { auto_verify: true, ..users::Config::new(keys("A"), keys("C").active) };
    let quotes = Arc::new(QuoteVerifier::new(keys("B").key_set(Purpose::Quote)?));
    let payments = payments::Config::new(Secret::new("the bank and the shop share this secret"));
    let (catalog, inventory) = (catalog::Config::new(keys("B")), inventory::Config::default());
    let (orders, mail) = (orders::Config::default(), notifications::Config::default());
    serve!(process, Payments, "payments", |ports| Payments::new(ports, bank, payments));
    serve!(process, Notifications, "mail", |ports| Notifications::new(ports, post.clone(), mail));
    Ok(Shop {
        users: serve!(process, Users, "users", |ports| Users::new(ports, users, None)),
        catalog: serve!(process, Catalog, "catalog", |ports| Catalog::new(ports, catalog)),
        inventory: serve!(process, Inventory, "inventory", |p| Inventory::new(p, inventory)),
        orders: serve!(process, Orders, "orders", |ports| Orders::new(ports, quotes, orders)),
        desk,
        post,
    })
}

impl Shop {
    /// Puts one pot of tea on the shelf.
    async fn stock(&self, sku: &Sku) -> Fallible {
        let staff = |key| self.desk.caller(self.desk.env.new_id(), Role::Admin, key);
        let product = CreateProduct { sku: sku.clone(), name: "A pot of tea".into() };
        let created = self.catalog.create(&staff("create"), product).await?;
        let price = Money::new(450, Currency::EUR);
        let change = ChangePrice { price, expected_version: created.version };
        self.catalog.change_price(&staff("price"), sku, change).await?;
        self.catalog.publish(&staff("publish"), sku).await?;
        let delivery = AdjustStock { delta: 1, reason: "opening".into() };
        let shelf = self.inventory.receive(&staff("receive"), sku, delivery).await?;
        println!("{} of {sku} on the shelf, at {price}", shelf.available);
        Ok(())
    }

    /// Registers a customer who orders one pot, and tells what became of it.
    async fn order(&self, name: &str, sku: &Sku) -> Fallible {
        let traceparent = TraceParent::root(self.desk.env.entropy.as_ref());
        let guest = Guest { traceparent, idempotency_key: None };
        let (email, password) = (format!("{name}@example.com"), Secret::new("a long password"));
        let user = self.users.register(&guest, Register { email, password }).await?.user_id;
        let customer = self.desk.caller(user, Role::Customer, "order");
        let lines = vec![StockLine { sku: sku.clone(), qty: 1 }];
        let quote = self.catalog.quote(&customer, &QuoteRequest { lines }).await?;
        let request = PlaceOrder { quote, payment_token: "tok_ok".into() };
        let placed = self.orders.place(&customer, request).await?;
        // A minute by the clock moved by hand.
        self.desk.env.sleep(Duration::from_secs(60)).await;
        let order = self.orders.get(&customer, placed.order_id, None).await?;
        println!("{name}: {:?}, {:?}", order.status, order.end_reason);
        let timeline = self.orders.timeline(&customer, placed.order_id).await?;
        timeline.iter().for_each(|entry| println!("    {}", entry.event));
        Ok(())
    }
}

fn main() -> Fallible {
    let process = Process::new(topics::ALL, Hooks::default())?;
    let (shop, sku) = (open(&process)?, "TEA-1".parse::<Sku>()?);
    process.block_on(async {
        shop.stock(&sku).await?;
        shop.order("ada", &sku).await?;
        shop.order("bob", &sku).await
    })?;
    shop.post.told().iter().for_each(|line| println!("{line}"));
    Ok(())
}
