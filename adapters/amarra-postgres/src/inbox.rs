//! The inbox port: admissions in the caller's transaction.

use std::sync::Arc;

use amarra_core::EventId;
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Basis, GroupInbox};
use amarra_messaging::message::{Position, Shard};
use amarra_messaging::{Admit, Group, Incoming, Offset, Partition, Topic, TxError};
use sqlx::PgConnection;

use crate::error::tx_error;
use crate::sql::{Argument, Script};

/// Admits messages inside a transaction of the caller's own.
///
/// # Laws
/// Those of [`Inbox`](amarra_messaging::Inbox).
///
/// # Example
/// ```no_run
/// # async fn example(pool: sqlx::PgPool, message: amarra_messaging::Incoming)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use amarra_messaging::Admit;
/// use amarra_postgres::PgInbox;
///
/// let mut tx = pool.begin().await?;
/// if PgInbox::admit(&mut tx, &"billing".into(), &message).await? == Admit::Fresh {
///     sqlx::query("UPDATE invoice SET paid = true").execute(&mut *tx).await?;
/// }
/// tx.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PgInbox;

impl PgInbox {
    /// Admits a message for a group by its id: one round trip. It waits for an admission in
    /// progress.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    pub async fn admit(
        conn: &mut PgConnection,
        group: &Group,
        message: &Incoming,
    ) -> Result<Admit, TxError> {
        let admitted = Self::rows(conn, group, message).await.map_err(|e| tx_error(&e))?;
        Ok(if admitted.is_some() { Admit::Fresh } else { Admit::Duplicate })
    }

    /// Admits a message for a group as its inbox says: one round trip by id or offset, two by
    /// position. It waits for an admission in progress in the same partition.
    ///
    /// A unit does better with a batch: it reads and writes a window or offset once.
    ///
    /// # Errors
    /// Any [`TxError`]; the transaction must then be rolled back.
    pub async fn admit_as(
        conn: &mut PgConnection,
        inbox: &GroupInbox,
        group: &Group,
        message: &Incoming,
    ) -> Result<Admit, TxError> {
        let admit = match inbox.basis(message) {
            Basis::Window(position) => by_position(conn, inbox, (group, message), position).await,
            Basis::Late(_, position) => late(conn, inbox, (group, message), position).await,
            Basis::Offset(offset) => by_offset(conn, inbox, (group, message), offset).await,
            // By its id, which is right for every message.
            _ => return Self::admit(conn, group, message).await,
        };
        admit.map_err(|e| tx_error(&e))
    }

    /// Inserts the admission; returns the transaction's id, none when there was one already.
    pub(crate) async fn rows(
        conn: &mut PgConnection,
        group: &Group,
        message: &Incoming,
    ) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar(
            "INSERT INTO inbox (grp, message, topic, partition, \"offset\") \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (grp, message) DO NOTHING \
             RETURNING pg_current_xact_id()::text::bigint",
        )
        .bind(group.as_str())
        .bind(message.envelope.id.as_uuid())
        .bind(message.topic.as_str())
        .bind(i64::from(message.partition.0))
        .bind(number(message.offset.0))
        .fetch_optional(conn)
        .await
    }
}

/// Adds the admission of messages by their ids: it answers the ids admitted and the transaction's.
pub(crate) fn admit(group: &Group, messages: &[Incoming], script: &mut Script) {
    let each = messages.iter();
    let rows = [
        Argument::Text(group.as_str()),
        Argument::Uuids(each.clone().map(|m| m.envelope.id.as_uuid()).collect()),
        Argument::Texts(each.clone().map(|m| m.topic.as_str()).collect()),
        Argument::Ints(each.clone().map(|m| i64::from(m.partition.0)).collect()),
        Argument::Ints(each.map(|m| number(m.offset.0)).collect()),
    ];
    script.execute("amarra_admit", &rows);
}

