//! What opening refuses, with what to do about it; and what closing leaves.

use std::path::Path;
use std::time::Duration;

use amarra_core::{Class, Classify, Version};
use amarra_messaging::message::Owner;
use amarra_messaging::{Consumer, OutboxLog, Transport};
use amarra_sqlite::{
    BusConfig, DatabaseConfig, MemberConfig, OpenError, SqliteBus, SqliteDatabase, TopicConfig,
};
use amarra_store::Store;
use sqlx::{Connection, SqliteConnection};

use crate::scratch::{Scratch, runtime};

async fn database(path: &Path) -> Result<SqliteDatabase, OpenError> {
    SqliteDatabase::open(path, DatabaseConfig::default()).await
}

async fn bus(path: &Path, partitions: u32) -> Result<SqliteBus, OpenError> {
    let topics = vec![TopicConfig { topic: "things".into(), partitions }];
    SqliteBus::open(BusConfig::new(path, topics), amarra_tokio::environment()).await
}

/// Runs SQL in a file nobody has open.
async fn run(path: &Path, sql: &'static str) {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql(sql).execute(&mut connection).await.expect("SQL runs");
    connection.close().await.expect("it closes");
}

#[track_caller]
fn check<T: std::fmt::Debug>(opened: Result<T, OpenError>, class: Class, says: &[&str]) {
    let error = opened.expect_err("it opened");
    let message = error.to_string();
    for part in says {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert_eq!(error.class(), class, "{message}");
}

/// Copies a database's or relay's file as it is when nobody has it open.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
}

#[test]
fn what_is_no_database_is_left_alone() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("notes.txt");
        let text = "not a database, but longer than the header of one is. ".repeat(40);
        std::fs::write(&path, &text).expect("a file");
        check(database(&path).await, Class::Fatal, &["notes.txt", "choose another path"]);
        check(bus(&path, 1).await, Class::Fatal, &["notes.txt", "choose another path"]);
        assert_eq!(std::fs::read_to_string(&path).expect("the file"), text);
    });
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("other.sqlite");
        run(&path, "CREATE TABLE addresses (name TEXT)").await;
        check(database(&path).await, Class::Fatal, &["not a database of this program"]);
        check(bus(&path, 1).await, Class::Fatal, &["not a bus of this program"]);
        let ours = scratch.path("ours.sqlite");
        drop(database(&ours).await.expect("a database"));
        check(bus(&ours, 1).await, Class::Fatal, &["not a bus of this program"]);
    });
}

#[test]
fn a_damaged_file_asks_for_a_backup() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let (store, log) = (scratch.path("store"), scratch.path("bus"));
        database(&store).await.expect("a database").close().await;
        bus(&log, 1).await.expect("a bus").close().await;
        for path in [&store, &log] {
            let mut bytes = std::fs::read(path).expect("the file");
            // Behind the header, of which the first page has a hundred bytes.
            bytes[100..4000].fill(0xff);
            std::fs::write(path, bytes).expect("written");
        }
        let says = ["is damaged", "restore a backup"];
        check(database(&store).await, Class::Fatal, &says);
        check(bus(&log, 1).await, Class::Fatal, &says);
    });
}

#[test]
fn a_file_of_a_newer_release_asks_for_that_release() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let (store, log) = (scratch.path("store"), scratch.path("bus"));
        database(&store).await.expect("a database").close().await;
        bus(&log, 1).await.expect("a bus").close().await;
        for path in [&store, &log] {
            run(path, "PRAGMA user_version = 99").await;
        }
        let says = |known| ["schema version 99", known, "run the newer release"];
        check(database(&store).await, Class::Fatal, &says("knows 2"));
        check(bus(&log, 1).await, Class::Fatal, &says("knows 1"));
    });
}

#[test]
fn one_file_has_one_owner_by_whatever_path() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let (path, link) = (scratch.path("store"), scratch.path("link"));
        let folder = scratch.path("folder");
        let first = database(&path).await.expect("a database");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        std::os::unix::fs::symlink(scratch.folder(), &folder).expect("a link");
        for path in [&path, &link, &folder.join("store"), &scratch.path("./store")] {
            let says = ["in use by another process", "stop it, or choose another path"];
            check(database(path).await, Class::Transient, &says);
        }
        drop(first);
        let through = database(&link).await.expect("the lock is free again");
        assert_eq!(through.path(), path.canonicalize().expect("a path"));
        assert!(!scratch.path("link-relay").exists(), "its relay file is beside the link");
    });
}

#[test]
fn a_path_that_cannot_be_written_says_how_to_get_one() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        std::fs::write(scratch.path("file"), "").expect("a file");
        let says = ["cannot write", "make its folder and let this user write there"];
        for path in ["missing/store", "file/store", "."] {
            check(database(&scratch.path(path)).await, Class::Fatal, &says);
            check(bus(&scratch.path(path), 1).await, Class::Fatal, &says);
        }
    });
}

