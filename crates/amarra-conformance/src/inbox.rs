//! The laws of `Inbox`: each message once per group, decided by the transaction that applies it.

use amarra_messaging::inbox::{Gaps, GroupInbox, InboxConfig, Mode};
use amarra_messaging::{Admit, Group, Incoming, Offset, TxError};
use amarra_store::UnitOfWork;
use bytes::Bytes;
use futures_util::future::join_all;

use crate::backend::{CommitLoss, StoreBackend};
use crate::check::{
    Must, begin, bump, commit, committed, incoming, jitter, may_repeat, thing, transact, within,
};
use crate::law::suite;

suite! {
    ($)
    /// Expands to the laws of `Inbox` for one `StoreBackend`.
    inbox_laws in inbox for StoreBackend {
        Inbox:
            "INB-1" inb_1_a_message_is_fresh_once_and_a_duplicate_ever_after,
            "INB-1" inb_1_messages_of_one_partition_are_told_apart,
            "INB-1" inb_1_a_message_published_twice_is_a_duplicate_at_its_second_offset,
            "INB-1" inb_1_of_many_at_once_exactly_one_is_fresh_and_commits,
            "INB-1" inb_1_an_unknown_commit_admitted_exactly_when_it_was_applied,
            "INB-1" inb_1_an_admission_survives_a_crash,
            "INB-2" inb_2_a_rolled_back_admission_leaves_no_trace,
            "INB-2" inb_2_a_commit_surely_not_applied_leaves_no_trace,
            "INB-3" inb_3_each_group_admits_for_itself,
            "INB-4" inb_4_an_admission_in_progress_is_never_answered_duplicate,
            "INB-4" inb_4_after_a_commit_the_one_that_waited_is_a_duplicate,
            "INB-4" inb_4_after_a_rollback_the_one_that_waited_is_fresh,
            "INB-9" inb_9_a_batch_is_admitted_as_one_message_after_the_other,
            "INB-9" inb_9_a_batch_waits_for_an_admission_in_progress;
    }
}

/// The inboxes that a backend gives its store, for the laws of every mode.
///
/// The groups of these names have a window of 64 positions, or an offset a partition, each once
/// with gaps reported; every other group has rows.
#[must_use]
pub fn config() -> InboxConfig {
    let of = |mode, gaps| GroupInbox { mode, gaps, window_bits: 64 };
    let groups = [
        ("by-position", of(Mode::Window, Gaps::Normal)),
        ("by-dense-position", of(Mode::Window, Gaps::Reported)),
        ("by-offset", of(Mode::Offset, Gaps::Normal)),
        ("by-dense-offset", of(Mode::Offset, Gaps::Reported)),
    ];
    let groups = groups.into_iter().map(|(name, inbox)| (Group::from(name), inbox));
    InboxConfig { groups: groups.collect(), ..InboxConfig::default() }
}

fn group() -> Group {
    Group::from("readers")
}

/// Admits a message in a unit of its own.
pub(crate) async fn take<B: StoreBackend>(b: &B, group: &Group, message: &Incoming) -> Admit {
    transact(&b.env(), b.store("a").as_ref(), async |unit| unit.admit(group, message).await).await
}

/// Once committed, an admission is found by every later one.
pub async fn inb_1_a_message_is_fresh_once_and_a_duplicate_ever_after<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    assert_eq!(take(&b, &group(), &message).await, Admit::Fresh);
    for _ in 0..3 {
        assert_eq!(take(&b, &group(), &message).await, Admit::Duplicate);
    }
}

/// A neighbour in the partition is another message, whatever order they come in.
pub async fn inb_1_messages_of_one_partition_are_told_apart<B: StoreBackend>(b: B) {
    let messages: Vec<_> = (0..4).map(|offset| incoming(&b.env(), "k", offset)).collect();
    let answers = transact(&b.env(), b.store("a").as_ref(), async |unit| {
        let mut answers = Vec::new();
        for message in &messages {
            answers.push(unit.admit(&group(), message).await?);
        }
        Ok(answers)
    })
    .await;
    assert_eq!(answers, [Admit::Fresh; 4]);
    for message in messages.iter().rev() {
        assert_eq!(take(&b, &group(), message).await, Admit::Duplicate);
    }
}

/// A relay that published again after a lost answer put the message at a second offset.
pub async fn inb_1_a_message_published_twice_is_a_duplicate_at_its_second_offset<
    B: StoreBackend,
>(
    b: B,
) {
    let first = incoming(&b.env(), "k", 0);
    let again = Incoming { offset: Offset(1), ..first.clone() };
    assert_eq!(take(&b, &group(), &first).await, Admit::Fresh);
    assert_eq!(take(&b, &group(), &again).await, Admit::Duplicate);
}

/// Eight consumers apply one message at once; its effect happens once.
pub async fn inb_1_of_many_at_once_exactly_one_is_fresh_and_commits<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    eight_at_once(&b, &group(), &message).await;
}

