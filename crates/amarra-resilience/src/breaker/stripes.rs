//! Cells of good calls, one lane a thread, that only their thread writes.

use alloc::boxed::Box;
use std::sync::OnceLock;

pub(super) use super::lane::Spot;
use super::lane::{Far, Lane};
use super::word::Token;
use crate::row::{OWN, ROWS};

/// The lanes of one breaker, once it has them.
///
/// # State
/// A lane below `OWN` is written by one thread at a time, so a load and a store are enough. The
/// last one is shared by all threads without a lane of their own: it never says that they need not
/// look.
#[derive(Debug)]
pub(super) struct Stripes(OnceLock<Box<Lanes>>);

#[derive(Debug)]
struct Lanes {
    lanes: [Lane; ROWS],
    /// The cells for which a lane has no place: those of the first lane, then those of the second,
    /// and so on.
    far: Box<[Far]>,
}

impl Lanes {
    fn new(slots: u16) -> Self {
        let far = (0..ROWS).flat_map(|_| Far::for_slots(slots)).collect();
        Self { lanes: core::array::from_fn(|_| Lane::new()), far }
    }

    #[inline(always)]
    fn lane(&self, row: usize) -> Option<&Lane> {
        self.lanes.get(row % ROWS)
    }

    fn far(&self, row: usize) -> &[Far] {
        let each = self.far.len() / ROWS;
        let from = row.saturating_mul(each);
        self.far.get(from..from.saturating_add(each)).unwrap_or_default()
    }
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Counts a good call of `token` without a clock; false when somebody has to look first.
    #[inline(always)]
    pub(super) fn bump(&self, token: Token) -> bool {
        let lane = self.0.get().and_then(|lanes| lanes.lane(crate::row::known()));
        lane.is_some_and(|lane| lane.bump(token))
    }

    /// Counts a good call of `token` that ended at `now`; false when somebody has to look first.
    #[inline(always)]
    pub(super) fn bump_at(&self, token: Token, now: u64) -> bool {
        let lane = self.0.get().and_then(|lanes| lanes.lane(crate::row::known()));
        lane.is_some_and(|lane| lane.bump_at(token, now))
    }

    /// Tells whether there are lanes.
    pub(super) fn are_there(&self) -> bool {
        self.0.get().is_some()
    }

    /// Counts a good call at `spot`; false when there are no lanes.
    pub(super) fn count(&self, spot: Spot) -> bool {
        let Some(lanes) = self.0.get() else { return false };
        let row = crate::row::mine();
        match lanes.lane(row) {
            Some(lane) if row < OWN => lane.count(spot, lanes.far(row)),
            Some(lane) => lane.count_shared(spot, lanes.far(row)),
            None => return false,
        }
        true
    }

    /// Makes every thread look before it counts the next call.
    pub(super) fn expire(&self) {
        let Some(lanes) = self.0.get() else { return };
        lanes.lanes.iter().take(crate::row::used()).for_each(Lane::expire);
    }

    /// Grows the lanes, unless they are there.
    #[cold]
    pub(super) fn inflate(&self, slots: u16) {
        self.0.get_or_init(|| Box::new(Lanes::new(slots)));
    }

    /// Sums what all threads counted at `slot` for the slice of `mark`.
    pub(super) fn calls(&self, slot: usize, mark: u64) -> u64 {
        let Some(lanes) = self.0.get() else { return 0 };
        let of = |row: usize| {
            let (Some(lane), far) = (lanes.lane(row), lanes.far(row)) else { return 0 };
            if row < OWN { lane.calls(slot, mark, far) } else { lane.calls_shared(slot, mark, far) }
        };
        (0..crate::row::used()).chain([OWN]).map(of).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(slot: usize, mark: u64) -> Spot {
        Spot { slot, mark, ends: 10, token: Token::only() }
    }

    #[test]
    fn every_thread_counts_and_nothing_is_lost() {
        for slots in [10, 100] {
            let stripes = Stripes::new();
            let last = usize::from(slots) - 1;
            assert!(!stripes.count(spot(last, 7)));
            stripes.inflate(slots);
            for _ in 0..3 {
                std::thread::scope(|scope| {
                    for _ in 0..100 {
                        scope.spawn(|| {
                            let look = |_| assert!(stripes.count(spot(last, 7)));
                            (0..100).filter(|_| !stripes.bump(Token::only())).for_each(look);
                        });
                    }
                });
            }
            assert_eq!(stripes.calls(last, 7), 30_000);
            assert_eq!((stripes.calls(last, 6), stripes.calls(last - 1, 7)), (0, 0));
        }
    }

    #[test]
    fn a_new_slice_begins_with_a_reading_of_the_clock() {
        let stripes = Stripes::new();
        stripes.inflate(2);
        (0..200).for_each(|_| _ = stripes.count(spot(0, 1)));
        let unread = || (0..9).take_while(|_| stripes.bump(Token::only())).count();
        assert_eq!(unread(), 3, "one in 64 of the 199 before");
        assert!(stripes.count(spot(1, 2)) && !stripes.bump(Token::only()));
        assert_eq!((stripes.calls(0, 1), stripes.calls(1, 2)), (203, 1));
        // Back in the first one, which can only be a mistake of somebody's clock.
        assert!(stripes.count(spot(0, 1)));
        assert_eq!((stripes.calls(0, 1), stripes.calls(1, 2), unread()), (204, 1, 3));
        stripes.expire();
        assert_eq!(unread(), 0);
    }

    #[test]
    fn a_call_that_is_timed_is_counted_until_the_end_of_the_slice_and_of_the_period() {
        let stripes = Stripes::new();
        stripes.inflate(2);
        let token = Token::only();
        assert!(!stripes.bump_at(token, 0) && stripes.count(spot(0, 1)));
        assert!(stripes.bump_at(token, 9) && !stripes.bump_at(token, 10));
        assert!(!stripes.bump_at(Token::other(1), 9));
        assert_eq!(stripes.calls(0, 1), 2);
        stripes.expire();
        assert!(!stripes.bump_at(token, 9));
    }
}
