//! Accounts: made once, verified once, and nobody learns who has one.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Class, Monotonic};
use amarra_memory::Effect;
use amarra_resilience::breaker::Mode;
use amarra_shop::Ending;
use amarra_shop::contract::users::{Register, Secret, VerifyEmail};
use amarra_shop::contract::{ApiError, Role, UserId};
use amarra_shop::users::{Config, Guest};

use super::bench::{Bench, PASSWORD, ROOT, caller, config, guest};

fn slow() -> Config {
    Config { auto_verify: false, ..config() }
}

fn register(email: &str, password: &str) -> Register {
    Register { email: email.into(), password: Secret::new(password) }
}

fn verify(bench: &Bench, user_id: UserId, token: &Secret) -> Result<(), ApiError> {
    bench.run(bench.users.verify(&guest(), VerifyEmail { user_id, token: token.clone() }))
}

#[test]
fn a_registered_user_logs_in_and_sees_herself() {
    let bench = Bench::new(config());
    let user = bench.register("Ann@shop.example");
    let tokens = bench.login("ann@SHOP.example", PASSWORD).unwrap();
    assert_eq!(tokens.token_type, "Bearer");
    assert_eq!(bench.principal(&tokens).user_id, user);
    let me = bench.run(bench.users.me(&caller(user, &[Role::Customer]))).unwrap();
    assert_eq!((me.status.as_str(), me.roles.as_slice()), ("active", &[Role::Customer][..]));
    assert_eq!(bench.kinds(), ["UserRegistered", "UserVerified"]);
    bench.check();
}

#[test]
fn an_address_is_registered_once_and_the_answer_does_not_tell() {
    let bench = Bench::new(config());
    let first = bench.register("ann@shop.example");
    let events = bench.kinds();
    let second = bench.register("ANN@shop.example");
    assert_ne!(first, second, "the id of the account would tell that there is one");
    assert_eq!(bench.kinds(), events);
    assert_eq!(bench.version("user", &second.to_string()).get(), 0);
    let tokens = bench.login("ann@shop.example", PASSWORD).unwrap();
    assert_eq!(bench.principal(&tokens).user_id, first);
    bench.check();
}

#[test]
fn of_registrations_at_once_one_makes_the_account() {
    let bench = Bench::new(config());
    bench.run(async {
        let guest = guest();
        let one = || bench.users.register(&guest, register("ann@shop.example", PASSWORD));
        let (a, b, c) = futures_util::future::join3(one(), one(), one()).await;
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
    });
    assert_eq!(bench.kinds(), ["UserRegistered", "UserVerified"]);
    bench.check();
}

#[test]
fn bad_addresses_and_passwords_are_refused_without_repeating_them() {
    let bench = Bench::new(config());
    let check = |email: &str, password: &str| {
        let request = register(email, password);
        let error = bench.run(bench.users.register(&guest(), request)).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(!error.to_string().contains("secret"), "{error}");
    };
    check("secret", PASSWORD);
    check("ann@shop", PASSWORD);
    check("ann@shop.example", "secret");
    check("ann@shop.example", &"secret".repeat(30));
    assert!(bench.events().is_empty());
}

#[test]
fn one_key_makes_one_account_and_gives_one_answer() {
    let bench = Bench::new(config());
    let keyed = Guest { idempotency_key: Some(Arc::from("k-1")), ..guest() };
    let send = |email: &str| bench.run(bench.users.register(&keyed, register(email, PASSWORD)));
    let first = send("ann@shop.example").unwrap();
    assert_eq!(send("ann@shop.example").unwrap(), first);
    assert_eq!(send("bob@shop.example").unwrap_err().status(), 422);
    assert_eq!(bench.kinds().len(), 2);
    bench.check();
}

#[test]
fn a_commit_whose_answer_was_lost_still_makes_one_account() {
    for effect in [Effect::LoseReply, Effect::LoseRequest, Effect::Serialization] {
        let bench = Bench::new(config());
        bench.faults.next(effect);
        let user = bench.register("ann@shop.example");
        let tokens = bench.login("ann@shop.example", PASSWORD).unwrap();
        assert_eq!(bench.principal(&tokens).user_id, user, "{effect:?}");
        assert_eq!(bench.kinds(), ["UserRegistered", "UserVerified"]);
        bench.check();
    }
}

