//! The scenarios: which kinds of fault take part, and how densely.

use amarra_shop::contract::topics;

use crate::plan::Fault;

/// Nodes that run code of ours and can be crashed, paused, cut off and skewed.
pub(crate) const NODES: &[&str] = &[
    "gateway",
    "users-1",
    "catalog-1",
    "orders-1",
    "orders-2",
    "inventory-1",
    "inventory-2",
    "payments-1",
    "payments-2",
    "notifications-1",
    "provider",
];

/// Pairs that talk to each other; a partition of others would do nothing.
pub(crate) const LINKS: &[(&str, &str)] = &[
    ("gateway", "users-1"),
    ("gateway", "catalog-1"),
    ("gateway", "orders-1"),
    ("gateway", "orders-2"),
    ("gateway", "inventory-1"),
    ("payments-1", "provider"),
    ("payments-2", "provider"),
    ("gateway", "provider"),
    ("orders-1", "broker"),
    ("orders-2", "broker"),
    ("inventory-1", "broker"),
    ("inventory-2", "broker"),
    ("payments-1", "broker"),
    ("payments-2", "broker"),
    ("notifications-1", "broker"),
    ("catalog-1", "broker"),
    ("orders-1", "database"),
    ("orders-2", "database"),
    ("inventory-1", "database"),
    ("payments-1", "database"),
    ("notifications-1", "database"),
    ("users-1", "database"),
    ("catalog-1", "database"),
];

/// Databases, one a service.
pub(crate) const DATABASES: &[&str] =
    &["users", "catalog", "orders", "inventory", "payments", "notifications"];

/// Consumer groups.
pub(crate) const GROUPS: &[&str] =
    &["orders", "orders-view", "inventory", "payments", "notifications", "catalog-view"];

/// Topics that a foreign producer may spoil.
pub(crate) const POISONED: &[&str] = &[
    topics::ORDERS,
    topics::INVENTORY,
    topics::INVENTORY_COMMANDS,
    topics::PAYMENTS,
    topics::PAYMENTS_COMMANDS,
    topics::STOCK,
    topics::CATALOG,
];

/// A mix of faults under a name.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// The name.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) what: &'static str,
    /// The kinds that may take part.
    pub(crate) kinds: &'static [&'static str],
    /// How likely each kind takes part in a run, in percent.
    pub(crate) kind_percent: u64,
    /// At most how many faults of a kind.
    pub(crate) per_kind_max: u32,
}

const EVERY_KIND: &[&str] = &{
    let mut kinds = [""; Fault::KINDS.len()];
    let mut i = 0;
    while i < kinds.len() {
        #[expect(clippy::indexing_slicing, reason = "the loop is bounded by both lengths")]
        {
            kinds[i] = Fault::KINDS[i].0;
        }
        i += 1;
    }
    kinds
};

/// Every scenario; the first is the default.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "shop",
        what: "the whole shop under a random mix of every fault",
        kinds: EVERY_KIND,
        kind_percent: 25,
        per_kind_max: 3,
    },
    Scenario {
        name: "calm",
        what: "the whole shop without faults",
        kinds: &[],
        kind_percent: 0,
        per_kind_max: 0,
    },
    Scenario {
        name: "crashes",
        what: "nodes, databases and the broker die and come back",
        kinds: &["crash", "pause", "power-failure", "broker-restart"],
        kind_percent: 80,
        per_kind_max: 4,
    },
    Scenario {
        name: "network",
        what: "partitions and latency",
        kinds: &["partition", "partition-one-way", "latency"],
        kind_percent: 80,
        per_kind_max: 5,
    },
    Scenario {
        name: "messaging",
        what: "duplicates, lost acknowledgements, failed publishes, rebalances",
        kinds: &[
            "duplicate-delivery",
            "lost-acknowledgement",
            "failed-publish",
            "rebalance",
            "lost-offset-commit",
            "poison",
        ],
        kind_percent: 80,
        per_kind_max: 5,
    },
    Scenario {
        name: "database",
        what: "unknown commits, serialization failures, lost connections, power failures",
        kinds: &["commit-unknown", "serialization-failure", "connection-loss", "power-failure"],
        kind_percent: 80,
        per_kind_max: 5,
    },
    Scenario {
        name: "provider",
        what: "a payment provider that is slow, silent, repetitive or down",
        kinds: &[
            "provider-slow",
            "provider-timeout",
            "provider-duplicate",
            "provider-reorder",
            "provider-outage",
            "provider-silent",
        ],
        kind_percent: 80,
        per_kind_max: 4,
    },
    Scenario {
        name: "clocks",
        what: "wall clocks up to five minutes apart",
        kinds: &["clock-skew", "crash", "latency"],
        kind_percent: 80,
        per_kind_max: 6,
    },
];

/// Finds a scenario by name.
///
/// # Errors
/// One line that names the nearest scenario.
pub(crate) fn find(name: &str) -> Result<&'static Scenario, String> {
    ALL.iter().find(|s| s.name == name).ok_or_else(|| {
        format!(
            "no scenario is called {name:?}; did you mean {:?}? `cargo sim list scenarios` has all",
            crate::cli::nearest(name, ALL.iter().map(|s| s.name)),
        )
    })
}
