//! Partitions are made ahead of the sequence, and dropped once every row of theirs was relayed.

use std::time::Duration;

use amarra_core::SeededEntropy;
use amarra_messaging::OutboxLog as _;
use amarra_messaging::message::Owner;
use amarra_messaging::outbox::{Cursor, ParkedRow};
use amarra_postgres::{PartitionsConfig, PgDatabase, PgOutboxLog, PgPartitions, Upkeep};
use sqlx::{Connection as _, PgConnection};
use testbed::PgVersion;

use crate::outbox_bed::{append, assert_read, database, drain, execute, log};

const LEASE: Duration = Duration::from_secs(60);

struct Bed {
    db: PgDatabase,
    owner: PgConnection,
    upkeep: PgPartitions,
    entropy: SeededEntropy,
}

impl Bed {
    /// A database whose sequence stands 10 values before the end of the first partition.
    async fn new(version: PgVersion) -> Self {
        let db = database(version).await;
        execute(&db, "SELECT setval('outbox_seq_seq', 999990)").await;
        let owner = PgConnection::connect(&db.config().url).await.expect("the owner");
        let config = PartitionsConfig { rows: 100, tries: 1, ..PartitionsConfig::default() };
        let upkeep = PgPartitions::new(config).expect("a configuration");
        Self { db, owner, upkeep, entropy: SeededEntropy::new(1, "upkeep") }
    }

    async fn maintain(&mut self) -> Upkeep {
        self.upkeep.maintain(&mut self.owner, false).await.expect("upkeep")
    }

