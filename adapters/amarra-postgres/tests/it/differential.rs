//! Random sequences of calls to the model and to real servers: every answer is equal.

use amarra_conformance::differential::{MESSAGE_BYTES_MAX, Subject, trace, trace_of};
use amarra_conformance::{Harness, inbox};
use amarra_core::{Entropy as _, SeededEntropy};
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase};
use proptest::prelude::*;

use crate::backend::{Pg, V15, V18};

/// Units side by side.
const SLOTS: usize = 3;

/// What the model answers.
fn expected(steps: &[u32]) -> Vec<String> {
    let harness = Harness::new(7);
    let config = DatabaseConfig {
        message_bytes_max: MESSAGE_BYTES_MAX,
        inbox: inbox::config(),
        ..DatabaseConfig::default()
    };
    let env = harness.environment("model");
    let database = MemoryDatabase::new("model", config, env.clone(), Hooks::default());
    let database = database.expect("a model");
    let client = ClientId::new("differential", 1);
    let store = std::sync::Arc::new(database.connect(client.clone()));
    let log = std::sync::Arc::new(database.outbox_log(client));
    let subject = Subject { store: store.clone(), log, views: store, env };
    harness.block_on(trace(&subject, SLOTS, steps))
}

fn steps() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 40..41)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 300, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn the_model_and_18_answer_alike(steps in steps()) {
        let (model, server) = (expected(&steps), trace_of::<Pg<V18>>(SLOTS, &steps));
        prop_assert_eq!(model, server);
    }
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn the_model_and_15_answer_alike(steps in steps()) {
        let (model, server) = (expected(&steps), trace_of::<Pg<V15>>(SLOTS, &steps));
        prop_assert_eq!(model, server);
    }
}

/// A comparison of runs in which nothing happens would find nothing.
#[test]
fn the_sequences_reach_every_answer() {
    let entropy = SeededEntropy::new(1, "differential");
    let word = || u32::try_from(entropy.below(1 << 32)).expect("32 bits");
    let runs = (0..400).map(|_| (0..40).map(|_| word()).collect::<Vec<_>>());
    let told = runs.map(|steps| expected(&steps).join("\n")).collect::<Vec<_>>().join("\n");
    let answers = [
        "changed a at 0",
        "changed b at 2",
        "conflict on thing",
        "conflict on idempotency-key",
        "too large",
        "Duplicate",
        "Gap { expected",
        "begins: InFlight",
        "begins: Mismatch",
        "begins: Replay",
        "claimed {\"",
        "failed in 16: fenced",
        "verified thing",
        "is held",
        "open a: None",
        "open a: Some",
        "dropped",
        "audit chain 9",
        "relayed {\"things a\": [\"",
        "parked {PartitionKey",
        "set aside {\"things a\": [\"",
        "settled {\"things a\": [\"",
        "left {\"things a\": [\"",
    ];
    let missing: Vec<_> = answers.into_iter().filter(|answer| !told.contains(answer)).collect();
    assert!(missing.is_empty(), "never came: {missing:?}");
}
