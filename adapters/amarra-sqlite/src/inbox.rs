//! The inbox port of a unit: rows, windows of positions, and offsets.
//!
//! The unit has the permit to write, so nobody admits anything beside it.

use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Basis, GroupInbox};
use amarra_messaging::message::Position;
use amarra_messaging::{Admit, Group, Inbox, Incoming, Offset, TxError};
use amarra_store::UnitOfWork as _;
use async_trait::async_trait;
use sqlx::SqliteConnection;

use crate::clock::{int, nat};
use crate::unit::{SqliteUnit, driver};

#[async_trait]
impl Inbox for SqliteUnit {
    async fn admit(&mut self, group: &Group, message: &Incoming) -> Result<Admit, TxError> {
        let inbox = self.inbox_of(group);
        let admission = Admission { group, message, at: self.now().as_micros() };
        self.attempt(async |connection| admission.decide(connection, &inbox).await).await
    }
}

/// A message that asks to be admitted.
#[derive(Debug, Clone, Copy)]
struct Admission<'a> {
    group: &'a Group,
    message: &'a Incoming,
    at: i64,
}

impl Admission<'_> {
    async fn decide(
        self,
        connection: &mut SqliteConnection,
        inbox: &GroupInbox,
    ) -> Result<Admit, TxError> {
        match inbox.basis(self.message) {
            Basis::Window(position) => {
                let mut window = self.window(connection, position, inbox.window_bits).await?;
                let admit = window.admit(position.pos, inbox.gaps);
                if admit.applies() {
                    self.keep_window(connection, position, &window).await?;
                }
                self.unless_known(connection, admit).await
            }
            Basis::Late(_, position) => {
                let mut window = self.window(connection, position, inbox.window_bits).await?;
                if window.saw(position.pos) == Some(true) {
                    return Ok(Admit::Duplicate);
                }
                window.mark(position.pos);
                let admit = self.by_id(connection).await?;
                if admit.applies() {
                    self.keep_window(connection, position, &window).await?;
                }
                Ok(admit)
            }
            Basis::Offset(offset) => {
                let mut mark = self.mark(connection).await?;
                let admit = mark.admit(offset, inbox.gaps);
                if admit.applies() {
                    self.keep_mark(connection, mark).await?;
                }
                self.unless_known(connection, admit).await
            }
            // By its id, which is right for every message.
            _ => self.by_id(connection).await,
        }
    }

    async fn by_id(self, connection: &mut SqliteConnection) -> Result<Admit, TxError> {
        let admitted = sqlx::query("INSERT OR IGNORE INTO inbox (grp, event, at) VALUES (?, ?, ?)")
            .bind(self.group.as_str())
            .bind(self.message.envelope.id.to_string().into_bytes())
            .bind(self.at)
            .execute(connection)
            .await
            .map_err(driver)?;
        Ok(if admitted.rows_affected() == 1 { Admit::Fresh } else { Admit::Duplicate })
    }

    /// Takes back an admission whose id has a row.
    async fn unless_known(
        self,
        connection: &mut SqliteConnection,
        admit: Admit,
    ) -> Result<Admit, TxError> {
        if !admit.applies() {
            return Ok(admit);
        }
        let known: i64 =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM inbox WHERE grp = ? AND event = ?)")
                .bind(self.group.as_str())
                .bind(self.message.envelope.id.to_string().into_bytes())
                .fetch_one(connection)
                .await
                .map_err(driver)?;
        Ok(if known == 0 { admit } else { Admit::Duplicate })
    }

    async fn window(
        self,
        connection: &mut SqliteConnection,
        position: &Position,
        bits: u32,
    ) -> Result<Window, TxError> {
        let stored: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT bits FROM inbox_windows \
             WHERE grp = ? AND topic = ? AND partition = ? AND source = ? AND shard = ?",
        )
        .bind(self.group.as_str())
        .bind(self.message.topic.as_str())
        .bind(i64::from(self.message.partition.0))
        .bind(&*position.source)
        .bind(i64::from(position.shard.0))
        .fetch_optional(connection)
        .await
        .map_err(driver)?;
        let Some(stored) = stored else { return Ok(Window::new(bits)) };
        let why = || "its bytes are no window".to_owned();
        let corrupt = || TxError::Corrupt { what: "inbox window".to_owned(), why: why() };
        Window::from_bytes(&stored, bits).ok_or_else(corrupt)
    }

    async fn keep_window(
        self,
        connection: &mut SqliteConnection,
        position: &Position,
        window: &Window,
    ) -> Result<(), TxError> {
        sqlx::query(
            "INSERT OR REPLACE INTO inbox_windows (grp, topic, partition, source, shard, bits) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(self.group.as_str())
        .bind(self.message.topic.as_str())
        .bind(i64::from(self.message.partition.0))
        .bind(&*position.source)
        .bind(i64::from(position.shard.0))
        .bind(window.to_bytes())
        .execute(connection)
        .await
        .map(drop)
        .map_err(driver)
    }

    async fn mark(self, connection: &mut SqliteConnection) -> Result<Mark, TxError> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT next FROM inbox_offsets WHERE grp = ? AND topic = ? AND partition = ?",
        )
        .bind(self.group.as_str())
        .bind(self.message.topic.as_str())
        .bind(i64::from(self.message.partition.0))
        .fetch_optional(connection)
        .await
        .map_err(driver)?;
        Ok(Mark { next: next.map(|next| Offset(nat(next))) })
    }

    async fn keep_mark(self, connection: &mut SqliteConnection, mark: Mark) -> Result<(), TxError> {
        sqlx::query(
            "INSERT OR REPLACE INTO inbox_offsets (grp, topic, partition, next) \
             VALUES (?, ?, ?, ?)",
        )
        .bind(self.group.as_str())
        .bind(self.message.topic.as_str())
        .bind(i64::from(self.message.partition.0))
        .bind(int(mark.next.map_or(0, |next| next.0)))
        .execute(connection)
        .await
        .map(drop)
        .map_err(driver)
    }
}
