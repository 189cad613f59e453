//! The service: products, prices and quotes.

use std::sync::Arc;

use amarra_core::{Cause, Timestamp};
use amarra_store::read_model::PageQuery;
use amarra_store::{
    Aggregate, Command, DueHandler, Handler, IdempotencyKey, Session, ViewRow, execute,
};
use serde::Serialize;

use super::commands::{Create, SetPrice, SetStatus};
use super::config::Config;
use super::model::Product;
use super::quote;
use super::view::{PRODUCT, ProductPage, ProductRow, Projection};
use crate::auth::{KeySet, QuoteSigner};
use crate::contract::catalog::{
    ChangePrice, CreateProduct, ProductView, QuoteRequest, SignedQuote,
};
use crate::contract::{ApiError, Caller, Money, Role, Sku};
use crate::keyed::{Keyed, key_of};
use crate::ports::{ConfigError, ServicePorts};

/// The service of products and prices.
#[derive(Debug)]
pub struct Catalog {
    ports: ServicePorts,
    config: Config,
    signer: QuoteSigner,
}

impl Catalog {
    /// The service's name in envelopes.
    pub const SOURCE: &'static str = "/amarra/catalog";

    /// Makes the service.
    ///
    /// # Errors
    /// [`ConfigError`] names the field.
    pub fn new(ports: ServicePorts, config: Config) -> Result<Arc<Self>, ConfigError> {
        config.validate()?;
        let signer = QuoteSigner::new(&config.keys)?;
        Ok(Arc::new(Self { ports, config, signer }))
    }

    /// Makes a product as a draft.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when another product has the id, and any of the store's.
    pub async fn create(
        &self,
        caller: &Caller,
        request: CreateProduct,
    ) -> Result<ProductView, ApiError> {
        caller.principal.require(Role::CatalogAdmin)?;
        let key = self.key(caller, "create product", &request)?;
        self.execute(caller, key, Create(request)).await
    }

    /// Lets a product be bought.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when it has no price, and any of the store's.
    pub async fn publish(&self, caller: &Caller, sku: &Sku) -> Result<ProductView, ApiError> {
        self.set_status(caller, sku, true).await
    }

    /// Lets a product be bought no more; orders already placed are honoured.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when it was never published, and any of the store's.
    pub async fn discontinue(&self, caller: &Caller, sku: &Sku) -> Result<ProductView, ApiError> {
        self.set_status(caller, sku, false).await
    }

    async fn set_status(
        &self,
        caller: &Caller,
        sku: &Sku,
        published: bool,
    ) -> Result<ProductView, ApiError> {
        caller.principal.require(Role::CatalogAdmin)?;
        let key = self.key(caller, "set status", &(sku, published))?;
        self.execute(caller, key, SetStatus { sku: sku.clone(), published }).await
    }

    /// Changes a price, if the product is still at the version the caller looked at.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] says which version it has; [`ApiError::Unprocessable`] for a price
    /// that cannot be.
    pub async fn change_price(
        &self,
        caller: &Caller,
        sku: &Sku,
        request: ChangePrice,
    ) -> Result<ProductView, ApiError> {
        caller.principal.require(Role::CatalogAdmin)?;
        let key = self.key(caller, "change price", &(sku, &request))?;
        let command = SetPrice { config: &self.config, sku: sku.clone(), change: request };
        self.execute(caller, key, command).await
    }

    /// Promises a price for some time, signed.
    ///
    /// The products are read from the write model, all in one unit of work: a quote never mixes the
    /// prices before and after a change, and never lags behind one.
    ///
    /// # Errors
    /// [`ApiError::Unprocessable`] says what cannot be quoted.
    pub async fn quote(
        &self,
        caller: &Caller,
        request: &QuoteRequest,
    ) -> Result<SignedQuote, ApiError> {
        let wanted = quote::wanted(request, &self.config)?;
        let ids: Vec<_> = wanted.keys().map(|sku| Product::aggregate_id(sku.as_str())).collect();
        let (products, now) = {
            let mut unit = self.ports.store.begin().await?;
            let mut products = Vec::with_capacity(ids.len());
            for stored in unit.load(&ids).await? {
                products.push(if stored.version == amarra_core::Version::ABSENT {
                    None
                } else {
                    let product = serde_json::from_slice::<Product>(&stored.body);
                    Some(product.map_err(|e| ApiError::Internal(format!("stored product: {e}")))?)
                });
            }
            (products, unit.now())
        };
        let ids = (self.ports.env.new_id(), caller.principal.user_id);
        let quote = quote::price(ids, &wanted, &products, now, &self.config)?;
        self.signer.sign(&quote).map_err(|e| ApiError::Internal(e.to_string()))
    }

    /// Returns the keys that verify quotes.
    #[must_use]
    pub fn quote_keys(&self) -> &KeySet {
        self.signer.key_set()
    }

