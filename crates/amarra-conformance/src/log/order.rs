//! Every committed row once and each key in commit order, however transactions overlap.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use amarra_core::EventId;
use amarra_messaging::outbox::Cursor;
use amarra_messaging::outbox::Row;
use amarra_store::UnitOfWork;
use futures_util::future::{join, join_all};

use super::batch::{append, retake};
use crate::backend::StoreBackend;
use crate::check::{Gate, Must, begin, bump, commit, outgoing, thing, transact};
use crate::reader::{Reader, assert_commit_order, assert_once, busy_shard, ids, read};

/// Litmus S1: the first version is committed by the transaction that began second, and a relay
/// that reads whenever it can still returns the versions in order.
pub async fn obl_3_litmus_s1_early_transaction_id_late_lock<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 10).await;
    let (began, committed) = (Gate::new(), Gate::new());
    let early = async {
        let mut unit = begin(b.store("early").as_ref()).await;
        bump(unit.as_mut(), &thing("elsewhere"), "early").await.must("save elsewhere");
        began.open();
        committed.pass(&b).await;
        change(&b, unit.as_mut(), "k").await.must("change");
        commit(unit).await;
    };
    let late = async {
        began.pass(&b).await;
        transact(&b.env(), b.store("late").as_ref(), async |unit| change(&b, unit, "k").await)
            .await;
        committed.open();
    };
    join(early, late).await;
    let mut rows = reader.drain().await;
    rows.extend(reader.drain().await);
    assert_eq!(rows.len(), 2, "a version was lost or doubled");
    assert_commit_order(&rows);
}

/// Litmus S2: a transaction in progress whose id lies between those of two versions must not make
/// the relay withhold the first version and release the second.
pub async fn obl_3_litmus_s2_unrelated_transaction_between_two_versions<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 10).await;
    let (began, between, committed, read) = (Gate::new(), Gate::new(), Gate::new(), Gate::new());
    let second_version = async {
        let mut unit = begin(b.store("early").as_ref()).await;
        bump(unit.as_mut(), &thing("elsewhere"), "early").await.must("save elsewhere");
        began.open();
        committed.pass(&b).await;
        change(&b, unit.as_mut(), "k").await.must("change");
        commit(unit).await;
    };
    let unrelated = async {
        began.pass(&b).await;
        let mut unit = begin(b.store("unrelated").as_ref()).await;
        unit.enqueue(&[outgoing(&b.env(), "other", 1)]).await.must("enqueue");
        between.open();
        read.pass(&b).await;
        commit(unit).await;
    };
    let first_version = async {
        between.pass(&b).await;
        transact(&b.env(), b.store("late").as_ref(), async |unit| change(&b, unit, "k").await)
            .await;
        committed.open();
    };
    let rows = RefCell::new(Vec::new());
    let writers = async {
        join(second_version, first_version).await;
        let batch = reader.drain().await;
        rows.borrow_mut().extend(batch);
        assert_commit_order(&rows.borrow());
        read.open();
    };
    join(writers, unrelated).await;
    let mut rows = rows.into_inner();
    rows.extend(reader.drain().await);
    assert_eq!(rows.len(), 3, "a row was lost or doubled");
    assert_commit_order(&rows);
}

/// Litmus S3: a row with a lower sequence value that commits after a higher one was read.
pub async fn obl_3_litmus_s3_late_commit_of_a_lower_sequence_value<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let (low, high) = (outgoing(&env, "k", 1), outgoing(&env, "k", 2));
    let rows = RefCell::new(Vec::new());
    let (appended, read) = (Gate::new(), Gate::new());
    let late = async {
        let mut unit = begin(b.store("late").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&low)).await.must("enqueue");
        appended.open();
        read.pass(&b).await;
        commit(unit).await;
    };
    let soon = async {
        appended.pass(&b).await;
        transact(&env, b.store("soon").as_ref(), async |unit| {
            unit.enqueue(std::slice::from_ref(&high)).await
        })
        .await;
        let batch = reader.drain().await;
        rows.borrow_mut().extend(batch);
        read.open();
    };
    join(late, soon).await;
    let mut rows = rows.into_inner();
    rows.extend(reader.drain().await);
    rows.extend(reader.drain().await);
    assert_once(&rows, [low.envelope.id, high.envelope.id]);
}

