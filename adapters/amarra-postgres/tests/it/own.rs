//! Lost commits that are resolved, a caller's own transaction, and views with tables of their own.

use std::time::Duration;

use amarra_core::{AggregateId, Version};
use amarra_messaging::{Admit, Group, TxError};
use amarra_postgres::{Migrations, PgConfig, PgDatabase, PgInbox, PgReadModel, PgStore, migrate};
use amarra_store::read_model::ViewWrite;
use amarra_store::{PageQuery, ReadModel as _, Store as _};
use testbed::{CutAt, Direction, PgVersion, Proxy};

use crate::outbox_bed::{database, server};

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
