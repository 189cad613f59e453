//! What each role may do, what is refused at start, and that no secret is shown.

use amarra_postgres::{
    Migrations, PartitionsConfig, PgConfig, PgDatabase, PgError, PgPartitions, Provision, migrate,
    provision,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::{PgAuth, PgOptions, PgVersion, Postgres};

pub(crate) fn wanted(name: &str) -> Provision {
    Provision {
        database: name.to_owned(),
        schema: "public".to_owned(),
        owner: (format!("{name}_owner"), "it's a \\ secret".to_owned()),
        service: (name.to_owned(), format!("{name}-pw")),
    }
}

pub(crate) fn start() -> Postgres {
    let options = PgOptions { auth: PgAuth::Scram, ..PgOptions::default() };
    Postgres::start(PgVersion::V18, options).expect("a server")
}

pub(crate) async fn set_up(server: &Postgres, name: &str) {
    let admin = PgConfig::new(server.url("postgres"));
    // Twice: the second call finds everything and changes nothing.
    provision(&admin, &wanted(name)).await.expect("provision");
    provision(&admin, &wanted(name)).await.expect("provision again");
    let owner = format!("{name}_owner");
    let url = server.url_as(&owner, "it%27s%20a%20%5C%20secret", name);
    migrate(&PgConfig::new(url), &Migrations::default()).await.expect("migrate as the owner");
}

/// The six services, as the shop names them.
const SERVICES: [&str; 6] =
    ["users", "catalog", "orders", "inventory", "payments", "notifications"];

#[tokio::test]
async fn each_role_is_kept_to_its_own_database_and_to_rows() {
    let server = start();
    for name in SERVICES {
        set_up(&server, name).await;
    }
    for role in SERVICES {
        let password = format!("{role}-pw");
        let own = PgConfig::new(server.url_as(role, &password, role));
        let database = PgDatabase::connect(own.clone()).await.expect("its own database");
        for ddl in [
            "CREATE TABLE mine (id int)",
            "DROP TABLE aggregate",
            "ALTER TABLE aggregate ADD x int",
            "TRUNCATE audit",
            "CREATE SCHEMA mine",
            "CREATE TEMP TABLE mine (id int)",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE ROLE mine",
            "ALTER ROLE CURRENT_USER CREATEDB",
            "SET ROLE app",
            "ALTER TABLE outbox DETACH PARTITION outbox_1",
            "DROP TABLE outbox_1",
            "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')",
            "CREATE DATABASE mine",
        ] {
            let done = sqlx::raw_sql(ddl).execute(database.pool()).await;
            assert!(done.is_err(), "{role} did {ddl}");
        }
        for other in SERVICES.into_iter().filter(|other| *other != role) {
            let url = server.url_as(role, &password, other);
            let refused = PgDatabase::connect(PgConfig { url, ..own.clone() }).await;
            assert!(matches!(refused, Err(PgError::Refused { .. })), "{role} to {other}");
            let owner = server.url_as(&format!("{role}_owner"), "it%27s%20a%20%5C%20secret", other);
            assert!(PgConnection::connect(&owner).await.is_err(), "the owner of {role} to {other}");
        }
        let ours: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace \
                 WHERE nspname = 'public') \
             + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)",
        )
        .fetch_one(database.pool())
        .await
        .expect("count");
        assert_eq!(ours, 0, "stored procedures or triggers");
    }
}

#[tokio::test]
async fn upkeep_is_refused_to_the_service_and_changes_nothing() {
    let server = start();
    set_up(&server, "orders").await;
    let near = "SELECT setval('outbox_seq_seq', 999990)";
    server.execute("orders", near).expect("a sequence near the end of its partition");
    let upkeep = PgPartitions::new(PartitionsConfig { rows: 100, ..Default::default() });
    let upkeep = upkeep.expect("a configuration");
    let count = || server.execute("orders", "SELECT count(*) FROM outbox_range").expect("a count");
    let before = count();
    let url = server.url_as("orders", "orders-pw", "orders");
    let mut service = PgConnection::connect(&url).await.expect("the service");
    let refused = upkeep.maintain(&mut service, false).await;
    assert!(matches!(refused, Err(PgError::Database { .. })), "{refused:?}");
    assert_eq!(count(), before);
    let url = server.url_as("orders_owner", "it%27s%20a%20%5C%20secret", "orders");
    let mut owner = PgConnection::connect(&url).await.expect("the owner");
    let done = upkeep.maintain(&mut owner, false).await.expect("upkeep by the owner");
    assert_eq!(done.created, ["outbox_1000001", "outbox_1000101"]);
    // The service may use what was made.
    let used = sqlx::query("SELECT FROM outbox_1000001").execute(&mut service).await;
    used.expect("the partition is the service's to use");
}

#[tokio::test]
async fn what_is_wrong_at_start_is_named_and_no_password_shown() {
    let server = start();
    set_up(&server, "orders").await;
    let url = server.url_as("orders", "orders-pw", "orders");
    let refused = async |config: PgConfig| {
        let error = PgDatabase::connect(config).await.expect_err("a bad configuration");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("orders-pw") && !shown.contains("hunter2"), "{shown}");
        error
    };
    let wrong = server.url_as("orders", "hunter2", "orders");
    assert!(matches!(refused(PgConfig::new(wrong)).await, PgError::Refused { .. }));
    let missing = server.url_as("orders", "orders-pw", "nowhere");
    assert!(matches!(refused(PgConfig::new(missing)).await, PgError::Refused { .. }));
    let nobody = PgConfig::new("postgres://orders:hunter2@127.0.0.1:1/orders");
    assert!(matches!(refused(nobody).await, PgError::Unreachable { .. }));
    let shown = format!("{:?} {:?}", PgConfig::new(&*url), wanted("orders"));
    assert!(!shown.contains("orders-pw") && !shown.contains("secret"), "{shown}");

    let alter = async |sql: &str| {
        let mut admin = PgConnection::connect(&server.url("orders")).await.expect("admin");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut admin).await.expect(sql);
    };
    for (setting, value) in [
        ("synchronous_commit", "off"),
        ("default_transaction_isolation", "'repeatable read'"),
        ("default_transaction_read_only", "on"),
    ] {
        alter(&format!("ALTER ROLE orders SET {setting} = {value}")).await;
        match refused(PgConfig::new(&*url)).await {
            PgError::Setting { name, .. } => assert_eq!(name, setting),
            other => panic!("{setting}: {other}"),
        }
        alter(&format!("ALTER ROLE orders RESET {setting}")).await;
    }

    let mut views = PgConfig::new(&*url);
    views.views.insert("v".into(), "no_such_table".into());
    assert!(matches!(refused(views).await, PgError::View { .. }));
    alter("UPDATE _sqlx_migrations SET version = 900 WHERE version = 1").await;
    assert!(matches!(refused(PgConfig::new(&*url)).await, PgError::SchemaAhead { found: 900 }));
    alter("DELETE FROM _sqlx_migrations WHERE version = 900").await;
    assert!(matches!(refused(PgConfig::new(&*url)).await, PgError::SchemaBehind { missing: 1 }));
}
