//! Looks at outboxes, and releases what was set aside in them.

use std::collections::BTreeSet;
use std::time::Duration;

use amarra_messaging::message::{Owner, Seq};
use amarra_messaging::outbox::{Backlog, ParkedRow};
use amarra_messaging::{OutboxLog, Topic};
use serde_json::json;

use super::{servers, storages};
use crate::args::{Look, OutboxVerb, Replay};
use crate::name::Name;
use crate::output::say;
use crate::refusal::{Failure, Refuse};

/// Rows read at once.
const PAGE: usize = 500;

/// Does what was asked.
pub(crate) async fn run(verb: &OutboxVerb) -> Result<(), Failure> {
    match verb {
        OutboxVerb::Status(look) => status(look, true).await,
        OutboxVerb::Lag(look) => status(look, false).await,
        OutboxVerb::Parked(look) => parked(look).await,
        OutboxVerb::Replay(replay) => release(replay).await,
        OutboxVerb::Maintain(on) => servers::maintain(on).await,
    }
}

async fn status(look: &Look, by_shard: bool) -> Result<(), Failure> {
    let mut total = 0_u64;
    for (name, storage) in storages(look).await? {
        let log = storage.outbox_log(name.as_str()).await?;
        let shards = log.backlog().await.refuse_for(name)?;
        storage.close().await;
        if by_shard {
            shards.iter().for_each(|shard| show_shard(name, shard, look.json));
        }
        let waiting = shards.iter().fold(0_u64, |sum, s| sum.saturating_add(s.waiting));
        total = total.saturating_add(waiting);
        if !by_shard {
            let oldest = shards.iter().filter_map(|s| s.oldest).max();
            show_lag(name, waiting, oldest, look.json);
        }
    }
    let summary = json!({"kind": "summary", "waiting": total});
    say(&if look.json { summary.to_string() } else { format!("{total} messages wait") });
    Ok(())
}

fn show_shard(name: Name, shard: &Backlog, as_json: bool) {
    let (service, number, epoch) = (name.as_str(), shard.shard.0, shard.epoch.0);
    let owner = shard.owner.as_ref().map(Owner::as_str);
    say(&if as_json {
        json!({"kind": "shard", "service": service, "shard": number, "epoch": epoch,
            "owner": owner, "waiting": shard.waiting, "oldest_ms": millis(shard.oldest)})
        .to_string()
    } else {
        let owner = owner.unwrap_or("nobody");
        let age = age(shard.oldest);
        format!(
            "{service:<14} shard {number:>3} epoch {epoch:>6} {:>9} wait{age}; relayed by {owner}",
            shard.waiting
        )
    });
}

fn show_lag(name: Name, waiting: u64, oldest: Option<Duration>, as_json: bool) {
    let service = name.as_str();
    say(&if as_json {
        let oldest = millis(oldest);
        json!({"kind": "lag", "service": service, "waiting": waiting, "oldest_ms": oldest})
            .to_string()
    } else {
        format!("{service:<14} {waiting:>9} wait{}", age(oldest))
    });
}

fn millis(age: Option<Duration>) -> Option<u64> {
    age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn age(oldest: Option<Duration>) -> String {
    millis(oldest).map(|millis| format!(", the oldest for {millis} ms")).unwrap_or_default()
}

async fn parked(look: &Look) -> Result<(), Failure> {
    let mut count = 0_usize;
    for (name, storage) in storages(look).await? {
        let log = storage.outbox_log(name.as_str()).await?;
        let rows = all_parked(name, log.as_ref()).await?;
        storage.close().await;
        count = count.saturating_add(rows.len());
        rows.iter().for_each(|row| show(name, row, look.json));
    }
    let summary = json!({"kind": "summary", "parked": count});
    say(&if look.json { summary.to_string() } else { format!("{count} messages set aside") });
    Ok(())
}

async fn all_parked(name: Name, log: &dyn OutboxLog) -> Result<Vec<ParkedRow>, Failure> {
    let mut rows: Vec<ParkedRow> = Vec::new();
    loop {
        let after = rows.last().map_or(Seq(0), |row| row.seq);
        let page = log.parked(after, PAGE).await.refuse_for(name)?;
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

/// Shows a row without its payload, which is nobody's business here.
fn show(name: Name, row: &ParkedRow, as_json: bool) {
    let (service, seq, topic) = (name.as_str(), row.seq.0, row.topic.as_str());
    let (key, reason) = (row.record.partition_key(), &row.reason);
    say(&if as_json {
        json!({"kind": "parked", "service": service, "seq": seq, "topic": topic,
            "key": key.as_str(), "reason": reason})
        .to_string()
    } else {
        format!("{service:<14} {seq:>9} {topic} {} {reason}", key.as_str())
    });
}

async fn release(replay: &Replay) -> Result<(), Failure> {
    let look = &replay.look;
    let mut count = 0_usize;
    for (name, storage) in storages(look).await? {
        let log = storage.outbox_log(name.as_str()).await?;
        let rows = all_parked(name, log.as_ref()).await?;
        let asked = |row: &&ParkedRow| {
            let topic = replay.topic.as_deref().is_none_or(|t| t == row.topic.as_str());
            topic && replay.key.as_deref().is_none_or(|k| k == row.record.partition_key().as_str())
        };
        let rows: Vec<_> = rows.iter().filter(asked).collect();
        let keys: BTreeSet<(Topic, _)> =
            rows.iter().map(|row| (row.topic.clone(), row.record.partition_key())).collect();
        for (topic, key) in &keys {
            log.release(topic, key).await.refuse_for(name)?;
        }
        storage.close().await;
        rows.iter().for_each(|row| show(name, row, look.json));
        count = count.saturating_add(rows.len());
    }
    let summary = json!({"kind": "summary", "released": count});
    say(&if look.json {
        summary.to_string()
    } else {
        format!("{count} messages released; a running relay publishes them within a second")
    });
    Ok(())
}
