//! What a unit keeps until its commit, and what it sends before.

use amarra_core::{AggregateId, SeededEntropy, Version};
use amarra_messaging::TxError;
use amarra_postgres::{PgConfig, PgDatabase, PgStore};
use amarra_store::Store as _;
use testbed::PgVersion;

use crate::outbox_bed::{assert_read, database, drain, log, message};

/// How many values of the outbox's sequence were drawn.
async fn drawn(db: &PgDatabase) -> i64 {
    let drawn = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_seq_seq";
    sqlx::query_scalar(drawn).fetch_one(db.pool()).await.expect("a sequence")
}

/// Connects anew with a bound of its own.
async fn keeping(db: &PgDatabase, kept_bytes_max: usize) -> PgStore {
    let config = PgConfig { kept_bytes_max, ..db.config().clone() };
    PgStore::new(PgDatabase::connect(config).await.expect("connect"))
}

#[tokio::test]
async fn appends_wait_for_the_commit_up_to_their_bound_and_keep_their_order() {
    let db = database(PgVersion::V18).await;
    let entropy = SeededEntropy::new(1, "kept");
    // Of these messages one fits, two do not.
    let store = keeping(&db, 1200).await;
    let mut unit = store.begin().await.expect("begin");
    for (version, sent) in [(1, 0), (2, 2), (3, 2), (4, 4), (5, 4)] {
        unit.enqueue(&[message(&entropy, "k", version)]).await.expect("enqueue");
        assert_eq!(drawn(&db).await, sent, "after version {version}");
    }
    unit.commit().await.expect("commit");
    assert_eq!(drawn(&db).await, 5);

    let mut unit = keeping(&db, 0).await.begin().await.expect("begin");
    unit.enqueue(&[message(&entropy, "k", 6)]).await.expect("enqueue");
    assert_eq!(drawn(&db).await, 6, "an append was kept");
    unit.commit().await.expect("commit");
    let read = drain(&log(&db).await, 10, 10).await;
    assert_read(&read, &[("k", 1..=6)]);
}

#[tokio::test]
async fn what_the_server_would_refuse_is_refused_at_the_append() {
    let db = database(PgVersion::V18).await;
    let entropy = SeededEntropy::new(2, "kept");
    let mut unit = keeping(&db, 1 << 20).await.begin().await.expect("begin");
    let mut wrong = message(&entropy, "k", 1);
    wrong.topic = "a\0b".into();
    let refused = unit.enqueue(&[wrong]).await;
    assert!(matches!(refused, Err(TxError::Corrupt { .. })), "{refused:?}");
    assert!(unit.commit().await.is_err(), "a unit with a failed call committed");
    assert_eq!(drawn(&db).await, 0);
}

/// A key may hold any character, and the payload any byte.
#[tokio::test]
async fn whatever_a_message_holds_comes_back_out_of_the_script() {
    let db = database(PgVersion::V18).await;
    let entropy = SeededEntropy::new(3, "kept");
    let store = keeping(&db, 1 << 20).await;
    for keys in [&["it's \\ \"quoted\" \0 ☃"][..], &["a", "b'); DROP TABLE outbox; --", "ä"]] {
        let mut unit = store.begin().await.expect("begin");
        for key in keys {
            let mut message = message(&entropy, key, 1);
            message.envelope.subject_version = Version::new(1);
            message.envelope.data = (0..=255).collect::<Vec<u8>>().into();
            unit.enqueue(&[message]).await.expect("enqueue");
        }
        unit.commit().await.expect("commit");
        let mut read = drain(&log(&db).await, 10, 10).await;
        read.sort();
        let mut expect: Vec<_> = keys.iter().map(|key| ((*key).to_owned(), 1)).collect();
        expect.sort();
        assert_eq!(read, expect);
    }
}

#[tokio::test]
async fn of_many_that_were_created_without_a_look_the_one_that_was_there_is_named() {
    let db = database(PgVersion::V18).await;
    let store = keeping(&db, 1 << 20).await;
    let id = |n: u64| AggregateId::new("entry", n.to_string());
    let mut unit = store.begin().await.expect("begin");
    unit.save(&id(2), Version::ABSENT, "first".into()).await.expect("save");
    unit.commit().await.expect("commit");
    let mut unit = store.begin().await.expect("begin");
    for n in 1..=3 {
        unit.save(&id(n), Version::ABSENT, "second".into()).await.expect("kept until the commit");
    }
    assert_eq!(unit.commit().await, Err(TxError::Conflict { id: id(2) }));
    let mut unit = store.begin().await.expect("begin");
    let found = unit.load(&[id(1), id(2), id(3)]).await.expect("load");
    let versions: Vec<_> = found.iter().map(|state| state.version.get()).collect();
    assert_eq!(versions, [0, 1, 0]);
}
