//! The packed word: the phase, the epoch, and what that phase counts.
//!
//! | bits | closed | ramping | half-open | others |
//! |---|---|---|---|---|
//! | 3 | phase | phase | phase | phase |
//! | 1 | timed | timed | – | – |
//! | 1 | pending | pending | – | – |
//! | 19 | epoch | low bits of the epoch | the same | the same |
//! | 10 | epoch | – | probes out | – |
//! | 10 | epoch | credit | probes answered | – |
//! | 10 | epoch | credit | of these failed | – |
//! | 10 | epoch | – | of these slow | – |
//!
//! A closed word has nothing to count and so has room for the whole epoch: that one word tells all
//! that a call needs to know which is simply admitted, and the same word seen again at its end
//! tells that nothing changed meanwhile.
//!
//! The permits that are left are not kept: they are what the other two counts leave of the
//! configured number, and so cannot disagree with them.

use super::state::{Counts, State};
use super::window::Record;

const PHASE: u32 = 61;
/// Calls are timed: set for good or never.
const TIMED: u64 = 1 << 60;
const PENDING: u64 = 1 << 59;
/// The epoch of a closed word.
const WHOLE_EPOCH: u64 = PENDING - 1;
/// Where the low bits of the epoch are in the others.
const EPOCH: u32 = 40;
const EPOCH_BITS: u64 = (1 << 19) - 1;
const OUT: u32 = 30;
const CALLS: u32 = 20;
const FAILED: u32 = 10;
const FIELD: u64 = (1 << 10) - 1;
const CREDIT: u32 = 10;
const CREDIT_BITS: u64 = (1 << 20) - 1;

/// A whole call's worth of credit.
const WHOLE: u64 = 1000;

/// What the word says about how calls are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Admits everything.
    Closed = 0,
    /// Closed a moment ago: admits a share.
    Ramping = 1,
    Open = 2,
    HalfOpen = 3,
    ForcedOpen = 4,
    Disabled = 5,
    MetricsOnly = 6,
    /// One thread writes what goes with the next epoch; it takes a few stores.
    Turning = 7,
}