#[test]
fn an_account_opens_with_the_token_that_was_sent() {
    let bench = Bench::new(slow());
    let user = bench.register("ann@shop.example");
    assert_eq!(bench.login("ann@shop.example", PASSWORD), Err(ApiError::Forbidden));
    assert_eq!(bench.login("ann@shop.example", "wrong password").unwrap_err().status(), 401);
    assert_eq!(bench.deliver(), 1);
    assert_eq!(bench.deliver(), 0, "one message is enough");
    let (to, email, token) = bench.mailbox.sent.lock().unwrap()[0].clone();
    assert_eq!((to, email.as_str()), (user, "ann@shop.example"));

    let wrong = verify(&bench, user, &Secret::new("wrong")).unwrap_err();
    let nobody = verify(&bench, uuid::Uuid::nil().into(), &token).unwrap_err();
    assert_eq!(wrong, nobody, "an unknown user looks like a wrong token");
    verify(&bench, user, &token).unwrap();
    verify(&bench, user, &token).unwrap();
    assert_eq!(bench.kinds(), ["UserRegistered", "UserVerified"], "the second one says nothing");
    assert!(bench.login("ann@shop.example", PASSWORD).is_ok());
    bench.check();
}

#[test]
fn a_token_expires() {
    let bench = Bench::new(slow());
    let user = bench.register("ann@shop.example");
    bench.deliver();
    let token = bench.mailbox.sent.lock().unwrap()[0].2.clone();
    bench.wait(86_400);
    assert_eq!(verify(&bench, user, &token).unwrap_err().status(), 422);
    assert_eq!(bench.kinds(), ["UserRegistered"]);
}

#[test]
fn a_delivery_is_repeated_with_the_same_token_until_it_arrives() {
    let bench = Bench::new(slow());
    bench.register("ann@shop.example");
    bench.mailbox.failures.lock().unwrap().extend([Class::Unknown, Class::Transient]);
    assert_eq!(bench.deliver(), 1);
    assert_eq!(bench.deliver(), 0, "not before its wait is over");
    bench.wait(5);
    assert_eq!(bench.deliver(), 1);
    bench.wait(5);
    assert_eq!(bench.deliver(), 0, "the second wait is twice as long");
    bench.wait(5);
    assert_eq!(bench.deliver(), 1);
    bench.wait(3_600);
    assert_eq!(bench.deliver(), 0);
    let sent = bench.mailbox.sent.lock().unwrap().clone();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|mail| mail == &sent[0]), "whichever arrived, it works");
    bench.check();
}

#[test]
fn a_worker_whose_claim_was_superseded_sends_and_notes_nothing() {
    let bench = Bench::new(slow());
    bench.register("ann@shop.example");
    let old = bench.claim("slow worker").remove(0);
    bench.wait(31);
    let new = bench.claim("worker").remove(0);
    assert!(new.epoch > old.epoch);
    let handler = bench.users.due_handlers().remove(0);
    let fenced = bench.run(handler.on_due(&old)).unwrap_err();
    assert!(fenced.to_string().contains("fenced"), "{fenced}");
    assert!(bench.mailbox.sent.lock().unwrap().is_empty());
    bench.run(handler.on_due(&new)).unwrap();
    assert_eq!(bench.mailbox.sent.lock().unwrap().len(), 1);
    assert!(bench.run(handler.on_due(&new)).is_err(), "a claim is used up by its schedule");
    bench.check();
}

#[test]
fn a_worker_that_was_superseded_while_it_sent_notes_nothing() {
    let bench = Bench::new(Config { send_timeout: Duration::from_secs(300), ..slow() });
    let user = bench.register("ann@shop.example").to_string();
    bench.mailbox.delays.lock().unwrap().push(Duration::from_secs(60));
    let old = bench.claim("slow worker").remove(0);
    let handler = bench.users.due_handlers().remove(0);
    let (slow, ()) = bench.run(futures_util::future::join(handler.on_due(&old), async {
        bench.harness.environment("worker").sleep(Duration::from_secs(31)).await;
        let new = bench.claim_within("worker").await.remove(0);
        handler.on_due(&new).await.unwrap();
    }));
    assert!(slow.unwrap_err().to_string().contains("fenced"));
    assert_eq!(bench.version("verification", &user).get(), 2, "queued, and sent once");
    bench.check();
}

