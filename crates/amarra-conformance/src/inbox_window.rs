//! The laws of `Inbox` in `Mode::Window`: each position once, and what comes late not lost.

use amarra_messaging::message::{Pos, Position, Shard, Turn};
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
    /// Expands to the laws of `Inbox` by position for one `StoreBackend`, whose inboxes are
    /// those of [`inbox::config`](crate::inbox::config).
    inbox_window_laws in inbox_window for StoreBackend {
        Inbox:
            "INB-1" inb_1_in_a_window_each_position_is_fresh_once,
            "INB-1" inb_1_in_a_window_of_many_at_once_exactly_one_is_fresh,
            "INB-1" inb_1_in_a_window_batches_at_once_apply_each_position_once,
            "INB-1" inb_1_a_window_is_marked_exactly_when_an_unknown_commit_was_applied,
            "INB-1" inb_1_a_window_survives_a_crash,
            "INB-2" inb_2_a_mark_that_is_rolled_back_is_not_in_its_window,
            "INB-3" inb_3_each_group_partition_and_shard_has_its_own_window,
            "INB-4" inb_4_a_position_in_progress_is_never_answered_duplicate,
            "INB-4" inb_4_after_a_commit_the_position_that_waited_is_a_duplicate,
            "INB-4" inb_4_after_a_rollback_the_position_that_waited_is_fresh,
            "INB-5" inb_5_a_position_below_the_window_is_a_duplicate,
            "INB-5" inb_5_a_position_that_was_passed_over_is_fresh,
            "INB-5" inb_5_a_released_message_below_the_window_is_fresh_once,
            "INB-5" inb_5_a_released_message_that_the_window_knows_is_a_duplicate,
            "INB-5" inb_5_a_released_message_marks_the_window_that_reaches_it,
            "INB-5" inb_5_a_replayed_message_below_the_window_is_fresh_once,
            "INB-5" inb_5_a_message_without_a_position_is_decided_by_its_id,
            "INB-7" inb_7_positions_that_were_passed_over_mean_nothing_by_default,
            "INB-7" inb_7_positions_missing_where_they_are_dense_are_reported,
            "INB-8" inb_8_what_was_admitted_by_id_is_a_duplicate_in_its_window;
    }
}

fn group() -> Group {
    Group::from("by-position")
}

fn dense() -> Group {
    Group::from("by-dense-position")
}

/// Makes a message with a position; its offset is another number, as other topics take positions.
fn at<B: StoreBackend>(b: &B, pos: u64) -> Incoming {
    let position = Position { source: "orders".into(), shard: Shard(0), pos: Pos(pos) };
    Incoming { position: Some(position), ..incoming(&b.env(), "k", pos / 2) }
}

/// Makes messages in order out of the same message published again at `offset`.
fn turned(message: &Incoming, offset: u64, turn: Turn) -> Incoming {
    Incoming { offset: Offset(offset), turn, ..message.clone() }
}

/// Also at its second offset, where a re-publish put it.
pub async fn inb_1_in_a_window_each_position_is_fresh_once<B: StoreBackend>(b: B) {
    let messages: Vec<_> = (0..5).map(|pos| at(&b, pos)).collect();
    for message in &messages {
        assert_eq!(take(&b, &group(), message).await, Admit::Fresh);
        assert_eq!(take(&b, &group(), message).await, Admit::Duplicate);
    }
    for message in &messages {
        let again = turned(message, 100, Turn::InOrder);
        assert_eq!(take(&b, &group(), &again).await, Admit::Duplicate);
    }
}

/// Eight members apply one message at once; its effect happens once.
pub async fn inb_1_in_a_window_of_many_at_once_exactly_one_is_fresh<B: StoreBackend>(b: B) {
    let message = at(&b, 3);
    eight_at_once(&b, &group(), &message).await;
}

/// Eight members apply one batch at once; each of its messages has its effect once.
pub async fn inb_1_in_a_window_batches_at_once_apply_each_position_once<B: StoreBackend>(b: B) {
    let messages: Vec<_> = [0, 1, 3, 4, 80].into_iter().map(|pos| at(&b, pos)).collect();
    eight_batches_at_once(&b, &group(), &messages).await;
}

/// Running the transaction again after an unknown commit applies the message exactly once.
pub async fn inb_1_a_window_is_marked_exactly_when_an_unknown_commit_was_applied<
    B: StoreBackend,
