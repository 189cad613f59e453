//! Makes databases, roles, schemas and topics.

use amarra_postgres::{PgConfig, PgDatabase, Provision, Upkeep};
use amarra_postgres_wal::WalConfig;
use serde_json::json;

use crate::admin::url::PgUrl;
use crate::args::OnServers;
use crate::config::{self, Config, RelaySource};
use crate::name::Name;
use crate::output::say;
use crate::refusal::{Failure, Refuse};
use crate::storage::make_topics;
use crate::{schema, serve, upkeep};

/// The schema of every database.
const SCHEMA: &str = "public";

fn names(service: Option<Name>) -> Result<Vec<Name>, Failure> {
    match service {
        None => Ok(Name::WITH_DATABASE.to_vec()),
        Some(name) if name.has_database() => Ok(vec![name]),
        Some(name) => Err(Failure::refused(format!("{name} has no database"))),
    }
}

fn url(config: &Config, name: Name, which: &str) -> Result<PgUrl, Failure> {
    let section = config.service(name);
    let source = match which {
        "owner" => section.owner,
        "wal" => section.wal,
        _ => section.database,
    };
    let key = format!("services.{name}.{which}");
    let url = config.secret(&key, source.as_ref())?;
    PgUrl::parse(url.expose()).map_err(|why| Failure::refused(format!("{key} {why}")))
}

fn done(what: &str, name: &str, as_json: bool) {
    say(&if as_json {
        json!({"kind": what, "name": name}).to_string()
    } else {
        format!("{name}: {what}")
    });
}

/// Makes the databases and roles that the configuration names.
pub(crate) async fn provision(on: &OnServers) -> Result<(), Failure> {
    let config = config::load(&on.config)?;
    let admin = config.secret("postgres.admin", config.postgres.admin.as_ref())?;
    for name in names(on.service)? {
        provision_one(&config, admin.expose(), name).await?;
        done("provisioned", name.as_str(), on.json);
    }
    Ok(())
}

/// Makes one service's database and roles, or brings them to the same state.
pub(crate) async fn provision_one(config: &Config, admin: &str, name: Name) -> Result<(), Failure> {
    let (service, owner) = (url(config, name, "database")?, url(config, name, "owner")?);
    if (&service.database, &service.place) != (&owner.database, &owner.place) {
        let why = "must name one database at one place";
        return Err(Failure::refused(format!("services.{name}.database and owner {why}")));
    }
    let wanted = Provision {
        database: service.database,
        schema: SCHEMA.to_owned(),
        owner: (owner.role, owner.password),
        service: (service.role, service.password),
    };
    amarra_postgres::provision(&PgConfig::new(admin), &wanted).await.refuse_for(name)?;
    if config.relay.source == RelaySource::Wal {
        let follower = url(config, name, "wal")?;
        let admin = admin.parse().map_err(|_| Failure::refused("postgres.admin is no URL"))?;
        let PgUrl { role, password, database, .. } = follower;
        let admitted = amarra_postgres_wal::admit(admin, &role, &password, &database).await;
        admitted.refuse_for(format!("services.{name}.wal"))?;
    }
    Ok(())
}

/// Returns how the log of a service's database is followed.
pub(crate) fn follower(config: &Config, name: Name) -> Result<WalConfig, Failure> {
    let (wal, service) = (url(config, name, "wal")?, url(config, name, "database")?);
    if (&wal.database, &wal.place) != (&service.database, &service.place) {
        let why = "must name one database at one place";
        return Err(Failure::refused(format!("services.{name}.wal and database {why}")));
    }
    let no_port = || Failure::refused(format!("services.{name}.wal names no port"));
    let (host, port) = wal.host_and_port().ok_or_else(no_port)?;
    Ok(WalConfig { port, ..WalConfig::new(host, &wal.role, &wal.password, &wal.database) })
}

/// Brings schemas and topics up to date.
pub(crate) async fn migrate(on: &OnServers) -> Result<(), Failure> {
    let config = config::load(&on.config)?;
    for name in names(on.service)? {
        migrate_one(&config, name).await?;
        done("migrated", name.as_str(), on.json);
    }
    // A service's own migration may run where the broker is out of reach.
    if on.service.is_none() {
        make_topics(&config).await?;
        done("migrated", "topics", on.json);
    }
    Ok(())
}

/// Brings one service's schema up to date.
pub(crate) async fn migrate_one(config: &Config, name: Name) -> Result<(), Failure> {
    let owner = config.service(name).owner;
    let url = config.secret(&format!("services.{name}.owner"), owner.as_ref())?;
    let bounds = serve::pg_config(config, name, url.expose());
    amarra_postgres::migrate(&bounds, &schema::migrations(name)).await.refuse_for(name)?;
    if config.relay.source == RelaySource::Wal {
        publish(config, name, bounds).await?;
    }
    Ok(())
}

/// Publishes the inserts of a service's outbox to whoever follows the log.
async fn publish(config: &Config, name: Name, bounds: PgConfig) -> Result<(), Failure> {
    let bounds = PgConfig { connections_max: 1, ..bounds };
    let publication = follower(config, name)?.publication;
    let database = PgDatabase::connect_with(bounds, &schema::migrations(name)).await;
    let database = database.refuse_for(name)?;
    let done = async {
        let mut conn = database.pool().acquire().await.refuse_for(name)?;
        amarra_postgres_wal::publish(&mut conn, &publication).await.refuse_for(name)
    };
    let done = done.await;
    database.close().await;
    done
}

/// Looks after the partitions of the outboxes.
pub(crate) async fn maintain(on: &OnServers) -> Result<(), Failure> {
    let config = config::load(&on.config)?;
    for name in names(on.service)? {
        let Upkeep { created, dropped, busy } = upkeep::maintain(&config, name).await?;
        say(&if on.json {
            json!({"kind": "maintained", "name": name.as_str(), "created": created,
                "dropped": dropped, "busy": busy})
            .to_string()
        } else {
            let (made, gone, left) = (created.len(), dropped.len(), busy.len());
            format!("{name}: {made} partitions made, {gone} dropped, {left} busy")
        });
    }
    Ok(())
}
