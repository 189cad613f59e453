//! The laws of durable timers: due ones are claimed by one owner, whose claim an epoch fences.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::AggregateId;
use amarra_messaging::TxError;
use amarra_store::{Claim, Due, DueQuery};
use futures_util::future::join_all;

use crate::backend::StoreBackend;
use crate::check::{Must, begin, bump, commit, owner, put, thing, transact, within};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of durable timers for one `StoreBackend`.
    timer_laws in timer for StoreBackend {
        Store:
            "TIM-1" tim_1_a_timer_is_not_claimed_before_it_is_due,
            "TIM-1" tim_1_a_due_timer_is_claimed_by_one_owner,
            "TIM-1" tim_1_of_many_that_ask_at_once_one_gets_it,
            "TIM-1" tim_1_a_limit_takes_the_longest_due_first,
            "TIM-1" tim_1_only_the_kind_asked_for_is_claimed,
            "TIM-2" tim_2_after_its_lease_a_claim_is_superseded_at_a_higher_epoch,
            "TIM-2" tim_2_a_claim_of_the_same_owner_supersedes_its_earlier_one,
            "TIM-2" tim_2_scheduling_ends_a_claim,
            "TIM-3" tim_3_a_timer_and_its_epoch_survive_a_crash,
            "TIM-3" tim_3_an_unscheduled_timer_is_gone,
            "TIM-3" tim_3_scheduling_again_moves_the_timer_both_ways,
            "TIM-3" tim_3_a_schedule_rolled_back_changes_nothing,
            "TIM-3" tim_3_a_save_leaves_the_timer_alone,
            "TIM-4" tim_4_the_next_due_time_is_that_of_the_first_timer,
            "TIM-4" tim_4_a_claimed_timer_is_next_due_when_its_lease_ends,
            "TIM-5" tim_5_a_store_that_tells_of_one_timer_tells_of_the_next,
            "TIM-5" tim_5_a_timer_sooner_than_the_one_known_is_told,
            "TIM-6" tim_6_a_claim_with_the_wait_is_a_claim_and_then_the_next_due_time;
    }
}

async fn schedule<B: StoreBackend>(b: &B, id: &AggregateId, after: Option<Duration>) {
    transact(&b.env(), b.store("a").as_ref(), async |unit| {
        if crate::check::load(unit, id).await?.0 == amarra_core::Version::ABSENT {
            bump(unit, id, "timed").await?;
        }
        unit.schedule(id, after).await
    })
    .await;
}

async fn claim_as<B: StoreBackend>(b: &B, name: &str, kind: &str, limit: usize) -> Vec<Claim> {
    let query = DueQuery { kind: Arc::from(kind), owner: owner(name), lease: b.lease(), limit };
    b.store(name).claim_due(&query).await.must("claim_due")
}

async fn claim<B: StoreBackend>(b: &B, name: &str) -> Vec<Claim> {
    claim_as(b, name, "thing", 100).await
}

async fn verify<B: StoreBackend>(b: &B, claim: &Claim) -> Result<(), TxError> {
    begin(b.store("a").as_ref()).await.verify(claim).await
}

fn names(claims: &[Claim]) -> Vec<AggregateId> {
    claims.iter().map(|claim| claim.id.clone()).collect()
}

#[track_caller]
fn assert_fenced(answer: Result<(), TxError>) {
    assert!(matches!(answer, Err(TxError::Fenced { .. })), "a superseded claim: {answer:?}");
}

/// Due is decided by the database's clock.
pub async fn tim_1_a_timer_is_not_claimed_before_it_is_due<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(b.lease())).await;
    assert_eq!(claim(&b, "a").await, []);
    b.pass(b.lease() / 2).await;
    assert_eq!(claim(&b, "a").await, []);
    b.pass(b.lease()).await;
    let claims = claim(&b, "a").await;
    assert_eq!(names(&claims), [thing("k")]);
    assert_eq!(claims.first().map(|claim| &claim.owner), Some(&owner("a")));
    verify(&b, &claims[0]).await.must("verify a live claim");
}

