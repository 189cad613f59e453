//! Units and a caller's own transactions share windows and offsets, and answer as the pure ones do.

use amarra_conformance::ledger;
use amarra_core::Entropy;
use amarra_messaging::inbox::offset::Mark;
use amarra_messaging::inbox::window::Window;
use amarra_messaging::inbox::{Gaps, GroupInbox, InboxConfig, Mode};
use amarra_messaging::message::{Pos, Position, Shard};
use amarra_messaging::{Admit, Group, Incoming, Offset};
use amarra_postgres::{PgConfig, PgDatabase, PgInbox, PgStore};
use amarra_store::Store as _;
use testbed::PgVersion;

use crate::outbox_bed::database;

async fn with_inbox(version: PgVersion, inbox: GroupInbox) -> PgDatabase {
    let config = database(version).await.config().clone();
    let inbox = InboxConfig { default: inbox, ..InboxConfig::default() };
    PgDatabase::connect(PgConfig { inbox, ..config }).await.expect("connect")
}

/// Numbers that go forward and back, a batch at a time.
fn batches(entropy: &dyn Entropy) -> Vec<Vec<u64>> {
    let mut at = 0_u64;
    let mut next = || {
        at = (at + entropy.below(7)).saturating_sub(entropy.below(5));
        if entropy.below(40) == 0 { at + 300 } else { at }
    };
    (0..60).map(|_| (0..=entropy.below(6)).map(|_| next()).collect()).collect()
}

/// Admits batches in turn by a unit and by transactions of the caller's own, some rolled back.
async fn run(
    database: &PgDatabase,
    batches: &[Vec<u64>],
    entropy: &dyn Entropy,
    mut expect: impl FnMut(&[u64], bool) -> Vec<Admit>,
) {
    let (env, group) = (amarra_tokio::environment(), Group::from("readers"));
    let inbox = database.config().inbox.default;
    let store = PgStore::new(database.clone());
    for batch in batches {
        let message = |number: &u64| Incoming {
            offset: Offset(*number),
            position: Some(Position {
                source: "orders".into(),
                shard: Shard(1),
                pos: Pos(*number),
            }),
            ..ledger::message(&env, "k")
        };
        let messages: Vec<_> = batch.iter().map(message).collect();
        let (own, commits) = (entropy.below(2) == 0, entropy.below(4) > 0);
        let mut answers = Vec::new();
        if own {
            let mut tx = database.pool().begin().await.expect("begin");
            for message in &messages {
                let admit = PgInbox::admit_as(&mut tx, &inbox, &group, message).await;
                answers.push(admit.expect("admit"));
            }
            if commits {
                tx.commit().await.expect("commit");
            } else {
                tx.rollback().await.expect("rollback");
            }
        } else {
            let mut unit = store.begin().await.expect("begin");
            for message in &messages {
                answers.push(unit.admit(&group, message).await.expect("admit"));
            }
            if commits {
                unit.commit().await.expect("commit");
            }
        }
        assert_eq!(answers, expect(batch, commits), "{batch:?}, own: {own}, commits: {commits}");
    }
}

#[tokio::test]
async fn windows_answer_as_the_pure_one_does() {
    for version in [PgVersion::V18, PgVersion::V15] {
        let gaps = Gaps::Reported;
        let inbox = GroupInbox { mode: Mode::Window, window_bits: 128, gaps };
        let database = with_inbox(version, inbox).await;
        let entropy = amarra_core::SeededEntropy::new(7, "windows");
        let mut window = Window::new(128);
        run(&database, &batches(&entropy), &entropy, |batch, commits| {
            let mut tried = window.clone();
            let answers = batch.iter().map(|pos| tried.admit(Pos(*pos), gaps)).collect();
            if commits {
                window = tried;
            }
            answers
        })
        .await;
    }
}

#[tokio::test]
async fn offsets_answer_as_the_pure_one_does() {
    for version in [PgVersion::V18, PgVersion::V15] {
        let gaps = Gaps::Reported;
        let inbox = GroupInbox { mode: Mode::Offset, gaps, ..GroupInbox::default() };
        let database = with_inbox(version, inbox).await;
        let entropy = amarra_core::SeededEntropy::new(7, "offsets");
        let mut mark = Mark::default();
        run(&database, &batches(&entropy), &entropy, |batch, commits| {
            let mut tried = mark;
            let answers = batch.iter().map(|at| tried.admit(Offset(*at), gaps)).collect();
            if commits {
                mark = tried;
            }
            answers
        })
        .await;
    }
}
