//! Revokes access tokens before they expire, from the events of Users.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use amarra_core::codec::Message;
use amarra_core::{Class, Codec, Envelope};
use amarra_messaging::message::Delivery;
use amarra_messaging::runtime::{ProcessError, Processor};
use amarra_messaging::wire;
use async_trait::async_trait;

use crate::contract::UserId;
use crate::contract::users::{RolesChanged, SessionRevoked, UserLocked};

/// The lowest version of each user whose tokens are still good.
///
/// It is kept in memory and bounded: it makes a revocation fast, while the short life of access
/// tokens makes it certain. At the bound the user revoked longest ago is forgotten.
#[derive(Debug)]
pub struct Revocations {
    users_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    version_min: BTreeMap<UserId, u64>,
    order: VecDeque<UserId>,
}

impl Default for Revocations {
    /// Remembers 10,000 users.
    fn default() -> Self {
        Self::new(10_000)
    }
}

impl Revocations {
    /// Remembers at most `users_max` users.
    #[must_use]
    pub fn new(users_max: usize) -> Self {
        Self { users_max, state: Mutex::default() }
    }

    /// Revokes tokens issued of versions of the user below `version`. Never goes back.
    pub fn revoke_below(&self, user: UserId, version: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = state.version_min.get_mut(&user) {
            *known = (*known).max(version);
            return;
        }
        while state.order.len() >= self.users_max {
            let Some(oldest) = state.order.pop_front() else { return };
            state.version_min.remove(&oldest);
        }
        state.version_min.insert(user, version);
        state.order.push_back(user);
    }

    /// Returns the lowest version whose tokens are good, zero when nothing was revoked.
    #[must_use]
    pub fn version_min(&self, user: UserId) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.version_min.get(&user).copied().unwrap_or(0)
    }

    /// Learns from an event of Users; others are ignored.
    ///
    /// # Errors
    /// The codec's, when a known event does not decode.
    pub fn observe(&self, envelope: &Envelope) -> Result<(), amarra_core::CodecError> {
        let codec = Codec::new();
        let user = match envelope.kind.as_ref() {
            RolesChanged::KIND => codec.decode::<RolesChanged>(envelope)?.user_id,
            UserLocked::KIND => codec.decode::<UserLocked>(envelope)?.user_id,
            SessionRevoked::KIND => {
                let revoked: SessionRevoked = codec.decode(envelope)?;
                // One device's login that ended leaves the other devices' tokens alone.
                if matches!(revoked.cause.as_str(), "logout" | "evicted") {
                    return Ok(());
                }
                revoked.user_id
            }
            _ => return Ok(()),
        };
        self.revoke_below(user, envelope.subject_version.get());
        Ok(())
    }
}

/// Feeds [`Revocations`] from the topic of Users, for a process that has no database: give it a
/// consumer group of its own that starts at least one token's life before now.
#[derive(Debug)]
pub struct RevocationFeed {
    revocations: Arc<Revocations>,
}

impl RevocationFeed {
    /// Feeds `revocations`.
    #[must_use]
    pub fn new(revocations: Arc<Revocations>) -> Self {
        Self { revocations }
    }
}

#[async_trait]
impl Processor for RevocationFeed {
    async fn apply(&self, batch: &[Delivery]) -> Result<(), ProcessError> {
        for (index, delivery) in batch.iter().enumerate() {
            let error =
                |why: String| ProcessError { class: Class::Fatal, culprit: Some(index), why };
            let incoming = wire::decode(delivery).map_err(|e| error(e.to_string()))?;
            self.revocations.observe(&incoming.envelope).map_err(|e| error(e.to_string()))?;
        }
        Ok(())
    }

    /// Forgets the delivery: nothing here can be replayed, and later events say more.
    async fn park(&self, _delivery: &Delivery, _reason: &str) -> Result<(), ProcessError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use amarra_core::{Actor, AggregateId, PartitionKey, SeededEntropy, TraceParent, Version};
    use amarra_messaging::message::{Offset, Partition};

    use super::*;
    use crate::contract::Role;
    use crate::contract::users::UserVerified;

    fn user(n: u128) -> UserId {
        uuid::Uuid::from_u128(n).into()
    }

    fn event<M: Message>(version: u64, message: &M) -> Envelope {
        let entropy = SeededEntropy::new(1, "events");
        Envelope {
            id: uuid::Uuid::from_u128(1).into(),
            source: "/amarra/users".into(),
            kind: M::KIND.into(),
            schema_version: 1,
            subject: AggregateId::new("user", user(7).to_string()),
            subject_version: Version::new(version),
            partition_key: PartitionKey::new("7"),
            correlation: uuid::Uuid::nil().into(),
            causation: None,
            actor: Actor::Service("users".into()),
            traceparent: TraceParent::root(&entropy),
            time: amarra_core::Timestamp::EPOCH,
            data: Codec::encode(message).unwrap(),
        }
    }

    fn session_revoked(cause: &str) -> SessionRevoked {
        SessionRevoked { user_id: user(7), family_id: "f".into(), cause: cause.into() }
    }

    #[test]
    fn events_that_change_what_a_user_may_do_revoke_and_others_do_not() {
        let check = |event: Envelope, expect| {
            let revocations = Revocations::default();
            revocations.observe(&event).unwrap();
            assert_eq!(revocations.version_min(user(7)), expect, "{}", event.kind);
        };
        let roles = RolesChanged { user_id: user(7), added: vec![], removed: vec![Role::Support] };
        check(event(4, &roles), 4);
        check(event(4, &UserLocked { user_id: user(7), reason: String::new() }), 4);
        check(event(4, &session_revoked("reuse")), 4);
        check(event(4, &session_revoked("logout_all")), 4);
        check(event(4, &session_revoked("logout")), 0);
        check(event(4, &session_revoked("evicted")), 0);
        check(event(4, &UserVerified { user_id: user(7) }), 0);
    }

    #[test]
    fn the_feed_reads_deliveries_and_names_the_one_it_cannot() {
        let revocations = Arc::new(Revocations::default());
        let feed = RevocationFeed::new(Arc::clone(&revocations));
        let delivery = |event: &Envelope| Delivery {
            topic: "users.events".into(),
            partition: Partition(0),
            offset: Offset(0),
            record: wire::encode(event, None),
        };
        let good = event(6, &session_revoked("reuse"));
        let broken = Envelope { data: "{}".into(), ..good.clone() };
        let batch = [delivery(&good), delivery(&broken)];
        let apply = |batch| futures_util::FutureExt::now_or_never(feed.apply(batch)).unwrap();
        assert_eq!(apply(&batch[..1]), Ok(()));
        assert_eq!(revocations.version_min(user(7)), 6);
        let error = apply(&batch).unwrap_err();
        assert_eq!((error.class, error.culprit), (Class::Fatal, Some(1)));
    }

    #[test]
    fn a_late_event_never_lowers_the_version() {
        let revocations = Revocations::new(8);
        revocations.revoke_below(user(1), 5);
        revocations.revoke_below(user(1), 3);
        assert_eq!(revocations.version_min(user(1)), 5);
        assert_eq!(revocations.version_min(user(2)), 0);
    }

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let revocations = Revocations::new(2);
        for n in 1..=3 {
            revocations.revoke_below(user(n), 9);
        }
        let known: Vec<_> = (1..=3).map(|n| revocations.version_min(user(n))).collect();
        assert_eq!(known, [0, 9, 9]);
    }
}
