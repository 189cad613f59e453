//! The changes that Catalog makes, each in one unit of work.

use amarra_core::codec::Message;
use amarra_core::{PartitionKey, Version};
use amarra_store::{Command, Draft, Loaded, Session};
use async_trait::async_trait;

use super::config::Config;
use super::model::{Product, Rejection};
use crate::contract::catalog::{
    ChangePrice, CreateProduct, PriceChanged, ProductDiscontinued, ProductPublished, ProductView,
};
use crate::contract::{ApiError, Sku, topics};

/// Shows the product as it is stored: what a command answers.
fn show(product: &Product, version: Version) -> ProductView {
    ProductView {
        sku: product.sku.clone(),
        name: product.name.clone(),
        price: product.price(),
        published: product.status == super::model::Status::Published,
        available: None,
        version: version.get(),
    }
}

async fn save<M: Message>(
    session: &mut Session<'_>,
    loaded: &mut Loaded<Product>,
    (state, action): (Product, &str),
    message: &M,
) -> Result<ProductView, ApiError> {
    let key = PartitionKey::new(state.sku.as_str());
    let version = session.save(loaded, state.clone(), action).await?;
    let (topic, subject) = (topics::CATALOG, &loaded.id);
    session.emit(Draft { topic, key, subject, version, message }).await?;
    Ok(show(&state, version))
}

/// Makes a draft, unless the very same one is there.
pub(super) struct Create(pub(super) CreateProduct);

#[async_trait]
impl Command for Create {
    type Output = ProductView;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<ProductView, ApiError> {
        let CreateProduct { sku, name } = &self.0;
        let mut loaded = session.load::<Product>(sku.as_str()).await?;
        let draft = Product::create(sku.clone(), name)?;
        if let Some(known) = &loaded.state {
            if *known == draft {
                return Ok(show(known, loaded.version));
            }
            return Err(Rejection::Taken(sku.clone()).into());
        }
        let version = session.save(&mut loaded, draft.clone(), "create product").await?;
        Ok(show(&draft, version))
    }
}

/// Lets a product be bought, or no more.
pub(super) struct SetStatus {
    pub(super) sku: Sku,
    pub(super) published: bool,
}

#[async_trait]
impl Command for SetStatus {
    type Output = ProductView;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<ProductView, ApiError> {
        let mut loaded = session.load::<Product>(self.sku.as_str()).await?;
        let state = loaded.state.clone().ok_or(ApiError::NotFound)?;
        let next = if self.published { state.publish()? } else { state.discontinue()? };
        let Some(next) = next else { return Ok(show(&state, loaded.version)) };
        let sku = self.sku.clone();
        if self.published {
            let event = ProductPublished { sku, name: next.name.clone() };
            save(session, &mut loaded, (next, "publish"), &event).await
        } else {
            let event = ProductDiscontinued { sku };
            save(session, &mut loaded, (next, "discontinue"), &event).await
        }
    }
}

/// Changes a price.
pub(super) struct SetPrice<'a> {
    pub(super) config: &'a Config,
    pub(super) sku: Sku,
    pub(super) change: ChangePrice,
}

#[async_trait]
impl Command for SetPrice<'_> {
    type Output = ProductView;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<ProductView, ApiError> {
        let mut loaded = session.load::<Product>(self.sku.as_str()).await?;
        let state = loaded.state.clone().ok_or(ApiError::NotFound)?;
        let ChangePrice { price, expected_version } = self.change;
        let versions = (loaded.version, Version::new(expected_version));
        let next = state.change_price(price, versions, session.now(), self.config)?;
        let Some(next) = next else { return Ok(show(&state, loaded.version)) };
        let event = PriceChanged { sku: self.sku.clone(), old: state.price(), new: price };
        save(session, &mut loaded, (next, "change price"), &event).await
    }
}
