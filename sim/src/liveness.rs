//! After the faults: waits until nothing moves any more, within a bound.

use std::time::Duration;

use crate::workload::Customers;
use crate::world::Cluster;

/// Fault-free simulated time within which everything has to come to rest.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// How long nothing may change before the shop counts as at rest.
const QUIET: Duration = Duration::from_millis(1500);

/// Waits for rest; returns how long it took to reach it, none when the bound passed first.
pub(crate) async fn wait(cluster: &Cluster, customers: &Customers) -> Option<Duration> {
    let healed = tokio::time::Instant::now();
    while healed.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let quiet_for = cluster.oracle.last_change().elapsed();
        if quiet_for < QUIET || !customers.are_done() {
            continue;
        }
        if cluster.unsettled().is_empty() {
            customers.look_once_more().await;
            return Some(healed.elapsed().saturating_sub(quiet_for));
        }
    }
    None
}
