//! Relays that crash at every point, some of the time, and come back under their name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amarra_core::{Entropy as _, Monotonic, SeededEntropy};
use amarra_messaging::OutboxLog;
use amarra_messaging::message::Seq;
use amarra_messaging::outbox::{Cursor, Lease, LogError};

use super::Litmus;
use crate::check::{Must, owner};

/// Short, so that leases are lost often.
pub(super) const LEASE: Duration = Duration::from_millis(300);
/// Shards that one relay holds at most.
const SHARDS_MAX: usize = 3;

/// How long a relay may stay with a lease.
struct Stay {
    since: Monotonic,
    rounds: u64,
}

impl Litmus {
    pub(super) async fn relay(self: Arc<Self>, log: Arc<dyn OutboxLog>, n: u64) {
        let entropy = SeededEntropy::new(n, "relay");
        let name = format!("relay-{n}");
        while !self.stopped.load(Ordering::Acquire) {
            let leases = log.lease(&owner(&name), SHARDS_MAX, LEASE).await.must("lease");
            let since = self.env.monotonic();
            for lease in &leases {
                let stay = Stay { since, rounds: 1 + entropy.below(30) };
                match self.serve(log.as_ref(), lease, &entropy, stay).await {
                    Ok(()) | Err(LogError::Fenced { .. }) => {}
                    failed => failed.must(&name),
                }
            }
            if entropy.below(3) == 0 {
                log.give_back(&leases).await.must("give back");
            }
            self.env.sleep(Duration::from_millis(entropy.below(20))).await;
        }
    }

    async fn serve(
        &self,
        log: &dyn OutboxLog,
        lease: &Lease,
        entropy: &SeededEntropy,
        stay: Stay,
    ) -> Result<(), LogError> {
        let mut cursor = log.resume(lease).await?.cursor;
        for _ in 0..stay.rounds {
            // Most stop in time; a zombie goes on.
            let held = self.env.monotonic().since(stay.since);
            if held > LEASE * 2 / 3 && entropy.below(4) != 0 {
                return Ok(());
            }
            let limit = usize::try_from(1 + entropy.below(40)).must("a small number");
            let chunk = log.next_chunk(lease, &cursor, limit).await?;
            let Some(last) = chunk.rows.last() else {
                cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
                log.checkpoint(lease, &cursor).await?;
                self.env.sleep(Duration::from_millis(1)).await;
                continue;
            };
            cursor.cur = Some(chunk.cur.clone());
            log.checkpoint(lease, &cursor).await?;
            if self.crashes(entropy) {
                return Ok(());
            }
            if entropy.below(60) == 0 {
                // Long enough to lose the lease: what follows comes from a zombie.
                self.env.sleep(LEASE + LEASE / 2).await;
            }
            if !self.world.publish(lease, &chunk, cursor.pos.0) || self.crashes(entropy) {
                return Ok(());
            }
            cursor.pos.0 += chunk.rows.len() as u64;
            cursor.last_seq = last.seq;
            if chunk.last {
                cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
            }
            log.checkpoint(lease, &cursor).await?;
        }
        Ok(())
    }

    fn crashes(&self, entropy: &SeededEntropy) -> bool {
        let crashes = entropy.below(40) == 0;
        self.crashes.fetch_add(u64::from(crashes), Ordering::Relaxed);
        crashes
    }
}
