//! Versions: what `save` refuses and what it makes.

use amarra_core::{AggregateId, Class, Classify, Version};
use amarra_messaging::TxError;
use amarra_store::UnitOfWork;
use bytes::Bytes;

use crate::backend::StoreBackend;
use crate::check::{
    Must, begin, bump, commit, committed, load, may_repeat, put, refusal, thing, within,
};

const BODY: Bytes = Bytes::from_static(b"body");

/// From absent to one, to two, and so on, over transactions and within one.
pub async fn uow_3_a_save_makes_the_next_version<B: StoreBackend>(b: B) {
    assert_eq!(put(&b, &thing("k"), "one").await, Version::new(1));
    let mut unit = begin(b.store("a").as_ref()).await;
    for expected in 1..=3 {
        unit.save(&thing("k"), Version::new(expected), BODY).await.must("save");
    }
    commit(unit).await;
    assert_eq!(committed(&b, &thing("k")).await, (Version::new(4), BODY));
}

#[track_caller]
fn assert_conflict(e: &TxError, id: &AggregateId) {
    assert!(matches!(e, TxError::Conflict { id: named } if named == id), "{id}: {e}");
    assert_eq!(e.class(), Class::Conflict);
}

/// The conflict names the aggregate, and neither this save nor its unit's others are kept.
pub async fn uow_3_a_stale_version_conflicts_and_changes_nothing<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "one").await;
    put(&b, &thing("k"), "two").await;
    for stale in [Version::ABSENT, Version::new(1)] {
        let mut unit = begin(b.store("a").as_ref()).await;
        bump(unit.as_mut(), &thing("with"), "it").await.must("save");
        let saved = unit.save(&thing("k"), stale, BODY).await;
        let answer = if stale == Version::ABSENT { ended(unit, saved).await } else { saved };
        assert_conflict(&refusal(answer, "a stale version"), &thing("k"));
        assert_eq!(committed(&b, &thing("k")).await, (Version::new(2), Bytes::from("two")));
        assert_eq!(committed(&b, &thing("with")).await.0, Version::ABSENT);
    }
}

/// A version nobody made is as wrong as a stale one.
pub async fn uow_3_a_version_from_the_future_conflicts<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "one").await;
    for (id, version) in [("k", 2), ("k", 99), ("missing", 1)] {
        let mut unit = begin(b.store("a").as_ref()).await;
        let saved = unit.save(&thing(id), Version::new(version), BODY).await;
        assert_conflict(&refusal(saved, "a version from the future"), &thing(id));
    }
    assert_eq!(committed(&b, &thing("k")).await.0, Version::new(1));
}

/// Returns what `save` answered, or the unit's commit where it was well.
async fn ended(unit: Box<dyn UnitOfWork>, saved: Result<(), TxError>) -> Result<(), TxError> {
    match saved {
        Ok(()) => unit.commit().await,
        refused => refused,
    }
}

/// A natural key is taken once.
pub async fn uow_3_creating_what_exists_conflicts<B: StoreBackend>(b: B) {
    put(&b, &thing("k"), "first").await;
    let mut unit = begin(b.store("a").as_ref()).await;
    let saved = unit.save(&thing("k"), Version::ABSENT, BODY).await;
    assert_conflict(&refusal(ended(unit, saved).await, "creating what exists"), &thing("k"));
    assert_eq!(committed(&b, &thing("k")).await, (Version::new(1), Bytes::from("first")));
    // What was loaded, before or after, is known at once.
    let mut unit = begin(b.store("a").as_ref()).await;
    load(unit.as_mut(), &thing("k")).await.must("load");
    let saved = unit.save(&thing("k"), Version::ABSENT, BODY).await;
    assert_conflict(&refusal(saved, "creating what was loaded"), &thing("k"));
    drop(unit);
    let mut unit = begin(b.store("a").as_ref()).await;
    let mut saved = unit.save(&thing("k"), Version::ABSENT, BODY).await;
    if saved.is_ok() {
        saved = load(unit.as_mut(), &thing("k")).await.map(drop);
    }
    assert_conflict(&refusal(saved, "loading what was created"), &thing("k"));
    drop(unit);
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.save(&thing("l"), Version::ABSENT, BODY).await.must("create");
    let saved = unit.save(&thing("l"), Version::ABSENT, BODY).await;
    assert_conflict(&refusal(saved, "creating twice in one unit"), &thing("l"));
}

/// Neither has locked what does not exist; the database decides, and the loser is told.
pub async fn uow_3_of_two_that_create_one_id_one_conflicts<B: StoreBackend>(b: B) {
    let mut first = begin(b.store("a").as_ref()).await;
    first.save(&thing("k"), Version::ABSENT, Bytes::from_static(b"first")).await.must("create");
    let store = b.store("c");
    let mut second = Box::pin(async {
        let mut unit = store.begin().await?;
        unit.save(&thing("k"), Version::ABSENT, Bytes::from_static(b"second")).await?;
        unit.commit().await
    });
    let early = within(&b, second.as_mut()).await;
    let first = first.commit().await;
    let second = match early {
        Some(answer) => answer,
        None => second.await,
    };
    let (lost, body) = match (first, second) {
        (Ok(()), second) => (second, "first"),
        (first, Ok(())) => (first, "second"),
        neither => (neither.0, "neither"),
    };
    assert!(may_repeat(&refusal(lost, "both creations")));
    assert_eq!(committed(&b, &thing("k")).await, (Version::new(1), Bytes::from(body)));
}

/// A kind is part of the name, and names are compared byte for byte.
pub async fn uow_3_kinds_and_ids_are_told_apart<B: StoreBackend>(b: B) {
    let ids = [
        AggregateId::new("thing", "k"),
        AggregateId::new("thing", "K"),
        AggregateId::new("thing", "k "),
        AggregateId::new("thing", "k/1"),
        AggregateId::new("thing/k", "1"),
        AggregateId::new("other", "k"),
        AggregateId::new("thing", "é"),
        AggregateId::new("thing", "e\u{301}"),
    ];
    for id in &ids {
        put(&b, id, &format!("{id:?}")).await;
    }
    let mut unit = begin(b.store("a").as_ref()).await;
    for id in &ids {
        let (version, body) = load(unit.as_mut(), id).await.must("load");
        assert_eq!((version, body), (Version::new(1), Bytes::from(format!("{id:?}"))));
    }
}