#[test]
fn numbers_that_never_change_are_named() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let (store, log) = (scratch.path("store"), scratch.path("bus"));
        database(&store).await.expect("a database").close().await;
        let two = DatabaseConfig { shards: 2, ..DatabaseConfig::default() };
        let says = ["1 outbox shards", "set shards to 1"];
        check(SqliteDatabase::open(&store, two).await, Class::Fatal, &says);
        bus(&log, 4).await.expect("a bus").close().await;
        let says = ["topic things has 4 partitions", "set partitions to 4"];
        check(bus(&log, 5).await, Class::Fatal, &says);
        let bus = bus(&log, 4).await.expect("a bus");
        let more = TopicConfig { topic: "things".into(), partitions: 3 };
        check(bus.declare(more).await, Class::Fatal, &says);
        let unknown = bus.consumer("group", &["others".into()], MemberConfig::default());
        check(unknown, Class::Fatal, &["no topic others", "add it to the topics"]);
        let none = TopicConfig { topic: "others".into(), partitions: 0 };
        check(bus.declare(none).await, Class::Fatal, &["partitions"]);
    });
}

#[test]
fn two_files_of_different_moments_are_told_apart() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let (path, relay) = (scratch.path("store"), scratch.path("store-relay"));
        let (old, old_relay) = (scratch.path("old"), scratch.path("old-relay"));
        database(&path).await.expect("a database").close().await;
        copy(&path, &old);
        copy(&relay, &old_relay);
        database(&path).await.expect("a database").close().await;
        let (new, new_relay) = (scratch.path("new"), scratch.path("new-relay"));
        copy(&path, &new);
        copy(&relay, &new_relay);

        let says = ["older copy", "restore both files from one backup"];
        copy(&old, &path);
        check(database(&path).await, Class::Fatal, &says);
        copy(&new, &path);
        copy(&old_relay, &relay);
        check(database(&path).await, Class::Fatal, &says);
        std::fs::remove_file(&relay).expect("removed");
        let says = ["was deleted", "restore both files from one backup"];
        check(database(&path).await, Class::Fatal, &says);
        copy(&old, &path);
        copy(&old_relay, &relay);
        database(&path).await.expect("both are of one backup").close().await;

        let other = scratch.path("other");
        database(&other).await.expect("a database").close().await;
        copy(&scratch.path("other-relay"), &relay);
        check(database(&path).await, Class::Fatal, &["it is of database"]);
    });
}

#[test]
fn a_closed_database_stays_closed_and_frees_its_path() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("store");
        let first = database(&path).await.expect("a database");
        let (store, log) = (first.store(), first.outbox_log());
        let mut unit = store.begin().await.expect("a unit");
        unit.save(&id(), Version::ABSENT, "{}".into()).await.expect("saved");
        unit.commit().await.expect("committed");
        first.close().await;
        first.close().await;
        let second = database(&path).await.expect("the path is free");
        assert!(first.ping().await.is_err());
        let mut unit = store.begin().await.expect("a unit that has asked for nothing yet");
        let refused = unit.load(&[id()]).await.expect_err("a closed database was read");
        assert!(refused.to_string().contains("closed"), "{refused}");
        let owner = Owner::from("relay");
        let refused = log.lease(&owner, 1, Duration::from_secs(1)).await;
        let refused = refused.expect_err("a closed database gave a lease");
        assert!(refused.to_string().contains("closed"), "{refused}");
        let mut unit = second.store().begin().await.expect("a unit");
        assert_eq!(unit.load(&[id()]).await.expect("loaded").len(), 1);
    });
}

fn id() -> amarra_core::AggregateId {
    amarra_core::AggregateId::new("thing", "1")
}

#[test]
fn a_closed_bus_stays_closed_and_frees_its_path() {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let path = scratch.path("bus");
        let first = bus(&path, 1).await.expect("a bus");
        let lease = amarra_messaging::outbox::Lease {
            shard: amarra_messaging::message::Shard(0),
            epoch: amarra_messaging::message::Epoch(1),
            owner: "relay".into(),
        };
        let mut session = first.transport("outbox").open(&lease).await.expect("a session");
        let member = MemberConfig::default();
        let mut consumer = first.consumer("group", &["things".into()], member).expect("a member");
        let (_, _, polled) = tokio::join!(first.close(), first.close(), async {
            loop {
                if let Err(e) = consumer.poll(1, Duration::from_secs(60)).await {
                    break e.to_string();
                }
            }
        });
        assert!(polled.contains("closed"), "{polled}");
        let second = bus(&path, 1).await.expect("the path is free");
        let refused = session.publish(&[]).await.expect_err("published");
        assert!(refused.to_string().contains("closed"), "{refused}");
        assert!(first.transport("outbox").open(&lease).await.is_err());
        let topic = TopicConfig { topic: "more".into(), partitions: 1 };
        check(first.declare(topic).await, Class::Fatal, &["is closed", "open it again"]);
        check(first.forget_group(&"group".into()).await, Class::Fatal, &["is closed"]);
        second.close().await;
    });
}
