//! Saved cursors and parked rows, and that a superseded epoch can change neither.

use std::collections::BTreeSet;

use amarra_core::PartitionKey;
use amarra_messaging::message::{Pos, Seq};
use amarra_messaging::outbox::{Cursor, ParkedRow, Resumed, Row};
use amarra_messaging::{OutboxLog, Topic};

use super::batch::{append, retake};
use crate::backend::StoreBackend;
use crate::check::{Must, within};
use crate::reader::{Lease, all_shards, assert_fenced, behind, busy_shard};

/// Takes the shard of a key with `rows` rows, and lets the lease pass to a successor.
async fn superseded<B: StoreBackend>(b: &B, rows: u64) -> (Lease, Lease, Vec<Row>) {
    append(b, "k", 1..=rows).await;
    let old = busy_shard(b, "a", b.lease()).await;
    let log = b.outbox_log();
    let chunk = log.next_chunk(&old, &Cursor::default(), 100).await.must("next_chunk");
    b.pass(b.lease() * 2).await;
    let new = retake(b, &old).await;
    (old, new, chunk.rows)
}

fn as_parked(rows: &[Row]) -> Vec<ParkedRow> {
    let positions = 1_u64..;
    rows.iter()
        .zip(positions)
        .map(|(row, pos)| ParkedRow {
            seq: row.seq,
            pos: Pos(pos),
            topic: row.topic.clone(),
            record: row.record.clone(),
            reason: format!("refused at {pos}").into(),
        })
        .collect()
}

fn key() -> PartitionKey {
    PartitionKey::from("k")
}

fn topic() -> Topic {
    Topic::from("things")
}

/// A zombie's cursor neither is saved nor moves the successor's.
pub async fn obl_5_a_checkpoint_of_a_superseded_epoch_changes_nothing<B: StoreBackend>(b: B) {
    let (old, new, rows) = superseded(&b, 3).await;
    let log = b.outbox_log();
    let chunk = log.next_chunk(&new, &Cursor::default(), 10).await.must("next_chunk");
    let saved = behind(&chunk, 1);
    log.checkpoint(&new, &saved).await.must("checkpoint");
    for at in 0..=rows.len() {
        assert_fenced(log.checkpoint(&old, &behind(&chunk, at)).await, "checkpoint");
    }
    assert_eq!(log.resume(&new).await.must("resume").cursor, saved);
}

/// A zombie parks nothing.
pub async fn obl_5_parking_under_a_superseded_epoch_changes_nothing<B: StoreBackend>(b: B) {
    let (old, new, rows) = superseded(&b, 2).await;
    let log = b.outbox_log();
    assert_fenced(log.park(&old, &as_parked(&rows)).await, "park");
    assert_eq!(log.resume(&new).await.must("resume").parked, BTreeSet::new());
    assert_eq!(log.parked(Seq::default(), 10).await.must("parked"), []);
}

/// A zombie takes no released row away from its successor.
pub async fn obl_5_settling_under_a_superseded_epoch_changes_nothing<B: StoreBackend>(b: B) {
    let (old, new, rows) = superseded(&b, 2).await;
    let log = b.outbox_log();
    let parked = as_parked(&rows);
    log.park(&new, &parked).await.must("park");
    log.release(&topic(), &key()).await.must("release");
    assert_fenced(log.settle(&old, &parked).await, "settle");
    assert_eq!(log.released(&new, 10).await.must("released"), parked);
}

/// Without a saved cursor everything is still to be read.
pub async fn obl_6_a_fresh_shard_resumes_at_the_start<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    for lease in all_shards(log.as_ref(), "a", b.lease()).await {
        assert_eq!(log.resume(&lease).await.must("resume"), Resumed::default());
    }
}

