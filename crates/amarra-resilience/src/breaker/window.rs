//! The recorded calls the rates are taken over: by time in slices, or exactly the last n.

use alloc::boxed::Box;

use super::cells::Cells;
use super::config::Window as Kind;
use super::ring::{Place, Ring};
use super::settings::Settings;
use super::state::Counts;
use super::word::Token;
use crate::time::Now;

/// One recorded call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// The calls the rates are taken over; old ones are forgotten.
///
/// # State
/// With a ring the cells stay empty. They are there nevertheless, so that a good call need not ask
/// which window it is counted in.
#[derive(Debug)]
pub(super) struct Window {
    cells: Cells,
    ring: Option<Box<Ring>>,
}

impl Window {
    pub(super) fn new(settings: &Settings) -> Self {
        let ring = match settings.config.window {
            Kind::Time { .. } => None,
            Kind::Count { calls } => Some(Box::new(Ring::new(calls))),
        };
        Self { cells: Cells::new(settings), ring }
    }

    /// Records a good call where its thread counted the last one; see [`Cells::bump`].
    #[inline(always)]
    pub(super) fn bump(&self, token: Token) -> bool {
        self.cells.bump(token)
    }

    /// Records a good call that ended at `now`; see [`Cells::bump_at`].
    #[inline(always)]
    pub(super) fn bump_at(&self, token: Token, now: u64) -> bool {
        self.cells.bump_at(token, now)
    }

    /// Records a call that was neither failed nor slow.
    pub(super) fn good(&self, settings: &Settings, token: Token, now: impl Now) -> Option<Place> {
        let Some(ring) = &self.ring else {
            self.cells.good(settings, token, now);
            return None;
        };
        Some(ring.push(Record::default()))
    }

    /// Records any call; a ring says where, in case the period ended meanwhile.
    pub(super) fn record(
        &self,
        settings: &Settings,
        token: Token,
        now: u64,
        record: Record,
    ) -> Option<Place> {
        let Some(ring) = &self.ring else {
            self.cells.record(settings, token, now, record);
            return None;
        };
        Some(ring.push(record))
    }

    pub(super) fn take_back(&self, place: Place) {
        if let Some(ring) = &self.ring {
            ring.take_back(place);
        }
    }

    /// Returns the counts of `epoch` as of the latest slice seen.
    pub(super) fn counts(&self, settings: &Settings, epoch: u64) -> Counts {
        self.ring.as_ref().map_or_else(|| self.cells.counts(settings, epoch), |ring| ring.counts())
    }

    /// Returns the earliest time the latest record can have.
    pub(super) fn since(&self, settings: &Settings) -> u64 {
        if self.ring.is_some() { 0 } else { self.cells.since(settings) }
    }

    pub(super) fn clear(&self) {
        match &self.ring {
            Some(ring) => ring.clear(),
            None => self.cells.clear(),
        }
    }
}
