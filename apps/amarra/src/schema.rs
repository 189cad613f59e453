//! The typed tables of each service's views, and the migrations that make them.

use std::collections::BTreeMap;

use amarra_postgres::Migrations;
use amarra_shop::{catalog, inventory, orders, payments};

use crate::name::Name;

/// A view's own table: columns generated from its rows, for whoever reports on them.
struct Table {
    view: &'static str,
    name: &'static str,
    /// Column, type and expression over `json`.
    columns: &'static [(&'static str, &'static str, &'static str)],
    /// Columns that are indexed.
    indexed: &'static [&'static str],
}

/// The version of a service's first migration.
const FIRST: i64 = 1000;

const PRODUCTS: Table = Table {
    view: catalog::view::PRODUCT,
    name: "product_view",
    columns: &[
        ("name", "text", "json ->> 'name'"),
        ("published", "boolean", "(json ->> 'published')::boolean"),
        ("price_minor", "bigint", "(json -> 'price' ->> 'minor')::bigint"),
        ("available", "bigint", "(json ->> 'available')::bigint"),
    ],
    indexed: &[],
};
const ORDERS: Table = Table {
    view: orders::ORDER,
    name: "order_view",
    columns: &[
        ("user_id", "text", "json ->> 'user_id'"),
        ("status", "text", "json ->> 'status'"),
        ("total_minor", "bigint", "(json -> 'total' ->> 'minor')::bigint"),
        ("currency", "text", "json -> 'total' ->> 'currency'"),
        ("placed_at_micros", "bigint", "(json ->> 'placed_at')::bigint"),
        ("end_reason", "text", "json ->> 'end_reason'"),
    ],
    indexed: &["status"],
};
const ORDERS_BY_USER: Table = Table {
    view: orders::BY_USER,
    name: "orders_by_user_view",
    columns: &[("status", "text", "json ->> 'status'")],
    indexed: &[],
};
const TIMELINE: Table = Table {
    view: orders::TIMELINE,
    name: "timeline_view",
    columns: &[
        ("event", "text", "json ->> 'event'"),
        ("at_micros", "bigint", "(json ->> 'at')::bigint"),
        ("actor", "text", "json ->> 'actor'"),
    ],
    indexed: &[],
};
const STOCK: Table = Table {
    view: inventory::view::STOCK,
    name: "stock_view",
    columns: &[("available", "bigint", "(json ->> 'available')::bigint")],
    indexed: &[],
};
const RESERVATIONS: Table = Table {
    view: inventory::view::RESERVATIONS,
    name: "reservation_view",
    columns: &[
        ("status", "text", "json ->> 'status'"),
        ("expires_at_micros", "bigint", "(json ->> 'expires_at')::bigint"),
    ],
    indexed: &["status"],
};
const PAYMENTS: Table = Table {
    view: payments::view::PAYMENTS,
    name: "payment_view",
    columns: &[
        ("status", "text", "json ->> 'status'"),
        ("authorized_minor", "bigint", "(json ->> 'authorized')::bigint"),
        ("captured_minor", "bigint", "(json ->> 'captured')::bigint"),
        ("refunded_minor", "bigint", "(json ->> 'refunded')::bigint"),
        ("unresolved", "bigint", "(json ->> 'unresolved')::bigint"),
    ],
    indexed: &["status"],
};
const JOURNAL: Table = Table {
    view: payments::view::JOURNAL,
    name: "journal_view",
    columns: &[
        ("order_id", "text", "json ->> 'order_id'"),
        ("amount_minor", "bigint", "(json -> 'amount' ->> 'minor')::bigint"),
        ("currency", "text", "json -> 'amount' ->> 'currency'"),
        ("at_micros", "bigint", "(json ->> 'at')::bigint"),
    ],
    indexed: &[],
};
const NOTIFICATIONS: Table = Table {
    view: "notifications",
    name: "notification_view",
    columns: &[
        ("state", "text", "json ->> 'state'"),
        ("channel", "text", "json ->> 'channel'"),
        ("status", "text", "json ->> 'status'"),
    ],
    indexed: &["status"],
};

/// Lists a service's tables; a new one goes to the end, since the order is that of the migrations.
const fn tables(service: Name) -> &'static [Table] {
    match service {
        Name::Catalog => &[PRODUCTS],
        Name::Orders => &[ORDERS, ORDERS_BY_USER, TIMELINE],
        Name::Inventory => &[STOCK, RESERVATIONS],
        Name::Payments => &[PAYMENTS, JOURNAL],
        Name::Notifications => &[NOTIFICATIONS],
        Name::Users | Name::Gateway | Name::Provider => &[],
    }
}

impl Table {
    fn sql(&self) -> String {
        let column = |(name, kind, from): &(&str, &str, &str)| {
            format!(",\n    {name} {kind} GENERATED ALWAYS AS ({from}) STORED")
        };
        let columns: String = self.columns.iter().map(column).collect();
        let name = self.name;
        let index = |column: &&str| format!(";\nCREATE INDEX {name}_{column} ON {name} ({column})");
        let indexes: String = self.indexed.iter().map(index).collect();
        format!(
            "CREATE TABLE {name} (\n    key text COLLATE \"C\" PRIMARY KEY,\n    \
             position bigint NOT NULL,\n    body bytea NOT NULL,\n    \
             json jsonb NOT NULL{columns}\n){indexes}"
        )
    }
}

/// Returns a service's migrations, ours included.
pub(crate) fn migrations(service: Name) -> Migrations {
    let numbered = (FIRST..).zip(tables(service));
    numbered.fold(Migrations::default(), |all, (version, table)| {
        all.with(version, table.name, table.sql())
    })
}

/// Returns the table of each view that has one of its own.
pub(crate) fn views(service: Name) -> BTreeMap<String, String> {
    tables(service).iter().map(|t| (t.view.to_owned(), t.name.to_owned())).collect()
}
