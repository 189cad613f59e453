//! The names of the processes: six services, the gateway and the provider.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

/// One of the processes of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// Accounts, logins, roles.
    Users,
    /// Products, prices, quotes.
    Catalog,
    /// Orders and their sagas.
    Orders,
    /// Stock and reservations.
    Inventory,
    /// Payments and the journal.
    Payments,
    /// Mail, text messages and push.
    Notifications,
    /// The way in.
    Gateway,
    /// The payment provider, a simulated foreign company.
    Provider,
}

impl Name {
    /// All of them, in the order in which they start.
    pub(crate) const ALL: [Self; 8] = [
        Self::Provider,
        Self::Users,
        Self::Catalog,
        Self::Inventory,
        Self::Payments,
        Self::Notifications,
        Self::Orders,
        Self::Gateway,
    ];

    /// Those that have a database.
    pub(crate) const WITH_DATABASE: [Self; 6] = [
        Self::Users,
        Self::Catalog,
        Self::Inventory,
        Self::Payments,
        Self::Notifications,
        Self::Orders,
    ];

    /// Returns the name as it stands in configurations.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Catalog => "catalog",
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Payments => "payments",
            Self::Notifications => "notifications",
            Self::Gateway => "gateway",
            Self::Provider => "provider",
        }
    }

    /// Tells whether it has a database, and so a relay and consumers.
    pub(crate) fn has_database(self) -> bool {
        Self::WITH_DATABASE.contains(&self)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
