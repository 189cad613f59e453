//! The laws of `ReadModel`: whole rows of committed transactions, and pages that miss none.

use std::collections::BTreeMap;
use std::sync::Arc;

use amarra_core::Version;
use amarra_messaging::TxError;
use amarra_store::read_model::ViewWrite;
use amarra_store::{Page, PageQuery, UnitOfWork, ViewRow};
use bytes::Bytes;

use crate::backend::StoreBackend;
use crate::check::{Must, begin, commit, transact, within};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `ReadModel` for one `StoreBackend`.
    read_model_laws in read_model for StoreBackend {
        ReadModel:
            "RDM-1" rdm_1_a_row_comes_back_as_it_was_written,
            "RDM-1" rdm_1_a_row_is_not_seen_before_its_commit,
            "RDM-1" rdm_1_a_row_rolled_back_is_never_seen,
            "RDM-1" rdm_1_rows_written_together_are_seen_together,
            "RDM-1" rdm_1_the_last_write_of_a_unit_counts,
            "RDM-1" rdm_1_a_deleted_row_is_gone,
            "RDM-1" rdm_1_views_do_not_share_keys,
            "RDM-1" rdm_1_a_loaded_row_is_written_by_nobody_else,
            "RDM-1" rdm_1_a_row_survives_a_crash,
            "RDM-2" rdm_2_pages_return_every_row_once_in_key_order,
            "RDM-2" rdm_2_the_last_page_says_so,
            "RDM-2" rdm_2_a_prefix_bounds_the_pages,
            "RDM-2" rdm_2_rows_inserted_meanwhile_hide_and_double_none,
            "RDM-2" rdm_2_rows_deleted_meanwhile_hide_and_double_none_of_the_others;
    }
}

fn write(view: &str, key: &str, position: u64, body: Option<&str>) -> ViewWrite {
    ViewWrite {
        view: Arc::from(view),
        key: Arc::from(key),
        position: Version::new(position),
        body: body.map(|body| Bytes::copy_from_slice(body.as_bytes())),
    }
}

async fn write_all<B: StoreBackend>(b: &B, writes: &[ViewWrite]) {
    transact(&b.env(), b.store("a").as_ref(), async |unit| {
        for write in writes {
            unit.write_view(write.clone()).await?;
        }
        Ok(())
    })
    .await;
}

async fn get<B: StoreBackend>(b: &B, view: &str, key: &str) -> Option<ViewRow> {
    b.read_model().get(view, key).await.must("get")
}

async fn body<B: StoreBackend>(b: &B, view: &str, key: &str) -> Option<Bytes> {
    get(b, view, key).await.map(|row| row.body)
}

async fn page<B: StoreBackend>(b: &B, prefix: &str, after: Option<Arc<str>>, limit: usize) -> Page {
    let query = PageQuery { view: Arc::from("v"), prefix: Arc::from(prefix), after, limit };
    let page = b.read_model().page(&query).await.must("page");
    assert!(page.rows.len() <= limit, "{} rows for a limit of {limit}", page.rows.len());
    assert!(page.rows.iter().all(|row| row.key.starts_with(prefix)), "a row beside the prefix");
    page
}

/// Reads every page, calling `between` after each but the last.
async fn pages<B: StoreBackend>(
    b: &B,
    (prefix, limit): (&str, usize),
    mut between: impl AsyncFnMut(usize),
) -> Vec<Arc<str>> {
    let (mut after, mut keys, mut number) = (None, Vec::new(), 0_usize);
    loop {
        let page = page(b, prefix, after, limit).await;
        keys.extend(page.rows.into_iter().map(|row| row.key));
        if page.next.is_none() {
            return keys;
        }
        after = page.next;
        between(number).await;
        number += 1;
        assert!(number < 1000, "pages never end");
    }
}

/// Key, position and bytes are what was written; an absent row is none.
pub async fn rdm_1_a_row_comes_back_as_it_was_written<B: StoreBackend>(b: B) {
    assert_eq!(get(&b, "v", "k/☃").await, None);
    write_all(&b, &[write("v", "k/☃", 7, Some("{\"n\":1}"))]).await;
    let row = ViewRow {
        key: Arc::from("k/☃"),
        position: Version::new(7),
        body: Bytes::from_static(b"{\"n\":1}"),
    };
    assert_eq!(get(&b, "v", "k/☃").await.as_ref(), Some(&row));
    let loaded =
        transact(&b.env(), b.store("a").as_ref(), async |unit| unit.load_view("v", "k/☃").await)
            .await;
    assert_eq!(loaded, Some(row));
}

