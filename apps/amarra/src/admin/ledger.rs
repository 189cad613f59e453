//! Shows the provider's ledger, from its journal.

use amarra_core::Clock;
use amarra_tokio::TokioClock;
use serde_json::json;

use crate::args::Ledger;
use crate::compose::provider::{Entry, apply, journal_path, ledger};
use crate::config::{self, Config};
use crate::journal;
use crate::output::say;
use crate::refusal::Failure;

/// Replays the journal and prints what came of each order's money. The provider may run meanwhile.
pub(crate) fn run(args: &Ledger) -> Result<(), Failure> {
    let (path, overcapture) = match (&args.place.data, &args.place.config) {
        (Some(data), _) => (data.join("provider.journal"), false),
        (None, Some(path)) => {
            let config: Config = config::load(path)?;
            (journal_path(&config)?, config.provider.overcapture)
        }
        (None, None) => return Err(Failure::refused("name --data or --config")),
    };
    let mut ledger = ledger(overcapture)?;
    for entry in journal::entries::<Entry>(&path)? {
        apply(&mut ledger, &entry);
    }
    let truths = ledger.truths(TokioClock::new().now());
    for (order, truth) in &truths {
        if args.json {
            let line = json!({"kind": "truth", "order": order, "authorized": truth.authorized,
                "open": truth.open, "captured": truth.captured, "refunded": truth.refunded,
                "authorizations": truth.authorizations, "captures": truth.captures});
            say(&line.to_string());
        } else {
            say(&format!(
                "{order}  authorized {:>9}  captured {:>9}  refunded {:>9}",
                truth.authorized, truth.captured, truth.refunded
            ));
        }
    }
    let pending = ledger.pending_webhooks(usize::MAX).len();
    if args.json {
        let line = json!({"kind": "summary", "orders": truths.len(), "webhooks_pending": pending});
        say(&line.to_string());
    } else {
        say(&format!("{} orders, {pending} webhooks to deliver", truths.len()));
    }
    Ok(())
}
