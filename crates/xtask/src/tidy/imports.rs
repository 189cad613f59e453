//! Who may import whom: an edge that is not in the table fails.

use super::{Figure, Source};

/// What each package may depend on, dev-dependencies apart.
const TABLE: &[(&str, &[&str])] = &[
    ("amarra-core", &[]),
    ("amarra-resilience", &["amarra-core"]),
    ("amarra-messaging", &["amarra-core"]),
    ("amarra-store", &["amarra-core", "amarra-messaging"]),
    ("amarra-saga", &["amarra-core", "amarra-messaging", "amarra-resilience", "amarra-store"]),
    ("amarra-shop", CORE_BUT_SHOP),
    ("amarra-conformance", CORE_BUT_SHOP),
    ("amarra-memory", CORE),
    ("amarra-http", CORE),
    ("amarra-kafka", CORE),
    ("amarra-postgres", CORE),
    ("amarra-postgres-wal", &["amarra-core", "amarra-messaging", "amarra-store"]),
    ("amarra-sqlite", CORE),
    ("amarra-tokio", CORE),
    ("testbed", &[]),
    ("xtask", &["testbed"]),
    ("amarra", ANYTHING),
    ("benches", ANYTHING),
    ("sim", ANYTHING),
    ("examples", ANYTHING),
    ("peers", ANYTHING),
];

const CORE_BUT_SHOP: &[&str] =
    &["amarra-core", "amarra-messaging", "amarra-resilience", "amarra-saga", "amarra-store"];

const CORE: &[&str] = &[
    "amarra-core",
    "amarra-messaging",
    "amarra-resilience",
    "amarra-saga",
    "amarra-store",
    "amarra-shop",
];

const ANYTHING: &[&str] = &[
    "amarra-core",
    "amarra-messaging",
    "amarra-resilience",
    "amarra-saga",
    "amarra-store",
    "amarra-shop",
    "amarra-conformance",
    "amarra-memory",
    "amarra-http",
    "amarra-kafka",
    "amarra-postgres",
    "amarra-postgres-wal",
    "amarra-sqlite",
    "amarra-tokio",
    "testbed",
];

/// What tests may depend on besides.
const FOR_TESTS: &[&str] = &["amarra-conformance", "amarra-memory", "amarra-tokio", "testbed"];

/// What tests of one package may depend on besides: the log that the other one wraps.
const TEST_EDGES: &[(&str, &str)] = &[("amarra-postgres-wal", "amarra-postgres")];

const SERVICES: &[&str] = &[
    "users",
    "catalog",
    "orders",
    "inventory",
    "payments",
    "notifications",
    "gateway",
    "provider",
];

/// A service that may name another one: the provider is reached through the port of Payments.
const SERVICE_EDGES: &[(&str, &str)] = &[("provider", "payments")];

/// What the tests of a service may name besides.
const SERVICE_TEST_EDGES: &[(&str, &str)] = &[("payments", "provider")];

const FEATURES_MAX: usize = 3;

/// Measures the figures.
pub(crate) fn figures(sources: &[Source]) -> Result<Vec<Figure>, String> {
    let mut undeclared = Vec::new();
    let mut features = Vec::new();
    for source in sources.iter().filter(|s| s.path.ends_with("Cargo.toml")) {
        let manifest: toml::Value =
            toml::from_str(&source.text).map_err(|e| format!("{}: {e}", source.name()))?;
        let Some(package) = manifest.get("package").and_then(|p| p.get("name")) else { continue };
        let name = package.as_str().unwrap_or_default();
        undeclared.extend(undeclared_edges(name, &manifest));
        let count = manifest.get("features").and_then(toml::Value::as_table).map_or(0, |f| f.len());
        if count > FEATURES_MAX {
            features.push(format!("{name}: {count}"));
        }
    }
    undeclared.extend(sources.iter().flat_map(service_edges));
    Ok(vec![
        Figure::none("undeclared import edges", undeclared),
        Figure::none("crates with more than 3 features", features),
    ])
}

fn undeclared_edges(name: &str, manifest: &toml::Value) -> Vec<String> {
    let Some((_, allowed)) = TABLE.iter().find(|(package, _)| *package == name) else {
        return vec![format!("{name} is not in the table of crates/xtask/src/tidy/imports.rs")];
    };
    let ours = |name: &&str| name.starts_with("amarra-") || matches!(*name, "sim" | "xtask");
    let mut found = Vec::new();
    for (section, tests) in
        [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
    {
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        let in_targets =
            targets.into_iter().flat_map(|t| t.values()).filter_map(|t| t.get(section));
        let tables = manifest.get(section).into_iter().chain(in_targets);
        let names = tables.filter_map(toml::Value::as_table).flat_map(|t| t.keys());
        for to in names.map(String::as_str).filter(ours) {
            let for_tests = tests && (FOR_TESTS.contains(&to) || TEST_EDGES.contains(&(name, to)));
            if !allowed.contains(&to) && !for_tests && to != name {
                found.push(format!("{name} -> {to} ({section})"));
            }
        }
    }
    found
}

/// Services meet only in the contract.
fn service_edges(source: &Source) -> Vec<String> {
    let Ok(inside) = source.path.strip_prefix("crates/amarra-shop/src") else { return Vec::new() };
    let Some(own) = inside.iter().next().and_then(|c| c.to_str()) else { return Vec::new() };
    if !SERVICES.contains(&own) {
        return Vec::new();
    }
    let for_tests = if source.is_test() { SERVICE_TEST_EDGES } else { &[] };
    let may = |other: &str| SERVICE_EDGES.iter().chain(for_tests).any(|edge| *edge == (own, other));
    let others = SERVICES.iter().filter(|other| **other != own && !may(other));
    let mut found = Vec::new();
    for other in others {
        let needle = format!("crate::{other}::");
        let braces = format!("crate::{{{other}");
        for (index, line) in source.text.lines().enumerate() {
            let is_doc = line.trim_start().starts_with("//");
            if !is_doc && (line.contains(&needle) || line.contains(&braces)) {
                found.push(format!("{}:{} names {other}", source.path.display(), index + 1));
            }
        }
    }
    found
}
