//! What a batch holds: the difference of two snapshots, the same however often it is read.

use std::cell::Cell;

use amarra_messaging::message::{Pos, Seq};
use amarra_messaging::outbox::Cursor;
use futures_util::future::join;

use crate::backend::StoreBackend;
use crate::check::{Gate, Must, begin, commit, outgoing, transact};
use crate::reader::{Lease, Reader, assert_once, behind, busy_shard, enter, ids, leave};

/// With its closing snapshot in the cursor, a batch does not change, whatever commits meanwhile.
pub async fn obl_2_an_open_batch_reads_the_same_for_ever<B: StoreBackend>(b: B) {
    let env = b.env();
    let log = b.outbox_log();
    // A row that is appended first and committed last: of all rows it must not slip in. A store
    // with one writer lets nobody append before it is committed; then it belongs to the batch.
    let own = outgoing(&env, "k", 100);
    let (appended, read, ended) = (Gate::new(), Gate::new(), Cell::new(false));
    let open = async {
        let mut unit = begin(b.store("open").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&own)).await.must("enqueue");
        appended.open();
        read.pass(&b).await;
        // From here on it may be committed; the read that came before must not have seen it.
        ended.set(true);
        commit(unit).await;
    };
    let others = async {
        appended.pass(&b).await;
        let expect = append(&b, "k", 1..=3).await;
        let lease = busy_shard(&b, "relay", b.lease() * 60).await;
        let first = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
        let was_open = !ended.get();
        read.open();
        (expect, lease, first, was_open)
    };
    let ((), (mut expect, lease, first, was_open)) = join(open, others).await;
    if !was_open && first.rows.len() > expect.len() {
        expect.insert(0, own.envelope.id);
    }
    assert_eq!(ids(&first.rows), expect);
    assert!(first.last, "the rows there were did not end a batch of ten");
    append(&b, "k", 4..=6).await;
    for _ in 0..3 {
        let again = log.next_chunk(&lease, &behind(&first, 0), 10).await.must("next_chunk");
        assert_eq!(again, first, "an open batch changed");
        let rest = log.next_chunk(&lease, &behind(&first, 2), 10).await.must("next_chunk");
        assert_eq!(ids(&rest.rows), expect[2..]);
    }
}

/// An empty read saves nothing. One that opens a batch answers what any later read of it does; the
/// saved cursor is the one that opens it, or as it was before.
pub async fn obl_9_a_batch_is_opened_as_it_is_read_and_saved_if_it_says_so<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=2).await;
    let lease = busy_shard(&b, "relay", b.lease() * 60).await;
    let mut cursor = Cursor::default();
    for version in [3, 5] {
        let (chunk, saved) = log.open_chunk(&lease, &cursor, 10).await.must("open_chunk");
        assert!(!chunk.rows.is_empty());
        let before = log.resume(&lease).await.must("resume").cursor;
        enter(&mut cursor, &chunk, 10);
        assert_eq!(before == cursor, saved, "it says saved: {saved}, and is {before:?}");
        append(&b, "k", version..=version).await;
        let again = log.next_chunk(&lease, &cursor, 10).await.must("next_chunk");
        assert_eq!(again, chunk, "the batch is not the one that was opened");
        // Of an open batch nothing is saved but by a checkpoint.
        let (rest, saved) = log.open_chunk(&lease, &behind(&chunk, 1), 10).await.must("open_chunk");
        assert!(!saved && ids(&rest.rows) == ids(&chunk.rows)[1..]);
        log.checkpoint(&lease, &cursor).await.must("checkpoint");
        leave(&mut cursor, &chunk);
        log.checkpoint(&lease, &cursor).await.must("checkpoint");
        let (rows, _) = log.open_chunk(&lease, &cursor, 10).await.must("open_chunk");
        enter(&mut cursor, &rows, 10);
        leave(&mut cursor, &rows);
        log.checkpoint(&lease, &cursor).await.must("checkpoint");
        let (empty, saved) = log.open_chunk(&lease, &cursor, 10).await.must("open_chunk");
        assert!(empty.rows.is_empty() && !saved, "an empty read saved something");
        assert_eq!(log.resume(&lease).await.must("resume").cursor, cursor);
        append(&b, "k", version + 1..=version + 1).await;
    }
}

