//! Lost commits that are resolved, a caller's own transaction, and views with tables of their own.

use std::time::Duration;

use amarra_core::{AggregateId, SeededEntropy, Version};
use amarra_messaging::{Admit, Group, TxError};
use amarra_postgres::{
    Migrations, OutboxRows, PgConfig, PgDatabase, PgInbox, PgOutbox, PgReadModel, PgStore, migrate,
};
use amarra_store::read_model::ViewWrite;
use amarra_store::{IdempotencyKey, Idempotent, PageQuery, ReadModel as _, Store as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::{CutAt, Direction, PgVersion, Proxy};

use crate::outbox_bed::{assert_read, database, drain, log, message, server};

#[tokio::test]
async fn a_lost_commit_is_asked_for_and_known() {
    let direct = database(PgVersion::V18).await;
    let proxy = Proxy::start(server(PgVersion::V18).addr()).expect("a proxy");
    let name = direct.config().url.rsplit('/').next().expect("a name").to_owned();
    let config = PgConfig {
        resolve_timeout: Duration::from_secs(20),
        ..PgConfig::new(server(PgVersion::V18).url_through(&proxy, &name))
    };
    let store = PgStore::new(PgDatabase::connect(config).await.expect("connect"));
    for (id, at, applied) in [("a", CutAt::Answer, true), ("b", CutAt::Before, false)] {
        let id = AggregateId::new("thing", id);
        let mut unit = store.begin().await.expect("begin");
        unit.save(&id, Version::ABSENT, "x".into()).await.expect("save");
        let rule = proxy.cut_when(Direction::Up, b"COMMIT", at);
        let answer = unit.commit().await;
        assert!(rule.hit(), "the commit was not cut");
        let known = match answer {
            Ok(()) => applied,
            Err(TxError::Connection { .. }) => !applied,
            _ => false,
        };
        assert!(known, "{id}: {answer:?}");
        let mut unit = PgStore::new(direct.clone()).begin().await.expect("begin");
        let found = unit.load(std::slice::from_ref(&id)).await.expect("load");
        assert_eq!(found[0].version, if applied { Version::new(1) } else { Version::ABSENT });
    }
}

/// The rollback of a dropped unit is only under way when its caller tries again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_failed_and_tries_again_at_once_is_not_told_of_another() {
    let store = PgStore::new(database(PgVersion::V18).await);
    let key = IdempotencyKey {
        principal: "ada".into(),
        route: "place".into(),
        key: "1".into(),
        request_hash: [1; 32],
    };
    for round in 0..500 {
        let mut unit = store.begin().await.expect("begin");
        assert_eq!(unit.begin_idempotent(&key).await, Ok(Idempotent::Fresh), "round {round}");
    }
}

#[tokio::test]
async fn an_admission_in_a_callers_transaction_lives_and_dies_with_it() {
    let database = database(PgVersion::V18).await;
    let env = amarra_tokio::environment();
    let message = amarra_conformance::ledger::message(&env, "k");
    let group = Group::from("billing");
    let mut tx = database.pool().begin().await.expect("begin");
    assert_eq!(PgInbox::admit(&mut tx, &group, &message).await, Ok(Admit::Fresh));
    tx.rollback().await.expect("rollback");
    for expect in [Admit::Fresh, Admit::Duplicate] {
        let mut tx = database.pool().begin().await.expect("begin");
        assert_eq!(PgInbox::admit(&mut tx, &group, &message).await, Ok(expect));
        tx.commit().await.expect("commit");
    }
}