/// The word as a value; every change of it is one compare-and-swap from one value to another.
///
/// # State
/// Half-open: `out + answered <= permits`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Makes the word of a period that begins.
    pub(super) const fn new(phase: Phase, epoch: u64) -> Self {
        let epoch = match phase {
            Phase::Closed => epoch & WHOLE_EPOCH,
            _ => (epoch & EPOCH_BITS) << EPOCH,
        };
        Self(((phase as u64) << PHASE) | epoch)
    }

    /// Notes that calls are timed, in a closed or ramping word.
    pub(super) const fn timed(self, timed: bool) -> Self {
        if timed { Self(self.0 | TIMED) } else { self }
    }

    /// Tells whether the breaker is closed and no rate is over its limit.
    #[inline(always)]
    pub(super) const fn is_closed(self) -> bool {
        self.0 & !TIMED <= WHOLE_EPOCH
    }

    /// Tells whether the breaker is closed, no rate is over its limit, and calls are not timed.
    #[inline(always)]
    pub(super) const fn is_plain(self) -> bool {
        self.0 <= WHOLE_EPOCH
    }

    #[inline(always)]
    pub(super) const fn is_open(self) -> bool {
        self.0 >> PHASE == Phase::Open as u64
    }

    pub(super) const fn phase(self) -> Phase {
        match self.0 >> PHASE {
            0 => Phase::Closed,
            1 => Phase::Ramping,
            2 => Phase::Open,
            3 => Phase::HalfOpen,
            4 => Phase::ForcedOpen,
            5 => Phase::Disabled,
            6 => Phase::MetricsOnly,
            _ => Phase::Turning,
        }
    }

    /// Returns the state a caller sees, `None` while it changes.
    pub(super) const fn state(self) -> Option<State> {
        match self.phase() {
            Phase::Closed | Phase::Ramping => Some(State::Closed),
            Phase::Open => Some(State::Open),
            Phase::HalfOpen => Some(State::HalfOpen),
            Phase::ForcedOpen => Some(State::ForcedOpen),
            Phase::Disabled => Some(State::Disabled),
            Phase::MetricsOnly => Some(State::MetricsOnly),
            Phase::Turning => None,
        }
    }

    /// Tells whether the word is of `epoch`, as far as it has bits of it.
    pub(super) const fn is_of(self, epoch: u64) -> bool {
        match self.phase() {
            Phase::Closed => self.0 & WHOLE_EPOCH == epoch & WHOLE_EPOCH,
            _ => self.low_epoch() == epoch & EPOCH_BITS,
        }
    }

    const fn low_epoch(self) -> u64 {
        let epoch = if self.0 >> PHASE == 0 { self.0 } else { self.0 >> EPOCH };
        epoch & EPOCH_BITS
    }

    /// Tells whether both words are of one phase and epoch, whatever they count.
    #[inline(always)]
    pub(super) const fn same_period(self, other: Self) -> bool {
        let kept = if self.0 >> PHASE == 0 { WHOLE_EPOCH } else { EPOCH_BITS << EPOCH };
        (self.0 ^ other.0) & (kept | (7 << PHASE)) == 0
    }

    /// Claims the change to the next epoch.
    pub(super) const fn turning(self) -> Self {
        Self::new(Phase::Turning, self.low_epoch().wrapping_add(1))
    }

    pub(super) const fn out(self) -> u64 {
        (self.0 >> OUT) & FIELD
    }

    pub(super) const fn probes(self) -> Counts {
        Counts {
            calls: (self.0 >> CALLS) & FIELD,
            failed: (self.0 >> FAILED) & FIELD,
            slow: self.0 & FIELD,
        }
    }

    /// Lets a probe out, `None` when `permits` are out or answered.
    pub(super) const fn admit_probe(self, permits: u64) -> Option<Self> {
        let used = self.out().wrapping_add(self.probes().calls);
        if used < permits { Some(Self(self.0.wrapping_add(1 << OUT))) } else { None }
    }

    /// Takes a probe back; it may go out again.
    pub(super) const fn give_back(self) -> Self {
        if self.out() == 0 { self } else { Self(self.0.wrapping_sub(1 << OUT)) }
    }

    /// Takes a probe back with its answer.
    pub(super) const fn answered(self, record: Record) -> Self {
        let counted = (1 << CALLS) | ((record.failed as u64) << FAILED) | record.slow as u64;
        Self(self.give_back().0.wrapping_add(counted))
    }

    /// Makes the word of a ramp that begins. The first call is admitted: it learns something.
    pub(super) const fn ramping(epoch: u64) -> Self {
        Self(Self::new(Phase::Ramping, epoch).0 | (WHOLE.wrapping_sub(1) << CREDIT))
    }

    /// Saves up `share` thousandths of a call; tells whether a whole one was there and was spent.
    pub(super) const fn save_up(self, share: u64) -> (Self, bool) {
        let credit = ((self.0 >> CREDIT) & CREDIT_BITS).wrapping_add(share);
        let (left, admitted) =
            if credit >= WHOLE { (credit.wrapping_sub(WHOLE), true) } else { (credit, false) };
        (Self((self.0 & !(CREDIT_BITS << CREDIT)) | (left << CREDIT)), admitted)
    }

    /// Ends the ramp of `epoch`, which stays.
    pub(super) const fn ramped(self, epoch: u64) -> Self {
        Self(Self::new(Phase::Closed, epoch).0 | (self.0 & (TIMED | PENDING)))
    }

    /// Tells whether a rate is over its limit and only calls are wanting.
    pub(super) const fn is_pending(self) -> bool {
        matches!(self.phase(), Phase::Closed | Phase::Ramping) && self.0 & PENDING != 0
    }

    pub(super) const fn with_pending(self, pending: bool) -> Self {
        if pending { Self(self.0 | PENDING) } else { Self(self.0 & !PENDING) }
    }
}

