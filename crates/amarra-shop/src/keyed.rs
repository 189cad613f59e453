//! Runs a command once per idempotency key and replays its answer after that.

use amarra_store::{Command, IdempotencyKey, Idempotent, Session, StoredResponse};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contract::ApiError;

/// A command under its caller's idempotency key, when there is one.
///
/// The answer is recorded in the unit of work that makes the change. Refusals roll the unit back
/// and are decided again at the next try.
#[derive(Debug)]
pub struct Keyed<C> {
    /// The key, none to run the command each time.
    pub key: Option<IdempotencyKey>,
    /// The command.
    pub command: C,
}

/// Makes the key of one operation: `request` is hashed, to catch a key used for another one.
///
/// # Errors
/// [`ApiError::Internal`] when the request does not serialize.
pub fn key_of<T: Serialize>(
    principal: &str,
    route: &str,
    key: &str,
    request: &T,
) -> Result<IdempotencyKey, ApiError> {
    let body = serde_json::to_vec(request).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(IdempotencyKey {
        principal: principal.into(),
        route: route.into(),
        key: key.into(),
        request_hash: *blake3::hash(&body).as_bytes(),
    })
}

#[async_trait]
impl<C> Command for Keyed<C>
where
    C: Command<Error = ApiError>,
    C::Output: Serialize + DeserializeOwned + Sync,
{
    type Output = C::Output;
    type Error = ApiError;

    async fn run(&self, session: &mut Session<'_>) -> Result<C::Output, ApiError> {
        let Some(key) = &self.key else { return self.command.run(session).await };
        match session.unit().begin_idempotent(key).await? {
            Idempotent::Fresh => {}
            Idempotent::Replay(stored) => {
                return serde_json::from_slice(&stored.body)
                    .map_err(|e| ApiError::Internal(format!("stored response: {e}")));
            }
            Idempotent::Mismatch => {
                let why = "the idempotency key was used for another request";
                return Err(ApiError::Unprocessable(why.into()));
            }
            Idempotent::InFlight => {
                let why = "a request with this idempotency key is in progress";
                return Err(ApiError::Conflict(why.into()));
            }
        }
        let output = self.command.run(session).await?;
        let body = serde_json::to_vec(&output).map_err(|e| ApiError::Internal(e.to_string()))?;
        let response = StoredResponse { status: 200, body: body.into() };
        session.unit().record_response(key, &response).await?;
        Ok(output)
    }
}
