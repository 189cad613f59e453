//! The payment provider alone: keys, amounts, tokens, webhooks and the truth.

mod webhooks;

use std::time::Duration;

use amarra_core::Timestamp;
use amarra_shop::contract::{Currency, Money, OrderId};
use amarra_shop::payments::provider_port::{
    AuthorizeRequest, CaptureRequest, OperationKind, ProviderError, RefundRequest, VoidRequest,
};
use amarra_shop::provider::{Config, Provider, ProviderRequest, Truth};

const NOW: Timestamp = Timestamp::EPOCH;

struct Desk(Provider);

fn order() -> OrderId {
    "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap()
}

fn euro(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

impl Desk {
    fn new() -> Self {
        Self(Provider::new(Config::default()).unwrap())
    }

    /// Returns the reference, or the refusal in short.
    fn ask(&mut self, request: &ProviderRequest, now: Timestamp) -> Result<String, String> {
        let answer = self.0.serve(request, now).into_answer();
        answer.map(|answer| answer.psp_ref).map_err(|e| match e {
            ProviderError::Rejected { reason, retryable: true } => format!("{reason} retryable"),
            ProviderError::Rejected { reason, .. } => reason,
            other => panic!("{other}"),
        })
    }

    fn authorize(&mut self, key: &str, token: &str, minor: i64) -> Result<String, String> {
        let (key, token) = (key.to_owned(), token.to_owned());
        let request = AuthorizeRequest { key, order_id: order(), amount: euro(minor), token };
        self.ask(&ProviderRequest::Authorize(request), NOW)
    }

    fn capture_at(
        &mut self,
        key: &str,
        auth: &str,
        minor: i64,
        now: Timestamp,
    ) -> Result<String, String> {
        let (key, authorization) = (key.to_owned(), auth.to_owned());
        let request = CaptureRequest { key, order_id: order(), authorization, amount: euro(minor) };
        self.ask(&ProviderRequest::Capture(request), now)
    }

    fn capture(&mut self, key: &str, auth: &str, minor: i64) -> Result<String, String> {
        self.capture_at(key, auth, minor, NOW)
    }

    fn void(&mut self, key: &str, auth: &str) -> Result<String, String> {
        let (key, authorization) = (key.to_owned(), auth.to_owned());
        let request = VoidRequest { key, order_id: order(), authorization };
        self.ask(&ProviderRequest::Void(request), NOW)
    }

    fn refund(&mut self, key: &str, auth: &str, minor: i64) -> Result<String, String> {
        let (key, authorization) = (key.to_owned(), auth.to_owned());
        let request = RefundRequest { key, order_id: order(), authorization, amount: euro(minor) };
        self.ask(&ProviderRequest::Refund(request), NOW)
    }

    fn truth(&self) -> Truth {
        self.0.truth(order(), NOW)
    }
}

fn refused(reason: &str) -> Result<String, String> {
    Err(reason.to_owned())
}

#[test]
fn tokens_choose_the_behaviour() {
    let mut desk = Desk::new();
    assert_eq!(desk.authorize("1", "tok_decline_7", 5), refused("declined"));
    assert_eq!(desk.authorize("2", "tok_insufficient", 5), refused("insufficient_funds retryable"));
    assert_eq!(desk.authorize("3", "4111111111111111", 5), refused("invalid_token"));
    assert_eq!(desk.authorize("4", "tok_ok", 0), refused("invalid_amount"));
    assert_eq!(desk.truth(), Truth::default());
    let auth = desk.authorize("5", "tok_nocapture", 5).unwrap();
    assert_eq!(desk.capture("6", &auth, 5), refused("declined"));
    let auth = desk.authorize("7", "tok_norefund", 5).unwrap();
    desk.capture("8", &auth, 5).unwrap();
    assert_eq!(desk.refund("9", &auth, 5), refused("declined"));
}

/// PSP-1.
#[test]
fn the_same_key_gets_the_same_answer_and_moves_money_once() {
    let mut desk = Desk::new();
    let auth = desk.authorize("a", "tok_ok", 100).unwrap();
    assert_eq!(desk.authorize("a", "tok_ok", 100), Ok(auth.clone()));
    assert_eq!(desk.authorize("a", "tok_ok", 101), refused("key_reused"));
    let capture = desk.capture("c", &auth, 100).unwrap();
    assert_eq!(desk.capture("c", &auth, 100), Ok(capture));
    assert_eq!(desk.void("c", &auth), refused("key_reused"));
    let refund = desk.refund("r", &auth, 60).unwrap();
    assert_eq!(desk.refund("r", &auth, 60), Ok(refund));
    assert_eq!(desk.refund("d", &auth, 60), refused("exceeds_captured"));
    assert_eq!(desk.refund("d", &auth, 60), refused("exceeds_captured"));
    let expect = Truth { authorized: 100, captured: 100, refunded: 60, ..desk.truth() };
    assert_eq!(desk.truth(), expect);
    assert_eq!((expect.authorizations, expect.captures, expect.open), (1, 1, 0));
    assert_eq!(desk.0.pending_webhooks(99).len(), 4, "one for each operation");
}

#[test]
fn where_overcapture_is_allowed_a_second_capture_is_a_double_charge() {
    let config = Config { overcapture: true, ..Config::default() };
    let mut desk = Desk(Provider::new(config).unwrap());
    let auth = desk.authorize("a", "tok_ok", 100).unwrap();
    desk.capture("c", &auth, 100).unwrap();
    desk.capture("d", &auth, 100).unwrap();
    assert_eq!((desk.truth().captured, desk.truth().captures), (200, 2));
    assert_eq!(desk.capture("e", &auth, 0), refused("exceeds_authorized"));
}

#[test]
fn another_key_is_another_charge_and_the_truth_shows_it() {
    let mut desk = Desk::new();
    let auth = desk.authorize("a", "tok_ok", 100).unwrap();
    desk.authorize("b", "tok_ok", 100).unwrap();
    desk.capture("c", &auth, 40).unwrap();
    desk.capture("d", &auth, 60).unwrap();
    assert_eq!(desk.capture("e", &auth, 1), refused("exceeds_authorized"));
    let truth = desk.truth();
    assert_eq!((truth.authorizations, truth.captures, truth.open), (2, 2, 100));
    assert_eq!(desk.0.truths(NOW).get(&order()), Some(&truth));
}

#[test]
fn voided_expired_and_foreign_authorizations_are_not_captured() {
    let mut desk = Desk::new();
    let auth = desk.authorize("a", "tok_ok", 100).unwrap();
    let ttl = Config::default().authorization_ttl;
    let late = desk.capture_at("late", &auth, 100, NOW.plus(ttl));
    assert_eq!(late, refused("authorization_expired"));
    assert_eq!(desk.0.truth(order(), NOW.plus(ttl)).open, 0);
    let just = ttl.saturating_sub(Duration::from_micros(1));
    assert_eq!(desk.0.truth(order(), NOW.plus(just)).open, 100);
    desk.void("v", &auth).unwrap();
    assert_eq!(desk.truth().open, 0);
    desk.void("v2", &auth).unwrap();
    assert_eq!(desk.capture("c", &auth, 100), refused("voided"));
    assert_eq!(desk.capture("x", "psp_999", 1), refused("not_found"));
    assert_eq!(desk.void("y", "psp_999"), refused("not_found"));
    assert_eq!(desk.refund("z", "psp_999", 1), refused("not_found"));
    let auth = desk.authorize("b", "tok_ok", 100).unwrap();
    assert_eq!(desk.refund("early", &auth, 1), refused("exceeds_captured"));
    desk.capture("d", &auth, 100).unwrap();
    assert_eq!(desk.void("w", &auth), refused("captured"));
    for minor in [0, -5] {
        assert_eq!(desk.capture(&format!("n{minor}"), &auth, minor), refused("exceeds_authorized"));
        assert_eq!(desk.refund(&format!("m{minor}"), &auth, minor), refused("exceeds_captured"));
    }
    let other: OrderId = "01890a5d-ac96-774b-bcce-b302099a8999".parse().unwrap();
    let foreign =
        RefundRequest { key: "f".into(), order_id: other, authorization: auth, amount: euro(1) };
    assert_eq!(desk.ask(&ProviderRequest::Refund(foreign), NOW), refused("not_found"));
}

/// PSP-2.
#[test]
fn status_lists_operations_in_order_and_webhooks_stay_until_acknowledged() {
    let mut desk = Desk::new();
    let auth = desk.authorize("a", "tok_ok", 100).unwrap();
    desk.capture("c", &auth, 100).unwrap();
    let status = desk.0.serve(&ProviderRequest::Status(order()), NOW);
    let kinds: Vec<_> = status.into_operations().unwrap().iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [OperationKind::Authorize, OperationKind::Capture]);
    let first = desk.0.pending_webhooks(1).remove(0);
    assert_eq!(first.operation.key, "a");
    assert_eq!(desk.0.pending_webhooks(1).remove(0), first, "not acknowledged");
    desk.0.acknowledge(&first.event_id);
    desk.0.acknowledge("evt_unknown");
    let left: Vec<_> = desk.0.pending_webhooks(9).iter().map(|e| e.operation.key.clone()).collect();
    assert_eq!(left, ["c"]);
}