/// Applies one message by eight consumers at once.
pub(crate) async fn eight_at_once<B: StoreBackend>(b: &B, group: &Group, message: &Incoming) {
    eight_batches_at_once(b, group, std::slice::from_ref(message)).await;
}

/// Applies a batch by eight consumers at once, each in one unit.
pub(crate) async fn eight_batches_at_once<B: StoreBackend>(
    b: &B,
    group: &Group,
    messages: &[Incoming],
) {
    let env = b.env();
    let answers = join_all((0..8).map(|n| {
        let env = &env;
        async move {
            let store = b.store(&format!("consumer-{n}"));
            transact(env, store.as_ref(), async |unit| {
                let mut fresh = Vec::new();
                for message in messages {
                    jitter(env).await;
                    if unit.admit(group, message).await?.applies() {
                        fresh.push(message.envelope.id);
                    }
                }
                jitter(env).await;
                for id in &fresh {
                    bump(unit, &thing(&id.to_string()), "applied").await?;
                }
                Ok(fresh)
            })
            .await
        }
    }))
    .await;
    for message in messages {
        let id = message.envelope.id;
        let fresh = answers.iter().filter(|answer| answer.contains(&id)).count();
        assert_eq!(fresh, 1, "{fresh} transactions applied one message");
        assert_eq!(committed(b, &thing(&id.to_string())).await.0.get(), 1);
    }
}

/// Running the transaction again after an unknown commit applies the message exactly once.
pub async fn inb_1_an_unknown_commit_admitted_exactly_when_it_was_applied<B: StoreBackend>(b: B) {
    for (offset, loss) in (0..).zip([CommitLoss::Request, CommitLoss::Answer]) {
        after_an_unknown_commit(&b, &group(), &incoming(&b.env(), "k", offset), loss).await;
    }
}

/// Admits a message in a unit whose commit is lost, and again.
pub(crate) async fn after_an_unknown_commit<B: StoreBackend>(
    b: &B,
    group: &Group,
    message: &Incoming,
    loss: CommitLoss,
) {
    let mut unit = begin(b.store("a").as_ref()).await;
    assert_eq!(unit.admit(group, message).await, Ok(Admit::Fresh));
    b.lose_commit("a", loss).await;
    assert_eq!(unit.commit().await, Err(TxError::OutcomeUnknown));
    let applied = loss == CommitLoss::Answer;
    let second = if applied { Admit::Duplicate } else { Admit::Fresh };
    assert_eq!(take(b, group, message).await, second, "after {loss:?}");
}

/// A committed admission is durable.
pub async fn inb_1_an_admission_survives_a_crash<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    take(&b, &group(), &message).await;
    b.crash().await;
    assert_eq!(take(&b, &group(), &message).await, Admit::Duplicate);
}

/// A dropped unit has admitted nothing.
pub async fn inb_2_a_rolled_back_admission_leaves_no_trace<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    rolled_back_twice(&b, &group(), &message).await;
    assert_eq!(take(&b, &group(), &message).await, Admit::Fresh);
}

/// Admits a message in two units that are dropped.
pub(crate) async fn rolled_back_twice<B: StoreBackend>(b: &B, group: &Group, message: &Incoming) {
    for _ in 0..2 {
        let mut unit = begin(b.store("a").as_ref()).await;
        assert_eq!(unit.admit(group, message).await, Ok(Admit::Fresh));
        drop(unit);
    }
}

/// Nor has a unit whose connection broke before its commit was sent.
pub async fn inb_2_a_commit_surely_not_applied_leaves_no_trace<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    let mut unit = begin(b.store("a").as_ref()).await;
    unit.admit(&group(), &message).await.must("admit");
    b.lose_commit("a", CommitLoss::BeforeSend).await;
    assert!(unit.commit().await.is_err_and(|e| may_repeat(&e)));
    assert_eq!(take(&b, &group(), &message).await, Admit::Fresh);
}

/// Two groups apply the same message once each.
pub async fn inb_3_each_group_admits_for_itself<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    for name in ["readers", "others"] {
        assert_eq!(take(&b, &Group::from(name), &message).await, Admit::Fresh);
        assert_eq!(take(&b, &Group::from(name), &message).await, Admit::Duplicate);
    }
    let answers = transact(&b.env(), b.store("a").as_ref(), async |unit| {
        let message = incoming(&b.env(), "k", 1);
        Ok([
            unit.admit(&Group::from("readers"), &message).await?,
            unit.admit(&Group::from("others"), &message).await?,
        ])
    })
    .await;
    assert_eq!(answers, [Admit::Fresh; 2]);
}

/// Whether the other will commit is not known yet: to skip the message now could lose it.
pub async fn inb_4_an_admission_in_progress_is_never_answered_duplicate<B: StoreBackend>(b: B) {
    in_progress(&b, &group(), &incoming(&b.env(), "k", 0)).await;
}

