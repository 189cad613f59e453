//! One response per idempotency key, whoever asks and however often.

use std::sync::Arc;

use amarra_messaging::TxError;
use amarra_store::{IdempotencyKey, Idempotent, StoredResponse, UnitOfWork};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{
    Must, begin, bump, commit, committed, jitter, may_repeat, thing, transact, within,
};

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey {
        principal: Arc::from("ada"),
        route: Arc::from("place"),
        key: Arc::from(name),
        request_hash: [1; 32],
    }
}

fn response(body: &str) -> StoredResponse {
    StoredResponse { status: 201, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// Runs the command of a key as a service does: its effect and response in one unit.
async fn run(unit: &mut dyn UnitOfWork, key: &IdempotencyKey) -> Result<Idempotent, TxError> {
    let answer = unit.begin_idempotent(key).await?;
    if answer == Idempotent::Fresh {
        bump(unit, &thing(&key.key), "effect").await?;
        unit.record_response(key, &response(&key.key)).await?;
    }
    Ok(answer)
}

async fn run_once<B: StoreBackend>(b: &B, key: &IdempotencyKey) -> Idempotent {
    transact(&b.env(), b.store("a").as_ref(), async |unit| run(unit, key).await).await
}

/// The second caller gets the first one's response, byte for byte, and no second effect.
pub async fn uow_9_a_recorded_response_is_replayed<B: StoreBackend>(b: B) {
    assert_eq!(run_once(&b, &key("1")).await, Idempotent::Fresh);
    for _ in 0..3 {
        assert_eq!(run_once(&b, &key("1")).await, Idempotent::Replay(response("1")));
    }
    assert_eq!(committed(&b, &thing("1")).await.0.get(), 1);
}

/// A key used for another request is refused, and its own request still replays.
pub async fn uow_9_another_request_of_the_same_key_is_a_mismatch<B: StoreBackend>(b: B) {
    run_once(&b, &key("1")).await;
    let other = IdempotencyKey { request_hash: [2; 32], ..key("1") };
    assert_eq!(run_once(&b, &other).await, Idempotent::Mismatch);
    assert_eq!(run_once(&b, &key("1")).await, Idempotent::Replay(response("1")));
    assert_eq!(committed(&b, &thing("1")).await.0.get(), 1);
}

/// While the first runs, the second is told so at once, and replays once it committed.
pub async fn uow_9_a_running_key_is_in_flight<B: StoreBackend>(b: B) {
    let mut first = begin(b.store("a").as_ref()).await;
    assert_eq!(run(first.as_mut(), &key("1")).await, Ok(Idempotent::Fresh));
    let store = b.store("c");
    let second = async {
        let mut unit = store.begin().await?;
        unit.begin_idempotent(&key("1")).await
    };
    // A database with one writer at a time may let the second wait, or refuse it, instead.
    match within(&b, Box::pin(second).as_mut()).await {
        None => {}
        Some(Err(e)) => assert!(may_repeat(&e), "a running key: {e}"),
        Some(Ok(answer)) => assert_eq!(answer, Idempotent::InFlight),
    }
    commit(first).await;
    assert_eq!(run_once(&b, &key("1")).await, Idempotent::Replay(response("1")));
}

/// A command that failed left nothing: its caller may try again.
pub async fn uow_9_a_key_rolled_back_is_fresh_again<B: StoreBackend>(b: B) {
    for _ in 0..2 {
        let mut unit = begin(b.store("a").as_ref()).await;
        assert_eq!(run(unit.as_mut(), &key("1")).await, Ok(Idempotent::Fresh));
        drop(unit);
    }
    let other = IdempotencyKey { request_hash: [2; 32], ..key("1") };
    assert_eq!(run_once(&b, &other).await, Idempotent::Fresh);
    assert_eq!(committed(&b, &thing("1")).await.0.get(), 1);
}

/// Eight callers with one key make one effect; those in flight try again and replay.
pub async fn uow_9_of_many_at_once_one_is_fresh<B: StoreBackend>(b: B) {
    let env = b.env();
    let answers = join_all((0..8).map(|n| {
        let (b, env) = (&b, &env);
        async move {
            let store = b.store(&format!("caller-{n}"));
            loop {
                let answer = transact(env, store.as_ref(), async |unit| {
                    jitter(env).await;
                    let answer = run(unit, &key("1")).await?;
                    jitter(env).await;
                    Ok(answer)
                })
                .await;
                if answer != Idempotent::InFlight {
                    return answer;
                }
                env.sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }))
    .await;
    let fresh = answers.iter().filter(|&answer| *answer == Idempotent::Fresh).count();
    assert_eq!(fresh, 1, "{fresh} callers ran the command of one key");
    let replays = answers.iter().filter(|&a| *a == Idempotent::Replay(response("1"))).count();
    assert_eq!(replays, 7, "{answers:?}");
    assert_eq!(committed(&b, &thing("1")).await.0.get(), 1);
}

/// Each part of the key counts: keys of two principals never meet.
pub async fn uow_9_principals_routes_and_keys_are_told_apart<B: StoreBackend>(b: B) {
    let keys = [
        key("1"),
        key("2"),
        IdempotencyKey { principal: Arc::from("eve"), ..key("1") },
        IdempotencyKey { route: Arc::from("cancel"), ..key("1") },
    ];
    for key in &keys {
        assert_eq!(run_once(&b, key).await, Idempotent::Fresh, "{key:?}");
    }
    for key in &keys {
        let replay = Idempotent::Replay(response(&key.key));
        assert_eq!(run_once(&b, key).await, replay, "{key:?}");
    }
}

/// Asking again with the key resolves an unknown commit, whichever way it went.
pub async fn uow_9_an_unknown_commit_is_found_by_its_key<B: StoreBackend>(b: B) {
    let cases = [
        ("1", CommitLoss::Answer, Idempotent::Replay(response("1"))),
        ("2", CommitLoss::Request, Idempotent::Fresh),
    ];
    for (name, loss, second) in cases {
        let mut unit = begin(b.store("a").as_ref()).await;
        run(unit.as_mut(), &key(name)).await.must("run");
        b.lose_commit("a", loss).await;
        assert_eq!(unit.commit().await, Err(TxError::OutcomeUnknown));
        assert_eq!(run_once(&b, &key(name)).await, second, "after {loss:?}");
        assert_eq!(committed(&b, &thing(name)).await.0.get(), 1, "after {loss:?}");
    }
}

/// A response is as durable as its effect.
pub async fn uow_9_a_response_survives_a_crash<B: StoreBackend>(b: B) {
    run_once(&b, &key("1")).await;
    b.crash().await;
    assert_eq!(run_once(&b, &key("1")).await, Idempotent::Replay(response("1")));
}
