//! The whole shop in one process: six services, gateway and provider on files in one folder.

mod opening;

use std::path::Path;
use std::sync::Arc;

use amarra_core::Environment;
use amarra_http::HttpClient;
use amarra_http::net::{HttpServer, TokioSpawn};
use amarra_shop::contract::topics;
use amarra_sqlite::{BusConfig, DatabaseConfig, SqliteBus, SqliteDatabase, TopicConfig};
use axum::Router;

use crate::args::Serve;
use crate::compose::{self, Backing, Context};
use crate::config::{self, Config};
use crate::http::local::Local;
use crate::http::operators;
use crate::name::Name;
use crate::refusal::{Failure, Refuse};
use crate::secrets::{Vault, make_folder};
use crate::stages::{Patience, Plan, Stage};
use crate::storage::{Broker, Storage};
use crate::upkeep;

/// Partitions of every topic on the embedded bus.
const PARTITIONS: u32 = 3;

/// Runs the shop until it is asked to stop.
pub(crate) async fn run(args: &Serve) -> Result<(), Failure> {
    let env = amarra_tokio::environment();
    let config = settings(args.config.as_deref(), &args.data, &env)?;
    let local = Local::default();
    let http = config.http.client();
    http.validate().refuse()?;
    let client =
        Arc::new(HttpClient::new(Arc::new(local.clone()), Arc::new(TokioSpawn), env.clone(), http));
    let cx = Context::new(env, config, client);
    let broker = Broker::Bus(bus(args, &cx).await?);
    let mut plan = Plan::default();
    let mut storages = Vec::new();
    let mut front = Router::new();
    for name in Name::ALL {
        let storage =
            if name.has_database() { Some(storage(args, &cx, name).await?) } else { None };
        if let Some(Storage::Sqlite(database)) = storage.clone() {
            let (env, section) = (cx.env.clone(), cx.config.upkeep.clone());
            plan.add(Stage::Work, format!("{name}: upkeep"), move |shutdown| {
                upkeep::prune(name, database, section, (env, shutdown))
            });
        }
        storages.extend(storage.clone());
        let backing = Backing { storage, broker: Some(broker.clone()) };
        let router = compose::router(&cx, name, Some(&backing), &mut plan).await?;
        local.open(name.as_str(), router.clone());
        if name == Name::Gateway {
            front = operators(&cx.health, &cx.metrics).fallback_service(router);
        }
    }
    let server = HttpServer::bind(cx.config.http.listener(args.listen), None).await.refuse()?;
    let address = server.address();
    plan.add(Stage::Serve, "listener", |shutdown| server.serve(front, shutdown));
    let process = &cx.config.process;
    let patience = Patience { grace: process.stop_grace.0, drain: process.drain_timeout.0 };
    let running = plan.start(args.stop_with_stdin)?;
    cx.health.opened();
    let opening = opening::Opening::new(&cx, args, address)?;
    let opening = tokio::spawn(opening.run());
    let ended = running.until_stopped(&cx.health, patience).await;
    opening.abort();
    futures_util::future::join_all(storages.iter().map(Storage::close)).await;
    broker.close().await;
    ended
}

/// Reads the configuration, makes the folder and its secrets, and fills in what only they know.
pub(crate) fn settings(
    path: Option<&Path>,
    data: &Path,
    env: &Environment,
) -> Result<Config, Failure> {
    let mut config = match path {
        Some(path) => config::load(path)?,
        None => Config::default(),
    };
    make_folder(data)?;
    let data = data.canonicalize().refuse_for(data.display())?;
    config.keys = Vault::open(&data)?.fill(env.entropy.as_ref())?;
    let file = |name: &str| Some(data.join(name));
    config.users.auto_verify.get_or_insert(true);
    config.users.verification_log = config.users.verification_log.or_else(|| file("verifications"));
    config.notifications.sent_log = config.notifications.sent_log.or_else(|| file("sent"));
    config.provider.journal = config.provider.journal.or_else(|| file("provider.journal"));
    Ok(config)
}

async fn storage(args: &Serve, cx: &Context, name: Name) -> Result<Storage, Failure> {
    open(&args.data, &cx.config, name).await.map(Storage::Sqlite)
}

/// Opens the database of a service in a shop's folder.
pub(crate) async fn open(
    data: &Path,
    config: &Config,
    name: Name,
) -> Result<SqliteDatabase, Failure> {
    let path = data.join(format!("{name}.sqlite"));
    let synchronous = config.sqlite.synchronous;
    let bounds = DatabaseConfig { synchronous, ..DatabaseConfig::default() };
    SqliteDatabase::open(path, bounds).await.refuse()
}

async fn bus(args: &Serve, cx: &Context) -> Result<SqliteBus, Failure> {
    let partitions = PARTITIONS;
    let topics = topics::ALL.iter().map(|topic| TopicConfig { topic: (*topic).into(), partitions });
    let synchronous = cx.config.sqlite.synchronous;
    let path = args.data.join("bus.sqlite");
    let config = BusConfig { synchronous, ..BusConfig::new(path, topics.collect()) };
    SqliteBus::open(config, cx.env.clone()).await.refuse()
}