/// Names the window of a source shard in a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WindowName {
    pub(crate) group: Group,
    pub(crate) topic: Topic,
    pub(crate) partition: Partition,
    pub(crate) source: Arc<str>,
    pub(crate) shard: Shard,
}

impl WindowName {
    pub(crate) fn of(group: &Group, message: &Incoming, position: &Position) -> Self {
        Self {
            group: group.clone(),
            topic: message.topic.clone(),
            partition: message.partition,
            source: Arc::clone(&position.source),
            shard: position.shard,
        }
    }
}

/// Names the offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MarkName {
    pub(crate) group: Group,
    pub(crate) topic: Topic,
    pub(crate) partition: Partition,
}

impl MarkName {
    pub(crate) fn of(group: &Group, message: &Incoming) -> Self {
        let (topic, partition) = (message.topic.clone(), message.partition);
        Self { group: group.clone(), topic, partition }
    }
}

/// Something that is locked, and whether its group has rows.
#[derive(Debug)]
pub(crate) struct Locked<T> {
    pub(crate) value: T,
    pub(crate) rows: bool,
}

/// Decides a message out of turn by its window, and marks it there.
pub(crate) fn decide_late(window: &mut Window, position: &Position) -> Admit {
    if window.saw(position.pos) == Some(true) {
        return Admit::Duplicate;
    }
    window.mark(position.pos);
    Admit::Fresh
}

/// Returns a number that PostgreSQL can hold.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Locks a window, making it when there is none, and reads it.
pub(crate) async fn lock_window(
    conn: &mut PgConnection,
    name: &WindowName,
    bits: u32,
) -> Result<Locked<Window>, sqlx::Error> {
    let mut found = read_window(conn, name).await?;
    if found.is_none() {
        // Waits for whoever makes the same one, so it is there afterwards.
        sqlx::query(
            "INSERT INTO inbox_window (grp, topic, partition, source, shard) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(name.group.as_str())
        .bind(name.topic.as_str())
        .bind(i64::from(name.partition.0))
        .bind(&*name.source)
        .bind(i64::from(name.shard.0))
        .execute(&mut *conn)
        .await?;
        found = read_window(conn, name).await?;
    }
    let (stored, rows) = found.ok_or(sqlx::Error::RowNotFound)?;
    let value = if stored.is_empty() {
        Window::new(bits)
    } else {
        let corrupt = || sqlx::Error::Decode("the bytes are no window".into());
        Window::from_bytes(&stored, bits).ok_or_else(corrupt)?
    };
    Ok(Locked { value, rows })
}

async fn read_window(
    conn: &mut PgConnection,
    name: &WindowName,
) -> Result<Option<(Vec<u8>, bool)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT bits, EXISTS (SELECT FROM inbox WHERE grp = $1) FROM inbox_window \
         WHERE grp = $1 AND topic = $2 AND partition = $3 AND source = $4 AND shard = $5 \
         FOR UPDATE OF inbox_window",
    )
    .bind(name.group.as_str())
    .bind(name.topic.as_str())
    .bind(i64::from(name.partition.0))
    .bind(&*name.source)
    .bind(i64::from(name.shard.0))
    .fetch_optional(conn)
    .await
}

async fn write_window(
    conn: &mut PgConnection,
    name: &WindowName,
    window: &Window,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE inbox_window SET bits = $6 \
         WHERE grp = $1 AND topic = $2 AND partition = $3 AND source = $4 AND shard = $5",
    )
    .bind(name.group.as_str())
    .bind(name.topic.as_str())
    .bind(i64::from(name.partition.0))
    .bind(&*name.source)
    .bind(i64::from(name.shard.0))
    .bind(window.to_bytes())
    .execute(conn)
    .await
    .map(drop)
}