/// While the lease lives no other owner gets it.
pub async fn tim_1_a_due_timer_is_claimed_by_one_owner<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    assert_eq!(names(&claim(&b, "a").await), [thing("k")]);
    assert_eq!(claim(&b, "c").await, []);
    b.pass(b.lease() / 2).await;
    assert_eq!(claim(&b, "c").await, []);
}

/// Ten timers and eight owners: each timer goes to one.
pub async fn tim_1_of_many_that_ask_at_once_one_gets_it<B: StoreBackend>(b: B) {
    for n in 0..10 {
        schedule(&b, &thing(&format!("k{n}")), Some(Duration::ZERO)).await;
    }
    let owners: Vec<_> = (0..8).map(|n| format!("owner-{n}")).collect();
    let claims = join_all(owners.iter().map(|name| claim_as(&b, name, "thing", 3))).await;
    let mut claimed = names(&claims.concat());
    claimed.sort();
    let count = claimed.len();
    claimed.dedup();
    assert_eq!(claimed.len(), count, "a timer went to two owners");
    assert!(claims.iter().all(|claims| claims.len() <= 3), "a limit was exceeded");
    assert!(count > 0);
}

/// Who waits longest is served first.
pub async fn tim_1_a_limit_takes_the_longest_due_first<B: StoreBackend>(b: B) {
    for (id, after) in [("later", 3), ("first", 1), ("middle", 2)] {
        schedule(&b, &thing(id), Some(b.lease() * after)).await;
    }
    b.pass(b.lease() * 4).await;
    assert_eq!(names(&claim_as(&b, "a", "thing", 2).await), [thing("first"), thing("middle")]);
    assert_eq!(names(&claim_as(&b, "a", "thing", 2).await), [thing("later")]);
}

/// Each kind has its own worker.
pub async fn tim_1_only_the_kind_asked_for_is_claimed<B: StoreBackend>(b: B) {
    let other = AggregateId::new("other", "k");
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    schedule(&b, &other, Some(Duration::ZERO)).await;
    assert_eq!(names(&claim_as(&b, "a", "other", 10).await), [other]);
    assert_eq!(names(&claim_as(&b, "a", "thing", 10).await), [thing("k")]);
    assert_eq!(claim_as(&b, "a", "none", 10).await, []);
}

/// The successor's epoch is higher, and the zombie cannot act any more.
pub async fn tim_2_after_its_lease_a_claim_is_superseded_at_a_higher_epoch<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    let old = claim(&b, "a").await.pop().must("a due timer was not claimed");
    b.pass(b.lease() * 2).await;
    let new = claim(&b, "c").await.pop().must("an expired claim was not claimed again");
    assert!(new.epoch > old.epoch, "epoch {} after {}", new.epoch, old.epoch);
    assert_fenced(verify(&b, &old).await);
    verify(&b, &new).await.must("verify the newest claim");
}

/// A worker that was stopped for longer than its lease and claims again is not its old self.
pub async fn tim_2_a_claim_of_the_same_owner_supersedes_its_earlier_one<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    let old = claim(&b, "a").await.pop().must("a due timer was not claimed");
    b.pass(b.lease() * 2).await;
    let new = claim(&b, "a").await.pop().must("an expired claim was not claimed again");
    assert!(new.epoch > old.epoch);
    assert_fenced(verify(&b, &old).await);
}

/// Once the aggregate's next timer is set, whoever still works on the last one is too late.
pub async fn tim_2_scheduling_ends_a_claim<B: StoreBackend>(b: B) {
    for after in [Some(Duration::ZERO), None] {
        schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
        let old = claim(&b, "a").await.pop().must("a due timer was not claimed");
        schedule(&b, &thing("k"), after).await;
        assert_fenced(verify(&b, &old).await);
        let new = claim(&b, "c").await;
        assert_eq!(new.len(), usize::from(after.is_some()), "claims after {after:?}");
        assert!(new.iter().all(|claim| claim.epoch > old.epoch), "an epoch came back");
    }
}

