//! All of a unit or nothing of it, in every kind of thing a unit changes.

use std::sync::Arc;
use std::time::Duration;

use amarra_core::{Environment, Version};
use amarra_messaging::message::Delivery;
use amarra_messaging::{Admit, Group, Incoming, Outgoing, Topic, TxError};
use amarra_store::read_model::ViewWrite;
use amarra_store::{DueQuery, IdempotencyKey, Idempotent, StoredResponse, UnitOfWork};
use bytes::Bytes;

use crate::backend::StoreBackend;
use crate::check::{
    Must, audit, begin, bump, commit, committed, incoming, load, outgoing, owner, put, thing,
    transact, within,
};
use crate::reader::Reader;

/// How often the end of the observer's unit is waited for, 5 ms apart.
const ENDS_MAX: u32 = 2000;

/// One of everything a unit can change.
pub(super) struct Everything {
    message: Outgoing,
    incoming: Incoming,
    parked: Delivery,
    key: IdempotencyKey,
    response: StoredResponse,
    lease: Duration,
}

impl Everything {
    pub(super) fn new<B: StoreBackend>(b: &B) -> Self {
        let env = b.env();
        let incoming = incoming(&env, "in", 0);
        Self {
            message: outgoing(&env, "out", 1),
            parked: Delivery {
                topic: incoming.topic.clone(),
                partition: incoming.partition,
                offset: incoming.offset,
                record: amarra_messaging::wire::encode(&incoming.envelope, None),
            },
            incoming,
            key: IdempotencyKey {
                principal: Arc::from("ada"),
                route: Arc::from("place"),
                key: Arc::from("1"),
                request_hash: [1; 32],
            },
            response: StoredResponse { status: 201, body: Bytes::from_static(b"{}") },
            lease: b.lease(),
        }
    }

    /// Changes one of everything.
    pub(super) async fn change(
        &self,
        env: &Environment,
        unit: &mut dyn UnitOfWork,
    ) -> Result<(), TxError> {
        let group = Group::from("readers");
        // The observer's unit, which asked for the key, may still be ending: of another client that
        // is all there is to know.
        let mut begun = unit.begin_idempotent(&self.key).await?;
        for _ in 0..ENDS_MAX {
            if begun != Idempotent::InFlight {
                break;
            }
            env.sleep(Duration::from_millis(5)).await;
            begun = unit.begin_idempotent(&self.key).await?;
        }
        assert_eq!(begun, Idempotent::Fresh);
        assert_eq!(unit.admit(&group, &self.incoming).await?, Admit::Fresh);
        bump(unit, &thing("k"), "changed").await?;
        unit.enqueue(std::slice::from_ref(&self.message)).await?;
        unit.park(&group, &self.parked, "poison").await?;
        unit.audit(audit(env, &thing("k"), 1)).await?;
        unit.schedule(&thing("k"), Some(Duration::ZERO)).await?;
        unit.write_view(ViewWrite {
            view: Arc::from("v"),
            key: Arc::from("k"),
            position: Version::new(1),
            body: Some(Bytes::from_static(b"row")),
        })
        .await?;
        unit.record_response(&self.key, &self.response).await
    }

    /// Tells what of it is there, by name; each question is asked by a unit of its own.
    pub(super) async fn seen<B: StoreBackend>(&self, b: &B) -> Vec<&'static str> {
        let (env, store) = (b.env(), b.store("observer"));
        let group = Group::from("readers");
        let mut seen = Vec::new();
        let mut note = |there: bool, what| seen.extend(there.then_some(what));
        note(committed(b, &thing("k")).await.0 != Version::ABSENT, "aggregate");
        let mut reader = Reader::open(b, "observer", 10).await;
        note(!reader.drain().await.is_empty(), "outbox");
        reader.close().await;
        let row = b.read_model().get("v", "k").await.must("get");
        note(row.is_some(), "view");
        let rows = store.audit_rows(0, 10).await.must("audit_rows");
        note(!rows.is_empty(), "audit");
        let query = DueQuery {
            kind: Arc::from("thing"),
            owner: owner("observer"),
            lease: self.lease,
            limit: 1,
        };
        note(!store.claim_due(&query).await.must("claim_due").is_empty(), "timer");
        let parked = transact(&env, store.as_ref(), async |unit| {
            let key = self.parked.key();
            unit.first_parked(&group, &Topic::from("things"), &key).await
        })
        .await;
        note(parked.is_some(), "parked");
        let mut unit = begin(store.as_ref()).await;
        let admit = unit.admit(&group, &self.incoming).await.must("admit");
        note(admit == Admit::Duplicate, "inbox");
        let replay = unit.begin_idempotent(&self.key).await.must("begin_idempotent");
        note(replay == Idempotent::Replay(self.response.clone()), "response");
        assert!(matches!(replay, Idempotent::Fresh | Idempotent::Replay(_)), "{replay:?}");
        seen
    }
}

