//! An outbox that was restored: to an earlier time of its cluster, or from a dump into another one.

use std::time::Duration;

use amarra_core::SeededEntropy;
use amarra_messaging::OutboxLog as _;
use amarra_messaging::message::Owner;
use amarra_messaging::outbox::LogError;
use amarra_postgres::{
    Migrations, PartitionsConfig, PgConfig, PgDatabase, PgError, PgLogConfig, PgOutboxLog,
    PgPartitions, migrate,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::{PgOptions, PgVersion, Postgres};

use crate::outbox_bed::{append, assert_read, database, drain, execute, log, reconnected};

/// Recovers the server's archive to its end, which begins a new timeline, as a restore to a point
/// in time and the promotion of a replica do.
async fn recover(server: &Postgres, db: &PgDatabase) {
    tokio::task::block_in_place(|| {
        server.stop().expect("a stopped server");
        let signal = server.folder().join("data/recovery.signal");
        std::fs::write(signal, "").expect("a signal");
        server.start_again().expect("a server in recovery");
    });
    for _ in 0..600 {
        let mut conn = PgConnection::connect(&db.config().url).await.expect("a connection");
        let recovering = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
        if !recovering.fetch_one(&mut conn).await.expect("a state") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server stays in recovery:\n{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_timeline_is_another_source_and_fences_every_lease() {
    for version in PgVersion::ALL {
        let restore = ("restore_command".to_owned(), "false".to_owned());
        let options = PgOptions { settings: vec![restore], ..PgOptions::default() };
        let server = Postgres::start(version, options).expect("a server");
        server.create_database("orders").expect("a database");
        let config = PgConfig::new(server.url("orders"));
        migrate(&config, &Migrations::default()).await.expect("migrate");
        let db = PgDatabase::connect(config).await.expect("connect");
        let (log, entropy) = (log(&db).await, SeededEntropy::new(1, "restored"));
        append(&db, &entropy, "k", 1..=9).await;
        let mut read = drain(&log, 4, 1).await;
        assert_eq!(read.len(), 4);
        let owner = Owner::from("test");
        let leases = log.lease(&owner, 100, Duration::from_secs(60)).await.expect("leases");
        assert_eq!(&*log.source(), "test");

        recover(&server, &db).await;
        reconnected(&log).await;
        for lease in &leases {
            let gone = log.resume(lease).await;
            assert!(matches!(gone, Err(LogError::Fenced { .. })), "{gone:?}");
        }
        assert_eq!(&*log.source(), "test~2");
        let after = PgDatabase::connect(db.config().clone()).await.expect("connect again");
        append(&after, &entropy, "k", 10..=12).await;
        // The batch that was open, and then what came after.
        read.extend(drain(&log, 100, 100).await);
        read.extend(drain(&log, 100, 100).await);
        assert_read(&read, &[("k", 1..=12)]);
        db.close().await;
    }
}

/// Copies rows as a dump does: as text, transaction ids and all.
async fn dump_into(from: &PgDatabase, to: &PgDatabase) {
    let mut target = PgConnection::connect(&to.config().url).await.expect("the target");
    for table in ["outbox", "outbox_shard", "outbox_origin", "outbox_cursor", "outbox_parked"] {
        let rows = format!("SELECT coalesce(json_agg(t), '[]')::text FROM {table} AS t");
        let rows: String =
            sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(from.pool()).await.expect(table);
        let copy = format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE \
             SELECT * FROM json_populate_recordset(NULL::{table}, $1::json)"
        );
        sqlx::query(AssertSqlSafe(copy)).bind(rows).execute(&mut target).await.expect(table);
    }
    let last: i64 = sqlx::query_scalar("SELECT last_value FROM outbox_seq_seq")
        .fetch_one(from.pool())
        .await
        .expect("the sequence");
    execute(to, &format!("SELECT setval('outbox_seq_seq', {last})")).await;
}

/// Lets transaction ids pass, so that those of one cluster are the future of the other.
async fn age(db: &PgDatabase, ids: u32) {
    let pass = format!(
        "DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    );
    execute(db, &pass).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_in_another_cluster_is_refused_until_adopted_and_loses_nothing() {
    for (from, to) in [(PgVersion::V15, PgVersion::V18), (PgVersion::V18, PgVersion::V15)] {
        let (original, entropy) = (database(from).await, SeededEntropy::new(2, "dump"));
        age(&original, 20_000).await;
        let first = log(&original).await;
        append(&original, &entropy, "a", 1..=5).await;
        append(&original, &entropy, "b", 1..=5).await;
        let before = drain(&first, 100, 100).await;
        assert_read(&before, &[("a", 1..=5), ("b", 1..=5)]);
        append(&original, &entropy, "a", 6..=12).await;
        append(&original, &entropy, "b", 6..=12).await;
        // A batch that is open at the dump, some of it acknowledged.
        let half = drain(&first, 2, 1).await;
        assert!((2..=4).contains(&half.len()), "{half:?}");
        let owner = Owner::from("test");
        let stale = first.lease(&owner, 100, Duration::from_secs(60)).await.expect("leases");

        let copy = database(to).await;
        dump_into(&original, &copy).await;
        let refused = PgOutboxLog::open(&copy, PgLogConfig::new("test")).await;
        let said = refused.expect_err("a restored outbox").to_string();
        assert!(said.contains("adopt"), "{said}");

        let upkeep = PgPartitions::new(PartitionsConfig::default()).expect("a configuration");
        let mut conn = PgConnection::connect(&copy.config().url).await.expect("the owner");
        // The second time it is known already, and nothing is rewritten.
        for _ in 0..2 {
            upkeep.adopt(&mut conn).await.expect("adopt");
        }
        let second = log(&copy).await;
        assert_eq!(&*second.source(), "test~2");
        let fenced = second.resume(stale.first().expect("a lease")).await;
        assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
        append(&copy, &entropy, "a", 13..=15).await;
        let mut read = half.clone();
        read.extend(drain(&second, 3, 100).await);
        assert_read(&read, &[("a", 6..=15), ("b", 6..=12)]);
        let again: Result<PgOutboxLog, PgError> =
            PgOutboxLog::open(&copy, PgLogConfig::new("test")).await;
        assert_eq!(&*again.expect("an adopted outbox").source(), "test~2");
    }
}
