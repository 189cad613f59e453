//! Logins: lockout, refresh families, revocation, and keys that change.

use std::sync::Arc;

use amarra_memory::Effect;
use amarra_shop::auth::{KeyConfig, Revocations, TokenError};
use amarra_shop::contract::users::{Login, Refresh, Secret};
use amarra_shop::users::{Config, PasswordConfig};

use super::bench::{Bench, PASSWORD, SEEDS, caller, config, guest};

const ANN: &str = "ann@shop.example";

fn bench() -> Bench {
    let bench = Bench::new(config());
    bench.register(ANN);
    bench
}

#[test]
fn who_cannot_log_in_is_not_told_why() {
    let bench = bench();
    let unknown = bench.login("bob@shop.example", PASSWORD).unwrap_err();
    assert_eq!(unknown.status(), 401);
    assert_eq!(bench.login("no address", PASSWORD).unwrap_err(), unknown);
    for _ in 0..3 {
        assert_eq!(bench.login(ANN, "wrong password").unwrap_err(), unknown);
    }
    assert_eq!(bench.login(ANN, PASSWORD).unwrap_err(), unknown, "locked out");
    bench.check();
}

#[test]
fn wrong_passwords_lock_for_a_time_that_more_of_them_do_not_prolong() {
    let bench = bench();
    for _ in 0..2 {
        bench.login(ANN, "wrong password").unwrap_err();
    }
    bench.login(ANN, PASSWORD).unwrap();
    for _ in 0..2 {
        bench.login(ANN, "wrong password").unwrap_err();
    }
    assert!(bench.login(ANN, PASSWORD).is_ok(), "a right password starts the count over");
    for _ in 0..3 {
        bench.login(ANN, "wrong password").unwrap_err();
    }
    bench.wait(899);
    for _ in 0..9 {
        bench.login(ANN, "wrong password").unwrap_err();
    }
    bench.login(ANN, PASSWORD).unwrap_err();
    bench.wait(1);
    assert!(bench.login(ANN, PASSWORD).is_ok());
    let locks = bench.kinds().iter().filter(|kind| *kind == "UserLocked").count();
    assert_eq!(locks, 1);
    bench.check();
}

#[test]
fn wrong_passwords_at_once_are_all_counted() {
    let bench = bench();
    bench.run(async {
        let guest = guest();
        let one = || {
            let request = Login { email: ANN.into(), password: Secret::new("wrong password") };
            bench.users.login(&guest, request)
        };
        let (a, b, c) = futures_util::future::join3(one(), one(), one()).await;
        assert!(a.is_err() && b.is_err() && c.is_err());
    });
    assert_eq!(bench.login(ANN, PASSWORD).unwrap_err().status(), 401);
    assert_eq!(bench.kinds().last().map(String::as_str), Some("UserLocked"));
    bench.check();
}

#[test]
fn a_wrong_password_whose_commit_is_in_doubt_is_not_counted_twice() {
    let bench = bench();
    for _ in 0..2 {
        bench.faults.next(Effect::LoseReply);
        assert_eq!(bench.login(ANN, "wrong password").unwrap_err().status(), 503);
    }
    assert!(bench.login(ANN, PASSWORD).is_ok());
}

#[test]
fn a_locked_user_refreshes_no_more() {
    let bench = bench();
    let tokens = bench.login(ANN, PASSWORD).unwrap();
    for _ in 0..3 {
        bench.login(ANN, "wrong password").unwrap_err();
    }
    assert_eq!(bench.refresh(&tokens.refresh_token).unwrap_err().status(), 401);
    bench.wait(900);
    assert!(bench.refresh(&tokens.refresh_token).is_ok());
}

#[test]
fn a_refresh_token_is_good_once_and_a_theft_ends_the_login() {
    let bench = bench();
    let first = bench.login(ANN, PASSWORD).unwrap();
    let other = bench.login(ANN, PASSWORD).unwrap();
    let second = bench.refresh(&first.refresh_token).unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    bench.wait(11);
    let third = bench.refresh(&second.refresh_token).unwrap();
    bench.wait(11);
    assert_eq!(bench.refresh(&first.refresh_token).unwrap_err().status(), 401, "the thief");
    assert_eq!(bench.refresh(&third.refresh_token).unwrap_err().status(), 401, "and the owner");
    assert!(bench.refresh(&other.refresh_token).is_ok(), "another login is another family");
    let kinds = bench.kinds();
    assert_eq!(kinds[2..], ["RefreshReuseDetected", "SessionRevoked"]);
    bench.check();
}

