//! The laws of `Handler`: everything through the session, and unknown types let through.

use std::sync::Arc;

use amarra_core::EventId;
use amarra_messaging::Incoming;
use amarra_store::{HandlerError, Session, Store, UnitOfWork};

use crate::backend::{HandlerBackend, StoreBackend};
use crate::check::{Must, begin, commit};
use crate::law::suite;
use crate::reader::{Reader, envelope};

suite! {
    ($)
    /// Expands to the laws of `Handler` for one `HandlerBackend`.
    handler_laws in handler for HandlerBackend {
        Handler:
            "HND-1" hnd_1_a_handled_message_changes_something_at_its_commit_only,
            "HND-1" hnd_1_handling_again_after_a_rollback_does_the_same,
            "HND-1" hnd_1_what_a_message_changes_is_stamped_with_its_cause,
            "HND-2" hnd_2_an_unknown_type_is_let_through_and_changes_nothing;
    }
}

/// The trace a service's work leaves in its store: audit actions and published types.
pub(crate) async fn trace<B: StoreBackend>(b: &B) -> Vec<String> {
    let mut trace = Vec::new();
    for row in b.store("observer").audit_rows(0, 10_000).await.must("audit_rows") {
        trace
            .push(format!("{} {} to {}", row.entry.action, row.entry.aggregate, row.entry.version));
    }
    let mut reader = Reader::open(b, "observer", 1000).await;
    for row in reader.drain().await {
        let envelope = envelope(&row);
        trace.push(format!("{} of {} on {}", envelope.kind, envelope.subject, row.topic));
    }
    reader.close().await;
    trace
}

async fn handle<B: HandlerBackend>(
    b: &B,
    unit: &mut dyn UnitOfWork,
    message: &Incoming,
) -> Result<(), HandlerError> {
    let env = b.env();
    let mut session = Session::new(unit, &env, "/amarra/conformance", message.envelope.as_cause());
    b.handler().handle(&mut session, message).await
}

/// Until the commit there is nothing, and something after it.
pub async fn hnd_1_a_handled_message_changes_something_at_its_commit_only<B: HandlerBackend>(b: B) {
    let message = b.message().await;
    assert!(b.handler().topics().contains(&message.topic), "its topic is not subscribed to");
    let mut unit = begin(b.store("a").as_ref()).await;
    handle(&b, unit.as_mut(), &message).await.must("handle");
    commit(unit).await;
    let after = trace(&b).await;
    assert!(!after.is_empty(), "the message changed nothing that could be seen");
}

/// Three tries that are rolled back count for nothing: the fourth leaves what a first would.
pub async fn hnd_1_handling_again_after_a_rollback_does_the_same<B: HandlerBackend>(b: B) {
    let message = b.message().await;
    let before = seen_without_outbox(b.store("observer")).await;
    for _ in 0..3 {
        let mut unit = begin(b.store("a").as_ref()).await;
        handle(&b, unit.as_mut(), &message).await.must("handle");
        drop(unit);
        let after = seen_without_outbox(b.store("observer")).await;
        assert_eq!(after, before, "a message that was rolled back left a trace");
    }
    let mut unit = begin(b.store("a").as_ref()).await;
    handle(&b, unit.as_mut(), &message).await.must("handle");
    commit(unit).await;
    let once = trace(&b).await;
    let distinct: std::collections::BTreeSet<_> = once.iter().collect();
    assert_eq!(distinct.len(), once.len(), "the same change stands there twice: {once:?}");
    assert!(!once.is_empty(), "the message changed nothing that could be seen");
}

async fn seen_without_outbox(store: Arc<dyn Store>) -> usize {
    store.audit_rows(0, 10_000).await.must("audit_rows").len()
}

/// Correlation goes through, and the message is the cause of what it brings about.
pub async fn hnd_1_what_a_message_changes_is_stamped_with_its_cause<B: HandlerBackend>(b: B) {
    let message = b.message().await;
    let before = seen_without_outbox(b.store("observer")).await;
    let mut reader = Reader::open(&b, "before", 1000).await;
    reader.drain().await;
    let mut unit = begin(b.store("a").as_ref()).await;
    handle(&b, unit.as_mut(), &message).await.must("handle");
    commit(unit).await;
    let after = u64::try_from(before).unwrap_or(u64::MAX);
    for row in b.store("observer").audit_rows(after, 10_000).await.must("audit_rows") {
        assert_eq!(row.entry.correlation, message.envelope.correlation, "{:?}", row.entry);
    }
    for row in reader.drain().await {
        let envelope = envelope(&row);
        assert_eq!(envelope.correlation, message.envelope.correlation, "{envelope:?}");
        assert_eq!(envelope.causation, Some(message.envelope.id), "{envelope:?}");
    }
}

/// Topics gain types over time; a service passes over what it does not know.
pub async fn hnd_2_an_unknown_type_is_let_through_and_changes_nothing<B: HandlerBackend>(b: B) {
    let mut message = b.message().await;
    let before = trace(&b).await;
    message.envelope.id = b.env().new_id::<EventId>();
    message.envelope.kind = Arc::from("NobodyKnowsThisType");
    let mut unit = begin(b.store("a").as_ref()).await;
    handle(&b, unit.as_mut(), &message).await.must("an unknown type");
    commit(unit).await;
    assert_eq!(trace(&b).await, before, "an unknown type changed something");
}
