//! The companies a shop works with, played in the process.

use std::sync::{Mutex, PoisonError};

use amarra_core::Environment;
use amarra_shop::contract::OrderId;
use amarra_shop::notifications::{OutgoingNotification, SendError, Sender};
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, PaymentProvider, ProviderAnswer, ProviderError,
    RefundRequest, VoidRequest,
};
use amarra_shop::provider::{Provider, ProviderRequest, ProviderResponse};
use async_trait::async_trait;

/// The payment provider.
#[derive(Debug)]
pub struct Bank {
    ledger: Mutex<Provider>,
    env: Environment,
}

impl Bank {
    /// Opens with the ledger of a provider.
    #[must_use]
    pub fn new(ledger: Provider, env: Environment) -> Self {
        Self { ledger: Mutex::new(ledger), env }
    }

    fn ask(&self, request: &ProviderRequest) -> ProviderResponse {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.serve(request, self.env.now())
    }
}

#[async_trait]
impl PaymentProvider for Bank {
    async fn authorize(&self, request: &AuthorizeRequest) -> Result<ProviderAnswer, ProviderError> {
        self.ask(&ProviderRequest::Authorize(request.clone())).into_answer()
    }

    async fn capture(&self, request: &CaptureRequest) -> Result<ProviderAnswer, ProviderError> {
        self.ask(&ProviderRequest::Capture(request.clone())).into_answer()
    }

    async fn void(&self, request: &VoidRequest) -> Result<ProviderAnswer, ProviderError> {
        self.ask(&ProviderRequest::Void(request.clone())).into_answer()
    }

    async fn refund(&self, request: &RefundRequest) -> Result<ProviderAnswer, ProviderError> {
        self.ask(&ProviderRequest::Refund(request.clone())).into_answer()
    }

    async fn status(&self, order_id: OrderId) -> Result<Vec<Operation>, ProviderError> {
        self.ask(&ProviderRequest::Status(order_id)).into_operations()
    }
}

/// The post office: it remembers what users were told.
#[derive(Debug, Default)]
pub struct Post(Mutex<Vec<String>>);

impl Post {
    /// Lists what users were told, oldest first.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Sender for Post {
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError> {
        let line = format!("{}: {}", message.channel.as_str(), message.text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(())
    }
}
