//! Puts Users together.

use std::sync::Arc;
use std::time::Duration;

use amarra_http::services;
use amarra_shop::users::{self, BootstrapAdmin, PasswordConfig, Users, VerificationSender};
use axum::Router;

use super::Host;
use super::written::{Nobody, WrittenTokens};
use crate::refusal::{Failure, Refuse};

/// How often the first administrator is tried to be made.
const BOOTSTRAP_TRIES: u32 = 5;

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let (cx, section) = (host.cx, &host.cx.config.users);
    let keys = cx.seeds("keys.token_seed", cx.config.keys.token_seed.as_ref())?;
    let hash_key = cx.secret("keys.users_hash", cx.config.keys.users_hash.as_ref())?;
    let mut config = users::Config::new(keys, hash_key);
    config.password = PasswordConfig {
        memory_kib: section.password_memory_kib,
        hashes_in_flight_max: section.hashes_in_flight_max,
        ..PasswordConfig::default()
    };
    config.send_timeout = section.send_timeout.0;
    config.breaker = section.breaker.over(config.breaker);
    config.bulkhead.concurrency_max = section.sends_in_flight_max;
    config.auto_verify = section.auto_verify.unwrap_or(false);
    if cx.config.keys.admin_password.is_some() {
        let password = cx.secret("keys.admin_password", cx.config.keys.admin_password.as_ref())?;
        let email = section.admin_email.clone();
        config.bootstrap_admin = Some(BootstrapAdmin { email, password });
    }
    let sender: Option<Arc<dyn VerificationSender>> = if config.auto_verify {
        None
    } else if host.backing.broker.is_none() {
        Some(Arc::new(Nobody))
    } else {
        let path = cx.file("users.verification_log", section.verification_log.as_ref())?;
        Some(Arc::new(WrittenTokens::open(&path)?))
    };
    let users = Users::new(host.ports()?, config, sender).refuse()?;
    let mut made = users.bootstrap().await;
    for _ in 1..BOOTSTRAP_TRIES {
        if made.is_ok() {
            break;
        }
        cx.env.sleep(Duration::from_millis(200)).await;
        made = users.bootstrap().await;
    }
    made.refuse_for("the first administrator")?;
    host.guarded(users.guards());
    host.drive(Users::SOURCE, users.handlers(), users.due_handlers()).await?;
    Ok(services::users::router(&host.api(users)?))
}
