//! A store and read model with the defect of their test.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::Environment;
use amarra_messaging::TxError;
use amarra_store::{
    AuditRow, Claim, DueQuery, Page, PageQuery, ReadModel, Store, UnitOfWork, ViewRow,
};
use async_trait::async_trait;

use super::Defect;
use super::log::Tickets;
use super::unit::BrokenUnit;

#[derive(Debug)]
pub struct BrokenStore {
    pub inner: Arc<dyn Store>,
    pub env: Environment,
    pub defect: Defect,
    pub tickets: Arc<Tickets>,
}

#[async_trait]
impl Store for BrokenStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, TxError> {
        Ok(Box::new(BrokenUnit {
            inner: self.inner.begin().await?,
            beside: self.inner.clone(),
            env: self.env.clone(),
            defect: self.defect,
            tickets: self.tickets.clone(),
            ticket: None,
        }))
    }

    async fn claim_due(&self, query: &DueQuery) -> Result<Vec<Claim>, TxError> {
        let mut query = query.clone();
        if self.defect == Defect::ClaimsHaveNoLease {
            query.lease = Duration::from_nanos(1);
            self.env.sleep(Duration::from_micros(1)).await;
        }
        let mut claims = self.inner.claim_due(&query).await?;
        if self.defect == Defect::ClaimsForgetTheKind {
            for kind in ["thing", "other"] {
                query.kind = Arc::from(kind);
                claims.extend(self.inner.claim_due(&query).await?);
            }
        }
        claims.iter().for_each(|claim| self.tickets.note_claim(claim));
        Ok(claims)
    }

    async fn next_due(&self, kind: &str) -> Result<Option<Duration>, TxError> {
        match self.defect {
            Defect::TimersAreAlwaysDue => Ok(Some(Duration::ZERO)),
            _ => self.inner.next_due(kind).await,
        }
    }

    async fn audit_rows(&self, after: u64, limit: usize) -> Result<Vec<AuditRow>, TxError> {
        self.inner.audit_rows(after, limit).await
    }

    async fn timers_changed(&self) {
        self.inner.timers_changed().await;
    }
}

#[derive(Debug)]
pub struct BrokenReads {
    pub inner: Arc<dyn ReadModel>,
    pub defect: Defect,
}

impl BrokenReads {
    async fn all(&self, query: &PageQuery) -> Result<Vec<ViewRow>, TxError> {
        let query = PageQuery { after: None, limit: 10_000, ..query.clone() };
        Ok(self.inner.page(&query).await?.rows)
    }
}

#[async_trait]
impl ReadModel for BrokenReads {
    async fn get(&self, view: &str, key: &str) -> Result<Option<ViewRow>, TxError> {
        self.inner.get(view, key).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, TxError> {
        match self.defect {
            Defect::PagesCountRows => {
                let skip: usize = query.after.as_ref().map_or(0, |n| n.parse().unwrap());
                let rows = self.all(query).await?;
                let end = (skip + query.limit).min(rows.len());
                let next = (end < rows.len()).then(|| Arc::from(end.to_string()));
                Ok(Page { rows: rows.get(skip..end).unwrap_or_default().to_vec(), next })
            }
            Defect::PagesTakePrefixesForRanges => {
                let from = query.after.clone().unwrap_or_else(|| query.prefix.clone());
                let query = PageQuery { prefix: Arc::from(""), after: Some(from), ..query.clone() };
                self.inner.page(&query).await
            }
            _ => self.inner.page(query).await,
        }
    }
}