#[test]
fn two_refreshes_at_once_get_one_successor() {
    let bench = bench();
    let tokens = bench.login(ANN, PASSWORD).unwrap();
    bench.run(async {
        let guest = guest();
        let one = || {
            let request = Refresh { refresh_token: tokens.refresh_token.clone() };
            bench.users.refresh(&guest, request)
        };
        let (a, b) = futures_util::future::join(one(), one()).await;
        assert_eq!(a.unwrap().refresh_token, b.unwrap().refresh_token);
    });
    let user = bench.principal(&tokens).user_id.to_string();
    assert_eq!(bench.version("sessions", &user).get(), 2, "one login, one rotation");
    bench.check();
}

#[test]
fn a_refresh_whose_answer_was_lost_can_be_repeated() {
    for effect in [Effect::LoseReply, Effect::LoseRequest] {
        let bench = bench();
        let tokens = bench.login(ANN, PASSWORD).unwrap();
        bench.faults.next(effect);
        let next = bench.refresh(&tokens.refresh_token).unwrap();
        let again = bench.refresh(&tokens.refresh_token).unwrap();
        assert_eq!(next.refresh_token, again.refresh_token, "{effect:?}");
        assert!(bench.refresh(&next.refresh_token).is_ok());
        bench.check();
    }
}

#[test]
fn a_login_whose_answer_was_lost_is_one_login() {
    for effect in [Effect::LoseReply, Effect::LoseRequest] {
        let bench = bench();
        bench.faults.next(effect);
        let tokens = bench.login(ANN, PASSWORD).unwrap();
        assert!(bench.refresh(&tokens.refresh_token).is_ok());
        let user = bench.principal(&tokens).user_id.to_string();
        assert_eq!(bench.version("sessions", &user).get(), 2, "{effect:?}");
    }
}

#[test]
fn forged_and_foreign_refresh_tokens_do_nothing() {
    let bench = bench();
    let tokens = bench.login(ANN, PASSWORD).unwrap();
    let genuine = tokens.refresh_token.expose();
    let before = bench.events().len();
    // The generation and the proof stand at the end: any change of them is a forgery.
    for place in [0, 30, 44, 60, 89] {
        let mut forged: Vec<char> = genuine.chars().collect();
        forged[place] = if forged[place] == 'A' { 'B' } else { 'A' };
        let forged = Secret::new(forged.into_iter().collect::<String>());
        assert_eq!(bench.refresh(&forged).unwrap_err().status(), 401, "at {place}");
        bench.run(bench.users.logout(&guest(), Refresh { refresh_token: forged })).unwrap();
    }
    for text in ["", "x", "a.b.c", tokens.access_token.expose()] {
        assert_eq!(bench.refresh(&Secret::new(text)).unwrap_err().status(), 401);
    }
    assert_eq!(bench.events().len(), before, "a forger cannot end a login either");
    assert!(bench.refresh(&tokens.refresh_token).is_ok());
}

#[test]
fn a_login_ends_after_its_time_however_often_it_was_refreshed() {
    let bench = bench();
    let mut tokens = bench.login(ANN, PASSWORD).unwrap();
    for _ in 0..29 {
        bench.wait(86_400);
        tokens = bench.refresh(&tokens.refresh_token).unwrap();
    }
    bench.wait(86_400);
    assert_eq!(bench.refresh(&tokens.refresh_token).unwrap_err().status(), 401);
}

