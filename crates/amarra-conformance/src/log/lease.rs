//! Who may relay a shard: leases by the database's clock, with a fencing epoch.

use std::collections::BTreeMap;

use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::outbox::{Cursor, Resumed};
use futures_util::future::join;

use crate::backend::StoreBackend;
use crate::check::{Must, owner};
use crate::reader::{Lease, all_shards, assert_fenced};

/// While a lease lives, whoever else asks does not get its shard.
pub async fn obl_1_a_leased_shard_is_nobody_elses<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let held = all_shards(log.as_ref(), "a", b.lease()).await;
    assert!(!held.is_empty(), "no shard was free at first");
    assert_eq!(all_shards(log.as_ref(), "b", b.lease()).await, []);
}

/// Two owners that ask at the same time share the shards out, none twice.
pub async fn obl_1_of_two_that_ask_at_once_one_gets_each_shard<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let (x, y) =
        join(all_shards(log.as_ref(), "a", b.lease()), all_shards(log.as_ref(), "b", b.lease()))
            .await;
    let mut holders: BTreeMap<Shard, u32> = BTreeMap::new();
    for lease in x.iter().chain(&y) {
        *holders.entry(lease.shard).or_default() += 1;
    }
    assert!(!holders.is_empty(), "neither got a shard");
    assert!(holders.values().all(|&n| n == 1), "a shard has two owners: {x:?} {y:?}");
}

/// After its time, and not before, a successor gets the shard and fences the holder.
pub async fn obl_1_an_expired_lease_is_taken_over_at_a_higher_epoch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let old = all_shards(log.as_ref(), "a", b.lease()).await;
    b.pass(b.lease() / 2).await;
    assert_eq!(all_shards(log.as_ref(), "b", b.lease()).await, [], "taken before it expired");
    b.pass(b.lease()).await;
    let new = all_shards(log.as_ref(), "b", b.lease()).await;
    assert_eq!(new.len(), old.len(), "not every expired shard was free");
    assert_newer(&new, &old);
    for lease in &old {
        let fenced = log.checkpoint(lease, &Cursor::default()).await;
        assert_fenced(fenced, "checkpoint");
    }
}

/// A holder that renews in time keeps its epoch, for a whole new term.
pub async fn obl_1_a_renewed_lease_lives_on_at_its_epoch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let first = sorted(all_shards(log.as_ref(), "a", b.lease()).await);
    b.pass(b.lease() / 2).await;
    let renewed = sorted(all_shards(log.as_ref(), "a", b.lease()).await);
    assert_eq!(renewed, first, "renewing changed a lease");
    b.pass(b.lease() * 3 / 4).await;
    assert_eq!(all_shards(log.as_ref(), "b", b.lease()).await, [], "the new term was not served");
    for lease in &renewed {
        log.checkpoint(lease, &Cursor::default()).await.must("checkpoint of a renewed lease");
    }
}

/// A shard given back needs no wait, and its next owner is told apart from the last.
pub async fn obl_1_a_lease_given_back_is_free_at_once_at_a_higher_epoch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let old = all_shards(log.as_ref(), "a", b.lease()).await;
    log.give_back(&old).await.must("give back");
    let new = all_shards(log.as_ref(), "b", b.lease()).await;
    assert_eq!(new.len(), old.len(), "a shard given back was not free");
    assert_newer(&new, &old);
}

/// Whoever gave its lease back has no shard, also before anybody else has it.
pub async fn obl_1_a_lease_given_back_is_superseded_at_once<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let old = all_shards(log.as_ref(), "a", b.lease() * 60).await;
    log.give_back(&old).await.must("give back");
    for lease in &old {
        assert_fenced(log.checkpoint(lease, &Cursor::default()).await, "checkpoint");
        assert_fenced(log.park(lease, &[]).await, "park");
        assert_fenced(log.settle(lease, &[]).await, "settle");
    }
}

/// A zombie that gives back what it lost does not take it from its successor.
pub async fn obl_1_giving_back_a_superseded_lease_is_ignored<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let old = all_shards(log.as_ref(), "a", b.lease()).await;
    b.pass(b.lease() * 2).await;
    let new = all_shards(log.as_ref(), "b", b.lease()).await;
    assert_eq!(new.len(), old.len());
    log.give_back(&old).await.must("give back");
    assert_eq!(all_shards(log.as_ref(), "c", b.lease()).await, [], "a zombie freed a shard");
    for lease in &new {
        log.checkpoint(lease, &Cursor::default()).await.must("checkpoint of the new owner");
    }
}

/// Asking for one shard again and again renews that one, it does not collect others.
pub async fn obl_1_the_limit_counts_held_shards_first<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let first = log.lease(&owner("a"), 1, b.lease()).await.must("lease");
    assert_eq!(first.len(), 1, "a limit of one took another number");
    assert_eq!(first.first().map(|lease| &lease.owner), Some(&owner("a")));
    let again = log.lease(&owner("a"), 1, b.lease()).await.must("lease");
    assert_eq!(again, first, "a held shard was not renewed first");
    let rest = all_shards(log.as_ref(), "b", b.lease()).await;
    assert!(rest.iter().all(|lease| Some(lease.shard) != first.first().map(|l| l.shard)));
}

/// The newest holder is served in everything.
pub async fn obl_5_the_newest_epoch_is_served<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    for name in ["a", "b", "c"] {
        let leases = all_shards(log.as_ref(), name, b.lease()).await;
        assert!(!leases.is_empty());
        for lease in &leases {
            assert_eq!(log.resume(lease).await.must("resume"), Resumed::default());
            log.checkpoint(lease, &Cursor::default()).await.must("checkpoint");
            log.park(lease, &[]).await.must("park nothing");
            log.settle(lease, &[]).await.must("settle nothing");
        }
        b.pass(b.lease() * 2).await;
    }
}

#[track_caller]
fn assert_newer(new: &[Lease], old: &[Lease]) {
    let epochs: BTreeMap<Shard, Epoch> =
        old.iter().map(|lease| (lease.shard, lease.epoch)).collect();
    for lease in new {
        let before = epochs.get(&lease.shard).copied().unwrap_or_default();
        assert!(lease.epoch > before, "epoch {} after {before}", lease.epoch);
    }
}

fn sorted(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|lease| lease.shard);
    leases
}
