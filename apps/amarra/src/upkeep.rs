//! Keeps what was relayed and applied long ago from piling up.

use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::Shutdown;
use amarra_postgres::{PartitionsConfig, PgDatabase, PgPartitions, Upkeep};
use amarra_sqlite::SqliteDatabase;

use crate::config::{Config, UpkeepSection};
use crate::name::Name;
use crate::output;
use crate::refusal::{Failure, Refuse};
use crate::{schema, serve};

/// Deletes from a service's file, again and again, what nobody needs any more.
pub(crate) async fn prune(
    name: Name,
    database: SqliteDatabase,
    section: UpkeepSection,
    (env, shutdown): (Environment, Shutdown),
) {
    let (log, store) = (database.outbox_log(), database.store());
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = env.sleep(section.every.0) => {}
        }
        let (outbox, inbox) = (section.outbox_age.0, section.inbox_age.0);
        let relayed = log.prune(outbox, section.rows_max).await;
        let applied = store.prune_inbox(inbox, section.rows_max).await;
        let why = relayed.err().map(|e| e.to_string()).or(applied.err().map(|e| e.to_string()));
        if let Some(why) = why {
            output::complain(&format!("{name}: upkeep: {why}"));
        }
    }
}

/// Makes partitions of a service's outbox ahead of its writers, and drops relayed ones, as the role
/// that owns the schema.
pub(crate) async fn maintain(config: &Config, name: Name) -> Result<Upkeep, Failure> {
    let owner = config.service(name).owner;
    let url = config.secret(&format!("services.{name}.owner"), owner.as_ref())?;
    let bounds = amarra_postgres::PgConfig {
        connections_max: 1,
        ..serve::pg_config(config, name, url.expose())
    };
    let database = PgDatabase::connect_with(bounds, &schema::migrations(name)).await;
    let database = database.refuse_for(name)?;
    let done = async {
        let mut conn = database.pool().acquire().await.refuse_for(name)?;
        let upkeep = PgPartitions::new(PartitionsConfig::default()).refuse()?;
        upkeep.maintain(&mut conn, false).await.refuse_for(name)
    };
    let done = done.await;
    database.close().await;
    done
}

/// Maintains every service's outbox, again and again, until dropped; a failure is told and tried
/// again, since rows that find no partition have one that catches them.
pub(crate) async fn maintain_all(config: &Config, tell: impl Fn(Name, Result<Upkeep, Failure>)) {
    let owned = |name: &Name| config.service(*name).owner.is_some();
    loop {
        for name in Name::WITH_DATABASE.into_iter().filter(owned) {
            tell(name, maintain(config, name).await);
        }
        tokio::time::sleep(config.upkeep.every.0.max(Duration::from_secs(1))).await;
    }
}
