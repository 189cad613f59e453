//! A disk that is full: nothing half is kept, it is worth a retry, and all goes on with space.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use amarra_core::{AggregateId, Class, Classify as _, SeededEntropy, Version};
use amarra_messaging::TxError;
use amarra_postgres::{Migrations, PgConfig, PgDatabase, PgStore, migrate};
use amarra_store::{Store as _, UnitOfWork};
use testbed::{PgOptions, PgVersion, Postgres};

use crate::outbox_bed::{assert_read, drain, log, message, reconnected};

/// The file of an empty table, on a device that is full: every write fails with `ENOSPC`.
struct Full {
    file: PathBuf,
    kept: PathBuf,
}

/// Ends every other session, for sessions keep files open.
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

impl Full {
    fn new(server: &Postgres, table: &str) -> Self {
        let sql = format!("SELECT pg_relation_filepath('{table}'), pg_relation_size('{table}')");
        let rows = server.execute("orders", &sql).expect("a file");
        let row = rows.first().expect("a row");
        assert_eq!(row[1].as_deref(), Some("0"), "{table} is not empty");
        let file = server.folder().join("data").join(row[0].as_ref().expect("a path"));
        let kept = file.with_extension("kept");
        std::fs::rename(&file, &kept).expect("the file set aside");
        symlink("/dev/full", &file).expect("a full device");
        server.execute("orders", END).expect("every session ended");
        Self { file, kept }
    }

    fn give_back(self, server: &Postgres) {
        std::fs::remove_file(&self.file).expect("the device away");
        std::fs::rename(&self.kept, &self.file).expect("the file back");
        server.execute("orders", END).expect("every session ended");
    }
}

async fn change(unit: &mut dyn UnitOfWork, entropy: &SeededEntropy) -> Result<(), TxError> {
    let id = AggregateId::new("thing", "k");
    let version = unit.load(std::slice::from_ref(&id)).await?[0].version;
    unit.save(&id, version, "state".into()).await?;
    unit.enqueue(&[message(entropy, "k", version.next().get())]).await
}

async fn version(store: &PgStore) -> Version {
    let mut unit = store.begin().await.expect("a unit");
    unit.load(&[AggregateId::new("thing", "k")]).await.expect("load")[0].version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_whole_units_until_there_is_space() {
    for version_of_server in PgVersion::ALL {
        let server = Postgres::start(version_of_server, PgOptions::default()).expect("a server");
        server.create_database("orders").expect("a database");
        let config = PgConfig::new(server.url("orders"));
        migrate(&config, &Migrations::default()).await.expect("migrate");
        let db = PgDatabase::connect(config).await.expect("connect");
        let (store, log) = (PgStore::new(db.clone()), log(&db).await);
        let at_once = PgConfig { kept_bytes_max: 0, ..db.config().clone() };
        let at_once = PgDatabase::connect(at_once).await.expect("connect");
        let entropy = SeededEntropy::new(1, "full");

        // No space for the message: the change it belongs to is not kept either.
        let full = Full::new(&server, "outbox_1");
        let mut unit = PgStore::new(at_once.clone()).begin().await.expect("a unit");
        let failed = change(unit.as_mut(), &entropy).await.expect_err("no space");
        assert!(failed.to_string().contains("No space left"), "{failed}");
        assert_eq!(failed.class(), Class::Transient, "{failed}");
        assert!(unit.commit().await.is_err(), "half of a unit was committed");
        assert_eq!(version(&store).await, Version::ABSENT);
        reconnected(&log).await;
        assert_read(&drain(&log, 10, 10).await, &[]);
        full.give_back(&server);

        // No space for what was kept: found at the commit, whose outcome is known all the same.
        for table in ["aggregate", "outbox_1"] {
            let full = Full::new(&server, table);
            let mut unit = store.begin().await.expect("a unit");
            change(unit.as_mut(), &entropy).await.expect("space for what is only kept");
            let failed = unit.commit().await.expect_err("no space");
            assert!(failed.to_string().contains("No space left"), "{failed}");
            assert_eq!(failed.class(), Class::Transient, "{failed}");
            assert_eq!(version(&store).await, Version::ABSENT);
            reconnected(&log).await;
            assert_read(&drain(&log, 10, 10).await, &[]);
            full.give_back(&server);
        }

        let mut unit = store.begin().await.expect("a unit");
        change(unit.as_mut(), &entropy).await.expect("space again");
        unit.commit().await.expect("space again");
        assert_eq!(version(&store).await, Version::new(1));
        reconnected(&log).await;
        assert_read(&drain(&log, 10, 10).await, &[("k", 1..=1)]);
        at_once.close().await;
        db.close().await;
    }
}
