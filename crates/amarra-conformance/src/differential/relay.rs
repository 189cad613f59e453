//! The calls of a relay and of an operator; only the order within a key is told.

use std::collections::BTreeMap;

use amarra_core::PartitionKey;
use amarra_messaging::message::Seq;
use amarra_messaging::outbox::{ParkedRow, Row};
use amarra_messaging::{Record, Topic};

use super::{LONG, Run};
use crate::check::Must;
use crate::reader::{all_shards, enter, leave};

/// Events with their payloads, by topic and key.
type Told = BTreeMap<String, Vec<String>>;

fn tell(told: &mut Told, topic: &Topic, record: &Record) {
    let envelope = amarra_messaging::wire::envelope(record).must("a record of the run");
    let key = format!("{topic} {}", envelope.partition_key);
    told.entry(key).or_default().push(format!("{} {:?}", envelope.id, envelope.data));
}

impl Run<'_> {
    /// Relays everything that is committed; rows of `poison`, and of every key that is parked, are
    /// set aside.
    pub(super) async fn relay(&mut self, limit: usize, poison: Option<&str>) -> String {
        let log = self.subject.log.as_ref();
        let (mut told, mut aside) = (Told::new(), Told::new());
        for lease in all_shards(log, "differential", LONG).await {
            let resumed = log.resume(&lease).await.must("resume");
            let (mut cursor, mut parked) = (resumed.cursor, resumed.parked);
            parked.extend(poison.map(PartitionKey::from));
            loop {
                let chunk = log.next_chunk(&lease, &cursor, limit).await.must("next_chunk");
                enter(&mut cursor, &chunk, limit);
                log.checkpoint(&lease, &cursor).await.must("checkpoint before publishing");
                let (mut pos, mut rows) = (cursor.pos, Vec::new());
                for Row { seq, topic, record, .. } in &chunk.rows {
                    pos = pos.next();
                    if parked.contains(&record.partition_key()) {
                        tell(&mut aside, topic, record);
                        let (topic, record) = (topic.clone(), record.clone());
                        let reason = "poison".into();
                        rows.push(ParkedRow { seq: *seq, pos, topic, record, reason });
                    } else {
                        tell(&mut told, topic, record);
                    }
                }
                if !rows.is_empty() {
                    log.park(&lease, &rows).await.must("park");
                }
                leave(&mut cursor, &chunk);
                log.checkpoint(&lease, &cursor).await.must("checkpoint after publishing");
                if chunk.last {
                    break;
                }
            }
        }
        format!("relayed {told:?}, set aside {aside:?}")
    }

    pub(super) async fn release(&mut self, key: &str) -> String {
        let (topic, key) = (Topic::from("things"), PartitionKey::from(key));
        self.subject.log.release(&topic, &key).await.must("release");
        format!("released {key}")
    }

    /// Publishes some of what was released, and tells what is set aside after it.
    pub(super) async fn settle(&mut self, limit: usize) -> String {
        let log = self.subject.log.as_ref();
        let (mut told, mut left, mut keys) = (Told::new(), Told::new(), Vec::new());
        for lease in all_shards(log, "differential", LONG).await {
            let rows = log.released(&lease, limit).await.must("released");
            rows.iter().for_each(|row| tell(&mut told, &row.topic, &row.record));
            log.settle(&lease, &rows).await.must("settle");
            keys.extend(log.resume(&lease).await.must("resume").parked);
        }
        for row in log.parked(Seq(0), 1000).await.must("parked") {
            tell(&mut left, &row.topic, &row.record);
        }
        keys.sort();
        format!("settled {told:?}, left {left:?}, parked {keys:?}")
    }
}
