//! The invariants, a file each: fed by the oracle, independent of the code they check.

mod i01_stock_bounds;
mod i02_stock_conserved;
mod i03_no_oversell;
mod i04_no_orphan_holds;
mod i05_one_reservation;
mod i06_journal_balances;
mod i07_provider_agrees;
mod i08_one_capture;
mod i09_captured_is_committed;
mod i10_captured_is_delivered_or_refunded;
mod i11_ended_moves_nothing;
mod i12_every_order_ends;
mod i13_legal_transitions;
mod i14_totals;
mod i15_notified_once;
mod i16_audited;
mod i17_views_fold_events;
mod i18_published_and_applied_once;
mod i19_order_per_key;
mod i20_own_orders_only;
mod i24_same_key_same_answer;

use std::fmt;

use amarra_core::{EventId, InvariantId};
use amarra_memory::observer::Published;

use crate::oracle::{Facts, Settled, Tx};

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was seen and what should have been.
    pub(crate) detail: String,
    /// The message at which it was seen: its causes are printed.
    pub(crate) event: Option<EventId>,
}

impl Finding {
    /// A finding at no particular message.
    pub(crate) fn new(detail: String) -> Self {
        Self { detail, event: None }
    }

    /// A finding at a message.
    pub(crate) fn at(detail: String, event: EventId) -> Self {
        Self { detail, event: Some(event) }
    }
}

/// One invariant; it keeps what it needs to remember.
pub(crate) trait Invariant: fmt::Debug + Send {
    /// Names it.
    fn id(&self) -> InvariantId;

    /// A transaction committed; `facts` already hold its changes.
    fn committed(&mut self, tx: &Tx<'_>, facts: &Facts) -> Vec<Finding> {
        let _ = (tx, facts);
        Vec::new()
    }

    /// A record became readable.
    fn published(&mut self, record: &Published, event: Option<EventId>) -> Vec<Finding> {
        let _ = (record, event);
        Vec::new()
    }

    /// The faults are over and everything came to rest.
    fn settled(&mut self, end: &Settled<'_>) -> Vec<Finding> {
        let _ = end;
        Vec::new()
    }
}

/// Returns what customers saw that breaks `invariant`.
fn complaints(end: &Settled<'_>, invariant: InvariantId) -> Vec<Finding> {
    let of = |c: &&crate::workload::Complaint| c.invariant == invariant.name();
    end.complaints.iter().filter(of).map(|c| Finding::new(c.what.clone())).collect()
}

/// Makes every invariant.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(i01_stock_bounds::StockBounds),
        Box::new(i02_stock_conserved::StockConserved::default()),
        Box::new(i03_no_oversell::NoOversell::default()),
        Box::new(i04_no_orphan_holds::NoOrphanHolds),
        Box::new(i05_one_reservation::OneReservation),
        Box::new(i06_journal_balances::JournalBalances::default()),
        Box::new(i07_provider_agrees::ProviderAgrees),
        Box::new(i08_one_capture::OneCapture),
        Box::new(i09_captured_is_committed::CapturedIsCommitted),
        Box::new(i10_captured_is_delivered_or_refunded::CapturedIsDeliveredOrRefunded),
        Box::new(i11_ended_moves_nothing::EndedMovesNothing),
        Box::new(i12_every_order_ends::EveryOrderEnds),
        Box::new(i13_legal_transitions::LegalTransitions::default()),
        Box::new(i14_totals::Totals),
        Box::new(i15_notified_once::NotifiedOnce),
        Box::new(i16_audited::Audited),
        Box::new(i17_views_fold_events::ViewsFoldEvents),
        Box::new(i18_published_and_applied_once::PublishedAndAppliedOnce::default()),
        Box::new(i19_order_per_key::OrderPerKey::default()),
        Box::new(i20_own_orders_only::OwnOrdersOnly),
        Box::new(i24_same_key_same_answer::SameKeySameAnswer::default()),
    ]
}
