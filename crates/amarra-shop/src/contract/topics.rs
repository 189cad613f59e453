//! The topics, each owned by the service that publishes to it; commands belong to their receiver.

/// Events of orders, keyed by order.
pub const ORDERS: &str = "orders.events";
/// Events of reservations, keyed by order.
pub const INVENTORY: &str = "inventory.events";
/// Stock levels, keyed by product.
pub const STOCK: &str = "inventory.stock";
/// Commands to Inventory, keyed by order.
pub const INVENTORY_COMMANDS: &str = "inventory.commands";
/// Events of payments, keyed by order.
pub const PAYMENTS: &str = "payments.events";
/// Commands to Payments, keyed by order.
pub const PAYMENTS_COMMANDS: &str = "payments.commands";
/// Events of products and prices, keyed by product.
pub const CATALOG: &str = "catalog.events";
/// Events of users, keyed by user.
pub const USERS: &str = "users.events";
/// Events of notifications, keyed by order.
pub const NOTIFICATIONS: &str = "notifications.events";

/// Every topic.
pub const ALL: &[&str] = &[
    ORDERS,
    INVENTORY,
    STOCK,
    INVENTORY_COMMANDS,
    PAYMENTS,
    PAYMENTS_COMMANDS,
    CATALOG,
    USERS,
    NOTIFICATIONS,
];