/// A crash loses no timer, and hands out no epoch twice.
pub async fn tim_3_a_timer_and_its_epoch_survive_a_crash<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    let old = claim(&b, "a").await.pop().must("a due timer was not claimed");
    b.crash().await;
    b.pass(b.lease() * 2).await;
    let new = claim(&b, "c").await.pop().must("a timer was lost");
    assert!(new.epoch > old.epoch, "epoch {} after {}", new.epoch, old.epoch);
}

/// Removing a timer removes it for good.
pub async fn tim_3_an_unscheduled_timer_is_gone<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(b.lease())).await;
    schedule(&b, &thing("k"), None).await;
    schedule(&b, &thing("never"), None).await;
    b.pass(b.lease() * 2).await;
    assert_eq!(claim(&b, "a").await, []);
}

/// An aggregate has one timer: the one set last.
pub async fn tim_3_scheduling_again_moves_the_timer_both_ways<B: StoreBackend>(b: B) {
    schedule(&b, &thing("sooner"), Some(b.lease() * 100)).await;
    schedule(&b, &thing("sooner"), Some(Duration::ZERO)).await;
    schedule(&b, &thing("later"), Some(Duration::ZERO)).await;
    schedule(&b, &thing("later"), Some(b.lease() * 3)).await;
    assert_eq!(names(&claim(&b, "a").await), [thing("sooner")]);
    schedule(&b, &thing("sooner"), None).await;
    b.pass(b.lease() * 4).await;
    assert_eq!(names(&claim(&b, "a").await), [thing("later")]);
}

/// A timer of a unit that was dropped, or is still open, does not exist.
pub async fn tim_3_a_schedule_rolled_back_changes_nothing<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "timed").await;
    schedule(&b, &thing("kept"), Some(Duration::ZERO)).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    bump(unit.as_mut(), &thing("k"), "timed").await.must("save");
    unit.schedule(&thing("k"), Some(Duration::ZERO)).await.must("schedule");
    let seen = within(&b, Box::pin(claim_as(&b, "c", "thing", 100)).as_mut()).await;
    assert!(!names(&seen.unwrap_or_default()).contains(&thing("k")), "an open unit's timer");
    unit.schedule(&thing("kept"), None).await.must("unschedule");
    drop(unit);
    b.pass(b.lease() * 2).await;
    assert_eq!(names(&claim(&b, "c").await), [thing("kept")]);
}

/// Saving the aggregate is not scheduling it.
pub async fn tim_3_a_save_leaves_the_timer_alone<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(b.lease())).await;
    put(&b, &thing("k"), "again").await;
    b.pass(b.lease() * 2).await;
    let claim = claim(&b, "a").await.pop().must("a save removed the timer");
    put(&b, &thing("k"), "and again").await;
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.verify(&claim).await.must("verify after a save");
    commit(unit).await;
}

async fn next_due<B: StoreBackend>(b: &B, kind: &str) -> Option<Duration> {
    b.store("a").next_due(kind).await.must("next_due")
}

/// Of its kind; nothing is due where there is none.
pub async fn tim_4_the_next_due_time_is_that_of_the_first_timer<B: StoreBackend>(b: B) {
    assert_eq!(next_due(&b, "thing").await, None);
    schedule(&b, &AggregateId::new("other", "k"), Some(Duration::ZERO)).await;
    assert_eq!(next_due(&b, "thing").await, None, "another kind's timer");
    schedule(&b, &thing("later"), Some(b.lease() * 100)).await;
    schedule(&b, &thing("first"), Some(b.lease() * 20)).await;
    let wait = next_due(&b, "thing").await.must("a timer is set");
    assert!(wait > b.lease() && wait <= b.lease() * 20, "due in {wait:?}");
    schedule(&b, &thing("first"), Some(Duration::ZERO)).await;
    assert_eq!(next_due(&b, "thing").await, Some(Duration::ZERO));
    schedule(&b, &thing("first"), None).await;
    let wait = next_due(&b, "thing").await.must("a timer is set");
    assert!(wait > b.lease() * 20 && wait <= b.lease() * 100, "due in {wait:?}");
}

