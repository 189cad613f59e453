//! Puts Notifications together.

use std::sync::Arc;

use amarra_http::services;
use amarra_resilience::bulkhead::BulkheadConfig;
use amarra_shop::notifications::{self, Notifications, Sender};
use axum::Router;

use super::Host;
use super::written::{Nobody, WrittenMessages};
use crate::refusal::{Failure, Refuse};

pub(super) async fn compose(host: &mut Host<'_>) -> Result<Router, Failure> {
    let (cx, section) = (host.cx, &host.cx.config.notifications);
    let own = notifications::Config::default();
    let concurrency_max = section.in_flight_max;
    let config = notifications::Config {
        channels: section.channels.clone(),
        send_timeout: section.send_timeout.0,
        breaker: section.breaker.over(own.breaker),
        bulkhead: BulkheadConfig { concurrency_max, ..own.bulkhead },
        ..own
    };
    let sender: Arc<dyn Sender> = if host.backing.broker.is_some() {
        let path = cx.file("notifications.sent_log", section.sent_log.as_ref())?;
        Arc::new(WrittenMessages::open(&path, section.keys_max)?)
    } else {
        Arc::new(Nobody)
    };
    let notifications = Notifications::new(host.ports()?, sender, config).refuse()?;
    host.guarded(notifications.guards());
    host.drive(Notifications::SOURCE, notifications.handlers(), notifications.due_handlers())
        .await?;
    Ok(services::notifications::router(&host.api(notifications)?))
}