#[test]
fn a_delivery_that_takes_too_long_is_tried_again() {
    let bench = Bench::new(slow());
    bench.register("ann@shop.example");
    bench.mailbox.delays.lock().unwrap().push(Duration::from_secs(25));
    assert_eq!(bench.deliver(), 1);
    bench.wait(5);
    assert_eq!(bench.deliver(), 1);
    bench.wait(3_600);
    assert_eq!(bench.deliver(), 0);
    assert_eq!(bench.mailbox.sent.lock().unwrap().len(), 2);
}

#[test]
fn an_ill_carrier_is_spared_and_costs_no_attempts_until_the_token_expires() {
    let bench = Bench::new(Config { verification_attempts_max: 2, ..slow() });
    bench.register("ann@shop.example");
    let guard = bench.users.guards().remove(0);
    guard.breaker().unwrap().set_mode(Monotonic::default(), Mode::ForcedOpen);
    for _ in 0..5 {
        assert_eq!(bench.deliver(), 1);
        assert_eq!(bench.deliver(), 0, "not before the breaker may admit one");
        bench.wait(3_600);
    }
    assert!(bench.mailbox.sent.lock().unwrap().is_empty());
    assert_eq!((guard.tries(), guard.ended(Ending::BreakerOpen)), (0, 5));
    guard.breaker().unwrap().set_mode(Monotonic::default(), Mode::Automatic);
    assert_eq!(bench.deliver(), 1);
    assert_eq!(bench.mailbox.sent.lock().unwrap().len(), 1);
    bench.check();

    let bench = Bench::new(slow());
    bench.register("bob@shop.example");
    let guard = bench.users.guards().remove(0);
    guard.breaker().unwrap().set_mode(Monotonic::default(), Mode::ForcedOpen);
    bench.wait(86_400);
    assert_eq!(bench.deliver(), 1);
    bench.wait(3_600);
    assert_eq!(bench.deliver(), 0, "a token that has expired is not sent any more");
    bench.check();
}

#[test]
fn of_two_requests_under_one_key_at_once_none_gets_another_account() {
    let bench = Bench::new(config());
    let keyed = Guest { idempotency_key: Some(Arc::from("k-1")), ..guest() };
    let one = || bench.users.register(&keyed, register("ann@shop.example", PASSWORD));
    let (a, b) = bench.run(futures_util::future::join(one(), one()));
    let answers: Vec<_> = [a, b].into_iter().filter_map(Result::ok).collect();
    assert!(!answers.is_empty());
    let user = bench.principal(&bench.login("ann@shop.example", PASSWORD).unwrap()).user_id;
    assert!(answers.iter().all(|answer| answer.user_id == user));
    bench.check();
}

#[test]
fn a_delivery_is_given_up_when_it_is_refused_or_tried_too_often() {
    let bench = Bench::new(Config { verification_attempts_max: 2, ..slow() });
    bench.register("ann@shop.example");
    bench.mailbox.failures.lock().unwrap().extend([Class::Transient; 9]);
    assert_eq!(bench.deliver(), 1);
    bench.wait(60);
    assert_eq!(bench.deliver(), 1);
    bench.wait(3_600);
    assert_eq!(bench.deliver(), 0);

    bench.register("bob@shop.example");
    bench.mailbox.failures.lock().unwrap().push(Class::Rejected);
    assert_eq!(bench.deliver(), 1);
    bench.wait(3_600);
    assert_eq!(bench.deliver(), 0);
    bench.check();
}

#[test]
fn the_first_administrator_is_made_once_and_never_by_promotion() {
    let bench = Bench::new(config());
    bench.run(bench.users.bootstrap()).unwrap();
    bench.run(bench.users.bootstrap()).unwrap();
    assert_eq!(bench.kinds(), ["UserRegistered", "UserVerified"]);
    let tokens = bench.login(ROOT, PASSWORD).unwrap();
    assert!(bench.principal(&tokens).has(Role::Admin));
    bench.check();

    let squatted = Bench::new(config());
    squatted.register(ROOT);
    squatted.run(squatted.users.bootstrap()).unwrap();
    let tokens = squatted.login(ROOT, PASSWORD).unwrap();
    assert!(!squatted.principal(&tokens).has(Role::Admin));
    squatted.check();
}