/// Ten transactions append in one order and commit in the other, with a batch between each two.
pub async fn obl_3_late_commits_are_returned_once_each<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 3).await;
    let (rows, expect) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let gates: Vec<_> = (0..=10).map(|_| Gate::new()).collect();
    let writers = (0_usize..10).map(|n| {
        let (b, env, gates, expect) = (&b, &env, &gates, &expect);
        async move {
            let message = outgoing(env, &format!("key-{}", n % 3), 1);
            let mut unit = begin(b.store(&format!("writer-{n}")).as_ref()).await;
            unit.enqueue(std::slice::from_ref(&message)).await.must("enqueue");
            gates[n + 1].pass(b).await;
            commit(unit).await;
            expect.borrow_mut().push(message.envelope.id);
        }
    });
    let relay = async {
        for gate in gates.iter().rev() {
            gate.open();
            b.env().sleep(b.patience() / 100).await;
            let batch = reader.drain().await;
            rows.borrow_mut().extend(batch);
        }
    };
    join(join_all(writers), relay).await;
    let mut rows = rows.into_inner();
    rows.extend(reader.drain().await);
    assert_once(&rows, expect.into_inner());
}

/// Writers that begin, append, roll back and commit at random while the relay reads: nothing is
/// lost, nothing doubled, and each key's versions come in order.
pub async fn obl_3_random_schedules_lose_double_and_reorder_nothing<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 4).await;
    let rows: RefCell<Vec<Row>> = RefCell::default();
    let committed: RefCell<Vec<EventId>> = RefCell::default();
    let done = Cell::new(false);
    let writers = async {
        join_all((0..6).map(|n| random_writer(&b, n, &committed))).await;
        done.set(true);
    };
    let relay = async {
        while !done.get() {
            let batch = reader.drain().await;
            rows.borrow_mut().extend(batch);
            nap(&b, 4).await;
        }
    };
    join(writers, relay).await;
    let mut rows = rows.into_inner();
    rows.extend(reader.drain().await);
    assert_once(&rows, committed.into_inner());
    assert_commit_order(&rows);
    assert_once(&reader.drain().await, []);
}

async fn random_writer<B: StoreBackend>(b: &B, n: u64, committed: &RefCell<Vec<EventId>>) {
    let env = b.env();
    let store = b.store(&format!("writer-{n}"));
    for round in 0..8 {
        nap(b, 6).await;
        if env.entropy.below(4) == 0 {
            let mut unit = begin(store.as_ref()).await;
            let _ = change(b, unit.as_mut(), "k0").await;
            nap(b, 3).await;
            drop(unit);
            continue;
        }
        // Few enough keys to contend on one, enough of them for two to share a shard.
        let key = &format!("k{}", env.entropy.below(10).min(env.entropy.below(10)));
        let event = transact(&env, store.as_ref(), async |unit| {
            if env.entropy.below(2) == 0 {
                bump(unit, &thing(&format!("own-{n}-{round}")), "early id").await?;
                nap(b, 5).await;
            }
            let event = change(b, unit, key).await?;
            nap(b, 5).await;
            Ok(event)
        })
        .await;
        committed.borrow_mut().push(event);
    }
}

/// The successor of a relay that stopped mid-batch reads the rest, then what came meanwhile.
pub async fn obl_3_a_takeover_mid_batch_loses_and_doubles_nothing<B: StoreBackend>(b: B) {
    let log = b.outbox_log();
    let mut expect = append(&b, "k", 1..=5).await;
    let lease = busy_shard(&b, "a", b.lease()).await;
    let mut cursor = Cursor::default();
    let mut rows = read(log.as_ref(), &lease, &mut cursor, 2).await.rows;
    expect.extend(append(&b, "k", 6..=7).await);
    b.pass(b.lease() * 2).await;
    let successor = retake(&b, &lease).await;
    let mut cursor = log.resume(&successor).await.must("resume").cursor;
    for _ in 0..6 {
        rows.extend(read(log.as_ref(), &successor, &mut cursor, 2).await.rows);
    }
    assert_eq!(ids(&rows), expect);
    assert_eq!(cursor.pos.0, 7, "positions are not dense over the takeover");
}

