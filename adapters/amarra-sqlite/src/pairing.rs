//! Checks that a database and the file of its relay are of one another, and of one moment.

use std::path::Path;

use amarra_messaging::outbox::Cursor;
use sqlx::SqliteConnection;

use crate::clock::int;
use crate::database::next_seq;
use crate::error::OpenError;
use crate::file::Writer;

/// What one file says of the pair.
#[derive(Debug, Default)]
struct Side {
    /// The database's identity.
    id: Option<String>,
    /// Drawn at each opening, so that a copy from before it is told from the file itself.
    opening: Option<String>,
    /// The opening that may have been interrupted.
    next: Option<String>,
    /// Whether the database had a relay file once.
    had_relay: bool,
    /// Below which sequence value messages may have been deleted.
    pruned: i64,
}

/// What the relay's file says of messages.
#[derive(Debug, Default)]
struct Passed {
    min: Option<i64>,
    max: Option<i64>,
}

/// Checks the pair, marks both files with a new opening, makes the shards of the outbox and ends
/// every lease, since nobody who held one is alive.
///
/// # State
/// The database learns of the new opening before the relay's file does and settles on it after, so
/// that a crash in between is told from a restored file.
pub(crate) async fn pair(
    path: &Path,
    writer: &mut Writer,
    relay: &mut Writer,
    (name, shards): (&str, u16),
) -> Result<(), OpenError> {
    let failed = |source| OpenError::of(path, source);
    let ours = side(writer.connection().map_err(failed)?).await.map_err(failed)?;
    let next = next_seq(writer.connection().map_err(failed)?).await.map_err(failed)?;
    let theirs = side(relay.connection().map_err(failed)?).await.map_err(failed)?;
    let passed = passed(relay.connection().map_err(failed)?).await.map_err(failed)?;
    if let Some(why) = mismatch(name, &ours, &theirs, &passed, int(next)) {
        return Err(OpenError::Mismatch { path: path.to_owned(), why });
    }
    mark(writer, relay, theirs.opening, (name, shards)).await.map_err(failed)
}

/// Says why the files are not of one another, if they are not.
fn mismatch(name: &str, ours: &Side, theirs: &Side, passed: &Passed, next: i64) -> Option<String> {
    match &theirs.id {
        Some(id) if id != name => {
            return Some(format!("it is of database {id}, which is not {name}"));
        }
        None if ours.had_relay => return Some("it was deleted".to_owned()),
        None => return None,
        Some(_) => {}
    }
    if passed.max.is_some_and(|passed| passed > next) {
        return Some("its relay has passed messages that the database does not have".to_owned());
    }
    if passed.min.is_some_and(|passed| passed < ours.pruned) {
        return Some("its relay has still to pass messages that were deleted".to_owned());
    }
    let settled = theirs.opening == ours.opening;
    let interrupted = ours.next.is_some() && theirs.opening == ours.next;
    (!settled && !interrupted).then(|| "one of the two is an older copy".to_owned())
}

async fn mark(
    writer: &mut Writer,
    relay: &mut Writer,
    found: Option<String>,
    (name, shards): (&str, u16),
) -> Result<(), sqlx::Error> {
    writer.begin().await?;
    let connection = writer.connection()?;
    set(connection, "opening", found.as_deref()).await?;
    let opening: String =
        sqlx::query_scalar("SELECT lower(hex(randomblob(16)))").fetch_one(&mut *connection).await?;
    set(connection, "next opening", Some(&opening)).await?;
    writer.commit().await?;

    relay.begin().await?;
    let connection = relay.connection()?;
    set(connection, "id", Some(name)).await?;
    set(connection, "opening", Some(&opening)).await?;
    let shard = "INSERT OR IGNORE INTO shards (shard, epoch, expires, cursor, passed) \
                 VALUES (?, 0, 0, ?, 0)";
    let cursor = serde_json::to_string(&Cursor::default()).unwrap_or_default();
    for number in 0..shards {
        let insert = sqlx::query(shard).bind(i64::from(number)).bind(&cursor);
        insert.execute(&mut *connection).await?;
    }
    sqlx::query("UPDATE shards SET expires = 0").execute(connection).await?;
    relay.commit().await?;

    writer.begin().await?;
    let connection = writer.connection()?;
    set(connection, "relay", Some("")).await?;
    set(connection, "opening", Some(&opening)).await?;
    set(connection, "next opening", None).await?;
    writer.commit().await
}

/// Notes that messages below `seq` are being deleted.
pub(crate) async fn note_pruned(
    connection: &mut SqliteConnection,
    seq: i64,
) -> Result<(), sqlx::Error> {
    set(connection, "pruned", Some(&seq.to_string())).await
}

async fn side(connection: &mut SqliteConnection) -> Result<Side, sqlx::Error> {
    let found: Vec<(String, String)> =
        sqlx::query_as("SELECT name, value FROM meta").fetch_all(connection).await?;
    let mut side = Side::default();
    for (name, value) in found {
        match &*name {
            "id" => side.id = Some(value),
            "opening" => side.opening = Some(value),
            "next opening" => side.next = Some(value),
            "relay" => side.had_relay = true,
            "pruned" => side.pruned = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    Ok(side)
}

async fn passed(connection: &mut SqliteConnection) -> Result<Passed, sqlx::Error> {
    let (min, max) =
        sqlx::query_as("SELECT min(passed), max(passed) FROM shards").fetch_one(connection).await?;
    Ok(Passed { min, max })
}

async fn set(
    connection: &mut SqliteConnection,
    name: &str,
    value: Option<&str>,
) -> Result<(), sqlx::Error> {
    let Some(value) = value else {
        let delete = sqlx::query("DELETE FROM meta WHERE name = ?").bind(name);
        return delete.execute(connection).await.map(drop);
    };
    let upsert = "INSERT INTO meta (name, value) VALUES (?, ?) \
                  ON CONFLICT DO UPDATE SET value = excluded.value";
    sqlx::query(upsert).bind(name).bind(value).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(opening: &str, next: &str) -> Side {
        let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        Side { id: text("x"), opening: text(opening), next: text(next), ..Side::default() }
    }

    #[test]
    fn an_interrupted_opening_is_no_mismatch_and_an_older_copy_is() {
        let check = |ours: Side, theirs: Side, well: bool| {
            let got = mismatch("x", &ours, &theirs, &Passed::default(), 1);
            assert_eq!(got.is_none(), well, "{ours:?} and {theirs:?}: {got:?}");
        };
        check(side("", ""), side("", ""), true);
        check(side("a", ""), side("a", ""), true);
        check(side("a", "b"), side("a", ""), true);
        check(side("a", "b"), side("b", ""), true);
        check(side("", "b"), side("", ""), true);
        check(side("a", ""), side("b", ""), false);
        check(side("b", ""), side("a", ""), false);
        check(side("b", ""), side("", ""), false);
        check(side("", ""), side("a", ""), false);
        check(side("a", "b"), side("c", ""), false);
    }

    #[test]
    fn what_the_relay_passed_has_to_be_there_and_what_is_deleted_to_be_passed() {
        let check = |pruned, min, max, well: bool| {
            let ours = Side { pruned, ..side("a", "") };
            let passed = Passed { min: Some(min), max: Some(max) };
            let got = mismatch("x", &ours, &side("a", ""), &passed, 10);
            assert_eq!(got.is_none(), well, "{got:?}");
        };
        check(0, 0, 10, true);
        check(0, 0, 11, false);
        check(5, 5, 9, true);
        check(5, 4, 9, false);
    }
}
