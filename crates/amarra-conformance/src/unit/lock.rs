//! What `load` locks, in which order, and what it returns.

use std::sync::Arc;

use amarra_core::{AggregateId, Version};
use amarra_store::read_model::ViewWrite;
use amarra_store::{ViewName, ViewRow};
use bytes::Bytes;
use futures_util::future::{join, join_all};

use crate::backend::StoreBackend;
use crate::check::{
    Must, begin, bump, commit, committed, jitter, load, put, thing, transact, within,
};

/// Ids in any order come back in that order.
pub async fn uow_1_load_answers_in_the_order_asked_for<B: StoreBackend>(b: B) {
    for id in ["a", "b", "c"] {
        put(&b, &thing(id), id).await;
    }
    put(&b, &thing("b"), "b again").await;
    let ids = ["c", "a", "missing", "b"].map(thing);
    let mut unit = begin(b.store("a").as_ref()).await;
    let states = unit.load(&ids).await.must("load");
    let seen: Vec<_> = states.iter().map(|s| (s.version.get(), s.body.as_ref())).collect();
    assert_eq!(seen, [(1, &b"c"[..]), (1, b"a"), (0, b""), (2, b"b again")]);
    assert_eq!(unit.load(&[]).await, Ok(Vec::new()), "loading nothing");
}

/// What was never saved has the absent version and no bytes.
pub async fn uow_1_a_missing_aggregate_is_absent_and_empty<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    assert_eq!(load(unit.as_mut(), &thing("k")).await, Ok((Version::ABSENT, Bytes::new())));
}

/// A unit reads what it wrote.
pub async fn uow_1_load_sees_the_units_own_saves<B: StoreBackend>(b: B) {
    let mut unit = begin(b.store("a").as_ref()).await;
    for n in 1..=3 {
        bump(unit.as_mut(), &thing("k"), &format!("body {n}")).await.must("save");
        let seen = load(unit.as_mut(), &thing("k")).await.must("load");
        assert_eq!(seen, (Version::new(n), Bytes::from(format!("body {n}"))));
    }
}

/// Whoever waited for a lock sees what its holder committed, not what was there at the start.
pub async fn uow_1_after_a_wait_load_returns_what_was_committed_last<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "before").await;
    let mut holder = begin(b.store("a").as_ref()).await;
    bump(holder.as_mut(), &thing("k"), "after").await.must("save");
    let (env, store) = (b.env(), b.store("c"));
    let mut waiter =
        Box::pin(transact(&env, store.as_ref(), async |unit| load(unit, &thing("k")).await));
    assert_eq!(within(&b, waiter.as_mut()).await, None, "a locked aggregate was loaded");
    commit(holder).await;
    assert_eq!(waiter.await, (Version::new(2), Bytes::from_static(b"after")));
}

/// Each calls `load` once, for the same two ids in opposite orders; both end without an error.
pub async fn uow_1_units_that_load_in_opposite_orders_do_not_deadlock<B: StoreBackend>(b: B) {
    let env = b.env();
    let ids = [thing("a"), thing("b")];
    let reversed = [thing("b"), thing("a")];
    for id in &ids {
        put(&b, id, "before").await;
    }
    let run = |client: &'static str, ids: &[AggregateId; 2]| {
        let (b, env, ids) = (&b, &env, ids.clone());
        async move {
            for _ in 0..5 {
                let mut unit = begin(b.store(client).as_ref()).await;
                let states = unit.load(&ids).await.must("load");
                jitter(env).await;
                for (id, state) in ids.iter().zip(states) {
                    unit.save(id, state.version, Bytes::from_static(b"x")).await.must("save");
                }
                commit(unit).await;
            }
        }
    };
    join(run("a", &ids), run("c", &reversed)).await;
    for id in &ids {
        assert_eq!(committed(&b, id).await.0, Version::new(11));
    }
}