/// The names of everything, as `seen` lists them.
pub(super) const ALL: [&str; 8] =
    ["aggregate", "outbox", "view", "audit", "timer", "parked", "inbox", "response"];

/// Whatever needs no lock to be looked at is as before while the unit is open.
pub async fn uow_4_nothing_is_visible_before_the_commit<B: StoreBackend>(b: B) {
    let everything = Everything::new(&b);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    let mut reader = Reader::open(&b, "observer", 10).await;
    assert_eq!(reader.drain().await, [], "an outbox row of an open unit");
    assert_eq!(b.read_model().get("v", "k").await, Ok(None), "a view row of an open unit");
    let store = b.store("observer");
    assert_eq!(store.audit_rows(0, 10).await, Ok(Vec::new()), "an audit row of an open unit");
    let locked = within(&b, Box::pin(committed(&b, &thing("k"))).as_mut()).await;
    let version = locked.map(|(version, _)| version);
    assert!(version.is_none_or(|v| v == Version::ABSENT), "a state of an open unit");
    commit(unit).await;
    assert_eq!(reader.drain().await.len(), 1);
}

/// Aggregate, outbox, view, audit, timer, parking, inbox and response are there at once.
pub async fn uow_4_everything_is_visible_after_the_commit<B: StoreBackend>(b: B) {
    let everything = Everything::new(&b);
    assert_eq!(everything.seen(&b).await, [""; 0]);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    commit(unit).await;
    assert_eq!(everything.seen(&b).await, ALL);
}

/// `now` is the transaction's start, by the database's clock: later units have later times.
pub async fn uow_4_the_time_of_a_unit_does_not_pass<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    load(unit.as_mut(), &thing("k")).await.must("load");
    let now = unit.now();
    b.pass(b.patience()).await;
    bump(unit.as_mut(), &thing("k"), "x").await.must("save");
    assert_eq!(unit.now(), now, "time passed within a unit");
    commit(unit).await;
    let mut later = begin(b.store("c").as_ref()).await;
    load(later.as_mut(), &thing("k")).await.must("load");
    assert!(later.now() > now, "a later unit has no later time");
}

/// Dropping is rolling back, in every kind of thing.
pub async fn uow_5_a_dropped_unit_leaves_no_trace<B: StoreBackend>(b: B) {
    let everything = Everything::new(&b);
    let mut unit = begin(b.store("a").as_ref()).await;
    everything.change(&b.env(), unit.as_mut()).await.must("change");
    drop(unit);
    assert_eq!(everything.seen(&b).await, [""; 0]);
}

/// Whoever waits for a dropped unit's lock gets it.
pub async fn uow_5_a_dropped_unit_frees_its_locks<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "before").await;
    let mut holder = begin(b.store("a").as_ref()).await;
    bump(holder.as_mut(), &thing("k"), "never").await.must("save");
    let id = thing("k");
    let mut waiter = Box::pin(put(&b, &id, "after"));
    assert_eq!(within(&b, waiter.as_mut()).await, None, "a locked aggregate was saved");
    drop(holder);
    assert_eq!(waiter.await, Version::new(2));
}

/// After a conflict nothing of what the unit did before it is kept, even if it tries to commit.
pub async fn uow_5_a_unit_with_a_failed_call_leaves_no_trace<B: StoreBackend>(b: B) {
    put(&b, &thing("taken"), "first").await;
    for commit in [false, true] {
        let everything = Everything::new(&b);
        let mut unit = begin(b.store("a").as_ref()).await;
        everything.change(&b.env(), unit.as_mut()).await.must("change");
        let saved = unit.save(&thing("taken"), Version::new(2), Bytes::new()).await;
        assert!(saved.is_err(), "a version that nobody made was accepted");
        if commit {
            assert!(unit.commit().await.is_err(), "a unit with a failed call committed");
        } else {
            drop(unit);
        }
        assert_eq!(everything.seen(&b).await, [""; 0], "after commit: {commit}");
    }
}