#[test]
fn webhooks_that_wait_are_bounded_and_bad_configuration_is_named() {
    let config = Config { webhooks_pending_max: 2, ..Config::default() };
    let mut desk = Desk(Provider::new(config).unwrap());
    for key in ["a", "b", "c"] {
        desk.authorize(key, "tok_ok", 1).unwrap();
    }
    let left: Vec<_> = desk.0.pending_webhooks(9).iter().map(|e| e.operation.key.clone()).collect();
    assert_eq!(left, ["b", "c"]);
    let check = |config: Config, field| {
        assert_eq!(Provider::new(config).map(drop).map_err(|e| e.field), Err(field));
    };
    let zero = Config { webhooks_pending_max: 0, ..Config::default() };
    check(zero, "provider.webhooks_pending_max");
    let never = Config { authorization_ttl: Duration::ZERO, ..Config::default() };
    check(never, "provider.authorization_ttl");
}

#[test]
fn requests_and_responses_keep_their_shape_on_the_wire() {
    let status = ProviderRequest::Status(order());
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(text, format!(r#"{{"status":"{}"}}"#, order()));
    let mut desk = Desk::new();
    desk.authorize("a", "tok_ok", 100).unwrap();
    let response = desk.0.serve(&status, NOW);
    let text = serde_json::to_string(&response).unwrap();
    let expect =
        format!(r#"{{"operations":[{{"key":"a","order_id":"{}","kind":"authorize","#, order());
    assert!(text.starts_with(&expect), "{text}");
    assert!(text.contains(r#""outcome":{"approved":{"psp_ref":"psp_1","amount":"#), "{text}");
    assert_eq!(
        serde_json::from_str::<amarra_shop::provider::ProviderResponse>(&text).unwrap(),
        response
    );
    let unknown = r#"{"void":{"key":"k","order_id":"x","authorization":"y","more":1}}"#;
    assert!(serde_json::from_str::<ProviderRequest>(unknown).is_err());
    assert!(response.clone().into_answer().is_err());
}
