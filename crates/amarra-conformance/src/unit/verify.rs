//! Claims on timers, checked inside the transaction that acts on them.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::TxError;
use amarra_store::{Claim, DueQuery};

use crate::backend::StoreBackend;
use crate::check::{Must, begin, bump, commit, committed, owner, thing, transact, within};

async fn due<B: StoreBackend>(b: &B, id: &AggregateId) {
    transact(&b.env(), b.store("a").as_ref(), async |unit| {
        bump(unit, id, "timed").await?;
        unit.schedule(id, Some(Duration::ZERO)).await
    })
    .await;
}

async fn claim<B: StoreBackend>(b: &B, name: &str) -> Option<Claim> {
    let query =
        DueQuery { kind: Arc::from("thing"), owner: owner(name), lease: b.lease(), limit: 1 };
    b.store(name).claim_due(&query).await.must("claim_due").pop()
}

#[track_caller]
fn assert_fenced(answer: Result<(), TxError>, what: &str) {
    assert!(matches!(answer, Err(TxError::Fenced { .. })), "{what}: {answer:?}");
}

/// A worker that slept over its lease is stopped in its own transaction.
pub async fn uow_10_a_superseded_claim_is_fenced<B: StoreBackend>(b: B) {
    due(&b, &thing("k")).await;
    let old = claim(&b, "a").await.must("a due timer was not claimed");
    b.pass(b.lease() * 2).await;
    let new = claim(&b, "c").await.must("an expired claim was not claimed again");
    let mut zombie = begin(b.store("a").as_ref()).await;
    assert_fenced(zombie.verify(&old).await, "a superseded claim");
    drop(zombie);
    let mut unit = begin(b.store("c").as_ref()).await;
    unit.verify(&new).await.must("verify the newest claim");
    unit.verify(&new).await.must("verify it again");
}

/// Between `verify` and the commit the lease may end, but nobody takes over.
pub async fn uow_10_a_verified_claim_is_superseded_by_nobody_before_the_end<B: StoreBackend>(b: B) {
    due(&b, &thing("k")).await;
    let held = claim(&b, "a").await.must("a due timer was not claimed");
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.verify(&held).await.must("verify");
    b.pass(b.lease() * 2).await;
    let query =
        DueQuery { kind: Arc::from("thing"), owner: owner("c"), lease: b.lease(), limit: 1 };
    let store = b.store("c");
    let mut other = Box::pin(store.claim_due(&query));
    let early = within(&b, other.as_mut()).await;
    let taken = matches!(&early, Some(Ok(claims)) if !claims.is_empty());
    assert!(!taken, "a verified claim was superseded before its unit ended");
    bump(unit.as_mut(), &thing("k"), "acted").await.must("save");
    unit.schedule(&thing("k"), None).await.must("unschedule");
    commit(unit).await;
    let late = if early.is_none() { other.await.must("claim_due") } else { Vec::new() };
    assert_eq!(late, [], "a timer that was acted on was claimed");
    assert_eq!(claim(&b, "c").await, None);
    assert_eq!(committed(&b, &thing("k")).await.0.get(), 2);
}

/// Acting ends the claim: the worker cannot act on it twice.
pub async fn uow_10_a_claim_that_was_acted_on_is_over<B: StoreBackend>(b: B) {
    for next in [None, Some(b.lease() * 9)] {
        due(&b, &thing("k")).await;
        let held = claim(&b, "a").await.must("a due timer was not claimed");
        transact(&b.env(), b.store("a").as_ref(), async |unit| {
            unit.verify(&held).await?;
            unit.schedule(&thing("k"), next).await
        })
        .await;
        let mut unit = begin(b.store("a").as_ref()).await;
        assert_fenced(unit.verify(&held).await, "a claim that was acted on");
    }
}

/// An epoch counts for its aggregate only, and one never given out for none.
pub async fn uow_10_a_claim_of_another_aggregate_proves_nothing<B: StoreBackend>(b: B) {
    due(&b, &thing("k")).await;
    let held = claim(&b, "a").await.must("a due timer was not claimed");
    due(&b, &thing("other")).await;
    let forged = [
        Claim { id: thing("other"), ..held.clone() },
        Claim { id: thing("missing"), ..held.clone() },
        Claim { epoch: held.epoch.next(), ..held.clone() },
    ];
    for claim in forged {
        let mut unit = begin(b.store("a").as_ref()).await;
        assert_fenced(unit.verify(&claim).await, "a claim nobody was given");
    }
}

/// In one call with what the claim's owner is about to act on, which is locked like all that is
/// loaded; and nothing is left of a unit whose claim was superseded.
pub async fn uow_12_a_unit_that_begins_with_a_claim_has_loaded_and_verified<B: StoreBackend>(b: B) {
    due(&b, &thing("k")).await;
    let old = claim(&b, "a").await.must("a due timer was not claimed");
    let ids = [thing("k"), thing("absent")];
    let begun = b.store("a").begin_claimed(&old, &ids).await;
    let (mut unit, states) = begun.must("begin_claimed");
    assert_eq!(states.iter().map(|s| s.version.get()).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(states, unit.load(&ids).await.must("load"));
    let store = b.store("c");
    let mut other = Box::pin(transact_on(&b, store.as_ref()));
    let early = within(&b, other.as_mut()).await;
    assert!(early.is_none(), "what was loaded with a claim is not locked");
    drop(unit);
    other.await;
    let begun = b.store("a").begin_claimed(&old, &[]).await;
    drop(begun.must("begin_claimed with nothing to load"));
    b.pass(b.lease() * 2).await;
    let new = claim(&b, "c").await.must("an expired claim was not claimed again");
    let zombie = b.store("a").begin_claimed(&old, &ids).await;
    assert_fenced(zombie.map(drop), "a superseded claim");
    let (mut unit, _) = b.store("c").begin_claimed(&new, &ids).await.must("begin_claimed");
    unit.schedule(&thing("k"), None).await.must("unschedule");
    commit(unit).await;
    assert_fenced(b.store("c").begin_claimed(&new, &ids).await.map(drop), "acted on");
}

async fn transact_on<B: StoreBackend>(b: &B, store: &dyn amarra_store::Store) {
    transact(&b.env(), store, async |unit| bump(unit, &thing("absent"), "made").await).await;
}
