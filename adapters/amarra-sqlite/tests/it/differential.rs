//! Random sequences of calls to the model and to a file: every answer is equal.

use amarra_conformance::differential::{MESSAGE_BYTES_MAX, Subject, trace, trace_of};
use amarra_conformance::{Harness, inbox};
use amarra_memory::{ClientId, DatabaseConfig, Hooks, MemoryDatabase};
use proptest::prelude::*;

use crate::backend::Sqlite;

/// One unit at a time: in a file the second one waits, whatever it touches.
const SLOTS: usize = 1;

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

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, max_shrink_iters: 300, ..ProptestConfig::default()
    })]

    #[test]
    fn the_model_and_a_file_answer_alike(steps in prop::collection::vec(any::<u32>(), 40..41)) {
        let (model, file) = (expected(&steps), trace_of::<Sqlite>(SLOTS, &steps));
        prop_assert_eq!(model, file);
    }
}
