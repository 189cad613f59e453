//! Catalog: products, prices, quotes, and the view that follows events.

mod bench;
mod products;
mod quotes;
mod view;
