//! The class of every error: retry, breaker, saga and runtime read nothing else.

use amarra_core::{AggregateId, Class, Classify};
use amarra_messaging::message::{Epoch, Shard};
use amarra_messaging::outbox::LogError;
use amarra_messaging::runtime::ProcessError;
use amarra_messaging::{ConsumerError, PublishError, TxError};

fn check(error: &(impl Classify + std::fmt::Debug), class: Class) {
    assert_eq!(error.class(), class, "{error:?}");
}

#[test]
fn a_transaction_that_may_have_been_applied_is_unknown_and_no_other_is() {
    let why = || "why".to_owned();
    check(&TxError::Conflict { id: AggregateId::new("a", "1") }, Class::Conflict);
    check(&TxError::Fenced { what: why(), held: 1 }, Class::Conflict);
    check(&TxError::Serialization, Class::Transient);
    check(&TxError::Connection { why: why() }, Class::Transient);
    check(&TxError::OutcomeUnknown, Class::Unknown);
    check(&TxError::TooLarge { what: "x", bound: 1 }, Class::Rejected);
    check(&TxError::Corrupt { what: why(), why: why() }, Class::Fatal);
}

#[test]
fn the_classes_of_the_relay_and_the_consumer() {
    let (shard, epoch) = (Shard(0), Epoch(1));
    let why = || "why".to_owned();
    check(&LogError::Fenced { shard, epoch }, Class::Conflict);
    check(&LogError::Unavailable { why: why() }, Class::Transient);
    check(&LogError::Corrupt { what: why(), why: why() }, Class::Fatal);
    check(&PublishError::Fenced { shard, epoch }, Class::Conflict);
    check(&PublishError::Refused { acked: 0, why: why() }, Class::Rejected);
    check(&PublishError::Unavailable { acked: 0, why: why() }, Class::Unknown);
    check(&ConsumerError::Fenced, Class::Conflict);
    check(&ConsumerError::Unavailable { why: why() }, Class::Unknown);
    check(&ProcessError { class: Class::Fatal, culprit: None, why: why() }, Class::Fatal);
}