    /// Shows a product, once the view has reached `min_version`: one that the caller saw, for
    /// reading its own writes.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], or [`ApiError::Conflict`] when the view is still behind after
    /// [`Config::visible_wait`].
    pub async fn get(&self, sku: &Sku, min_version: Option<u64>) -> Result<ProductView, ApiError> {
        let wanted = min_version.unwrap_or(0);
        let give_up = self.ports.env.monotonic().plus(self.config.visible_wait);
        loop {
            let row = self.ports.views.get(PRODUCT, sku.as_str()).await?;
            if row.as_ref().map_or(0, |row| row.position.get()) >= wanted {
                let row = row.ok_or(ApiError::NotFound)?;
                return read(&row)?.show(sku).ok_or(ApiError::NotFound);
            }
            if self.ports.env.monotonic() >= give_up {
                return Err(ApiError::Conflict("not yet visible: ask again".into()));
            }
            self.ports.env.sleep(self.config.visible_poll).await;
        }
    }

    /// Shows the products that can be bought, a page at a time, in the order of their SKUs.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for a `limit` of zero, and any of the store's.
    pub async fn list(&self, after: Option<&Sku>, limit: usize) -> Result<ProductPage, ApiError> {
        if limit == 0 {
            return Err(ApiError::BadRequest("limit must be at least 1".into()));
        }
        let limit = limit.min(self.config.page_max);
        let mut products: Vec<ProductView> = Vec::new();
        let mut next: Option<Arc<str>> = after.map(|sku| sku.as_str().into());
        for _ in 0..self.config.page_scans_max {
            let query = PageQuery {
                view: PRODUCT.into(),
                prefix: "".into(),
                after: next,
                limit: limit.saturating_sub(products.len()),
            };
            let page = self.ports.views.page(&query).await?;
            for row in &page.rows {
                let sku: Sku =
                    row.key.parse().map_err(|e| ApiError::Internal(format!("view: {e}")))?;
                products.extend(read(row)?.show(&sku).filter(|product| product.published));
            }
            next = page.next;
            if next.is_none() || products.len() >= limit {
                break;
            }
        }
        Ok(ProductPage { products, next: next.map(|key| key.as_ref().to_owned()) })
    }

    /// Shows several products; the ones there are not are left out.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for more than a page, and any of the store's.
    pub async fn by_skus(&self, skus: &[Sku]) -> Result<Vec<ProductView>, ApiError> {
        if skus.len() > self.config.page_max {
            let why = format!("at most {} products at once", self.config.page_max);
            return Err(ApiError::BadRequest(why));
        }
        let mut products = Vec::with_capacity(skus.len());
        for sku in skus {
            if let Some(row) = self.ports.views.get(PRODUCT, sku.as_str()).await? {
                products.extend(read(&row)?.show(sku));
            }
        }
        Ok(products)
    }

    /// Returns the price of a product at a time, for the staff.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] when there is no product, or no price that old.
    pub async fn price_at(
        &self,
        caller: &Caller,
        sku: &Sku,
        at: Timestamp,
    ) -> Result<Money, ApiError> {
        caller.principal.require(Role::CatalogAdmin)?;
        let mut unit = self.ports.store.begin().await?;
        let cause = cause(caller);
        let mut session = Session::new(unit.as_mut(), &self.ports.env, Self::SOURCE, cause);
        let product = session.load::<Product>(sku.as_str()).await?.state;
        product.and_then(|product| product.price_at(at)).ok_or(ApiError::NotFound)
    }

    /// Returns the consumers: the projection of the view.
    #[must_use]
    pub fn handlers(self: &Arc<Self>) -> Vec<Arc<dyn Handler>> {
        vec![Arc::new(Projection::new())]
    }

    /// Returns the durable timers: Catalog has none.
    #[must_use]
    pub fn due_handlers(self: &Arc<Self>) -> Vec<Arc<dyn DueHandler>> {
        Vec::new()
    }

    fn key<T: Serialize>(
        &self,
        caller: &Caller,
        route: &str,
        request: &T,
    ) -> Result<Option<IdempotencyKey>, ApiError> {
        let principal = caller.principal.user_id.to_string();
        let key = caller.idempotency_key.as_deref();
        key.map(|key| key_of(&principal, route, key, request)).transpose()
    }

    async fn execute<C>(
        &self,
        caller: &Caller,
        key: Option<IdempotencyKey>,
        command: C,
    ) -> Result<ProductView, ApiError>
    where
        C: Command<Output = ProductView, Error = ApiError>,
    {
        let (store, env) = (self.ports.store.as_ref(), &self.ports.env);
        let cause = cause(caller);
        let how = (&cause, self.config.attempts);
        execute(store, env, Self::SOURCE, how, &Keyed { key, command }).await
    }
}

/// The correlation of a change to a product is its request's trace.
fn cause(caller: &Caller) -> Cause {
    caller.cause(uuid::Uuid::from_u128(caller.traceparent.trace_id()).into())
}

fn read(row: &ViewRow) -> Result<ProductRow, ApiError> {
    serde_json::from_slice(&row.body).map_err(|e| ApiError::Internal(format!("view row: {e}")))
}
