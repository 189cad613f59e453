//! The litmus on the model: it passes, and each of its claims fails for a defect.

use std::future::Future;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use amarra_conformance::litmus::{Figures, Litmus, StoreWriter, Writer};
use amarra_conformance::{Backend as _, StoreBackend as _};

use super::backend::Broken;
use super::{DEFECT, Defect};

/// Of the model's own time.
const DURATION: Duration = Duration::from_secs(8);

/// Six writers and two relays.
async fn litmus(b: Broken) -> Figures {
    let store = StoreWriter::new(b.store("writer"), b.env());
    let store: Arc<dyn Writer> = Arc::new(store);
    let writers: Vec<_> = (0..6).map(|_| Arc::clone(&store)).collect();
    let litmus = Litmus::new(b.env(), DURATION);
    litmus.run(&writers, &[b.outbox_log(), b.outbox_log()], &|task| task).await
}

fn run(check: impl Fn(Figures)) {
    fn law<'a>(check: &'a impl Fn(Figures)) -> impl FnOnce(Broken) -> Law<'a> {
        move |b| Box::pin(async move { check(litmus(b).await) })
    }
    Broken::run(law(&check));
}

type Law<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

#[test]
fn the_model_passes_and_everything_came_about() {
    DEFECT.set(Defect::None);
    run(|figures| {
        assert!(figures.committed > 1000, "{figures}");
        assert!(figures.repeated > 0 && figures.crashes > 0 && figures.fenced > 0, "{figures}");
    });
}

/// Asserts that the litmus fails for a defect, by a claim that says so.
fn fails(defect: Defect, claim: &str) {
    DEFECT.set(defect);
    let panic = catch_unwind(|| run(|_| {})).expect_err("the litmus passes");
    let said = panic.downcast_ref::<String>().expect("a claim");
    assert!(said.contains(claim), "{defect:?}: {said}");
}

#[test]
fn a_batch_in_another_order_each_time_is_noticed() {
    fails(Defect::LogSortsByTransactionId, "a re-publish differs");
}

#[test]
fn a_late_row_that_is_passed_over_is_noticed() {
    fails(Defect::LogReadsAfterTheHighestSequence, "a re-publish differs");
}

#[test]
fn a_gap_between_positions_is_noticed() {
    fails(Defect::LogSkipsAPosition, "are not dense");
}

#[test]
fn a_row_that_was_rolled_back_is_noticed() {
    fails(Defect::OutboxOutsideTheTransaction, " follows ");
}

#[test]
fn rows_that_are_passed_over_for_ever_are_noticed() {
    fails(Defect::LogPassesOverAKey, "were lost");
}

#[test]
fn a_row_that_nobody_wrote_is_noticed() {
    fails(Defect::LogInventsARow, "nobody committed");
}