/// Epoch after epoch goes on where the one before saved, field for field.
pub async fn obl_6_resume_returns_the_cursor_last_saved_by_any_epoch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=3).await;
    let lease = busy_shard(&b, "a", b.lease()).await;
    let chunk = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    let mid_batch = behind(&chunk, 2);
    log.checkpoint(&lease, &behind(&chunk, 1)).await.must("checkpoint");
    log.checkpoint(&lease, &mid_batch).await.must("checkpoint");
    assert_eq!(log.resume(&lease).await.must("resume").cursor, mid_batch);
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    assert_eq!(log.resume(&successor).await.must("resume").cursor, mid_batch);
    let closed =
        Cursor { prev: chunk.cur.clone(), cur: None, last_seq: Seq::default(), pos: Pos(3) };
    log.checkpoint(&successor, &closed).await.must("checkpoint");
    log.checkpoint(&successor, &closed).await.must("saving a cursor again");
    assert_eq!(log.resume(&successor).await.must("resume").cursor, closed);
}

/// The cursor is durable before `checkpoint` answers.
pub async fn obl_6_a_saved_cursor_survives_a_crash<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=2).await;
    let lease = busy_shard(&b, "a", b.lease()).await;
    let chunk = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    let saved = behind(&chunk, 1);
    log.checkpoint(&lease, &saved).await.must("checkpoint");
    log.park(&lease, &as_parked(&chunk.rows[1..])).await.must("park");
    b.crash().await;
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    assert!(successor.epoch > lease.epoch, "a crash forgot an epoch");
    let resumed = log.resume(&successor).await.must("resume");
    assert_eq!(resumed, Resumed { cursor: saved, parked: [key()].into() });
}

/// Parked keys come back with the cursor, of their shard only.
pub async fn obl_6_resume_names_every_parked_key<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=2).await;
    append(&b, "other", 1..=1).await;
    let mut named = BTreeSet::new();
    for lease in all_shards(log.as_ref(), "a", b.lease() * 60).await {
        let chunk = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
        let poison: Vec<_> =
            chunk.rows.into_iter().filter(|row| row.record.partition_key() == key()).collect();
        log.park(&lease, &as_parked(&poison)).await.must("park");
        let parked = log.resume(&lease).await.must("resume").parked;
        assert_eq!(!parked.is_empty(), !poison.is_empty(), "a shard names another's keys");
        named.extend(parked);
    }
    assert_eq!(named, [key()].into());
}

/// Releasing and settling one of two rows leaves the key parked, the last one frees it.
pub async fn obl_6_a_key_is_parked_until_its_last_row_is_settled<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 2).await;
    let rows = as_parked(&first_rows(&b, &lease).await);
    log.park(&lease, &rows).await.must("park");
    assert_eq!(log.released(&lease, 10).await.must("released"), [], "nobody released them");
    log.release(&topic(), &PartitionKey::from("other")).await.must("release another key");
    log.release(&Topic::from("elsewhere"), &key()).await.must("release another topic");
    assert_eq!(log.released(&lease, 10).await.must("released"), [], "another key was released");
    log.release(&topic(), &key()).await.must("release");
    log.settle(&lease, &rows[..1]).await.must("settle");
    assert_eq!(log.resume(&lease).await.must("resume").parked, [key()].into());
    assert_eq!(log.released(&lease, 10).await.must("released"), rows[1..]);
    log.settle(&lease, &rows[1..]).await.must("settle");
    assert_eq!(log.resume(&lease).await.must("resume").parked, BTreeSet::new());
    assert_eq!(log.released(&lease, 10).await.must("released"), []);
    assert_eq!(log.parked(Seq::default(), 10).await.must("parked"), []);
}

/// A relay that parks again after a lost answer changes nothing.
pub async fn obl_6_parking_twice_keeps_the_first<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 2).await;
    let rows = as_parked(&first_rows(&b, &lease).await);
    log.park(&lease, &rows).await.must("park");
    let again: Vec<_> = rows
        .iter()
        .map(|row| ParkedRow { pos: Pos(99), reason: "again".into(), ..row.clone() })
        .collect();
    log.park(&lease, &again).await.must("park again");
    assert_eq!(log.parked(Seq::default(), 10).await.must("parked"), rows);
}

/// What is published after a release is what would have been: same order, same positions.
pub async fn obl_6_released_rows_come_in_order_with_their_positions<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 4).await;
    let rows = as_parked(&first_rows(&b, &lease).await);
    log.park(&lease, &rows[2..]).await.must("park");
    log.park(&lease, &rows[..2]).await.must("park");
    log.release(&topic(), &key()).await.must("release");
    assert_eq!(log.released(&lease, 10).await.must("released"), rows);
    assert_eq!(log.released(&lease, 3).await.must("released"), rows[..3]);
}

