//! The ports that calls leave through, and the clock, with the watch in between.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Classify, Clock, Monotonic, Timestamp};
use amarra_resilience::deadline::{self, Deadline, Limits};
use amarra_shop::contract::users::Secret;
use amarra_shop::contract::{OrderId, UserId};
use amarra_shop::gateway::{KeyRule, Match, Upstream, UpstreamError, routes};
use amarra_shop::notifications::{OutgoingNotification, SendError, Sender};
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, Operation, RefundRequest, VoidRequest,
};
use amarra_shop::payments::{PaymentProvider, ProviderAnswer, ProviderError, SignedWebhook};
use amarra_shop::provider::{Merchant, NotTaken};
use amarra_shop::users::{self, VerificationSender};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;

use super::{Ended, Watch};
use crate::node::CLAIM;

/// A clock; whoever reads it is about to do something worth a look.
#[derive(Debug)]
pub(crate) struct WatchedClock {
    /// The clock itself.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
}

impl Clock for WatchedClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.watch.look();
        self.clock.monotonic()
    }
}

fn of_result<T, E: Classify>(result: &Result<T, E>) -> Ended {
    match result.as_ref().map_err(Classify::class) {
        Ok(_) | Err(Class::Rejected | Class::Conflict) => Ended::Answered,
        Err(Class::Unknown) => Ended::Unknown,
        Err(_) => Ended::Failed,
    }
}

/// The gateway's way to the services.
#[derive(Debug)]
pub(crate) struct WatchedUpstream {
    /// The way.
    pub(crate) way: Arc<dyn Upstream>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
    /// How long one try may take.
    pub(crate) timeout: Duration,
}

impl WatchedUpstream {
    /// Each try has to tell the service how long there is.
    fn check_deadline(&self, service: &str, request: &Request<Bytes>) {
        let value = request.headers().get(deadline::HEADER).and_then(|v| v.to_str().ok());
        let now = Monotonic::default();
        let read = value.and_then(|v| Deadline::decode(v, now, &Limits::default()).ok());
        if read.is_none_or(|deadline| deadline.remaining(now) > self.timeout) {
            let what = format!("was sent {} with the deadline {value:?}", request.uri().path());
            self.watch.tell(service, vec![("GWY-4", what)]);
        }
    }
}

/// Names what the tries of one call have in common, and tells whether it may be repeated in doubt.
fn call_of(request: &Request<Bytes>) -> Option<(String, bool)> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let trace = header("traceparent")?;
    let path = request.uri().path();
    let keyed = header("idempotency-key").is_some();
    let idempotent = match routes::find(request.method(), path) {
        Match::Found(route) => route.idempotent || (keyed && route.key != KeyRule::Ignored),
        _ => false,
    };
    Some((format!("{} {path} {trace}", request.method()), idempotent))
}