/// A worker need not look before that.
pub async fn tim_4_a_claimed_timer_is_next_due_when_its_lease_ends<B: StoreBackend>(b: B) {
    schedule(&b, &thing("k"), Some(Duration::ZERO)).await;
    let query =
        DueQuery { kind: "thing".into(), owner: owner("a"), lease: b.lease() * 60, limit: 1 };
    let claims = b.store("a").claim_due(&query).await.must("claim_due");
    assert_eq!(claims.len(), 1);
    let wait = next_due(&b, "thing").await.must("a claimed timer is still set");
    assert!(wait > b.lease() && wait <= b.lease() * 60, "due in {wait:?}");
}

/// A worker that waits for it would sleep over the second one.
pub async fn tim_5_a_store_that_tells_of_one_timer_tells_of_the_next<B: StoreBackend>(b: B) {
    let store = b.store("a");
    schedule(&b, &thing("k0"), Some(b.lease())).await;
    // Only where the adapter tells at all.
    for n in 1..4 {
        if within(&b, Box::pin(store.timers_changed()).as_mut()).await.is_none() {
            assert_eq!(n, 1, "a timer that was set was not told");
            return;
        }
        schedule(&b, &thing(&format!("k{n}")), Some(b.lease())).await;
    }
}

/// A worker that knows when to look next must hear of what is due before.
pub async fn tim_5_a_timer_sooner_than_the_one_known_is_told<B: StoreBackend>(b: B) {
    let store = b.store("a");
    schedule(&b, &thing("first"), Some(b.lease())).await;
    // Only where the adapter tells at all.
    if within(&b, Box::pin(store.timers_changed()).as_mut()).await.is_none() {
        return;
    }
    schedule(&b, &thing("first"), Some(b.lease() * 100)).await;
    let _ = within(&b, Box::pin(store.timers_changed()).as_mut()).await;
    let query = DueQuery { kind: "thing".into(), owner: owner("a"), lease: b.lease(), limit: 9 };
    for (n, after) in [50, 25, 0].into_iter().enumerate() {
        let _ = store.claim_or_wait(&query).await.must("claim_or_wait");
        schedule(&b, &thing(&format!("k{n}")), Some(b.lease() * after)).await;
        let told = within(&b, Box::pin(store.timers_changed()).as_mut()).await;
        assert!(
            told.is_some(),
            "a timer in {after} leases, sooner than the one known, was not told"
        );
    }
}

/// One call in place of two, with the answers of both.
pub async fn tim_6_a_claim_with_the_wait_is_a_claim_and_then_the_next_due_time<B: StoreBackend>(
    b: B,
) {
    let ask = async |limit: usize| {
        let lease = b.lease() * 60;
        let query = DueQuery { kind: "thing".into(), owner: owner("a"), lease, limit };
        b.store("a").claim_or_wait(&query).await.must("claim_or_wait")
    };
    assert_eq!(ask(1).await, Due::default(), "there is no timer");
    for (id, after) in [("later", 100), ("second", 0), ("third", 0)] {
        schedule(&b, &thing(id), Some(b.lease() * after)).await;
    }
    let first = ask(1).await;
    assert_eq!((first.claims.len(), first.wait), (1, None), "as many as asked for were due");
    let rest = ask(9).await;
    let ids: Vec<_> = first.claims.iter().chain(&rest.claims).map(|c| c.id.clone()).collect();
    assert_eq!(ids, [thing("second"), thing("third")]);
    let wait = rest.wait.must("claimed timers are due again");
    assert!(wait > b.lease() && wait <= b.lease() * 60, "due in {wait:?}");
    for claim in first.claims.iter().chain(&rest.claims) {
        verify(&b, claim).await.must("verify");
        schedule(&b, &claim.id, None).await;
    }
    let none = ask(9).await;
    let wait = none.wait.must("a timer is set");
    assert!(none.claims.is_empty() && wait > b.lease() * 60, "due in {wait:?}");
}
