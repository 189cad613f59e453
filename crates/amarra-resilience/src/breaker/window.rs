//! The recorded calls the rates are taken over: by time in slices, or exactly the last n.

use super::cells::Cells;
use super::config::Window as Kind;
use super::ring::{Place, Ring};
use super::settings::Settings;
use super::state::Counts;
use crate::time::Now;

/// One recorded call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// The calls the rates are taken over; old ones are forgotten.
#[derive(Debug)]
pub(super) enum Window {
    Time(Cells),
    Count(Ring),
}

impl Window {
    pub(super) fn new(settings: &Settings) -> Self {
        match settings.config.window {
            Kind::Time { .. } => Self::Time(Cells::new(settings)),
            Kind::Count { calls } => Self::Count(Ring::new(calls)),
        }
    }

    /// Records a call that was neither failed nor slow.
    #[inline(always)]
    pub(super) fn good(&self, settings: &Settings, epoch: u64, now: impl Now) -> Option<Place> {
        match self {
            Self::Time(cells) => {
                cells.good(settings, epoch, now);
                None
            }
            Self::Count(ring) => Some(ring.push(Record::default())),
        }
    }

    /// Records any call; a ring says where, in case the period ended meanwhile.
    pub(super) fn record(
        &self,
        settings: &Settings,
        epoch: u64,
        now: u64,
        record: Record,
    ) -> Option<Place> {
        match self {
            Self::Time(cells) => {
                cells.record(settings, epoch, now, record);
                None
            }
            Self::Count(ring) => Some(ring.push(record)),
        }
    }

    pub(super) fn take_back(&self, place: Place) {
        if let Self::Count(ring) = self {
            ring.take_back(place);
        }
    }

    /// Returns the counts of `epoch` as of the latest slice seen.
    pub(super) fn counts(&self, settings: &Settings, epoch: u64) -> Counts {
        match self {
            Self::Time(cells) => cells.counts(settings, epoch),
            Self::Count(ring) => ring.counts(),
        }
    }

    /// Returns the earliest time the latest record can have.
    pub(super) fn since(&self, settings: &Settings) -> u64 {
        match self {
            Self::Time(cells) => cells.since(settings),
            Self::Count(_) => 0,
        }
    }

    pub(super) fn clear(&self) {
        match self {
            Self::Time(cells) => cells.clear(),
            Self::Count(ring) => ring.clear(),
        }
    }
}
