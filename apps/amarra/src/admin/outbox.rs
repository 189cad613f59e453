//! Looks at outboxes, and releases what was set aside in them.

use std::collections::BTreeSet;

use amarra_messaging::message::Seq;
use amarra_messaging::outbox::ParkedRow;
use amarra_messaging::{OutboxLog, Topic};
use serde_json::json;

use super::storages;
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
    }
}

async fn status(_look: &Look, _by_shard: bool) -> Result<(), Failure> {
    Err(Failure::refused("not yet"))
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