/// A reader sees the row before, then the row after, by itself or in a page.
pub async fn rdm_1_a_row_is_not_seen_before_its_commit<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "old", 1, Some("before"))]).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.write_view(write("v", "old", 2, Some("after"))).await.must("write");
    unit.write_view(write("v", "new", 1, Some("after"))).await.must("write");
    assert_eq!(body(&b, "v", "old").await.as_deref(), Some(&b"before"[..]));
    assert_eq!(body(&b, "v", "new").await, None);
    assert_eq!(page(&b, "", None, 10).await.rows.len(), 1);
    commit(unit).await;
    assert_eq!(body(&b, "v", "old").await.as_deref(), Some(&b"after"[..]));
    assert_eq!(page(&b, "", None, 10).await.rows.len(), 2);
}

/// A dropped unit wrote nothing.
pub async fn rdm_1_a_row_rolled_back_is_never_seen<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "k", 1, Some("kept"))]).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.write_view(write("v", "k", 2, None)).await.must("delete");
    unit.write_view(write("v", "l", 1, Some("never"))).await.must("write");
    drop(unit);
    assert_eq!(body(&b, "v", "k").await.as_deref(), Some(&b"kept"[..]));
    assert_eq!(body(&b, "v", "l").await, None);
}

/// A page shows two rows of one transaction both before it or both after it.
pub async fn rdm_1_rows_written_together_are_seen_together<B: StoreBackend>(b: B) {
    let env = b.env();
    let writer = async {
        for n in 1..=20 {
            let text = n.to_string();
            write_all(&b, &[write("v", "x", n, Some(&text)), write("v", "y", n, Some(&text))])
                .await;
            env.sleep(std::time::Duration::from_micros(env.entropy.below(50))).await;
        }
    };
    let reader = async {
        for _ in 0..20 {
            let rows = page(&b, "", None, 10).await.rows;
            let positions: Vec<_> = rows.iter().map(|row| (row.position, &row.body)).collect();
            assert!(positions.is_empty() || positions.len() == 2, "half of a transaction");
            assert!(positions.windows(2).all(|w| w[0] == w[1]), "half of one: {positions:?}");
            env.sleep(std::time::Duration::from_micros(env.entropy.below(50))).await;
        }
    };
    futures_util::future::join(writer, reader).await;
}

/// Written twice in one unit, a row is as the second write left it; the unit sees that too.
pub async fn rdm_1_the_last_write_of_a_unit_counts<B: StoreBackend>(b: B) {
    let seen = transact(&b.env(), b.store("a").as_ref(), async |unit| {
        unit.write_view(write("v", "k", 1, Some("one"))).await?;
        unit.write_view(write("v", "k", 2, Some("two"))).await?;
        unit.load_view("v", "k").await
    })
    .await;
    assert_eq!(seen.map(|row| row.position), Some(Version::new(2)), "a unit misses its write");
    assert_eq!(body(&b, "v", "k").await.as_deref(), Some(&b"two"[..]));
}

/// Deleting a row, or one that never was, leaves none; it may be written again.
pub async fn rdm_1_a_deleted_row_is_gone<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "k", 1, Some("x")), write("v", "never", 1, None)]).await;
    write_all(&b, &[write("v", "k", 2, None)]).await;
    assert_eq!(get(&b, "v", "k").await, None);
    assert_eq!(page(&b, "", None, 10).await, Page { rows: Vec::new(), next: None });
    write_all(&b, &[write("v", "k", 3, Some("again"))]).await;
    assert_eq!(get(&b, "v", "k").await.map(|row| row.position), Some(Version::new(3)));
}

/// The same key in two views names two rows.
pub async fn rdm_1_views_do_not_share_keys<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "k", 1, Some("v")), write("w", "k", 1, Some("w"))]).await;
    write_all(&b, &[write("w", "k", 2, None)]).await;
    assert_eq!(body(&b, "v", "k").await.as_deref(), Some(&b"v"[..]));
    assert_eq!(body(&b, "w", "k").await, None);
}

/// Between a unit's `load_view` and its end nobody else changes the row: no update is lost.
pub async fn rdm_1_a_loaded_row_is_written_by_nobody_else<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "k", 0, Some("0"))]).await;
    let mut unit = begin(b.store("a").as_ref()).await;
    count(unit.as_mut()).await.must("count");
    let (env, store) = (b.env(), b.store("c"));
    let mut other = Box::pin(transact(&env, store.as_ref(), async |unit| count(unit).await));
    let early = within(&b, other.as_mut()).await;
    assert_eq!(early, None, "a loaded row was changed by another unit");
    commit(unit).await;
    other.await;
    let row = get(&b, "v", "k").await.must("the row is gone");
    assert_eq!((row.position.get(), row.body.as_ref()), (2, &b"2"[..]), "an update was lost");
}

async fn count(unit: &mut dyn UnitOfWork) -> Result<(), TxError> {
    let row = unit.load_view("v", "k").await?.must("the row is gone");
    let next = row.position.next().get();
    unit.write_view(write("v", "k", next, Some(&next.to_string()))).await
}

