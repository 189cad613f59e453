//! The laws of `Outbox`: what a transaction appends is published if and only if it commits.

use std::cell::RefCell;

use amarra_core::{Class, Classify};
use amarra_messaging::outbox::Row;
use amarra_messaging::{Outgoing, TxError};
use bytes::Bytes;
use futures_util::future::join;

use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{Gate, Must, begin, bump, commit, jitter, outgoing, refusal, thing, transact};
use crate::law::suite;
use crate::reader::{Reader, assert_commit_order, assert_once, envelope, ids};

suite! {
    ($)
    /// Expands to the laws of `Outbox` for one `StoreBackend`.
    outbox_laws in outbox for StoreBackend {
        Outbox:
            "OBX-1" obx_1_a_message_is_not_published_before_its_commit,
            "OBX-1" obx_1_a_committed_message_is_published_as_it_was_given,
            "OBX-1" obx_1_a_message_rolled_back_is_never_published,
            "OBX-1" obx_1_an_unknown_commit_publishes_exactly_when_it_was_applied,
            "OBX-1" obx_1_a_committed_message_survives_a_crash,
            "OBX-2" obx_2_one_transaction_appends_in_call_order,
            "OBX-2" obx_2_a_sequence_value_is_not_drawn_before_its_append,
            "OBX-2" obx_2_burnt_sequence_values_hold_nothing_up,
            "OBX-3" obx_3_an_early_transaction_that_locks_late_comes_second,
            "OBX-3" obx_3_many_writers_of_one_aggregate_append_in_commit_order,
            "OBX-3" obx_3_an_append_before_the_lock_loses_no_message,
            "OBX-4" obx_4_a_message_at_the_bound_is_accepted,
            "OBX-4" obx_4_a_message_above_the_bound_is_refused_with_all_of_its_call;
    }
}

/// While its transaction is open, and the relay reads on, nothing of it comes.
pub async fn obx_1_a_message_is_not_published_before_its_commit<B: StoreBackend>(b: B) {
    let store = b.store("a");
    let message = outgoing(&b.env(), "k", 1);
    let mut reader = Reader::open(&b, "relay", 10).await;
    let mut unit = begin(store.as_ref()).await;
    unit.enqueue(std::slice::from_ref(&message)).await.must("enqueue");
    assert_once(&reader.drain().await, []);
    commit(unit).await;
    assert_once(&reader.drain().await, [message.envelope.id]);
}

/// Topic, envelope and payload come back unchanged, whatever bytes they hold.
pub async fn obx_1_a_committed_message_is_published_as_it_was_given<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut message = outgoing(&env, "käse/☃ \"quoted\"", 9);
    message.envelope.data = Bytes::from((0..=255).collect::<Vec<u8>>());
    message.envelope.causation = None;
    let mut reader = Reader::open(&b, "relay", 10).await;
    transact(&env, b.store("a").as_ref(), async |unit| {
        unit.enqueue(std::slice::from_ref(&message)).await
    })
    .await;
    let rows = reader.drain().await;
    assert_eq!(rows.iter().map(outgoing_of).collect::<Vec<_>>(), [message]);
}

fn outgoing_of(row: &Row) -> Outgoing {
    Outgoing { topic: row.topic.clone(), envelope: envelope(row) }
}

/// A dropped unit leaves no message.
pub async fn obx_1_a_message_rolled_back_is_never_published<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.enqueue(&[outgoing(&env, "k", 1)]).await.must("enqueue");
    drop(unit);
    assert_once(&reader.drain().await, []);
    let kept = outgoing(&env, "k", 2);
    transact(&env, b.store("a").as_ref(), async |unit| {
        unit.enqueue(std::slice::from_ref(&kept)).await
    })
    .await;
    assert_once(&reader.drain().await, [kept.envelope.id]);
}

/// A lost request publishes nothing, a lost answer publishes all of it, once.
pub async fn obx_1_an_unknown_commit_publishes_exactly_when_it_was_applied<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 10).await;
    for (loss, applied) in [(CommitLoss::Request, false), (CommitLoss::Answer, true)] {
        let message = outgoing(&b.env(), "k", 1);
        let mut unit = begin(b.store("a").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&message)).await.must("enqueue");
        b.lose_commit("a", loss).await;
        assert_eq!(unit.commit().await, Err(TxError::OutcomeUnknown));
        assert_once(&reader.drain().await, applied.then_some(message.envelope.id));
    }
}