#[test]
fn logging_out_ends_one_login_or_all_of_them() {
    let bench = bench();
    let tokens = [(); 3].map(|()| bench.login(ANN, PASSWORD).unwrap());
    let revocations = Arc::new(Revocations::default());
    let verifier = bench.verifier(Arc::clone(&revocations));
    let observe = || bench.events().iter().for_each(|e| revocations.observe(e).unwrap());
    let works = |n: usize| verifier.verify(tokens[n].access_token.expose()).map(drop);

    let token = tokens[0].refresh_token.clone();
    let request = Refresh { refresh_token: token };
    bench.run(bench.users.logout(&guest(), request.clone())).unwrap();
    bench.run(bench.users.logout(&guest(), request)).unwrap();
    assert!(bench.refresh(&tokens[0].refresh_token).is_err());
    observe();
    assert_eq!(works(1), Ok(()), "other devices keep their tokens");

    let user = bench.principal(&tokens[1]).user_id;
    bench.run(bench.users.logout_all(&caller(user, &[]))).unwrap();
    bench.run(bench.users.logout_all(&caller(user, &[]))).unwrap();
    assert!(tokens.iter().all(|t| bench.refresh(&t.refresh_token).is_err()));
    observe();
    assert_eq!(works(2), Err(TokenError::Revoked), "access tokens end with the logins");
    let revoked = bench.kinds().iter().filter(|kind| *kind == "SessionRevoked").count();
    assert_eq!(revoked, 3);
    let fresh = bench.login(ANN, PASSWORD).unwrap();
    assert!(verifier.verify(fresh.access_token.expose()).is_ok());
    bench.check();
}

#[test]
fn a_fourth_login_displaces_the_first() {
    let bench = bench();
    let tokens = [(); 4].map(|()| bench.login(ANN, PASSWORD).unwrap());
    let revocations = Arc::new(Revocations::default());
    bench.events().iter().for_each(|event| revocations.observe(event).unwrap());
    let verifier = bench.verifier(revocations);
    assert!(verifier.verify(tokens[1].access_token.expose()).is_ok(), "others stay as they are");
    assert!(bench.refresh(&tokens[0].refresh_token).is_err());
    assert!(tokens[1..].iter().all(|t| bench.refresh(&t.refresh_token).is_ok()));
    assert_eq!(bench.kinds().last().map(String::as_str), Some("SessionRevoked"));
    bench.check();
}

#[test]
fn a_hash_follows_the_configured_parameters_at_the_next_login() {
    let mut bench = bench();
    let dearer = PasswordConfig { passes: 2, ..PasswordConfig::cheapest() };
    bench.redeploy(Config { password: dearer, ..config() });
    let tokens = bench.login(ANN, PASSWORD).unwrap();
    let user = bench.principal(&tokens).user_id.to_string();
    assert_eq!(bench.version("credential", &user).get(), 2);
    bench.login(ANN, PASSWORD).unwrap();
    assert_eq!(bench.version("credential", &user).get(), 2, "once is enough");
    assert!(bench.login(ANN, "wrong password").is_err());
    bench.check();
}

#[test]
fn logins_at_once_survive_the_change_of_parameters() {
    let mut bench = bench();
    let dearer = PasswordConfig { passes: 2, ..PasswordConfig::cheapest() };
    bench.redeploy(Config { password: dearer, ..config() });
    let (a, b) = bench.run(async {
        let guest = guest();
        let one = || {
            let request = Login { email: ANN.into(), password: Secret::new(PASSWORD) };
            bench.users.login(&guest, request)
        };
        futures_util::future::join(one(), one()).await
    });
    assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
    bench.check();
}

#[test]
fn tokens_of_both_live_keys_verify_through_a_rotation() {
    let mut bench = bench();
    let old = bench.login(ANN, PASSWORD).unwrap();
    let mut rotated = config();
    let (active, standby) = (Secret::new(SEEDS[1]), Some(Secret::new(SEEDS[0])));
    rotated.token.keys = KeyConfig { active, standby };
    bench.redeploy(rotated);
    let new = bench.login(ANN, PASSWORD).unwrap();
    let verifier = bench.verifier(Arc::default());
    assert!(verifier.verify(old.access_token.expose()).is_ok());
    assert!(verifier.verify(new.access_token.expose()).is_ok());
    assert_eq!(bench.users.jwks().keys.len(), 2);
}

#[test]
fn a_service_without_a_sender_must_verify_at_once() {
    let bench = Bench::new(config());
    let ports = amarra_shop::ServicePorts {
        store: Arc::clone(&bench.store) as _,
        views: Arc::clone(&bench.store) as _,
        env: bench.harness.environment("users"),
    };
    let make = |auto_verify| {
        let config = Config { auto_verify, ..config() };
        amarra_shop::users::Users::new(ports.clone(), config, None).map(drop)
    };
    assert_eq!(make(true), Ok(()));
    assert_eq!(make(false).unwrap_err().field, "users.auto_verify");
}
