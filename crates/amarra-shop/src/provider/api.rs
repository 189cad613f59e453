//! The provider's API as bytes on the wire: one request and one response type.

use serde::{Deserialize, Serialize};

use crate::contract::OrderId;
use crate::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, OperationOutcome, ProviderAnswer, ProviderError,
    RefundRequest, VoidRequest,
};

/// What can be asked of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderRequest {
    /// Set money aside.
    Authorize(AuthorizeRequest),
    /// Take it.
    Capture(CaptureRequest),
    /// Give up the authorization.
    Void(VoidRequest),
    /// Give captured money back.
    Refund(RefundRequest),
    /// List what is on record.
    Status(OrderId),
}

/// What the provider answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderResponse {
    /// How the operation ended.
    Outcome(OperationOutcome),
    /// What is on record for the order.
    Operations(Vec<Operation>),
}

impl ProviderResponse {
    /// Returns the answer to an operation.
    ///
    /// # Errors
    /// [`ProviderError::Rejected`], and [`ProviderError::Unknown`] for an answer to a query.
    pub fn into_answer(self) -> Result<ProviderAnswer, ProviderError> {
        match self {
            Self::Outcome(OperationOutcome::Approved(answer)) => Ok(answer),
            Self::Outcome(OperationOutcome::Rejected { reason, retryable }) => {
                Err(ProviderError::Rejected { reason, retryable })
            }
            Self::Operations(_) => Err(mixed_up("a list of operations")),
        }
    }

    /// Returns the answer to a status query.
    ///
    /// # Errors
    /// [`ProviderError::Unknown`] for an answer to an operation.
    pub fn into_operations(self) -> Result<Vec<Operation>, ProviderError> {
        match self {
            Self::Operations(operations) => Ok(operations),
            Self::Outcome(_) => Err(mixed_up("the outcome of an operation")),
        }
    }
}

fn mixed_up(got: &str) -> ProviderError {
    ProviderError::Unknown { why: format!("the provider answered with {got}") }
}