/// Committed rows outlive the database's crash, open ones do not come back.
pub async fn obl_3_a_crash_of_the_database_loses_no_row<B: StoreBackend>(b: B) {
    let mut reader = Reader::open(&b, "relay", 2).await;
    let mut expect = append(&b, "k", 1..=2).await;
    let mut rows = reader.drain().await;
    expect.extend(append(&b, "k", 3..=4).await);
    let mut open = begin(b.store("open").as_ref()).await;
    open.enqueue(&[outgoing(&b.env(), "k", 9)]).await.must("enqueue");
    b.crash().await;
    drop(open);
    rows.extend(reader.drain().await);
    expect.extend(append(&b, "k", 5..=6).await);
    rows.extend(reader.drain().await);
    assert_eq!(ids(&rows), expect);
}

/// While a transaction that appended stays open, others' rows flow; its own come at its commit.
pub async fn obl_4_an_open_transaction_delays_its_own_rows_only<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let own = outgoing(&env, "k", 1);
    let (appended, read) = (Gate::new(), Gate::new());
    let rows = RefCell::new(Vec::new());
    let open = async {
        let mut unit = begin(b.store("open").as_ref()).await;
        unit.enqueue(std::slice::from_ref(&own)).await.must("enqueue");
        appended.open();
        read.pass(&b).await;
        commit(unit).await;
    };
    let others = async {
        appended.pass(&b).await;
        for version in 2..=5 {
            let expect = append(&b, "k", version..=version).await;
            let batch = reader.drain().await;
            let without_own: Vec<_> =
                ids(&batch).into_iter().filter(|&id| id != own.envelope.id).collect();
            assert_eq!(without_own, expect, "a committed row waited for an open transaction");
            rows.borrow_mut().extend(batch);
        }
        read.open();
    };
    join(open, others).await;
    let mut rows = rows.into_inner();
    rows.extend(reader.drain().await);
    assert_eq!(rows.len(), 5);
    assert_eq!(ids(&rows).iter().filter(|&&id| id == own.envelope.id).count(), 1);
}

/// The same with many: the list of ids in progress is part of the snapshot, not a limit.
pub async fn obl_4_many_open_transactions_delay_nobody<B: StoreBackend>(b: B) {
    let env = b.env();
    let mut reader = Reader::open(&b, "relay", 10).await;
    let mut open = Vec::new();
    for n in 0..12 {
        let mut unit = begin(b.store(&format!("open-{n}")).as_ref()).await;
        let key = format!("key-{n}");
        let appended = {
            let call = [outgoing(&env, &key, 1)];
            let mut work = Box::pin(unit.enqueue(&call));
            crate::check::within(&b, work.as_mut()).await
        };
        // A database with one writer at a time has one open transaction and refuses the others.
        match appended {
            Some(Ok(())) => open.push(unit),
            _ => break,
        }
    }
    assert!(!open.is_empty());
    if open.len() == 1 {
        drop(open.pop());
    }
    let expect = append(&b, "k", 1..=3).await;
    assert_eq!(ids(&reader.drain().await), expect);
    let late = open.len();
    for unit in open {
        commit(unit).await;
    }
    assert_eq!(reader.drain().await.len(), late, "late rows were lost or doubled");
}

/// Changes an aggregate and appends the message about it, in the order the port demands.
async fn change<B: StoreBackend>(
    b: &B,
    unit: &mut dyn UnitOfWork,
    id: &str,
) -> Result<EventId, amarra_messaging::TxError> {
    let version = bump(unit, &thing(id), "changed").await?;
    let message = outgoing(&b.env(), id, version.get());
    unit.enqueue(std::slice::from_ref(&message)).await?;
    Ok(message.envelope.id)
}

async fn nap<B: StoreBackend>(b: &B, millis_max: u64) {
    let env = b.env();
    env.sleep(Duration::from_millis(env.entropy.below(millis_max))).await;
}