/// The broker refused it again: what waits behind it must not go first, until the next release.
pub async fn obl_6_a_released_row_that_is_parked_again_holds_its_key_back<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 4).await;
    let mut rows = as_parked(&first_rows(&b, &lease).await);
    log.park(&lease, &rows).await.must("park");
    log.release(&topic(), &key()).await.must("release");
    rows[1].reason = "refused again".into();
    let again = ParkedRow { pos: Pos(99), ..rows[1].clone() };
    log.park(&lease, &[again]).await.must("park again");
    assert_eq!(log.released(&lease, 10).await.must("released"), [], "a row is still released");
    assert_eq!(log.parked(Seq::default(), 10).await.must("parked"), rows);
    log.release(&topic(), &key()).await.must("release again");
    assert_eq!(log.released(&lease, 10).await.must("released"), rows);
}

/// A checkpoint that was given up and arrives late.
pub async fn obl_7_a_cursor_does_not_go_back_within_an_epoch<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 3).await;
    let chunk = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    let opened = Cursor { cur: Some(chunk.cur.clone()), ..Cursor::default() };
    let closed =
        Cursor { prev: chunk.cur.clone(), cur: None, last_seq: Seq::default(), pos: Pos(3) };
    let steps = [opened, behind(&chunk, 1), behind(&chunk, 2), closed];
    for (at, step) in steps.iter().enumerate() {
        log.checkpoint(&lease, step).await.must("checkpoint");
        log.checkpoint(&lease, step).await.must("saving a cursor again");
        for earlier in &steps[..at] {
            assert!(log.checkpoint(&lease, earlier).await.is_err(), "back to {earlier:?}");
        }
        assert_eq!(log.resume(&lease).await.must("resume").cursor, *step);
    }
}

/// Nor does a successor, which resumes where its predecessor was.
pub async fn obl_7_a_cursor_does_not_go_back_in_a_later_epoch<B: StoreBackend>(b: B) {
    append(&b, "k", 1..=3).await;
    let log = b.outbox_log();
    let lease = busy_shard(&b, "a", b.lease()).await;
    let chunk = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    let saved = behind(&chunk, 2);
    log.checkpoint(&lease, &saved).await.must("checkpoint");
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    assert!(log.checkpoint(&successor, &behind(&chunk, 1)).await.is_err(), "a step back");
    assert_eq!(log.resume(&successor).await.must("resume").cursor, saved);
}

/// A relay that waits for it would sleep over the second one.
pub async fn obl_8_a_log_that_tells_of_one_append_tells_of_the_next<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=1).await;
    // Only where the adapter tells at all.
    for version in 2..5 {
        if within(&b, Box::pin(log.changed()).as_mut()).await.is_none() {
            assert_eq!(version, 2, "an append was not told");
            return;
        }
        append(&b, "k", version..=version).await;
    }
}

/// An operator pages through what is parked, released or not.
pub async fn obl_6_parked_rows_are_listed_in_pages<B: StoreBackend>(b: B) {
    let (lease, log) = shard_with_rows(&b, 5).await;
    let rows = as_parked(&first_rows(&b, &lease).await);
    log.park(&lease, &rows).await.must("park");
    let (mut after, mut listed) = (Seq::default(), Vec::new());
    loop {
        let page = log.parked(after, 2).await.must("parked");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.seq;
        listed.extend(page);
    }
    assert_eq!(listed, rows);
}

async fn shard_with_rows<B: StoreBackend>(
    b: &B,
    rows: u64,
) -> (Lease, std::sync::Arc<dyn OutboxLog>) {
    append(b, "k", 1..=rows).await;
    (busy_shard(b, "a", b.lease() * 60).await, b.outbox_log())
}

async fn first_rows<B: StoreBackend>(b: &B, lease: &Lease) -> Vec<Row> {
    let chunk = b.outbox_log().next_chunk(lease, &Cursor::default(), 100).await;
    chunk.must("next_chunk").rows
}
