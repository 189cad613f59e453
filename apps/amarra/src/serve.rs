//! One service in this process, on real servers: all checks first, then everything at once.

use std::sync::Arc;

use amarra_http::HttpClient;
use amarra_http::net::{HttpServer, ServerTls, TokioSpawn};
use amarra_postgres::{BridgeConfig, PgConfig, PgDatabase, PgWakeBridge};
use axum::Router;
use serde_json::json;

use crate::args::Serve;
use crate::compose::{self, Backing, Context};
use crate::config::{self, Config, ServiceSection};
use crate::http::{door, operators, outlets::Outlets, probes};
use crate::name::Name;
use crate::output;
use crate::refusal::{Failure, Refuse};
use crate::schema;
use crate::stages::{Patience, Plan, Stage};
use crate::storage::{Broker, Storage};

/// Runs the service until it is asked to stop.
pub(crate) async fn run(name: Name, args: &Serve) -> Result<(), Failure> {
    let path = args.config.as_deref().ok_or_else(|| Failure::refused("--config is missing"))?;
    let config = config::load(path)?;
    let section = config.service(name);
    let env = amarra_tokio::environment();
    let tls = config.http.tls.as_ref().map(|tls| tls.files(&config.folder, name));
    let client_tls = tls.as_ref().map(|tls| tls.client()).transpose().refuse_for("http.tls")?;
    let http = config.http.client();
    http.validate().refuse()?;
    let connect = Arc::new(Outlets::new(&config, client_tls)?);
    let client = Arc::new(HttpClient::new(connect, Arc::new(TokioSpawn), env.clone(), http));
    let cx = Context::new(env, config, client);
    let mut plan = Plan::default();
    let backing = backing(&cx.config, name, &section, &mut plan).await?;
    let router = compose::router(&cx, name, backing.as_ref(), &mut plan).await?;
    let server_tls = match &tls {
        Some(tls) if name.has_database() => Some(tls.server().refuse_for("http.tls")?),
        _ => None,
    };
    let router = lock(&cx, name, server_tls.is_some(), router)?;
    let url = listen(&cx, &section, (name, router, server_tls), &mut plan).await?;
    let process = &cx.config.process;
    let patience = Patience { grace: process.stop_grace.0, drain: process.drain_timeout.0 };
    let running = plan.start(args.stop_with_stdin)?;
    cx.health.opened();
    let (health, env, as_json) = (Arc::clone(&cx.health), cx.env.clone(), args.json);
    let telling = tokio::spawn(async move {
        health.until_ready(&env).await;
        tell(name, &url, as_json);
    });
    let ended = running.until_stopped(&cx.health, patience).await;
    telling.abort();
    if let Some(storage) = backing.and_then(|b| b.storage) {
        storage.close().await;
    }
    ended
}

fn tell(name: Name, url: &str, as_json: bool) {
    if as_json {
        let pid = std::process::id();
        let line = json!({"kind": "ready", "service": name.as_str(), "url": url, "pid": pid});
        output::say(&line.to_string());
    } else {
        output::say(&format!("{name} is ready at {url}"));
    }
}

/// Connects to the service's database and broker, and checks both.
async fn backing(
    config: &Config,
    name: Name,
    section: &ServiceSection,
    plan: &mut Plan,
) -> Result<Option<Backing>, Failure> {
    if name == Name::Provider {
        return Ok(None);
    }
    let broker = Broker::kafka(config).await?;
    let storage = if name.has_database() {
        let database = database(config, name, section).await?;
        if config.postgres.wake_across {
            wake_across(&database, plan);
        }
        Some(Storage::Postgres(database))
    } else {
        None
    };
    Ok(Some(Backing { storage, broker: Some(broker) }))
}

