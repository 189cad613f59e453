//! What waits in each shard, for operators and metrics.

use std::time::Duration;

use amarra_messaging::message::{Epoch, Owner, Shard};
use amarra_messaging::outbox::{Backlog, LogError};

use super::PgOutboxLog;
use crate::error::log_error;

/// A row waits unless the closed batches or the acknowledged part of the open one hold it. At most
/// a million are looked at: a figure for people need not be dearer than the relaying.
const BACKLOG: &str = "SELECT c.shard, c.epoch, \
     CASE WHEN c.expires > clock_timestamp() THEN c.owner END, w.waiting, \
     (extract(epoch FROM clock_timestamp() - w.oldest) * 1000000)::bigint \
     FROM outbox_cursor c CROSS JOIN LATERAL ( \
         SELECT count(*) AS waiting, min(at) AS oldest FROM ( \
             SELECT o.at FROM outbox o WHERE o.shard = c.shard \
             AND o.xid >= coalesce(pg_snapshot_xmin(nullif(c.prev, '0:0:')::pg_snapshot), '0') \
             AND NOT coalesce( \
                 pg_visible_in_snapshot(o.xid, nullif(c.prev, '0:0:')::pg_snapshot), false) \
             AND NOT coalesce( \
                 o.seq <= c.last_seq AND pg_visible_in_snapshot(o.xid, c.cur::pg_snapshot), false) \
             LIMIT 1000000) AS r) AS w \
     WHERE c.grp = $1 ORDER BY c.shard";

type Row = (i16, i64, Option<String>, i64, Option<i64>);

impl PgOutboxLog {
    /// Looks on a pooled connection: the relay's own have better things to do.
    pub(super) async fn look_at_backlog(&self) -> Result<Vec<Backlog>, LogError> {
        let group = self.config.group.as_str();
        let looked = sqlx::query_as(BACKLOG).bind(group).fetch_all(self.database.pool());
        let rows: Vec<Row> = looked.await.map_err(|e| log_error(&e))?;
        let backlog = |(shard, epoch, owner, waiting, oldest): Row| Backlog {
            shard: Shard(shard.cast_unsigned()),
            epoch: Epoch(epoch.cast_unsigned()),
            owner: owner.map(Owner::new),
            waiting: u64::try_from(waiting).unwrap_or(0),
            oldest: oldest.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
        };
        Ok(rows.into_iter().map(backlog).collect())
    }
}