/// Admits a message while another unit that admitted it is open, and after that one was dropped.
pub(crate) async fn in_progress<B: StoreBackend>(b: &B, group: &Group, message: &Incoming) {
    let mut first = begin(b.store("a").as_ref()).await;
    assert_eq!(first.admit(group, message).await, Ok(Admit::Fresh));
    let store = b.store("c");
    let second = async {
        let mut unit = store.begin().await?;
        unit.admit(group, message).await
    };
    match within(b, Box::pin(second).as_mut()).await {
        None => {}
        Some(Err(e)) => assert!(may_repeat(&e), "an admission in progress answered {e}"),
        Some(Ok(answer)) => assert_eq!(answer, Admit::Fresh, "while the first was in progress"),
    }
    drop(first);
    assert_eq!(take(b, group, message).await, Admit::Fresh);
}

/// The second's answer, or that of its repetition, once the first committed.
pub async fn inb_4_after_a_commit_the_one_that_waited_is_a_duplicate<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    let answer = answer_after(&b, &group(), &message, async |unit| commit(unit).await).await;
    assert_eq!(answer, Admit::Duplicate);
}

/// The second's answer, or that of its repetition, once the first was dropped.
pub async fn inb_4_after_a_rollback_the_one_that_waited_is_fresh<B: StoreBackend>(b: B) {
    let message = incoming(&b.env(), "k", 0);
    let answer = answer_after(&b, &group(), &message, async |unit| drop(unit)).await;
    assert_eq!(answer, Admit::Fresh);
}

/// Admits a message while another unit that admitted it is open, which is then brought to its end.
pub(crate) async fn answer_after<B: StoreBackend>(
    b: &B,
    group: &Group,
    message: &Incoming,
    end: impl AsyncFnOnce(Box<dyn UnitOfWork>),
) -> Admit {
    let mut first = begin(b.store("a").as_ref()).await;
    assert_eq!(first.admit(group, message).await, Ok(Admit::Fresh));
    let (env, store) = (b.env(), b.store("c"));
    let mut second = Box::pin(transact(&env, store.as_ref(), async |unit| {
        let answer = unit.admit(group, message).await?;
        let mark = Bytes::from_static(b"second");
        let (version, _) = crate::check::load(unit, &thing("mark")).await?;
        unit.save(&thing("mark"), version, mark).await?;
        Ok(answer)
    }));
    let early = within(b, second.as_mut()).await;
    assert_eq!(early, None, "the second committed while the first was in progress");
    end(first).await;
    second.await
}

/// In every mode: a message that was admitted, one that comes twice, and one at a second offset.
pub async fn inb_9_a_batch_is_admitted_as_one_message_after_the_other<B: StoreBackend>(b: B) {
    for name in ["readers", "by-position", "by-offset"] {
        let group = Group::from(name);
        let message = |offset| incoming(&b.env(), &format!("{name} {offset}"), offset);
        let [known, one, two, late] = [0, 1, 2, 3].map(message);
        assert_eq!(take(&b, &group, &known).await, Admit::Fresh);
        let again = Incoming { offset: Offset(4), ..one.clone() };
        let batch = [known, one.clone(), two.clone(), two, late, again];
        let expect = if name == "by-offset" { [0, 1, 1, 0, 1, 1] } else { [0, 1, 1, 0, 1, 0] };
        let applies = |answers: &[Admit]| answers.iter().map(|a| a.applies()).collect::<Vec<_>>();
        for what in ["rolled back", "committed"] {
            let (unit, answers) = admitting(&b, &group, &batch).await;
            assert_eq!(applies(&answers), expect.map(|n| n == 1), "{name}, to be {what}");
            if what == "committed" {
                commit(unit).await;
            }
        }
        let (unit, answers) = admitting(&b, &group, &batch).await;
        assert_eq!(applies(&answers), [false; 6], "{name}: admitted already");
        commit(unit).await;
        assert_eq!(admitting(&b, &group, &[]).await.1, []);
    }
}

/// Whether the other will commit is not known yet, whatever else is in the batch.
pub async fn inb_9_a_batch_waits_for_an_admission_in_progress<B: StoreBackend>(b: B) {
    let batch = [0, 1, 2].map(|offset| incoming(&b.env(), "k", offset));
    let mut first = begin(b.store("a").as_ref()).await;
    assert_eq!(first.admit(&group(), &batch[1]).await, Ok(Admit::Fresh));
    let store = b.store("c");
    let (group, patient) = (group(), b.env());
    // Again where the store answers that it would have to wait.
    let mut second = Box::pin(async {
        loop {
            match store.begin_admitting(&group, &batch).await {
                Err(e) if may_repeat(&e) => patient.sleep(b.patience() / 8).await,
                begun => break begun.must("begin_admitting"),
            }
        }
    });
    let early = within(&b, second.as_mut()).await;
    assert!(early.is_none(), "a batch was admitted while one of it was in progress");
    commit(first).await;
    assert_eq!(second.await.1, [Admit::Fresh, Admit::Duplicate, Admit::Fresh]);
}

async fn admitting<B: StoreBackend>(
    b: &B,
    group: &Group,
    batch: &[Incoming],
) -> (Box<dyn UnitOfWork>, Vec<Admit>) {
    b.store("a").begin_admitting(group, batch).await.must("begin_admitting")
}