/// What a permit has of the period that gave it: its epoch, and, of a call that was simply admitted
/// while closed, the whole word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(pub(super) u64);

impl Token {
    /// Makes the token of a call that was simply admitted by `word`.
    #[inline(always)]
    pub(super) const fn closed(word: Word) -> Self {
        Self(word.0)
    }

    /// Makes the token of any other call; no word is equal to it.
    pub(super) const fn other(epoch: u64) -> Self {
        Self(!WHOLE_EPOCH | (epoch & WHOLE_EPOCH))
    }

    /// Makes the token of a window that knows neither periods nor times.
    #[cfg(feature = "std")]
    pub(crate) const fn only() -> Self {
        Self(0)
    }

    /// Tells whether the call was simply admitted, and is not timed.
    #[inline(always)]
    pub(super) const fn is_plain(self) -> bool {
        self.0 <= WHOLE_EPOCH
    }

    /// Returns the epoch.
    #[inline(always)]
    pub(super) const fn epoch(self) -> u64 {
        self.0 & WHOLE_EPOCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch() {
        let full = (0..1023).fold(Word::new(Phase::HalfOpen, u64::MAX), |word, _| {
            word.admit_probe(1023).map_or(word, |word| word)
        });
        assert_eq!((full.out(), full.admit_probe(1023)), (1023, None));
        let record = Record { failed: true, slow: true };
        let done = (0..1023).fold(full, |word, _| word.answered(record));
        assert_eq!(done.probes(), Counts { calls: 1023, failed: 1023, slow: 1023 });
        assert_eq!((done.out(), done.phase()), (0, Phase::HalfOpen));
        assert!(done.is_of(u64::MAX) && done.same_period(full));
        assert_eq!(done.admit_probe(1023), None);
    }

    #[test]
    fn the_epoch_wraps_within_its_bits() {
        let word = Word::new(Phase::Open, EPOCH_BITS);
        assert_eq!(word.turning(), Word::new(Phase::Turning, 0));
        assert!(word.turning().is_of(EPOCH_BITS + 1));
    }

    #[test]
    fn a_closed_word_has_the_whole_epoch_and_is_its_token() {
        let far = EPOCH_BITS + 1;
        let (zero, word) = (Word::new(Phase::Closed, 0), Word::new(Phase::Closed, far));
        assert!(word.is_of(far) && !word.is_of(0) && !word.same_period(zero));
        assert_eq!(word.turning(), Word::new(Phase::Turning, 1));
        let timed = word.timed(true);
        assert!(word.is_plain() && timed.is_closed() && !timed.is_plain());
        assert!(timed.is_of(far) && timed.same_period(word));
        for pending in [word.with_pending(true), timed.with_pending(true)] {
            assert!(!pending.is_closed() && !pending.is_plain() && pending.same_period(word));
        }
        for token in [Token::closed(word), Token::closed(timed), Token::other(far)] {
            assert_eq!(token.epoch(), far);
        }
        let all = [1, 2, 3, 4, 5, 6, 7].map(|phase| Word(phase << PHASE));
        assert!(all.iter().all(|word| !word.is_closed() && *word != Word(Token::other(0).0)));
    }

    #[test]
    fn credit_admits_exactly_its_share() {
        for share in [1, 200, 500, 999, 1000] {
            let mut word = Word::ramping(3);
            let mut admitted = 0;
            for _ in 0..1000 {
                let (next, yes) = word.save_up(share);
                word = next;
                admitted += u64::from(yes);
            }
            assert_eq!(admitted, share);
            let pending = word.with_pending(true);
            assert!(pending.is_pending() && !word.is_pending());
            assert_eq!(pending.ramped(3).with_pending(false), Word::new(Phase::Closed, 3));
            assert!(!pending.ramped(3).is_closed());
        }
    }
}
