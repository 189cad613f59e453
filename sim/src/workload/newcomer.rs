//! A newcomer: an account, the token that comes by mail, and the first login.

use std::time::Duration;

use serde_json::{Value, json};

use super::State;
use super::http::{Answer, Ask, Shopfront};
use crate::node::mailbox::Mailbox;

/// How long each step is tried before it is begun again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes an account, proves its address and logs in; returns the access token.
///
/// # Errors
/// The step that did not work, with its answer.
pub(super) async fn join(
    front: &Shopfront,
    mailbox: &Mailbox,
    email: &str,
) -> Result<String, String> {
    let password = format!("password of {email}!");
    let registered = front.until_answered(&register(email, &password), PATIENCE).await;
    let user = text(&expected(registered, 201)?, "user_id")?;
    let give_up = front.monotonic().plus(PATIENCE);
    let token = loop {
        match mailbox.token(email) {
            Some(token) => break token,
            None if front.monotonic() < give_up => front.pause(Duration::from_millis(50)).await,
            None => return Err(format!("no token came to {email}")),
        }
    };
    let body = json!({"user_id": user, "token": token});
    let path = format!("/v1/users/{user}/verify");
    let verify = Ask { method: "POST", path, token: None, key: None, body };
    let (status, answer) = front.until_answered(&verify, PATIENCE).await;
    if !matches!(status, 200..300) {
        return Err(format!("the token of {email} was answered {status} {answer}"));
    }
    login(front, email, &password).await
}

/// Logs in and returns the access token.
///
/// # Errors
/// The answer, when it is none.
pub(super) async fn login(
    front: &Shopfront,
    email: &str,
    password: &str,
) -> Result<String, String> {
    let body = json!({"email": email, "password": password});
    let ask = Ask { method: "POST", path: "/v1/sessions".into(), token: None, key: None, body };
    text(&expected(front.until_answered(&ask, PATIENCE).await, 200)?, "access_token")
}

/// Joins while the shop is open, whatever goes wrong meanwhile; then the same registration must
/// have the same answer once more.
pub(super) async fn run(state: &State, number: u32) {
    let email = format!("n{number}@shop.test");
    // A newcomer who never gets in is not done: the wait for rest says so.
    while join(&state.front, &state.mailbox, &email).await.is_err() {
        state.env.sleep(Duration::from_secs(1)).await;
    }
    let again = register(&email, &format!("password of {email}!"));
    let first = state.front.until_answered(&again, PATIENCE).await;
    let second = state.front.until_answered(&again, PATIENCE).await;
    if (first.0, second.0) == (201, 201) && first.1 != second.1 {
        let what = format!("one registration was answered {} and then {}", first.1, second.1);
        state.complain("I24", what);
    }
}

fn register(email: &str, password: &str) -> Ask {
    let body = json!({"email": email, "password": password});
    let key = Some(format!("register-{email}"));
    Ask { method: "POST", path: "/v1/users".into(), token: None, key, body }
}

fn expected((status, body): Answer, expect: u16) -> Result<Value, String> {
    if status == expect {
        Ok(body)
    } else {
        Err(format!("{expect} was to come, not {status} {body}"))
    }
}

fn text(body: &Value, field: &str) -> Result<String, String> {
    let found = body.get(field).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| format!("an answer has no {field}"))
}
