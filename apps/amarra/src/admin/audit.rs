//! Verifies audit chains.

use amarra_store::audit::verify_chain;
use serde_json::json;

use super::storages;
use crate::args::AuditVerb;
use crate::output::say;
use crate::refusal::{Failure, Refuse};

/// Rows read at once.
const PAGE: usize = 1000;

/// Checks every chain; fails when one is broken.
pub(crate) async fn run(verb: &AuditVerb) -> Result<(), Failure> {
    let AuditVerb::Verify(look) = verb;
    let mut broken = Vec::new();
    for (name, storage) in storages(look).await? {
        let store = storage.store();
        let (mut number, mut hash) = (0, [0; 32]);
        let found = loop {
            let rows = store.audit_rows(number, PAGE).await.refuse_for(name)?;
            if rows.is_empty() {
                break None;
            }
            match verify_chain(number, hash, &rows) {
                Ok(verified) => (number, hash) = verified,
                Err(e) => break Some(e.to_string()),
            }
        };
        storage.close().await;
        let (ok, service) = (found.is_none(), name.as_str());
        let head: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        if look.json {
            let line = json!({"kind": "chain", "service": service, "ok": ok, "rows": number,
                "head": head, "broken": found});
            say(&line.to_string());
        } else {
            let word = found.as_deref().unwrap_or("intact");
            say(&format!("{service:<14} {number:>9} rows, {word}; head {head}"));
        }
        if !ok {
            broken.push(service);
        }
    }
    if look.json {
        say(&json!({"kind": "summary", "ok": broken.is_empty(), "broken": broken}).to_string());
    }
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!("broken chains: {}", broken.join(", ")))),
    }
}
