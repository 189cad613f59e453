//! Snapshots as Postgres writes them: `xmin:xmax:xip,xip`.

use std::fmt::Write as _;

use amarra_messaging::outbox::{LogError, Snapshot};

/// Writes a snapshot as `pg_snapshot` prints it.
pub(crate) fn to_text(snapshot: &Snapshot) -> String {
    let Snapshot { xmin, xmax, xip } = snapshot;
    let mut text = format!("{xmin}:{xmax}:");
    for (i, xid) in xip.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{xid}");
    }
    text
}

/// Reads what [`to_text`] or Postgres wrote.
pub(crate) fn from_text(text: &str) -> Result<Snapshot, LogError> {
    parse(text).ok_or_else(|| LogError::Corrupt {
        what: "snapshot".to_owned(),
        why: format!("{text:?} is not xmin:xmax:xip,xip"),
    })
}

fn parse(text: &str) -> Option<Snapshot> {
    let mut parts = text.splitn(3, ':');
    let xmin = parts.next()?.parse().ok()?;
    let xmax = parts.next()?.parse().ok()?;
    let xip = parts.next()?.split(',').filter(|xid| !xid.is_empty());
    let xip = xip.map(|xid| xid.parse().ok()).collect::<Option<Vec<_>>>()?;
    Some(Snapshot { xmin, xmax, xip })
}

/// Writes the ids in progress as an array literal.
pub(crate) fn in_progress(snapshot: &Snapshot) -> String {
    let text = to_text(snapshot);
    format!("{{{}}}", text.rsplit(':').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for text in ["0:0:", "5:5:", "5:9:5,7"] {
            assert_eq!(to_text(&from_text(text).unwrap()), text);
        }
        for text in ["", "5", "5:6", "a:6:", "5:6:x"] {
            assert!(from_text(text).is_err(), "{text:?} was taken for a snapshot");
        }
        assert_eq!(in_progress(&from_text("5:9:5,7").unwrap()), "{5,7}");
        assert_eq!(in_progress(&Snapshot::default()), "{}");
    }
}