#[async_trait]
impl Upstream for WatchedUpstream {
    async fn send(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, UpstreamError> {
        self.check_deadline(service, &request);
        let sending = self.watch.sent(service, call_of(&request));
        let answer = self.way.send(service, request).await;
        sending.end(match &answer {
            Ok(response) if response.status() == http::StatusCode::SERVICE_UNAVAILABLE => {
                let doubt = response.headers().contains_key(amarra_shop::problem::OUTCOME);
                if doubt { Ended::Unknown } else { Ended::Failed }
            }
            Ok(response) if response.status().is_server_error() => Ended::Unknown,
            Ok(_) => Ended::Answered,
            Err(error) => of_result::<(), _>(&Err(error.clone())),
        });
        answer
    }
}

/// The way to the senders of notifications.
#[derive(Debug)]
pub(crate) struct WatchedSender {
    /// The way.
    pub(crate) way: Arc<dyn Sender>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
}

#[async_trait]
impl Sender for WatchedSender {
    async fn send(&self, message: &OutgoingNotification) -> Result<(), SendError> {
        let sending = self.watch.sent(message.channel.as_str(), None);
        let answer = self.way.send(message).await;
        sending.end(of_result(&answer));
        answer
    }
}

/// The way to whoever carries verification tokens.
#[derive(Debug)]
pub(crate) struct WatchedCarrier {
    /// The way.
    pub(crate) way: Arc<dyn VerificationSender>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
}

/// The name of its guard.
const CARRIER: &str = "verification-sender";

#[async_trait]
impl VerificationSender for WatchedCarrier {
    async fn send(
        &self,
        user_id: UserId,
        email: &str,
        token: &Secret,
    ) -> Result<(), users::SendError> {
        let sending = self.watch.sent(CARRIER, None);
        let answer = self.way.send(user_id, email, token).await;
        sending.end(of_result(&answer));
        answer
    }
}

/// The provider's way to its merchant.
#[derive(Debug)]
pub(crate) struct WatchedMerchant {
    /// The way.
    pub(crate) way: Arc<dyn Merchant>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
}

/// The name of its guard.
const MERCHANT: &str = "merchant";

#[async_trait]
impl Merchant for WatchedMerchant {
    async fn take(&self, webhook: &SignedWebhook) -> Result<(), NotTaken> {
        let sending = self.watch.sent(MERCHANT, None);
        let answer = self.way.take(webhook).await;
        sending.end(of_result(&answer));
        answer
    }
}

/// The way to the payment provider.
#[derive(Debug)]
pub(crate) struct WatchedProvider {
    /// The way.
    pub(crate) way: Arc<dyn PaymentProvider>,
    /// Who looks.
    pub(crate) watch: Arc<Watch>,
}

/// The name of its guard.
const PROVIDER: &str = "payment-provider";

impl WatchedProvider {
    /// Sends an operation, which must not be sent again in doubt before its outcome was asked for.
    ///
    /// Who could not note the doubt, because its database was away, knows no more than one that
    /// crashed: it is given the operation again once its claim is over, and repeats it by its key.
    /// So a doubt counts for half of a claim.
    async fn operate<T: Send>(
        &self,
        order: OrderId,
        key: &str,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        let doubt = format!("{order} {key}");
        let sent = Instant::now();
        let mine = |(process, since): &(String, Instant)| {
            *process == self.watch.process && since.elapsed() < CLAIM / 2
        };
        if self.watch.laws.doubts().get(&doubt).is_some_and(mine) {
            let what = format!("was sent {key} again while in doubt");
            self.watch.tell(PROVIDER, vec![("RTY-2", what)]);
        }
        let sending = self.watch.sent(PROVIDER, None);
        let doubted = Doubted { watch: &self.watch, doubt: Some(doubt), sent };
        let answer = call.await;
        doubted.end(of_result(&answer) == Ended::Unknown);
        sending.end(of_result(&answer));
        answer
    }
}

/// An operation that is in doubt unless it ends.
struct Doubted<'a> {
    watch: &'a Watch,
    doubt: Option<String>,
    sent: Instant,
}

impl Doubted<'_> {
    fn end(mut self, in_doubt: bool) {
        if !in_doubt {
            self.doubt = None;
        }
    }
}

impl Drop for Doubted<'_> {
    fn drop(&mut self) {
        if let Some(doubt) = self.doubt.take() {
            let left = (self.watch.process.clone(), self.sent);
            self.watch.laws.doubts().insert(doubt, left);
        }
    }
}

#[async_trait]
impl PaymentProvider for WatchedProvider {
    async fn authorize(&self, request: &AuthorizeRequest) -> Result<ProviderAnswer, ProviderError> {
        self.operate(request.order_id, &request.key, self.way.authorize(request)).await
    }

    async fn capture(&self, request: &CaptureRequest) -> Result<ProviderAnswer, ProviderError> {
        self.operate(request.order_id, &request.key, self.way.capture(request)).await
    }

    async fn void(&self, request: &VoidRequest) -> Result<ProviderAnswer, ProviderError> {
        self.operate(request.order_id, &request.key, self.way.void(request)).await
    }

    async fn refund(&self, request: &RefundRequest) -> Result<ProviderAnswer, ProviderError> {
        self.operate(request.order_id, &request.key, self.way.refund(request)).await
    }

    async fn status(&self, order_id: OrderId) -> Result<Vec<Operation>, ProviderError> {
        let of = format!("{order_id} ");
        self.watch.laws.doubts().retain(|doubt, _| !doubt.starts_with(&of));
        let sending = self.watch.sent(PROVIDER, None);
        let answer = self.way.status(order_id).await;
        sending.end(of_result(&answer));
        answer
    }
}