/// A message whose commit was answered is there after the database died.
pub async fn obx_1_a_committed_message_survives_a_crash<B: StoreBackend>(b: B) {
    let env = b.env();
    let message = outgoing(&env, "k", 1);
    transact(&env, b.store("a").as_ref(), async |unit| {
        unit.enqueue(std::slice::from_ref(&message)).await
    })
    .await;
    b.crash().await;
    let mut reader = Reader::open(&b, "relay", 10).await;
    assert_once(&reader.drain().await, [message.envelope.id]);
}

/// Within one call and over several, messages of one key keep their order.
pub async fn obx_2_one_transaction_appends_in_call_order<B: StoreBackend>(b: B) {
    let env = b.env();
    let all: Vec<_> = (1..=6).map(|n| outgoing(&env, "k", n)).collect();
    let mut reader = Reader::open(&b, "relay", 4).await;
    transact(&env, b.store("a").as_ref(), async |unit| {
        unit.enqueue(&all[..3]).await?;
        unit.enqueue(&all[3..4]).await?;
        unit.enqueue(&all[4..]).await
    })
    .await;
    let rows = reader.drain().await;
    assert_eq!(ids(&rows), all.iter().map(|m| m.envelope.id).collect::<Vec<_>>());
    assert!(rows.is_sorted_by(|x, y| x.seq < y.seq), "sequence values do not ascend");
}

/// A transaction that is open while another one appends and commits, and appends only then, draws
/// the higher value: none is set aside for it before.
pub async fn obx_2_a_sequence_value_is_not_drawn_before_its_append<B: StoreBackend>(b: B) {
    let env = b.env();
    let (early, late) = (outgoing(&env, "k", 1), outgoing(&env, "k", 2));
    let (began, committed) = (Gate::new(), Gate::new());
    let order = RefCell::new(Vec::new());
    let a = async {
        let mut unit = begin(b.store("a").as_ref()).await;
        bump(unit.as_mut(), &thing("elsewhere"), "a").await.must("save");
        unit.enqueue(&[outgoing(&env, "elsewhere", 1)]).await.must("enqueue");
        began.open();
        committed.pass(&b).await;
        unit.enqueue(std::slice::from_ref(&late)).await.must("enqueue");
        order.borrow_mut().push(late.envelope.id);
        commit(unit).await;
    };
    let c = async {
        began.pass(&b).await;
        transact(&env, b.store("c").as_ref(), async |unit| {
            unit.enqueue(std::slice::from_ref(&early)).await
        })
        .await;
        order.borrow_mut().push(early.envelope.id);
        committed.open();
    };
    join(a, c).await;
    let mut drawn = ids(&Reader::open(&b, "relay", 10).await.drain().await);
    drawn.retain(|id| [early.envelope.id, late.envelope.id].contains(id));
    assert_eq!(drawn, order.into_inner());
}

/// A gap left by a rollback neither stops the relay nor makes it miss what follows.
pub async fn obx_2_burnt_sequence_values_hold_nothing_up<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 3).await;
    let mut kept = Vec::new();
    for n in 0..12 {
        let message = outgoing(&env, "k", n);
        let mut unit = begin(b.store("a").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&message)).await.must("enqueue");
        if n % 3 == 0 {
            kept.push(message.envelope.id);
            commit(unit).await;
        }
    }
    assert_eq!(ids(&reader.drain().await), kept);
}

