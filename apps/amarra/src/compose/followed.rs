//! The write-ahead log as the source of a relay's rows.

use std::sync::Arc;

use amarra_messaging::OutboxLog;
use amarra_postgres_wal::{WalError, WalOutboxLog};

use super::Host;
use crate::admin::servers::follower;
use crate::refusal::Failure;
use crate::stages::Stage;
use crate::storage::Storage;

/// Wraps the log of the table in one that follows the write-ahead log, and plans its stream.
pub(super) async fn follow(
    host: &mut Host<'_>,
    table: Arc<dyn OutboxLog>,
) -> Result<Arc<dyn OutboxLog>, Failure> {
    let (cx, name) = (host.cx, host.name);
    let Storage::Postgres(database) = host.storage()? else {
        let why = "relay.source is \"wal\", which only Postgres has: set it to \"table\"";
        return Err(Failure::refused(why));
    };
    let refused = |why: String| Failure::refused(format!("services.{name}.wal: {why}"));
    let service = database.config().url.parse();
    let service = service.map_err(|_| refused("the service's URL is none".to_owned()))?;
    let opened = WalOutboxLog::open(table, service, follower(&cx.config, name)?).await;
    let (log, stream) = opened.map_err(|e| {
        let hint = match e {
            WalError::Publication { .. } => "; run `amarra migrate --config FILE`",
            WalError::Refused { .. } => "; run `amarra provision --config FILE`",
            _ => "",
        };
        refused(format!("{e}{hint}"))
    })?;
    let log = Arc::new(log);
    cx.metrics.followed(name.as_str(), Arc::clone(&log));
    let task = format!("{name}: follower of the write-ahead log");
    host.plan.add(Stage::Relay, task, |shutdown| stream.run(shutdown));
    Ok(log)
}