>(
    b: B,
) {
    for (pos, loss) in (0..).zip([CommitLoss::Request, CommitLoss::Answer]) {
        after_an_unknown_commit(&b, &group(), &at(&b, pos), loss).await;
    }
}

/// What is marked is durable.
pub async fn inb_1_a_window_survives_a_crash<B: StoreBackend>(b: B) {
    let messages: Vec<_> = [0, 1, 5].into_iter().map(|pos| at(&b, pos)).collect();
    for message in &messages {
        take(&b, &group(), message).await;
    }
    b.crash().await;
    for message in &messages {
        assert_eq!(take(&b, &group(), message).await, Admit::Duplicate);
    }
    assert_eq!(take(&b, &group(), &at(&b, 3)).await, Admit::Fresh);
}

/// A dropped unit has marked nothing, and has not moved the window.
pub async fn inb_2_a_mark_that_is_rolled_back_is_not_in_its_window<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 0)).await;
    let far = at(&b, 500);
    rolled_back_twice(&b, &group(), &far).await;
    assert_eq!(take(&b, &group(), &at(&b, 1)).await, Admit::Fresh, "the window moved");
    assert_eq!(take(&b, &group(), &far).await, Admit::Fresh);
}

/// Partitions are read at different speeds, and shards count for themselves.
pub async fn inb_3_each_group_partition_and_shard_has_its_own_window<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 500)).await;
    let position = |source: &str, shard| {
        Some(Position { source: source.into(), shard: Shard(shard), pos: Pos(2) })
    };
    let others = [
        (group(), Incoming { partition: Partition(1), ..at(&b, 2) }),
        (group(), Incoming { topic: Topic::from("others"), ..at(&b, 2) }),
        (group(), Incoming { position: position("orders", 1), ..at(&b, 2) }),
        (group(), Incoming { position: position("payments", 0), ..at(&b, 2) }),
        (dense(), at(&b, 2)),
    ];
    for (group, message) in &others {
        assert_eq!(take(&b, group, message).await, Admit::Fresh, "{message:?}");
    }
    for (group, message) in &others {
        assert_eq!(take(&b, group, message).await, Admit::Duplicate, "{message:?}");
    }
}

/// Whether the other will commit is not known yet: to skip the message now could lose it.
pub async fn inb_4_a_position_in_progress_is_never_answered_duplicate<B: StoreBackend>(b: B) {
    in_progress(&b, &group(), &at(&b, 0)).await;
}

/// The second's answer, or that of its repetition, once the first committed.
pub async fn inb_4_after_a_commit_the_position_that_waited_is_a_duplicate<B: StoreBackend>(b: B) {
    let answer = answer_after(&b, &group(), &at(&b, 0), async |unit| commit(unit).await).await;
    assert_eq!(answer, Admit::Duplicate);
}

/// The second's answer, or that of its repetition, once the first was dropped.
pub async fn inb_4_after_a_rollback_the_position_that_waited_is_fresh<B: StoreBackend>(b: B) {
    let answer = answer_after(&b, &group(), &at(&b, 0), async |unit| drop(unit)).await;
    assert_eq!(answer, Admit::Fresh);
}

/// The window is as long as configured: what it still reaches is told apart.
pub async fn inb_5_a_position_below_the_window_is_a_duplicate<B: StoreBackend>(b: B) {
    for pos in [0, 100] {
        assert_eq!(take(&b, &group(), &at(&b, pos)).await, Admit::Fresh);
    }
    for (pos, expect) in [
        (36, Admit::Duplicate),
        (1, Admit::Duplicate),
        (37, Admit::Fresh),
        (99, Admit::Fresh),
        (37, Admit::Duplicate),
    ] {
        assert_eq!(take(&b, &group(), &at(&b, pos)).await, expect, "position {pos}");
    }
}

/// A re-publish goes back, and finds what is missing.
pub async fn inb_5_a_position_that_was_passed_over_is_fresh<B: StoreBackend>(b: B) {
    for (pos, expect) in [
        (0, Admit::Fresh),
        (10, Admit::Fresh),
        (5, Admit::Fresh),
        (9, Admit::Fresh),
        (5, Admit::Duplicate),
        (10, Admit::Duplicate),
        (11, Admit::Fresh),
    ] {
        assert_eq!(take(&b, &group(), &at(&b, pos)).await, expect, "position {pos}");
    }
}

