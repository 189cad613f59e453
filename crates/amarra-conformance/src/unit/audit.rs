//! The audit chain: dense, linked, and in the order of the commits.

use std::cell::RefCell;

use amarra_core::AggregateId;
use amarra_store::AuditRow;
use amarra_store::audit::{Hash, verify_chain};
use futures_util::future::{join, join_all};

use crate::backend::StoreBackend;
use crate::check::{Gate, Must, audit, begin, bump, commit, jitter, thing, transact};

async fn rows<B: StoreBackend>(b: &B) -> Vec<AuditRow> {
    let rows = b.store("observer").audit_rows(0, 1000).await.must("audit_rows");
    let end = verify_chain(0, Hash::default(), &rows).must("the audit chain");
    assert_eq!(end.0, u64::try_from(rows.len()).unwrap_or(u64::MAX));
    rows
}

fn subjects(rows: &[AuditRow]) -> Vec<AggregateId> {
    rows.iter().map(|row| row.entry.aggregate.clone()).collect()
}

async fn change<B: StoreBackend>(b: &B, client: &str, id: &str) {
    transact(&b.env(), b.store(client).as_ref(), async |unit| {
        let version = bump(unit, &thing(id), client).await?;
        unit.audit(audit(&b.env(), &thing(id), version.get())).await?;
        jitter(&b.env()).await;
        Ok(())
    })
    .await;
}

/// From 1 on, each holding the hash of the one before and what it was given.
pub async fn uow_8_audit_rows_are_dense_and_chained<B: StoreBackend>(b: B) {
    let env = b.env();
    let entries: Vec<_> = (1..=5).map(|n| audit(&env, &thing("k☃"), n)).collect();
    for pair in entries.chunks(2) {
        transact(&env, b.store("a").as_ref(), async |unit| {
            for entry in pair {
                unit.audit(entry.clone()).await?;
            }
            Ok(())
        })
        .await;
    }
    let kept: Vec<_> = rows(&b).await.into_iter().map(|row| row.entry).collect();
    assert_eq!(kept, entries);
}

/// Who appended first but committed second stands second.
pub async fn uow_8_the_chain_is_in_commit_order<B: StoreBackend>(b: B) {
    let order = RefCell::new(Vec::new());
    let (appended, committed) = (Gate::new(), Gate::new());
    let slow = async {
        let mut unit = begin(b.store("slow").as_ref()).await;
        bump(unit.as_mut(), &thing("slow"), "x").await.must("save");
        unit.audit(audit(&b.env(), &thing("slow"), 1)).await.must("audit");
        appended.open();
        committed.pass(&b).await;
        commit(unit).await;
        order.borrow_mut().push(thing("slow"));
    };
    let fast = async {
        appended.pass(&b).await;
        change(&b, "fast", "fast").await;
        order.borrow_mut().push(thing("fast"));
        committed.open();
    };
    join(slow, fast).await;
    assert_eq!(subjects(&rows(&b).await), order.into_inner());
}

/// Eight writers of as many aggregates chain without forks or gaps, each in its own order.
pub async fn uow_8_many_writers_make_one_chain<B: StoreBackend>(b: B) {
    let env = b.env();
    let writers = (0..8).map(|n| {
        let (b, env) = (&b, &env);
        async move {
            for _ in 0..3 {
                jitter(env).await;
                change(b, &format!("writer-{n}"), &format!("k{n}")).await;
            }
        }
    });
    join_all(writers).await;
    let rows = rows(&b).await;
    assert_eq!(rows.len(), 24);
    for n in 0..8 {
        let id = thing(&format!("k{n}"));
        let versions: Vec<_> = rows
            .iter()
            .filter(|row| row.entry.aggregate == id)
            .map(|row| row.entry.version.get())
            .collect();
        assert_eq!(versions, [1, 2, 3], "of {id}");
    }
}

/// A number is given at the commit, so a rollback burns none.
pub async fn uow_8_a_rollback_leaves_no_gap_in_the_chain<B: StoreBackend>(b: B) {
    change(&b, "a", "first").await;
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.audit(audit(&b.env(), &thing("never"), 1)).await.must("audit");
    drop(unit);
    change(&b, "a", "second").await;
    assert_eq!(subjects(&rows(&b).await), [thing("first"), thing("second")]);
}

/// Pages of any size join to the same chain; past the end there is none.
pub async fn uow_8_the_chain_is_read_in_pages<B: StoreBackend>(b: B) {
    for n in 0..5 {
        change(&b, "a", &format!("k{n}")).await;
    }
    let all = rows(&b).await;
    for limit in [1, 2, 5, 9] {
        let (mut after, mut pages) = (0, Vec::new());
        loop {
            let page = b.store("observer").audit_rows(after, limit).await.must("audit_rows");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = last.number;
            pages.extend(page);
        }
        assert_eq!(pages, all, "in pages of {limit}");
    }
}

/// The first row after a crash continues the last one before it.
pub async fn uow_8_the_chain_goes_on_after_a_crash<B: StoreBackend>(b: B) {
    change(&b, "a", "first").await;
    b.crash().await;
    change(&b, "a", "second").await;
    assert_eq!(subjects(&rows(&b).await), [thing("first"), thing("second")]);
}