/// Whoever lost the shard may read, and does not touch what its successor saves.
pub async fn obl_9_a_superseded_epoch_opens_no_batch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    append(&b, "k", 1..=2).await;
    let lease = busy_shard(&b, "a", b.lease()).await;
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    let before = log.resume(&successor).await.must("resume").cursor;
    if let Ok((_, saved)) = log.open_chunk(&lease, &Cursor::default(), 10).await {
        assert!(!saved, "a superseded epoch opened a batch");
    }
    assert_eq!(log.resume(&successor).await.must("resume").cursor, before);
}

/// Rows up to the cursor's sequence value are left out, and no others.
pub async fn obl_2_a_chunk_goes_on_after_the_last_sequence_value<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let expect = append(&b, "k", 1..=5).await;
    let lease = busy_shard(&b, "relay", b.lease() * 60).await;
    let all = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    assert!(all.rows.is_sorted_by(|x, y| x.seq < y.seq), "rows do not ascend by sequence");
    for skip in 0..=5 {
        let rest = log.next_chunk(&lease, &behind(&all, skip), 10).await.must("next_chunk");
        assert_eq!(ids(&rest.rows), expect[skip..], "after {skip} rows");
        assert!(rest.last);
    }
    let two = log.next_chunk(&lease, &behind(&all, 1), 2).await.must("next_chunk");
    assert_eq!(ids(&two.rows), expect[1..3]);
    assert!(!two.last, "a batch ended with two rows to go");
}

/// Reading one by one, in threes or at once makes no difference.
pub async fn obl_2_chunks_of_any_size_make_the_same_batch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let expect = append(&b, "k", 1..=7).await;
    let lease = busy_shard(&b, "relay", b.lease() * 60).await;
    for limit in [1, 3, 7, 100] {
        let mut cursor = Cursor::default();
        let mut rows = Vec::new();
        loop {
            let chunk = log.next_chunk(&lease, &cursor, limit).await.must("next_chunk");
            enter(&mut cursor, &chunk, limit);
            leave(&mut cursor, &chunk);
            rows.extend(chunk.rows);
            if chunk.last {
                break;
            }
        }
        assert_eq!(ids(&rows), expect, "in chunks of {limit}");
        assert_eq!(cursor.pos, Pos(7));
    }
}

/// The next batch starts where the last one ended.
pub async fn obl_2_a_closed_batch_is_not_returned_again<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 2).await;
    assert_eq!(reader.drain().await, [], "an empty outbox has rows");
    let first = append(&b, "k", 1..=3).await;
    assert_eq!(ids(&reader.drain().await), first);
    assert_eq!(reader.drain().await, [], "a closed batch came again");
    let second = append(&b, "k", 4..=5).await;
    assert_eq!(ids(&reader.drain().await), second);
    assert_once(&reader.drain().await, []);
}

/// A successor that resumes mid-batch reads the rest of it, and from its start the whole of it.
pub async fn obl_2_another_relay_finds_the_same_batch<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let expect = append(&b, "k", 1..=4).await;
    let lease = busy_shard(&b, "a", b.lease()).await;
    let whole = log.next_chunk(&lease, &Cursor::default(), 10).await.must("next_chunk");
    let saved = behind(&whole, 1);
    log.checkpoint(&lease, &saved).await.must("checkpoint");
    append(&b, "k", 5..=6).await;
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    let resumed = log.resume(&successor).await.must("resume");
    assert_eq!(resumed.cursor, saved);
    let rest = log.next_chunk(&successor, &resumed.cursor, 10).await.must("next_chunk");
    assert_eq!(ids(&rest.rows), expect[1..]);
    let from_start = Cursor { last_seq: Seq::default(), ..saved };
    let again = log.next_chunk(&successor, &from_start, 10).await.must("next_chunk");
    assert_eq!(again, whole, "a re-publish would differ from the first publish");
}

/// Takes one shard over under another name.
pub(super) async fn retake<B: StoreBackend>(b: &B, lease: &Lease) -> Lease {
    let leases =
        crate::reader::all_shards(b.outbox_log().as_ref(), "successor", b.lease() * 60).await;
    leases.into_iter().find(|l| l.shard == lease.shard).must("the expired shard was not free")
}

/// Appends messages of one key, each in its own transaction, and returns their events.
pub(super) async fn append<B: StoreBackend>(
    b: &B,
    key: &str,
    versions: std::ops::RangeInclusive<u64>,
) -> Vec<amarra_core::EventId> {
    let mut events = Vec::new();
    for version in versions {
        let message = outgoing(&b.env(), key, version);
        transact(&b.env(), b.store("writer").as_ref(), async |unit| {
            unit.enqueue(std::slice::from_ref(&message)).await
        })
        .await;
        events.push(message.envelope.id);
    }
    events
}