    /// Relays what is left and keeps up until something is dropped or found in use: snapshots are
    /// of the whole cluster, in which other tests have transactions.
    async fn settle(&mut self, log: &PgOutboxLog) -> Upkeep {
        for _ in 0..600 {
            assert_read(&drain(log, 100, 100).await, &[]);
            let done = self.maintain().await;
            if !(done.dropped.is_empty() && done.busy.is_empty()) {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("a transaction of the cluster does not end")
    }

    async fn append(&self, key: &str, versions: std::ops::RangeInclusive<u64>) {
        append(&self.db, &self.entropy, key, versions).await;
    }

    async fn count(&mut self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.owner).await.expect(sql)
    }
}

fn names(upkeep: &Upkeep) -> [Vec<&str>; 3] {
    let of = |names: &'_ [String]| -> Vec<&'static str> {
        names.iter().map(|name| &*name.clone().leak()).collect()
    };
    [of(&upkeep.created), of(&upkeep.dropped), of(&upkeep.busy)]
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_when_relayed() {
    for version in PgVersion::ALL {
        let mut bed = Bed::new(version).await;
        let log = log(&bed.db).await;
        let planned = bed.upkeep.maintain(&mut bed.owner, true).await.expect("a dry run");
        let expect = ["outbox_1000001", "outbox_1000101"];
        assert_eq!(names(&planned), [expect.to_vec(), vec![], vec![]]);
        assert_eq!(bed.count("SELECT count(*) FROM outbox_range").await, 1, "a dry run did it");
        assert_eq!(bed.maintain().await, planned);
        assert_eq!(bed.maintain().await, Upkeep::default(), "done once is done");

        bed.append("k", 1..=30).await;
        let inside = bed.count("SELECT count(*) FROM outbox_1000001").await;
        assert!(inside > 0, "nothing went to the partition made ahead");
        assert_eq!(bed.count("SELECT count(*) FROM outbox_rest").await, 0);
        let waiting = bed.maintain().await;
        assert_eq!(waiting.dropped, Vec::<String>::new(), "rows that nobody relayed");
        // A batch that is open: some of its rows are acknowledged, and none may go.
        let mut read = drain(&log, 3, 1).await;
        assert_eq!(bed.maintain().await.dropped, Vec::<String>::new(), "half relayed");
        read.extend(drain(&log, 100, 100).await);
        assert_read(&read, &[("k", 1..=30)]);

        let kept = bed.count("SELECT count(*) FROM outbox").await;
        let planned = bed.upkeep.maintain(&mut bed.owner, true).await.expect("a dry run");
        assert_eq!(bed.count("SELECT count(*) FROM outbox").await, kept, "a dry run did it");
        assert!(planned.dropped.iter().all(|name| name == "outbox_1"), "{planned:?}");
        assert_eq!(bed.settle(&log).await.dropped, ["outbox_1"]);
        assert_eq!(bed.count("SELECT count(*) FROM outbox").await, inside, "another one's rows");
        bed.append("k", 31..=35).await;
        assert_read(&drain(&log, 100, 100).await, &[("k", 31..=35)]);
    }
}

#[tokio::test]
async fn a_group_that_has_not_relayed_keeps_the_rows() {
    let mut bed = Bed::new(PgVersion::V18).await;
    let (first, second) = (log(&bed.db).await, {
        let mut config = amarra_postgres::PgLogConfig::new("test");
        "other".clone_into(&mut config.group);
        amarra_postgres::PgOutboxLog::open(&bed.db, config).await.expect("a log")
    });
    bed.maintain().await;
    bed.append("k", 1..=20).await;
    bed.maintain().await;
    assert_read(&drain(&first, 100, 100).await, &[("k", 1..=20)]);
    assert_eq!(bed.maintain().await.dropped, Vec::<String>::new());
    assert_read(&drain(&second, 100, 100).await, &[("k", 1..=20)]);
    drain(&first, 100, 100).await;
    assert_eq!(bed.settle(&second).await.dropped, ["outbox_1"]);
}

#[tokio::test]
async fn parked_rows_outlive_the_partition_they_came_from() {
    let mut bed = Bed::new(PgVersion::V18).await;
    let log = log(&bed.db).await;
    bed.maintain().await;
    bed.append("poison", 1..=15).await;
    bed.maintain().await;
    // As the relay does: set aside first, then the cursor moves on.
    let mut parked = Vec::new();
    for lease in log.lease(&Owner::from("test"), 100, LEASE).await.expect("leases") {
        let cursor = log.resume(&lease).await.expect("resume").cursor;
        let chunk = log.next_chunk(&lease, &cursor, 100).await.expect("a chunk");
        let mut pos = cursor.pos;
        let aside = |row: amarra_messaging::outbox::Row| {
            pos = pos.next();
            let amarra_messaging::outbox::Row { seq, topic, record, .. } = row;
            ParkedRow { seq, pos, topic, record, reason: "poison".into() }
        };
        let rows: Vec<_> = chunk.rows.into_iter().map(aside).collect();
        log.park(&lease, &rows).await.expect("park");
        let done = Cursor { prev: chunk.cur, pos, ..Cursor::default() };
        log.checkpoint(&lease, &done).await.expect("checkpoint");
        parked.extend(rows);
    }
    assert_eq!(parked.len(), 15);
    assert_eq!(bed.settle(&log).await.dropped, ["outbox_1"]);
    let first = parked.first().expect("a row");
    log.release(&first.topic, &first.record.partition_key()).await.expect("release");
    let mut released = Vec::new();
    for lease in log.lease(&Owner::from("test"), 100, LEASE).await.expect("leases") {
        released.extend(log.released(&lease, 100).await.expect("released"));
    }
    assert_eq!(released, parked);
}

#[tokio::test]
async fn a_writer_that_drew_its_value_early_is_waited_for() {
    for version in PgVersion::ALL {
        let mut bed = Bed::new(version).await;
        let log = log(&bed.db).await;
        bed.maintain().await;
        // It has a value of the first partition and a lock, and no transaction id yet: only the
        // first of 32 values is logged, by a transaction that has one.
        execute(&bed.db, "SELECT nextval('outbox_seq_seq')").await;
        let mut late = PgConnection::connect(&bed.db.config().url).await.expect("a writer");
        let draw = "BEGIN; LOCK TABLE ONLY outbox IN ROW EXCLUSIVE MODE; \
                    SELECT nextval('outbox_seq_seq')";
        sqlx::raw_sql(draw).execute(&mut late).await.expect("a value");
        // It is not waited for where nothing is dropped, nor does anybody wait for upkeep.
        bed.append("k", 1..=20).await;
        assert!(!bed.maintain().await.created.is_empty(), "nothing was to be made");
        assert_read(&drain(&log, 100, 100).await, &[("k", 1..=20)]);
        let kept = bed.settle(&log).await;
        assert_eq!(names(&kept), [vec![], vec![], vec!["outbox_1"]], "a writer was run over");

        let write = "INSERT INTO outbox (seq, shard, topic, key, ce_id, headers, payload) \
             OVERRIDING SYSTEM VALUE SELECT 999992, shard, topic, key, ce_id, headers, payload \
             FROM outbox ORDER BY seq LIMIT 1; COMMIT";
        sqlx::raw_sql(write).execute(&mut late).await.expect("a late row");
        assert_eq!(
            names(&bed.maintain().await),
            [const { Vec::<&str>::new() }; 3],
            "a row was lost"
        );
        assert_read(&drain(&log, 100, 100).await, &[("k", 1..=1)]);
        assert_eq!(bed.settle(&log).await.dropped, ["outbox_1"]);
    }
}

#[tokio::test]
async fn a_partition_in_use_is_left_for_the_next_call() {
    let mut bed = Bed::new(PgVersion::V18).await;
    let log = log(&bed.db).await;
    bed.maintain().await;
    bed.append("k", 1..=20).await;
    bed.maintain().await;
    drain(&log, 100, 100).await;
    let mut reader = PgConnection::connect(&bed.db.config().url).await.expect("a reader");
    let look = "BEGIN; SELECT count(*) FROM outbox";
    sqlx::raw_sql(look).execute(&mut reader).await.expect("a look");
    assert_eq!(names(&bed.settle(&log).await), [vec![], vec![], vec!["outbox_1"]]);
    // Nobody was kept waiting by the lock that was given up.
    bed.append("k", 21..=21).await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("the end of the look");
    assert_read(&drain(&log, 100, 100).await, &[("k", 21..=21)]);
    assert_eq!(bed.settle(&log).await.dropped, ["outbox_1"]);
}

#[tokio::test]
async fn rows_that_found_no_partition_are_relayed_and_kept() {
    let mut bed = Bed::new(PgVersion::V18).await;
    let log = log(&bed.db).await;
    execute(&bed.db, "SELECT setval('outbox_seq_seq', 2000000)").await;
    bed.append("k", 1..=10).await;
    assert_eq!(bed.count("SELECT count(*) FROM outbox_rest").await, 10);
    assert_eq!(bed.maintain().await.created, ["outbox_2000110", "outbox_2000210"]);
    bed.append("k", 11..=120).await;
    assert!(bed.count("SELECT count(*) FROM outbox_2000110").await > 0);
    assert_read(&drain(&log, 7, 100).await, &[("k", 1..=120)]);
    assert_eq!(bed.settle(&log).await.dropped, ["outbox_1"]);
    assert!(bed.count("SELECT count(*) FROM outbox_rest").await > 0);
}