/// Connects to a service's database with the service's role, and checks that its outbox has as many
/// shards as messages would be spread over: one in another shard than the one before it of its key
/// could pass that.
pub(crate) async fn database(
    config: &Config,
    name: Name,
    section: &ServiceSection,
) -> Result<PgDatabase, Failure> {
    let key = format!("services.{name}.database");
    let url = config.secret(&key, section.database.as_ref())?;
    let bounds = pg_config(config, name, url.expose());
    let connected = PgDatabase::connect_with(bounds, &schema::migrations(name)).await;
    let database = connected.map_err(|e| {
        let hint = match e {
            amarra_postgres::PgError::SchemaBehind { .. } => "; run `amarra migrate --config FILE`",
            _ => "",
        };
        Failure::refused(format!("{key}: {e}{hint}"))
    })?;
    let opened = Storage::Postgres(database.clone()).outbox_log(name.as_str()).await;
    opened.refuse_for(&key)?;
    Ok(database)
}

/// Returns the bounds of a service's database.
pub(crate) fn pg_config(config: &Config, name: Name, url: &str) -> PgConfig {
    let section = &config.postgres;
    let defaults = PgConfig::new(url);
    let statement_timeout = section.statement_timeout.0;
    PgConfig {
        views: schema::views(name),
        connections_max: section.connections_max,
        shards: section.shards,
        statement_timeout,
        lock_timeout: defaults.lock_timeout.min(statement_timeout),
        call_timeout: defaults.call_timeout.max(statement_timeout.saturating_mul(2)),
        ..defaults
    }
}

fn wake_across(database: &PgDatabase, plan: &mut Plan) {
    let bridge = PgWakeBridge::new(database.clone(), BridgeConfig::default());
    plan.add(Stage::Relay, "wake-ups across processes", |shutdown| async move {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = bridge.tell() => {}
            () = bridge.listen() => {}
        }
    });
}

/// Locks the inner door: a service is asked by the gateway and by nobody else.
fn lock(cx: &Context, name: Name, tls: bool, router: Router) -> Result<Router, Failure> {
    match &cx.config.http.internal_token {
        _ if !name.has_database() => Ok(router),
        Some(source) => {
            let token = cx.config.secret("http.internal_token", Some(source))?;
            Ok(door::locked(router, &token))
        }
        None if tls => {
            let callers = cx.config.http.tls.as_ref().map(|tls| tls.callers.clone());
            Ok(door::known(router, callers.unwrap_or_default()))
        }
        None => Err(Failure::refused(
            "name http.internal_token or http.tls: without one of them everybody could ask this \
             service in anybody's name",
        )),
    }
}

/// Takes the ports, and plans what is served on them; returns the address.
async fn listen(
    cx: &Context,
    section: &ServiceSection,
    (name, router, tls): (Name, Router, Option<ServerTls>),
    plan: &mut Plan,
) -> Result<String, Failure> {
    let missing = || Failure::refused(format!("services.{name}.listen is missing"));
    let address = section.listen.ok_or_else(missing)?;
    let (front, behind) = (operators(&cx.health, &cx.metrics), section.admin);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let bind = async |address, tls| {
        let server = HttpServer::bind(cx.config.http.listener(address), tls).await;
        server.refuse_for(format!("services.{name}"))
    };
    let server = bind(address, tls).await?;
    let url = format!("{scheme}://{}", server.address());
    match behind {
        None => {
            // The figures are nobody's business at a door that the whole world stands at.
            let open = !name.has_database() && !server.address().ip().is_loopback();
            let front = if open { probes(&cx.health) } else { front };
            let router = front.fallback_service(router);
            plan.add(Stage::Serve, "listener", |shutdown| server.serve(router, shutdown));
        }
        Some(admin) => {
            let admin = bind(admin, None).await?;
            plan.add(Stage::Serve, "listener", |shutdown| server.serve(router, shutdown));
            // Operators may look until the last stage ends.
            plan.add(Stage::Relay, "operators' listener", |shutdown| admin.serve(front, shutdown));
        }
    }
    Ok(url)
}