/// Six units lock overlapping random sets of twelve aggregates; none is a deadlock's victim.
pub async fn uow_1_random_sets_never_deadlock<B: StoreBackend>(b: B) {
    let env = b.env();
    for n in 0..12 {
        put(&b, &thing(&n.to_string()), "before").await;
    }
    let runs = (0..6).map(|n| {
        let (b, env) = (&b, &env);
        async move {
            for _ in 0..5 {
                let ids: Vec<_> =
                    (0..4).map(|_| thing(&env.entropy.below(12).to_string())).collect();
                let mut unit = begin(b.store(&format!("client-{n}")).as_ref()).await;
                let states = unit.load(&ids).await.must("load of a random set");
                assert_eq!(states.len(), ids.len(), "an id asked for twice is answered twice");
                jitter(env).await;
                commit(unit).await;
            }
        }
    });
    join_all(runs).await;
}

/// Who loads what another is about to create waits, and then finds it.
pub async fn uow_1_what_is_absent_is_locked_too<B: StoreBackend>(b: B) {
    let mut creator = begin(b.store("a").as_ref()).await;
    let (version, _) = load(creator.as_mut(), &thing("k")).await.must("load");
    assert_eq!(version, Version::ABSENT);
    let store = b.store("c");
    let mut other = Box::pin(async {
        let mut unit = store.begin().await?;
        load(unit.as_mut(), &thing("k")).await
    });
    let early = within(&b, other.as_mut()).await;
    assert_eq!(early, None, "what is absent was not locked");
    creator.save(&thing("k"), version, Bytes::from_static(b"made")).await.must("save");
    commit(creator).await;
    assert_eq!(other.await, Ok((Version::new(1), Bytes::from_static(b"made"))));
}

/// Rows are answered in the order asked for, one asked for twice twice, a missing one as none.
pub async fn uow_11_view_rows_come_in_the_order_asked_for<B: StoreBackend>(b: B) {
    let names = ["b", "none", "a", "b"].map(row_name);
    let mut unit = begin(b.store("a").as_ref()).await;
    for (view, key) in [row_name("a"), row_name("b")] {
        let body = Some(Bytes::copy_from_slice(key.as_bytes()));
        let write = ViewWrite { view, key, position: Version::new(1), body };
        unit.write_view(write).await.must("write_view");
    }
    let keys = |rows: Vec<Option<ViewRow>>| rows.into_iter().map(|row| Some(row?.key));
    let expect = [Some("b"), None, Some("a"), Some("b")].map(|key| key.map(Arc::from));
    let own = unit.load_views(&names).await.must("load_views of the unit's own rows");
    assert!(keys(own).eq(expect.clone()), "a unit does not see its own rows");
    commit(unit).await;
    let mut unit = begin(b.store("c").as_ref()).await;
    let rows = unit.load_views(&names).await.must("load_views");
    assert!(keys(rows.clone()).eq(expect), "{rows:?}");
    assert_eq!(unit.load_views(&[]).await, Ok(Vec::new()), "nothing asked for");
}

fn row_name(key: &str) -> ViewName {
    ("v".into(), key.into())
}

/// Each calls `load_views` once, for the same two rows in opposite orders; both end without an
/// error.
pub async fn uow_11_units_that_load_views_in_opposite_orders_do_not_deadlock<B: StoreBackend>(
    b: B,
) {
    let env = b.env();
    let run = |client: &'static str, names: [&str; 2]| {
        let (b, env, names) = (&b, &env, names.map(row_name));
        async move {
            for _ in 0..5 {
                let mut unit = begin(b.store(client).as_ref()).await;
                let rows = unit.load_views(&names).await.must("load_views");
                jitter(env).await;
                for ((view, key), row) in names.clone().into_iter().zip(rows) {
                    let position = row.map_or(Version::ABSENT, |row| row.position).next();
                    let body = Some(Bytes::from_static(b"x"));
                    let write = ViewWrite { view, key, position, body };
                    unit.write_view(write).await.must("write_view");
                }
                commit(unit).await;
            }
        }
    };
    join(run("a", ["1", "2"]), run("c", ["2", "1"])).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    let rows = unit.load_views(&["1", "2"].map(row_name)).await.must("load_views");
    let positions = rows.into_iter().map(|row| row.map(|row| row.position.get()));
    assert!(positions.eq([Some(10), Some(10)]), "an update was lost");
}

