//! Looks at what consumers set aside, and applies it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use amarra_core::PartitionKey;
use amarra_http::HttpClient;
use amarra_http::net::TokioSpawn;
use amarra_messaging::{Group, Parked, Topic};
use amarra_store::{Replay as Replayed, Replayer};
use serde_json::json;

use super::storages;
use crate::args::{InboxVerb, Look, Place, Replay};
use crate::compose::{self, Backing, Context};
use crate::config;
use crate::embedded;
use crate::http::local::Local;
use crate::name::Name;
use crate::output::say;
use crate::refusal::{Failure, Refuse};
use crate::stages::Plan;
use crate::storage::Storage;

/// Rows read at once.
const PAGE: usize = 500;
/// Messages of one key that are applied in one go.
const OF_A_KEY: usize = 100_000;

/// Does what was asked.
pub(crate) async fn run(verb: &InboxVerb) -> Result<(), Failure> {
    match verb {
        InboxVerb::Parked(look) => parked(look).await,
        InboxVerb::Replay(replay) => again(replay).await,
    }
}

async fn all(name: Name, storage: &Storage) -> Result<Vec<(Group, Parked)>, Failure> {
    let mut rows: Vec<(Group, Parked)> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |(_, parked)| parked.ticket);
        let page = storage.parked(after, PAGE).await.refuse_for(name)?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

async fn parked(look: &Look) -> Result<(), Failure> {
    let mut count = 0_usize;
    for (name, storage) in storages(look).await? {
        let rows = all(name, &storage).await?;
        storage.close().await;
        count = count.saturating_add(rows.len());
        for (group, row) in &rows {
            show(name, group, row, look.json);
        }
    }
    let summary = json!({"kind": "summary", "parked": count});
    say(&if look.json { summary.to_string() } else { format!("{count} messages set aside") });
    Ok(())
}

/// Shows a row without its payload, which is nobody's business here.
fn show(name: Name, group: &Group, row: &Parked, as_json: bool) {
    let (service, group, ticket) = (name.as_str(), group.as_str(), row.ticket);
    let (topic, key) = (row.delivery.topic.as_str(), row.delivery.key());
    let (partition, offset, reason) =
        (row.delivery.partition.0, row.delivery.offset.0, &row.reason);
    say(&if as_json {
        json!({"kind": "parked", "service": service, "group": group, "ticket": ticket,
            "topic": topic, "partition": partition, "offset": offset, "key": key.as_str(),
            "reason": reason, "at": row.at})
        .to_string()
    } else {
        format!("{group:<14} {ticket:>9} {topic}/{partition}@{offset} {} {reason}", key.as_str())
    });
}

async fn again(replay: &Replay) -> Result<(), Failure> {
    let look = &replay.look;
    let (mut applied, mut stopped) = (0_usize, 0_usize);
    for (name, storage) in storages(look).await? {
        let keys = keys(replay, &all(name, &storage).await?);
        if !keys.is_empty() {
            let (cx, plan) = handlers(&look.place, name, &storage).await?;
            for (group, topic, key) in &keys {
                let one = replay_key(&cx, &plan, &storage, (group, topic, key)).await?;
                applied = applied.saturating_add(one.applied);
                stopped = stopped.saturating_add(usize::from(one.stopped.is_some()));
                tell((name, group), (topic, key), &one, look.json);
            }
        }
        storage.close().await;
    }
    let summary = json!({"kind": "summary", "applied": applied, "stopped": stopped});
    let text = format!("{applied} messages applied; {stopped} keys stopped at one that fails");
    say(&if look.json { summary.to_string() } else { text });
    match stopped {
        0 => Ok(()),
        _ => Err(Failure::Failed("some keys are still parked; the lines above say why".to_owned())),
    }
}

/// Returns the keys that were asked for.
fn keys(replay: &Replay, rows: &[(Group, Parked)]) -> BTreeSet<(Group, Topic, PartitionKey)> {
    let all = rows.iter().map(|(group, parked)| {
        (group.clone(), parked.delivery.topic.clone(), parked.delivery.key())
    });
    let asked = |(_, topic, key): &(Group, Topic, PartitionKey)| {
        replay.topic.as_deref().is_none_or(|t| t == topic.as_str())
            && replay.key.as_deref().is_none_or(|k| k == key.as_str())
    };
    all.filter(asked).collect()
}

/// Puts a service together without anything that runs.
async fn handlers(
    place: &Place,
    name: Name,
    storage: &Storage,
) -> Result<(Context, Plan), Failure> {
    let env = amarra_tokio::environment();
    let config = match (&place.data, &place.config) {
        (Some(data), _) => embedded::settings(None, data, &env)?,
        (None, Some(path)) => config::load(path)?,
        (None, None) => return Err(Failure::refused("name --data or --config")),
    };
    // Handlers ask no other service: there is nobody behind this client.
    let connect = Arc::new(Local::default());
    let http = config.http.client();
    let client = Arc::new(HttpClient::new(connect, Arc::new(TokioSpawn), env.clone(), http));
    let cx = Context::new(env, config, client);
    let mut plan = Plan::default();
    let backing = Backing { storage: Some(storage.clone()), broker: None };
    // Nobody asks this router: what is wanted is what the plan took note of.
    drop(compose::router(&cx, name, Some(&backing), &mut plan).await?);
    Ok((cx, plan))
}

async fn replay_key(
    cx: &Context,
    plan: &Plan,
    storage: &Storage,
    (group, topic, key): (&Group, &Topic, &PartitionKey),
) -> Result<Replayed, Failure> {
    let unknown = || Failure::refused(format!("no handler of group {group} is in this program"));
    let (source, handler) = plan.handler(group).ok_or_else(unknown)?;
    let replayer = Replayer::new(storage.store(), handler, cx.env.clone(), source);
    Ok(replayer.replay(topic, key, OF_A_KEY).await)
}

fn tell(
    (name, group): (Name, &Group),
    (topic, key): (&Topic, &PartitionKey),
    one: &Replayed,
    as_json: bool,
) {
    let (topic, key, applied) = (topic.as_str(), key.as_str(), one.applied);
    let why = one.stopped.as_ref().map(|stopped| stopped.why.as_str());
    say(&if as_json {
        json!({"kind": "replayed", "service": name.as_str(), "group": group.as_str(),
            "topic": topic, "key": key, "applied": applied, "stopped": why})
        .to_string()
    } else {
        let why = why.map(|why| format!("; stopped: {why}")).unwrap_or_default();
        format!("{:<14} {topic} {key}: {applied} applied{why}", group.as_str())
    });
}
