//! Random sequences of calls to the model and to real servers: every answer is equal.

use amarra_conformance::differential::{MESSAGE_BYTES_MAX, Subject, trace, trace_of};
use amarra_conformance::{Harness, inbox};
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
