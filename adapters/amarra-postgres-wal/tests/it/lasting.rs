//! Streams that break, slots that are lost, owners that die: no row is lost or doubled by any.

use std::time::Duration;

use amarra_core::SeededEntropy;
use amarra_messaging::OutboxLog;
use amarra_messaging::message::{Pos, Seq};
use amarra_messaging::outbox::Cursor;
use testbed::{Direction, PgOptions, PgVersion, Postgres, Proxy};

use crate::bed::{database, leases, prepare, table, until, wal, wal_config};
use crate::outbox_bed::{append, append_at_once, assert_read, drain, execute, reconnected, server};

const ALL: usize = 1000;

fn entropy() -> SeededEntropy {
    SeededEntropy::new(2, "wal")
}

async fn a_stream_that_breaks_is_begun_anew(version: PgVersion) {
    let db = database(version).await;
    let proxy = Proxy::start(server(version).addr()).expect("a proxy");
    let wal = wal(&db, wal_config(&db, proxy.addr())).await;
    let log = wal.log.as_ref();
    drain(log, 100, ALL).await;
    for round in 0..3 {
        let first = round * 10 + 1;
        append(&db, &entropy(), "k", first..=first + 3).await;
        proxy.refuse(true).expect("a proxy that refuses");
        proxy.cut_now();
        until(|| !log.status().following).await;
        append(&db, &entropy(), "k", first + 4..=first + 6).await;
        assert_read(&drain(log, 3, ALL).await, &[("k", first..=first + 6)]);
        proxy.refuse(false).expect("a proxy that listens");
        wal.following().await;
        append(&db, &entropy(), "k", first + 7..=first + 9).await;
        assert_read(&drain(log, 3, ALL).await, &[("k", first + 7..=first + 9)]);
    }
    let status = log.status();
    assert!(status.streams == 4 && status.ended.is_some(), "{status:?}");
    append(&db, &entropy(), "k", 31..=33).await;
    assert_read(&drain(log, 3, ALL).await, &[("k", 31..=33)]);
    assert_eq!(log.status().from_log, status.from_log + 3, "the log does not serve again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_is_begun_anew_on_18() {
    a_stream_that_breaks_is_begun_anew(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_is_begun_anew_on_15() {
    a_stream_that_breaks_is_begun_anew(PgVersion::V15).await;
}

/// The server gives a slot up that holds more log than it may keep; nothing is lost with it.
async fn an_invalidated_slot_costs_a_new_start(version: PgVersion) {
    let options = PgOptions {
        settings: vec![
            ("max_slot_wal_keep_size".into(), "1MB".into()),
            ("min_wal_size".into(), "32MB".into()),
            ("max_wal_size".into(), "32MB".into()),
            ("wal_sender_timeout".into(), "0".into()),
        ],
        ..PgOptions::default()
    };
    let server =
        tokio::task::block_in_place(|| Postgres::start(version, options)).expect("a server");
    let db = prepare(&server, "lost").await;
    let proxy = Proxy::start(server.addr()).expect("a proxy");
    let wal = wal(&db, wal_config(&db, proxy.addr())).await;
    drain(wal.log.as_ref(), 100, ALL).await;
    append(&db, &entropy(), "k", 1..=3).await;
    proxy.stall(Direction::Down, true);
    proxy.stall(Direction::Up, true);
    execute(&db, "CREATE TABLE bulk (b text)").await;
    for n in 0..8_u64 {
        append_at_once(&db, &entropy(), "k", n * 1000 + 4..=n * 1000 + 1003).await;
        let bulk =
            "INSERT INTO bulk SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n";
        execute(&db, bulk).await;
        execute(&db, "CHECKPOINT").await;
    }
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE wal_status <> 'lost'";
    for _ in 0..1000 {
        let left: i64 = sqlx::query_scalar(slots).fetch_one(db.pool()).await.expect("a count");
        if left == 0 {
            break;
        }
        execute(&db, "SELECT pg_switch_wal(); CHECKPOINT").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.heal();
    until(|| wal.log.status().ended.is_some()).await;
    assert_read(&drain(wal.log.as_ref(), 500, ALL).await, &[("k", 1..=8003)]);
    wal.following().await;
    append(&db, &entropy(), "k", 8004..=8005).await;
    drain(wal.log.as_ref(), 500, ALL).await;
    let before = wal.log.status();
    append(&db, &entropy(), "k", 8006..=8008).await;
    assert_read(&drain(wal.log.as_ref(), 500, ALL).await, &[("k", 8006..=8008)]);
    assert_eq!(wal.log.status().from_log, before.from_log + 3, "{before:?}");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidated_slot_costs_a_new_start_on_18() {
    an_invalidated_slot_costs_a_new_start(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidated_slot_costs_a_new_start_on_15() {
    an_invalidated_slot_costs_a_new_start(PgVersion::V15).await;
}

/// The server is killed with rows held and a batch open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_server_loses_no_row() {
    let started = || Postgres::start(PgVersion::V18, PgOptions::default());
    let server = tokio::task::block_in_place(started).expect("a server");
    let db = prepare(&server, "crashed").await;
    let wal = wal(&db, wal_config(&db, server.addr())).await;
    drain(wal.log.as_ref(), 100, ALL).await;
    append(&db, &entropy(), "k", 1..=9).await;
    let mut read = drain(wal.log.as_ref(), 4, 1).await;
    tokio::task::block_in_place(|| server.crash()).expect("the server back");
    until(|| wal.log.status().streams == 2).await;
    let log: &dyn OutboxLog = wal.log.as_ref();
    reconnected(log).await;
    read.extend(drain(log, 4, ALL).await);
    assert_read(&read, &[("k", 1..=9)]);
    db.close().await;
}

/// An owner dies in the middle of a batch; one of the other kind goes on, and back again: the
/// cursor, the positions and the rows are the same for both.
async fn relays_of_both_kinds_take_over_from_each_other(version: PgVersion) {
    let db = database(version).await;
    let lease_time = Duration::from_millis(400);
    let mut next = 1;
    let mut came = Vec::new();
    for round in 0..6 {
        let name = format!("owner-{round}");
        let wal = match round % 2 {
            0 => Some(wal(&db, wal_config(&db, server(version).addr())).await),
            _ => None,
        };
        let log: std::sync::Arc<dyn OutboxLog> = match &wal {
            Some(wal) => wal.log.clone(),
            None => table(&db).await,
        };
        let mut held = Vec::new();
        while held.is_empty() {
            held = leases(log.as_ref(), &name, lease_time).await;
        }
        for lease in &held {
            // What the last owner left open, then one whole batch, then a part of the next.
            finish(log.as_ref(), lease, &mut came, ALL).await;
        }
        append(&db, &entropy(), "k", next..=next + 5).await;
        next += 6;
        leases(log.as_ref(), &name, lease_time).await;
        for lease in &held {
            finish(log.as_ref(), lease, &mut came, 2).await;
        }
        // Nothing is given back: the successor waits for the lease to run out.
    }
    let last = table(&db).await;
    let mut held = Vec::new();
    while held.is_empty() {
        held = leases(last.as_ref(), "last", Duration::from_secs(60)).await;
    }
    for lease in &held {
        finish(last.as_ref(), lease, &mut came, ALL).await;
    }
    for (at, (pos, version)) in came.iter().enumerate() {
        assert_eq!((pos.0, *version), (at as u64 + 1, at as u64 + 1), "{came:?}");
    }
    assert_eq!(came.len() as u64, next - 1);
}

/// Reads a shard in chunks of two, at most `chunks` of them, until a batch is empty.
async fn finish(
    log: &dyn OutboxLog,
    lease: &amarra_messaging::outbox::Lease,
    came: &mut Vec<(Pos, u64)>,
    chunks: usize,
) {
    let mut cursor = log.resume(lease).await.expect("resume").cursor;
    for _ in 0..chunks {
        let chunk = log.next_chunk(lease, &cursor, 2).await.expect("a chunk");
        let empty = chunk.rows.is_empty();
        for row in &chunk.rows {
            cursor = Cursor { last_seq: row.seq, pos: cursor.pos.next(), ..cursor };
            let envelope = amarra_messaging::wire::envelope(&row.record).expect("a message");
            came.push((cursor.pos, envelope.subject_version.get()));
        }
        cursor.cur = Some(chunk.cur.clone());
        if chunk.last {
            cursor = Cursor { prev: chunk.cur, cur: None, last_seq: Seq(0), ..cursor };
        }
        log.checkpoint(lease, &cursor).await.expect("checkpoint");
        if empty {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_of_both_kinds_take_over_from_each_other_on_18() {
    relays_of_both_kinds_take_over_from_each_other(PgVersion::V18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_of_both_kinds_take_over_from_each_other_on_15() {
    relays_of_both_kinds_take_over_from_each_other(PgVersion::V15).await;
}
