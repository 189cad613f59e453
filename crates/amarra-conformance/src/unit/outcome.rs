//! What a commit's answer says, and what a crash leaves.

use amarra_core::{Class, Classify, Version};
use amarra_messaging::TxError;
use bytes::Bytes;

use super::atomic::{ALL, Everything};
use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{Must, begin, bump, commit, committed, put, refusal, thing};

/// Applies one of everything and loses the connection in the commit.
async fn lose<B: StoreBackend>(b: &B, loss: CommitLoss) -> (TxError, Everything) {
    let everything = Everything::new(b);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    b.lose_commit("a", loss).await;
    (refusal(unit.commit().await, "a commit whose connection was lost"), everything)
}

/// Applied, all of it, and the caller is told that it cannot know.
pub async fn uow_6_a_lost_answer_is_unknown_and_everything_is_applied<B: StoreBackend>(b: B) {
    let (e, everything) = lose(&b, CommitLoss::Answer).await;
    assert_eq!(e, TxError::OutcomeUnknown);
    assert_eq!(e.class(), Class::Unknown);
    assert_eq!(everything.seen(&b).await, ALL);
}

/// Not applied, nothing of it, and the caller is told that it cannot know.
pub async fn uow_6_a_lost_request_is_unknown_and_nothing_is_applied<B: StoreBackend>(b: B) {
    let (e, everything) = lose(&b, CommitLoss::Request).await;
    assert_eq!(e, TxError::OutcomeUnknown);
    assert_eq!(everything.seen(&b).await, [""; 0]);
}

/// Surely not applied: the caller may run the transaction again without any admission.
pub async fn uow_6_a_connection_lost_before_the_commit_surely_applied_nothing<B: StoreBackend>(
    b: B,
) {
    let (e, everything) = lose(&b, CommitLoss::BeforeSend).await;
    assert_eq!(e.class(), Class::Transient, "{e}");
    assert_eq!(everything.seen(&b).await, [""; 0]);
}

/// Whatever became of it, its locks do not stay.
pub async fn uow_6_an_unknown_commit_frees_its_locks<B: StoreBackend>(b: B) {
    let mut version = 0;
    for loss in [CommitLoss::Request, CommitLoss::Answer, CommitLoss::BeforeSend] {
        let mut unit = begin(b.store("a").as_ref()).await;
        bump(unit.as_mut(), &thing("k"), "x").await.must("save");
        b.lose_commit("a", loss).await;
        assert!(unit.commit().await.is_err());
        version += u64::from(loss == CommitLoss::Answer) + 1;
        assert_eq!(put(&b, &thing("k"), "next").await, Version::new(version), "after {loss:?}");
    }
}

/// `Ok` is durable, for everything.
pub async fn uow_7_a_committed_unit_survives_a_crash<B: StoreBackend>(b: B) {
    let everything = Everything::new(&b);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    commit(unit).await;
    b.crash().await;
    assert_eq!(everything.seen(&b).await, ALL);
}

/// A unit open over a crash cannot commit, and leaves no trace nor lock.
pub async fn uow_7_an_open_unit_does_not_survive_a_crash<B: StoreBackend>(b: B) {
    let everything = Everything::new(&b);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    b.crash().await;
    assert!(unit.commit().await.is_err(), "a unit committed after the database lost it");
    assert_eq!(everything.seen(&b).await, [""; 0]);
}

/// Versions go on where they were.
pub async fn uow_7_versions_go_on_after_a_crash<B: StoreBackend>(b: B) {
    for n in 1..=3 {
        assert_eq!(put(&b, &thing("k"), &format!("body {n}")).await, Version::new(n));
        b.crash().await;
        let expect = (Version::new(n), Bytes::from(format!("body {n}")));
        assert_eq!(committed(&b, &thing("k")).await, expect);
    }
}
