//! The laws of `Inbox` in `Mode::Offset`: everything below the mark was applied, nothing above it.

use amarra_messaging::message::Turn;
use amarra_messaging::{Admit, Group, Incoming, Offset, Partition, Topic};

use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{commit, incoming};
use crate::inbox::{
    after_an_unknown_commit, answer_after, eight_at_once, eight_batches_at_once, in_progress,
    rolled_back_twice, take,
};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Inbox` by offset for one `StoreBackend`, whose inboxes are those
    /// of [`inbox::config`](crate::inbox::config).
    inbox_offset_laws in inbox_offset for StoreBackend {
        Inbox:
            "INB-1" inb_1_each_offset_is_fresh_once,
            "INB-1" inb_1_by_offset_of_many_at_once_exactly_one_is_fresh,
            "INB-1" inb_1_by_offset_batches_at_once_apply_each_message_once,
            "INB-1" inb_1_an_offset_moves_exactly_when_an_unknown_commit_was_applied,
            "INB-1" inb_1_an_offset_survives_a_crash,
            "INB-2" inb_2_an_offset_that_is_rolled_back_has_not_moved,
            "INB-3" inb_3_each_group_topic_and_partition_has_its_own_offset,
            "INB-4" inb_4_an_offset_in_progress_is_never_answered_duplicate,
            "INB-4" inb_4_after_a_commit_the_offset_that_waited_is_a_duplicate,
            "INB-4" inb_4_after_a_rollback_the_offset_that_waited_is_fresh,
            "INB-6" inb_6_everything_below_the_highest_offset_is_a_duplicate,
            "INB-6" inb_6_everything_above_the_highest_offset_is_fresh,
            "INB-6" inb_6_a_zombie_behind_its_successor_admits_nothing,
            "INB-6" inb_6_a_released_message_is_decided_by_its_offset,
            "INB-6" inb_6_a_replayed_message_is_decided_by_its_id,
            "INB-7" inb_7_offsets_that_were_passed_over_mean_nothing_by_default,
            "INB-7" inb_7_offsets_missing_where_they_are_dense_are_reported,
            "INB-8" inb_8_what_was_admitted_by_id_is_a_duplicate_by_offset;
    }
}

fn group() -> Group {
    Group::from("by-offset")
}

fn dense() -> Group {
    Group::from("by-dense-offset")
}

fn at<B: StoreBackend>(b: &B, offset: u64) -> Incoming {
    incoming(&b.env(), "k", offset)
}

/// Once committed, an admission is found by every later one.
pub async fn inb_1_each_offset_is_fresh_once<B: StoreBackend>(b: B) {
    for message in (0..5).map(|offset| at(&b, offset)) {
        assert_eq!(take(&b, &group(), &message).await, Admit::Fresh);
        assert_eq!(take(&b, &group(), &message).await, Admit::Duplicate);
    }
}

/// Eight members apply one message at once; its effect happens once.
pub async fn inb_1_by_offset_of_many_at_once_exactly_one_is_fresh<B: StoreBackend>(b: B) {
    let message = at(&b, 3);
    eight_at_once(&b, &group(), &message).await;
}

/// Eight members apply one batch at once; each of its messages has its effect once.
pub async fn inb_1_by_offset_batches_at_once_apply_each_message_once<B: StoreBackend>(b: B) {
    let messages: Vec<_> = [4, 5, 6, 9, 10].into_iter().map(|offset| at(&b, offset)).collect();
    eight_batches_at_once(&b, &group(), &messages).await;
}

/// Running the transaction again after an unknown commit applies the message exactly once.
pub async fn inb_1_an_offset_moves_exactly_when_an_unknown_commit_was_applied<B: StoreBackend>(
    b: B,
) {
    for (offset, loss) in (0..).zip([CommitLoss::Request, CommitLoss::Answer]) {
        after_an_unknown_commit(&b, &group(), &at(&b, offset), loss).await;
    }
}

/// What is admitted is durable.
pub async fn inb_1_an_offset_survives_a_crash<B: StoreBackend>(b: B) {
    let message = at(&b, 7);
    take(&b, &group(), &message).await;
    b.crash().await;
    assert_eq!(take(&b, &group(), &message).await, Admit::Duplicate);
    assert_eq!(take(&b, &group(), &at(&b, 8)).await, Admit::Fresh);
}

/// A dropped unit has admitted nothing.
pub async fn inb_2_an_offset_that_is_rolled_back_has_not_moved<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 0)).await;
    rolled_back_twice(&b, &group(), &at(&b, 9)).await;
    assert_eq!(take(&b, &group(), &at(&b, 1)).await, Admit::Fresh, "the offset moved");
}

/// The same number elsewhere is another message.
pub async fn inb_3_each_group_topic_and_partition_has_its_own_offset<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 500)).await;
    let others = [
        (group(), Incoming { partition: Partition(1), ..at(&b, 2) }),
        (group(), Incoming { topic: Topic::from("others"), ..at(&b, 2) }),
        (dense(), at(&b, 2)),
    ];
    for (group, message) in &others {
        assert_eq!(take(&b, group, message).await, Admit::Fresh, "{message:?}");
        assert_eq!(take(&b, group, message).await, Admit::Duplicate, "{message:?}");
    }
}

/// Whether the other will commit is not known yet: to skip the message now could lose it.
pub async fn inb_4_an_offset_in_progress_is_never_answered_duplicate<B: StoreBackend>(b: B) {
    in_progress(&b, &group(), &at(&b, 0)).await;
}

/// The second's answer, or that of its repetition, once the first committed.
pub async fn inb_4_after_a_commit_the_offset_that_waited_is_a_duplicate<B: StoreBackend>(b: B) {
    let answer = answer_after(&b, &group(), &at(&b, 0), async |unit| commit(unit).await).await;
    assert_eq!(answer, Admit::Duplicate);
}

/// The second's answer, or that of its repetition, once the first was dropped.
pub async fn inb_4_after_a_rollback_the_offset_that_waited_is_fresh<B: StoreBackend>(b: B) {
    let answer = answer_after(&b, &group(), &at(&b, 0), async |unit| drop(unit)).await;
    assert_eq!(answer, Admit::Fresh);
}

/// Whatever it says: what was passed over is not in the topic, or was not for this group.
pub async fn inb_6_everything_below_the_highest_offset_is_a_duplicate<B: StoreBackend>(b: B) {
    assert_eq!(take(&b, &group(), &at(&b, 5)).await, Admit::Fresh);
    for offset in [5, 4, 0] {
        assert_eq!(take(&b, &group(), &at(&b, offset)).await, Admit::Duplicate);
    }
}

/// Whatever it says: the topic holds no message twice, so it is another one.
pub async fn inb_6_everything_above_the_highest_offset_is_fresh<B: StoreBackend>(b: B) {
    let message = at(&b, 5);
    for offset in [5, 6, 9] {
        let above = Incoming { offset: Offset(offset), ..message.clone() };
        assert_eq!(take(&b, &group(), &above).await, Admit::Fresh, "offset {offset}");
    }
}

/// A member that lost its partition, and comes with what its successor has applied and more.
pub async fn inb_6_a_zombie_behind_its_successor_admits_nothing<B: StoreBackend>(b: B) {
    let messages: Vec<_> = (0..6).map(|offset| at(&b, offset)).collect();
    for message in &messages {
        assert_eq!(take(&b, &group(), message).await, Admit::Fresh);
    }
    for message in &messages[2..] {
        assert_eq!(take(&b, &group(), message).await, Admit::Duplicate);
    }
}

/// It has a new one.
pub async fn inb_6_a_released_message_is_decided_by_its_offset<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 10)).await;
    let released = Incoming { turn: Turn::Released, ..at(&b, 11) };
    assert_eq!(take(&b, &group(), &released).await, Admit::Fresh);
    assert_eq!(take(&b, &group(), &released).await, Admit::Duplicate);
}

/// Its offset is old; and it moves nothing.
pub async fn inb_6_a_replayed_message_is_decided_by_its_id<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 10)).await;
    for offset in [3, 50] {
        let replayed = Incoming { turn: Turn::Replayed, ..at(&b, offset) };
        assert_eq!(take(&b, &group(), &replayed).await, Admit::Fresh);
        assert_eq!(take(&b, &group(), &replayed).await, Admit::Duplicate);
    }
    assert_eq!(take(&b, &group(), &at(&b, 11)).await, Admit::Fresh, "the offset moved");
}

/// Markers of transactions and compaction leave holes.
pub async fn inb_7_offsets_that_were_passed_over_mean_nothing_by_default<B: StoreBackend>(b: B) {
    for offset in [3, 4, 9, 1000] {
        assert_eq!(take(&b, &group(), &at(&b, offset)).await, Admit::Fresh, "offset {offset}");
    }
}

/// Once, at the message that shows it.
pub async fn inb_7_offsets_missing_where_they_are_dense_are_reported<B: StoreBackend>(b: B) {
    for (offset, expect) in [
        (7, Admit::Fresh),
        (8, Admit::Fresh),
        (11, Admit::Gap { expected: 9 }),
        (11, Admit::Duplicate),
        (9, Admit::Duplicate),
        (12, Admit::Fresh),
        (14, Admit::Gap { expected: 13 }),
    ] {
        assert_eq!(take(&b, &dense(), &at(&b, offset)).await, expect, "offset {offset}");
    }
}

/// A group that kept rows before it kept offsets does not apply again what it has rows of.
pub async fn inb_8_what_was_admitted_by_id_is_a_duplicate_by_offset<B: StoreBackend>(b: B) {
    let by_id = Incoming { turn: Turn::Replayed, ..at(&b, 3) };
    assert_eq!(take(&b, &group(), &by_id).await, Admit::Fresh);
    let in_order = Incoming { turn: Turn::InOrder, offset: Offset(20), ..by_id };
    assert_eq!(take(&b, &group(), &in_order).await, Admit::Duplicate);
    assert_eq!(take(&b, &group(), &at(&b, 21)).await, Admit::Fresh);
}