/// Locks an offset, making it when there is none, and reads it.
pub(crate) async fn lock_mark(
    conn: &mut PgConnection,
    name: &MarkName,
) -> Result<Locked<Mark>, sqlx::Error> {
    let mut found = read_mark(conn, name).await?;
    if found.is_none() {
        sqlx::query(
            "INSERT INTO inbox_offset (grp, topic, partition) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(name.group.as_str())
        .bind(name.topic.as_str())
        .bind(i64::from(name.partition.0))
        .execute(&mut *conn)
        .await?;
        found = read_mark(conn, name).await?;
    }
    let (next, rows) = found.ok_or(sqlx::Error::RowNotFound)?;
    let next = next.map(|next| Offset(u64::try_from(next).unwrap_or_default()));
    Ok(Locked { value: Mark { next }, rows })
}

async fn read_mark(
    conn: &mut PgConnection,
    name: &MarkName,
) -> Result<Option<(Option<i64>, bool)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT next, EXISTS (SELECT FROM inbox WHERE grp = $1) FROM inbox_offset \
         WHERE grp = $1 AND topic = $2 AND partition = $3 FOR UPDATE OF inbox_offset",
    )
    .bind(name.group.as_str())
    .bind(name.topic.as_str())
    .bind(i64::from(name.partition.0))
    .fetch_optional(conn)
    .await
}

/// Tells whether a group admitted a message by its id.
pub(crate) async fn has_row(
    conn: &mut PgConnection,
    group: &Group,
    id: EventId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM inbox WHERE grp = $1 AND message = $2)")
        .bind(group.as_str())
        .bind(id.as_uuid())
        .fetch_one(conn)
        .await
}

async fn by_position(
    conn: &mut PgConnection,
    inbox: &GroupInbox,
    (group, message): (&Group, &Incoming),
    position: &Position,
) -> Result<Admit, sqlx::Error> {
    let name = WindowName::of(group, message, position);
    let mut window = lock_window(conn, &name, inbox.window_bits).await?;
    let admit = window.value.admit(position.pos, inbox.gaps);
    if !admit.applies() {
        return Ok(admit);
    }
    write_window(conn, &name, &window.value).await?;
    let known = window.rows && has_row(conn, group, message.envelope.id).await?;
    Ok(if known { Admit::Duplicate } else { admit })
}

async fn late(
    conn: &mut PgConnection,
    inbox: &GroupInbox,
    (group, message): (&Group, &Incoming),
    position: &Position,
) -> Result<Admit, sqlx::Error> {
    let name = WindowName::of(group, message, position);
    let mut window = lock_window(conn, &name, inbox.window_bits).await?;
    let admit = decide_late(&mut window.value, position);
    if !admit.applies() || PgInbox::rows(conn, group, message).await?.is_none() {
        return Ok(Admit::Duplicate);
    }
    write_window(conn, &name, &window.value).await?;
    Ok(admit)
}

/// Moves the offset in one statement, which waits for whoever moves it and then looks again.
async fn by_offset(
    conn: &mut PgConnection,
    inbox: &GroupInbox,
    (group, message): (&Group, &Incoming),
    offset: Offset,
) -> Result<Admit, sqlx::Error> {
    let moved: Option<(i64, bool)> = sqlx::query_as(
        "INSERT INTO inbox_offset AS o (grp, topic, partition, next, before) \
         VALUES ($1, $2, $3, $4 + 1, $4) \
         ON CONFLICT (grp, topic, partition) DO UPDATE \
             SET next = excluded.next, before = coalesce(o.next, excluded.before) \
             WHERE coalesce(o.next, 0) <= excluded.before \
         RETURNING before, EXISTS (SELECT FROM inbox WHERE grp = $1 AND message = $5)",
    )
    .bind(group.as_str())
    .bind(message.topic.as_str())
    .bind(i64::from(message.partition.0))
    .bind(number(offset.0))
    .bind(message.envelope.id.as_uuid())
    .fetch_optional(conn)
    .await?;
    let Some((before, false)) = moved else { return Ok(Admit::Duplicate) };
    let mut mark = Mark { next: Some(Offset(u64::try_from(before).unwrap_or_default())) };
    Ok(mark.admit(offset, inbox.gaps))
}
