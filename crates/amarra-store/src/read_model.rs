//! Read models: views apart from the write models, rebuilt from events, paged by key.

use std::fmt;
use std::sync::Arc;

use amarra_core::Version;
use amarra_messaging::TxError;
use async_trait::async_trait;
use bytes::Bytes;

/// A row of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRow {
    /// Its key; rows are ordered by it.
    pub key: Arc<str>,
    /// The version of the newest event folded in: the position a reader can wait for.
    pub position: Version,
    /// The row.
    pub body: Bytes,
}

/// Names a row: its view, and its key.
pub type ViewName = (Arc<str>, Arc<str>);

/// A change to a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewWrite {
    /// The view's name.
    pub view: Arc<str>,
    /// The row's key.
    pub key: Arc<str>,
    /// The version of the event folded in.
    pub position: Version,
    /// The row, none to delete it.
    pub body: Option<Bytes>,
}

/// Asks for rows whose key starts with `prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// The view's name.
    pub view: Arc<str>,
    /// What the keys start with, for example an owner's id and a slash.
    pub prefix: Arc<str>,
    /// The key after which to go on, none at the start.
    pub after: Option<Arc<str>>,
    /// At most how many rows.
    pub limit: usize,
}

/// Some rows, and where the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows, ascending by key.
    pub rows: Vec<ViewRow>,
    /// What to give as `after` for the next page, none when this is the last.
    pub next: Option<Arc<str>>,
}

/// Reads views.
///
/// # Laws
/// - RDM-1 a row is as some committed transaction left it, never half of one.
/// - RDM-2 following `next` from page to page returns every row that was there all along exactly
///   once, whatever is inserted meanwhile.
#[async_trait]
pub trait ReadModel: Send + Sync + fmt::Debug {
    /// Returns one row.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError>;

    /// Returns a page of rows.
    ///
    /// # Errors
    /// [`TxError::Connection`].
    async fn page(&self, query: &PageQuery) -> Result<Page, TxError>;
}