/// Litmus S1: the transaction with the lower transaction id locks the aggregate second, so its
/// message is the second one.
pub async fn obx_3_an_early_transaction_that_locks_late_comes_second<B: StoreBackend>(b: B) {
    let env = b.env();
    let (began, committed) = (Gate::new(), Gate::new());
    let early = async {
        let mut unit = begin(b.store("a").as_ref()).await;
        bump(unit.as_mut(), &thing("elsewhere"), "early").await.must("save elsewhere");
        began.open();
        committed.pass(&b).await;
        let version = bump(unit.as_mut(), &thing("k"), "early").await.must("save");
        unit.enqueue(&[outgoing(&env, "k", version.get())]).await.must("enqueue");
        commit(unit).await;
    };
    let late = async {
        began.pass(&b).await;
        append_change(&b, "c", "k").await;
        committed.open();
    };
    join(early, late).await;
    let rows = Reader::open(&b, "relay", 10).await.drain().await;
    assert_eq!(rows.len(), 2);
    assert_commit_order(&rows);
}

/// However many contend, the sequence of a key is the history of its aggregate.
pub async fn obx_3_many_writers_of_one_aggregate_append_in_commit_order<B: StoreBackend>(b: B) {
    let env = b.env();
    let writers = (0..8).map(|n| {
        let (b, env) = (&b, &env);
        async move {
            jitter(env).await;
            append_change(b, &format!("writer-{n}"), "k").await;
        }
    });
    futures_util::future::join_all(writers).await;
    let rows = Reader::open(&b, "relay", 3).await.drain().await;
    assert_eq!(rows.len(), 8);
    assert_commit_order(&rows);
}

/// Litmus S4: who appends before the lock loses the order, as the port says, but no message.
pub async fn obx_3_an_append_before_the_lock_loses_no_message<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let (appended, committed) = (Gate::new(), Gate::new());
    let (hasty, proper) = (outgoing(&env, "k", 2), outgoing(&env, "k", 1));
    let a = async {
        let mut unit = begin(b.store("a").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&hasty)).await.must("enqueue");
        appended.open();
        committed.pass(&b).await;
        bump(unit.as_mut(), &thing("k"), "a").await.must("save");
        commit(unit).await;
    };
    let c = async {
        appended.pass(&b).await;
        transact(&env, b.store("c").as_ref(), async |unit| {
            bump(unit, &thing("k"), "c").await?;
            unit.enqueue(std::slice::from_ref(&proper)).await
        })
        .await;
        committed.open();
    };
    join(a, c).await;
    assert_once(&reader.drain().await, [hasty.envelope.id, proper.envelope.id]);
    assert_once(&reader.drain().await, []);
}

/// The bound itself is allowed.
pub async fn obx_4_a_message_at_the_bound_is_accepted<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut message = outgoing(&env, "k", 1);
    message.envelope.data = Bytes::from(vec![b'x'; b.outbox_bytes_max()]);
    let mut reader = Reader::open(&b, "relay", 10).await;
    transact(&env, b.store("a").as_ref(), async |unit| {
        unit.enqueue(std::slice::from_ref(&message)).await
    })
    .await;
    assert_eq!(reader.drain().await.last().map(outgoing_of), Some(message));
}

/// The refusal names the bound, is final, and takes the small neighbours of the call with it.
pub async fn obx_4_a_message_above_the_bound_is_refused_with_all_of_its_call<B: StoreBackend>(
    b: B,
) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let mut large = outgoing(&env, "k", 2);
    large.envelope.data = Bytes::from(vec![b'x'; b.outbox_bytes_max().saturating_add(65_536)]);
    let mut unit = begin(b.store("a").as_ref()).await;
    let call = [outgoing(&env, "k", 1), large, outgoing(&env, "k", 3)];
    let e = refusal(unit.enqueue(&call).await, "a message above the bound");
    assert!(matches!(e, TxError::TooLarge { .. }), "a message above the bound: {e}");
    assert_eq!(e.class(), Class::Rejected);
    // The contract is to roll back now; a caller that commits all the same publishes no part of it.
    let _ = unit.commit().await;
    assert_once(&reader.drain().await, []);
}

/// Changes an aggregate and appends the message that says so, in the order the port demands.
async fn append_change<B: StoreBackend>(b: &B, client: &str, id: &str) {
    let env = b.env();
    transact(&env, b.store(client).as_ref(), async |unit| {
        let version = bump(unit, &thing(id), client).await?;
        unit.enqueue(&[outgoing(&env, id, version.get())]).await?;
        jitter(&env).await;
        Ok(())
    })
    .await;
}