/// Until the holder ends, another neither loads nor saves it.
pub async fn uow_2_a_locked_aggregate_is_changed_by_nobody_else<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "before").await;
    let mut holder = begin(b.store("a").as_ref()).await;
    let (version, _) = load(holder.as_mut(), &thing("k")).await.must("load");
    let store = b.store("c");
    let blind = async {
        let mut unit = store.begin().await?;
        unit.save(&thing("k"), version, Bytes::from_static(b"stolen")).await?;
        unit.commit().await
    };
    let mut blind = Box::pin(blind);
    let early = within(&b, blind.as_mut()).await;
    assert_ne!(early, Some(Ok(())), "a locked aggregate was saved by another unit");
    holder.save(&thing("k"), version, Bytes::from_static(b"after")).await.must("save");
    commit(holder).await;
    if early.is_none() {
        assert!(blind.await.is_err(), "a blind save went over the holder's");
    }
    assert_eq!(committed(&b, &thing("k")).await, (Version::new(2), Bytes::from_static(b"after")));
}

/// A database may let both find the name free; it does not let both take it.
pub async fn uow_2_of_two_that_find_an_id_absent_one_creates_it<B: StoreBackend>(b: B) {
    let mut holder = begin(b.store("a").as_ref()).await;
    load(holder.as_mut(), &thing("name")).await.must("load");
    let (env, store) = (b.env(), b.store("c"));
    let mut other = Box::pin(transact(&env, store.as_ref(), async |unit| {
        let (version, _) = load(unit, &thing("name")).await?;
        if version == Version::ABSENT {
            unit.save(&thing("name"), version, Bytes::from_static(b"c")).await?;
        }
        Ok(version)
    }));
    let early = within(&b, other.as_mut()).await;
    let saved = holder.save(&thing("name"), Version::ABSENT, Bytes::from_static(b"a")).await;
    let won = saved.is_ok() && holder.commit().await.is_ok();
    let version = match early {
        Some(version) => version,
        None => other.await,
    };
    assert_ne!(won, version == Version::ABSENT, "both or neither created it");
    assert_eq!(committed(&b, &thing("name")).await.0, Version::new(1));
}

/// Eight units add one each, five times; the sum is right.
pub async fn uow_2_no_update_is_lost_under_contention<B: StoreBackend>(b: B) {
    let env = b.env();
    let adders = (0..8).map(|n| {
        let (b, env) = (&b, &env);
        async move {
            let store = b.store(&format!("client-{n}"));
            for _ in 0..5 {
                transact(env, store.as_ref(), async |unit| {
                    let (version, body) = load(unit, &thing("sum")).await?;
                    jitter(env).await;
                    let sum = [&body[..], b"x"].concat();
                    unit.save(&thing("sum"), version, Bytes::from(sum)).await
                })
                .await;
            }
        }
    });
    join_all(adders).await;
    let (version, body) = committed(&b, &thing("sum")).await;
    assert_eq!((version.get(), body.len()), (40, 40), "updates were lost");
}

/// A lock is on its aggregate: another is loaded and saved meanwhile, by a database that can.
pub async fn uow_2_other_aggregates_are_not_locked<B: StoreBackend>(b: B) {
    put(&b, &thing("free"), "before").await;
    let mut holder = begin(b.store("a").as_ref()).await;
    bump(holder.as_mut(), &thing("k"), "held").await.must("save");
    let done = within(&b, Box::pin(put(&b, &thing("free"), "after")).as_mut()).await;
    commit(holder).await;
    if done.is_none() {
        // One writer at a time: then it must have waited for the whole unit, and go on now.
        put(&b, &thing("free"), "after").await;
    }
    assert_eq!(committed(&b, &thing("free")).await.1, Bytes::from_static(b"after"));
}