#[tokio::test]
async fn a_view_with_a_table_of_its_own_has_typed_columns() {
    let config = database(PgVersion::V18).await.config().clone();
    let migrations = Migrations::default().with(
        1000,
        "orders view",
        "CREATE TABLE orders_view (key text COLLATE \"C\" PRIMARY KEY, position bigint NOT NULL, \
         body bytea NOT NULL, json jsonb NOT NULL, status text GENERATED ALWAYS AS \
         (json ->> 'status') STORED)",
    );
    migrate(&config, &migrations).await.expect("migrate");
    let mut config = config;
    config.views.insert("orders".into(), "orders_view".into());
    let database = PgDatabase::connect_with(config, &migrations).await.expect("connect");
    let store = PgStore::new(database.clone());
    let body = bytes::Bytes::from_static(b"{\"status\":  \"open\"}");
    for n in 1..=2 {
        let mut unit = store.begin().await.expect("begin");
        let row = unit.load_view("orders", "ada/1").await.expect("load");
        assert_eq!(row.is_some(), n == 2);
        for (key, body) in [("ada/1", Some(body.clone())), ("gone", None), ("bob/1", None)] {
            let (view, key) = ("orders".into(), key.into());
            let write = ViewWrite { view, key, position: Version::new(n), body };
            unit.write_view(write).await.expect("write");
        }
        unit.commit().await.expect("commit");
    }
    let status: String = sqlx::query_scalar("SELECT status FROM orders_view")
        .fetch_one(database.pool())
        .await
        .expect("a typed column");
    assert_eq!(status, "open");
    let read = PgReadModel::new(database);
    let row = read.get("orders", "ada/1").await.expect("get").expect("a row");
    assert_eq!((row.position, row.body), (Version::new(2), body));
    let (view, prefix) = ("orders".into(), "ada/".into());
    let page = read.page(&PageQuery { view, prefix, after: None, limit: 5 }).await.expect("page");
    assert_eq!((page.rows.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_change_and_its_messages_are_one_statement() {
    for scalars in [false, true] {
        one_statement(scalars).await;
    }
}

/// With `scalars`, single messages are bound as such.
async fn one_statement(scalars: bool) {
    let database = database(PgVersion::V18).await;
    let outbox = PgOutbox::new(database.config());
    let entropy = SeededEntropy::new(1, "with_change");
    let insert = PgOutbox::with_change(
        "INSERT INTO aggregate AS a (kind, id, version, body) VALUES ('k', $7, 1, '') \
         ON CONFLICT (kind, id) DO UPDATE SET version = a.version + 1 RETURNING 1",
    );
    let update = "UPDATE aggregate SET version = version + 1 WHERE id = $7 RETURNING 1";
    let update = match scalars {
        true => PgOutbox::with_change_of_one(update),
        false => PgOutbox::with_change(update),
    };
    let rows = |from: u64, count: u64| {
        let messages: Vec<_> = (from..from + count).map(|n| message(&entropy, "k", n)).collect();
        outbox.encode(&messages).expect("encoded")
    };
    let run = async |conn: &mut PgConnection, sql: &str, rows: OutboxRows, id: &str| {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let query = match sql.contains("unnest") {
            true => rows.bind(query),
            false => rows.bind_one(query),
        };
        query.bind(id.to_owned()).execute(conn).await.expect("a change").rows_affected()
    };
    let mut first = database.pool().acquire().await.expect("a connection");
    // What touches nothing says nothing.
    assert_eq!(run(&mut first, &update, rows(90, 1), "nobody").await, 0);
    assert_eq!(run(&mut first, &insert, rows(1, 2), "k").await, 2);
    let mut tx = database.pool().begin().await.expect("begin");
    assert_eq!(run(&mut tx, &update, rows(80, 1), "k").await, 1);
    tx.rollback().await.expect("rollback");

    // Whoever waits for the row draws its sequence values after it got the row.
    let mut tx = first.begin().await.expect("begin");
    assert_eq!(run(&mut tx, &update, rows(3, 1), "k").await, 1);
    let mut second = database.pool().acquire().await.expect("a connection");
    let mut waits = std::pin::pin!(run(&mut second, &update, rows(5, 1), "k"));
    for _ in 0..1200 {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
                       WHERE wait_event_type = 'Lock' AND datname = current_database()";
        let step = tokio::time::timeout(Duration::from_millis(50), &mut waits).await;
        assert!(step.is_err(), "it did not wait");
        let waiting: i64 =
            sqlx::query_scalar(waiting).fetch_one(database.pool()).await.expect("a look");
        if waiting > 0 {
            break;
        }
    }
    outbox.enqueue(&mut tx, &[message(&entropy, "k", 4)]).await.expect("enqueue");
    tx.commit().await.expect("commit");
    assert_eq!(waits.await, 1);
    let read = drain(&log(&database).await, 10, 10).await;
    assert_read(&read, &[("k", 1..=5)]);
}