/// A committed row is durable.
pub async fn rdm_1_a_row_survives_a_crash<B: StoreBackend>(b: B) {
    write_all(&b, &[write("v", "k", 4, Some("kept")), write("v", "gone", 1, Some("x"))]).await;
    write_all(&b, &[write("v", "gone", 2, None)]).await;
    b.crash().await;
    assert_eq!(get(&b, "v", "k").await.map(|row| row.position), Some(Version::new(4)));
    assert_eq!(get(&b, "v", "gone").await, None);
}

async fn fill<B: StoreBackend>(b: &B, keys: &[&str]) {
    let writes: Vec<_> = keys.iter().map(|key| write("v", key, 1, Some("x"))).collect();
    write_all(b, &writes).await;
}

/// Any page size, one order: that of the keys' bytes.
pub async fn rdm_2_pages_return_every_row_once_in_key_order<B: StoreBackend>(b: B) {
    let keys = ["B", "a", "a/1", "a/10", "a/2", "aa", "b", "z", "ä", "☃"];
    fill(&b, &[9, 3, 0, 7, 1, 8, 2, 6, 4, 5].map(|i: usize| keys[i])).await;
    for limit in [1, 2, 3, 10, 99] {
        let seen = pages(&b, ("", limit), async |_| {}).await;
        let seen: Vec<_> = seen.iter().map(AsRef::as_ref).collect();
        assert_eq!(seen, keys, "in pages of {limit}");
    }
}

/// A full last page does not promise another, and an empty view has one page.
pub async fn rdm_2_the_last_page_says_so<B: StoreBackend>(b: B) {
    assert_eq!(page(&b, "", None, 2).await, Page { rows: Vec::new(), next: None });
    fill(&b, &["a", "b", "c", "d"]).await;
    let first = page(&b, "", None, 2).await;
    assert!(first.next.is_some(), "a page with more to come ends the list");
    let second = page(&b, "", first.next, 2).await;
    assert_eq!(second.rows.len(), 2);
    assert_eq!(second.next, None, "the last page promises another");
}

/// A prefix is taken literally: neither neighbours nor patterns.
pub async fn rdm_2_a_prefix_bounds_the_pages<B: StoreBackend>(b: B) {
    fill(&b, &["u/1", "u/2", "u/3", "u", "u0", "t/9", "u%/1", "u_/1", "U/1", "v/1"]).await;
    let seen = pages(&b, ("u/", 2), async |_| {}).await;
    assert_eq!(seen.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["u/1", "u/2", "u/3"]);
    let seen = pages(&b, ("u_", 2), async |_| {}).await;
    assert_eq!(seen.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["u_/1"]);
    let seen = pages(&b, ("u%", 2), async |_| {}).await;
    assert_eq!(seen.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["u%/1"]);
    assert_eq!(page(&b, "none", None, 5).await.rows, []);
}

/// Inserts before, at and after the reader's place shift no page.
pub async fn rdm_2_rows_inserted_meanwhile_hide_and_double_none<B: StoreBackend>(b: B) {
    let old: Vec<_> = (0..20).map(|n| format!("k{n:02}")).collect();
    fill(&b, &old.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let seen = pages(&b, ("k", 3), async |number| {
        let before = format!("k00-{number}");
        let behind = format!("k19-{number}");
        let near = format!("k{:02}-x", number * 3 + 2);
        fill(&b, &[&before, &near, &behind]).await;
    })
    .await;
    assert_each_once(&seen, &old);
}

/// Nor do deletions, of rows already seen or still to come.
pub async fn rdm_2_rows_deleted_meanwhile_hide_and_double_none_of_the_others<B: StoreBackend>(
    b: B,
) {
    let all: Vec<_> = (0..20).map(|n| format!("k{n:02}")).collect();
    fill(&b, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let doomed = ["k02", "k05", "k06", "k17"];
    let seen = pages(&b, ("k", 3), async |number| {
        if let Some(key) = doomed.get(number) {
            write_all(&b, &[write("v", key, 2, None)]).await;
        }
    })
    .await;
    let kept: Vec<_> = all.into_iter().filter(|key| !doomed.contains(&key.as_str())).collect();
    assert_each_once(&seen, &kept);
}

#[track_caller]
fn assert_each_once(seen: &[Arc<str>], expect: &[String]) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for key in seen {
        *counts.entry(key).or_default() += 1;
    }
    assert!(counts.values().all(|&n| n == 1), "a row came twice: {counts:?}");
    assert!(seen.is_sorted(), "rows do not ascend over the pages");
    for key in expect {
        assert!(counts.contains_key(key.as_str()), "row {key} was there all along and is missing");
    }
}