/// It was parked by the relay when its neighbours went out: old, and never seen.
pub async fn inb_5_a_released_message_below_the_window_is_fresh_once<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 500)).await;
    let released = turned(&at(&b, 3), 600, Turn::Released);
    assert_eq!(take(&b, &group(), &released).await, Admit::Fresh);
    assert_eq!(take(&b, &group(), &released).await, Admit::Duplicate);
    let again = turned(&released, 601, Turn::Released);
    assert_eq!(take(&b, &group(), &again).await, Admit::Duplicate);
}

/// Its first publish was stored although the relay got no answer.
pub async fn inb_5_a_released_message_that_the_window_knows_is_a_duplicate<B: StoreBackend>(b: B) {
    let message = at(&b, 50);
    take(&b, &group(), &message).await;
    take(&b, &group(), &at(&b, 60)).await;
    let released = turned(&message, 600, Turn::Released);
    assert_eq!(take(&b, &group(), &released).await, Admit::Duplicate);
}

/// So that the same message in order is a duplicate afterwards.
pub async fn inb_5_a_released_message_marks_the_window_that_reaches_it<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 60)).await;
    let message = at(&b, 50);
    let released = turned(&message, 600, Turn::Released);
    assert_eq!(take(&b, &group(), &released).await, Admit::Fresh);
    let other_id = Incoming { position: message.position.clone(), ..at(&b, 0) };
    assert_eq!(take(&b, &group(), &other_id).await, Admit::Duplicate, "the position is marked");
    assert_eq!(take(&b, &group(), &message).await, Admit::Duplicate);
}

/// A parking lot is emptied long after.
pub async fn inb_5_a_replayed_message_below_the_window_is_fresh_once<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 500)).await;
    let replayed = turned(&at(&b, 3), 1, Turn::Replayed);
    assert_eq!(take(&b, &group(), &replayed).await, Admit::Fresh);
    assert_eq!(take(&b, &group(), &replayed).await, Admit::Duplicate);
}

/// A foreign producer's.
pub async fn inb_5_a_message_without_a_position_is_decided_by_its_id<B: StoreBackend>(b: B) {
    take(&b, &group(), &at(&b, 500)).await;
    let messages: Vec<_> = (0..3).map(|offset| incoming(&b.env(), "k", offset)).collect();
    for message in &messages {
        assert_eq!(take(&b, &group(), message).await, Admit::Fresh);
    }
    for message in &messages {
        let again = turned(message, 700, Turn::InOrder);
        assert_eq!(take(&b, &group(), &again).await, Admit::Duplicate);
    }
}

/// They went to other topics and partitions.
pub async fn inb_7_positions_that_were_passed_over_mean_nothing_by_default<B: StoreBackend>(b: B) {
    for pos in [0, 1, 5, 40, 1000] {
        assert_eq!(take(&b, &group(), &at(&b, pos)).await, Admit::Fresh, "position {pos}");
    }
}

/// Once, at the message that shows it; what is missing may still come.
pub async fn inb_7_positions_missing_where_they_are_dense_are_reported<B: StoreBackend>(b: B) {
    for (pos, expect) in [
        (7, Admit::Fresh),
        (8, Admit::Fresh),
        (11, Admit::Gap { expected: 9 }),
        (11, Admit::Duplicate),
        (12, Admit::Fresh),
        (9, Admit::Fresh),
        (10, Admit::Fresh),
        (13, Admit::Fresh),
        (500, Admit::Gap { expected: 14 }),
    ] {
        assert_eq!(take(&b, &dense(), &at(&b, pos)).await, expect, "position {pos}");
    }
}

/// A group that kept rows before it kept windows does not apply again what it has rows of.
pub async fn inb_8_what_was_admitted_by_id_is_a_duplicate_in_its_window<B: StoreBackend>(b: B) {
    let in_order = at(&b, 5);
    let by_id = Incoming { position: None, ..in_order.clone() };
    assert_eq!(take(&b, &group(), &by_id).await, Admit::Fresh);
    assert_eq!(take(&b, &group(), &in_order).await, Admit::Duplicate);
    assert_eq!(take(&b, &group(), &at(&b, 6)).await, Admit::Fresh);
}
