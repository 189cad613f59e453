//! Asks the database what is committed, and how far the log must be read to have all of it.

use amarra_messaging::outbox::{LogError, Snapshot};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// The snapshot is taken when the statement starts, the place in the log after it: whatever the
/// one sees was written before the other.
const PLACE: &str =
    "SELECT pg_current_snapshot()::text, (pg_current_wal_insert_lsn() - '0/0')::bigint";

/// Bytes of a page of the log, and of the header of all but the first of a segment.
const PAGE: u64 = 8192;
const HEADER: u64 = 24;

/// What is committed, and where in the log the last of it lies at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) snapshot: Snapshot,
    pub(crate) lsn: u64,
}

/// Connections that only ask for places.
#[derive(Debug)]
pub(crate) struct Places(PgPool);

impl Places {
    pub(crate) fn new(options: PgConnectOptions, connections: u32) -> Self {
        let options = options.application_name("amarra-wal-place");
        // A connection that died fails one question, and then the table is read.
        let pool = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
        Self(pool.connect_lazy_with(options))
    }

    pub(crate) async fn ask(&self) -> Result<Place, LogError> {
        let (snapshot, lsn): (String, i64) = sqlx::query_as(PLACE)
            .fetch_one(&self.0)
            .await
            .map_err(|e| LogError::Unavailable { why: e.to_string() })?;
        let snapshot = parse(&snapshot).ok_or_else(|| LogError::Corrupt {
            what: "snapshot".to_owned(),
            why: format!("{snapshot:?} is not xmin:xmax:xip,xip"),
        })?;
        Ok(Place { snapshot, lsn: end_of_record(lsn.cast_unsigned()) })
    }
}

/// Where the next record will start is behind a page's header when the last one filled its page;
/// the stream names where the last one ended. Behind the longer header of a segment the table is
/// read, once in 16 MiB.
fn end_of_record(lsn: u64) -> u64 {
    let within = lsn.checked_rem(PAGE).unwrap_or(0);
    if within == HEADER { lsn.saturating_sub(within) } else { lsn }
}

/// Reads a snapshot as the server writes it.
pub(crate) fn parse(text: &str) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let xip = parts.next()?.split(',').filter(|xid| !xid.is_empty());
    let xip = xip.map(|xid| xid.parse().ok()).collect::<Option<Vec<_>>>()?;
    Some(Snapshot { xmin, xmax, xip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_as_the_server_writes_them() {
        let expect = Snapshot { xmin: 5, xmax: 9, xip: vec![5, 7] };
        assert_eq!(parse("5:9:5,7"), Some(expect));
        assert_eq!(parse("0:0:"), Some(Snapshot::default()));
        for text in ["", "5", "5:6", "a:6:", "5:6:x"] {
            assert_eq!(parse(text), None, "{text:?} was taken for a snapshot");
        }
    }

    #[test]
    fn a_place_behind_a_header_is_the_end_of_the_page_before() {
        for (lsn, expect) in [(8192, 8192), (8216, 8192), (8224, 8224), (24, 0), (99, 99)] {
            assert_eq!(end_of_record(lsn), expect);
        }
    }
}
